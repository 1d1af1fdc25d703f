//! A dial: whom it is for, who rings, and how it ends.
//!
//! Whoever can be rung is asked of the registry at the moment of ringing, again whenever something happens to somebody who is dialled.
//! A ringing is reserved before it is written; who lost that race is busy. It ends when somebody answers, when its time is up, when the
//! caller leaves, or at once when nobody is left who could answer: callers never ring at nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::{Board, LegId, Note};
use super::branch::{Branch, BranchState};
use super::machine::{Call, State};
use super::words::{BranchEnd, CallStatus};
use crate::presence::instruction::{Client, Dial, Noun};
use crate::presence::name::Name;
use crate::presence::routing::{self, Device, Party, Target, Verdict};
use crate::presence::status::Status;

/// Ringings of one dial.
const BRANCHES_MAX: usize = 20;

/// One noun that somebody may stand behind.
#[derive(Debug)]
pub(super) struct Aim {
    pub(super) client: Client,
    pub(super) parameters: Arc<[(String, String)]>,
    target: Target,
}

/// A dial in progress.
#[derive(Debug)]
pub(super) struct Dialing {
    pub(super) dial: Dial,
    pub(super) aims: Vec<Aim>,
    /// The aims that ring now: all of them, or one after the other.
    round: std::ops::Range<usize>,
    /// Peers were asked, and have not answered yet.
    awaits_peers: bool,
    /// Devices of peers, as they said at the beginning.
    remote: Vec<Device>,
    /// When ringing ends.
    deadline: Instant,
    /// Until when it waits for lost devices, if there are no others.
    return_until: Instant,
    /// The first of its branches.
    pub(super) first: usize,
    has_busy: bool,
    pub(super) was_rung: bool,
}

/// How a dial ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: CallStatus,
    /// Somebody's device rang.
    pub(super) was_reached: bool,
    pub(super) dialled: Vec<Name>,
    pub(super) parties: Vec<Party>,
    presence: Status,
    pub(super) text: Option<Arc<str>>,
}

impl Dialing {
    /// When something is due.
    pub(super) fn due(&self, branches: &[Branch]) -> Option<Instant> {
        let alerting = branches[self.first..]
            .iter()
            .filter_map(|branch| match branch.state {
                BranchState::Invited(until) => Some(until),
                _ => None,
            });
        let waits = (!branches[self.first..].iter().any(Branch::is_open) && !self.awaits_peers)
            .then_some(self.return_until);
        alerting.chain(waits).chain([self.deadline]).min()
    }

    pub(super) fn parties(&self) -> Vec<Party> {
        let parties = self.aims.iter().flat_map(|aim| &aim.target.parties);
        parties.cloned().collect()
    }

    fn who(&self) -> Vec<Name> {
        let mut who: Vec<Name> = Vec::new();
        for party in self.aims.iter().flat_map(|aim| &aim.target.parties) {
            if !who.contains(&party.identity) {
                who.push(party.identity.clone());
            }
        }
        who
    }

    pub(super) fn outcome(&self, status: CallStatus, board: &mut dyn Board) -> Outcome {
        let parties = self.parties();
        let (presence, text) = board.best(&parties);
        Outcome {
            status,
            was_reached: self.was_rung,
            dialled: self.who(),
            parties,
            presence,
            text,
        }
    }

    /// Which status it has if it ends now without an answer; the order is the contract's.
    fn verdict(&self, branches: &[Branch]) -> CallStatus {
        let own = &branches[self.first..];
        let ended = |ends: &[BranchEnd]| {
            let mut own = own.iter();
            own.any(|branch| matches!(branch.state, BranchState::Ended(end) if ends.contains(&end)))
        };
        if ended(&[BranchEnd::Timeout]) {
            return CallStatus::NoAnswer;
        }
        if self.has_busy || ended(&[BranchEnd::Rejected, BranchEnd::Busy]) {
            return CallStatus::Busy;
        }
        let all_failed = own
            .iter()
            .all(|branch| branch.state == BranchState::Ended(BranchEnd::Failed));
        // A client without devices did not fail: nobody was there.
        let nobody_was_there = own.is_empty() && !self.aims.is_empty();
        if all_failed && !nobody_was_there {
            return CallStatus::Failed;
        }
        CallStatus::NoAnswer
    }
}

