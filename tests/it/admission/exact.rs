//! Exactness under races: how many get in, and that all of them come out.
//!
//! Threads meet at a barrier, and what they observe is counted beside the registry, in atomics of their own. What is
//! asserted holds in every interleaving; a run only looks for one in which it does not.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::admission::{Class, Decision, Dimension, Permit};
use tidegate::clock::Clock;

use super::{CALLS, JOBS, MESSAGES, World, account, class, limit};

const ASKED: usize = 2_000;
const THREADS: [usize; 5] = [1, 2, 4, 8, 16];

/// Asks `ASKED` times for every class from all threads at once, and holds what is admitted until all have asked;
/// gives the permits by class.
fn storm(world: &World, classes: &[Class], threads: usize) -> Vec<Vec<Permit>> {
    let barrier = Barrier::new(threads);
    let ask = |offset: usize| {
        let mut permits: Vec<Vec<Permit>> = classes.iter().map(|_| Vec::new()).collect();
        barrier.wait();
        for _ in 0..ASKED / threads {
            for index in 0..classes.len() {
                // Each thread begins at another class, so that all cells are contended throughout.
                let index = (index + offset) % classes.len();
                if let Decision::Admit(permit) = world.acquire(&classes[index]) {
                    permits[index].push(permit);
                }
            }
        }
        permits
    };
    thread::scope(|scope| {
        let askers: Vec<_> = (0..threads)
            .map(|offset| scope.spawn(move || ask(offset)))
            .collect();
        let mut all: Vec<Vec<Permit>> = classes.iter().map(|_| Vec::new()).collect();
        for asker in askers {
            let permits = asker.join().expect("no asker panics");
            all.iter_mut()
                .zip(permits)
                .for_each(|(all, permits)| all.extend(permits));
        }
        all
    })
}

// A1: N+1 are never there, from however many threads they come.
#[test]
fn of_two_thousand_simultaneous_requests_a_limit_of_a_hundred_admits_a_hundred() {
    let world = World::new(&[limit("account", &[Dimension::Account], 100)]);
    let classes = [class("acme", CALLS)];
    for threads in THREADS {
        for round in 0..10 {
            let permits = storm(&world, &classes, threads);
            assert_eq!(permits[0].len(), 100, "{threads} threads, round {round}");
            assert_eq!(world.in_flight("account", &classes[0]), 100);
            drop(permits);
            world.assert_empty();
        }
    }
}

// A1, A9, A10: each of many keys is exact by itself, those with a limit of their own and those without.
#[test]
fn each_of_many_keys_admits_exactly_its_own_limit() {
    let mut per_account = limit("account", &[Dimension::Account], 100);
    per_account.account_max = vec![(account("account-3"), 37), (account("account-5"), 250)];
    let world = World::new(&[per_account]);
    let classes: Vec<_> = (0..12)
        .map(|n| class(&format!("account-{n}"), CALLS))
        .collect();
    for threads in THREADS {
        let permits = storm(&world, &classes, threads);
        let admitted: Vec<_> = permits.iter().map(Vec::len).collect();
        let wanted = [100, 100, 100, 37, 100, 250, 100, 100, 100, 100, 100, 100];
        assert_eq!(admitted, wanted, "{threads} threads");
        drop(permits);
        world.assert_empty();
    }
}

// A1, A8, G3: where two limits apply the narrower sum is exact too, and a lost race leaves nothing behind.
#[test]
fn a_wide_limit_over_many_accounts_is_never_passed() {
    let world = World::new(&[
        limit("whole", &[], 150),
        limit("account", &[Dimension::Account], 100),
    ]);
    let classes: Vec<_> = (0..4)
        .map(|n| class(&format!("account-{n}"), CALLS))
        .collect();
    for threads in THREADS {
        let permits = storm(&world, &classes, threads);
        let admitted: Vec<_> = permits.iter().map(Vec::len).collect();
        assert!(admitted.iter().all(|&count| count <= 100), "{admitted:?}");
        assert_eq!(
            admitted.iter().sum::<usize>(),
            150,
            "{threads} threads: {admitted:?}"
        );
        drop(permits);
        world.assert_empty();
    }
}

/// Counts beside the registry how many hold a place now.
#[derive(Default)]
struct Watch {
    holding: AtomicU32,
    most: AtomicU32,
}

