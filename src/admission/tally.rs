//! Counts beside what is in flight: what began, or ended, of late.
//!
//! *Starts* are paced by GCRA (ITU-T I.371, as ATM's cells were): `max` may begin at once, and then one each `interval / max`; so
//! up to twice `max` may begin in an interval that straddles a burst. *Completions* and *what is in flight and began of late* are
//! kept in seventeen slots of a sixteenth of the time each: places come free up to a sixteenth late, never early. All of it is by the
//! instants that callers bring. Never waits, and never holds a lock beyond a few additions.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Parts of an interval; the error of a window is one of them.
const PARTS: u64 = 16;
/// One more, which is being filled.
const SLOTS: usize = 17;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Counted {
    /// What is in flight.
    #[default]
    InFlight,
    /// What is in flight and began within this time.
    StartedWithin(Duration),
    /// What began within this time.
    StartsPer(Duration),
    /// What ended within this time, and what is in flight.
    CompletionsPer(Duration),
}

impl Counted {
    /// The time over which it counts.
    #[must_use]
    pub fn window(self) -> Option<Duration> {
        match self {
            Self::InFlight => None,
            Self::StartedWithin(window)
            | Self::StartsPer(window)
            | Self::CompletionsPer(window) => Some(window),
        }
    }
}

/// What one key has seen of late.
#[derive(Debug)]
pub(super) struct Tally {
    /// The instant that the others are counted from.
    base: OnceLock<Instant>,
    nanos: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// When the last start would have been due at an even pace, in nanoseconds after the base.
    Starts(AtomicU64),
    /// What began, and has not ended.
    Started(Mutex<Window>),
    Completed(Mutex<Window>),
}

/// Amounts by time.
#[derive(Debug, Default)]
struct Window {
    slots: [u32; SLOTS],
    newest: u64,
    sum: u32,
}

/// What a permit remembers of a cell beside its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// So many nanoseconds of pace, to be taken back if another limit refuses.
    Pace(u64),
    /// The slot in which it began.
    Slot(u64),
    /// That its places count as near completion.
    Near,
}

impl Tally {
    /// A tally of that sort; `None` for what needs none.
    pub(super) fn new(counted: Counted) -> Option<Box<Self>> {
        let state = match counted {
            Counted::InFlight => return None,
            Counted::StartsPer(_) => State::Starts(AtomicU64::new(0)),
            Counted::StartedWithin(_) => State::Started(Mutex::default()),
            Counted::CompletionsPer(_) => State::Completed(Mutex::default()),
        };
        let nanos = counted.window().unwrap_or_default().as_nanos();
        Some(Box::new(Self {
            base: OnceLock::new(),
            nanos: u64::try_from(nanos).unwrap_or(u64::MAX / 4).max(PARTS),
            state,
        }))
    }

