//! What the configuration and a token's rights make of who can be rung.

use serde_json::{Value, json};

use super::scene::{
    APPLICATION, Customer, NUMBER, OFFER, accept, bring, call, decline, hears_nothing, page, post,
    report, traced, until,
};
use crate::presence::desk::{self, Socket, item};
use crate::support::now;

const DIAL: &str = "<Dial><Client>bob</Client></Dial>";

// PLUGIN §2: with two calls a device, one that talks rings for a second, and not for a third.
#[tokio::test]
async fn a_device_rings_up_to_its_number_of_calls() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "  calls_per_device: 2\n").await;
    let mut bob = page(&gate, "bob", "phone").await;
    for _ in 0..2 {
        let sid = bring(&gate, NUMBER).await;
        let invitation = bob.hear("call.invite").await;
        accept(&mut bob, &invitation).await;
        bob.hear("call.accept").await;
        until(&gate, &sid, "in-progress").await;
    }
    let sid = bring(&gate, NUMBER).await;
    let record = until(&gate, &sid, "busy").await;
    assert_eq!(traced(&record, "bob", "phone"), "in_call");
    hears_nothing(&mut bob).await;
}

// PLUGIN §2: with `ring_away` those who are away ring too, and those who are busy do not.
#[tokio::test]
async fn who_is_away_rings_where_that_is_configured() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "  ring_away: true\n").await;
    let mut phone = page(&gate, "bob", "phone").await;
    let mut tablet = page(&gate, "bob", "tablet").await;
    report(&mut phone, "away", None).await;
    report(&mut tablet, "busy", None).await;
    let sid = bring(&gate, NUMBER).await;
    let invitation = phone.hear("call.invite").await;
    decline(&mut phone, &invitation).await;
    until(&gate, &sid, "busy").await;
    hears_nothing(&mut tablet).await;
}

// B2, PLUGIN §3: who may receive and not give presence rings, shown as assumed; who may give and not receive never rings.
#[tokio::test]
async fn the_right_to_receive_makes_a_device_ring_and_not_the_right_to_give() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let silent = desk::token("bob", Some(json!({ "publish": false })));
    let (mut silent, _) = Socket::hello(&gate, &silent, "silent").await;
    let mut draft = desk::draft(
        "bob",
        Some(json!({ "publish": true })),
        std::time::Duration::from_hours(1),
    );
    draft.may_receive = false;
    let shown = desk::sign(&draft, std::time::Duration::ZERO);
    let (mut shown, _) = Socket::hello(&gate, &shown, "shown").await;
    let sid = bring(&gate, NUMBER).await;
    let invitation = silent.hear("call.invite").await;
    decline(&mut silent, &invitation).await;
    let record = until(&gate, &sid, "busy").await;
    assert_eq!(traced(&record, "bob", "shown"), "cannot_receive");
    hears_nothing(&mut shown).await;
    let devices = item(&gate, "bob").await["devices"].clone();
    let of = |device: &str| {
        let mut devices = devices.as_array().unwrap().iter();
        devices.find(|of| of["device"] == device).unwrap().clone()
    };
    assert_eq!(of("silent")["status"], "offline");
    assert_eq!(of("shown")["status"], "available");
}

// B29, PLUGIN §6: the echo of what follows an invitation tells that it rings; a device that echoes nothing is taken to ring after two seconds.
#[tokio::test]
async fn a_device_rings_by_its_echo_or_after_two_seconds() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    for is_echoed in [true, false] {
        let start = now();
        let sid = call(&mut alice, "bob").await;
        let invitation = bob.hear("call.invite").await;
        if is_echoed {
            hears_nothing(&mut bob).await;
        }
        assert_eq!(alice.hear("call.ringing").await["callsid"], sid.as_str());
        assert_eq!(start.elapsed().as_millis() >= 2_000, !is_echoed);
        decline(&mut bob, &invitation).await;
        alice.hear("call.hangup").await;
        until(&gate, &sid, "busy").await;
    }
}

// B34, B29, B8: for a sub-name the request tells of its identity, for a destination of its members.
#[tokio::test]
async fn a_request_tells_of_those_who_are_meant_by_the_called_name() {
    let customer = Customer::saying("<Hangup/>");
    customer.say("/messaging", "<Hangup/>");
    let destinations = "      destinations: { sales: { members: [bob, carol], choose: all } }\n";
    let gate = customer.gate(destinations, "").await;
    let _bob = page(&gate, "bob", "phone").await;
    let mut asked = (0, 0);
    for (to, who) in [
        ("client:bob/phone", vec!["bob"]),
        ("client:sales", vec!["bob", "carol"]),
        ("client:nobody", vec!["nobody"]),
    ] {
        let calls = json!({ "to": to, "from": "x", "application": APPLICATION, "sdp": OFFER });
        let messages = json!({ "to": to, "from": "x", "application": APPLICATION,
            "medium": "message", "body": "b" });
        for communication in [calls, messages] {
            assert_eq!(post(&gate, communication).await.status, 201);
        }
        asked = (asked.0 + 1, asked.1 + 1);
        let voice = customer.until_asked("/voice", asked.0).await;
        let messaging = customer.until_asked("/messaging", asked.1).await;
        for request in [voice.last().unwrap(), messaging.last().unwrap()] {
            let told = request.field("Presence").unwrap();
            let told: Value = serde_json::from_str(told).unwrap();
            let told: Vec<_> = told.as_object().unwrap().keys().cloned().collect();
            assert_eq!(told, who, "{to}");
        }
    }
}

// PLUGIN §5: before it said who it is, a socket calls nobody.
#[tokio::test]
async fn a_socket_that_did_not_say_who_it_is_calls_nobody() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let mut socket = Socket::open(&gate).await;
    let payload = json!({ "callsid": "x", "to": "bob", "sdp": OFFER, "id": 1 });
    socket.say("call.invite", payload).await;
    // It does not say yet which dialect it speaks: it hears the SDK's way of failing, or the page's.
    let told = socket.next().await;
    let code = &told["payload"]["error"]["code"];
    assert_eq!(code, 31_204, "{told}");
    assert!(customer.asked("/voice").is_empty());
}

// PLUGIN §6: at most twenty devices ring for one dial; the trace says of the others why not.
#[tokio::test]
async fn a_dial_rings_twenty_devices_at_most() {
    let customer = Customer::saying(
        "<Dial><Client>ann</Client><Client>ben</Client><Client>cem</Client></Dial>",
    );
    let gate = customer.gate("", "").await;
    let mut sockets = Vec::new();
    for identity in ["ann", "ben", "cem"] {
        for number in 0..7 {
            sockets.push(page(&gate, identity, &format!("device-{number}")).await);
        }
    }
    let sid = bring(&gate, NUMBER).await;
    let mut rung = Vec::new();
    for socket in &mut sockets {
        socket.say("presence.unsub", json!({ "id": 5 })).await;
    }
    super::scene::until(&gate, &sid, "ringing").await;
    let record = super::scene::read(&gate, &sid).await;
    assert_eq!(record["trace"][0]["outcome"], "too_many", "{record}");
    for socket in &mut sockets {
        let mut has_rung = false;
        socket.say("presence.unsub", json!({ "id": 6 })).await;
        loop {
            let next = socket.next().await;
            has_rung |= next["type"] == "call.invite";
            if next["payload"]["re"] == 6 {
                break;
            }
        }
        rung.push(has_rung);
    }
    assert_eq!(rung.iter().filter(|has_rung| **has_rung).count(), 20);
}