impl Outcome {
    /// What `action` is told of it.
    pub(super) fn fields(
        &self,
        bridged: Option<(LegId, Duration)>,
        branches: &[Branch],
        first: usize,
    ) -> Vec<(String, String)> {
        let mut fields = vec![
            ("DialCallStatus", self.status.as_str().to_owned()),
            ("DialPresence", self.presence.as_str().to_owned()),
            ("DialBridged", bridged.is_some().to_string()),
        ];
        if let Some(text) = &self.text {
            fields.push(("DialPresenceText", text.to_string()));
        }
        let branch = match bridged {
            Some((leg, _)) => branches.iter().find(|branch| branch.leg == leg),
            None => branches[first..].last(),
        };
        if let Some(branch) = branch {
            fields.push(("DialCallSid", branch.sid.clone()));
        }
        if let Some((_, took)) = bridged {
            fields.push(("DialCallDuration", took.as_secs().to_string()));
        }
        let owned = fields.into_iter();
        owned
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

impl Call {
    /// Begins a dial.
    pub(super) fn dial(&mut self, dial: Dial, board: &mut dyn Board) {
        let mut aims = Vec::new();
        for noun in &dial.nouns {
            let aim = match noun {
                Noun::Client(client) => board.target(&client.identity).map(|target| Aim {
                    client: client.clone(),
                    parameters: client.parameters.as_slice().into(),
                    target,
                }),
                Noun::Other(name) => {
                    board.note(Note::Unreachable(name.clone(), "no_route"));
                    continue;
                }
            };
            match aim {
                Some(aim) => aims.push(aim),
                None => board.note(Note::Unreachable("Client".into(), "bad_name")),
            }
        }
        let round = if dial.sequential {
            0..aims.len().min(1)
        } else {
            0..aims.len()
        };
        let now = self.now.now;
        let mut dialing = Dialing {
            deadline: now + dial.timeout,
            return_until: now,
            dial,
            aims,
            round,
            awaits_peers: false,
            remote: Vec::new(),
            first: self.branches.len(),
            has_busy: false,
            was_rung: false,
        };
        board.watch(&dialing.who());
        let parties = dialing.parties();
        dialing.awaits_peers = !parties.is_empty() && board.ask_peers(&parties);
        let awaits_peers = dialing.awaits_peers;
        self.state = State::Dialling(Box::new(dialing));
        if !awaits_peers {
            self.open_round(board);
        }
    }

    /// What the peers know has come.
    pub(super) fn found(&mut self, devices: Vec<Device>, board: &mut dyn Board) {
        if let State::Dialling(dialing) = &mut self.state
            && dialing.awaits_peers
        {
            (dialing.awaits_peers, dialing.remote) = (false, devices);
            self.open_round(board);
        }
    }

    /// Rings those of this round, and notes why the others are not rung.
    fn open_round(&mut self, board: &mut dyn Board) {
        let State::Dialling(dialing) = &mut self.state else {
            return;
        };
        let now = self.now.now;
        dialing.deadline = now + dialing.dial.timeout;
        let wait = self.facts.grace.min(dialing.dial.timeout);
        let round = dialing.round.clone();
        let mut awaits_return = false;
        for aim in round {
            let devices = self.devices_of(aim, board);
            self.note_absent(aim, &devices, board);
            for device in devices {
                if device.verdict != Verdict::Ring {
                    board.note(Note::Trace(device.clone(), device.verdict.as_str()));
                }
                awaits_return |= device.may_return();
                let State::Dialling(dialing) = &mut self.state else {
                    return;
                };
                dialing.has_busy |= device.verdict.is_busy() || device.is_unwilling;
            }
        }
        if let State::Dialling(dialing) = &mut self.state {
            dialing.return_until = if awaits_return { now + wait } else { now };
        }
        self.ring(board);
        self.settle(board);
    }

    fn note_absent(&self, aim: usize, devices: &[Device], board: &mut dyn Board) {
        let State::Dialling(dialing) = &self.state else {
            return;
        };
        for party in &dialing.aims[aim].target.parties {
            let is_of = |device: &Device| device.session.identity == party.identity;
            if !devices.iter().any(is_of) {
                board.note(Note::Absent(party.identity.clone()));
            }
        }
    }

    fn devices_of(&self, aim: usize, board: &mut dyn Board) -> Vec<Device> {
        let State::Dialling(dialing) = &self.state else {
            return Vec::new();
        };
        let parties = &dialing.aims[aim].target.parties;
        let mut devices = board.devices(parties);
        let is_meant = |device: &&Device| {
            parties.iter().any(|party| {
                let session = &device.session;
                let is_device = party.device.as_ref().is_none_or(|of| *of == session.device);
                party.identity == session.identity && is_device
            })
        };
        devices.extend(dialing.remote.iter().filter(is_meant).cloned());
        devices
    }

    /// Rings every device of this round that can be and was not.
    pub(super) fn ring(&mut self, board: &mut dyn Board) {
        let State::Dialling(dialing) = &self.state else {
            return;
        };
        if self.is_closing || dialing.awaits_peers {
            return;
        }
        for aim in dialing.round.clone() {
            // Who loses the race for a device may have another one to try.
            while self.ring_aim(aim, board) {}
        }
    }

    /// Rings what of an aim is to be rung; true if it may be worth another look.
    fn ring_aim(&mut self, aim: usize, board: &mut dyn Board) -> bool {
        let devices = self.devices_of(aim, board);
        let State::Dialling(dialing) = &self.state else {
            return false;
        };
        let own = &self.branches[dialing.first..];
        let target = &dialing.aims[aim].target;
        let is_hunting = target.choose != crate::presence::settings::Choose::All;
        if is_hunting
            && own
                .iter()
                .any(|branch| branch.aim == aim && branch.is_open())
        {
            return false;
        }
        let has_tried = |identity: &Name| {
            let mut own = own.iter();
            own.any(|branch| branch.aim == aim && branch.device.session.identity == *identity)
        };
        let is_fresh = |device: &&Device| {
            let mut same = own.iter().filter(|branch| branch.is_of(&device.session));
            same.all(Branch::may_ring_again)
        };
        let chosen = routing::chosen(target, &devices, has_tried);
        let chosen: Vec<_> = chosen.into_iter().filter(is_fresh).cloned().collect();
        let mut has_lost = false;
        for device in chosen {
            if self.branch_count() >= BRANCHES_MAX {
                board.note(Note::Trace(device, "too_many"));
                continue;
            }
            has_lost |= !self.invite(aim, device, board);
        }
        has_lost && is_hunting
    }

    fn branch_count(&self) -> usize {
        match &self.state {
            State::Dialling(dialing) => self.branches.len() - dialing.first,
            _ => 0,
        }
    }

    /// A time of the dial has come.
    pub(super) fn dial_due(&mut self, board: &mut dyn Board) {
        let now = self.now.now;
        let rings = self
            .branches
            .iter()
            .filter_map(|branch| match branch.state {
                BranchState::Invited(until) if until <= now => Some(branch.leg),
                _ => None,
            });
        for leg in rings.collect::<Vec<_>>() {
            self.alerting(leg, board);
        }
        if let State::Dialling(dialing) = &self.state
            && dialing.deadline <= now
        {
            self.end_branches(|_| true, BranchEnd::Timeout, board);
        }
        self.settle(board);
    }

    /// Whether a device of this round is lost, and may come back.
    fn has_lost(&self, board: &mut dyn Board) -> bool {
        let State::Dialling(dialing) = &self.state else {
            return false;
        };
        let mut round = dialing.round.clone();
        round.any(|aim| {
            let devices = self.devices_of(aim, board);
            let mut devices = devices.iter();
            devices.any(Device::may_return)
        })
    }

    /// Ends the dial, or its round, if nobody is left who could answer.
    pub(super) fn settle(&mut self, board: &mut dyn Board) {
        let now = self.now.now;
        let State::Dialling(dialing) = &mut self.state else {
            return;
        };
        let is_late = dialing.deadline <= now;
        let own = &self.branches[dialing.first..];
        let is_open = own.iter().any(Branch::is_open);
        let may_return = dialing.return_until > now;
        let awaits_peers = dialing.awaits_peers;
        if !is_late && (is_open || awaits_peers || (may_return && self.has_lost(board))) {
            return;
        }
        let State::Dialling(dialing) = &mut self.state else {
            return;
        };
        if dialing.round.end < dialing.aims.len() {
            dialing.round = dialing.round.end..dialing.round.end + 1;
            return self.open_round(board);
        }
        let State::Dialling(dialing) = std::mem::replace(&mut self.state, State::Fetching) else {
            return;
        };
        let status = dialing.verdict(&self.branches);
        self.conclude(*dialing, status, None, true, board);
    }
}
