//! Maxima that move by themselves: with the healthy endpoints of an upstream, or with what a key used of late.
//!
//! A cell never knows its maximum, so one that moves needs no more than a number that is read at the decision. What changes
//! the numbers runs beside the requests; whoever waits for a place of a maximum that has risen is served at once. State
//! lives through reloads while the rule is the same. Never on a request's path but for one relaxed load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::cell::Cell;
use super::class::UpstreamId;
use super::policy::{Limit, Policy};
use super::registry::Registry;

/// How a maximum moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moves {
    /// So many places for each healthy endpoint of an upstream, of which one at least is counted.
    PerEndpoint {
        /// Places for each.
        each: u32,
        /// Whose endpoints.
        of: UpstreamId,
    },
    /// A multiple of the most that a key held in the last finished interval.
    Follow(Follow),
}

/// The rule of a maximum that follows what was used of late.
///
/// A key may hold `headroom_percent` of the most that it held in the last finished interval of six seconds, at least `floor` and at
/// most `ceiling`. So a key's use may grow by that factor an interval, and a burst out of nothing meets the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follow {
    /// Never less.
    pub floor: u32,
    /// Never more.
    pub ceiling: u32,
    /// Percent of what was used.
    pub headroom_percent: u32,
}

impl Follow {
    /// Places of a key that held `peak` at most.
    #[must_use]
    pub fn max(&self, peak: u32) -> u32 {
        let wanted = (u64::from(peak) * u64::from(self.headroom_percent)).div_ceil(100);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        wanted.max(self.floor).min(self.ceiling)
    }
}

/// A maximum at work.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) rule: Moves,
    current: AtomicU32,
}

impl Moving {
    /// The maximum of a limit that moves by `rule` and begins at `start`.
    pub(super) fn new(rule: &Moves, start: u32) -> Arc<Self> {
        Arc::new(Self {
            rule: rule.clone(),
            current: AtomicU32::new(start),
        })
    }

    /// Places of a key, whose cell there may be.
    pub(super) fn max(&self, cell: Option<&Cell>) -> u32 {
        match &self.rule {
            Moves::Follow(follow) => follow.max(cell.map_or(0, |cell| cell.count.last_peak())),
            // Relaxed: a decision by the number of a moment ago is as good.
            Moves::PerEndpoint { .. } => self.current.load(Ordering::Relaxed),
        }
    }

    /// Puts a number in force; true if it has risen.
    fn set(&self, max: u32) -> bool {
        self.current.swap(max, Ordering::Relaxed) < max
    }
}

impl Policy {
    /// Has limits that count places by endpoint follow the endpoints that are healthy now; gives the limits that have risen.
    pub fn follow_endpoints(&self, healthy: impl Fn(UpstreamId) -> usize) -> Vec<&Limit> {
        let risen = self.every_limit().filter(|limit| {
            let Some(moving) = &limit.moving else {
                return false;
            };
            let Moves::PerEndpoint { each, of } = &moving.rule else {
                return false;
            };
            let count = u32::try_from(healthy(*of)).unwrap_or(u32::MAX).max(1);
            moving.set(each.saturating_mul(count))
        });
        risen.collect()
    }
}

impl Registry {
    /// Takes note of the time for those who wait.
    pub(super) fn note_time(&self, now: Option<Instant>) {
        if let Some(now) = now {
            self.room.lock().note_time(now);
        }
    }

    /// The cells of a limit for which somebody waits.
    pub(super) fn lines_of(&self, scope: u64) -> Vec<Arc<Cell>> {
        let state = self.room.lock();
        let cells = state.lines.values().map(|line| &line.cell);
        let of_limit = cells.filter(|cell| cell.scope.id == scope);
        of_limit.map(Arc::clone).collect()
    }

    /// Serves those who wait for a limit whose maximum has risen.
    pub fn serve_risen<'a>(&self, limits: impl IntoIterator<Item = &'a Limit>) {
        for limit in limits {
            let cells = self.lines_of(limit.real.scope.id);
            cells.into_iter().for_each(|cell| self.serve(cell, None));
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    // A13: within floor and ceiling, by the stated rule.
    #[test]
    fn what_was_used_of_late_sets_the_maximum_within_floor_and_ceiling() {
        let follow = Follow {
            floor: 5,
            ceiling: 50,
            headroom_percent: 150,
        };
        assert_eq!(follow.max(0), 5);
        assert_eq!(follow.max(7), 11);
        assert_eq!(follow.max(40), 50);
        assert_eq!(follow.max(u32::MAX), 50);
    }
}
