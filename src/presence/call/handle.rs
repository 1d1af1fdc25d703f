//! A call as others hold it: where its events go, and the sockets of its sides.
//!
//! Events go into a bounded queue, whose order is the order in which things happened. A side is known on its socket by a name; so what a
//! socket says about a name that it does not have goes nowhere, whoever's name it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use super::board::{Event, Heard, LegId, Said};
use super::switch::Who;
use super::words::BranchEnd;
use crate::presence::peers::{Road, Word};
use crate::presence::registry::session::SocketId;
use crate::presence::signal::sockets::Line;

/// Events that may wait for a call: more than all its sides may send in a second.
pub(in crate::presence) const EVENTS_MAX: usize = 512;

/// A call, for those who have something to tell it.
#[derive(Debug)]
pub(in crate::presence) struct Handle {
    pub(in crate::presence) sid: String,
    events: mpsc::Sender<Event>,
    /// Something happened to somebody whom it dials.
    pub(in crate::presence) nudge: Arc<Notify>,
    is_overrun: AtomicBool,
    /// Branches that ring, and the socket on which each was answered.
    ringing: Mutex<Vec<(LegId, Option<SocketId>)>>,
    answerer: Mutex<Option<(LegId, Who)>>,
    /// Where its sides are, and by which name they know it.
    sides: Mutex<HashMap<LegId, Side, ahash::RandomState>>,
}

/// Where one side of a call is, and by which name it is known there.
#[derive(Debug, Clone)]
enum Side {
    /// On a socket of this server.
    Here(Arc<Line>, String),
    /// At another server.
    There(Arc<Road>, String),
}

impl Side {
    fn detach(&self) {
        match self {
            Self::Here(line, name) => line.detach(name),
            Self::There(road, name) => road.detach(name),
        }
    }

    fn is_on(&self, line: &Arc<Line>) -> bool {
        matches!(self, Self::Here(own, _) if Arc::ptr_eq(own, line))
    }
}

