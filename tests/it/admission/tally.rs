//! Counts beside what is in flight: starts, completions, and what began of late.
//!
//! Time moves by hand, so each place is seen to come free at its instant and not before.

use std::time::Duration;

use proptest::prelude::*;
use tidegate::admission::{Counted, Dimension, LimitSettings, Outcome, Reason, Slow, Step};

use super::waiting::{SECOND, served, whole, with};
use super::{CALLS, World, class, identify, limit};

fn counting(counted: Counted, max: u32) -> LimitSettings {
    let mut limit = limit("counted", &[Dimension::Account], max);
    limit.counted = counted;
    identify(&mut limit);
    limit
}

// A29: as many as the limit may start at once, and then one each part of the interval.
#[test]
fn starts_are_paced() {
    let world = World::new(&[counting(Counted::StartsPer(SECOND), 4)]);
    let acme = class("acme", CALLS);
    for _ in 0..4 {
        drop(world.admit(&acme));
    }
    let rejection = world.refuse(&acme);
    assert_eq!((rejection.max, rejection.in_flight), (4, 4));
    assert_eq!(rejection.window, Some(SECOND));
    assert_eq!(rejection.retry_after(0.0), 1);
    world.clock.advance(Duration::from_millis(250));
    drop(world.admit(&acme));
    world.refuse(&acme);
    drop(world.admit(&class("other", CALLS)));
    world.clock.advance(2 * SECOND);
    for _ in 0..4 {
        drop(world.admit(&acme));
    }
    world.refuse(&acme);
}

// A8, A29: a start that another limit refused is not counted.
#[test]
fn a_start_that_did_not_happen_is_not_counted() {
    let whole = limit("whole", &[], 1);
    let world = World::new(&[counting(Counted::StartsPer(SECOND), 3), whole]);
    let acme = class("acme", CALLS);
    let held = world.admit(&acme);
    for _ in 0..10 {
        assert_eq!(&*world.refuse(&acme).limit, "whole");
    }
    drop(held);
    drop(world.admit(&acme));
    drop(world.admit(&acme));
    assert_eq!(&*world.refuse(&acme).limit, "counted");
}

// A29: what ended within the interval counts with what is in flight; what was cut short does not.
#[test]
fn completions_and_what_is_in_flight_count_together() {
    let world = World::new(&[counting(Counted::CompletionsPer(16 * SECOND), 3)]);
    let acme = class("acme", CALLS);
    let now = || world.clock.now();
    world.admit(&acme).finish(Outcome::Success, now());
    world.admit(&acme).finish(Outcome::Overload, now());
    world.admit(&acme).finish(Outcome::Ignore, now());
    let held = world.admit(&acme);
    assert_eq!(world.refuse(&acme).in_flight, 3);
    drop(held);
    world.clock.advance(16 * SECOND);
    let still = world.admit(&acme);
    assert_eq!(world.refuse(&acme).in_flight, 3, "never early");
    drop(still);
    world.clock.advance(SECOND);
    assert_eq!(world.fill(&acme).len(), 3);
}

// A26: only what began within the window counts: a place is free when its work ends, or a sixteenth after the window.
#[test]
fn old_work_falls_out_of_the_window() {
    let world = World::new(&[counting(Counted::StartedWithin(16 * SECOND), 2)]);
    let acme = class("acme", CALLS);
    let long = world.admit(&acme);
    let short = world.admit(&acme);
    world.refuse(&acme);
    drop(short);
    let other = world.admit(&acme);
    world.clock.advance(16 * SECOND);
    world.refuse(&acme);
    world.clock.advance(SECOND);
    let (first, second) = (world.admit(&acme), world.admit(&acme));
    world.refuse(&acme);
    drop((long, other));
    world.refuse(&acme);
    drop((first, second));
    drop(world.admit(&acme));
    world.assert_empty();
}

// A15, A29: a request that is slowed is sent when the pace allows it.
#[test]
fn a_slowed_request_keeps_the_pace() {
    let slow = Slow {
        delay: SECOND / 4,
        times: 3,
        length: 10,
    };
    let limit = with(counting(Counted::StartsPer(SECOND), 4), &[Step::Slow(slow)]);
    let world = World::new(&[limit]);
    let acme = class("acme", CALLS);
    world.fill(&acme);
    let wait = world.wait(&acme);
    world.clock.advance(SECOND / 4);
    match world.resume(wait.give_up()) {
        tidegate::admission::Decision::Admit(permit) => drop(permit),
        other => panic!("{other:?}"),
    }
}

// A29, G3: one that waits for a place is judged by the pace of the moment at which it is served.
#[test]
fn who_is_served_late_is_judged_by_the_time_it_is() {
    let world = World::new(&[counting(Counted::StartsPer(SECOND), 1), whole(1)]);
    let (acme, other) = (class("acme", CALLS), class("other", CALLS));
    drop(world.admit(&acme));
    world.clock.advance(SECOND);
    let held = world.admit(&other);
    let mut wait = world.wait(&acme);
    world.clock.advance(SECOND / 2);
    held.finish(Outcome::Success, world.clock.now());
    drop(served(&mut wait));
    assert_eq!(world.refuse(&acme).reason, Reason::LimitReached);
}

// G18: a key is forgotten when nothing of late is left, and not before.
#[test]
fn a_key_is_forgotten_when_its_time_is_over() {
    let world = World::new(&[counting(Counted::StartsPer(10 * SECOND), 1)]);
    let acme = class("acme", CALLS);
    drop(world.admit(&acme));
    for _ in 0..3 {
        world.registry.sweep(world.clock.now());
    }
    world.refuse(&acme);
    world.clock.advance(10 * SECOND);
    for _ in 0..3 {
        world.registry.sweep(world.clock.now());
    }
    assert_eq!(world.registry.cells(), 0);
    drop(world.admit(&acme));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // A26, A29: whatever comes when, no interval sees more than the stated bound, and everything is forgotten in the end.
    #[test]
    fn bounds_hold_whatever_comes_when(
        max in 1..6u32,
        steps in prop::collection::vec((0..3_000u64, any::<bool>()), 1..120),
    ) {
        let kinds = [
            Counted::StartsPer(SECOND),
            Counted::CompletionsPer(SECOND),
            Counted::StartedWithin(SECOND),
        ];
        for counted in kinds {
            let world = World::new(&[counting(counted, max)]);
            let acme = class("acme", CALLS);
            let (mut held, mut starts) = (Vec::new(), Vec::new());
            for &(millis, is_kept) in &steps {
                world.clock.advance(Duration::from_millis(millis / 10));
                let now = world.clock.now();
                if let tidegate::admission::Decision::Admit(permit) = world.acquire(&acme) {
                    starts.push(now);
                    if is_kept {
                        held.push(permit);
                    } else {
                        permit.finish(Outcome::Success, now);
                    }
                } else if !held.is_empty() {
                    held.remove(0).finish(Outcome::Success, now);
                }
                let of_late = starts.iter().filter(|&&start| start + SECOND > now).count();
                let bound = match counted {
                    Counted::StartsPer(_) => 2 * max,
                    Counted::CompletionsPer(_) => 2 * max,
                    _ => u32::MAX,
                };
                prop_assert!(of_late as u32 <= bound, "{of_late} of {max}");
            }
            drop(held);
            world.clock.advance(3 * SECOND);
            for _ in 0..3 {
                world.registry.sweep(world.clock.now());
            }
            prop_assert_eq!(world.registry.cells(), 0);
            world.assert_empty();
        }
    }
}
