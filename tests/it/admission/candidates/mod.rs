//! Candidates: sets of limits tried on paper, several at once, each as if it alone were in force.
//!
//! What a set would have done is compared with what the same limits do in force, or with a model that is too simple to err.

mod churn;

use std::sync::Arc;
use std::time::Duration;

use tidegate::admission::{
    CandidateSettings, CandidateUse, Class, Counted, Dimension, Follow, LimitSettings, Moves,
    Outcome, Permit, Policy, Registry, ResourceId, UpstreamId,
};
use tidegate::clock::Clock;

use super::{
    CALLS, JOBS, MESSAGES, PROBES, World, class, identify, limit, only, settings, waiting,
};

type Sets<'a> = [(&'a str, Vec<LimitSettings>)];

fn policy(limits: &[LimitSettings], sets: &Sets<'_>, previous: Option<&Policy>) -> Arc<Policy> {
    let mut settings = settings(limits, 1);
    let made = sets.iter().map(|(name, limits)| CandidateSettings {
        name: (*name).into(),
        limits: limits.clone(),
    });
    settings.candidates = made.collect();
    Arc::new(Policy::new(settings, previous))
}

fn world(limits: &[LimitSettings], sets: &Sets<'_>) -> World {
    World {
        registry: Registry::new(),
        policy: policy(limits, sets, None),
        clock: Clock::manual(),
        weight_of_gold: 1,
    }
}

fn reload(world: &mut World, limits: &[LimitSettings], sets: &Sets<'_>) {
    world.policy = policy(limits, sets, Some(&world.policy));
    world.registry.apply(&world.policy);
}

fn account(max: u32) -> LimitSettings {
    limit("account", &[Dimension::Account], max)
}

fn whole(max: u32) -> LimitSettings {
    limit("whole", &[], max)
}

/// Which sets would have refused the request.
fn refusing(permit: &Permit) -> Vec<&str> {
    permit
        .candidates_would_reject()
        .iter()
        .map(|name| &**name)
        .collect()
}

fn seen(world: &World, name: &str) -> CandidateUse {
    let all = world.registry.snapshot(&world.policy).candidates;
    let found = all.into_iter().find(|of| &*of.name == name);
    found.unwrap_or_else(|| panic!("there is no candidate {name}"))
}

/// In flight on paper, by limit.
fn on_paper(world: &World, name: &str) -> Vec<u64> {
    seen(world, name)
        .limits
        .iter()
        .map(|of| of.in_flight)
        .collect()
}

/// Who a set would have refused, and how often.
fn accounts(world: &World, name: &str) -> Vec<(String, u64, u64)> {
    let candidate = world.policy.candidate(name).expect("it is configured");
    let accounts = candidate.would_reject(usize::MAX).into_iter();
    accounts
        .map(|of| (of.account.to_string(), of.rejected, of.error))
        .collect()
}

// G6: two sets at once, each by its own numbers; nobody is refused, and the limits in force count as without them.
#[test]
fn each_set_judges_by_itself_and_refuses_nobody() {
    let sets = [("tighter", vec![account(1)]), ("looser", vec![account(3)])];
    let world = world(&[account(9)], &sets);
    let (acme, other) = (class("acme", CALLS), class("other", CALLS));
    let permits: Vec<_> = (0..4).map(|_| world.admit(&acme)).collect();
    let verdicts: Vec<_> = permits.iter().map(refusing).collect();
    assert_eq!(
        verdicts,
        [
            vec![],
            vec!["tighter"],
            vec!["tighter"],
            vec!["tighter", "looser"]
        ]
    );
    let beside = world.admit(&other);
    assert!(
        refusing(&beside).is_empty(),
        "another account has places of its own"
    );
    assert_eq!(seen(&world, "tighter").would, (2, 3));
    assert_eq!(seen(&world, "looser").would, (4, 1));
    assert_eq!(world.in_flight("account", &acme), 4);
    assert_eq!(
        (on_paper(&world, "tighter"), on_paper(&world, "looser")),
        (vec![2], vec![4])
    );
    assert_eq!(accounts(&world, "tighter"), [("acme".to_owned(), 3, 0)]);
    drop((permits, beside));
    world.assert_empty();
}

// G6: who would have been refused takes no place on paper, neither while in flight nor by its end.
#[test]
fn who_would_have_been_refused_takes_no_place_on_paper() {
    let world = world(&[], &[("one", vec![account(1)])]);
    let acme = class("acme", CALLS);
    let counted = world.admit(&acme);
    let refused = world.admit(&acme);
    drop(world.admit(&acme));
    assert_eq!(
        refusing(&world.admit(&acme)),
        ["one"],
        "no end of theirs frees the place"
    );
    drop(counted);
    assert_eq!(on_paper(&world, "one"), [0]);
    assert!(
        refusing(&world.admit(&acme)).is_empty(),
        "paper is empty, though one is in flight"
    );
    drop(refused);
    world.assert_empty();
}

