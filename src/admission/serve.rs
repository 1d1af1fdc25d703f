//! Serving those who wait: who gets what has come free, and who goes on to another line.
//!
//! Whoever lowers a cell's count while somebody waits for it, or raises a maximum, serves that cell's line: the next in turn gets
//! all its places at once, or, where another limit has none for it, goes on to that limit's line. At most [`GRANTS_MAX`]
//! are served while the room's lock is held; whoever is to be woken is woken after it is released, and other lines that were
//! touched are served after it, in a loop and never recursively.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use smallvec::SmallVec;

use super::acquire::{Full, Terms, tell};
use super::ask::Ask;
use super::cell::Cell;
use super::fairness::{Fit, Pick};
use super::join::Stand;
use super::ladder::Step;
use super::permit::Returned;
use super::policy::Policy;
use super::registry::Registry;
use super::waiting::{After, Left, Place, Stage, State, Turn, occupied};

/// Waiters served while the lock is held: others get at it between.
pub(super) const GRANTS_MAX: usize = 64;

/// The earliest of the instants that were noted.
#[derive(Default)]
struct Earliest(std::cell::Cell<Option<Instant>>);

impl Earliest {
    fn note(&self, at: Option<Instant>) {
        let known = self.0.get();
        self.0.set(known.into_iter().chain(at).min());
    }
}

impl Registry {
    /// Gives what is free of a cell to those who wait for it, and goes on with other cells that this frees.
    pub(super) fn serve(&self, cell: Arc<Cell>, returned: Option<Returned>) {
        let mut returned = returned;
        let mut cells = SmallVec::<[Arc<Cell>; 2]>::new();
        cells.push(cell);
        while let Some(cell) = cells.pop() {
            let mut after = After::default();
            let is_more = {
                let mut state = self.room.lock();
                self.serve_some(&mut state, &cell, returned.take(), &mut after)
            };
            after.wakers.into_iter().for_each(Waker::wake);
            if !after.cells.is_empty() {
                cells.extend(after.cells);
            }
            if is_more {
                cells.push(cell);
            }
        }
    }

    /// Serves one line until nobody fits, or many were served; true if there may be more.
    fn serve_some(
        &self,
        state: &mut State,
        cell: &Arc<Cell>,
        mut returned: Option<Returned>,
        after: &mut After,
    ) -> bool {
        let Some(policy) = state.policy.clone() else {
            return false;
        };
        if self.is_renewing() {
            // Those who were here first are on their way back; the last of them has every line served.
            return false;
        }
        let Some(limit) = policy.by_scope(cell.scope.id) else {
            // Those who wait here are told that it is gone by whoever put the new policy in force.
            return false;
        };
        let now = cell.tally.as_ref().and_then(|_| state.latest());
        for _ in 0..GRANTS_MAX {
            let State {
                lines,
                waiters,
                agenda,
                ..
            } = &mut *state;
            let Some(line) = lines.get_mut(&cell.id) else {
                return false;
            };
            if let Some(returned) = returned.take() {
                line.flows.refresh(&returned, occupied);
            }
            if line.is_hopeless(limit) {
                return false;
            }
            let in_flight = cell.count.in_flight();
            let due = Earliest::default();
            let fits = |key: usize| match &waiters[key].stage {
                Stage::InLine(ask, ..) => {
                    let (cost, max) = (ask.class.cost, policy.max_of_ask(limit, ask, Some(cell)));
                    let lent = limit.lent(max, cost, cell);
                    let in_use = now.map_or(in_flight, |now| cell.in_use(max, now));
                    if in_use.saturating_add(cost) <= max.saturating_add(lent) {
                        Fit::Now
                    } else if cost <= max {
                        due.note(now.and_then(|now| cell.fits_at(cost, max, now)));
                        Fit::Later
                    } else {
                        Fit::Never
                    }
                }
                _ => Fit::Never,
            };
            let is_unmet = |share| limit.is_owed(share, 0);
            let Some(pick) = line.flows.next(in_flight, occupied, fits, is_unmet) else {
                after.wakers.extend(agenda.set(line, due.0.get()));
                return false;
            };
            if !self.serve_one(state, cell, pick, &policy, after) {
                let State { lines, agenda, .. } = &mut *state;
                let again = now.and_then(|now| cell.looks_again(now));
                if let Some(line) = lines.get_mut(&cell.id) {
                    after.wakers.extend(agenda.set(line, again));
                }
                return false;
            }
        }
        true
    }

