//! Maxima that move by themselves, and those who wait for them.
//!
//! Healthy endpoints are a number here; who finds them healthy is tested with real ones.

use tidegate::admission::{
    Dimension, Follow, LimitSettings, Moves, Permit, Step, Turn, UpstreamId,
};

use super::waiting::{queue, served, with};
use super::{CALLS, World, class, limit, look};

fn per_endpoint(each: u32) -> LimitSettings {
    let mut limit = with(limit("whole", &[], each), &[Step::Queue(queue(100))]);
    limit.moves = Some(Moves::PerEndpoint {
        each,
        of: UpstreamId(0),
    });
    limit
}

fn following(per: &[Dimension]) -> LimitSettings {
    let mut limit = with(limit("follow", per, 2), &[Step::Queue(queue(100))]);
    limit.moves = Some(Moves::Follow(Follow {
        floor: 2,
        ceiling: 10,
        headroom_percent: 200,
    }));
    limit
}

impl World {
    fn endpoints(&self, healthy: usize) {
        let risen = self.policy.follow_endpoints(|_| healthy);
        self.registry.serve_risen(risen);
    }
}

// A12: the maximum falls with the endpoints that are lost, cuts nobody, and serves who waits when they return.
#[test]
fn a_maximum_follows_the_healthy_endpoints() {
    let world = World::new(&[per_endpoint(2)]);
    let acme = class("acme", CALLS);
    world.endpoints(3);
    let mut held = world.fill(&acme);
    assert_eq!(held.len(), 6);
    world.endpoints(1);
    let mut wait = world.wait(&acme);
    held.truncate(2);
    assert!(look(&mut wait).is_none(), "as many as one endpoint takes");
    world.endpoints(0);
    held.truncate(1);
    let kept = served(&mut wait);
    let mut wait = world.wait(&acme);
    world.endpoints(2);
    drop((served(&mut wait), kept, held));
    world.assert_empty();
}

// A12, G4: what the maximum has come to lives through a reload that leaves its rule alone.
#[test]
fn a_moved_maximum_lives_through_a_reload() {
    let mut world = World::new(&[per_endpoint(2)]);
    world.endpoints(3);
    world.reload(&[per_endpoint(2), limit("other", &[], 100)]);
    assert_eq!(world.fill(&class("acme", CALLS)).len(), 6);
}

// A13: a key may have twice what it held of late, within floor and ceiling, and falls back when it used less.
#[test]
fn a_maximum_follows_what_its_key_used_of_late() {
    let world = World::new(&[following(&[Dimension::Account])]);
    let (acme, other) = (class("acme", CALLS), class("other", CALLS));
    let mut held: Vec<Permit> = Vec::new();
    for expected in [2, 4, 8, 10, 10] {
        held.extend(world.fill(&acme));
        assert_eq!(held.len(), expected);
        world.registry.turn_peaks(&world.policy);
    }
    assert_eq!(world.fill(&other).len(), 2, "each key by its own use");
    held.truncate(1);
    world.registry.turn_peaks(&world.policy);
    world.registry.turn_peaks(&world.policy);
    held.extend(world.fill(&acme));
    assert_eq!(held.len(), 2);
}

// A13: who waits is served when the interval ends and the maximum rises.
#[test]
fn the_end_of_an_interval_serves_those_who_wait() {
    let world = World::new(&[following(&[])]);
    let acme = class("acme", CALLS);
    let held = world.fill(&acme);
    assert_eq!(held.len(), 2);
    let mut waits: Vec<_> = (0..3).map(|_| world.wait(&acme)).collect();
    world.registry.turn_peaks(&world.policy);
    let turns: Vec<_> = waits.iter_mut().filter_map(look).collect();
    assert_eq!(turns.len(), 2);
    assert!(turns.iter().all(|turn| matches!(turn, Turn::Admit(_))));
}
