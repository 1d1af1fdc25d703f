//! Tokens: from three base64url parts to what their bearer may do.
//!
//! Access tokens and capability tokens, as the vendor's helper libraries mint them, end as one [`Grant`], so that the rest of the
//! plugin knows rights and not formats. Everything in a token is its bearer's word until a secret of its account has verified it;
//! whatever is hostile is a [`TokenFault`], never a panic. Never reads a clock, never logs a token, never guesses: what is not
//! of the documented form grants nothing.

mod access;
mod basic;
pub mod bridge;
mod capability;
mod fault;
mod mint;
mod own;
#[cfg(test)]
mod own_hostile;
mod parts;
mod pattern;
pub mod peer;
mod presence;
mod restrict;
mod times;
mod typed;
mod verify;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

pub use bridge::{Bridge, BridgeFault};
pub use fault::TokenFault;
pub use mint::{Draft, MintError};
pub use own::OwnFault;
pub use pattern::{Pattern, PatternError};
pub use restrict::{Hours, Medium, Restrict, Target};
pub use times::{LIFETIME_MAX, SKEW};
pub use verify::Verifier;

use super::name::Name;

/// Most identities of one query, unless the token says less: as many as a contact list holds.
pub const QUERY_MAX: usize = 1_000;

/// What the bearer of a token may do (B2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The index of the account among the settings' accounts.
    pub account: usize,
    /// Who the bearer is; never split, never changed by a new token.
    pub identity: Name,
    /// The token's own id, for logs; tokens are never logged. Cut to 128 characters, empty where there is none.
    pub jti: String,
    /// What verified the token: the id of a key, or the account's for a capability token. A reload that removes it ends sessions.
    pub issuer: String,
    /// `exp`: seconds since the Unix epoch.
    pub expires: u64,
    /// May be rung.
    pub may_receive: bool,
    /// May report presence.
    pub may_give: bool,
    /// May call out, by this application's instructions.
    pub call_out: Option<CallOut>,
    /// Whose presence may be read beside the bearer's own.
    pub obtain: Vec<Pattern>,
    /// Most identities of one query.
    pub query_max: usize,
    /// What the token forbids (B3).
    pub restrict: Restrict,
    /// The device that the token is for, if it names one.
    pub endpoint_id: Option<Name>,
}

/// The right to call out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOut {
    /// The application whose instructions are followed.
    pub application: String,
    /// Parameters that the token fixes; they win over the client's.
    pub parameters: Vec<(String, String)>,
}

impl Grant {
    /// When it stops counting, in seconds since the Unix epoch: a while after `exp`, since clocks differ.
    #[must_use]
    pub const fn ends(&self) -> u64 {
        self.expires.saturating_add(SKEW.as_secs())
    }

    /// Whether the bearer may see that identity of the same account: the own one always, others as far as a pattern reaches and
    /// `restrict.to` does not exclude them (B19). The verdict never depends on whether the identity exists.
    #[must_use]
    pub fn may_see(&self, identity: &Name) -> bool {
        *identity == self.identity
            || (self.obtain.iter().any(|pattern| pattern.matches(identity))
                && self.restrict.reaches(identity))
    }
}
