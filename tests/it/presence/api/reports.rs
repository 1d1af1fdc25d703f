//! Reports over REST: in our words and in XMPP's, repeated, and not repeated in time.

use serde_json::{Value, json};

use crate::presence::desk::{Events, ask, basic, bearer, gate, item, put, refusal, token, try_put};
use crate::support::sidecar::Sidecar;

/// What an item says, without what no two of them share.
fn words(item: &Value) -> [Value; 4] {
    ["status", "reason", "text", "ringable"].map(|member| item[member].clone())
}

async fn stanza(
    gate: &Sidecar,
    credentials: &str,
    query: &str,
    xml: &str,
) -> crate::support::client::Response {
    let fields = [
        ("authorization", credentials),
        ("content-type", "application/xmpp+xml; charset=utf-8"),
    ];
    let path = format!("/v1/presence?{query}");
    gate.connect().await.ask("PUT", &path, &fields, xml).await
}

// B13: every status, every reason and a text are reported and read again; `offline` is never reported.
#[tokio::test]
async fn statuses_reasons_and_texts_are_set_and_read() {
    let gate = gate("").await;
    let alice = bearer(&token("alice", None));
    for status in ["available", "busy", "do_not_disturb", "away", "unavailable"] {
        for reason in [None, Some("away_short"), Some("away_long"), Some("in_call")] {
            let report = json!({ "device": "desk", "status": status, "reason": reason, "text": "für <b>euch</b> \"☎\"" });
            let said = put(&gate, &alice, report).await;
            let read = item(&gate, "alice").await;
            assert_eq!(words(&said), words(&read));
            assert_eq!(read["status"], status);
            assert_eq!(read["reason"], json!(reason));
            assert_eq!(read["text"], "für <b>euch</b> \"☎\"");
            let device = &read["devices"][0];
            assert_eq!(
                (&device["status"], &device["channel"]),
                (&json!(status), &json!("api"))
            );
            assert_eq!(read["ringable"], false, "a device of the API is never rung");
        }
    }
    let long = |length| json!({ "device": "desk", "status": "busy", "text": "é".repeat(length) });
    assert_eq!(put(&gate, &alice, long(256)).await["text"], "é".repeat(256));
    for bad in [
        long(257),
        json!({ "device": "desk", "status": "offline" }),
        json!({ "device": "desk", "status": "Available" }),
        json!({ "device": "desk" }),
        json!({ "status": "busy" }),
        json!({ "device": "", "status": "busy" }),
        json!({ "device": "desk", "app": "a\u{202e}b", "status": "busy" }),
        json!({ "device": "desk", "status": "busy", "reason": "lunch" }),
        json!({ "device": "desk", "status": "busy", "text": 7 }),
    ] {
        assert_eq!(refusal(&try_put(&gate, &alice, bad).await), (400, 20_001));
    }
    assert_eq!(
        item(&gate, "alice").await["text"],
        "é".repeat(256),
        "what is refused changes nothing"
    );
}

// B15: the same report again changes no version and tells nobody.
#[tokio::test]
async fn a_repeated_report_changes_nothing() {
    let gate = gate("").await;
    let alice = bearer(&token("alice", None));
    let report =
        || json!({ "device": "desk", "status": "away", "reason": "away_long", "text": "x" });
    let first = put(&gate, &alice, report()).await;
    assert_eq!(first["changed"], true);
    let mut stream = Events::open(&gate, &basic(), "identities=alice&devices=true").await;
    stream.hear("snapshot").await;
    for _ in 0..5 {
        let again = put(&gate, &alice, report()).await;
        assert_eq!(again["changed"], false);
        assert_eq!(
            (&again["version"], &again["since"]),
            (&first["version"], &first["since"])
        );
    }
    let other = json!({ "device": "desk", "status": "away", "reason": "away_long", "text": "y" });
    let other = put(&gate, &alice, other).await;
    assert_eq!(other["changed"], true);
    assert_eq!(
        other["version"].as_u64(),
        first["version"].as_u64().map(|version| version + 1)
    );
    let delta = stream.hear("delta").await;
    assert_eq!(
        (&delta["version"], &delta["presence"]["alice"]["text"]),
        (&other["version"], &json!("y"))
    );
    assert_eq!(
        gate.metric("tidegate_presence_changes_total").await,
        Some(2.0)
    );
}

// B18: one message says what all devices of an identity report, and what that comes to.
#[tokio::test]
async fn one_message_says_what_all_devices_of_an_identity_report() {
    let gate = gate("").await;
    let alice = bearer(&token("alice", None));
    let reports = [
        ("desk", "voice", "away"),
        ("desk", "chat", "busy"),
        ("mobile", "voice", "do_not_disturb"),
    ];
    for (device, app, status) in reports {
        put(
            &gate,
            &alice,
            json!({ "device": device, "app": app, "status": status }),
        )
        .await;
    }
    let read = item(&gate, "alice").await;
    assert_eq!(
        (&read["status"], &read["device_count"]),
        (&json!("busy"), &json!(3))
    );
    let devices = read["devices"].as_array().unwrap();
    for (device, app, status) in reports {
        let same = |of: &&Value| of["device"] == device && of["app"] == app;
        assert_eq!(devices.iter().find(same).unwrap()["status"], status);
    }
    let gone = ask(&gate, &alice, "DELETE", "/v1/presence/desk?app=chat", "").await;
    assert_eq!(gone.status, 204);
    assert_eq!(item(&gate, "alice").await["status"], "do_not_disturb");
    let gone = ask(&gate, &alice, "DELETE", "/v1/presence/desk", "").await;
    assert_eq!(gone.status, 204);
    assert_eq!(item(&gate, "alice").await["device_count"], 1);
    let gone = ask(&gate, &alice, "DELETE", "/v1/presence/desk", "").await;
    assert_eq!(refusal(&gone), (404, 20_404));
}

