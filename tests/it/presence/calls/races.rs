//! Sockets that are lost while it rings or in a talk, and everything that happens at the wrong moment (R §5, PLUGIN §6).

use std::time::Duration;

use serde_json::{Value, json};

use super::scene::{
    ANSWER, Customer, NUMBER, accept, bring, call, calling, connect, decline, hears_nothing, leave,
    page, traced, until, until_shown, until_suspended,
};
use crate::presence::desk::{Socket, item};
use crate::support::now;
use crate::support::sidecar::Sidecar;

const DIAL: &str = "<Dial action=\"/after\"><Client>bob</Client></Dial>";

/// Bob's phone, and what it needs to come back.
async fn phone(gate: &Sidecar) -> (Socket, Value) {
    let (socket, welcome) = Socket::hello(gate, &calling("bob"), "phone").await;
    (socket, welcome["resume"].clone())
}

/// Bob's phone, back.
async fn resumed(gate: &Sidecar, resume: &Value) -> Socket {
    let mut socket = Socket::open(gate).await;
    let hello =
        json!({ "token": calling("bob"), "device": "phone", "audio": true, "resume": resume });
    socket.say("hello", hello).await;
    assert_eq!(socket.hear("welcome").await["resumed"], true);
    socket
}

/// Has a page come back to its talk, which goes on then.
async fn come_back(socket: &mut Socket, told: &Value) {
    let payload = json!({ "callsid": told["callsid"], "reconnect": told["reconnect"], "sdp": ANSWER, "id": 9 });
    socket.say("call.invite", payload).await;
    let back = socket.hear("call.accept").await;
    assert_eq!(back["callsid"], told["callsid"]);
    assert!(back["sdp"].is_null(), "{back}");
}

// R §5 race 6: a device that is lost while it rings and comes back rings again, as the same call, and can answer.
#[tokio::test]
async fn a_device_that_comes_back_rings_again_as_the_same_call() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let (mut bob, resume) = phone(&gate).await;
    let sid = bring(&gate, NUMBER).await;
    let first = bob.hear("call.invite").await;
    bob.lose();
    until_suspended(&gate, "bob").await;
    let mut bob = resumed(&gate, &resume).await;
    let again = bob.hear("call.invite").await;
    assert_eq!(again["callsid"], first["callsid"]);
    assert_eq!(again["sdp"], first["sdp"]);
    accept(&mut bob, &again).await;
    bob.hear("call.accept").await;
    until(&gate, &sid, "in-progress").await;
    assert_eq!(
        item(&gate, "bob").await["devices"][0]["in_calls"],
        1,
        "it does not ring beside its call"
    );
}

// R §5 race 6: a device that rings, is lost and does not come back is gone when its grace is over, also where there is none.
#[tokio::test]
async fn a_device_that_does_not_come_back_is_gone_and_the_dial_is_over() {
    for grace in ["0s", "1s"] {
        let customer = Customer::saying(DIAL);
        customer.say("/after", "");
        let gate = customer.gate("", &format!("  grace: {grace}\n")).await;
        let (mut bob, _) = phone(&gate).await;
        let sid = bring(&gate, NUMBER).await;
        bob.hear("call.invite").await;
        bob.lose();
        let told = customer.concluded("/after").await;
        assert_eq!(told.field("DialCallStatus"), Some("no-answer"));
        let record = until(&gate, &sid, "no-answer").await;
        assert_eq!(traced(&record, "bob", "phone"), "gone");
    }
}

