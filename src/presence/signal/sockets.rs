//! All open sockets and event streams: heartbeats, silence, and how they end.
//!
//! One wheel holds the next look at each; no client has a timer or a task beside the one that owns its connection. A look writes
//! the heartbeat, and finds who has been silent too long, who never said who it is, and whose token has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde_json::json;
use smallvec::SmallVec;

use super::strangers::{Stranger, Strangers};
use crate::presence::call::handle::Leg;
use crate::presence::registry::session::SocketId;
use crate::presence::subscription::form::{Form, message};
use crate::presence::subscription::outbox::{Close, Outbox};
use crate::wheel::Wheel;

/// How often the wheel is turned.
pub(in crate::presence) const TICK: Duration = Duration::from_millis(100);
/// A turn of the wheel: longer than any heartbeat.
const SLOTS: usize = 150;
/// A socket that was not heard for so long is lost: the voice SDK judges its server by the same time.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a client may take to read what is left when its token ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// Silence after which a socket is all but given up: its heartbeat, which comes every 12 s at least, is two seconds unanswered.
const DOUBT: Duration = Duration::from_secs(14);
/// A socket must say who it is within so long.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// One whose token was refused may show another within so long. The voice SDK waits on an open socket until its page brings a new
/// token, and comes back 0.1 s after one was closed, with the token that it has.
const SECOND_WORD: Duration = Duration::from_mins(1);

/// One connection, for those who write to it.
#[derive(Debug)]
pub(in crate::presence) struct Line {
    pub(in crate::presence) id: SocketId,
    pub(in crate::presence) outbox: Arc<Outbox>,
    form: Form,
    opened: Instant,
    /// Milliseconds after `opened` at which something was last heard.
    heard: AtomicU64,
    is_known: AtomicBool,
    /// The client has shown a token that was refused.
    has_tried: AtomicBool,
    /// Its place among those that may show another.
    stranger: Mutex<Option<Stranger>>,
    /// Milliseconds after `opened` at which its token ends.
    token_end: AtomicU64,
    /// The sid of the account, and the key that the client showed or that signed its token.
    key: Mutex<Option<(Arc<str>, Arc<str>)>>,
    /// The calls that it is a side of.
    legs: Mutex<SmallVec<[Leg; 0]>>,
    /// It speaks our own dialect, not the voice SDK's.
    is_page: AtomicBool,
    /// Its token has ended, and it is there for its calls only.
    has_outlived: AtomicBool,
}

impl Line {
    /// Something came from the client.
    pub(in crate::presence) fn hear(&self, now: Instant) {
        self.heard.store(self.ms(now), Ordering::Relaxed);
    }

    /// The client said who it is: until when that counts, by which account, and by which of its keys.
    pub(in crate::presence) fn know(&self, token_end: Option<Instant>, account: &str, key: &str) {
        *self.key.lock() = Some((account.into(), key.into()));
        let end = token_end.map_or(u64::MAX, |end| self.ms(end));
        self.token_end.store(end, Ordering::Relaxed);
        self.has_outlived.store(false, Ordering::Relaxed);
        self.is_known.store(true, Ordering::Relaxed);
        *self.stranger.lock() = None;
    }

    /// The client has shown a token that says nothing.
    pub(in crate::presence) fn refuse(&self) {
        self.has_tried.store(true, Ordering::Relaxed);
    }

    /// Whether it was not heard for about as long as makes it lost.
    pub(in crate::presence) fn is_doubtful(&self, now: Instant) -> bool {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        now.saturating_duration_since(self.opened)
            .saturating_sub(heard)
            >= DOUBT
    }

    /// The token has ended, or its key went: says so, as a device that is told why asks for a new one, and closes.
    pub(in crate::presence) fn end_token(&self) {
        if self.has_outlived.swap(true, Ordering::Relaxed) {
            return;
        }
        if self.is_socket() {
            let error = json!({ "code": 31_205, "message": "the token has ended; get a new one" });
            self.outbox.say(message("error", json!({ "error": error })));
        }
        // What it has begun it may end: a call outlives the token of its sides.
        self.token_end.store(u64::MAX, Ordering::Relaxed);
        if self.legs.lock().is_empty() {
            self.outbox.close(Close::TOKEN_END);
        }
    }

    /// Whether a client that is not known yet may show another token.
    fn may_try_again(&self, now: Instant, strangers: &Strangers, max: usize) -> bool {
        if !self.has_tried.load(Ordering::Relaxed) || self.opened + SECOND_WORD <= now {
            return false;
        }
        let mut stranger = self.stranger.lock();
        // Whoever becomes known gives its place back after it has said so.
        if self.is_known.load(Ordering::Relaxed) {
            return true;
        }
        if stranger.is_none() {
            *stranger = strangers.one_more(max);
        }
        stranger.is_some()
    }

