//! Counting that spares: samples, and limits that hold only under pressure.

use tidegate::admission::{Decision, Dimension, LimitSettings, Mode, Pressure};

use super::{CALLS, World, class, in_mode, limit};

fn sampled(max: u32, sample: u32) -> LimitSettings {
    let mut limit = limit("sampled", &[], max);
    limit.sample = sample;
    limit
}

/// At most three places for each account, once half of the eight of all are taken.
fn pressed() -> [LimitSettings; 2] {
    let mut account = limit("account", &[Dimension::Account], 3);
    account.pressure = Some(Pressure {
        limit: 1,
        percent: 50,
    });
    [account, limit("whole", &[], 8)]
}

// A30: a sampled count is right on average, within what the docs say; everything is given back.
#[test]
fn a_sampled_limit_admits_its_maximum_on_average() {
    let (mut total, rounds) = (0, 50);
    for _ in 0..rounds {
        let world = World::new(&[sampled(1_000, 10)]);
        let acme = class("acme", CALLS);
        let held = world.fill(&acme);
        let shown = world.in_flight("sampled", &acme);
        assert_eq!(shown, 1_000, "what is shown is in places");
        let refused = world.refuse(&acme);
        assert_eq!((refused.max, refused.in_flight), (1_000, 1_000));
        // The hundredth sample comes after 1,000 requests, with a deviation of 95 (negative binomial): six of them are never seen.
        assert!((430..1_570).contains(&held.len()), "{}", held.len());
        total += held.len();
        drop(held);
        world.assert_empty();
    }
    // The mean of fifty deviates by 13.
    let mean = total / rounds;
    assert!((920..1_080).contains(&mean), "{mean}");
}

// A30, G6: in shadow mode, too, one of several is counted, and verdicts are of all.
#[test]
fn a_sampled_limit_in_shadow_mode_judges_every_request() {
    let world = World::new(&[in_mode(sampled(100, 10), Mode::Shadow)]);
    let acme = class("acme", CALLS);
    let held: Vec<_> = (0..1_000).map(|_| world.admit(&acme)).collect();
    let seen = &world.registry.snapshot(&world.policy).limits[0];
    let (would, would_not) = seen.would;
    assert_eq!(would + would_not, 1_000);
    // Ten samples come after 100 requests, with a deviation of 30.
    assert!((10..400).contains(&would), "{would}");
    drop(held);
    world.assert_empty();
}

// A30: below the threshold it refuses nobody, and at it holds by what was counted all along.
#[test]
fn a_limit_holds_only_while_another_is_nearly_full() {
    let world = World::new(&pressed());
    let (acme, other) = (class("acme", CALLS), class("other", CALLS));
    let mut held: Vec<_> = (0..4).map(|_| world.admit(&acme)).collect();
    let refused = world.refuse(&acme);
    assert_eq!(
        (&*refused.limit, refused.max, refused.in_flight),
        ("account", 3, 4)
    );
    held.push(world.admit(&other));
    drop(held.drain(..2));
    // Three of eight: no pressure, so the account may go above its own maximum again.
    held.push(world.admit(&acme));
    assert_eq!(world.in_flight("whole", &acme), 4);
    assert!(matches!(world.acquire(&acme), Decision::Reject(_)));
    held.clear();
    world.assert_empty();
}
