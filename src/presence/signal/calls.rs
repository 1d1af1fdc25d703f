//! Calls on a socket, in both dialects: what its client says becomes an event of the call that it is a side of.
//!
//! A client speaks of a call by the name that its own socket has for it; of any other it can say nothing. The voice SDK says `invite`,
//! `answer`, `reject`, `hangup`; pages say the same with `call.` in front, and answer with the bridge token of their invitation, which is
//! good at any server.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::frame::Frame;
use super::sockets::Line;
use super::talk::{Reply, Talk};
use crate::presence::call::board::{Heard, Invitation, LegId, Relay};
use crate::presence::call::handle::Leg;
use crate::presence::call::start::{Caller, SDP_MAX, by_client, description, prepare};
use crate::presence::call::switch::{Who, call_sid};
use crate::presence::call::task::Ready;
use crate::presence::call::words::Farewell;
use crate::presence::depth::is_deeper_than;
use crate::presence::fault::Fault;
use crate::presence::fetch::fields::form_of;
use crate::presence::name::Name;
use crate::presence::peers::{Word, answer_there};
use crate::presence::subscription::form::{message, write};

/// Longest thing that one side says to the other.
const RELAYED_MAX: usize = 16 * 1024;
/// The same of a candidate, of which up to 64 wait for the other side: the longest that browsers make have some 200 bytes.
const CANDIDATE_MAX: usize = 2 * 1024;
/// How deep it may be nested: it travels inside other words.
const RELAYED_DEPTH: usize = 8;
/// Longest name that a client gives its call.
const NAME_MAX: usize = 128;

#[derive(Debug, Deserialize)]
struct Invite<'a> {
    #[serde(default)]
    callsid: Option<String>,
    #[serde(borrow)]
    sdp: Option<std::borrow::Cow<'a, str>>,
    reconnect: Option<String>,
    /// The voice SDK's: a form.
    twilio: Option<Twilio>,
    /// A page's.
    to: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Twilio {
    #[serde(default)]
    params: String,
}

#[derive(Debug, Deserialize)]
struct Of {
    callsid: String,
}

#[derive(Debug, Deserialize)]
struct Accept<'a> {
    callsid: String,
    #[serde(borrow)]
    sdp: std::borrow::Cow<'a, str>,
    bridge: Option<String>,
}

impl Line {
    /// Says something to the client.
    pub(in crate::presence) fn tell(&self, kind: &str, payload: Value) {
        self.outbox.say(message(kind, payload));
    }

    /// Invites its client to a call.
    pub(in crate::presence) fn invite(&self, account: &str, invitation: &Invitation, offer: &str) {
        let Invitation {
            sid,
            from,
            to,
            parameters,
            bridge,
        } = invitation;
        if self.is_page() {
            let parameters: Map<String, Value> = parameters
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
                .collect();
            return self.tell(
                "call.invite",
                json!({
                    "callsid": sid, "from": from, "to": to, "sdp": offer,
                    "parameters": parameters, "bridge": bridge,
                }),
            );
        }
        let mut told = json!({ "CallSid": sid, "AccountSid": account, "From": from, "To": to });
        if !parameters.is_empty() {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(parameters.iter());
            told["Params"] = Value::from(form.finish());
        }
        self.tell(
            "invite",
            json!({ "callsid": sid, "sdp": offer, "parameters": told }),
        );
    }
}

