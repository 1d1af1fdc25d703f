//! Waiting at the gate, seen by clients and by the origin: who is served, who is refused, whose place nobody takes because he
//! has left; and the other steps before a refusal.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::client::{Connection, by, request};
use crate::support::origin::{Origin, held_origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::{eventually, h2, now, within};

/// One place for all, and a queue before it.
fn whole(queue: &str) -> String {
    format!(
        "limits: [{{ name: whole, per: [], max: 1, when_full: [{{ queue: {{ {queue} }} }}, {{ reject: {{ status: 429 }} }}] }}]"
    )
}

const PATIENT: &str = "length: 10, timeout: 30s";

async fn until_queued(gate: &Sidecar, count: u64) {
    let queued = |status: &Value| status["queued"] == count;
    gate.wait_until("so many to wait", queued).await;
}

/// A gate whose only place is taken, and who holds it.
async fn full(origin: &Origin, yaml: &str) -> (Sidecar, Connection) {
    let gate = sidecar(yaml).before(origin).start().await;
    let mut holder = gate.connect().await;
    holder.send_get("/holder", &by("holder")).await;
    origin.until_in_flight(1).await;
    (gate, holder)
}

async fn waiting(gate: &Sidecar, account: &str) -> Connection {
    let before = gate.get_admin("/v1/status").await["queued"].as_u64();
    let mut client = gate.connect().await;
    client.send_get("/", &by(account)).await;
    until_queued(gate, before.expect("a number") + 1).await;
    client
}

// A2, A15: the origin hears of a waiting request only when there is a place; the log and the metrics say that it waited.
#[tokio::test]
async fn a_request_waits_for_its_place_and_is_then_sent_on() {
    let origin = held_origin();
    let (gate, mut holder) = full(&origin, &whole(PATIENT)).await;
    let mut client = waiting(&gate, "A").await;
    assert_eq!(origin.in_flight(), 1);
    let rows = gate.get_admin("/v1/requests?state=queued").await;
    assert_eq!(rows[0]["account"], "A", "{rows}");
    assert_eq!(gate.limit("whole").await["queued"], 1);
    assert_eq!(gate.keys("whole").await[0]["queued"], 1);
    origin.release(1);
    assert_eq!(holder.response().await.status, 200);
    origin.until_in_flight(1).await;
    origin.release(1);
    assert_eq!(client.response().await.status, 200);
    assert_eq!(origin.peak(), 1);
    let sample = "tidegate_requests_total{decision=\"queued\",reason=\"none\",resource=\"other\"}";
    assert_eq!(gate.metric(sample).await, Some(1.0));
    let waits = "tidegate_queue_wait_seconds_count{resource=\"other\"}";
    assert_eq!(gate.metric(waits).await, Some(1.0));
    gate.until_idle().await;
}

// A17, A34: who waits too long is refused with the reason, and so is who comes when the queue is full.
#[tokio::test]
async fn a_full_queue_and_a_long_wait_are_refused_with_their_reasons() {
    let origin = held_origin();
    let (gate, _holder) = full(&origin, &whole("length: 1, timeout: 300ms")).await;
    let mut client = waiting(&gate, "A").await;
    let refused = gate.get("/", "B").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.field("x-admission-reason"), "queue_full");
    assert_eq!(refused.json()["code"], 20429);
    let late = client.response().await;
    assert_eq!(late.status, 429);
    assert_eq!(late.field("x-admission-reason"), "queue_timeout");
    assert_eq!(late.json()["limit"], "whole");
    assert_eq!(origin.heads().len(), 1, "the origin heard of them");
}

