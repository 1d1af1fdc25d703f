//! The requests in progress: who, what, since when.
//!
//! One slab a shard, one shard a thread in practice: entering and leaving take a lock that nobody else wants. An entry
//! is tied to the request's own life, not to its permit, so that the auditor has a second opinion on every count. Never
//! holds a request longer than its last byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use hashbrown::HashMap;
use parking_lot::Mutex;
use slab::Slab;
use smallvec::SmallVec;

use super::hangup::Hangup;
use crate::admission::{AccountName, Permit, Ticket, hex};
use crate::head::Head;

/// As many slabs as threads commonly serve; more threads share.
const SHARDS: usize = 16;

/// What a request in progress is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It waits for its places.
    Queued,
    /// Sent on; the response's head is awaited.
    Forwarded,
    /// The response is on its way.
    Streaming,
    /// Switched to another protocol.
    Tunnel,
    /// Answered; its work goes on.
    Lease,
}

impl State {
    const ALL: [Self; 5] = [
        Self::Queued,
        Self::Forwarded,
        Self::Streaming,
        Self::Tunnel,
        Self::Lease,
    ];

    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Forwarded => "forwarded",
            Self::Streaming => "streaming",
            Self::Tunnel => "tunnel",
            Self::Lease => "lease",
        }
    }
}

/// What a request is known by from end to end.
#[derive(Debug, Clone)]
pub enum RequestId {
    /// What the client sent.
    Kept(Box<[u8]>),
    /// 128 random bits in hexadecimal.
    Made([u8; 32]),
}

impl RequestId {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        let mut text = [0; 32];
        let (first, second) = text.split_at_mut(16);
        first.copy_from_slice(&hex(fastrand::u64(..)));
        second.copy_from_slice(&hex(fastrand::u64(..)));
        Self::Made(text)
    }

    /// The value as it stands in a head.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Kept(value) => value,
            Self::Made(text) => text,
        }
    }

    /// The same for people; empty where a client sent what is no text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

/// One request, from its head to its last byte.
#[derive(Debug)]
pub struct Request {
    /// The number under which the admin API knows it.
    pub id: u64,
    /// Who pays.
    pub account: AccountName,
    /// The kind of thing acted on.
    pub resource: Arc<str>,
    /// Where it was sent.
    pub upstream: Arc<str>,
    /// Its head, as received.
    pub head: Arc<Head>,
    /// The value of `x-request-id`, kept or made.
    pub request_id: RequestId,
    /// When its head was complete.
    pub started: Instant,
    state: AtomicU8,
    /// How its wait can be ended, while it waits.
    ticket: Mutex<Option<Ticket>>,
    /// The upstream said that its work is over before it answered.
    is_released: AtomicBool,
    /// How it can be ended once it has its places.
    hangup: Arc<Hangup>,
}

impl Request {
    /// A request that was just sent on.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "it is the record's fields, once")]
    pub fn new(
        account: AccountName,
        resource: Arc<str>,
        upstream: Arc<str>,
        head: Arc<Head>,
        request_id: RequestId,
        started: Instant,
        id: u64,
        hangup: Arc<Hangup>,
    ) -> Self {
        hangup.begin(id);
        let state = AtomicU8::new(State::Forwarded as u8);
        Self {
            id,
            account,
            resource,
            upstream,
            head,
            request_id,
            started,
            state,
            ticket: Mutex::new(None),
            is_released: AtomicBool::new(false),
            hangup,
        }
    }

    /// How it is ended from outside.
    #[must_use]
    pub fn hangup(&self) -> &Hangup {
        &self.hangup
    }

    /// Ends it, if it is sent on, answered or switched; false if it is over, or waits, or is a lease: these are ended elsewhere.
    #[must_use]
    pub fn hang_up(&self) -> bool {
        match self.state() {
            State::Queued | State::Lease => false,
            State::Forwarded => self.hangup.ask(self.id, false),
            State::Streaming | State::Tunnel => self.hangup.ask(self.id, true),
        }
    }

    /// Whether its work was over before its answer.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.is_released.load(Ordering::Relaxed)
    }

    /// Notes that its work is over, if its answer is still to come; false if not.
    pub fn release_early(&self) -> bool {
        let is_early = self.state() == State::Forwarded;
        if is_early {
            self.is_released.store(true, Ordering::Relaxed);
        }
        is_early
    }

    /// The same request, sent elsewhere.
    #[must_use]
    pub fn rerouted(&self, upstream: Arc<str>) -> Self {
        Self {
            id: self.id,
            account: self.account,
            resource: Arc::clone(&self.resource),
            upstream,
            head: Arc::clone(&self.head),
            request_id: self.request_id.clone(),
            started: self.started,
            state: AtomicU8::new(self.state() as u8),
            ticket: Mutex::new(None),
            is_released: AtomicBool::new(false),
            hangup: Arc::clone(&self.hangup),
        }
    }

    /// The same request without its head's fields, of which nobody needs any more: it may stay for hours.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            head: Arc::new(self.head.without_fields()),
            is_released: AtomicBool::new(self.is_released()),
            ..self.rerouted(Arc::clone(&self.upstream))
        }
    }

    /// How its wait can be ended, if it waits.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        *self.ticket.lock()
    }

    /// Notes that it waits, or, with `None`, waits no longer.
    pub fn set_ticket(&self, ticket: Option<Ticket>) {
        self.set_state(if ticket.is_some() {
            State::Queued
        } else {
            State::Forwarded
        });
        *self.ticket.lock() = ticket;
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.state.load(Ordering::Relaxed)) % State::ALL.len()]
    }

    /// Notes what it is doing now.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Its path without the query, for people: a query may hold secrets.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.path_text()
    }
}

