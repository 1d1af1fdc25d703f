//! A request on its way through ladders: what it is, since when it waits, and which steps it has tried.
//!
//! Made only when a request does not fit at once. It remembers limits by their scope, which outlives reloads. Never copied: a
//! request is in one place of one queue, or in nobody's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::cell::Cell;
use super::class::{Class, UpstreamId};
use super::ladder::{Overage, Step};
use super::limit::Limit;
use super::policy::Policy;
use super::rejection::Reason;
use super::renew::Renewal;

/// A request that did not fit at once.
#[derive(Debug)]
pub struct Ask {
    pub(super) policy: Arc<Policy>,
    pub(super) class: Class,
    pub(super) arrived: Instant,
    /// When its client gives up.
    pub(super) client_deadline: Option<Instant>,
    /// When the queue that it waits in, or waited in last, gives up; later queues only shorten it.
    pub(super) queue_deadline: Option<Instant>,
    /// Its place in the order of arrival, from its first queue on.
    pub(super) serial: Option<u64>,
    tried: SmallVec<[Tried; 1]>,
    /// Limits that it may go over.
    pub(super) raised: Vec<(u64, Overage)>,
    /// Limits that sent it to another upstream, and no longer apply.
    pub(super) left: SmallVec<[u64; 1]>,
    pub(super) story: Story,
    /// It was told to ask anew, and others wait for it to come back.
    pub(super) renewal: Option<Renewal>,
}

/// How far a request has come on one limit's ladder.
#[derive(Debug, Clone, Copy)]
struct Tried {
    scope: u64,
    steps: usize,
    /// How often it has slept in the step it is at.
    slept: u32,
    /// Why the last step gave up.
    reason: Reason,
}

/// What became of a request before it got its place; kept with its permit for the record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Story {
    /// It waited in a queue.
    pub was_queued: bool,
    /// It slept.
    pub was_slowed: bool,
    /// It was sent to another upstream.
    pub rerouted: Option<UpstreamId>,
    /// It went over a limit, with this mark.
    pub mark: Option<Arc<str>>,
    /// The candidates that would have refused it, in the order of the file.
    pub candidates_would_reject: Box<[Arc<str>]>,
}

impl Ask {
    pub(super) fn new(
        policy: &Arc<Policy>,
        class: &Class,
        client_deadline: Option<Instant>,
        now: Instant,
    ) -> Box<Self> {
        Box::new(Self {
            policy: Arc::clone(policy),
            class: class.clone(),
            arrived: now,
            client_deadline,
            queue_deadline: None,
            serial: None,
            tried: SmallVec::new(),
            raised: Vec::new(),
            left: SmallVec::new(),
            story: Story::default(),
            renewal: None,
        })
    }

    /// Makes it a request of another generation, which asks anew but keeps its arrival and its deadline.
    #[must_use]
    pub fn renewed(mut self: Box<Self>, policy: &Arc<Policy>, class: &Class) -> Box<Self> {
        self.policy = Arc::clone(policy);
        self.class = class.clone();
        self.tried.clear();
        self.raised.clear();
        self.left.clear();
        self.story.rerouted = None;
        self
    }

    /// Whether it has stood in a line or slept.
    pub(super) fn has_waited(&self) -> bool {
        self.story.was_queued || self.story.was_slowed
    }

    /// How long it has waited so far.
    #[must_use]
    pub fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.arrived)
    }

    /// Places that a limit has for it.
    pub(super) fn max_of(&self, limit: &Limit, cell: Option<&Cell>) -> u32 {
        self.raised(limit, limit.max_of(&self.class, cell))
    }

    /// The overage that a step of the limit allowed it.
    pub(super) fn overage(&self, limit: &Limit) -> Option<&Overage> {
        let scope = limit.real.scope.id;
        let raised = self.raised.iter().find(|(of, _)| *of == scope);
        raised.map(|(_, overage)| overage)
    }

    /// Places that it may take where others may take `max`. What is closed is closed for all.
    pub(super) fn raised(&self, limit: &Limit, max: u32) -> u32 {
        if max == 0 {
            return 0;
        }
        self.overage(limit)
            .map_or(max, |overage| max.max(overage.up_to))
    }

    /// Goes to another upstream, where the limit that sent it away does not count.
    pub(super) fn reroute(&mut self, scope: u64, upstream: UpstreamId) {
        self.advance(scope, Reason::LimitReached);
        self.left.push(scope);
        self.class.upstream = upstream;
        self.story.rerouted = Some(upstream);
    }

    /// May go over the limit from now on, marked.
    pub(super) fn go_over(&mut self, scope: u64, overage: Overage) {
        self.advance(scope, Reason::LimitReached);
        self.class.priority = overage.priority;
        self.raised.push((scope, overage));
    }

    /// The step of the limit's ladder that it is at.
    pub(super) fn step(&self, limit: &Limit) -> Step {
        let scope = limit.real.scope.id;
        let tried = self.tried.iter().find(|tried| tried.scope == scope);
        limit
            .settings
            .ladder
            .step(tried.map_or(0, |tried| tried.steps))
    }

    /// Why the limit refuses it, after what it has tried.
    pub(super) fn reason(&self, limit: &Limit) -> Reason {
        let scope = limit.real.scope.id;
        let tried = self.tried.iter().find(|tried| tried.scope == scope);
        tried.map_or(Reason::LimitReached, |tried| tried.reason)
    }

    /// Goes on to the limit's next step.
    pub(super) fn advance(&mut self, scope: u64, why: Reason) {
        let tried = self.tried(scope);
        tried.steps += 1;
        tried.slept = 0;
        tried.reason = why;
    }

    /// Counts one more sleep in the limit's step; false if it was the last one allowed.
    pub(super) fn sleeps_again(&mut self, scope: u64, times: u32) -> bool {
        let tried = self.tried(scope);
        if tried.slept >= times {
            return false;
        }
        tried.slept += 1;
        true
    }

    fn tried(&mut self, scope: u64) -> &mut Tried {
        let at = self.tried.iter().position(|tried| tried.scope == scope);
        let at = at.unwrap_or_else(|| {
            self.tried.push(Tried {
                scope,
                steps: 0,
                slept: 0,
                reason: Reason::LimitReached,
            });
            self.tried.len() - 1
        });
        &mut self.tried[at]
    }
}
