//! The steps before a refusal: in which order they are tried, and what each does.
//!
//! Waits are polled by hand, and time moves by hand.

use std::time::Duration;

use tidegate::admission::{
    Class, Decision, Order, Outcome, Overage, Priority, Queue, Reason, Slow, Step, UpstreamId,
};

use super::waiting::{SECOND, queue, served, whole, with};
use super::{CALLS, JOBS, World, class, limit, look};

// A17: a request that slept as often as it may is refused.
#[test]
fn a_request_is_slowed_so_often_and_then_refused() {
    let slow = Slow {
        delay: SECOND,
        times: 2,
        length: 1,
    };
    let world = World::new(&[with(limit("whole", &[], 1), &[Step::Slow(slow)])]);
    let acme = class("acme", CALLS);
    let held = world.admit(&acme);
    let first = world.wait(&acme);
    assert_eq!(first.deadline(), world.clock.now() + SECOND);
    assert_eq!(
        world.refuse(&acme).reason,
        Reason::QueueFull,
        "one sleeps, and no more may"
    );
    let Decision::Wait(second) = world.resume(first.give_up()) else {
        panic!("it may sleep twice");
    };
    assert_eq!(world.give_up(second).reason, Reason::QueueTimeout);
    let again = world.wait(&acme);
    drop(held);
    match world.resume(again.give_up()) {
        Decision::Admit(permit) => assert!(permit.story().is_some_and(|story| story.was_slowed)),
        other => panic!("{other:?}"),
    }
    world.assert_empty();
}

// A18, A20: above the soft limit a request goes on with a mark, above the hard one it is refused.
#[test]
fn between_soft_and_hard_limit_requests_are_marked() {
    let overage = Overage {
        up_to: 2,
        priority: Priority::Low,
        mark: "overage".into(),
    };
    let world = World::new(&[with(limit("whole", &[], 1), &[Step::Admit(overage)])]);
    let acme = class("acme", CALLS);
    let within = world.admit(&acme);
    assert!(within.story().is_none());
    let over = world.admit(&acme);
    let mark = over.story().and_then(|story| story.mark.as_deref());
    assert_eq!(mark, Some("overage"));
    let rejection = world.refuse(&acme);
    assert_eq!((rejection.max, rejection.in_flight), (2, 2));
    drop((within, over));
    world.assert_empty();
}

// A19: over the limit it goes to the other upstream, by that one's limits; the first one's load stays as it is.
#[test]
fn over_the_limit_it_goes_elsewhere_and_is_judged_there() {
    let of = |name: &str, max, upstream| {
        let mut limit = limit(name, &[], max);
        limit.upstreams = Some(vec![UpstreamId(upstream)]);
        super::identify(&mut limit);
        limit
    };
    let api = with(of("api", 1, 0), &[Step::Reroute(UpstreamId(1))]);
    let world = World::new(&[api, of("bulk", 1, 1)]);
    let acme = class("acme", CALLS);
    let _first = world.admit(&acme);
    let second = world.admit(&acme);
    let rerouted = second.story().and_then(|story| story.rerouted);
    assert_eq!(rerouted, Some(UpstreamId(1)));
    assert_eq!(world.in_flight("api", &acme), 1);
    assert_eq!(&*world.refuse(&acme).limit, "bulk");
    assert_eq!(&*world.refuse(&class("acme", JOBS)).limit, "bulk");
}

// A18: steps are tried in order, each once: wait, go over the limit, be refused.
#[test]
fn a_ladder_is_walked_in_order() {
    let overage = Overage {
        up_to: 2,
        priority: Priority::Low,
        mark: "late".into(),
    };
    let steps = [Step::Queue(queue(1)), Step::Admit(overage)];
    let world = World::new(&[with(limit("whole", &[], 1), &steps)]);
    let acme = class("acme", CALLS);
    let _held = world.admit(&acme);
    let wait = world.wait(&acme);
    world.clock.advance(SECOND);
    let Decision::Admit(late) = world.resume(wait.give_up()) else {
        panic!("there is a place above the limit");
    };
    let story = late.story().expect("it waited");
    assert!(story.was_queued);
    assert_eq!(story.mark.as_deref(), Some("late"));
    let wait = world.wait(&acme);
    assert_eq!(world.give_up(wait).reason, Reason::LimitReached);
}

