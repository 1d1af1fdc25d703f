//! Candidates through a real gate: what each set of limits would have done, in metrics, in the admin API and in the log.

use std::fs;

use serde_json::{Value, json};

use crate::support::client::{self, Connection, by};
use crate::support::eventually;
use crate::support::origin::{Origin, held_origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};

const YAML: &str = "
access_log: { path: $DIR/access.log }
limits:
  - { name: account, per: [account], max: 9 }
candidates:
  tighter:
    limits:
      - { name: account, per: [account], max: 1 }
      - { name: whole, per: [], max: 3 }
  looser:
    limits: [{ name: account, per: [account], max: 3 }]
";

/// Requests of these accounts, sent one after the other, none of them answered yet.
async fn hold(gate: &Sidecar, origin: &Origin, accounts: &[&str]) -> Vec<Connection> {
    let mut clients = Vec::new();
    for account in accounts {
        let mut client = gate.connect().await;
        client.send_get("/", &by(account)).await;
        clients.push(client);
        origin.until_in_flight(clients.len()).await;
    }
    clients
}

async fn candidate(gate: &Sidecar, name: &str) -> Value {
    let all = gate.get_admin("/v1/candidates").await;
    let found = all
        .as_array()
        .and_then(|all| all.iter().find(|of| of["name"] == name));
    found
        .unwrap_or_else(|| panic!("no candidate {name} in {all}"))
        .clone()
}

/// One after another; who is refused by which set stands in the tests.
const ACCOUNTS: [&str; 7] = ["A", "A", "A", "A", "B", "C", "D"];

fn refused(account: &str, rejected: u32) -> Value {
    json!({ "account": account, "rejected": rejected, "error": 0 })
}

/// Lets everybody go on, who all must be served.
async fn finish(gate: &Sidecar, origin: &Origin, clients: Vec<Connection>) {
    origin.open();
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
    gate.until_idle().await;
}

// G6: several sets at once, with who would have been refused; and nobody is.
#[tokio::test]
async fn each_candidate_tells_what_it_would_have_done_and_to_whom() {
    let origin = held_origin();
    let gate = sidecar(YAML).before(&origin).start().await;
    let clients = hold(&gate, &origin, &ACCOUNTS).await;
    let account = json!({
        "name": "account", "per": ["account"], "count": "in_flight", "max": 1, "in_flight": 3, "keys": 3, "admitted": 3, "rejected": 3,
    });
    let whole = json!({
        "name": "whole", "per": [], "count": "in_flight", "max": 3, "in_flight": 3, "keys": 1, "admitted": 3, "rejected": 1,
    });
    let wanted = json!({
        "name": "tighter", "admitted": 3, "rejected": 4, "limits": [account, whole],
        "would_reject": [refused("A", 3), refused("D", 1)],
    });
    assert_eq!(candidate(&gate, "tighter").await, wanted);
    let looser = candidate(&gate, "looser").await;
    assert_eq!(looser["would_reject"], json!([refused("A", 1)]));
    let top = gate.get_admin("/v1/candidates?top=1").await;
    assert_eq!(top[0]["would_reject"], json!([refused("A", 3)]));
    finish(&gate, &origin, clients).await;
    let tighter = candidate(&gate, "tighter").await;
    for limit in tighter["limits"].as_array().unwrap() {
        assert_eq!(limit["in_flight"], 0, "{limit}");
    }
}

