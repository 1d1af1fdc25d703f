//! A budget for retries: a part of what an account has in flight, and nothing that concerns first attempts.

use tidegate::admission::{Class, Dimension, LimitSettings, Mode, Moves, RetryBudget};

use super::{CALLS, World, class, in_mode, limit};

fn budget(percent: u32, floor: u32) -> LimitSettings {
    let mut limit = limit("retries", &[Dimension::Account], floor);
    limit.moves = Some(Moves::RetryBudget(RetryBudget { percent, floor }));
    limit
}

fn again(of: &Class) -> Class {
    Class {
        is_retry: true,
        ..of.clone()
    }
}

// G22: an account with nothing else may retry a little, and one with much may retry a part of it; first attempts are not
// concerned, nor is anybody else.
#[test]
fn an_account_may_retry_a_part_of_what_it_has_in_flight() {
    let world = World::new(&[budget(20, 3), limit("whole", &[], 1_000)]);
    let (acme, other) = (class("acme", CALLS), class("other", CALLS));
    let mut retries = world.fill(&again(&acme));
    assert_eq!(retries.len(), 3);
    let firsts: Vec<_> = (0..40).map(|_| world.admit(&acme)).collect();
    retries.extend(world.fill(&again(&acme)));
    assert_eq!(retries.len(), 9, "20 % of 49, and the tenth would be of 50");
    let refused = world.refuse(&again(&acme));
    assert_eq!(
        (&*refused.limit, refused.max, refused.in_flight),
        ("retries", 9, 9)
    );
    let limit = world.policy.limit("retries").unwrap();
    let shown = &world.registry.keys(&world.policy, limit, 1)[0];
    assert_eq!((shown.in_flight, shown.max), (9, 9), "20 % of 49");
    let seen = &world.registry.snapshot(&world.policy).limits[0];
    assert!((seen.used_ratio - 1.0).abs() < 1e-9, "{}", seen.used_ratio);
    assert_eq!(world.fill(&again(&other)).len(), 3);
    drop(firsts);
    assert_eq!(world.refuse(&again(&acme)).max, 3, "those in flight stay");
    drop(world.admit(&acme));
    retries.truncate(2);
    drop(world.admit(&again(&acme)));
    drop(retries);
    world.assert_empty();
}

// G22, G6: in shadow mode it refuses nobody and notes what it would have refused.
#[test]
fn a_budget_in_shadow_mode_only_notes() {
    let world = World::new(&[in_mode(budget(0, 1), Mode::Shadow)]);
    let acme = class("acme", CALLS);
    let first = world.admit(&again(&acme));
    let second = world.admit(&again(&acme));
    let plain = world.admit(&acme);
    let noted = [&first, &second, &plain].map(|permit| permit.would_reject().is_some());
    assert_eq!(noted, [false, true, false]);
    let seen = &world.registry.snapshot(&world.policy).limits[0];
    assert_eq!((seen.would, seen.in_flight), ((1, 1), 2));
}

// G22: the budget is in requests, whatever they cost.
#[test]
fn a_dear_request_may_be_retried_as_often_as_a_cheap_one() {
    let world = World::new(&[budget(20, 3), limit("whole", &[], 1_000)]);
    let dear = Class {
        cost: 10,
        ..again(&class("acme", CALLS))
    };
    assert_eq!(world.fill(&dear).len(), 3);
}
