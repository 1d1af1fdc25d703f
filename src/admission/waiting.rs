//! The waiting room: everybody who waits for a place.
//!
//! A waiter stands in one line, that of the first cell that did not fit, until it is served, refused, or leaves. One lock
//! guards all of it, so that granting and abandoning are one change and cannot both happen; under it only cells and the
//! registry's shards are touched, and nobody is woken. Never reads a clock: timeouts are the caller's to announce.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use hashbrown::HashMap;
use slab::Slab;
use smallvec::SmallVec;

use super::ask::Ask;
use super::cell::Cell;
use super::due::Agenda;
use super::flows::Flows;
use super::hold::Scope;
use super::limit::Limit;
use super::permit::Permit;
use super::policy::Policy;
use super::registry::Registry;
use super::sync::Mutex;
use super::{Reason, Rejection};

/// Waiters over all lines: with their requests some 1 GiB, beyond what connections allow.
pub(super) const WAITERS_MAX: usize = 1 << 20;

/// How a wait ended.
#[derive(Debug)]
pub enum Turn {
    /// It has its places.
    Admit(Permit),
    /// It is refused.
    Reject(Box<Rejection>),
    /// It waits no longer here and tries what comes next: [`Registry::resume`].
    Resume(Box<Ask>),
    /// The limits have changed: it is to be classified anew, and then to [resume](Registry::resume) as [renewed](Ask::renewed).
    Renew(Box<Ask>),
}

/// Names a waiter, so that an operator can end its wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub(super) key: usize,
    pub(super) number: u64,
}

/// A request that waits. Dropping it ends the wait.
#[derive(Debug)]
#[must_use = "a dropped wait is over"]
pub struct Wait {
    registry: Arc<Registry>,
    ticket: Ticket,
    deadline: Instant,
    is_over: bool,
}

/// All lines and all waiters.
#[derive(Debug, Default)]
pub(super) struct Room(Mutex<State>);

#[cfg(not(feature = "loom"))]
type Guard<'a> = parking_lot::MutexGuard<'a, State>;
#[cfg(feature = "loom")]
type Guard<'a> = loom::sync::MutexGuard<'a, State>;

#[derive(Debug, Default)]
pub(super) struct State {
    /// The maxima of the moment.
    pub(super) policy: Option<Arc<Policy>>,
    /// The latest instant that anybody brought: limits that time empties are asked by it.
    pub(super) latest: Option<Instant>,
    pub(super) lines: HashMap<u64, Line, ahash::RandomState>,
    /// When lines before what time gives back are to be served.
    pub(super) agenda: Agenda,
    pub(super) waiters: Slab<Waiter>,
    /// Those in lines, asleep and in the hall.
    pub(super) len: usize,
    pub(super) arrivals: u64,
    /// How many were told to ask anew and have not come back.
    pub(super) renewing: usize,
    /// Those who stand in the hall meanwhile, in the order of arrival.
    pub(super) hall: BTreeMap<u64, usize>,
}

/// What a flow knows of its account's counts, so that serving it looks nothing up.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// What it holds of the cell, where several share that.
    pub(super) occupancy: Option<Arc<Cell>>,
    /// All that it has in flight; known from its first grant on.
    pub(super) account: Option<Arc<Cell>>,
}

/// Those who wait for one cell.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) cell: Arc<Cell>,
    pub(super) flows: Flows<Place>,
    /// Since when it has not been empty.
    pub(super) since: Instant,
    /// When time gives back what one of them waits for.
    pub(super) due: Option<Instant>,
    pub(super) bounds: Bounds,
}

/// What nobody in a line goes beyond. It covers all that have stood there since the line began, so it is kept without a look at
/// those who stay.
#[derive(Debug)]
pub(super) struct Bounds {
    least_cost: u32,
    /// Up to where a step of the ladder lets one of them go over the limit.
    raised_to: u32,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) number: u64,
    pub(super) stage: Stage,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// In the line of a cell, in a flow, with this place in the order of arrival.
    InLine(Box<Ask>, u64, usize, u64),
    /// In a `slow` step.
    Asleep(Box<Ask>, Arc<Scope>),
    /// In the hall, with its place in the order of arrival.
    InHall(Box<Ask>, u64),
    /// In a box: a permit is large, and most of those in the room have none yet.
    Over(Box<Turn>),
    /// Between two of the others, while the lock is held.
    Nowhere,
}

