//! What came of one step, as JSON: exact percentiles, since every latency is kept.
//!
//! A latency runs from the instant at which the request was due, whatever kept it: the load itself, a connection, a queue.
//! Who was not answered before the client lost patience counts among the admitted with that patience as latency, so that
//! requests which never come back cannot make a percentile look better. Requests of the warm-up are left out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// How one request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With this status.
    Answered(u16),
    /// The client's patience ended first.
    GaveUp,
    /// The connection could not be made, or broke.
    Broken,
}

/// One request that is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) end: End,
    /// Since it was due.
    pub(crate) latency: Duration,
    /// How late the load itself took it up.
    pub(crate) late: Duration,
}

/// The figures of some requests: of an account, or of all.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    admitted: Vec<Duration>,
    refused: Vec<Duration>,
    late: Vec<Duration>,
    ends: BTreeMap<String, u64>,
    good: usize,
    answered: usize,
}

impl Tally {
    /// Counts one; answers within `slo` are good.
    pub(crate) fn add(&mut self, outcome: Outcome, slo: Duration) {
        self.late.push(outcome.late);
        let name = match outcome.end {
            End::Answered(status) => status.to_string(),
            End::GaveUp => "gave up".to_owned(),
            End::Broken => "broken".to_owned(),
        };
        *self.ends.entry(name).or_default() += 1;
        match outcome.end {
            End::Answered(200..=299) => {
                self.answered += 1;
                self.good += usize::from(outcome.latency <= slo);
                self.admitted.push(outcome.latency);
            }
            End::GaveUp => self.admitted.push(outcome.latency),
            // What overload answers with; any other status is a fault, and stands among the ends.
            End::Answered(429 | 503) => self.refused.push(outcome.latency),
            End::Answered(_) | End::Broken => {}
        }
    }

    /// Latencies in milliseconds, rates a second.
    pub(crate) fn json(mut self, seconds: f64) -> Value {
        let offered = self.late.len();
        let failed = offered - self.admitted.len() - self.refused.len();
        json!({
            "offered": offered,
            "offered_rate": offered as f64 / seconds,
            "answered": self.answered,
            "good": self.good,
            "goodput": self.good as f64 / seconds,
            "refused": self.refused.len(),
            "gave_up": self.admitted.len() - self.answered,
            "failed": failed,
            "ends": self.ends,
            "admitted_ms": percentiles(&mut self.admitted),
            "refusal_ms": percentiles(&mut self.refused),
            "load_late_ms": percentiles(&mut self.late),
        })
    }
}

/// Some percentiles in milliseconds, `null` where there is nothing; each is a latency that was measured.
fn percentiles(latencies: &mut [Duration]) -> Value {
    latencies.sort_unstable();
    let at = |parts: usize| {
        let rank = (latencies.len() * parts).div_ceil(1000).max(1) - 1;
        latencies
            .get(rank)
            .map(|latency| latency.as_secs_f64() * 1e3)
    };
    json!({ "p50": at(500), "p90": at(900), "p99": at(990), "p999": at(999), "max": at(1000) })
}