// B25: a report that is not repeated in time is forgotten, and the next one counts again.
#[tokio::test]
async fn a_report_that_is_not_repeated_in_time_is_forgotten() {
    let gate = gate("  assume: away\n  heartbeat: 1s\n").await;
    let alice = bearer(&token("alice", None));
    assert_eq!(
        item(&gate, "alice").await["status"],
        "away",
        "the never seen are assumed"
    );
    for bad in ["9s", "25h", "", "soon", "-10s"] {
        let report = json!({ "device": "desk", "status": "busy", "ttl": bad });
        assert_eq!(
            refusal(&try_put(&gate, &alice, report).await),
            (400, 20_001),
            "{bad}"
        );
    }
    let report = || json!({ "device": "desk", "status": "busy", "ttl": "10s" });
    let keep = json!({ "device": "mobile", "status": "do_not_disturb", "ttl": "24h" });
    put(&gate, &bearer(&token("bob", None)), keep).await;
    put(&gate, &alice, report()).await;
    let began = crate::support::now();
    let mut stream = Events::open(&gate, &basic(), "identities=alice,bob").await;
    stream.hear("snapshot").await;
    let delta = stream.hear("delta").await;
    assert_eq!(delta["presence"]["alice"]["status"], "away");
    assert_eq!(delta["presence"]["alice"]["device_count"], 0);
    let took = began.elapsed().as_secs_f64();
    assert!((9.8..13.0).contains(&took), "{took}");
    assert_eq!(item(&gate, "bob").await["status"], "do_not_disturb");
    let log = ask(&gate, &basic(), "GET", "/v1/presence/alice/log", "")
        .await
        .json();
    assert_eq!(log["entries"][1]["source"], "silence");
    put(&gate, &alice, report()).await;
    assert_eq!(
        stream.hear("delta").await["presence"]["alice"]["status"],
        "busy"
    );
}

// B36: what XMPP says about presence gives the same resource as our words.
#[tokio::test]
async fn a_stanza_gives_the_same_resource_as_our_words() {
    let gate = gate("").await;
    let (alice, bob) = (bearer(&token("alice", None)), bearer(&token("bob", None)));
    for (show, status, reason) in [
        ("", "available", None),
        ("chat", "available", None),
        ("away", "away", Some("away_short")),
        ("xa", "away", Some("away_long")),
        ("dnd", "do_not_disturb", None),
    ] {
        let show = if show.is_empty() {
            String::new()
        } else {
            format!("<show>{show}</show>")
        };
        let xml = format!(
            "<presence xmlns='jabber:client' from='alice@example.com/x'>{show}<status>at &lt;lunch></status></presence>"
        );
        let said = stanza(&gate, &alice, "device=desk", &xml).await;
        assert_eq!(said.status, 200, "{}", said.text());
        let report =
            json!({ "device": "desk", "status": status, "reason": reason, "text": "at <lunch>" });
        put(&gate, &bob, report).await;
        let (alice, bob) = (item(&gate, "alice").await, item(&gate, "bob").await);
        assert_eq!(words(&alice), words(&bob), "{xml}");
        assert_eq!(words(&alice["devices"][0]), words(&bob["devices"][0]));
        assert_eq!(alice["devices"][0]["app"], bob["devices"][0]["app"]);
    }
    for (query, xml, expected) in [
        (
            "device=desk",
            "<presence from='bob@example.com'/>",
            (403, 20_403),
        ),
        (
            "device=desk&identity=alice",
            "<presence from='bob@example.com'/>",
            (403, 20_403),
        ),
        ("device=desk&identity=bob", "<presence/>", (403, 20_403)),
        ("", "<presence/>", (400, 20_001)),
        ("device=desk", "<presence type='probe'/>", (400, 20_001)),
        (
            "device=desk",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><presence><status>&b;</status></presence>",
            (400, 20_001),
        ),
        ("device=desk", "", (400, 20_001)),
    ] {
        let refused = stanza(&gate, &alice, query, xml).await;
        assert_eq!(refusal(&refused), expected, "{query} {xml}");
    }
    let gone = stanza(
        &gate,
        &alice,
        "device=desk",
        "<presence type='unavailable'/>",
    )
    .await;
    assert_eq!(
        (gone.status, &gone.json()["device_count"]),
        (200, &json!(0))
    );
    assert_eq!(item(&gate, "alice").await["status"], "offline");
    let xml = "<presence from='al\\40ice@example.com'><show>xa</show></presence>";
    let by_key = stanza(&gate, &basic(), "device=desk", xml).await;
    assert_eq!(by_key.json()["identity"], "al@ice");
}