/// One that waits no longer.
pub(super) struct Left {
    pub(super) ask: Box<Ask>,
    /// Of no limit if it stood in the hall.
    pub(super) scope: u64,
    /// The cell that it stood at, if it was not asleep.
    pub(super) cell: Option<Arc<Cell>>,
}

impl Stage {
    pub(super) fn ask(&self) -> Option<&Ask> {
        match self {
            Self::InLine(ask, ..) | Self::Asleep(ask, _) | Self::InHall(ask, _) => Some(ask),
            Self::Over(_) | Self::Nowhere => None,
        }
    }
}

/// What is left to do once the lock is released.
#[derive(Default)]
pub(super) struct After {
    pub(super) wakers: SmallVec<[Waker; 2]>,
    pub(super) cells: SmallVec<[Arc<Cell>; 2]>,
}

impl Place {
    /// Keeps what is known by now: another count of what it holds, and the account's own from a permit.
    pub(super) fn learn(&mut self, renewed: Option<Arc<Cell>>, permit: Option<&Permit>) {
        if renewed.is_some() {
            self.occupancy = renewed;
        }
        let account = permit.and_then(|permit| permit.account.as_ref());
        if let Some(account) = account
            && !self
                .account
                .as_ref()
                .is_some_and(|known| Arc::ptr_eq(known, account))
        {
            self.account = Some(Arc::clone(account));
        }
    }
}

impl Bounds {
    pub(super) fn new() -> Self {
        Self {
            least_cost: u32::MAX,
            raised_to: 0,
        }
    }

    /// Covers one more.
    pub(super) fn include(&mut self, ask: &Ask, limit: &Limit) {
        self.least_cost = self.least_cost.min(ask.class.cost);
        let raised_to = ask.overage(limit).map_or(0, |overage| overage.up_to);
        self.raised_to = self.raised_to.max(raised_to);
    }
}

impl Line {
    /// Whether certainly nobody in the line fits, by the limit of the moment: the smallest cost does not go under the largest
    /// maximum and all that is lent. While a crowd waits this is so after nearly every grant and arrival, and it saves a look at many
    /// of them. Says nothing of what time gives back, for there the look also finds when.
    ///
    /// To be asked with the room locked, as everything that is looked at here is: whoever gives a place back, lends one or raises a
    /// maximum serves the line after that.
    pub(super) fn is_hopeless(&self, limit: &Limit) -> bool {
        let cell = &*self.cell;
        if cell.tally.is_some() {
            return false;
        }
        let in_flight = cell.count.in_flight();
        let Some(most) = limit.most_of(cell) else {
            return false;
        };
        let most = most.max(self.bounds.raised_to);
        let lent = limit.lent(u32::MAX, 0, cell);
        in_flight.saturating_add(self.bounds.least_cost) > most.saturating_add(lent)
    }
}

pub(super) fn occupied(place: &Place) -> u32 {
    let occupancy = place.occupancy.as_ref();
    occupancy.map_or(0, |cell| cell.count.in_flight())
}

impl State {
    pub(super) fn note_time(&mut self, now: Instant) {
        self.latest = self.latest.max(Some(now));
    }

    /// The time, as far as it is known.
    pub(super) fn latest(&self) -> Option<Instant> {
        self.latest
    }

    /// The time, as far as it is known, for one that asked at an instant.
    pub(super) fn time(&self, asked: Instant) -> Instant {
        self.latest.map_or(asked, |latest| latest.max(asked))
    }

    pub(super) fn is(&self, ticket: Ticket) -> bool {
        let waiter = self.waiters.get(ticket.key);
        waiter.is_some_and(|waiter| waiter.number == ticket.number)
    }

    /// Lets a waiter in.
    pub(super) fn admit(&mut self, stage: Stage) -> Ticket {
        self.arrivals += 1;
        let number = self.arrivals;
        let key = self.waiters.insert(Waiter {
            number,
            stage,
            waker: None,
        });
        Ticket { key, number }
    }

