//! One identity: its sessions, what is shown of them, and its log.
//!
//! Settling it compares a hash over all that can be seen of it with the one before, so that what changes nothing visible is no
//! change. Never knows its name, its account or who watches.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use smallvec::SmallVec;

use super::arrival::Arrival;
use super::consolidate::{Rules, Shown, shown};
use super::history::History;
use super::session::{Moment, Report, Session};
use crate::presence::name::Name;
use crate::presence::status::Status;

/// A device's app that is in calls.
#[derive(Debug)]
pub(in crate::presence) struct Engaged {
    pub(in crate::presence) device: Name,
    pub(in crate::presence) app: Name,
    pub(in crate::presence) calls: u32,
}

/// One identity of an account.
#[derive(Debug)]
pub(in crate::presence) struct Identity {
    pub(in crate::presence) sessions: Vec<Session>,
    /// Its calls in progress. They outlive sessions: who is lost in a call, or calls without being registered, is in it all the same.
    pub(in crate::presence) engaged: SmallVec<[Engaged; 0]>,
    /// Calls that it answered so far: who has the fewest is the least loaded (B9).
    pub(in crate::presence) handled: u64,
    pub(in crate::presence) shown: Shown,
    /// Over all that can be seen of it.
    digest: u64,
    /// When the status that is shown began, in milliseconds since the Unix epoch.
    pub(in crate::presence) since: u64,
    /// The account's version at its last change.
    pub(in crate::presence) version: u64,
    /// The last of its sessions signed out, so that it is known to be gone.
    pub(in crate::presence) has_left: bool,
    pub(in crate::presence) history: History,
}

impl Identity {
    /// One that was not heard of before.
    pub(in crate::presence) fn new(
        rules: &Rules,
        hasher: &ahash::RandomState,
        version: u64,
        at: Moment,
    ) -> Self {
        let shown = shown(&[], false, rules, rules.assume);
        Self {
            digest: digest(hasher, &shown, &[], rules),
            sessions: Vec::new(),
            engaged: SmallVec::new(),
            handled: 0,
            shown,
            since: at.unix_ms,
            version,
            has_left: false,
            history: History::default(),
        }
    }

    /// What it is shown as when no device reports anything.
    pub(in crate::presence) fn absent(&self, rules: &Rules) -> Status {
        if self.sessions.is_empty() && self.has_left {
            Status::Offline
        } else {
            rules.assume
        }
    }

    /// Looks at its sessions anew: `None` if nothing can be seen to differ, else whether it shows without looking at its devices.
    pub(in crate::presence) fn settle(
        &mut self,
        rules: &Rules,
        hasher: &ahash::RandomState,
        at: Moment,
    ) -> Option<bool> {
        let absent = self.absent(rules);
        let now = shown(&self.sessions, !self.engaged.is_empty(), rules, absent);
        let digest = digest(hasher, &now, &self.sessions, rules);
        if digest == self.digest {
            return None;
        }
        let was = (self.shown.status, self.shown.reason);
        if was != (now.status, now.reason) {
            self.since = at.unix_ms;
        }
        let is_shown = now != self.shown;
        (self.shown, self.digest) = (now, digest);
        Some(is_shown)
    }

    pub(in crate::presence) fn of_device(
        &mut self,
        device: &Name,
        app: &Name,
    ) -> Option<&mut Session> {
        self.sessions
            .iter_mut()
            .find(|session| session.device == *device && session.app == *app)
    }

    /// The session that an arrival goes on with, or takes the place of.
    pub(in crate::presence) fn find(&self, arrival: &Arrival) -> Option<usize> {
        match &arrival.device {
            Ok(device) => self
                .sessions
                .iter()
                .position(|session| session.device == *device && session.app == arrival.app),
            Err(nameless) => self.oldest_lost(|session| session.nameless == Some(nameless.kind)),
        }
    }

    /// The session that was lost first, of those.
    pub(in crate::presence) fn oldest_lost(
        &self,
        wanted: impl Fn(&Session) -> bool,
    ) -> Option<usize> {
        let lost = self.sessions.iter().enumerate();
        let lost = lost.filter(|(_, session)| session.suspended.is_some() && wanted(session));
        lost.min_by_key(|(_, session)| session.suspended)
            .map(|(index, _)| index)
    }

    /// Calls in progress of that device's app.
    pub(in crate::presence) fn calls_of(&self, device: &Name, app: &Name) -> u32 {
        let of = self
            .engaged
            .iter()
            .find(|of| of.device == *device && of.app == *app);
        of.map_or(0, |of| of.calls)
    }

    /// One more call of that device's app, or one less.
    pub(in crate::presence) fn engage(&mut self, device: &Name, app: &Name, is_more: bool) {
        let of = |of: &Engaged| of.device == *device && of.app == *app;
        match (self.engaged.iter().position(of), is_more) {
            (Some(index), true) => self.engaged[index].calls += 1,
            (Some(index), false) if self.engaged[index].calls > 1 => self.engaged[index].calls -= 1,
            (Some(index), false) => drop(self.engaged.swap_remove(index)),
            (None, true) => self.engaged.push(Engaged {
                device: device.clone(),
                app: app.clone(),
                calls: 1,
            }),
            (None, false) => {}
        }
        let calls = self.calls_of(device, app);
        if let Some(session) = self.of_device(device, app) {
            session.calls = calls;
        }
    }

    /// Whether nobody is there and nothing goes on.
    pub(in crate::presence) fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.engaged.is_empty()
    }

    /// Whether it has been without sessions since that version.
    pub(in crate::presence) fn went_at(&self, version: u64) -> bool {
        self.is_idle() && self.version == version
    }
}

/// What a device without a report is to its log.
pub(in crate::presence) fn status_of(report: Option<&Report>) -> Status {
    report.map_or(Status::Offline, |report| report.status)
}

fn digest(hasher: &ahash::RandomState, shown: &Shown, sessions: &[Session], rules: &Rules) -> u64 {
    let mut hash = hasher.build_hasher();
    shown.hash(&mut hash);
    for session in sessions {
        (&session.device, &session.app, &session.report).hash(&mut hash);
        (session.suspended.is_some(), session.calls).hash(&mut hash);
        (session.is_ringable(rules), session.is_live_socket()).hash(&mut hash);
    }
    hash.finish()
}
