//! Choosing one of several endpoints.
//!
//! Turns and hashing are pingora's selectors over one backend for each endpoint, used as iterators: nothing is cloned or
//! collected for a request. Least in flight is a scan, for there are few endpoints. Each only proposes; who may take a
//! request is decided by whoever asks. Never remembers a request.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use pingora_core::protocols::l4::socket;
use pingora_load_balancing::selection::{BackendIter, BackendSelection, Consistent, RoundRobin};
use pingora_load_balancing::{Backend, Extensions};
use sha2::{Digest as _, Sha256};

use super::endpoint::Endpoint;
use super::settings::{Balance, EndpointAddress};

/// Points that an endpoint has on the ring of hashes: pingora's number, which is nginx's too.
const POINTS: usize = 160;
/// Turns that are looked at for each endpoint. One is enough unless others take turns at the same moment.
const TURNS: usize = 4;

/// One of the ways to choose.
pub(super) enum Chooser {
    RoundRobin(Arc<RoundRobin>),
    LeastInFlight,
    ConsistentHash(Arc<Consistent>),
}

/// Which endpoint a backend stands for.
#[derive(Debug, Clone, Copy)]
struct Index(usize);

impl Chooser {
    pub(super) fn new(balance: Balance, endpoints: &[Arc<Endpoint>]) -> Self {
        match balance {
            Balance::RoundRobin => {
                Self::RoundRobin(Arc::new(RoundRobin::build(&backends(endpoints))))
            }
            Balance::LeastInFlight => Self::LeastInFlight,
            Balance::ConsistentHash => {
                Self::ConsistentHash(Arc::new(Consistent::build(&backends(endpoints))))
            }
        }
    }

    /// The first endpoint in this way's order that is accepted.
    pub(super) fn choose(
        &self,
        endpoints: &[Arc<Endpoint>],
        key: &[u8],
        accepts: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let count = endpoints.len();
        match self {
            Self::RoundRobin(turns) => propose(turns.iter(key), TURNS * count, count, accepts),
            Self::ConsistentHash(ring) => propose(ring.iter(key), POINTS * count, count, accepts),
            Self::LeastInFlight => least(endpoints, accepts),
        }
    }
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin(_) => "RoundRobin",
            Self::LeastInFlight => "LeastInFlight",
            Self::ConsistentHash(_) => "ConsistentHash",
        })
    }
}

/// Goes through a selector's proposals, which may come more than once, and then through all endpoints: where others turn
/// the wheel at the same moment, one may never have come by.
fn propose(
    mut proposals: impl BackendIter,
    most: usize,
    count: usize,
    mut accepts: impl FnMut(usize) -> bool,
) -> Option<usize> {
    let mut last = None;
    for _ in 0..most {
        let Index(index) = *proposals.next()?.ext.get()?;
        if last != Some(index) && accepts(index) {
            return Some(index);
        }
        last = Some(index);
    }
    (0..count).find(|&index| accepts(index))
}

/// The one with the least in flight; among equals each has the same chance, so that gates that start together do not all
/// begin with the same one.
fn least(endpoints: &[Arc<Endpoint>], mut accepts: impl FnMut(usize) -> bool) -> Option<usize> {
    let mut order: smallvec::SmallVec<[(usize, u32, usize); 16]> = (0..endpoints.len())
        .map(|index| {
            let in_flight = endpoints[index].in_flight.now();
            (in_flight, fastrand::u32(..), index)
        })
        .collect();
    order.sort_unstable();
    order
        .into_iter()
        .map(|(_, _, index)| index)
        .find(|&index| accepts(index))
}

fn backends(endpoints: &[Arc<Endpoint>]) -> BTreeSet<Backend> {
    let backend = |(index, endpoint): (usize, &Arc<Endpoint>)| {
        let mut ext = Extensions::new();
        ext.insert(Index(index));
        Backend {
            addr: socket::SocketAddr::Inet(stand_in(&endpoint.address)),
            weight: 1,
            ext,
        }
    };
    endpoints.iter().enumerate().map(backend).collect()
}

