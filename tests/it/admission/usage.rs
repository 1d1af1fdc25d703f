//! Who used most in the last interval, whether or not the accounts' cells are still there.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::admission::{Dimension, Outcome, Permit, Registry};

use super::{CALLS, World, class, limit, seeds};

/// Name, in flight and peak of each account that is listed.
fn listed(world: &World, top: usize) -> Vec<(String, u32, u32)> {
    let rows = world.registry.accounts(top);
    let row = |of: &tidegate::admission::AccountUse| {
        (of.account.as_str().to_owned(), of.in_flight, of.peak)
    };
    rows.iter().map(row).collect()
}

fn row(name: &str, in_flight: u32, peak: u32) -> (String, u32, u32) {
    (name.to_owned(), in_flight, peak)
}

fn hold(world: &World, name: &str, count: usize) -> Vec<Permit> {
    let class = class(name, CALLS);
    (0..count).map(|_| world.admit(&class)).collect()
}

/// Sweeps until idle cells are gone: the first sweep finds them used of late, the second does not.
fn sweep_out(world: &World) {
    for _ in 0..2 {
        world.clock.advance(Duration::from_secs(1));
        world.registry.sweep(world.clock.now());
    }
}

fn turn(world: &World) {
    world.registry.turn_peaks(&world.policy);
}

// A28: the peak is the last complete interval's; what is in flight is the moment's.
#[test]
fn accounts_are_listed_by_their_peak_in_the_last_complete_interval() {
    let world = World::new(&[]);
    let mut small = hold(&world, "small", 2);
    let big = hold(&world, "big", 5);
    assert_eq!(listed(&world, 20), [row("big", 5, 0), row("small", 2, 0)]);
    drop(big);
    turn(&world);
    small.extend(hold(&world, "small", 7));
    assert_eq!(listed(&world, 20), [row("big", 0, 5), row("small", 9, 2)]);
    assert_eq!(listed(&world, 1), [row("big", 0, 5)]);
    turn(&world);
    assert_eq!(listed(&world, 20), [row("small", 9, 9)]);
}

// A28: the largest user of an interval is listed although its cell went before the interval ended, or after.
#[test]
fn an_account_whose_cell_is_gone_is_listed_for_as_long_as_the_others() {
    for is_gone_before_the_turn in [true, false] {
        let world = World::new(&[]);
        drop(hold(&world, "big", 5));
        let small = hold(&world, "small", 2);
        if is_gone_before_the_turn {
            sweep_out(&world);
            assert_eq!(world.registry.cells(), 1);
            turn(&world);
        } else {
            turn(&world);
            sweep_out(&world);
            assert_eq!(world.registry.cells(), 1);
        }
        let rows = [row("big", 0, 5), row("small", 2, 2)];
        assert_eq!(listed(&world, 20), rows, "{is_gone_before_the_turn}");
        turn(&world);
        assert_eq!(listed(&world, 20), [row("small", 2, 2)]);
        drop(small);
    }
}

// A28: one that went and came back within an interval has the larger of its peaks, and one row.
#[test]
fn an_account_that_comes_back_has_its_largest_peak() {
    let world = World::new(&[]);
    for count in [3, 6, 4] {
        drop(hold(&world, "acme", count));
        sweep_out(&world);
        assert_eq!(world.registry.cells(), 0);
    }
    let back = hold(&world, "acme", 1);
    turn(&world);
    assert_eq!(listed(&world, 20), [row("acme", 1, 6)]);
    drop(back);
}

// A28: among thousands that came and went, and some that stay, as many as can be asked for are exact.
#[test]
fn the_largest_of_many_are_exact() {
    for seed in seeds(4) {
        let mut chance = fastrand::Rng::with_seed(seed);
        let world = World::new(&[]);
        let mut peaks = BTreeMap::<String, u32>::new();
        let mut stay = Vec::new();
        for _ in 0..6 {
            for _ in 0..1_500 {
                let name = format!("account-{}", chance.u32(..4_000));
                let count = 1 + chance.u32(..20) * u32::from(chance.u8(..4) == 0);
                let permits = hold(&world, &name, count as usize);
                let class = class(&name, CALLS);
                let in_flight = world.registry.account_in_flight(&world.policy, &class);
                let peak = peaks.entry(name).or_default();
                *peak = in_flight.max(*peak);
                if chance.u8(..100) == 0 {
                    stay.push(permits);
                }
            }
            sweep_out(&world);
        }
        turn(&world);
        sweep_out(&world);
        let mut wanted: Vec<u32> = peaks.values().copied().collect();
        wanted.sort_unstable_by(|a, b| b.cmp(a));
        wanted.truncate(Registry::ACCOUNTS_MAX);
        let rows = listed(&world, usize::MAX);
        let seen: Vec<u32> = rows.iter().map(|(_, _, peak)| *peak).collect();
        assert_eq!(seen, wanted, "seed {seed}");
        for (name, _, peak) in &rows {
            assert_eq!(peaks.get(name), Some(peak), "seed {seed}, {name}");
        }
        drop(stay);
    }
}

