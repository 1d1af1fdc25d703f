//! What Prometheus reads: counters summed, gauges taken from the cells at that moment.
//!
//! Never keeps a gauge of its own, never has a label that a client can choose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder as _, TextEncoder};

use super::access_log::AccessLog;
use super::live::{Entered, Live};
use super::metrics::{DecisionWord, Durations, GateStats, OUTCOMES, ReloadResult, ResourceTable};
use super::names::{self, REASONS};
use super::presence::{PresenceStats, PresenceUse, presence};
use super::trace::Spans;
use crate::admission::{
    AccountUse, AdaptiveDecision, AdaptiveUse, Leases, LimitUse, Mode, Snapshot,
};

/// Everything that metrics are read from.
#[derive(Debug)]
pub struct Sources<'a> {
    /// Cells, read a moment ago.
    pub snapshot: Snapshot,
    /// Figures by resource.
    pub resources: &'a ResourceTable,
    /// Figures of the gate.
    pub gate: &'a GateStats,
    /// Requests in progress.
    pub live: &'a Live,
    /// Permits that outlived their response.
    pub leases: &'a Leases<Entered>,
    /// The log, for what it dropped.
    pub log: &'a AccessLog,
    /// The way of spans, for the same.
    pub spans: &'a Spans,
    /// The configuration in force.
    pub generation: u64,
    /// How many temporary overrides each limit has.
    pub overrides: BTreeMap<Arc<str>, u64>,
    /// The largest accounts with what they have in flight, where that is wanted.
    pub accounts: Option<Vec<AccountUse>>,
    /// Event streams of the admin API that are open.
    pub event_streams: usize,
    /// Notifications that were delivered, failed and dropped.
    pub notifications: (u64, u64, u64),
    /// Upstreams and their endpoints, as far as can be counted on them.
    pub upstreams: Vec<UpstreamHealth>,
    /// What adaptive limits know.
    pub adaptive: Vec<AdaptiveUse>,
    /// The presence plugin, where it is mounted.
    pub presence: Option<(&'a PresenceStats, PresenceUse)>,
    /// Now.
    pub now: Instant,
}

/// What metrics tell about one upstream.
#[derive(Debug)]
pub struct UpstreamHealth {
    /// Its name.
    pub name: String,
    /// Endpoints that can be counted on.
    pub healthy: usize,
    /// Each endpoint: its name, whether it can be counted on, how often it was left out.
    pub endpoints: Vec<(Arc<str>, bool, u64)>,
}

/// All metrics in Prometheus' text format.
#[must_use]
pub fn exposition(sources: &Sources<'_>) -> String {
    let mut families = families(sources);
    families.extend(ProcessCollector::for_self().collect());
    families.retain(|family| !family.get_metric().is_empty());
    let mut text = Vec::new();
    // Writing to memory cannot fail, and a family without metrics was taken out above.
    drop(TextEncoder::new().encode(&families, &mut text));
    String::from_utf8(text).unwrap_or_default()
}

