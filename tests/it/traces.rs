//! Traces: what a collector made of the published definitions reads, and what the upstream is told.
//!
//! Spans come in batches, so a test waits for as many as there must be. Whether nothing more comes shows when the gate has ended, which
//! sends what is left.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::client::{self, by};
use crate::support::collector::Collector;
use crate::support::origin::{Exchange, Origin, held_origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::{eventually, now};

const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// The field of a client whose trace is recorded, or is not.
fn from_client(is_sampled: bool) -> String {
    format!("00-{ID}-{PARENT}-0{}", u8::from(is_sampled))
}

async fn get(gate: &Sidecar, path: &str, parent: &str) -> u16 {
    let fields = [
        ("x-account", "A"),
        ("traceparent", parent),
        ("tracestate", "vendor=1,other=2"),
    ];
    client::get(&gate.address, path, &fields).await.status
}

/// The span of that name.
fn named<'s>(spans: &'s [Value], name: &str) -> &'s Value {
    let found = spans.iter().find(|span| span["name"] == name);
    found.unwrap_or_else(|| panic!("no span {name} in {spans:#?}"))
}

fn time(span: &Value, key: &str) -> u64 {
    span[key].as_u64().expect("nanoseconds")
}

/// Ends the gate, which sends what is left, and returns what the collector has.
async fn rest_at_end(mut gate: Sidecar, collector: &mut Collector) -> Vec<Value> {
    gate.signal(Signal::TERM);
    assert!(gate.until_exit().await.success());
    collector.rest()
}

fn of_trace(field: &str) -> (&str, &str, &str) {
    let mut parts = field.split('-').skip(1);
    let mut part = || parts.next().expect("three parts");
    (part(), part(), part())
}

// A request's spans hang together, lie within each other, and carry what conventions and operators ask for; the upstream's parent is
// the gate's own request to it, in the client's trace and with its state.
#[tokio::test]
async fn spans_of_a_request_hang_together_and_the_upstream_hangs_below_them() {
    let (mut collector, origin) = (Collector::start(&[]).await, origin());
    let yaml = collector.section(", sample: 0, service_name: gate-under-test, attributes: { deployment.environment.name: test }, \
                                  headers: { authorization: { env: OTLP_TOKEN } }")
        + "resources: [{ name: things, match: { path: \"/things/{id}\" } }]";
    let gate = sidecar(&yaml).env("OTLP_TOKEN", "Bearer secret");
    let gate = gate.before(&origin).start().await;
    assert_eq!(
        get(&gate, "/things/7?secret=1", &from_client(true)).await,
        200
    );
    let spans = collector.spans(3).await;
    let (own, decision) = (named(&spans, "GET things"), named(&spans, "decision"));
    let upstream = named(&spans, "GET api");
    assert!(spans.iter().all(|span| span["trace_id"] == ID));
    assert!(spans.iter().all(|span| span["state"] == "vendor=1,other=2"));
    assert!(
        spans
            .iter()
            .all(|span| span["authorization"] == "Bearer secret")
    );
    assert_eq!(
        (&own["parent"], &own["kind"]),
        (&PARENT.into(), &"SPAN_KIND_SERVER".into())
    );
    // Sampled, and its parent is known to be of another process.
    assert_eq!(
        (&own["flags"], &upstream["flags"]),
        (&0x301.into(), &0x101.into())
    );
    for (child, kind) in [(decision, "INTERNAL"), (upstream, "CLIENT")] {
        assert_eq!(child["parent"], own["span_id"]);
        assert_eq!(child["kind"], format!("SPAN_KIND_{kind}"));
        assert!(
            time(child, "start") >= time(own, "start") && time(child, "end") <= time(own, "end")
        );
    }
    assert!(time(decision, "end") <= time(upstream, "start"));
    let head = time(&upstream["events"][0], "time");
    assert!((time(upstream, "start")..=time(upstream, "end")).contains(&head));
    let sent = origin.heads()[0].clone();
    let (id, parent, flags) = of_trace(sent.get("traceparent").expect("a parent"));
    assert_eq!((id, flags), (ID, "01"));
    assert_eq!(upstream["span_id"], parent);
    assert_eq!(sent.all("traceparent").count(), 1);
    assert!(sent.says("tracestate", "vendor=1,other=2"));
    assert_attributes(&gate, &origin, own, upstream);
    assert!(
        !spans
            .iter()
            .any(|span| span.to_string().contains("secret=1"))
    );
}

