//! From a request to two sides that talk, and to the end of it.

use serde_json::json;

use super::scene::{
    ANSWER, Customer, NUMBER, OFFER, accept, bring, call, page, read, traced, until,
};
use crate::presence::desk::item;

// B6, B14, B30: a page calls another through its application's instructions; both are busy while they talk, and as before after it.
#[tokio::test]
async fn a_page_calls_another_and_both_are_busy_while_they_talk() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = call(&mut alice, "bob").await;
    let invitation = bob.hear("call.invite").await;
    assert_eq!(invitation["from"], "client:alice");
    assert_eq!(invitation["sdp"], OFFER);
    bob.say("call.ringing", json!({ "callsid": invitation["callsid"] }))
        .await;
    let ringing = alice.hear("call.ringing").await;
    assert_eq!(ringing["callsid"], sid.as_str());
    assert_eq!(item(&gate, "alice").await["status"], "busy");
    assert_eq!(item(&gate, "bob").await["status"], "available");
    accept(&mut bob, &invitation).await;
    let answered = alice.hear("call.accept").await;
    assert_eq!(answered["sdp"], ANSWER);
    assert!(answered["reconnect"].is_string());
    let connected = bob.hear("call.accept").await;
    assert!(connected["sdp"].is_null());
    assert_eq!(item(&gate, "bob").await["reason"], "in_call");
    alice.say("call.hangup", json!({ "callsid": sid })).await;
    bob.hear("call.hangup").await;
    let record = until(&gate, &sid, "completed").await;
    assert_eq!(traced(&record, "bob", "phone"), "answered");
    for who in ["alice", "bob"] {
        assert_eq!(item(&gate, who).await["status"], "available", "{who}");
    }
}

// B7, B28: of three devices the one that is available rings; what comes from outside is read over the API.
#[tokio::test]
async fn a_call_from_outside_rings_the_one_device_that_is_available() {
    let customer = Customer::saying("<Dial timeout=\"20\"><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut devices = Vec::new();
    for (device, status) in [
        ("one", "busy"),
        ("two", "available"),
        ("three", "do_not_disturb"),
    ] {
        let mut socket = page(&gate, "bob", device).await;
        socket
            .say("presence.set", json!({ "status": status, "id": 1 }))
            .await;
        socket.hear("presence.set").await;
        devices.push(socket);
    }
    let sid = bring(&gate, NUMBER).await;
    let invitation = devices[1].hear("call.invite").await;
    accept(&mut devices[1], &invitation).await;
    let record = until(&gate, &sid, "in-progress").await;
    assert_eq!(record["sdp"], ANSWER);
    assert_eq!(record["answered_by"]["device"], "two");
    assert_eq!(traced(&record, "bob", "one"), "busy");
    assert_eq!(traced(&record, "bob", "three"), "do_not_disturb");
    devices[1].hear("call.accept").await;
    let callsid = &invitation["callsid"];
    devices[1]
        .say("call.hangup", json!({ "callsid": callsid }))
        .await;
    until(&gate, &sid, "completed").await;
    assert_eq!(read(&gate, &sid).await["dial_status"], "completed");
}
