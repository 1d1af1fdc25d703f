//! Devices on `/signal`: registering, being lost and coming back, replacing each other, and what is refused.

use std::time::Duration;

use serde_json::json;

use super::desk::{Socket, ask, basic, gate, item, seeing, token, token_for};
use crate::support::eventually;

/// Waits until an identity shows that status.
async fn until_shown(gate: &crate::support::sidecar::Sidecar, identity: &str, status: &str) {
    eventually("the status shows", async || {
        item(gate, identity).await["status"] == status
    })
    .await;
}

// B4: one login over one channel gives presence and makes the device ringable.
#[tokio::test]
async fn one_hello_registers_presence_and_reachability() {
    let gate = gate("").await;
    let (mut socket, welcome) = Socket::hello(&gate, &token("alice", None), "desk").await;
    assert_eq!(welcome["identity"], "alice");
    assert_eq!(welcome["heartbeat_ms"], 10_000);
    let shown = item(&gate, "alice").await;
    assert_eq!(
        (&shown["status"], &shown["ringable"]),
        (&json!("available"), &json!(true))
    );
    assert_eq!(shown["devices"][0]["channel"], "socket");

    // B13: with reason and free text, on the socket.
    let said = json!({ "id": 1, "status": "unavailable", "reason": "away_long", "text": "back on Monday" });
    socket.say("presence.set", said).await;
    let reply = socket.hear("presence.set").await;
    assert_eq!((&reply["re"], &reply["changed"]), (&json!(1), &json!(true)));
    let shown = item(&gate, "alice").await;
    assert_eq!(shown["reason"], "away_long");
    assert_eq!(shown["text"], "back on Monday");
    assert_eq!(shown["ringable"], false);

    // B15: the same again is no change.
    let said = json!({ "id": 2, "status": "unavailable", "reason": "away_long", "text": "back on Monday" });
    socket.say("presence.set", said).await;
    let again = socket.hear("presence.set").await;
    assert_eq!(
        (&again["changed"], &again["version"]),
        (&json!(false), &reply["version"])
    );
    for bad in [
        json!({ "status": "offline" }),
        json!({ "status": "asleep" }),
        json!({}),
    ] {
        socket.say("presence.set", bad).await;
        assert_eq!(socket.hear("error").await["error"]["code"], 31_100);
    }
}

// B1: without a token that verifies nobody is registered, and the code says why.
#[tokio::test]
async fn a_token_that_does_not_verify_registers_nobody() {
    let gate = gate("").await;
    let mut socket = Socket::open(&gate).await;
    let hello = json!({ "token": "no.token.at-all", "device": "desk", "id": "x" });
    socket.say("hello", hello).await;
    let error = socket.hear("error").await;
    assert_eq!(
        (&error["error"]["code"], &error["re"]),
        (&json!(31_204), &json!("x"))
    );
    socket
        .say("register", json!({ "media": { "audio": true } }))
        .await;
    assert_eq!(socket.hear("error").await["error"]["code"], 31_204);
    assert_eq!(item(&gate, "alice").await["device_count"], 0);

    // B2: neither called nor seen: there is nothing to register.
    let nothing = token("alice", Some(json!({ "publish": false })));
    let listener = json!({ "token": nothing, "device": "desk", "audio": true });
    socket.say("hello", listener).await;
    socket.hear("welcome").await;
    let shown = item(&gate, "alice").await;
    assert_eq!(shown["status"], "offline", "it may receive but not give");
    assert_eq!(shown["ringable"], true);
}