// G6: within a set all limits have a place, or none gives one; the first without one is named, as a refusal would name it.
#[test]
fn a_set_takes_places_in_all_of_its_limits_or_in_none() {
    let sets = [("pair", vec![whole(2), account(1)])];
    let world = world(&[], &sets);
    let first = world.admit(&class("acme", CALLS));
    let refused = world.admit(&class("acme", CALLS));
    assert_eq!(refusing(&refused), ["pair"]);
    assert_eq!(
        on_paper(&world, "pair"),
        [1, 1],
        "the wide limit was not touched"
    );
    let second = world.admit(&class("other", CALLS));
    assert!(
        refusing(&second).is_empty(),
        "its place in the wide limit is free"
    );
    assert_eq!(refusing(&world.admit(&class("third", CALLS))), ["pair"]);
    let would: Vec<_> = seen(&world, "pair")
        .limits
        .iter()
        .map(|of| of.would)
        .collect();
    assert_eq!(
        would,
        [(2, 1), (2, 1)],
        "the account's own limit is asked first"
    );
    assert_eq!(seen(&world, "pair").would, (2, 2));
    drop((first, second, refused));
    world.assert_empty();
}

// G6, A8: a request that a limit in force refuses is no matter of the candidates.
#[test]
fn what_is_refused_in_earnest_is_not_judged_on_paper() {
    let world = world(&[whole(1)], &[("one", vec![account(1)])]);
    let permit = world.admit(&class("acme", CALLS));
    drop(world.refuse(&class("acme", CALLS)));
    assert_eq!(seen(&world, "one").would, (1, 0));
    drop(permit);
}

// G6: who waited is judged when he is let in; a reload of the sets alone leaves him in his place.
#[test]
fn who_waits_is_judged_when_he_is_let_in() {
    let closed = || [("closed", vec![account(0)])];
    let mut world = world(&[waiting::whole(1)], &closed());
    let first = world.admit(&class("acme", CALLS));
    let mut second = world.wait(&class("other", CALLS));
    let mut third = world.wait(&class("third", CALLS));
    assert_eq!(seen(&world, "closed").would, (0, 1));
    let mut sets = closed().to_vec();
    sets.push(("more", vec![account(1)]));
    reload(&mut world, &[waiting::whole(1)], &sets);
    drop(first);
    let second = waiting::served(&mut second);
    assert_eq!(refusing(&second), ["closed"]);
    assert!(second.story().is_some_and(|story| story.was_queued));
    drop(second);
    let third = waiting::served(&mut third);
    assert_eq!(seen(&world, "closed").would, (0, 3));
    drop(third);
    world.assert_empty();
}

// G6: a set is asked about what its limits cover, and about nothing that is exempt.
#[test]
fn a_set_is_asked_about_what_it_covers() {
    let calls = only(account(0), &[CALLS]);
    let mut there = whole(0);
    there.upstreams = Some(vec![UpstreamId(1)]);
    identify(&mut there);
    let world = world(&[], &[("calls", vec![calls]), ("bulk", vec![there])]);
    let verdict = |resource: ResourceId| {
        let permit = world.admit(&class("acme", resource));
        refusing(&permit).join(" ")
    };
    assert_eq!(
        [CALLS, MESSAGES, JOBS, PROBES].map(verdict),
        ["calls", "", "bulk", ""]
    );
    assert_eq!(seen(&world, "calls").would, (0, 1));
}

// G6, A10, A31: overrides and costs count on paper as they would in force.
#[test]
fn overrides_and_costs_count_on_paper() {
    let mut own = account(4);
    own.account_max = vec![(super::account("vip"), 8)];
    let world = world(&[], &[("one", vec![own])]);
    let asks = |name: &str, cost: u32| {
        let class = Class {
            cost,
            ..class(name, CALLS)
        };
        world.admit(&class)
    };
    let (three, two) = (asks("acme", 3), asks("acme", 2));
    assert_eq!((refusing(&three), refusing(&two)), (vec![], vec!["one"]));
    let (vip, more) = (asks("vip", 6), asks("vip", 3));
    assert_eq!((refusing(&vip), refusing(&more)), (vec![], vec!["one"]));
    assert_eq!(on_paper(&world, "one"), [9]);
    drop((three, two, vip, more));
    world.assert_empty();
}

// G6, A26: what time gives back, time gives back on paper.
#[test]
fn rates_are_judged_on_paper() {
    let mut starts = account(2);
    starts.counted = Counted::StartsPer(Duration::from_secs(1));
    let mut done = whole(1);
    done.counted = Counted::CompletionsPer(Duration::from_secs(60));
    let world = world(&[], &[("pace", vec![starts]), ("done", vec![done])]);
    let acme = class("acme", CALLS);
    let end = || {
        let permit = world.admit(&acme);
        let refusing = refusing(&permit).join(" ");
        permit.finish(Outcome::Success, world.clock.now());
        refusing
    };
    assert_eq!([end(), end(), end()], ["", "done", "pace done"]);
    world.clock.advance(Duration::from_millis(500));
    assert_eq!(end(), "done", "one of two places a second is due");
    world.clock.advance(Duration::from_secs(70));
    assert_eq!(end(), "");
}

