//! Places above the maximum for those who wait, while requests that hold places are near completion.
//!
//! Of what is in flight, those whose work is nearly done are told apart by whoever sees the evidence
//! ([`Permit::nears_completion`]); a limit with `early` then lends as many places above its maximum, up to that number, and only to
//! requests that are served from a line. So what is in flight after such a grant is at most the maximum and what is near completion, and never more
//! than the maximum and `early`, however wrong the evidence is. Evidence may be taken back at any moment, as those near completion
//! end: it is looked at again once all places are taken, and what it no longer carries is given back before anybody is admitted.
//! Never lends a place of a closed limit, or one to a request that needs more than the maximum.

use std::sync::Arc;

use smallvec::SmallVec;

use super::acquire::{Full, Terms};
use super::cell::Cell;
use super::hold::Scope;
use super::limit::{Limit, LimitSettings, Mode};
use super::permit::{Awaited, Permit, serve};
use super::policy::Policy;
use super::sync::Ordering::Relaxed;
use super::tally::{Counted, Mark};

/// What a limit lent above its maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EarlyUse {
    /// Requests that were served so.
    pub grants: u64,
    /// The most places above the maximum that were ever in use after one of them.
    pub overshoot_max: u32,
}

impl LimitSettings {
    /// Places above the maximum for those who wait; none where time gives places back, for nobody holds them.
    pub(super) fn early(&self) -> u32 {
        if self.mode == Mode::Enforce && self.counted == Counted::InFlight {
            self.ladder.early()
        } else {
            0
        }
    }
}

impl Limit {
    /// Places above `max` that one who waits may use now.
    pub(super) fn lent(&self, max: u32, cost: u32, cell: &Cell) -> u32 {
        let early = self.settings.early();
        if early == 0 || cost > max {
            return 0;
        }
        // Relaxed, here and below: every change of it is followed by one of the cell's word, and read after one, which order it.
        cell.note.load(Relaxed).min(early)
    }

    pub(super) fn early_use(&self) -> Option<EarlyUse> {
        let scope = &self.real.scope;
        let seen = EarlyUse {
            grants: scope.early_grants.load(Relaxed),
            overshoot_max: scope.overshoot_max.load(Relaxed),
        };
        (self.settings.early() > 0 || seen.grants > 0).then_some(seen)
    }
}

impl Scope {
    /// Whether it is to be known which of its requests are near completion.
    pub(super) fn heed_completion(&self, is_heeded: bool) {
        self.is_early.store(is_heeded, Relaxed);
    }

    fn note_early(&self, overshoot: u32) {
        self.early_grants.fetch_add(1, Relaxed);
        self.overshoot_max.fetch_max(overshoot, Relaxed);
    }
}

impl Terms<'_> {
    /// Looks once more, with all places taken, whether what was lent is still carried by requests near completion; if not,
    /// the places are given back. While the room is locked nobody else is lent a place, and newcomers get none above the maximum: so
    /// what is above it can only have fallen since it was counted, and the evidence is read after that.
    pub(super) fn confirm(&self, policy: &Policy, permit: &mut Permit) -> Result<(), Full> {
        let (Some(ask), Some(newest), Some(_)) = (self.ask, self.newest, self.served) else {
            return Ok(());
        };
        let mut above = SmallVec::<[(Arc<Scope>, u32); 2]>::new();
        let lending = permit.cells.iter();
        for cell in lending.filter(|cell| cell.scope.is_early.load(Relaxed)) {
            let limit = newest.by_scope(cell.scope.id);
            let Some(limit) = limit.filter(|limit| limit.settings.early() > 0) else {
                continue;
            };
            let max = newest.max_of_ask(limit, ask, Some(cell));
            let (in_flight, _) = cell.count.settled();
            let overshoot = in_flight.saturating_sub(max);
            if overshoot > limit.lent(max, permit.cost, cell) {
                let mut full = policy.full(Arc::clone(cell), max, in_flight - permit.cost);
                full.awaited = permit.give_back(true);
                return Err(full);
            }
            if overshoot > 0 {
                above.push((Arc::clone(&cell.scope), overshoot));
            }
        }
        for (scope, overshoot) in above {
            scope.note_early(overshoot);
        }
        Ok(())
    }
}

impl Policy {
    fn full(&self, cell: Arc<Cell>, max: u32, in_flight: u32) -> Full {
        let limits = (0..).zip(&self.limits);
        let found = limits.filter(|(_, limit)| limit.real.scope.id == cell.scope.id);
        Full {
            index: found.map(|(index, _)| index).next().unwrap_or_default(),
            max,
            in_flight,
            cell: Some(cell),
            free_in: None,
            awaited: Awaited::new(),
        }
    }
}

impl Permit {
    /// The work is nearly done, by what its owner knows: those who wait may have as many places early. Once; what is told again
    /// changes nothing.
    pub fn nears_completion(&mut self) {
        if self.marks.iter().any(|(_, mark)| *mark == Mark::Near) {
            return;
        }
        for cell in &self.cells {
            if !cell.scope.is_early.load(Relaxed) {
                continue;
            }
            cell.note.fetch_add(self.cost, Relaxed);
            self.marks.push((Arc::clone(cell), Mark::Near));
            // Whoever begins to wait after this look sees the evidence, for both change the same word.
            if cell.count.settled().1 {
                serve(Arc::clone(cell), None, None);
            }
        }
    }

    /// Takes back what was said of completion, because the work goes on.
    pub(super) fn retract_completion(&mut self) {
        let cost = self.cost;
        self.marks.retain(|(cell, mark)| {
            let is_near = *mark == Mark::Near;
            if is_near {
                cell.retract_completion(cost);
            }
            !is_near
        });
    }
}

impl Cell {
    pub(super) fn retract_completion(&self, cost: u32) {
        let before = self.note.fetch_sub(cost, Relaxed);
        debug_assert!(before >= cost, "evidence was taken back twice");
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use loom::thread;

    use crate::admission::Decision;
    use crate::admission::serve::loom_tests::{World, is_served, model};

    // A16: whoever begins to wait as another comes near completion is served, and neither waits for the other.
    #[test]
    fn one_who_begins_to_wait_as_another_nears_completion_is_served() {
        model(|| {
            let world = World::with_early(1);
            let mut permit = world.admit();
            let holder = thread::spawn(move || {
                permit.nears_completion();
                permit
            });
            let Decision::Wait(mut wait) = world.ask() else {
                panic!("the place is taken");
            };
            let permit = holder.join().unwrap();
            let early = is_served(&mut wait).expect("the evidence is there and nobody told it");
            drop((permit, early));
            world.assert_empty();
        });
    }

    // A16: evidence that goes as it is used lends no second place: the place of the one that ended is used already.
    #[test]
    fn evidence_that_ends_meanwhile_carries_no_other_place() {
        model(|| {
            let world = World::with_early(1);
            let mut permit = world.admit();
            permit.nears_completion();
            let early = is_served(&mut world.wait()).expect("it is lent a place");
            let holder = thread::spawn(move || drop(permit));
            let mut wait = world.wait();
            holder.join().unwrap();
            assert!(is_served(&mut wait).is_none(), "two in flight, none near");
            drop(early);
            drop(is_served(&mut wait).expect("the place is free"));
            world.assert_empty();
        });
    }
}