// B11: devices and apps of one identity keep their own statuses; B12: the one that counts most shows.
#[tokio::test]
async fn devices_and_apps_keep_their_own_statuses() {
    let gate = gate("").await;
    let token = token("alice", None);
    let mut sockets = Vec::new();
    for (device, app, status) in [
        ("desk", "voice", "do_not_disturb"),
        ("desk", "chat", "away"),
        ("mobile", "voice", "busy"),
    ] {
        let mut socket = Socket::open(&gate).await;
        socket
            .say(
                "hello",
                json!({ "token": token, "device": device, "app": app }),
            )
            .await;
        socket.hear("welcome").await;
        socket
            .say("presence.set", json!({ "id": 1, "status": status }))
            .await;
        socket.hear("presence.set").await;
        sockets.push(socket);
    }
    let shown = item(&gate, "alice").await;
    let devices = shown["devices"].as_array().unwrap();
    let of = |device: &str, app: &str| {
        let found = devices
            .iter()
            .find(|of| of["device"] == device && of["app"] == app);
        found.unwrap()["status"].clone()
    };
    assert_eq!(of("desk", "voice"), "do_not_disturb");
    assert_eq!(of("desk", "chat"), "away");
    assert_eq!(of("mobile", "voice"), "busy");
    assert_eq!(shown["status"], "busy");
    sockets.pop().unwrap().close(1000).await;
    until_shown(&gate, "alice", "do_not_disturb").await;
}

// B38: sign-out removes the device within a second, and it is known to be gone.
#[tokio::test]
async fn signing_out_removes_the_device_at_once() {
    let gate = gate("  assume: away\n").await;
    for way in ["bye", "close", "unregister", "delete"] {
        let (mut socket, _) = Socket::hello(&gate, &token("alice", None), "desk").await;
        assert_eq!(item(&gate, "alice").await["device_count"], 1, "{way}");
        match way {
            "bye" => {
                socket.say("bye", json!({})).await;
                assert_eq!(socket.until_closed().await, Some(1000));
            }
            "close" => socket.close(1001).await,
            "unregister" => {
                socket
                    .say("register", json!({ "media": { "audio": false } }))
                    .await;
                socket.hear("offline").await;
            }
            _ => {
                let path = "/v1/presence/desk?identity=alice";
                assert_eq!(ask(&gate, &basic(), "DELETE", path, "").await.status, 204);
                assert_eq!(socket.until_closed().await, Some(1000));
            }
        }
        until_shown(&gate, "alice", "offline").await;
        assert_eq!(item(&gate, "alice").await["device_count"], 0, "{way}");
    }
    assert_eq!(
        item(&gate, "nobody").await["status"],
        "away",
        "B25: the never seen are assumed"
    );
}

// B38, B25: a lost socket keeps its status for the grace, is not rung, and then is taken for what silence is taken for.
#[tokio::test]
async fn a_lost_socket_is_suspended_and_goes_after_the_grace() {
    let gate = gate("  grace: 2s\n  assume: unavailable\n").await;
    let (socket, _) = Socket::hello(&gate, &token("alice", None), "desk").await;
    socket.lose();
    eventually("it is suspended", async || {
        item(&gate, "alice").await["devices"][0]["suspended"] == true
    })
    .await;
    let shown = item(&gate, "alice").await;
    assert_eq!(
        (&shown["status"], &shown["ringable"]),
        (&json!("available"), &json!(false))
    );
    until_shown(&gate, "alice", "unavailable").await;
    assert_eq!(item(&gate, "alice").await["device_count"], 0);
}

// B38: who comes back in time with its resume token goes on where it was, and the token is used up.
#[tokio::test]
async fn a_resume_goes_on_where_the_socket_was_lost() {
    let gate = gate("").await;
    let token = token("alice", None);
    let (mut socket, welcome) = Socket::hello(&gate, &token, "desk").await;
    socket
        .say(
            "presence.set",
            json!({ "id": 1, "status": "do_not_disturb" }),
        )
        .await;
    socket.hear("presence.set").await;
    socket.lose();
    eventually("it is suspended", async || {
        item(&gate, "alice").await["devices"][0]["suspended"] == true
    })
    .await;
    let again = |resume: serde_json::Value| json!({ "token": token, "device": "desk", "audio": true, "resume": resume });
    let mut back = Socket::open(&gate).await;
    back.say("hello", again(welcome["resume"].clone())).await;
    let resumed = back.hear("welcome").await;
    assert_eq!(resumed["resumed"], true);
    assert!(resumed["epoch"].as_u64() > welcome["epoch"].as_u64());
    assert_eq!(item(&gate, "alice").await["status"], "do_not_disturb");

    back.lose();
    eventually("it is suspended", async || {
        item(&gate, "alice").await["devices"][0]["suspended"] == true
    })
    .await;
    let mut stale = Socket::open(&gate).await;
    stale.say("hello", again(welcome["resume"].clone())).await;
    assert_eq!(
        stale.hear("welcome").await["resumed"],
        false,
        "a resume token is used once"
    );
    assert_eq!(item(&gate, "alice").await["status"], "available");
}

