//! A full line: who takes whose place there, and who is refused.
//!
//! One place is held for the whole test, so whatever changes in the line is the newcomers' doing.

use tidegate::admission::{
    Class, Decision, Guarantee, Guaranteed, LimitSettings, Permit, Priority, Queue, Reason,
    Rejection, Step, Turn, Wait,
};

use super::waiting::{queue, with};
use super::{CALLS, GOLD, World, class, limit, look};

const LENGTH: u32 = 10;

/// One place, for which [`LENGTH`] may wait.
fn narrow() -> LimitSettings {
    with(limit("whole", &[], 1), &[Step::Queue(queue(LENGTH))])
}

fn of(name: &str, priority: Priority) -> Class {
    Class {
        priority,
        ..class(name, CALLS)
    }
}

/// A world whose place is held and whose line is full of these, one after the other.
fn crowded(limit: LimitSettings, who: &[Class]) -> (World, Permit, Vec<Wait>) {
    let world = World::new(&[limit]);
    let held = world.admit(&class("holder", CALLS));
    let length = usize::try_from(LENGTH).unwrap();
    let waits = who.iter().cycle().take(length).map(|of| world.wait(of));
    let waits = waits.collect();
    (world, held, waits)
}

/// Those who had to go; each tries what the limit says next, and is refused.
#[track_caller]
fn displaced(world: &World, waits: &mut Vec<Wait>) -> Vec<Rejection> {
    let mut gone = Vec::new();
    waits.retain_mut(|wait| match look(wait) {
        None => true,
        Some(Turn::Resume(ask)) => {
            match world.registry.resume(ask, world.clock.now()) {
                Decision::Reject(rejection) => gone.push(*rejection),
                other => panic!("it goes to the end of the ladder: {other:?}"),
            }
            false
        }
        Some(other) => panic!("nobody is served: {other:?}"),
    });
    gone
}

// A34, G2: an account that filled the line makes way for one that has less in it, down to equal parts.
#[test]
fn a_quiet_account_takes_the_place_of_a_noisy_ones_newest() {
    let noisy = class("noisy", CALLS);
    let (world, _held, mut waits) = crowded(narrow(), std::slice::from_ref(&noisy));
    let quiet = class("quiet", CALLS);
    let mut first = world.wait(&quiet);
    let newest = waits.len() - 1;
    assert!(look(&mut waits[0]).is_none(), "the oldest keeps its place");
    assert!(look(&mut waits[newest - 1]).is_none());
    let gone = displaced(&world, &mut waits);
    let [gone] = &gone[..] else {
        panic!("one for one: {gone:?}");
    };
    assert_eq!((gone.reason, gone.status), (Reason::QueueFull, 429));
    assert_eq!(waits.len(), newest);
    let mut others: Vec<_> = (1..5).map(|_| world.wait(&quiet)).collect();
    assert_eq!(displaced(&world, &mut waits).len(), 4);
    assert_eq!(world.refuse(&quiet).reason, Reason::QueueFull);
    assert_eq!(world.refuse(&noisy).reason, Reason::QueueFull);
    assert!(look(&mut first).is_none());
    others.retain_mut(|wait| look(wait).is_none());
    assert_eq!(world.registry.waiting(), 10);
}

// G2: of the line, too, an account of four times the weight has four times as much.
#[test]
fn a_heavier_account_has_a_larger_part_of_the_line() {
    let mut world = World::new(&[]);
    world.weigh_gold(4);
    world.reload(&[narrow()]);
    let _held = world.admit(&class("holder", CALLS));
    let (plain, gold) = (class("plain", CALLS), class("gold-1", CALLS));
    let mut waits: Vec<_> = (0..LENGTH).map(|_| world.wait(&plain)).collect();
    let arrived = (0..LENGTH).filter_map(|_| match world.acquire(&gold) {
        Decision::Wait(wait) => Some(wait),
        _ => None,
    });
    let arrived: Vec<_> = arrived.collect();
    assert_eq!(displaced(&world, &mut waits).len(), arrived.len());
    assert_eq!((arrived.len(), waits.len()), (8, 2));
}

