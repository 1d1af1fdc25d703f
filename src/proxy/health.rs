//! What is known of one endpoint's health: what its health check says, and how requests to it went.
//!
//! Two opinions, kept apart. A check that fails makes an endpoint *ill*: it gets nothing. Requests that fail in a row make it
//! *failing*, and where others can take over it is *ejected*: left out for a while, then tried with one request. On the way
//! of a request everything is read from atomics; only a change of mind takes a lock. Never decides alone whether to eject:
//! who else is left only the upstream knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::settings::Ejection;

/// An ejection doubles with each in a row, up to eight times the first: long enough that an endpoint which stays dead costs
/// next to nothing, short enough that one which is back is found within a minute or so.
const DOUBLINGS: u32 = 3;

/// Tells that the health of some endpoint of an upstream changed.
pub(super) type Bell = Arc<watch::Sender<()>>;

/// The health of one endpoint; well until something else is seen.
#[derive(Debug)]
pub(super) struct Health {
    /// Instants are kept as nanoseconds since then.
    epoch: Instant,
    bell: Bell,
    is_ill: AtomicBool,
    is_failing: AtomicBool,
    /// Requests that failed in a row.
    failures: AtomicU32,
    /// When the ejection ends; 0 without one.
    ejected_until: AtomicU64,
    ejections: AtomicU64,
    rare: Mutex<Rare>,
}

/// What only changes of mind touch.
#[derive(Debug, Default)]
struct Rare {
    /// Results of the check in a row that speak against what is thought.
    contrary: u32,
    /// Ejections in a row before the last.
    doublings: u32,
    /// When it came back from the last ejection.
    back_at: Option<Instant>,
}

/// Whether an endpoint may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may.
    In,
    /// Its ejection is over: it may, for whoever gets the one [trial](Health::begin_trial).
    Trial,
    /// It is ejected.
    Out,
}

impl Health {
    /// Of an endpoint that nobody has seen yet.
    pub(super) fn new(bell: Bell, epoch: Instant) -> Self {
        Self {
            epoch,
            bell,
            is_ill: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            rare: Mutex::default(),
        }
    }

    /// Whether its check says that it is ill.
    pub(super) fn is_ill(&self) -> bool {
        self.is_ill.load(Ordering::Relaxed)
    }

