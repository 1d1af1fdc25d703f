//! What a reload keeps and what it forgets: the contract at the level of the policy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use arc_swap::ArcSwap;
use tidegate::admission::{
    Class, Decision, Dimension, LimitSettings, Policy, Reason, Registry, Step,
};
use tidegate::clock::Clock;

use super::waiting::{queue, with};
use super::{CALLS, JOBS, MESSAGES, World, account, class, limit, only, settings};

fn per_account(max: u32) -> LimitSettings {
    limit("account", &[Dimension::Account], max)
}

fn whole(max: u32) -> LimitSettings {
    limit("whole", &[], max)
}

// A11, G4 (1, 4): a raised maximum holds at once, and what is in flight stays counted.
#[test]
fn raising_a_maximum_makes_room_at_once() {
    let acme = class("acme", CALLS);
    for of in [per_account, whole] {
        let mut world = World::new(&[of(2)]);
        let mut permits = world.fill(&acme);
        assert_eq!(world.reload(&[of(5)]), [""; 0]);
        permits.extend(world.fill(&acme));
        assert_eq!(permits.len(), 5);
        drop(permits);
        world.assert_empty();
    }
}

// A11, G4 (3): a lowered maximum ends nothing and admits nothing until the count is below it.
#[test]
fn lowering_a_maximum_admits_nobody_until_the_count_drains() {
    let acme = class("acme", CALLS);
    for of in [per_account, whole] {
        let mut world = World::new(&[of(5)]);
        let mut permits = world.fill(&acme);
        world.reload(&[of(2)]);
        while permits.len() >= 2 {
            let refusal = world.refuse(&acme);
            assert_eq!(
                (refusal.max, refusal.in_flight as usize),
                (2, permits.len())
            );
            permits.pop();
        }
        let second = world.admit(&acme);
        drop(world.refuse(&acme));
        drop((permits, second));
        world.assert_empty();
    }
}

// A11: an override that comes, changes and goes is in force at once.
#[test]
fn overrides_change_at_run_time() {
    let gold = class("gold-1", CALLS);
    let mut world = World::new(&[per_account(1)]);
    let mut permits = world.fill(&gold);
    let mut overridden = per_account(1);
    overridden.account_max = vec![(account("gold-1"), 4)];
    world.reload(&[overridden]);
    permits.extend(world.fill(&gold));
    assert_eq!(permits.len(), 4);
    world.reload(&[per_account(1)]);
    assert_eq!(
        (world.refuse(&gold).max, world.refuse(&gold).in_flight),
        (1, 4)
    );
}

// G4 (1): order, other limits and new resources do not make it another limit.
#[test]
fn a_limit_keeps_its_counts_while_everything_around_it_changes() {
    let acme = class("acme", CALLS);
    let mut world = World::new(&[per_account(3), whole(9)]);
    let permits = world.fill(&acme);
    let jobs = only(limit("jobs", &[], 4), &[JOBS]);
    assert_eq!(world.reload(&[jobs, whole(8), per_account(3)]), [""; 0]);
    assert_eq!(
        (
            world.in_flight("account", &acme),
            world.in_flight("whole", &acme)
        ),
        (3, 3)
    );
    drop(world.refuse(&acme));
    drop(permits);
    world.assert_empty();
}

// G4 (1, 2): a limit that counts something else begins at zero, and says so; its old permits touch only old cells.
#[test]
fn a_limit_that_counts_something_else_begins_at_zero_and_is_named() {
    let acme = class("acme", CALLS);
    let mut world = World::new(&[per_account(3), whole(9)]);
    let old = world.fill(&acme);
    let narrowed = only(per_account(3), &[CALLS]);
    assert_eq!(world.reload(&[narrowed, whole(9)]), ["account"]);
    assert_eq!(
        (
            world.in_flight("account", &acme),
            world.in_flight("whole", &acme)
        ),
        (0, 3)
    );
    let new = world.fill(&acme);
    assert_eq!(new.len(), 3);
    drop(old);
    assert_eq!(
        (
            world.in_flight("account", &acme),
            world.in_flight("whole", &acme)
        ),
        (3, 3)
    );
    drop(world.refuse(&acme));
    drop(new);
    world.assert_empty();
}