    /// Serves the next in turn: it gets its places, or goes where it is stopped. False if its place was gone after all.
    fn serve_one(
        &self,
        state: &mut State,
        cell: &Arc<Cell>,
        pick: Pick,
        policy: &Policy,
        after: &mut After,
    ) -> bool {
        let State {
            lines,
            waiters,
            arrivals,
            latest,
            ..
        } = &mut *state;
        let (Some(line), Stage::InLine(ask, ..)) =
            (lines.get_mut(&cell.id), &waiters[pick.id].stage)
        else {
            return false;
        };
        let terms = Terms {
            ask: Some(ask),
            newest: Some(policy),
            served: Some(cell.id),
            place: line.flows.place(pick.flow),
        };
        let now = latest.map_or(ask.arrived, |latest| latest.max(ask.arrived));
        let taken = self.try_take(&ask.policy, &ask.class, terms, now);
        if let Err(full) = &taken
            && full.cell.as_ref().is_some_and(|full| full.id == cell.id)
        {
            return false;
        }
        if let Some(place) = line.flows.place_mut(pick.flow) {
            place.learn(self.renewed(place, cell, ask), taken.as_ref().ok());
            if taken.is_ok() {
                *arrivals += 1;
                if let Some(known) = &place.occupancy {
                    known.note_served(*arrivals);
                }
                let taken = cell.count.in_flight();
                line.flows.granted(pick, *arrivals, taken, occupied);
            }
        }
        let Some(Left { ask, .. }) = state.leave(pick.id) else {
            return false;
        };
        match taken {
            Ok(mut permit) => {
                permit.story = tell(ask, permit.story.take());
                state.end(pick.id, Turn::Admit(permit), after);
            }
            Err(full) => self.move_on(state, pick.id, ask, full, after),
        }
        true
    }

    /// The count of what an account holds of a cell, if the one that its flow knows was removed while it held nothing.
    fn renewed(&self, place: &Place, cell: &Cell, ask: &Ask) -> Option<Arc<Cell>> {
        let is_gone = place.occupancy.as_ref()?.count.is_dead();
        let limit = is_gone.then(|| ask.policy.by_scope(cell.scope.id))??;
        self.occupancy_cell(ask, limit)
    }

    /// One whose turn it was is stopped by another limit: it waits on there, or tries what that limit says next.
    pub(super) fn move_on(
        &self,
        state: &mut State,
        key: usize,
        ask: Box<Ask>,
        mut full: Full,
        after: &mut After,
    ) {
        after.cells.extend(full.awaited.drain(..));
        let policy = Arc::clone(&ask.policy);
        let limit = &policy.limits[usize::from(full.index)];
        let turn = match ask.step(limit) {
            Step::Queue(queue) => {
                let cell = self.cell_of(&ask, limit, &full);
                let since = state.lines.get(&cell.id).map(|line| line.since);
                let stand = Stand {
                    limit,
                    cell,
                    queue,
                    since: since.unwrap_or(ask.arrived),
                };
                match self.join(state, key, ask, stand, after) {
                    Ok(cell) => {
                        after.cells.push(cell);
                        return;
                    }
                    Err((mut ask, why)) => {
                        ask.advance(limit.real.scope.id, why);
                        Turn::Resume(ask)
                    }
                }
            }
            Step::Reject { .. } => {
                let reason = ask.reason(limit);
                // What was lent to others is no part of the limit.
                let budget = self.budget(&policy, limit, &ask.class);
                full.max = budget.unwrap_or_else(|| ask.max_of(limit, full.cell.as_deref()));
                let now = state.time(ask.arrived);
                Turn::Reject(self.rejection(&policy, &ask.class, &full, reason, now))
            }
            Step::Slow(_) | Step::Reroute(_) | Step::Admit(_) => Turn::Resume(ask),
        };
        state.end(key, turn, after);
    }
}

#[cfg(all(test, feature = "loom"))]
pub(super) mod loom_tests {
    use std::future::Future as _;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use loom::thread;

    use super::*;
    use crate::admission::{
        AccountName, Class, Decision, Dimension, Ladder, LimitSettings, Order, Permit,
        PolicyResource, PolicySettings, Priority, Queue, ResourceId, UpstreamId, Wait,
    };
    use crate::clock::Clock;

    /// One place for all, for which anybody may wait.
    pub(in crate::admission) struct World {
        registry: Arc<Registry>,
        policy: Arc<Policy>,
        class: Class,
        now: Instant,
    }

    impl World {
        pub(in crate::admission) fn new() -> Self {
            Self::with_early(0)
        }

        pub(in crate::admission) fn with_early(early: u32) -> Self {
            Self {
                registry: Registry::new(),
                policy: Arc::new(Self::policy("whole", early)),
                class: Class {
                    account: AccountName::new(b"acme").unwrap(),
                    resource: ResourceId(0),
                    upstream: UpstreamId(0),
                    group: None,
                    priority: Priority::Normal,
                    cost: 1,
                    learner: None,
                    is_retry: false,
                    network: None,
                    values: smallvec::SmallVec::new(),
                },
                now: Clock::manual().now(),
            }
        }

