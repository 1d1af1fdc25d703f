//! A maximum that latency moves: who teaches it, whose number it is, and that those who wait get what it gains.
//!
//! How the number is found is tested where it is found; here it is only pushed up and down.

use std::time::Duration;

use tidegate::admission::{
    AdaptiveSettings, AdaptiveUse, Dimension, LimitSettings, Mode, Moves, Outcome, Permit,
    ResourceId, Step,
};

use super::waiting::{queue, served, with};
use super::{CALLS, MESSAGES, World, class, in_mode, limit};

const WINDOW: Duration = Duration::from_secs(1);
const LATENCY: Duration = Duration::from_millis(20);
const START: u32 = 10;

fn adaptive(per: &[Dimension], ceiling: u32) -> LimitSettings {
    let settings = AdaptiveSettings {
        ceiling,
        start: START,
        ..AdaptiveSettings::default()
    };
    let queue = Step::Queue(queue(100));
    let mut limit = with(limit("whole", per, START), &[queue]);
    limit.moves = Some(Moves::Adaptive(settings));
    limit
}

impl World {
    fn answer(&self, held: Vec<Permit>, outcome: Outcome) {
        self.clock.advance(LATENCY);
        for mut permit in held {
            permit.answered(outcome, None, self.clock.now());
            permit.finish(outcome, self.clock.now());
        }
    }

    /// A window of full use: all places are taken again and again, and all answers come alike.
    fn window(&self, resource: ResourceId, outcome: Outcome) {
        for _ in 0..20 {
            self.answer(self.fill(&class("acme", resource)), outcome);
        }
        self.conclude();
    }

    /// A window is over.
    fn conclude(&self) {
        self.clock.advance(WINDOW);
        let risen = self.policy.adapt(self.clock.now());
        self.registry.serve_risen(risen);
    }

    fn learned(&self, key: &str) -> AdaptiveUse {
        let found = self.policy.adaptive().find(|of| &*of.key == key);
        found.expect("the key has a number of its own")
    }

    fn places(&self, resource: ResourceId) -> u32 {
        let held = self.fill(&class("acme", resource));
        u32::try_from(held.len()).unwrap()
    }
}

// G17: while the upstream keeps up, the maximum rises, never beyond its ceiling, and whoever waits gets what it gains.
#[test]
fn it_rises_while_the_upstream_keeps_up_and_serves_who_waits() {
    let world = World::new(&[adaptive(&[], 14)]);
    world.conclude();
    let acme = class("acme", CALLS);
    for _ in 0..19 {
        world.answer(world.fill(&acme), Outcome::Success);
    }
    let held = world.fill(&acme);
    assert_eq!(held.len(), 10);
    let mut wait = world.wait(&acme);
    world.conclude();
    drop((served(&mut wait), held));
    for _ in 0..10 {
        world.window(CALLS, Outcome::Success);
    }
    assert_eq!(world.places(CALLS), 14);
    world.assert_empty();
}

// G17: errors and streams teach nothing, however slow; overload lowers, never below the floor.
#[test]
fn only_answers_of_work_and_overload_move_it() {
    let world = World::new(&[adaptive(&[], 100)]);
    world.conclude();
    for _ in 0..40 {
        world.window(CALLS, Outcome::Ignore);
    }
    assert_eq!(world.places(CALLS), START);
    assert_eq!(world.learned("-").numbers.samples, 0);
    for _ in 0..40 {
        world.window(CALLS, Outcome::Overload);
    }
    assert_eq!(world.places(CALLS), AdaptiveSettings::default().floor);
}

// G17: a permit that ends without an answer, or is held long after it, teaches no latency.
#[test]
fn what_comes_after_the_answer_teaches_nothing() {
    let world = World::new(&[adaptive(&[], 100)]);
    world.conclude();
    for _ in 0..10 {
        let mut held = world.fill(&class("acme", CALLS));
        world.clock.advance(LATENCY);
        for permit in &mut held {
            permit.answered(Outcome::Success, None, world.clock.now());
            permit.answered(Outcome::Overload, None, world.clock.now());
        }
        world.clock.advance(10 * WINDOW);
        held.drain(5..)
            .for_each(|permit| permit.finish(Outcome::Success, world.clock.now()));
    }
    world.conclude();
    let numbers = world.learned("-").numbers;
    assert_eq!(numbers.samples, 100);
    let seen = numbers.latency_short.as_secs_f64() / LATENCY.as_secs_f64();
    assert!((seen - 1.0).abs() < 0.04, "{seen} of what it was");
}

// G17: each resource has its own number.
#[test]
fn each_resource_finds_its_own() {
    let world = World::new(&[adaptive(&[Dimension::Resource], 100)]);
    world.conclude();
    for _ in 0..10 {
        world.window(CALLS, Outcome::Success);
    }
    let raised = world.learned("calls").numbers.limit;
    assert!(raised > START, "{raised}");
    assert_eq!(world.places(CALLS), raised);
    assert_eq!(world.places(MESSAGES), START);
    let held = world.fill(&class("acme", CALLS));
    let key = &world
        .registry
        .keys(&world.policy, world.policy.limit("whole").unwrap(), 9)[0];
    assert_eq!((key.in_flight, key.max), (raised, raised));
    drop(held);
}

// G17, G4: what was learned lives through a reload, as far as new bounds allow.
#[test]
fn what_was_learned_lives_through_a_reload() {
    let mut world = World::new(&[adaptive(&[], 100)]);
    world.conclude();
    for _ in 0..10 {
        world.window(CALLS, Outcome::Success);
    }
    let raised = world.places(CALLS);
    world.reload(&[adaptive(&[], 100), limit("other", &[], 1_000)]);
    assert_eq!(world.places(CALLS), raised);
    world.reload(&[adaptive(&[], 12)]);
    assert_eq!(world.places(CALLS), 12);
    let numbers = world.learned("-").numbers;
    assert!(numbers.latency_long >= LATENCY / 2, "{numbers:?}");
}

// G17: in shadow mode it learns too, so that its number can be looked at before it is enforced.
#[test]
fn it_learns_in_shadow_mode() {
    let world = World::new(&[in_mode(adaptive(&[], 100), Mode::Shadow)]);
    world.conclude();
    for _ in 0..10 {
        for _ in 0..20 {
            let held = (0..20).map(|_| world.admit(&class("acme", CALLS)));
            world.answer(held.collect(), Outcome::Success);
        }
        world.conclude();
    }
    let numbers = world.learned("-").numbers;
    assert!(numbers.samples > 0 && numbers.limit > START, "{numbers:?}");
    let mut held: Vec<_> = (0..numbers.limit)
        .map(|_| world.admit(&class("acme", CALLS)))
        .collect();
    assert!(held.iter().all(|permit| permit.would_reject().is_none()));
    held.push(world.admit(&class("acme", CALLS)));
    assert!(
        held.last()
            .is_some_and(|last| last.would_reject().is_some())
    );
}

// G17: a number that has fallen below what every request costs finds its way back, for nothing that is refused can teach it.
#[test]
fn it_goes_back_to_its_start_when_it_sees_nothing() {
    let world = World::new(&[adaptive(&[], 100)]);
    world.conclude();
    for _ in 0..40 {
        world.window(CALLS, Outcome::Overload);
    }
    assert_eq!(world.places(CALLS), AdaptiveSettings::default().floor);
    (0..400).for_each(|_| world.conclude());
    assert_eq!(world.places(CALLS), START);
}
