//! Limits that come or go while requests wait: all who wait ask anew, and nobody overtakes them meanwhile.
//!
//! Only its owner can classify a request by the new rules, so everybody who waits is told, comes back, and stands in the *hall*.
//! There stands too who comes in the meantime and might have to wait. When the last has come back, or has left, all are asked
//! for in the order of their arrival, as if they came just then; only after that is anybody served. A newcomer that took its
//! places before it could see this gives them back: the hall is opened before the first waiter leaves its line, and a place that a
//! waiter had a claim on is taken after that. So all are held up until each task that was told has run once: some microseconds a
//! waiter. Costs a request nothing but a look at a flag.

use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::Decision;
use super::acquire::{Full, Terms, tell};
use super::ask::Ask;
use super::class::Class;
use super::ladder::Step;
use super::permit::Permit;
use super::policy::Policy;
use super::registry::Registry;
use super::serve::GRANTS_MAX;
use super::sync::{AtomicBool, Ordering};
use super::waiting::{After, Stage, State, Turn, Wait};

/// How long one waits in the hall whom no limit lets wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the hall is open. On cache lines of its own: every request reads it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Renewing(AtomicBool);

/// One that was told to ask anew and has not come back.
#[derive(Debug)]
pub(super) struct Renewal(Weak<Registry>);

impl Drop for Renewal {
    fn drop(&mut self) {
        if let Some(registry) = self.0.upgrade() {
            registry.come_back();
        }
    }
}

impl Registry {
    /// Whether some are on their way from one generation to the next.
    #[inline]
    pub(super) fn is_renewing(&self) -> bool {
        // Relaxed: it is set before a waiter leaves its cell, whose word orders it for whoever takes a place there after that. With the
        // room locked it is exact.
        self.renewing.0.load(Ordering::Relaxed)
    }

    /// Puts a policy in force for those who wait: a raised maximum is served at once; where limits have come or gone, all ask
    /// anew.
    pub fn apply(&self, policy: &Arc<Policy>) {
        self.apply_with(policy, || {});
    }

    /// The same; `publish` makes the policy known to those who ask, once nobody who asks by it overtakes those who wait.
    pub fn apply_with(&self, policy: &Arc<Policy>, publish: impl FnOnce()) {
        let mut state = self.room.lock();
        let previous = state.policy.replace(Arc::clone(policy));
        if previous.is_none_or(|previous| policy.has_same_shape(&previous)) {
            drop(state);
            publish();
            self.serve_all_lines();
            return;
        }
        self.renewing.0.store(true, Ordering::Relaxed);
        let all_are_told = self.renewal(&mut state);
        drop(state);
        publish();
        self.end_all(
            |ask| !Arc::ptr_eq(&ask.policy, policy),
            |state, mut ask, _| {
                ask.renewal = Some(self.renewal(state));
                Turn::Renew(ask)
            },
        );
        drop(all_are_told);
    }

    fn renewal(&self, state: &mut State) -> Renewal {
        state.renewing += 1;
        Renewal(Weak::clone(&self.this))
    }

    /// A newcomer that may have to wait stands behind those who are on their way, whatever it was given; nothing of it is left.
    pub(super) fn stand_behind(
        &self,
        taken: Result<Permit, Full>,
        ask: Box<Ask>,
        now: Instant,
    ) -> Decision {
        let awaited = match taken {
            Ok(mut permit) => permit.give_back(true),
            Err(full) => full.awaited,
        };
        awaited.into_iter().for_each(|cell| self.serve(cell, None));
        self.stand_in_hall(ask, now)
    }

    /// Whether one that asks again, because its wait has ended or came to nothing, is not to get ahead of those who are on their way. One
    /// whose time is over goes on as it would without them.
    pub(super) fn is_to_stand_behind(&self, ask: &Ask, now: Instant) -> bool {
        self.is_renewing()
            && ask.queue_deadline.is_none_or(|deadline| deadline > now)
            && ask.policy.patience(&ask.class).is_some()
    }

    /// Waits in the hall; once it is closed, asks at once.
    pub(super) fn stand_in_hall(&self, mut ask: Box<Ask>, now: Instant) -> Decision {
        let renewal = ask.renewal.take();
        let Some(registry) = self.this.upgrade() else {
            return self.resume(ask, now);
        };
        let mut state = self.room.lock();
        if !self.is_renewing() {
            drop(state);
            return self.resume(ask, now);
        }
        let patience = ask.policy.patience(&ask.class).unwrap_or(PATIENCE);
        let deadline = *ask.queue_deadline.get_or_insert(now + patience);
        let deadline = ask.client_deadline.map_or(deadline, |at| at.min(deadline));
        let ticket = state.admit(Stage::Nowhere);
        let serial = *ask.serial.get_or_insert(ticket.number);
        state.hall.insert(serial, ticket.key);
        state.waiters[ticket.key].stage = Stage::InHall(ask, serial);
        state.len += 1;
        drop(state);
        // After it stands there: with the last one all are asked for.
        drop(renewal);
        let mut wait = Wait::new(registry, ticket, deadline);
        match wait.decided() {
            Some(Turn::Admit(permit)) => Decision::Admit(permit),
            Some(Turn::Reject(rejection)) => Decision::Reject(rejection),
            Some(Turn::Resume(ask) | Turn::Renew(ask)) => self.resume(ask, now),
            None => Decision::Wait(wait),
        }
    }

