//! Fairness against an oracle, and waiting under random use with invariants at every step.
//!
//! The oracle is the rule itself, applied to a plain list: the smallest `(in flight - credit + 1) / weight`, then who was served
//! longest ago (or came then, if it never was), and every eighth time whoever has waited longest of those that hold no more than their
//! part. The simulation knows no rule, only what must never be: places that are free while somebody who fits waits, counts above a
//! maximum, queues above a bound, somebody forgotten.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use proptest::prelude::*;
use tidegate::admission::{
    Class, Decision, Dimension, LimitSettings, Permit, Priority, Queue, Step, Turn, Wait,
};

use super::credit::{self, CREDIT_MAX};
use super::simulation::Seed;
use super::waiting::{queue, with};
use super::{CALLS, MESSAGES, World, class, limit, look, seeds};

const NAMES: [&str; 5] = ["a", "b", "c", "gold-1", "gold-2"];
const WEIGHT_OF_GOLD: u32 = 3;
/// As in `admission::fairness`.
const OLDEST_EVERY: u32 = 8;

/// One that waits, as the oracle sees it.
struct Waiting {
    name: &'static str,
    arrival: usize,
    wait: Wait,
}

/// A world with one limit for all, and the plain list.
struct Oracle {
    world: World,
    held: Vec<(&'static str, Permit)>,
    waiting: Vec<Waiting>,
    arrivals: usize,
    grants: u32,
    /// When each account was last served after a wait.
    served: BTreeMap<&'static str, usize>,
    /// Of those that wait: when they were last served, or came.
    turns: BTreeMap<&'static str, usize>,
    rule: credit::Rule,
    /// Of those that wait: the credit they have left, and where they stood when they were last looked at.
    credits: BTreeMap<&'static str, u32>,
    keys: BTreeMap<&'static str, (u64, usize)>,
}

fn weight(name: &str) -> u32 {
    if name.starts_with("gold-") {
        WEIGHT_OF_GOLD
    } else {
        1
    }
}

/// So many for that weight, as whole numbers compare it.
fn ratio(count: u32, name: &str) -> u64 {
    (u64::from(count) << 16) / u64::from(weight(name))
}

impl Oracle {
    fn new(max: u32) -> Self {
        let mut world = World::new(&[]);
        world.weigh_gold(WEIGHT_OF_GOLD);
        // Long enough for all steps: who has to go from a full line is another rule.
        let line = Step::Queue(queue(1_000));
        world.reload(&[with(limit("whole", &[], max), &[line])]);
        Self {
            world,
            held: Vec::new(),
            waiting: Vec::new(),
            arrivals: 0,
            grants: 0,
            served: BTreeMap::new(),
            turns: BTreeMap::new(),
            rule: credit::Rule::default(),
            credits: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    fn holds(&self, name: &str) -> u32 {
        self.held.iter().filter(|(of, _)| *of == name).count() as u32
    }

    fn waits(&self, name: &str) -> usize {
        self.waiting.iter().filter(|of| of.name == name).count()
    }

    fn weights(&self) -> u32 {
        let names: BTreeSet<_> = self.waiting.iter().map(|of| of.name).collect();
        names.into_iter().map(weight).sum()
    }

    fn asking(&self, name: &'static str) -> credit::Asking {
        (name, self.holds(name), weight(name), self.weights())
    }

    fn credit(&self, name: &'static str) -> u32 {
        self.rule.credit(self.asking(name)).min(self.credits[name])
    }

    fn key(&self, name: &'static str) -> (u64, usize) {
        let counted = self.holds(name).saturating_sub(self.credit(name));
        (ratio(counted + 1, name), self.turns[name])
    }

    /// Looks anew where one that waits stands; what it has lost of its credit it does not get back.
    fn arrange(&mut self, name: &'static str) {
        if self.waits(name) > 0 {
            let (credit, key) = (self.credit(name), self.key(name));
            self.credits.insert(name, credit);
            self.keys.insert(name, key);
        }
    }

    fn arrive(&mut self, name: &'static str) {
        match self.world.acquire(&class(name, CALLS)) {
            Decision::Admit(permit) => {
                assert!(self.waiting.is_empty(), "it overtook those who wait");
                self.held.push((name, permit));
            }
            Decision::Wait(wait) => {
                if self.waiting.is_empty() {
                    self.rule = credit::Rule::new(self.held.len() as u32);
                }
                self.arrivals += 1;
                let served = self.served.get(name).copied();
                self.turns
                    .entry(name)
                    .or_insert(served.unwrap_or(self.arrivals));
                self.waiting.push(Waiting {
                    name,
                    arrival: self.arrivals,
                    wait,
                });
                self.credits.entry(name).or_insert(CREDIT_MAX);
                self.arrange(name);
            }
            Decision::Reject(rejection) => panic!("{rejection:?}"),
        }
    }

    /// Who is next by the rule.
    fn next(&mut self) -> Option<usize> {
        let (places, weights) = (self.held.len() as u32 + 1, self.weights());
        let is_within =
            |of: &(usize, &Waiting)| self.holds(of.1.name) * weights <= places * weight(of.1.name);
        if (self.grants + 1).is_multiple_of(OLDEST_EVERY) {
            let list = self.waiting.iter().enumerate();
            let oldest = list.filter(is_within).min_by_key(|of| of.1.arrival);
            if let Some((index, _)) = oldest {
                return Some(index);
            }
        }
        let name = loop {
            let (&name, &known) = self.keys.iter().min_by_key(|(_, key)| **key)?;
            if self.key(name) == known {
                break name;
            }
            self.arrange(name);
        };
        self.assert_bounded(name);
        let own = self
            .waiting
            .iter()
            .enumerate()
            .filter(|(_, of)| of.name == name);
        own.min_by_key(|(_, of)| of.arrival).map(|(index, _)| index)
    }

    /// Whatever its credit, it is ahead of nobody by more than that, and never of one that holds nothing and was served before it.
    fn assert_bounded(&self, name: &str) {
        let least = self.holds(name).saturating_sub(CREDIT_MAX) + 1;
        for of in &self.waiting {
            assert!(ratio(least, name) <= ratio(self.holds(of.name) + 1, of.name));
        }
    }

    /// Gives a place back; whoever is served must be the one by the rule.
    fn release(&mut self, index: usize) {
        if self.held.is_empty() {
            return;
        }
        let (name, permit) = self.held.swap_remove(index % self.held.len());
        drop(permit);
        if self.waits(name) > 0 {
            self.rule.give_back(self.asking(name));
            self.arrange(name);
        } else {
            self.rule.give_back_unseen(name);
        }
        let expected = self.next();
        let mut served = Vec::new();
        for (index, waiting) in self.waiting.iter_mut().enumerate() {
            if let Some(Turn::Admit(permit)) = look(&mut waiting.wait) {
                served.push((index, permit));
            }
        }
        let who: Vec<_> = served.iter().map(|(index, _)| *index).collect();
        assert_eq!(who, expected.into_iter().collect::<Vec<_>>());
        for (index, permit) in served {
            let name = self.waiting[index].name;
            self.held.push((name, permit));
            self.rule.grant(self.asking(name), self.held.len() as u32);
            self.waiting.remove(index);
            self.grants += 1;
            self.arrivals += 1;
            self.served.insert(name, self.arrivals);
            self.turns.insert(name, self.arrivals);
            self.arrange(name);
        }
        self.forget_who_left();
    }

    /// Who waits no longer has no turn, and a line that was empty begins to count its grants anew.
    fn forget_who_left(&mut self) {
        let waiting = &self.waiting;
        self.turns
            .retain(|name, _| waiting.iter().any(|of| of.name == *name));
        self.credits.retain(|name, _| self.turns.contains_key(name));
        self.keys.retain(|name, _| self.turns.contains_key(name));
        if self.waiting.is_empty() {
            self.grants = 0;
        }
    }

    fn leave(&mut self, index: usize) {
        if !self.waiting.is_empty() {
            let index = index % self.waiting.len();
            let name = self.waiting.remove(index).name;
            self.arrange(name);
            self.forget_who_left();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    // G2, A34: every place that falls free goes to the account that the max-min rule names.
    #[test]
    fn each_place_goes_where_max_min_by_occupancy_says(
        max in 1..12u32,
        steps in prop::collection::vec((0..10u8, 0..NAMES.len(), any::<usize>()), 1..300),
    ) {
        let mut oracle = Oracle::new(max);
        for (what, name, index) in steps {
            match what {
                0..6 => oracle.arrive(NAMES[name]),
                6..9 => oracle.release(index),
                _ => oracle.leave(index),
            }
        }
        while !oracle.held.is_empty() {
            oracle.release(0);
        }
        prop_assert!(oracle.waiting.is_empty(), "somebody was forgotten");
        oracle.world.assert_empty();
    }
}

// G2: among those who always wait nobody has credit, whatever the weights: turns are by what is held, and by nothing else.
#[test]
fn those_who_always_wait_have_no_credit() {
    for seed in seeds(20) {
        let seed = Seed(seed);
        let mut random = Rng::with_seed(seed.0);
        let mut oracle = Oracle::new(random.u32(1..40));
        for step in 0..400 {
            for name in NAMES {
                while oracle.waits(name) < 2 {
                    oracle.arrive(name);
                }
            }
            assert!(oracle.credits.values().all(|credit| *credit == 0), "{step}");
            oracle.release(random.usize(..1_000));
        }
    }
}

struct Simulation {
    random: Rng,
    world: World,
    held: Vec<Permit>,
    waiting: Vec<Wait>,
    limits: Vec<LimitSettings>,
    /// What each key held after the last step, by limit.
    before: BTreeMap<(String, Vec<(String, String)>), u32>,
}

const LENGTH: u32 = 30;

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let limits = random_limits(&mut random);
        Self {
            world: World::new(&limits),
            random,
            held: Vec::new(),
            waiting: Vec::new(),
            limits,
            before: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        match self.random.u32(..100) {
            0..50 => self.arrive(),
            50..76 => self.release(),
            76..80 => self.come_near_completion(),
            80..86 => self.leave(),
            86..92 => self.give_up(),
            92..96 => self.change_a_maximum(),
            96..98 => self.change_the_limits(),
            _ => self.world.registry.sweep(self.world.clock.now()),
        }
        self.collect();
        self.check();
    }

    fn arrive(&mut self) {
        let name = NAMES[self.random.usize(..NAMES.len())];
        let resource = [CALLS, MESSAGES][self.random.usize(..2)];
        let priority = [Priority::Low, Priority::Normal, Priority::High][self.random.usize(..3)];
        let class = Class {
            priority,
            ..class(name, resource)
        };
        let decision = self.world.acquire(&class);
        self.take(decision);
    }

    fn take(&mut self, decision: Decision) {
        match decision {
            Decision::Admit(permit) => self.held.push(permit),
            Decision::Wait(wait) => self.waiting.push(wait),
            Decision::Reject(_) => {}
        }
    }

    fn release(&mut self) {
        if !self.held.is_empty() {
            let index = self.random.usize(..self.held.len());
            drop(self.held.swap_remove(index));
        }
    }

    fn come_near_completion(&mut self) {
        if !self.held.is_empty() {
            let index = self.random.usize(..self.held.len());
            self.held[index].nears_completion();
        }
    }

    fn leave(&mut self) {
        if !self.waiting.is_empty() {
            let index = self.random.usize(..self.waiting.len());
            drop(self.waiting.swap_remove(index));
        }
    }

    fn give_up(&mut self) {
        if !self.waiting.is_empty() {
            let index = self.random.usize(..self.waiting.len());
            let turn = self.waiting.swap_remove(index).give_up();
            self.end(turn);
        }
    }

    fn end(&mut self, turn: Turn) {
        let now = self.world.clock.now();
        match turn {
            Turn::Admit(permit) => self.held.push(permit),
            Turn::Reject(_) => {}
            Turn::Resume(ask) => {
                let decision = self.world.registry.resume(ask, now);
                self.take(decision);
            }
            Turn::Renew(ask) => {
                let class = class(NAMES[self.random.usize(..NAMES.len())], CALLS);
                let ask = ask.renewed(&self.world.policy, &class);
                let decision = self.world.registry.resume(ask, now);
                self.take(decision);
            }
        }
    }

    /// What has become of those who wait. One that goes on may take the place of another, so it is looked for again.
    fn collect(&mut self) {
        loop {
            let mut ended = Vec::new();
            self.waiting.retain_mut(|wait| match look(wait) {
                Some(turn) => {
                    ended.push(turn);
                    false
                }
                None => true,
            });
            if ended.is_empty() {
                return;
            }
            ended.into_iter().for_each(|turn| self.end(turn));
        }
    }

    fn change_a_maximum(&mut self) {
        let index = self.random.usize(..self.limits.len());
        self.limits[index].max = self.random.u32(1..8);
        self.world.reload(&self.limits);
    }

    fn change_the_limits(&mut self) {
        self.limits = random_limits(&mut self.random);
        self.world.reload(&self.limits);
    }

    fn check(&mut self) {
        let (world, mut queued) = (&self.world, 0);
        let mut after = BTreeMap::new();
        for of in &self.limits {
            let limit = world.policy.limit(&of.name).expect("it is configured");
            for key in world.registry.keys(&world.policy, limit, usize::MAX) {
                assert!(key.queued <= LENGTH, "{key:?}");
                assert!(
                    key.queued == 0 || key.in_flight >= key.max,
                    "a place is free, and somebody waits for it: {} {key:?}",
                    of.name
                );
                queued += u64::from(key.queued);
                let of_key = (of.name.clone(), key.key);
                let has_risen = self.before.get(&of_key) < Some(&key.in_flight);
                assert!(
                    !has_risen || key.in_flight <= key.max + of.ladder.early(),
                    "above the maximum: {of_key:?} {}",
                    key.in_flight
                );
                after.insert(of_key, key.in_flight);
            }
        }
        self.before = after;
        let snapshot = world.registry.snapshot(&world.policy);
        assert_eq!(snapshot.queued, self.waiting.len() as u64);
        assert_eq!(queued, snapshot.queued, "everybody stands in one line");
        assert_eq!(snapshot.in_flight, self.held.len() as u64);
        let mut places: BTreeMap<u64, u32> = BTreeMap::new();
        for (id, count) in self.held.iter().flat_map(Permit::places) {
            *places.entry(id).or_default() += count;
        }
        for (id, count) in world.counts() {
            assert_eq!(places.get(&id), Some(&count), "a cell and its permits");
        }
    }
}

/// Limits of one count and of many, some of which queue.
fn random_limits(random: &mut Rng) -> Vec<LimitSettings> {
    let dimensions: [&[Dimension]; 4] = [
        &[Dimension::Account, Dimension::Resource],
        &[Dimension::Account],
        &[Dimension::Resource],
        &[],
    ];
    let mut limits = Vec::new();
    for (index, per) in dimensions.into_iter().enumerate() {
        let limit = limit(&format!("limit-{index}"), per, random.u32(1..8));
        let queue = Queue {
            early: random.u32(..3),
            ..queue(LENGTH)
        };
        limits.push(if random.u32(..3) > 0 {
            with(limit, &[Step::Queue(queue)])
        } else {
            limit
        });
    }
    limits
}

// A11, A16, A34, G1, G2, G3, G15: nobody waits for what is free, no count rises above its maximum and `early`, no queue above its bound, and
// nobody is forgotten.
#[test]
fn a_simulation_of_waiting_keeps_its_invariants() {
    for seed in seeds(200) {
        let seed = Seed(seed);
        let mut simulation = Simulation::new(seed.0);
        (0..250).for_each(|_| simulation.step());
        while !simulation.held.is_empty() {
            simulation.release();
            simulation.collect();
            simulation.check();
        }
        assert!(simulation.waiting.is_empty(), "somebody was forgotten");
        simulation.world.assert_empty();
    }
}
