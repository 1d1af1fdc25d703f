//! Waiting for what time gives back: each is let in at the instant at which it fits, and accounts take turns.
//!
//! Time moves by hand, mostly to one nanosecond before an instant and then to it, so what comes early shows as much as what
//! comes late.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tidegate::admission::{
    Class, Counted, Decision, Dimension, LimitSettings, Outcome, Permit, Reason, Step, Turn, Wait,
};

use super::waiting::{SECOND, queue, refused, served, whole, with};
use super::{CALLS, World, class, identify, limit, look};

const NANO: Duration = Duration::from_nanos(1);
/// Seventeen slots of a second each.
const WINDOW: Duration = Duration::from_secs(16);

/// A count that time gives back, for which up to a thousand may wait.
pub(super) fn counting(counted: Counted, per: &[Dimension], max: u32) -> LimitSettings {
    let mut limit = limit("counted", per, max);
    limit.counted = counted;
    identify(&mut limit);
    let patient = tidegate::admission::Queue {
        timeout: 3_600 * SECOND,
        ..queue(1_000)
    };
    with(limit, &[Step::Queue(patient)])
}

fn starts(per: &[Dimension], max: u32) -> LimitSettings {
    counting(Counted::StartsPer(SECOND), per, max)
}

impl World {
    /// Moves the time to the next instant at which somebody may fit, and serves.
    pub(super) fn go_to_next_due(&self) {
        let at = self.registry.next_due().expect("somebody waits for time");
        self.clock
            .advance(at.saturating_duration_since(self.clock.now()));
        self.registry.serve_due(self.clock.now());
    }

    /// Nobody is served a nanosecond before so much time has passed; then one is.
    #[track_caller]
    fn serves_after(&self, time: Duration, wait: &mut Wait) -> Permit {
        let due = self.registry.next_due();
        assert_eq!(due, Some(self.clock.now() + time));
        self.clock.advance(time.checked_sub(NANO).unwrap());
        self.registry.serve_due(self.clock.now());
        assert!(look(wait).is_none(), "it came early");
        self.clock.advance(NANO);
        self.registry.serve_due(self.clock.now());
        served(wait)
    }
}

// A15, A29: who waits for a start is let in when the pace allows one more.
#[test]
fn a_start_is_given_at_the_instant_the_pace_allows_it() {
    let world = World::new(&[starts(&[Dimension::Account], 4)]);
    let acme = class("acme", CALLS);
    for _ in 0..4 {
        drop(world.admit(&acme));
    }
    let (mut first, mut second) = (world.wait(&acme), world.wait(&acme));
    world.clock.advance(SECOND / 10);
    drop(world.serves_after(3 * SECOND / 20, &mut first));
    assert!(look(&mut second).is_none());
    let permit = world.serves_after(SECOND / 4, &mut second);
    assert!(permit.story().is_some_and(|story| story.was_queued));
    assert_eq!(world.registry.next_due(), None);
}

// A27, A29: one that needs several starts waits for all of them.
#[test]
fn a_request_that_costs_more_waits_for_more() {
    let world = World::new(&[starts(&[Dimension::Account], 4)]);
    let acme = class("acme", CALLS);
    for _ in 0..4 {
        drop(world.admit(&acme));
    }
    let heavy = Class { cost: 3, ..acme };
    let mut wait = world.wait(&heavy);
    drop(world.serves_after(3 * SECOND / 4, &mut wait));
}

// A15, A29: who waits for a completion to be forgotten is let in when it falls out of its interval.
#[test]
fn completions_give_way_when_they_fall_out_of_the_interval() {
    let world = World::new(&[counting(Counted::CompletionsPer(WINDOW), &[], 2)]);
    let acme = class("acme", CALLS);
    let (first, second) = (world.admit(&acme), world.admit(&acme));
    let mut wait = world.wait(&acme);
    assert_eq!(world.registry.next_due(), None, "both are in flight");
    first.finish(Outcome::Success, world.clock.now());
    world.clock.advance(SECOND);
    second.finish(Outcome::Success, world.clock.now());
    let permit = world.serves_after(16 * SECOND, &mut wait);
    let mut next = world.wait(&acme);
    permit.finish(Outcome::Ignore, world.clock.now());
    drop(served(&mut next));
}

// A15, A26: who waits for what began of late is let in when the oldest of it is old enough, or ends.
#[test]
fn work_that_is_old_gives_way_and_so_does_work_that_ends() {
    let world = World::new(&[counting(Counted::StartedWithin(WINDOW), &[], 2)]);
    let acme = class("acme", CALLS);
    let (long, short) = (world.admit(&acme), world.admit(&acme));
    let mut waits = [world.wait(&acme), world.wait(&acme)];
    drop(short);
    let permit = served(&mut waits[0]);
    drop(world.serves_after(17 * SECOND, &mut waits[1]));
    drop((long, permit));
    world.assert_empty();
    assert_eq!(world.registry.next_due(), None);
}

