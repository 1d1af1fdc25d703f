//! One endpoint of an upstream: where it listens, a fresh connection to it, and what is known of its health.
//!
//! An endpoint is what the file lists: a name stands for one endpoint, however many addresses are behind it. They are tried
//! in order, and the one that worked comes first until the name is resolved again. That keeps what is counted, shown and
//! used as a label bounded by the file; who wants each address judged on its own lists the addresses. Names are resolved
//! when an address is wanted and the last answer is older than `resolve`; the last good answer serves until a better one is
//! there. Never retries: `forward` decides.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::{TcpStream, UnixStream};

use super::health::{Bell, Health};
use super::settings::EndpointAddress;
use super::socket::Socket;
use super::stream::Stream;
use crate::clock::Clock;

/// One endpoint; the same through reloads while the upstream of that name lists it.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Unique in the process: pooled connections are found by it.
    pub(super) id: u64,
    pub(super) address: EndpointAddress,
    /// The address as users see it.
    pub(super) name: Arc<str>,
    pub(super) health: Health,
    /// Exchanges under way, where there is a choice among several.
    pub(super) in_flight: InFlight,
    resolved: Mutex<Resolved>,
    is_resolving: AtomicBool,
    clock: Clock,
}

/// A count on a cache line of its own: every thread writes it, while the rest of an endpoint is mostly read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct InFlight(AtomicUsize);

impl InFlight {
    pub(super) fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Resolved {
    addresses: Vec<SocketAddr>,
    at: Option<Instant>,
}

/// Where a connection can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Endpoint {
    /// An endpoint that nobody has connected to yet.
    pub(super) fn new(address: EndpointAddress, bell: Bell, clock: Clock) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: address.to_string().into(),
            address,
            health: Health::new(bell, clock.now()),
            in_flight: InFlight::default(),
            resolved: Mutex::default(),
            is_resolving: AtomicBool::new(false),
            clock,
        }
    }

    /// Opens a connection to the first address that takes one.
    pub(super) async fn open(self: &Arc<Self>, resolve: Duration) -> io::Result<Box<Socket>> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for target in self.targets(resolve).await? {
            let opened = match &target {
                Target::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
                Target::Tcp(address) => match TcpStream::connect(address).await {
                    Ok(stream) => stream.set_nodelay(true).map(|()| Stream::Tcp(stream)),
                    Err(error) => Err(error),
                },
            };
            match opened {
                Ok(stream) => {
                    self.prefer(&target);
                    return Ok(stream.into());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Everything that can be connected to, in the order in which it is tried.
    pub(super) async fn targets(self: &Arc<Self>, resolve: Duration) -> io::Result<Vec<Target>> {
        let (host, port) = match &self.address {
            EndpointAddress::Unix(path) => return Ok(vec![Target::Unix(path.clone())]),
            EndpointAddress::Host(host, port) => (host.as_str(), *port),
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![Target::Tcp(SocketAddr::new(address, port))]);
        }
        let addresses = self.addresses(host, port, resolve).await?;
        Ok(addresses.into_iter().map(Target::Tcp).collect())
    }

    /// This one worked, so that it is tried first from now on.
    pub(super) fn prefer(&self, target: &Target) {
        let (EndpointAddress::Host(..), Target::Tcp(address)) = (&self.address, target) else {
            return;
        };
        let mut resolved = self.resolved.lock();
        let known = resolved.addresses.iter();
        if let Some(index) = known.into_iter().position(|known| known == address) {
            resolved.addresses[..=index].rotate_right(1);
        }
    }

    /// The addresses behind a name: the known ones at once, asked for anew beside the request when they are old.
    async fn addresses(
        self: &Arc<Self>,
        host: &str,
        port: u16,
        resolve: Duration,
    ) -> io::Result<Vec<SocketAddr>> {
        let (known, is_old) = {
            let resolved = self.resolved.lock();
            let age = resolved
                .at
                .map(|at| self.clock.now().saturating_duration_since(at));
            let is_old = age.is_none_or(|age| age >= resolve);
            (resolved.addresses.clone(), is_old)
        };
        if known.is_empty() {
            return self.resolve(host, port).await;
        }
        if is_old && !self.is_resolving.swap(true, Ordering::AcqRel) {
            let (endpoint, host) = (Arc::clone(self), host.to_owned());
            tokio::spawn(async move {
                if let Err(error) = endpoint.resolve(&host, port).await {
                    tracing::warn!(host, %error, "name not resolved; the last answer is kept");
                }
                endpoint.is_resolving.store(false, Ordering::Release);
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
            return Err(io::ErrorKind::NotFound.into());
        }
        resolved.addresses.clone_from(&found);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::watch;

    fn endpoint(address: EndpointAddress) -> Arc<Endpoint> {
        let bell = Arc::new(watch::Sender::new(()));
        Arc::new(Endpoint::new(address, bell, Clock::manual()))
    }

    #[tokio::test]
    async fn a_name_is_one_endpoint_whose_working_address_comes_first() {
        let endpoint = endpoint(EndpointAddress::Host("api.internal".into(), 80));
        let addresses: Vec<SocketAddr> = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        *endpoint.resolved.lock() = Resolved {
            addresses: addresses.clone(),
            at: Some(endpoint.clock.now()),
        };
        endpoint.prefer(&Target::Tcp(addresses[2]));
        let order = endpoint.targets(Duration::from_secs(30)).await.unwrap();
        let expected = [addresses[2], addresses[0], addresses[1]].map(Target::Tcp);
        assert_eq!(order, expected);
    }

    // The resolver here knows no such name, so that whatever is answered is the last good answer.
    #[tokio::test]
    async fn the_last_good_answer_is_kept() {
        let endpoint = endpoint(EndpointAddress::Host("absent.invalid".into(), 80));
        let address: SocketAddr = "10.0.0.1:80".parse().unwrap();
        *endpoint.resolved.lock() = Resolved {
            addresses: vec![address],
            at: Some(endpoint.clock.now()),
        };
        endpoint.clock.advance(Duration::from_secs(31));
        for _ in 0..2 {
            let order = endpoint.targets(Duration::from_secs(30)).await.unwrap();
            assert_eq!(order, [Target::Tcp(address)]);
            while endpoint.is_resolving.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
        }
    }
}
