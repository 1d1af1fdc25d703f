//! Counters and histograms that requests write to.
//!
//! Each is split into shards on cache lines of their own, one a thread in practice, and summed when Prometheus asks.
//! Writing is a few relaxed additions to a line nobody else writes. Never a label that a client can choose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::names::REASONS;
use crate::admission::{Outcome, Story};

/// As many as threads commonly serve; more threads share.
const SHARDS: usize = 8;

/// Decisions in microseconds: a hit of the thread's cache is under one, a cold path with a token some hundreds.
pub(super) const DECISION_BOUNDS: [u64; 10] = [
    1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000,
];
/// Answers of APIs: from one on the same machine to one that a minute's timeout cuts.
pub(super) const UPSTREAM_BOUNDS: [u64; 14] = [
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    60_000_000_000,
];

/// Waits: from a moment's to the longest that anybody would configure for a client that stands by.
pub(super) const WAIT_BOUNDS: [u64; 12] = [
    1_000_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    60_000_000_000,
];

/// The index of this thread's shard.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
    SHARD.try_with(|shard| *shard).unwrap_or(0)
}

#[derive(Debug)]
#[repr(align(128))]
struct Padded<T>(T);

/// A fixed number of counters.
#[derive(Debug)]
pub(super) struct Counters<const N: usize>(Box<[Padded<[AtomicU64; N]>]>);

impl<const N: usize> Counters<N> {
    fn new() -> Self {
        let shard = |_| Padded(std::array::from_fn(|_| AtomicU64::new(0)));
        Self((0..SHARDS).map(shard).collect())
    }

    fn add(&self, index: usize) {
        self.0[shard()].0[index].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self, index: usize) -> u64 {
        self.0
            .iter()
            .map(|shard| shard.0[index].load(Ordering::Relaxed))
            .sum()
    }
}

/// Durations by bucket: `N` is the number of bounds plus two, for what exceeds them and for the sum in nanoseconds.
#[derive(Debug)]
pub(super) struct Durations<const N: usize> {
    bounds: &'static [u64],
    shards: Counters<N>,
}

impl<const N: usize> Durations<N> {
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        assert_eq!(
            bounds.len() + 2,
            N,
            "a bucket for each bound, one beyond, and the sum"
        );
        Self {
            bounds,
            shards: Counters::new(),
        }
    }

    pub(super) fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().position(|&bound| nanos <= bound);
        let shard = &self.shards.0[shard()].0;
        shard[bucket.unwrap_or(self.bounds.len())].fetch_add(1, Ordering::Relaxed);
        shard[N - 1].fetch_add(nanos, Ordering::Relaxed);
    }

    /// The count of all, and their sum in seconds.
    pub(super) fn count_and_sum(&self) -> (u64, f64) {
        let count = (0..=self.bounds.len()).map(|index| self.shards.sum(index));
        let nanos = self.shards.sum(N - 1);
        (count.sum(), Duration::from_nanos(nanos).as_secs_f64())
    }

    /// Upper bounds in seconds with the counts at or below them; then the count of all, and their sum in seconds.
    pub(super) fn cumulative(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut below = 0;
        let buckets = self.bounds.iter().enumerate().map(|(index, &bound)| {
            below += self.shards.sum(index);
            (Duration::from_nanos(bound).as_secs_f64(), below)
        });
        let buckets = buckets.collect();
        let (all, sum) = self.count_and_sum();
        (buckets, all, sum)
    }
}

/// What the gate decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecisionWord {
    /// Forwarded, or meant to be.
    Admitted,
    /// The same, after waiting in a queue.
    Queued,
    /// The same, to another upstream than its resource's.
    Rerouted,
    /// The same, over a limit and marked.
    Marked,
    /// The same, after a `slow` step.
    Slowed,
    /// Refused.
    Rejected,
}

impl DecisionWord {
    pub(super) const ALL: [Self; 6] = [
        Self::Admitted,
        Self::Queued,
        Self::Rerouted,
        Self::Marked,
        Self::Slowed,
        Self::Rejected,
    ];

