//! Maxima that move by themselves: with the healthy endpoints of an upstream, with what a key used of late, with what an account has in
//! flight, or with latency.
//!
//! A cell never knows its maximum, so one that moves needs no more than a number that is read at the decision. What changes
//! the numbers runs beside the requests; whoever waits for a place of a maximum that has risen is served at once. State
//! lives through reloads while the rule is the same. Never on a request's path but for one relaxed load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::adaptive::{Adaptive, AdaptiveNumbers, AdaptiveSettings};
use super::cell::Cell;
use super::class::{Class, ResourceId, UpstreamId};
use super::key::Dimension;
use super::limit::{Limit, LimitSettings};
use super::policy::{Policy, PolicyResource};
use super::registry::Registry;
use super::retry::RetryBudget;

/// How a maximum moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moves {
    /// So many places for each healthy endpoint of an upstream, of which one at least is counted.
    PerEndpoint {
        /// Places for each.
        each: u32,
        /// Whose endpoints.
        of: UpstreamId,
    },
    /// A multiple of the most that a key held in the last finished interval.
    Follow(Follow),
    /// A part of what the account has in flight. A limit that moves so counts retries only.
    RetryBudget(RetryBudget),
    /// As many as latency allows; one number for each resource or upstream, where the limit counts by it.
    Adaptive(AdaptiveSettings),
}

/// The rule of a maximum that follows what was used of late.
///
/// A key may hold `headroom_percent` of the most that it held in the last finished interval of six seconds, at least `floor` and at
/// most `ceiling`. So a key's use may grow by that factor an interval, and a burst out of nothing meets the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follow {
    /// Never less.
    pub floor: u32,
    /// Never more.
    pub ceiling: u32,
    /// Percent of what was used.
    pub headroom_percent: u32,
}

impl Follow {
    /// Places of a key that held `peak` at most.
    #[must_use]
    pub fn max(&self, peak: u32) -> u32 {
        let wanted = (u64::from(peak) * u64::from(self.headroom_percent)).div_ceil(100);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        wanted.max(self.floor).min(self.ceiling)
    }
}

/// Where a class finds its own of several numbers.
type Place = fn(&Class) -> usize;

/// A maximum at work.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) rule: Moves,
    current: AtomicU32,
    /// What latency has taught, with the name of its key: by the id of resource or upstream, or one.
    learned: Vec<Option<(Arc<str>, Arc<Adaptive>)>>,
    /// Where a class finds its own.
    at: Place,
    /// Whether that depends on the class.
    is_keyed: bool,
}

impl Moving {
    /// The maximum of a limit, if it moves. What the same rule has found before stays, and what latency has taught even under other
    /// bounds.
    pub(super) fn of(
        settings: &LimitSettings,
        resources: &[PolicyResource],
        upstreams: &[String],
        previous: Option<&Limit>,
    ) -> Option<Arc<Self>> {
        let rule = settings.moves.as_ref()?;
        let known = previous.and_then(|previous| previous.moving.as_ref());
        let Moves::Adaptive(terms) = rule else {
            let same = known.filter(|known| known.rule == *rule);
            return Some(same.map_or_else(
                || Arc::new(Self::new(rule, settings.max, Vec::new(), |_| 0)),
                Arc::clone,
            ));
        };
        let is_named = |id: u16| {
            let only = settings.upstreams.as_ref();
            only.is_none_or(|only| only.contains(&UpstreamId(id)))
        };
        // What the limit does not cover has no number: each takes tens of kilobytes.
        let (names, at): (Vec<(&str, bool)>, Place) = match keyed_by(&settings.per) {
            Some(Dimension::Resource) => {
                let names = (0..).zip(resources).map(|(id, of)| {
                    let is_covered = settings.covers(ResourceId(id), of.upstream);
                    (of.name.as_str(), is_covered && !of.is_exempt)
                });
                (names.collect(), |class| class.resource.0.into())
            }
            Some(_) => {
                let names = (0..).zip(upstreams);
                let names = names.map(|(id, name)| (name.as_str(), is_named(id)));
                (names.collect(), |class| class.upstream.0.into())
            }
            None => (vec![("-", true)], |_| 0),
        };
        let learned = names.into_iter().map(|(name, is_covered)| {
            if !is_covered {
                return None;
            }
            let same = known.and_then(|known| {
                let mut learned = known.learned.iter().flatten();
                let (_, same) = learned.find(|(of, _)| **of == *name)?;
                let is_same = known.rule == *rule;
                Some(if is_same {
                    Arc::clone(same)
                } else {
                    Arc::new(same.with(terms.clone()))
                })
            });
            let adaptive = same.unwrap_or_else(|| Arc::new(Adaptive::new(terms.clone())));
            Some((name.into(), adaptive))
        });
        let mut moving = Self::new(rule, settings.max, learned.collect(), at);
        moving.is_keyed = keyed_by(&settings.per).is_some();
        Some(Arc::new(moving))
    }

    fn new(
        rule: &Moves,
        start: u32,
        learned: Vec<Option<(Arc<str>, Arc<Adaptive>)>>,
        at: Place,
    ) -> Self {
        Self {
            rule: rule.clone(),
            current: AtomicU32::new(start),
            learned,
            at,
            is_keyed: false,
        }
    }

    /// Where a class's own number stands, if each key has its own.
    #[inline]
    pub(super) fn at(&self, class: &Class) -> usize {
        (self.at)(class)
    }

    /// Whether a class may find another number than the first. A limit that latency moves by resource or upstream has one for each, and
    /// another still for those that it does not cover.
    pub(super) fn goes_by_class(&self) -> bool {
        self.is_keyed
    }

