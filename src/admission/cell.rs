//! The count of one key: one atomic word.
//!
//! A cell does not know its maximum; the number comes from the policy of the moment, so raising or lowering is
//! right by construction. Taking is by compare-exchange, never add-then-undo: N+1 are never counted, not even for
//! an instant. Who waits for a place stands in the same word, so that a release and a newcomer learn of him by what they do
//! anyway. A removed cell is marked dead, and nobody counts in it again. Never blocks, never looks at time.

use std::sync::Arc;

use super::class::AccountName;
use super::hold::Scope;
use super::key::Key;
use super::sync::{AtomicU32, AtomicU64, Ordering};
use super::tally::Tally;

/// In flight: the low 32 bits.
const IN_FLIGHT: u64 = 0xFFFF_FFFF;
/// One waiter; they are counted in bits 32 to 62, so that one load sees both.
const WAITER: u64 = 1 << 32;
/// Set once, from an empty word only; a dead cell is out of the registry or on its way out.
const DEAD: u64 = 1 << 63;

/// What became of an attempt to take places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// Taken; so many are in flight now, these included.
    Taken(u32),
    /// It does not fit; so many are in flight.
    Full(u32),
    /// The cell was removed: look the key up again.
    Dead,
}

/// The lock-free part of a cell.
#[derive(Debug)]
pub(super) struct Count {
    word: AtomicU64,
    /// Highest number in flight in this interval (low half) and in the last one (high half).
    peak: AtomicU64,
}

impl Count {
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        }
    }

    /// Takes `cost` places if they fit under `max`, and if nobody waits for them or it is the taker's turn.
    pub(super) fn take(&self, cost: u32, max: u32, is_in_turn: bool) -> Take {
        // Relaxed: the compare-exchange below decides; this is only a guess of what it will find.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & DEAD != 0 {
                return Take::Dead;
            }
            let in_flight = (word & IN_FLIGHT) as u32;
            let Some(taken) = in_flight.checked_add(cost).filter(|&taken| taken <= max) else {
                return Take::Full(in_flight);
            };
            if word >= WAITER && !is_in_turn {
                return Take::Full(in_flight);
            }
            // Acquire pairs with the release in `give`: what the last holder did is done before this one starts.
            match self.word.compare_exchange_weak(
                word,
                word + u64::from(cost),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    self.note_peak(taken);
                    return Take::Taken(taken);
                }
                Err(found) => word = found,
            }
        }
    }

    /// Gives `cost` places back; true if somebody waits for them. The caller took them, so the count is at least that.
    pub(super) fn give(&self, cost: u32) -> bool {
        // Release pairs with the acquire in `take`.
        let before = self.word.fetch_sub(u64::from(cost), Ordering::Release);
        debug_assert!(
            (before & IN_FLIGHT) as u32 >= cost,
            "a place was given back twice"
        );
        before >= WAITER
    }

    /// Counts one who waits; false if the cell was removed.
    ///
    /// Whoever gives a place back after this sees it, for both change the same word: so a waiter that looks once more after
    /// this has either seen the place, or will be served it.
    pub(super) fn add_waiter(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & DEAD == 0 {
            // Acquire pairs with the release in `give`: the look that follows sees what was given back before.
            match self.word.compare_exchange_weak(
                word,
                word + WAITER,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(found) => word = found,
            }
        }
        false
    }

    /// Counts one less who waits.
    pub(super) fn remove_waiter(&self) {
        let before = self.word.fetch_sub(WAITER, Ordering::Release);
        debug_assert!(before >= WAITER, "a waiter left twice");
    }

    /// How many wait.
    #[inline]
    pub(super) fn waiting(&self) -> u32 {
        ((self.word.load(Ordering::Relaxed) & !DEAD) >> 32) as u32
    }

    /// Marks an unused cell as removed; false when somebody is in it.
    pub(super) fn kill(&self) -> bool {
        // AcqRel: the remover sees what the last holder did. A taker that meets the mark learns of the removal by
        // the shard's lock, under which this is called.
        self.word
            .compare_exchange(0, DEAD, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes the mark of removal back; under the shard's lock, as [`kill`](Self::kill).
    pub(super) fn revive(&self) {
        self.word.store(0, Ordering::Release);
    }

    /// Whether the cell was removed.
    #[inline]
    pub(super) fn is_dead(&self) -> bool {
        // Relaxed: the mark is set under the shard's lock, and who sees it takes that lock to look the key up again.
        self.word.load(Ordering::Relaxed) & DEAD != 0
    }

    /// Places taken and not given back.
    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        (self.word.load(Ordering::Relaxed) & IN_FLIGHT) as u32
    }

    /// Places taken, and whether somebody waits, after all that was done to the word before; what is done to it later sees what
    /// was done before this.
    pub(super) fn settled(&self) -> (u32, bool) {
        // A change that changes nothing: a load could be passed by those before it. Pairs with `give` and `add_waiter`.
        let word = self.word.fetch_or(0, Ordering::AcqRel);
        ((word & IN_FLIGHT) as u32, word & !DEAD >= WAITER)
    }

    /// Two simultaneous takes may lose one of their peaks to the other, by one: it is a figure for people.
    fn note_peak(&self, in_flight: u32) {
        let peak = self.peak.load(Ordering::Relaxed);
        if u64::from(in_flight) > peak & IN_FLIGHT {
            self.peak
                .store(peak & !IN_FLIGHT | u64::from(in_flight), Ordering::Relaxed);
        }
    }

    /// The most that was in flight in this interval, and in the last finished one.
    pub(super) fn peaks(&self) -> (u32, u32) {
        let peak = self.peak.load(Ordering::Relaxed);
        ((peak & IN_FLIGHT) as u32, (peak >> 32) as u32)
    }

    /// The most that was in flight in the last interval or in this one.
    pub(super) fn peak(&self) -> u32 {
        let (current, last) = self.peaks();
        current.max(last)
    }

    /// The most that was in flight in the last finished interval.
    pub(super) fn last_peak(&self) -> u32 {
        self.peaks().1
    }

    /// Begins the next interval.
    pub(super) fn turn_peak(&self) {
        let now = u64::from(self.in_flight());
        let ended = self.peak.load(Ordering::Relaxed) & IN_FLIGHT;
        self.peak.store(ended << 32 | now, Ordering::Relaxed);
    }
}