    /// The word for a request that was admitted: of all that became of it, what changes most for its client.
    #[must_use]
    pub fn of(story: &Story) -> Self {
        if story.mark.is_some() {
            Self::Marked
        } else if story.rerouted.is_some() {
            Self::Rerouted
        } else if story.was_queued {
            Self::Queued
        } else if story.was_slowed {
            Self::Slowed
        } else {
            Self::Admitted
        }
    }

    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Queued => "queued",
            Self::Rerouted => "rerouted",
            Self::Marked => "marked",
            Self::Slowed => "slowed",
            Self::Rejected => "rejected",
        }
    }
}

/// What requests of one resource write to; it outlives reloads.
#[derive(Debug)]
pub struct ResourceStats {
    pub(super) requests: Counters<{ REASONS.len() * DecisionWord::ALL.len() }>,
    pub(super) upstream: [Durations<{ UPSTREAM_BOUNDS.len() + 2 }>; 3],
    pub(super) wait: Durations<{ WAIT_BOUNDS.len() + 2 }>,
}

impl ResourceStats {
    fn new() -> Self {
        Self {
            requests: Counters::new(),
            upstream: std::array::from_fn(|_| Durations::new(&UPSTREAM_BOUNDS)),
            wait: Durations::new(&WAIT_BOUNDS),
        }
    }

    /// Counts an answered request; a reason that is not in [`REASONS`] counts as `none`.
    pub fn count(&self, decision: DecisionWord, reason: &'static str) {
        let reason = REASONS
            .iter()
            .position(|known| *known == reason)
            .unwrap_or(0);
        self.requests
            .add(decision as usize * REASONS.len() + reason);
    }

    /// What was counted so far, over everything that the metrics tell apart.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let sum = |decision: DecisionWord, wanted: &dyn Fn(&str) -> bool| -> u64 {
            let reasons = REASONS.iter().enumerate();
            let wanted = reasons.filter(|(_, reason)| wanted(reason));
            wanted
                .map(|(index, _)| self.requests.sum(decision as usize * REASONS.len() + index))
                .sum()
        };
        let admitted = DecisionWord::ALL
            .into_iter()
            .filter(|word| *word != DecisionWord::Rejected);
        let upstream = self.upstream.each_ref().map(Durations::count_and_sum);
        Totals {
            admitted: admitted.map(|word| sum(word, &|_| true)).sum(),
            rejected: sum(DecisionWord::Rejected, &|reason| {
                OF_LIMITS.contains(&reason)
            }),
            upstream_count: upstream.iter().map(|(count, _)| count).sum(),
            upstream_seconds: upstream.iter().map(|(_, sum)| sum).sum(),
        }
    }

    /// Notes how long a request waited, whether it got its places or not.
    pub fn observe_wait(&self, took: Duration) {
        self.wait.observe(took);
    }

    /// Notes how long the upstream took to the response's head, or to its failure.
    pub fn observe_upstream(&self, outcome: Outcome, took: Duration) {
        self.upstream[outcome as usize].observe(took);
    }
}

/// Reasons of the limits: there was no place.
const OF_LIMITS: [&str; 3] = ["limit_reached", "queue_full", "queue_timeout"];

/// What requests of one resource came to, since the process began to count it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Totals {
    /// Those that were admitted, at once or later, and are over.
    pub admitted: u64,
    /// Those that a limit refused.
    pub rejected: u64,
    /// Those that were sent on.
    pub upstream_count: u64,
    /// Seconds from the request sent on to the response's head, or to its failure, of all of them.
    pub upstream_seconds: f64,
}

/// The words of the label `outcome`, in the order of [`Outcome`].
pub(super) const OUTCOMES: [&str; 3] = ["success", "overload", "ignore"];

/// All resources that this process ever had: as many as configurations name.
#[derive(Debug, Default)]
pub struct ResourceTable(Mutex<BTreeMap<Arc<str>, Arc<ResourceStats>>>);

impl ResourceTable {
    /// Most resources whose figures are kept; a file names at most 1,000, so only a thousand-fold renaming meets it.
    const KEPT: usize = 4_096;

