//! A timer wheel: many deadlines, few of which come to pass, for the price of a push each.
//!
//! Time is cut into ticks, and each slot of the ring holds what is due in its tick (Varghese and Lauck, "Hashed and hierarchical
//! timing wheels", scheme 6: a deadline farther off than one turn passes its slot until its round has come). Nothing is taken out
//! before it is due: whoever is handed a due entry looks whether it still means anything, and puts it back if its deadline has moved.
//! So a deadline that moves with every message costs nothing until it passes. Never asks for the time, and is never early; how late it is
//! is one tick and what its owner adds between two calls of [`Wheel::due`].

use std::time::{Duration, Instant};

/// Deadlines of `T`, to a tick.
#[derive(Debug)]
pub struct Wheel<T> {
    origin: Instant,
    tick: Duration,
    /// The first tick that was not looked at yet.
    next: u64,
    slots: Vec<Vec<(u64, T)>>,
    len: usize,
}

impl<T> Wheel<T> {
    /// An empty wheel whose ticks are so long, and one turn so many of them.
    #[must_use]
    pub fn new(now: Instant, tick: Duration, slots: usize) -> Self {
        let tick = tick.max(Duration::from_millis(1));
        let slots = (0..slots.max(1)).map(|_| Vec::new()).collect();
        Self {
            origin: now,
            tick,
            next: 0,
            slots,
            len: 0,
        }
    }

    /// Entries that have not been handed out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Hands `entry` out once `at` has passed.
    pub fn insert(&mut self, at: Instant, entry: T) {
        let nanos = at.saturating_duration_since(self.origin).as_nanos();
        // The first tick that begins at the deadline or after it.
        let tick = nanos.div_ceil(self.tick.as_nanos());
        let tick = u64::try_from(tick).unwrap_or(u64::MAX).max(self.next);
        let slot = tick % self.slots.len() as u64;
        self.slots[usize::try_from(slot).expect("it is less than the number of slots")]
            .push((tick, entry));
        self.len += 1;
    }

    /// Takes out what is due at `now`, by ticks; `take` may put entries back only after this returned.
    pub fn due(&mut self, now: Instant) -> Vec<T> {
        let elapsed = now.saturating_duration_since(self.origin).as_nanos() / self.tick.as_nanos();
        let last = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let mut due = Vec::new();
        if last < self.next {
            return due;
        }
        // After a pause of more than a turn each slot is looked at once.
        let turn = self.slots.len() as u64;
        let first = self.next;
        for tick in first..=last.min(first.saturating_add(turn - 1)) {
            let slot = usize::try_from(tick % turn).expect("it is less than the number of slots");
            due.extend(
                self.slots[slot]
                    .extract_if(.., |(at, _)| *at <= last)
                    .map(|(_, entry)| entry),
            );
            if self.slots[slot].is_empty() {
                // A slot that once held a storm does not keep its room.
                self.slots[slot].shrink_to(64);
            }
        }
        self.next = last + 1;
        self.len -= due.len();
        due
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
