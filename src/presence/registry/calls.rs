//! Devices in calls: reserved while they ring, engaged while they talk.
//!
//! A ringing is one registration's and goes with it. A call is a device's, whatever becomes of its registration: so who is lost in a
//! call and comes back is still busy, and the end of the call is counted where its beginning was.

use super::identity::status_of;
use super::session::{Moment, SessionRef, Source};
use crate::presence::Registry;
use crate::presence::name::Name;
use crate::presence::status::Status;

impl Registry {
    /// Reserves a device for a ringing, if it can be rung at this moment: two calls never ring a place that is for one.
    pub fn reserve(&mut self, of: &SessionRef, at: Moment) -> bool {
        let rules = self.rules.clone();
        let session = self.session(of);
        let Some(session) = session.filter(|session| session.is_ringable(&rules)) else {
            return false;
        };
        session.rings += 1;
        self.settle(&of.identity, at);
        true
    }

    /// Calls in progress of an identity.
    #[must_use]
    pub fn calls_of(&self, identity: &Name) -> u32 {
        let known = self.identities.get(identity);
        known.map_or(0, |known| known.engaged.iter().map(|of| of.calls).sum())
    }

    /// The device does not ring any more.
    pub fn release(&mut self, of: &SessionRef, at: Moment) {
        if let Some(session) = self.session(of) {
            session.rings = session.rings.saturating_sub(1);
            self.settle(&of.identity, at);
        }
    }

    /// A call of that device begins (B14); `has_answered` if it was called.
    pub fn begin_call(
        &mut self,
        (identity, device, app): (&Name, &Name, &Name),
        has_answered: bool,
        at: Moment,
    ) {
        if self.make_room(identity).is_err() {
            return;
        }
        let known = self.entry(identity, at);
        known.handled += u64::from(has_answered);
        let before = known.calls_of(device, app);
        known.engage(device, app, true);
        if before == 0 {
            self.log_call((identity, device, app), true, at);
        }
        self.settle(identity, at);
    }

    /// A call of that device ended; what was reported before shows again.
    pub fn end_call(&mut self, (identity, device, app): (&Name, &Name, &Name), at: Moment) {
        let Some(known) = self.identities.get_mut(identity) else {
            return;
        };
        let before = known.calls_of(device, app);
        known.engage(device, app, false);
        if before == 1 {
            self.log_call((identity, device, app), false, at);
        }
        self.settle(identity, at);
        self.note_departed(identity);
        self.forget_returned();
    }

    fn log_call(
        &mut self,
        (identity, device, app): (&Name, &Name, &Name),
        has_begun: bool,
        at: Moment,
    ) {
        let known = self.identities.get_mut(identity);
        let session = known.and_then(|known| known.of_device(device, app));
        let Some(session) = session else { return };
        let own = status_of(session.report.as_ref());
        let of = session.reference(identity);
        let change = if has_begun {
            (own, Status::Busy)
        } else {
            (Status::Busy, own)
        };
        self.log(&of, change, Source::Call, at);
    }
}
