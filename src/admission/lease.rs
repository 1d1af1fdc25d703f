//! Work that outlives its response: permits that are held until they are released, or until their time is over.
//!
//! An answer of 201 may begin an hour of work. Its permit becomes a lease, which the upstream renews and releases by an id that it
//! was told with the request; one that nobody releases expires. A late release changes nothing: an id is used once. Leases are
//! kept by expiry, so that a look costs what has expired and no more; there are at most [`LEASES_MAX`]. Never knows who
//! talks to it, and never reads a clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::class::AccountName;
use super::key::hash;
use super::permit::{Outcome, Permit};

/// Leases at once: some 700 MiB with what they hold. Beyond, the places return with the last byte.
const LEASES_MAX: usize = 1 << 20;

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
    by_expiry: BTreeSet<(Instant, u64)>,
}

#[derive(Debug)]
struct Lease<P> {
    terms: LeaseTerms,
    since: Instant,
    expires: Instant,
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

impl<P> Default for Leases<P> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                by_id: HashMap::default(),
                by_expiry: BTreeSet::new(),
            }),
            expired: AtomicU64::new(0),
        }
    }
}

impl<P> Leases<P> {
    /// Begins a lease at the response's head, unless `is_released` says that its work is over already. False if there is none.
    pub fn begin(
        &self,
        id: LeaseId,
        terms: LeaseTerms,
        now: Instant,
        is_released: impl FnOnce() -> bool,
    ) -> bool {
        let mut state = self.state.lock();
        if is_released() || state.by_id.len() >= LEASES_MAX {
            return false;
        }
        let Some(expires) = now.checked_add(terms.ttl) else {
            return false;
        };
        state.by_expiry.insert((expires, id.request));
        let lease = Lease {
            terms,
            since: now,
            expires,
            held: None,
        };
        state.by_id.insert(id, lease).is_none()
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
        let State { by_id, by_expiry } = &mut *state;
        let lease = by_id.get_mut(&id)?;
        let expires = now.checked_add(ttl.min(lease.terms.ttl_max))?;
        by_expiry.remove(&(lease.expires, id.request));
        by_expiry.insert((expires, id.request));
        lease.expires = expires;
        Some(lease.view(id))
    }

    /// Ends a lease because its work is over. Without one, `otherwise` may note it for a response that is still to come; it
    /// runs while none can begin. False if there was nothing to end.
    pub fn release(&self, id: LeaseId, now: Instant, otherwise: impl FnOnce() -> bool) -> bool {
        let mut state = self.state.lock();
        let Some(lease) = state.by_id.remove(&id) else {
            return otherwise();
        };
        state.by_expiry.remove(&(lease.expires, id.request));
        drop(state);
        lease.end(Outcome::Success, now);
        true
    }

    /// Ends what has expired. To be called once a second.
    pub fn expire(&self, now: Instant) -> u64 {
        let mut ended = 0;
        loop {
            let mut state = self.state.lock();
            let Some(&(expires, request)) = state.by_expiry.first() else {
                return ended;
            };
            if expires > now {
                return ended;
            }
            state.by_expiry.pop_first();
            let lease = state.by_id.remove(&LeaseId { request });
            drop(state);
            if let Some(lease) = lease {
                lease.end(Outcome::Ignore, now);
                ended += 1;
                self.expired.fetch_add(1, Ordering::Relaxed);
            }
        }
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

    /// At most `top` of them, those that end first in front.
    #[must_use]
    pub fn list(&self, top: usize) -> Vec<LeaseView> {
        let state = self.state.lock();
        let first = state.by_expiry.iter().take(top);
        let view = |&(_, request): &(Instant, u64)| {
            let id = LeaseId { request };
            state.by_id.get(&id).map(|lease| lease.view(id))
        };
        first.filter_map(view).collect()
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
    use super::*;

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
