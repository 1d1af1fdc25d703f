//! One call: follows its instructions, one event after the other.
//!
//! `fetching ⇄ dialling → in call → ended`. Whatever happens is an event in one queue, and every decision is made by comparing it with
//! the state at its turn: the first acceptance wins because the second finds a call that is answered. Each branch ends once, with a
//! reason; each dial asks for its `action` once. Ringing is in [`dial`](super::dial). Never waits, and never reads a clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::board::{Board, Event, Heard, Hook, LegId, Note, Said};
use super::branch::Branch;
use super::dial::{Dialing, Outcome};
use super::facts::Facts;
use super::talk::{Held, Talk};
use super::words::{BranchEnd, CallStatus, Farewell};
use crate::presence::fetch::instructions::{Failure, Fetched};
use crate::presence::instruction::{Dial, Instruction, Link, RejectReason, Verb};
use crate::presence::name::Name;
use crate::presence::registry::session::Moment;
use crate::presence::settings::Unavailable;

/// How long a call may go on without an answer: as long as several dials of the longest time, one after the other.
const UNANSWERED_MAX: Duration = Duration::from_hours(1);

/// What a call does at the moment.
#[derive(Debug)]
pub(super) enum State {
    /// Waits for instructions.
    Fetching,
    /// Waits because it was told to.
    Pausing(Instant),
    /// Rings somebody.
    Dialling(Box<Dialing>),
    /// Two sides talk.
    Talking(Box<Talk>),
    Ended,
}

/// A call.
#[derive(Debug)]
pub(in crate::presence) struct Call {
    pub(in crate::presence) facts: Facts,
    pub(super) now: Moment,
    pub(super) state: State,
    status: CallStatus,
    verbs: VecDeque<Instruction>,
    /// The document that is followed.
    pub(super) base: String,
    /// That document came from the fallback's URL, or is asked for there.
    is_fallback: bool,
    /// Somebody answered once: what needs a caller who waits is over.
    pub(super) was_answered: bool,
    /// No new rings.
    pub(super) is_closing: bool,
    pub(super) has_rung: bool,
    /// Of all dials.
    pub(super) branches: Vec<Branch>,
    /// What the caller said before somebody answered, for every branch.
    pub(super) held: Held,
    /// Sides that are lost, and until when.
    pub(super) lost: Vec<(LegId, Instant)>,
    last: Option<Outcome>,
    /// The next verb is to be followed, once this event is dealt with: never from within, so that no document can grow the stack.
    is_next: bool,
    /// When nobody has answered by then, nobody will.
    give_up: Instant,
}

impl Call {
    /// A call whose caller is there. Without a script it dials that name.
    pub(in crate::presence) fn begin(
        facts: Facts,
        first: Result<Link, Dial>,
        board: &mut dyn Board,
        now: Moment,
    ) -> Self {
        let mut call = Self {
            facts,
            now,
            state: State::Fetching,
            status: CallStatus::Queued,
            verbs: VecDeque::new(),
            base: String::new(),
            is_fallback: false,
            was_answered: false,
            is_closing: false,
            has_rung: false,
            branches: Vec::new(),
            held: Held::default(),
            lost: Vec::new(),
            last: None,
            is_next: false,
            give_up: now.now + UNANSWERED_MAX,
        };
        board.engage(LegId::CALLER);
        board.note(Note::Status(CallStatus::Queued));
        match first {
            Ok(link) => call.fetch(link, Vec::new(), board),
            Err(dial) => {
                call.verbs.push_back(Instruction::Dial(dial));
                call.is_next = true;
            }
        }
        call.follow(board);
        call
    }

    /// Follows what comes next, if something does.
    fn follow(&mut self, board: &mut dyn Board) {
        while std::mem::take(&mut self.is_next) && !self.is_over() {
            self.go_on(board);
        }
    }

    /// Whether nothing more comes of it.
    pub(in crate::presence) fn is_over(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// When it wants to be told that a time has come, if it does.
    pub(in crate::presence) fn due(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Pausing(until) => Some(*until),
            State::Dialling(dialing) => dialing.due(&self.branches),
            State::Talking(talk) => Some(talk.until),
            State::Fetching | State::Ended => None,
        };
        let lost = self.lost.iter().map(|(_, until)| *until).min();
        let give_up = (!self.was_answered && !self.is_over()).then_some(self.give_up);
        own.into_iter().chain(lost).chain(give_up).min()
    }