// R §5 race 7: who comes while it rings, rings too, for the time that is left, and hears what the caller said before.
#[tokio::test]
async fn who_comes_late_rings_too_and_gets_the_callers_candidates() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut phone = page(&gate, "bob", "phone").await;
    let sid = call(&mut alice, "bob").await;
    let candidate = json!({ "callsid": sid, "candidate": "candidate:1", "mid": "0" });
    alice.say("call.candidate", candidate).await;
    phone.hear("call.invite").await;
    let told = phone.hear("call.candidate").await;
    assert_eq!(told["candidate"], "candidate:1");
    let mut late = page(&gate, "bob", "late").await;
    let invitation = late.hear("call.invite").await;
    let told = late.hear("call.candidate").await;
    assert_eq!(told["candidate"], "candidate:1");
    assert_eq!(told["mid"], "0");
    assert_eq!(told["callsid"], invitation["callsid"]);
    accept(&mut late, &invitation).await;
    assert_eq!(
        phone.hear("call.cancel").await["reason"],
        "answered_elsewhere"
    );
    let record = until(&gate, &sid, "in-progress").await;
    assert_eq!(record["answered_by"]["device"], "late");
}

// PLUGIN §5: with nobody but a suspended device the dial waits for it, no longer than its grace, and rings it when it returns.
#[tokio::test]
async fn a_dial_waits_for_a_lost_device_as_long_as_its_grace() {
    let customer = Customer::saying(DIAL);
    customer.say("/after", "");
    let gate = customer.gate("", "  grace: 2s\n").await;
    let (bob, resume) = phone(&gate).await;
    bob.lose();
    until_suspended(&gate, "bob").await;
    let first = bring(&gate, NUMBER).await;
    customer.until_asked("/voice", 1).await;
    let mut bob = resumed(&gate, &resume).await;
    let invitation = bob.hear("call.invite").await;
    decline(&mut bob, &invitation).await;
    until(&gate, &first, "busy").await;
    bob.lose();
    until_suspended(&gate, "bob").await;
    let start = now();
    let second = bring(&gate, NUMBER).await;
    let record = until(&gate, &second, "busy").await;
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(record["dial_status"], "no-answer");
    let told = customer.asked("/after");
    assert_eq!(told.len(), 2);
}

// PLUGIN §6 race 19: a caller whose socket is lost before the answer is gone at once.
#[tokio::test]
async fn a_caller_that_is_lost_before_the_answer_is_gone_at_once() {
    let customer = Customer::saying(DIAL);
    customer.say("/after", "");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = call(&mut alice, "bob").await;
    bob.hear("call.invite").await;
    alice.lose();
    assert_eq!(bob.hear("call.cancel").await["reason"], "caller_left");
    until(&gate, &sid, "canceled").await;
    let told = customer.concluded("/after").await;
    assert_eq!(told.field("DialCallStatus"), Some("canceled"));
}

// R §5 race 8, PLUGIN §6: a side of a talk that lost its socket comes back on another with its own word; a wrong one is refused.
#[tokio::test]
async fn a_side_that_lost_its_socket_goes_on_with_its_talk() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let (mut bob, resume) = phone(&gate).await;
    let pair = connect(&mut alice, &mut bob, "bob").await;
    bob.lose();
    until_suspended(&gate, "bob").await;
    let mut bob = resumed(&gate, &resume).await;
    let forged = json!({ "callsid": pair.callee["callsid"], "reconnect": pair.caller["reconnect"], "sdp": ANSWER });
    bob.say("call.invite", forged).await;
    assert_eq!(bob.hear("call.hangup").await["error"]["code"], 31_209);
    come_back(&mut bob, &pair.callee).await;
    let said = json!({ "callsid": pair.sid, "candidate": "candidate:2" });
    alice.say("call.candidate", said).await;
    let heard = bob.hear("call.candidate").await;
    assert_eq!(heard["candidate"], "candidate:2");
    assert_eq!(heard["callsid"], pair.callee["callsid"]);

    // The same for the caller, before its loss was noticed: its new socket takes the place of the old one.
    let mut other = page(&gate, "alice", "desk").await;
    assert_eq!(alice.until_closed().await, Some(4_009));
    come_back(&mut other, &pair.caller).await;
    leave(&mut bob, &pair.callee["callsid"]).await;
    let over = other.hear("call.hangup").await;
    assert_eq!(over["callsid"], pair.sid.as_str());
    until(&gate, &pair.sid, "completed").await;
    until_shown(&gate, "bob", "available").await;
    until_shown(&gate, "alice", "available").await;
}

