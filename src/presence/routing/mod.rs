//! Which devices can be rung at this moment, and for each of the others why not.
//!
//! Read from the registrations themselves, never from what is shown of an identity: one busy device does not make the others busy,
//! and a status that is shown may be of a device that cannot ring. Plain questions to the registry; reserving is the registry's.

use std::cmp::Reverse;

use crate::presence::Registry;
use crate::presence::name::Name;
use crate::presence::registry::consolidate::Rules;
use crate::presence::registry::session::{Channel, Session, SessionRef, SocketId};
use crate::presence::settings::{Choose, Destination};
use crate::presence::status::Status;

#[cfg(test)]
mod tests;

/// Whom a name means: an identity, or one device of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::presence) struct Party {
    pub(in crate::presence) identity: Name,
    pub(in crate::presence) device: Option<Name>,
}

/// Whom a noun means: those it stands for, and which of them are rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::presence) struct Target {
    pub(in crate::presence) parties: Vec<Party>,
    pub(in crate::presence) choose: Choose,
}

/// Whether a device can be rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::presence) enum Verdict {
    /// It can.
    Ring,
    /// It says that it is busy.
    Busy,
    /// It has as many calls as it may.
    InCall,
    /// It wants no calls.
    DoNotDisturb,
    /// Its user is not there.
    Away,
    /// It says that it cannot be called.
    Unavailable,
    /// Its socket was lost and may come back.
    Suspended,
    /// It has no right to receive, or no microphone.
    CannotReceive,
    /// It is known by reports only: nothing can be sent to it.
    NoSocket,
}

impl Verdict {
    /// The word in a call's trace.
    pub(in crate::presence) const fn as_str(self) -> &'static str {
        match self {
            Self::Ring => "ringable",
            Self::Busy => "busy",
            Self::InCall => "in_call",
            Self::DoNotDisturb => "do_not_disturb",
            Self::Away => "away",
            Self::Unavailable => "unavailable",
            Self::Suspended => "suspended",
            Self::CannotReceive => "cannot_receive",
            Self::NoSocket => "no_socket",
        }
    }

    /// The verdict of that word.
    pub(in crate::presence) fn of_word(word: &str) -> Option<Self> {
        let all = [
            Self::Ring,
            Self::Busy,
            Self::InCall,
            Self::DoNotDisturb,
            Self::Away,
            Self::Unavailable,
            Self::Suspended,
            Self::CannotReceive,
            Self::NoSocket,
        ];
        all.into_iter().find(|verdict| verdict.as_str() == word)
    }

    /// Whether a caller hears of it as busy: somebody is there, and occupied or not to be disturbed.
    pub(in crate::presence) const fn is_busy(self) -> bool {
        matches!(self, Self::Busy | Self::InCall | Self::DoNotDisturb)
    }
}

/// A device that a call looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::presence) struct Device {
    pub(in crate::presence) session: SessionRef,
    pub(in crate::presence) verdict: Verdict,
    /// It says that it is busy, or not to be disturbed, whether it could be rung or not: callers hear that somebody is there.
    pub(in crate::presence) is_unwilling: bool,
    pub(in crate::presence) place: Place,
    /// Calls in progress of its identity, and those that it answered so far.
    pub(in crate::presence) load: (u32, u64),
}

impl Device {
    /// Whether it is worth waiting for: lost, and to be rung when it is back. Peers tell only once what they have.
    pub(in crate::presence) fn may_return(&self) -> bool {
        self.verdict == Verdict::Suspended && matches!(self.place, Place::Here(_))
    }
}

/// Where a device is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::presence) enum Place {
    /// Here, on that socket if it is there.
    Here(Option<SocketId>),
    /// At another process, by its name.
    Node(std::sync::Arc<str>),
}

/// Whom a name means that was dialled; `None` if it is none.
pub(in crate::presence) fn target(
    registry: &Registry,
    destinations: &[(Name, Destination)],
    name: &str,
) -> Option<Target> {
    let name = Name::new(name).ok()?;
    let destination = destinations.iter().find(|(known, _)| *known == name);
    if let Some((_, destination)) = destination {
        let whole = |identity: &Name| Party {
            identity: identity.clone(),
            device: None,
        };
        return Some(Target {
            parties: destination.members.iter().map(whole).collect(),
            choose: destination.choose,
        });
    }
    let (identity, device) = registry.addressed(&name);
    Some(Target {
        parties: vec![Party { identity, device }],
        choose: Choose::All,
    })
}

