//! How a request comes to wait: until when it may, in which line it stands, and whose place it takes when that line is full.
//!
//! A full line is no wall: a newcomer with less in it than others takes the place of the last in turn of those who have most,
//! within what each priority has for its own. So a queue that one account or one priority has filled still serves the others,
//! and fairness does not depend on how long a queue is. Never makes a line longer than its queue allows; never scans one.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::Reason;
use super::acquire::Full;
use super::ask::Ask;
use super::cell::Cell;
use super::flows::{Entry, Flows, Owner};
use super::ladder::{Order, Queue, Slow};
use super::lately::Lately;
use super::limit::Limit;
use super::registry::Registry;
use super::waiting::{
    After, Bounds, Left, Line, Place, Stage, State, Turn, WAITERS_MAX, Wait, occupied,
};

/// In a standing queue whose order is adaptive, a newcomer may wait for this part of the timeout (5 of 100 ms in the source that
/// [`Order::Adaptive`] names).
const STANDING_PART: u32 = 20;

/// The line that a request is to join.
pub(super) struct Stand<'a> {
    pub(super) limit: &'a Limit,
    pub(super) cell: Arc<Cell>,
    pub(super) queue: Queue,
    /// Since when somebody waits there.
    pub(super) since: Instant,
}

impl Registry {
    /// Puts a request into the line of the cell that is full; gives it back with the reason if it may not wait there.
    pub(super) fn enqueue(
        &self,
        mut ask: Box<Ask>,
        (limit, full): (&Limit, &Full),
        queue: Queue,
        now: Instant,
    ) -> Result<Wait, (Box<Ask>, Reason)> {
        let Some(registry) = self.this.upgrade() else {
            return Err((ask, Reason::Draining));
        };
        let mut state = self.room.lock();
        state.note_time(now);
        let current = state.policy.get_or_insert_with(|| Arc::clone(&ask.policy));
        if current.by_scope(limit.real.scope.id).is_none() {
            // A reload took the limit away a moment ago.
            let ticket = state.admit(Stage::Over(Box::new(Turn::Renew(ask))));
            drop(state);
            return Ok(Wait::new(registry, ticket, now));
        }
        let cell = self.cell_of(&ask, limit, full);
        let since = state.lines.get(&cell.id).map_or(now, |line| line.since);
        let is_standing =
            queue.order == Order::Adaptive && now.saturating_duration_since(since) >= queue.timeout;
        let patience = if is_standing {
            queue.timeout / STANDING_PART
        } else {
            queue.timeout
        };
        let answered_by = Duration::from_secs_f64(limit.real.scope.mean_hold_seconds());
        let client = ask
            .client_deadline
            .and_then(|at| at.checked_sub(answered_by));
        let deadlines = [Some(now + patience), ask.queue_deadline, client];
        let deadline = deadlines.into_iter().flatten().min().unwrap_or(now);
        // A client whose patience is over is refused as one for whom no place came free.
        let is_late = ask.client_deadline.is_some() && client.is_none_or(|client| client <= now);
        if is_late || deadline <= now {
            return Err((ask, Reason::QueueTimeout));
        }
        ask.queue_deadline = Some(deadline);
        let ticket = state.admit(Stage::Nowhere);
        let mut after = After::default();
        let stand = Stand {
            limit,
            cell,
            queue,
            since,
        };
        match self.join(&mut state, ticket.key, ask, stand, &mut after) {
            Err((ask, why)) => {
                state.waiters.remove(ticket.key);
                Err((ask, why))
            }
            Ok(cell) => {
                // A place may have come free between the first look and the line.
                let State { lines, policy, .. } = &mut *state;
                let mut may_fit = true;
                if let Some(line) = lines.get_mut(&cell.id) {
                    line.flows.is_newest_first = is_standing;
                    let newest = policy.as_ref();
                    let limit = newest.and_then(|policy| policy.by_scope(limit.real.scope.id));
                    may_fit = !limit.is_some_and(|limit| line.is_hopeless(limit));
                }
                drop(state);
                after.wakers.into_iter().for_each(Waker::wake);
                if may_fit {
                    self.serve(cell, None);
                }
                Ok(Wait::new(registry, ticket, deadline))
            }
        }
    }

    pub(super) fn cell_of(&self, ask: &Ask, limit: &Limit, full: &Full) -> Arc<Cell> {
        full.cell.as_ref().map_or_else(
            || {
                let lookup = ask.policy.lookup(limit, &limit.real, &ask.class);
                self.find_or_insert(&limit.real, lookup)
            },
            Arc::clone,
        )
    }

