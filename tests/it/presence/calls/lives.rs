//! What outlives what: tokens, accounts and the gate itself end, and calls end or go on as promised.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::scene::{
    APPLICATION, Customer, NUMBER, accept, bring, call, connect, hears_nothing, leave, page, read,
    until, until_shown,
};
use crate::presence::desk::{self, Socket, draft, sign};
use crate::support::eventually;
use crate::support::sidecar::Sidecar;

const DIAL: &str = "<Dial><Client>bob</Client></Dial>";

/// A token that stops counting in so long, by which its bearer may call out.
fn ending(identity: &str, left: Duration) -> String {
    const HOUR: Duration = Duration::from_hours(1);
    let ttl = HOUR + left - Duration::from_mins(1);
    let mut draft = draft(identity, None, ttl);
    draft.application = Some(APPLICATION.into());
    sign(&draft, HOUR)
}

async fn until_gone(gate: &Sidecar, identity: &str) {
    eventually("the device is gone", async || {
        desk::item(gate, identity).await["device_count"] == 0
    })
    .await;
}

// B38, R §5 race 12: a token that ends takes its device, and neither the talk nor what rings already.
#[tokio::test]
async fn a_token_that_ends_keeps_what_was_begun() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let token = ending("bob", Duration::from_secs(3));
    let (mut bob, _) = Socket::hello(&gate, &token, "phone").await;
    let sid = call(&mut alice, "bob").await;
    let invitation = bob.hear("call.invite").await;
    assert_eq!(bob.hear("error").await["error"]["code"], 31_205);
    until_gone(&gate, "bob").await;
    accept(&mut bob, &invitation).await;
    let told = bob.hear("call.accept").await;
    until(&gate, &sid, "in-progress").await;
    leave(&mut bob, &told["callsid"]).await;
    assert_eq!(bob.until_closed().await, Some(4_001));
    until(&gate, &sid, "completed").await;
}

// A35, B38: after its token's end a side that is lost has its grace and no more: the place of the call is not held for ever.
#[tokio::test]
async fn sides_that_are_lost_after_their_tokens_end_do_not_hold_the_call() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "  grace: 1s\n").await;
    let (alice, bob) = (
        ending("alice", Duration::from_secs(2)),
        ending("bob", Duration::from_secs(2)),
    );
    let (mut alice, _) = Socket::hello(&gate, &alice, "desk").await;
    let (mut bob, _) = Socket::hello(&gate, &bob, "phone").await;
    let pair = connect(&mut alice, &mut bob, "bob").await;
    alice.hear("error").await;
    bob.hear("error").await;
    assert_eq!(read(&gate, &pair.sid).await["status"], "in-progress");
    alice.lose();
    bob.lose();
    until(&gate, &pair.sid, "completed").await;
}

// PLUGIN §6 race 22: a reload without the account: who talks goes on, and nobody new rings.
#[tokio::test]
async fn a_reload_that_removes_the_account_leaves_a_talk_alone() {
    let customer = Customer::saying(DIAL);
    let other = desk::OTHER_ACCOUNT;
    let gate = customer.gate("", other).await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let pair = connect(&mut alice, &mut bob, "bob").await;
    let without = customer.config("", other);
    let begin = without
        .find(&format!("    - sid: {}", desk::ACCOUNT))
        .unwrap();
    let end = without.find(other).unwrap();
    gate.reloaded_with(&format!("{}{}", &without[..begin], &without[end..]))
        .await;
    for side in [&mut alice, &mut bob] {
        side.hear("error").await;
    }
    let said = json!({ "callsid": pair.sid, "dtmf": "5" });
    alice.say("dtmf", said).await;
    assert_eq!(bob.hear("call.dtmf").await["dtmf"], "5");
    leave(&mut alice, &json!(pair.sid)).await;
    bob.hear("call.hangup").await;
}

