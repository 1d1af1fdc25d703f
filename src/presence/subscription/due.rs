//! Which watchers are to be told something, and when.
//!
//! A change waits a moment for others that come right behind it, and between two messages to one watcher is a time in which what comes
//! is gathered. So who was told nothing for a while is told at once, and who hears of many changes gets few messages. Time is
//! counted in steps, and each step to come has a list. Knows numbers only; whoever takes one looks whether it still means anybody.

use std::time::{Duration, Instant};

use super::Watcher;
use super::form::Form;

/// How long a change waits for others: a device that says hello and then its status has said both by then.
pub(in crate::presence) const STEP: Duration = Duration::from_millis(10);
/// Steps between two messages to one watcher: 100 ms.
const APART: u64 = 10;
/// The steps for which there are lists: those in which somebody may be due, and one for those whose time has come.
const LISTS: u64 = APART + 1;

/// The numbers of those that were not told everything yet.
#[derive(Debug)]
pub(super) struct Due {
    origin: Instant,
    /// By the step in which they are due, in a ring.
    lists: [Vec<usize>; LISTS as usize],
    /// The step that it is.
    step: u64,
    /// The last step whose list was taken.
    taken: u64,
    /// Taken, and not looked at yet.
    ready: Vec<usize>,
}

impl Due {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            lists: Default::default(),
            step: 0,
            taken: 0,
            ready: Vec::new(),
        }
    }

    /// It is that time by now.
    pub(super) fn pass_to(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.origin);
        self.step = u64::try_from(passed.as_millis() / STEP.as_millis()).unwrap_or(u64::MAX);
    }

    /// The step that it is.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// Whether nobody is due.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.lists.iter().all(Vec::is_empty)
    }

    /// Enters a watcher, unless it stands here already.
    pub(super) fn add(&mut self, number: usize, watcher: &mut Watcher) {
        if watcher.is_dirty {
            return;
        }
        watcher.is_dirty = true;
        // Each batch of a webhook is a request of its own to somebody's server: they are gathered.
        let is_gathered = watcher.form == Form::Webhook;
        let soonest = self.step + if is_gathered { APART } else { 1 };
        self.enter(number, soonest.max(watcher.told + APART));
    }

    /// Enters one again that could not be told: it has not read what it was told before.
    pub(super) fn put_off(&mut self, number: usize) {
        self.enter(number, self.step + APART);
    }

    fn enter(&mut self, number: usize, due: u64) {
        if self.is_empty() {
            self.taken = self.step;
        }
        // Where nobody took for long, the ring has no list of its own for a step so far off; it is taken with an earlier one.
        let due = due.clamp(self.taken + 1, self.taken + LISTS);
        self.lists[slot(due)].push(number);
    }

    /// Takes out up to so many of those who are due by now.
    pub(super) fn take(&mut self, most: usize) -> Vec<usize> {
        let last = self.step.min(self.taken + LISTS);
        for due in self.taken + 1..=last {
            self.ready.append(&mut self.lists[slot(due)]);
        }
        self.taken = self.taken.max(self.step);
        let count = self.ready.len().min(most);
        self.ready.drain(..count).collect()
    }
}