// A34: the places of one that leaves are not kept for it, and no instant stays behind.
#[test]
fn one_that_leaves_is_not_waited_for() {
    let world = World::new(&[starts(&[Dimension::Account], 4)]);
    let acme = class("acme", CALLS);
    for _ in 0..4 {
        drop(world.admit(&acme));
    }
    let heavy = Class {
        cost: 4,
        ..acme.clone()
    };
    let (first, mut second) = (world.wait(&heavy), world.wait(&acme));
    assert_eq!(world.registry.next_due(), Some(world.clock.now() + SECOND));
    drop(first);
    drop(world.serves_after(SECOND / 4, &mut second));
    drop(world.wait(&acme));
    assert_eq!(world.registry.next_due(), None);
    assert_eq!(world.registry.waiting(), 0);
}

// A17: one whose time is over before a place is there is refused, and the next has its own instant.
#[test]
fn one_that_gives_up_is_refused() {
    let world = World::new(&[starts(&[Dimension::Account], 1)]);
    let acme = class("acme", CALLS);
    drop(world.admit(&acme));
    let (first, mut second) = (world.wait(&acme), world.wait(&acme));
    assert_eq!(world.give_up(first).reason, Reason::QueueTimeout);
    drop(world.serves_after(SECOND, &mut second));
}

// A11: a raised maximum is a faster pace for those who wait already, a lowered one a slower.
#[test]
fn a_changed_maximum_changes_the_pace_of_those_who_wait() {
    let mut world = World::new(&[starts(&[], 1)]);
    let acme = class("acme", CALLS);
    drop(world.admit(&acme));
    let mut waits: Vec<_> = (0..4).map(|_| world.wait(&acme)).collect();
    world.reload(&[starts(&[], 4)]);
    // One start at the old pace is as much as four at the new one.
    world.clock.advance(SECOND / 4);
    world.registry.serve_due(world.clock.now());
    drop(served(&mut waits[0]));
    drop(world.serves_after(SECOND / 4, &mut waits[1]));
    world.reload(&[starts(&[], 1)]);
    assert!(world.registry.next_due() > Some(world.clock.now() + SECOND / 2));
    world.reload(&[starts(&[], 0)]);
    assert_eq!(world.registry.next_due(), None, "closed");
    world.reload(&[starts(&[], 100)]);
    assert!(world.registry.next_due().is_some());
    world.go_to_next_due();
    world.go_to_next_due();
    assert!(waits[2..].iter_mut().all(|wait| look(wait).is_some()));
}

/// Lets in so many, one after the other, and gives how many were of the first of the classes.
fn turns(world: &World, waits: &mut Vec<(bool, Wait)>, grants: usize) -> usize {
    let mut of_first = 0;
    for _ in 0..grants {
        world.go_to_next_due();
        waits.retain_mut(|(is_first, wait)| match look(wait) {
            Some(Turn::Admit(permit)) => {
                of_first += usize::from(*is_first);
                permit.finish(Outcome::Success, world.clock.now());
                false
            }
            _ => true,
        });
    }
    of_first
}

// A34, G2: accounts take turns, whoever came first and however many of its requests wait.
#[test]
fn accounts_take_turns_at_what_time_gives_back() {
    let world = World::new(&[starts(&[], 10)]);
    let (noisy, quiet) = (class("noisy", CALLS), class("quiet", CALLS));
    drop(world.fill(&class("other", CALLS)));
    let mut waits: Vec<_> = (0..40).map(|_| (false, world.wait(&noisy))).collect();
    waits.extend((0..10).map(|_| (true, world.wait(&quiet))));
    assert_eq!(turns(&world, &mut waits, 20), 10);
}

// A34, G2: what an account holds is no reason to let it wait, where holding is not what is limited.
#[test]
fn an_account_whose_work_takes_long_has_its_turns() {
    let world = World::new(&[starts(&[], 10)]);
    let (slow, quick) = (class("slow", CALLS), class("quick", CALLS));
    let _held = world.fill(&slow);
    let mut waits: Vec<_> = (0..20).map(|_| (false, world.wait(&quick))).collect();
    waits.extend((0..20).map(|_| (true, world.wait(&slow))));
    assert_eq!(turns(&world, &mut waits, 20), 10);
}

// A34, G2: an account of four times the weight is let in four times as often, and the other all the same.
#[test]
fn a_heavier_account_has_more_turns() {
    let mut world = World::new(&[]);
    world.weigh_gold(4);
    world.reload(&[starts(&[], 10)]);
    let (gold, plain) = (class("gold-1", CALLS), class("plain", CALLS));
    drop(world.fill(&class("other", CALLS)));
    let mut waits: Vec<_> = (0..50).map(|_| (true, world.wait(&gold))).collect();
    waits.extend((0..50).map(|_| (false, world.wait(&plain))));
    assert_eq!(turns(&world, &mut waits, 50), 40);
}