    fn at(&self, now: Instant) -> u64 {
        let base = *self.base.get_or_init(|| now);
        let nanos = now.saturating_duration_since(base).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX / 4)
    }

    fn slot(&self, now: Instant) -> u64 {
        self.at(now) / (self.nanos / PARTS)
    }

    /// Places taken beside those in flight.
    pub(super) fn used(&self, max: u32, now: Instant) -> u32 {
        match &self.state {
            State::Starts(due) => {
                let ahead = due.load(Ordering::Relaxed).saturating_sub(self.at(now));
                let pace = self.pace(max);
                u32::try_from(ahead.div_ceil(pace)).unwrap_or(u32::MAX)
            }
            // These are in flight, and counted there.
            State::Started(_) => 0,
            State::Completed(window) => {
                let mut window = window.lock();
                window.advance(self.slot(now));
                window.sum
            }
        }
    }

    /// From when so much more fits beside what is in flight, if nothing but time gives any back; `None` if time alone does not do it.
    pub(super) fn fits_at(
        &self,
        cost: u32,
        max: u32,
        in_flight: u32,
        now: Instant,
    ) -> Option<Instant> {
        let most = max.checked_sub(cost)?;
        let nanos = match &self.state {
            State::Starts(due) => {
                let ahead = self.pace(max).saturating_mul(u64::from(most));
                due.load(Ordering::Relaxed).saturating_sub(ahead)
            }
            State::Started(window) => {
                let slot = window.lock().falls_to(most)?;
                slot.saturating_mul(self.nanos / PARTS)
            }
            State::Completed(window) => {
                let slot = window.lock().falls_to(most.checked_sub(in_flight)?)?;
                slot.saturating_mul(self.nanos / PARTS)
            }
        };
        let base = *self.base.get_or_init(|| now);
        base.checked_add(Duration::from_nanos(nanos))
    }

    /// Until when a place is expected, for whoever is refused.
    pub(super) fn free_in(&self, cost: u32, max: u32, now: Instant) -> Duration {
        match &self.state {
            State::Starts(due) => {
                let due = due.load(Ordering::Relaxed).max(self.at(now));
                let wanted = due.saturating_add(self.pace(max).saturating_mul(u64::from(cost)));
                let allowed = self.at(now).saturating_add(self.nanos);
                Duration::from_nanos(wanted.saturating_sub(allowed))
            }
            State::Started(_) | State::Completed(_) => Duration::from_nanos(self.nanos / PARTS),
        }
    }

    fn pace(&self, max: u32) -> u64 {
        (self.nanos / u64::from(max.max(1))).max(1)
    }

    /// Takes starts at their pace; `None` if it is too early.
    pub(super) fn start(&self, cost: u32, max: u32, now: Instant) -> Option<Mark> {
        let State::Starts(due) = &self.state else {
            return Some(Mark::Pace(0));
        };
        let (now, amount) = (self.at(now), self.pace(max).saturating_mul(u64::from(cost)));
        if max == 0 || cost > max {
            return None;
        }
        let mut known = due.load(Ordering::Relaxed);
        loop {
            let next = known.max(now).saturating_add(amount);
            // Rounding makes `max` starts a little shorter than the interval, so the last of a burst fits.
            if next > now.saturating_add(self.nanos) {
                return None;
            }
            // Relaxed: nothing else is told by it.
            match due.compare_exchange_weak(known, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(Mark::Pace(amount)),
                Err(found) => known = found,
            }
        }
    }

    /// Takes a place among what began of late: the slot, and how much fell out of the window meanwhile; or what is in it.
    pub(super) fn begin(&self, cost: u32, max: u32, now: Instant) -> (Result<Mark, u32>, u32) {
        let State::Started(window) = &self.state else {
            return (Ok(Mark::Slot(0)), 0);
        };
        let (mut window, slot) = (window.lock(), self.slot(now));
        let gone = window.advance(slot);
        if window.sum.saturating_add(cost) > max {
            return (Err(window.sum), gone);
        }
        (Ok(Mark::Slot(window.add(cost))), gone)
    }

    /// What began in a slot has ended: how much of it is still in the window.
    pub(super) fn end(&self, slot: u64, cost: u32) -> u32 {
        match &self.state {
            State::Started(window) => window.lock().remove(slot, cost),
            State::Starts(_) | State::Completed(_) => 0,
        }
    }

    /// Takes a start back, because another limit refused it.
    pub(super) fn unstart(&self, amount: u64) {
        if let State::Starts(due) = &self.state {
            due.fetch_sub(amount, Ordering::Relaxed);
        }
    }

    /// Counts what has ended.
    pub(super) fn complete(&self, cost: u32, now: Instant) {
        if let State::Completed(window) = &self.state {
            let mut window = window.lock();
            window.advance(self.slot(now));
            window.add(cost);
        }
    }

    /// Lets time pass: how much fell out of the window of what is in flight.
    pub(super) fn pass(&self, now: Instant) -> u32 {
        match &self.state {
            State::Started(window) => window.lock().advance(self.slot(now)),
            State::Starts(_) | State::Completed(_) => 0,
        }
    }

    /// Whether nothing of late is left to remember.
    pub(super) fn is_empty(&self, now: Instant) -> bool {
        match &self.state {
            State::Starts(due) => due.load(Ordering::Relaxed) <= self.at(now),
            State::Started(window) | State::Completed(window) => {
                let mut window = window.lock();
                if matches!(self.state, State::Completed(_)) {
                    window.advance(self.slot(now));
                }
                window.sum == 0
            }
        }
    }

    /// Whether places are taken by starting and not given back by ending.
    pub(super) fn counts_starts(&self) -> bool {
        matches!(self.state, State::Starts(_))
    }

    /// Whether places are given back by time too.
    pub(super) fn counts_started(&self) -> bool {
        matches!(self.state, State::Started(_))
    }
}

impl Window {
    /// Goes on to a slot; how much fell out.
    fn advance(&mut self, slot: u64) -> u32 {
        let mut gone = 0;
        let steps = slot.saturating_sub(self.newest).min(SLOTS as u64);
        for step in 1..=steps {
            let at = Self::index(slot - steps + step);
            gone += std::mem::take(&mut self.slots[at]);
        }
        self.newest = self.newest.max(slot);
        self.sum -= gone;
        gone
    }

    /// The first slot in which no more than that is left, if nothing comes and nothing ends.
    fn falls_to(&self, most: u32) -> Option<u64> {
        let oldest = self.newest.saturating_sub(SLOTS as u64 - 1);
        let mut left = self.sum;
        if left <= most {
            return Some(self.newest);
        }
        (oldest..=self.newest).find_map(|slot| {
            left -= self.slots[Self::index(slot)];
            (left <= most).then_some(slot + SLOTS as u64)
        })
    }

    fn add(&mut self, cost: u32) -> u64 {
        self.slots[Self::index(self.newest)] += cost;
        self.sum += cost;
        self.newest
    }

    fn remove(&mut self, slot: u64, cost: u32) -> u32 {
        if self.newest.saturating_sub(slot) >= SLOTS as u64 {
            return 0;
        }
        self.slots[Self::index(slot)] -= cost;
        self.sum -= cost;
        cost
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below seventeen"
    )]
    fn index(slot: u64) -> usize {
        (slot % SLOTS as u64) as usize
    }
}
