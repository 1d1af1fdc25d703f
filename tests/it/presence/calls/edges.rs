//! Corners of calls: names that are there twice, servers that are slow or fail in the middle, sockets of the SDK that come back or do not.

use std::time::Duration;

use serde_json::json;

use super::scene::{
    ANSWER, Customer, NUMBER, OFFER, accept, bring, call, calling, connect, decline, hears_nothing,
    leave, page, post, read, until,
};
use crate::presence::desk::{Events, Socket, basic};
use crate::support::{eventually, now};

const DIAL: &str = "<Dial><Client>bob</Client></Dial>";

// B29: a device that several nouns mean rings once.
#[tokio::test]
async fn a_device_that_is_meant_twice_rings_once() {
    let customer = Customer::saying(
        "<Dial><Client>bob</Client><Client>bob/phone</Client><Client>team</Client></Dial>",
    );
    let destination = "      destinations: { team: { members: [bob], choose: all } }\n";
    let gate = customer.gate(destination, "  calls_per_device: 3\n").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    let invitation = bob.hear("call.invite").await;
    hears_nothing(&mut bob).await;
    decline(&mut bob, &invitation).await;
    until(&gate, &sid, "busy").await;
    hears_nothing(&mut bob).await;
}

// R §3.2: an `action` that cannot be had leads to the fallback too, whose document goes on with the caller.
#[tokio::test]
async fn an_action_that_fails_leads_to_the_fallback() {
    let customer =
        Customer::saying("<Dial action=\"/after\"><Client>nobody</Client></Dial><Reject/>");
    customer.answer("/after", 503, "text/plain", String::new());
    customer.say("/fallback", DIAL);
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    let invitation = bob.hear("call.invite").await;
    accept(&mut bob, &invitation).await;
    until(&gate, &sid, "in-progress").await;
    let asked = customer.concluded("/fallback").await;
    assert_eq!(asked.field("ErrorUrl"), Some(&*customer.url("/after")));
    customer.concluded("/after").await;
}

// PLUGIN §6: a caller that leaves while the instructions are on their way has left at once, and what they say is nobody's.
#[tokio::test]
async fn a_caller_may_leave_while_its_instructions_are_on_their_way() {
    let customer = Customer::saying(DIAL);
    customer.delay("/voice", Duration::from_secs(2));
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let start = now();
    let sid = call(&mut alice, "bob").await;
    customer.until_asked("/voice", 1).await;
    alice.say("call.cancel", json!({ "callsid": sid })).await;
    until(&gate, &sid, "canceled").await;
    assert!(start.elapsed() < Duration::from_secs(2));
    hears_nothing(&mut bob).await;
}

// R §6.1: the SDK says for how long it tries to come back to a call; so long it is waited for.
#[tokio::test]
async fn an_sdk_that_is_lost_in_a_talk_has_the_time_that_it_asked_for() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    for is_back in [true, false] {
        let mut alice = Socket::open(&gate).await;
        let listen = json!({ "token": calling("alice"), "reconnectTimeout": 2 });
        alice.say("listen", listen.clone()).await;
        alice.hear("connected").await;
        let invite = json!({ "callsid": "TJS1", "sdp": OFFER, "twilio": { "params": "To=bob" } });
        alice.say("invite", invite).await;
        let invitation = bob.hear("call.invite").await;
        accept(&mut bob, &invitation).await;
        alice.hear("ringing").await;
        let told = alice.hear("answer").await;
        bob.hear("call.accept").await;
        let start = now();
        alice.lose();
        let sid = told["callsid"].as_str().unwrap();
        if is_back {
            let mut alice = Socket::open(&gate).await;
            alice.say("listen", listen).await;
            alice.hear("connected").await;
            let back = json!({ "callsid": sid, "sdp": OFFER, "reconnect": told["reconnect"], "twilio": {} });
            alice.say("invite", back).await;
            assert_eq!(alice.hear("answer").await["callsid"], sid);
            assert!(bob.is_quiet(Duration::from_millis(2_500)).await);
            alice.say("hangup", json!({ "callsid": sid })).await;
        }
        bob.hear("call.hangup").await;
        assert!(start.elapsed() >= Duration::from_millis(1_900));
        assert!(start.elapsed() < Duration::from_secs(8));
        until(&gate, sid, "completed").await;
    }
}

// R §6.1, B30: SDK phones that ring: the one that answers is put through, the other is cancelled and refused, in their own words.
#[tokio::test]
async fn sdk_phones_ring_answer_and_are_refused_in_their_own_words() {
    let customer = Customer::saying(
        "<Dial><Client><Identity>bob</Identity><Parameter name=\"a b\" value=\"c&amp;d\"/></Client></Dial>",
    );
    let gate = customer.gate("", "").await;
    let mut phones = Vec::new();
    for _ in 0..2 {
        let mut phone = Socket::open(&gate).await;
        phone
            .say("listen", json!({ "token": calling("bob") }))
            .await;
        phone.hear("connected").await;
        let register = json!({ "media": { "audio": true } });
        phone.say("register", register).await;
        phone.hear("ready").await;
        phones.push(phone);
    }
    let sid = bring(&gate, NUMBER).await;
    let first = phones[0].hear("invite").await;
    let second = phones[1].hear("invite").await;
    assert_eq!(first["parameters"]["Params"], "a+b=c%26d");
    assert_eq!(first["parameters"]["To"], "client:bob");
    assert_eq!(first["parameters"]["CallSid"], first["callsid"]);
    let answer =
        |invitation: &serde_json::Value| json!({ "callsid": invitation["callsid"], "sdp": ANSWER });
    phones[0].say("answer", answer(&first)).await;
    let told = phones[0].hear("answer").await;
    assert_eq!(told["callsid"], first["callsid"]);
    assert!(told["reconnect"].is_string());
    assert_eq!(phones[1].hear("cancel").await["callsid"], second["callsid"]);
    phones[1].say("answer", answer(&second)).await;
    let refused = phones[1].hear("hangup").await;
    assert_eq!(refused["error"]["code"], 31_008);
    assert_eq!(refused["callsid"], second["callsid"]);
    let end = json!({ "callsid": first["callsid"] });
    phones[0].say("hangup", end).await;
    until(&gate, &sid, "completed").await;
}