    fn ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.opened);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Does what is due, and says when to look again; `None` once it is over.
    fn look(
        &self,
        now: Instant,
        heartbeat: Duration,
        strangers: &Strangers,
        max: usize,
    ) -> Option<Instant> {
        let since = |ms: &AtomicU64| {
            let ms = ms.load(Ordering::Relaxed);
            self.opened.checked_add(Duration::from_millis(ms))
        };
        if self.outbox.is_closing() {
            // It had its time to read.
            self.outbox.cut(Close::TRY_LATER);
            return None;
        }
        let token_end = since(&self.token_end);
        if token_end.is_some_and(|end| end <= now) {
            self.end_token();
            return Some(now + FAREWELL);
        }
        if self.form == Form::Socket {
            let is_known = self.is_known.load(Ordering::Relaxed);
            if !is_known
                && self.opened + FIRST_WORD <= now
                && !self.may_try_again(now, strangers, max)
            {
                self.outbox.cut(Close::POLICY);
                return None;
            }
            let silent_at = since(&self.heard)? + SILENCE;
            if silent_at <= now {
                self.outbox.cut(Close::SILENT);
                return None;
            }
            self.outbox.say("\n".into());
            let next = silent_at.min(now + heartbeat);
            return Some(token_end.map_or(next, |end| end.min(next)));
        }
        // A comment (HTML standard, §9.2.6), for proxies between that close what is idle.
        self.outbox.push(":\n\n".into());
        let next = now + heartbeat;
        Some(token_end.map_or(next, |end| end.min(next)))
    }
}

/// All connections.
#[derive(Debug)]
pub(in crate::presence) struct Sockets {
    lines: Mutex<HashMap<SocketId, Arc<Line>, ahash::RandomState>>,
    wheel: Mutex<Wheel<SocketId>>,
    next: AtomicU64,
    open: AtomicUsize,
    strangers: Strangers,
    /// Those that are still to be closed before the gate goes down, and how many at each tick.
    leaving: Mutex<Option<(Vec<SocketId>, usize)>>,
}

/// A connection for as long as it is open.
#[derive(Debug)]
pub(in crate::presence) struct Held {
    pub(in crate::presence) line: Arc<Line>,
    sockets: Arc<Sockets>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.sockets.lines.lock().remove(&self.line.id);
        self.sockets.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sockets {
    pub(in crate::presence) fn new(now: Instant) -> Self {
        Self {
            lines: Mutex::default(),
            wheel: Mutex::new(Wheel::new(now, TICK, SLOTS)),
            next: AtomicU64::new(1),
            open: AtomicUsize::new(0),
            strangers: Strangers::default(),
            leaving: Mutex::new(None),
        }
    }

    /// Connections that are open.
    pub(in crate::presence) fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether the gate goes down.
    pub(in crate::presence) fn is_draining(&self) -> bool {
        self.leaving.lock().is_some()
    }

    /// One more connection, unless there are as many as may be.
    pub(in crate::presence) fn open(
        self: &Arc<Self>,
        form: Form,
        max: usize,
        heartbeat: Duration,
        now: Instant,
    ) -> Option<Held> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let id = SocketId(self.next.fetch_add(1, Ordering::Relaxed));
        let line = Arc::new(Line {
            id,
            outbox: Arc::default(),
            form,
            opened: now,
            heard: AtomicU64::new(0),
            is_known: AtomicBool::new(false),
            has_tried: AtomicBool::new(false),
            stranger: Mutex::default(),
            token_end: AtomicU64::new(u64::MAX),
            key: Mutex::default(),
            legs: Mutex::default(),
            is_page: AtomicBool::new(false),
            has_outlived: AtomicBool::new(false),
        });
        self.lines.lock().insert(id, Arc::clone(&line));
        let first = if form == Form::Socket {
            heartbeat.min(FIRST_WORD)
        } else {
            heartbeat
        };
        self.wheel.lock().insert(now + first, id);
        Some(Held {
            line,
            sockets: Arc::clone(self),
        })
    }

    /// A connection that is still open.
    pub(in crate::presence) fn find(&self, id: SocketId) -> Option<Arc<Line>> {
        self.lines.lock().get(&id).cloned()
    }