impl Watch {
    fn enter(&self) {
        let holding = self.holding.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(holding, Ordering::SeqCst);
    }

    /// To be called before the permit is dropped, so that the watch never counts more than the cell.
    fn leave(&self) {
        self.holding.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the threads of a churn share.
struct Churn {
    world: World,
    accounts: [Watch; 4],
    whole: Watch,
    admitted: AtomicU32,
}

/// A thread's permits, each with the index of its account.
type Held = Vec<(usize, Permit)>;

impl Churn {
    const ACCOUNT_MAX: u32 = 5;
    const WHOLE_MAX: u32 = 12;

    fn new() -> Self {
        let world = World::new(&[
            limit("whole", &[], Self::WHOLE_MAX),
            limit("account", &[Dimension::Account], Self::ACCOUNT_MAX),
            limit(
                "pair",
                &[Dimension::Account, Dimension::Resource],
                Self::ACCOUNT_MAX - 1,
            ),
        ]);
        let accounts = std::array::from_fn(|_| Watch::default());
        Self {
            world,
            accounts,
            whole: Watch::default(),
            admitted: AtomicU32::new(0),
        }
    }

    fn take(&self, random: &mut fastrand::Rng, held: &mut Held) {
        let index = random.usize(..self.accounts.len());
        let resource = [CALLS, MESSAGES, JOBS][random.usize(..3)];
        let class = class(&format!("account-{index}"), resource);
        if let Decision::Admit(permit) = self.world.acquire(&class) {
            self.accounts[index].enter();
            self.whole.enter();
            self.admitted.fetch_add(1, Ordering::Relaxed);
            held.push((index, permit));
        }
    }

    fn give(&self, held: &mut Held, at: usize) {
        let (index, permit) = held.swap_remove(at);
        self.accounts[index].leave();
        self.whole.leave();
        drop(permit);
    }

    /// Takes and gives until `end`, now and then everything, so that cells fall idle.
    fn work(&self, seed: u64, clock: &Clock, end: Instant) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut held = Held::new();
        while clock.now() < end {
            for _ in 0..64 {
                if held.is_empty() || (held.len() < 6 && random.bool()) {
                    self.take(&mut random, &mut held);
                } else {
                    let at = random.usize(..held.len());
                    self.give(&mut held, at);
                }
            }
            while !held.is_empty() {
                self.give(&mut held, 0);
            }
        }
    }

    /// Runs six threads for `time`, beside one that sweeps without pause if asked for.
    fn run(&self, time: Duration, is_swept: bool) {
        let clock = Clock::default();
        let end = clock.now() + time;
        thread::scope(|scope| {
            let clock = &clock;
            for seed in 0..6 {
                scope.spawn(move || self.work(seed, clock, end));
            }
            while is_swept && clock.now() < end {
                self.world.registry.sweep(self.world.clock.now());
                thread::yield_now();
            }
        });
    }

    fn assert_exact(&self) {
        for watch in &self.accounts {
            assert!(
                watch.most.load(Ordering::SeqCst) <= Self::ACCOUNT_MAX,
                "an account's limit"
            );
        }
        assert!(
            self.whole.most.load(Ordering::SeqCst) <= Self::WHOLE_MAX,
            "the whole's limit"
        );
        assert!(
            self.admitted.load(Ordering::Relaxed) > 1_000,
            "hardly anything was admitted"
        );
        self.world.assert_empty();
    }
}

// A1, A3: while permits come and go, nobody ever sees more holders than places, and all end at 0.
#[test]
fn what_is_in_flight_never_passes_the_limit_while_permits_come_and_go() {
    let churn = Churn::new();
    churn.run(Duration::from_secs(2), false);
    churn.assert_exact();
}

// A1, G18: a sweeper that removes cells under the takers' hands loses and doubles no count.
#[test]
fn sweeps_in_the_middle_of_a_churn_lose_no_count() {
    let churn = Churn::new();
    churn.run(Duration::from_secs(2), true);
    churn.assert_exact();
    churn.world.registry.sweep(churn.world.clock.now());
    churn.world.registry.sweep(churn.world.clock.now());
    assert_eq!(churn.world.registry.cells(), 0);
}
