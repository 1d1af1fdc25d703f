//! Ringing one device after the other: invitations, who answers, who is lost and comes back.
//!
//! A ringing is reserved before it is written, and given back with the branch's end. Whatever ends a branch ends it once.

use std::sync::Arc;

use super::board::{Board, Invitation, LegId, Note, Said};
use super::branch::{ALERTING, Branch, BranchState};
use super::dial::Dialing;
use super::machine::{Call, State};
use super::talk::Held;
use super::words::{BranchEnd, CallStatus, Farewell};
use crate::presence::routing::{Device, Place, Verdict};

impl Call {
    /// What a device is told that is rung for one of the aims.
    fn invitation(&self, dialing: &Dialing, aim: usize, sid: &str, device: &Device) -> Invitation {
        let caller = dialing.dial.caller_id.as_ref();
        Invitation {
            sid: sid.to_owned(),
            from: caller.unwrap_or(&self.facts.from).clone(),
            to: format!("client:{}", device.session.identity.as_str()),
            parameters: Arc::clone(&dialing.aims[aim].parameters),
            bridge: None,
        }
    }

    pub(super) fn invite(&mut self, aim: usize, device: Device, board: &mut dyn Board) -> bool {
        let State::Dialling(dialing) = &self.state else {
            return false;
        };
        let leg = LegId(u16::try_from(self.branches.len() + 1).unwrap_or(u16::MAX));
        let sid = board.sid();
        let invitation = self.invitation(dialing, aim, &sid, &device);
        let callback = dialing.aims[aim].client.status_callback.clone();
        let is_invited = board.invite(leg, &device, &invitation);
        let state = if is_invited {
            BranchState::Invited(self.now.now + ALERTING)
        } else {
            BranchState::Ended(BranchEnd::Busy)
        };
        if !is_invited {
            board.note(Note::Trace(device.clone(), "taken"));
        }
        self.branches.push(Branch {
            leg,
            sid,
            aim,
            device,
            state,
            was_invited: is_invited,
            sequence: 0,
            callback,
            held: Held::default(),
        });
        if is_invited {
            self.held.say(leg, board);
            self.called_back(self.branches.len() - 1, "initiated", None, board);
            self.note_rung();
        }
        is_invited
    }

    fn note_rung(&mut self) {
        if let State::Dialling(dialing) = &mut self.state {
            dialing.was_rung = true;
        }
    }

    /// A device rings: the caller hears it once.
    pub(super) fn alerting(&mut self, leg: LegId, board: &mut dyn Board) {
        let Some(index) = self.branches.iter().position(|branch| branch.leg == leg) else {
            return;
        };
        if !matches!(self.branches[index].state, BranchState::Invited(_)) {
            return;
        }
        self.branches[index].state = BranchState::Ringing;
        self.called_back(index, "ringing", None, board);
        if !self.has_rung {
            self.has_rung = true;
            self.set(CallStatus::Ringing, board);
            board.say(LegId::CALLER, Said::Ringing);
        }
    }

    /// A device answers.
    pub(super) fn accepted(&mut self, leg: LegId, answer: Arc<str>, board: &mut dyn Board) {
        let index = self.branches.iter().position(|branch| branch.leg == leg);
        let index = index.filter(|index| self.branches[*index].is_open());
        let is_dialling = matches!(self.state, State::Dialling(_));
        let Some(index) = index.filter(|_| is_dialling) else {
            let is_winner = matches!(&self.state, State::Talking(talk) if talk.winner == leg);
            if !is_winner {
                // It never gets anything of the caller's side.
                let why = Farewell::AnsweredElsewhere;
                board.say(leg, Said::Over(why));
            }
            return;
        };
        let State::Dialling(dialing) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        self.alerting(leg, board);
        self.branches[index].state = BranchState::Ended(BranchEnd::Won);
        let device = self.branches[index].device.clone();
        board.note(Note::Trace(device, BranchEnd::Won.as_str()));
        self.called_back(index, "answered", None, board);
        self.end_branches(|branch| branch.leg != leg, BranchEnd::Lost, board);
        self.connect(leg, answer, *dialing, board);
    }

    /// One device does not ring any more.
    pub(super) fn end_branch(&mut self, leg: LegId, end: BranchEnd, board: &mut dyn Board) {
        self.end_branches(|branch| branch.leg == leg, end, board);
        self.ring(board);
        self.settle(board);
    }

    /// Ends those that are open.
    pub(super) fn end_branches(
        &mut self,
        which: impl Fn(&Branch) -> bool,
        end: BranchEnd,
        board: &mut dyn Board,
    ) {
        for index in 0..self.branches.len() {
            let branch = &mut self.branches[index];
            if !branch.is_open() || !which(branch) {
                continue;
            }
            branch.state = BranchState::Ended(end);
            let (leg, device) = (branch.leg, branch.device.clone());
            // Who said no knows; who signed out on a socket that stays hears it.
            if end != BranchEnd::Rejected {
                board.say(leg, Said::Cancelled(end));
            }
            board.release(leg);
            board.note(Note::Trace(device, end.as_str()));
            self.called_back(index, "completed", Some(end.status()), board);
        }
    }

    /// Looks anew at those who are dialled: who was lost, who came back, who came.
    pub(super) fn look_again(&mut self, board: &mut dyn Board) {
        let State::Dialling(dialing) = &self.state else {
            return;
        };
        let here = board.devices(&dialing.parties());
        for index in dialing.first..self.branches.len() {
            let branch = &self.branches[index];
            if !branch.is_open() {
                continue;
            }
            let leg = branch.leg;
            if matches!(branch.device.place, Place::Node(_)) {
                // Its own server knows what becomes of it, and tells; without that server it is gone.
                if !board.is_connected(leg) {
                    self.end_branches(|branch| branch.leg == leg, BranchEnd::Gone, board);
                }
                continue;
            }
            let found = here.iter().find(|device| branch.is_of(&device.session));
            match found {
                // Its token may have ended, which takes its registration and leaves it what it has begun.
                None if board.is_connected(leg) => {}
                None => self.end_branches(|branch| branch.leg == leg, BranchEnd::Gone, board),
                Some(device) if device.verdict == Verdict::Suspended => {
                    self.branches[index].state = BranchState::Suspended;
                }
                // Its socket is gone for good; what is left of it are reports over the API.
                Some(device) if device.verdict == Verdict::NoSocket => {
                    self.end_branches(|branch| branch.leg == leg, BranchEnd::Gone, board);
                }
                Some(device) if device.session.epoch != branch.device.session.epoch => {
                    self.ring_again(index, device.clone(), board);
                }
                Some(_) => {}
            }
        }
        self.ring(board);
        self.settle(board);
    }

    /// A device that was lost is back, as another registration: it rings under the same name.
    fn ring_again(&mut self, index: usize, device: Device, board: &mut dyn Board) {
        let State::Dialling(dialing) = &self.state else {
            return;
        };
        let branch = &self.branches[index];
        let invitation = self.invitation(dialing, branch.aim, &branch.sid, &device);
        let leg = branch.leg;
        board.release(leg);
        if device.verdict == Verdict::Ring && board.invite(leg, &device, &invitation) {
            self.branches[index].device = device;
            self.branches[index].state = BranchState::Invited(self.now.now + ALERTING);
            self.held.say(leg, board);
        } else {
            self.end_branches(|branch| branch.leg == leg, BranchEnd::Busy, board);
        }
    }
}