fn families(sources: &Sources<'_>) -> Vec<MetricFamily> {
    let gate = sources.gate;
    let oldest = sources.live.oldest();
    let oldest = oldest.map_or(0.0, |at| {
        sources.now.saturating_duration_since(at).as_secs_f64()
    });
    let reload = |result: ReloadResult| {
        counter(
            &[("result", result.as_str())],
            gate.reloads.sum(result as usize),
        )
    };
    let mut families = limits(sources);
    families.extend(candidates(&sources.snapshot));
    families.extend(resources(sources.resources));
    families.extend(upstreams(&sources.upstreams));
    families.extend(adaptive(&sources.adaptive));
    families.extend([
        family(
            names::DECISION,
            MetricType::HISTOGRAM,
            vec![histogram(&[], &gate.decision)],
        ),
        family(names::OLDEST, MetricType::GAUGE, vec![gauge(&[], oldest)]),
        family(
            names::LEASES,
            MetricType::GAUGE,
            vec![gauge(&[], float(sources.leases.len() as u64))],
        ),
        total(names::LEASES_EXPIRED, sources.leases.expired()),
        family(
            names::GENERATION,
            MetricType::GAUGE,
            vec![gauge(&[], float(sources.generation))],
        ),
        family(
            names::RELOADS,
            MetricType::COUNTER,
            ReloadResult::ALL.map(reload).to_vec(),
        ),
        total(names::LEAKS, gate.leaks.load(Ordering::Relaxed)),
        family(
            names::CONNECTIONS,
            MetricType::GAUGE,
            vec![gauge(
                &[],
                float(gate.connections.load(Ordering::Relaxed) as u64),
            )],
        ),
        total(
            names::CONNECTIONS_REFUSED,
            gate.connections_refused.load(Ordering::Relaxed),
        ),
        total(names::LOG_DROPPED, sources.log.dropped()),
        total(names::SPANS_DROPPED, sources.spans.dropped()),
        family(
            names::EVENT_STREAMS,
            MetricType::GAUGE,
            vec![gauge(&[], float(sources.event_streams as u64))],
        ),
    ]);
    families.push(notifications(sources.notifications));
    if let Some(largest) = &sources.accounts {
        families.push(accounts(largest, sources.snapshot.in_flight));
    }
    if let Some((stats, now)) = sources.presence {
        families.extend(presence(stats, now));
    }
    families
}

fn notifications((delivered, failed, dropped): (u64, u64, u64)) -> MetricFamily {
    let results = [
        ("delivered", delivered),
        ("failed", failed),
        ("dropped", dropped),
    ];
    let metrics = results.map(|(result, count)| counter(&[("result", result)], count));
    family(names::NOTIFICATIONS, MetricType::COUNTER, metrics.to_vec())
}

fn limits(sources: &Sources<'_>) -> Vec<MetricFamily> {
    let snapshot = &sources.snapshot;
    let gauges = |name, value: &dyn Fn(&LimitUse) -> f64| {
        let metrics = snapshot
            .limits
            .iter()
            .map(|limit| gauge(&[("limit", &limit.name)], value(limit)));
        family(name, MetricType::GAUGE, metrics.collect())
    };
    let early = || {
        let limits = snapshot.limits.iter();
        limits.filter_map(|limit| limit.early.map(|early| ([("limit", &*limit.name)], early)))
    };
    let grants = early().map(|(labels, early)| counter(&labels, early.grants));
    let overshoots = early().map(|(labels, early)| gauge(&labels, early.overshoot_max.into()));
    let shadow = snapshot
        .limits
        .iter()
        .filter(|limit| limit.mode == Mode::Shadow);
    let shadow = shadow.flat_map(|limit| {
        let decided =
            |decision, count| counter(&[("limit", &limit.name), ("decision", decision)], count);
        [
            decided("admitted", limit.would.0),
            decided("rejected", limit.would.1),
        ]
    });
    let counts = |name, value: &dyn Fn(&LimitUse) -> u64| {
        let limits = snapshot.limits.iter();
        let metrics = limits.map(|limit| counter(&[("limit", &limit.name)], value(limit)));
        family(name, MetricType::COUNTER, metrics.collect())
    };
    let demand = snapshot.limits.iter().filter_map(|limit| {
        let demand = limit.demand?;
        Some(gauge(&[("limit", &limit.name)], demand))
    });
    let overrides = |limit: &LimitUse| {
        let count = sources.overrides.get(&limit.name);
        float(count.copied().unwrap_or(0))
    };
    vec![
        counts(names::REFUSED, &|limit| limit.refused),
        family(names::DEMAND, MetricType::GAUGE, demand.collect()),
        gauges(names::OVERRIDES, &overrides),
        gauges(names::IN_FLIGHT, &|limit| float(limit.in_flight)),
        gauges(names::LIMIT, &|limit| f64::from(limit.max)),
        gauges(names::USED_RATIO, &|limit| limit.used_ratio),
        gauges(names::QUEUED, &|limit| float(limit.queued)),
        family(names::EARLY_GRANTS, MetricType::COUNTER, grants.collect()),
        family(
            names::EARLY_OVERSHOOT,
            MetricType::GAUGE,
            overshoots.collect(),
        ),
        gauges(names::KEYS, &|limit| float(limit.keys as u64)),
        family(names::SHADOW, MetricType::COUNTER, shadow.collect()),
    ]
}

