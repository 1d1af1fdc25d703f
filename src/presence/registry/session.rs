//! One live registration of a device's app, and what it reports.
//!
//! A session has an epoch, which no other session of its account ever has: whoever holds a [`SessionRef`] acts on that very
//! registration or on none, so that an event that comes late changes nothing. Never decides what others see of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::arrival::TokenEnd;
use crate::clock::Clock;
use crate::presence::name::Name;
use crate::presence::status::{Reason, Status};

/// Longest free text, in characters.
pub const TEXT_MAX: usize = 256;

/// A moment on both clocks: one to wait by, one to tell.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For deadlines.
    pub now: Instant,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn of(clock: &Clock) -> Self {
        Self {
            now: clock.now(),
            unix_ms: u64::try_from(clock.unix_time().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// When something ends that ends at a wall-clock time, in seconds since the Unix epoch.
    #[must_use]
    pub fn instant_of(&self, unix_seconds: u64) -> Instant {
        let left = unix_seconds
            .saturating_mul(1_000)
            .saturating_sub(self.unix_ms);
        // A far future is as good as a year.
        self.now + Duration::from_millis(left).min(Duration::from_hours(24 * 365))
    }
}

/// What a client says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Report {
    /// Never `offline`.
    pub status: Status,
    /// Why.
    pub reason: Option<Reason>,
    /// In its own words, up to 256 characters.
    pub text: Option<Arc<str>>,
}

impl Report {
    /// Just a status.
    #[must_use]
    pub const fn of(status: Status) -> Self {
        Self {
            status,
            reason: None,
            text: None,
        }
    }
}

/// A socket, among all of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// How a session is kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// By a socket, which can be rung.
    Socket(SocketId),
    /// By reports over the API, until so long after the last.
    Api {
        /// When it goes.
        until: Instant,
    },
}

/// What ended a session, or changed it: the log says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A message on the socket.
    Socket,
    /// A request to the API.
    Api,
    /// An XMPP stanza put to the API.
    Xmpp,
    /// The socket was lost and did not come back, or nothing was heard for the time it promised.
    Silence,
    /// The token ended, or its key went.
    TokenEnd,
    /// Another session of the identity took its place.
    Replaced,
    /// A call began or ended.
    Call,
}

impl Source {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Api => "api",
            Self::Xmpp => "xmpp",
            Self::Silence => "silence",
            Self::TokenEnd => "token_end",
            Self::Replaced => "replaced",
            Self::Call => "call",
        }
    }
}

/// Names one registration for as long as it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRef {
    /// Whose.
    pub identity: Name,
    /// On which device.
    pub device: Name,
    /// For which application.
    pub app: Name,
    /// Which of all registrations of that device and app.
    pub epoch: u64,
}

/// A live registration.
#[derive(Debug)]
pub(in crate::presence) struct Session {
    pub(in crate::presence) device: Name,
    pub(in crate::presence) app: Name,
    pub(in crate::presence) epoch: u64,
    pub(in crate::presence) channel: Channel,
    /// `None` if it may not give presence.
    pub(in crate::presence) report: Option<Report>,
    /// When its status began, in milliseconds since the Unix epoch.
    pub(in crate::presence) since: u64,
    /// Whether calls and messages may come to it.
    pub(in crate::presence) may_receive: bool,
    /// Whether it has a microphone and a speaker.
    pub(in crate::presence) has_audio: bool,
    /// Until when the lost socket may come back.
    pub(in crate::presence) suspended: Option<Instant>,
    /// When its token stops counting.
    pub(in crate::presence) token_end: Option<Instant>,
    /// The key that signed its token; without it the session ends. `None` for reports by an account key.
    pub(in crate::presence) key: Option<Arc<str>>,
    /// Calls in progress: what its identity knows, which outlives it.
    pub(in crate::presence) calls: u32,
    /// Calls that ring it and are not answered.
    pub(in crate::presence) rings: u32,
    /// Proves that whoever comes back is who was lost; used once.
    pub(in crate::presence) resume: Option<u128>,
    /// What kind of client took a name that was made for it; such a client cannot show a resume token.
    pub(in crate::presence) nameless: Option<u64>,
    /// The earliest time for which the registry's wheel holds an entry.
    pub(in crate::presence) armed: Option<Instant>,
}

impl Session {
    /// A registration that reports nothing and cannot be rung.
    pub(in crate::presence) fn new(
        (device, app): (&Name, &Name),
        epoch: u64,
        channel: Channel,
        at: Moment,
    ) -> Self {
        Self {
            device: device.clone(),
            app: app.clone(),
            epoch,
            channel,
            report: None,
            since: at.unix_ms,
            may_receive: false,
            has_audio: false,
            suspended: None,
            token_end: None,
            key: None,
            calls: 0,
            rings: 0,
            resume: None,
            nameless: None,
            armed: None,
        }
    }

    /// Has it end with a token, and with the key that signed it.
    pub(in crate::presence) fn bind(&mut self, token: Option<TokenEnd>) {
        self.token_end = token.as_ref().map(|token| token.at);
        self.key = token.map(|token| token.key);
    }

    /// Whether it is that very registration.
    pub(in crate::presence) fn is(&self, of: &SessionRef) -> bool {
        self.epoch == of.epoch && self.device == of.device && self.app == of.app
    }

    /// When it goes unless something happens before.
    pub(in crate::presence) fn deadline(&self) -> Option<Instant> {
        let own = match (self.suspended, self.channel) {
            (Some(until), _) | (None, Channel::Api { until }) => Some(until),
            (None, Channel::Socket(_)) => None,
        };
        match (own, self.token_end) {
            (Some(own), Some(end)) => Some(own.min(end)),
            (own, end) => own.or(end),
        }
    }

    /// Why it goes at its deadline.
    pub(in crate::presence) fn ends_by(&self, now: Instant) -> Source {
        if self.token_end.is_some_and(|end| end <= now) {
            Source::TokenEnd
        } else {
            Source::Silence
        }
    }

    /// Whether it could be rung, if it were willing and free.
    pub(in crate::presence) fn may_be_rung(&self) -> bool {
        self.is_live_socket() && self.may_receive && self.has_audio
    }

    pub(in crate::presence) fn is_live_socket(&self) -> bool {
        matches!(self.channel, Channel::Socket(_)) && self.suspended.is_none()
    }

    pub(in crate::presence) fn socket(&self) -> Option<SocketId> {
        match self.channel {
            Channel::Socket(socket) if self.suspended.is_none() => Some(socket),
            _ => None,
        }
    }

    pub(in crate::presence) fn reference(&self, identity: &Name) -> SessionRef {
        SessionRef {
            identity: identity.clone(),
            device: self.device.clone(),
            app: self.app.clone(),
            epoch: self.epoch,
        }
    }
}
