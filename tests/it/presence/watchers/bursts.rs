//! A burst of changes is one message a watcher, and a slow one gets the newest.

use serde_json::{Value, json};

use crate::presence::desk::{
    ACCESS, ACCOUNT, Events, KEY, SECRET, Socket, basic, bearer, claims, config, keep_list,
    plan_with, seeing, set, signed,
};
use crate::support::client::Connection;
use crate::support::sidecar::Sidecar;
use crate::support::wire::Wire;
use crate::support::{eventually, now};

/// A second key of the account, whose end ends all that it signed at one moment.
const SECOND: &str = "SK22222222222222222222222222222222";

/// The figures of messages that went out, and of what they would have been told one by one.
async fn messages(gate: &Sidecar) -> (f64, f64) {
    let sent = gate.metric("tidegate_presence_messages_total{direction=\"out\"}");
    let naive = "tidegate_presence_naive_messages_total";
    (sent.await.unwrap(), gate.metric(naive).await.unwrap())
}

async fn report(connection: &mut Connection, credentials: &str, report: Value) {
    let fields = [("authorization", credentials)];
    let body = report.to_string();
    let answer = connection.ask("PUT", "/v1/presence", &fields, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

// B22: a burst of changes of several devices of several contacts is one message a watcher, not one a device and contact.
#[tokio::test]
async fn a_burst_is_one_message_a_watcher() {
    let with_second = format!("keys: [{{ id: {SECOND}, secret: {{ env: SK_SECRET }} }}, {{");
    let two_keys = config("").replace("keys: [{", &with_second);
    let gate = plan_with(&two_keys).start().await;
    let members: Vec<_> = (0..12).map(|number| format!("m{number}")).collect();
    let mut connection = gate.connect().await;
    for member in &members {
        let claims = claims(SECOND, ACCOUNT, member, json!({ "publish": true }));
        let token = bearer(&signed(ACCESS, &claims, SECRET));
        for device in ["desk", "mobile", "tablet"] {
            let said = json!({ "device": device, "status": "away" });
            report(&mut connection, &token, said).await;
        }
    }
    let alice = seeing("alice");
    let names: Vec<_> = members.iter().map(String::as_str).collect();
    keep_list(&gate, &alice, "team", &names).await;
    let mut streams = Vec::new();
    for query in ["list=team", "identities=m*", "list=team&devices=true"] {
        let mut stream = Events::open(&gate, &bearer(&alice), query).await;
        let list = stream.hear("snapshot").await;
        assert_eq!(list["presence"].as_object().unwrap().len(), 12);
        streams.push(stream);
    }
    let (mut socket, _) = Socket::hello(&gate, &alice, "desk").await;
    socket.say("presence.sub", json!({ "list": "team" })).await;
    socket.hear("presence.snapshot").await;
    let before = messages(&gate).await;
    gate.reloaded_with(&config("")).await;
    let mut deltas = vec![socket.hear("presence.delta").await];
    for stream in &mut streams {
        deltas.push(stream.hear("delta").await);
    }
    for delta in &deltas {
        let presence = delta["presence"].as_object().unwrap();
        assert_eq!(presence.len(), 12, "all of them in one");
        assert!(presence.values().all(|item| item["status"] == "offline"));
    }
    let after = messages(&gate).await;
    let (sent, naive) = (after.0 - before.0, after.1 - before.1);
    assert_eq!(sent, 4.0, "one for each of four watchers");
    assert_eq!(naive, 144.0, "12 contacts x 3 devices x 4 watchers");
}

// B22: so it is with reports that come one after another, as fast as they come: fewer messages than changes, and the last state told.
#[tokio::test]
async fn many_reports_are_few_messages() {
    let gate = plan_with(&config("")).start().await;
    let mut stream = Events::open(&gate, &basic(), "identities=m*").await;
    stream.hear("snapshot").await;
    let before = messages(&gate).await;
    let writer = async |identity: String| {
        let mut connection = gate.connect().await;
        for number in 0..100 {
            let said = json!({ "identity": identity, "device": "d", "status": "busy", "text": number.to_string() });
            report(&mut connection, &basic(), said).await;
        }
    };
    let writers = ["m1", "m2", "m3", "m4"].map(|name| writer(name.to_owned()));
    futures_util::future::join_all(writers).await;
    let mut seen = serde_json::Map::new();
    while ["m1", "m2", "m3", "m4"]
        .iter()
        .any(|name| seen.get(*name).is_none_or(|item| item["text"] != "99"))
    {
        let mut delta = stream.hear("delta").await;
        seen.extend(delta["presence"].as_object_mut().unwrap().clone());
    }
    let after = messages(&gate).await;
    let (sent, naive) = (after.0 - before.0, after.1 - before.1);
    assert_eq!(naive, 400.0);
    assert!(sent <= naive / 4.0, "{sent} messages");
}

/// Two devices for each of these; which of them shows depends on the order that is configured.
async fn fill(gate: &Sidecar, identities: usize) {
    let text = "日".repeat(256);
    let mut connection = gate.connect().await;
    for number in 0..identities {
        for status in ["busy", "away"] {
            let said = json!({ "identity": format!("m{number}"), "device": status, "status": status, "text": text });
            report(&mut connection, &basic(), said).await;
        }
    }
}

// B21, B22: who does not read gets the newest state once it reads, in fewer messages than there were changes.
#[tokio::test]
async fn a_slow_reader_gets_the_newest_state() {
    const ROUNDS: usize = 30;
    let order = |first: &str, second: &str| {
        config(&format!(
            "  order: [available, {first}, {second}, do_not_disturb, unavailable, offline]\n"
        ))
    };
    let gate = plan_with(&order("busy", "away")).start().await;
    fill(&gate, 300).await;
    // It has room for little, so that what it does not read stays on the other side.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let stream = socket.connect(gate.address.parse().unwrap()).await.unwrap();
    let connection = Connection {
        wire: Wire::new(stream),
    };
    let slow = Events::on(connection, &basic(), "identities=m*").await;
    let mut slow = slow.unwrap_or_else(|refused| panic!("{}", refused.text()));
    slow.hear("snapshot").await;
    let mut quick = Events::open(&gate, &basic(), "identities=m0").await;
    quick.hear("snapshot").await;
    for round in 0..ROUNDS {
        let expected = if round % 2 == 0 { "away" } else { "busy" };
        let other = if round % 2 == 0 { "busy" } else { "away" };
        gate.reloaded_with(&order(expected, other)).await;
        let delta = quick.hear("delta").await;
        assert_eq!(delta["presence"]["m0"]["status"], expected);
    }
    set(&gate, "m7", "available").await;
    let (mut read, mut last) = (0, serde_json::Map::new());
    while last
        .get("m7")
        .is_none_or(|item| item["status"] != "available")
    {
        let mut delta = slow.hear("delta").await;
        last.extend(delta["presence"].as_object_mut().unwrap().clone());
        read += 1;
    }
    assert!(
        read < ROUNDS,
        "{read} messages: what it did not read was put together"
    );
    let is_newest = |(name, item): (&String, &Value)| name == "m7" || item["status"] == "busy";
    assert!(last.iter().all(is_newest) && last.len() == 300);
}

// B21: a long list that changes goes on after its watcher was told to begin anew, however long it is.
#[tokio::test]
async fn a_list_that_is_longer_than_the_bound_of_what_waits_is_still_told() {
    let gate = plan_with(&config("")).start().await;
    fill(&gate, 400).await;
    let alice = seeing("alice");
    let names: Vec<_> = (0..400).map(|number| format!("m{number}")).collect();
    let mut names: Vec<_> = names.iter().map(String::as_str).collect();
    keep_list(&gate, &alice, "team", &names).await;
    let mut stream = Events::open(&gate, &bearer(&alice), "list=team").await;
    assert!(stream.hear("snapshot").await.to_string().len() > 300_000);
    let (mut socket, _) = Socket::hello(&gate, &alice, "desk").await;
    socket.say("presence.sub", json!({ "list": "team" })).await;
    socket.hear("presence.snapshot").await;
    for _ in 0..5 {
        names.pop();
        keep_list(&gate, &alice, "team", &names).await;
        stream.hear("resync").await;
        let list = stream.hear("snapshot").await;
        assert_eq!(list["presence"].as_object().unwrap().len(), names.len());
        socket.hear("contacts.delta").await;
        socket.hear("presence.resync").await;
        socket.hear("presence.snapshot").await;
    }
}

// A device that said it has no audio is not rung because its token was renewed.
#[tokio::test]
async fn a_renewed_token_does_not_give_a_device_its_audio() {
    let gate = plan_with(&config("")).start().await;
    let mut socket = Socket::open(&gate).await;
    let token = signed(
        ACCESS,
        &claims(KEY, ACCOUNT, "alice", json!({ "publish": true })),
        SECRET,
    );
    for hello in [
        json!({ "token": token, "device": "desk" }),
        json!({ "token": token }),
    ] {
        socket.say("hello", hello).await;
        socket.hear("welcome").await;
        let shown = crate::presence::desk::item(&gate, "alice").await;
        assert_eq!(
            (&shown["status"], &shown["ringable"]),
            (&json!("available"), &json!(false))
        );
    }
    let began = now();
    socket.close(1000).await;
    eventually("it is gone", async || {
        crate::presence::desk::item(&gate, "alice").await["device_count"] == 0
    })
    .await;
    assert!(began.elapsed().as_secs_f64() < 2.0);
}