/// The address by which a selector knows an endpoint: the ring takes IP addresses only, and the addresses behind a name
/// change. A name or a Unix socket gets one from the block that leads nowhere (RFC 6666), made of its text alone, so that
/// every gate with the same file sends an account the same way.
fn stand_in(address: &EndpointAddress) -> SocketAddr {
    if let EndpointAddress::Host(host, port) = address
        && let Ok(address) = host.parse::<IpAddr>()
    {
        return SocketAddr::new(address, *port);
    }
    let hash = Sha256::digest(address.to_string());
    let mut octets = [0; 16];
    octets[0] = 1;
    octets[8..].copy_from_slice(&hash[..8]);
    SocketAddr::new(Ipv6Addr::from(octets).into(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use tokio::sync::watch;

    fn endpoints(names: &[&str]) -> Vec<Arc<Endpoint>> {
        let bell = Arc::new(watch::Sender::new(()));
        let one = |name: &&str| {
            let address = match name.strip_prefix("unix:") {
                Some(path) => EndpointAddress::Unix(path.into()),
                None => EndpointAddress::Host((*name).to_owned(), 80),
            };
            Arc::new(Endpoint::new(address, Arc::clone(&bell), Clock::manual()))
        };
        names.iter().map(one).collect()
    }

    const MIXED: [&str; 4] = ["127.0.0.1", "api.internal", "unix:/run/api.sock", "::1"];

    #[test]
    fn turns_go_round_and_skip_who_is_not_accepted() {
        let endpoints = endpoints(&MIXED);
        let chooser = Chooser::new(Balance::RoundRobin, &endpoints);
        let mut seen = [0; 4];
        for _ in 0..400 {
            seen[chooser.choose(&endpoints, b"", |_| true).unwrap()] += 1;
        }
        assert_eq!(seen, [100; 4]);
        for _ in 0..300 {
            seen[chooser.choose(&endpoints, b"", |index| index != 2).unwrap()] += 1;
        }
        assert_eq!(seen[2], 100);
        assert!(seen.iter().all(|&count| count <= 250), "{seen:?}");
        assert_eq!(chooser.choose(&endpoints, b"", |_| false), None);
    }

    // An account stays where it is, whoever else comes or goes; only those of the one that went move.
    #[test]
    fn hashing_moves_only_the_accounts_of_the_one_that_went() {
        let endpoints = endpoints(&MIXED);
        let chooser = Chooser::new(Balance::ConsistentHash, &endpoints);
        let mut seen = [0_usize; 4];
        for number in 0..4_000 {
            let account = format!("AC{number}");
            let choose = |without: Option<usize>| {
                let accepts = |index| Some(index) != without;
                chooser
                    .choose(&endpoints, account.as_bytes(), accepts)
                    .unwrap()
            };
            let home = choose(None);
            seen[home] += 1;
            for gone in (0..4).filter(|&gone| gone != home) {
                assert_eq!(choose(Some(gone)), home, "{account} moved without need");
            }
            assert_ne!(choose(Some(home)), home);
        }
        assert!(seen.iter().all(|&count| count > 500), "{seen:?}");
    }

    #[test]
    fn hashing_does_not_depend_on_the_order_of_the_file() {
        let (one, other) = (
            ["a.internal", "unix:/b", "10.0.0.3"],
            ["10.0.0.3", "a.internal", "unix:/b"],
        );
        let by_name = |names: &[&str]| {
            let endpoints = endpoints(names);
            let chooser = Chooser::new(Balance::ConsistentHash, &endpoints);
            let choose = |number: u32| {
                let account = number.to_le_bytes();
                let index = chooser.choose(&endpoints, &account, |_| true).unwrap();
                endpoints[index].name.to_string()
            };
            (0..100).map(choose).collect::<Vec<_>>()
        };
        assert_eq!(by_name(&one), by_name(&other));
    }

    #[test]
    fn the_least_busy_is_first_and_equals_share() {
        let endpoints = endpoints(&MIXED);
        let chooser = Chooser::new(Balance::LeastInFlight, &endpoints);
        for (endpoint, busy) in endpoints.iter().zip([3, 1, 1, 2]) {
            (0..busy).for_each(|_| endpoint.in_flight.begin());
        }
        let mut seen = [0; 4];
        for _ in 0..200 {
            seen[chooser.choose(&endpoints, b"", |_| true).unwrap()] += 1;
        }
        assert_eq!((seen[0], seen[3]), (0, 0));
        assert!(seen[1] > 50 && seen[2] > 50, "{seen:?}");
        assert_eq!(chooser.choose(&endpoints, b"", |index| index == 0), Some(0));
    }
}