        /// Another limit takes the place of the one that there is.
        pub(in crate::admission) fn change(&self) -> Arc<Policy> {
            let policy = Arc::new(Self::policy("other", 0));
            self.registry.apply(&policy);
            policy
        }

        pub(in crate::admission) fn come_back(&self, ask: Box<Ask>, to: &Arc<Policy>) -> Decision {
            self.registry.resume(ask.renewed(to, &self.class), self.now)
        }

        fn policy(name: &str, early: u32) -> Policy {
            let queue = Queue {
                length: 10,
                per_account: 10,
                timeout: Duration::from_secs(1),
                order: Order::OldestFirst,
                early,
            };
            let mut limit = LimitSettings::new(name, &[Dimension::Process], 1);
            limit.ladder = Ladder::new(vec![Step::Queue(queue)], 503);
            let settings = PolicySettings {
                resources: vec![PolicyResource {
                    name: "all".into(),
                    upstream: UpstreamId(0),
                    is_exempt: false,
                }],
                upstreams: vec!["api".into()],
                groups: Vec::new(),
                limits: vec![limit],
                candidates: Vec::new(),
            };
            Policy::new(settings, None)
        }

        pub(in crate::admission) fn ask(&self) -> Decision {
            self.registry.acquire(&self.policy, &self.class, self.now)
        }

        pub(in crate::admission) fn admit(&self) -> Permit {
            match self.ask() {
                Decision::Admit(permit) => permit,
                other => panic!("the place is free: {other:?}"),
            }
        }

        pub(in crate::admission) fn wait(&self) -> Wait {
            match self.ask() {
                Decision::Wait(wait) => wait,
                other => panic!("the place is taken: {other:?}"),
            }
        }

        pub(in crate::admission) fn assert_empty(&self) {
            let limit = self.policy.limit("whole").unwrap();
            assert_eq!(self.registry.in_flight(&self.policy, limit, &self.class), 0);
            assert_eq!(self.registry.waiting(), 0);
            drop(self.admit());
        }
    }

    pub(in crate::admission) fn model(test: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        // Every defect of this kind that is known shows with two switches; a third makes the search take minutes.
        model.preemption_bound = Some(2);
        model.check(test);
    }

    pub(in crate::admission) fn look(wait: &mut Wait) -> Poll<Turn> {
        Pin::new(wait).poll(&mut Context::from_waker(Waker::noop()))
    }

    pub(in crate::admission) fn is_served(wait: &mut Wait) -> Option<Permit> {
        match look(wait) {
            Poll::Ready(Turn::Admit(permit)) => Some(permit),
            Poll::Pending => None,
            other => panic!("{other:?}"),
        }
    }

    // A34: a place that comes free as a wait is given up goes to one of them, and is never lost.
    #[test]
    fn a_place_is_not_lost_between_its_release_and_a_wait_that_is_given_up() {
        model(|| {
            let world = World::new();
            let permit = world.admit();
            let wait = world.wait();
            let holder = thread::spawn(move || drop(permit));
            let turn = wait.give_up();
            holder.join().unwrap();
            match turn {
                Turn::Admit(permit) => drop(permit),
                Turn::Resume(ask) => drop(ask),
                other => panic!("{other:?}"),
            }
            world.assert_empty();
        });
    }

    // A34: whoever begins to wait as the place comes free is served.
    #[test]
    fn one_who_begins_to_wait_as_the_place_comes_free_is_served() {
        model(|| {
            let world = World::new();
            let permit = world.admit();
            let holder = thread::spawn(move || drop(permit));
            let decision = world.ask();
            holder.join().unwrap();
            match decision {
                Decision::Admit(permit) => drop(permit),
                Decision::Wait(mut wait) => match look(&mut wait) {
                    Poll::Ready(Turn::Admit(permit)) => drop(permit),
                    other => panic!("the place is free and nobody told it: {other:?}"),
                },
                Decision::Reject(rejection) => panic!("{rejection:?}"),
            }
            world.assert_empty();
        });
    }

    // A34: a client that leaves as its turn comes hands the place on to the next.
    #[test]
    fn a_place_given_to_one_who_leaves_goes_to_the_next() {
        model(|| {
            let world = World::new();
            let permit = world.admit();
            let (first, mut second) = (world.wait(), world.wait());
            let holder = thread::spawn(move || drop(permit));
            drop(first);
            holder.join().unwrap();
            match look(&mut second) {
                Poll::Ready(Turn::Admit(permit)) => drop(permit),
                other => panic!("the place is free and nobody told it: {other:?}"),
            }
            drop(second);
            world.assert_empty();
        });
    }
}