// A second live session of the same device and app takes the place of the first.
#[tokio::test]
async fn a_second_session_of_one_device_replaces_the_first() {
    let gate = gate("").await;
    let token = token("alice", None);
    let (mut first, _) = Socket::hello(&gate, &token, "desk").await;
    let (_second, _) = Socket::hello(&gate, &token, "desk").await;
    assert_eq!(first.until_closed().await, Some(4009));
    assert_eq!(item(&gate, "alice").await["device_count"], 1);
}

// B11: ten devices an identity unless configured otherwise; lost ones give way.
#[tokio::test]
async fn one_device_too_many_is_refused_unless_a_lost_one_gives_way() {
    let gate = gate("  devices_per_identity: 2\n").await;
    let token = token("alice", None);
    let (first, _) = Socket::hello(&gate, &token, "1").await;
    let (_second, _) = Socket::hello(&gate, &token, "2").await;
    let mut third = Socket::open(&gate).await;
    let hello = json!({ "token": token, "device": "3", "audio": true });
    third.say("hello", hello.clone()).await;
    assert_eq!(third.hear("error").await["error"]["code"], 31_206);
    let put = r#"{"identity":"alice","device":"3","status":"away"}"#;
    let refused = ask(&gate, &basic(), "PUT", "/v1/presence", put).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (409, &json!(20_409))
    );
    first.lose();
    eventually("the first is suspended", async || {
        let shown = item(&gate, "alice").await;
        shown["devices"]
            .as_array()
            .unwrap()
            .iter()
            .any(|of| of["suspended"] == true)
    })
    .await;
    third.say("hello", hello).await;
    third.hear("welcome").await;
}

// A new token renews the rights of a socket, and never its identity.
#[tokio::test]
async fn a_new_token_renews_rights_but_never_identity() {
    let gate = gate("").await;
    let blind = token("alice", Some(json!({ "publish": true, "subscribe": [] })));
    let (mut socket, _) = Socket::hello(&gate, &blind, "desk").await;
    let (mut bob, _) = Socket::hello(&gate, &token("bob", None), "desk").await;
    socket
        .say("presence.sub", json!({ "identities": ["bob"] }))
        .await;
    let list = socket.hear("presence.snapshot").await;
    assert_eq!(
        (&list["left_out"], &list["presence"]),
        (&json!(1), &json!({}))
    );
    socket
        .say("hello", json!({ "token": seeing("alice") }))
        .await;
    socket.hear("welcome").await;
    socket.hear("presence.resync").await;
    let list = socket.hear("presence.snapshot").await;
    assert_eq!(list["presence"]["bob"]["status"], "available");
    bob.say("presence.set", json!({ "status": "away" })).await;
    assert_eq!(
        socket.hear("presence.delta").await["presence"]["bob"]["status"],
        "away"
    );
    socket
        .say("hello", json!({ "token": seeing("mallory") }))
        .await;
    assert_eq!(socket.hear("error").await["error"]["code"], 31_204);
    assert_eq!(item(&gate, "mallory").await["device_count"], 0);
}

// B38: the end of a token ends the device; so does a reload that removes its key.
#[tokio::test]
async fn a_key_that_is_removed_ends_its_sessions() {
    let gate = gate("").await;
    let (mut socket, _) = Socket::hello(&gate, &token("alice", None), "desk").await;
    let other = "SKffffffffffffffffffffffffffffffff";
    let answer = gate
        .reload_with(&super::desk::config("").replace(super::desk::KEY, other))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(socket.hear("error").await["error"]["code"], 31_205);
    assert_eq!(socket.until_closed().await, Some(4001));
    assert_eq!(item(&gate, "alice").await["device_count"], 0);
    let late = token_for("alice", None, Duration::from_secs(60));
    let mut socket = Socket::open(&gate).await;
    socket
        .say("hello", json!({ "token": late, "device": "desk" }))
        .await;
    assert_eq!(socket.hear("error").await["error"]["code"], 31_204);
}

