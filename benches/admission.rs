//! What a decision costs: uncontended, on one hot key, over a million keys, and when it is a refusal; and what it costs to
//! hand a place over while 100,000 requests of 10,000 accounts wait for it.
//!
//! Beside the registry run two naive limiters behind the same trait: one mutexed map, and a `DashMap`; both are spared
//! everything that a registry does besides (peaks, hold times, idle cells), so the comparison flatters them.
//! `decision_*` leaves the release out. The allocator counts: a decision over known keys shows none.
//! Run with `cargo bench --bench admission`; only numbers of one run on one machine compare.

use std::collections::{HashMap, VecDeque};
use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use divan::{AllocProfiler, Bencher, black_box};
use parking_lot::Mutex;
use tidegate::admission::{
    AccountName, Class, Decision, Dimension, Ladder, LimitSettings, Order, Permit, Policy,
    PolicyResource, PolicySettings, Priority, Queue, Registry, ResourceId, Step, Turn, UpstreamId,
    Wait,
};
use tidegate::clock::Clock;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const THREADS: [usize; 5] = [1, 2, 4, 8, 16];
/// With the account's own count beside each, a million cells.
const MANY_ACCOUNTS: u32 = 500_000;
/// Never reached: `decision_*` keeps a whole sample's permits.
const ROOMY: u32 = u32::MAX / 2;

// A sample is 256 decisions: one alone would be lost in the timer's own 20 ns.
fn main() {
    divan::main();
}

/// The question, as every limiter answers it.
trait Limiter: Sync + Sized {
    type Permit: Send;

    /// A limiter of `limits` keys a request, one or four, with `max` places each.
    fn new(limits: usize, max: u32) -> Self;

    fn acquire(&self, class: &Class) -> Option<Self::Permit>;
}

struct Tidegate {
    registry: Arc<Registry>,
    policy: Arc<Policy>,
    now: Instant,
}

impl Limiter for Tidegate {
    type Permit = Permit;

    fn new(limits: usize, max: u32) -> Self {
        Self::with(limits, max, &Ladder::reject(429))
    }

    fn acquire(&self, class: &Class) -> Option<Permit> {
        match self.registry.acquire(&self.policy, class, self.now) {
            Decision::Admit(permit) => Some(permit),
            Decision::Wait(_) | Decision::Reject(_) => None,
        }
    }
}

impl Tidegate {
    fn with(limits: usize, max: u32, ladder: &Ladder) -> Self {
        let per: [&[Dimension]; 4] = [
            &[Dimension::Account],
            &[Dimension::Account, Dimension::Resource],
            &[Dimension::Resource],
            &[Dimension::Upstream],
        ];
        let limit = |(number, per): (usize, &&[Dimension])| {
            let mut limit = LimitSettings::new(&format!("limit-{number}"), per, max);
            limit.ladder = ladder.clone();
            limit
        };
        Self::of(per[..limits].iter().enumerate().map(limit).collect())
    }

    fn of(limits: Vec<LimitSettings>) -> Self {
        let settings = PolicySettings {
            resources: vec![PolicyResource {
                name: "calls".into(),
                upstream: UpstreamId(0),
                is_exempt: false,
            }],
            upstreams: vec!["api".into()],
            groups: Vec::new(),
            limits,
            candidates: Vec::new(),
        };
        let now = Clock::manual().now();
        Self {
            registry: Registry::new(),
            policy: Arc::new(Policy::new(settings, None)),
            now,
        }
    }
}

/// Limit, account or a stand-in, resource: a key that needs no allocation.
type Key = (usize, Option<AccountName>, u16);

fn keys(class: &Class, limits: usize) -> impl Iterator<Item = Key> {
    let all = [
        (0, Some(class.account), 0),
        (1, Some(class.account), class.resource.0),
        (2, None, class.resource.0),
        (3, None, class.upstream.0),
    ];
    all.into_iter().take(limits)
}

/// One mutex over one map.
struct Mutexed {
    counts: Arc<Mutex<HashMap<Key, u32>>>,
    limits: usize,
    max: u32,
}

struct MutexedPermit {
    counts: Arc<Mutex<HashMap<Key, u32>>>,
    class: Class,
    limits: usize,
}

impl Limiter for Mutexed {
    type Permit = MutexedPermit;

    fn new(limits: usize, max: u32) -> Self {
        Self {
            counts: Arc::default(),
            limits,
            max,
        }
    }