// A28, G18: a flood of accounts pushes idle cells out before any sweep, and hides no large user.
#[test]
fn a_flood_of_accounts_hides_no_large_one() {
    let world = World::new(&[]);
    for (count, name) in [(9, "first"), (8, "second"), (7, "third")] {
        drop(hold(&world, name, count));
    }
    for n in 0..100_000 {
        drop(hold(&world, &format!("flood-{n}"), 1));
    }
    assert!(
        world.registry.cells() < 80_000,
        "{}",
        world.registry.cells()
    );
    turn(&world);
    let wanted = [row("first", 0, 9), row("second", 0, 8), row("third", 0, 7)];
    assert_eq!(listed(&world, 3), wanted);
}

// G24: demand is what would be in use if nobody were refused: what is held and waits, and by Little's law what the refused would hold.
#[test]
fn demand_counts_what_is_refused_by_how_long_it_would_have_stayed() {
    let world = World::new(&[limit("account", &[Dimension::Account], 4)]);
    let demand = |world: &World| world.registry.snapshot(&world.policy).limits[0].demand;
    let held = hold(&world, "a", 4);
    assert_eq!(demand(&world), Some(4.0));
    world.clock.advance(Duration::from_secs(2));
    for permit in held {
        permit.finish(Outcome::Success, world.clock.now());
    }
    let held = hold(&world, "a", 4);
    for _ in 0..60 {
        for _ in 0..50 {
            world.refuse(&class("a", CALLS));
        }
        world.policy.turn_rates(Duration::from_secs(1));
    }
    // Four are held; fifty a second that would each stay for two seconds are a hundred more.
    let busy = demand(&world).expect("places are held");
    assert!((busy - 104.0).abs() < 1.0, "{busy}");
    assert_eq!(
        world.registry.snapshot(&world.policy).limits[0].refused,
        3_000
    );
    (0..120).for_each(|_| world.policy.turn_rates(Duration::from_secs(1)));
    let calm = demand(&world).expect("places are held");
    assert!((calm - 4.0).abs() < 0.1, "{calm}");
    drop(held);
}

// G10: who stands at its own limit is found among many that hold more of a larger one.
#[test]
fn the_fullest_keys_are_those_that_have_taken_most_of_their_own_places() {
    let mut by_account = limit("account", &[Dimension::Account], 1_000);
    by_account.account_max = vec![(super::account("small"), 2), (super::account("middle"), 40)];
    let world = World::new(&[by_account, limit("whole", &[], 5_000)]);
    let mut held: Vec<_> = (0..50)
        .flat_map(|at| hold(&world, &format!("large-{at:02}"), 20 + at))
        .collect();
    held.extend(hold(&world, "small", 2));
    held.extend(hold(&world, "middle", 20));
    let fullest = world.registry.fullest(&world.policy, 2, 3);
    let names: Vec<_> = fullest[0]
        .iter()
        .map(|row| (row.key[0].1.as_str(), row.in_flight, row.max))
        .collect();
    assert_eq!(
        names,
        [("small", 2, 2), ("middle", 20, 40), ("large-49", 69, 1_000)]
    );
    assert_eq!(fullest[1].len(), 1);
    assert_eq!(fullest[1][0].in_flight as usize, held.len());
    assert_eq!(world.registry.fullest(&world.policy, 1, 3).len(), 1);
}

// G10: of two keys that are both full, the one that is being refused stands first; and it does no longer once that is over.
#[test]
fn who_is_refused_stands_before_who_is_only_full() {
    let world = World::new(&[limit("account", &[Dimension::Account], 3)]);
    let _held = (hold(&world, "quiet", 3), hold(&world, "zealous", 3));
    let first = |world: &World| {
        let rows = world.registry.fullest(&world.policy, 1, 2).remove(0);
        (rows[0].key[0].1.clone(), rows[0].refused_lately)
    };
    for _ in 0..5 {
        world.refuse(&class("zealous", CALLS));
    }
    assert_eq!(first(&world), ("zealous".to_owned(), 5));
    let keys = world
        .registry
        .keys(&world.policy, world.policy.limits().next().expect("one"), 1);
    assert_eq!(keys[0].key[0].1, "zealous");
    (0..3).for_each(|_| turn(&world));
    assert_eq!(first(&world).1, 0);
    for _ in 0..2 {
        world.refuse(&class("quiet", CALLS));
    }
    assert_eq!(first(&world).0, "quiet");
}
