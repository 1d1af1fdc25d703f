//! Episodes: times in which an account met a limit, each told once.
//!
//! An episode begins with the first refusal in the name of a limit, or with going over it where its ladder admits that, and is over
//! when there was neither for a quiet time; the next one begins another. A limit whose key holds the account has an episode for each
//! account, any other limit one for all. While nobody wants to be told, a refusal costs one read. Everything is bounded: what finds
//! no room is counted. Never waits, and never knows who is told or how.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::class::{AccountName, Class};
use super::key::{Dimension, readable};
use super::limit::Limit;
use super::policy::Policy;
use super::rejection::Reason;

/// Enough that refusals on sixteen threads seldom meet; a power of two.
const SHARDS: usize = 16;
/// Episodes that go on at once, of all limits: some 800 KiB.
const EPISODES_MAX: usize = 4_096;
/// A limit with one episode for all is noted no more often than this.
const MET_APART_NANOS: u64 = 1_000_000_000;
/// Beginnings that are not fetched yet: a burst of as many accounts at once, of which each is told.
const ONSETS_MAX: usize = 1_024;

/// The beginning of one episode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onset {
    /// The limit.
    pub limit: Arc<str>,
    /// Whose episode it is; `None` where the limit's keys do not hold the account.
    pub account: Option<AccountName>,
    /// The key of the request that began it: dimensions and values.
    pub key: Vec<(String, String)>,
    /// The resource of that request.
    pub resource: Arc<str>,
    /// Places of the key.
    pub max: u32,
    /// Places that were taken then.
    pub in_flight: u32,
    /// What became of that request.
    pub met: Met,
    /// When.
    pub began: Instant,
}

/// How a request met a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// It was refused.
    Refused(Reason),
    /// It went over the limit, with this mark.
    Marked(Arc<str>),
}

/// The episodes that go on, and the beginnings that nobody has fetched yet.
#[derive(Debug)]
pub struct Episodes {
    /// In nanoseconds; 0 while nobody wants to be told.
    quiet: AtomicU64,
    shards: Box<[Mutex<Shard>]>,
    onsets: Mutex<VecDeque<Onset>>,
    dropped: AtomicU64,
    /// What instants are counted from.
    base: OnceLock<Instant>,
}

/// Whose episode under which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Who {
    scope: u64,
    account: Option<AccountName>,
}

#[derive(Debug, Default)]
struct Shard {
    /// When each met its limit last.
    last: HashMap<Who, Instant, ahash::RandomState>,
    /// Nothing here can be over before that, so that a full table is not searched for every refusal.
    busy_until: Option<Instant>,
}

impl Default for Episodes {
    fn default() -> Self {
        Self {
            quiet: AtomicU64::new(0),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            onsets: Mutex::default(),
            dropped: AtomicU64::new(0),
            base: OnceLock::new(),
        }
    }
}