fn assert_attributes(gate: &Sidecar, origin: &Origin, own: &Value, upstream: &Value) {
    let of_resource = serde_json::json!({
        "service.name": "gate-under-test",
        "service.version": env!("CARGO_PKG_VERSION"),
        "deployment.environment.name": "test",
    });
    assert_eq!(own["resource"], of_resource);
    let expected = serde_json::json!({
        "http.request.method": "GET",
        "url.path": "/things/7",
        "url.scheme": "http",
        "server.address": "gate.test",
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "http.response.status_code": 200,
        "http.response.body.size": 2,
        "tidegate.account": "A",
        "tidegate.resource": "things",
        "tidegate.upstream": "api",
        "tidegate.decision": "admitted",
        "tidegate.reason": "none",
    });
    let mut attributes = own["attributes"].clone();
    let id = attributes
        .as_object_mut()
        .unwrap()
        .remove("tidegate.request_id");
    assert_eq!(id.and_then(|id| id.as_str().map(str::len)), Some(32));
    assert_eq!(attributes, expected, "{}", gate.log());
    let (host, port) = origin.address.split_once(':').unwrap();
    assert_eq!(upstream["attributes"]["server.address"], host);
    assert_eq!(
        upstream["attributes"]["server.port"],
        port.parse::<u16>().unwrap()
    );
    assert_eq!(
        upstream["attributes"]["url.full"],
        format!("http://{}/things/7", origin.address)
    );
    assert_eq!(upstream["attributes"]["http.response.status_code"], 200);
    assert_eq!(
        (&own["status"], &upstream["status"]),
        (&"STATUS_CODE_UNSET".into(), &"STATUS_CODE_UNSET".into())
    );
}

// A15: a wait is a span between the decision and the upstream; a refusal names the limit and the reason, and has no upstream.
#[tokio::test]
async fn a_wait_and_a_refusal_show_in_the_spans() {
    let (mut collector, origin) = (Collector::start(&[]).await, held_origin());
    let yaml = collector.section("")
        + "limits: [{ name: whole, per: [], max: 1, when_full: [{ queue: { length: 1, timeout: 20s } }] }]";
    let gate = sidecar(&yaml).before(&origin).start().await;
    let mut holder = gate.connect().await;
    holder.send_get("/", &by("holder")).await;
    origin.until_in_flight(1).await;
    let mut waiter = gate.connect().await;
    waiter
        .send_get(
            "/",
            &[("x-account", "A"), ("traceparent", &from_client(true))],
        )
        .await;
    gate.wait_until("one that waits", |status| status["queued"] == 1)
        .await;
    assert_eq!(gate.get("/", "refused").await.status, 503);
    origin.open();
    assert_eq!(
        (
            holder.response().await.status,
            waiter.response().await.status
        ),
        (200, 200)
    );
    let spans = collector.spans(3 + 4 + 2).await;
    let waited: Vec<_> = spans
        .iter()
        .filter(|span| span["trace_id"] == ID)
        .cloned()
        .collect();
    let (own, wait) = (named(&waited, "GET other"), named(&waited, "wait"));
    assert_eq!(wait["parent"], own["span_id"]);
    assert_eq!(own["attributes"]["tidegate.decision"], "queued");
    assert_eq!(time(named(&waited, "decision"), "end"), time(wait, "start"));
    assert_eq!(time(wait, "end"), time(named(&waited, "GET api"), "start"));
    let refused = |span: &&Value| span["attributes"]["tidegate.account"] == "refused";
    let refused = spans.iter().find(refused).expect("the refused one's span");
    assert_eq!(refused["attributes"]["tidegate.limit"], "whole");
    assert_eq!(refused["attributes"]["tidegate.reason"], "queue_full");
    assert_eq!(refused["attributes"]["error.type"], "queue_full");
    assert_eq!(refused["status"], "STATUS_CODE_ERROR");
    let below = spans
        .iter()
        .filter(|span| span["parent"] == refused["span_id"]);
    let below: Vec<_> = below.map(|span| span["name"].clone()).collect();
    assert_eq!(below, ["decision"]);
}