    /// One has come back, or has left. After the last one all who stand in the hall are asked for, and then every line is served.
    fn come_back(&self) {
        let mut state = self.room.lock();
        state.renewing -= 1;
        while state.renewing == 0 {
            let mut after = After::default();
            for _ in 0..GRANTS_MAX {
                if let Some((_, key)) = state.hall.pop_first() {
                    self.call_in(&mut state, key, &mut after);
                }
            }
            let is_empty = state.hall.is_empty();
            self.renewing.0.store(!is_empty, Ordering::Relaxed);
            drop(state);
            after.wakers.into_iter().for_each(Waker::wake);
            if is_empty {
                self.serve_all_lines();
                return;
            }
            state = self.room.lock();
        }
    }

    /// Asks for one who stood in the hall: it gets its places, or goes where it is stopped.
    fn call_in(&self, state: &mut State, key: usize, after: &mut After) {
        let waiter = &mut state.waiters[key];
        let Stage::InHall(ask, _) = std::mem::replace(&mut waiter.stage, Stage::Nowhere) else {
            unreachable!("who stands in the hall is in its order");
        };
        state.len -= 1;
        let newest = state.policy.clone();
        let is_current = newest.as_ref().is_none_or(|newest| {
            Arc::ptr_eq(newest, &ask.policy) || newest.has_same_shape(&ask.policy)
        });
        if !is_current {
            // It came by the old rules after all others were told.
            state.end(key, Turn::Renew(ask), after);
            return;
        }
        let terms = Terms {
            ask: Some(&ask),
            newest: newest.as_deref(),
            ..Terms::default()
        };
        match self.try_take(&ask.policy, &ask.class, terms, state.time(ask.arrived)) {
            Ok(mut permit) => {
                permit.story = tell(ask, permit.story.take());
                state.end(key, Turn::Admit(permit), after);
            }
            Err(full) => self.move_on(state, key, ask, full, after),
        }
    }

    fn serve_all_lines(&self) {
        let state = self.room.lock();
        let lines = state.lines.values();
        let cells: Vec<_> = lines.map(|line| Arc::clone(&line.cell)).collect();
        drop(state);
        cells.into_iter().for_each(|cell| self.serve(cell, None));
    }
}

impl Policy {
    /// How long the first of its limits that lets a class wait does so; `None` if none does.
    pub(super) fn patience(&self, class: &Class) -> Option<Duration> {
        let limits = self.plan(class).enforced.iter();
        let steps = limits.flat_map(|&at| self.limits[usize::from(at)].settings.ladder.steps());
        steps
            .filter_map(|step| match step {
                Step::Queue(queue) => Some(queue.timeout),
                _ => None,
            })
            .next()
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use std::sync::Arc;
    use std::task::Poll;

    use loom::thread;

    use crate::admission::serve::loom_tests::{World, is_served, look, model};
    use crate::admission::{Decision, Turn};

    // A11, G2: whoever asks as the limits change and a place comes free does not get ahead of one who waits.
    #[test]
    fn nobody_overtakes_one_who_is_to_ask_anew() {
        model(|| {
            let world = Arc::new(World::new());
            let permit = world.admit();
            let mut wait = world.wait();
            let operator = {
                let world = Arc::clone(&world);
                thread::spawn(move || world.change())
            };
            drop(permit);
            let Decision::Wait(mut newcomer) = world.ask() else {
                panic!("it got ahead");
            };
            let policy = operator.join().unwrap();
            let back = |ask| match world.come_back(ask, &policy) {
                Decision::Admit(permit) => Some(permit),
                Decision::Wait(mut wait) => is_served(&mut wait),
                Decision::Reject(rejection) => panic!("{rejection:?}"),
            };
            match look(&mut wait) {
                // It was served before the limits changed.
                Poll::Ready(Turn::Admit(permit)) => drop(permit),
                Poll::Ready(Turn::Renew(ask)) => {
                    // The newcomer comes back first, if it was told; still the other is the first to get a place.
                    let mut last = None;
                    if let Poll::Ready(turn) = look(&mut newcomer) {
                        let Turn::Renew(ask) = turn else {
                            panic!("it got ahead: {turn:?}");
                        };
                        match world.come_back(ask, &policy) {
                            Decision::Wait(wait) => last = Some(wait),
                            other => panic!("it got ahead: {other:?}"),
                        }
                    }
                    assert!(back(ask).is_some(), "it is the first");
                    drop(last);
                }
                other => panic!("{other:?}"),
            }
        });
    }
}
