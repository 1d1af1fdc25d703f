//! Figures of the presence plugin: what it counts, and how Prometheus reads it.
//!
//! Never a label that a client can choose: no account, no identity.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::proto::{MetricFamily, MetricType};

use super::collector::{counter, family, float, gauge, histogram, total};
use super::metrics::{Durations, UPSTREAM_BOUNDS};
use super::names;

/// What became of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// The other side took it.
    Delivered,
    /// It said that it never will.
    Refused,
    /// It did not within all tries.
    GaveUp,
}

impl WebhookOutcome {
    /// All, in the order of their figures.
    const ALL: [Self; 3] = [Self::Delivered, Self::Refused, Self::GaveUp];

    /// The word in the metric's label and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::GaveUp => "gave_up",
        }
    }
}

/// What a call does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPhase {
    /// It waits for instructions, or for what they say to wait for.
    Fetching,
    /// Somebody rings.
    Dialling,
    /// Two sides talk.
    Talking,
}

impl CallPhase {
    const ALL: [Self; 3] = [Self::Fetching, Self::Dialling, Self::Talking];

    /// The word in the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Dialling => "dialing",
            Self::Talking => "in_call",
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// It was answered.
    Completed,
    /// Somebody was there who did not want it.
    Busy,
    /// It could not be put through.
    Failed,
    /// Nobody answered.
    NoAnswer,
    /// The caller left before an answer.
    Canceled,
}

impl CallEnd {
    const ALL: [Self; 5] = [
        Self::Completed,
        Self::Busy,
        Self::Failed,
        Self::NoAnswer,
        Self::Canceled,
    ];

    /// The word in the metric's label: the vendor's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::NoAnswer => "no-answer",
            Self::Canceled => "canceled",
        }
    }
}

/// What is asked of a customer's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookKind {
    /// To take changes of presence.
    Presence,
    /// What to do with a call.
    Instructions,
    /// To take how a call goes.
    Callback,
}

impl WebhookKind {
    /// All, in the order of their figures.
    const ALL: [Self; 3] = [Self::Presence, Self::Instructions, Self::Callback];

    /// The word in the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Instructions => "instructions",
            Self::Callback => "callback",
        }
    }
}

/// What became of a document that is edited by presence, or of the request for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditResult {
    /// Everybody whom it names can be rung.
    Untouched,
    /// Some were cut or moved.
    Edited,
    /// Nobody was left: the fallback went instead.
    NobodyLeft,
    /// It is no document of verbs; it went as it was.
    Unreadable,
    /// The answer was no document, or too long for one.
    Skipped,
    /// The request was refused.
    BadSignature,
}

impl EditResult {
    /// All, in the order of their figures.
    const ALL: [Self; 6] = [
        Self::Untouched,
        Self::Edited,
        Self::NobodyLeft,
        Self::Unreadable,
        Self::Skipped,
        Self::BadSignature,
    ];

    /// The word in the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::Edited => "edited",
            Self::NobodyLeft => "nobody_left",
            Self::Unreadable => "unreadable",
            Self::Skipped => "skipped",
            Self::BadSignature => "bad_signature",
        }
    }
}

/// What the plugin counts.
#[derive(Debug)]
pub struct PresenceStats {
    changes: AtomicU64,
    naive: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    refused: AtomicU64,
    calls: [AtomicU64; 3],
    ended: [AtomicU64; 5],
    dropped_parameters: AtomicU64,
    /// By kind and outcome.
    webhooks: [[Durations<16>; 3]; 3],
    edits: [AtomicU64; 6],
}

/// What is there at the moment of a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PresenceUse {
    /// Sessions with a live socket.
    pub live: usize,
    /// Sessions whose socket was lost and may come back.
    pub suspended: usize,
    /// Sessions kept by reports over the API.
    pub api: usize,
    /// Sockets and event streams.
    pub sockets: usize,
}

impl Default for PresenceStats {
    fn default() -> Self {
        Self {
            changes: AtomicU64::new(0),
            naive: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            calls: Default::default(),
            ended: Default::default(),
            dropped_parameters: AtomicU64::new(0),
            webhooks: std::array::from_fn(|_| {
                std::array::from_fn(|_| Durations::new(&UPSTREAM_BOUNDS))
            }),
            edits: Default::default(),
        }
    }
}