// An upstream that gives no answer is an error of the gate's request to it; that the answer was the gate's own shows.
#[tokio::test]
async fn an_upstream_that_breaks_is_an_error_in_its_span() {
    let mut collector = Collector::start(&[]).await;
    let origin = Origin::start(async |_: &mut Exchange| Err(std::io::ErrorKind::Other.into()));
    let gate = sidecar(&collector.section(""))
        .before(&origin)
        .start()
        .await;
    assert_eq!(gate.get("/", "A").await.status, 502);
    let spans = collector.spans(3).await;
    for name in ["GET other", "GET api"] {
        let span = named(&spans, name);
        assert_eq!(span["attributes"]["error.type"], "upstream_broke");
        assert_eq!(span["status"], "STATUS_CODE_ERROR");
    }
    assert_eq!(
        named(&spans, "GET other")["attributes"]["http.response.status_code"],
        502
    );
    let upstream = &named(&spans, "GET api")["attributes"];
    assert!(
        upstream.get("http.response.status_code").is_none(),
        "{upstream}"
    );
}

// What the client decided holds whatever the share; without a trace the share decides, and the upstream hears of it either way.
#[tokio::test]
async fn the_client_decides_about_its_trace_and_the_share_about_others() {
    let (mut collector, origin) = (Collector::start(&[]).await, origin());
    let gate = sidecar(&collector.section(", sample: 0.5"))
        .before(&origin)
        .start()
        .await;
    assert_eq!(get(&gate, "/unsampled", &from_client(false)).await, 200);
    assert_eq!(get(&gate, "/sampled", &from_client(true)).await, 200);
    assert_eq!(get(&gate, "/nonsense", "00-nonsense").await, 200);
    let mut client = gate.connect().await;
    for _ in 0..200 {
        assert_eq!(client.get("/begun", &by("A")).await.status, 200);
    }
    gate.until_idle().await;
    let heads = origin.heads();
    // As it came: no span of the gate will be there to hang below.
    assert_eq!(heads[0].get("traceparent"), Some(&*from_client(false)));
    assert!(heads[0].says("tracestate", "vendor=1,other=2"));
    assert_eq!(
        (
            heads[2].all("traceparent").count(),
            heads[2].get("tracestate")
        ),
        (1, None)
    );
    let begun: Vec<_> = heads[3..]
        .iter()
        .map(|head| of_trace(head.get("traceparent").unwrap()))
        .collect();
    let recorded: Vec<_> = begun.iter().filter(|(.., flags)| *flags == "01").collect();
    assert!(begun.iter().all(|(.., flags)| ["00", "01"].contains(flags)));
    // Seven standard deviations of 200 fair coins.
    assert!((50..=150).contains(&recorded.len()), "{}", recorded.len());
    let spans = rest_at_end(gate, &mut collector).await;
    let of_path = |path: &str| {
        spans
            .iter()
            .filter(|span| span["attributes"]["url.path"] == path)
            .count()
    };
    assert_eq!((of_path("/unsampled"), of_path("/sampled")), (0, 1));
    assert_eq!(of_path("/begun"), recorded.len());
    for (_, parent, _) in recorded {
        let upstream = spans
            .iter()
            .find(|span| span["span_id"] == *parent)
            .expect("the upstream's parent");
        assert_eq!(upstream["name"], "GET api");
    }
}

// Without the section, fields are forwarded as received, whatever they hold, and none is made.
#[tokio::test]
async fn without_traces_fields_pass_as_they_came() {
    let origin = origin();
    let gate = sidecar("").before(&origin).start().await;
    for parent in [&*from_client(true), "nonsense"] {
        assert_eq!(get(&gate, "/", parent).await, 200);
    }
    assert_eq!(gate.get("/", "A").await.status, 200);
    let heads = origin.heads();
    assert!(
        heads[0].says("traceparent", &from_client(true))
            && heads[1].says("traceparent", "nonsense")
    );
    assert!(
        heads[..2]
            .iter()
            .all(|head| head.says("tracestate", "vendor=1,other=2"))
    );
    assert_eq!(heads[2].get("traceparent"), None);
}

