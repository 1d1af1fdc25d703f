//! One device that is rung for a call: from its invitation to the one end that it has.

use std::time::{Duration, Instant};

use super::board::LegId;
use super::talk::Held;
use super::words::BranchEnd;
use crate::presence::instruction::StatusCallback;
use crate::presence::registry::session::SessionRef;
use crate::presence::routing::{Device, Place};

/// A device that was invited and did not say that it rings is taken to ring after so long: the voice SDK never says so.
pub(in crate::presence) const ALERTING: Duration = Duration::from_secs(2);

/// A device that is rung.
#[derive(Debug)]
pub(in crate::presence) struct Branch {
    pub(in crate::presence) leg: LegId,
    /// Its own identifier, as the device and status callbacks know it.
    pub(in crate::presence) sid: String,
    /// Which of the dial's aims it is for.
    pub(in crate::presence) aim: usize,
    pub(in crate::presence) device: Device,
    pub(in crate::presence) state: BranchState,
    /// Its device was told; else another call was there first.
    pub(in crate::presence) was_invited: bool,
    /// Of the next status callback.
    pub(in crate::presence) sequence: u32,
    /// Who is told how it goes.
    pub(in crate::presence) callback: Option<StatusCallback>,
    /// What it said for the caller before it answered.
    pub(in crate::presence) held: Held,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::presence) enum BranchState {
    /// The invitation is on its way; it is taken to ring from then on.
    Invited(Instant),
    /// It rings.
    Ringing,
    /// Its socket was lost; it rings again when it comes back in time.
    Suspended,
    /// It is over.
    Ended(BranchEnd),
}

impl Branch {
    /// Whether it may still answer.
    pub(in crate::presence) fn is_open(&self) -> bool {
        !matches!(self.state, BranchState::Ended(_))
    }

    /// Whether it is of that device's app, whatever its registration.
    pub(in crate::presence) fn is_of(&self, session: &SessionRef) -> bool {
        let own = &self.device.session;
        own.identity == session.identity && own.device == session.device && own.app == session.app
    }

    /// Whether its device may be rung again in the same dial: it did not say no, and was not given up on.
    pub(in crate::presence) fn may_ring_again(&self) -> bool {
        match self.state {
            BranchState::Ended(BranchEnd::Gone) => matches!(self.device.place, Place::Here(_)),
            BranchState::Ended(BranchEnd::Busy) => !self.was_invited,
            _ => false,
        }
    }
}