// R §3.4: a message of a document without an addressee goes back to the caller.
#[tokio::test]
async fn an_sms_without_an_addressee_answers_the_caller() {
    let customer = Customer::saying("<Sms>we call you back</Sms><Reject reason=\"busy\"/>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut phone = page(&gate, "alice", "phone").await;
    call(&mut alice, "bob").await;
    alice.hear("call.hangup").await;
    let message = phone.hear("message.deliver").await;
    assert_eq!(message["body"], "we call you back");
    assert_eq!(message["to"], "client:alice");
}

// PLUGIN §4: a message's stream ends with its delivery.
#[tokio::test]
async fn a_messages_stream_ends_with_its_delivery() {
    let customer = Customer::saying("");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let message = json!({ "to": "client:bob", "from": "x", "medium": "message", "body": "b" });
    let answer = post(&gate, message).await.json();
    let sid = answer["sid"].as_str().unwrap();
    let path = format!("/v1/communications/{sid}/events");
    let opened = Events::at(gate.connect().await, &basic(), &path).await;
    let mut events = opened.unwrap_or_else(|refused| panic!("{}", refused.text()));
    events.hear("queued").await;
    let message = bob.hear("message.deliver").await;
    bob.say("message.ack", json!({ "sid": message["sid"] }))
        .await;
    assert_eq!(events.hear("ended").await["status"], "delivered");
    assert!(events.next().await.is_none());
}

// PLUGIN §6 race 22: what rings when its account is removed may be answered; who comes then does not ring.
#[tokio::test]
async fn what_rings_when_its_account_is_removed_can_be_answered() {
    let customer = Customer::saying(DIAL);
    let other = crate::presence::desk::OTHER_ACCOUNT;
    let gate = customer.gate("", other).await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    call(&mut alice, "bob").await;
    let mut invitation = bob.hear("call.invite").await;
    let config = customer.config("", other);
    let own = format!("    - sid: {}", crate::presence::desk::ACCOUNT);
    let (begin, end) = (config.find(&own).unwrap(), config.find(other).unwrap());
    gate.reloaded_with(&format!("{}{}", &config[..begin], &config[end..]))
        .await;
    assert_eq!(bob.hear("error").await["error"]["code"], 31_205);
    // On the socket that rings no bridge is needed.
    invitation["bridge"] = json!(null);
    accept(&mut bob, &invitation).await;
    let told = bob.hear("call.accept").await;
    leave(&mut bob, &told["callsid"]).await;
    let mut heard = Vec::new();
    while heard.last() != Some(&json!("call.hangup")) {
        heard.push(alice.next().await["type"].take());
    }
    assert!(heard.contains(&json!("call.accept")), "{heard:?}");
}

// B14: a page that calls from two sockets is busy until the last of its calls is over.
#[tokio::test]
async fn an_identity_is_busy_until_its_last_call_is_over() {
    let customer = Customer::saying("<Pause length=\"60\"/>");
    let gate = customer.gate("", "").await;
    let mut desk = page(&gate, "alice", "desk").await;
    let mut phone = page(&gate, "alice", "phone").await;
    let first = call(&mut desk, "bob").await;
    let second = call(&mut phone, "bob").await;
    leave(&mut desk, &json!(first)).await;
    until(&gate, &first, "canceled").await;
    let shown = crate::presence::desk::item(&gate, "alice").await;
    assert_eq!(shown["status"], "busy");
    leave(&mut phone, &json!(second)).await;
    eventually("she is available again", async || {
        crate::presence::desk::item(&gate, "alice").await["status"] == "available"
    })
    .await;
    assert_eq!(read(&gate, &second).await["status"], "canceled");
}

// PLUGIN §6: a talk that was taken up again is as good as before: it can be lost and taken up once more.
#[tokio::test]
async fn a_talk_can_be_taken_up_more_than_once() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let pair = connect(&mut alice, &mut bob, "bob").await;
    for _ in 0..3 {
        alice.lose();
        alice = page(&gate, "alice", "desk").await;
        let back =
            json!({ "callsid": pair.sid, "reconnect": pair.caller["reconnect"], "sdp": OFFER });
        alice.say("call.invite", back).await;
        alice.hear("call.accept").await;
    }
    leave(&mut alice, &json!(pair.sid)).await;
    bob.hear("call.hangup").await;
    until(&gate, &pair.sid, "completed").await;
}