// G4: a reload switches traces on and off, and what was recorded before it is still sent.
#[tokio::test]
async fn a_reload_switches_traces_on_and_off() {
    let (mut collector, origin) = (Collector::start(&[]).await, origin());
    let gate = sidecar("").before(&origin).start().await;
    assert_eq!(get(&gate, "/before", &from_client(true)).await, 200);
    gate.reloaded_with(&collector.section("")).await;
    assert_eq!(get(&gate, "/on", &from_client(true)).await, 200);
    gate.reloaded_with("").await;
    assert_eq!(get(&gate, "/after", &from_client(true)).await, 200);
    let spans = collector.spans(3).await;
    assert_eq!(named(&spans, "GET other")["attributes"]["url.path"], "/on");
    assert_eq!(rest_at_end(gate, &mut collector).await, Vec::<Value>::new());
}

// A collector that does not take spans for a moment is asked again; what it rejects of a batch is counted.
#[tokio::test]
async fn a_batch_is_tried_again_and_rejected_spans_are_counted() {
    let (mut collector, origin) = (Collector::start(&["503", "reject:2"]).await, origin());
    let gate = sidecar(&collector.section(""))
        .before(&origin)
        .start()
        .await;
    assert_eq!(gate.get("/", "A").await.status, 200);
    assert_eq!(collector.spans(3).await.len(), 3);
    eventually("two dropped spans", async || {
        gate.metric("tidegate_spans_dropped_total").await == Some(2.0)
    })
    .await;
}

// DESIGN invariant 5: a collector that is gone, or takes connections and says nothing, costs requests nothing: spans are dropped and
// counted, and the gate ends in time.
#[tokio::test]
async fn a_collector_that_is_gone_or_silent_stops_nothing() {
    let origin = origin();
    let silent = Origin::start(async |exchange: &mut Exchange| {
        exchange.until_closed().await;
        Err(std::io::ErrorKind::Other.into())
    });
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap().to_string();
    drop(gone);
    for address in [&address, &silent.address] {
        let traces = format!("traces: {{ otlp: \"http://{address}\" }}");
        let gate = sidecar(&traces).before(&origin).start().await;
        let load = async {
            let mut client = gate.connect().await;
            for _ in 0..6_000 {
                assert_eq!(client.get("/", &by("A")).await.status, 200);
            }
        };
        tokio::join!(load, async {
            gate.connect().await.get("/", &by("B")).await
        });
        // 18,000 spans are more than eight batches and those on their way.
        eventually("dropped spans", async || {
            gate.metric("tidegate_spans_dropped_total").await > Some(0.0)
        })
        .await;
        assert_eq!(gate.get("/", "A").await.status, 200);
        gate.until_idle().await;
        let mut gate = gate;
        gate.signal(Signal::TERM);
        let ended = tokio::time::timeout(Duration::from_secs(9), gate.until_exit()).await;
        assert!(ended.expect("it ends in time").success());
    }
}

// CONTRACT §1: a second signal ends the gate at once, while it drains and while a collector holds what is left.
#[tokio::test]
async fn a_second_signal_does_not_wait_for_the_collector() {
    for is_busy in [true, false] {
        let (origin, silent) = (held_origin(), held_origin());
        let traces = format!("traces: {{ otlp: \"http://{}\" }}", silent.address);
        let mut gate = sidecar(&traces).before(&origin).start().await;
        assert_eq!(gate.get("/", "no name").await.status, 400);
        silent.until_in_flight(1).await;
        let mut busy = gate.connect().await;
        if is_busy {
            busy.send_get("/", &by("A")).await;
            origin.until_in_flight(1).await;
        }
        gate.signal(Signal::TERM);
        eventually("the listener to be closed", async || {
            TcpStream::connect(&gate.address).await.is_err()
        })
        .await;
        let start = now();
        gate.signal(Signal::TERM);
        assert_eq!(gate.until_exit().await.code(), Some(1), "{is_busy}");
        // The first signal alone would give the collector two seconds.
        let took = start.elapsed();
        assert!(took < Duration::from_millis(1_500), "{is_busy}: {took:?}");
    }
}
