//! A limit's maximum for a while: in force at once, shown everywhere, through reloads, and over by itself.

use serde_json::{Value, json};

use super::{admin, logged};
use crate::support::client::{Connection, by};
use crate::support::eventually;
use crate::support::origin::{Origin, held_origin};
use crate::support::sidecar::{Sidecar, sidecar};

const ACCOUNT: &str = "accounts: { identify: [{ header: x-account }], groups: { large: { accounts: [G] } } }\n\
                       limits: [{ name: account, per: [account], max: 1, when_full: [{ queue: { length: 5, timeout: 60s } }] }, \
                       { name: whole, per: [], max: 50 }]";
const PATH: &str = "/v1/limits/account/override";

async fn put(gate: &Sidecar, body: &Value) -> Value {
    let answer = admin(gate, "PUT", PATH, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()
}

async fn asking(gate: &Sidecar, account: &str) -> Connection {
    let mut client = gate.connect().await;
    client.send_get("/", &by(account)).await;
    client
}

async fn until_queued(gate: &Sidecar, count: u64) {
    gate.wait_until("who waits", |status| status["queued"] == count)
        .await;
}

/// One at the origin and one behind it, of each of these accounts.
async fn full(gate: &Sidecar, origin: &Origin, accounts: &[&str]) -> Vec<Connection> {
    let mut clients = Vec::new();
    for (index, account) in accounts.iter().enumerate() {
        clients.push(asking(gate, account).await);
        origin.until_in_flight(index + 1).await;
        clients.push(asking(gate, account).await);
        until_queued(gate, index as u64 + 1).await;
    }
    clients
}

async fn shown(gate: &Sidecar) -> Value {
    gate.get_admin(PATH).await
}

// A11: a raised maximum wakes at once who waits, for one account or for all, and only those.
#[tokio::test]
async fn a_raised_maximum_serves_those_who_wait_at_once() {
    let origin = held_origin();
    let gate = sidecar(ACCOUNT).before(&origin).start().await;
    let _clients = full(&gate, &origin, &["A", "B", "G"]).await;
    let told = put(&gate, &json!({ "max": 2, "for": "10m", "account": "A" })).await;
    assert_eq!(
        (&told["limit"], &told["account"], &told["max"]),
        (&"account".into(), &"A".into(), &2.into())
    );
    origin.until_in_flight(4).await;
    until_queued(&gate, 2).await;
    put(&gate, &json!({ "max": 2, "for": "10m", "group": "large" })).await;
    origin.until_in_flight(5).await;
    until_queued(&gate, 1).await;
    put(&gate, &json!({ "max": 2, "for": "10m" })).await;
    origin.until_in_flight(6).await;
    until_queued(&gate, 0).await;
    origin.open();
}

// A11: a lowered maximum admits nobody until the count has drained, and cuts nobody.
#[tokio::test]
async fn a_lowered_maximum_drains() {
    let origin = held_origin();
    let yaml = "limits: [{ name: account, per: [account], max: 3 }]";
    let gate = sidecar(yaml).before(&origin).start().await;
    let mut clients = Vec::new();
    for index in 1..=3 {
        clients.push(asking(&gate, "A").await);
        origin.until_in_flight(index).await;
    }
    put(&gate, &json!({ "max": 1, "for": "10m" })).await;
    assert_eq!(gate.get("/", "A").await.status, 429);
    origin.release(2);
    origin.until_in_flight(1).await;
    gate.wait_until("one left", |status| status["in_flight"] == 1)
        .await;
    assert_eq!(gate.get("/", "A").await.status, 429);
    origin.open();
    let mut statuses = Vec::new();
    for client in &mut clients {
        statuses.push(client.response().await.status);
    }
    assert_eq!(statuses, [200; 3]);
    assert_eq!(gate.get("/", "A").await.status, 200);
    // Nothing at all may be let in.
    put(&gate, &json!({ "max": 0, "for": "10m", "account": "A" })).await;
    assert_eq!(gate.get("/", "A").await.status, 429);
    assert_eq!(gate.get("/", "B").await.status, 200);
}

// A11: it ends by itself, and by hand, and what the file says holds again.
#[tokio::test]
async fn an_override_ends_by_itself_or_by_hand() {
    let origin = held_origin();
    let gate = sidecar(ACCOUNT).before(&origin).start().await;
    put(&gate, &json!({ "max": 7, "for": "1s" })).await;
    assert_eq!(gate.limit("account").await["max"], 7);
    eventually("its end", async || shown(&gate).await == json!([])).await;
    assert_eq!(gate.limit("account").await["max"], 1);
    put(&gate, &json!({ "max": 7, "for": "1h" })).await;
    put(&gate, &json!({ "max": 9, "for": "1h", "account": "A&B" })).await;
    // The same keys again replace the number.
    put(&gate, &json!({ "max": 8, "for": "1h" })).await;
    assert_eq!(shown(&gate).await.as_array().map(Vec::len), Some(2));
    let ended = admin(&gate, "DELETE", &format!("{PATH}?account=A%26B"), "").await;
    assert_eq!(ended.status, 204);
    let rest = shown(&gate).await;
    assert_eq!(
        (rest.as_array().map(Vec::len), &rest[0]["max"]),
        (Some(1), &8.into())
    );
    assert_eq!(admin(&gate, "DELETE", PATH, "").await.status, 204);
    assert_eq!(admin(&gate, "DELETE", PATH, "").await.status, 404);
    assert_eq!(gate.limit("account").await["max"], 1);
    let log = gate.log();
    for words in [
        "limit overridden for a while",
        "its time is over",
        "ended by an operator",
    ] {
        assert!(log.contains(words), "{words} in {log}");
    }
}

// A11: it outlives reloads, and goes with its limit or its group.
#[tokio::test]
async fn an_override_outlives_a_reload_but_not_its_limit() {
    let origin = held_origin();
    let gate = sidecar(ACCOUNT).before(&origin).start().await;
    put(&gate, &json!({ "max": 7, "for": "1h" })).await;
    put(&gate, &json!({ "max": 9, "for": "1h", "group": "large" })).await;
    gate.reloaded_with(&ACCOUNT.replace("max: 50", "max: 51"))
        .await;
    assert_eq!(gate.limit("account").await["max"], 7);
    assert_eq!(shown(&gate).await.as_array().map(Vec::len), Some(2));
    let without_group = ACCOUNT.split_once('\n').unwrap().1;
    gate.reloaded_with(without_group).await;
    assert_eq!(shown(&gate).await.as_array().map(Vec::len), Some(1));
    gate.reloaded_with("limits: [{ name: whole, per: [], max: 50 }]")
        .await;
    assert_eq!(admin(&gate, "GET", PATH, "").await.status, 404);
    assert!(
        gate.log()
            .contains("the configuration has no place for it any more")
    );
    // One that comes back under the name is what the file says.
    gate.reloaded_with(ACCOUNT).await;
    assert_eq!(
        (
            gate.limit("account").await["max"].clone(),
            shown(&gate).await
        ),
        (1.into(), json!([]))
    );
}

// A11: what is in force is shown wherever the limit is, and where requests are refused by it.
#[tokio::test]
async fn an_override_is_shown_everywhere() {
    let origin = held_origin();
    let yaml = "access_log: { path: stdout }\nlimits: [{ name: account, per: [account], max: 5 }]";
    let gate = sidecar(yaml).before(&origin).start().await;
    put(&gate, &json!({ "max": 1, "for": "10m", "account": "A" })).await;
    let _holder = asking(&gate, "A").await;
    origin.until_in_flight(1).await;
    let wanted = |of: &Value| {
        of["account"] == "A" && of["max"] == 1 && of["seconds_left"].as_u64() > Some(500)
    };
    assert!(wanted(&gate.limit("account").await["overrides"][0]));
    let overview = admin(&gate, "GET", "/v1/overview", "").await.json();
    assert!(wanted(&overview["limits"][0]["overrides"][0]), "{overview}");
    assert_eq!(overview["limits"][0]["fullest"][0]["max"], 1);
    assert_eq!(gate.keys("account").await[0]["max"], 1);
    let gauge = "tidegate_limit_overrides{limit=\"account\"}";
    assert_eq!(gate.metric(gauge).await, Some(1.0));
    let refused = gate.get("/refused", "A").await;
    assert_eq!(refused.status, 429);
    assert!(
        refused
            .field("ratelimit-policy")
            .starts_with("\"account\";q=1;"),
        "{}",
        refused.head.raw
    );
    let line = logged(&gate, "/refused").await;
    assert_eq!(line["limit"], "account", "{line}");
}

// What cannot be is refused with a sentence, and changes nothing.
#[tokio::test]
async fn bad_overrides_are_refused() {
    let origin = held_origin();
    let gate = sidecar(ACCOUNT).before(&origin).start().await;
    let table = [
        ("account", "", 400),
        ("account", "{}", 400),
        ("account", "[]", 400),
        ("account", r#"{"max":-1,"for":"10m"}"#, 400),
        ("account", r#"{"max":4294967296,"for":"10m"}"#, 400),
        ("account", r#"{"max":1.5,"for":"10m"}"#, 400),
        ("account", r#"{"max":1}"#, 400),
        ("account", r#"{"max":1,"for":"soon"}"#, 400),
        ("account", r#"{"max":1,"for":"0s"}"#, 400),
        ("account", r#"{"max":1,"for":"8d"}"#, 400),
        ("account", r#"{"max":1,"for":"10m","extra":1}"#, 400),
        (
            "account",
            r#"{"max":1,"for":"10m","account":"A","group":"large"}"#,
            400,
        ),
        (
            "account",
            r#"{"max":1,"for":"10m","account":"two words"}"#,
            400,
        ),
        ("account", r#"{"max":1,"for":"10m","account":""}"#, 400),
        ("account", r#"{"max":1,"for":"10m","group":"none"}"#, 422),
        ("whole", r#"{"max":1,"for":"10m","account":"A"}"#, 422),
        ("absent", r#"{"max":1,"for":"10m"}"#, 404),
    ];
    for (limit, body, status) in table {
        let answer = admin(&gate, "PUT", &format!("/v1/limits/{limit}/override"), body).await;
        assert_eq!(answer.status, status, "{limit} {body}: {}", answer.text());
        assert!(answer.json()["detail"].is_string());
    }
    let long = format!(
        r#"{{"max":1,"for":"10m","account":"{}"}}"#,
        "x".repeat(70_000)
    );
    assert_eq!(admin(&gate, "PUT", PATH, &long).await.status, 413);
    assert_eq!(admin(&gate, "POST", PATH, "{}").await.status, 405);
    assert_eq!(
        admin(
            &gate,
            "DELETE",
            &format!("{PATH}?account=A&group=large"),
            ""
        )
        .await
        .status,
        400
    );
    assert_eq!(shown(&gate).await, json!([]));
    assert_eq!(gate.limit("account").await["max"], 1);
}

// A11, CONTRACT §2: 0 is closed, whatever the ladder would let go over.
#[tokio::test]
async fn a_limit_that_is_closed_for_a_while_admits_nobody_over_it() {
    let origin = held_origin();
    let ladder = "limits: [{ name: account, per: [account], max: 1, when_full: [{ admit: { up_to: 3, mark: over } }] }]";
    let gate = sidecar(ladder).before(&origin).start().await;
    let _held = asking(&gate, "A").await;
    let _marked = asking(&gate, "A").await;
    origin.until_in_flight(2).await;
    put(&gate, &json!({ "max": 0, "for": "10m" })).await;
    for account in ["A", "B"] {
        assert_eq!(asking(&gate, account).await.response().await.status, 429);
    }
    assert_eq!(origin.in_flight(), 2);
}