impl Talk {
    /// Takes a message about a call; `None` if it is about something else.
    pub(in crate::presence) fn call(&mut self, frame: &Frame<'_>) -> Option<Result<Reply, Fault>> {
        let kind = &*frame.r#type;
        let word = kind.strip_prefix("call.").unwrap_or(kind);
        let heard = match (word, kind) {
            ("invite", _) => return Some(self.invite(frame)),
            ("answer", "answer") | ("accept", "call.accept") => {
                return Some(self.accept(frame));
            }
            ("reject", _) => Heard::Rejected,
            ("hangup", _) | ("cancel", "call.cancel") => Heard::HungUp,
            ("ringing", "call.ringing") => Heard::Alerting,
            ("candidate" | "end_of_candidates", "call.candidate" | "call.end_of_candidates") => {
                return Some(self.relay(frame, Relay::Candidate));
            }
            ("reinvite", _) => return Some(self.relay(frame, Relay::Reinvite)),
            ("dtmf", _) => return Some(self.relay(frame, Relay::Dtmf)),
            ("message", _) => return Some(self.relay_message(frame)),
            _ => return None,
        };
        Some(frame.payload::<Of>().map(|of| {
            // Of a call that is over, or that it is no side of, there is nothing to do.
            if let Some(Leg {
                call, leg, name, ..
            }) = self.line.leg(&of.callsid)
            {
                let has_left = leg == LegId::CALLER && matches!(heard, Heard::HungUp);
                // It may make another call at once, before this one has come to its end.
                if call.hear(leg, heard) && has_left {
                    self.line.detach(&name);
                }
            }
            None
        }))
    }

