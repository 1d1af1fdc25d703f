//! Credit for those who lately held less than their part: the rule, written down plainly, and what it must never allow.
//!
//! The rule goes in steps of one place granted and in floating point; the domain goes from event to event and in integers. The
//! oracle of `fairness` asks it who is next. An adversary, who comes and goes to harvest credit, is simulated by seed, with time by hand.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use fastrand::Rng;
use tidegate::admission::{Decision, LimitSettings, Permit, Step, Turn, Wait};

use super::simulation::Seed;
use super::waiting::{queue, with};
use super::{CALLS, World, class, limit, look, seeds};

/// As in `admission::lately`.
pub(super) const CREDIT_MAX: u32 = 4;
const MEMORY: u32 = 20;

/// What is known of the accounts of one line.
#[derive(Default)]
pub(super) struct Rule {
    taken: u32,
    granted: u32,
    /// What each lately held on average, and holds.
    known: BTreeMap<&'static str, (f64, u32)>,
}

/// An account that waits: its name, what it holds, its weight and that of all that wait.
pub(super) type Asking = (&'static str, u32, u32, u32);

impl Rule {
    /// A line begins where so many places are taken.
    pub(super) fn new(taken: u32) -> Self {
        Self {
            taken,
            ..Self::default()
        }
    }

    fn memory(&self) -> u32 {
        MEMORY * self.taken
    }

    fn first_mean(&self, held: u32, weight: u32, weights: u32) -> f64 {
        let part = f64::from(self.taken * weight) / f64::from(weights);
        let is_young = self.granted < self.memory();
        f64::from(held).max(if is_young { part } else { 0.0 })
    }

    /// How many requests that it holds do not count.
    pub(super) fn credit(&self, (name, held, weight, weights): Asking) -> u32 {
        let known = self.known.get(name).map(|(mean, _)| *mean);
        let mean = known.unwrap_or_else(|| self.first_mean(held, weight, weights));
        // 4 at half the part, 0 at the part, and 8 for the whole of it between; all of it times the weights.
        let scale = f64::from(2 * CREDIT_MAX);
        let part = f64::from(self.taken * weight);
        let is_below = |credit: &u32| {
            let rest = f64::from(2 * CREDIT_MAX - credit);
            mean * scale * f64::from(weights) <= part * rest
        };
        (1..=CREDIT_MAX).rev().find(is_below).unwrap_or(0)
    }

    /// One of those who wait gets a place, and so many are taken then.
    pub(super) fn grant(&mut self, (name, held, weight, weights): Asking, taken: u32) {
        self.taken = taken;
        self.granted += 1;
        let memory = f64::from(self.memory());
        for (mean, level) in self.known.values_mut() {
            *mean += (f64::from(*level) - *mean) / memory;
        }
        let first = self.first_mean(held - 1, weight, weights);
        self.known.entry(name).or_insert((first, 0)).1 = held;
    }

    /// A place comes back from one that waits.
    pub(super) fn give_back(&mut self, (name, held, weight, weights): Asking) {
        let first = self.first_mean(held + 1, weight, weights);
        self.known.entry(name).or_insert((first, 0)).1 = held;
    }

    /// The same from one that does not wait: nobody looks what it holds.
    pub(super) fn give_back_unseen(&mut self, name: &str) {
        if let Some((_, level)) = self.known.get_mut(name) {
            *level = level.saturating_sub(1);
        }
    }
}

const PLACES: u32 = 32;
const ELEPHANTS: usize = 14;
/// The one that comes and goes, and the one that has as many requests under way as its part is.
const ADVERSARY: &str = "adversary";
const STEADY: &str = "steady";
const PART: f64 = PLACES as f64 / (ELEPHANTS + 2) as f64;
const NAMES: [&str; ELEPHANTS] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n",
];

