//! What the load counted: per account, how many and how long.
//!
//! Latencies go into a fixed array of buckets, 64 to each doubling, so that a run of any length takes the
//! same few kilobytes; a figure read from it is at most 1/64 too high, never too low. Never prints.

use std::time::Duration;

/// Buckets to a doubling: 64 keep the error below 1.6 %, finer than a run of seconds repeats itself.
const STEPS: u64 = 1 << STEP_BITS;
const STEP_BITS: u32 = 6;
/// 134 s: longer than any request of the demo may take; what is longer counts as this.
const LONGEST_MICROS: u64 = (1 << LONGEST_BITS) - 1;
const LONGEST_BITS: u32 = 27;
/// Two times the steps for what is exact, and the steps for each doubling after it.
const BUCKETS: usize = ((LONGEST_BITS - STEP_BITS + 1) as usize) << STEP_BITS;

/// A count of durations, from a microsecond to two minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: Box::new([0; BUCKETS]),
            count: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub(super) fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(LONGEST_MICROS);
        self.buckets[index(micros)] += 1;
        self.count += 1;
    }

    /// Adds what another one counted.
    pub(super) fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *bucket += more;
        }
        self.count += other.count;
    }

    /// The duration that `permille` of the counted ones did not exceed; `None` before the first.
    pub(super) fn quantile(&self, permille: u64) -> Option<Duration> {
        let rank = (self.count * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros(longest_in(found)))
    }
}

fn index(micros: u64) -> usize {
    let micros = micros.min(LONGEST_MICROS);
    let octave = micros.max(STEPS).ilog2() - STEP_BITS;
    let index = u64::from(octave) * STEPS + (micros >> octave);
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

fn longest_in(index: usize) -> u64 {
    let index = index as u64;
    let octave = (index / STEPS).saturating_sub(1);
    (((index - octave * STEPS) + 1) << octave) - 1
}

/// What one account sent, and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Requests whose scheduled instant has come.
    pub(super) sent: u64,
    /// Answered by the origin.
    pub(super) admitted: Histogram,
    /// Refused by the gate.
    pub(super) refused: Histogram,
    /// Failed, answered with an unexpected status, or not sent because too many were outstanding.
    pub(super) errors: u64,
}

impl Figures {
    /// How many were answered by the origin.
    pub(super) fn admitted(&self) -> u64 {
        self.admitted.count
    }

    /// How many the gate refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused.count
    }

    /// How many have no answer yet.
    pub(super) fn in_flight(&self) -> u64 {
        self.sent
            .saturating_sub(self.admitted() + self.refused() + self.errors)
    }

    /// Adds the figures of another account.
    pub(super) fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.admitted.merge(&other.admitted);
        self.refused.merge(&other.refused);
        self.errors += other.errors;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_it_says_and_is_at_most_1_64th_wide() {
        for micros in (0..5_000).chain([65_535, 65_536, 80_000, 1_000_000, LONGEST_MICROS]) {
            let shown = longest_in(index(micros));
            assert!(shown >= micros, "{micros} µs shown as {shown}");
            assert!(
                shown - micros <= micros / 64,
                "{micros} µs shown as {shown}"
            );
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_quantile_is_the_duration_that_so_many_did_not_exceed() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(500), None);
        for micros in 1..=100 {
            histogram.record(Duration::from_micros(micros));
        }
        assert_eq!(histogram.quantile(10), Some(Duration::from_micros(1)));
        assert_eq!(histogram.quantile(500), Some(Duration::from_micros(50)));
        assert_eq!(histogram.quantile(1000), Some(Duration::from_micros(100)));
    }

    #[test]
    fn what_has_no_answer_yet_is_in_flight() {
        let mut figures = Figures {
            sent: 5,
            errors: 1,
            ..Figures::default()
        };
        figures.admitted.record(Duration::from_millis(40));
        figures.refused.record(Duration::from_millis(1));
        assert_eq!(figures.in_flight(), 2);
        let mut sum = Figures::default();
        sum.merge(&figures);
        assert_eq!(sum, figures);
    }
}
