//! What would become of a request at this moment, read and not tried.
//!
//! The same limits are asked in the same order, and the same ladder is walked, but nothing is taken, nobody is put in a line, no cell
//! is made and nothing is counted. What is said holds for the moment: another request may come in between. A wait is foreseen and
//! not waited, so what comes after it is not. Never on a request's path.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acquire::Terms;
use super::ask::Ask;
use super::candidate::Candidate;
use super::cell::Cell;
use super::class::{Class, UpstreamId};
use super::flows::Owner;
use super::ladder::{Queue, Step};
use super::limit::{Limit, Mode};
use super::policy::Policy;
use super::registry::Registry;
use super::rejection::Reason;

/// How one limit stands towards a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Places that the key has.
    pub max: u32,
    /// Places that are taken.
    pub in_flight: u32,
    /// Requests that wait for one.
    pub queued: u32,
    /// Whether a request of the class would have its places at once; of a limit in shadow, whether it would have admitted it.
    pub fits: bool,
}

/// What would become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    /// What it comes to.
    pub verdict: Verdict,
    /// The limit that did not fit last, if any.
    pub limit: Option<Arc<str>>,
    /// Where it would be sent instead of its resource's own upstream.
    pub rerouted: Option<UpstreamId>,
    /// The mark that it would carry, being over a limit.
    pub mark: Option<Arc<str>>,
}

/// What a forecast comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It would have its places.
    Admit,
    /// It would wait in the limit's queue, behind so many, for so long at most.
    Wait {
        /// Those who wait for the same key.
        ahead: u32,
        /// The queue's timeout.
        timeout: Duration,
    },
    /// It would sleep so long, and be asked again, so often at most.
    Slow {
        /// How long each time.
        delay: Duration,
        /// How often.
        times: u32,
    },
    /// It would be refused.
    Reject {
        /// Why.
        reason: Reason,
        /// With which HTTP status.
        status: u16,
        /// Places of the key.
        max: u32,
        /// Places that are taken.
        in_flight: u32,
    },
}

/// A limit without a place.
struct Full<'p> {
    limit: &'p Limit,
    cell: Option<Arc<Cell>>,
    max: u32,
    in_flight: u32,
}

impl Registry {
    /// How a limit of the policy stands towards a class.
    #[must_use]
    pub fn standing(
        &self,
        policy: &Policy,
        limit: &Limit,
        class: &Class,
        now: Instant,
    ) -> Standing {
        let cell = self.find(policy, limit, &limit.real, class);
        let usual = || limit.max_of(class, cell.as_deref());
        let max = self.budget(policy, limit, class).unwrap_or_else(usual);
        let samples = self.samples_for(policy, limit, class, usual);
        let in_use = |cell: Option<&Cell>| cell.map_or(0, |cell| cell.in_use(samples, now));
        let queued = cell.as_ref().map_or(0, |cell| cell.count.waiting());
        let taken = in_use(cell.as_deref());
        let (judged, ahead) = match limit.settings.mode {
            Mode::Shadow => {
                let paper = self.find(policy, limit, &limit.paper, class);
                (in_use(paper.as_deref()), 0)
            }
            Mode::Enforce | Mode::Off => (taken, queued),
        };
        Standing {
            max,
            in_flight: limit.places(taken),
            queued,
            fits: ahead == 0 && judged.saturating_add(class.cost) <= samples,
        }
    }

    /// How a limit of a candidate stands towards a class: on paper, where nobody waits.
    #[must_use]
    pub fn standing_on_paper(
        &self,
        policy: &Policy,
        (_, limit): (&Candidate, &Limit),
        class: &Class,
        now: Instant,
    ) -> Standing {
        let cell = self.find(policy, limit, &limit.real, class);
        let max = limit.max_of(class, cell.as_deref());
        let in_flight = cell.map_or(0, |cell| cell.in_use(max, now));
        Standing {
            max,
            in_flight,
            queued: 0,
            fits: in_flight.saturating_add(class.cost) <= max,
        }
    }

