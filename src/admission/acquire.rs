//! The one question: may this request go on? And what is tried when it does not fit.
//!
//! Reading comes first: a request that cannot fit writes to no cell and makes none. Then places are taken in every limit that
//! applies, or in none. What does not fit walks the ladder of the first limit that has no place. A request that lost a race for
//! one of its places gives the others back, and may so have been in another's way for a moment; it never held a place that was
//! not free. The usual path takes no lock and allocates nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::ask::{Ask, Story};
use super::cell::{Cell, Take};
use super::class::Class;
use super::episode::Met;
use super::key::Lookup;
use super::ladder::Step;
use super::limit::{Counting, Limit};
use super::permit::Awaited;
use super::policy::Policy;
use super::registry::Registry;
use super::waiting::Place;
use super::{Decision, Permit, Reason, Rejection};

/// The first limit that has no place.
#[derive(Debug)]
pub(super) struct Full {
    /// The limit's place in the policy that the request was judged by.
    pub(super) index: u16,
    pub(super) max: u32,
    pub(super) in_flight: u32,
    /// The key's cell, if anything was ever counted there.
    pub(super) cell: Option<Arc<Cell>>,
    /// When a place is expected, where time gives it back.
    pub(super) free_in: Option<Duration>,
    /// Cells from which places were taken and given back meanwhile, and for which others wait.
    pub(super) awaited: Awaited,
}

/// By what a request is judged, beside its class.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms<'a> {
    /// What it has been through.
    pub(super) ask: Option<&'a Ask>,
    /// The maxima of the moment, which may be newer than a request that has waited.
    pub(super) newest: Option<&'a Policy>,
    /// The cell by which it is served, where it does not stand behind those who wait.
    pub(super) served: Option<u64>,
    /// What is known of its account's counts where it is served.
    pub(super) place: Option<&'a Place>,
}

impl Terms<'_> {
    #[inline]
    pub(super) fn applies(&self, limit: &Limit, class: &Class) -> bool {
        limit.counts(class)
            && self
                .ask
                .is_none_or(|ask| !ask.left.contains(&limit.real.scope.id))
    }

    #[inline]
    fn max(&self, limit: &Limit, class: &Class, cell: Option<&Cell>) -> u32 {
        let Some(ask) = self.ask else {
            return limit.max_of(class, cell);
        };
        let newest = self
            .newest
            .and_then(|newest| Some((newest, newest.by_scope(limit.real.scope.id)?)));
        let Some((newest, limit)) = newest else {
            return ask.max_of(limit, cell);
        };
        let max = newest.max_of_ask(limit, ask, cell);
        let waiting = cell.filter(|_| self.served.is_some());
        let lent = waiting.map_or(0, |cell| limit.lent(max, class.cost, cell));
        max.saturating_add(lent)
    }

    #[inline]
    fn is_served_by(&self, cell: &Cell) -> bool {
        self.served == Some(cell.id)
    }
}

impl Policy {
    /// Places that a limit of this policy has for a request that may be of an older one.
    pub(super) fn max_of_ask(&self, limit: &Limit, ask: &Ask, cell: Option<&Cell>) -> u32 {
        let account = &ask.class.account;
        let at = limit.place_of(&ask.class);
        let max = limit.max_for_key(Some(account), self.group_of(account), cell, at);
        ask.raised(limit, max)
    }
}

/// What is taken for one limit.
struct Wanted {
    index: u16,
    /// `None` where nobody is counted yet; such a cell is made only once everything is known to fit.
    cell: Option<Arc<Cell>>,
    max: u32,
}

impl Registry {
    /// Takes places for a request in every limit that applies, or in none; if they are not free, it may wait for them.
    pub fn acquire(&self, policy: &Arc<Policy>, class: &Class, now: Instant) -> Decision {
        self.acquire_until(policy, class, || None, now)
    }

    /// The same for a client that gives up at an instant: nobody waits for what cannot be answered in time.
    pub fn acquire_until(
        &self,
        policy: &Arc<Policy>,
        class: &Class,
        client_deadline: impl FnOnce() -> Option<Instant>,
        now: Instant,
    ) -> Decision {
        let taken = self.try_take(policy, class, Terms::default(), now);
        if self.is_renewing() && policy.patience(class).is_some() {
            let ask = Ask::new(policy, class, client_deadline(), now);
            return self.stand_behind(taken, ask, now);
        }
        match taken {
            Ok(permit) => Decision::Admit(permit),
            Err(full) => {
                let limit = &policy.limits[usize::from(full.index)];
                if limit.settings.ladder.steps().is_empty() {
                    self.serve_all(&full);
                    let reason = Reason::LimitReached;
                    return Decision::Reject(self.rejection(policy, class, &full, reason, now));
                }
                self.walk(Ask::new(policy, class, client_deadline(), now), full, now)
            }
        }
    }