// G15: whatever a lower priority has filled, a higher one gets in; seven of ten places are high's, two normal's, one low's.
#[test]
fn priorities_share_a_full_line_as_they_share_the_places() {
    let (low, normal, high) = (Priority::Low, Priority::Normal, Priority::High);
    let all = [low, normal, high];
    for first in all {
        let (world, _held, waits) = crowded(narrow(), &[of("first", first)]);
        let mut lines = [
            (first, waits),
            (low, vec![]),
            (normal, vec![]),
            (high, vec![]),
        ];
        for _ in 0..3 {
            for index in [3, 1, 2] {
                for number in 0..LENGTH {
                    let name = format!("{index}-{number}");
                    let priority = lines[index].0;
                    if let Decision::Wait(wait) = world.acquire(&of(&name, priority)) {
                        lines[index].1.push(wait);
                    }
                    for (_, waits) in &mut lines {
                        displaced(&world, waits);
                    }
                }
            }
        }
        let waiting = all.map(|wanted| {
            let own = lines.iter().filter(|(priority, _)| *priority == wanted);
            own.map(|(_, waits)| waits.len()).sum::<usize>()
        });
        assert_eq!(waiting, [1, 2, 7], "first came {first:?}");
    }
}

// G14: whoever waits on a guarantee that is not met gets into a full line, and makes way for nobody.
#[test]
fn a_guarantee_holds_in_a_full_line() {
    let mut limit = narrow();
    limit.guaranteed = vec![Guarantee {
        who: Guaranteed::Group(GOLD),
        min: 3,
    }];
    let (world, _held, mut waits) = crowded(limit, &[of("plain", Priority::High)]);
    let gold = of("gold-1", Priority::Low);
    let mut kept: Vec<_> = (0..3).map(|_| world.wait(&gold)).collect();
    assert_eq!(displaced(&world, &mut waits).len(), 3);
    assert_eq!(world.refuse(&gold).reason, Reason::QueueFull);
    for number in 0..LENGTH {
        let other = of(&format!("other-{number}"), Priority::High);
        if let Decision::Wait(wait) = world.acquire(&other) {
            waits.push(wait);
        }
        displaced(&world, &mut waits);
    }
    assert!(kept.iter_mut().all(|wait| look(wait).is_none()));
    assert_eq!(world.registry.waiting(), 10);
}

// A34: one account keeps to its own bound, full line or not, and takes nobody's place by going over it.
#[test]
fn a_bound_for_each_account_holds_before_the_line_is_full() {
    let queue = Queue {
        per_account: 2,
        ..queue(LENGTH)
    };
    let limit = with(limit("whole", &[], 1), &[Step::Queue(queue)]);
    let five: Vec<_> = (0..5).map(|of| class(&format!("{of}"), CALLS)).collect();
    let (world, _held, mut waits) = crowded(limit, &five);
    assert_eq!(world.refuse(&five[0]).reason, Reason::QueueFull);
    assert!(displaced(&world, &mut waits).is_empty());
}

// A18, A34: one that had to make way goes on down its ladder like any other.
#[test]
fn one_that_made_way_tries_the_next_step() {
    let bulk = tidegate::admission::UpstreamId(1);
    let steps = [Step::Queue(queue(LENGTH)), Step::Reroute(bulk)];
    let limit = with(limit("whole", &[], 1), &steps);
    let (world, _held, mut waits) = crowded(limit, &[class("noisy", CALLS)]);
    let _quiet = world.wait(&class("quiet", CALLS));
    let newest = waits.last_mut().unwrap();
    match look(newest) {
        Some(turn) => match world.resume(turn) {
            Decision::Admit(permit) => {
                let story = permit.story().expect("it has been through something");
                assert_eq!(story.rerouted, Some(bulk));
                assert!(story.was_queued);
            }
            other => panic!("{other:?}"),
        },
        None => panic!("it keeps its place"),
    }
}

// A27: places that were saved for one that has left are for all again, not for whoever of its account comes next.
#[test]
fn saved_places_are_free_again_when_their_request_leaves() {
    let world = World::new(&[with(limit("whole", &[], 2), &[Step::Queue(queue(LENGTH))])]);
    let small = class("acme", CALLS);
    let big = Class {
        cost: 2,
        ..class("other", CALLS)
    };
    let _kept = world.admit(&small);
    let mut held = Some(world.admit(&small));
    let (saved, _next) = (world.wait(&big), world.wait(&big));
    for _ in 0..40 {
        let mut other = world.wait(&small);
        drop(held.take());
        match look(&mut other) {
            Some(Turn::Admit(permit)) => held = Some(permit),
            _ => {
                drop(saved);
                assert!(matches!(look(&mut other), Some(Turn::Admit(_))));
                return;
            }
        }
    }
    panic!("no places were saved");
}
