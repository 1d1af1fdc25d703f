//! What the data plane is told: listeners, upstreams, and what each resource does with a response.
//!
//! Built by `config`, or by a test; the data plane never sees the file it came from.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};

use crate::admission::UpstreamId;
use crate::classify::TrustedProxies;
use crate::telemetry::Share;

/// Where to listen, or what to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What holds for the whole data plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Threads of the data plane, each with its own connections.
    pub threads: usize,
    /// After the signal to stop: how long the listeners stay open.
    pub drain_delay: Duration,
    /// How long what is in flight may take to finish.
    pub drain_timeout: Duration,
    /// From a head's first byte to its last.
    pub header_timeout: Duration,
    /// How long an idle client connection stays.
    pub keep_alive: Duration,
    /// Client connections at once.
    pub max_connections: usize,
    /// Bytes of a request's head.
    pub max_head: usize,
    /// Bytes of a request's body.
    pub max_body: Option<u64>,
    /// HTTP/2 streams at once on one connection.
    pub max_streams: u32,
    /// Peers whose forwarded-for fields are kept and extended.
    pub trusted_proxies: TrustedProxies,
    /// The response header that tells the account's requests in flight.
    pub concurrency_header: Option<HeaderName>,
    /// The response header that tells the seconds to the response's head.
    pub duration_header: Option<HeaderName>,
    /// The request header that tells how long the client will wait.
    pub timeout_header: Option<HeaderName>,
    /// Which traces that begin here are recorded; `None` where traces are off.
    pub traces: Option<Share>,
}

/// One place where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: Address,
    /// With TLS; `None` for plain text.
    pub tls: Option<Tls>,
}

/// The TLS of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Chosen by the name that the client asks for; the first is for all other names. Never empty.
    pub certificates: Vec<Certificate>,
    /// Client certificates must be signed by one of these authorities.
    pub client_ca: Option<PathBuf>,
}

/// A certificate chain and its key, as files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The key of the leaf.
    pub private_key: PathBuf,
}

/// Where one endpoint of an upstream listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointAddress {
    /// A host name or an IP address (IPv6 without brackets), and a port.
    Host(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How one of several endpoints is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// In turn.
    #[default]
    RoundRobin,
    /// The one with the least of this gate's requests in flight; among equals, by chance.
    LeastInFlight,
    /// By the account's name.
    ConsistentHash,
}

/// How endpoints are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for, a path and perhaps a query; `None` only connects.
    pub path: Option<PathAndQuery>,
    /// How often.
    pub interval: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
    /// Failures in a row until an endpoint counts as ill.
    pub unhealthy_after: u32,
    /// Successes in a row until it counts as well.
    pub healthy_after: u32,
}

/// When an endpoint that fails requests is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row until then.
    pub after: u32,
    /// For how long, the first time.
    pub period: Duration,
}

/// One upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// The name that users see.
    pub name: String,
    /// Where it listens; never empty, and none twice.
    pub endpoints: Vec<EndpointAddress>,
    /// How one of several endpoints is chosen.
    pub balance: Balance,
    /// How endpoints are asked whether they are well; `None` asks nobody.
    pub health_check: Option<HealthCheck>,
    /// When an endpoint that fails requests is left out; `None` never.
    pub ejection: Option<Ejection>,
    /// To an established connection.
    pub connect_timeout: Duration,
    /// From the request sent to the response's head.
    pub response_timeout: Duration,
    /// While nothing moves in either direction.
    pub idle_timeout: Duration,
    /// The same for tunnels.
    pub tunnel_idle_timeout: Duration,
    /// Sent as `Host` instead of the client's.
    pub host: Option<HeaderValue>,
    /// How often a name is resolved again.
    pub resolve: Duration,
    /// Idle connections kept, per thread.
    pub pool_idle: usize,
    /// How long an idle connection is kept.
    pub pool_idle_timeout: Duration,
}

/// How long a permit is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamPolicy {
    /// Until the response's head.
    Headers,
    /// Until the last byte of the response.
    #[default]
    BodyEnd,
    /// Until the last byte, but no longer than this after the response's head.
    First(Duration),
}

/// What happens upstream when the client leaves before the answer is through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Departed {
    /// The upstream connection is cut.
    #[default]
    Close,
    /// The answer is drained for so long, with the place held.
    Finish(Duration),
}

/// What the data plane does with one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceSettings {
    /// The name that users see.
    pub name: String,
    /// Where its requests go.
    pub upstream: UpstreamId,
    /// How long a permit is held.
    pub stream: StreamPolicy,
    /// What happens when the client leaves.
    pub departed: Departed,
    /// A 2xx begins a lease of this length.
    pub completion: Option<Duration>,
}