// PLUGIN §6: what never was answered cannot be gone on with, and another identity's word is worth nothing.
#[tokio::test]
async fn a_reconnect_is_refused_on_an_unanswered_call_and_to_others() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let mut mallory = page(&gate, "mallory", "desk").await;
    let sid = call(&mut alice, "bob").await;
    let early =
        json!({ "callsid": sid, "reconnect": "0123456789abcdef0123456789abcdef", "sdp": ANSWER });
    alice.say("call.invite", early).await;
    let refused = alice.hear("call.hangup").await;
    assert_eq!(refused["error"]["code"], 31_209);
    let invitation = bob.hear("call.invite").await;
    accept(&mut bob, &invitation).await;
    alice.hear("call.ringing").await;
    let told = alice.hear("call.accept").await;
    let stolen =
        json!({ "callsid": told["callsid"], "reconnect": told["reconnect"], "sdp": ANSWER });
    mallory.say("call.invite", stolen).await;
    assert_eq!(mallory.hear("call.hangup").await["error"]["code"], 31_209);
    // A call is nobody's who is no side of it.
    leave(&mut mallory, &told["callsid"]).await;
    hears_nothing(&mut mallory).await;
    until(&gate, &sid, "in-progress").await;
}

// PLUGIN §5: a side that is lost in a talk and does not come back ends it, when its grace is over.
#[tokio::test]
async fn a_side_that_does_not_come_back_ends_the_talk() {
    for is_caller in [true, false] {
        let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
        let gate = customer.gate("", "  grace: 1s\n").await;
        let mut alice = page(&gate, "alice", "desk").await;
        let mut bob = page(&gate, "bob", "phone").await;
        let pair = connect(&mut alice, &mut bob, "bob").await;
        let (lost, mut left) = if is_caller {
            (alice, bob)
        } else {
            (bob, alice)
        };
        lost.lose();
        left.hear("call.hangup").await;
        until(&gate, &pair.sid, "completed").await;
    }
}

// PLUGIN §5, §6: who was lost in its talk when the other side left has its grace, and no more, for what the customer's server says then.
#[tokio::test]
async fn a_lost_caller_is_not_waited_for_when_the_other_side_is_gone() {
    let customer = Customer::saying(DIAL);
    customer.say("/after", "<Pause length=\"60\"/>");
    let gate = customer.gate("", "  grace: 2s\n").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let pair = connect(&mut alice, &mut bob, "bob").await;
    alice.lose();
    until_suspended(&gate, "alice").await;
    leave(&mut bob, &pair.callee["callsid"]).await;
    bob.hear("call.hangup").await;
    customer.concluded("/after").await;
    until(&gate, &pair.sid, "completed").await;
}

// PLUGIN §5: a clean close is a departure: the talk is over at once.
#[tokio::test]
async fn a_clean_close_in_a_talk_ends_it_at_once() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let pair = connect(&mut alice, &mut bob, "bob").await;
    bob.close(1_001).await;
    alice.hear("call.hangup").await;
    until(&gate, &pair.sid, "completed").await;
    until_shown(&gate, "alice", "available").await;
    until_shown(&gate, "bob", "offline").await;
}

// R §5 race 10, PLUGIN §6 race 20: of two callers that want one device the second is told that it is busy.
#[tokio::test]
async fn of_two_callers_of_one_device_the_second_finds_it_busy() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    for _ in 0..10 {
        let (one, two) = tokio::join!(bring(&gate, NUMBER), bring(&gate, NUMBER));
        let invitation = bob.hear("call.invite").await;
        let mut rings = Vec::new();
        for sid in [&one, &two] {
            crate::support::eventually("a decision", async || {
                let record = super::scene::read(&gate, sid).await;
                record["status"] == "busy"
                    || !record["trace"].as_array().unwrap().is_empty()
                    || record["status"] == "ringing"
            })
            .await;
            rings.push(super::scene::read(&gate, sid).await["status"].clone());
        }
        decline(&mut bob, &invitation).await;
        until(&gate, &one, "busy").await;
        until(&gate, &two, "busy").await;
        assert!(rings.contains(&json!("busy")), "{rings:?}");
        hears_nothing(&mut bob).await;
    }
}

