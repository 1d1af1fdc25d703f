//! A device that is rung here for a call elsewhere: reserved, invited, busy and given back here, and all else is decided there.
//!
//! What the device says goes to the call, and what the call says to the device. When the road or the device goes, so does this; nothing
//! of it stays.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc::Receiver;

use super::road::{Road, Word};
use crate::presence::account::Account;
use crate::presence::call::board::{Board as _, Event, Heard, Invitation, LegId, Said};
use crate::presence::call::book::Record;
use crate::presence::call::handle::Handle;
use crate::presence::call::switch::{Switch, Who};
use crate::presence::plugin::Presence;
use crate::presence::registry::session::SessionRef;
use crate::presence::routing::{Device, Place, Verdict};
use crate::presence::signal::sockets::Line;

/// The device, as the side of the call that it is.
const DEVICE: LegId = LegId(1);

/// Rings a device of this server; false if it cannot be.
pub(super) fn ring(
    presence: &Arc<Presence>,
    road: &Arc<Road>,
    account: &str,
    session: SessionRef,
    invitation: Invitation,
    offer: Arc<str>,
) -> bool {
    if presence.sockets.is_draining() {
        return false;
    }
    let live = presence.live();
    let known = live.accounts.iter().find(|of| of.sid == account);
    let Some(account) = known else { return false };
    let socket = account.with(|state| state.registry.socket_of(&session));
    let device = Device {
        session,
        verdict: Verdict::Ring,
        is_unwilling: false,
        place: Place::Here(socket),
        load: (0, 0),
    };
    let branch = invitation.sid.clone();
    let (handle, events) = Handle::new(branch.clone());
    let mut switch = switch(presence, account, &handle, offer, None);
    if socket.is_none()
        || !road.attach(&branch, &handle, LegId::CALLER)
        || !switch.invite(DEVICE, &device, &invitation)
    {
        road.detach(&branch);
        return false;
    }
    tokio::spawn(run(switch, events, Arc::clone(road), branch));
    true
}

/// A device of this server answers a call elsewhere that did not ring it here; it knows the call by the first name, the road by the other.
pub(in crate::presence) fn answer(
    presence: &Arc<Presence>,
    road: &Arc<Road>,
    account: &Arc<Account>,
    line: &Arc<Line>,
    (name, branch): (&str, &str),
    who: Who,
) -> bool {
    let (handle, events) = Handle::new(branch.to_owned());
    if !road.attach(branch, &handle, LegId::CALLER) {
        return false;
    }
    handle.bind(DEVICE, line, name);
    let switch = switch(presence, account, &handle, "".into(), Some(who));
    tokio::spawn(run(switch, events, Arc::clone(road), branch.to_owned()));
    true
}

fn switch(
    presence: &Arc<Presence>,
    account: &Arc<Account>,
    handle: &Arc<Handle>,
    offer: Arc<str>,
    who: Option<Who>,
) -> Switch {
    let record = Record::new(&handle.sid, ("outbound-dial", "voice"), "", "");
    let record = Arc::new(Mutex::new(record));
    Switch::stand_in(presence, account, handle, &record, offer, who)
}

async fn run(mut switch: Switch, mut events: Receiver<Event>, road: Arc<Road>, branch: String) {
    let mut is_talking = false;
    while let Some(event) = events.recv().await {
        match event {
            Event::Leg(DEVICE, heard) => {
                let heard = match heard {
                    // Who rings and is lost is given up: the call may ring another.
                    Heard::Lost(_) | Heard::Unregistered if !is_talking => Heard::Left,
                    heard => heard,
                };
                let branch = branch.clone();
                road.say(&Word::Heard { branch, heard });
            }
            Event::Told(said) => {
                let is_over = matches!(said, Said::Cancelled(_) | Said::Over(_));
                if let Said::Answered(_) = said {
                    is_talking = true;
                    switch.engage(DEVICE);
                }
                switch.say(DEVICE, said);
                if is_over {
                    break;
                }
            }
            _ => {}
        }
    }
    road.detach(&branch);
}