    fn invite(&mut self, frame: &Frame<'_>) -> Result<Reply, Fault> {
        let asked: Invite<'_> = frame.payload()?;
        if let (Some(name), Some(reconnect)) = (&asked.callsid, &asked.reconnect) {
            return self.come_back(name, reconnect);
        }
        let is_page = self.line.is_page();
        let name = asked.callsid.clone().filter(|_| !is_page);
        if name.as_ref().is_some_and(|name| name.len() > NAME_MAX) {
            return Err(Fault::bad("`callsid` has up to 128 characters"));
        }
        let name = name.unwrap_or_else(call_sid);
        match self.begin(&asked, &name) {
            Ok(ready) => {
                // A page learns its call's name before the call can say anything by that name.
                if is_page {
                    let mut begun = json!({ "callsid": ready.facts.sid });
                    if let Some(id) = frame.id() {
                        begun["re"] = id;
                    }
                    self.say("call.invite", begun);
                }
                tokio::spawn(ready.admitted(self.presence.doors()));
                Ok(None)
            }
            // The voice SDK knows that its call failed by a hangup with its own name for it.
            Err(fault) if !is_page => {
                let error = json!({ "code": fault.signal, "message": fault.detail });
                self.say("hangup", json!({ "callsid": name, "error": error }));
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    fn begin(&mut self, asked: &Invite<'_>, name: &str) -> Result<Ready, Fault> {
        let login = self.known()?;
        let (account, grant) = (Arc::clone(&login.account), Arc::clone(&login.grant));
        let own = self.line.legs();
        if own.iter().any(|leg| leg.name == name) {
            return Err(Fault::bad("`callsid` names another call of this socket"));
        }
        if own.iter().any(|leg| leg.leg == LegId::CALLER) {
            return Err(Fault::bad(
                "a socket makes one call at a time; hang the other up, or open another socket",
            ));
        }
        let offer = description(asked.sdp.as_deref().unwrap_or_default())?;
        let sent = sent(asked);
        let ready = by_client(&self.presence, &account, &grant, &sent, offer)?;
        let who = self.who()?;
        let caller = Caller {
            line: &self.line,
            name,
            who,
        };
        let sid = call_sid();
        let ready = prepare(&self.presence, &account, &sid, ready, Some(caller))?;
        // Whoever calls does not hear what rings any more.
        for leg in own {
            leg.call.hear(leg.leg, Heard::Engaged);
        }
        if self.line.is_page() {
            let call = self.line.leg(name);
            if let Some(leg) = call {
                leg.call.rename(LegId::CALLER, &ready.facts.sid);
            }
        }
        Ok(ready)
    }

    /// Which device it is, for calls.
    fn who(&mut self) -> Result<Who, Fault> {
        let login = self.known()?;
        Ok(match login.session.clone() {
            Some(session) => Who {
                identity: session.identity,
                device: session.device,
                app: session.app,
            },
            None => Who {
                identity: login.grant.identity.clone(),
                device: login
                    .grant
                    .endpoint_id
                    .clone()
                    .unwrap_or_else(|| plain("unregistered")),
                app: plain("voice"),
            },
        })
    }

    fn accept(&mut self, frame: &Frame<'_>) -> Result<Reply, Fault> {
        let asked: Accept<'_> = frame.payload()?;
        if asked.callsid.len() > NAME_MAX {
            return Err(Fault::bad("`callsid` has up to 128 characters"));
        }
        let answer = description(&asked.sdp)?;
        if let Some(bridge) = &asked.bridge {
            return self.cross(bridge, &asked.callsid, answer);
        }
        match self.line.leg(&asked.callsid) {
            Some(own) => Ok(self.answer_own(&own, &asked.callsid, answer)),
            None => Ok(self.too_late(&asked.callsid)),
        }
    }

    /// What rings on this socket is answered on it.
    fn answer_own(&self, own: &Leg, name: &str, answer: Arc<str>) -> Reply {
        let Leg { call, leg, .. } = own;
        let is_heard =
            call.take_ringing(*leg, self.line.id) && call.hear(*leg, Heard::Accepted(answer));
        (!is_heard).then(|| self.too_late(name)).flatten()
    }

    /// It rang, and does not any more: somebody else was first, or the caller left.
    fn too_late(&self, name: &str) -> Reply {
        let why = Farewell::AnsweredElsewhere;
        let error = json!({ "code": why.code(), "message": why.as_str() });
        let kind = if self.line.is_page() {
            "call.hangup"
        } else {
            "hangup"
        };
        let over = json!({ "callsid": name, "reason": why.as_str(), "error": error });
        Some((kind, over))
    }

    /// An acceptance with a bridge token leads to its call, at whichever server that is (B31).
    fn cross(&mut self, bridge: &str, name: &str, answer: Arc<str>) -> Result<Reply, Fault> {
        let live = self.presence.live();
        let now = self.presence.clock.unix_time();
        let own = self.line.leg(name);
        if own.is_none() {
            self.known()?;
        }
        // Whoever was rung may answer, though its token has ended since.
        let login = self.login.as_ref().ok_or_else(Fault::anonymous)?;
        let (account, identity) = (Arc::clone(&login.account), login.grant.identity.clone());
        let token = bridge.to_owned();
        let bridges = &self.presence.bridges;
        let bridge = bridges.verify(&live.settings, bridge, now);
        let bridge = bridge.filter(|bridge| bridge.identity == identity);
        let bridge = bridge.ok_or_else(Fault::bad_bridge)?;
        if let Some(own) = own {
            return Ok(self.answer_own(&own, name, answer));
        }
        let who = self.who()?;
        if bridge.node != live.settings.node {
            let road = self.presence.road(&bridge.node);
            let road = road.ok_or_else(Fault::bad_bridge)?;
            // A name of ours: the client's may be another branch's there.
            let branch = call_sid();
            let names = (name, branch.as_str());
            if !answer_there(&self.presence, &road, &account, &self.line, names, who) {
                return Err(Fault::bad_bridge());
            }
            road.say(&Word::Accept {
                account: account.sid.clone(),
                bridge: token,
                branch,
                sdp: answer.to_string(),
            });
            return Ok(None);
        }
        let call = account.book.lock().call(&bridge.call);
        let leg = LegId(bridge.branch);
        let Some(call) = call else {
            return Ok(self.too_late(name));
        };
        if !call.take_ringing(leg, self.line.id) {
            // One that is used up leads nowhere; one of a branch that does not ring any more comes too late.
            let is_used = call.here(leg).is_some() || call.there(leg).is_some();
            return if is_used {
                Err(Fault::bad_bridge())
            } else {
                Ok(self.too_late(name))
            };
        }
        call.dismiss(leg);
        call.set_answerer(leg, who);
        call.bind(leg, &self.line, name);
        if !call.hear(leg, Heard::Accepted(answer)) {
            call.unbind(leg);
            return Ok(self.too_late(name));
        }
        Ok(None)
    }

    /// Somebody comes back to its talk, perhaps on another socket.
    fn come_back(&mut self, name: &str, reconnect: &str) -> Result<Reply, Fault> {
        let login = self.known()?;
        let (account, identity) = (Arc::clone(&login.account), login.grant.identity.clone());
        let seat = account.book.lock().seat_of(name, &identity, reconnect);
        let is_page = self.line.is_page();
        let seat = seat.filter(|seat| {
            seat.call.bind(seat.leg, &self.line, name);
            let is_heard = seat.call.hear(seat.leg, Heard::Back);
            if !is_heard {
                seat.call.unbind(seat.leg);
            }
            is_heard
        });
        if seat.is_none() {
            let error = json!({ "code": 31_209, "message": "this call cannot be gone on with" });
            let kind = if is_page { "call.hangup" } else { "hangup" };
            self.say(kind, json!({ "callsid": name, "error": error }));
            return Ok(None);
        }
        let kind = if is_page { "call.accept" } else { "answer" };
        Ok(Some((kind, json!({ "callsid": name }))))
    }

    fn relay(&mut self, frame: &Frame<'_>, kind: Relay) -> Result<Reply, Fault> {
        let of: Of = frame.payload()?;
        let mut what: Map<String, Value> = frame.payload()?;
        what.remove("callsid");
        if frame.r#type.ends_with("end_of_candidates") {
            what.insert("end_of_candidates".into(), Value::Bool(true));
        }
        if is_deeper_than(write(&what).as_bytes(), RELAYED_DEPTH) {
            return Err(Fault::bad(
                "what one side says to the other is nested up to 8 deep",
            ));
        }
        let most = match kind {
            Relay::Candidate => CANDIDATE_MAX,
            Relay::Reinvite => SDP_MAX,
            _ => RELAYED_MAX,
        };
        if write(&what).len() > most {
            return Err(Fault::bad(
                "what one side says to the other has up to 16 KiB, a candidate 2 KiB",
            ));
        }
        if let Some(Leg { call, leg, .. }) = self.line.leg(&of.callsid) {
            call.hear(leg, Heard::Relayed(kind, Value::Object(what)));
        }
        Ok(None)
    }

    /// A message between the sides of a talk, which the SDK wants acknowledged.
    fn relay_message(&mut self, frame: &Frame<'_>) -> Result<Reply, Fault> {
        #[derive(Deserialize)]
        struct Said {
            callsid: String,
            voiceeventsid: Option<String>,
        }
        let said: Said = frame.payload()?;
        self.relay(frame, Relay::Message)?;
        Ok(said.voiceeventsid.map(|id| {
            let ack = json!({ "acktype": "message", "callsid": said.callsid, "voiceeventsid": id });
            ("ack", ack)
        }))
    }

    /// The echo of a heartbeat: what was written before it has been read.
    pub(in crate::presence) fn echo(&self) {
        for leg in self.line.take_echoed() {
            leg.call.hear(leg.leg, Heard::Alerting);
        }
    }

    /// Tells every call of this socket something.
    pub(in crate::presence) fn tell_calls(&self, heard: impl Fn() -> Heard) {
        for leg in self.line.legs() {
            leg.call.hear(leg.leg, heard());
        }
    }
}

/// A client's own parameters, as a form.
fn sent(asked: &Invite<'_>) -> String {
    match &asked.twilio {
        Some(twilio) => twilio.params.clone(),
        None => form_of(asked.to.as_deref(), &asked.parameters),
    }
}

fn plain(word: &str) -> Name {
    Name::new(word).expect("it is a plain word")
}