    /// Takes one event.
    pub(in crate::presence) fn on(&mut self, event: Event, board: &mut dyn Board, now: Moment) {
        self.now = now;
        match event {
            Event::Fetched(fetched) => self.fetched(fetched, board),
            Event::Leg(LegId::CALLER, heard) => self.hear_caller(heard, board),
            Event::Leg(leg, heard) => self.hear_callee(leg, heard, board),
            Event::Found(devices) => self.found(devices, board),
            Event::Nudged => self.look_again(board),
            // Only who stands in for a call elsewhere is told.
            Event::Told(_) => {}
            Event::Due => self.pass(board),
            Event::Cancelled => self.cancel(Farewell::Over, board),
            Event::Orphaned => self.is_closing = true,
            Event::Draining if matches!(self.state, State::Talking(_)) => self.is_closing = true,
            Event::Draining | Event::Closed => self.cancel(Farewell::Draining, board),
        }
        self.follow(board);
    }

    fn fetched(&mut self, fetched: Result<Fetched, Failure>, board: &mut dyn Board) {
        if !matches!(self.state, State::Fetching) {
            return;
        }
        match fetched {
            Ok(Fetched { document, url }) => {
                for warning in document.warnings {
                    board.note(Note::Warned(warning));
                }
                (self.base, self.verbs) = (url, document.verbs.into());
                self.is_next = true;
            }
            Err(failure) => self.fail(failure, board),
        }
    }

    /// Instructions could not be had, or not be followed.
    fn fail(&mut self, failure: Failure, board: &mut dyn Board) {
        let fallback = self.facts.fallback.clone().filter(|_| !self.is_fallback);
        let told = vec![
            ("ErrorCode".to_owned(), failure.code.to_string()),
            ("ErrorUrl".to_owned(), failure.url.clone()),
        ];
        board.note(Note::Failed(failure));
        match fallback {
            Some(url) => {
                self.is_fallback = true;
                let method = Verb::Post;
                self.ask(Link { url, method }, told, board);
            }
            None => self.finish(CallStatus::Failed, board),
        }
    }

    /// Asks for the next document.
    fn fetch(&mut self, link: Link, told: Vec<(String, String)>, board: &mut dyn Board) {
        self.is_fallback = false;
        self.ask(link, told, board);
    }

    fn ask(&mut self, link: Link, told: Vec<(String, String)>, board: &mut dyn Board) {
        self.state = State::Fetching;
        let hook = self.hook(link, told, board);
        board.fetch(hook);
    }

    /// A request about this call, with what every request tells.
    pub(super) fn hook(
        &self,
        link: Link,
        told: Vec<(String, String)>,
        board: &mut dyn Board,
    ) -> Hook {
        let status = if self.status == CallStatus::Queued {
            // The vendor's servers know an incoming call as ringing from its beginning.
            CallStatus::Ringing
        } else {
            self.status
        };
        let mut fields = self.facts.fields(status);
        let called = self.facts.called();
        let called = called.and_then(|name| board.target(name.as_str()));
        let called = called.into_iter().flat_map(|target| target.parties);
        let mut who: Vec<Name> = called.map(|party| party.identity).collect();
        who.extend(self.facts.clients.iter().cloned());
        who.extend(
            self.last
                .iter()
                .flat_map(|last| last.dialled.iter().cloned()),
        );
        fields.push(("Presence".into(), board.presence(&who)));
        fields.extend(told);
        Hook {
            base: self.base.clone(),
            link,
            fields,
            is_action: false,
        }
    }