    /// Places of a key, whose cell there may be.
    pub(super) fn max(&self, cell: Option<&Cell>, at: usize) -> u32 {
        // Relaxed: a decision by the number of a moment ago is as good.
        let current = || self.current.load(Ordering::Relaxed);
        match &self.rule {
            Moves::Follow(follow) => follow.max(cell.map_or(0, |cell| cell.count.last_peak())),
            Moves::PerEndpoint { .. } | Moves::RetryBudget(_) => current(),
            Moves::Adaptive(_) => match self.learned.get(at) {
                Some(Some((_, adaptive))) => adaptive.limit(),
                // A resource that came here by a detour.
                Some(None) | None => current(),
            },
        }
    }

    /// What a request of the class is to teach.
    #[inline]
    pub(super) fn learner(&self, class: &Class) -> Option<&Arc<Adaptive>> {
        let (_, adaptive) = self.learned.get(self.at(class))?.as_ref()?;
        Some(adaptive)
    }

    /// Puts a number in force; true if it has risen.
    fn set(&self, max: u32) -> bool {
        self.current.swap(max, Ordering::Relaxed) < max
    }
}

impl Limit {
    /// Its numbers that latency moves, each with the name of its key.
    fn learned(&self) -> impl Iterator<Item = &(Arc<str>, Arc<Adaptive>)> {
        let moving = self.moving.iter();
        moving.flat_map(|moving| moving.learned.iter().flatten())
    }
}

/// The dimension for whose every value an adaptive maximum has a number of its own.
fn keyed_by(per: &[Dimension]) -> Option<Dimension> {
    let own = [Dimension::Resource, Dimension::Upstream];
    own.into_iter().find(|dimension| per.contains(dimension))
}

/// One number that latency moves.
#[derive(Debug)]
pub struct AdaptiveUse {
    /// Whose.
    pub limit: Arc<str>,
    /// The resource or upstream that has it, else `-`.
    pub key: Arc<str>,
    /// What it knows.
    pub numbers: AdaptiveNumbers,
}

impl Policy {
    /// Has adaptive limits draw their conclusions where a window is over; gives those that have risen. To be called about once a
    /// window.
    pub fn adapt(&self, now: Instant) -> Vec<&Limit> {
        let risen = self.limits.iter().filter(|limit| {
            let mut has_risen = false;
            for (_, adaptive) in limit.learned() {
                let before = adaptive.limit();
                has_risen |= adaptive.close_window(now).is_some_and(|max| max > before);
            }
            has_risen
        });
        risen.collect()
    }

    /// What adaptive limits know.
    pub fn adaptive(&self) -> impl Iterator<Item = AdaptiveUse> {
        let uses = |limit: &Limit| {
            let of = |(key, adaptive): &(Arc<str>, Arc<Adaptive>)| AdaptiveUse {
                limit: Arc::clone(&limit.name),
                key: Arc::clone(key),
                numbers: adaptive.numbers(),
            };
            limit.learned().map(of).collect::<Vec<_>>()
        };
        self.limits.iter().flat_map(uses)
    }

    /// Where the number of a key that is known by its values stands among those of its limit.
    pub(super) fn place_of(&self, dimension: Dimension, value: &[u8]) -> Option<usize> {
        let labels = match dimension {
            Dimension::Resource => &self.labels.resources,
            Dimension::Upstream => &self.labels.upstreams,
            _ => return None,
        };
        labels
            .iter()
            .position(|label| label.name().as_bytes() == value)
    }

    /// Has limits that count places by endpoint follow the endpoints that are healthy now; gives the limits that have risen.
    pub fn follow_endpoints(&self, healthy: impl Fn(UpstreamId) -> usize) -> Vec<&Limit> {
        let risen = self.every_limit().filter(|limit| {
            let Some(moving) = &limit.moving else {
                return false;
            };
            let Moves::PerEndpoint { each, of } = &moving.rule else {
                return false;
            };
            let count = u32::try_from(healthy(*of)).unwrap_or(u32::MAX).max(1);
            moving.set(each.saturating_mul(count))
        });
        risen.collect()
    }
}

impl Registry {
    /// Takes note of the time for those who wait.
    pub(super) fn note_time(&self, now: Option<Instant>) {
        if let Some(now) = now {
            self.room.lock().note_time(now);
        }
    }

    /// The cells of a limit for which somebody waits.
    pub(super) fn lines_of(&self, scope: u64) -> Vec<Arc<Cell>> {
        let state = self.room.lock();
        let cells = state.lines.values().map(|line| &line.cell);
        let of_limit = cells.filter(|cell| cell.scope.id == scope);
        of_limit.map(Arc::clone).collect()
    }

    /// Serves those who wait for a limit whose maximum has risen.
    pub fn serve_risen<'a>(&self, limits: impl IntoIterator<Item = &'a Limit>) {
        for limit in limits {
            let cells = self.lines_of(limit.real.scope.id);
            cells.into_iter().for_each(|cell| self.serve(cell, None));
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    // A13: within floor and ceiling, by the stated rule.
    #[test]
    fn what_was_used_of_late_sets_the_maximum_within_floor_and_ceiling() {
        let follow = Follow {
            floor: 5,
            ceiling: 50,
            headroom_percent: 150,
        };
        assert_eq!(follow.max(0), 5);
        assert_eq!(follow.max(7), 11);
        assert_eq!(follow.max(40), 50);
        assert_eq!(follow.max(u32::MAX), 50);
    }
}