// G6: the metrics tell the same, for each set and for each of its limits.
#[tokio::test]
async fn each_candidate_has_its_decisions_in_the_metrics() {
    let origin = held_origin();
    let gate = sidecar(YAML).before(&origin).start().await;
    let clients = hold(&gate, &origin, &ACCOUNTS).await;
    for (set, decision, count) in [
        ("tighter", "admitted", 3.0),
        ("tighter", "rejected", 4.0),
        ("looser", "rejected", 1.0),
    ] {
        let labels = format!("candidate=\"{set}\",decision=\"{decision}\"");
        let sample = format!("tidegate_candidate_requests_total{{{labels}}}");
        assert_eq!(gate.metric(&sample).await, Some(count), "{sample}");
    }
    for (set, limit, decision, count) in [
        ("tighter", "account", "rejected", 3.0),
        ("tighter", "whole", "rejected", 1.0),
        ("looser", "account", "admitted", 6.0),
    ] {
        let labels = format!("candidate=\"{set}\",limit=\"{limit}\",decision=\"{decision}\"");
        let sample = format!("tidegate_candidate_total{{{labels}}}");
        assert_eq!(gate.metric(&sample).await, Some(count), "{sample}");
    }
    finish(&gate, &origin, clients).await;
}

// G6: the log names the sets that would have refused, and only where there is one.
#[tokio::test]
async fn the_log_names_the_candidates_that_would_have_refused() {
    let origin = held_origin();
    let gate = sidecar(YAML).before(&origin).start().await;
    let clients = hold(&gate, &origin, &ACCOUNTS).await;
    finish(&gate, &origin, clients).await;
    let log = gate.directory().join("access.log");
    let mut text = String::new();
    eventually("seven lines", async || {
        text = fs::read_to_string(&log).unwrap();
        text.matches('\n').count() == ACCOUNTS.len()
    })
    .await;
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told = |names: Value| {
        let named = lines.iter().map(|line| &line["candidates_would_reject"]);
        named.filter(|named| **named == names).count()
    };
    assert_eq!(told(Value::Null), 3, "{text}");
    assert_eq!(told(json!(["tighter"])), 3, "{text}");
    assert_eq!(told(json!(["tighter", "looser"])), 1, "{text}");
}

// G6, G4: a reload keeps what the sets know; one that is put in force refuses from then on.
#[tokio::test]
async fn a_reload_keeps_the_sets_and_may_put_one_in_force() {
    let origin = held_origin();
    let gate = sidecar(YAML).before(&origin).start().await;
    let clients = hold(&gate, &origin, &["A", "A", "B"]).await;
    gate.reloaded_with(&YAML.replace("max: 9", "max: 8")).await;
    let tighter = candidate(&gate, "tighter").await;
    assert_eq!(
        (&tighter["rejected"], &tighter["limits"][0]["in_flight"]),
        (&json!(1), &json!(2))
    );
    gate.reloaded_with("limits: [{ name: account, per: [account], max: 1 }]")
        .await;
    assert_eq!(gate.get_admin("/v1/candidates").await, json!([]));
    assert_eq!(gate.get("/", "A").await.status, 429);
    origin.open();
    drop(clients);
    gate.until_idle().await;
}

// G6, G20: one can ask which candidates judge a request, and by which lines.
#[tokio::test]
async fn candidates_are_explained_beside_the_limits_in_force() {
    let origin = origin();
    let gate = sidecar(YAML).before(&origin).start().await;
    let body = r#"{"path":"/","headers":{"x-account":"A"}}"#;
    let length = body.len().to_string();
    let fields = [("host", "localhost"), ("content-length", length.as_str())];
    let explained = client::ask(&gate.admin, "POST", "/v1/explain", &fields, body)
        .await
        .json();
    let judged = &explained["judged"];
    assert_eq!(judged["limits"].as_array().unwrap().len(), 1, "{explained}");
    let tighter = &judged["candidates"][0];
    assert_eq!(
        (&tighter["name"], &tighter["limits"][0]["max"]),
        (&json!("tighter"), &json!(1))
    );
    let line = &tighter["limits"][1]["line"]["text"];
    assert_eq!(line, "- { name: whole, per: [], max: 3 }");
    for wrong in ["/v1/candidates?top=0", "/v1/candidates?top=x"] {
        assert_eq!(gate.ask_admin(wrong).await.status, 400, "{wrong}");
    }
    assert_eq!(gate.post_admin("/v1/candidates").await.status, 405);
}