fn slot(step: u64) -> usize {
    usize::try_from(step % LISTS).expect("a remainder of a small number")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use tokio_tungstenite::tungstenite::Utf8Bytes;

    use super::*;
    use crate::clock::Clock;
    use crate::presence::account::{Account, Subscription};
    use crate::presence::name::Name;
    use crate::presence::registry::session::{Moment, Report, Source};
    use crate::presence::settings::Settings;
    use crate::presence::status::Status;
    use crate::presence::subscription::Wanted;
    use crate::presence::subscription::outbox::{Next, Outbox, WAITING_MAX};
    use crate::presence::viewer::Viewer;

    struct World {
        clock: Clock,
        account: Arc<Account>,
        outbox: Arc<Outbox>,
        _subscription: Subscription,
    }

    impl World {
        /// An account with one watcher, which has read its list.
        fn watched() -> Self {
            Self::watched_as(Form::Socket)
        }

        fn watched_as(form: Form) -> Self {
            let (clock, settings) = (Clock::manual(), Settings::default());
            let account = Account::new("AC", &settings, &clock, Arc::default(), Arc::default());
            let (account, outbox) = (Arc::new(account), Arc::default());
            let wanted = Wanted::Prefix(String::new());
            let viewer = Viewer::Account;
            let subscription = account
                .subscribe(&outbox, form, viewer, wanted, false, |_, _| ())
                .unwrap();
            Self {
                clock,
                account,
                outbox,
                _subscription: subscription,
            }
        }

        /// The identity's device reports that status.
        fn change(&self, identity: &str, status: Status) {
            let name = |text| Name::new(text).unwrap();
            let report = Report {
                status,
                reason: None,
                text: None,
            };
            let (identity, device) = (name(identity), name("d"));
            let names = (&identity, &device, &device);
            let ttl = Duration::from_mins(5);
            let put = self.account.with(|state| {
                let registry = &mut state.registry;
                let at = Moment::of(&self.clock);
                registry.put(names, report, ttl, None, Source::Api, at)
            });
            assert!(put.unwrap(), "it is a change");
        }

        /// Of how many identities each message told that came.
        fn told(&self) -> Vec<usize> {
            let mut cx = Context::from_waker(Waker::noop());
            let mut told = Vec::new();
            while let Poll::Ready(next) = self.outbox.poll_next(&mut cx) {
                let Next::Text(text) = next else {
                    panic!("it stays open");
                };
                told.push(text.matches("\"identity\"").count());
            }
            told
        }

        /// Lets that many milliseconds pass, and tells what is due; of how many identities each message told that came.
        fn after(&self, ms: u64) -> Vec<usize> {
            self.clock.advance(Duration::from_millis(ms));
            self.account.flush();
            self.told()
        }
    }

    // A webhook's server is asked once for all that came in a while.
    #[test]
    fn a_webhook_is_told_what_was_gathered() {
        let world = World::watched_as(Form::Webhook);
        world.clock.advance(Duration::from_secs(1));
        world.change("a", Status::Busy);
        assert!(world.after(90).is_empty());
        world.change("b", Status::Busy);
        assert_eq!(world.after(10), [2]);
    }

    // B21, B22: the first change after a while is told at once, and those that follow it together, a while later.
    #[test]
    fn who_was_told_nothing_for_a_while_is_told_at_once_and_others_together_in_100_ms() {
        let world = World::watched();
        assert!(world.after(500).is_empty());
        world.change("a", Status::Busy);
        world.change("b", Status::Busy);
        assert_eq!(world.after(10), [2], "both came within a moment");
        for identity in ["a", "b", "c"] {
            world.change(identity, Status::Away);
            assert!(world.after(30).is_empty(), "it was told something just now");
        }
        assert_eq!(world.after(10), [3]);
        world.change("a", Status::Busy);
        assert!(world.after(90).is_empty());
        assert_eq!(world.after(10), [1]);
        assert!(!world.account.flush(), "nobody is due any more");
        world.clock.advance(Duration::from_mins(10));
        world.change("a", Status::Away);
        assert_eq!(world.after(10), [1]);
    }

    // B21: however late the gate looks, whoever is due is told.
    #[test]
    fn whoever_is_due_is_told_at_the_next_look() {
        let world = World::watched();
        let mut chance = fastrand::Rng::with_seed(3);
        for round in 0..2_000 {
            let status = [Status::Busy, Status::Away][round % 2];
            world
                .clock
                .advance(Duration::from_millis(chance.u64(..300)));
            world.change("a", status);
            let told = world.after(chance.u64(..300));
            let told = told.len() + world.after(110).len();
            assert_eq!(told, 1, "round {round}");
        }
    }

    // B21, B22: a watcher that has not read what it was told is told later, and then all at once.
    #[test]
    fn who_does_not_read_is_put_off() {
        let world = World::watched();
        let much = Utf8Bytes::from("x".repeat(WAITING_MAX / 4));
        assert!(world.outbox.push(much));
        world.change("a", Status::Busy);
        world.clock.advance(Duration::from_millis(10));
        assert!(world.account.flush(), "it is still due");
        world.change("b", Status::Busy);
        world.clock.advance(Duration::from_millis(500));
        assert!(world.account.flush());
        assert_eq!(world.told(), [0], "only what waited");
        assert_eq!(world.after(100), [2]);
    }
}