impl Handle {
    /// A call of that identifier, and its queue.
    pub(in crate::presence) fn new(sid: String) -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (events, queue) = mpsc::channel(EVENTS_MAX);
        let handle = Self {
            sid,
            events,
            nudge: Arc::default(),
            is_overrun: AtomicBool::new(false),
            ringing: Mutex::default(),
            answerer: Mutex::default(),
            sides: Mutex::default(),
        };
        (Arc::new(handle), queue)
    }

    /// Tells the call something; false if it is over, or told more than it can take.
    pub(in crate::presence) fn tell(&self, event: Event) -> bool {
        match self.events.try_send(event) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.is_overrun.store(true, Ordering::Relaxed);
                self.nudge.notify_one();
                false
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }

    /// Whether something was lost that it was told.
    pub(in crate::presence) fn is_overrun(&self) -> bool {
        self.is_overrun.load(Ordering::Relaxed)
    }

    /// Tells the call what one side says.
    pub(in crate::presence) fn hear(&self, leg: LegId, heard: Heard) -> bool {
        self.tell(Event::Leg(leg, heard))
    }

    /// Has a side speak on that socket from now on, and there only.
    pub(in crate::presence) fn bind(self: &Arc<Self>, leg: LegId, line: &Arc<Line>, name: &str) {
        line.attach(Leg {
            name: name.to_owned(),
            former: None,
            leg,
            call: Arc::clone(self),
            is_echo_due: false,
        });
        let side = Side::Here(Arc::clone(line), name.to_owned());
        let before = self.sides.lock().insert(leg, side);
        if let Some(before) = before.filter(|before| !before.is_on(line)) {
            before.detach();
        }
    }

    /// Has a side be at another server from now on; false if that takes no more.
    pub(in crate::presence) fn bind_there(
        self: &Arc<Self>,
        leg: LegId,
        road: &Arc<Road>,
        name: &str,
    ) -> bool {
        if !road.attach(name, self, leg) {
            return false;
        }
        let side = Side::There(Arc::clone(road), name.to_owned());
        let before = self.sides.lock().insert(leg, side);
        if let Some(Side::Here(line, name)) = before {
            line.detach(&name);
        }
        true
    }

    /// The socket of a side that is here, and its name there.
    pub(in crate::presence) fn here(&self, leg: LegId) -> Option<(Arc<Line>, String)> {
        match self.sides.lock().get(&leg)? {
            Side::Here(line, name) => Some((Arc::clone(line), name.clone())),
            Side::There(..) => None,
        }
    }

    /// The road to a side that is elsewhere, and its name there.
    pub(in crate::presence) fn there(&self, leg: LegId) -> Option<(Arc<Road>, String)> {
        match self.sides.lock().get(&leg)? {
            Side::There(road, name) => Some((Arc::clone(road), name.clone())),
            Side::Here(..) => None,
        }
    }

    /// A device rings: its branch can be answered, from one socket.
    pub(in crate::presence) fn set_ringing(&self, leg: LegId) {
        let mut ringing = self.ringing.lock();
        ringing.retain(|(known, _)| *known != leg);
        ringing.push((leg, None));
    }

    /// The branch ended without an answer: nobody can answer it any more.
    pub(in crate::presence) fn end_ringing(&self, leg: LegId) {
        self.ringing.lock().retain(|(known, _)| *known != leg);
    }

    /// Takes the branch for the socket on which it is answered; false if another has it, or it does not ring any more. So the call hears
    /// an answer from one socket only, and where that is cannot change under it.
    pub(in crate::presence) fn take_ringing(&self, leg: LegId, on: SocketId) -> bool {
        let mut ringing = self.ringing.lock();
        let found = ringing.iter_mut().find(|(known, _)| *known == leg);
        found.is_some_and(|(_, taken)| *taken.get_or_insert(on) == on)
    }

    /// Another device than the one that rang answers: it is the one that is in the call.
    pub(in crate::presence) fn set_answerer(&self, leg: LegId, who: Who) {
        *self.answerer.lock() = Some((leg, who));
    }

    /// Who answers a branch, if not the device that rang.
    pub(in crate::presence) fn answerer(&self, leg: LegId) -> Option<Who> {
        let answerer = self.answerer.lock();
        let (of, who) = answerer.as_ref()?;
        (*of == leg).then(|| who.clone())
    }

    /// Who answered in the place of the device that rang, if somebody did.
    pub(in crate::presence) fn any_answerer(&self) -> Option<Who> {
        let answerer = self.answerer.lock();
        answerer.as_ref().map(|(_, who)| who.clone())
    }

    /// All sides that are told something.
    pub(in crate::presence) fn legs(&self) -> Vec<LegId> {
        self.sides.lock().keys().copied().collect()
    }

    /// Has a side be known by another name. It may go on to say the one before: that was not wrong when it said it.
    pub(in crate::presence) fn rename(&self, leg: LegId, name: &str) {
        let mut sides = self.sides.lock();
        if let Some(Side::Here(line, known)) = sides.get_mut(&leg)
            && known != name
        {
            let before = std::mem::replace(known, name.to_owned());
            let line = Arc::clone(line);
            drop(sides);
            line.rename(&before, name);
        }
    }

    /// A device that rings is told that another answers, and is no side any more.
    pub(in crate::presence) fn dismiss(&self, leg: LegId) {
        let said = Said::Cancelled(BranchEnd::Lost);
        if let Some((line, name)) = self.here(leg) {
            let told = json!({ "callsid": name, "reason": BranchEnd::Lost.as_str() });
            line.tell(
                if line.is_page() {
                    "call.cancel"
                } else {
                    "cancel"
                },
                told,
            );
        } else if let Some((road, branch)) = self.there(leg) {
            road.say(&Word::Said { branch, said });
        }
        self.unbind(leg);
    }

    /// Forgets where a side is.
    pub(in crate::presence) fn unbind(&self, leg: LegId) {
        let side = self.sides.lock().remove(&leg);
        if let Some(side) = side {
            side.detach();
        }
    }

    /// Forgets all.
    pub(in crate::presence) fn unbind_all(&self) {
        let sides = std::mem::take(&mut *self.sides.lock());
        sides.into_values().for_each(|side| side.detach());
    }
}

/// A side of a call, as its socket holds it.
#[derive(Debug, Clone)]
pub(in crate::presence) struct Leg {
    pub(in crate::presence) name: String,
    /// The name that it had before, which its client says until it has heard of the other.
    pub(in crate::presence) former: Option<String>,
    pub(in crate::presence) leg: LegId,
    pub(in crate::presence) call: Arc<Handle>,
    /// A heartbeat was written behind its invitation: its echo tells that the invitation was read.
    pub(in crate::presence) is_echo_due: bool,
}
