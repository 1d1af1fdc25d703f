//! Work that outlives its response: permits that are held until they are released, or until their time is over.
//!
//! An answer of 201 may begin an hour of work. Its permit becomes a lease, which the upstream renews and releases by an id that it
//! was told with the request; one that nobody releases expires. A late release changes nothing: an id is used once. Each stands
//! once on a timer wheel, so that to begin, to renew and to release one costs the same however many there are, and whoever keeps the
//! time sleeps until one may expire; there are at most [`LEASES_MAX`]. Never knows who talks to it, and never reads a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::class::AccountName;
use super::due::Keeper;
use super::key::hash;
use super::permit::{Outcome, Permit};
use crate::wheel::Wheel;

/// Leases at once: some 700 MiB with what they hold. Beyond, the places return with the last byte.
const LEASES_MAX: usize = 1 << 20;
/// How late a lease may end. Work that has one takes minutes.
const TICK: Duration = Duration::from_secs(1);
/// A turn of the wheel: an hour and some, in which most leases end.
const SLOTS: usize = 1 << 12;

/// Names a lease, and the request that it may come of, to an upstream. It cannot be guessed from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId {
    request: u64,
}

/// One lease, as people see it.
#[derive(Debug, Clone)]
pub struct LeaseView {
    /// Its name.
    pub id: LeaseId,
    /// Who pays.
    pub account: AccountName,
    /// The kind of thing acted on.
    pub resource: Arc<str>,
    /// When the response's head came.
    pub since: Instant,
    /// When it ends by itself.
    pub expires: Instant,
}

/// What a lease is made of.
#[derive(Debug)]
pub struct LeaseTerms {
    /// Who pays.
    pub account: AccountName,
    /// The kind of thing acted on.
    pub resource: Arc<str>,
    /// How long it lasts unless it is renewed.
    pub ttl: Duration,
    /// How long one renewal may make it last.
    pub ttl_max: Duration,
}

/// All leases; `P` is kept with the permit and dropped before it.
#[derive(Debug)]
pub struct Leases<P> {
    state: Mutex<State<P>>,
    expired: AtomicU64,
}

#[derive(Debug)]
struct State<P> {
    by_id: HashMap<LeaseId, Lease<P>, ahash::RandomState>,
    by_expiry: Wheel<(Instant, LeaseId)>,
    keeper: Keeper,
}

#[derive(Debug)]
struct Lease<P> {
    terms: LeaseTerms,
    since: Instant,
    expires: Instant,
    /// Its entry on the wheel.
    entry: usize,
    /// Handed over at the response's last byte; until then the response holds it.
    held: Option<(P, Permit)>,
}

impl LeaseId {
    /// The id of a request's lease, whether there is one or not.
    #[must_use]
    pub fn of(request: u64) -> Self {
        Self { request }
    }

    /// The number of the request.
    #[must_use]
    pub fn request(self) -> u64 {
        self.request
    }

    /// Appends the id as text.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut seal = [0; 13];
        seal[..5].copy_from_slice(b"lease");
        seal[5..].copy_from_slice(&self.request.to_be_bytes());
        out.extend_from_slice(&hex(self.request));
        out.push(b'-');
        out.extend_from_slice(&hex(hash(&seal)));
    }

    /// Reads what [`Display`](std::fmt::Display) wrote; `None` if this process did not write it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (request, _) = text.split_once('-')?;
        let id = Self {
            request: u64::from_str_radix(request, 16).ok()?,
        };
        (id.to_string() == text).then_some(id)
    }
}