/// The largest accounts, and what all others have in flight together. As many labels a scrape as were asked for and one more; over
/// time as many as there are accounts that were ever among the largest.
fn accounts(largest: &[AccountUse], in_flight: u64) -> MetricFamily {
    // One of that name is among the others: a series may be there once.
    let largest = || largest.iter().filter(|of| of.account.as_str() != "other");
    let listed: u64 = largest().map(|of| u64::from(of.in_flight)).sum();
    let mut metrics: Vec<_> = largest()
        .map(|of| gauge(&[("account", of.account.as_str())], of.in_flight.into()))
        .collect();
    let other = in_flight.saturating_sub(listed);
    metrics.push(gauge(&[("account", "other")], float(other)));
    family(names::ACCOUNT_IN_FLIGHT, MetricType::GAUGE, metrics)
}

/// Decisions of each candidate, and of each of its limits.
fn candidates(snapshot: &Snapshot) -> [MetricFamily; 2] {
    let (mut sets, mut limits) = (Vec::new(), Vec::new());
    for candidate in &snapshot.candidates {
        let name = ("candidate", &*candidate.name);
        let words = |would: (u64, u64)| [("admitted", would.0), ("rejected", would.1)];
        for (decision, count) in words(candidate.would) {
            sets.push(counter(&[name, ("decision", decision)], count));
        }
        for limit in &candidate.limits {
            for (decision, count) in words(limit.would) {
                let labels = [name, ("limit", &limit.name), ("decision", decision)];
                limits.push(counter(&labels, count));
            }
        }
    }
    [
        family(names::CANDIDATE_REQUESTS, MetricType::COUNTER, sets),
        family(names::CANDIDATE, MetricType::COUNTER, limits),
    ]
}

fn resources(table: &ResourceTable) -> [MetricFamily; 3] {
    let mut requests = Vec::new();
    let mut waits = Vec::new();
    let mut upstream = Vec::new();
    for (name, stats) in table.all() {
        for decision in DecisionWord::ALL {
            for (index, reason) in REASONS.iter().enumerate() {
                let count = stats
                    .requests
                    .sum(decision as usize * REASONS.len() + index);
                // The usual pair is there from the start, so that a rate over it has a beginning.
                if count > 0 || (decision == DecisionWord::Admitted && index == 0) {
                    let labels = [
                        ("resource", &*name),
                        ("decision", decision.as_str()),
                        ("reason", reason),
                    ];
                    requests.push(counter(&labels, count));
                }
            }
        }
        waits.push(histogram(&[("resource", &name)], &stats.wait));
        for (outcome, durations) in OUTCOMES.iter().zip(&stats.upstream) {
            let seen = histogram(&[("resource", &name), ("outcome", outcome)], durations);
            if seen.get_histogram().get_sample_count() > 0 {
                upstream.push(seen);
            }
        }
    }
    [
        family(names::REQUESTS, MetricType::COUNTER, requests),
        family(names::UPSTREAM, MetricType::HISTOGRAM, upstream),
        family(names::QUEUE_WAIT, MetricType::HISTOGRAM, waits),
    ]
}

fn upstreams(upstreams: &[UpstreamHealth]) -> [MetricFamily; 3] {
    let healthy = |of: &UpstreamHealth| gauge(&[("upstream", &of.name)], float(of.healthy as u64));
    let mut up = Vec::new();
    let mut ejections = Vec::new();
    for of in upstreams {
        for (endpoint, is_healthy, count) in &of.endpoints {
            // What the file lists is a bound on these labels.
            let labels = [("upstream", of.name.as_str()), ("endpoint", endpoint)];
            up.push(gauge(&labels, f64::from(u8::from(*is_healthy))));
            ejections.push(counter(&labels, *count));
        }
    }
    [
        family(
            names::UPSTREAM_HEALTHY,
            MetricType::GAUGE,
            upstreams.iter().map(healthy).collect(),
        ),
        family(names::ENDPOINT_HEALTHY, MetricType::GAUGE, up),
        family(names::ENDPOINT_EJECTIONS, MetricType::COUNTER, ejections),
    ]
}

