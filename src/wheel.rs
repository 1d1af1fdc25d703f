//! A timer wheel: many deadlines, few of which come to pass, for the same small price each.
//!
//! Time is cut into ticks, and each slot of the ring holds what is due in its tick (Varghese and Lauck, "Hashed and hierarchical
//! timing wheels", scheme 6: a deadline farther off than one turn passes its slot until its round has come). An entry is put in and
//! taken out in constant time. Where a deadline moves with every message, its owner lets the entry stand, looks whether it still means
//! anything once it is handed out, and puts it back: so it costs nothing until it passes. Never asks for the time, and is never early;
//! how late it is is one tick and what its owner adds between two calls of [`Wheel::due`].

use std::time::{Duration, Instant};

use slab::Slab;

/// Deadlines of `T`, to a tick.
#[derive(Debug)]
pub struct Wheel<T> {
    origin: Instant,
    tick: Duration,
    /// The first tick that was not looked at yet.
    next: u64,
    /// The first entry of each.
    slots: Vec<Option<usize>>,
    entries: Slab<Entry<T>>,
}

/// One deadline, in the ring of those in its slot.
#[derive(Debug)]
struct Entry<T> {
    tick: u64,
    before: usize,
    after: usize,
    item: T,
}

impl<T> Wheel<T> {
    /// An empty wheel whose ticks are so long, and one turn so many of them.
    #[must_use]
    pub fn new(now: Instant, tick: Duration, slots: usize) -> Self {
        Self {
            origin: now,
            tick: tick.max(Duration::from_millis(1)),
            next: 0,
            slots: vec![None; slots.max(1)],
            entries: Slab::new(),
        }
    }