// A reload puts other instructions in force for the next call, and leaves the one that rings.
#[tokio::test]
async fn a_reload_brings_new_instructions_for_new_calls() {
    let customer = Customer::saying(DIAL);
    customer.say("/other", "<Dial><Client>carol</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let mut carol = page(&gate, "carol", "phone").await;
    let first = bring(&gate, NUMBER).await;
    let invitation = bob.hear("call.invite").await;
    let config = customer.config("", "").replace("/voice\"", "/other\"");
    gate.reloaded_with(&config).await;
    let second = bring(&gate, NUMBER).await;
    carol.hear("call.invite").await;
    accept(&mut bob, &invitation).await;
    bob.hear("call.accept").await;
    until(&gate, &first, "in-progress").await;
    super::scene::hang_up(&gate, &second).await;
    carol.hear("call.cancel").await;
    until(&gate, &second, "canceled").await;
}

// PLUGIN §6 race 23: at TERM what rings is cancelled; who talks is hung up when `drain_timeout` is over.
#[tokio::test]
async fn a_drain_cancels_what_rings_and_hangs_up_who_talks_at_its_end() {
    let customer = Customer::saying(DIAL);
    let server = "server: { threads: 2, listeners: [{ address: \"127.0.0.1:0\" }], \
                  drain_delay: 0s, drain_timeout: 2s }\n";
    let mut gate = desk::plan_with(&(customer.config("", "") + server))
        .start()
        .await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    connect(&mut alice, &mut bob, "bob").await;
    customer.say("/voice", "<Dial><Client>dora</Client></Dial>");
    let mut carol = page(&gate, "carol", "desk").await;
    let mut dora = page(&gate, "dora", "phone").await;
    call(&mut carol, "dora").await;
    dora.hear("call.invite").await;
    gate.signal(Signal::TERM);
    let cancelled = dora.hear("call.cancel").await;
    assert_eq!(cancelled["reason"], "caller_left");
    loop {
        let next = carol.next().await;
        if next["type"] == "call.hangup" {
            assert_eq!(next["payload"]["error"]["code"], 31_206);
            break;
        }
    }
    for side in [&mut alice, &mut bob] {
        side.hear("call.hangup").await;
    }
    gate.until_exit().await;
}

// PLUGIN §5: the SDK, whose answers carry no bridge, talks to a page: each hears its own dialect.
#[tokio::test]
async fn the_sdks_dialect_and_a_pages_meet_in_one_call() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let mut alice = Socket::open(&gate).await;
    let token = super::scene::calling("alice");
    alice.say("listen", json!({ "token": token })).await;
    alice.hear("connected").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let invite = json!({
        "callsid": "TJSabc", "sdp": super::scene::OFFER, "twilio": { "params": "To=bob&ticket=7" },
    });
    alice.say("invite", invite).await;
    let invitation = bob.hear("call.invite").await;
    accept(&mut bob, &invitation).await;
    let ringing = alice.hear("ringing").await;
    let sid = ringing["callsid"].as_str().unwrap().to_owned();
    assert!(sid.starts_with("CA"), "{sid}");
    let answered = alice.hear("answer").await;
    assert_eq!(answered["callsid"], sid.as_str());
    assert_eq!(answered["sdp"], super::scene::ANSWER);
    bob.hear("call.accept").await;
    let asked = customer.concluded("/voice").await;
    assert_eq!(asked.field("ticket"), Some("7"));
    assert_eq!(asked.field("To"), Some("bob"));
    // Every `connected` makes the SDK show that it is still there, on the same socket: nothing changes.
    let back = json!({ "callsid": sid, "sdp": super::scene::OFFER, "reconnect": answered["reconnect"], "twilio": {} });
    alice.say("invite", back).await;
    let again = alice.hear("answer").await;
    assert_eq!(again["callsid"], sid.as_str());
    assert!(again["sdp"].is_null());
    let message = json!({
        "callsid": sid, "content": "{}", "contenttype": "application/json",
        "messagetype": "user-defined-message", "voiceeventsid": "KX1",
    });
    alice.say("message", message).await;
    let ack = alice.hear("ack").await;
    assert_eq!(
        (&ack["acktype"], &ack["voiceeventsid"]),
        (&json!("message"), &json!("KX1"))
    );
    assert_eq!(bob.hear("call.message").await["content"], "{}");
    alice.say("hangup", json!({ "callsid": sid })).await;
    bob.hear("call.hangup").await;
    until_shown(&gate, "bob", "available").await;
    hears_nothing(&mut bob).await;
}
