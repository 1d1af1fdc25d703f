//! Seeded simulation of those who wait for what time gives back, against a model of each count that is too simple to err.
//!
//! After every step whoever keeps the time serves. Then nobody may have been let in who did not fit, nobody may wait who fits,
//! and as long as somebody waits for time there is an instant for it. A second test does the same with real threads and without a
//! model: nobody is forgotten. `SIM_SEED=7` replays one seed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tidegate::admission::{Counted, Decision, Dimension, Outcome, Permit, Turn, Wait};
use tidegate::clock::Clock;

use super::due::counting;
use super::simulation::Seed;
use super::{CALLS, World, class, limit, look, seeds};

const SEEDS: u64 = 150;
const STEPS: usize = 300;
/// Divides by sixteen without a rest.
const WINDOW: Duration = Duration::from_millis(1_600);
const SLOT: Duration = Duration::from_millis(100);
const ACCOUNTS: [&str; 4] = ["acme", "other", "third", "gold-1"];

/// One count, by its definition.
struct Model {
    counted: Counted,
    max: u32,
    base: Instant,
    /// When a start at an even pace would be due.
    due: Duration,
    /// Slots of what began and goes on.
    started: Vec<u128>,
    /// Slots of what ended.
    ended: Vec<u128>,
}

impl Model {
    fn slot(&self, at: Instant) -> u128 {
        (at - self.base).as_nanos() / SLOT.as_nanos()
    }

    /// Whether one more fits.
    fn fits(&self, now: Instant) -> bool {
        let slot = self.slot(now);
        let of_late = |slots: &[u128]| slots.iter().filter(|&&of| slot - of < 17).count();
        let max = self.max as usize;
        match self.counted {
            Counted::StartsPer(_) => {
                let pace = WINDOW.as_nanos() / u128::from(self.max.max(1));
                let ahead = self.due.saturating_sub(now - self.base).as_nanos();
                self.max > 0 && ahead.div_ceil(pace) < u128::from(self.max)
            }
            Counted::StartedWithin(_) => of_late(&self.started) < max,
            Counted::CompletionsPer(_) => self.started.len() + of_late(&self.ended) < max,
            Counted::InFlight => unreachable!("time gives nothing back"),
        }
    }

    fn start(&mut self, now: Instant) {
        assert!(self.fits(now), "one was let in that does not fit");
        if matches!(self.counted, Counted::StartsPer(_)) {
            let pace = WINDOW.as_nanos() / u128::from(self.max);
            let pace = Duration::from_nanos(u64::try_from(pace).expect("it is short"));
            self.due = self.due.max(now - self.base) + pace;
        }
        self.started.push(self.slot(now));
    }

    fn end(&mut self, started: u128, now: Instant, is_completed: bool) {
        let at = self.started.iter().position(|&of| of == started);
        self.started.swap_remove(at.expect("it began"));
        if is_completed {
            self.ended.push(self.slot(now));
        }
    }
}

struct Simulation {
    random: Rng,
    world: World,
    model: Model,
    held: Vec<(u128, Permit)>,
    waits: Vec<Wait>,
    per: Vec<Dimension>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let counted = [
            Counted::StartsPer(WINDOW),
            Counted::StartedWithin(WINDOW),
            Counted::CompletionsPer(WINDOW),
        ][random.usize(..3)];
        let max = random.u32(1..6);
        let per = if random.bool() {
            vec![]
        } else {
            vec![Dimension::Resource]
        };
        let world = World::new(&[counting(counted, &per, max)]);
        let model = Model {
            counted,
            max,
            base: world.clock.now(),
            due: Duration::ZERO,
            started: Vec::new(),
            ended: Vec::new(),
        };
        let mut simulation = Self {
            random,
            world,
            model,
            held: Vec::new(),
            waits: Vec::new(),
            per,
        };
        // The first to come sets the instant from which slots are counted.
        simulation.ask();
        simulation
    }

    fn step(&mut self) {
        match self.random.u32(..100) {
            0..45 => self.ask(),
            45..65 => self.end(),
            65..72 if !self.waits.is_empty() => {
                let at = self.random.usize(..self.waits.len());
                drop(self.waits.swap_remove(at));
            }
            72..76 => self.reload(),
            // One that comes anew counts its slots from another instant; while somebody waits it stays.
            76..78 if !self.waits.is_empty() => self.world.registry.sweep(self.world.clock.now()),
            78..86 => {
                let due = self.world.registry.next_due();
                let left = due.map(|due| due - self.world.clock.now());
                // Exactly then, or so shortly before that nobody may come.
                let early = Duration::from_nanos(self.random.u64(..2));
                self.world
                    .clock
                    .advance(left.unwrap_or_default().saturating_sub(early));
            }
            _ => {
                let millis = self.random.u64(..300);
                self.world.clock.advance(Duration::from_millis(millis));
            }
        }
        self.world.registry.serve_due(self.world.clock.now());
        self.check();
    }

    fn ask(&mut self) {
        let who = ACCOUNTS[self.random.usize(..ACCOUNTS.len())];
        let now = self.world.clock.now();
        match self.world.acquire(&class(who, CALLS)) {
            Decision::Admit(permit) => {
                self.model.start(now);
                self.held.push((self.model.slot(now), permit));
            }
            Decision::Wait(wait) => self.waits.push(wait),
            Decision::Reject(_) => assert_eq!(self.model.max, 0, "only a closed limit refuses"),
        }
    }

    fn end(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let at = self.random.usize(..self.held.len());
        let (started, permit) = self.held.swap_remove(at);
        let now = self.world.clock.now();
        let is_completed = self.random.bool();
        self.model.end(started, now, is_completed);
        if is_completed {
            permit.finish(Outcome::Success, now);
        } else {
            permit.finish(Outcome::Ignore, now);
        }
    }

    fn reload(&mut self) {
        self.check();
        self.model.max = self.random.u32(..6);
        let limit = counting(self.model.counted, &self.per, self.model.max);
        assert!(self.world.reload(&[limit]).is_empty());
    }

    fn check(&mut self) {
        let now = self.world.clock.now();
        let (model, held) = (&mut self.model, &mut self.held);
        self.waits.retain_mut(|wait| match look(wait) {
            None => true,
            Some(Turn::Admit(permit)) => {
                model.start(now);
                held.push((model.slot(now), permit));
                false
            }
            Some(other) => panic!("nobody ends it: {other:?}"),
        });
        assert_eq!(self.world.registry.waiting(), self.waits.len());
        let due = self.world.registry.next_due();
        assert!(due.is_none_or(|due| due > now));
        if self.waits.is_empty() {
            assert_eq!(due, None);
            return;
        }
        assert!(
            !model.fits(now),
            "one waits that fits: {:?}, at most {}, at {:?}, due {due:?}",
            model.counted,
            model.max,
            now - model.base,
        );
        let holds_all = matches!(model.counted, Counted::CompletionsPer(_))
            && model.started.len() >= model.max as usize;
        assert_eq!(due.is_none(), holds_all || model.max == 0, "{due:?}");
    }
}

