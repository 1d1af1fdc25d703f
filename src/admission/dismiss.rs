//! Ending waits from outside, of one request or of all, a few at a time.
//!
//! Never wakes anybody with the room locked.

use std::sync::Arc;
use std::task::Waker;

use super::ask::Ask;
use super::registry::Registry;
use super::serve::GRANTS_MAX;
use super::waiting::{After, State, Ticket, Turn};
use super::{Reason, Rejection};

impl Registry {
    /// Ends every wait with a refusal.
    pub fn dismiss_all(&self, reason: Reason) {
        let refused =
            |_: &mut State, ask: Box<Ask>, scope| Turn::Reject(self.dismissal(&ask, scope, reason));
        self.end_all(|_| true, refused);
    }

    /// Ends one wait with a refusal; false if it is over already.
    pub fn dismiss(&self, ticket: Ticket, reason: Reason) -> bool {
        let mut after = After::default();
        let mut state = self.room.lock();
        if !state.is(ticket) {
            return false;
        }
        let Some(left) = state.leave(ticket.key) else {
            return false;
        };
        let turn = Turn::Reject(self.dismissal(&left.ask, left.scope, reason));
        state.end(ticket.key, turn, &mut after);
        drop(state);
        after.wakers.into_iter().for_each(Waker::wake);
        left.cell
            .into_iter()
            .for_each(|cell| self.serve(cell, None));
        true
    }

    /// Ends the waits of those that it is `for_whom`, a few at a time.
    pub(super) fn end_all(
        &self,
        for_whom: impl Fn(&Ask) -> bool,
        turn: impl Fn(&mut State, Box<Ask>, u64) -> Turn,
    ) {
        let tickets: Vec<_> = {
            let state = self.room.lock();
            let waiters = state.waiters.iter();
            let concerned = waiters.filter(|(_, waiter)| waiter.stage.ask().is_some_and(&for_whom));
            concerned
                .map(|(key, waiter)| Ticket {
                    key,
                    number: waiter.number,
                })
                .collect()
        };
        for batch in tickets.chunks(GRANTS_MAX) {
            let mut after = After::default();
            let mut state = self.room.lock();
            for &ticket in batch {
                if state.is(ticket)
                    && let Some(left) = state.leave(ticket.key)
                {
                    let turn = turn(&mut state, left.ask, left.scope);
                    state.end(ticket.key, turn, &mut after);
                    after.cells.extend(left.cell);
                }
            }
            drop(state);
            after.wakers.into_iter().for_each(Waker::wake);
            after
                .cells
                .into_iter()
                .for_each(|cell| self.serve(cell, None));
        }
    }

    /// The refusal of a wait that was ended from outside.
    fn dismissal(&self, ask: &Ask, scope: u64, reason: Reason) -> Box<Rejection> {
        let limit = ask.policy.by_scope(scope);
        let none = || Arc::from("-");
        Box::new(Rejection {
            reason,
            limit: limit.map_or_else(none, |limit| Arc::clone(&limit.name)),
            axis: limit.map_or_else(none, |limit| Arc::clone(&limit.axis)),
            window: None,
            status: 503,
            max: limit.map_or(0, |limit| ask.max_of(limit, None)),
            in_flight: limit.map_or(0, |limit| self.in_flight(&ask.policy, limit, &ask.class)),
            account_in_flight: self.account_in_flight(&ask.policy, &ask.class),
            drain_seconds: 0.0,
        })
    }
}
