//! Devices at other servers: invited over the road there, and what leads an acceptance back from any of them.

use super::board::{Invitation, LegId};
use super::switch::Switch;
use crate::presence::peers::Word;
use crate::presence::registry::session::SessionRef;
use crate::presence::routing::{Device, Place};

impl Switch {
    /// Rings a device that is registered at another server, which knows whether it can be.
    pub(super) fn invite_there(
        &mut self,
        leg: LegId,
        device: &Device,
        invitation: &Invitation,
    ) -> bool {
        let Place::Node(node) = &device.place else {
            return false;
        };
        let Some(road) = self.presence.road(node) else {
            return false;
        };
        let session = &device.session;
        let invitation = self.bridged(leg, session, invitation);
        if !self.handle.bind_there(leg, &road, &invitation.sid) {
            return false;
        }
        self.handle.set_ringing(leg);
        let is_asked = road.invite(&Word::Invite {
            account: self.account.sid.clone(),
            identity: session.identity.clone(),
            device: session.device.clone(),
            app: session.app.clone(),
            epoch: session.epoch,
            invitation,
            sdp: self.offer.to_string(),
        });
        if !is_asked {
            self.handle.unbind(leg);
        }
        is_asked
    }

    /// The invitation with what leads to this call from any server, unless who holds the call has put that there.
    pub(super) fn bridged(
        &self,
        leg: LegId,
        to: &SessionRef,
        invitation: &Invitation,
    ) -> Invitation {
        let mut invitation = invitation.clone();
        if invitation.bridge.is_none() {
            let live = self.presence.live();
            let now = self.presence.clock.unix_time();
            let of = (self.handle.sid.as_str(), leg);
            let bridges = &self.presence.bridges;
            invitation.bridge = bridges.sign(&live.settings, of, &to.identity, now);
        }
        invitation
    }
}
