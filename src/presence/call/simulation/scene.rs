//! A stage for one case: an account with its devices, and calls that are told by hand what happens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::running::Running;
use super::stage::{Hears, Stage};
use super::world::{GRACE, facts};
use crate::clock::Clock;
use crate::presence::account::Account;
use crate::presence::call::board::{Event, Heard, LegId};
use crate::presence::call::branch::BranchState;
use crate::presence::call::machine::Call;
use crate::presence::call::words::{BranchEnd, CallStatus};
use crate::presence::fetch::instructions::Fetched;
use crate::presence::instruction::{
    Client, Dial, Document, Events, Instruction, Link, Noun, StatusCallback, Verb,
};
use crate::presence::name::Name;
use crate::presence::registry::arrival::Arrival;
use crate::presence::registry::session::{Moment, SessionRef, SocketId};
use crate::presence::settings::Settings;

pub(super) const CALLER: LegId = LegId::CALLER;
pub(super) const FIRST: LegId = LegId(1);
pub(super) const SECOND: LegId = LegId(2);

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn link(url: &str) -> Link {
    Link {
        url: url.into(),
        method: Verb::Post,
    }
}

pub(super) fn accepted() -> Heard {
    Heard::Accepted("v=0".into())
}

/// A dial of these, for ten seconds, with an `action` and status callbacks.
pub(super) fn dial(who: &[&str]) -> Dial {
    let client = |identity: &&str| {
        Noun::Client(Client {
            identity: (*identity).into(),
            parameters: Vec::new(),
            status_callback: Some(StatusCallback {
                link: link("/status"),
                events: Events {
                    initiated: true,
                    ringing: true,
                    answered: true,
                    completed: true,
                },
            }),
        })
    };
    Dial {
        nouns: who.iter().map(client).collect(),
        action: Some(link("/action")),
        timeout: Duration::from_secs(10),
        ..Dial::default()
    }
}

/// An account, its devices, and its calls.
pub(super) struct Scene {
    pub(super) clock: Clock,
    pub(super) account: Arc<Account>,
    pub(super) calls: Vec<Running>,
    sockets: u64,
}

impl Scene {
    pub(super) fn new() -> Self {
        let clock = Clock::manual();
        let settings = Settings {
            grace: GRACE,
            ..Settings::default()
        };
        let account = Account::new("AC", &settings, &clock, Arc::default(), Arc::default());
        Self {
            clock,
            account: Arc::new(account),
            sockets: 0,
            calls: Vec::new(),
        }
    }

    pub(super) fn at(&self) -> Moment {
        Moment::of(&self.clock)
    }

    /// A device that can be rung, or that comes back.
    pub(super) fn device(&mut self, identity: &str, device: &str) -> SessionRef {
        self.sockets += 1;
        let arrival = Arrival {
            device: Ok(name(device)),
            app: name("voice"),
            socket: SocketId(self.sockets),
            may_receive: true,
            has_audio: true,
            may_give: true,
            token: None,
            resume: None,
            next_resume: None,
        };
        let at = self.at();
        let connected = self
            .account
            .with(|state| state.registry.connect(&name(identity), arrival, at));
        connected.unwrap().session
    }

    pub(super) fn lose(&self, session: &SessionRef) {
        let at = self.at();
        self.account.with(|state| state.registry.lose(session, at));
    }

    pub(super) fn ringable(&self, identity: &str) -> bool {
        let identity = name(identity);
        self.account
            .with(|state| state.registry.item(&identity, false).ringable)
    }

    /// A call that waits for its instructions.
    pub(super) fn begin(&mut self, caller: &str) -> usize {
        let number = self.calls.len();
        let caller = (name(caller), name("1"), name("voice"));
        let at = self.at();
        let mut stage = Stage::new(&self.account, at, caller, number, false);
        let call = Call::begin(facts(number), Ok(link("/voice")), &mut stage, at);
        self.calls.push(Running {
            call,
            stage,
            queue: VecDeque::new(),
            is_nudged: false,
            branches: Vec::new(),
            dials: 1,
            has_actions: true,
            dialled: (0, 0),
        });
        number
    }

    /// A call by that caller, which does so.
    pub(super) fn call(&mut self, caller: &str, dial: Dial) -> usize {
        let number = self.begin(caller);
        self.instruct(number, dial);
        number
    }

    pub(super) fn instruct(&mut self, number: usize, dial: Dial) {
        self.follow(number, vec![Instruction::Dial(dial)]);
    }

    /// Its customer's server answers with these.
    pub(super) fn follow(&mut self, number: usize, verbs: Vec<Instruction>) {
        self.calls[number].stage.wanted = None;
        let document = Document {
            verbs,
            warnings: Vec::new(),
        };
        let url = "/voice".into();
        self.tell(number, Event::Fetched(Ok(Fetched { document, url })));
    }

    pub(super) fn tell(&mut self, number: usize, event: Event) {
        let at = self.at();
        self.calls[number].take(event, at);
    }

    pub(super) fn hear(&mut self, leg: LegId, heard: Heard) {
        self.tell(0, Event::Leg(leg, heard));
    }

    /// Time passes, and what is due by then is done.
    pub(super) fn pass(&mut self, by: Duration) {
        self.clock.advance(by);
        let at = self.at();
        self.account.with(|state| state.registry.expire(at));
        for number in 0..self.calls.len() {
            while self.calls[number]
                .call
                .due()
                .is_some_and(|due| due <= at.now)
            {
                self.tell(number, Event::Due);
            }
        }
    }

    pub(super) fn branch(&self, leg: LegId) -> BranchState {
        let branches = &self.calls[0].call.branches;
        branches
            .iter()
            .find(|branch| branch.leg == leg)
            .unwrap()
            .state
    }

    pub(super) fn ended(&self, leg: LegId, end: BranchEnd) {
        assert_eq!(self.branch(leg), BranchState::Ended(end), "{leg:?}");
    }

    pub(super) fn hears(&self, leg: LegId) -> Hears {
        self.calls[0].stage.hears[&leg]
    }

    pub(super) fn status(&self) -> CallStatus {
        self.calls[0].stage.status
    }

    /// The dial is over with that status, and its `action` was asked for once.
    pub(super) fn dial_ended(&self, status: &str) {
        let asked = self.calls[0].stage.wanted.as_ref().unwrap();
        let told = asked
            .fields
            .iter()
            .find(|(name, _)| name == "DialCallStatus");
        assert_eq!(told.unwrap().1, status);
        assert_eq!(self.calls[0].stage.actions, ["/action"]);
    }

    pub(super) fn is_over(&self) -> bool {
        self.calls[0].call.is_over()
    }
}
