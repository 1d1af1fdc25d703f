//! Notifications: who runs an API hears once that an account met a limit, and requests never wait for that.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::origin::{Exchange, Origin, held_origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};

const SECRET: &str = "a-secret-of-enough-characters";

/// What a receiver does with what it got, in its own language.
const VERIFY: &str = r#"
import base64, hashlib, hmac, sys
from urllib.parse import parse_qs, urlsplit
secret, url, given = sys.argv[1:]
body = sys.stdin.buffer.read()
expected = base64.b64encode(hmac.new(secret.encode(), url.encode(), hashlib.sha1).digest()).decode()
hashes = parse_qs(urlsplit(url).query).get("bodySHA256")
sys.exit(not (hmac.compare_digest(expected, given) and hashes == [hashlib.sha256(body).hexdigest()]))
"#;

/// Two limits: one place for each account, and none at all for `/closed`.
const LIMITS: &str = "resources:
  - { name: closed, match: { path: /closed }, upstream: api }
default_upstream: api
limits:
  - { name: account, per: [account], max: 1, except: [closed] }
  - { name: whole, resources: [closed], max: 0 }
";

fn notify(receiver: &str, more: &str) -> String {
    format!("{LIMITS}notify: {{ url: \"http://{receiver}/over?for=us\"{more} }}\n")
}

async fn gate(api: &Origin, yaml: &str) -> Sidecar {
    let plan = sidecar(yaml).before(api).env("HOOK_SECRET", SECRET);
    plan.start().await
}

fn told(receiver: &Origin) -> Vec<Value> {
    let bodies = receiver.bodies();
    let bodies = bodies.iter();
    bodies
        .map(|body| serde_json::from_slice(&body.bytes).unwrap())
        .collect()
}

async fn until_told(receiver: &Origin, count: usize) -> Vec<Value> {
    eventually(&format!("{count} notifications"), async || {
        receiver.bodies().len() >= count
    })
    .await;
    told(receiver)
}

async fn until_counted(gate: &Sidecar, result: &str, count: f64) {
    let sample = format!("tidegate_notifications_total{{result=\"{result}\"}}");
    eventually(&format!("{count} {result}"), async || {
        gate.metric(&sample).await == Some(count)
    })
    .await;
}

// A21: 100 refusals are one episode; the message names limit, key, numbers, reason, since when, and what helps.
#[tokio::test]
async fn an_episode_is_told_once_with_what_helps() {
    let (api, receiver) = (held_origin(), origin());
    let gate = gate(&api, &notify(&receiver.address, "")).await;
    let mut holder = gate.connect().await;
    holder.send_get("/", &[("x-account", "A")]).await;
    api.until_in_flight(1).await;
    for _ in 0..100 {
        let refused = gate.get("/", "A").await;
        assert_eq!(refused.status, 429);
        let detail = refused.json()["detail"].to_string();
        assert!(
            detail.contains("1 of 1 places of the limit `account`") && detail.contains("retry"),
            "{detail}"
        );
    }
    // Whoever is told of a later episode has been told of all earlier ones.
    assert_eq!(gate.get("/closed", "B").await.status, 503);
    let told = until_told(&receiver, 2).await;
    until_counted(&gate, "delivered", 2.0).await;
    assert_eq!(receiver.bodies().len(), 2, "{told:?}");
    let mut by_limit = told.clone();
    by_limit.sort_by_key(|of| of["limit"].to_string());
    let expected = json!({
        "limit": "account", "key": { "account": "A" }, "account": "A", "resource": "other",
        "reason": "limit_reached", "mark": null, "max": 1, "in_flight": 1,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&by_limit[0][name], value, "{name} in {}", by_limit[0]);
    }
    let remedy = by_limit[0]["remedy"].as_str().unwrap();
    let line = &by_limit[0]["line"];
    let place = format!("{}:{}", line["file"].as_str().unwrap(), line["line"]);
    assert!(
        line["text"].as_str().unwrap().contains("name: account"),
        "{line}"
    );
    let call = "PUT /v1/limits/account/override of the admin API with {\"max\":N,\"account\":\"A\",\"for\":\"30m\"}";
    for part in [&*place, "overrides: [{ account: A, max: N }]", call] {
        assert!(remedy.contains(part), "{part} in {remedy}");
    }
    assert!(
        by_limit[0]["since"].as_str().unwrap().ends_with('Z'),
        "{told:?}"
    );
    // One for all accounts where the key does not hold the account.
    assert_eq!(by_limit[1]["limit"], "whole");
    assert_eq!(
        (&by_limit[1]["account"], &by_limit[1]["key"]),
        (&Value::Null, &json!({}))
    );
    assert_eq!(gate.get("/closed", "C").await.status, 503);
    assert_eq!(gate.get("/", "A").await.status, 429);
    until_counted(&gate, "delivered", 2.0).await;
}