/// What there is of a party.
pub(in crate::presence) fn devices(registry: &Registry, party: &Party) -> Vec<Device> {
    let Some(known) = registry.identities.get(&party.identity) else {
        return Vec::new();
    };
    let calls = known.engaged.iter().map(|of| of.calls).sum();
    let is_meant =
        |session: &&Session| party.device.as_ref().is_none_or(|of| *of == session.device);
    let sessions = known.sessions.iter().filter(is_meant);
    sessions
        .map(|session| Device {
            session: session.reference(&party.identity),
            verdict: verdict(session, &registry.rules, true),
            is_unwilling: is_unwilling(session),
            place: Place::Here(session.socket()),
            load: (calls, known.handled),
        })
        .collect()
}

fn is_unwilling(session: &Session) -> bool {
    let status = session.report.as_ref().map(|report| report.status);
    matches!(status, Some(Status::Busy | Status::DoNotDisturb))
}

fn verdict(session: &Session, rules: &Rules, needs_audio: bool) -> Verdict {
    if matches!(session.channel, Channel::Api { .. }) {
        return Verdict::NoSocket;
    }
    if !session.may_receive || (needs_audio && !session.has_audio) {
        return Verdict::CannotReceive;
    }
    if session.suspended.is_some() {
        return Verdict::Suspended;
    }
    match session.report.as_ref().map(|report| report.status) {
        Some(Status::Busy) => Verdict::Busy,
        Some(Status::DoNotDisturb) => Verdict::DoNotDisturb,
        Some(Status::Away) if !rules.ring_away => Verdict::Away,
        Some(Status::Unavailable | Status::Offline) => Verdict::Unavailable,
        _ if session.is_ringable(rules) || !needs_audio => Verdict::Ring,
        _ => Verdict::InCall,
    }
}

/// Which of a target's devices are rung, if not all that can be; `has_tried` tells whether an identity was rung in this dial already.
pub(in crate::presence) fn chosen<'d>(
    target: &Target,
    devices: &'d [Device],
    has_tried: impl Fn(&Name) -> bool,
) -> Vec<&'d Device> {
    let can_ring = devices
        .iter()
        .filter(|device| device.verdict == Verdict::Ring);
    if target.choose == Choose::All {
        return can_ring.collect();
    }
    let fresh = can_ring.filter(|device| !has_tried(&device.session.identity));
    let place = |device: &Device| {
        let mut parties = target.parties.iter();
        parties.position(|party| party.identity == device.session.identity)
    };
    let first = match target.choose {
        Choose::InOrder => fresh.clone().min_by_key(|device| place(device)),
        // Of those who are alike, the first of the file.
        _ => fresh
            .clone()
            .min_by_key(|device| (device.load, place(device))),
    };
    let identity = first.map(|device| &device.session.identity);
    fresh
        .filter(|device| Some(&device.session.identity) == identity)
        .collect()
}

/// The best status found among those who were dialled, and the text that goes with it: the first by the account's order.
pub(in crate::presence) fn best(
    registry: &Registry,
    parties: &[Party],
) -> (Status, Option<std::sync::Arc<str>>) {
    let items = parties
        .iter()
        .map(|party| registry.item(&party.identity, false));
    let best = items.min_by_key(|item| {
        let rank = registry.rules.order.rank(item.status);
        (rank, Reverse(item.since))
    });
    best.map_or((registry.rules.assume, None), |item| {
        (item.status, item.text)
    })
}

/// What there is of a party for a message: a microphone does not matter, nor how many calls a device has, only that it is there and free.
pub(in crate::presence) fn message_devices(registry: &Registry, party: &Party) -> Vec<Device> {
    let of = |session: &SessionRef| {
        let known = registry.identities.get(&session.identity)?;
        known.sessions.iter().find(|known| known.is(session))
    };
    let mut devices = devices(registry, party);
    for device in &mut devices {
        if let Some(session) = of(&device.session) {
            device.verdict = verdict(session, &registry.rules, false);
        }
    }
    devices
}
