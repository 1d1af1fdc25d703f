//! Maxima that move, before real upstreams: with their health, with their latency, and with what an account has in flight.

use std::time::Duration;

use serde_json::Value;

use crate::support::client::{self, by};
use crate::support::eventually;
use crate::support::origin::{held_origin, origin};
use crate::support::sidecar::sidecar;

// A12: a limit by endpoint falls when a health check fails and rises when it passes again.
#[tokio::test]
async fn a_limit_by_endpoint_follows_their_health() {
    let ((first, is_well), second) = (crate::endpoints::moody(), origin());
    let addresses = [&*first.address, &*second.address];
    let checks = "health_check: { path: /healthz, interval: 100ms, unhealthy_after: 1 }";
    let yaml = format!(
        "upstreams: {{ api: {{ endpoints: {addresses:?}, {checks} }} }}\n\
         limits: [{{ name: whole, per: [], max: {{ per_endpoint: 5, of: api }} }}]"
    );
    let gate = sidecar(&yaml).start().await;
    let max = |status: &Value| status["limits"][0]["max"].clone();
    gate.wait_until("both", |status| max(status) == 10).await;
    is_well.store(false, std::sync::atomic::Ordering::SeqCst);
    gate.wait_until("one", |status| max(status) == 5).await;
    is_well.store(true, std::sync::atomic::Ordering::SeqCst);
    gate.wait_until("both again", |status| max(status) == 10)
        .await;
}

// G17: real answers teach an adaptive maximum, and what it knows shows in the status.
#[tokio::test]
async fn an_adaptive_limit_learns_from_real_answers() {
    let origin = origin();
    let limits = "limits: [{ name: whole, per: [resource], max: { adaptive: { start: 30 } } }]";
    let gate = sidecar(limits).before(&origin).start().await;
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = gate.connect().await;
        load.spawn(async move {
            for _ in 0..1_000_000 {
                assert_eq!(client.get("/", &by("A")).await.status, 200);
            }
        });
    }
    gate.wait_until("a window", |status| {
        let learned = &status["limits"][0]["adaptive"][0];
        let is_seen = |name: &str| learned[name].as_f64().is_some_and(|number| number > 0.0);
        assert_eq!(learned["key"], "other");
        is_seen("samples") && is_seen("latency_seconds") && learned["decision"] == "lowered_to_use"
    })
    .await;
    load.shutdown().await;
}

// G22: retries go last, whoever came first, and an account has no more of them than its budget.
#[tokio::test]
async fn retries_go_last_and_keep_to_their_budget() {
    let origin = held_origin();
    let queue = "when_full: [{ queue: { length: 9, timeout: 30s } }]";
    let yaml = format!(
        "retries: {{ budget: 0, at_least: 1, header: x-again }}\n\
         limits: [{{ name: whole, per: [], max: 1, {queue} }}]"
    );
    let gate = sidecar(&yaml).before(&origin).start().await;
    let mut holder = gate.connect().await;
    holder.send_get("/", &by("A")).await;
    origin.until_in_flight(1).await;
    let again = |account| [("x-account", account), ("x-again", "1")];
    let mut retry = gate.connect().await;
    retry.send_get("/", &again("b")).await;
    gate.wait_until("the retry to wait", |status| status["queued"] == 1)
        .await;
    let mut first = gate.connect().await;
    first.send_get("/", &by("c")).await;
    gate.wait_until("both to wait", |status| status["queued"] == 2)
        .await;
    origin.release(1);
    eventually("the first attempt to be served", async || {
        origin.last().says("x-account", "c")
    })
    .await;
    origin.release(1);
    eventually("the retry to be served", async || {
        origin.last().says("x-account", "b")
    })
    .await;
    let over = client::get(&gate.address, "/", &again("b")).await;
    assert_eq!(over.status, 429);
    assert_eq!(over.json()["limit"], "retries");
    let seen = gate.limit("retries").await;
    let told = ["count", "budget", "max"].map(|field| seen[field].clone());
    assert_eq!(
        told,
        ["in_flight".into(), 0.into(), Value::from(1)],
        "{seen}"
    );
    origin.open();
    assert_eq!(retry.response().await.status, 200);
    gate.until_idle().await;
}

// G16: what a kind of request costs follows how long such requests hold their places.
#[tokio::test]
async fn a_learned_cost_follows_real_hold_times() {
    let origin = held_origin();
    let yaml = "resources: [{ name: slow, match: { path: /slow }, cost: { per: 1ms, most: 5 } }]\n\
                limits: [{ name: paced, per: [resource], max: 6, count: { starts_per: 1h } }]";
    let gate = sidecar(yaml).before(&origin).start().await;
    let cost = |status: &Value| status["resources"][0]["cost"].clone();
    let mut first = gate.connect().await;
    first.send_get("/slow", &by("A")).await;
    origin.until_in_flight(1).await;
    let status = gate.get_admin("/v1/status").await;
    assert_eq!(cost(&status), 1, "nothing was learned");
    let limit = &status["limits"][0];
    assert_eq!(limit["count"], serde_json::json!({ "starts_per": "1h" }));
    assert_eq!((&limit["max"], &limit["in_flight"]), (&6.into(), &0.into()));
    // It holds its place for many times the unit.
    tokio::time::sleep(Duration::from_millis(20)).await;
    origin.open();
    assert_eq!(first.response().await.status, 200);
    gate.wait_until("the lesson", |status| cost(status) == 5)
        .await;
    assert_eq!(gate.get("/slow", "A").await.status, 200, "1 + 5 are 6");
    assert_eq!(gate.get("/slow", "A").await.status, 503);
    gate.reloaded_with(&yaml.replace("most: 5", "most: 4"))
        .await;
    assert_eq!(cost(&gate.get_admin("/v1/status").await), 4);
}