// PLUGIN §6 race 21: both sides hang up at once: it is over once.
#[tokio::test]
async fn both_sides_may_hang_up_at_once() {
    let customer = Customer::saying(DIAL);
    customer.say("/after", "");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    for round in 1..=20 {
        let pair = connect(&mut alice, &mut bob, "bob").await;
        let (own, other) = (json!(pair.sid), pair.callee["callsid"].clone());
        tokio::join!(leave(&mut bob, &other), leave(&mut alice, &own));
        bob.hear("call.hangup").await;
        until(&gate, &pair.sid, "completed").await;
        let told = customer.until_asked("/after", round).await;
        assert_eq!(told.len(), round);
        assert_eq!(told[round - 1].field("DialCallStatus"), Some("completed"));
        leave(&mut bob, &other).await;
        hears_nothing(&mut bob).await;
        // Whether she heard of it depends on who was first.
        leave(&mut alice, &own).await;
        alice.say("presence.unsub", json!({ "id": "quiet" })).await;
        while alice.next().await["type"] != "presence.unsub" {}
    }
}

// R §6.1: the SDK's sign-out while it rings takes its device away; it is told that it does not ring any more.
#[tokio::test]
async fn a_device_that_signs_out_while_it_rings_does_not_ring_any_more() {
    let customer = Customer::saying(DIAL);
    customer.say("/after", "");
    let gate = customer.gate("", "").await;
    let mut bob = Socket::open(&gate).await;
    bob.say("listen", json!({ "token": calling("bob") })).await;
    bob.hear("connected").await;
    bob.say("register", json!({ "media": { "audio": true } }))
        .await;
    bob.hear("ready").await;
    let sid = bring(&gate, NUMBER).await;
    let invitation = bob.hear("invite").await;
    bob.say("register", json!({ "media": { "audio": false } }))
        .await;
    let mut told = [bob.next().await, bob.next().await];
    told.sort_by_key(|message| message["type"].to_string());
    assert_eq!(told[0]["type"], "cancel");
    assert_eq!(told[0]["payload"]["callsid"], invitation["callsid"]);
    assert_eq!(told[1]["type"], "offline");
    let told = customer.concluded("/after").await;
    assert_eq!(told.field("DialCallStatus"), Some("no-answer"));
    until(&gate, &sid, "no-answer").await;
}

// PLUGIN §6: who begins a call does not hear what rings it any more: that branch is busy.
#[tokio::test]
async fn a_device_that_begins_a_call_is_busy_for_what_rings_it() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    bob.hear("call.invite").await;
    customer.say("/voice", "<Pause length=\"60\"/>");
    bob.say(
        "call.invite",
        json!({ "to": "carol", "sdp": ANSWER, "id": 1 }),
    )
    .await;
    let mut told = [bob.next().await, bob.next().await];
    told.sort_by_key(|message| message["type"].to_string());
    assert_eq!(told[0]["type"], "call.cancel", "{told:?}");
    assert_eq!(told[1]["payload"]["re"], 1);
    let record = until(&gate, &sid, "busy").await;
    assert_eq!(traced(&record, "bob", "phone"), "busy");
}

// R §5 race 11: who is called and calls at that moment is busy for what rings it; neither call waits for the other.
#[tokio::test]
async fn two_that_call_each_other_find_each_other_busy() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    call(&mut alice, "bob").await;
    bob.hear("call.invite").await;
    customer.say("/voice", "<Dial><Client>alice</Client></Dial>");
    bob.say(
        "call.invite",
        json!({ "to": "alice", "sdp": ANSWER, "id": 1 }),
    )
    .await;
    let mut told = alice.next().await;
    if told["type"] == "call.ringing" {
        told = alice.next().await;
    }
    assert_eq!(told["type"], "call.hangup", "{told}");
    assert_eq!(told["payload"]["error"]["code"], 31_486);
}