    /// Asks again for a request whose wait has ended without a place.
    pub fn resume(&self, ask: Box<Ask>, now: Instant) -> Decision {
        if ask.renewal.is_some() || self.is_to_stand_behind(&ask, now) {
            return self.stand_in_hall(ask, now);
        }
        let newest = self.room.lock().policy.clone();
        let terms = Terms {
            ask: Some(&ask),
            newest: newest.as_deref(),
            ..Terms::default()
        };
        match self.try_take(&ask.policy, &ask.class, terms, now) {
            Ok(mut permit) => {
                permit.story = tell(ask, permit.story.take());
                Decision::Admit(permit)
            }
            Err(full) => self.walk(ask, full, now),
        }
    }

    /// Tries the steps of the ladder of the limit that is full, until one holds.
    fn walk(&self, mut ask: Box<Ask>, mut full: Full, now: Instant) -> Decision {
        let policy = Arc::clone(&ask.policy);
        loop {
            self.serve_all(&full);
            let limit = &policy.limits[usize::from(full.index)];
            let scope = limit.real.scope.id;
            match ask.step(limit) {
                Step::Queue(queue) => match self.enqueue(ask, (limit, &full), queue, now) {
                    Ok(wait) => return Decision::Wait(wait),
                    Err((back, why)) => {
                        ask = back;
                        ask.advance(scope, why);
                        continue;
                    }
                },
                Step::Slow(slow) => {
                    if ask.sleeps_again(scope, slow.times) {
                        match self.sleep(ask, limit, slow, now) {
                            Ok(wait) => return Decision::Wait(wait),
                            Err(back) => ask = back,
                        }
                        ask.advance(scope, Reason::QueueFull);
                    } else {
                        ask.advance(scope, Reason::QueueTimeout);
                    }
                    continue;
                }
                Step::Reroute(upstream) => ask.reroute(scope, upstream),
                Step::Admit(overage) => ask.go_over(scope, overage),
                Step::Reject { .. } => {
                    let reason = ask.reason(limit);
                    return Decision::Reject(
                        self.rejection(&policy, &ask.class, &full, reason, now),
                    );
                }
            }
            // One that has not waited came under the limits of the moment.
            let newest = ask.has_waited().then(|| self.room.lock().policy.clone());
            let newest = newest.flatten();
            let terms = Terms {
                ask: Some(&ask),
                newest: newest.as_deref(),
                ..Terms::default()
            };
            match self.try_take(&policy, &ask.class, terms, now) {
                Ok(mut permit) => {
                    permit.story = tell(ask, permit.story.take());
                    return Decision::Admit(permit);
                }
                Err(other) => full = other,
            }
        }
    }

    /// Takes places in every limit that applies, or in none. May be called with the waiting room locked: it serves nobody.
    pub(super) fn try_take(
        &self,
        policy: &Policy,
        class: &Class,
        terms: Terms<'_>,
        now: Instant,
    ) -> Result<Permit, Full> {
        let plan = policy.plan(class);
        let mut wanted = SmallVec::<[Wanted; 6]>::new();
        for &index in &plan.enforced {
            let limit = &policy.limits[usize::from(index)];
            if !terms.applies(limit, class) {
                continue;
            }
            let cell = self.find(policy, limit, &limit.real, class);
            let usual = || terms.max(limit, class, cell.as_deref());
            let max = self.samples_for(policy, limit, class, usual);
            let in_flight = cell.as_deref().map_or(0, |cell| cell.in_use(max, now));
            let is_behind = cell
                .as_deref()
                .is_some_and(|cell| cell.count.waiting() > 0 && !terms.is_served_by(cell));
            if is_behind || in_flight.saturating_add(class.cost) > max {
                return Err(Full {
                    index,
                    max: limit.places(max),
                    in_flight: limit.places(in_flight),
                    free_in: free_in(cell.as_deref(), class.cost, max, now),
                    cell,
                    awaited: Awaited::new(),
                });
            }
            if limit.is_sampled() {
                wanted.push(Wanted { index, cell, max });
            }
        }
        let mut permit = Permit::new(class, now);
        for Wanted { index, cell, max } in wanted {
            let limit = &policy.limits[usize::from(index)];
            let lookup = policy.lookup(limit, &limit.real, class);
            let cell = cell.unwrap_or_else(|| self.find_or_insert(&limit.real, lookup));
            let terms = &terms;
            let is_in_turn = move |cell: &Cell| terms.is_served_by(cell);
            match self.take(&mut permit, &limit.real, lookup, cell, max, is_in_turn) {
                Ok(taken) => {
                    if limit.moving.is_some() {
                        permit.is_to_teach(limit, class, taken);
                    }
                    if terms.ask.is_some_and(|ask| !ask.raised.is_empty()) {
                        self.note_overage(&mut permit, policy, (limit, class), terms, taken);
                    }
                }
                Err((in_flight, cell)) => {
                    let mut awaited = permit.give_back(true);
                    if cell.tally.is_some() && cell.is_awaited() {
                        awaited.push(Arc::clone(&cell));
                    }
                    return Err(Full {
                        index,
                        max: limit.places(max),
                        in_flight: limit.places(in_flight),
                        free_in: free_in(Some(&cell), class.cost, max, now),
                        cell: Some(cell),
                        awaited,
                    });
                }
            }
        }
        terms.confirm(policy, &mut permit)?;
        self.settle(&mut permit, policy, class, terms);
        Ok(permit)
    }

