//! The board of a simulated call: it acts on the real registry, and writes down what it was asked to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::presence::account::Account;
use crate::presence::call::board::{Board, Hook, Invitation, LegId, Note, Said};
use crate::presence::call::words::{BranchEnd, CallStatus};
use crate::presence::instruction::Sms;
use crate::presence::name::Name;
use crate::presence::registry::session::{Moment, SessionRef};
use crate::presence::routing::{self, Device, Party, Place, Target};
use crate::presence::settings::{Choose, Destination};
use crate::presence::status::Status;

pub(super) type Ended = CallStatus;

/// What one side of a call was told last that matters for what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hears {
    Ringing,
    Talking,
    Over,
}

/// The board of one call.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) account: Arc<Account>,
    pub(super) at: Moment,
    pub(super) caller: (Name, Name, Name),
    pub(super) number: usize,
    pub(super) wanted: Option<Hook>,
    pub(super) told: Vec<Hook>,
    pub(super) status: CallStatus,
    pub(super) watched: Vec<Name>,
    /// Registrations that ring for this call.
    pub(super) rung: BTreeMap<LegId, SessionRef>,
    pub(super) engaged: BTreeMap<LegId, (Name, Name, Name)>,
    /// What each device hears.
    pub(super) hears: BTreeMap<LegId, Hears>,
    pub(super) sessions: BTreeMap<LegId, SessionRef>,
    pub(super) caller_hears: Option<Hears>,
    pub(super) overs: usize,
    pub(super) answered: usize,
    pub(super) winners: usize,
    /// Dials that ended, by note.
    pub(super) dialled: usize,
    /// `action`s that were asked for or told, each by its URL.
    pub(super) actions: Vec<String>,
    /// Whether there are peers, and whether they were asked and have not answered.
    pub(super) has_peers: bool,
    pub(super) asked: bool,
    /// The caller's socket is there.
    pub(super) has_caller: bool,
    /// Sockets stay, though registrations go.
    pub(super) keeps_sockets: bool,
    /// Why each device was told to stop.
    pub(super) reasons: BTreeMap<LegId, BranchEnd>,
    /// Devices of peers that were invited, by the dial.
    invited_there: BTreeSet<(usize, String)>,
    sids: u64,
}

impl Stage {
    pub(super) fn new(
        account: &Arc<Account>,
        at: Moment,
        caller: (Name, Name, Name),
        number: usize,
        has_peers: bool,
    ) -> Self {
        Self {
            account: Arc::clone(account),
            at,
            caller,
            number,
            wanted: None,
            told: Vec::new(),
            status: CallStatus::Queued,
            watched: Vec::new(),
            rung: BTreeMap::new(),
            engaged: BTreeMap::new(),
            hears: BTreeMap::new(),
            sessions: BTreeMap::new(),
            caller_hears: None,
            overs: 0,
            answered: 0,
            winners: 0,
            dialled: 0,
            actions: Vec::new(),
            has_peers,
            asked: false,
            has_caller: true,
            keeps_sockets: false,
            reasons: BTreeMap::new(),
            invited_there: BTreeSet::new(),
            sids: 0,
        }
    }

    fn note_action(&mut self, hook: &Hook) {
        if hook.link.url.starts_with("/action") {
            self.actions.push(hook.link.url.clone());
        }
    }
}

/// A name that stands for two, of whom the first that can be is rung.
pub(super) fn destinations() -> Vec<(Name, Destination)> {
    let name = |text| Name::new(text).unwrap();
    let destination = Destination {
        members: vec![name("a"), name("b")],
        choose: Choose::InOrder,
    };
    vec![(name("team"), destination)]
}

impl Board for Stage {
    fn sid(&mut self) -> String {
        self.sids += 1;
        format!("CA{}-{}", self.number, self.sids)
    }

    fn target(&mut self, name: &str) -> Option<Target> {
        let of = destinations();
        self.account
            .with(|state| routing::target(&state.registry, &of, name))
    }

    fn devices(&mut self, parties: &[Party]) -> Vec<Device> {
        self.account.with(|state| {
            let of = |party| routing::devices(&state.registry, party);
            parties.iter().flat_map(of).collect()
        })
    }

    fn best(&mut self, parties: &[Party]) -> (Status, Option<Arc<str>>) {
        self.account
            .with(|state| routing::best(&state.registry, parties))
    }

    fn presence(&mut self, _who: &[Name]) -> String {
        "{}".into()
    }

    fn watch(&mut self, who: &[Name]) {
        self.watched = who.to_vec();
    }