// G4 (2, 5): permits of a removed limit release right, its cells live until then and are freed after.
#[test]
fn a_removed_limits_cells_live_until_their_last_permit() {
    let acme = class("acme", CALLS);
    let mut world = World::new(&[per_account(2), whole(9)]);
    let permits = world.fill(&acme);
    world.reload(&[]);
    world.registry.sweep(world.clock.now());
    world.registry.sweep(world.clock.now());
    assert_eq!(
        world.registry.cells(),
        2,
        "the limit's cell and the account's own"
    );
    let free: Vec<_> = (0..20).map(|_| world.admit(&acme)).collect();
    drop((permits, free));
    world.registry.sweep(world.clock.now());
    world.registry.sweep(world.clock.now());
    assert_eq!(world.registry.cells(), 0);
    // The same text again is a new limit: what it was is gone with it.
    assert_eq!(world.reload(&[per_account(2), whole(9)]), [""; 0]);
    assert_eq!(world.fill(&acme).len(), 2);
    world.assert_empty();
}

// G4 (2): whatever generation a permit was taken under, its release reaches the cell that is counted now.
#[test]
fn permits_of_three_generations_give_back_to_one_cell() {
    let acme = class("acme", CALLS);
    let mut world = World::new(&[per_account(9), whole(9)]);
    let mut permits = Vec::new();
    for max in [7, 5, 9] {
        permits.push(world.admit(&acme));
        world.reload(&[whole(max), per_account(max)]);
    }
    assert_eq!(world.in_flight("account", &acme), 3);
    for left in (0..3).rev() {
        drop(permits.remove(0));
        assert_eq!(
            (
                world.in_flight("account", &acme),
                world.in_flight("whole", &acme)
            ),
            (left, left)
        );
    }
    world.assert_empty();
}

// G4 (7): a request sees one generation whole: two maxima that always change together are never seen mixed.
#[test]
fn no_request_sees_half_a_reload() {
    let generation = |max| {
        [
            limit("pair", &[Dimension::Account, Dimension::Resource], max),
            whole(max),
        ]
    };
    let first = Policy::new(settings(&generation(4), 1), None);
    let (registry, policy, clock) = (
        Registry::new(),
        ArcSwap::from_pointee(first),
        Clock::manual(),
    );
    let (is_done, holding) = (AtomicBool::new(false), AtomicU32::new(0));
    let ask = |class: &Class| {
        while !is_done.load(Ordering::SeqCst) {
            let generation = policy.load_full();
            let maxima: Vec<_> = generation.limits().map(|of| of.settings().max).collect();
            assert_eq!(maxima[0], maxima[1]);
            match registry.acquire(&generation, class, clock.now()) {
                Decision::Admit(permit) => {
                    assert!(
                        holding.fetch_add(1, Ordering::SeqCst) < 8,
                        "above every generation's maximum"
                    );
                    holding.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
                Decision::Reject(rejection) => assert_eq!(rejection.max, maxima[0]),
                Decision::Wait(wait) => panic!("no limit queues: {wait:?}"),
            }
        }
    };
    thread::scope(|scope| {
        for n in 0..4 {
            let ask = &ask;
            let resource = [CALLS, MESSAGES][n % 2];
            scope.spawn(move || ask(&class("acme", resource)));
        }
        for round in 0..3_000 {
            let next = Policy::new(
                settings(&generation([4, 8, 1][round % 3]), 1),
                Some(&policy.load()),
            );
            policy.store(Arc::new(next));
        }
        is_done.store(true, Ordering::SeqCst);
    });
    let snapshot = registry.snapshot(&policy.load());
    assert!(snapshot.in_flight == 0 && snapshot.limits.iter().all(|of| of.in_flight == 0));
}

// A11: one whose wait is over is judged by the maximum of the moment, not by the one that it came under.
#[test]
fn a_lowered_maximum_holds_for_those_who_came_before_it() {
    let waited = |max| with(whole(max), &[Step::Queue(queue(10))]);
    let mut world = World::new(&[waited(2)]);
    let acme = class("acme", CALLS);
    let mut held = world.fill(&acme);
    let wait = world.wait(&acme);
    world.reload(&[waited(1)]);
    drop(held.pop());
    assert_eq!(world.in_flight("whole", &acme), 1, "as many as may be now");
    assert_eq!(world.give_up(wait).reason, Reason::QueueTimeout);
}
