//! The section `retries`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::limit::Mode;
use super::scalar::{At, Scalar};

/// What is done with requests that were tried before. A retry goes as `low`, whatever its priority, so that first attempts get
/// nine places of ten while both wait; and an account has no more of them in flight than a part of all that it has: the
/// limit `retries`. Which requests are retries is read from `grpc-previous-rpc-attempts` (1 and more), `x-envoy-attempt-count` (2
/// and more), the `attempt` of `amz-sdk-request` (2 and more), and the header named here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Retries {
    /// How many of an account's requests in flight may be retries, in percent.
    ///
    /// Default: `20`. Range: 0 to 100. Example: `10`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) budget: Option<At<Scalar>>,
    /// How many retries an account may have in flight, however little else it has.
    ///
    /// Default: `3`. Range: 0 to 1,000,000. Example: `1`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) at_least: Option<At<Scalar>>,
    /// A header by which clients of yours say that a request is a retry: its value is anything but `0`.
    ///
    /// Default: none. Example: `x-retry-attempt`.
    pub(in crate::config) header: Option<At<String>>,
    /// `enforce` refuses what is over the budget, `shadow` only counts and notes, `off` has no budget; retries go last in any case.
    ///
    /// Default: `enforce`. Example: `shadow`.
    pub(in crate::config) mode: Option<Mode>,
}