    fn ask_peers(&mut self, _parties: &[Party]) -> bool {
        self.asked = self.has_peers;
        self.has_peers
    }

    fn invite(&mut self, leg: LegId, device: &Device, _invitation: &Invitation) -> bool {
        let (session, at) = (device.session.clone(), self.at);
        if matches!(device.place, Place::Node(_)) {
            let of = (self.dialled, session.device.as_str().to_owned());
            assert!(
                self.invited_there.insert(of),
                "a device elsewhere is asked once a dial: what it said then holds"
            );
            self.hears.insert(leg, Hears::Ringing);
            return true;
        }
        let is_rung = self.account.with(|state| {
            let socket = state.registry.socket_of(&session);
            let is_rung = state.registry.reserve(&session, at);
            assert!(!is_rung || socket.is_some(), "no ring to a dead epoch");
            is_rung
        });
        if is_rung {
            let before = self.rung.insert(leg, session.clone());
            assert!(before.is_none(), "a branch rings one device at a time");
            self.sessions.insert(leg, session);
            self.hears.insert(leg, Hears::Ringing);
        }
        is_rung
    }

    fn release(&mut self, leg: LegId) {
        let at = self.at;
        if let Some(session) = self.rung.remove(&leg) {
            self.account
                .with(|state| state.registry.release(&session, at));
        }
    }

    fn is_connected(&mut self, leg: LegId) -> bool {
        if leg == LegId::CALLER {
            return self.has_caller;
        }
        if self.keeps_sockets {
            return true;
        }
        let session = self.sessions.get(&leg);
        session.is_none_or(|session| {
            self.account
                .with(|state| state.registry.socket_of(session).is_some())
        })
    }

    fn engage(&mut self, leg: LegId) {
        let at = self.at;
        let rung = self.rung.remove(&leg);
        let who = match &rung {
            Some(session) => {
                let SessionRef {
                    identity,
                    device,
                    app,
                    ..
                } = session.clone();
                (identity, device, app)
            }
            None if leg != LegId::CALLER => return,
            None => self.caller.clone(),
        };
        self.account.with(|state| {
            let registry = &mut state.registry;
            registry.begin_call((&who.0, &who.1, &who.2), rung.is_some(), at);
            if let Some(session) = &rung {
                registry.release(session, at);
            }
        });
        assert!(self.engaged.insert(leg, who).is_none());
    }

    fn disengage(&mut self, leg: LegId) {
        let at = self.at;
        let Some(who) = self.engaged.remove(&leg) else {
            assert!(!self.sessions.contains_key(&leg), "who leaves was in it");
            return;
        };
        self.account
            .with(|state| state.registry.end_call((&who.0, &who.1, &who.2), at));
    }

    fn say(&mut self, leg: LegId, said: Said) {
        if leg == LegId::CALLER {
            match said {
                Said::Answered(sdp) => {
                    assert!(sdp.is_some(), "the caller gets the answer");
                    self.answered += 1;
                    self.caller_hears = Some(Hears::Talking);
                }
                Said::Over(_) => {
                    self.overs += 1;
                    self.caller_hears = Some(Hears::Over);
                }
                _ => {}
            }
            return;
        }
        match said {
            Said::Answered(sdp) => {
                assert!(sdp.is_none(), "a callee has its own description");
                assert_eq!(self.hears.insert(leg, Hears::Talking), Some(Hears::Ringing));
                self.winners += 1;
            }
            Said::Cancelled(end) => {
                self.reasons.insert(leg, end);
                assert_eq!(self.hears.insert(leg, Hears::Over), Some(Hears::Ringing));
            }
            Said::Over(_) => drop(self.hears.insert(leg, Hears::Over)),
            _ => {}
        }
    }

    fn fetch(&mut self, hook: Hook) {
        // Except that a dial's `action` is told though its caller has just left.
        assert!(
            self.wanted.is_none() || hook.is_action,
            "one document at a time"
        );
        self.note_action(&hook);
        self.wanted = Some(hook);
    }

    fn tell(&mut self, hook: Hook) {
        self.note_action(&hook);
        self.told.push(hook);
    }

    fn message(&mut self, _sms: &Sms) {}

    fn missed(&mut self, _parties: &[Party]) {}

    fn note(&mut self, note: Note) {
        match note {
            Note::Status(status) => {
                assert!(!self.status.is_final(), "nothing comes after the end");
                self.status = status;
            }
            Note::Dialled(_) => self.dialled += 1,
            _ => {}
        }
    }
}
