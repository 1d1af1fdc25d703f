//! Which watchers are to be told something, and when: at once, or at the next tick.
//!
//! Between two messages to a watcher is at least the time between two ticks, unless the second was put off. Knows numbers only; whoever
//! takes one looks whether it still means anybody.

use super::Watcher;
use super::form::Form;

/// The numbers of those that were not told everything yet.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// To be told at once: they were told nothing for a while.
    soon: Vec<usize>,
    /// To be told at the next tick.
    at_tick: Vec<usize>,
    /// Ticks so far. After four billion it begins anew, and somebody may wait for a tick who need not.
    ticks: u32,
}

impl Due {
    /// The number of the last tick.
    pub(super) fn now(&self) -> u32 {
        self.ticks
    }

    /// The time between two ticks has passed.
    pub(super) fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
    }

    /// Whether somebody is to be told before the next tick.
    pub(super) fn has_soon(&self) -> bool {
        !self.soon.is_empty()
    }

    /// Enters a watcher, unless it stands here already.
    pub(super) fn add(&mut self, number: usize, watcher: &mut Watcher) {
        if watcher.is_dirty {
            return;
        }
        watcher.is_dirty = true;
        // It may have been told something just before the tick that followed, so that one more has to pass.
        let is_quiet = self.ticks.wrapping_sub(watcher.told) >= 2;
        // Each batch of a webhook is a request of its own to somebody's server: they are gathered.
        if is_quiet && watcher.form != Form::Webhook {
            self.soon.push(number);
        } else {
            self.at_tick.push(number);
        }
    }

    /// Enters one again that could not be told: it has not read what it was told before.
    pub(super) fn put_off(&mut self, number: usize) {
        self.at_tick.push(number);
    }

    /// Takes out up to so many, those that are due soon first; the others at a tick only.
    pub(super) fn take(&mut self, most: usize, is_tick: bool) -> Vec<usize> {
        let soon = self.soon.len().min(most);
        let mut taken: Vec<_> = self.soon.drain(..soon).collect();
        if is_tick {
            let rest = self.at_tick.len().min(most - soon);
            taken.extend(self.at_tick.drain(..rest));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::presence::account::{Account, Subscription};
    use crate::presence::name::Name;
    use crate::presence::registry::session::{Moment, Report, Source};
    use crate::presence::settings::Settings;
    use crate::presence::status::Status;
    use crate::presence::subscription::Wanted;
    use crate::presence::subscription::outbox::Outbox;
    use crate::presence::viewer::Viewer;

    struct World {
        account: Arc<Account>,
        at: Moment,
        outbox: Arc<Outbox>,
        _subscription: Subscription,
    }

    impl World {
        /// An account with one watcher, which has read its list.
        fn watched_as(form: Form) -> Self {
            let (at, settings) = (Moment::of(&Clock::manual()), Settings::default());
            let account = Account::new("AC", &settings, at, Arc::default(), Arc::default());
            let (account, outbox) = (Arc::new(account), Arc::default());
            let wanted = Wanted::Prefix(String::new());
            let viewer = Viewer::Account;
            let subscription = account
                .subscribe(&outbox, form, viewer, wanted, false, |_, _| ())
                .unwrap();
            Self {
                account,
                at,
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
                registry.put(names, report, ttl, None, Source::Api, self.at)
            });
            assert!(put.unwrap(), "it is a change");
        }

        /// Of how many identities each message told that came.
        fn told(&self) -> Vec<usize> {
            let mut cx = Context::from_waker(Waker::noop());
            let mut told = Vec::new();
            while let Poll::Ready(next) = self.outbox.poll_next(&mut cx) {
                let crate::presence::subscription::outbox::Next::Text(text) = next else {
                    panic!("it stays open");
                };
                told.push(text.matches("\"identity\"").count());
            }
            told
        }
    }

    // B21, B22: the first change after a while is told at once, and those that follow it together at the next tick.
    #[test]
    fn who_was_told_nothing_for_a_while_is_told_at_once_and_others_at_the_tick() {
        let world = World::watched_as(Form::Socket);
        world.account.flush();
        world.account.flush();
        world.change("a", Status::Busy);
        world.account.flush_soon();
        assert_eq!(world.told(), [1]);
        for identity in ["a", "b", "c"] {
            world.change(identity, Status::Away);
            world.account.flush_soon();
        }
        assert!(world.told().is_empty(), "it was told something just now");
        world.account.flush();
        assert_eq!(world.told(), [3]);
        // Between two ticks anything may have been told: only after the second one it is certain that a while has passed.
        world.account.flush();
        world.change("a", Status::Busy);
        world.account.flush_soon();
        assert!(world.told().is_empty());
        world.account.flush();
        assert_eq!(world.told(), [1]);
        world.account.flush();
        world.account.flush();
        world.change("a", Status::Away);
        world.account.flush_soon();
        assert_eq!(world.told(), [1]);
    }

    // A webhook is asked for its server's time with each batch.
    #[test]
    fn a_webhook_is_told_at_ticks_only() {
        let world = World::watched_as(Form::Webhook);
        world.account.flush();
        world.account.flush();
        world.change("a", Status::Busy);
        world.account.flush_soon();
        assert!(world.told().is_empty());
        world.account.flush();
        assert_eq!(world.told(), [1]);
    }
}
