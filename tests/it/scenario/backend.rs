//! What stands behind the gate, as a model: how fast it works on what it was given.
//!
//! Time inside it is the work that each request in it has had so far: it runs at full speed, at a part of it when more share it
//! than it has room for, and not at all while it stalls. Knows nothing of limits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Backend {
    /// How many go at full speed.
    places: f64,
    /// Inner time at which each is done, and which it is.
    running: BinaryHeap<Reverse<(Duration, usize)>>,
    /// Work that one that was there from the beginning would have had.
    inner: Duration,
    /// When that was so.
    seen: Duration,
}

impl Backend {
    pub(super) fn new(places: Option<f64>) -> Self {
        Self {
            places: places.unwrap_or(f64::INFINITY),
            running: BinaryHeap::new(),
            inner: Duration::ZERO,
            seen: Duration::ZERO,
        }
    }

    /// How fast inner time runs.
    fn speed(&self) -> f64 {
        (self.places / count(self.running.len())).min(1.0)
    }

    /// Lets time pass.
    fn pass(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.seen);
        self.seen = now;
        if !self.running.is_empty() && !passed.is_zero() {
            self.inner += passed.mul_f64(self.speed());
        }
    }

    /// Has room for another number from now on.
    pub(super) fn resize(&mut self, places: f64, now: Duration) {
        self.pass(now);
        self.places = places;
    }

    /// Takes on a request.
    pub(super) fn start(&mut self, id: usize, work: Duration, now: Duration) {
        self.pass(now);
        self.running.push(Reverse((self.inner + work, id)));
    }

    /// When the next one is done, if nothing changes.
    pub(super) fn next(&self) -> Option<Duration> {
        let Reverse((done_at, _)) = self.running.peek()?;
        let speed = self.speed();
        let left = done_at.saturating_sub(self.inner);
        // A nanosecond more where it was computed: then it is done, whatever the rounding.
        let rounding = Duration::from_nanos(u64::from(speed < 1.0));
        (speed > 0.0).then(|| self.seen + left.div_f64(speed) + rounding)
    }

    /// One that is done by now.
    pub(super) fn finish(&mut self, now: Duration) -> Option<usize> {
        self.pass(now);
        let Reverse((done_at, id)) = *self.running.peek()?;
        if done_at > self.inner {
            return None;
        }
        self.running.pop();
        Some(id)
    }
}

/// A number of things, of which there are never so many that a float would round.
pub(super) fn count(len: usize) -> f64 {
    u32::try_from(len).map_or(f64::MAX, f64::from)
}