// A34, G11: a client that leaves while it waits is forgotten at once: without a body, with one that came with the head,
// with one that is still coming, and over HTTP/2.
#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let origin = held_origin();
    let (gate, mut holder) = full(&origin, &whole(PATIENT)).await;
    let whole_body = request("POST", "/", &by("A"), "body");
    let of_upload = |framing: &str| {
        let head = "POST / HTTP/1.1\r\nhost: gate.test\r\nx-account: A\r\n";
        format!("{head}{framing}")
    };
    let half_body = of_upload("content-length: 9000\r\n\r\nhalf");
    let chunked = of_upload("transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    let get = request("GET", "/", &by("A"), "");
    for head in [get, whole_body, half_body, chunked] {
        let mut client = gate.connect().await;
        client.send(&head).await;
        until_queued(&gate, 1).await;
        drop(client);
        until_queued(&gate, 0).await;
    }
    let client = h2::Connection::open(&gate.address).await;
    let mut sender = client.sender.clone();
    let asked = tokio::spawn(async move { sender.send_request(h2::get("/", "A")).await });
    until_queued(&gate, 1).await;
    asked.abort();
    until_queued(&gate, 0).await;
    // The same when the whole connection goes, as a cable would do it.
    let (near, mut far) = tokio::io::duplex(4096);
    let address = gate.address.clone();
    let cable = tokio::spawn(async move {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        tokio::io::copy_bidirectional(&mut far, &mut stream).await
    });
    let mut client = h2::Connection::over(near).await;
    let asked = tokio::spawn(async move { client.sender.send_request(h2::get("/", "A")).await });
    until_queued(&gate, 1).await;
    cable.abort();
    until_queued(&gate, 0).await;
    drop(asked.await);
    origin.release(1);
    assert_eq!(holder.response().await.status, 200);
    assert_eq!(origin.heads().len(), 1, "nobody who left was sent on");
    gate.until_idle().await;
    let departed = "tidegate_requests_total{decision=\"rejected\",reason=\"client_departed\",resource=\"other\"}";
    assert_eq!(gate.metric(departed).await, Some(4.0));
    let broken = departed.replace("client_departed", "body_invalid");
    assert_eq!(
        gate.metric(&broken).await,
        Some(2.0),
        "their uploads broke off"
    );
}

// A34: a body that came while its request waited arrives whole, also when it is larger than what is read ahead.
#[tokio::test]
async fn a_body_that_came_meanwhile_arrives_whole() {
    let origin = held_origin();
    let (gate, mut holder) = full(&origin, &whole(PATIENT)).await;
    let body = "0123456789abcdef".repeat(16 * 1024);
    let head = request(
        "POST",
        "/",
        &[
            ("x-account", "A"),
            ("content-length", &body.len().to_string()),
        ],
        "",
    );
    let mut sender = gate.connect().await;
    let sending = tokio::spawn(async move {
        sender.send(&head).await;
        sender.send(&body).await;
        (sender, body)
    });
    until_queued(&gate, 1).await;
    origin.release(1);
    assert_eq!(holder.response().await.status, 200);
    origin.until_in_flight(1).await;
    origin.release(1);
    let (mut sender, body) = within("the upload", sending).await.expect("it was sent");
    assert_eq!(sender.response().await.status, 200);
    assert_eq!(String::from_utf8_lossy(&origin.last_body().bytes), body);
}

// A34: a client that waits to be asked for its body is not asked while it has no place.
#[tokio::test]
async fn nobody_is_asked_for_a_body_before_there_is_a_place() {
    let origin = held_origin();
    let (gate, mut holder) = full(&origin, &whole(PATIENT)).await;
    let mut client = gate.connect().await;
    let fields = [
        ("x-account", "A"),
        ("content-length", "4"),
        ("expect", "100-continue"),
    ];
    client.send(request("POST", "/", &fields, "")).await;
    until_queued(&gate, 1).await;
    origin.release(1);
    assert_eq!(holder.response().await.status, 200);
    let (status, _) = client.head().await;
    assert_eq!(status, 100);
    client.send("body").await;
    origin.until_in_flight(1).await;
    origin.release(1);
    assert_eq!(client.response().await.status, 200);
    assert_eq!(String::from_utf8_lossy(&origin.last_body().bytes), "body");
}

