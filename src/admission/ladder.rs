//! What happens when a request does not fit: steps, tried in order, each once; the last refuses.
//!
//! Each limit has a ladder. The first limit that does not fit decides, so it is its ladder that is walked. Never empty: a
//! ladder always ends in an answer.

use std::sync::Arc;
use std::time::Duration;

use super::class::{Priority, UpstreamId};

/// Waiting for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// How many may wait for one key.
    pub length: u32,
    /// How many of one account.
    pub per_account: u32,
    /// How long.
    pub timeout: Duration,
    /// Who goes first within an account.
    pub order: Order,
    /// Places above the maximum that those who wait may have, while as many of those in use are near completion.
    pub early: u32,
}

/// Who goes first among the waiting requests of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The one that came first.
    #[default]
    OldestFirst,
    /// While the queue stands, the one that came last, and who comes then may wait a short time only; else the first.
    ///
    /// A standing queue is one that has not been empty for a whole `timeout`. Then first-come service gives everybody the longest
    /// wait, and answers come when their clients have given up. The rule is the one of Facebook's "adaptive LIFO" with
    /// "controlled delay" (Maurer, Fail at Scale, ACM Queue 13(8), 2015), which is `CoDel`'s without its clock.
    Adaptive,
}

/// Sleeping for a fixed time and asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// How long each time.
    pub delay: Duration,
    /// How often.
    pub times: u32,
    /// How many requests may sleep at once under the limit.
    pub length: u32,
}

/// Going over the limit, up to a harder one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overage {
    /// The harder limit.
    pub up_to: u32,
    /// The priority it goes on with.
    pub priority: Priority,
    /// The word that the upstream, the log and the metrics see.
    pub mark: Arc<str>,
}

/// One step of a ladder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Wait for a place.
    Queue(Queue),
    /// Sleep and ask again.
    Slow(Slow),
    /// Be judged anew for another upstream.
    Reroute(UpstreamId),
    /// Take a place above the limit.
    Admit(Overage),
    /// Answer with this status code.
    Reject {
        /// The HTTP status of the refusal.
        status: u16,
    },
}

/// The steps of one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    steps: Vec<Step>,
    status: u16,
}

impl Ladder {
    /// A ladder of one step, which refuses with `status`.
    #[must_use]
    pub fn reject(status: u16) -> Self {
        Self::new(Vec::new(), status)
    }

    /// A ladder of these steps, and then a refusal with `status`.
    #[must_use]
    pub fn new(steps: Vec<Step>, status: u16) -> Self {
        Self { steps, status }
    }

    /// The steps before the refusal.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step after `done` others.
    #[must_use]
    pub fn step(&self, done: usize) -> Step {
        self.steps.get(done).cloned().unwrap_or(Step::Reject {
            status: self.status,
        })
    }

    /// The HTTP status of the refusal.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Places above the maximum that those who wait may have.
    #[must_use]
    pub fn early(&self) -> u32 {
        let queues = self.steps.iter().map(|step| match step {
            Step::Queue(queue) => queue.early,
            _ => 0,
        });
        queues.max().unwrap_or(0)
    }

    /// Whether requests may wait for a place of the limit.
    #[must_use]
    pub fn queues(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Queue(_)))
    }
}