// Frames are bounded in size, number and depth.
#[tokio::test]
async fn hostile_frames_end_the_socket_or_get_an_error() {
    let gate = gate("").await;
    let mut socket = Socket::open(&gate).await;
    socket.send(&"x".repeat(17 * 1024)).await;
    assert_eq!(
        socket.until_closed().await,
        Some(1009),
        "the first frame is short"
    );
    let (mut socket, _) = Socket::hello(&gate, &token("alice", None), "desk").await;
    for bad in [
        "{",
        "[]",
        "{\"type\":7}",
        &format!("{{\"type\":\"a\",\"payload\":{}}}", "[".repeat(40)),
    ] {
        socket.send(bad).await;
        assert_eq!(socket.hear("error").await["error"]["code"], 31_100);
    }
    socket
        .send(&format!(
            "{{\"type\":\"a\",\"payload\":\"{}\"}}",
            "x".repeat(70 * 1024)
        ))
        .await;
    assert_eq!(socket.until_closed().await, Some(1009));
    let (mut socket, _) = Socket::hello(&gate, &token("alice", None), "desk").await;
    for _ in 0..150 {
        socket
            .say("presence.set", json!({ "status": "away" }))
            .await;
    }
    assert_eq!(
        socket.until_closed().await,
        Some(1008),
        "thirty a second, and a burst of a hundred"
    );
    eventually("nothing is left", async || {
        gate.metric("tidegate_presence_sockets").await == Some(0.0)
    })
    .await;
}

// A socket that says nothing is closed after five seconds, however many there are.
#[tokio::test]
async fn a_socket_must_say_who_it_is() {
    let gate = gate("").await;
    let mut socket = Socket::open(&gate).await;
    assert_eq!(socket.until_closed().await, Some(1008));
}

// A reconnect herd is let in at the set pace; others are asked to come later.
#[tokio::test]
async fn a_herd_is_asked_to_come_later() {
    let gate = gate("  connects_per_second: 4\n").await;
    let mut sockets = Vec::new();
    let mut refused = 0;
    for number in 0..20 {
        match Socket::try_open(&gate).await {
            Ok(mut socket) => {
                let hello = json!({ "token": token(&format!("i{number}"), None), "device": "d" });
                socket.say("hello", hello).await;
                sockets.push(socket);
            }
            Err(status) => {
                assert_eq!(status, 429);
                refused += 1;
            }
        }
    }
    let (mut welcome, mut late) = (0, 0);
    for socket in &mut sockets {
        let message = socket.next().await;
        if message["type"] == "welcome" {
            welcome += 1;
        } else {
            late += 1;
            assert!(
                message["payload"]["retry_after"].as_u64().unwrap() >= 1,
                "{message}"
            );
            assert_eq!(socket.until_closed().await, Some(1013));
        }
    }
    assert!(
        welcome >= 4 && refused > 0 && late > 0,
        "{welcome} welcome, {late} late, {refused} refused"
    );
}

// More sockets than may be open are refused, in all and by account.
#[tokio::test]
async fn open_sockets_are_bounded() {
    let gate = gate("  max_sockets: 3\n  max_sockets_per_account: 2\n").await;
    let (_first, _) = Socket::hello(&gate, &token("a", None), "d").await;
    let (_second, _) = Socket::hello(&gate, &token("b", None), "d").await;
    let mut third = Socket::open(&gate).await;
    third
        .say("hello", json!({ "token": token("c", None), "device": "d" }))
        .await;
    assert_eq!(third.hear("error").await["error"]["code"], 31_206);
    assert_eq!(Socket::try_open(&gate).await.err(), Some(503));
}

// A drain says goodbye to each socket, with a time to come back, and the gate ends in time.
#[tokio::test]
async fn a_drain_sends_sockets_away_in_order() {
    let mut gate = gate("").await;
    let (mut socket, _) = Socket::hello(&gate, &token("alice", None), "desk").await;
    gate.signal(rustix::process::Signal::TERM);
    let bye = socket.hear("bye").await;
    assert!((1..=5).contains(&bye["retry_after"].as_u64().unwrap()));
    assert_eq!(socket.until_closed().await, Some(1001));
    assert!(gate.until_exit().await.success());
}
