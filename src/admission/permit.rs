//! The proof that a request fitted: it gives its places back when dropped.
//!
//! A permit carries pointers to the very cells it took, so that release is right whatever the configuration says by
//! then. It sits in a response body, a tunnel or a drained orphan, and goes with it on every path. Never cloned.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use smallvec::SmallVec;

use super::adaptive::{Adaptive, Sample};
use super::ask::Story;
use super::cell::Cell;
use super::class::{AccountName, Class};
use super::cost::LearnedCost;
use super::limit::Limit;
use super::tally::Mark;

/// How a request ended, as far as limits want to learn from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, with an error status or without: it says how long the work takes.
    Success,
    /// The upstream could not be reached, broke or timed out.
    Overload,
    /// Cut short by the client or by us: it says nothing about the upstream.
    Ignore,
}

/// Places in every limit that applies to one request.
#[derive(Debug)]
#[must_use = "a dropped permit gives its places back at once"]
pub struct Permit {
    pub(super) cells: Cells,
    pub(super) cost: u32,
    /// What it began in cells that time gives back too, and where it is near completion; most permits have none, and an empty
    /// vector is three words.
    pub(super) marks: Vec<(Arc<Cell>, Mark)>,
    /// The account's own count, which is in requests, whatever they cost.
    pub(super) account: Option<Arc<Cell>>,
    pub(super) taken_at: Instant,
    pub(super) account_in_flight: u32,
    pub(super) would_reject: Option<Arc<str>>,
    /// When the work ended, if anybody said so.
    pub(super) ended_at: Option<Instant>,
    /// What became of the request before, and on paper; most have none.
    pub(super) story: Option<Box<Story>>,
    /// Adaptive maxima that learn from it, with what was in flight when it got its places.
    pub(super) learners: SmallVec<[(Arc<Adaptive>, u32); 1]>,
    /// The cost that learns from it.
    pub(super) cost_learner: Option<Arc<LearnedCost>>,
}

/// The cells of one permit: as many as usual limits have, without the heap.
type Cells = SmallVec<[Arc<Cell>; 6]>;

/// What an account gave back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Returned {
    pub(super) account: AccountName,
    pub(super) places: u32,
}

/// Cells of permits that were given back, for whose places somebody waits.
pub(super) type Awaited = SmallVec<[Arc<Cell>; 2]>;

impl Permit {
    /// A permit that holds nothing yet.
    pub(super) fn new(class: &Class, now: Instant) -> Self {
        Self {
            cells: SmallVec::new(),
            marks: Vec::new(),
            cost: class.cost,
            account: None,
            taken_at: now,
            account_in_flight: 0,
            would_reject: None,
            ended_at: None,
            story: None,
            learners: SmallVec::new(),
            cost_learner: class.learner.clone(),
        }
    }

    /// Requests of this account in flight when the permit was given, this one counted.
    #[must_use]
    pub fn account_in_flight(&self) -> u32 {
        self.account_in_flight
    }

    /// The first limit in shadow mode that would have refused the request.
    #[must_use]
    pub fn would_reject(&self) -> Option<&Arc<str>> {
        self.would_reject.as_ref()
    }

    /// The candidates that would have refused the request, in the order of the file.
    #[must_use]
    pub fn candidates_would_reject(&self) -> &[Arc<str>] {
        let story = self.story.as_deref();
        story.map_or(&[], |story| &story.candidates_would_reject)
    }

    /// What became of the request before it got its places, if there is anything to tell.
    #[must_use]
    pub fn story(&self) -> Option<&Story> {
        self.story.as_deref()
    }

    /// The work begins now, which for a request that waited is later than it asked.
    pub fn begin(&mut self, now: Instant) {
        self.taken_at = now;
    }

    /// The answer has begun: adaptive maxima learn how long that took since the request was `sent` whole, or since it got its places,
    /// unless it says nothing about the work. Once; what comes later teaches nothing.
    pub fn answered(&mut self, outcome: Outcome, sent: Option<Instant>, now: Instant) {
        let since = sent.map_or(self.taken_at, |sent| sent.max(self.taken_at));
        let latency = now.saturating_duration_since(since);
        for (adaptive, in_flight) in self.learners.drain(..) {
            adaptive.observe(Sample {
                latency,
                in_flight,
                outcome,
            });
        }
    }

    /// How long it has held its places.
    fn held(&self, now: Instant) -> std::time::Duration {
        now.saturating_duration_since(self.taken_at)
    }

