//! Who asks, and whom it may see.
//!
//! The verdict depends on the token and the configuration alone, never on whether somebody exists: else a refusal would tell.

use std::sync::Arc;

use super::name::Name;
use super::token::Grant;

/// Most identities of one question by an account key.
const QUERY_MAX: usize = 1_000;

/// Somebody who asks.
#[derive(Debug, Clone)]
pub(super) enum Viewer {
    /// An account key, or who is told by the configuration: it sees its whole account.
    Account,
    /// The bearer of a token.
    Bearer(Arc<Grant>),
}

impl Viewer {
    pub(super) fn may_see(&self, identity: &Name) -> bool {
        match self {
            Self::Account => true,
            Self::Bearer(grant) => grant.may_see(identity),
        }
    }

    /// Who it is itself.
    pub(super) fn identity(&self) -> Option<&Name> {
        match self {
            Self::Account => None,
            Self::Bearer(grant) => Some(&grant.identity),
        }
    }

    /// Most identities of one question.
    pub(super) fn query_max(&self) -> usize {
        match self {
            Self::Account => QUERY_MAX,
            Self::Bearer(grant) => grant.query_max.min(QUERY_MAX),
        }
    }
}