    /// Entries that have not been handed out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| &entry.item)
    }

    /// Hands `item` out once `at` has passed; gives the key by which it can be taken out before that.
    pub fn insert(&mut self, at: Instant, item: T) -> usize {
        let nanos = at.saturating_duration_since(self.origin).as_nanos();
        // The first tick that begins at the deadline or after it.
        let tick = nanos.div_ceil(self.tick.as_nanos());
        let tick = u64::try_from(tick).unwrap_or(u64::MAX).max(self.next);
        let (slot, key) = (self.slot(tick), self.entries.vacant_key());
        let first = *self.slots[slot].get_or_insert(key);
        let last = if first == key {
            key
        } else {
            self.entries[first].before
        };
        self.entries.insert(Entry {
            tick,
            before: last,
            after: first,
            item,
        });
        self.entries[last].after = key;
        self.entries[first].before = key;
        key
    }

    /// Takes an entry out that was not handed out yet.
    pub fn remove(&mut self, key: usize) -> Option<T> {
        let entry = self.entries.try_remove(key)?;
        let slot = self.slot(entry.tick);
        if entry.after == key {
            self.slots[slot] = None;
        } else {
            self.entries[entry.before].after = entry.after;
            self.entries[entry.after].before = entry.before;
            if self.slots[slot] == Some(key) {
                self.slots[slot] = Some(entry.after);
            }
        }
        if self.entries.is_empty() {
            // A wheel that once held a storm does not keep its room.
            self.entries = Slab::new();
        }
        Some(entry.item)
    }

    /// When [`due`](Self::due) may have something to hand out, if nothing is put in before. What is farther off than a turn has it look
    /// once a turn.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        let turn = self.slots.len() as u64;
        let mut ticks = self.next..self.next.saturating_add(turn);
        let tick = ticks.find(|&tick| self.slots[self.slot(tick)].is_some())?;
        let tick = u32::try_from(tick).ok()?;
        self.tick
            .checked_mul(tick)
            .and_then(|after| self.origin.checked_add(after))
    }

    /// Takes out what is due at `now`, by ticks; `take` may put entries back only after this returned.
    pub fn due(&mut self, now: Instant) -> Vec<T> {
        let elapsed = now.saturating_duration_since(self.origin).as_nanos() / self.tick.as_nanos();
        let last = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let (mut due, mut keys) = (Vec::new(), Vec::new());
        if last < self.next {
            return due;
        }
        // After a pause of more than a turn each slot is looked at once.
        let turn = self.slots.len() as u64;
        let first = self.next;
        for tick in first..=last.min(first.saturating_add(turn - 1)) {
            let begin = self.slots[self.slot(tick)];
            let mut at = begin;
            while let Some(key) = at {
                let entry = &self.entries[key];
                if entry.tick <= last {
                    keys.push(key);
                }
                at = Some(entry.after).filter(|_| Some(entry.after) != begin);
            }
            due.extend(keys.drain(..).filter_map(|key| self.remove(key)));
        }
        self.next = last + 1;
        due
    }

    fn slot(&self, tick: u64) -> usize {
        let slot = tick % self.slots.len() as u64;
        usize::try_from(slot).expect("it is less than the number of slots")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use proptest::prelude::*;

    proptest! {
        // Every deadline is handed out once, never early, and no later than a tick after it when looked at in time.
        #[test]
        fn what_is_due_comes_once_and_never_early(
            deadlines in proptest::collection::vec(0u64..5_000, 0..60),
            steps in proptest::collection::vec(1u64..700, 1..40),
        ) {
            let clock = Clock::manual();
            let start = clock.now();
            let mut wheel = Wheel::new(start, Duration::from_millis(10), 16);
            for &at in &deadlines {
                wheel.insert(start + Duration::from_millis(at), at);
            }
            let mut seen = Vec::new();
            for step in steps {
                clock.advance(Duration::from_millis(step));
                let now = u64::try_from((clock.now() - start).as_millis()).unwrap();
                for at in wheel.due(clock.now()) {
                    prop_assert!(at <= now);
                    seen.push(at);
                }
                let late = deadlines.iter().filter(|&&at| at + 10 <= now).count();
                prop_assert!(seen.len() >= late);
            }
            prop_assert_eq!(seen.len() + wheel.len(), deadlines.len());
            clock.advance(Duration::from_secs(10));
            seen.extend(wheel.due(clock.now()));
            seen.sort_unstable();
            let mut all = deadlines;
            all.sort_unstable();
            prop_assert_eq!(seen, all);
            prop_assert!(wheel.is_empty());
        }
    }

    proptest! {
        // What is taken out is never handed out, the rest is, and whoever looks at the named instants only is not late.
        #[test]
        fn what_is_taken_out_does_not_come(
            steps in proptest::collection::vec((0u64..2_000, proptest::option::of(0usize..20)), 1..80),
        ) {
            let clock = Clock::manual();
            let start = clock.now();
            let mut wheel = Wheel::new(start, Duration::from_millis(10), 16);
            let mut keys = Vec::new();
            for (number, (after, taken)) in steps.into_iter().enumerate() {
                let at = clock.now() + Duration::from_millis(after);
                keys.push((wheel.insert(at, (number, at)), number, at));
                if let Some(taken) = taken.filter(|taken| *taken < keys.len()) {
                    let (key, number, at) = keys.swap_remove(taken);
                    prop_assert_eq!(wheel.remove(key), Some((number, at)));
                }
                prop_assert_eq!(wheel.len(), keys.len());
                prop_assert_eq!(wheel.iter().count(), keys.len());
                let Some(next) = wheel.next() else { continue };
                clock.advance(next.saturating_duration_since(clock.now()));
                for (number, at) in wheel.due(clock.now()) {
                    prop_assert!(at <= clock.now() && clock.now() <= at + Duration::from_millis(10));
                    keys.retain(|(_, of, _)| *of != number);
                }
            }
        }
    }

    #[test]
    fn an_entry_put_in_late_comes_at_the_next_look() {
        let clock = Clock::manual();
        let start = clock.now();
        let mut wheel = Wheel::new(start, Duration::from_millis(10), 4);
        clock.advance(Duration::from_secs(1));
        assert!(wheel.due(clock.now()).is_empty());
        wheel.insert(start, "late");
        clock.advance(Duration::from_millis(10));
        assert_eq!(wheel.due(clock.now()), ["late"]);
    }
}
