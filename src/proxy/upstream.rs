//! One upstream: its endpoints, which of them a request visits, and how many can be counted on.
//!
//! Who may be visited: first those that are neither ill nor ejected; if there are none, those that are only ejected, for an
//! ejection is a guess from few requests, and a guess must not make an outage. An endpoint whose health check fails gets
//! nothing, and where all of them do the answer is `upstream_unreachable` at once: the check is the operator's own word, as
//! it is in HAProxy and nginx, and a request that waits for a hung origin would hold its places for nothing. With one
//! endpoint there is nothing to choose and nothing is counted. Never sends anything itself.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::balance::Chooser;
use super::endpoint::Endpoint;
use super::health::{Bell, Standing};
use super::settings::UpstreamSettings;
use super::socket::Socket;
use crate::clock::Clock;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the endpoint did not accept a connection in time")]
    TimedOut,
    #[error("the endpoint cannot be reached")]
    Unreachable(#[from] io::Error),
}

/// Errors of a connection that the machine under this gate is short of something for: ENFILE, EMFILE, ENOBUFS.
const SHORTAGES: [i32; 3] = [23, 24, 105];

impl ConnectError {
    /// Whether it tells something about the endpoint: where the gate has no more files or ports, all would seem to fail.
    fn is_of_the_endpoint(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Unreachable(error) => {
                let is_shortage = |code| SHORTAGES.contains(&code);
                let ours = [io::ErrorKind::AddrNotAvailable, io::ErrorKind::OutOfMemory];
                !ours.contains(&error.kind()) && !error.raw_os_error().is_some_and(is_shortage)
            }
        }
    }
}

/// One upstream; the same through reloads while its settings are.
#[derive(Debug)]
pub struct Upstream {
    pub(super) settings: UpstreamSettings,
    endpoints: Box<[Arc<Endpoint>]>,
    chooser: Chooser,
    bell: Bell,
    /// Held while an ejection is decided, so that two at once do not leave nobody.
    ejecting: Arc<Mutex<()>>,
    clock: Clock,
}

/// What is known of one endpoint.
#[derive(Debug, Clone)]
pub struct EndpointStatus {
    /// Its address as the file writes it.
    pub name: Arc<str>,
    /// Whether it can be counted on: its check passes, and its last requests did not all fail.
    pub is_healthy: bool,
    /// What its health check says; `None` without one.
    pub passes_check: Option<bool>,
    /// This gate's exchanges with it; `None` where it is the only endpoint, which has all of the upstream's.
    pub in_flight: Option<usize>,
    /// For how long it is still left out; `None` when it is not, or when the next request is its trial.
    pub ejected_for: Option<Duration>,
    /// How often it was left out so far.
    pub ejections: u64,
}

impl Upstream {
    /// An upstream; endpoints that the one of the same name had before keep their health, their connections and what is in
    /// flight.
    #[must_use]
    pub fn new(settings: UpstreamSettings, previous: Option<&Self>, clock: Clock) -> Self {
        let bell = previous.map_or_else(
            || Arc::new(watch::Sender::new(())),
            |previous| Arc::clone(&previous.bell),
        );
        let endpoints: Box<[_]> = settings
            .endpoints
            .iter()
            .map(|address| {
                let known = previous
                    .into_iter()
                    .flat_map(|previous| &previous.endpoints);
                let same = known.into_iter().find(|known| known.address == *address);
                let fresh = || Endpoint::new(address.clone(), Arc::clone(&bell), clock.clone());
                same.cloned().unwrap_or_else(|| Arc::new(fresh()))
            })
            .collect();
        Self {
            chooser: Chooser::new(settings.balance, &endpoints),
            settings,
            endpoints,
            bell,
            ejecting: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.ejecting)),
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

    /// How many endpoints can be counted on: those whose check passes and whose last requests did not all fail. An ejected
    /// one counts again once it has answered, not when its time is over.
    #[must_use]
    pub fn healthy_endpoints(&self) -> usize {
        let healthy = self
            .endpoints
            .iter()
            .filter(|endpoint| self.is_healthy(endpoint));
        healthy.count()
    }