// A18, A34: of those who wait, one that may go over the limit, or has more places of its own, is served where the others are not.
#[test]
fn one_who_may_have_more_is_served_where_the_others_wait() {
    let overage = Overage {
        up_to: 2,
        priority: Priority::Low,
        mark: "late".into(),
    };
    let raised = [Step::Admit(overage), Step::Queue(queue(10))];
    let raised = with(limit("whole", &[], 1), &raised);
    let mut own = with(limit("whole", &[], 1), &[Step::Queue(queue(10))]);
    own.account_max = vec![(super::account("gold-1"), 2)];
    for (limit, cost) in [(raised, 2), (own, 1)] {
        let world = World::new(&[limit]);
        let gold = class("gold-1", CALLS);
        let mut held = world.fill(&gold);
        assert_eq!(held.len(), 2);
        let mut other = world.wait(&Class {
            cost,
            ..class("acme", CALLS)
        });
        let mut wait = world.wait(&gold);
        assert!(look(&mut wait).is_none());
        drop(held.pop());
        assert!(look(&mut other).is_none(), "its places are not free");
        drop(served(&mut wait));
        drop(held);
        drop(served(&mut other));
        world.assert_empty();
    }
}

// A34: in a standing queue the newest goes first and newcomers wait a short time only; in one that empties, the oldest.
#[test]
fn an_adaptive_queue_turns_around_when_it_stands() {
    let queue = Queue {
        order: Order::Adaptive,
        ..queue(10)
    };
    let world = World::new(&[with(limit("whole", &[], 1), &[Step::Queue(queue)])]);
    let acme = class("acme", CALLS);
    let held = world.admit(&acme);
    let mut first = world.wait(&acme);
    let mut second = world.wait(&acme);
    drop(held);
    let held = served(&mut first);
    world.clock.advance(SECOND);
    let mut third = world.wait(&acme);
    assert_eq!(third.deadline(), world.clock.now() + SECOND / 20);
    drop(held);
    let held = served(&mut third);
    assert!(look(&mut second).is_none());
    drop(held);
    let held = served(&mut second);
    let calm = world.wait(&acme);
    assert_eq!(calm.deadline(), world.clock.now() + SECOND);
    drop((calm, held));
    world.assert_empty();
}

// A34: a client's own deadline shortens the wait, and nobody waits for what cannot be answered in time.
#[test]
fn a_client_in_a_hurry_waits_no_longer_than_it_can_use() {
    let world = World::new(&[whole(1)]);
    let acme = class("acme", CALLS);
    let permit = world.admit(&acme);
    world.clock.advance(SECOND / 2);
    permit.finish(Outcome::Success, world.clock.now());
    let _held = world.admit(&acme);
    let ask = |within: Duration| {
        let now = world.clock.now();
        let until = Some(now + within);
        world
            .registry
            .acquire_until(&world.policy, &acme, || until, now)
    };
    match ask(SECOND) {
        Decision::Wait(wait) => {
            // The work takes half a second, so that is what has to be left.
            assert_eq!(wait.deadline(), world.clock.now() + SECOND / 2);
        }
        other => panic!("{other:?}"),
    }
    match ask(SECOND / 4) {
        Decision::Reject(rejection) => assert_eq!(rejection.reason, Reason::QueueTimeout),
        other => panic!("{other:?}"),
    }
}

// A closed limit has no place to wait for.
#[test]
fn nobody_waits_for_a_place_that_there_is_not() {
    let world = World::new(&[whole(0)]);
    let acme = class("acme", CALLS);
    assert_eq!(world.refuse(&acme).reason, Reason::LimitReached);
    let big = Class { cost: 2, ..acme };
    let world = World::new(&[whole(1)]);
    assert_eq!(world.refuse(&big).reason, Reason::LimitReached);
}