/// The count of one key, with what it belongs to.
///
/// With the reference counts before it in the same allocation it fills two cache lines, so that neighbours
/// seldom share one. Counts, reference counts and what a lookup compares share the first on purpose: `repr(C)` keeps
/// them there.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Cell {
    pub(super) count: Count,
    pub(super) hash: u64,
    pub(super) key: Key,
    pub(super) id: u64,
    pub(super) scope: Arc<Scope>,
    /// What it counts beside what is in flight.
    pub(super) tally: Option<Box<Tally>>,
    /// Whether the cell was used since the sweeper's last visit; a spared cell is not taken out at once.
    pub(super) used: std::sync::atomic::AtomicBool,
    /// Requests that its limit refused of late for want of a place here: halved with each interval of the peaks.
    pub(super) refused: std::sync::atomic::AtomicU16,
    /// Of a limit's own key: places of requests near completion, where places are lent on that (see `early`). Of what one account
    /// holds of such a key: when it was last served (see `occupancy`). No cell is both.
    pub(super) note: AtomicU32,
}

/// Two lines of 64 bytes, less the two reference counts of an `Arc`.
#[cfg(all(not(feature = "loom"), target_pointer_width = "64"))]
const _: () = assert!(size_of::<Cell>() == 128 - 16);

impl Cell {
    /// Whose it is, where its key begins with an account.
    pub(super) fn account(&self) -> Option<AccountName> {
        AccountName::new(self.key.values().next()?).ok()
    }

