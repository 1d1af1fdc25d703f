//! One upstream: its addresses, and a fresh connection to it.
//!
//! Names are resolved when a connection is wanted and the last answer is older than `resolve`; the last good answer
//! serves until a better one is there. Connections are HTTP/1.1. Never retries by itself: `forward` decides.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::net::{TcpStream, UnixStream};

use super::settings::{Endpoint, UpstreamSettings};
use super::socket::Socket;
use crate::clock::Clock;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the upstream did not accept a connection in time")]
    TimedOut,
    #[error("the upstream cannot be reached")]
    Unreachable(#[from] io::Error),
}

/// One upstream; the same through reloads while its settings are.
#[derive(Debug)]
pub struct Upstream {
    /// Unique in the process: pooled connections are found by it.
    pub(super) id: u64,
    pub(super) settings: UpstreamSettings,
    resolved: Mutex<Resolved>,
    is_resolving: AtomicBool,
    is_up: AtomicBool,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Resolved {
    addresses: Vec<SocketAddr>,
    at: Option<Instant>,
}

impl Upstream {
    /// An upstream that nobody has connected to yet.
    #[must_use]
    pub fn new(settings: UpstreamSettings, clock: Clock) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            settings,
            resolved: Mutex::default(),
            is_resolving: AtomicBool::new(false),
            is_up: AtomicBool::new(true),
            clock,
        }
    }

    /// The name that users see.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// Whether the last attempt to connect worked; yes before the first.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Opens a connection.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<Socket, ConnectError> {
        let connected = tokio::time::timeout(self.settings.connect_timeout, self.open()).await;
        let connected = connected.unwrap_or(Err(ConnectError::TimedOut));
        self.is_up.store(connected.is_ok(), Ordering::Relaxed);
        connected
    }

    async fn open(self: &Arc<Self>) -> Result<Socket, ConnectError> {
        let (host, port) = match &self.settings.endpoint {
            Endpoint::Unix(path) => return Ok(UnixStream::connect(path).await?.into()),
            Endpoint::Host(host, port) => (host.as_str(), *port),
        };
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.addresses(host, port).await?,
        };
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream.into());
                }
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    /// The addresses behind a name: the known ones at once, asked for anew beside the request when they are old.
    async fn addresses(self: &Arc<Self>, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let (known, is_old) = {
            let resolved = self.resolved.lock();
            let age = resolved
                .at
                .map(|at| self.clock.now().saturating_duration_since(at));
            let is_old = age.is_none_or(|age| age >= self.settings.resolve);
            (resolved.addresses.clone(), is_old)
        };
        if known.is_empty() {
            return self.resolve(host, port).await;
        }
        if is_old && !self.is_resolving.swap(true, Ordering::AcqRel) {
            let (upstream, host) = (Arc::clone(self), host.to_owned());
            tokio::spawn(async move {
                if let Err(error) = upstream.resolve(&host, port).await {
                    tracing::warn!(upstream = upstream.name(), host, %error, "name not resolved; the last answer is kept");
                }
                upstream.is_resolving.store(false, Ordering::Release);
            });
        }
        Ok(known)
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((host, port)).await;
        let mut resolved = self.resolved.lock();
        resolved.at = Some(self.clock.now());
        let found: Vec<_> = found?.collect();
        if found.is_empty() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        resolved.addresses.clone_from(&found);
        Ok(found)
    }
}
