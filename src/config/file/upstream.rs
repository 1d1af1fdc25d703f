//! The section `upstreams`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{At, Form, OffOr, Scalar, present};

/// One API behind the gate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Upstream {
    /// Where it listens: `host:port` or `unix:/path`, up to 256. A name is one endpoint, however many addresses are behind
    /// it: they are tried in order.
    ///
    /// Required. Example: `["10.0.0.1:3000", "10.0.0.2:3000"]`.
    pub(in crate::config) endpoints: At<Vec<At<String>>>,
    /// How one of several endpoints is chosen.
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
    /// How endpoints are asked whether they are well. One that is ill gets nothing; where all are, the answer is 502
    /// `upstream_unreachable` at once. An endpoint counts as well until it was asked.
    ///
    /// Default: none. Example: `{ path: /healthz, interval: 2s }`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) health_check: Option<HealthCheck>,
    /// When an endpoint that fails requests is left out: half of them at most, and never the last one. `off` leaves out none.
    ///
    /// Default: as below. Example: `{ after: 3, for: 30s }`.
    pub(in crate::config) ejection: Option<OffOr<EjectionRules>>,
}

/// How one of several endpoints is chosen.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Balance {
    /// In turn.
    RoundRobin,
    /// The one with the least of this gate's requests in flight; among equals, by chance.
    LeastInFlight,
    /// By the account: it stays with its endpoint, and when one goes only its accounts move. All that nothing identifies
    /// share one endpoint.
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

/// How endpoints are asked whether they are well.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HealthCheck {
    /// What is asked for with GET; an answer of 2xx is well. Without it, an endpoint is well that takes a connection.
    ///
    /// Default: none. Example: `/healthz`.
    pub(in crate::config) path: Option<At<String>>,
    /// How often.
    ///
    /// Default: `2s`. Range: 100ms to 1h. Example: `5s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) interval: Option<At<Scalar>>,
    /// How long the answer may take.
    ///
    /// Default: `1s`. Range: 1ms to 1m. Example: `3s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) timeout: Option<At<Scalar>>,
    /// Failures in a row until the endpoint counts as ill.
    ///
    /// Default: `2`. Range: 1 to 100. Example: `3`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) unhealthy_after: Option<At<Scalar>>,
    /// Successes in a row until it counts as well.
    ///
    /// Default: `1`. Range: 1 to 100. Example: `2`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) healthy_after: Option<At<Scalar>>,
}

/// When an endpoint that fails requests is left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct EjectionRules {
    /// Failures in a row until then: no connection, or one that broke or stayed silent before an answer's head. Five, as in
    /// Envoy: fewer could be chance. An answer is no failure, whatever its status.
    ///
    /// Default: `5`. Range: 1 to 1,000. Example: `3`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) after: Option<At<Scalar>>,
    /// For how long; then one request tries whether it is back. Ten seconds, as in nginx, for a trial costs one request at
    /// most. In a row it is doubled, up to eight times as long.
    ///
    /// Default: `10s`. Range: 100ms to 1h. Example: `30s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) r#for: Option<At<Scalar>>,
}

impl Form for EjectionRules {
    const EXPECTED: &str = "`off`, or a map with `after` and `for`";
}
