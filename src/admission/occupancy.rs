//! What each account holds of a key that several share.
//!
//! Fairness goes by it, so it is counted only where requests may wait for such a key, in cells without a maximum. Never refuses
//! anybody.

use std::sync::Arc;

use super::cell::Cell;
use super::class::Class;
use super::key::{Dimension, Lookup};
use super::limit::{Counting, Limit, LimitSettings, Mode};
use super::policy::Policy;
use super::sync::Ordering::Relaxed;
use super::tally::Counted;

/// Counts without a maximum, by key and account.
#[derive(Debug, Clone)]
pub(super) struct Occupancy {
    pub(super) counting: Counting,
    pub(super) dimensions: Arc<[Dimension]>,
}

impl Occupancy {
    pub(super) fn of(settings: &LimitSettings, previous: Option<&Limit>) -> Option<Self> {
        let is_shared = !settings.per.contains(&Dimension::Account);
        if !(settings.mode == Mode::Enforce && settings.ladder.queues() && is_shared) {
            return None;
        }
        let known = previous.and_then(|previous| previous.occupancy.clone());
        Some(known.unwrap_or_else(|| {
            let dimensions: Vec<_> = settings
                .per
                .iter()
                .copied()
                .chain([Dimension::Account])
                .collect();
            Self {
                counting: Counting::new(&dimensions, Counted::InFlight),
                dimensions: dimensions.into(),
            }
        }))
    }
}

impl Cell {
    /// Notes when the account was served of those that waited: a position in the order of arrivals, of which the low half is kept.
    pub(super) fn note_served(&self, at: u64) {
        self.note.store(at as u32, Relaxed);
    }

    /// When it was last served, if that is known; `now` is a later position, by fewer than 2^32.
    pub(super) fn last_served(&self, now: u64) -> Option<u64> {
        let low = self.note.load(Relaxed);
        let ago = (now as u32).wrapping_sub(low);
        (low != 0).then(|| now.saturating_sub(u64::from(ago)))
    }
}

impl Policy {
    /// The key by which an account's part of a shared key is found.
    pub(super) fn occupancy_lookup<'a>(
        &'a self,
        occupancy: &'a Occupancy,
        class: &'a Class,
    ) -> Lookup<'a> {
        Lookup {
            scope: occupancy.counting.scope.id,
            dimensions: &occupancy.dimensions,
            class,
            labels: &self.labels,
        }
    }
}
