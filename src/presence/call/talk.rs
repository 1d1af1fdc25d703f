//! Two sides that talk: put through once, what one says to the other, who is lost and may come back, and the end of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::board::{Board, LegId, Note, Relay, Said};
use super::dial::Dialing;
use super::machine::{Call, State};
use super::words::{CallStatus, Farewell};
use crate::presence::registry::session::Moment;
use crate::presence::subscription::form::write;

/// What of one side waits until there is another, at most: candidates (RFC 8838), and their bytes.
const HELD_MAX: usize = 64;
const HELD_BYTES_MAX: usize = 32 * 1024;

/// How long a side may be away at most.
const AWAY_MAX: Duration = Duration::from_hours(1);

/// Candidates of one side that wait for the other.
#[derive(Debug, Default, Clone)]
pub(in crate::presence) struct Held {
    candidates: Vec<Value>,
    bytes: usize,
}

impl Held {
    /// Keeps one more; false if as much waits as may.
    fn keep(&mut self, candidate: &Value) -> bool {
        let bytes = self.bytes + write(candidate).len();
        let has_room = self.candidates.len() < HELD_MAX && bytes <= HELD_BYTES_MAX;
        if has_room {
            self.bytes = bytes;
            self.candidates.push(candidate.clone());
        }
        has_room
    }

    /// Says all of them to a side.
    pub(super) fn say(&self, to: LegId, board: &mut dyn Board) {
        for candidate in &self.candidates {
            board.say(to, Said::Relayed(Relay::Candidate, candidate.clone()));
        }
    }
}

/// Two sides that talk.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) dialing: Dialing,
    pub(super) winner: LegId,
    pub(super) began: Moment,
    pub(super) until: Instant,
}

impl Call {
    /// The first acceptance wins: it finds the call unanswered, and the second does not (B30).
    pub(super) fn connect(
        &mut self,
        winner: LegId,
        answer: Arc<str>,
        dialing: Dialing,
        board: &mut dyn Board,
    ) {
        self.was_answered = true;
        board.engage(winner);
        let wanted = dialing.dial.time_limit;
        let until = self.now.now + board.talk_max().map_or(wanted, |max| wanted.min(max));
        let began = self.now;
        let answerer = self.branches.iter().find(|branch| branch.leg == winner);
        if let Some(branch) = answerer {
            board.note(Note::Answered(branch.device.clone(), Arc::clone(&answer)));
        }
        self.set(CallStatus::InProgress, board);
        if let Some(branch) = self.branches.iter_mut().find(|branch| branch.leg == winner) {
            let held = std::mem::take(&mut branch.held);
            board.say(LegId::CALLER, Said::Answered(Some(answer)));
            board.say(winner, Said::Answered(None));
            held.say(LegId::CALLER, board);
        }
        self.state = State::Talking(Box::new(Talk {
            dialing,
            winner,
            began,
            until,
        }));
    }

    pub(super) fn callee_left(&mut self, why: Farewell, board: &mut dyn Board) {
        let State::Talking(talk) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        self.part(*talk, why, true, board);
    }

    /// The talk is over; the caller may be there for what comes then.
    pub(super) fn part(
        &mut self,
        talk: Talk,
        why: Farewell,
        has_caller: bool,
        board: &mut dyn Board,
    ) {
        // A caller that was lost may be back for what comes then, for as long as before.
        self.lost.retain(|(leg, _)| *leg == LegId::CALLER);
        board.say(talk.winner, Said::Over(why));
        board.disengage(talk.winner);
        let took = self.now.now.saturating_duration_since(talk.began.now);
        self.completed(talk.winner, took, board);
        let bridged = Some((talk.winner, took));
        self.conclude(
            talk.dialing,
            CallStatus::Completed,
            bridged,
            has_caller,
            board,
        );
    }

    /// What one side says to the other: kept until there is another.
    pub(super) fn relay(&mut self, from: LegId, kind: Relay, what: Value, board: &mut dyn Board) {
        if let State::Talking(talk) = &self.state {
            let to = if from == LegId::CALLER {
                talk.winner
            } else if from == talk.winner {
                LegId::CALLER
            } else {
                return;
            };
            return board.say(to, Said::Relayed(kind, what));
        }
        // Nothing else means anything before there is somebody to say it to.
        if kind != Relay::Candidate {
            return;
        }
        if from == LegId::CALLER {
            if self.held.keep(&what) {
                let open = self.branches.iter().filter(|branch| branch.is_open());
                for branch in open {
                    board.say(branch.leg, Said::Relayed(kind, what.clone()));
                }
            }
        } else if let Some(branch) = self.branches.iter_mut().find(|branch| branch.leg == from)
            && branch.is_open()
        {
            branch.held.keep(&what);
        }
    }

    pub(super) fn lose(&mut self, leg: LegId, window: Duration, board: &mut dyn Board) {
        // A peer may say any time.
        let until = self.now.now + window.min(AWAY_MAX);
        self.lost.retain(|(lost, _)| *lost != leg);
        self.lost.push((leg, until));
        self.pass(board);
    }
}
