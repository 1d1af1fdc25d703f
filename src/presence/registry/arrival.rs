//! What goes into the registry and comes out of it: somebody who arrives, and what others may notice.
//!
//! Plain values, so that the registry can be driven by sockets, by the API, and by tests alike.

use std::sync::Arc;
use std::time::Instant;

use super::session::{SessionRef, SocketId};
use crate::presence::name::Name;

/// Identities of one account that are remembered, those that have gone included: some 100 MB with their names.
pub(in crate::presence) const IDENTITIES_MAX: usize = 200_000;

/// Somebody who wants to be registered.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Its device; a client that has no name for its device gets one.
    pub device: Result<Name, Nameless>,
    /// Its application.
    pub app: Name,
    /// Its socket.
    pub socket: SocketId,
    /// Whether calls and messages may come to it.
    pub may_receive: bool,
    /// Whether it can be rung, where calls may come.
    pub has_audio: bool,
    /// Whether it may report a status.
    pub may_give: bool,
    /// When its token stops counting, and the key that signed it.
    pub token: Option<TokenEnd>,
    /// What it got when it was here before.
    pub resume: Option<u128>,
    /// Proves the next time that it was here.
    pub next_resume: Option<u128>,
}

/// What bounds a session beside its socket or its reports.
#[derive(Debug, Clone)]
pub struct TokenEnd {
    /// When the token stops counting.
    pub at: Instant,
    /// The key that signed it.
    pub key: Arc<str>,
}

/// A client without a name for its device.
#[derive(Debug, Clone)]
pub struct Nameless {
    /// What kind of client it is: it takes over the oldest lost session of its kind.
    pub kind: u64,
    /// Its name, if there is none to take over.
    pub fresh: Name,
}

/// A registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Its name from now on.
    pub session: SessionRef,
    /// The socket whose session it replaced.
    pub replaced: Option<SocketId>,
    /// Whether it goes on where it was lost.
    pub is_resumed: bool,
}

/// Why somebody cannot be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// The identity has as many devices as it may.
    #[error("this identity has {0} devices registered, as many as may be; sign out on one of them")]
    Devices(usize),
    /// The account has as many identities as it may.
    #[error("this account has {IDENTITIES_MAX} identities registered, as many as may be")]
    Identities,
}

/// An identity that can be seen otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Which.
    pub identity: Name,
    /// Whether that shows without looking at its devices.
    pub is_shown: bool,
}

/// Sessions by kind, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// With a live socket.
    pub live: usize,
    /// With a lost socket that may come back.
    pub suspended: usize,
    /// Kept by reports over the API.
    pub api: usize,
}