    /// Puts a waiter into a line, if it may stand there; where the line is full, in the place of another.
    pub(super) fn join(
        &self,
        state: &mut State,
        key: usize,
        mut ask: Box<Ask>,
        stand: Stand<'_>,
        after: &mut After,
    ) -> Result<Arc<Cell>, (Box<Ask>, Reason)> {
        let Stand {
            limit,
            mut cell,
            queue,
            since,
        } = stand;
        if ask.class.cost > ask.max_of(limit, Some(&cell)) {
            return Err((ask, Reason::LimitReached));
        }
        let owner = Owner {
            account: ask.class.account,
            priority: ask.class.priority,
            weight: ask.policy.weight_of(&ask.class),
            share: limit.share_of(&ask.class),
        };
        if state.waiters.len() > WAITERS_MAX {
            return Err((ask, Reason::QueueFull));
        }
        if let Some(line) = state.lines.get(&cell.id) {
            if line.flows.waiting_of(&owner.account) >= queue.per_account as usize {
                return Err((ask, Reason::QueueFull));
            }
            if line.flows.len() >= queue.length {
                let last = line.flows.last(&owner, queue.length, |share, waiting| {
                    limit.is_owed(share, waiting)
                });
                let Some(last) = last else {
                    return Err((ask, Reason::QueueFull));
                };
                displace(state, last, after);
            }
        }
        // Set before anybody can see a waiter.
        cell.scope.registry.get_or_init(|| Weak::clone(&self.this));
        while !cell.count.add_waiter() {
            let lookup = ask.policy.lookup(limit, &limit.real, &ask.class);
            cell = self.find_or_insert(&limit.real, lookup);
        }
        let serial = *ask.serial.get_or_insert_with(|| {
            state.arrivals += 1;
            state.arrivals
        });
        ask.story.was_queued = true;
        let line = state.lines.entry(cell.id).or_insert_with(|| Line {
            cell: Arc::clone(&cell),
            flows: flows_of(&cell, limit),
            since,
            due: None,
            bounds: Bounds::new(),
        });
        line.bounds.include(&ask, limit);
        let entry = Entry {
            serial,
            id: key,
            cost: ask.class.cost,
        };
        let arrivals = state.arrivals;
        let place = || {
            let occupancy = self.occupancy_cell(&ask, limit);
            let known = occupancy.as_ref();
            let served = known.and_then(|cell| cell.last_served(arrivals));
            let account = None;
            (Place { occupancy, account }, served)
        };
        let flow = line.flows.push(owner, entry, place, occupied);
        state.waiters[key].stage = Stage::InLine(ask, cell.id, flow, serial);
        state.len += 1;
        Ok(cell)
    }

    pub(super) fn occupancy_cell(&self, ask: &Ask, limit: &Limit) -> Option<Arc<Cell>> {
        let occupancy = limit.occupancy.as_ref()?;
        let lookup = ask.policy.occupancy_lookup(occupancy, &ask.class);
        Some(self.find_or_insert(&occupancy.counting, lookup))
    }

    /// Lets a request sleep in a `slow` step; gives it back if too many do already.
    pub(super) fn sleep(
        &self,
        mut ask: Box<Ask>,
        limit: &Limit,
        slow: Slow,
        now: Instant,
    ) -> Result<Wait, Box<Ask>> {
        let scope = &limit.real.scope;
        let Some(registry) = self.this.upgrade() else {
            return Err(ask);
        };
        if scope.slowed.fetch_add(1, Ordering::Relaxed) >= slow.length {
            scope.slowed.fetch_sub(1, Ordering::Relaxed);
            return Err(ask);
        }
        ask.story.was_slowed = true;
        let stage = Stage::Asleep(ask, Arc::clone(scope));
        let mut state = self.room.lock();
        let ticket = state.admit(stage);
        state.len += 1;
        drop(state);
        Ok(Wait::new(registry, ticket, now + slow.delay))
    }
}

/// The flows of a line that begins.
fn flows_of(cell: &Cell, limit: &Limit) -> Flows<Place> {
    let is_timed = cell.tally.is_some();
    let is_by_occupancy = limit.occupancy.is_some() && !is_timed;
    let lately = is_by_occupancy.then(|| Lately::new(cell.count.in_flight()));
    Flows::new(is_timed, lately)
}

/// Has a waiter make way: it tries what the limit says next, as one that found the line full.
fn displace(state: &mut State, key: usize, after: &mut After) {
    if let Some(Left { mut ask, scope, .. }) = state.leave(key) {
        ask.advance(scope, Reason::QueueFull);
        ask.queue_deadline = None;
        state.end(key, Turn::Resume(ask), after);
    }
}
