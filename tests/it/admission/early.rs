//! Places lent above the maximum while requests are near completion: to whom, how many, and that they come back.
//!
//! The simulation's model is a list of what is held and whether it was said to be near completion.

use fastrand::Rng;
use tidegate::admission::{
    Class, Decision, Dimension, EarlyUse, LimitSettings, Mode, Permit, Queue, Reason, Step, Turn,
    Wait,
};

use super::simulation::Seed;
use super::waiting::{queue, served, whole, with};
use super::{CALLS, World, class, in_mode, limit, look, seeds};

/// One count for all, for which up to 100 may wait; so many of them early.
fn early(max: u32, early: u32) -> LimitSettings {
    lending(limit("whole", &[], max), early)
}

fn lending(limit: LimitSettings, early: u32) -> LimitSettings {
    let queue = Queue {
        early,
        ..queue(100)
    };
    with(limit, &[Step::Queue(queue)])
}

fn seen(world: &World) -> Option<EarlyUse> {
    world.registry.snapshot(&world.policy).limits[0].early
}

/// Those of the waits that were served meanwhile.
fn collect(waits: &mut Vec<Wait>) -> Vec<Permit> {
    let mut permits = Vec::new();
    waits.retain_mut(|wait| match look(wait) {
        Some(Turn::Admit(permit)) => {
            permits.push(permit);
            false
        }
        Some(other) => panic!("{other:?}"),
        None => true,
    });
    permits
}

// A16: nobody is served early unless the limit says so; nor where it only watches.
#[test]
fn by_default_nobody_is_served_before_a_place_is_free() {
    let acme = class("acme", CALLS);
    for limits in [vec![whole(1)], vec![early(1, 0)]] {
        let world = World::new(&limits);
        let mut held = world.admit(&acme);
        let mut wait = world.wait(&acme);
        held.nears_completion();
        assert!(look(&mut wait).is_none());
        assert_eq!(seen(&world), None);
        drop(held);
        drop(served(&mut wait));
        world.assert_empty();
    }
    let world = World::new(&[in_mode(early(1, 1), Mode::Shadow), whole(2)]);
    let mut held = world.fill(&acme);
    held[0].nears_completion();
    let mut wait = world.wait(&acme);
    assert!(look(&mut wait).is_none());
}

// A16: a waiting request is served as soon as another is near completion, and not before.
#[test]
fn one_who_waits_is_served_when_another_is_near_completion() {
    let world = World::new(&[early(1, 1)]);
    let acme = class("acme", CALLS);
    let mut held = world.admit(&acme);
    let mut first = world.wait(&acme);
    assert!(look(&mut first).is_none());
    held.nears_completion();
    let permit = served(&mut first);
    assert_eq!(world.in_flight("whole", &acme), 2);
    let once = EarlyUse {
        grants: 1,
        overshoot_max: 1,
    };
    assert_eq!(seen(&world), Some(once));
    let mut second = world.wait(&acme);
    held.nears_completion();
    assert!(look(&mut second).is_none(), "the same is no news");
    drop(held);
    assert!(look(&mut second).is_none(), "its place is used already");
    drop(permit);
    drop(served(&mut second));
    assert_eq!(seen(&world), Some(once));
    world.assert_empty();
}

// A16: never more above the maximum than are near completion, and never more than the limit says.
#[test]
fn what_is_lent_is_bounded_by_the_evidence_and_by_the_limit() {
    let world = World::new(&[early(3, 2)]);
    let acme = class("acme", CALLS);
    let mut held: Vec<_> = (0..3).map(|_| world.admit(&acme)).collect();
    let mut waits: Vec<_> = (0..5).map(|_| world.wait(&acme)).collect();
    let mut in_use = Vec::new();
    for expected in [4, 5, 5] {
        let mut permit = held.remove(0);
        permit.nears_completion();
        held.push(permit);
        in_use.extend(collect(&mut waits));
        assert_eq!(world.in_flight("whole", &acme), expected);
    }
    drop(held.pop());
    in_use.extend(collect(&mut waits));
    assert_eq!(world.in_flight("whole", &acme), 5, "two are near still");
    drop(held);
    in_use.extend(collect(&mut waits));
    assert_eq!(world.in_flight("whole", &acme), 3, "none is near");
    let of = seen(&world).expect("it lends");
    assert_eq!((of.grants, of.overshoot_max), (3, 2));
}

