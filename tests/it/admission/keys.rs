//! What is counted together and what apart; whose maximum counts; what a refusal says; and that keys leave no trace.

use smallvec::smallvec;
use tidegate::admission::{Class, ClientNetwork, Dimension, Mode, Reason, UpstreamId, Value};

use super::{CALLS, GOLD, JOBS, MESSAGES, PROBES, World, account, class, in_mode, limit, only};

/// Under a limit of 1 on `per`, `same` share the place and `others` have one of their own each.
#[track_caller]
fn assert_keyed(per: &[Dimension], same: &[Class], others: &[Class]) {
    let world = World::new(&[limit("keyed", per, 1)]);
    let first = world.admit(&same[0]);
    for class in same {
        assert_eq!(world.refuse(class).limit.as_ref(), "keyed", "{per:?}");
    }
    let held: Vec<_> = others.iter().map(|class| world.admit(class)).collect();
    drop(first);
    let again = world.admit(same.last().expect("there is one"));
    drop((held, again));
    world.assert_empty();
}

fn from_address(address: &str) -> Class {
    let network = Some(ClientNetwork::of(address.parse().expect("an address")));
    Class {
        network,
        ..class("acme", CALLS)
    }
}

fn with_values(first: &str, second: &str) -> Class {
    let value = |text: &str| Value::new(Some(text.as_bytes()));
    Class {
        values: smallvec![value(first), value(second)],
        ..class("acme", CALLS)
    }
}

// A7: an account is counted whatever it does.
#[test]
fn accounts_are_counted_apart() {
    let same = [
        class("acme", CALLS),
        class("acme", MESSAGES),
        class("acme", JOBS),
    ];
    assert_keyed(
        &[Dimension::Account],
        &same,
        &[class("Acme", CALLS), class("other", CALLS)],
    );
}

// A7: a resource is counted whoever uses it.
#[test]
fn resources_are_counted_apart() {
    let same = [class("acme", CALLS), class("other", CALLS)];
    assert_keyed(
        &[Dimension::Resource],
        &same,
        &[class("acme", MESSAGES), class("acme", JOBS)],
    );
}

// A7: a group is counted over its accounts, and those without a group are one.
#[test]
fn groups_are_counted_apart_and_accounts_without_one_together() {
    let gold = [class("gold-1", CALLS), class("gold-2", JOBS)];
    let rest = [class("acme", CALLS), class("other", MESSAGES)];
    assert_keyed(&[Dimension::Group], &gold, &rest[..1]);
    assert_keyed(&[Dimension::Group], &rest, &gold[..1]);
}

// A7: an upstream is counted over all that goes there.
#[test]
fn upstreams_are_counted_apart() {
    let same = [class("acme", CALLS), class("other", MESSAGES)];
    assert_keyed(&[Dimension::Upstream], &same, &[class("acme", JOBS)]);
}

// A7, G19: a client network is counted over its addresses, and those without one are one.
#[test]
fn client_networks_are_counted_apart() {
    let same = [from_address("192.0.2.1"), from_address("192.0.2.77")];
    let others = [
        from_address("192.0.3.1"),
        from_address("2001:db8::1"),
        class("acme", CALLS),
    ];
    assert_keyed(&[Dimension::ClientNetwork], &same, &others);
    assert_keyed(&[Dimension::ClientNetwork], &others[2..], &same[..1]);
}

// A7: header and path values are counted apart, and each position by itself.
#[test]
fn header_and_path_values_are_counted_apart() {
    let same = [with_values("eu", "a"), with_values("eu", "b")];
    assert_keyed(
        &[Dimension::Value(0)],
        &same,
        &[with_values("us", "a"), with_values("a", "eu")],
    );
    let both = [Dimension::Value(0), Dimension::Value(1)];
    let others = [
        with_values("eu", "b"),
        with_values("a", "eu"),
        with_values("eua", "-"),
    ];
    assert_keyed(&both, &same[..1], &others);
}

// A7: the process, and no dimension at all, count everything together.
#[test]
fn the_process_and_the_whole_are_one_key() {
    let same = [
        class("acme", CALLS),
        class("gold-1", JOBS),
        from_address("192.0.2.1"),
    ];
    assert_keyed(&[Dimension::Process], &same, &[]);
    assert_keyed(&[], &same, &[]);
}

// A7, A5: an account's calls and its messages are counted apart, and so are two accounts' calls.
#[test]
fn account_and_resource_are_counted_as_a_pair() {
    let same = [class("acme", CALLS), from_address("192.0.2.1")];
    let others = [
        class("acme", MESSAGES),
        class("other", CALLS),
        class("other", MESSAGES),
    ];
    assert_keyed(&[Dimension::Account, Dimension::Resource], &same, &others);
}