    /// Follows the next verb, and those behind it that take no time.
    pub(super) fn go_on(&mut self, board: &mut dyn Board) {
        while let Some(verb) = self.verbs.pop_front() {
            match verb {
                // There is no caller any more who would wait for it.
                Instruction::Dial(_)
                | Instruction::Reject(_)
                | Instruction::Say(_)
                | Instruction::Media(_)
                    if self.was_answered => {}
                Instruction::Dial(dial) => {
                    self.last = None;
                    return self.dial(dial, board);
                }
                Instruction::Redirect(link) => return self.fetch(link, Vec::new(), board),
                Instruction::Reject(reason) => {
                    let status = match reason {
                        RejectReason::Busy => CallStatus::Busy,
                        RejectReason::Rejected => CallStatus::NoAnswer,
                    };
                    return self.finish(status, board);
                }
                Instruction::Pause(length) => {
                    self.state = State::Pausing(self.now.now + length);
                    return;
                }
                Instruction::Hangup => return self.hang_up(board),
                Instruction::Say(text) => {
                    board.note(Note::Text(text.clone()));
                    board.say(LegId::CALLER, Said::Text(text));
                }
                Instruction::Play => {}
                Instruction::Sms(sms) => board.message(&sms),
                Instruction::Media(verb) => {
                    let detail = format!("<{verb}> needs media, of which there is none here");
                    let (code, url) = (12_200, self.base.clone());
                    return self.fail(Failure { code, url, detail }, board);
                }
            }
        }
        self.run_out(board);
    }

    /// The instructions have ended: if nobody was reached, the caller hears what is configured (B27).
    fn run_out(&mut self, board: &mut dyn Board) {
        let Some(last) = self.last.take().filter(|_| !self.was_answered) else {
            return self.hang_up(board);
        };
        if last.was_reached {
            return self.finish(last.status, board);
        }
        match self.facts.unavailable {
            Unavailable::Busy => {}
            Unavailable::Text => {
                if let Some(text) = &last.text {
                    board.note(Note::Text(text.to_string()));
                    board.say(LegId::CALLER, Said::Text(text.to_string()));
                }
            }
            Unavailable::Message => board.missed(&last.parties),
        }
        let status = match last.status {
            CallStatus::Failed => CallStatus::Failed,
            _ => CallStatus::Busy,
        };
        self.finish(status, board);
    }

    fn hang_up(&mut self, board: &mut dyn Board) {
        let status = if self.was_answered {
            CallStatus::Completed
        } else {
            self.last
                .as_ref()
                .map_or(CallStatus::NoAnswer, |last| last.status)
        };
        self.finish(status, board);
    }

    /// The caller is told how it ended, and everything is over.
    fn finish(&mut self, status: CallStatus, board: &mut dyn Board) {
        let farewell = if self.was_answered {
            Farewell::Over
        } else {
            Farewell::of(status)
        };
        board.say(LegId::CALLER, Said::Over(farewell));
        self.end(status, board);
    }

    fn end(&mut self, status: CallStatus, board: &mut dyn Board) {
        let status = if self.was_answered {
            CallStatus::Completed
        } else {
            status
        };
        board.disengage(LegId::CALLER);
        self.lost.clear();
        self.state = State::Ended;
        self.set(status, board);
    }

    pub(super) fn set(&mut self, status: CallStatus, board: &mut dyn Board) {
        if self.status != status {
            self.status = status;
            board.note(Note::Status(status));
        }
    }

    fn hear_caller(&mut self, heard: Heard, board: &mut dyn Board) {
        match heard {
            Heard::HungUp | Heard::Rejected | Heard::Left | Heard::Engaged => {
                self.caller_left(board);
            }
            Heard::Relayed(kind, what) => self.relay(LegId::CALLER, kind, what, board),
            // It has come back meanwhile, on another connection.
            Heard::Lost(_) if board.is_connected(LegId::CALLER) => {}
            Heard::Lost(window) => {
                if matches!(self.state, State::Talking(_)) {
                    self.lose(LegId::CALLER, window, board);
                } else {
                    // There is nothing to come back to: nobody has answered.
                    self.caller_left(board);
                }
            }
            Heard::Back => self.lost.retain(|(leg, _)| *leg != LegId::CALLER),
            Heard::Alerting | Heard::Accepted(_) | Heard::Refused | Heard::Unregistered => {}
        }
    }

