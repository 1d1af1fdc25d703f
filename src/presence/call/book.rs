//! What an account knows of its calls: those in progress, and for a while those that have ended.
//!
//! A record is what the API tells. It is written by the call's task and read by requests; nothing in it decides anything. Records
//! outlive their calls by ten minutes, and there are never more than ten thousand.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use super::board::LegId;
use super::handle::Handle;
use super::words::CallStatus;
use crate::presence::name::Name;
use crate::presence::subscription::form::write;
use crate::presence::subscription::outbox::{Close, Outbox};

/// How long a call can be read after its end.
pub(in crate::presence) const KEPT: Duration = Duration::from_mins(10);
/// How long a repeated request finds the call of the first.
const REPEATED: Duration = Duration::from_hours(24);
/// Calls of one account that are known at once, those that ended included.
pub(in crate::presence) const CALLS_MAX: usize = 10_000;
/// Keys of repeated requests.
const KEYS_MAX: usize = 20_000;
/// Entries of one trace.
const TRACE_MAX: usize = 100;
/// Streams of one call's events.
const STREAMS_MAX: usize = 16;
/// Candidates that the API tells.
const CANDIDATES_MAX: usize = 64;

/// What the API tells of a call.
#[derive(Debug, Serialize)]
pub(in crate::presence) struct Record {
    pub(in crate::presence) sid: String,
    #[serde(serialize_with = "word")]
    pub(in crate::presence) status: CallStatus,
    pub(in crate::presence) direction: &'static str,
    pub(in crate::presence) medium: &'static str,
    pub(in crate::presence) from: String,
    pub(in crate::presence) to: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_word")]
    pub(in crate::presence) dial_status: Option<CallStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::presence) answered_by: Option<Party>,
    /// The answer's session description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::presence) sdp: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::presence) candidates: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::presence) announcement: Option<String>,
    pub(in crate::presence) trace: Vec<Traced>,
    /// What of the instructions was passed over, or could not be had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::presence) warnings: Vec<Warned>,
    #[serde(skip)]
    pub(in crate::presence) streams: Vec<Weak<Outbox>>,
}

/// Who answered.
#[derive(Debug, Clone, Serialize)]
pub(in crate::presence) struct Party {
    pub(in crate::presence) identity: Name,
    pub(in crate::presence) device: Name,
    pub(in crate::presence) app: Name,
}

/// A device that was looked at, and what became of it.
#[derive(Debug, Clone, Serialize)]
pub(in crate::presence) struct Traced {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::presence) identity: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::presence) device: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::presence) app: Option<Name>,
    /// Where it is registered, if not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::presence) node: Option<Arc<str>>,
    /// The noun, where there is no device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::presence) noun: Option<String>,
    pub(in crate::presence) outcome: &'static str,
}

/// A warning or an error, by the number of the vendor's documentation.
#[derive(Debug, Clone, Serialize)]
pub(in crate::presence) struct Warned {
    pub(in crate::presence) code: u32,
    pub(in crate::presence) about: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn word<S: serde::Serializer>(status: &CallStatus, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(status.as_str())
}

#[expect(clippy::ref_option, reason = "serde's form")]
fn maybe_word<S: serde::Serializer>(status: &Option<CallStatus>, to: S) -> Result<S::Ok, S::Error> {
    match status {
        Some(status) => word(status, to),
        None => to.serialize_none(),
    }
}

impl Record {
    /// A call or message that begins.
    pub(in crate::presence) fn new(
        sid: &str,
        (direction, medium): (&'static str, &'static str),
        from: &str,
        to: &str,
    ) -> Self {
        Self {
            sid: sid.to_owned(),
            status: CallStatus::Queued,
            direction,
            medium,
            from: from.to_owned(),
            to: to.to_owned(),
            dial_status: None,
            answered_by: None,
            sdp: None,
            candidates: Vec::new(),
            announcement: None,
            trace: Vec::new(),
            warnings: Vec::new(),
            streams: Vec::new(),
        }
    }

    pub(in crate::presence) fn trace(&mut self, traced: Traced) {
        let known = self.trace.iter().position(|known| {
            known.identity.is_some()
                && known.identity == traced.identity
                && known.device == traced.device
                && known.app == traced.app
        });
        match known {
            // What became of a device last is what became of it.
            Some(index) => self.trace[index].outcome = traced.outcome,
            None if self.trace.len() < TRACE_MAX => self.trace.push(traced),
            None => {}
        }
    }

