//! The races of establishment, one by one, on virtual time: each is a case of its own that can be run again by its name.
//!
//! Numbered as in the tables that name them. The order in which events are told is the order in which they happened; the clock moves by
//! hand. Beside what a case says, all that holds at every step of the simulation is checked here too.

use std::time::Duration;

use super::scene::{CALLER, FIRST, SECOND, Scene, accepted, dial};
use super::stage::Hears;
use crate::presence::call::board::{Event, Heard};
use crate::presence::call::branch::BranchState;
use crate::presence::call::words::{BranchEnd, CallStatus};
use crate::presence::instruction::Dial;
use crate::presence::registry::session::{SessionRef, Source};

/// A call that rings two devices of bob.
fn ringing_two() -> Scene {
    let mut scene = Scene::new();
    scene.device("bob", "1");
    scene.device("bob", "2");
    scene.call("alice", dial(&["bob"]));
    scene
}

/// A call in which alice and bob talk, bob on his one device.
fn talking() -> (Scene, SessionRef) {
    let mut scene = Scene::new();
    let bob = scene.device("bob", "1");
    scene.call("alice", dial(&["bob"]));
    scene.hear(FIRST, accepted());
    assert_eq!(scene.status(), CallStatus::InProgress);
    (scene, bob)
}

// 1: two devices answer.
#[test]
fn race_01_the_first_answer_wins_and_the_second_is_refused() {
    let mut scene = ringing_two();
    scene.hear(SECOND, accepted());
    scene.hear(FIRST, accepted());
    scene.ended(SECOND, BranchEnd::Won);
    scene.ended(FIRST, BranchEnd::Lost);
    assert_eq!(
        (scene.hears(FIRST), scene.hears(SECOND)),
        (Hears::Over, Hears::Talking)
    );
}

// 2: an answer crosses the cancel.
#[test]
fn race_02_an_answer_after_the_cancel_changes_nothing() {
    let mut scene = ringing_two();
    scene.hear(CALLER, Heard::HungUp);
    scene.hear(FIRST, accepted());
    scene.ended(FIRST, BranchEnd::Cancelled);
    assert!(scene.is_over() && scene.status() == CallStatus::Canceled);
    assert_eq!(scene.calls[0].stage.answered, 0);
}

// 3: the caller hangs up before anything rings.
#[test]
fn race_03_a_caller_that_leaves_early_rings_nobody() {
    let mut scene = Scene::new();
    scene.device("bob", "1");
    scene.begin("alice");
    scene.hear(CALLER, Heard::HungUp);
    scene.instruct(0, dial(&["bob"]));
    assert!(scene.is_over() && scene.calls[0].call.branches.is_empty());
    assert!(scene.ringable("bob"));
}

// 4: one of several devices rejects.
#[test]
fn race_04_a_rejection_ends_its_own_branch_only() {
    let mut scene = ringing_two();
    scene.hear(FIRST, Heard::Rejected);
    scene.ended(FIRST, BranchEnd::Rejected);
    scene.hear(SECOND, accepted());
    scene.ended(SECOND, BranchEnd::Won);
}

// 5: who stops ringing is told why.
#[test]
fn race_05_every_cancel_carries_its_reason() {
    let mut scene = ringing_two();
    scene.hear(FIRST, accepted());
    assert_eq!(scene.calls[0].stage.reasons[&SECOND], BranchEnd::Lost);
    let mut scene = ringing_two();
    scene.hear(CALLER, Heard::HungUp);
    assert_eq!(scene.calls[0].stage.reasons[&FIRST], BranchEnd::Cancelled);
    let mut scene = ringing_two();
    scene.pass(Duration::from_secs(11));
    assert_eq!(scene.calls[0].stage.reasons[&FIRST], BranchEnd::Timeout);
}

// 6: a socket is lost while it rings.
#[test]
fn race_06_a_device_that_comes_back_rings_again_and_one_that_does_not_is_gone() {
    let mut scene = Scene::new();
    let first = scene.device("bob", "1");
    scene.call("alice", dial(&["bob"]));
    scene.lose(&first);
    scene.tell(0, Event::Nudged);
    assert_eq!(scene.branch(FIRST), BranchState::Suspended);
    let second = scene.device("bob", "1");
    scene.tell(0, Event::Nudged);
    assert!(matches!(scene.branch(FIRST), BranchState::Invited(_)));
    assert_eq!(scene.calls[0].stage.rung[&FIRST], second);
    scene.lose(&second);
    scene.tell(0, Event::Nudged);
    let at = scene.at();
    scene
        .account
        .with(|state| state.registry.leave(&second, Source::Silence, at));
    scene.tell(0, Event::Nudged);
    scene.ended(FIRST, BranchEnd::Gone);
    scene.dial_ended("no-answer");
}