// A9, A10: the account's own maximum goes before its group's, and that before the default.
#[test]
fn overrides_are_asked_account_first_then_group_then_default() {
    let mut overridden = limit("account", &[Dimension::Account], 3);
    overridden.group_max = vec![(GOLD, 5)];
    overridden.account_max = vec![(account("gold-1"), 7), (account("closed"), 0)];
    let world = World::new(&[overridden]);
    for (name, wanted) in [("acme", 3), ("gold-2", 5), ("gold-1", 7), ("closed", 0)] {
        let permits = world.fill(&class(name, CALLS));
        assert_eq!(permits.len(), wanted, "{name}");
        assert_eq!(world.refuse(&class(name, CALLS)).max as usize, wanted);
    }
}

// A27: a request takes as many places as it costs, and fits only if all of them do.
#[test]
fn a_cost_takes_that_many_places_or_none() {
    let world = World::new(&[limit("account", &[Dimension::Account], 10)]);
    let of_cost = |cost| Class {
        cost,
        ..class("acme", CALLS)
    };
    let seven = world.admit(&of_cost(7));
    assert_eq!(world.refuse(&of_cost(4)).in_flight, 7);
    let three = world.admit(&of_cost(3));
    assert_eq!(world.in_flight("account", &of_cost(1)), 10);
    assert_eq!(
        three.account_in_flight(),
        2,
        "the account's count is in requests"
    );
    drop(seven);
    assert_eq!(world.in_flight("account", &of_cost(1)), 3);
    drop(world.refuse(&of_cost(11)));
    drop(three);
    world.assert_empty();
}

// A2, A6: an account's calls, its messages and another's calls are three values that can be read.
#[test]
fn values_are_read_separately_by_key_and_in_sum() {
    let pair = [Dimension::Account, Dimension::Resource];
    let world = World::new(&[limit("pair", &pair, 9), limit("whole", &[], 99)]);
    let asked = [
        ("acme", CALLS, 3),
        ("acme", MESSAGES, 2),
        ("other", CALLS, 1),
    ];
    let permits: Vec<_> = asked
        .iter()
        .flat_map(|&(name, resource, count)| (0..count).map(move |_| class(name, resource)))
        .map(|class| world.admit(&class))
        .collect();
    let pair = world.policy.limit("pair").unwrap();
    let keys = world.registry.keys(&world.policy, pair, 10);
    let read: Vec<_> = keys
        .iter()
        .map(|of| {
            (
                of.key[0].1.as_str(),
                of.key[1].1.as_str(),
                of.in_flight,
                of.max,
                of.peak,
            )
        })
        .collect();
    let wanted = [
        ("acme", "calls", 3, 9, 3),
        ("acme", "messages", 2, 9, 2),
        ("other", "calls", 1, 9, 1),
    ];
    assert_eq!(read, wanted);
    assert_eq!(keys[0].key[0].0, "account");
    assert_eq!(world.registry.keys(&world.policy, pair, 1).len(), 1);
    let snapshot = world.registry.snapshot(&world.policy);
    let read: Vec<_> = snapshot
        .limits
        .iter()
        .map(|of| (&*of.name, of.in_flight, of.keys))
        .collect();
    assert_eq!(read, [("pair", 6, 3), ("whole", 6, 1)]);
    assert_eq!(snapshot.in_flight, 6);
    assert_eq!(
        world
            .registry
            .account_in_flight(&world.policy, &class("acme", JOBS)),
        5
    );
    drop(permits);
    world.assert_empty();
}

// A6, A28: of many keys the fullest are listed, fullest first.
#[test]
fn the_fullest_of_many_keys_are_listed() {
    let world = World::new(&[limit("account", &[Dimension::Account], 9)]);
    let hold = |n: usize| {
        let class = class(&format!("account-{n}"), CALLS);
        let count = if n % 100 == 7 { 2 + n / 100 } else { 1 };
        (0..count).map(|_| world.admit(&class)).collect::<Vec<_>>()
    };
    let permits: Vec<_> = (0..700).map(hold).collect();
    let limit = world.policy.limit("account").unwrap();
    let keys = world.registry.keys(&world.policy, limit, 4);
    let read: Vec<_> = keys
        .iter()
        .map(|of| (of.key[0].1.as_str(), of.in_flight))
        .collect();
    let wanted = [
        ("account-607", 8),
        ("account-507", 7),
        ("account-407", 6),
        ("account-307", 5),
    ];
    assert_eq!(read, wanted);
    drop(permits);
}

