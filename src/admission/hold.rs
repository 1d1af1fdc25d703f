//! A limit's identity through reloads, and how long its permits are held.
//!
//! A scope is kept by every generation in which the limit is the same; its cells carry it. The mean hold time
//! gives the drain rate that an honest Retry-After is made of (reference: `Retry-After` from `L / h`). It is a
//! moving average over sampled permits: good to a few percent, which whole seconds do not show. Never per key.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};

use super::registry::Registry;
use super::tally::Counted;

/// One of this many finished permits is sampled once there is an estimate: a shared line a request is too dear.
const SAMPLED: u32 = 8;
/// Weight of a new sample: the last 16 or so matter.
const WEIGHT: f64 = 1.0 / 16.0;

/// What stays when a limit's numbers change: an id for its keys, its hold times and its shadow's verdicts.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) id: u64,
    /// What its cells count.
    pub(super) counted: Counted,
    pub(super) mean_hold: MeanHold,
    /// Refusals in its name.
    pub(super) refusals: Refusals,
    /// In shadow mode: how many it would have admitted, and how many refused.
    pub(super) would_admit: AtomicU64,
    pub(super) would_reject: AtomicU64,
    /// Whether leases keep their places here; else they return with the response's last byte.
    pub(super) counts_leases: AtomicBool,
    /// Whether a request near completion is to be noted here, as others may then be served early.
    pub(super) is_early: AtomicBool,
    /// How many were, and the most places above the maximum that they ever made.
    pub(super) early_grants: AtomicU64,
    pub(super) overshoot_max: AtomicU32,
    /// Requests that sleep in a `slow` step of this limit.
    pub(super) slowed: AtomicU32,
    /// Who serves those that wait for its cells; set before the first one waits.
    pub(super) registry: OnceLock<Weak<Registry>>,
}

impl Scope {
    pub(super) fn new(counted: Counted) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            counted,
            mean_hold: MeanHold::default(),
            refusals: Refusals::default(),
            would_admit: AtomicU64::new(0),
            would_reject: AtomicU64::new(0),
            counts_leases: AtomicBool::new(true),
            is_early: AtomicBool::new(false),
            early_grants: AtomicU64::new(0),
            overshoot_max: AtomicU32::new(0),
            slowed: AtomicU32::new(0),
            registry: OnceLock::new(),
        }
    }

    pub(super) fn mean_hold_seconds(&self) -> f64 {
        self.mean_hold.seconds()
    }
}

/// A mean hold time.
#[derive(Debug, Default)]
pub(super) struct MeanHold {
    /// Seconds as bits of an `f64`; zero before the first sample.
    bits: AtomicU64,
}

impl MeanHold {
    /// Learns from a finished permit. Simultaneous samples may overwrite each other.
    pub(super) fn learn(&self, held_seconds: f64) {
        let mean = self.seconds();
        if mean > 0.0 && fastrand::u32(..SAMPLED) != 0 {
            return;
        }
        let learned = if mean > 0.0 {
            mean + (held_seconds - mean) * WEIGHT
        } else {
            held_seconds
        };
        self.bits.store(learned.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn seconds(&self) -> f64 {
        f64::from_bits(self.bits.load(Ordering::Relaxed))
    }

    /// Goes on where another has come to.
    pub(super) fn carry_on(&self, other: &Self) {
        self.bits
            .store(other.bits.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Refusals of a limit. On cache lines of their own: what every request reads of a scope is not to move when one is refused.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Refusals {
    pub(super) count: AtomicU64,
    /// The places that they would have taken.
    pub(super) places: AtomicU64,
    /// How many places that is a second, of late.
    pub(super) places_rate: Rate,
    /// When the limit was met last, for [`Episodes`](super::Episodes).
    pub(super) met: AtomicU64,
}

impl Refusals {
    /// Notes one, of a request of that cost.
    pub(super) fn note(&self, cost: u32) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.places.fetch_add(u64::from(cost), Ordering::Relaxed);
    }
}

/// How much of something comes a second, of late: a moving average over some ten seconds, moved about once a second.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// The count at the last move.
    last: AtomicU64,
    /// Times a second as bits of an `f64`.
    bits: AtomicU64,
}

impl Rate {
    /// Seconds after which what was before weighs a third.
    const SPAN_SECONDS: f64 = 10.0;

    /// Takes note of the count so many seconds later.
    pub(super) fn turn(&self, count: u64, seconds: f64) {
        if seconds <= 0.0 {
            return;
        }
        let came = count.saturating_sub(self.last.swap(count, Ordering::Relaxed));
        let came = f64::from(u32::try_from(came).unwrap_or(u32::MAX)) / seconds;
        let mean = self.per_second();
        let weight = 1.0 - (-seconds / Self::SPAN_SECONDS).exp();
        let moved = mean + (came - mean) * weight;
        self.bits.store(moved.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn per_second(&self) -> f64 {
        f64::from_bits(self.bits.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // G24: what is refused a second is known within some seconds, and forgotten as fast.
    #[test]
    fn a_rate_follows_the_last_ten_seconds_or_so() {
        let rate = Rate::default();
        for second in 1..=60 {
            rate.turn(second * 200, 1.0);
        }
        assert!(
            (rate.per_second() - 200.0).abs() < 2.0,
            "{}",
            rate.per_second()
        );
        // However late it is called.
        for round in 1..=30 {
            rate.turn(12_000 + round * 400, 2.0);
        }
        assert!(
            (rate.per_second() - 200.0).abs() < 2.0,
            "{}",
            rate.per_second()
        );
        for _ in 0..60 {
            rate.turn(24_000, 1.0);
        }
        assert!(rate.per_second() < 2.0, "{}", rate.per_second());
    }

    // G9: the drain rate follows what permits really take.
    #[test]
    fn the_mean_hold_time_converges_to_what_is_seen() {
        let mean = MeanHold::default();
        mean.learn(9.0);
        for _ in 0..2_000 {
            mean.learn(0.5);
        }
        assert!((mean.seconds() - 0.5).abs() < 0.05, "{}", mean.seconds());
    }
}