// 7: a device registers while it rings.
#[test]
fn race_07_who_comes_late_rings_for_the_time_that_is_left() {
    let mut scene = Scene::new();
    scene.device("bob", "1");
    scene.call("alice", dial(&["bob"]));
    scene.pass(Duration::from_secs(9));
    scene.device("bob", "2");
    scene.tell(0, Event::Nudged);
    assert!(matches!(scene.branch(SECOND), BranchState::Invited(_)));
    scene.pass(Duration::from_secs(1));
    scene.ended(SECOND, BranchEnd::Timeout);
    scene.dial_ended("no-answer");
}

// 8: a socket is lost in a call.
#[test]
fn race_08_a_talk_waits_for_a_lost_side_as_long_as_it_said() {
    let (mut scene, bob) = talking();
    scene.lose(&bob);
    let window = Duration::from_secs(5);
    scene.hear(FIRST, Heard::Lost(window));
    scene.pass(Duration::from_secs(4));
    scene.hear(FIRST, Heard::Back);
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.status(), CallStatus::InProgress);
    scene.hear(FIRST, Heard::Lost(window));
    scene.pass(Duration::from_secs(5));
    scene.dial_ended("completed");
}

// 9: the time is up with an answer in the queue.
#[test]
fn race_09_the_order_of_the_queue_decides_between_an_answer_and_the_time() {
    let mut scene = ringing_two();
    scene.clock.advance(Duration::from_secs(11));
    scene.hear(FIRST, accepted());
    scene.tell(0, Event::Due);
    scene.ended(FIRST, BranchEnd::Won);
    let mut scene = ringing_two();
    scene.clock.advance(Duration::from_secs(11));
    scene.tell(0, Event::Due);
    scene.hear(FIRST, accepted());
    scene.ended(FIRST, BranchEnd::Timeout);
    assert_eq!(scene.hears(FIRST), Hears::Over);
}

// 10 and 20: two calls to one device.
#[test]
fn race_10_20_of_two_callers_of_one_device_the_second_finds_it_busy() {
    let mut scene = Scene::new();
    scene.device("bob", "1");
    scene.call("alice", dial(&["bob"]));
    let second = scene.call("carol", dial(&["bob"]));
    assert!(scene.calls[second].call.branches.is_empty());
    let asked = scene.calls[second].stage.wanted.as_ref().unwrap();
    let busy = ("DialCallStatus".to_owned(), "busy".to_owned());
    assert!(asked.fields.contains(&busy));
    scene.hear(FIRST, accepted());
    scene.ended(FIRST, BranchEnd::Won);
}

// 11: two call each other.
#[test]
fn race_11_two_who_call_each_other_find_each_other_busy() {
    let mut scene = Scene::new();
    scene.device("alice", "1");
    scene.device("bob", "1");
    scene.begin("alice");
    scene.begin("bob");
    scene.instruct(0, dial(&["bob"]));
    scene.instruct(1, dial(&["alice"]));
    for running in &scene.calls {
        assert!(running.call.branches.is_empty(), "who calls does not ring");
    }
    scene.dial_ended("busy");
}

// 12: a token ends while its device rings.
#[test]
fn race_12_a_device_whose_token_ends_may_still_answer_what_rings() {
    let mut scene = Scene::new();
    let bob = scene.device("bob", "1");
    scene.call("alice", dial(&["bob"]));
    scene.calls[0].stage.keeps_sockets = true;
    let at = scene.at();
    scene
        .account
        .with(|state| state.registry.leave(&bob, Source::TokenEnd, at));
    scene.tell(0, Event::Nudged);
    scene.hear(FIRST, accepted());
    scene.ended(FIRST, BranchEnd::Won);
}

// 13 and 21: both legs hang up; the caller leaves while `action` is asked for.
#[test]
fn race_13_21_action_is_asked_for_once_whoever_leaves_first() {
    let (mut scene, _) = talking();
    scene.hear(FIRST, Heard::HungUp);
    scene.dial_ended("completed");
    scene.hear(CALLER, Heard::HungUp);
    scene.hear(FIRST, Heard::HungUp);
    scene.dial_ended("completed");
    assert!(scene.is_over() && scene.status() == CallStatus::Completed);
    let (mut scene, _) = talking();
    scene.hear(CALLER, Heard::HungUp);
    scene.hear(FIRST, Heard::HungUp);
    scene.dial_ended("completed");
    assert!(scene.is_over());
}

