//! The section `traces`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{At, Named, Scalar, Secret};

/// Spans of requests, sent to a collector in OTLP over HTTP: one of the request, and below it those of the decision, of the wait if it
/// waited, and of the upstream. A trace that somebody else began is recorded if its `traceparent` says so, and one that begins here
/// by `sample`. Without this section nothing is recorded, and `traceparent` and `tracestate` are passed on as they came.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Traces {
    /// The collector's address for OTLP over HTTP (port 4318 by custom); spans are posted to `/v1/traces` under it. `https` trusts what
    /// the machine trusts.
    ///
    /// Required. Range: up to 2,048 characters. Example: `http://127.0.0.1:4318`.
    pub(in crate::config) otlp: At<String>,
    /// How many of the traces that begin here are recorded: from 0 (none) to 1 (all). They are chosen by the trace's id, so that every
    /// sidecar chooses the same.
    ///
    /// Default: `1`. Range: 0 to 1. Example: `0.1`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) sample: Option<At<Scalar>>,
    /// In whose name spans are sent: the attribute `service.name`.
    ///
    /// Default: `tidegate`. Range: up to 256 characters. Example: `orders-gate`.
    pub(in crate::config) service_name: Option<At<String>>,
    /// What else is said about this process, by name.
    ///
    /// Default: none. Range: up to 100. Example: `{ deployment.environment.name: production }`.
    pub(in crate::config) attributes: Option<At<Named<String>>>,
    /// Header fields of each post, such as those that a collector knows its customers by. Values are secrets.
    ///
    /// Default: none. Range: up to 100. Example: `{ authorization: { env: OTLP_AUTHORIZATION } }`.
    pub(in crate::config) headers: Option<At<Named<At<Secret>>>>,
}
