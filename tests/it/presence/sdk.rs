//! The vendor's SDK, unmodified, against a real gate: `@twilio/voice-sdk` in Node, over TLS.
//!
//! Each phone is a process of `tests/presence/device.js`. What the SDK says of itself and what the gate says of it are both looked at.
//! Its calls are in [`calls::phones`](super::calls).

use std::time::Duration;

use serde_json::json;

use super::desk::{
    Socket, ask, basic, draft, item, secure_gate, seeing, sign, token, token_ending,
};
use super::phone::Phone;
use super::road::Road;
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, now};

/// The names of an identity's devices, in order.
async fn devices(gate: &Sidecar, identity: &str) -> Vec<String> {
    let shown = item(gate, identity).await;
    let devices = shown["devices"].as_array().unwrap();
    let mut names: Vec<_> = devices
        .iter()
        .map(|of| of["device"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Waits until an identity has that many devices whose socket was lost.
async fn until_suspended(gate: &Sidecar, identity: &str, count: usize) {
    eventually("devices are suspended", async || {
        let shown = item(gate, identity).await;
        let devices = shown["devices"].as_array().unwrap().iter();
        devices.filter(|of| of["suspended"] == true).count() == count
    })
    .await;
}

// B1, B4: one registration of the SDK makes its device present and ringable; B38: it goes with its sign-out, within a second.
#[tokio::test]
async fn the_sdk_registers_and_unregisters() {
    let (gate, authority) = secure_gate("").await;
    let token = token("alice", None);
    let mut phone = Phone::made(&gate.listeners[1], &authority, &token, json!({})).await;
    assert_eq!(
        item(&gate, "alice").await["device_count"],
        0,
        "it is only made"
    );
    let mut names = Vec::new();
    for _ in 0..2 {
        phone.say("register");
        phone.until("registered").await;
        let shown = item(&gate, "alice").await;
        assert_eq!(shown["status"], "available");
        assert_eq!(shown["ringable"], true);
        let device = &shown["devices"][0];
        let name = device["device"].as_str().unwrap().to_owned();
        assert!(name.starts_with("sdk-") && name.len() == 12, "{name}");
        assert_eq!(device["app"], "voice");
        assert_eq!(device["channel"], "socket");
        names.push(name);

        let start = now();
        phone.say("unregister");
        phone.until("unregistered").await;
        let shown = item(&gate, "alice").await;
        assert_eq!(shown["device_count"], 0);
        assert_eq!(shown["status"], "offline");
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    assert_ne!(names[0], names[1], "who signed out is not taken up again");
    assert_eq!(phone.seen(), ["registering", "registering"]);
}

// B11: two processes of one identity are two devices; one that comes back takes over the lost one of its kind, and no other.
#[tokio::test]
async fn phones_of_one_identity_are_devices_of_their_own() {
    let (gate, authority) = secure_gate("").await;
    let (address, token) = (&gate.listeners[1], token("alice", None));
    let first = Phone::registered(address, &authority, &token).await;
    let one = devices(&gate, "alice").await;
    let mut second = Phone::registered(address, &authority, &token).await;
    let both = devices(&gate, "alice").await;
    assert_eq!(both.len(), 2);
    assert!(both.contains(&one[0]));

    first.kill();
    until_suspended(&gate, "alice", 1).await;
    let other = json!({ "userAgent": "Mozilla/5.0 (test) Other/2" });
    let mut other = Phone::made(address, &authority, &token, other).await;
    other.say("register");
    other.until("registered").await;
    assert_eq!(
        devices(&gate, "alice").await.len(),
        3,
        "another browser is another device"
    );
    let _again = Phone::registered(address, &authority, &token).await;
    let all = devices(&gate, "alice").await;
    assert_eq!(all.len(), 3);
    assert!(all.contains(&one[0]), "it has its device back");
    until_suspended(&gate, "alice", 0).await;

    // The SDK ends without a word: the device may come back for a while.
    second.say("destroy");
    second.until("destroyed").await;
    until_suspended(&gate, "alice", 1).await;
}

// B4: the SDK gives its server up after 15 s of silence, and repeats its registration every 30 s: neither is noticed by anybody.
#[tokio::test]
async fn heartbeats_keep_the_sdk_registered() {
    let (gate, authority) = secure_gate("  heartbeat: 5s\n").await;
    let mut phone = Phone::registered(&gate.listeners[1], &authority, &token("alice", None)).await;
    let before = item(&gate, "alice").await;
    let (mut watcher, _) = Socket::hello(&gate, &seeing("bob"), "desk").await;
    let wanted = json!({ "identities": ["alice"], "devices": true });
    watcher.say("presence.sub", wanted).await;
    watcher.hear("presence.snapshot").await;
    // The watcher's clock is the gate's own: more than thirty seconds.
    watcher.until_beaten(7).await;
    assert_eq!(item(&gate, "alice").await, before);
    assert_eq!(phone.seen(), ["registering"]);
}

// B38, B11: a phone whose network falls silent comes back by itself and has its device back; who watches sees nobody go.
#[tokio::test]
async fn a_phone_that_hears_nothing_comes_back_to_its_own_device() {
    // The watcher's heartbeats come before its patience ends.
    let (gate, authority) = secure_gate("  heartbeat: 5s\n").await;
    let road = Road::to(&gate.listeners[1]).await;
    let (mut watcher, _) = Socket::hello(&gate, &seeing("bob"), "desk").await;
    let wanted = json!({ "identities": ["alice"], "devices": true });
    watcher.say("presence.sub", wanted).await;
    watcher.hear("presence.snapshot").await;
    let mut phone = Phone::registered(&road.address, &authority, &token("alice", None)).await;
    let shown = watcher.hear("presence.delta").await;
    assert_eq!(shown["presence"]["alice"]["status"], "available");
    let device = devices(&gate, "alice").await;

    road.fall_silent();
    let start = now();
    let mut told = Vec::new();
    {
        let back = async {
            phone.until("unregistered").await;
            phone.until("registered").await;
        };
        tokio::pin!(back);
        loop {
            tokio::select! {
                () = &mut back => break,
                next = watcher.next() => told.push(next),
            }
        }
    }
    let silent = start.elapsed().as_secs_f64();
    assert!((10.0..20.0).contains(&silent), "{silent}");
    assert_eq!(
        devices(&gate, "alice").await,
        device,
        "the same device, and no second one"
    );
    eventually("it can be rung again", async || {
        item(&gate, "alice").await["ringable"] == true
    })
    .await;

    // All that the watcher was told until now comes before the answer to its question.
    watcher
        .say("presence.query", json!({ "identities": ["alice"] }))
        .await;
    while told
        .last()
        .is_none_or(|last| last["type"] != "presence.query")
    {
        told.push(watcher.next().await);
    }
    for next in told {
        let shown = &next["payload"]["presence"]["alice"];
        assert_eq!(shown["status"], "available", "{next}");
        assert_eq!(shown["device_count"], 1, "{next}");
    }
    let path = "/v1/presence/alice/log";
    let log = ask(&gate, &basic(), "GET", path, "").await.json();
    assert_eq!(log["entries"].as_array().unwrap().len(), 1, "{log}");
}

// B38, B2: the SDK asks for a new token before the old one ends; with it the device stays, with the new rights; without, it goes.
#[tokio::test]
async fn a_new_token_keeps_the_device_and_renews_its_rights() {
    let (gate, authority) = secure_gate("").await;
    let (address, left) = (&gate.listeners[1], Duration::from_secs(8));
    let silent = token_ending("alice", Some(json!({ "publish": false })), left);
    let mut alice = Phone::registered(address, &authority, &silent).await;
    let mut bob = Phone::registered(address, &authority, &token_ending("bob", None, left)).await;
    let asked = "tokenWillExpire".to_owned();
    if !alice.seen().contains(&asked) {
        alice.until(&asked).await;
    }
    let shown = item(&gate, "alice").await;
    assert_eq!(
        shown["status"], "offline",
        "it may be rung, but not give presence"
    );
    assert_eq!(shown["ringable"], true);
    let device = devices(&gate, "alice").await;
    alice.say(&format!("update {}", token("alice", None)));
    eventually("the new rights count", async || {
        item(&gate, "alice").await["status"] == "available"
    })
    .await;

    // Bob never brings another.
    let error = bob.until("error").await;
    assert_eq!(
        (&error["code"], &error["from"]),
        (&json!(20_104), &json!(31_205))
    );
    assert!(
        !bob.noted().contains(&"unregistered".to_owned()),
        "it is told before it is cut off"
    );
    eventually("bob is gone", async || {
        item(&gate, "bob").await["device_count"] == 0
    })
    .await;
    assert_eq!(devices(&gate, "alice").await, device);
    assert_eq!(item(&gate, "alice").await["ringable"], true);
    assert!(!alice.seen().contains(&"unregistered".to_owned()));
}

// B1: a token that does not verify registers nobody, and the SDK raises the error that its users know.
#[tokio::test]
async fn the_sdk_says_what_is_wrong_with_a_token() {
    let (gate, authority) = secure_gate("").await;
    let good = token("alice", None);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    let mut mute = draft(
        "alice",
        Some(json!({ "publish": false })),
        Duration::from_hours(1),
    );
    mute.may_receive = false;
    let cases = [
        ("no.token.at-all", 31_204, 20_101),
        (&*forged, 31_202, 31_202),
        (
            &*token_ending("alice", None, Duration::ZERO),
            31_205,
            20_104,
        ),
        (&*sign(&mute, Duration::ZERO), 31_201, 20_151),
    ];
    for (token, from, code) in cases {
        let options = json!({ "enableImprovedSignalingErrorPrecision": true });
        let mut phone = Phone::made(&gate.listeners[1], &authority, token, options).await;
        phone.say("register");
        let error = phone.until("error").await;
        assert_eq!(
            (&error["from"], &error["code"]),
            (&json!(from), &json!(code)),
            "{error}"
        );
        assert!(
            !error.to_string().contains(token),
            "an error does not tell the token"
        );
        assert_eq!(phone.seen(), ["registering"]);
    }
    let shown = item(&gate, "alice").await;
    assert_eq!(
        (&shown["device_count"], &shown["status"]),
        (&json!(0), &json!("offline"))
    );
}