    /// Tells when [`healthy_endpoints`](Self::healthy_endpoints) may have changed. The receiver outlives reloads, as long as
    /// there is an upstream of this name; a reload itself is not told, for it brings an `Upstream` to ask.
    #[must_use]
    pub fn health_changes(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    /// What is known of each endpoint, in the order of the file.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointStatus> {
        let now = self.clock.now();
        let is_choice = self.is_choice();
        self.endpoints.iter().map(move |endpoint| EndpointStatus {
            name: Arc::clone(&endpoint.name),
            is_healthy: self.is_healthy(endpoint),
            passes_check: self
                .settings
                .health_check
                .as_ref()
                .map(|_| !self.is_ill(endpoint)),
            in_flight: is_choice.then(|| endpoint.in_flight.now()),
            ejected_for: endpoint
                .health
                .ejected_until()
                .filter(|_| self.settings.ejection.is_some())
                .map(|until| until.saturating_duration_since(now))
                .filter(|left| !left.is_zero()),
            ejections: endpoint.health.ejections(),
        })
    }

    /// Forgets what health checks said, for an upstream that has none any more.
    pub fn forget_checks(&self) {
        for endpoint in &self.endpoints {
            endpoint.health.unchecked();
        }
    }

    pub(super) fn endpoint(&self, index: usize) -> &Arc<Endpoint> {
        &self.endpoints[index]
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Chooses an endpoint for a request; `None` when all are ill.
    pub(super) fn visit(self: Arc<Self>, key: &[u8], now: Instant) -> Option<Visit> {
        let (index, is_trial) = self.choose(key, now, None)?;
        Some(Visit::begin(self, index, is_trial))
    }

    fn choose(&self, key: &[u8], now: Instant, without: Option<usize>) -> Option<(usize, bool)> {
        if let [only] = &*self.endpoints {
            return (without.is_none() && !self.is_ill(only)).then_some((0, false));
        }
        let may_be = |index: usize| {
            (Some(index) != without && !self.is_ill(&self.endpoints[index]))
                .then(|| &self.endpoints[index].health)
        };
        let mut is_trial = false;
        let is_in = |index| match (may_be(index), self.settings.ejection) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(health), Some(rules)) => match health.standing(now) {
                Standing::In => true,
                Standing::Out => false,
                Standing::Trial => {
                    is_trial = health.begin_trial(now, rules);
                    is_trial
                }
            },
        };
        if let Some(index) = self.chooser.choose(&self.endpoints, key, is_in) {
            return Some((index, is_trial));
        }
        let is_well = |index| may_be(index).is_some();
        let index = self.chooser.choose(&self.endpoints, key, is_well)?;
        Some((index, false))
    }

    /// Whether one more may be ejected: half of them at most, so that a fault they share does not pile everything on a few;
    /// and never the last that would take requests.
    fn may_eject(&self, index: usize) -> bool {
        let count = self.endpoints.len();
        let ejected = self
            .endpoints
            .iter()
            .filter(|other| other.health.is_ejected());
        let others = self
            .endpoints
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let takes = |other: &Endpoint| !self.is_ill(other) && !other.health.is_ejected();
        ejected.count() < count.div_ceil(2) && others.into_iter().any(|(_, other)| takes(other))
    }

    /// Whether there is a choice among endpoints.
    fn is_choice(&self) -> bool {
        self.endpoints.len() > 1
    }

    fn is_ill(&self, endpoint: &Endpoint) -> bool {
        self.settings.health_check.is_some() && endpoint.health.is_ill()
    }

    fn is_healthy(&self, endpoint: &Endpoint) -> bool {
        let is_failing = self.settings.ejection.is_some() && endpoint.health.is_failing();
        !self.is_ill(endpoint) && !is_failing
    }
}

/// One request's exchange with one endpoint, counted until dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Visit {
    upstream: Arc<Upstream>,
    index: usize,
    /// Whether it decides if the endpoint comes back from its ejection.
    is_trial: bool,
}

