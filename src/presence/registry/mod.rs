//! Who is there: the identities of one account and their sessions.
//!
//! A plain value behind its account's lock: every change comes in as a call with its moment, and goes out as a list of touched
//! identities. After each change the identity is settled: if what can be seen of it differs from before, by a hash over it, the account's
//! version goes up by one; so a repeated report changes nothing, by construction. Nothing here knows sockets, HTTP or who watches.

pub(in crate::presence) mod arrival;
pub(in crate::presence) mod calls;
pub(in crate::presence) mod consolidate;
pub(in crate::presence) mod history;
pub(in crate::presence) mod identity;
pub(in crate::presence) mod lookup;
pub(in crate::presence) mod session;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;

use crate::presence::name::Name;
use crate::presence::status::Status;
use crate::wheel::Wheel;
use arrival::{Arrival, Connected, IDENTITIES_MAX, TokenEnd, TooMany, Touched};
use consolidate::{Rules, shown};
use history::Entry;
use identity::{Identity, status_of};
use session::{Channel, Moment, Report, Session, SessionRef, SocketId, Source};

/// How late a session may go.
const TICK: Duration = Duration::from_millis(250);
/// Slots of the wheel: a minute, in which most deadlines lie.
const SLOTS: usize = 240;
/// No session stands on the wheel for longer: one that is over is forgotten there with its turn, however far off its token's end was.
const HORIZON: Duration = Duration::from_mins(1);

/// The identities of one account.
#[derive(Debug)]
pub struct Registry {
    pub(in crate::presence) rules: Rules,
    grace: Duration,
    devices_max: usize,
    pub(in crate::presence) identities: HashMap<Name, Identity, ahash::RandomState>,
    hasher: ahash::RandomState,
    /// Those without sessions, oldest first, each with the version at which it went.
    departed: VecDeque<(Name, u64)>,
    /// The version of those who are not remembered.
    pub(in crate::presence) floor: u64,
    pub(in crate::presence) begun: u64,
    version: u64,
    epochs: u64,
    wheel: Wheel<SessionRef>,
    touched: Vec<Touched>,
    /// Identities of which a session arrived.
    arrived: Vec<Name>,
    entries: usize,
}

impl Registry {
    /// An account in which nobody is there yet; `version` is where its versions begin.
    #[must_use]
    pub fn new(
        rules: Rules,
        grace: Duration,
        devices_max: usize,
        at: Moment,
        version: u64,
    ) -> Self {
        Self {
            rules,
            grace,
            devices_max,
            identities: HashMap::default(),
            hasher: ahash::RandomState::new(),
            departed: VecDeque::new(),
            floor: version,
            begun: at.unix_ms,
            version,
            epochs: 0,
            wheel: Wheel::new(at.now, TICK, SLOTS),
            touched: Vec::new(),
            arrived: Vec::new(),
            entries: 0,
        }
    }

    /// Takes over other rules; every identity is looked at anew.
    pub fn configure(&mut self, rules: Rules, grace: Duration, devices_max: usize, at: Moment) {
        (self.grace, self.devices_max) = (grace, devices_max);
        if self.rules != rules {
            self.rules = rules;
            let all: Vec<_> = self.identities.keys().cloned().collect();
            for identity in all {
                let before = self.version;
                self.settle(&identity, at);
                if self.version != before {
                    self.note_departed(&identity);
                }
            }
            self.forget_returned();
        }
    }

