//! The last minutes of each limit, kept here: how full it was at each look, and how fast refusals come.
//!
//! Looks are told apart by this program's clock, for the gate's may be set. A gate that was started anew, or a limit that counts
//! anew, begins a new history. Memory is for [`POINTS`] looks of the limits that one answer lists.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::seen::{Overview, Text};

/// Looks that are kept: two minutes at one a second.
pub(super) const POINTS: usize = 120;
/// Refusals a second are of the looks within this time, so that a burst between two looks does not flicker.
const RATE_OVER: Duration = Duration::from_secs(5);
/// Most looks that a rate is taken from, however often the gate is looked at.
const RATE_MARKS: usize = 32;

/// What is remembered of a gate.
#[derive(Debug, Default)]
pub(super) struct History {
    uptime_seconds: u64,
    refused: Rate,
    limits: BTreeMap<Text, Track>,
}

/// What is remembered of a limit.
#[derive(Debug, Default)]
struct Track {
    /// How full its fullest key was, oldest first; none where the gate did not answer.
    used: VecDeque<Option<f64>>,
    refused: Rate,
}

/// A counter at the last looks.
#[derive(Debug, Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl History {
    /// Takes in a look.
    pub(super) fn note(&mut self, at: Instant, seen: &Overview) {
        if seen.uptime_seconds < self.uptime_seconds {
            *self = Self::default();
        }
        self.uptime_seconds = seen.uptime_seconds;
        self.refused.note(at, seen.refused());
        self.limits
            .retain(|name, _| seen.limits.iter().any(|limit| limit.name == *name));
        for limit in &seen.limits {
            let track = self.limits.entry(limit.name.clone()).or_default();
            track.push(Some(limit.used()));
            track.refused.note(at, limit.refused);
        }
    }

    /// Takes in that the gate did not answer.
    pub(super) fn note_gap(&mut self) {
        self.limits.values_mut().for_each(|track| track.push(None));
    }

    /// Refusals a second of the whole gate; none before the second look.
    pub(super) fn refused(&self) -> Option<f64> {
        self.refused.a_second()
    }

    /// Refusals a second in the name of a limit.
    pub(super) fn refused_by(&self, limit: &Text) -> Option<f64> {
        self.limits.get(limit)?.refused.a_second()
    }

    /// How full a limit was, oldest first.
    pub(super) fn used(&self, limit: &Text) -> Vec<Option<f64>> {
        let track = self.limits.get(limit);
        track.map_or_else(Vec::new, |track| track.used.iter().copied().collect())
    }
}

impl Track {
    fn push(&mut self, used: Option<f64>) {
        if self.used.len() == POINTS {
            self.used.pop_front();
        }
        self.used.push_back(used);
    }
}

impl Rate {
    fn note(&mut self, at: Instant, count: u64) {
        if self.0.back().is_some_and(|(_, last)| count < *last) {
            self.0.clear();
        }
        // The last mark before the time is kept, for the rate is taken from it.
        let is_over = |mark: &(Instant, u64)| at.saturating_duration_since(mark.0) > RATE_OVER;
        while self.0.len() == RATE_MARKS || self.0.get(1).is_some_and(is_over) {
            self.0.pop_front();
        }
        self.0.push_back((at, count));
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn a_second(&self) -> Option<f64> {
        let ((from, first), (to, last)) = (self.0.front()?, self.0.back()?);
        let seconds = to.saturating_duration_since(*from).as_secs_f64();
        (seconds > 0.0).then(|| (last - first) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen::{Decided, Limit};
    use super::*;
    use crate::clock::Clock;

    fn seen(uptime_seconds: u64, refused: u64) -> Overview {
        Overview {
            uptime_seconds,
            limits: vec![Limit {
                name: "whole".into(),
                refused,
                used_ratio: 0.5,
                ..Limit::default()
            }],
            decisions: vec![Decided {
                decision: "rejected".into(),
                count: refused,
            }],
            ..Overview::default()
        }
    }

    #[test]
    fn refusals_a_second_are_those_of_the_last_seconds() {
        let (clock, mut history) = (Clock::manual(), History::default());
        let whole = Text::from("whole");
        for second in 0..20 {
            let refused = if second < 10 { 0 } else { (second - 10) * 30 };
            history.note(clock.now(), &seen(second, refused));
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(history.refused(), Some(30.0));
        assert_eq!(history.refused_by(&whole), Some(30.0));
        // A start anew has no rate until the second look, and no past.
        history.note(clock.now(), &seen(0, 7));
        assert_eq!((history.refused(), history.used(&whole).len()), (None, 1));
    }

    #[test]
    fn memory_is_bounded_and_goes_with_the_limit() {
        let (clock, mut history) = (Clock::manual(), History::default());
        for look in 0..1_000 {
            history.note(clock.now(), &seen(look, look));
            history.note_gap();
        }
        let used = history.used(&"whole".into());
        assert_eq!((used.len(), used[POINTS - 1]), (POINTS, None));
        assert!(history.refused.0.len() <= RATE_MARKS);
        history.note(clock.now(), &Overview::default());
        assert!(history.limits.is_empty());
    }
}
