//! Messages (B32): the rules of calls without a media channel.

use serde_json::{Value, json};

use super::scene::{
    APPLICATION, Customer, NUMBER, calling, hears_nothing, page, post, report, until,
};
use crate::presence::desk::Socket;
use crate::support::now;
use crate::support::sidecar::Sidecar;

/// Sends a message, which must be taken.
async fn send(gate: &Sidecar, to: &str) -> String {
    let message =
        json!({ "to": to, "from": "+14155550199", "medium": "message", "body": "hello ü" });
    let answer = post(gate, message).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["status"], "queued");
    answer["sid"].as_str().unwrap().to_owned()
}

async fn acknowledge(socket: &mut Socket, message: &Value) {
    let payload = json!({ "sid": message["sid"] });
    socket.say("message.ack", payload).await;
}

/// A page without a microphone.
async fn silent(gate: &Sidecar, identity: &str, device: &str) -> Socket {
    let mut socket = Socket::open(gate).await;
    let hello = json!({ "token": calling(identity), "device": device, "audio": false });
    socket.say("hello", hello).await;
    socket.hear("welcome").await;
    socket
}

// B32: a message needs no microphone; the first acknowledgement is its delivery.
#[tokio::test]
async fn a_message_is_delivered_to_a_device_without_a_microphone() {
    let customer = Customer::saying("");
    let gate = customer.gate("", "").await;
    let mut bob = silent(&gate, "bob", "pc").await;
    let sid = send(&gate, "client:bob").await;
    let message = bob.hear("message.deliver").await;
    assert_eq!(message["sid"], sid.as_str());
    assert_eq!(message["from"], "+14155550199");
    assert_eq!(message["body"], "hello ü");
    acknowledge(&mut bob, &message).await;
    let record = until(&gate, &sid, "delivered").await;
    assert_eq!(record["answered_by"]["device"], "pc");
    assert_eq!(record["medium"], "message");
    assert!(!record.to_string().contains("hello"), "bodies are not kept");
}

// B32: the presence rules are those of calls: who is not to be disturbed, away or busy gets nothing, with or without a microphone.
#[tokio::test]
async fn a_message_disturbs_nobody_who_is_not_available() {
    let customer = Customer::saying("");
    let gate = customer.gate("", "").await;
    let mut pc = silent(&gate, "bob", "pc").await;
    report(&mut pc, "do_not_disturb", None).await;
    let mut phone = page(&gate, "bob", "phone").await;
    report(&mut phone, "busy", None).await;
    let mut tablet = silent(&gate, "bob", "tablet").await;
    report(&mut tablet, "away", None).await;
    let sid = send(&gate, "client:bob").await;
    let record = until(&gate, &sid, "undelivered").await;
    let outcomes: Vec<_> = record["trace"].as_array().unwrap().iter().collect();
    assert_eq!(outcomes.len(), 3, "{record}");
    for socket in [&mut pc, &mut phone, &mut tablet] {
        hears_nothing(socket).await;
    }
    let sid = send(&gate, "client:nobody").await;
    until(&gate, &sid, "undelivered").await;
}

// B32: a device that says nothing for ten seconds is passed over, and the next one has it.
#[tokio::test]
async fn a_device_that_does_not_acknowledge_is_passed_over() {
    let customer = Customer::saying("");
    let gate = customer.gate("", "").await;
    let mut phone = page(&gate, "bob", "phone").await;
    let mut tablet = page(&gate, "bob", "tablet").await;
    let sid = send(&gate, "client:bob").await;
    let start = now();
    let (first, second) = tokio::select! {
        message = phone.hear("message.deliver") => (message, &mut tablet),
        message = tablet.hear("message.deliver") => (message, &mut phone),
    };
    // Only its own device can acknowledge it.
    acknowledge(second, &first).await;
    let message = loop {
        let heard =
            tokio::time::timeout(crate::support::PATIENCE / 2, second.hear("message.deliver"));
        if let Ok(message) = heard.await {
            break message;
        }
        assert!(start.elapsed().as_secs() < 15);
    };
    assert!(start.elapsed().as_secs() >= 9);
    assert_eq!(message["sid"], sid.as_str());
    acknowledge(second, &message).await;
    let record = until(&gate, &sid, "delivered").await;
    let outcomes: Vec<_> = record["trace"].as_array().unwrap().iter().collect();
    assert_eq!(outcomes[0]["outcome"], "timeout", "{record}");
}

// B32: a number's messages go where its instructions say, and their request is one for messages.
#[tokio::test]
async fn a_numbers_messages_follow_its_instructions() {
    let customer = Customer::saying("");
    customer.say(
        "/messaging",
        "<Dial><Client>nobody</Client><Client>carol</Client></Dial>",
    );
    let gate = customer.gate("", "").await;
    let mut carol = page(&gate, "carol", "phone").await;
    let sid = send(&gate, NUMBER).await;
    let message = carol.hear("message.deliver").await;
    acknowledge(&mut carol, &message).await;
    until(&gate, &sid, "delivered").await;
    let asked = customer.concluded("/messaging").await;
    assert_eq!(asked.field("MessageSid"), Some(sid.as_str()));
    assert_eq!(asked.field("Body"), Some("hello ü"));
    assert_eq!(asked.field("To"), Some(NUMBER));
    let told: Value = serde_json::from_str(asked.field("Presence").unwrap()).unwrap();
    assert_eq!(told["bob"]["status"], "offline", "{told}");
}

// B32, B34: a client's messages through an application tell how available that client is.
#[tokio::test]
async fn a_request_about_a_message_tells_of_the_client_it_is_for() {
    let customer = Customer::saying("");
    customer.say("/messaging", "");
    let gate = customer.gate("", "").await;
    let _bob = page(&gate, "bob", "phone").await;
    let message = json!({ "to": "client:bob", "from": "x", "medium": "message", "body": "b",
        "application": APPLICATION });
    let answer = post(&gate, message).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let sid = answer.json()["sid"].as_str().unwrap().to_owned();
    until(&gate, &sid, "undelivered").await;
    let asked = customer.concluded("/messaging").await;
    assert_eq!(asked.field("ApplicationSid"), Some(APPLICATION));
    let told: Value = serde_json::from_str(asked.field("Presence").unwrap()).unwrap();
    assert_eq!(told["bob"]["status"], "available", "{told}");
}
