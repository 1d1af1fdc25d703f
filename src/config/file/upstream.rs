//! The section `upstreams`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{At, Scalar};

/// One API behind the gate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Upstream {
    /// Where it listens: `host:port` or `unix:/path`. More than one is not built yet.
    ///
    /// Required. Example: `["127.0.0.1:3000"]`.
    pub(in crate::config) endpoints: At<Vec<At<String>>>,
    /// How one of several endpoints is chosen. Not built yet.
    ///
    /// Default: `round_robin`. Example: `least_in_flight`.
    pub(in crate::config) balance: Option<At<Balance>>,
    /// What it speaks; `http2` is not built yet.
    ///
    /// Default: `http1`. Example: `http1`.
    pub(in crate::config) protocol: Option<At<Protocol>>,
    /// To an established connection.
    ///
    /// Default: `1s`. Range: 1ms to 1h. Example: `250ms`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) connect_timeout: Option<At<Scalar>>,
    /// From the request sent to the response's head.
    ///
    /// Default: `60s`. Range: 1ms to 24h. Example: `5s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) response_timeout: Option<At<Scalar>>,
    /// While nothing moves in either direction.
    ///
    /// Default: `60s`. Range: 1ms to 24h. Example: `30s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) idle_timeout: Option<At<Scalar>>,
    /// The same for tunnels: WebSocket and other upgrades.
    ///
    /// Default: `1h`. Range: 1ms to 7d. Example: `10m`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) tunnel_idle_timeout: Option<At<Scalar>>,
    /// Sent as `Host` instead of the client's.
    ///
    /// Default: the client's is kept. Example: `api.internal`.
    pub(in crate::config) host: Option<At<String>>,
    /// How often a name is resolved again; the last good answer is kept.
    ///
    /// Default: `30s`. Range: 1s to 24h. Example: `5s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) resolve: Option<At<Scalar>>,
    /// Idle connections that are kept for later requests.
    ///
    /// Default: as below. Example: `{ idle: 64, idle_timeout: 55s }`.
    pub(in crate::config) pool: Option<Pool>,
    /// How an endpoint is asked whether it is well. Not built yet.
    ///
    /// Default: none. Example: `{ path: /healthz, interval: 2s }`.
    pub(in crate::config) health_check: Option<At<HealthCheck>>,
}

/// How one of several endpoints is chosen.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Balance {
    /// In turn.
    RoundRobin,
    /// The one with the least in flight.
    LeastInFlight,
    /// By the account.
    ConsistentHash,
}

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2. Not built yet.
    Http2,
}

/// Idle connections that are kept for later requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Pool {
    /// How many, per thread; 0 keeps none.
    ///
    /// Default: `64`. Range: 0 to 10,000. Example: `16`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) idle: Option<At<Scalar>>,
    /// How long; shorter than the upstream's own patience, so that it does not close what is about to be used.
    ///
    /// Default: `55s`. Range: 1ms to 24h. Example: `10s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) idle_timeout: Option<At<Scalar>>,
}

/// How an endpoint is asked whether it is well.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the feature is not built; the file may not ask for it"
)]
pub(in crate::config) struct HealthCheck {
    /// The path that is asked for. Not built yet.
    ///
    /// Required. Example: `/healthz`.
    pub(in crate::config) path: At<String>,
    /// How often. Not built yet.
    ///
    /// Default: `2s`. Example: `5s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) interval: Option<At<Scalar>>,
    /// Failures in a row until it counts as ill. Not built yet.
    ///
    /// Default: `2`. Example: `3`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) unhealthy_after: Option<At<Scalar>>,
    /// Successes in a row until it counts as well. Not built yet.
    ///
    /// Default: `1`. Example: `2`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) healthy_after: Option<At<Scalar>>,
}
