//! How a dial ends, and what follows: what `action` is told, what the caller hears, and which instructions come then.

use serde_json::json;

use super::scene::{
    Customer, NUMBER, accept, bring, call, connect, decline, hears_nothing, leave, page, read,
    report, traced, until,
};
use crate::presence::desk::set;
use crate::support::now;

/// Dials bob; how that ends goes to `/after`, and what stands behind it is never reached then.
const DIAL: &str = "<Dial action=\"/after\" timeout=\"5\"><Client>bob</Client></Dial>\
                    <Dial><Client>carol</Client></Dial>";

// B27, R §3.7: nobody is there, so `action` is asked at once, and once; what it says takes the place of the rest of the document.
#[tokio::test]
async fn a_dial_of_nobody_is_over_at_once_and_its_action_takes_over() {
    let customer = Customer::saying(DIAL);
    customer.say("/after", "<Hangup/>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut carol = page(&gate, "carol", "desk").await;
    let start = now();
    let sid = call(&mut alice, "bob").await;
    let over = alice.hear("call.hangup").await;
    assert!(start.elapsed().as_secs() < 4, "it waited for nobody");
    assert_eq!(over["error"]["code"], 31_480, "{over}");
    let told = customer.concluded("/after").await;
    assert_eq!(told.field("DialCallStatus"), Some("no-answer"));
    assert_eq!(told.field("DialPresence"), Some("offline"));
    assert_eq!(told.field("DialBridged"), Some("false"));
    assert_eq!(told.field("DialPresenceText"), None);
    assert_eq!(told.field("CallSid"), Some(sid.as_str()));
    let record = until(&gate, &sid, "no-answer").await;
    assert_eq!(record["dial_status"], "no-answer");
    hears_nothing(&mut carol).await;
}

// B27: somebody is there and does not want to be disturbed: busy at once, with the status and the words that were found.
#[tokio::test]
async fn who_is_not_to_be_disturbed_is_busy_and_says_why() {
    for status in ["do_not_disturb", "busy"] {
        let customer = Customer::saying(DIAL);
        customer.say("/after", "<Reject reason=\"busy\"/>");
        let gate = customer.gate("", "").await;
        let mut alice = page(&gate, "alice", "desk").await;
        let mut bob = page(&gate, "bob", "phone").await;
        report(&mut bob, status, Some("in a meeting")).await;
        let sid = call(&mut alice, "bob").await;
        let over = alice.hear("call.hangup").await;
        assert_eq!(over["error"]["code"], 31_486, "{over}");
        let told = customer.concluded("/after").await;
        assert_eq!(told.field("DialCallStatus"), Some("busy"));
        assert_eq!(told.field("DialPresence"), Some(status));
        assert_eq!(told.field("DialPresenceText"), Some("in a meeting"));
        let record = until(&gate, &sid, "busy").await;
        assert_eq!(traced(&record, "bob", "phone"), status);
        hears_nothing(&mut bob).await;
    }
}

// B27, B36: a status is a status wherever it was reported: who does not want to be disturbed is busy, though no device could ring.
#[tokio::test]
async fn who_said_so_over_the_api_is_busy_too() {
    let customer = Customer::saying(DIAL);
    customer.say("/after", "");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    set(&gate, "bob", "do_not_disturb").await;
    let sid = call(&mut alice, "bob").await;
    let told = customer.concluded("/after").await;
    assert_eq!(told.field("DialCallStatus"), Some("busy"));
    assert_eq!(told.field("DialPresence"), Some("do_not_disturb"));
    let record = until(&gate, &sid, "busy").await;
    assert_eq!(traced(&record, "bob", "desk"), "no_socket");
}

// PLUGIN §6: in a call is busy too, at once.
#[tokio::test]
async fn who_is_in_a_call_is_busy_at_once() {
    let customer = Customer::saying("<Dial action=\"/after\"><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let mut carol = page(&gate, "carol", "desk").await;
    connect(&mut alice, &mut bob, "bob").await;
    customer.say("/after", "<Hangup/>");
    let sid = call(&mut carol, "bob").await;
    let over = carol.hear("call.hangup").await;
    assert_eq!(over["error"]["code"], 31_486, "{over}");
    let told = customer.concluded("/after").await;
    assert_eq!(told.field("DialCallStatus"), Some("busy"));
    assert_eq!(told.field("DialPresence"), Some("busy"));
    let record = until(&gate, &sid, "busy").await;
    assert_eq!(traced(&record, "bob", "phone"), "in_call");
    hears_nothing(&mut bob).await;
}

// PLUGIN §6: `reject` is busy; the caller's time is not wasted on it.
#[tokio::test]
async fn a_rejected_call_is_busy() {
    let customer = Customer::saying(DIAL);
    customer.say("/after", "");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = call(&mut alice, "bob").await;
    let invitation = bob.hear("call.invite").await;
    decline(&mut bob, &invitation).await;
    let told = customer.concluded("/after").await;
    assert_eq!(told.field("DialCallStatus"), Some("busy"));
    assert_eq!(told.field("DialPresence"), Some("available"));
    assert_eq!(
        told.field("DialCallSid").unwrap(),
        invitation["callsid"].as_str().unwrap()
    );
    alice.hear("call.hangup").await;
    let record = until(&gate, &sid, "busy").await;
    assert_eq!(traced(&record, "bob", "phone"), "rejected");
}

// PLUGIN §6: a device that hangs up what rings it has failed, and so has a noun without a way from here.
#[tokio::test]
async fn what_only_fails_is_failed() {
    let customer = Customer::saying(DIAL);
    customer.say("/after", "");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    call(&mut alice, "bob").await;
    let invitation = bob.hear("call.invite").await;
    leave(&mut bob, &invitation["callsid"]).await;
    let told = customer.concluded("/after").await;
    assert_eq!(told.field("DialCallStatus"), Some("failed"));
    alice.hear("call.hangup").await;

    customer.say("/voice", "<Dial action=\"/number\">+14155550111</Dial>");
    customer.say("/number", "");
    let sid = call(&mut alice, "bob").await;
    let told = customer.concluded("/number").await;
    assert_eq!(told.field("DialCallStatus"), Some("failed"));
    alice.hear("call.hangup").await;
    let record = until(&gate, &sid, "failed").await;
    assert_eq!(record["trace"][0]["outcome"], "no_route");
}

// PLUGIN §6: the time is up with something ringing, which comes before a rejection: no answer.
#[tokio::test]
async fn time_that_is_up_while_something_rings_is_no_answer_even_after_a_rejection() {
    let customer = Customer::saying(DIAL);
    customer.say("/after", "");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut phone = page(&gate, "bob", "phone").await;
    let mut tablet = page(&gate, "bob", "tablet").await;
    let sid = call(&mut alice, "bob").await;
    let invitation = phone.hear("call.invite").await;
    decline(&mut phone, &invitation).await;
    tablet.hear("call.invite").await;
    alice.hear("call.ringing").await;
    let cancelled = tablet.hear("call.cancel").await;
    assert_eq!(cancelled["reason"], "timeout");
    let told = customer.concluded("/after").await;
    assert_eq!(told.field("DialCallStatus"), Some("no-answer"));
    assert_eq!(alice.hear("call.hangup").await["error"]["code"], 31_480);
    until(&gate, &sid, "no-answer").await;
}

// B27: what the caller gets when the instructions end with nobody reached, as configured.
#[tokio::test]
async fn with_nobody_reached_the_caller_hears_busy_or_the_callees_words_or_leaves_a_message() {
    for unavailable in ["busy", "text", "message"] {
        let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
        let more = format!("  unavailable: {unavailable}\n");
        let gate = customer.gate("", &more).await;
        let mut alice = page(&gate, "alice", "desk").await;
        let mut bob = page(&gate, "bob", "phone").await;
        report(&mut bob, "away", Some("back at noon")).await;
        let sid = call(&mut alice, "bob").await;
        if unavailable == "text" {
            assert_eq!(alice.hear("call.say").await["text"], "back at noon");
        }
        let over = alice.hear("call.hangup").await;
        assert_eq!(over["error"]["code"], 31_486, "{over}");
        let record = until(&gate, &sid, "busy").await;
        match unavailable {
            "text" => assert_eq!(record["announcement"], "back at noon"),
            _ => assert!(record["announcement"].is_null(), "{record}"),
        }
        if unavailable == "message" {
            let left = bob.hear("message.deliver").await;
            assert_eq!(left["from"], "client:alice");
        }
        hears_nothing(&mut bob).await;
    }
}

// B28, R §3.7: without `action` the next verb runs: another account is tried.
#[tokio::test]
async fn without_an_action_the_next_verb_is_followed() {
    let customer = Customer::saying(
        "<Dial><Client>bob</Client></Dial><Say>one moment</Say><Dial><Client>carol</Client></Dial>",
    );
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let mut carol = page(&gate, "carol", "desk").await;
    let sid = bring(&gate, NUMBER).await;
    let invitation = bob.hear("call.invite").await;
    decline(&mut bob, &invitation).await;
    let invitation = carol.hear("call.invite").await;
    accept(&mut carol, &invitation).await;
    let record = until(&gate, &sid, "in-progress").await;
    assert_eq!(record["announcement"], "one moment");
    assert_eq!(record["answered_by"]["identity"], "carol");
}

// R §3.7: the caller leaves while it rings: cancelled, told once, and what the answer says is nobody's.
#[tokio::test]
async fn a_caller_that_leaves_cancels_and_the_answer_of_action_is_ignored() {
    let customer = Customer::saying(DIAL);
    customer.say("/after", "<Dial><Client>carol</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let mut carol = page(&gate, "carol", "desk").await;
    let sid = call(&mut alice, "bob").await;
    let invitation = bob.hear("call.invite").await;
    leave(&mut alice, &json!(sid)).await;
    let cancelled = bob.hear("call.cancel").await;
    assert_eq!(cancelled["callsid"], invitation["callsid"]);
    assert_eq!(cancelled["reason"], "caller_left");
    until(&gate, &sid, "canceled").await;
    let told = customer.concluded("/after").await;
    assert_eq!(told.field("DialCallStatus"), Some("canceled"));
    assert_eq!(told.field("CallStatus"), Some("canceled"));
    // Who is too late is told so, and gets nothing of the caller's.
    accept(&mut bob, &invitation).await;
    let late = bob.hear("call.hangup").await;
    assert_eq!(late["error"]["code"], 31_008);
    hears_nothing(&mut carol).await;
    assert_eq!(read(&gate, &sid).await["dial_status"], "canceled");
}

// R §3.7: an answered dial is completed; after it only what needs no waiting caller runs, and the other side is not rung again.
#[tokio::test]
async fn an_answered_dial_is_completed_and_nobody_else_is_dialled() {
    let customer = Customer::saying(DIAL);
    customer.say(
        "/after",
        "<Say>goodbye</Say><Dial><Client>carol</Client></Dial><Redirect>/end</Redirect>",
    );
    customer.say("/end", "<Hangup/>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let mut carol = page(&gate, "carol", "desk").await;
    let pair = connect(&mut alice, &mut bob, "bob").await;
    leave(&mut bob, &pair.callee["callsid"]).await;
    let over = alice.hear("call.hangup").await;
    assert!(over["error"].is_null(), "{over}");
    let told = customer.concluded("/after").await;
    assert_eq!(told.field("DialCallStatus"), Some("completed"));
    assert_eq!(told.field("DialBridged"), Some("true"));
    assert_eq!(told.field("DialCallSid"), pair.callee["callsid"].as_str());
    assert_eq!(told.field("DialCallDuration"), Some("0"));
    customer.concluded("/end").await;
    until(&gate, &pair.sid, "completed").await;
    hears_nothing(&mut carol).await;
}

// R §3.7: the caller hangs up a talk: `action` is told once that it is completed.
#[tokio::test]
async fn a_caller_that_ends_the_talk_completes_it() {
    let customer = Customer::saying(DIAL);
    customer.say("/after", "<Dial><Client>carol</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let mut carol = page(&gate, "carol", "desk").await;
    let pair = connect(&mut alice, &mut bob, "bob").await;
    leave(&mut alice, &json!(pair.sid)).await;
    bob.hear("call.hangup").await;
    until(&gate, &pair.sid, "completed").await;
    let told = customer.concluded("/after").await;
    assert_eq!(told.field("DialCallStatus"), Some("completed"));
    assert_eq!(told.field("DialBridged"), Some("true"));
    hears_nothing(&mut carol).await;
}