// A34, G2: accounts that come ever anew do not keep one waiting that is there already, and one that asks anew each time
// gets as much as one that has many in line.
#[test]
fn fresh_accounts_do_not_starve_those_that_wait() {
    let world = World::new(&[starts(&[], 10)]);
    drop(world.fill(&class("other", CALLS)));
    let mut waits: Vec<_> = (0..40)
        .map(|_| world.wait(&class("patient", CALLS)))
        .collect();
    let (mut again, mut others) = (None, Vec::new());
    let (mut of_patient, mut of_again) = (0, 0);
    for number in 0..60 {
        let fresh = class(&format!("fresh-{number}"), CALLS);
        others.extend((number % 2 == 0).then(|| world.wait(&fresh)));
        let asked = again.get_or_insert_with(|| world.wait(&class("again", CALLS)));
        world.go_to_next_due();
        if look(asked).is_some() {
            (again, of_again) = (None, of_again + 1);
        }
        let before = waits.len();
        waits.retain_mut(|wait| look(wait).is_none());
        of_patient += before - waits.len();
        others.retain_mut(|wait| look(wait).is_none());
    }
    // A round is of the two and of those two that come meanwhile.
    assert!((12..=18).contains(&of_patient), "{of_patient} of 60");
    assert!((12..=18).contains(&of_again), "{of_again} of 60");
}

// A8, A29: one whose start has come and whose place has not waits on for the place, and its start is not counted.
#[test]
fn one_that_is_stopped_elsewhere_goes_on_waiting_there() {
    let world = World::new(&[starts(&[Dimension::Account], 1), whole(1)]);
    let (acme, other) = (class("acme", CALLS), class("other", CALLS));
    drop(world.admit(&acme));
    let held = world.admit(&other);
    let mut wait = world.wait(&acme);
    world.go_to_next_due();
    assert!(look(&mut wait).is_none());
    assert_eq!(world.registry.next_due(), None, "it waits for the place");
    assert_eq!(world.registry.waiting(), 1);
    held.finish(Outcome::Success, world.clock.now());
    let permit = served(&mut wait);
    assert_eq!(world.in_flight("whole", &acme), 1);
    // The other way round: one that stood in line for a place, and then for its start.
    let mut second = world.wait(&acme);
    drop(permit);
    drop(world.serves_after(SECOND, &mut second));
}

// G3: where the limits change, those who wait for time ask anew.
#[test]
fn those_who_wait_for_time_ask_anew_where_limits_come_or_go() {
    let mut world = World::new(&[starts(&[], 1)]);
    let acme = class("acme", CALLS);
    drop(world.admit(&acme));
    let mut wait = world.wait(&acme);
    world.reload(&[whole(1)]);
    assert_eq!(world.registry.next_due(), None);
    match look(&mut wait) {
        Some(Turn::Renew(ask)) => {
            let ask = ask.renewed(&world.policy, &acme);
            let decision = world.registry.resume(ask, world.clock.now());
            assert!(matches!(decision, Decision::Admit(_)), "{decision:?}");
        }
        other => panic!("not asked anew: {other:?}"),
    }
}

// Whoever drains is told at once, however long time would take.
#[test]
fn those_who_wait_for_time_are_dismissed_like_others() {
    let world = World::new(&[starts(&[], 1)]);
    let acme = class("acme", CALLS);
    drop(world.admit(&acme));
    let mut wait = world.wait(&acme);
    world.registry.dismiss_all(Reason::Draining);
    assert_eq!(refused(&mut wait).reason, Reason::Draining);
    assert_eq!(world.registry.next_due(), None);
}

// G9: who is refused because the line is full hears when it will have been served.
#[test]
fn a_refusal_before_a_full_line_counts_those_in_it() {
    let mut limit = starts(&[Dimension::Account], 1);
    limit.ladder = with(limit.clone(), &[Step::Queue(queue(0))]).ladder;
    let short = tidegate::admission::Queue {
        timeout: 60 * SECOND,
        ..queue(5)
    };
    let world = World::new(&[with(limit, &[Step::Queue(short)])]);
    let acme = class("acme", CALLS);
    drop(world.admit(&acme));
    let _waits: Vec<_> = (0..5).map(|_| world.wait(&acme)).collect();
    assert_eq!(world.refuse(&acme).retry_after(0.0), 6);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// A29: whoever keeps the time is woken when an earlier instant comes, and only then.
#[test]
fn the_keeper_of_the_time_is_woken_for_an_earlier_instant_only() {
    let world = World::new(&[starts(&[Dimension::Account], 2)]);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let poll = |known: Option<Instant>| {
        let mut cx = Context::from_waker(&waker);
        world.registry.poll_due(known, &mut cx)
    };
    let (acme, other) = (class("acme", CALLS), class("other", CALLS));
    let heavy = |of: &Class| Class {
        cost: 2,
        ..of.clone()
    };
    drop((world.admit(&heavy(&acme)), world.admit(&heavy(&other))));
    assert!(poll(None).is_pending());
    let _heavy = world.wait(&heavy(&acme));
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    let late = world.clock.now() + SECOND;
    assert_eq!(poll(None), Poll::Ready(late));
    assert!(poll(Some(late)).is_pending());
    let behind = world.wait(&heavy(&other));
    assert_eq!(woken.0.load(Ordering::SeqCst), 1, "it is no earlier");
    drop(behind);
    let _light = world.wait(&other);
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    assert_eq!(poll(Some(late)), Poll::Ready(late - SECOND / 2));
}