    fn acquire(&self, class: &Class) -> Option<MutexedPermit> {
        let mut counts = self.counts.lock();
        let is_full = |key| counts.get(&key).is_some_and(|&count| count >= self.max);
        if self.max == 0 || keys(class, self.limits).any(is_full) {
            return None;
        }
        keys(class, self.limits).for_each(|key| *counts.entry(key).or_default() += 1);
        let counts = Arc::clone(&self.counts);
        Some(MutexedPermit {
            counts,
            class: class.clone(),
            limits: self.limits,
        })
    }
}

impl Drop for MutexedPermit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        for key in keys(&self.class, self.limits) {
            *counts.get_mut(&key).expect("it was taken") -= 1;
        }
    }
}

/// A map in shards, each key by itself: add, and undo what was added when one is full.
struct Dashed {
    counts: Arc<dashmap::DashMap<Key, u32>>,
    limits: usize,
    max: u32,
}

struct DashedPermit {
    counts: Arc<dashmap::DashMap<Key, u32>>,
    class: Class,
    taken: usize,
}

impl Limiter for Dashed {
    type Permit = DashedPermit;

    fn new(limits: usize, max: u32) -> Self {
        Self {
            counts: Arc::default(),
            limits,
            max,
        }
    }

    fn acquire(&self, class: &Class) -> Option<DashedPermit> {
        let counts = Arc::clone(&self.counts);
        let mut permit = DashedPermit {
            counts,
            class: class.clone(),
            taken: 0,
        };
        for key in keys(class, self.limits) {
            let mut count = self.counts.entry(key).or_default();
            if *count >= self.max {
                return None;
            }
            *count += 1;
            permit.taken += 1;
        }
        Some(permit)
    }
}

impl Drop for DashedPermit {
    fn drop(&mut self) {
        for key in keys(&self.class, self.taken) {
            *self.counts.get_mut(&key).expect("it was taken") -= 1;
        }
    }
}

fn class(account: AccountName) -> Class {
    Class {
        account,
        resource: ResourceId(0),
        upstream: UpstreamId(0),
        group: None,
        priority: Priority::Normal,
        cost: 1,
        learner: None,
        is_retry: false,
        network: None,
        values: smallvec::SmallVec::new(),
    }
}

fn account(number: usize) -> AccountName {
    AccountName::new(format!("AC{number:032x}").as_bytes()).expect("letters and digits")
}

thread_local! {
    /// A class that no other thread asks for.
    static OWN: Class = {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        class(account(NEXT.fetch_add(1, Ordering::Relaxed)))
    };
}

/// Take and give over one key, each thread its own.
#[divan::bench(types = [Tidegate, Mutexed, Dashed], threads = THREADS, sample_size = 256, sample_count = 200)]
fn take_and_give_one_key<L: Limiter>(bencher: Bencher<'_, '_>) {
    let limiter = L::new(1, ROOMY);
    OWN.with(|class| drop(limiter.acquire(class)));
    bencher.bench(|| OWN.with(|class| drop(limiter.acquire(black_box(class)))));
}

/// Take and give over four keys: two of the thread's own, two that all threads share.
#[divan::bench(types = [Tidegate, Mutexed, Dashed], threads = THREADS, sample_size = 256, sample_count = 200)]
fn take_and_give_four_keys<L: Limiter>(bencher: Bencher<'_, '_>) {
    let limiter = L::new(4, ROOMY);
    OWN.with(|class| drop(limiter.acquire(class)));
    bencher.bench(|| OWN.with(|class| drop(limiter.acquire(black_box(class)))));
}

/// The decision alone over four keys; the permits are given back outside the measurement.
#[divan::bench(types = [Tidegate, Mutexed, Dashed], sample_size = 256, sample_count = 200)]
fn decision_four_keys<L: Limiter>(bencher: Bencher<'_, '_>) {
    let limiter = L::new(4, ROOMY);
    OWN.with(|class| drop(limiter.acquire(class)));
    bencher.bench(|| OWN.with(|class| limiter.acquire(black_box(class))));
}

fn patient() -> Ladder {
    let queue = Queue {
        length: u32::MAX,
        per_account: u32::MAX,
        timeout: Duration::from_secs(60),
        order: Order::OldestFirst,
        early: 0,
    };
    Ladder::new(vec![Step::Queue(queue)], 429)
}

