//! The board of a real call: sockets, the registry, the customer's server, and the record that the API tells.
//!
//! Everything here is done at once. What takes time is left to the call's [task](super::task) as a wish: the document that is wanted,
//! the peers that are to be asked. Devices of peers are sides like any other, told through the link to their process.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde_json::json;

use super::board::{Board, Hook, Invitation, LegId, Note, Said};
use super::book::{Book, Party as Answerer, Record, Traced};
use super::dialect::over;
use super::handle::Handle;
use super::words::{CallStatus, Farewell};
use crate::presence::account::Account;
use crate::presence::chance;
use crate::presence::fetch::callbacks::Callbacks;
use crate::presence::fetch::instructions::Journey;
use crate::presence::instruction::Sms;
use crate::presence::name::Name;
use crate::presence::peers::Word;
use crate::presence::plugin::{Live, Presence};
use crate::presence::registry::session::{Moment, SessionRef};
use crate::presence::routing::{self, Device, Party, Place, Target};
use crate::presence::settings::AccountSettings;
use crate::presence::signal::sockets::Line;
use crate::presence::status::Status;
use crate::telemetry::CallPhase;

/// Who is busy while a call goes on.
#[derive(Debug, Clone)]
pub(in crate::presence) struct Who {
    pub(in crate::presence) identity: Name,
    pub(in crate::presence) device: Name,
    pub(in crate::presence) app: Name,
}

/// The board of one call.
#[derive(Debug)]
pub(in crate::presence) struct Switch {
    pub(in crate::presence) presence: Arc<Presence>,
    pub(in crate::presence) account: Arc<Account>,
    pub(in crate::presence) handle: Arc<Handle>,
    pub(in crate::presence) record: Arc<Mutex<Record>>,
    /// The caller's session description.
    pub(in crate::presence) offer: Arc<str>,
    /// The caller, if it is a client.
    pub(in crate::presence) caller: Option<Who>,
    pub(in crate::presence) callbacks: Option<Callbacks>,
    /// The registrations that ring.
    rung: HashMap<LegId, SessionRef, ahash::RandomState>,
    /// Who is in the call.
    pub(super) engaged: HashMap<LegId, Who, ahash::RandomState>,
    watched: Vec<Name>,
    /// Instructions that are to be asked for.
    pub(in crate::presence) wanted: Option<Hook>,
    /// Those whom the peers are to be asked about.
    pub(in crate::presence) asked: Option<Vec<Party>>,
    /// What the figures know it by; `None` for who stands in for a call elsewhere.
    phase: Option<CallPhase>,
    /// How long the call's place may be held.
    pub(super) talk_max: Option<Duration>,
    /// Sides that do not ring any more: who answers all the same is told that it is too late.
    pub(super) former: HashMap<LegId, (Arc<Line>, String), ahash::RandomState>,
}

impl Switch {
    pub(in crate::presence) fn new(
        presence: &Arc<Presence>,
        account: &Arc<Account>,
        handle: &Arc<Handle>,
        record: &Arc<Mutex<Record>>,
        offer: Arc<str>,
        caller: Option<Who>,
    ) -> Self {
        presence.stats.enter_call(CallPhase::Fetching);
        let mut switch = Self::stand_in(presence, account, handle, record, offer, caller);
        switch.phase = Some(CallPhase::Fetching);
        switch
    }

    /// The same for a device that is rung here for a call elsewhere: it is no call of its own.
    pub(in crate::presence) fn stand_in(
        presence: &Arc<Presence>,
        account: &Arc<Account>,
        handle: &Arc<Handle>,
        record: &Arc<Mutex<Record>>,
        offer: Arc<str>,
        caller: Option<Who>,
    ) -> Self {
        Self {
            presence: Arc::clone(presence),
            account: Arc::clone(account),
            handle: Arc::clone(handle),
            record: Arc::clone(record),
            offer,
            caller,
            callbacks: None,
            rung: HashMap::default(),
            engaged: HashMap::default(),
            watched: Vec::new(),
            wanted: None,
            asked: None,
            phase: None,
            talk_max: None,
            former: HashMap::default(),
        }
    }

    fn at(&self) -> Moment {
        Moment::of(&self.presence.clock)
    }

    /// The account's settings, while it is configured.
    fn settings<T>(&self, read: impl FnOnce(&Live, &AccountSettings) -> T) -> Option<T> {
        let live = self.presence.live();
        let mut accounts = live.settings.accounts.iter();
        let own = accounts.find(|of| of.sid == self.account.sid)?;
        Some(read(&live, own))
    }

    pub(super) fn book<T>(&self, act: impl FnOnce(&mut Book) -> T) -> T {
        act(&mut self.account.book.lock())
    }

    fn enter(&mut self, phase: CallPhase) {
        self.leave();
        self.presence.stats.enter_call(phase);
        self.phase = Some(phase);
    }

    fn leave(&mut self) {
        if let Some(phase) = self.phase.take() {
            self.presence.stats.leave_call(phase);
        }
    }

