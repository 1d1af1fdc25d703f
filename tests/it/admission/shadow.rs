//! A limit in shadow decides on paper only: two counts, one of what is, one of what would have been.

use tidegate::admission::{Dimension, LimitSettings, Mode};

use super::{CALLS, World, class, in_mode, limit};

fn of_mode(mode: Mode, max: u32) -> LimitSettings {
    in_mode(limit("trial", &[Dimension::Account], max), mode)
}

fn verdicts(world: &World) -> (u64, u64) {
    world.registry.snapshot(&world.policy).limits[0].would
}

// Mode shadow: nobody is refused, and what would have been refused is named on its permit.
#[test]
fn shadow_admits_everybody_and_names_who_would_have_been_refused() {
    let world = World::new(&[of_mode(Mode::Shadow, 2)]);
    let acme = class("acme", CALLS);
    let permits: Vec<_> = (0..5).map(|_| world.admit(&acme)).collect();
    let refused: Vec<_> = permits
        .iter()
        .map(|of| of.would_reject().map(|name| &**name))
        .collect();
    assert_eq!(
        refused,
        [None, None, Some("trial"), Some("trial"), Some("trial")]
    );
    assert_eq!(verdicts(&world), (2, 3));
    assert_eq!(
        world.in_flight("trial", &acme),
        5,
        "the real count is of what is"
    );
    drop(permits);
    world.assert_empty();
}

// Mode shadow: who would have been refused takes no place on paper: neither while in flight nor by its end.
#[test]
fn who_would_have_been_refused_takes_no_place_on_paper() {
    let world = World::new(&[of_mode(Mode::Shadow, 1)]);
    let acme = class("acme", CALLS);
    let on_paper = world.admit(&acme);
    let refused = world.admit(&acme);
    drop(world.admit(&acme));
    assert!(
        world.admit(&acme).would_reject().is_some(),
        "no end of theirs frees the place"
    );
    drop(on_paper);
    assert_eq!(world.in_flight("trial", &acme), 1);
    assert!(
        world.admit(&acme).would_reject().is_none(),
        "paper is empty, though one is in flight"
    );
    drop(refused);
    world.assert_empty();
}

// Mode shadow: each key has its own paper.
#[test]
fn paper_is_kept_for_each_key() {
    let world = World::new(&[of_mode(Mode::Shadow, 1)]);
    let (acme, other) = (
        world.admit(&class("acme", CALLS)),
        world.admit(&class("other", CALLS)),
    );
    assert!(acme.would_reject().is_none() && other.would_reject().is_none());
}

// G4: switched to enforce, the limit knows everything that is in flight; switched back, it goes on.
#[test]
fn the_real_count_is_valid_when_enforcement_is_switched_on() {
    let mut world = World::new(&[of_mode(Mode::Shadow, 2)]);
    let acme = class("acme", CALLS);
    let mut permits: Vec<_> = (0..4).map(|_| world.admit(&acme)).collect();
    assert_eq!(world.reload(&[of_mode(Mode::Enforce, 2)]), [""; 0]);
    assert_eq!(world.refuse(&acme).in_flight, 4);
    permits.truncate(2);
    assert_eq!(world.refuse(&acme).in_flight, 2);
    permits.pop();
    permits.push(world.admit(&acme));
    world.reload(&[of_mode(Mode::Shadow, 2)]);
    permits.push(world.admit(&acme));
    assert_eq!(world.in_flight("trial", &acme), 3);
    drop(permits);
    world.assert_empty();
}

// Mode off: a limit that is off counts nothing, and what was counted before is given back right.
#[test]
fn off_counts_nothing() {
    let mut world = World::new(&[of_mode(Mode::Enforce, 2)]);
    let acme = class("acme", CALLS);
    let counted = world.fill(&acme);
    world.reload(&[of_mode(Mode::Off, 2)]);
    let uncounted: Vec<_> = (0..5).map(|_| world.admit(&acme)).collect();
    assert_eq!(world.in_flight("trial", &acme), 2);
    assert_eq!(verdicts(&world), (0, 0));
    drop(counted);
    assert_eq!(world.in_flight("trial", &acme), 0);
    drop(uncounted);
    world.assert_empty();
}

// A8: a request that an enforced limit refuses is no matter of those in shadow.
#[test]
fn what_is_refused_in_earnest_is_not_judged_on_paper() {
    let world = World::new(&[of_mode(Mode::Shadow, 9), limit("whole", &[], 1)]);
    let permit = world.admit(&class("acme", CALLS));
    drop(world.refuse(&class("acme", CALLS)));
    assert_eq!(verdicts(&world), (1, 0));
    drop(permit);
    world.assert_empty();
}