    pub(in crate::presence) fn warn(&mut self, code: u32, about: &str) {
        if self.warnings.len() < TRACE_MAX {
            let about = about[..about.floor_char_boundary(128)].to_owned();
            self.warnings.push(Warned { code, about });
        }
    }

    pub(in crate::presence) fn candidate(&mut self, candidate: Value) {
        if self.candidates.len() < CANDIDATES_MAX {
            self.candidates.push(candidate);
        }
    }

    /// Follows what happens from now on; false if as many do as may.
    pub(in crate::presence) fn follow(&mut self, outbox: &Arc<Outbox>) -> bool {
        self.streams.retain(|stream| stream.strong_count() > 0);
        let has_room = self.streams.len() < STREAMS_MAX;
        if has_room {
            outbox.say(self.event(self.status_event()));
            self.streams.push(Arc::downgrade(outbox));
        }
        if self.status.is_final() {
            outbox.close(Close::NORMAL);
        }
        has_room
    }

    /// Tells those who follow, and ends their streams with the call.
    pub(in crate::presence) fn tell(&mut self, event: &str) {
        if self.streams.is_empty() {
            return;
        }
        let text = self.event(event);
        let is_final = self.status.is_final();
        self.streams.retain(|stream| {
            let Some(outbox) = stream.upgrade() else {
                return false;
            };
            outbox.say(text.clone());
            if is_final {
                outbox.close(Close::NORMAL);
            }
            true
        });
    }

    pub(in crate::presence) fn status_event(&self) -> &'static str {
        match self.status {
            CallStatus::Queued => "queued",
            CallStatus::Ringing => "ringing",
            CallStatus::InProgress => "answered",
            _ => "ended",
        }
    }

    /// A server-sent event (HTML standard, §9.2) with what is known at this moment.
    fn event(&self, event: &str) -> tokio_tungstenite::tungstenite::Utf8Bytes {
        format!("event: {event}\ndata: {}\n\n", write(self)).into()
    }
}

/// A side of a talk that may come back.
#[derive(Debug, Clone)]
pub(in crate::presence) struct Seat {
    pub(in crate::presence) call: Arc<Handle>,
    pub(in crate::presence) leg: LegId,
    /// Who may take it.
    pub(in crate::presence) identity: Name,
    /// What proves it.
    pub(in crate::presence) reconnect: String,
}

/// The calls of one account.
#[derive(Debug, Default)]
pub(in crate::presence) struct Book {
    records: HashMap<String, Entry, ahash::RandomState>,
    ended: VecDeque<(Instant, String)>,
    seats: HashMap<String, Seat, ahash::RandomState>,
    keys: HashMap<String, (String, Instant), ahash::RandomState>,
    key_order: VecDeque<String>,
}

#[derive(Debug, Clone)]
struct Entry {
    record: Arc<Mutex<Record>>,
    /// `None` once it has ended.
    call: Option<Arc<Handle>>,
}

impl Book {
    /// Begins a record; false if there are as many as may be, all of them in progress.
    pub(in crate::presence) fn begin(
        &mut self,
        record: &Arc<Mutex<Record>>,
        call: Option<Arc<Handle>>,
        now: Instant,
    ) -> bool {
        self.forget(now);
        while self.records.len() >= CALLS_MAX {
            let Some((_, oldest)) = self.ended.pop_front() else {
                return false;
            };
            self.records.remove(&oldest);
        }
        let record = Arc::clone(record);
        let sid = record.lock().sid.clone();
        self.records.insert(sid, Entry { record, call });
        true
    }

    /// The call has ended.
    pub(in crate::presence) fn end(&mut self, sid: &str, now: Instant) {
        if let Some(entry) = self.records.get_mut(sid) {
            entry.call = None;
            self.ended.push_back((now + KEPT, sid.to_owned()));
        }
        self.seats.retain(|_, seat| seat.call.sid != sid);
    }

