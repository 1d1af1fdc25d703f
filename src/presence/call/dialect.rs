//! What a call says to its sides, in the dialect of each: the voice SDK's words, or ours.

use std::sync::Arc;

use serde_json::{Value, json};

use super::board::{LegId, Relay};
use super::book::Seat;
use super::switch::{Switch, Who};
use super::words::Farewell;
use crate::presence::chance;

impl Switch {
    /// Puts a side of the talk where it can be taken again by who proves to be it.
    fn seat(&mut self, leg: LegId, who: &Who) -> Option<String> {
        let (_, name) = self.handle.here(leg)?;
        let reconnect = format!("{:032x}", chance::bits()?);
        let seat = Seat {
            call: Arc::clone(&self.handle),
            leg,
            identity: who.identity.clone(),
            reconnect: reconnect.clone(),
        };
        self.book(|book| book.seat(&name, seat));
        Some(reconnect)
    }

    pub(super) fn answered(&mut self, leg: LegId, sdp: Option<Arc<str>>) {
        if leg == LegId::CALLER {
            self.handle.rename(leg, &self.handle.sid);
        }
        let who = self.engaged.get(&leg).cloned();
        let reconnect = who.and_then(|who| self.seat(leg, &who));
        let Some((line, name)) = self.handle.here(leg) else {
            return;
        };
        let kind = if line.is_page() {
            "call.accept"
        } else {
            "answer"
        };
        let mut payload = json!({ "callsid": name, "reconnect": reconnect });
        if let Some(sdp) = sdp {
            payload["sdp"] = Value::from(&*sdp);
        }
        line.tell(kind, payload);
    }

    /// Says something to a side in its own dialect.
    pub(super) fn say_to(&mut self, leg: LegId, sdk: &str, page: &str, mut payload: Value) {
        let here = self.handle.here(leg);
        let Some((line, name)) = here.or_else(|| self.former.get(&leg).cloned()) else {
            return;
        };
        let is_told_by_sid = leg == LegId::CALLER && sdk != "hangup";
        let name = if is_told_by_sid {
            self.handle.sid.clone()
        } else {
            name
        };
        payload["callsid"] = Value::from(name);
        line.tell(if line.is_page() { page } else { sdk }, payload);
    }

    pub(super) fn relay(&mut self, leg: LegId, kind: Relay, mut what: Value) {
        let Some((line, name)) = self.handle.here(leg) else {
            if leg == LegId::CALLER && kind == Relay::Candidate {
                self.record.lock().candidate(what);
            }
            return;
        };
        // The voice SDK neither sends nor takes the others.
        let kind = match (line.is_page(), kind) {
            (true, Relay::Candidate) => "call.candidate",
            (true, Relay::Reinvite) => "call.reinvite",
            (true, Relay::Dtmf) => "call.dtmf",
            (true, Relay::Message) => "call.message",
            (false, Relay::Message) => "message",
            (false, _) => return,
        };
        what["callsid"] = Value::from(name);
        line.tell(kind, what);
    }
}

pub(super) fn over(farewell: Farewell) -> Value {
    let reason = farewell.as_str();
    match farewell.code() {
        Some(code) => json!({ "reason": reason, "error": { "code": code, "message": reason } }),
        None => json!({ "reason": reason }),
    }
}
