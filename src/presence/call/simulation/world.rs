//! The simulated world: an account's devices, its calls, and what is under way between them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::running::Running;
use super::stage::{Ended, Stage};
use crate::clock::Clock;
use crate::presence::account::Account;
use crate::presence::call::board::{Event, Heard, LegId};
use crate::presence::call::facts::Facts;
use crate::presence::call::machine::Call;
use crate::presence::fetch::instructions::{Failure, Fetched};
use crate::presence::instruction::{
    Client, Dial, Document, Events, Instruction, Link, Noun, RejectReason, StatusCallback, Verb,
};
use crate::presence::name::Name;
use crate::presence::registry::arrival::Arrival;
use crate::presence::registry::session::{Moment, Report, SessionRef, SocketId, Source};
use crate::presence::routing::{Device, Place, Verdict};
use crate::presence::settings::{Settings, Unavailable};
use crate::presence::status::Status;

pub(super) const GRACE: Duration = Duration::from_secs(15);
const WHO: [&str; 3] = ["a", "b", "c"];

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// What does not change about a call.
pub(super) fn facts(number: usize) -> Facts {
    Facts {
        sid: format!("CA{number}"),
        account: "AC".into(),
        from: "client:x".into(),
        to: String::new(),
        application: None,
        parameters: Vec::new(),
        clients: Vec::new(),
        unavailable: Unavailable::Busy,
        grace: GRACE,
        fallback: None,
    }
}

