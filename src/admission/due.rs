//! When those who wait for what time gives back are to be served.
//!
//! A line before such a count has one instant: the earliest at which one of those whose turn it may be fits, if nothing else
//! happens meanwhile. Whatever does happen serves the line, which finds its instant anew. All instants stand in one order, and
//! whoever keeps the time sleeps until the first of them and is woken when an earlier one comes. Never reads a clock, and never
//! holds the room's lock for more than one line.

use std::collections::BTreeSet;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::registry::Registry;
use super::waiting::{Line, State};

/// The instants of all lines that have one: as many as there are such lines at most.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// With the id of the line's cell.
    order: BTreeSet<(Instant, u64)>,
    keeper: Keeper,
}

/// Who keeps the time, and for which instant it sleeps.
#[derive(Debug, Default)]
pub(super) struct Keeper(Option<(Option<Instant>, Waker)>);

impl Keeper {
    /// There is an instant more; gives whom to wake because it is earlier than what he sleeps for.
    pub(super) fn earlier(&mut self, at: Instant) -> Option<Waker> {
        let is_earlier = |known: Option<Instant>| known.is_none_or(|known| at < known);
        let keeper = self.0.take_if(|(known, _)| is_earlier(*known));
        keeper.map(|(_, waker)| waker)
    }

    /// The first instant once it is earlier than the one that he knows.
    pub(super) fn poll(
        &mut self,
        first: Option<Instant>,
        known: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<Instant> {
        match first.filter(|&first| known.is_none_or(|known| first < known)) {
            Some(first) => Poll::Ready(first),
            None => {
                self.0 = Some((known, cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Agenda {
    /// Gives a line another instant, or none; gives whom to wake because it is earlier than what he sleeps for.
    pub(super) fn set(&mut self, line: &mut Line, at: Option<Instant>) -> Option<Waker> {
        if line.due == at {
            return None;
        }
        let id = line.cell.id;
        if let Some(known) = line.due {
            self.order.remove(&(known, id));
        }
        line.due = at;
        let at = at?;
        self.order.insert((at, id));
        self.keeper.earlier(at)
    }

    /// Forgets the instant of a line that is gone.
    pub(super) fn forget(&mut self, line: &Line) {
        if let Some(known) = line.due {
            self.order.remove(&(known, line.cell.id));
        }
    }

    fn first(&self) -> Option<Instant> {
        self.order.first().map(|&(at, _)| at)
    }

    /// Takes out the first instant that has come; gives the cell of its line.
    fn pop(&mut self, now: Instant) -> Option<u64> {
        self.first().filter(|&at| at <= now)?;
        self.order.pop_first().map(|(_, id)| id)
    }
}

impl Registry {
    /// When somebody who waits for what time gives back may fit next, if there is anybody.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.room.lock().agenda.first()
    }

    /// The same once it is earlier than what is known. There is one who keeps the time: the last to ask is woken.
    pub fn poll_due(&self, known: Option<Instant>, cx: &mut Context<'_>) -> Poll<Instant> {
        let mut state = self.room.lock();
        let first = state.agenda.first();
        state.agenda.keeper.poll(first, known, cx)
    }

    /// Serves those lines whose instant has come.
    pub fn serve_due(&self, now: Instant) {
        loop {
            let mut state = self.room.lock();
            state.note_time(now);
            let State { agenda, lines, .. } = &mut *state;
            let Some(id) = agenda.pop(now) else {
                return;
            };
            let cell = lines.get_mut(&id).map(|line| {
                line.due = None;
                std::sync::Arc::clone(&line.cell)
            });
            drop(state);
            cell.into_iter().for_each(|cell| self.serve(cell, None));
        }
    }
}
