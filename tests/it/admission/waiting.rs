//! Waiting for a place: who goes next, who is refused, who goes on to another line.
//!
//! Every wait is polled by hand, and time moves by hand: what a test sees is what was decided at that step.

use std::time::Duration;

use tidegate::admission::{
    Ask, Class, Decision, Dimension, Guarantee, Guaranteed, Ladder, LimitSettings, Order, Permit,
    Priority, Queue, Reason, Rejection, Step, Turn, Wait,
};

use super::{CALLS, GOLD, MESSAGES, World, account, class, limit, look, only};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn queue(length: u32) -> Queue {
    Queue {
        length,
        per_account: length,
        timeout: SECOND,
        order: Order::OldestFirst,
        early: 0,
    }
}

/// The limit, with these steps before its refusal.
pub(super) fn with(mut limit: LimitSettings, steps: &[Step]) -> LimitSettings {
    limit.ladder = Ladder::new(steps.to_vec(), 429);
    limit
}

/// One count for all, for which up to 100 may wait.
pub(super) fn whole(max: u32) -> LimitSettings {
    with(limit("whole", &[], max), &[Step::Queue(queue(100))])
}

impl World {
    #[track_caller]
    pub(super) fn wait(&self, class: &Class) -> Wait {
        match self.acquire(class) {
            Decision::Wait(wait) => wait,
            other => panic!("does not wait: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn resume(&self, turn: Turn) -> Decision {
        match turn {
            Turn::Resume(ask) => self.registry.resume(ask, self.clock.now()),
            other => panic!("has ended: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn give_up(&self, wait: Wait) -> Rejection {
        match self.resume(wait.give_up()) {
            Decision::Reject(rejection) => *rejection,
            other => panic!("not refused: {other:?}"),
        }
    }
}

#[track_caller]
pub(super) fn served(wait: &mut Wait) -> Permit {
    match look(wait) {
        Some(Turn::Admit(permit)) => permit,
        other => panic!("not served: {other:?}"),
    }
}

#[track_caller]
pub(super) fn refused(wait: &mut Wait) -> Rejection {
    match look(wait) {
        Some(Turn::Reject(rejection)) => *rejection,
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn renewed(wait: &mut Wait) -> Box<Ask> {
    match look(wait) {
        Some(Turn::Renew(ask)) => ask,
        other => panic!("not asked anew: {other:?}"),
    }
}

// A2, A15: who waits is not counted, and gets the place that comes free.
#[test]
fn a_request_waits_until_the_value_is_below_the_limit() {
    let world = World::new(&[whole(1)]);
    let acme = class("acme", CALLS);
    let first = world.admit(&acme);
    let mut wait = world.wait(&acme);
    assert!(look(&mut wait).is_none());
    assert_eq!(world.in_flight("whole", &acme), 1);
    assert_eq!(world.registry.waiting(), 1);
    drop(first);
    let permit = served(&mut wait);
    assert!(permit.story().is_some_and(|story| story.was_queued));
    assert_eq!(world.in_flight("whole", &acme), 1);
    drop(permit);
    world.assert_empty();
}

// A34, G2: the account that holds least for its weight goes first, whoever came first.
#[test]
fn the_account_that_holds_least_goes_first() {
    let world = World::new(&[whole(4)]);
    let (noisy, quiet) = (class("noisy", CALLS), class("quiet", CALLS));
    let mut held = world.fill(&noisy);
    assert_eq!(held.len(), 4);
    let mut first = world.wait(&noisy);
    let mut second = world.wait(&quiet);
    drop(held.pop());
    assert!(look(&mut first).is_none());
    let _quiet = served(&mut second);
    drop(held.pop());
    let _noisy = served(&mut first);
}

// G2: an account of twice the weight is served at twice the places.
#[test]
fn a_heavier_account_has_more_places() {
    let mut world = World::new(&[]);
    world.weigh_gold(2);
    world.reload(&[whole(9)]);
    let (gold, plain) = (class("gold-1", CALLS), class("acme", CALLS));
    let mut held = world.fill(&class("other", CALLS));
    let mut waits: Vec<_> = (0..9)
        .flat_map(|_| [world.wait(&gold), world.wait(&plain)])
        .collect();
    let mut kept = Vec::new();
    while let Some(permit) = held.pop() {
        drop(permit);
        waits.retain_mut(|wait| match look(wait) {
            Some(Turn::Admit(permit)) => {
                kept.push(permit);
                false
            }
            _ => true,
        });
    }
    let of_gold = world.registry.account_in_flight(&world.policy, &gold);
    let of_plain = world.registry.account_in_flight(&world.policy, &plain);
    assert_eq!((of_gold, of_plain), (6, 3));
}

// A34: a free place is for those who wait, not for who comes next.
#[test]
fn a_newcomer_does_not_overtake() {
    let world = World::new(&[whole(2)]);
    let acme = class("acme", CALLS);
    let held = world.admit(&acme);
    let big = Class {
        cost: 2,
        ..acme.clone()
    };
    let mut wait = world.wait(&big);
    let mut newcomer = world.wait(&acme);
    assert_eq!(world.in_flight("whole", &acme), 1, "a place is free");
    drop(held);
    let both = served(&mut wait);
    assert!(look(&mut newcomer).is_none());
    drop(both);
    drop(served(&mut newcomer));
    world.assert_empty();
}

// A34: queues are bounded, over all and for one account.
#[test]
fn queues_are_bounded_in_length_and_for_each_account() {
    let queue = Queue {
        per_account: 2,
        ..queue(3)
    };
    let world = World::new(&[with(limit("whole", &[], 1), &[Step::Queue(queue)])]);
    let (acme, other) = (class("acme", CALLS), class("other", CALLS));
    let _held = world.admit(&acme);
    let _waits = [world.wait(&acme), world.wait(&acme)];
    assert_eq!(world.refuse(&acme).reason, Reason::QueueFull);
    let _last = world.wait(&other);
    assert_eq!(world.refuse(&other).reason, Reason::QueueFull);
    assert_eq!(world.registry.waiting(), 3);
}

// A17: nobody waits longer than the queue allows.
#[test]
fn a_wait_ends_with_an_error_when_its_time_is_over() {
    let world = World::new(&[whole(1)]);
    let acme = class("acme", CALLS);
    let held = world.admit(&acme);
    let wait = world.wait(&acme);
    assert_eq!(wait.deadline(), world.clock.now() + SECOND);
    world.clock.advance(SECOND);
    let rejection = world.give_up(wait);
    assert_eq!(rejection.reason, Reason::QueueTimeout);
    assert_eq!((rejection.max, rejection.in_flight), (1, 1));
    assert_eq!(world.registry.waiting(), 0);
    drop(held);
    world.assert_empty();
}

// G3: an account that its own limit stops does not stand in the way of the others, and waits on at its own.
#[test]
fn one_stopped_by_its_own_limit_makes_way() {
    let own = limit("account", &[Dimension::Account], 1);
    let world = World::new(&[with(own, &[Step::Queue(queue(10))]), whole(2)]);
    let (acme, other) = (class("acme", CALLS), class("other", CALLS));
    let third = world.admit(&class("third", CALLS));
    let fourth = world.admit(&class("fourth", CALLS));
    let mut waits = [world.wait(&acme), world.wait(&acme), world.wait(&other)];
    drop(third);
    let first = served(&mut waits[0]);
    drop(fourth);
    let _other = served(&mut waits[2]);
    assert!(look(&mut waits[1]).is_none(), "its account has its place");
    drop(first);
    drop(served(&mut waits[1]));
}

// G3: what was taken for a request that does not fit after all is given on at once.
#[test]
fn one_whose_other_limit_does_not_queue_is_refused_in_its_name() {
    let own = limit("account", &[Dimension::Account], 1);
    let world = World::new(&[own, whole(2)]);
    let acme = class("acme", CALLS);
    let third = world.admit(&class("third", CALLS));
    let _fourth = world.admit(&class("fourth", CALLS));
    let (mut first, mut second) = (world.wait(&acme), world.wait(&acme));
    let mut other = world.wait(&class("other", CALLS));
    drop(third);
    let held = served(&mut first);
    assert!(look(&mut second).is_none());
    // A place for everybody, but the account of `second` has its own taken.
    let mut limits = vec![limit("account", &[Dimension::Account], 1), whole(4)];
    let mut world = world;
    world.reload(&limits);
    let rejection = refused(&mut second);
    assert_eq!(&*rejection.limit, "account");
    assert_eq!(rejection.reason, Reason::LimitReached);
    drop(served(&mut other));
    drop(held);
    limits.truncate(1);
}

// A11: raising a maximum serves those who wait at once, lowering it keeps them.
#[test]
fn a_raised_maximum_is_served_at_once_and_a_lowered_one_keeps_the_waiters() {
    let mut world = World::new(&[whole(1)]);
    let acme = class("acme", CALLS);
    let held = world.admit(&acme);
    let mut waits = [world.wait(&acme), world.wait(&acme)];
    world.reload(&[whole(2)]);
    let second = served(&mut waits[0]);
    assert!(look(&mut waits[1]).is_none());
    world.reload(&[whole(1)]);
    drop(held);
    assert!(look(&mut waits[1]).is_none(), "still as many as allowed");
    drop(second);
    drop(served(&mut waits[1]));
    world.assert_empty();
}

// A11, G4: where limits come or go, those who wait are asked anew, as old as they are.
#[test]
fn waiters_of_a_changed_limit_ask_anew_and_keep_their_age() {
    let mut world = World::new(&[whole(1)]);
    let acme = class("acme", CALLS);
    let _held = world.admit(&acme);
    let mut wait = world.wait(&acme);
    let deadline = wait.deadline();
    world.clock.advance(SECOND / 2);
    let narrow = with(
        limit("account", &[Dimension::Account], 0),
        &[Step::Queue(queue(10))],
    );
    world.reload(&[whole(1), only(narrow, &[MESSAGES])]);
    let ask = renewed(&mut wait).renewed(&world.policy, &acme);
    assert_eq!(ask.waited(world.clock.now()), SECOND / 2);
    match world.registry.resume(ask, world.clock.now()) {
        Decision::Wait(wait) => assert_eq!(wait.deadline(), deadline),
        other => panic!("{other:?}"),
    }
}

// G15: a higher priority goes first, and the lower ones have their part all the same.
#[test]
fn priorities_share_by_a_schedule_while_all_wait() {
    let world = World::new(&[whole(1)]);
    let of = |priority| Class {
        priority,
        ..class("acme", CALLS)
    };
    let mut held = Some(world.admit(&of(Priority::High)));
    let all = [Priority::High, Priority::Normal, Priority::Low];
    let mut waits: Vec<_> = (0..33)
        .flat_map(|_| all.map(|priority| (priority, world.wait(&of(priority)))))
        .collect();
    let mut grants = [0; 3];
    for _ in 0..20 {
        drop(held.take());
        waits.retain_mut(|(priority, wait)| match look(wait) {
            Some(Turn::Admit(permit)) => {
                grants[*priority as usize] += 1;
                held = Some(permit);
                false
            }
            _ => true,
        });
    }
    assert_eq!(grants, [2, 4, 14], "low, normal, high");
}

// G14: a group below its guarantee gets what falls free, and others use what it does not.
#[test]
fn a_guarantee_is_served_first_and_lent_while_it_is_not_used() {
    let mut limit = whole(6);
    limit.guaranteed = vec![Guarantee {
        who: Guaranteed::Group(GOLD),
        min: 2,
    }];
    let world = World::new(&[limit]);
    let (gold, plain) = (class("gold-1", CALLS), class("acme", CALLS));
    let mut held = world.fill(&plain);
    assert_eq!(held.len(), 6, "all places are lent");
    let mut other = world.wait(&class("other", CALLS));
    let mut waits: Vec<_> = (0..4).map(|_| world.wait(&gold)).collect();
    held.truncate(4);
    let _gold = [served(&mut waits[0]), served(&mut waits[1])];
    assert!(look(&mut other).is_none());
    held.truncate(3);
    drop(served(&mut other));
    assert!(look(&mut waits[2]).is_some(), "then by what each holds");
}

// A34: whoever keeps coming with nothing in flight cannot starve one who holds a place.
#[test]
fn fresh_accounts_do_not_starve_an_old_one() {
    let world = World::new(&[whole(2)]);
    let old = class("old", CALLS);
    let _kept = world.admit(&old);
    let mut held = Some(world.admit(&class("fresh", CALLS)));
    let mut wait = world.wait(&old);
    for number in 0..8 {
        let mut fresh = world.wait(&class(&format!("fresh-{number}"), CALLS));
        drop(held.take());
        if let Some(Turn::Admit(_)) = look(&mut wait) {
            return;
        }
        held = Some(served(&mut fresh));
    }
    panic!("eight others were served before it");
}

// A4, G2: what is shared are places, not grants: an account that keeps its places long has no more of them than the others.
#[test]
fn an_account_that_holds_long_keeps_to_its_part() {
    let world = World::new(&[whole(20)]);
    let names = ["slow", "a", "b", "c"].map(|name| class(name, CALLS));
    let mut held = world.fill(&class("other", CALLS));
    let mut waits: Vec<Vec<Wait>> = names.iter().map(|_| Vec::new()).collect();
    let mut kept = Vec::new();
    for turn in 0..400 {
        for (of, waits) in names.iter().zip(&mut waits) {
            while waits.len() < 2 {
                waits.push(world.wait(of));
            }
        }
        drop(held.swap_remove(turn * 7 % held.len()));
        for (index, waits) in waits.iter_mut().enumerate() {
            waits.retain_mut(|wait| match look(wait) {
                Some(Turn::Admit(permit)) => {
                    let of = if index == 0 { &mut kept } else { &mut held };
                    of.push(permit);
                    false
                }
                _ => true,
            });
        }
    }
    assert!((5..=6).contains(&kept.len()), "{}", kept.len());
}

// A27: among many that hold a little, one that needs several places has its turn, too.
#[test]
fn places_are_saved_for_a_request_that_is_never_first_in_turn() {
    let world = World::new(&[whole(20)]);
    let names: Vec<_> = (0..10).map(|of| class(&format!("{of}"), CALLS)).collect();
    let mut held: Vec<_> = names
        .iter()
        .cycle()
        .take(20)
        .map(|of| world.admit(of))
        .collect();
    let big = Class {
        cost: 5,
        ..names[0].clone()
    };
    let mut wait = world.wait(&big);
    let mut others: Vec<Wait> = Vec::new();
    for turn in 0..40 {
        others.push(world.wait(&names[1 + turn % 9]));
        drop(held.remove(0));
        if let Some(Turn::Admit(_)) = look(&mut wait) {
            assert!(turn > 8, "the others had theirs before");
            return;
        }
        others.retain_mut(|wait| match look(wait) {
            Some(Turn::Admit(permit)) => {
                held.push(permit);
                false
            }
            other => other.is_none(),
        });
    }
    panic!("it was passed for ever");
}

// A27: one that needs several places is passed for a while, and then they are kept for it.
#[test]
fn places_are_saved_for_a_request_that_needs_several() {
    let world = World::new(&[whole(2)]);
    let small = class("acme", CALLS);
    let big = Class {
        cost: 2,
        ..class("other", CALLS)
    };
    let mut held = [Some(world.admit(&small)), Some(world.admit(&small))];
    let mut wait = world.wait(&big);
    let mut passed = 0;
    for turn in 0..40 {
        let mut other = world.wait(&small);
        drop(held[turn % 2].take());
        match look(&mut other) {
            Some(Turn::Admit(permit)) => {
                passed += 1;
                held[turn % 2] = Some(permit);
            }
            _ => {
                drop(held[(turn + 1) % 2].take());
                drop(served(&mut wait));
                assert!((8..=16).contains(&passed), "{passed}");
                return;
            }
        }
    }
    panic!("it was passed for ever");
}

// An operator's word, and the end of a drain, end waits; what is in flight is not touched.
#[test]
fn waits_can_be_ended_from_outside() {
    let world = World::new(&[whole(1)]);
    let acme = class("acme", CALLS);
    let held = world.admit(&acme);
    let mut waits = [world.wait(&acme), world.wait(&acme)];
    let ticket = waits[0].ticket();
    assert!(world.registry.dismiss(ticket, Reason::Cancelled));
    assert!(!world.registry.dismiss(ticket, Reason::Cancelled));
    assert_eq!(refused(&mut waits[0]).reason, Reason::Cancelled);
    world.registry.dismiss_all(Reason::Draining);
    let rejection = refused(&mut waits[1]);
    let told = (rejection.reason, rejection.status);
    assert_eq!(told, (Reason::Draining, 503));
    assert_eq!(world.in_flight("whole", &acme), 1);
    drop(held);
    world.assert_empty();
}

// G18: a cell that somebody waits for stays, and the cells of those who wait long are found again.
#[test]
fn sweeping_does_not_lose_those_who_wait() {
    let own = limit("account", &[Dimension::Account], 2);
    let world = World::new(&[own, whole(1)]);
    let held = world.admit(&class("other", CALLS));
    let mut wait = world.wait(&class("acme", CALLS));
    for _ in 0..4 {
        world.registry.sweep(world.clock.now());
    }
    drop(held);
    drop(served(&mut wait));
    world.assert_empty();
    assert_eq!(account("acme").as_str(), "acme");
}

// A34: what a waiter costs is bounded, its connection apart.
#[test]
fn a_waiter_takes_less_than_a_kibibyte() {
    const WAITERS: usize = 20_000;
    let world = World::new(&[with(limit("whole", &[], 1), &[Step::Queue(queue(100_000))])]);
    let _held = world.admit(&class("holder", CALLS));
    let mut waits = Vec::with_capacity(WAITERS);
    let used = allocation_counter::measure(|| {
        waits.extend((0..WAITERS).map(|n| world.wait(&class(&format!("a-{}", n % 2_000), CALLS))));
    });
    let each = used.bytes_current / 20_000;
    assert!(each < 1_024, "{each} bytes");
    assert_eq!(world.registry.waiting(), WAITERS);
}