impl Visit {
    fn begin(upstream: Arc<Upstream>, index: usize, is_trial: bool) -> Self {
        if upstream.is_choice() {
            upstream.endpoints[index].in_flight.begin();
        }
        Self {
            upstream,
            index,
            is_trial,
        }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.upstream.endpoints[self.index]
    }

    /// The endpoint's name, where the upstream's does not say it already.
    pub(super) fn name_among_several(&self) -> Option<&Arc<str>> {
        self.upstream.is_choice().then(|| &self.endpoint().name)
    }

    /// Opens a connection; one that fails by the endpoint's fault is noted.
    pub(super) async fn connect(&self) -> Result<Box<Socket>, ConnectError> {
        let opening = self.endpoint().open(self.settings.resolve);
        let opened = tokio::time::timeout(self.settings.connect_timeout, opening).await;
        let opened = opened.map_or(Err(ConnectError::TimedOut), |opened| Ok(opened?));
        if opened.as_ref().is_err_and(ConnectError::is_of_the_endpoint) {
            self.failed();
        }
        opened
    }

    /// Goes to another endpoint, as long as nothing was sent that must not be sent twice; false when there is none.
    pub(super) fn move_on(&mut self, key: &[u8], now: Instant) -> bool {
        let Some((index, is_trial)) = self.choose(key, now, Some(self.index)) else {
            return false;
        };
        *self = Self::begin(Arc::clone(&self.upstream), index, is_trial);
        true
    }

    /// The endpoint gave an answer's head, whatever it says.
    pub(super) fn succeeded(&self, now: Instant) {
        self.endpoint().health.succeeded(self.is_trial, now);
    }

    /// The endpoint took no connection, broke it before an answer's head, or gave none in time.
    pub(super) fn failed(&self) {
        let Some(rules) = self.settings.ejection else {
            return;
        };
        let (upstream, endpoint) = (&self.upstream, self.endpoint());
        let is_ejected = {
            let _alone = upstream.ejecting.lock();
            let may_eject = || upstream.may_eject(self.index);
            let now = upstream.clock.now();
            endpoint.health.failed(self.is_trial, now, rules, may_eject)
        };
        if is_ejected {
            tracing::warn!(
                upstream = upstream.name(),
                endpoint = &*endpoint.name,
                "requests failed in a row; the endpoint is left out for a while"
            );
        }
    }
}

impl Deref for Visit {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.upstream
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.upstream.is_choice() {
            self.endpoint().in_flight.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Balance, Ejection, EndpointAddress, HealthCheck};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings(count: u8) -> UpstreamSettings {
        let address = |last| EndpointAddress::Host(format!("10.0.0.{last}"), 80);
        UpstreamSettings {
            name: "api".into(),
            endpoints: (1..=count).map(address).collect(),
            balance: Balance::RoundRobin,
            health_check: None,
            ejection: Some(Ejection {
                after: 1,
                period: 10 * SECOND,
            }),
            connect_timeout: SECOND,
            response_timeout: SECOND,
            idle_timeout: SECOND,
            tunnel_idle_timeout: SECOND,
            host: None,
            resolve: SECOND,
            pool_idle: 1,
            pool_idle_timeout: SECOND,
        }
    }

    fn upstream(settings: UpstreamSettings, clock: &Clock) -> Arc<Upstream> {
        Arc::new(Upstream::new(settings, None, clock.clone()))
    }

    fn fail(upstream: &Arc<Upstream>, index: usize) {
        Visit::begin(Arc::clone(upstream), index, false).failed();
    }