// A34: what a client says of its patience shortens the wait, and gRPC's deadline goes on to the upstream less the wait.
#[tokio::test]
async fn a_client_in_a_hurry_is_refused_in_time() {
    let origin = held_origin();
    let server = "server: { threads: 1, listeners: [{ address: \"127.0.0.1:0\" }], timeout_header: x-patience }";
    let yaml = format!("{server}\n{}", whole(PATIENT));
    let (gate, mut holder) = full(&origin, &yaml).await;
    let mut client = gate.connect().await;
    let late = client
        .get("/", &[("x-account", "A"), ("x-patience", "200ms")])
        .await;
    assert_eq!(late.field("x-admission-reason"), "queue_timeout");
    let grpc = [
        ("x-account", "A"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "20S"),
    ];
    client.send(request("POST", "/", &grpc, "")).await;
    until_queued(&gate, 1).await;
    origin.release(1);
    assert_eq!(holder.response().await.status, 200);
    // The holder's exchange may not have ended at the origin yet, so a count of one says nothing.
    eventually("the second request", async || origin.heads().len() == 2).await;
    let told = origin
        .last()
        .get("grpc-timeout")
        .unwrap_or_default()
        .to_owned();
    let left: u64 = told
        .strip_suffix('m')
        .and_then(|ms| ms.parse().ok())
        .expect(&told);
    assert!((1..20_000).contains(&left), "{told}");
    origin.release(1);
    assert_eq!(client.response().await.status, 200);
}

// A11: a raised limit serves those who wait at once, and a reload that changes limits has them ask anew.
#[tokio::test]
async fn a_reload_serves_those_who_wait() {
    let origin = held_origin();
    let (gate, _holder) = full(&origin, &whole(PATIENT)).await;
    let mut first = waiting(&gate, "A").await;
    let mut second = waiting(&gate, "B").await;
    gate.reloaded_with(&whole(PATIENT).replace("max: 1", "max: 2"))
        .await;
    origin.until_in_flight(2).await;
    until_queued(&gate, 1).await;
    let other = whole(PATIENT)
        .replace("name: whole", "name: other")
        .replace("max: 1", "max: 3");
    gate.reloaded_with(&other).await;
    origin.until_in_flight(3).await;
    origin.open();
    assert_eq!(first.response().await.status, 200);
    assert_eq!(second.response().await.status, 200);
    gate.until_idle().await;
}

// An operator ends the wait of one request; the others wait on.
#[tokio::test]
async fn an_operator_can_end_a_wait() {
    let origin = held_origin();
    let (gate, _holder) = full(&origin, &whole(PATIENT)).await;
    let mut client = waiting(&gate, "A").await;
    let rows = gate.get_admin("/v1/requests?state=queued").await;
    let path = format!("/v1/requests/{}", rows[0]["id"]);
    let mut admin = Connection::open(&gate.admin).await;
    assert_eq!(
        admin
            .ask("DELETE", &path, &[("host", "localhost")], "")
            .await
            .status,
        204
    );
    let cancelled = client.response().await;
    assert_eq!(cancelled.status, 503);
    assert_eq!(cancelled.field("x-admission-reason"), "cancelled");
    assert_eq!(
        admin
            .ask("DELETE", &path, &[("host", "localhost")], "")
            .await
            .status,
        404
    );
}

// Drain: who waits, waits on; at the end of the drain he is told, and what is in flight is cut.
#[tokio::test]
async fn at_the_end_of_a_drain_those_who_wait_are_told() {
    let origin = held_origin();
    let server =
        "server: { threads: 1, listeners: [{ address: \"127.0.0.1:0\" }], drain_timeout: 3s }";
    let yaml = format!("{server}\n{}", whole(PATIENT));
    let (mut gate, mut holder) = full(&origin, &yaml).await;
    let mut first = waiting(&gate, "A").await;
    let mut second = waiting(&gate, "B").await;
    gate.signal(Signal::TERM);
    origin.release(1);
    assert_eq!(holder.response().await.status, 200);
    origin.until_in_flight(1).await;
    let told = second.response().await;
    assert_eq!(told.status, 503);
    assert_eq!(told.field("x-admission-reason"), "draining");
    assert_eq!(gate.until_exit().await.code(), Some(0), "{}", gate.log());
    assert!(!first.until_closed().await.starts_with(b"HTTP/1.1 503"));
}

