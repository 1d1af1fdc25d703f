//! Work that outlives its response: it keeps its place until the upstream releases it, or its time is over.

use std::io;

use serde_json::Value;

use crate::support::client::{Connection, Response, by};
use crate::support::eventually;
use crate::support::origin::{Exchange, Next, Origin};
use crate::support::sidecar::{Sidecar, sidecar};

const CALLS: &str = "resources:\n- { name: calls, match: { methods: [POST], path: /calls }, completion: { hold_up_to: 1h } }\n\
                     - { name: everything, match: { path: \"/{*rest}\" } }\n\
                     limits:\n- { name: whole, per: [], max: 100 }\n\
                     - { name: account, per: [account], max: 1, when_full: [{ queue: { length: 10, timeout: 30s } }] }";

/// Answers 201 to `/calls`, with the hold that a path names, and 404 to `/none`; `/held` waits for its release.
async fn begin(exchange: &mut Exchange) -> io::Result<Next> {
    let target = exchange.target().to_owned();
    match target.trim_start_matches('/') {
        "calls" => exchange.reply(201, "begun").await,
        "none" => exchange.reply(404, "no").await,
        "held" => {
            exchange.hold().await?;
            exchange.reply(201, "begun").await
        }
        "plain" => exchange.reply(200, "ok").await,
        hold => {
            let head = format!("HTTP/1.1 202 Accepted\r\nx-admission-hold: {hold}\r\n");
            exchange
                .raw(&format!("{head}content-length: 0\r\n\r\n"))
                .await
        }
    }
}

async fn gate_before(origin: &Origin) -> Sidecar {
    sidecar(CALLS).before(origin).start().await
}

async fn post(gate: &Sidecar, path: &str) -> Response {
    gate.connect().await.ask("POST", path, &by("A"), "").await
}

async fn admin(gate: &Sidecar, method: &str, path: &str, body: &str) -> Response {
    let mut admin = Connection::open(&gate.admin).await;
    admin
        .ask(method, path, &[("host", "localhost")], body)
        .await
}

fn lease_of(origin: &Origin) -> String {
    origin
        .last()
        .get("x-admission-lease")
        .expect("an id")
        .to_owned()
}

async fn leases(gate: &Sidecar) -> Value {
    gate.get_admin("/v1/leases").await
}

// A35: a call that was begun holds its place after its response, until its upstream says that it is over.
#[tokio::test]
async fn work_holds_its_place_until_it_is_released() {
    let origin = Origin::start(begin);
    let gate = gate_before(&origin).await;
    assert_eq!(post(&gate, "/calls").await.status, 201);
    let id = lease_of(&origin);
    gate.wait_until("the lease", |status| {
        crate::support::sidecar::limit(status, "account")["in_flight"] == 1
    })
    .await;
    assert_eq!(
        gate.limit("whole").await["in_flight"],
        0,
        "it counts no leases"
    );
    let listed = leases(&gate).await;
    assert_eq!(listed[0]["id"], id.as_str(), "{listed}");
    assert_eq!(
        (&listed[0]["account"], &listed[0]["resource"]),
        (&"A".into(), &"calls".into())
    );
    let rows = gate.get_admin("/v1/requests?state=lease").await;
    assert_eq!(rows[0]["account"], "A", "{rows}");
    assert_eq!(gate.metric("tidegate_leases").await, Some(1.0));

    let mut next = gate.connect().await;
    next.send_get("/plain", &by("A")).await;
    gate.wait_until("one to wait", |status| status["queued"] == 1)
        .await;
    let path = format!("/v1/leases/{id}");
    assert_eq!(admin(&gate, "DELETE", &path, "").await.status, 204);
    let answer = next.response().await;
    assert_eq!(
        (answer.status, answer.field("x-concurrent-requests")),
        (200, "1")
    );
    let late = admin(&gate, "DELETE", &path, "").await;
    assert_eq!(late.status, 404, "a late release changes nothing");
    gate.until_idle().await;
    assert_eq!(gate.metric("tidegate_leases").await, Some(0.0));
}

// A35: only a success begins a lease, and an upstream may ask for one, or for none, on any resource.
#[tokio::test]
async fn an_upstream_says_how_long_its_work_goes_on() {
    let origin = Origin::start(begin);
    let gate = gate_before(&origin).await;
    assert_eq!(post(&gate, "/none").await.status, 404);
    assert_eq!(post(&gate, "/plain").await.status, 200);
    assert_eq!(post(&gate, "/nonsense").await.status, 202);
    gate.until_idle().await;
    assert_eq!(leases(&gate).await, serde_json::json!([]));
    assert_eq!(post(&gate, "/30m").await.status, 202);
    eventually("the lease", async || {
        leases(&gate).await[0]["account"] == "A"
    })
    .await;
    let left = leases(&gate).await[0]["expires_in_seconds"]
        .as_f64()
        .unwrap();
    assert!((1_700.0..=1_800.0).contains(&left), "{left}");
    let path = format!("/v1/leases/{}", lease_of(&origin));
    assert_eq!(admin(&gate, "DELETE", &path, "").await.status, 204);
    assert_eq!(post(&gate, "/9h").await.status, 202);
    eventually("the lease", async || {
        leases(&gate).await[0]["account"] == "A"
    })
    .await;
    let left = leases(&gate).await[0]["expires_in_seconds"]
        .as_f64()
        .unwrap();
    assert!(
        left <= 3_600.0,
        "no longer than an hour without `completion`: {left}"
    );
}