    fn forget(&mut self, now: Instant) {
        while self.ended.front().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, sid)) = self.ended.pop_front() {
                self.records.remove(&sid);
            }
        }
    }

    /// What is known of a call.
    pub(in crate::presence) fn find(
        &mut self,
        sid: &str,
        now: Instant,
    ) -> Option<Arc<Mutex<Record>>> {
        self.forget(now);
        self.records.get(sid).map(|entry| Arc::clone(&entry.record))
    }

    /// A call in progress.
    pub(in crate::presence) fn call(&self, sid: &str) -> Option<Arc<Handle>> {
        self.records.get(sid)?.call.clone()
    }

    /// All that are in progress.
    pub(in crate::presence) fn calls(&self) -> Vec<Arc<Handle>> {
        let entries = self.records.values();
        entries.filter_map(|entry| entry.call.clone()).collect()
    }

    /// Keeps a side's place for when it comes back.
    pub(in crate::presence) fn seat(&mut self, name: &str, seat: Seat) {
        self.seats.insert(name.to_owned(), seat);
    }

    /// The place of a side, if that proves that it is that identity's.
    pub(in crate::presence) fn seat_of(
        &self,
        name: &str,
        identity: &Name,
        reconnect: &str,
    ) -> Option<Seat> {
        let seat = self.seats.get(name)?;
        let is_theirs = seat.identity == *identity && seat.reconnect == reconnect;
        is_theirs.then(|| seat.clone())
    }

    /// The call that a request with this key began before.
    pub(in crate::presence) fn repeated(&self, key: &str, now: Instant) -> Option<String> {
        let (sid, until) = self.keys.get(key)?;
        (*until > now).then(|| sid.clone())
    }

    /// Has requests with this key find that call; the call that they find already, if another request came before.
    pub(in crate::presence) fn key(
        &mut self,
        key: &str,
        sid: &str,
        now: Instant,
    ) -> Option<String> {
        if let Some(first) = self.repeated(key, now) {
            return Some(first);
        }
        while let Some(oldest) = self.key_order.front()
            && self.keys.get(oldest).is_none_or(|(_, until)| *until <= now)
        {
            self.keys.remove(oldest);
            self.key_order.pop_front();
        }
        while self.keys.len() >= KEYS_MAX {
            let Some(oldest) = self.key_order.pop_front() else {
                break;
            };
            self.keys.remove(&oldest);
        }
        self.keys
            .insert(key.to_owned(), (sid.to_owned(), now + REPEATED));
        self.key_order.push_back(key.to_owned());
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn begun(book: &mut Book, sid: &str, now: Instant) -> bool {
        let record = Record::new(sid, ("inbound", "voice"), "a", "b");
        book.begin(&Arc::new(Mutex::new(record)), None, now)
    }

    #[test]
    fn a_call_can_be_read_for_ten_minutes_after_its_end() {
        let now = Clock::manual().now();
        let mut book = Book::default();
        assert!(begun(&mut book, "CA1", now));
        let later = now + Duration::from_hours(3);
        assert!(book.find("CA1", later).is_some(), "it goes on");
        book.end("CA1", later);
        let almost = later + KEPT - Duration::from_millis(1);
        assert!(book.find("CA1", almost).is_some());
        assert!(book.find("CA1", later + KEPT).is_none());
    }

    #[test]
    fn the_oldest_that_ended_gives_way_and_none_that_goes_on() {
        let now = Clock::manual().now();
        let mut book = Book::default();
        for number in 0..CALLS_MAX {
            assert!(begun(&mut book, &format!("CA{number}"), now));
        }
        assert!(!begun(&mut book, "one more", now), "all of them go on");
        book.end("CA7", now);
        book.end("CA5", now);
        assert!(begun(&mut book, "one more", now));
        assert!(book.find("CA7", now).is_none());
        assert!(book.find("CA5", now).is_some());
    }

    #[test]
    fn a_key_finds_its_first_call_for_a_day() {
        let now = Clock::manual().now();
        let mut book = Book::default();
        assert_eq!(book.key("k", "CA1", now), None);
        let later = now + REPEATED - Duration::from_millis(1);
        assert_eq!(book.key("k", "CA2", later), Some("CA1".into()));
        assert_eq!(book.repeated("k", later), Some("CA1".into()));
        assert_eq!(book.key("k", "CA3", now + REPEATED), None);
        assert_eq!(book.repeated("k", now + REPEATED), Some("CA3".into()));
    }
}