    /// The number of the last change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A change beside the identities' that counts among the account's: of a contact list.
    pub fn count_change(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Takes what was touched since the last time.
    pub fn take_touched(&mut self) -> Vec<Touched> {
        std::mem::take(&mut self.touched)
    }

    /// Takes the identities of which a session arrived since the last time, though perhaps nothing shows it.
    pub fn take_arrived(&mut self) -> Vec<Name> {
        std::mem::take(&mut self.arrived)
    }

    /// Registers a socket's session, or finds that it is there already.
    pub fn connect(
        &mut self,
        identity: &Name,
        arrival: Arrival,
        at: Moment,
    ) -> Result<Connected, TooMany> {
        self.make_room(identity)?;
        let entry = self.entry(identity, at);
        let found = entry.find(&arrival);
        if found.is_none() {
            self.give_way(identity, at)?;
        }
        self.epochs += 1;
        let epoch = self.epochs;
        let entry = self.entry(identity, at);
        let (device, nameless) = match (arrival.device, found) {
            (Ok(device), _) => (device, None),
            (Err(nameless), Some(index)) => {
                (entry.sessions[index].device.clone(), Some(nameless.kind))
            }
            (Err(nameless), None) => (nameless.fresh, Some(nameless.kind)),
        };
        let known = found.map(|index| &entry.sessions[index]);
        let is_resumed = known.is_some_and(|known| {
            // Who comes back may be here before its loss was noticed; whoever cannot prove that it is who was lost only takes its place.
            let is_proven = known.resume.is_some() && known.resume == arrival.resume;
            is_proven || (known.suspended.is_some() && nameless.is_some())
        });
        let report = arrival.may_give.then(|| Report::of(Status::Available));
        let (report, since) = match known {
            Some(known) if is_resumed && arrival.may_give => {
                (known.report.clone().or(report), known.since)
            }
            Some(known) if known.report == report => (report, known.since),
            _ => (report, at.unix_ms),
        };
        let channel = Channel::Socket(arrival.socket);
        let mut session = Session::new((&device, &arrival.app), epoch, channel, at);
        (session.report, session.since) = (report, since);
        (session.may_receive, session.has_audio) = (arrival.may_receive, arrival.has_audio);
        session.bind(arrival.token);
        (session.resume, session.nameless) = (arrival.next_resume, nameless);
        session.calls = entry.calls_of(&device, &session.app);
        let reference = session.reference(identity);
        let old = status_of(known.and_then(|known| known.report.as_ref()));
        let new = status_of(session.report.as_ref());
        let replaced = known.and_then(Session::socket);
        match found {
            Some(index) => entry.sessions[index] = session,
            None => entry.sessions.push(session),
        }
        if old != new {
            self.log(&reference, (old, new), Source::Socket, at);
        }
        self.settle(identity, at);
        self.arm(&reference, at);
        self.arrived.push(identity.clone());
        Ok(Connected {
            session: reference,
            replaced: replaced.filter(|socket| *socket != arrival.socket),
            is_resumed,
        })
    }

    /// Takes a report over the API, which keeps the device registered until so long after it.
    pub fn put(
        &mut self,
        (identity, device, app): (&Name, &Name, &Name),
        report: Report,
        ttl: Duration,
        token: Option<TokenEnd>,
        source: Source,
        at: Moment,
    ) -> Result<bool, TooMany> {
        self.make_room(identity)?;
        let before = self.version;
        let until = at.now + ttl;
        let reference = if let Some(session) = self.entry(identity, at).of_device(device, app) {
            // A socket is its device's life, unless it was lost: then the report is.
            if matches!(session.channel, Channel::Api { .. }) || session.suspended.is_some() {
                (session.channel, session.suspended) = (Channel::Api { until }, None);
                session.bind(token);
            }
            session.reference(identity)
        } else {
            self.give_way(identity, at)?;
            self.epochs += 1;
            let channel = Channel::Api { until };
            let mut session = Session::new((device, app), self.epochs, channel, at);
            session.bind(token);
            let reference = session.reference(identity);
            self.entry(identity, at).sessions.push(session);
            reference
        };
        self.report(&reference, report, source, at);
        self.settle(identity, at);
        self.arm(&reference, at);
        Ok(self.version != before)
    }

    /// Takes a report; false if the session is over.
    pub fn report(&mut self, of: &SessionRef, report: Report, source: Source, at: Moment) -> bool {
        let Some(session) = self.session(of) else {
            return false;
        };
        let old = status_of(session.report.as_ref());
        let is_new = session.report.as_ref() != Some(&report);
        if is_new {
            let new = report.status;
            if old != new {
                session.since = at.unix_ms;
            }
            session.report = Some(report);
            self.log(of, (old, new), source, at);
            self.settle(&of.identity, at);
        }
        true
    }

    /// The socket was lost: it may come back for a while.
    pub fn lose(&mut self, of: &SessionRef, at: Moment) {
        let until = at.now + self.grace;
        let Some(session) = self.session(of) else {
            return;
        };
        session.suspended.get_or_insert(until);
        self.settle(&of.identity, at);
        self.arm(of, at);
    }

    /// The session ends now.
    pub fn leave(&mut self, of: &SessionRef, source: Source, at: Moment) -> bool {
        let Some(identity) = self.identities.get_mut(&of.identity) else {
            return false;
        };
        let Some(index) = identity.sessions.iter().position(|session| session.is(of)) else {
            return false;
        };
        let session = identity.sessions.remove(index);
        identity.has_left = source != Source::Silence;
        let old = status_of(session.report.as_ref());
        if old != Status::Offline {
            self.log(of, (old, Status::Offline), source, at);
        }
        self.settle(&of.identity, at);
        self.note_departed(&of.identity);
        self.forget_returned();
        true
    }

    /// Lists an identity without sessions, by its version, among those that can be forgotten.
    fn note_departed(&mut self, identity: &Name) {
        if let Some(known) = self.identities.get(identity)
            && known.is_idle()
        {
            let went = (identity.clone(), known.version);
            self.departed.push_back(went);
        }
    }

    /// A new token on the socket: other rights, and another end.
    pub fn renew(
        &mut self,
        of: &SessionRef,
        may_receive: bool,
        may_give: bool,
        token: Option<TokenEnd>,
        at: Moment,
    ) {
        let Some(session) = self.session(of) else {
            return;
        };
        session.may_receive = may_receive;
        session.bind(token);
        let old = status_of(session.report.as_ref());
        if !may_give {
            session.report = None;
        } else if session.report.is_none() {
            (session.report, session.since) = (Some(Report::of(Status::Available)), at.unix_ms);
        }
        let new = status_of(session.report.as_ref());
        if old != new {
            self.log(of, (old, new), Source::Socket, at);
        }
        self.settle(&of.identity, at);
        self.arm(of, at);
    }

    /// Ends what is due: lost sockets that did not come back, reports that were not repeated, tokens. Returns the sockets
    /// whose session ended under them.
    pub fn expire(&mut self, at: Moment) -> Vec<SocketId> {
        let mut cut = Vec::new();
        for of in self.wheel.due(at.now) {
            let Some(session) = self.session(&of) else {
                continue;
            };
            match session.deadline() {
                Some(deadline) if deadline <= at.now => {
                    cut.extend(session.socket());
                    let source = session.ends_by(at.now);
                    self.leave(&of, source, at);
                }
                _ => {
                    if session.armed.is_some_and(|armed| armed <= at.now) {
                        session.armed = None;
                    }
                    self.arm(&of, at);
                }
            }
        }
        cut
    }

    /// Ends the sessions whose tokens were signed by a key that is not there any more; returns their sockets.
    pub fn revoke(&mut self, is_there: impl Fn(&str) -> bool, at: Moment) -> Vec<SocketId> {
        let orphan = |session: &&Session| session.key.as_ref().is_some_and(|key| !is_there(key));
        let ended: Vec<_> = self
            .identities
            .iter()
            .flat_map(|(name, known)| {
                let ended = known.sessions.iter().filter(orphan);
                ended.map(|session| (session.reference(name), session.socket()))
            })
            .collect();
        for (session, _) in &ended {
            self.leave(session, Source::TokenEnd, at);
        }
        ended.into_iter().filter_map(|(_, socket)| socket).collect()
    }

    fn session(&mut self, of: &SessionRef) -> Option<&mut Session> {
        let known = self.identities.get_mut(&of.identity)?;
        known.sessions.iter_mut().find(|session| session.is(of))
    }

    fn entry(&mut self, identity: &Name, at: Moment) -> &mut Identity {
        let (rules, floor, hasher) = (&self.rules, self.floor, &self.hasher);
        self.identities
            .entry_ref(identity)
            .or_insert_with(|| Identity::new(rules, hasher, floor, at))
    }

    /// Sees to it that one more identity can be remembered.
    fn make_room(&mut self, identity: &Name) -> Result<(), TooMany> {
        if self.identities.contains_key(identity) {
            return Ok(());
        }
        while self.identities.len() >= IDENTITIES_MAX {
            let went = self.departed.pop_front().ok_or(TooMany::Identities)?;
            if let Some(gone) = self.identities.get(&went.0).filter(|of| of.went_at(went.1)) {
                self.entries -= gone.history.len();
                self.floor = self.floor.max(gone.version);
                self.identities.remove(&went.0);
            }
        }
        Ok(())
    }

    /// Strikes those from the list of the departed who have come back since, before it outgrows the identities.
    fn forget_returned(&mut self) {
        if self.departed.len() > 2 * self.identities.len() + SLOTS {
            let known = &self.identities;
            self.departed.retain(|(identity, version)| {
                known.get(identity).is_some_and(|of| of.went_at(*version))
            });
        }
    }

    /// Sees to it that one more device can be registered: lost ones give way.
    fn give_way(&mut self, identity: &Name, at: Moment) -> Result<(), TooMany> {
        let too_many = TooMany::Devices(self.devices_max);
        let Some(known) = self.identities.get(identity) else {
            return Ok(());
        };
        if known.sessions.len() < self.devices_max {
            return Ok(());
        }
        let oldest = known.oldest_lost(|_| true).ok_or(too_many)?;
        let oldest = known.sessions[oldest].reference(identity);
        self.leave(&oldest, Source::Replaced, at);
        Ok(())
    }

    fn log(&mut self, of: &SessionRef, (old, new): (Status, Status), source: Source, at: Moment) {
        let Some(known) = self.identities.get_mut(&of.identity) else {
            return;
        };
        let session = known.sessions.iter().find(|session| session.is(of));
        let reason = session.and_then(|session| session.report.as_ref()?.reason);
        let absent = known.absent(&self.rules);
        let entry = Entry {
            at: at.unix_ms,
            device: of.device.clone(),
            app: of.app.clone(),
            old,
            new,
            reason,
            source,
            shown: shown(
                &known.sessions,
                !known.engaged.is_empty(),
                &self.rules,
                absent,
            )
            .status,
        };
        known.history.push(entry, &mut self.entries);
    }

    /// Looks at an identity after something happened to it: a version and a touch, if anything of it can be seen to differ.
    fn settle(&mut self, identity: &Name, at: Moment) {
        let Some(known) = self.identities.get_mut(identity) else {
            return;
        };
        let Some(is_shown) = known.settle(&self.rules, &self.hasher, at) else {
            return;
        };
        self.version += 1;
        known.version = self.version;
        self.touched.push(Touched {
            identity: identity.clone(),
            is_shown,
        });
    }

    /// Puts a session on the wheel for the next look at it, unless it stands there for an earlier one.
    fn arm(&mut self, of: &SessionRef, at: Moment) {
        let Some(session) = self.session(of) else {
            return;
        };
        let Some(deadline) = session.deadline() else {
            return;
        };
        let look = deadline.min(at.now + HORIZON);
        if session.armed.is_none_or(|armed| look < armed) {
            session.armed = Some(look);
            self.wheel.insert(look, of.clone());
        }
    }
}