/// Work of one hold time on average, exponentially distributed; a heap of what ends when.
struct Pause {
    random: Rng,
    world: World,
    now: f64,
    /// By when they end, in millionths of a hold time.
    ends: BinaryHeap<Reverse<(u64, usize)>>,
    held: BTreeMap<usize, (&'static str, f64, Permit)>,
    waiting: Vec<(&'static str, f64, Wait)>,
    numbers: usize,
    /// Places times hold times, by account.
    areas: BTreeMap<&'static str, f64>,
    /// From asking to the end.
    latencies: Vec<f64>,
    most_of_adversary: usize,
}

impl Pause {
    fn new(seed: u64) -> Self {
        let limit: LimitSettings = limit("whole", &[], PLACES);
        Self {
            random: Rng::with_seed(seed),
            world: World::new(&[with(limit, &[Step::Queue(queue(10_000))])]),
            now: 0.0,
            ends: BinaryHeap::new(),
            held: BTreeMap::new(),
            waiting: Vec::new(),
            numbers: 0,
            areas: BTreeMap::new(),
            latencies: Vec::new(),
            most_of_adversary: 0,
        }
    }

    fn under_way(&self, name: &str) -> (usize, usize) {
        let held = self.held.values().filter(|of| of.0 == name).count();
        let waiting = self.waiting.iter().filter(|of| of.0 == name).count();
        (held, waiting)
    }

    fn ask(&mut self, name: &'static str) {
        match self.world.acquire(&class(name, CALLS)) {
            Decision::Admit(permit) => self.begin(name, self.now, permit),
            Decision::Wait(wait) => self.waiting.push((name, self.now, wait)),
            Decision::Reject(rejection) => panic!("{rejection:?}"),
        }
    }

    fn begin(&mut self, name: &'static str, asked: f64, permit: Permit) {
        let work = -(1.0 - self.random.f64()).ln();
        self.numbers += 1;
        self.ends
            .push(Reverse((((self.now + work) * 1e6) as u64, self.numbers)));
        self.held.insert(self.numbers, (name, asked, permit));
    }

    /// The next work ends, and whoever is served begins.
    fn step(&mut self) {
        let Reverse((at, number)) = self.ends.pop().expect("work is under way");
        let at = at as f64 / 1e6;
        let length = at - self.now;
        for (name, ..) in self.held.values() {
            *self.areas.entry(*name).or_default() += length;
        }
        self.now = at;
        let (name, asked, permit) = self.held.remove(&number).unwrap();
        drop(permit);
        if name == STEADY {
            self.latencies.push(self.now - asked);
        }
        let mut served = Vec::new();
        self.waiting
            .retain_mut(|(name, asked, wait)| match look(wait) {
                Some(Turn::Admit(permit)) => {
                    served.push((*name, *asked, permit));
                    false
                }
                Some(other) => panic!("{other:?}"),
                None => true,
            });
        for (name, asked, permit) in served {
            self.begin(name, asked, permit);
        }
        self.most_of_adversary = self.most_of_adversary.max(self.under_way(ADVERSARY).0);
    }

    /// For so many hold times everybody asks, the adversary only while it is `on` by the time.
    fn run(mut self, hold_times: f64, mut on: impl FnMut(f64) -> bool) -> Self {
        while self.now < hold_times {
            for name in NAMES {
                for _ in self.under_way(name).1..3 {
                    self.ask(name);
                }
            }
            let (held, waiting) = self.under_way(STEADY);
            for _ in held + waiting..2 {
                self.ask(STEADY);
            }
            if on(self.now) {
                for _ in self.under_way(ADVERSARY).1..8 {
                    self.ask(ADVERSARY);
                }
            } else {
                // It takes back what waits: what it holds then goes down as fast as it can.
                self.waiting.retain(|of| of.0 != ADVERSARY);
            }
            self.step();
        }
        self
    }

    fn mean_of(&self, name: &str) -> f64 {
        self.areas.get(name).map_or(0.0, |area| area / self.now)
    }

    fn p95(&mut self) -> f64 {
        self.latencies.sort_by(f64::total_cmp);
        self.latencies[self.latencies.len() * 95 / 100]
    }
}

// G2: who pauses and floods in turns, for however long, has no more than its part of the time, and others have theirs.
#[test]
fn an_adversary_that_pauses_for_credit_gains_nothing() {
    const HOLD_TIMES: f64 = 600.0;
    for seed in seeds(5) {
        let seed = Seed(seed);
        let mut patterns = Rng::with_seed(seed.0);
        // From one hold time to 32, and paused for a quarter of that to four times as long.
        let on = 32_f64.powf(patterns.f64());
        let off = on * 16_f64.powf(patterns.f64() - 0.5);
        let paused = Pause::new(seed.0).run(HOLD_TIMES, |now| now % (on + off) < on);
        let always = Pause::new(seed.0).run(HOLD_TIMES, |_| true);
        let (mut paused, mut always) = (paused, always);
        let gained = paused.mean_of(ADVERSARY);
        let most = paused.most_of_adversary as u32;
        assert!(most <= PART as u32 + 1 + CREDIT_MAX, "{most} at once");
        let rest = (f64::from(PLACES) - gained - paused.mean_of(STEADY)) / ELEPHANTS as f64;
        assert!(gained <= 1.05 * rest, "{gained} of {rest}: {on} and {off}");
        assert!(rest >= 0.98 * PART, "{rest} of {PART}: {on} and {off}");
        for name in NAMES {
            let mean = paused.mean_of(name);
            assert!((mean / rest - 1.0).abs() < 0.03, "{name}: {mean} of {rest}");
        }
        let (paused, always) = (paused.p95(), always.p95());
        println!(
            "{on:.1} {off:.1}: {gained:.3} most {most} rest {rest:.3} p95 {paused:.2} {always:.2}"
        );
        assert!(paused <= 1.1 * always, "{paused} and not {always}");
    }
}