pub(super) struct World {
    pub(super) chance: fastrand::Rng,
    pub(super) ended: Vec<Ended>,
    clock: Clock,
    account: Arc<Account>,
    sockets: u64,
    sessions: Vec<SessionRef>,
    calls: Vec<Running>,
    numbers: usize,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let clock = Clock::manual();
        let settings = Settings {
            grace: GRACE,
            devices_per_identity: 3,
            ..Settings::default()
        };
        let account = Account::new("AC", &settings, &clock, Arc::default(), Arc::default());
        Self {
            chance: fastrand::Rng::with_seed(seed),
            ended: Vec::new(),
            clock,
            account: Arc::new(account),
            sockets: 0,
            sessions: Vec::new(),
            calls: Vec::new(),
            numbers: 0,
        }
    }

    fn at(&self) -> Moment {
        Moment::of(&self.clock)
    }

    /// Something happened to somebody: calls that dial are nudged, when their turn comes.
    fn touched(&mut self, identity: &Name) {
        for running in &mut self.calls {
            running.is_nudged |= running.stage.watched.contains(identity);
        }
    }

    fn pick(&mut self) -> Option<SessionRef> {
        let index = self.chance.usize(..self.sessions.len().max(1));
        self.sessions.get(index).cloned()
    }

    pub(super) fn connect(&mut self) {
        self.sockets += 1;
        let identity = name(WHO[self.chance.usize(..3)]);
        let arrival = Arrival {
            device: Ok(name(["1", "2"][self.chance.usize(..2)])),
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
            .with(|state| state.registry.connect(&identity, arrival, at));
        if let Ok(connected) = connected {
            self.sessions.push(connected.session);
            self.touched(&identity);
        }
    }

    pub(super) fn lose(&mut self) {
        let Some(session) = self.pick() else { return };
        let at = self.at();
        self.account.with(|state| state.registry.lose(&session, at));
        self.touched(&session.identity);
        self.hear_of(&session, || Heard::Lost(Duration::from_secs(5)));
    }

    pub(super) fn sign_out(&mut self) {
        let Some(session) = self.pick() else { return };
        let at = self.at();
        self.account
            .with(|state| state.registry.leave(&session, Source::Socket, at));
        self.touched(&session.identity);
        self.hear_of(&session, || Heard::Left);
    }

    /// Calls hear of a device that it is gone, in one way or the other.
    fn hear_of(&mut self, session: &SessionRef, heard: impl Fn() -> Heard) {
        for running in &mut self.calls {
            let legs = running.stage.sessions.iter();
            let legs: Vec<_> = legs.filter(|(_, of)| *of == session).collect();
            for (leg, _) in legs {
                running.queue.push_back(Event::Leg(*leg, heard()));
            }
        }
    }

    pub(super) fn report(&mut self) {
        let Some(session) = self.pick() else { return };
        let status = Status::ALL[self.chance.usize(..5)];
        let at = self.at();
        self.account.with(|state| {
            let registry = &mut state.registry;
            registry.report(&session, Report::of(status), Source::Socket, at)
        });
        self.touched(&session.identity);
    }

    pub(super) fn pass(&mut self, by: Duration) {
        self.clock.advance(by);
        let at = self.at();
        self.account.with(|state| state.registry.expire(at));
        for identity in WHO {
            self.touched(&name(identity));
        }
    }

    pub(super) fn begin(&mut self) {
        if self.calls.len() >= 6 {
            return;
        }
        self.numbers += 1;
        let caller = (
            name(WHO[self.chance.usize(..3)]),
            name("1"),
            name(["voice", "other"][self.chance.usize(..2)]),
        );
        let mut facts = facts(self.numbers);
        facts.unavailable = [Unavailable::Busy, Unavailable::Text][self.chance.usize(..2)];
        facts.fallback = self.chance.bool().then(|| "/fallback".into());
        let at = self.at();
        let has_peers = self.chance.u32(..3) == 0;
        let mut stage = Stage::new(&self.account, at, caller, self.numbers, has_peers);
        let link = Link {
            url: "/voice".into(),
            method: Verb::Post,
        };
        let has_actions = self.chance.bool();
        let call = Call::begin(facts, Ok(link), &mut stage, at);
        self.calls.push(Running {
            call,
            stage,
            queue: VecDeque::new(),
            is_nudged: false,
            branches: Vec::new(),
            dials: 0,
            has_actions,
            dialled: (0, 0),
        });
    }

    fn some_call(&mut self) -> Option<usize> {
        let count = self.calls.len();
        (count > 0).then(|| self.chance.usize(..count))
    }

    /// A device says something about a call that it was ever rung for.
    pub(super) fn device_acts(&mut self) {
        let Some(index) = self.some_call() else {
            return;
        };
        let legs: Vec<_> = self.calls[index].stage.hears.keys().copied().collect();
        if legs.is_empty() {
            return;
        }
        let leg = legs[self.chance.usize(..legs.len())];
        let heard = match self.chance.u32(..10) {
            0..=2 => Heard::Alerting,
            3..=6 => Heard::Accepted("v=0".into()),
            7 => Heard::Rejected,
            8 => Heard::HungUp,
            _ => [Heard::Engaged, Heard::Refused, Heard::Left]
                .into_iter()
                .nth(self.chance.usize(..3))
                .expect("one of three"),
        };
        self.calls[index].queue.push_back(Event::Leg(leg, heard));
    }

    pub(super) fn caller_acts(&mut self) {
        let Some(index) = self.some_call() else {
            return;
        };
        let heard = match self.chance.u32(..6) {
            0 => Heard::HungUp,
            1 => Heard::Lost(Duration::from_secs(5)),
            2 | 3 => Heard::Back,
            _ => return,
        };
        let event = Event::Leg(LegId::CALLER, heard);
        self.calls[index].queue.push_back(event);
    }

    pub(super) fn operator_acts(&mut self) {
        let Some(index) = self.some_call() else {
            return;
        };
        let event = match self.chance.u32(..4) {
            0 => Event::Cancelled,
            1 => Event::Orphaned,
            2 => Event::Draining,
            _ => Event::Closed,
        };
        self.calls[index].queue.push_back(event);
    }

    pub(super) fn customer_answers(&mut self) {
        let Some(index) = self.some_call() else {
            return;
        };
        if std::mem::take(&mut self.calls[index].stage.asked) {
            let dialled = self.calls[index].stage.watched.clone();
            let devices = self.elsewhere(&dialled);
            self.calls[index].queue.push_back(Event::Found(devices));
        }
        if self.calls[index].stage.wanted.take().is_none() {
            return;
        }
        let fetched = if self.chance.u32(..8) == 0 {
            Err(Failure {
                code: 11_200,
                url: "/voice".into(),
                detail: String::new(),
            })
        } else {
            let document = self.document(index);
            let url = "/voice".into();
            Ok(Fetched { document, url })
        };
        self.calls[index].queue.push_back(Event::Fetched(fetched));
    }

    /// What a peer says that it has.
    fn elsewhere(&mut self, dialled: &[Name]) -> Vec<Device> {
        // A dial may be over when its peers answer.
        let count = self.chance.u64(..4) * u64::from(!dialled.is_empty());
        let device = |number| Device {
            session: SessionRef {
                identity: dialled[self.chance.usize(..dialled.len())].clone(),
                device: name(&format!("there{number}")),
                app: name("voice"),
                epoch: number,
            },
            verdict: [Verdict::Ring, Verdict::Ring, Verdict::Busy][self.chance.usize(..3)],
            is_unwilling: false,
            place: Place::Node("b".into()),
            load: (0, 0),
        };
        (0..count).map(device).collect()
    }

    fn document(&mut self, index: usize) -> Document {
        let count = self.chance.usize(..4);
        let verbs = (0..count).map(|_| self.verb(index)).collect();
        Document {
            verbs,
            warnings: Vec::new(),
        }
    }

    fn verb(&mut self, index: usize) -> Instruction {
        match self.chance.u32(..12) {
            0 => Instruction::Pause(Duration::from_secs(3)),
            1 => Instruction::Say("hello".into()),
            2 if self.chance.u32(..3) == 0 => Instruction::Reject(RejectReason::Busy),
            3 if self.chance.u32(..3) == 0 => Instruction::Hangup,
            4 if self.chance.u32(..3) == 0 => Instruction::Media("Gather".into()),
            _ => Instruction::Dial(self.dial(index)),
        }
    }

    fn dial(&mut self, index: usize) -> Dial {
        let running = &mut self.calls[index];
        running.dials += 1;
        let link = |url: String| Link {
            url,
            method: Verb::Post,
        };
        let action = running
            .has_actions
            .then(|| link(format!("/action/{}", running.dials)));
        let count = self.chance.usize(1..4);
        let nouns = (0..count).map(|_| {
            let of = ["a", "b", "c", "team", "a/1", ""][self.chance.usize(..6)];
            Noun::Client(Client {
                identity: of.into(),
                parameters: Vec::new(),
                status_callback: Some(StatusCallback {
                    link: link("/status".into()),
                    events: Events {
                        initiated: true,
                        ringing: true,
                        answered: true,
                        completed: true,
                    },
                }),
            })
        });
        Dial {
            nouns: nouns.collect(),
            action,
            timeout: Duration::from_secs([5, 30][self.chance.usize(..2)]),
            time_limit: Duration::from_secs([1, 60][self.chance.usize(..2)]),
            caller_id: None,
            sequential: self.chance.bool(),
        }
    }

    /// Every call takes what is under way for it, events and timers in an order drawn by chance.
    pub(super) fn settle(&mut self) {
        for index in 0..self.calls.len() {
            for _ in 0..self.chance.usize(1..8) {
                let at = self.at();
                let is_first = self.chance.bool();
                let running = &mut self.calls[index];
                let is_due = running.call.due().is_some_and(|due| due <= at.now);
                let event = match running.queue.pop_front() {
                    // An answer that waits and a time that is up: either may be first.
                    Some(event) if is_due && !is_first => {
                        running.queue.push_front(event);
                        Event::Due
                    }
                    Some(event) => event,
                    None if is_due => Event::Due,
                    None if std::mem::take(&mut running.is_nudged) => Event::Nudged,
                    None => break,
                };
                running.take(event, at);
                let watched: Vec<_> = WHO.iter().map(|who| name(who)).collect();
                watched.iter().for_each(|identity| self.touched(identity));
            }
        }
        let mut index = 0;
        while index < self.calls.len() {
            if self.calls[index].call.is_over() && self.calls[index].queue.is_empty() {
                let running = self.calls.swap_remove(index);
                running.check_over();
                self.ended.push(running.stage.status);
            } else {
                index += 1;
            }
        }
    }

    /// What holds after every step.
    pub(super) fn check(&mut self) {
        for running in &mut self.calls {
            running.check();
        }
        // A device is in as many places as calls say, and in no more than it has.
        self.account.with(|state| {
            for (identity, known) in &state.registry.identities {
                for session in &known.sessions {
                    let of = session.reference(identity);
                    let rings = self
                        .calls
                        .iter()
                        .flat_map(|running| running.stage.rung.values());
                    let rings = rings.filter(|rung| **rung == of).count();
                    assert_eq!(session.rings as usize, rings, "{of:?}");
                    let engaged = self
                        .calls
                        .iter()
                        .flat_map(|running| running.stage.engaged.values());
                    let calls = engaged.filter(|(who, device, app)| {
                        who == identity && *device == of.device && *app == of.app
                    });
                    assert_eq!(session.calls as usize, calls.count(), "{of:?}");
                }
            }
        });
    }

    /// Lets everything come to its end.
    pub(super) fn finish(&mut self) {
        for _ in 0..200 {
            for index in 0..self.calls.len() {
                if std::mem::take(&mut self.calls[index].stage.asked) {
                    self.calls[index].queue.push_back(Event::Found(Vec::new()));
                }
                if self.calls[index].stage.wanted.take().is_some() {
                    let fetched = Fetched {
                        document: Document::default(),
                        url: "/end".into(),
                    };
                    let event = Event::Fetched(Ok(fetched));
                    self.calls[index].queue.push_back(event);
                }
            }
            self.pass(Duration::from_secs(2));
            self.settle();
        }
        assert!(self.calls.is_empty(), "every call comes to its end");
    }

    /// What holds when all calls are over.
    pub(super) fn check_over(&self) {
        self.account.with(|state| {
            for known in state.registry.identities.values() {
                assert!(known.engaged.is_empty(), "nobody is in a call");
                let is_idle = |session: &crate::presence::registry::session::Session| {
                    session.rings == 0 && session.calls == 0
                };
                assert!(known.sessions.iter().all(is_idle), "nothing rings");
            }
        });
    }
}