// A16: places count, not requests: one near completion lends as many as it holds.
#[test]
fn a_cheap_request_near_completion_lends_no_dear_one_its_places() {
    let world = World::new(&[early(2, 2)]);
    let acme = class("acme", CALLS);
    let dear = Class {
        cost: 2,
        ..acme.clone()
    };
    let (mut first, mut second) = (world.admit(&acme), world.admit(&acme));
    let mut wait = world.wait(&dear);
    first.nears_completion();
    assert!(look(&mut wait).is_none());
    second.nears_completion();
    let _both = served(&mut wait);
    assert_eq!(world.in_flight("whole", &acme), 4);
}

// A16: whoever comes takes nothing above the maximum; it is judged once it stands in line, and behind those who wait.
#[test]
fn a_newcomer_is_lent_nothing_before_those_who_wait() {
    let acme = class("acme", CALLS);
    let short = Queue {
        length: 1,
        early: 1,
        ..queue(1)
    };
    let world = World::new(&[with(limit("whole", &[], 1), &[Step::Queue(short)])]);
    let mut held = world.admit(&acme);
    held.nears_completion();
    let _early = served(&mut world.wait(&acme));
    let _first = world.wait(&acme);
    assert_eq!(world.refuse(&acme).reason, Reason::QueueFull);
    assert_eq!(world.in_flight("whole", &acme), 2);
    drop(held);
    let rejection = world.refuse(&acme);
    assert_eq!((rejection.max, rejection.in_flight), (1, 1));
}

// A16: a request that two full limits stop is lent a place of both, or of neither.
#[test]
fn places_are_lent_by_all_limits_or_by_none() {
    let own = lending(limit("account", &[Dimension::Account], 1), 1);
    let world = World::new(&[own, early(2, 1)]);
    let (acme, other) = (class("acme", CALLS), class("other", CALLS));
    let (mut of_acme, mut of_other) = (world.admit(&acme), world.admit(&other));
    let mut wait = world.wait(&acme);
    of_other.nears_completion();
    assert!(look(&mut wait).is_none(), "its own limit is full");
    of_acme.nears_completion();
    let permit = served(&mut wait);
    assert_eq!(world.in_flight("account", &acme), 2);
    assert_eq!(world.in_flight("whole", &acme), 3);
    drop((of_acme, of_other, permit));
    world.assert_empty();
    assert!(matches!(world.acquire(&acme), Decision::Admit(_)));
}

// A16: work that goes on after its response is not near completion, whatever was said of the response.
#[test]
fn a_lease_lends_nothing() {
    let world = World::new(&[early(2, 2)]);
    let acme = class("acme", CALLS);
    let (mut held, mut lease) = (world.admit(&acme), world.admit(&acme));
    held.nears_completion();
    lease.nears_completion();
    lease.keep_for_lease();
    let mut waits = vec![world.wait(&acme), world.wait(&acme)];
    let lent = collect(&mut waits);
    assert_eq!((lent.len(), waits.len()), (1, 1));
    drop((held, lease, lent));
    drop(collect(&mut waits));
    world.assert_empty();
    let full = [world.admit(&acme), world.admit(&acme)];
    let mut wait = world.wait(&acme);
    assert!(look(&mut wait).is_none(), "no evidence is left over");
    drop(full);
}

// A11, A16: a changed number holds at once, counts stay right through it, and a closed limit lends nothing.
#[test]
fn a_reload_changes_what_is_lent() {
    let mut world = World::new(&[early(2, 0)]);
    let acme = class("acme", CALLS);
    let (mut first, mut second) = (world.admit(&acme), world.admit(&acme));
    let mut waits: Vec<_> = (0..4).map(|_| world.wait(&acme)).collect();
    world.reload(&[early(2, 2)]);
    first.nears_completion();
    let mut lent = collect(&mut waits);
    assert_eq!(lent.len(), 1);
    world.reload(&[early(2, 0)]);
    second.nears_completion();
    assert!(collect(&mut waits).is_empty());
    world.reload(&[early(0, 2)]);
    drop(second);
    assert!(collect(&mut waits).is_empty(), "it is closed");
    world.reload(&[early(1, 2)]);
    assert!(collect(&mut waits).is_empty(), "two are in use, one near");
    world.reload(&[early(2, 2)]);
    lent.extend(collect(&mut waits));
    assert_eq!(lent.len(), 2, "one is near");
    drop(first);
    assert!(collect(&mut waits).is_empty());
    drop(lent);
    let rest = collect(&mut waits);
    assert_eq!(rest.len(), 2);
    drop(rest);
    world.assert_empty();
}