impl std::fmt::Display for LeaseId {
    /// The request's number, and a hash of it under a key that this process drew at random.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::with_capacity(33);
        self.write(&mut text);
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Sixteen hexadecimal digits, all at once: every forwarded request has four such numbers written, which formatting would make dear.
#[must_use]
pub fn hex(number: u64) -> [u8; 16] {
    const ONES: u128 = u128::MAX / 0xff;
    // Each half is moved away from the other, and so on, until every digit has a byte of its own.
    let mut digits = u128::from(number);
    for (width, mask) in [
        (32, u128::MAX / 0xffff_ffff_ffff_ffff * 0xffff_ffff),
        (16, u128::MAX / 0xffff_ffff * 0xffff),
        (8, u128::MAX / 0xffff * 0xff),
        (4, ONES * 0xf),
    ] {
        digits = (digits | digits << width) & mask;
    }
    let letters = ((digits + ONES * 6) >> 4) & ONES;
    let text = digits + ONES * u128::from(b'0') + letters * u128::from(b'a' - b'0' - 10);
    text.to_be_bytes()
}

impl<P> Leases<P> {
    /// No leases yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                by_id: HashMap::default(),
                by_expiry: Wheel::new(now, TICK, SLOTS),
                keeper: Keeper::default(),
            }),
            expired: AtomicU64::new(0),
        }
    }

    /// Begins a lease at the response's head, unless `is_released` says that its work is over already. False if there is none.
    pub fn begin(
        &self,
        id: LeaseId,
        terms: LeaseTerms,
        now: Instant,
        is_released: impl FnOnce() -> bool,
    ) -> bool {
        let mut state = self.state.lock();
        if is_released() || state.by_id.len() >= LEASES_MAX || state.by_id.contains_key(&id) {
            return false;
        }
        let Some(expires) = now.checked_add(terms.ttl) else {
            return false;
        };
        let lease = Lease {
            terms,
            since: now,
            expires,
            entry: state.by_expiry.insert(expires, (expires, id)),
            held: None,
        };
        state.by_id.insert(id, lease);
        let keeper = state.keeper.earlier(expires);
        drop(state);
        keeper.into_iter().for_each(Waker::wake);
        true
    }

    /// Hands the permit over at the response's last byte; given back if the lease is over.
    #[must_use = "what is given back has nobody else to hold it"]
    pub fn hold(&self, id: LeaseId, with: P, permit: Permit) -> Option<(P, Permit)> {
        let mut state = self.state.lock();
        match state.by_id.get_mut(&id) {
            Some(lease) => {
                lease.held = Some((with, permit));
                None
            }
            None => Some((with, permit)),
        }
    }

    /// Makes a lease last `ttl` from now, as far as its terms allow; `None` if there is none.
    pub fn renew(&self, id: LeaseId, ttl: Duration, now: Instant) -> Option<LeaseView> {
        let mut state = self.state.lock();
        let State {
            by_id,
            by_expiry,
            keeper,
        } = &mut *state;
        let lease = by_id.get_mut(&id)?;
        let expires = now.checked_add(ttl.min(lease.terms.ttl_max))?;
        by_expiry.remove(lease.entry);
        lease.entry = by_expiry.insert(expires, (expires, id));
        lease.expires = expires;
        let (view, keeper) = (lease.view(id), keeper.earlier(expires));
        drop(state);
        keeper.into_iter().for_each(Waker::wake);
        Some(view)
    }

    /// Ends a lease because its work is over. Without one, `otherwise` may note it for a response that is still to come; it
    /// runs while none can begin. False if there was nothing to end.
    pub fn release(&self, id: LeaseId, now: Instant, otherwise: impl FnOnce() -> bool) -> bool {
        let mut state = self.state.lock();
        let Some(lease) = state.by_id.remove(&id) else {
            return otherwise();
        };
        state.by_expiry.remove(lease.entry);
        drop(state);
        lease.end(Outcome::Success, now);
        true
    }

    /// Ends what has expired.
    pub fn expire(&self, now: Instant) -> u64 {
        let mut state = self.state.lock();
        let State {
            by_id, by_expiry, ..
        } = &mut *state;
        let due = by_expiry.due(now);
        let over: Vec<_> = due.iter().filter_map(|(_, id)| by_id.remove(id)).collect();
        drop(state);
        let ended = over.len() as u64;
        over.into_iter()
            .for_each(|lease| lease.end(Outcome::Ignore, now));
        self.expired.fetch_add(ended, Ordering::Relaxed);
        ended
    }

    /// When one may expire next, if there is any.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.state.lock().by_expiry.next()
    }

    /// The same once it is earlier than what is known, as of [those who wait](super::Registry::poll_due).
    pub fn poll_due(&self, known: Option<Instant>, cx: &mut Context<'_>) -> Poll<Instant> {
        let mut state = self.state.lock();
        let first = state.by_expiry.next();
        state.keeper.poll(first, known, cx)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.lock().by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many have ended because nobody released them.
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// At most `top` of them, those that end first in front. A look at all.
    #[must_use]
    pub fn list(&self, top: usize) -> Vec<LeaseView> {
        let state = self.state.lock();
        let mut first = state.by_expiry.iter().copied().collect::<Vec<_>>();
        if top < first.len() {
            first.select_nth_unstable_by_key(top, |(expires, id)| (*expires, id.request));
            first.truncate(top);
        }
        first.sort_unstable_by_key(|(expires, id)| (*expires, id.request));
        let view = |(_, id)| state.by_id.get(&id).map(|lease| lease.view(id));
        first.into_iter().filter_map(view).collect()
    }
}