    /// Which endpoints get something, in the order of the file.
    fn visited(upstream: &Arc<Upstream>, clock: &Clock) -> Vec<usize> {
        let visit = |_| Arc::clone(upstream).visit(b"A", clock.now());
        let visits: Vec<_> = (0..4 * upstream.endpoints.len())
            .filter_map(visit)
            .collect();
        let mut indices: Vec<_> = visits.iter().map(|visit| visit.index).collect();
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    #[test]
    fn half_of_them_at_most_are_ejected_and_never_the_last() {
        let clock = Clock::manual();
        for (count, left) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)] {
            let upstream = upstream(settings(count), &clock);
            (0..usize::from(count)).for_each(|index| fail(&upstream, index));
            assert_eq!(visited(&upstream, &clock).len(), left, "of {count}");
            assert_eq!(upstream.healthy_endpoints(), 0);
        }
    }

    #[test]
    fn a_trial_is_one_visit_and_what_it_finds_counts() {
        let clock = Clock::manual();
        let upstream = upstream(settings(2), &clock);
        fail(&upstream, 0);
        assert_eq!(visited(&upstream, &clock), [1]);
        clock.advance(10 * SECOND);
        let visits: Vec<_> = (0..8)
            .filter_map(|_| Arc::clone(&upstream).visit(b"A", clock.now()))
            .collect();
        let trials: Vec<_> = visits.iter().filter(|visit| visit.index == 0).collect();
        assert_eq!(trials.len(), 1);
        let mut changes = upstream.health_changes();
        trials[0].succeeded(clock.now());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(
            (upstream.healthy_endpoints(), visited(&upstream, &clock)),
            (2, vec![0, 1])
        );
    }

    #[test]
    fn an_ejected_endpoint_is_better_than_none_and_an_ill_one_is_not() {
        let clock = Clock::manual();
        let check = HealthCheck {
            path: None,
            interval: SECOND,
            timeout: SECOND,
            unhealthy_after: 1,
            healthy_after: 1,
        };
        let checked = UpstreamSettings {
            health_check: Some(check),
            ..settings(2)
        };
        let upstream = upstream(checked, &clock);
        fail(&upstream, 0);
        upstream.endpoint(1).health.checked(false, 1, clock.now());
        assert_eq!(visited(&upstream, &clock), [0]);
        upstream.endpoint(0).health.checked(false, 1, clock.now());
        assert!(visited(&upstream, &clock).is_empty());
        upstream.forget_checks();
        assert_eq!(visited(&upstream, &clock), [1]);
    }

    #[test]
    fn what_this_machine_lacks_is_no_fault_of_an_endpoint() {
        let fault = |error: io::Error| ConnectError::from(error).is_of_the_endpoint();
        assert!(ConnectError::TimedOut.is_of_the_endpoint());
        assert!(fault(io::ErrorKind::ConnectionRefused.into()));
        assert!(
            fault(io::ErrorKind::NotFound.into()),
            "a socket that is not there"
        );
        assert!(!fault(io::Error::from_raw_os_error(24)), "no more files");
        assert!(
            !fault(io::ErrorKind::AddrNotAvailable.into()),
            "no more ports"
        );
    }

    // A12: what a reload keeps is known to the next upstream, and its changes are told to who asked the one before.
    #[test]
    fn the_next_upstream_of_that_name_keeps_what_is_known_of_endpoints_that_stay() {
        let clock = Clock::manual();
        let first = upstream(settings(2), &clock);
        let mut changes = first.health_changes();
        fail(&first, 1);
        changes.mark_unchanged();
        let held = Arc::clone(&first).visit(b"A", clock.now()).unwrap();
        let next = Arc::new(Upstream::new(settings(3), Some(&first), clock.clone()));
        drop(first);
        let seen: Vec<_> = next
            .endpoints()
            .map(|of| (of.is_healthy, of.in_flight))
            .collect();
        assert_eq!(seen, [(true, Some(1)), (false, Some(0)), (true, Some(0))]);
        assert_eq!(
            (next.healthy_endpoints(), visited(&next, &clock)),
            (2, vec![0, 2])
        );
        drop(held);
        assert_eq!(next.endpoint(0).in_flight.now(), 0);
        fail(&next, 2);
        assert!(changes.has_changed().unwrap());
        assert_eq!(next.healthy_endpoints(), 1);
    }
}