    /// Counts what has no maximum: what each account holds of shared keys, guarantees, shadows, candidates, and the account itself.
    fn settle(&self, permit: &mut Permit, policy: &Policy, class: &Class, terms: Terms<'_>) {
        let plan = policy.plan(class);
        let limit = |index: &u16| &policy.limits[usize::from(*index)];
        for limit in plan.enforced.iter().map(limit) {
            if !terms.applies(limit, class) {
                continue;
            }
            if let Some(occupancy) = &limit.occupancy {
                let lookup = policy.occupancy_lookup(occupancy, class);
                let known = terms.place.and_then(|place| place.occupancy.as_ref());
                let known = known.filter(|cell| cell.key.scope() == lookup.scope);
                let find = || self.find_or_insert(&occupancy.counting, lookup);
                let cell = known.map_or_else(find, Arc::clone);
                let in_turn = |_: &Cell| true;
                drop(self.take(permit, &occupancy.counting, lookup, cell, u32::MAX, in_turn));
            }
            if let Some(share) = limit.share_of(class) {
                let cell = &limit.shares[share];
                if matches!(cell.take(class.cost, u32::MAX, true), Take::Taken(_)) {
                    permit.cells.push(Arc::clone(cell));
                }
            }
        }
        let shadow = plan.shadow.iter().map(limit);
        for limit in shadow.filter(|limit| limit.counts(class)) {
            self.take_in_shadow(permit, policy, limit, class);
        }
        if !plan.trials.is_empty() {
            self.try_candidates(permit, policy, class);
        }
        let account = terms.place.and_then(|place| place.account.as_ref());
        permit.account_in_flight = self.take_of_account(permit, policy, class, account);
    }

    /// Takes one cell into the permit; a removed one is looked up again. Gives what is in flight then.
    pub(super) fn take(
        &self,
        permit: &mut Permit,
        counting: &Counting,
        lookup: Lookup<'_>,
        mut cell: Arc<Cell>,
        max: u32,
        is_in_turn: impl Fn(&Cell) -> bool,
    ) -> Result<u32, (u32, Arc<Cell>)> {
        loop {
            let take = match &cell.tally {
                None => cell.take(permit.cost, max, is_in_turn(&cell)),
                Some(tally) => match cell.take_tallied(
                    tally,
                    permit.cost,
                    max,
                    is_in_turn(&cell),
                    permit.taken_at,
                ) {
                    Ok((Some(mark), in_use)) => {
                        permit.marks.push((cell, mark));
                        return Ok(in_use);
                    }
                    Ok((None, in_use)) => Take::Taken(in_use),
                    Err(take) => take,
                },
            };
            match take {
                Take::Taken(in_flight) => {
                    permit.cells.push(cell);
                    return Ok(in_flight);
                }
                Take::Full(in_flight) => return Err((in_flight, cell)),
                Take::Dead => cell = self.find_or_insert(counting, lookup),
            }
        }
    }