impl<P> Lease<P> {
    fn view(&self, id: LeaseId) -> LeaseView {
        LeaseView {
            id,
            account: self.terms.account,
            resource: Arc::clone(&self.terms.resource),
            since: self.since,
            expires: self.expires,
        }
    }

    fn end(self, outcome: Outcome, now: Instant) {
        if let Some((with, permit)) = self.held {
            // What lists it goes first: an auditor may see a count too many, never one too few.
            drop(with);
            permit.finish(outcome, now);
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;

    fn terms(ttl: u64) -> LeaseTerms {
        LeaseTerms {
            account: AccountName::new(b"acme").unwrap(),
            resource: "calls".into(),
            ttl: Duration::from_millis(ttl),
            ttl_max: Duration::from_hours(3),
        }
    }

    proptest! {
        // A23, A35: over any mix of beginnings, renewals, releases and time, a lease ends when it is released, or a tick after its time
        // at most, and never before; and the wheel holds nothing but what there is.
        #[test]
        fn a_lease_lasts_as_long_as_it_was_renewed_for(
            steps in prop::collection::vec((0..5_u8, 0..12_u64, 1..9_000_000_u64), 1..120),
        ) {
            let clock = Clock::manual();
            let leases = Leases::<()>::new(clock.now());
            let mut known = BTreeMap::<u64, Instant>::new();
            for (what, request, millis) in steps {
                let (id, now) = (LeaseId::of(request), clock.now());
                let expires = now + Duration::from_millis(millis);
                match what {
                    0 | 1 => {
                        let is_new = !known.contains_key(&request);
                        prop_assert_eq!(leases.begin(id, terms(millis), now, || false), is_new);
                        known.entry(request).or_insert(expires);
                    }
                    2 => {
                        let renewed = leases.renew(id, Duration::from_millis(millis), now);
                        let was = known.get_mut(&request).map(|of| std::mem::replace(of, expires));
                        prop_assert_eq!(renewed.map(|of| of.expires), was.map(|_| expires));
                    }
                    3 => {
                        let was = known.remove(&request);
                        prop_assert_eq!(leases.release(id, now, || false), was.is_some());
                    }
                    // Whoever keeps the time looks when he is told to, and sometimes late.
                    _ => {
                        let next = leases.next_due();
                        let late = Duration::from_millis(millis / 50);
                        let at = next.filter(|_| millis % 3 > 0).unwrap_or(now + late);
                        clock.advance(at.saturating_duration_since(now));
                        leases.expire(clock.now());
                        known.retain(|request, of| {
                            *of > clock.now() || leases.list(20).iter().any(|of| of.id.request == *request)
                        });
                    }
                }
                let now = clock.now();
                prop_assert!(known.values().all(|of| *of + TICK > now), "a lease is more than a tick late");
                let listed: Vec<_> = leases.list(20).iter().map(|of| (of.expires, of.id.request)).collect();
                let mut all: Vec<_> = known.iter().map(|(request, of)| (*of, *request)).collect();
                all.sort_unstable();
                prop_assert_eq!(&listed, &all);
                let first: Vec<_> = leases.list(2).iter().map(|of| of.id.request).collect();
                prop_assert!(all.iter().map(|(_, request)| *request).take(2).eq(first));
                prop_assert_eq!(leases.state.lock().by_expiry.len(), known.len());
            }
        }
    }

    #[test]
    fn a_number_is_written_as_formatting_writes_it() {
        for number in [
            0,
            9,
            10,
            0x0123_4567_89ab_cdef,
            0xfedc_ba98_7654_3210,
            u64::MAX,
        ] {
            let text = String::from_utf8(hex(number).to_vec()).unwrap();
            assert_eq!(text, format!("{number:016x}"));
        }
    }

    #[test]
    fn an_id_is_read_back_and_another_is_not() {
        let text = LeaseId::of(0x1f).to_string();
        assert_eq!(LeaseId::parse(&text), Some(LeaseId::of(0x1f)));
        let other = LeaseId::of(0x20).to_string();
        let forged = format!("{:016x}-{}", 0x20, text.split_once('-').unwrap().1);
        assert_ne!(other, forged);
        for bad in ["", "-", "1f", "1f-", &*forged, &*text.to_uppercase()] {
            assert_eq!(LeaseId::parse(bad), None, "{bad}");
        }
    }
}