    /// Who answered: the device that rang, or another that came in its place.
    fn answerer(&self, device: Device) -> Who {
        let session = device.session;
        let rung = Who {
            identity: session.identity,
            device: session.device,
            app: session.app,
        };
        self.handle.any_answerer().unwrap_or(rung)
    }

    fn note_status(&mut self, status: CallStatus) {
        match status {
            CallStatus::InProgress => self.enter(CallPhase::Talking),
            _ => {
                if let Some(end) = status.end() {
                    self.presence.stats.count_call(end);
                }
            }
        }
        let mut record = self.record.lock();
        if record.status == status {
            return;
        }
        record.status = status;
        let event = record.status_event();
        record.tell(event);
    }
}

impl Drop for Switch {
    /// However the call's task ends, nothing of it stays: no ringing, no party, no watch.
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody else will tell them.
            for leg in self.handle.legs() {
                self.say(leg, Said::Over(Farewell::Failed));
            }
        }
        let at = self.at();
        let (rung, engaged) = (
            std::mem::take(&mut self.rung),
            std::mem::take(&mut self.engaged),
        );
        self.account.with(|state| {
            state.dialling.end(&self.watched, &self.handle.nudge);
            for session in rung.values() {
                state.registry.release(session, at);
            }
            for who in engaged.values() {
                let who = (&who.identity, &who.device, &who.app);
                state.registry.end_call(who, at);
            }
        });
        self.handle.unbind_all();
        self.book(|book| book.end(&self.handle.sid, at.now));
        self.leave();
        let mut record = self.record.lock();
        if !record.status.is_final() {
            record.status = CallStatus::Failed;
            record.tell("ended");
        }
    }
}

impl Board for Switch {
    fn sid(&mut self) -> String {
        call_sid()
    }

