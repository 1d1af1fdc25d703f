//! Candidates: sets of limits that are tried on paper, several at once, beside those in force.
//!
//! Each set judges every request that is let in and that one of its limits covers, as if the set were in force: all of its limits
//! have a place, or none gives one. Who would have been refused takes no place on paper, so that the next verdict is right;
//! who he was is kept in a sketch of fixed size. What a set counts is what it would have had in flight, in cells like all
//! others, which the permit gives back. Never refuses anybody, never touches the count of another set or of a limit in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::class::{AccountName, Class};
use super::limit::{Limit, LimitSettings, Mode};
use super::moving::Moving;
use super::permit::Permit;
use super::plan::Trial;
use super::policy::Policy;
use super::registry::Registry;
use super::sketch::Sketch;

/// Sets that are usually tried at once, for which a verdict needs no heap.
const USUAL: usize = 8;

/// One candidate, as the configuration resolved it.
#[derive(Debug, Clone)]
pub struct CandidateSettings {
    /// The name that users see, and by which it is the same through reloads.
    pub name: String,
    /// In the order of the file. Modes, ladders and guarantees mean nothing here.
    pub limits: Vec<LimitSettings>,
}

/// One candidate at work.
#[derive(Debug)]
pub struct Candidate {
    name: Arc<str>,
    /// What they count is on paper already, so that it is their first count; the other one stays empty.
    pub(super) limits: Vec<Limit>,
    verdicts: Arc<Verdicts>,
}

/// What a candidate would have done; it outlives reloads.
#[derive(Debug, Default)]
struct Verdicts {
    admitted: AtomicU64,
    rejected: AtomicU64,
    accounts: Mutex<Sketch>,
}

/// An account that a candidate would have refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WouldReject {
    /// Who.
    pub account: AccountName,
    /// How often, at most.
    pub rejected: u64,
    /// By how much that may be too high.
    pub error: u64,
}

impl Candidate {
    /// All candidates of a generation, with what is kept of those of the one before.
    pub(super) fn all(settings: Vec<CandidateSettings>, previous: Option<&Policy>) -> Vec<Self> {
        let known = |name: &str| previous.and_then(|previous| previous.candidate(name));
        let made = settings.into_iter().map(|settings| {
            let previous = known(&settings.name);
            Self::new(settings, previous)
        });
        made.collect()
    }

    fn new(settings: CandidateSettings, previous: Option<&Self>) -> Self {
        let limits = settings.limits.into_iter().map(|mut limit| {
            // Nobody waits for a place on paper, so nothing is counted that only waiting needs.
            limit.mode = Mode::Shadow;
            let mut known = previous.into_iter().flat_map(|previous| &previous.limits);
            let same = known.find(|known| known.settings.identity == limit.identity);
            // No maximum of a candidate is one that each resource or upstream has of its own.
            let moving = Moving::of(&limit, &[], &[], same);
            Limit::new(limit, moving, same)
        });
        Self {
            name: settings.name.into(),
            limits: limits.collect(),
            verdicts: previous.map_or_else(Arc::default, |same| Arc::clone(&same.verdicts)),
        }
    }

    /// The name that users see.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its limits, in the order of the file.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.limits.iter()
    }

    /// Requests that it would have admitted, and refused.
    pub(super) fn would(&self) -> (u64, u64) {
        (
            self.verdicts.admitted.load(Ordering::Relaxed),
            self.verdicts.rejected.load(Ordering::Relaxed),
        )
    }

    /// The accounts that it would have refused most, at most `top`, from the most to the least.
    #[must_use]
    pub fn would_reject(&self, top: usize) -> Vec<WouldReject> {
        let heaviest = self.verdicts.accounts.lock().heaviest(top);
        let shown = heaviest.into_iter().map(|of| WouldReject {
            account: of.account,
            rejected: of.count,
            error: of.error,
        });
        shown.collect()
    }
}

impl Policy {
    /// All candidates, in the order of the file.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter()
    }

    /// The candidate of that name.
    #[must_use]
    pub fn candidate(&self, name: &str) -> Option<&Candidate> {
        self.candidates.iter().find(|of| *of.name == *name)
    }

    /// The candidates that have limits for a class: the place of each, and these limits in the order in which they are asked.
    pub fn trying(
        &self,
        class: &Class,
    ) -> impl Iterator<Item = (usize, &Candidate, impl Iterator<Item = &Limit>)> {
        let trials = self.plan(class).trials.iter();
        trials.map(|trial| {
            let candidate = &self.candidates[trial.candidate];
            (trial.candidate, candidate, trial.limits(candidate))
        })
    }

    /// The limits in force and those of all candidates.
    pub(super) fn every_limit(&self) -> impl Iterator<Item = &Limit> {
        let tried = self.candidates.iter().flat_map(|of| &of.limits);
        self.limits.iter().chain(tried)
    }
}

impl Registry {
    /// Asks each candidate about a request that was let in, and takes its places with those that would have admitted it.
    ///
    /// Never inlined: the usual path, without candidates, is to stay short.
    #[inline(never)]
    pub(super) fn try_candidates(&self, permit: &mut Permit, policy: &Policy, class: &Class) {
        let mut refusing = SmallVec::<[Arc<str>; USUAL]>::new();
        for trial in &policy.plan(class).trials {
            let candidate = &policy.candidates[trial.candidate];
            match self.take_on_paper(permit, policy, candidate, trial, class) {
                Ok(()) => {
                    for limit in trial.limits(candidate) {
                        let admitted = &limit.real.scope.would_admit;
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                    candidate.verdicts.admitted.fetch_add(1, Ordering::Relaxed);
                }
                Err(limit) => {
                    let rejected = &limit.real.scope.would_reject;
                    rejected.fetch_add(1, Ordering::Relaxed);
                    candidate.verdicts.rejected.fetch_add(1, Ordering::Relaxed);
                    candidate.verdicts.accounts.lock().note(&class.account);
                    refusing.push(Arc::clone(&candidate.name));
                }
            }
        }
        if !refusing.is_empty() {
            let story = permit.story.get_or_insert_default();
            story.candidates_would_reject = refusing.into_boxed_slice();
        }
    }

    /// Takes places in every limit of one candidate that applies, or in none; gives the first one that has no place.
    fn take_on_paper<'a>(
        &self,
        permit: &mut Permit,
        policy: &Policy,
        candidate: &'a Candidate,
        trial: &Trial,
        class: &Class,
    ) -> Result<(), &'a Limit> {
        let mut wanted = SmallVec::<[_; 6]>::new();
        for limit in trial.limits(candidate) {
            let cell = self.find(policy, limit, &limit.real, class);
            let max = limit.max_of(class, cell.as_deref());
            let in_use = cell.as_deref();
            let in_use = in_use.map_or(0, |cell| cell.in_use(max, permit.taken_at));
            if in_use.saturating_add(class.cost) > max {
                return Err(limit);
            }
            wanted.push((limit, cell, max));
        }
        let before = permit.taken();
        for (limit, cell, max) in wanted {
            let lookup = policy.lookup(limit, &limit.real, class);
            let cell = cell.unwrap_or_else(|| self.find_or_insert(&limit.real, lookup));
            let taken = self.take(permit, &limit.real, lookup, cell, max, |_| true);
            if taken.is_err() {
                permit.undo_to(before);
                return Err(limit);
            }
        }
        Ok(())
    }
}