impl Episodes {
    /// Has episodes noted that end after a quiet time, or none. Those that go on go on where they are still wanted.
    pub fn follow(&self, quiet: Option<Duration>) {
        let nanos = quiet.map_or(0, |quiet| {
            u64::try_from(quiet.as_nanos()).unwrap_or(u64::MAX).max(1)
        });
        self.quiet.store(nanos, Ordering::Relaxed);
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.busy_until = None;
            if quiet.is_none() {
                *shard = Shard::default();
            }
        }
        if quiet.is_none() {
            self.onsets.lock().clear();
        }
    }

    /// The oldest beginning that nobody has fetched yet.
    pub fn next(&self) -> Option<Onset> {
        self.onsets.lock().pop_front()
    }

    /// Beginnings that were not kept because too many waited to be fetched, and meetings that were not noted because too many episodes
    /// went on.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Notes that one met a limit; `onset` is asked where that begins an episode.
    fn note(&self, who: Who, now: Instant, onset: impl FnOnce() -> Onset) {
        let quiet = Duration::from_nanos(self.quiet.load(Ordering::Relaxed));
        // Scopes are small numbers; multiplied, their upper bits differ too (Fibonacci hashing).
        let scope = who.scope.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = scope ^ who.account.map_or(0, |account| account.hash());
        let mut shard = self.shards[(hash >> 32) as usize % SHARDS].lock();
        if let Some(last) = shard.last.get_mut(&who) {
            let goes_on = now.saturating_duration_since(*last) < quiet;
            *last = now.max(*last);
            if goes_on {
                return;
            }
        } else if shard.has_room(now, quiet) {
            shard.last.insert(who, now);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(shard);
        let mut onsets = self.onsets.lock();
        if onsets.len() < ONSETS_MAX {
            onsets.push_back(onset());
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a limit that has one episode for all was met so short a time ago that noting it again changes nothing: else all refusals
    /// of an overload would queue for one lock. An episode may so end by that much earlier.
    fn was_met_just_now(&self, met: &AtomicU64, now: Instant) -> bool {
        let base = *self.base.get_or_init(|| now);
        let nanos = now.saturating_duration_since(base).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX - 1) + 1;
        let apart = (self.quiet.load(Ordering::Relaxed) / 16).min(MET_APART_NANOS);
        let last = met.load(Ordering::Relaxed);
        if last > 0 && nanos.saturating_sub(last) < apart {
            return true;
        }
        met.store(nanos, Ordering::Relaxed);
        false
    }

    fn is_on(&self) -> bool {
        self.quiet.load(Ordering::Relaxed) > 0
    }

    /// Notes that a request of this class met a limit.
    pub(super) fn meet(
        &self,
        policy: &Policy,
        (limit, class): (&Limit, &Class),
        (max, in_flight): (u32, u32),
        met: impl FnOnce() -> Met,
        now: Instant,
    ) {
        if !self.is_on() {
            return;
        }
        let settings = &limit.settings;
        let holds_account = settings.per.contains(&Dimension::Account);
        if !holds_account && self.was_met_just_now(&limit.real.scope.refusals.met, now) {
            return;
        }
        let who = Who {
            scope: limit.real.scope.id,
            account: holds_account.then_some(class.account),
        };
        self.note(who, now, || {
            let key = policy.lookup(limit, &limit.real, class).to_key();
            let values = settings.per.iter().zip(key.values());
            let values = values.map(|(&dimension, value)| readable(dimension, value));
            let resource = &policy.labels.resources[usize::from(class.resource.0)];
            Onset {
                limit: Arc::clone(&limit.name),
                account: who.account,
                key: settings.per_names.iter().cloned().zip(values).collect(),
                resource: Arc::clone(resource.name()),
                max,
                in_flight,
                met: met(),
                began: now,
            }
        });
    }
}

impl Shard {
    /// Whether one more can be noted. Those that are over go first, when there is no room without.
    fn has_room(&mut self, now: Instant, quiet: Duration) -> bool {
        const ROOM: usize = EPISODES_MAX / SHARDS;
        if self.last.len() < ROOM {
            return true;
        }
        if self.busy_until.is_some_and(|until| now < until) {
            return false;
        }
        self.last
            .retain(|_, last| now.saturating_duration_since(*last) < quiet);
        let oldest = self.last.values().min();
        self.busy_until = oldest.map(|oldest| *oldest + quiet);
        self.last.len() < ROOM
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;

    const QUIET: Duration = Duration::from_secs(60);

    fn who(number: u32) -> Who {
        Who {
            scope: 1,
            account: AccountName::new(format!("AC{number}").as_bytes()).ok(),
        }
    }

    fn onset(who: Who, began: Instant) -> Onset {
        Onset {
            limit: "account".into(),
            account: who.account,
            key: Vec::new(),
            resource: "calls".into(),
            max: 1,
            in_flight: 1,
            met: Met::Refused(Reason::LimitReached),
            began,
        }
    }

    fn note(episodes: &Episodes, of: u32, now: Instant) {
        episodes.note(who(of), now, || onset(who(of), now));
    }

    fn told(episodes: &Episodes) -> usize {
        std::iter::from_fn(|| episodes.next()).count()
    }

    fn noting() -> Episodes {
        let episodes = Episodes::default();
        episodes.follow(Some(QUIET));
        episodes
    }

    fn known(episodes: &Episodes) -> usize {
        let shards = episodes.shards.iter();
        shards.map(|shard| shard.lock().last.len()).sum()
    }

    // A21: an episode lasts as long as refusals come at most a quiet time apart.
    #[test]
    fn an_episode_ends_after_a_quiet_time_and_not_before() {
        let (episodes, start) = (noting(), Clock::default().now());
        let nearly = QUIET.checked_sub(Duration::from_millis(1)).expect("longer");
        let mut now = start;
        for _ in 0..100 {
            note(&episodes, 1, now);
            now += nearly;
        }
        assert_eq!(told(&episodes), 1);
        note(&episodes, 1, now - nearly + QUIET);
        assert_eq!(told(&episodes), 1);
        note(&episodes, 2, now);
        assert_eq!(episodes.next().map(|of| of.account), Some(who(2).account));
    }

    // A21: however many accounts are refused, memory is bounded and what is not told is counted; those that are over make room.
    #[test]
    fn episodes_are_bounded_and_those_that_are_over_make_room() {
        let (episodes, start) = (noting(), Clock::default().now());
        for number in 0..20_000 {
            note(&episodes, number, start);
        }
        let kept = known(&episodes);
        assert!(kept <= EPISODES_MAX && kept > EPISODES_MAX / 2, "{kept}");
        assert_eq!(told(&episodes), ONSETS_MAX);
        assert_eq!(episodes.dropped(), 20_000 - ONSETS_MAX as u64);
        for number in 20_000..20_100 {
            note(&episodes, number, start + QUIET);
        }
        assert_eq!(told(&episodes), 100);
        assert!(known(&episodes) <= EPISODES_MAX);
    }

    // A21: switched off, nothing is kept; switched on again, everything begins anew.
    #[test]
    fn what_nobody_wants_to_know_is_forgotten() {
        let (episodes, now) = (noting(), Clock::default().now());
        note(&episodes, 1, now);
        episodes.follow(None);
        assert!(!episodes.is_on() && episodes.next().is_none() && known(&episodes) == 0);
        episodes.follow(Some(QUIET));
        note(&episodes, 1, now);
        assert_eq!(told(&episodes), 1);
        // Another quiet time is no new episode.
        episodes.follow(Some(QUIET / 2));
        note(&episodes, 1, now);
        assert_eq!(told(&episodes), 0);
    }

    proptest! {
        // A21: against the naive rule, one episode per account and gap.
        #[test]
        fn each_episode_is_told_once(steps in prop::collection::vec((0u32..4, 0u64..90), 1..200)) {
            let (episodes, mut now) = (noting(), Clock::default().now());
            let (mut last, mut expected) = ([None::<Instant>; 4], 0);
            for (account, seconds) in steps {
                now += Duration::from_secs(seconds);
                let of = &mut last[account as usize];
                expected += usize::from(of.is_none_or(|last| now - last >= QUIET));
                *of = Some(now);
                note(&episodes, account, now);
            }
            prop_assert_eq!(told(&episodes), expected);
            prop_assert_eq!(episodes.dropped(), 0);
        }
    }
}