    fn take_in_shadow(&self, permit: &mut Permit, policy: &Policy, limit: &Limit, class: &Class) {
        let lookup = policy.lookup(limit, &limit.paper, class);
        let paper = self.find_or_insert(&limit.paper, lookup);
        let usual = || limit.max_of(class, Some(&paper));
        let max = self.samples_for(policy, limit, class, usual);
        let fits = if limit.is_sampled() {
            let real = policy.lookup(limit, &limit.real, class);
            let cell = self.find_or_insert(&limit.real, real);
            // Without a maximum only a removed cell or an overflowing count can be in the way.
            if let Ok(taken) = self.take(permit, &limit.real, real, cell, u32::MAX, |_| true) {
                permit.is_to_teach(limit, class, taken);
            }
            self.take(permit, &limit.paper, lookup, paper, max, |_| true)
                .is_ok()
        } else {
            let in_use = paper.in_use(max, permit.taken_at);
            in_use.saturating_add(permit.cost) <= max
        };
        let scope = &limit.real.scope;
        if fits {
            scope.would_admit.fetch_add(1, Ordering::Relaxed);
        } else {
            let name = || Arc::clone(&limit.name);
            permit.would_reject.get_or_insert_with(name);
            scope.would_reject.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take_of_account(
        &self,
        permit: &mut Permit,
        policy: &Policy,
        class: &Class,
        mut known: Option<&Arc<Cell>>,
    ) -> u32 {
        loop {
            let find = || self.find_or_insert(&self.accounts, self.account_lookup(policy, class));
            let cell = known.take().map_or_else(find, Arc::clone);
            match cell.take(1, u32::MAX, true) {
                Take::Taken(in_flight) => {
                    permit.account = Some(cell);
                    return in_flight;
                }
                Take::Full(in_flight) => return in_flight,
                Take::Dead => {}
            }
        }
    }

    /// The refusal of a class by the limit that is full.
    pub(super) fn rejection(
        &self,
        policy: &Policy,
        class: &Class,
        full: &Full,
        reason: Reason,
        now: Instant,
    ) -> Box<Rejection> {
        let limit = &policy.limits[usize::from(full.index)];
        limit.real.scope.refusals.note(class.cost);
        let (numbers, met) = ((full.max, full.in_flight), || Met::Refused(reason));
        self.episodes
            .meet(policy, (limit, class), numbers, met, now);
        if let Some(cell) = &full.cell {
            cell.note_refusal();
        }
        let waiting = full.cell.as_ref().map_or(0, |cell| cell.count.waiting());
        // Places come free at in_flight / hold a second; a closed limit or one without history says nothing.
        let missing = (f64::from(full.in_flight) + f64::from(class.cost) - f64::from(full.max))
            .max(f64::from(class.cost))
            + f64::from(waiting);
        let held = limit.real.scope.mean_hold_seconds();
        let drain_seconds = full.free_in.map_or_else(
            || held * missing / f64::from(full.in_flight.max(1)),
            |free_in| free_in.as_secs_f64(),
        );
        Box::new(Rejection {
            reason,
            limit: Arc::clone(&limit.name),
            axis: Arc::clone(&limit.axis),
            window: limit.settings.counted.window(),
            status: limit.settings.ladder.status(),
            max: full.max,
            in_flight: full.in_flight,
            account_in_flight: self.account_in_flight(policy, class),
            drain_seconds,
        })
    }

    /// A place above the limit's own maximum carries the mark of the step that allowed it.
    fn note_overage(
        &self,
        permit: &mut Permit,
        policy: &Policy,
        (limit, class): (&Limit, &Class),
        terms: &Terms<'_>,
        taken: u32,
    ) {
        let overage = terms.ask.and_then(|ask| ask.overage(limit));
        let cell = permit.cells.last().map(Arc::as_ref);
        let max = limit.max_of(class, cell);
        let Some(overage) = overage.filter(|_| taken > max) else {
            return;
        };
        let mark = || Arc::clone(&overage.mark);
        permit.story.get_or_insert_default().mark = Some(mark());
        let (numbers, met) = ((max, taken), || Met::Marked(mark()));
        let now = permit.taken_at;
        self.episodes
            .meet(policy, (limit, class), numbers, met, now);
    }

    fn serve_all(&self, full: &Full) {
        for cell in &full.awaited {
            self.serve(Arc::clone(cell), None);
        }
    }
}

/// When a cell that time empties has a place again, after those who wait for it.
fn free_in(cell: Option<&Cell>, cost: u32, max: u32, now: Instant) -> Option<Duration> {
    let (cell, tally) = (cell?, cell?.tally.as_ref()?);
    let ahead = cell.count.waiting();
    Some(tally.free_in(cost.saturating_add(ahead), max, now))
}

/// What became of a request, with what its permit knows already.
pub(super) fn tell(mut ask: Box<Ask>, told: Option<Box<Story>>) -> Option<Box<Story>> {
    let mut story = Box::new(std::mem::take(&mut ask.story));
    if let Some(told) = told {
        story.mark = told.mark.or(story.mark);
        story.candidates_would_reject = told.candidates_would_reject;
    }
    Some(story)
}
