//! What a reload keeps and what it forgets: the contract at the level of the policy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use arc_swap::ArcSwap;
use fastrand::Rng;
use tidegate::admission::{
    Ask, Class, Decision, Dimension, LimitSettings, Permit, Policy, Reason, Registry, Step, Turn,
    Wait,
};
use tidegate::clock::Clock;

use super::simulation::Seed;
use super::waiting::{queue, served, with};
use super::{CALLS, JOBS, MESSAGES, World, account, class, limit, look, only, seeds, settings};

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

/// Two limits by turns, so that those who wait for one ask anew under the other, with so many places.
fn changed(round: usize, max: u32) -> LimitSettings {
    let name = ["one", "other"][round % 2];
    with(limit(name, &[], max), &[Step::Queue(queue(1_000))])
}

#[track_caller]
fn told(wait: &mut Wait) -> Box<Ask> {
    match look(wait) {
        Some(Turn::Renew(ask)) => ask,
        other => panic!("not asked anew: {other:?}"),
    }
}

// A11, G2: where limits have come or gone, places go to those who waited, in their order, whoever comes back first; a newcomer of that
// moment stands behind them, though places are free.
#[test]
fn no_newcomer_overtakes_those_who_ask_anew() {
    let mut world = World::new(&[changed(0, 1)]);
    let of = |name| class(name, CALLS);
    let held = world.admit(&of("z"));
    let mut waits = ["a", "b", "c"].map(|name| world.wait(&of(name)));
    world.reload(&[changed(1, 2)]);
    let mut newcomer = world.wait(&of("n"));
    assert_eq!(
        world.in_flight("other", &of("n")),
        0,
        "nothing is left of it"
    );
    let mut back: Vec<_> = waits
        .iter_mut()
        .zip(["a", "b", "c"])
        .map(|(wait, name)| (told(wait).renewed(&world.policy, &of(name)), name))
        .collect();
    let mut resumed = Vec::new();
    while let Some((ask, name)) = back.pop() {
        assert!(look(&mut newcomer).is_none());
        resumed.push((name, world.registry.resume(ask, world.clock.now())));
    }
    let mut permits = Vec::new();
    for (name, decision) in resumed.into_iter().rev() {
        match (name, decision) {
            ("a", Decision::Admit(permit)) => permits.push(permit),
            ("b", Decision::Wait(mut wait)) => permits.push(served(&mut wait)),
            ("c", Decision::Wait(wait)) => waits[2] = wait,
            other => panic!("{other:?}"),
        }
    }
    assert!(look(&mut waits[2]).is_none() && look(&mut newcomer).is_none());
    drop(permits.pop());
    permits.push(served(&mut waits[2]));
    assert!(look(&mut newcomer).is_none());
    drop(permits);
    drop((served(&mut newcomer), held));
    world.assert_empty();
}

// A11: nobody is held up for one who left meanwhile, nor where no limit lets anybody wait.
#[test]
fn who_leaves_while_he_is_to_ask_anew_holds_nobody_up() {
    let mut world = World::new(&[changed(0, 1)]);
    let of = |name| class(name, CALLS);
    let held = world.admit(&of("z"));
    let mut waits = ["a", "b"].map(|name| world.wait(&of(name))).into_iter();
    let narrow = only(limit("jobs", &[], 1), &[JOBS]);
    let wide = with(
        only(limit("other", &[], 1), &[CALLS]),
        &[Step::Queue(queue(100))],
    );
    world.reload(&[wide, narrow]);
    drop(world.admit(&class("n", JOBS)));
    let mut newcomer = world.wait(&of("n"));
    drop(waits.next());
    assert!(look(&mut newcomer).is_none());
    // It is refused when it is classified anew.
    drop(told(&mut waits.next().expect("the second")));
    drop((served(&mut newcomer), held));
    world.assert_empty();
}

/// Requests of one account, numbered as they came.
struct Numbered {
    world: World,
    acme: Class,
    held: Vec<Permit>,
    waiting: Vec<(usize, Wait)>,
    /// They were told to ask anew.
    told: Vec<(usize, Box<Ask>)>,
    came: usize,
    /// The last that got its places.
    last: usize,
}

impl Numbered {
    fn arrive(&mut self) {
        self.came += 1;
        let decision = self.world.acquire(&self.acme);
        self.note(self.came, decision);
    }

    fn come_back(&mut self, at: usize) {
        let (number, ask) = self.told.swap_remove(at);
        let ask = ask.renewed(&self.world.policy, &self.acme);
        let decision = self.world.registry.resume(ask, self.world.clock.now());
        self.note(number, decision);
    }

    /// Whoever got its places came after all that got theirs before.
    fn note(&mut self, number: usize, decision: Decision) {
        let mut admitted = Vec::new();
        match decision {
            Decision::Admit(permit) => admitted.push((number, permit)),
            Decision::Wait(wait) => self.waiting.push((number, wait)),
            Decision::Reject(rejection) => panic!("{rejection:?}"),
        }
        self.look(admitted);
    }

    fn look(&mut self, mut admitted: Vec<(usize, Permit)>) {
        for (number, mut wait) in std::mem::take(&mut self.waiting) {
            match look(&mut wait) {
                Some(Turn::Admit(permit)) => admitted.push((number, permit)),
                Some(Turn::Renew(ask)) => self.told.push((number, ask)),
                None => self.waiting.push((number, wait)),
                other => panic!("{other:?}"),
            }
        }
        admitted.sort_by_key(|(number, _)| *number);
        for (number, permit) in admitted {
            assert!(number > self.last, "{number} after {}", self.last);
            self.last = number;
            self.held.push(permit);
        }
    }
}

// A11, A34, G2: over any mix of arrivals, departures, ends and changes of the limits, requests get their places in the order in which
// they came, whoever comes back first, and nobody is forgotten.
#[test]
fn requests_keep_their_order_through_changes_of_the_limits() {
    for seed in seeds(200) {
        let seed = Seed(seed);
        let mut random = Rng::with_seed(seed.0);
        let mut of = Numbered {
            world: World::new(&[changed(0, 2)]),
            acme: class("acme", CALLS),
            held: Vec::new(),
            waiting: Vec::new(),
            told: Vec::new(),
            came: 0,
            last: 0,
        };
        for round in 1..400 {
            match random.u32(..20) {
                0 => drop(of.world.reload(&[changed(round, random.u32(1..5))])),
                1..8 => of.arrive(),
                8 | 9 if !of.waiting.is_empty() => {
                    drop(of.waiting.swap_remove(random.usize(..of.waiting.len())));
                }
                10..14 if !of.held.is_empty() => {
                    drop(of.held.swap_remove(random.usize(..of.held.len())));
                }
                _ if !of.told.is_empty() => of.come_back(random.usize(..of.told.len())),
                _ => {}
            }
            of.look(Vec::new());
        }
        while !(of.held.is_empty() && of.waiting.is_empty() && of.told.is_empty()) {
            of.held.clear();
            (0..of.told.len()).for_each(|_| of.come_back(0));
            of.look(Vec::new());
            let is_forgotten = of.held.is_empty() && !of.waiting.is_empty();
            assert!(!is_forgotten, "somebody was forgotten");
        }
        of.world.assert_empty();
    }
}