impl PresenceStats {
    /// Changes were accepted; told one by one to each watcher they would have been so many messages.
    pub fn count_changes(&self, changes: usize, naive: usize) {
        self.changes.fetch_add(changes as u64, Ordering::Relaxed);
        self.naive.fetch_add(naive as u64, Ordering::Relaxed);
    }

    /// Messages came in on a socket.
    pub fn count_in(&self, messages: usize) {
        self.received.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// Messages about presence went out: on sockets, event streams, and to webhooks.
    pub fn count_out(&self, messages: usize) {
        self.sent.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// A new socket was asked to come later.
    pub fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A call does that from now on.
    pub fn enter_call(&self, phase: CallPhase) {
        self.calls[phase as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// It does not any more.
    pub fn leave_call(&self, phase: CallPhase) {
        self.calls[phase as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// Calls in progress.
    #[must_use]
    pub fn calls(&self) -> u64 {
        let phases = self.calls.iter();
        phases.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// A call ended.
    pub fn count_call(&self, end: CallEnd) {
        self.ended[end as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Parameters of a client were dropped because they are not a client's to say.
    pub fn count_dropped_parameters(&self, parameters: usize) {
        let parameters = parameters as u64;
        self.dropped_parameters
            .fetch_add(parameters, Ordering::Relaxed);
    }

    /// A webhook came to its end.
    pub fn observe_webhook(&self, kind: WebhookKind, outcome: WebhookOutcome, took: Duration) {
        self.webhooks[kind as usize][outcome as usize].observe(took);
    }

    /// How many webhooks of that kind ended so.
    #[must_use]
    pub fn webhooks(&self, kind: WebhookKind, outcome: WebhookOutcome) -> u64 {
        self.webhooks[kind as usize][outcome as usize]
            .count_and_sum()
            .0
    }

    /// A document, or the request for it, came to its end.
    pub fn count_edit(&self, result: EditResult) {
        self.edits[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Messages about presence that went out, and what they would have been without consolidation.
    #[must_use]
    pub fn sent_and_naive(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.sent), load(&self.naive))
    }
}

/// What Prometheus reads of the plugin.
pub(super) fn presence(stats: &PresenceStats, now: PresenceUse) -> Vec<MetricFamily> {
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let session = |state, count: usize| gauge(&[("state", state)], float(count as u64));
    let sessions = vec![
        session("live", now.live),
        session("suspended", now.suspended),
        session("api", now.api),
    ];
    let directed = |direction, count| counter(&[("direction", direction)], load(count));
    let messages = vec![
        directed("in", &stats.received),
        directed("out", &stats.sent),
    ];
    let calls = CallPhase::ALL.iter().zip(&stats.calls);
    let calls = calls.map(|(phase, count)| gauge(&[("state", phase.as_str())], float(load(count))));
    let ended = CallEnd::ALL.iter().zip(&stats.ended);
    let ended = ended.map(|(end, count)| counter(&[("status", end.as_str())], load(count)));
    let webhooks = WebhookKind::ALL.iter().zip(&stats.webhooks);
    let webhooks = webhooks.flat_map(|(kind, by_outcome)| {
        let outcomes = WebhookOutcome::ALL.iter().zip(by_outcome);
        outcomes.map(|(outcome, took)| {
            let labels = [("kind", kind.as_str()), ("outcome", outcome.as_str())];
            histogram(&labels, took)
        })
    });
    let edits = EditResult::ALL.iter().zip(&stats.edits);
    let edits = edits.map(|(result, count)| counter(&[("result", result.as_str())], load(count)));
    vec![
        family(names::PRESENCE_SESSIONS, MetricType::GAUGE, sessions),
        family(
            names::PRESENCE_SOCKETS,
            MetricType::GAUGE,
            vec![gauge(&[], float(now.sockets as u64))],
        ),
        total(names::PRESENCE_SOCKETS_REFUSED, load(&stats.refused)),
        total(names::PRESENCE_CHANGES, load(&stats.changes)),
        family(names::PRESENCE_MESSAGES, MetricType::COUNTER, messages),
        total(names::PRESENCE_NAIVE, load(&stats.naive)),
        family(names::CALLS, MetricType::GAUGE, calls.collect()),
        family(names::CALLS_ENDED, MetricType::COUNTER, ended.collect()),
        total(
            names::CALL_PARAMETERS_DROPPED,
            load(&stats.dropped_parameters),
        ),
        family(names::WEBHOOK, MetricType::HISTOGRAM, webhooks.collect()),
        family(names::TWIML_EDITS, MetricType::COUNTER, edits.collect()),
    ]
}