// A14: a refusal names the limit that decided, its maximum and what was in flight; the narrowest decides.
#[test]
fn a_refusal_names_the_narrowest_limit_that_is_full() {
    let world = World::new(&[
        limit("whole", &[], 2),
        limit("account", &[Dimension::Account], 2),
        limit("roomy-account", &[Dimension::Account], 3),
    ]);
    let permits = world.fill(&class("acme", CALLS));
    let own = world.refuse(&class("acme", CALLS));
    assert_eq!(
        (own.reason, own.reason.as_str()),
        (Reason::LimitReached, "limit_reached")
    );
    assert_eq!(
        (&*own.limit, own.status, own.max, own.in_flight),
        ("account", 429, 2, 2)
    );
    assert_eq!(own.account_in_flight, 2);
    let wide = world.refuse(&class("other", CALLS));
    assert_eq!((&*wide.limit, wide.max, wide.in_flight), ("whole", 2, 2));
    assert_eq!(wide.account_in_flight, 0);
    drop(permits);
}

// A8, G3: a refused request changes no count and makes no cell, whichever limit refuses.
#[test]
fn a_refused_request_leaves_everything_as_it_was() {
    let world = World::new(&[
        limit("pair", &[Dimension::Account, Dimension::Resource], 3),
        limit("account", &[Dimension::Account], 4),
        limit("whole", &[], 6),
    ]);
    let mut permits = world.fill(&class("acme", CALLS));
    permits.extend(world.fill(&class("acme", MESSAGES)));
    permits.extend(world.fill(&class("other", CALLS)));
    let (counts, cells) = (world.counts(), world.registry.cells());
    for (name, resource, by) in [
        ("acme", CALLS, "pair"),
        ("acme", MESSAGES, "account"),
        ("other", CALLS, "whole"),
        ("never-seen", JOBS, "whole"),
    ] {
        assert_eq!(&*world.refuse(&class(name, resource)).limit, by);
        assert_eq!(world.counts(), counts, "refused by {by}");
        assert_eq!(world.registry.cells(), cells, "refused by {by}");
    }
    drop(permits);
    world.assert_empty();
}

// A8: limits hold for the resources and upstreams they name; an exempt resource is held by none.
#[test]
fn a_limit_covers_what_it_names_and_nothing_else() {
    let mut not_messages = limit("not-messages", &[], 2);
    not_messages.except = vec![MESSAGES];
    let mut of_bulk = limit("bulk", &[], 1);
    of_bulk.upstreams = Some(vec![UpstreamId(1)]);
    let world = World::new(&[
        only(limit("calls", &[], 1), &[CALLS]),
        not_messages,
        of_bulk,
    ]);
    let call = world.admit(&class("acme", CALLS));
    assert_eq!(&*world.refuse(&class("acme", CALLS)).limit, "calls");
    let job = world.admit(&class("acme", JOBS));
    assert_eq!(&*world.refuse(&class("acme", JOBS)).limit, "bulk");
    let free: Vec<_> = [MESSAGES, PROBES]
        .map(|resource| class("acme", resource))
        .into();
    let permits: Vec<_> = free
        .iter()
        .cycle()
        .take(50)
        .map(|class| world.admit(class))
        .collect();
    drop((call, job, permits));
    world.assert_empty();
}

// G18: a flood of accounts never seen before keeps memory bounded, takes no cell in use away, and leaves no trace.
#[test]
fn a_flood_of_keys_is_bounded_and_leaves_nothing() {
    const IDLE_MAX: usize = 64 * 1024;
    let world = World::new(&[limit("account", &[Dimension::Account], 1)]);
    let kept: Vec<_> = (0..500)
        .map(|n| class(&format!("kept-{n}"), CALLS))
        .collect();
    let permits: Vec<_> = kept.iter().map(|class| world.admit(class)).collect();
    for n in 0..200_000 {
        drop(world.admit(&class(&format!("passing-{n}"), CALLS)));
        if n % 1_000 == 0 {
            let (cells, in_use) = (world.registry.cells(), 2 * permits.len());
            assert!(
                cells <= IDLE_MAX + in_use,
                "{cells} cells after {n} accounts"
            );
        }
    }
    for class in &kept {
        assert_eq!(world.refuse(class).in_flight, 1, "{}", class.account);
    }
    world.registry.sweep(world.clock.now());
    world.registry.sweep(world.clock.now());
    assert_eq!(
        world.registry.cells(),
        2 * permits.len(),
        "what is in use stays"
    );
    drop(permits);
    world.registry.sweep(world.clock.now());
    world.registry.sweep(world.clock.now());
    assert_eq!(world.registry.cells(), 0);
}

// G18: on the fast path, a decision over four keys that are known does not allocate.
#[test]
fn a_decision_over_four_known_keys_does_not_allocate() {
    let world = World::new(&[
        limit("pair", &[Dimension::Account, Dimension::Resource], 9),
        limit("account", &[Dimension::Account], 9),
        limit("network", &[Dimension::ClientNetwork], 9),
        limit("whole", &[], 9),
        in_mode(limit("off", &[Dimension::Account], 0), Mode::Off),
    ]);
    let class = from_address("192.0.2.1");
    drop(world.admit(&class));
    let allocations = allocation_counter::measure(|| drop(world.admit(&class)));
    assert_eq!(allocations.count_total, 0, "{allocations:?}");
}