    fn target(&mut self, name: &str) -> Option<Target> {
        let destinations = self.settings(|_, of| of.destinations.clone());
        let destinations = destinations.unwrap_or_default();
        self.account
            .with(|state| routing::target(&state.registry, &destinations, name))
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

    fn presence(&mut self, who: &[Name]) -> String {
        super::told::told(&self.account, who)
    }

    fn watch(&mut self, who: &[Name]) {
        let before = std::mem::replace(&mut self.watched, who.to_vec());
        self.account.with(|state| {
            state.dialling.end(&before, &self.handle.nudge);
            state.dialling.begin(who, &self.handle.nudge);
        });
        if who.is_empty() {
            if self.phase == Some(CallPhase::Dialling) {
                self.enter(CallPhase::Fetching);
            }
        } else {
            self.enter(CallPhase::Dialling);
        }
    }

    fn talk_max(&mut self) -> Option<Duration> {
        self.talk_max
    }

    fn ask_peers(&mut self, parties: &[Party]) -> bool {
        let has_peers = self.presence.live().settings.peers.is_some();
        if has_peers {
            self.asked = Some(parties.to_vec());
        }
        has_peers
    }

    fn invite(&mut self, leg: LegId, device: &Device, invitation: &Invitation) -> bool {
        let Place::Here(Some(socket)) = &device.place else {
            return self.invite_there(leg, device, invitation);
        };
        let Some(line) = self.presence.sockets.find(*socket) else {
            return false;
        };
        let at = self.at();
        let session = &device.session;
        if !self
            .account
            .with(|state| state.registry.reserve(session, at))
        {
            return false;
        }
        self.rung.insert(leg, session.clone());
        self.handle.set_ringing(leg);
        self.handle.bind(leg, &line, &invitation.sid);
        let account = &self.account.sid;
        let invitation = self.bridged(leg, session, invitation);
        line.invite(account, &invitation, &self.offer);
        line.await_echo(&invitation.sid);
        line.outbox.say("\n".into());
        true
    }

    fn release(&mut self, leg: LegId) {
        let at = self.at();
        if let Some(session) = self.rung.remove(&leg) {
            self.account
                .with(|state| state.registry.release(&session, at));
        }
        self.handle.end_ringing(leg);
        if let Some(here) = self.handle.here(leg) {
            self.former.insert(leg, here);
        }
        self.handle.unbind(leg);
    }

    fn is_connected(&mut self, leg: LegId) -> bool {
        if let Some((road, _)) = self.handle.there(leg) {
            return road.is_open();
        }
        let here = self.handle.here(leg);
        here.is_some_and(|(line, _)| {
            !line.outbox.is_closing() && self.presence.sockets.find(line.id).is_some()
        })
    }

    fn engage(&mut self, leg: LegId) {
        if self.engaged.contains_key(&leg) {
            return;
        }
        let at = self.at();
        let rung = self.rung.remove(&leg);
        let answerer = self.handle.answerer(leg);
        let who = match &rung {
            _ if answerer.is_some() => answerer,
            Some(session) => Some(Who {
                identity: session.identity.clone(),
                device: session.device.clone(),
                app: session.app.clone(),
            }),
            None => self
                .caller
                .clone()
                .filter(|_| leg == LegId::CALLER || self.phase.is_none()),
        };
        let is_elsewhere = self.handle.there(leg).is_some();
        let Some(who) = who.filter(|_| !is_elsewhere) else {
            // Another device than the one that rang here answered, at another server; it is busy there.
            if let Some(session) = rung {
                self.account
                    .with(|state| state.registry.release(&session, at));
            }
            return;
        };
        self.account.with(|state| {
            let (registry, is_called) = (&mut state.registry, rung.is_some());
            registry.begin_call((&who.identity, &who.device, &who.app), is_called, at);
            if let Some(session) = &rung {
                registry.release(session, at);
            }
        });
        self.engaged.insert(leg, who);
    }

    fn disengage(&mut self, leg: LegId) {
        let at = self.at();
        if let Some(who) = self.engaged.remove(&leg) {
            self.account.with(|state| {
                let who = (&who.identity, &who.device, &who.app);
                state.registry.end_call(who, at);
            });
        }
        self.handle.unbind(leg);
    }

    fn say(&mut self, leg: LegId, said: Said) {
        if let Some((road, branch)) = self.handle.there(leg) {
            return road.say(&Word::Said { branch, said });
        }
        match said {
            Said::Answered(sdp) => self.answered(leg, sdp),
            Said::Ringing if leg == LegId::CALLER => {
                self.say_to(leg, "ringing", "call.ringing", json!({}));
                self.handle.rename(leg, &self.handle.sid);
            }
            Said::Ringing => {}
            Said::Cancelled(end) => {
                let reason = json!({ "reason": end.as_str() });
                self.say_to(leg, "cancel", "call.cancel", reason);
            }
            Said::Over(farewell) => {
                self.say_to(leg, "hangup", "call.hangup", over(farewell));
            }
            Said::Text(text) => {
                self.say_to(leg, "call.say", "call.say", json!({ "text": text }));
            }
            Said::Relayed(kind, what) => self.relay(leg, kind, what),
        }
    }

    fn fetch(&mut self, hook: Hook) {
        self.wanted = Some(hook);
    }

    fn tell(&mut self, hook: Hook) {
        if let Some(url) = Journey::resolve(&hook.base, &hook.link.url)
            && let Some(callbacks) = &mut self.callbacks
        {
            callbacks.push(url, hook.link.method, hook.fields);
        }
    }

    fn message(&mut self, sms: &Sms) {
        let from = sms.from.clone();
        let (from, to) = {
            let record = self.record.lock();
            let to = sms.to.clone().unwrap_or_else(|| record.from.clone());
            (from.unwrap_or_else(|| record.to.clone()), to)
        };
        crate::presence::message::send(&self.presence, &self.account, &from, &to, &sms.body);
    }

    fn missed(&mut self, parties: &[Party]) {
        let from = self.record.lock().from.clone();
        for party in parties {
            let text = format!("{from} called");
            let (presence, account) = (&self.presence, &self.account);
            crate::presence::message::leave(presence, account, &from, &party.identity, &text);
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Status(status) => self.note_status(status),
            Note::Silent(node) => {
                let traced = traced(Some(node), "peer_silent");
                self.record.lock().trace(traced);
            }
            Note::Trace(device, outcome) => {
                let node = match device.place {
                    Place::Node(node) => Some(node),
                    Place::Here(_) => None,
                };
                let session = device.session;
                self.record.lock().trace(Traced {
                    identity: Some(session.identity),
                    device: Some(session.device),
                    app: Some(session.app),
                    ..traced(node, outcome)
                });
            }
            Note::Absent(identity) => self.record.lock().trace(Traced {
                identity: Some(identity),
                ..traced(None, "no_device")
            }),
            Note::Unreachable(noun, outcome) => self.record.lock().trace(Traced {
                noun: Some(noun),
                ..traced(None, outcome)
            }),
            Note::Answered(device, sdp) => {
                let who = self.answerer(device);
                let mut record = self.record.lock();
                record.sdp = Some(sdp);
                record.answered_by = Some(Answerer {
                    identity: who.identity,
                    device: who.device,
                    app: who.app,
                });
            }
            Note::Dialled(status) => self.record.lock().dial_status = Some(status),
            Note::Text(text) => {
                let mut record = self.record.lock();
                record.announcement = Some(text);
                record.tell("announcement");
            }
            Note::Warned(warning) => self.record.lock().warn(warning.code, &warning.about),
            Note::Failed(failure) => {
                self.record.lock().warn(failure.code, &failure.detail);
                tracing::warn!(
                    account = self.account.sid,
                    call = self.handle.sid,
                    code = failure.code,
                    detail = failure.detail,
                    "instructions were not followed"
                );
            }
        }
    }
}

fn traced(node: Option<Arc<str>>, outcome: &'static str) -> Traced {
    Traced {
        identity: None,
        device: None,
        app: None,
        node,
        noun: None,
        outcome,
    }
}

/// A call's identifier: `CA` and 32 hexadecimal digits, that nobody can guess where the machine has chance.
pub(in crate::presence) fn call_sid() -> String {
    let number = chance::bits().unwrap_or_else(|| fastrand::u128(..));
    format!("CA{number:032x}")
}