// A23: what nobody completes stops being counted, and a completion that comes late changes nothing.
#[tokio::test]
async fn a_lease_that_nobody_releases_expires() {
    let origin = Origin::start(begin);
    let gate = gate_before(&origin).await;
    assert_eq!(post(&gate, "/1s").await.status, 202);
    let id = lease_of(&origin);
    gate.until_idle().await;
    assert_eq!(
        gate.metric("tidegate_leases_expired_total").await,
        Some(1.0)
    );
    let holder = post(&gate, "/calls").await;
    assert_eq!(holder.field("x-concurrent-requests"), "1");
    let late = admin(&gate, "DELETE", &format!("/v1/leases/{id}"), "").await;
    assert_eq!(late.status, 404);
    eventually("the lease", async || {
        gate.limit("account").await["in_flight"] == 1
    })
    .await;
    assert_eq!(
        leases(&gate).await.as_array().map(Vec::len),
        Some(1),
        "the other's lease stays"
    );
}

// A35: a lease is renewed as far as its resource allows, and outlives a reload.
#[tokio::test]
async fn a_lease_is_renewed_and_outlives_a_reload() {
    let origin = Origin::start(begin);
    let gate = gate_before(&origin).await;
    assert_eq!(post(&gate, "/2s").await.status, 202);
    let path = format!("/v1/leases/{}/renew", lease_of(&origin));
    let renewed = admin(&gate, "POST", &path, "{\"ttl\":\"30m\"}").await;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    let left = renewed.json()["expires_in_seconds"].as_f64().unwrap();
    assert!((1_700.0..=1_800.0).contains(&left), "{left}");
    for bad in ["", "{}", "{\"ttl\":\"soon\"}", "{\"ttl\":\"0s\"}"] {
        assert_eq!(admin(&gate, "POST", &path, bad).await.status, 400, "{bad}");
    }
    let none = admin(&gate, "POST", "/v1/leases/0-0/renew", "{\"ttl\":\"1m\"}").await;
    assert_eq!(none.status, 404);
    gate.reloaded_with(&CALLS.replace("max: 100", "max: 50"))
        .await;
    assert_eq!(gate.limit("account").await["in_flight"], 1);
    assert_eq!(leases(&gate).await.as_array().map(Vec::len), Some(1));
    let path = path.trim_end_matches("/renew");
    assert_eq!(admin(&gate, "DELETE", path, "").await.status, 204);
    gate.until_idle().await;
}

// A35: work that was over before its answer came leaves no lease behind.
#[tokio::test]
async fn a_release_before_the_answer_leaves_no_lease() {
    let origin = Origin::start(begin);
    let yaml = CALLS.replace("path: /calls", "path: /held");
    let gate = sidecar(&yaml).before(&origin).start().await;
    let mut client = gate.connect().await;
    client
        .send("POST /held HTTP/1.1\r\nhost: gate.test\r\nx-account: A\r\n\r\n")
        .await;
    origin.until_in_flight(1).await;
    let path = format!("/v1/leases/{}", lease_of(&origin));
    assert_eq!(admin(&gate, "DELETE", &path, "").await.status, 204);
    origin.release(1);
    assert_eq!(client.response().await.status, 201);
    gate.until_idle().await;
    assert_eq!(admin(&gate, "DELETE", &path, "").await.status, 404);
}

// A client cannot choose the id that its upstream is told, nor one upstream guess another's.
#[tokio::test]
async fn an_id_is_the_gates_own() {
    let origin = Origin::start(begin);
    let gate = gate_before(&origin).await;
    let mut client = gate.connect().await;
    let forged = [("x-account", "A"), ("x-admission-lease", "1-1")];
    assert_eq!(client.get("/plain", &forged).await.status, 200);
    assert_eq!(origin.last().all("x-admission-lease").count(), 1);
    let id = lease_of(&origin);
    assert_ne!(id, "1-1");
    let (_, seal) = id.split_once('-').unwrap();
    let other = format!("{:016x}-{seal}", 99);
    assert_eq!(
        admin(&gate, "DELETE", &format!("/v1/leases/{other}"), "")
            .await
            .status,
        404
    );
}