    /// Does what is due on all of them, of whom there may be `max`; `farewell` is said to those that are sent away because the gate goes down.
    pub(in crate::presence) fn tick(
        &self,
        now: Instant,
        heartbeat: Duration,
        max: usize,
        farewell: impl Fn(&Line),
    ) {
        let due = self.wheel.lock().due(now);
        let next: Vec<_> = due
            .into_iter()
            .filter_map(|id| {
                let line = self.find(id)?;
                Some((line.look(now, heartbeat, &self.strangers, max)?, id))
            })
            .collect();
        let mut wheel = self.wheel.lock();
        for (at, id) in next {
            wheel.insert(at, id);
        }
        drop(wheel);
        let mut leaving = self.leaving.lock();
        let Some((ids, at_once)) = leaving.as_mut() else {
            return;
        };
        let from = ids.len().saturating_sub(*at_once);
        let ids: Vec<_> = ids.drain(from..).collect();
        drop(leaving);
        for line in ids.into_iter().filter_map(|id| self.find(id)) {
            // Who talks goes when the talk is over, or when all is.
            if !line.legs().is_empty() {
                let mut leaving = self.leaving.lock();
                if let Some((ids, _)) = leaving.as_mut() {
                    ids.insert(0, line.id);
                }
                continue;
            }
            farewell(&line);
            line.outbox.close(Close::GOING_AWAY);
        }
    }

    /// Those who showed a key that is not there, of the account that it was of.
    pub(in crate::presence) fn without_key(
        &self,
        is_there: impl Fn(&str, &str) -> bool,
    ) -> Vec<Arc<Line>> {
        let lines = self.lines.lock();
        let is_orphan = |line: &&Arc<Line>| {
            let key = line.key.lock();
            key.as_ref()
                .is_some_and(|(account, key)| !is_there(account, key))
        };
        lines.values().filter(is_orphan).cloned().collect()
    }

    /// Sends everybody away within that time, evenly and in no order.
    pub(in crate::presence) fn drain(&self, within: Duration) {
        let mut ids: Vec<_> = self.lines.lock().keys().copied().collect();
        fastrand::shuffle(&mut ids);
        let ticks = (within.as_millis() / TICK.as_millis()).max(1);
        let ticks = usize::try_from(ticks).unwrap_or(usize::MAX);
        let at_once = ids.len().div_ceil(ticks);
        self.leaving.lock().get_or_insert((ids, at_once));
    }
}

impl Line {
    /// It becomes a side of a call.
    pub(in crate::presence) fn attach(&self, leg: Leg) {
        let mut legs = self.legs.lock();
        legs.retain(|known| known.name != leg.name);
        legs.push(leg);
    }

    /// It is no side of that call any more.
    pub(in crate::presence) fn detach(&self, name: &str) {
        let mut legs = self.legs.lock();
        legs.retain(|known| known.name != name);
        legs.shrink_to_fit();
        if legs.is_empty() && self.has_outlived.load(Ordering::Relaxed) {
            self.outbox.close(Close::TOKEN_END);
        }
    }

    /// It knows a call by another name from now on.
    pub(in crate::presence) fn rename(&self, before: &str, name: &str) {
        let mut legs = self.legs.lock();
        if let Some(leg) = legs.iter_mut().find(|leg| leg.name == before) {
            leg.former = Some(std::mem::replace(&mut leg.name, name.to_owned()));
        }
    }

    /// The call that it knows by that name, or knew by it before.
    pub(in crate::presence) fn leg(&self, name: &str) -> Option<Leg> {
        let legs = self.legs.lock();
        let is_it = |leg: &&Leg| leg.name == name || leg.former.as_deref() == Some(name);
        legs.iter().find(is_it).cloned()
    }

    /// All calls that it is a side of.
    pub(in crate::presence) fn legs(&self) -> SmallVec<[Leg; 0]> {
        self.legs.lock().clone()
    }

    /// A heartbeat follows the invitation to that call: its echo tells that the device has it.
    pub(in crate::presence) fn await_echo(&self, name: &str) {
        let mut legs = self.legs.lock();
        if let Some(leg) = legs.iter_mut().find(|leg| leg.name == name) {
            leg.is_echo_due = true;
        }
    }

    /// The echo of a heartbeat came: what waited for it rings.
    pub(in crate::presence) fn take_echoed(&self) -> SmallVec<[Leg; 0]> {
        let mut legs = self.legs.lock();
        let mut echoed = SmallVec::new();
        for leg in legs.iter_mut().filter(|leg| leg.is_echo_due) {
            leg.is_echo_due = false;
            echoed.push(leg.clone());
        }
        echoed
    }

    /// It speaks our own dialect from now on.
    pub(in crate::presence) fn speak_page(&self) {
        self.is_page.store(true, Ordering::Relaxed);
    }

    pub(in crate::presence) fn is_page(&self) -> bool {
        self.is_page.load(Ordering::Relaxed)
    }

    /// Whether it is a socket, to which our own messages may be written.
    pub(in crate::presence) fn is_socket(&self) -> bool {
        self.form == Form::Socket
    }
}