// 14: messages come twice, or late.
#[test]
fn race_14_what_is_said_twice_counts_once() {
    let (mut scene, _) = talking();
    scene.hear(FIRST, accepted());
    scene.hear(FIRST, Heard::Alerting);
    assert_eq!(scene.hears(FIRST), Hears::Talking);
    assert_eq!(scene.calls[0].stage.answered, 1);
    scene.hear(CALLER, Heard::HungUp);
    scene.hear(CALLER, Heard::HungUp);
    scene.hear(FIRST, Heard::Rejected);
    assert_eq!(scene.status(), CallStatus::Completed);
}

// 15: the order of status callbacks.
#[test]
fn race_15_callbacks_are_numbered_in_the_order_of_what_happened() {
    let (mut scene, _) = talking();
    scene.hear(FIRST, Heard::HungUp);
    let field = |fields: &[(String, String)], name: &str| {
        let found = fields.iter().find(|(known, _)| known == name);
        found.unwrap().1.clone()
    };
    let told: Vec<_> = scene.calls[0]
        .stage
        .told
        .iter()
        .map(|hook| {
            let number = field(&hook.fields, "SequenceNumber");
            (number, field(&hook.fields, "CallStatus"))
        })
        .collect();
    let words = ["initiated", "ringing", "in-progress", "completed"];
    let expected = words.iter().enumerate();
    let expected: Vec<_> = expected
        .map(|(number, word)| (number.to_string(), (*word).to_owned()))
        .collect();
    assert_eq!(told, expected);
}

// 16: the server of a device dies.
#[test]
fn race_16_a_device_of_a_server_that_died_is_gone() {
    let mut scene = ringing_two();
    scene.hear(FIRST, Heard::Left);
    scene.ended(FIRST, BranchEnd::Gone);
    scene.hear(SECOND, accepted());
    scene.ended(SECOND, BranchEnd::Won);
}

// 18: a late answer of the target before.
#[test]
fn race_18_who_was_given_up_on_answers_too_late() {
    let mut scene = Scene::new();
    scene.device("bob", "1");
    scene.device("carol", "1");
    let one_by_one = Dial {
        sequential: true,
        ..dial(&["bob", "carol"])
    };
    scene.call("alice", one_by_one);
    scene.pass(Duration::from_secs(10));
    scene.ended(FIRST, BranchEnd::Timeout);
    scene.hear(FIRST, accepted());
    assert_eq!(scene.hears(FIRST), Hears::Over);
    scene.hear(SECOND, accepted());
    scene.ended(SECOND, BranchEnd::Won);
}

// 19: the caller's socket is lost before the answer.
#[test]
fn race_19_a_caller_that_is_lost_before_the_answer_is_gone_at_once() {
    let mut scene = ringing_two();
    scene.hear(CALLER, Heard::Lost(Duration::from_secs(30)));
    assert!(scene.is_over() && scene.status() == CallStatus::Canceled);
    scene.ended(FIRST, BranchEnd::Cancelled);
    assert!(scene.ringable("bob"));
    scene.dial_ended("canceled");
}

// 22: a reload removes the account.
#[test]
fn race_22_an_orphaned_call_goes_on_and_rings_nobody_new() {
    let mut scene = Scene::new();
    scene.device("bob", "1");
    scene.call("alice", dial(&["bob"]));
    scene.tell(0, Event::Orphaned);
    scene.device("bob", "2");
    scene.tell(0, Event::Nudged);
    assert_eq!(scene.calls[0].call.branches.len(), 1);
    scene.hear(FIRST, accepted());
    scene.ended(FIRST, BranchEnd::Won);
}

// 23: the gate goes down.
#[test]
fn race_23_a_drain_cancels_what_rings_and_ends_talks_at_its_end() {
    let mut scene = ringing_two();
    scene.tell(0, Event::Draining);
    assert!(scene.is_over());
    scene.ended(FIRST, BranchEnd::Cancelled);
    let (mut scene, _) = talking();
    scene.tell(0, Event::Draining);
    assert_eq!(scene.status(), CallStatus::InProgress);
    scene.tell(0, Event::Closed);
    assert!(scene.is_over() && scene.status() == CallStatus::Completed);
}
