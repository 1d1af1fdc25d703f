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

/// What the plugin counts.
#[derive(Debug)]
pub struct PresenceStats {
    changes: AtomicU64,
    naive: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    refused: AtomicU64,
    webhooks: [Durations<16>; 3],
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
            webhooks: std::array::from_fn(|_| Durations::new(&UPSTREAM_BOUNDS)),
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

    /// A webhook came to its end.
    pub fn observe_webhook(&self, outcome: WebhookOutcome, took: Duration) {
        self.webhooks[outcome as usize].observe(took);
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
    let webhooks = WebhookOutcome::ALL.iter().zip(&stats.webhooks);
    let webhooks = webhooks.map(|(outcome, took)| {
        histogram(&[("kind", "presence"), ("outcome", outcome.as_str())], took)
    });
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
        family(names::WEBHOOK, MetricType::HISTOGRAM, webhooks.collect()),
    ]
}
