//! Candidates under churn: crowds of accounts, random requests against a model, and threads that race.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use tidegate::admission::{Class, Counted, LimitSettings, Permit};

use super::super::{CALLS, class, seeds};
use super::{account, accounts, on_paper, refusing, reload, seen, whole, world};

/// Accounts that a candidate's sketch lists.
const LISTED: usize = 128;

// G6, G18: however many accounts come, the list stays short, the heavy one is on it, and what is told is within its error.
#[test]
fn a_crowd_of_accounts_neither_grows_memory_nor_hides_the_heavy_one() {
    let world = world(&[], &[("closed", vec![account(0)])]);
    let mut rng = Rng::with_seed(6);
    let (mut truth, mut all) = (0, 0);
    for number in 0..20_000 {
        let is_heavy = rng.u32(..20) == 0;
        let name = if is_heavy {
            "heavy".to_owned()
        } else {
            format!("light-{number}")
        };
        truth += u64::from(is_heavy);
        all += 1;
        assert_eq!(refusing(&world.admit(&class(&name, CALLS))), ["closed"]);
    }
    let listed = accounts(&world, "closed");
    assert_eq!(listed.len(), LISTED);
    let (name, rejected, error) = &listed[0];
    assert_eq!(name, "heavy");
    assert!(
        rejected - error <= truth && truth <= *rejected,
        "{truth} of {listed:?}"
    );
    assert!(
        listed
            .iter()
            .all(|(_, _, error)| *error <= all / LISTED as u64)
    );
    world.registry.sweep(world.clock.now());
    world.registry.sweep(world.clock.now());
    assert_eq!(
        world.registry.cells(),
        0,
        "who is refused on paper leaves no cell there"
    );
}

/// The limits of a set as the model keeps them: whether it counts accounts, and its maximum.
type Modelled<'a> = (&'a str, [(bool, u32); 2]);

/// What a set would have done, by the simplest means; the limit by account is asked first.
fn modelled(
    of: &Modelled<'_>,
    counts: &mut HashMap<(String, usize, String), u32>,
    class: &Class,
) -> Option<Vec<(String, usize, String)>> {
    let (name, limits) = of;
    let places = limits.iter().enumerate().map(|(index, (is_keyed, max))| {
        let key = if *is_keyed {
            class.account.to_string()
        } else {
            String::new()
        };
        (((*name).to_owned(), index, key), *max)
    });
    let places: Vec<_> = places.collect();
    let count = |place| counts.get(place).copied().unwrap_or(0);
    if places
        .iter()
        .any(|(place, max)| count(place) + class.cost > *max)
    {
        return None;
    }
    for (place, _) in &places {
        *counts.entry(place.clone()).or_default() += class.cost;
    }
    Some(places.into_iter().map(|(place, _)| place).collect())
}

// G6: over random requests, ends and reloads, every verdict of every set is that of a set that stands alone.
#[test]
fn every_verdict_is_that_of_a_set_that_stands_alone() {
    let sets: [Modelled<'static>; 3] = [
        ("tight", [(true, 2), (false, 5)]),
        ("wide", [(true, 4), (false, 9)]),
        ("flat", [(true, 9), (false, 4)]),
    ];
    let limits = |of: &Modelled<'static>| {
        let [(_, own), (_, all)] = of.1;
        (of.0, vec![account(own), whole(all)])
    };
    for seed in seeds(40) {
        let mut rng = Rng::with_seed(seed);
        let mut world = world(&[whole(12)], &sets.each_ref().map(limits));
        let (mut counts, mut held) = (HashMap::new(), Vec::new());
        for step in 0..300 {
            if !held.is_empty() && rng.u8(..5) < 2 {
                let (permit, cost, places): (Permit, u32, Vec<_>) =
                    held.swap_remove(rng.usize(..held.len()));
                drop(permit);
                for place in places {
                    *counts.get_mut(&place).expect("it was taken") -= cost;
                }
            } else if rng.u8(..40) == 0 {
                let mut order = sets.each_ref().map(limits);
                rng.shuffle(&mut order);
                reload(&mut world, &[whole(12)], &order);
            } else {
                let name = ["acme", "other", "third", "gold-1"][rng.usize(..4)];
                let class = Class {
                    cost: rng.u32(1..3),
                    ..class(name, CALLS)
                };
                if world.in_flight("whole", &class) + class.cost > 12 {
                    drop(world.refuse(&class));
                    continue;
                }
                let permit = world.admit(&class);
                let mut places = Vec::new();
                for set in &sets {
                    let taken = modelled(set, &mut counts, &class);
                    let is_refused = refusing(&permit).contains(&set.0);
                    assert_eq!(
                        is_refused,
                        taken.is_none(),
                        "{} in step {step} of seed {seed}",
                        set.0
                    );
                    places.extend(taken.into_iter().flatten());
                }
                held.push((permit, class.cost, places));
            }
        }
        drop(held);
        world.assert_empty();
    }
}

// G6, A1: threads that race for places on paper get no more than there are, and give back what they took.
#[test]
fn threads_that_race_on_paper_leave_nothing_behind() {
    let sets = [
        ("narrow", vec![account(3), whole(2)]),
        (
            "pace",
            vec![
                LimitSettings {
                    counted: Counted::StartedWithin(Duration::from_secs(60)),
                    ..account(2)
                },
                whole(1),
            ],
        ),
    ];
    let world = world(&[], &sets);
    let now = world.clock.now();
    thread::scope(|scope| {
        for name in ["acme", "acme", "other", "third"] {
            let (registry, policy) = (&world.registry, &world.policy);
            scope.spawn(move || {
                let class = class(name, CALLS);
                for _ in 0..2_000 {
                    drop(registry.acquire(policy, &class, now));
                }
            });
        }
    });
    for (name, max) in [("narrow", 2), ("pace", 1)] {
        let candidate = world.policy.candidate(name).expect("it is configured");
        let wide = candidate
            .limits()
            .find(|of| of.name() == "whole")
            .expect("it is there");
        let keys = world.registry.keys(&world.policy, wide, 1);
        assert!((1..=max).contains(&keys[0].peak), "{name}: {keys:?}");
        let (admitted, rejected) = seen(&world, name).would;
        assert_eq!(admitted + rejected, 8_000);
        assert_eq!(on_paper(&world, name), [0, 0]);
    }
    world.assert_empty();
}
