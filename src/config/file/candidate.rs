//! The section `candidates`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::limit::Limit;
use super::scalar::At;

/// A set of limits that is tried on paper.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Candidate {
    /// Its limits, in the form of the section `limits`. Names may be those of limits in force, or of other candidates. A candidate
    /// only judges, so `mode`, `when_full`, `guaranteed`, `shared` and `max: { adaptive: … }` are refused.
    ///
    /// Required. Range: 1 to 1,000. Example: `[{ name: account, per: [account], max: 50 }]`.
    #[schemars(extend("x-form" = "limits[]"))]
    pub(in crate::config) limits: At<Vec<Limit>>,
}