/// The same where requests may wait for each of the four, and nobody does: what each account holds is counted too.
#[divan::bench(sample_size = 256, sample_count = 200)]
fn decision_four_keys_that_queue(bencher: Bencher<'_, '_>) {
    let limiter = Tidegate::with(4, ROOMY, &patient());
    OWN.with(|class| drop(limiter.acquire(class)));
    bencher.bench(|| OWN.with(|class| limiter.acquire(black_box(class))));
}

/// One step of a crowd: a place is given back, the next of 100,000 in 10,000 accounts gets it, and another begins to wait.
#[divan::bench(sample_size = 256, sample_count = 200)]
fn hand_over_in_a_crowd(bencher: Bencher<'_, '_>) {
    const ACCOUNTS: usize = 10_000;
    const WAITERS: usize = 100_000;
    let mut whole = LimitSettings::new("whole", &[], 100);
    whole.ladder = patient();
    let crowded = Tidegate::of(vec![whole]);
    let classes: Vec<_> = (0..ACCOUNTS).map(|number| class(account(number))).collect();
    let ask = |number: usize| {
        let class = &classes[number % ACCOUNTS];
        crowded
            .registry
            .acquire(&crowded.policy, class, crowded.now)
    };
    let mut held: VecDeque<_> = (0..100)
        .filter_map(|number| match ask(number) {
            Decision::Admit(permit) => Some(permit),
            _ => None,
        })
        .collect();
    // By flow: the one that is served next cannot be told from outside, so all are looked at by their wakers.
    let served: Arc<Mutex<VecDeque<usize>>> = Arc::default();
    let mut waits: Vec<Option<Wait>> = Vec::new();
    let begin = |index: usize, waits: &mut Vec<Option<Wait>>| {
        let Decision::Wait(mut wait) = ask(index) else {
            unreachable!("all places are taken")
        };
        let waker = Waker::from(Arc::new(Served(index, Arc::clone(&served))));
        assert!(
            Pin::new(&mut wait)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        if index < waits.len() {
            waits[index] = Some(wait);
        } else {
            waits.push(Some(wait));
        }
    };
    (0..WAITERS).for_each(|index| begin(index, &mut waits));
    bencher.bench_local(|| {
        drop(held.pop_front());
        let index = served.lock().pop_front().expect("somebody was served");
        let wait = waits[index].as_mut().expect("it waits");
        let turn = Pin::new(wait).poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(Turn::Admit(permit)) = turn {
            held.push_back(permit);
        }
        begin(index, &mut waits);
    });
}

/// Notes who was served.
struct Served(usize, Arc<Mutex<VecDeque<usize>>>);

impl Wake for Served {
    fn wake(self: Arc<Self>) {
        self.1.lock().push_back(self.0);
    }
}

/// Take and give on the very same key from all threads.
#[divan::bench(types = [Tidegate, Mutexed, Dashed], threads = THREADS, sample_size = 256, sample_count = 200)]
fn one_hot_key<L: Limiter>(bencher: Bencher<'_, '_>) {
    let limiter = L::new(1, ROOMY);
    let hot = class(account(0));
    bencher.bench(|| drop(limiter.acquire(black_box(&hot))));
}

/// A refusal, built and dropped.
#[divan::bench(types = [Tidegate, Mutexed, Dashed], threads = THREADS, sample_size = 256, sample_count = 200)]
fn refusal_four_keys<L: Limiter>(bencher: Bencher<'_, '_>) {
    let limiter = L::new(4, 0);
    OWN.with(|class| drop(limiter.acquire(class)));
    bencher.bench(|| OWN.with(|class| drop(limiter.acquire(black_box(class)))));
}

/// Take and give at random among a million keys that are all in use.
#[divan::bench(types = [Tidegate, Mutexed, Dashed], threads = [1, 4, 16], sample_size = 256, sample_count = 200)]
fn a_million_keys<L: Limiter>(bencher: Bencher<'_, '_>) {
    static ACCOUNTS: LazyLock<Vec<AccountName>> =
        LazyLock::new(|| (0..MANY_ACCOUNTS as usize).map(account).collect());
    let limiter = L::new(1, ROOMY);
    let held: Vec<_> = ACCOUNTS
        .iter()
        .map(|&name| limiter.acquire(&class(name)))
        .collect();
    bencher
        .with_inputs(|| class(ACCOUNTS[fastrand::usize(..ACCOUNTS.len())]))
        .bench_refs(|class| drop(limiter.acquire(black_box(class))));
    drop(held);
}