// G6, A12, A13: a maximum that moves, moves on paper too.
#[test]
fn moving_maxima_move_on_paper() {
    let mut each = whole(2);
    each.moves = Some(Moves::PerEndpoint {
        each: 2,
        of: UpstreamId(0),
    });
    let mut follow = whole(1);
    let rule = Follow {
        floor: 1,
        ceiling: 9,
        headroom_percent: 200,
    };
    follow.moves = Some(Moves::Follow(rule));
    let world = world(&[], &[("each", vec![each]), ("follow", vec![follow])]);
    let acme = class("acme", CALLS);
    world.policy.follow_endpoints(|_| 3);
    let permits: Vec<_> = (0..7).map(|_| world.admit(&acme)).collect();
    let of = |name: &str| {
        permits
            .iter()
            .filter(|of| !refusing(of).contains(&name))
            .count()
    };
    assert_eq!((of("each"), of("follow")), (6, 1));
    drop(permits);
    world.registry.turn_peaks(&world.policy);
    let permits: Vec<_> = (0..3).map(|_| world.admit(&acme)).collect();
    assert_eq!(
        refusing(&permits[1]).len(),
        0,
        "twice the one of the last interval"
    );
    assert_eq!(refusing(&permits[2]), ["follow"]);
}

// G6: places return with the response's last byte where leases do not count, and with the lease where they do.
#[test]
fn leases_keep_places_on_paper_as_they_would_in_force() {
    let mut skips = whole(5);
    skips.counts_leases = false;
    let world = world(&[], &[("one", vec![account(5), skips])]);
    let mut permit = world.admit(&class("acme", CALLS));
    assert_eq!(on_paper(&world, "one"), [1, 1]);
    permit.keep_for_lease();
    assert_eq!(on_paper(&world, "one"), [1, 0]);
    drop(permit);
    world.assert_empty();
}

// G6, G4: a set of the same name keeps the counts of limits that stay the same, what is in flight included.
#[test]
fn a_reload_keeps_what_stays_the_same() {
    let acme = class("acme", CALLS);
    let mut world = world(&[], &[("trial", vec![account(2), whole(9)])]);
    let mut permits: Vec<_> = (0..3).map(|_| world.admit(&acme)).collect();
    let narrowed = only(whole(9), &[CALLS]);
    let sets = [
        ("other", vec![account(2)]),
        ("trial", vec![narrowed, account(4)]),
    ];
    reload(&mut world, &[], &sets);
    assert_eq!(
        on_paper(&world, "trial"),
        [0, 2],
        "what counts something else begins at zero"
    );
    assert_eq!(
        on_paper(&world, "other"),
        [0],
        "so does another set, whatever its limits are"
    );
    assert_eq!(seen(&world, "trial").would, (2, 1));
    assert_eq!(accounts(&world, "trial"), [("acme".to_owned(), 1, 0)]);
    permits.extend((0..3).map(|_| world.admit(&acme)));
    let verdicts: Vec<_> = permits[3..].iter().map(refusing).collect();
    assert_eq!(verdicts, [vec![], vec![], vec!["other", "trial"]]);
    reload(&mut world, &[], &[]);
    drop(permits);
    world.assert_empty();
}

// G6: put in force, a set begins like any new limit, and one that is in force already keeps its count under the new number.
#[test]
fn a_set_that_is_put_in_force_counts_like_any_limit() {
    let acme = class("acme", CALLS);
    let trial = || limit("trial", &[Dimension::Account], 2);
    let mut world = world(&[account(9)], &[("tighter", vec![account(2), trial()])]);
    let permits: Vec<_> = (0..3).map(|_| world.admit(&acme)).collect();
    reload(&mut world, &[account(2)], &[]);
    assert_eq!(
        world.refuse(&acme).in_flight,
        3,
        "the real count is known already"
    );
    reload(&mut world, &[trial()], &[]);
    assert_eq!(world.in_flight("trial", &acme), 0);
    assert_eq!(world.fill(&acme).len(), 2);
    drop(permits);
    world.assert_empty();
}

// G6: the verdict needs the heap only where somebody would have been refused, or where the permit holds many cells.
#[test]
fn a_verdict_that_admits_does_not_allocate() {
    let world = world(
        &[account(9)],
        &[("a", vec![account(9)]), ("b", vec![whole(9), account(8)])],
    );
    let class = class("acme", CALLS);
    drop(world.admit(&class));
    let allocations = allocation_counter::measure(|| drop(world.admit(&class)));
    assert_eq!(allocations.count_total, 0, "{allocations:?}");
}