    /// The figures of a resource, kept from earlier generations by its name.
    #[must_use]
    pub fn of(&self, name: &str) -> Arc<ResourceStats> {
        let mut table = self.0.lock();
        if let Some(known) = table.get(name) {
            return Arc::clone(known);
        }
        let stats = Arc::new(ResourceStats::new());
        if table.len() < Self::KEPT {
            table.insert(name.into(), Arc::clone(&stats));
        }
        stats
    }

    /// Requests so far over all resources, by decision and reason; those pairs that there were.
    #[must_use]
    pub fn decided(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut sums = BTreeMap::new();
        for stats in self.0.lock().values() {
            for decision in DecisionWord::ALL {
                for (index, reason) in REASONS.iter().enumerate() {
                    let at = decision as usize * REASONS.len() + index;
                    let count = stats.requests.sum(at);
                    if count > 0 {
                        *sums.entry((decision.as_str(), *reason)).or_default() += count;
                    }
                }
            }
        }
        sums
    }

    pub(super) fn all(&self) -> Vec<(Arc<str>, Arc<ResourceStats>)> {
        self.0
            .lock()
            .iter()
            .map(|(name, stats)| (Arc::clone(name), Arc::clone(stats)))
            .collect()
    }
}

/// How a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadResult {
    /// The new configuration is in force.
    Applied,
    /// The bytes were those of the running one.
    Unchanged,
    /// The running one stayed.
    Refused,
}

impl ReloadResult {
    pub(super) const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Refused];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// What the gate as a whole writes to.
#[derive(Debug)]
pub struct GateStats {
    pub(super) decision: Durations<{ DECISION_BOUNDS.len() + 2 }>,
    pub(super) reloads: Counters<{ ReloadResult::ALL.len() }>,
    /// Leaks found so far.
    pub leaks: AtomicU64,
    /// Client connections open now.
    pub connections: AtomicUsize,
    /// Client connections turned away.
    pub connections_refused: AtomicU64,
}

impl Default for GateStats {
    fn default() -> Self {
        Self {
            decision: Durations::new(&DECISION_BOUNDS),
            reloads: Counters::new(),
            leaks: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            connections_refused: AtomicU64::new(0),
        }
    }
}

impl GateStats {
    /// Notes how long a decision took.
    pub fn observe_decision(&self, took: Duration) {
        self.decision.observe(took);
    }

    /// Counts a reload.
    pub fn count_reload(&self, result: ReloadResult) {
        self.reloads.add(result as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let durations = Durations::<{ DECISION_BOUNDS.len() + 2 }>::new(&DECISION_BOUNDS);
        for nanos in [1, 1_000, 1_001, u64::MAX / 4] {
            durations.observe(Duration::from_nanos(nanos));
        }
        let (buckets, all, _) = durations.cumulative();
        assert_eq!(buckets[0], (1e-6, 2));
        assert_eq!(buckets[1], (2e-6, 3));
        assert_eq!(buckets[9].1, 3);
        assert_eq!(all, 4);
    }

    #[test]
    fn totals_tell_what_was_admitted_from_what_limits_refused() {
        let stats = ResourceStats::new();
        for (decision, reason) in [
            (DecisionWord::Admitted, "none"),
            (DecisionWord::Queued, "upstream_timeout"),
            (DecisionWord::Rejected, "queue_full"),
            (DecisionWord::Rejected, "unauthorized"),
        ] {
            stats.count(decision, reason);
        }
        stats.observe_upstream(Outcome::Success, Duration::from_millis(250));
        stats.observe_upstream(Outcome::Overload, Duration::from_secs(90));
        let totals = Totals {
            admitted: 2,
            rejected: 1,
            upstream_count: 2,
            upstream_seconds: 90.25,
        };
        assert_eq!(stats.totals(), totals);
    }

    #[test]
    fn a_resource_keeps_its_figures_through_reloads() {
        let table = ResourceTable::default();
        table
            .of("calls")
            .count(DecisionWord::Rejected, "limit_reached");
        let kept = table.of("calls");
        let index = DecisionWord::Rejected as usize * REASONS.len() + 1;
        assert_eq!(kept.requests.sum(index), 1);
    }
}
