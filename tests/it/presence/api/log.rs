//! The log of an identity: what changed, by what, and how long each status was shown.

use serde_json::{Value, json};

use crate::presence::desk::{Socket, ask, basic, bearer, gate, put, refusal, seeing, token};
use crate::support::sidecar::Sidecar;

async fn log(gate: &Sidecar, query: &str) -> Value {
    let path = format!("/v1/presence/alice/log{query}");
    let answer = ask(gate, &basic(), "GET", &path, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

// B40: every change is in the log with its time, its old and new status and what made it.
#[tokio::test]
async fn each_change_is_in_the_log_with_what_made_it() {
    let gate = gate("").await;
    let alice = token("alice", None);
    assert_eq!(
        log(&gate, "").await,
        json!({ "entries": [], "time_in_state": {} })
    );
    let report = |status| json!({ "device": "desk", "status": status, "reason": "away_short", "text": "secret words" });
    for status in ["away", "away", "busy"] {
        put(&gate, &bearer(&alice), report(status)).await;
    }
    let fields = [
        ("authorization", &*bearer(&alice)),
        ("content-type", "application/xmpp+xml"),
    ];
    let xml = "<presence><show>dnd</show></presence>";
    let path = "/v1/presence?device=desk";
    gate.connect().await.ask("PUT", path, &fields, xml).await;
    let (mut socket, _) = Socket::hello(&gate, &alice, "mobile").await;
    socket.say("bye", json!({})).await;
    assert_eq!(socket.until_closed().await, Some(1000));
    ask(&gate, &bearer(&alice), "DELETE", "/v1/presence/desk", "").await;
    let log = log(&gate, "").await;
    let entries = log["entries"].as_array().unwrap();
    let words = |entry: &Value| {
        let members = ["device", "old", "new", "source", "shown"]
            .map(|member| entry[member].as_str().unwrap().to_owned());
        members.join(" ")
    };
    let expected = [
        "desk offline away api away",
        "desk away busy api busy",
        "desk busy do_not_disturb xmpp do_not_disturb",
        "mobile offline available socket available",
        "mobile available offline socket do_not_disturb",
        "desk do_not_disturb offline api offline",
    ];
    assert_eq!(entries.iter().map(words).collect::<Vec<_>>(), expected);
    assert_eq!(
        (&entries[0]["reason"], &entries[0]["app"]),
        (&json!("away_short"), &json!("default"))
    );
    assert!(
        !log.to_string().contains("secret words"),
        "texts are not kept"
    );
    let states = log["time_in_state"].as_object().unwrap();
    assert!(states.keys().all(|state| {
        ["away", "busy", "do_not_disturb", "available", "offline"].contains(&&**state)
    }));
    assert!(
        states
            .values()
            .all(|seconds| (0.0..60.0).contains(&seconds.as_f64().unwrap()))
    );
}

// B40: the log is read in pages, and the times are those since then.
#[tokio::test]
async fn the_log_is_read_in_pages() {
    let gate = gate("").await;
    let alice = bearer(&token("alice", None));
    for number in 0..30 {
        let status = if number % 2 == 0 { "busy" } else { "away" };
        put(&gate, &alice, json!({ "device": "desk", "status": status })).await;
    }
    let whole = log(&gate, "").await;
    let all = whole["entries"].as_array().unwrap().clone();
    assert_eq!((all.len(), whole.get("next")), (30, None));
    let (mut read, mut query) = (Vec::new(), "?limit=7".to_owned());
    loop {
        let page = log(&gate, &query).await;
        read.extend(page["entries"].as_array().unwrap().iter().cloned());
        let Some(next) = page.get("next") else { break };
        query = format!("?limit=7&since={}", next.as_str().unwrap());
    }
    assert_eq!(read, all, "neither repeated nor left out");
    let since = all[29]["at"].as_str().unwrap();
    let last = log(&gate, &format!("?since={since}")).await;
    assert!(last["entries"].as_array().unwrap().contains(&all[29]));
    let sum = |log: &Value| -> f64 {
        log["time_in_state"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_f64)
            .sum()
    };
    assert!(sum(&last) <= sum(&log(&gate, "").await));
    let future = log(&gate, "?since=2999-01-01T00:00:00Z").await;
    assert_eq!(
        (&future["entries"], &future["time_in_state"]),
        (&json!([]), &json!({}))
    );
    for bad in [
        "?limit=0",
        "?limit=1001",
        "?limit=x",
        "?since=yesterday",
        "?since=",
    ] {
        let path = format!("/v1/presence/alice/log{bad}");
        let refused = ask(&gate, &basic(), "GET", &path, "").await;
        assert_eq!(refusal(&refused), (400, 20_001), "{bad}");
    }
}

// B40, B19: a log is seen by whom its identity is seen by.
#[tokio::test]
async fn a_log_is_seen_by_whom_its_identity_is_seen_by() {
    let gate = gate("").await;
    let alice = token("alice", None);
    put(
        &gate,
        &bearer(&alice),
        json!({ "device": "desk", "status": "away" }),
    )
    .await;
    let read =
        async |token: &str| ask(&gate, &bearer(token), "GET", "/v1/presence/alice/log", "").await;
    assert_eq!(
        read(&alice).await.json()["entries"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(read(&seeing("bob")).await.status, 200);
    assert_eq!(refusal(&read(&token("bob", None)).await), (403, 20_403));
    let wrong = ask(&gate, &basic(), "POST", "/v1/presence/alice/log", "{}").await;
    assert_eq!(
        (refusal(&wrong), wrong.field("allow")),
        ((405, 20_405), "GET")
    );
}
