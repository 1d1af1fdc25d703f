//! The addresses of a host, by the system's resolver.
//!
//! A lookup takes a thread of the runtime's and cannot be interrupted, so that names whose servers are silent could take all of
//! them: how many are in progress is bounded. Never keeps an answer, and never judges one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Lookups in progress: an eighth of the threads that the runtime has for what blocks.
const LOOKUPS_MAX: usize = 64;
/// Addresses of a host that are looked at.
const ADDRESSES_MAX: usize = 16;

/// Resolves; clones share one bound.
#[derive(Debug, Clone)]
pub(in crate::presence) struct Resolver(Arc<Semaphore>);

impl Default for Resolver {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS_MAX)))
    }
}

impl Resolver {
    /// Where a name, or an address without brackets, leads; `None` if nowhere, never empty.
    pub(in crate::presence) async fn addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Option<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(vec![SocketAddr::new(address, port)]);
        }
        let place = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let host = host.to_owned();
        // A task of its own, because the place is taken until the resolver returns, whether somebody still waits or not.
        let lookup = tokio::spawn(async move {
            let found = tokio::net::lookup_host((host, port)).await;
            drop(place);
            found.map(|found| found.take(ADDRESSES_MAX).collect::<Vec<_>>())
        });
        let found = lookup.await.ok()?.ok()?;
        (!found.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_is_an_address_or_a_name() {
        let resolver = Resolver::default();
        let address = resolver.addresses("2001:db8::1", 443).await.unwrap();
        assert_eq!(address, ["[2001:db8::1]:443".parse().unwrap()]);
        let local = resolver.addresses("localhost", 80).await.unwrap();
        assert!(local.iter().all(|address| address.ip().is_loopback()));
        // No name has an empty label, so nobody is asked.
        assert_eq!(resolver.addresses("a..b", 80).await, None);
        assert_eq!(resolver.0.available_permits(), LOOKUPS_MAX);
    }

    #[tokio::test]
    async fn lookups_wait_for_a_place_and_addresses_do_not() {
        let resolver = Resolver::default();
        let places = u32::try_from(LOOKUPS_MAX).unwrap();
        let all = resolver.0.acquire_many(places).await.unwrap();
        assert!(resolver.addresses("127.0.0.1", 80).await.is_some());
        let mut named = Box::pin(resolver.addresses("localhost", 80));
        tokio::select! {
            biased;
            _ = &mut named => panic!("all places were taken"),
            () = std::future::ready(()) => {}
        }
        drop(all);
        assert!(named.await.is_some());
    }
}