// A21: after a quiet time another episode begins; each account has its own.
#[tokio::test]
async fn after_a_quiet_time_another_episode_is_told_and_accounts_are_apart() {
    let (api, receiver) = (held_origin(), origin());
    let gate = gate(&api, &notify(&receiver.address, ", quiet: 300ms")).await;
    let mut holders = [gate.connect().await, gate.connect().await];
    for (holder, account) in holders.iter_mut().zip(["A", "B"]) {
        holder.send_get("/", &[("x-account", account)]).await;
    }
    api.until_in_flight(2).await;
    for account in ["A", "B", "A", "B"] {
        assert_eq!(gate.get("/", account).await.status, 429);
    }
    let first = until_told(&receiver, 2).await;
    let mut accounts: Vec<_> = first.iter().map(|of| of["account"].to_string()).collect();
    accounts.sort();
    assert_eq!(accounts, ["\"A\"", "\"B\""]);
    // The quiet time itself is what is tested; nothing else passes with it.
    tokio::time::sleep(std::time::Duration::from_millis(350)).await;
    assert_eq!(gate.get("/", "A").await.status, 429);
    let told = until_told(&receiver, 3).await;
    assert_eq!(told[2]["account"], "A");
    assert_ne!(told[2]["since"], told[0]["since"]);
}

// A21: going over a limit with a mark begins an episode too.
#[tokio::test]
async fn going_over_a_limit_is_told_as_marked() {
    let (api, receiver) = (held_origin(), origin());
    let ladder = "max: 1, when_full: [{ admit: { up_to: 2, mark: overage } }]";
    let yaml = notify(&receiver.address, "").replace("max: 1", ladder);
    let gate = gate(&api, &yaml).await;
    let mut holders = [gate.connect().await, gate.connect().await];
    for holder in &mut holders {
        holder.send_get("/", &[("x-account", "A")]).await;
    }
    api.until_in_flight(2).await;
    let told = until_told(&receiver, 1).await;
    assert_eq!(
        (
            &told[0]["reason"],
            &told[0]["mark"],
            &told[0]["max"],
            &told[0]["in_flight"]
        ),
        (&json!("marked"), &json!("overage"), &json!(1), &json!(2))
    );
}

// A21: what is posted is signed so that a receiver can check it with its language's own library.
#[tokio::test]
async fn the_signature_verifies_in_python() {
    let (api, receiver) = (origin(), origin());
    let yaml = notify(&receiver.address, ", secret: { env: HOOK_SECRET }");
    let gate = gate(&api, &yaml).await;
    assert_eq!(gate.get("/closed", "A").await.status, 503);
    until_told(&receiver, 1).await;
    let (head, body) = (receiver.last(), receiver.last_body().bytes);
    let target = head.start.split(' ').nth(1).unwrap();
    let url = format!("http://{}{target}", receiver.address);
    let given = head.get("x-twilio-signature").unwrap();
    let verifies = async |secret: &str, body: &[u8]| {
        let mut python = Command::new("python3")
            .args(["-c", VERIFY, secret, &url, given])
            .stdin(Stdio::piped())
            .spawn()
            .expect("apt-get install python3");
        std::io::Write::write_all(&mut python.stdin.take().unwrap(), body).unwrap();
        python.wait().unwrap().success()
    };
    assert!(verifies(SECRET, &body).await);
    assert!(!verifies("another", &body).await);
    assert!(!verifies(SECRET, b"{}").await);
    assert!(!gate.log().contains(SECRET));
}

// A21, G7: a receiver that fails is tried again and then given up; one that is away, or hangs, stops no request.
#[tokio::test]
async fn a_receiver_that_fails_is_given_up_and_stops_nothing() {
    let api = origin();
    let failing = Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        exchange.reply(500, "").await
    });
    let gate = gate(&api, &notify(&failing.address, "")).await;
    assert_eq!(gate.get("/closed", "A").await.status, 503);
    until_counted(&gate, "failed", 1.0).await;
    let tries = failing.heads();
    assert_eq!(tries.len(), 5);
    let ids: std::collections::BTreeSet<_> = tries
        .iter()
        .map(|head| head.get("i-twilio-idempotency-token").unwrap())
        .collect();
    assert_eq!(ids.len(), 1, "a repetition is known by its token");
    assert!(
        gate.log()
            .contains("a notification about a limit was not taken")
    );
    // Nobody listens there any more: requests go on as before.
    failing.stop().await;
    let yaml = notify("127.0.0.1:1", ", quiet: 100ms");
    gate.reloaded_with(&yaml).await;
    for _ in 0..20 {
        assert_eq!(gate.get("/closed", "A").await.status, 503);
        assert_eq!(gate.get("/", "A").await.status, 200);
    }
}

// A21, G1: a reload switches notifications on, elsewhere, and off.
#[tokio::test]
async fn a_reload_switches_notifications_on_elsewhere_and_off() {
    let (api, here, there) = (origin(), origin(), origin());
    let gate = gate(&api, LIMITS).await;
    assert_eq!(gate.get("/closed", "A").await.status, 503);
    gate.reloaded_with(&notify(&here.address, ", quiet: 100ms"))
        .await;
    assert_eq!(gate.get("/closed", "A").await.status, 503);
    until_told(&here, 1).await;
    gate.reloaded_with(&notify(&there.address, "")).await;
    // The same limit's episode may go on under the new quiet time, so another limit's begins.
    let yaml = notify(&there.address, "").replace("name: whole", "name: other-name");
    gate.reloaded_with(&yaml).await;
    assert_eq!(gate.get("/closed", "A").await.status, 503);
    assert_eq!(until_told(&there, 1).await[0]["limit"], "other-name");
    gate.reloaded_with(LIMITS).await;
    for _ in 0..5 {
        assert_eq!(gate.get("/closed", "A").await.status, 503);
    }
    until_counted(&gate, "delivered", 2.0).await;
    assert_eq!((told(&here).len(), told(&there).len()), (1, 1));
    let bad = notify("user:word@127.0.0.1:1", "");
    assert_eq!(gate.reload_with(&bad).await.status, 422);
}