    /// Whether requests to it failed so often in a row that nobody should count on it.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Whether it may be chosen, as far as requests tell.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        match self.ejected_until.load(Ordering::Relaxed) {
            0 => Standing::In,
            until if until <= self.nanos(now) => Standing::Trial,
            _ => Standing::Out,
        }
    }

    /// Whether it is ejected, trials included.
    pub(super) fn is_ejected(&self) -> bool {
        self.ejected_until.load(Ordering::Relaxed) != 0
    }

    /// When its ejection ends.
    pub(super) fn ejected_until(&self) -> Option<Instant> {
        let until = self.ejected_until.load(Ordering::Relaxed);
        (until != 0).then(|| self.epoch + Duration::from_nanos(until))
    }

    /// Ejections so far.
    pub(super) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Takes the one trial after an ejection: for the others it lasts another turn. False when somebody else was faster.
    pub(super) fn begin_trial(&self, now: Instant, rules: Ejection) -> bool {
        let over = self.ejected_until.load(Ordering::Relaxed);
        let next = self.nanos(now + rules.period);
        // Pairs with nothing: only one of those who saw the same end may replace it.
        over != 0
            && over <= self.nanos(now)
            && self
                .ejected_until
                .compare_exchange(over, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// A request was answered. What was under way when the endpoint was ejected proves nothing; a trial does.
    pub(super) fn succeeded(&self, is_trial: bool, now: Instant) {
        if self.failures.load(Ordering::Relaxed) == 0 || (self.is_ejected() && !is_trial) {
            return;
        }
        let mut rare = self.rare.lock();
        self.come_back(&mut rare, now);
    }

    /// A request failed by the endpoint's fault. With enough in a row it is ejected, if `may_eject` agrees; true if it was.
    pub(super) fn failed(
        &self,
        is_trial: bool,
        now: Instant,
        rules: Ejection,
        may_eject: impl FnOnce() -> bool,
    ) -> bool {
        let failures = self
            .failures
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        if failures < rules.after {
            return false;
        }
        let mut rare = self.rare.lock();
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            self.ring();
        }
        let is_ejected = self.is_ejected();
        if is_ejected != is_trial || !(is_ejected || may_eject()) {
            return false;
        }
        let last = rules.period * 2_u32.pow(rare.doublings);
        let is_in_a_row = is_trial
            || rare
                .back_at
                .is_some_and(|back| now.saturating_duration_since(back) < last);
        rare.doublings = if is_in_a_row {
            (rare.doublings + 1).min(DOUBLINGS)
        } else {
            0
        };
        let until = now + rules.period * 2_u32.pow(rare.doublings);
        self.ejected_until
            .store(self.nanos(until), Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// The health check's result, and how many in a row change what is thought; tells whether it did.
    pub(super) fn checked(&self, is_well: bool, threshold: u32, now: Instant) -> bool {
        let mut rare = self.rare.lock();
        if is_well != self.is_ill() {
            rare.contrary = 0;
            return false;
        }
        rare.contrary += 1;
        if rare.contrary < threshold {
            return false;
        }
        rare.contrary = 0;
        self.is_ill.store(!is_well, Ordering::Relaxed);
        if is_well {
            // It was restarted or mended: what requests told before is old.
            self.come_back(&mut rare, now);
        }
        self.ring();
        true
    }

    /// Nobody asks it any more, so that what the check said is not known any more.
    pub(super) fn unchecked(&self) {
        self.rare.lock().contrary = 0;
        if self.is_ill.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }

    fn come_back(&self, rare: &mut Rare, now: Instant) {
        self.failures.store(0, Ordering::Relaxed);
        if self.ejected_until.swap(0, Ordering::Relaxed) != 0 {
            rare.back_at = Some(now);
        }
        if self.is_failing.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }

    fn ring(&self) {
        self.bell.send_replace(());
    }

    fn nanos(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const RULES: Ejection = Ejection {
        after: 3,
        period: Duration::from_secs(10),
    };

    fn health(clock: &Clock) -> Health {
        Health::new(Arc::new(watch::Sender::new(())), clock.now())
    }

    fn fail(health: &Health, clock: &Clock, times: u32) {
        for _ in 0..times {
            health.failed(false, clock.now(), RULES, || true);
        }
    }

    /// Goes to the end of the ejection and takes the trial.
    fn trial(health: &Health, clock: &Clock) {
        let until = health.ejected_until().expect("it is ejected");
        clock.advance(until.saturating_duration_since(clock.now()));
        assert_eq!(health.standing(clock.now()), Standing::Trial);
        assert!(health.begin_trial(clock.now(), RULES));
        assert!(!health.begin_trial(clock.now(), RULES), "one trial only");
        assert_eq!(health.standing(clock.now()), Standing::Out);
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        let clock = Clock::manual();
        let health = health(&clock);
        fail(&health, &clock, 2);
        health.succeeded(false, clock.now());
        fail(&health, &clock, 2);
        assert_eq!(health.standing(clock.now()), Standing::In);
        fail(&health, &clock, 1);
        assert_eq!(health.standing(clock.now()), Standing::Out);
        assert!(health.is_failing());
    }

    #[test]
    fn an_ejection_ends_with_one_trial_and_doubles_up_to_a_bound() {
        let clock = Clock::manual();
        let health = health(&clock);
        fail(&health, &clock, 3);
        for seconds in [20, 40, 80, 80] {
            trial(&health, &clock);
            assert!(health.failed(true, clock.now(), RULES, || false));
            let left = health.ejected_until().unwrap() - clock.now();
            assert_eq!(left, Duration::from_secs(seconds));
        }
        trial(&health, &clock);
        health.succeeded(true, clock.now());
        assert_eq!(health.standing(clock.now()), Standing::In);
        assert!(!health.is_failing());
    }

    #[test]
    fn an_endpoint_that_flaps_stays_away_longer_and_one_that_held_begins_anew() {
        let clock = Clock::manual();
        let health = health(&clock);
        let left_out = |pause: u64| {
            clock.advance(Duration::from_secs(pause));
            fail(&health, &clock, 3);
            let left = health.ejected_until().unwrap() - clock.now();
            trial(&health, &clock);
            health.succeeded(true, clock.now());
            left.as_secs()
        };
        assert_eq!(
            [left_out(0), left_out(5), left_out(15), left_out(60)],
            [10, 20, 40, 10]
        );
    }

    #[test]
    fn what_was_under_way_ends_no_ejection_and_begins_none_anew() {
        let clock = Clock::manual();
        let health = health(&clock);
        fail(&health, &clock, 3);
        let until = health.ejected_until();
        clock.advance(Duration::from_secs(1));
        fail(&health, &clock, 3);
        health.succeeded(false, clock.now());
        assert_eq!((health.ejected_until(), health.ejections()), (until, 1));
    }

    #[test]
    fn the_last_one_is_failing_but_stays_in() {
        let clock = Clock::manual();
        let health = health(&clock);
        for _ in 0..10 {
            assert!(!health.failed(false, clock.now(), RULES, || false));
        }
        assert!(health.is_failing());
        assert_eq!(health.standing(clock.now()), Standing::In);
        health.succeeded(false, clock.now());
        assert!(!health.is_failing());
    }

    #[test]
    fn the_check_changes_its_mind_after_so_many_in_a_row_and_tells_it() {
        let clock = Clock::manual();
        let health = health(&clock);
        let mut changes = health.bell.subscribe();
        let check = |is_well, threshold| health.checked(is_well, threshold, clock.now());
        assert!(!check(false, 2) && !check(true, 1) && !check(false, 2));
        assert!(!changes.has_changed().unwrap());
        assert!(check(false, 2) && health.is_ill());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        fail(&health, &clock, 3);
        assert!(!check(true, 2) && check(true, 2));
        assert!(
            !health.is_ill() && !health.is_ejected(),
            "a mended endpoint is in at once"
        );
        assert!(changes.has_changed().unwrap());
    }
}