    /// Takes a waiter out of its line, or wakes it, if it still waits.
    pub(super) fn leave(&mut self, key: usize) -> Option<Left> {
        let waiter = self.waiters.get_mut(key)?;
        match std::mem::replace(&mut waiter.stage, Stage::Nowhere) {
            Stage::InLine(ask, cell, flow, serial) => {
                self.len -= 1;
                let line = self.lines.get_mut(&cell)?;
                line.flows.remove(flow, serial, occupied);
                line.cell.count.remove_waiter();
                let cell = Arc::clone(&line.cell);
                if line.flows.len() == 0 {
                    self.agenda.forget(line);
                    self.lines.remove(&cell.id);
                }
                Some(Left {
                    ask,
                    scope: cell.scope.id,
                    cell: Some(cell),
                })
            }
            Stage::Asleep(ask, scope) => {
                self.len -= 1;
                scope.slowed.fetch_sub(1, Ordering::Relaxed);
                Some(Left {
                    ask,
                    scope: scope.id,
                    cell: None,
                })
            }
            Stage::InHall(ask, serial) => {
                self.len -= 1;
                self.hall.remove(&serial);
                Some(Left {
                    ask,
                    scope: 0,
                    cell: None,
                })
            }
            other => {
                waiter.stage = other;
                None
            }
        }
    }

    pub(super) fn end(&mut self, key: usize, turn: Turn, after: &mut After) {
        if let Some(waiter) = self.waiters.get_mut(key) {
            waiter.stage = Stage::Over(Box::new(turn));
            if let Some(waker) = waiter.waker.take() {
                after.wakers.push(waker);
            }
        }
    }
}

impl Wait {
    pub(super) fn new(registry: Arc<Registry>, ticket: Ticket, deadline: Instant) -> Self {
        Self {
            registry,
            ticket,
            deadline,
            is_over: false,
        }
    }

    /// When to [give up](Self::give_up).
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The name by which the wait can be ended from elsewhere.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Ends the wait because its deadline has come. If it was served at the same moment, it has its places.
    pub fn give_up(mut self) -> Turn {
        let (turn, cell) = self.take(|waiter| {
            let Left {
                mut ask,
                scope,
                cell,
            } = waiter;
            if cell.is_some() {
                ask.advance(scope, Reason::QueueTimeout);
                ask.queue_deadline = None;
            }
            (Turn::Resume(ask), cell)
        });
        cell.into_iter()
            .for_each(|cell| self.registry.serve(cell, None));
        turn.unwrap_or_else(|| unreachable!("a wait ends once, and gives something"))
    }

    /// How it has ended, if it has and its owner has nothing to do for it.
    pub(super) fn decided(&mut self) -> Option<Turn> {
        let mut state = self.registry.room.lock();
        let waiter = state.waiters.get(self.ticket.key)?;
        let Stage::Over(turn) = &waiter.stage else {
            return None;
        };
        if matches!(**turn, Turn::Renew(_)) {
            return None;
        }
        self.is_over = true;
        match state.waiters.remove(self.ticket.key).stage {
            Stage::Over(turn) => Some(*turn),
            _ => None,
        }
    }

    /// Takes the waiter out of the room, with how it ended.
    fn take(
        &mut self,
        ended: impl FnOnce(Left) -> (Turn, Option<Arc<Cell>>),
    ) -> (Option<Turn>, Option<Arc<Cell>>) {
        self.is_over = true;
        let registry = Arc::clone(&self.registry);
        let mut state = registry.room.lock();
        let left = state.leave(self.ticket.key);
        let waiter = state.waiters.try_remove(self.ticket.key);
        drop(state);
        match (left, waiter.map(|waiter| waiter.stage)) {
            (Some(left), _) => {
                let (turn, cell) = ended(left);
                (Some(turn), cell)
            }
            (None, Some(Stage::Over(turn))) => (Some(*turn), None),
            _ => (None, None),
        }
    }
}

impl Future for Wait {
    type Output = Turn;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Turn> {
        let key = self.ticket.key;
        let registry = Arc::clone(&self.registry);
        let mut state = registry.room.lock();
        let waiter = &mut state.waiters[key];
        match std::mem::replace(&mut waiter.stage, Stage::Nowhere) {
            Stage::Over(turn) => {
                state.waiters.remove(key);
                self.is_over = true;
                Poll::Ready(*turn)
            }
            stage => {
                waiter.stage = stage;
                let is_known = waiter
                    .waker
                    .as_ref()
                    .is_some_and(|known| known.will_wake(cx.waker()));
                if !is_known {
                    waiter.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (turn, cell) = self.take(|Left { ask, cell, .. }| (Turn::Resume(ask), cell));
        // One that was served at the same moment gives its places back.
        drop(turn);
        cell.into_iter()
            .for_each(|cell| self.registry.serve(cell, None));
    }
}

impl Room {
    pub(super) fn lock(&self) -> Guard<'_> {
        self.0.lock()
    }

    /// How many wait, in lines and asleep.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len
    }
}

impl Registry {
    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.room.len()
    }
}