// A17: a slowed request asks again and again, and is refused in the end, or passes if a place came free.
#[tokio::test]
async fn a_slowed_request_asks_again() {
    let origin = held_origin();
    let yaml = "limits: [{ name: whole, per: [], max: 1, when_full: [{ slow: { delay: 100ms, times: 2 } }] }]";
    let (gate, mut holder) = full(&origin, yaml).await;
    let refused = gate.get("/", "A").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.field("x-admission-reason"), "queue_timeout");
    let patient = yaml.replace("times: 2", "times: 100");
    gate.reloaded_with(&patient).await;
    let mut client = waiting(&gate, "A").await;
    origin.release(1);
    assert_eq!(holder.response().await.status, 200);
    origin.until_in_flight(1).await;
    origin.release(1);
    assert_eq!(client.response().await.status, 200);
    let slowed = "tidegate_requests_total{decision=\"slowed\",reason=\"none\",resource=\"other\"}";
    assert_eq!(gate.metric(slowed).await, Some(1.0));
}

// A19: over the limit a request goes to the other upstream, and the first one's load stays as it is.
#[tokio::test]
async fn what_does_not_fit_goes_to_the_other_upstream() {
    let (api, bulk) = (held_origin(), origin());
    let yaml = format!(
        "access_log: {{ path: stdout }}\nupstreams:\n  api: {{ endpoints: [\"{}\"] }}\n  bulk: {{ endpoints: [\"{}\"] }}\ndefault_upstream: api\n\
         limits: [{{ name: whole, per: [], upstreams: [api], max: 1, when_full: [{{ reroute: bulk }}] }}]",
        api.address, bulk.address
    );
    let gate = sidecar(&yaml).start().await;
    let mut holder = gate.connect().await;
    holder.send_get("/holder", &by("holder")).await;
    api.until_in_flight(1).await;
    assert_eq!(gate.get("/", "A").await.status, 200);
    assert_eq!((api.heads().len(), bulk.heads().len()), (1, 1));
    assert_eq!(gate.limit("whole").await["in_flight"], 1);
    let rerouted =
        "tidegate_requests_total{decision=\"rerouted\",reason=\"none\",resource=\"other\"}";
    assert_eq!(gate.metric(rerouted).await, Some(1.0));
    let logged = |line: &str| line.contains("\"upstream\":\"bulk\"");
    eventually("the log to name the upstream", async || {
        gate.output().lines().any(logged)
    })
    .await;
}

// A18, A20: between the soft and the hard limit a request goes on with a mark that the upstream and the log see.
#[tokio::test]
async fn above_the_soft_limit_requests_are_marked() {
    let origin = held_origin();
    let yaml = "access_log: { path: stdout }\n\
                limits: [{ name: whole, per: [], max: 1, when_full: [{ admit: { up_to: 2, mark: dear } }] }]";
    let (gate, _holder) = full(&origin, yaml).await;
    let mut client = gate.connect().await;
    let forged = [("x-account", "A"), ("x-admission-mark", "forged")];
    client.send_get("/", &forged).await;
    origin.until_in_flight(2).await;
    let heads = origin.heads();
    assert!(heads[0].raw.find("x-admission-mark").is_none());
    assert!(heads[1].says("x-admission-mark", "dear"));
    assert_eq!(gate.get("/", "B").await.status, 503);
    origin.open();
    assert_eq!(client.response().await.status, 200);
    eventually("the log to name the mark", async || {
        gate.output().contains("\"mark\":\"dear\"")
    })
    .await;
    let marked = "tidegate_requests_total{decision=\"marked\",reason=\"none\",resource=\"other\"}";
    assert_eq!(gate.metric(marked).await, Some(1.0));
}

