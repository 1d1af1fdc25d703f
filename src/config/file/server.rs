//! The section `server`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{At, Form, OffOr, Scalar, present};

/// Where clients connect, and what holds for all of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Server {
    /// Where clients connect.
    ///
    /// Required. Range: 1 to 64. Example: `[{ address: "127.0.0.1:8080" }]`.
    pub(in crate::config) listeners: At<Vec<Listener>>,
    /// Threads of the data plane, each with its own connections. Changing it needs a restart.
    ///
    /// Default: `auto`, as many as the machine runs at once. Range: 1 to 1,024. Example: `4`.
    #[schemars(extend("x-kind" = "number or `auto`"))]
    pub(in crate::config) threads: Option<At<Scalar>>,
    /// After the signal to stop: how long the listeners stay open while `/ready` says 503.
    ///
    /// Default: `0s`. Range: 0s to 1h. Example: `5s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) drain_delay: Option<At<Scalar>>,
    /// How long what is in flight may take to finish before it is cut.
    ///
    /// Default: `30s`. Range: 0s to 24h. Example: `2m`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) drain_timeout: Option<At<Scalar>>,
    /// From a request head's first byte to its last.
    ///
    /// Default: `10s`. Range: 1ms to 1h. Example: `5s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) header_timeout: Option<At<Scalar>>,
    /// How long an idle client connection stays open.
    ///
    /// Default: `75s`. Range: 1ms to 24h. Example: `2m`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) keep_alive: Option<At<Scalar>>,
    /// Client connections at once.
    ///
    /// Default: `10000`. Range: 1 to 1,000,000. Example: `50000`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) max_connections: Option<At<Scalar>>,
    /// Bytes of a request's head; a longer one is answered 431.
    ///
    /// Default: `64KiB`. Range: 8KiB to 1MiB. Example: `16KiB`.
    #[schemars(extend("x-kind" = "size"))]
    pub(in crate::config) max_head: Option<At<Scalar>>,
    /// Bytes of a request's body; a longer one is answered 413.
    ///
    /// Default: `off`, no bound. Range: 0B to 1TiB. Example: `10MiB`.
    #[schemars(extend("x-kind" = "size or `off`"))]
    pub(in crate::config) max_body: Option<At<Scalar>>,
    /// HTTP/2 streams at once on one connection.
    ///
    /// Default: `128`. Range: 1 to 10,000. Example: `256`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) max_streams: Option<At<Scalar>>,
    /// Networks of the proxies in front: only their `x-forwarded-*` fields are kept and extended, all others are replaced.
    ///
    /// Default: none. Range: up to 1,000. Example: `["10.0.0.0/8", "192.0.2.7"]`.
    pub(in crate::config) trusted_proxies: Option<Vec<At<String>>>,
    /// What Tidegate tells in headers of every response.
    ///
    /// Default: both below; `off` for none. Example: `{ concurrency: x-concurrent-requests, duration: off }`.
    pub(in crate::config) headers: Option<OffOr<HeaderNames>>,
    /// A Unix socket over which a new process takes over the listeners. Not built yet.
    ///
    /// Default: none. Example: `/run/tidegate/upgrade.sock`.
    pub(in crate::config) upgrade_socket: Option<At<String>>,
    /// The request header that says how long the client will wait: a number with a unit, or of milliseconds. It shortens the wait
    /// in a queue, as `grpc-timeout` does for gRPC.
    ///
    /// Default: `off`. Example: `x-request-timeout`.
    #[schemars(extend("x-kind" = "header or `off`"))]
    pub(in crate::config) timeout_header: Option<At<Scalar>>,
}

/// One place where clients connect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Listener {
    /// An IP address and a port (0 takes a free one), or a Unix socket. Changing it needs a restart.
    ///
    /// Required. Example: `127.0.0.1:8080` or `unix:/run/tidegate.sock`.
    pub(in crate::config) address: At<String>,
    /// TLS with HTTP/2 and HTTP/1.1 by ALPN; the files are watched, and a renewed certificate is taken up without a restart.
    ///
    /// Default: none, plain text. Example: `{ certificate: tls.crt, private_key: tls.key }`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) tls: Option<Tls>,
}

/// The TLS of one listener. Relative paths begin at the configuration's own directory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Tls {
    /// The certificate chain, leaf first, in PEM; it is also for clients that ask for a name no other certificate has.
    ///
    /// Required. Example: `tls.crt`.
    pub(in crate::config) certificate: At<String>,
    /// The leaf's private key, in PEM.
    ///
    /// Required. Example: `tls.key`.
    pub(in crate::config) private_key: At<String>,
    /// Authorities in PEM: a client must show a certificate that one of them signed.
    ///
    /// Default: none, clients show no certificate. Example: `ca.crt`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) client_ca: Option<At<String>>,
    /// Further certificates, chosen by the name that the client asks for.
    ///
    /// Default: none. Range: up to 1,000. Example: `[{ certificate: b.crt, private_key: b.key }]`.
    pub(in crate::config) more: Option<Vec<Certificate>>,
}

/// A further certificate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Certificate {
    /// The certificate chain, leaf first, in PEM.
    ///
    /// Required. Example: `b.crt`.
    pub(in crate::config) certificate: At<String>,
    /// The leaf's private key, in PEM.
    ///
    /// Required. Example: `b.key`.
    pub(in crate::config) private_key: At<String>,
}

/// What Tidegate tells in headers of every response.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HeaderNames {
    /// The header with the account's requests in flight, this one counted.
    ///
    /// Default: `x-concurrent-requests`. Example: `off`.
    #[schemars(extend("x-kind" = "header or `off`"))]
    pub(in crate::config) concurrency: Option<At<Scalar>>,
    /// The header with the seconds to the response's head.
    ///
    /// Default: `x-request-duration`. Example: `off`.
    #[schemars(extend("x-kind" = "header or `off`"))]
    pub(in crate::config) duration: Option<At<Scalar>>,
}

impl Form for HeaderNames {
    const EXPECTED: &str = "`off`, or a map with `concurrency` and `duration`";
}