    /// The caller is gone: what rings stops, a dial's `action` is told, and its answer is nobody's.
    pub(super) fn caller_left(&mut self, board: &mut dyn Board) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return,
            State::Dialling(dialing) => {
                self.end_branches(|_| true, BranchEnd::Cancelled, board);
                self.conclude(*dialing, CallStatus::Canceled, None, false, board);
            }
            State::Talking(talk) => self.part(*talk, Farewell::Over, false, board),
            State::Fetching | State::Pausing(_) => {}
        }
        self.end(CallStatus::Canceled, board);
    }

    /// The account, or the end of the gate, ends it.
    fn cancel(&mut self, why: Farewell, board: &mut dyn Board) {
        if !self.is_over() {
            board.say(LegId::CALLER, Said::Over(why));
            self.caller_left(board);
        }
    }

    fn hear_callee(&mut self, leg: LegId, heard: Heard, board: &mut dyn Board) {
        let talks = matches!(&self.state, State::Talking(talk) if talk.winner == leg);
        match heard {
            Heard::Back => self.lost.retain(|(lost, _)| *lost != leg),
            Heard::HungUp | Heard::Left if talks => self.callee_left(Farewell::Over, board),
            Heard::Lost(_) if talks && board.is_connected(leg) => {}
            Heard::Lost(window) if talks => self.lose(leg, window, board),
            Heard::Relayed(kind, what) => self.relay(leg, kind, what, board),
            Heard::Accepted(answer) => self.accepted(leg, answer, board),
            Heard::Alerting => self.alerting(leg, board),
            Heard::Rejected => self.end_branch(leg, BranchEnd::Rejected, board),
            Heard::HungUp => self.end_branch(leg, BranchEnd::Failed, board),
            Heard::Engaged | Heard::Refused => self.end_branch(leg, BranchEnd::Busy, board),
            Heard::Left | Heard::Unregistered if !talks => {
                self.end_branch(leg, BranchEnd::Gone, board);
            }
            // What becomes of a registration that rings is read from the registry.
            Heard::Lost(_) | Heard::Left | Heard::Unregistered => self.look_again(board),
        }
    }

    /// A dial is over: its `action` is asked for once, and what it answers is followed if there is a caller to follow it for.
    pub(super) fn conclude(
        &mut self,
        dialing: Dialing,
        status: CallStatus,
        bridged: Option<(LegId, Duration)>,
        has_caller: bool,
        board: &mut dyn Board,
    ) {
        board.watch(&[]);
        board.note(Note::Dialled(status));
        let outcome = dialing.outcome(status, board);
        let told = outcome.fields(bridged, &self.branches, dialing.first);
        self.last = Some(outcome);
        if !has_caller {
            if let Some(action) = dialing.dial.action {
                let status = if self.was_answered {
                    CallStatus::Completed
                } else {
                    CallStatus::Canceled
                };
                self.set(status, board);
                self.ask_action(action, told, board);
            }
            return;
        }
        match dialing.dial.action {
            // What stands behind it is not reached.
            Some(action) => {
                self.state = State::Fetching;
                self.is_fallback = false;
                self.ask_action(action, told, board);
            }
            None => {
                self.state = State::Fetching;
                self.is_next = true;
            }
        }
    }

    /// Asks for a dial's `action`: once, and to its end whatever becomes of the call meanwhile.
    fn ask_action(&mut self, link: Link, told: Vec<(String, String)>, board: &mut dyn Board) {
        let mut hook = self.hook(link, told, board);
        hook.is_action = true;
        board.fetch(hook);
    }

    /// A time has come.
    pub(super) fn pass(&mut self, board: &mut dyn Board) {
        let now = self.now.now;
        let gone = self.lost.iter().find(|(_, until)| *until <= now);
        if let Some(gone) = gone.map(|(leg, _)| *leg) {
            if gone == LegId::CALLER {
                self.caller_left(board);
            } else {
                self.callee_left(Farewell::Over, board);
            }
        }
        if !self.was_answered && self.give_up <= now {
            return self.cancel(Farewell::NoAnswer, board);
        }
        match &self.state {
            State::Pausing(until) if *until <= now => self.is_next = true,
            State::Talking(talk) if talk.until <= now => {
                self.callee_left(Farewell::TimeLimit, board);
            }
            State::Dialling(_) => self.dial_due(board),
            _ => {}
        }
    }
}