#[derive(Debug)]
struct Entry {
    request: Arc<Request>,
    /// Cells and places that the request's permit holds.
    places: SmallVec<[(u64, u32); 6]>,
}

/// All requests in progress.
#[derive(Debug)]
pub struct Live {
    shards: Box<[Mutex<Slab<Entry>>]>,
    next_id: AtomicU64,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next_id: AtomicU64::new(1),
        }
    }
}

impl Live {
    /// The next request's number.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Enters a request until the returned value is dropped.
    pub fn enter(self: &Arc<Self>, request: Arc<Request>, permit: Option<&Permit>) -> Entered {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        let shard = SHARD.try_with(|shard| *shard).unwrap_or(0);
        let entry = Entry {
            request: Arc::clone(&request),
            places: permit.into_iter().flat_map(Permit::places).collect(),
        };
        let key = self.shards[shard].lock().insert(entry);
        Entered {
            live: Arc::clone(self),
            shard,
            key,
            request,
        }
    }

    /// Visits every request in progress, slab by slab.
    pub fn each(&self, mut visit: impl FnMut(&Request)) {
        self.each_entry(|entry| visit(&entry.request));
    }

    /// The same for those that hold places: who waits holds none yet, and a stream may hold none any more.
    pub fn each_holding(&self, mut visit: impl FnMut(&Request)) {
        self.each_entry(|entry| {
            if !entry.places.is_empty() {
                visit(&entry.request);
            }
        });
    }

    fn each_entry(&self, mut visit: impl FnMut(&Entry)) {
        for shard in &self.shards {
            shard.lock().iter().for_each(|(_, entry)| visit(entry));
        }
    }

    /// The request of that number, if it is in progress.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<Arc<Request>> {
        self.shards.iter().find_map(|shard| {
            let slab = shard.lock();
            let found = slab.iter().find(|(_, entry)| entry.request.id == id);
            found.map(|(_, entry)| Arc::clone(&entry.request))
        })
    }

    /// When the oldest request in progress started; leases, which last by nature, apart.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        let mut oldest = None;
        self.each(|request| {
            if request.state() != State::Lease {
                oldest = oldest.into_iter().chain([request.started]).min();
            }
        });
        oldest
    }

    fn release_places(&self, shard: usize, key: usize, id: u64) {
        let mut slab = self.shards[shard].lock();
        if let Some(entry) = slab.get_mut(key).filter(|entry| entry.request.id == id) {
            entry.places.clear();
        }
    }

    /// Places held by cell, over all requests in progress: the auditor's other side.
    #[must_use]
    pub(super) fn places(&self) -> HashMap<u64, i64> {
        let mut places = HashMap::new();
        for shard in &self.shards {
            for (_, entry) in shard.lock().iter() {
                for &(cell, count) in &entry.places {
                    *places.entry(cell).or_default() += i64::from(count);
                }
            }
        }
        places
    }
}

/// A request's entry among those in progress; it leaves when dropped.
#[derive(Debug)]
#[must_use]
pub struct Entered {
    live: Arc<Live>,
    shard: usize,
    key: usize,
    request: Arc<Request>,
}

impl Entered {
    /// The request.
    #[must_use]
    pub fn request(&self) -> &Arc<Request> {
        &self.request
    }

    /// Notes that the request got its places.
    pub fn hold(&mut self, permit: &Permit) {
        let mut slab = self.live.shards[self.shard].lock();
        if let Some(entry) = slab.get_mut(self.key) {
            entry.places = permit.places().collect();
        }
    }

    /// Notes that the request is sent elsewhere.
    pub fn replace(&mut self, request: Arc<Request>) {
        let mut slab = self.live.shards[self.shard].lock();
        if let Some(entry) = slab.get_mut(self.key) {
            entry.request = Arc::clone(&request);
        }
        drop(slab);
        self.request = request;
    }

    /// Notes that the request's permit was given back before its end.
    pub fn release_places(&self) {
        self.live
            .release_places(self.shard, self.key, self.request.id);
    }

    /// A way to note the same later, from elsewhere.
    #[must_use]
    pub fn places_handle(&self) -> PlacesHandle {
        let (live, id) = (Arc::clone(&self.live), self.request.id);
        PlacesHandle {
            live,
            shard: self.shard,
            key: self.key,
            id,
        }
    }
}

/// See [`Entered::places_handle`].
#[derive(Debug)]
pub struct PlacesHandle {
    live: Arc<Live>,
    shard: usize,
    key: usize,
    id: u64,
}

impl PlacesHandle {
    /// Notes that the request's permit was given back; of no effect when the request is over.
    pub fn release(self) {
        self.live.release_places(self.shard, self.key, self.id);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let entry = self.live.shards[self.shard].lock().try_remove(self.key);
        drop(entry);
    }
}
