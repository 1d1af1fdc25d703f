//! Cells that count more than what is in flight: taking, giving back, and what time gives back by itself.
//!
//! The cell's word still says what is in flight, who waits, and whether the cell is gone; its tally decides what fits. The two
//! are not one atomic step: a taker that the tally refuses has stood in the word for a moment, and may have been in the way of
//! one who waits. So whatever is undone here says whether somebody waits, and whoever undoes it serves him. Never lets anybody
//! but the one whose turn it is take a place that is waited for.

use std::time::{Duration, Instant};

use super::cell::{Cell, Take};
use super::sync::Ordering;
use super::tally::{Mark, Tally};

/// When to look again where a place was free and then was not: whoever took it will be through with it.
const AGAIN: Duration = Duration::from_millis(1);

impl Cell {
    /// Places taken at that instant, of `max`.
    #[inline]
    pub(super) fn in_use(&self, max: u32, now: Instant) -> u32 {
        let in_flight = self.count.in_flight();
        match &self.tally {
            None => in_flight,
            Some(tally) => {
                self.pass(now);
                let in_flight = self.count.in_flight();
                in_flight.saturating_add(tally.used(max, now))
            }
        }
    }

    /// Takes places in a cell that has a tally; gives what the permit is to remember.
    pub(super) fn take_tallied(
        &self,
        tally: &Tally,
        cost: u32,
        max: u32,
        is_in_turn: bool,
        now: Instant,
    ) -> Result<(Option<Mark>, u32), Take> {
        self.used.store(true, Ordering::Relaxed);
        if tally.counts_starts() {
            // A place of one is held meanwhile, so that the cell cannot be removed with what is about to be noted.
            self.stand(1, is_in_turn)?;
            let mark = tally.start(cost, max, now);
            self.count.give(1);
            let used = tally.used(max, now);
            return mark.map(|mark| (Some(mark), used)).ok_or(Take::Full(used));
        }
        if tally.counts_started() {
            self.stand(cost, is_in_turn)?;
            let (mark, gone) = tally.begin(cost, max, now);
            self.count.give(gone);
            return match mark {
                Ok(mark) => Ok((Some(mark), self.count.in_flight())),
                Err(used) => {
                    self.count.give(cost);
                    Err(Take::Full(used))
                }
            };
        }
        let completed = tally.used(max, now);
        let left = max.saturating_sub(completed);
        match self.count.take(cost, left, is_in_turn) {
            Take::Taken(in_flight) => Ok((None, in_flight + completed)),
            Take::Full(in_flight) => Err(Take::Full(in_flight + completed)),
            Take::Dead => Err(Take::Dead),
        }
    }

    /// Takes places in the word alone.
    fn stand(&self, cost: u32, is_in_turn: bool) -> Result<(), Take> {
        match self.count.take(cost, u32::MAX, is_in_turn) {
            Take::Taken(_) => Ok(()),
            stopped => Err(stopped),
        }
    }

    /// Gives back what a permit remembers: because it is over, or, with `is_undone`, because it never began. True if somebody waits
    /// for what came free.
    pub(super) fn give_mark(&self, mark: Mark, cost: u32, is_undone: bool) -> bool {
        match (mark, &self.tally) {
            (Mark::Pace(amount), Some(tally)) if is_undone => {
                tally.unstart(amount);
                self.is_awaited()
            }
            (Mark::Slot(slot), Some(tally)) => self.count.give(tally.end(slot, cost)),
            (Mark::Near, _) => {
                self.retract_completion(cost);
                false
            }
            _ => false,
        }
    }

    /// Whether somebody waits for what was given back a moment ago: whoever begins to wait after this sees it given back.
    pub(super) fn is_awaited(&self) -> bool {
        self.count.settled().1
    }

    /// From when so many more places fit, if nothing but time gives any back; `None` if time alone does not do it, or nothing is
    /// ever given back by time. Later than `now`: what fits already was in somebody's way for a moment only.
    pub(super) fn fits_at(&self, cost: u32, max: u32, now: Instant) -> Option<Instant> {
        let in_flight = self.count.in_flight();
        let at = self.tally.as_ref()?.fits_at(cost, max, in_flight, now)?;
        Some(if at > now { at } else { now + AGAIN })
    }

    /// When to look again at a place that somebody took at the very moment.
    pub(super) fn looks_again(&self, now: Instant) -> Option<Instant> {
        self.tally.as_ref().map(|_| now + AGAIN)
    }

    /// Lets time give places back. Nobody is told: whoever waits for them has an instant of his own for it.
    fn pass(&self, now: Instant) {
        if let Some(tally) = &self.tally {
            self.count.give(tally.pass(now));
        }
    }

    /// Marks an unused cell as removed; false when somebody is in it, or it remembers something.
    pub(super) fn kill(&self, now: Instant) -> bool {
        self.pass(now);
        if !self.count.kill() {
            return false;
        }
        let is_forgettable = self.tally.as_ref().is_none_or(|tally| tally.is_empty(now));
        if !is_forgettable {
            self.count.revive();
        }
        is_forgettable
    }
}
