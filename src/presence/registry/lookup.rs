//! What can be asked of a registry, which changes nothing.

use super::arrival::Count;
use super::consolidate::Item;
use super::history::{History, Page};
use super::session::{Channel, Moment, Session, SessionRef, SocketId};
use crate::presence::Registry;
use crate::presence::name::Name;
use crate::presence::status::Status;

impl Registry {
    /// Sessions of that device: of one app, or of all, with their sockets.
    #[must_use]
    pub fn sessions_of(
        &self,
        identity: &Name,
        device: &Name,
        app: Option<&Name>,
    ) -> Vec<(SessionRef, Option<SocketId>)> {
        let known = self.identities.get(identity);
        let sessions = known.into_iter().flat_map(|known| &known.sessions);
        let of_device = sessions.filter(|session| {
            session.device == *device && app.is_none_or(|app| session.app == *app)
        });
        of_device
            .map(|session| (session.reference(identity), session.socket()))
            .collect()
    }

    /// Whom a name means that was dialled: an identity, or with a sub-name one device of it (B29). A name is tried whole first; only if
    /// nobody of that name is there is what follows the last slash a device.
    #[must_use]
    pub fn addressed(&self, name: &Name) -> (Name, Option<Name>) {
        let is_there = |identity: &str| {
            let known = self.identities.get(identity);
            known.is_some_and(|known| !known.sessions.is_empty())
        };
        let parts = name
            .as_str()
            .rsplit_once('/')
            .filter(|_| !is_there(name.as_str()));
        let parts = parts.and_then(|(identity, device)| {
            Some((Name::new(identity).ok()?, Some(Name::new(device).ok()?)))
        });
        parts.unwrap_or_else(|| (name.clone(), None))
    }

    /// Since when one who can be called is idle, in milliseconds since the Unix epoch: a device of theirs reports `available`, by
    /// whatever channel, and none is in a call. With a sub-name only that device counts.
    #[must_use]
    pub fn idle_since(&self, name: &Name, at: Moment) -> Option<u64> {
        let (identity, device) = self.addressed(name);
        let known = self.identities.get(&identity)?;
        let is_meant = |session: &&Session| {
            device
                .as_ref()
                .is_none_or(|device| session.device == *device)
        };
        let mut since = None;
        for session in known.sessions.iter().filter(is_meant) {
            if session.calls > 0 {
                return None;
            }
            let status = session.report.as_ref().map(|report| report.status);
            // What is over may stand here until the next tick.
            let is_over = session
                .deadline()
                .is_some_and(|deadline| deadline <= at.now);
            if status == Some(Status::Available) && !is_over {
                since = Some(session.since.min(since.unwrap_or(u64::MAX)));
            }
        }
        // Whoever comes out of a call is idle since its end, though the report is older.
        since.map(|since| match known.shown.status {
            Status::Available => known.since,
            _ => since,
        })
    }

    /// The socket of a registration, while it is there.
    #[must_use]
    pub fn socket_of(&self, of: &SessionRef) -> Option<SocketId> {
        let known = self.identities.get(&of.identity)?;
        let mut sessions = known.sessions.iter();
        sessions.find(|session| session.is(of))?.socket()
    }

    /// The live sockets of an identity.
    #[must_use]
    pub fn sockets_of(&self, identity: &Name) -> Vec<SocketId> {
        let known = self.identities.get(identity);
        let sessions = known.into_iter().flat_map(|known| &known.sessions);
        sessions.filter_map(Session::socket).collect()
    }

    /// What is known of an identity, or assumed of one that is not known.
    #[must_use]
    pub fn item(&self, identity: &Name, with_devices: bool) -> Item {
        let Some(known) = self.identities.get(identity) else {
            return Item {
                identity: identity.clone(),
                status: self.rules.assume,
                reason: None,
                text: None,
                since: self.begun,
                ringable: false,
                device_count: 0,
                version: self.floor,
                devices: with_devices.then(Vec::new),
            };
        };
        let shown = &known.shown;
        let devices = || {
            known
                .sessions
                .iter()
                .map(|session| session.item(&self.rules))
        };
        Item {
            identity: identity.clone(),
            status: shown.status,
            reason: shown.reason,
            text: shown.text.clone(),
            since: known.since,
            ringable: shown.ringable,
            device_count: shown.device_count,
            version: known.version,
            devices: with_devices.then(|| devices().collect()),
        }
    }

    /// Whether it changed after that version.
    #[must_use]
    pub fn is_newer(&self, identity: &Name, version: u64) -> bool {
        let known = self.identities.get(identity);
        known.map_or(self.floor, |known| known.version) > version
    }

    /// Those whose names begin so, who have sessions and are visible, up to `limit`, and whether there are more.
    #[must_use]
    pub fn present(
        &self,
        prefix: &str,
        is_visible: impl Fn(&Name) -> bool,
        limit: usize,
    ) -> (Vec<Name>, bool) {
        let mut found = self.identities.iter().filter(|(name, known)| {
            !known.sessions.is_empty() && name.as_str().starts_with(prefix) && is_visible(name)
        });
        let names = found
            .by_ref()
            .take(limit)
            .map(|(name, _)| name.clone())
            .collect();
        (names, found.next().is_some())
    }

    /// A part of an identity's log.
    #[must_use]
    pub fn log_of(&self, identity: &Name, since: Option<u64>, limit: usize, at: Moment) -> Page {
        match self.identities.get(identity) {
            Some(known) => known.history.page(since, limit, at.unix_ms),
            None => History::default().page(since, limit, at.unix_ms),
        }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn count(&self) -> Count {
        let mut count = Count::default();
        for session in self.identities.values().flat_map(|known| &known.sessions) {
            match (session.suspended, session.channel) {
                (Some(_), _) => count.suspended += 1,
                (None, Channel::Socket(_)) => count.live += 1,
                (None, Channel::Api { .. }) => count.api += 1,
            }
        }
        count
    }
}