    /// What would become of a request of that class.
    #[must_use]
    pub fn foresee(&self, policy: &Arc<Policy>, class: &Class, now: Instant) -> Foreseen {
        let mut ask = Ask::new(policy, class, None, now);
        let mut limit = None;
        let verdict = loop {
            let Some(full) = self.first_full(policy, &ask, now) else {
                break Verdict::Admit;
            };
            limit = Some(Arc::clone(&full.limit.name));
            let scope = full.limit.real.scope.id;
            match ask.step(full.limit) {
                Step::Queue(queue) => match self.would_wait(&ask, &full, queue) {
                    Ok(ahead) => {
                        let timeout = queue.timeout;
                        break Verdict::Wait { ahead, timeout };
                    }
                    Err(why) => ask.advance(scope, why),
                },
                Step::Slow(slow) => {
                    let sleeping = &full.limit.real.scope.slowed;
                    let sleeping = sleeping.load(std::sync::atomic::Ordering::Relaxed);
                    if sleeping < slow.length && slow.times > 0 {
                        let (delay, times) = (slow.delay, slow.times);
                        break Verdict::Slow { delay, times };
                    }
                    ask.advance(scope, Reason::QueueFull);
                }
                Step::Reroute(upstream) => ask.reroute(scope, upstream),
                Step::Admit(overage) => ask.go_over(scope, overage),
                Step::Reject { status } => {
                    break Verdict::Reject {
                        reason: ask.reason(full.limit),
                        status,
                        max: full.max,
                        in_flight: full.in_flight,
                    };
                }
            }
        };
        let mark = matches!(verdict, Verdict::Admit).then(|| self.mark_of(policy, &ask, now));
        Foreseen {
            verdict,
            limit,
            rerouted: ask.story.rerouted,
            mark: mark.flatten(),
        }
    }

    /// The first limit that has no place for a request, in the order in which they are asked.
    fn first_full<'p>(&self, policy: &'p Policy, ask: &Ask, now: Instant) -> Option<Full<'p>> {
        let class = &ask.class;
        let terms = Terms {
            ask: Some(ask),
            ..Terms::default()
        };
        let limits = policy.plan(class).enforced.iter();
        let limits = limits.map(|&index| &policy.limits[usize::from(index)]);
        let mut limits = limits.filter(|limit| terms.applies(limit, class));
        limits.find_map(|limit| {
            let cell = self.find(policy, limit, &limit.real, class);
            let usual = || ask.max_of(limit, cell.as_deref());
            let max = self.samples_for(policy, limit, class, usual);
            let in_use = cell.as_deref().map_or(0, |cell| cell.in_use(max, now));
            let is_behind = cell.as_deref().is_some_and(|cell| cell.count.waiting() > 0);
            let is_full = is_behind || in_use.saturating_add(class.cost) > max;
            is_full.then(|| Full {
                limit,
                max: limit.places(max),
                in_flight: limit.places(in_use),
                cell,
            })
        })
    }

    /// Behind how many a request would wait there, or why it would not.
    fn would_wait(&self, ask: &Ask, full: &Full<'_>, queue: Queue) -> Result<u32, Reason> {
        let (limit, class) = (full.limit, &ask.class);
        if class.cost > ask.max_of(limit, full.cell.as_deref()) {
            return Err(Reason::LimitReached);
        }
        if queue.length == 0 || queue.per_account == 0 {
            return Err(Reason::QueueFull);
        }
        let state = self.room.lock();
        let line = full.cell.as_ref().and_then(|of| state.lines.get(&of.id));
        let Some(line) = line else { return Ok(0) };
        if line.flows.waiting_of(&class.account) >= queue.per_account as usize {
            return Err(Reason::QueueFull);
        }
        let ahead = line.flows.len();
        if ahead < queue.length {
            return Ok(ahead);
        }
        let owner = Owner {
            account: class.account,
            priority: class.priority,
            weight: ask.policy.weight_of(class),
            share: limit.share_of(class),
        };
        let is_owed = |share, waiting| limit.is_owed(share, waiting);
        let makes_way = line.flows.last(&owner, queue.length, is_owed);
        // It takes the place of another, who is in the line no more.
        makes_way
            .map(|_| ahead.saturating_sub(1))
            .ok_or(Reason::QueueFull)
    }

    /// The mark that a request would carry, if it has been allowed to go over a limit and does.
    fn mark_of(&self, policy: &Policy, ask: &Ask, now: Instant) -> Option<Arc<str>> {
        let class = &ask.class;
        ask.raised.iter().rev().find_map(|(scope, overage)| {
            let limit = policy.by_scope(*scope)?;
            let cell = self.find(policy, limit, &limit.real, class);
            let max = limit.max_of(class, cell.as_deref());
            let in_use = cell.map_or(0, |cell| cell.in_use(max, now));
            (in_use.saturating_add(class.cost) > max).then(|| Arc::clone(&overage.mark))
        })
    }
}