    /// The ids of the cells in which the permit holds places, and how many, for the auditor.
    pub fn places(&self) -> impl Iterator<Item = (u64, u32)> {
        let limits = self.cells.iter().map(|cell| (cell.id, self.cost));
        limits.chain(self.account.iter().map(|cell| (cell.id, 1)))
    }

    /// Ends the permit and lets its limits learn how long the work took. Dropping it without a word means [`Outcome::Ignore`].
    pub fn finish(mut self, outcome: Outcome, now: Instant) {
        self.ended_at = Some(now);
        if outcome == Outcome::Overload {
            self.answered(outcome, None, now);
        }
        let held = self.held(now);
        if let (Outcome::Success, Some(learner)) = (outcome, &self.cost_learner) {
            learner.learn(held);
        }
        // Whatever became of the work, so long the places were taken: that of clients who give up in an overload counts most.
        let held = held.as_secs_f64();
        self.cells
            .iter()
            .for_each(|cell| cell.scope.mean_hold.learn(held));
        if outcome != Outcome::Ignore {
            let tallied = self.cells.iter().filter_map(|cell| cell.tally.as_ref());
            tallied.for_each(|tally| tally.complete(self.cost, now));
        }
    }
}

impl Permit {
    /// Notes who learns from it, where a limit's maximum does.
    #[inline]
    pub(super) fn is_to_teach(&mut self, limit: &Limit, class: &Class, in_flight: u32) {
        let learner = limit
            .moving
            .as_ref()
            .and_then(|moving| moving.learner(class));
        if let Some(learner) = learner {
            self.learners.push((Arc::clone(learner), in_flight));
        }
    }

    /// The response is through and the work goes on: places in limits that do not count leases return.
    pub fn keep_for_lease(&mut self) {
        self.retract_completion();
        let returned_by = self.returned();
        let (kept, returned): (Cells, Cells) = self
            .cells
            .drain(..)
            .partition(|cell| cell.scope.counts_leases.load(Ordering::Relaxed));
        self.cells = kept;
        for cell in returned {
            if cell.count.give(self.cost) {
                serve(cell, returned_by, None);
            }
        }
    }

    /// Gives all places back, with `is_undone` as if they had never been taken; gives the cells that somebody waits for.
    pub(super) fn give_back(&mut self, is_undone: bool) -> Awaited {
        let mut awaited = Awaited::new();
        // Before the places, so that nobody sees a place free and what it had lent.
        for (cell, mark) in self.marks.drain(..) {
            if cell.give_mark(mark, self.cost, is_undone) {
                awaited.push(cell);
            }
        }
        // What an account holds of a cell was taken after the cell: whoever is served next by it sees it given back.
        while let Some(cell) = self.cells.pop() {
            if cell.count.give(self.cost) {
                awaited.push(cell);
            }
        }
        awaited
    }

    /// How much it has taken so far, for [`undo_to`](Self::undo_to).
    pub(super) fn taken(&self) -> (usize, usize) {
        (self.cells.len(), self.marks.len())
    }

    /// Gives back what was taken since then, as if it had never been; of cells that nobody waits for.
    pub(super) fn undo_to(&mut self, (cells, marks): (usize, usize)) {
        for (cell, mark) in self.marks.drain(marks..) {
            cell.give_mark(mark, self.cost, true);
        }
        for cell in self.cells.drain(cells..) {
            cell.count.give(self.cost);
        }
    }

    /// What is given back of each cell, and by whom.
    fn returned(&self) -> Option<Returned> {
        // The key of an account's own count is its name, and nothing else.
        let name = self.account.as_ref()?.key.values().next()?;
        Some(Returned {
            account: AccountName::checked(name),
            places: self.cost,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let awaited = self.give_back(false);
        if let Some(account) = &self.account {
            account.count.give(1);
        }
        if awaited.is_empty() {
            return;
        }
        let returned = self.returned();
        for cell in awaited {
            serve(cell, returned, self.ended_at);
        }
    }
}

/// Somebody waits for what was given back to the cell.
pub(super) fn serve(cell: Arc<Cell>, returned: Option<Returned>, at: Option<Instant>) {
    let registry = cell.scope.registry.get().and_then(Weak::upgrade);
    if let Some(registry) = registry {
        registry.note_time(at);
        registry.serve(cell, returned);
    }
}