// G19: the refusal names what the limit counts on, so that whoever rotates one key learns of the other.
#[tokio::test]
async fn a_refusal_names_its_axis() {
    let origin = held_origin();
    let yaml = "limits:\n- { name: account, per: [account], max: 1 }\n- { name: network, per: [client_network], max: 2 }\n\
                - { name: process, per: [process], max: 3 }";
    let gate = sidecar(yaml).before(&origin).start().await;
    let mut held = Vec::new();
    for account in ["A", "B"] {
        let mut client = gate.connect().await;
        client.send_get("/", &by(account)).await;
        held.push(client);
    }
    origin.until_in_flight(2).await;
    let of_account = gate.get("/", "A").await.json();
    assert_eq!(of_account["per"], serde_json::json!(["account"]));
    let of_network = gate.get("/", "C").await.json();
    assert_eq!(of_network["per"], serde_json::json!(["client_network"]));
    assert_eq!(of_network["limit"], "network");
    let mut elsewhere = Connection::open_from("127.0.9.1", &gate.address).await;
    elsewhere.send_get("/", &by("D")).await;
    origin.until_in_flight(3).await;
    let mut third = Connection::open_from("127.0.8.1", &gate.address).await;
    let of_process = third.get("/", &by("E")).await.json();
    assert_eq!(of_process["per"], serde_json::json!(["process"]));
}

// A4, A34: while an account's requests fill the queue, another's are served as places fall free, not after them.
#[tokio::test]
async fn a_quiet_account_is_served_before_a_noisy_ones_queue() {
    let origin = held_origin();
    let yaml = whole("length: 100, timeout: 30s").replace("max: 1", "max: 2");
    let gate = sidecar(&yaml).before(&origin).start().await;
    let mut noisy = Vec::new();
    for _ in 0..2 {
        let mut client = gate.connect().await;
        client.send_get("/noisy", &by("noisy")).await;
        noisy.push(client);
    }
    origin.until_in_flight(2).await;
    for _ in 0..10 {
        noisy.push(waiting(&gate, "noisy").await);
    }
    let mut quiet = waiting(&gate, "quiet").await;
    origin.release(1);
    eventually("the quiet account to be served", async || {
        origin.last().says("x-account", "quiet")
    })
    .await;
    origin.open();
    assert_eq!(quiet.response().await.status, 200);
    let longest = Duration::from_secs(10);
    for mut client in noisy {
        let status = tokio::time::timeout(longest, client.response()).await;
        assert_eq!(status.expect("an answer").status, 200);
    }
    gate.until_idle().await;
}

fn paced(max: u32, interval: &str, queue: &str) -> String {
    format!(
        "limits: [{{ name: paced, per: [], max: {max}, count: {{ starts_per: {interval} }}, when_full: [{{ queue: {{ {queue} }} }}] }}]"
    )
}

// A15, A29: who comes faster than starts are allowed waits, and is sent on when its start has come and not before.
#[tokio::test]
async fn starts_that_come_too_fast_wait_for_their_pace() {
    let origin = origin();
    let yaml = paced(1, "300ms", PATIENT);
    let gate = sidecar(&yaml).before(&origin).start().await;
    let began = now();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = gate.connect().await;
        client.send_get("/", &by("A")).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    assert!(began.elapsed() >= Duration::from_millis(900));
    gate.until_idle().await;
}

// A11, A17, A29: a wait for a start has its timeout, and is over early when a reload raises the maximum.
#[tokio::test]
async fn a_wait_for_a_start_ends_by_its_timeout_or_by_a_raised_maximum() {
    let origin = origin();
    let yaml = paced(1, "1h", "length: 1, timeout: 300ms");
    let gate = sidecar(&yaml).before(&origin).start().await;
    assert_eq!(gate.get("/", "A").await.status, 200);
    let late = gate.get("/", "A").await;
    assert_eq!(late.status, 503);
    assert_eq!(late.field("x-admission-reason"), "queue_timeout");
    gate.reloaded_with(&paced(1, "1h", PATIENT)).await;
    let mut client = waiting(&gate, "A").await;
    assert_eq!(gate.limit("paced").await["queued"], 1);
    gate.reloaded_with(&paced(3_600, "1h", PATIENT)).await;
    assert_eq!(client.response().await.status, 200);
    let sample = "tidegate_requests_total{decision=\"queued\",reason=\"none\",resource=\"other\"}";
    assert_eq!(gate.metric(sample).await, Some(1.0));
}