/// One limit for all, and what is held of it: permits, and whether each is known to be near completion.
struct Simulation {
    random: Rng,
    world: World,
    max: u32,
    early: u32,
    held: Vec<(Permit, bool)>,
    waiting: Vec<Wait>,
    before: u32,
    overshoot_max: u32,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
            world: World::new(&[early(3, 1)]),
            max: 3,
            early: 1,
            held: Vec::new(),
            waiting: Vec::new(),
            before: 0,
            overshoot_max: 0,
        }
    }

    fn step(&mut self) {
        let any = (!self.held.is_empty()).then(|| self.random.usize(..self.held.len()));
        match (self.random.u32(..100), any) {
            (..40, _) => match self.world.acquire(&class("acme", CALLS)) {
                Decision::Admit(permit) => self.held.push((permit, false)),
                Decision::Wait(wait) => self.waiting.push(wait),
                Decision::Reject(_) => {}
            },
            (40..60, Some(index)) => {
                let (permit, is_near) = &mut self.held[index];
                permit.nears_completion();
                *is_near |= self.early > 0;
            }
            (60..65, Some(index)) => {
                let (permit, is_near) = &mut self.held[index];
                permit.keep_for_lease();
                *is_near = false;
            }
            (65..90, Some(index)) => drop(self.held.swap_remove(index)),
            (90..95, _) => {
                self.waiting.pop();
            }
            (95.., _) => {
                (self.max, self.early) = (self.random.u32(..5), self.random.u32(..3));
                self.world.reload(&[early(self.max, self.early)]);
            }
            _ => {}
        }
        let served = collect(&mut self.waiting);
        self.held.extend(served.into_iter().map(|of| (of, false)));
        self.check();
    }

    fn check(&mut self) {
        let near = self.held.iter().filter(|(_, is_near)| *is_near).count();
        let near = u32::try_from(near).expect("few");
        let lent = if self.max == 0 {
            0
        } else {
            near.min(self.early)
        };
        let in_flight = self.world.in_flight("whole", &class("acme", CALLS));
        assert_eq!(in_flight as usize, self.held.len());
        if in_flight > self.before {
            assert!(in_flight <= self.max + lent, "more than is near completion");
            let overshoot = in_flight.saturating_sub(self.max);
            self.overshoot_max = self.overshoot_max.max(overshoot);
        }
        assert!(
            self.waiting.is_empty() || in_flight >= self.max + lent,
            "one waits for what could be lent"
        );
        self.before = in_flight;
    }
}

// A16: over any course of events what rises is at most the maximum and what is near completion, nobody waits for what could be
// lent, and what was seen above the maximum is what the limit tells.
#[test]
fn a_simulation_lends_what_the_evidence_carries() {
    let mut lent = 0;
    for seed in seeds(300) {
        let seed = Seed(seed);
        let mut simulation = Simulation::new(seed.0);
        (0..300).for_each(|_| simulation.step());
        let told = seen(&simulation.world).unwrap_or_default();
        assert!(told.overshoot_max >= simulation.overshoot_max && told.overshoot_max <= 2);
        lent += told.grants;
        simulation.waiting.clear();
        simulation.held.clear();
        simulation.world.assert_empty();
        simulation.world.reload(&[early(1, 2)]);
        let _held = simulation.world.admit(&class("acme", CALLS));
        let mut wait = simulation.world.wait(&class("acme", CALLS));
        assert!(look(&mut wait).is_none(), "evidence is left over");
    }
    assert!(lent > 0, "the simulation must lend");
}