/// The inner numbers of adaptive limits; their keys are resources and upstreams that the file lists.
fn adaptive(uses: &[AdaptiveUse]) -> [MetricFamily; 5] {
    let by_key = |of: &AdaptiveUse, value: f64, more: Option<(&str, &str)>| {
        let mut labels = vec![("limit", &*of.limit), ("key", &*of.key)];
        labels.extend(more);
        gauge(&labels, value)
    };
    let mut families = [
        family(names::ADAPTIVE_LIMIT, MetricType::GAUGE, Vec::new()),
        family(names::ADAPTIVE_LATENCY, MetricType::GAUGE, Vec::new()),
        family(names::ADAPTIVE_QUEUE, MetricType::GAUGE, Vec::new()),
        family(names::ADAPTIVE_CORRELATION, MetricType::GAUGE, Vec::new()),
        family(names::ADAPTIVE_WINDOWS, MetricType::COUNTER, Vec::new()),
    ];
    for of in uses {
        let numbers = &of.numbers;
        let short = numbers.latency_short.as_secs_f64();
        let long = numbers.latency_long.as_secs_f64();
        let decided = AdaptiveDecision::ALL.iter().zip(numbers.decisions);
        let decided = decided.map(|(decision, count)| {
            let decision = ("decision", decision.as_str());
            counter(&[("limit", &of.limit), ("key", &of.key), decision], count)
        });
        let of_limit = [
            vec![by_key(of, numbers.limit.into(), None)],
            vec![
                by_key(of, short, Some(("span", "short"))),
                by_key(of, long, Some(("span", "long"))),
            ],
            vec![by_key(of, signed(numbers.queue), None)],
            vec![
                by_key(
                    of,
                    numbers.throughput_correlation,
                    Some(("with", "throughput")),
                ),
                by_key(of, numbers.latency_correlation, Some(("with", "latency"))),
            ],
            decided.collect(),
        ];
        for (family, metrics) in families.iter_mut().zip(of_limit) {
            family.mut_metric().extend(metrics);
        }
    }
    families
}

pub(super) fn family(
    (name, help): (&str, &str),
    kind: MetricType,
    metrics: Vec<Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

pub(super) fn total(name: (&str, &str), count: u64) -> MetricFamily {
    family(name, MetricType::COUNTER, vec![counter(&[], count)])
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut label = LabelPair::default();
        label.set_name((*name).into());
        label.set_value((*value).into());
        label
    };
    pairs.iter().map(pair).collect()
}

pub(super) fn counter(pairs: &[(&str, &str)], count: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(float(count));
    let mut metric = Metric::from_label(labels(pairs));
    metric.set_counter(counter);
    metric
}

pub(super) fn gauge(pairs: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels(pairs));
    metric.set_gauge(gauge);
    metric
}

pub(super) fn histogram<const N: usize>(
    pairs: &[(&str, &str)],
    durations: &Durations<N>,
) -> Metric {
    let (buckets, count, sum) = durations.cumulative();
    let bucket = |(bound, below)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(below);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.into_iter().map(bucket).collect());
    histogram.set_sample_count(count);
    histogram.set_sample_sum(sum);
    let mut metric = Metric::from_label(labels(pairs));
    metric.set_histogram(histogram);
    metric
}

/// The same of a number that may be below zero.
#[expect(clippy::cast_precision_loss, reason = "as for counts")]
fn signed(count: i64) -> f64 {
    count as f64
}

/// Prometheus has floats only; counts lose their last bit beyond 2^53, which no counter here lives to see.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