    /// Notes that a request was refused for want of a place here. Near the end of what can be counted some are lost, which matters to nobody
    /// who looks for the one that is refused most.
    pub(super) fn note_refusal(&self) {
        if self.refused.load(Ordering::Relaxed) < u16::MAX / 2 {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Begins the next interval of what is told of late.
    pub(super) fn turn(&self) {
        self.count.turn_peak();
        let refused = self.refused.load(Ordering::Relaxed);
        if refused > 0 {
            self.refused
                .fetch_sub(refused.div_ceil(2), Ordering::Relaxed);
        }
    }

    /// Takes places and notes that the cell is used.
    #[inline]
    pub(super) fn take(&self, cost: u32, max: u32, is_in_turn: bool) -> Take {
        let take = self.count.take(cost, max, is_in_turn);
        if matches!(take, Take::Taken(_)) && !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        take
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    // A1: the place above the maximum is never there.
    #[test]
    fn the_place_above_the_maximum_is_refused() {
        let count = Count::new();
        assert_eq!(count.take(2, 3, false), Take::Taken(2));
        assert_eq!(count.take(2, 3, false), Take::Full(2));
        assert_eq!(count.take(1, 3, false), Take::Taken(3));
        count.give(3);
        assert_eq!(count.in_flight(), 0);
    }

    #[test]
    fn a_maximum_of_zero_is_closed() {
        assert_eq!(Count::new().take(1, 0, false), Take::Full(0));
    }

    // A34: who comes while others wait takes nothing, although a place is free.
    #[test]
    fn a_newcomer_does_not_overtake_those_who_wait() {
        let count = Count::new();
        assert_eq!(count.take(1, 2, false), Take::Taken(1));
        assert!(count.add_waiter());
        assert_eq!(count.take(1, 2, false), Take::Full(1));
        assert_eq!(count.take(1, 2, true), Take::Taken(2));
        count.remove_waiter();
        assert!(!count.give(1));
        assert_eq!(count.take(1, 2, false), Take::Taken(2));
    }

    #[test]
    fn a_cell_somebody_waits_for_cannot_be_removed() {
        let count = Count::new();
        assert!(count.add_waiter());
        assert!(!count.kill());
        assert_eq!(count.waiting(), 1);
        count.remove_waiter();
        assert!(count.kill());
        assert!(!count.add_waiter());
        assert_eq!(count.waiting(), 0);
    }

    // A11: a maximum lowered below what is in flight kills nothing and admits nothing.
    #[test]
    fn a_lowered_maximum_admits_nobody_until_the_count_drains() {
        let count = Count::new();
        assert_eq!(count.take(5, 5, false), Take::Taken(5));
        assert_eq!(count.take(1, 2, false), Take::Full(5));
        count.give(4);
        assert_eq!(count.take(1, 2, false), Take::Taken(2));
    }

    #[test]
    fn a_cell_in_use_cannot_be_removed_and_a_removed_one_cannot_be_used() {
        let count = Count::new();
        assert_eq!(count.take(1, 1, false), Take::Taken(1));
        assert!(!count.kill());
        count.give(1);
        assert!(count.kill());
        assert_eq!(count.take(1, 1, false), Take::Dead);
    }

    #[test]
    fn a_cost_that_would_overflow_the_count_does_not_fit() {
        let count = Count::new();
        assert_eq!(count.take(u32::MAX, u32::MAX, false), Take::Taken(u32::MAX));
        assert_eq!(count.take(1, u32::MAX, false), Take::Full(u32::MAX));
    }

    #[test]
    fn the_peak_outlives_its_interval_by_one() {
        let count = Count::new();
        let _ = count.take(7, 9, false);
        count.give(6);
        assert_eq!(count.peak(), 7);
        count.turn_peak();
        assert_eq!(count.peak(), 7);
        count.turn_peak();
        assert_eq!(count.peak(), 1);
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    // A1: under every interleaving, two that race for one place do not both get it.
    #[test]
    fn two_takers_of_one_place_never_both_get_it() {
        loom::model(|| {
            let count = Arc::new(Count::new());
            let other = {
                let count = Arc::clone(&count);
                thread::spawn(move || count.take(1, 1, false))
            };
            let mine = count.take(1, 1, false);
            let other = other.join().unwrap();
            let taken = [mine, other]
                .iter()
                .filter(|take| matches!(take, Take::Taken(_)))
                .count();
            assert_eq!(taken, 1, "{mine:?} {other:?}");
            assert_eq!(count.in_flight(), 1);
        });
    }

    // A3: every take is given back exactly once, and a place that came free can be taken.
    #[test]
    fn takes_and_gives_of_three_threads_end_at_zero() {
        loom::model(|| {
            let count = Arc::new(Count::new());
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let count = Arc::clone(&count);
                    thread::spawn(move || {
                        if let Take::Taken(in_flight) = count.take(1, 2, false) {
                            assert!(in_flight <= 2);
                            count.give(1);
                        }
                    })
                })
                .collect();
            if let Take::Taken(in_flight) = count.take(2, 2, false) {
                assert_eq!(in_flight, 2);
                count.give(2);
            }
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            assert_eq!(count.in_flight(), 0);
        });
    }

    // G18: a removal and a take exclude each other: no count is ever in a cell that is gone.
    #[test]
    fn a_cell_is_either_removed_or_taken() {
        loom::model(|| {
            let count = Arc::new(Count::new());
            let remover = {
                let count = Arc::clone(&count);
                thread::spawn(move || count.kill())
            };
            let take = count.take(1, 1, false);
            let removed = remover.join().unwrap();
            assert_eq!(removed, take == Take::Dead, "{take:?}");
            if take == Take::Taken(1) {
                count.give(1);
                assert!(count.kill(), "an empty cell can go");
            }
        });
    }

    // G18: the last holder's release and the remover: either it stays, or it goes empty.
    #[test]
    fn a_release_races_with_a_removal_without_losing_the_count() {
        loom::model(|| {
            let count = Arc::new(Count::new());
            assert_eq!(count.take(1, 1, false), Take::Taken(1));
            let holder = {
                let count = Arc::clone(&count);
                thread::spawn(move || count.give(1))
            };
            let removed = count.kill();
            holder.join().unwrap();
            assert_eq!(count.in_flight(), 0);
            assert_eq!(count.take(1, 1, false) == Take::Dead, removed);
        });
    }
}
