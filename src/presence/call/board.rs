//! What a call acts on: the world as the machine sees it.
//!
//! Everything is asked and done at once; what takes time comes back as an [`Event`]. Nothing here may fail the call: whoever cannot be
//! told is found gone by the registry.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::words::{BranchEnd, CallStatus, Farewell};
use crate::presence::fetch::instructions::{Failure, Fetched};
use crate::presence::instruction::{Link, Sms, Warning};
use crate::presence::name::Name;
use crate::presence::routing::{Device, Party, Target};
use crate::presence::status::Status;

/// One side of a call: the caller, or one device that is rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::presence) struct LegId(pub(in crate::presence) u16);

impl LegId {
    /// The caller.
    pub(in crate::presence) const CALLER: Self = Self(0);
}

/// What one side may say to the other, unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::presence) enum Relay {
    /// Where its media may be reached (RFC 8838).
    Candidate,
    /// Another session description.
    Reinvite,
    /// A key that was pressed.
    Dtmf,
    /// A text, in whatever form the two agree on.
    Message,
}

/// What happens to a call.
#[derive(Debug)]
pub(in crate::presence) enum Event {
    /// One side says something, or something happens to it.
    Leg(LegId, Heard),
    /// The instructions that were asked for last.
    Fetched(Result<Fetched, Failure>),
    /// What peers know of those who are dialled.
    Found(Vec<Device>),
    /// Something happened to somebody who is dialled.
    Nudged,
    /// From the server that holds the call, for the device that rings here.
    Told(Said),
    /// A time has come.
    Due,
    /// The account ends it.
    Cancelled,
    /// Its account is gone: there are no new rings, and all else goes on.
    Orphaned,
    /// The gate goes down: what rings stops, and who talks goes on.
    Draining,
    /// The gate is down in a moment.
    Closed,
}

/// What one side of a call says, or what happens to it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::presence) enum Heard {
    /// It rings.
    Alerting,
    /// It answers, with its session description.
    Accepted(Arc<str>),
    /// It does not want the call.
    Rejected,
    /// It hangs up.
    HungUp,
    /// It began another call, and does not hear this one any more.
    Engaged,
    /// It could not be rung after all: somebody else rings it.
    Refused,
    /// For the other side, unread.
    Relayed(Relay, Value),
    /// Its connection is lost: for how long it may be away.
    Lost(Duration),
    /// It left: there is nothing to wait for.
    Left,
    /// It takes no calls any more, and goes on with what it has.
    Unregistered,
    /// It is back.
    Back,
}

/// What a side of a call is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::presence) enum Said {
    /// Somebody rings.
    Ringing,
    /// It is put through: to the caller with the other side's session description.
    Answered(Option<Arc<str>>),
    /// It is not rung any more.
    Cancelled(BranchEnd),
    /// It is over.
    Over(Farewell),
    /// From the other side, unread.
    Relayed(Relay, Value),
    /// A text instead of speech.
    Text(String),
}

/// What a device that is rung is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::presence) struct Invitation {
    /// The branch's own identifier.
    pub(in crate::presence) sid: String,
    /// Who calls.
    pub(in crate::presence) from: String,
    /// Who is called.
    pub(in crate::presence) to: String,
    /// The customer's words to it.
    pub(in crate::presence) parameters: Arc<[(String, String)]>,
    /// What leads to the call from any server; `None` until whoever holds the call has made one.
    pub(in crate::presence) bridge: Option<String>,
}

/// What the call is told about as it goes.
#[derive(Debug, Clone)]
pub(in crate::presence) enum Note {
    /// It stands so now.
    Status(CallStatus),
    /// Somebody answered, with that session description.
    Answered(Device, Arc<str>),
    /// A dial ended so.
    Dialled(CallStatus),
    /// A device was looked at: rung and how that ended, or why not.
    Trace(Device, &'static str),
    /// Somebody who was dialled has no device.
    Absent(Name),
    /// Something cannot be reached at all.
    Unreachable(String, &'static str),
    /// A peer did not answer in time.
    Silent(Arc<str>),
    /// A text for the caller.
    Text(String),
    /// Something of a document was passed over.
    Warned(Warning),
    /// Instructions could not be had or followed.
    Failed(Failure),
}

/// A request to the customer's server.
#[derive(Debug, Clone)]
pub(in crate::presence) struct Hook {
    /// The document that the link stands in, if it may be relative to one.
    pub(in crate::presence) base: String,
    pub(in crate::presence) link: Link,
    pub(in crate::presence) fields: Vec<(String, String)>,
    /// It tells how a dial ended: it is sent, whatever becomes of the call meanwhile.
    pub(in crate::presence) is_action: bool,
}

/// The world.
pub(in crate::presence) trait Board {
    /// An identifier for a branch, that nobody has.
    fn sid(&mut self) -> String;
    /// Whom a name means; `None` if it is none.
    fn target(&mut self, name: &str) -> Option<Target>;
    /// The devices of these that are registered here, at this moment.
    fn devices(&mut self, parties: &[Party]) -> Vec<Device>;
    /// The best status among these, and its text.
    fn best(&mut self, parties: &[Party]) -> (Status, Option<Arc<str>>);
    /// What a request tells of these: the field `Presence`.
    fn presence(&mut self, who: &[Name]) -> String;
    /// Nudges the call when something happens to one of these, and to nobody else.
    fn watch(&mut self, who: &[Name]);
    /// Asks the peers about these; false if there are none. Else [`Event::Found`] comes soon.
    fn ask_peers(&mut self, parties: &[Party]) -> bool;
    /// The longest talk, where the call's place may be held no longer.
    fn talk_max(&mut self) -> Option<Duration> {
        None
    }
    /// Rings a device; false if it cannot be rung after all.
    fn invite(&mut self, leg: LegId, device: &Device, invitation: &Invitation) -> bool;
    /// The device does not ring any more.
    fn release(&mut self, leg: LegId);
    /// Whether that side can be told something.
    fn is_connected(&mut self, leg: LegId) -> bool;
    /// That side is in the call from now on; a device that rang does not ring any more.
    fn engage(&mut self, leg: LegId);
    /// It is not any more.
    fn disengage(&mut self, leg: LegId);
    /// Tells one side something.
    fn say(&mut self, leg: LegId, said: Said);
    /// Asks for instructions; [`Event::Fetched`] comes.
    fn fetch(&mut self, hook: Hook);
    /// Tells the customer's server something, in order, without waiting.
    fn tell(&mut self, hook: Hook);
    /// Sends a message to somebody.
    fn message(&mut self, sms: &Sms);
    /// Lets those devices know that they were called.
    fn missed(&mut self, parties: &[Party]);
    /// Notes how the call goes.
    fn note(&mut self, note: Note);
}
