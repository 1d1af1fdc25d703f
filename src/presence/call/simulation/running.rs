//! One simulated call, and what must hold of it at each step and at its end.

use std::collections::VecDeque;

use super::stage::{Hears, Stage};
use crate::presence::call::board::{Event, Heard, LegId};
use crate::presence::call::branch::BranchState;
use crate::presence::call::machine::Call;
use crate::presence::call::words::BranchEnd;
use crate::presence::registry::session::Moment;

/// A call, its board, and the events that it has not taken yet.
pub(super) struct Running {
    pub(super) call: Call,
    pub(super) stage: Stage,
    pub(super) queue: VecDeque<Event>,
    pub(super) is_nudged: bool,
    /// How its branches stood at the last look.
    pub(super) branches: Vec<BranchState>,
    /// Dials that it was told to make, all with an `action` or none.
    pub(super) dials: usize,
    pub(super) has_actions: bool,
    /// Dials that had ended at the last look, and winners that there were then.
    pub(super) dialled: (usize, usize),
}

impl Running {
    pub(super) fn take(&mut self, event: Event, at: Moment) {
        self.stage.at = at;
        match &event {
            Event::Leg(LegId::CALLER, Heard::Lost(_)) => self.stage.has_caller = false,
            Event::Leg(LegId::CALLER, Heard::Back) => self.stage.has_caller = true,
            _ => {}
        }
        self.call.on(event, &mut self.stage, at);
        self.check();
    }

    pub(super) fn check(&mut self) {
        let states = self.call.branches.iter().map(|branch| branch.state);
        let states: Vec<_> = states.collect();
        for (before, now) in self.branches.iter().zip(&states) {
            if matches!(before, BranchState::Ended(_)) {
                assert_eq!(before, now, "a branch ends once");
            }
        }
        let won = |state: &&BranchState| **state == BranchState::Ended(BranchEnd::Won);
        assert_eq!(states.iter().filter(won).count(), self.stage.winners);
        assert_eq!(self.stage.answered, self.stage.winners);
        assert!(
            self.stage.winners - self.dialled.1 <= 1,
            "one winner a dial at most"
        );
        if self.stage.dialled > self.dialled.0 {
            self.dialled = (self.stage.dialled, self.stage.winners);
        }
        for (leg, state) in self.call.branches.iter().map(|of| (of.leg, of.state)) {
            let is_rung = self.stage.rung.contains_key(&leg);
            let is_open = !matches!(state, BranchState::Ended(_));
            assert!(is_open || !is_rung, "what has ended does not ring");
        }
        let mut actions = self.stage.actions.clone();
        actions.sort_unstable();
        actions.dedup();
        assert_eq!(
            actions.len(),
            self.stage.actions.len(),
            "an action is asked for once"
        );
        let asked = if self.has_actions {
            self.stage.dialled
        } else {
            0
        };
        assert_eq!(
            actions.len(),
            asked,
            "a dial that ended asks for its action"
        );
        self.branches = states;
    }

    /// What holds when a call is over.
    pub(super) fn check_over(&self) {
        assert!(self.stage.status.is_final());
        assert!(self.stage.overs <= 1, "the caller hears the end once");
        assert!(self.stage.rung.is_empty() && self.stage.engaged.is_empty());
        assert!(self.call.branches.iter().all(|branch| !branch.is_open()));
        let talks = |hears: &Hears| *hears == Hears::Talking;
        assert!(
            !self.stage.hears.values().any(talks),
            "who talks hears the end"
        );
    }
}