// A11, A15, A26, A29, A34: over any mix of requests, ends, departures, reloads and time, whoever waits is let in when it fits, and
// not before.
#[test]
fn a_simulation_of_waiting_for_time_agrees_with_its_model() {
    for seed in seeds(SEEDS) {
        let seed = Seed(seed);
        let mut simulation = Simulation::new(seed.0);
        (0..STEPS).for_each(|_| simulation.step());
        simulation.held.clear();
        simulation.waits.clear();
        let world = &simulation.world;
        assert_eq!(world.registry.next_due(), None);
        world.clock.advance(3 * WINDOW);
        for _ in 0..3 {
            world.registry.sweep(world.clock.now());
        }
        assert_eq!(world.registry.cells(), 0);
    }
}

// A8, A29, A34: on several threads, with starts that are taken back because another limit refuses, nobody is forgotten.
#[test]
fn nobody_who_waits_for_time_is_forgotten_between_threads() {
    const ASKS: usize = 3_000;
    for counted in [
        Counted::StartsPer(WINDOW),
        Counted::StartedWithin(WINDOW),
        Counted::CompletionsPer(WINDOW),
    ] {
        let narrow = limit("narrow", &[], 2);
        let world = &World::new(&[counting(counted, &[Dimension::Resource], 3), narrow]);
        let left = &AtomicUsize::new(ACCOUNTS.len());
        std::thread::scope(|scope| {
            for name in &ACCOUNTS {
                scope.spawn(move || {
                    let class = class(name, CALLS);
                    for _ in 0..ASKS {
                        if let Some(permit) = patiently(world, world.acquire(&class)) {
                            permit.finish(Outcome::Success, world.clock.now());
                        }
                    }
                    left.fetch_sub(1, Ordering::SeqCst);
                });
            }
            let began = Clock::default().now();
            while left.load(Ordering::SeqCst) > 0 {
                // Nothing but the instants of those who wait moves the time: one without an instant would wait for ever.
                if world.registry.next_due().is_some() {
                    let now = world.clock.now();
                    let due = world.registry.next_due();
                    let left = due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
                    world.clock.advance(left);
                    world.registry.serve_due(world.clock.now());
                }
                std::thread::yield_now();
                let took = Clock::default().now() - began;
                assert!(took < Duration::from_secs(60), "somebody is forgotten");
            }
        });
        assert_eq!(world.registry.waiting(), 0);
        assert_eq!(world.registry.next_due(), None);
    }
}

/// The permit, once it is there.
fn patiently(world: &World, decision: Decision) -> Option<Permit> {
    match decision {
        Decision::Admit(permit) => Some(permit),
        Decision::Reject(_) => None,
        Decision::Wait(mut wait) => loop {
            match look(&mut wait) {
                None => std::thread::yield_now(),
                Some(Turn::Admit(permit)) => return Some(permit),
                Some(Turn::Reject(_)) => return None,
                Some(Turn::Resume(ask)) => {
                    return patiently(world, world.registry.resume(ask, world.clock.now()));
                }
                Some(Turn::Renew(_)) => unreachable!("no limit comes or goes"),
            }
        },
    }
}
