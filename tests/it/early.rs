//! Waiting requests that are served while another's answer is near its end: on which evidence, and how many.
//!
//! The origin holds back the end of its answer, so that its work is seen to last while the gate knows that little is left.

use std::io;

use crate::support::client::{Connection, by};
use crate::support::origin::{Exchange, Next, Origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::within;

const LENGTH: usize = 200_000;
/// The gate takes so much in although its client reads nothing, and it is more than nine tenths.
const NEARLY: usize = 185_000;

/// Answers `/large` in three parts, each held back: the first half, up to nearly the end, and the end; all else at once.
async fn in_parts(exchange: &mut Exchange) -> io::Result<Next> {
    exchange.body().await?;
    match exchange.target().to_owned().as_str() {
        "/large" => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
            exchange.raw(&head).await?;
            large(exchange).await
        }
        "/leased" => {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\nx-admission-hold: 1m\r\n\r\n"
            );
            exchange.raw(&head).await?;
            large(exchange).await
        }
        "/chunked" => {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            exchange.raw(&format!("{head}{LENGTH:x}\r\n")).await?;
            large(exchange).await?;
            exchange.raw("\r\n0\r\n\r\n").await
        }
        _ => {
            exchange.hold().await?;
            exchange.reply(200, "ok").await
        }
    }
}

async fn large(exchange: &mut Exchange) -> io::Result<Next> {
    exchange.raw(&"a".repeat(LENGTH / 2)).await?;
    exchange.hold().await?;
    exchange.raw(&"b".repeat(NEARLY - LENGTH / 2)).await?;
    exchange.hold().await?;
    exchange.raw(&"c".repeat(LENGTH - NEARLY)).await
}

fn limits(early: u32) -> String {
    format!(
        "limits: [{{ name: whole, per: [], max: 1, when_full: [{{ queue: {{ length: 10, timeout: 30s, early: {early} }} }}] }}]"
    )
}

async fn until_queued(gate: &Sidecar, count: u64) {
    gate.wait_until("so many to wait", |status| status["queued"] == count)
        .await;
}

async fn waiting(gate: &Sidecar, queued: u64) -> Connection {
    let mut client = gate.connect().await;
    client.send_get("/", &by("A")).await;
    until_queued(gate, queued).await;
    client
}

// A16: one who waits is served when little is left of another's answer, although its client has read none of it; no second one
// is, neither then nor once that answer is through; and the overshoot is told.
#[tokio::test]
async fn one_who_waits_is_served_before_an_answers_end() {
    let origin = Origin::start(in_parts);
    let gate = sidecar(&limits(1)).before(&origin).start().await;
    let mut holder = gate.connect().await;
    holder.send_get("/large", &by("holder")).await;
    origin.until_in_flight(1).await;
    let mut first = waiting(&gate, 1).await;
    let mut second = waiting(&gate, 2).await;
    assert_eq!(holder.head().await.0, 200);
    within("half of it", holder.wire.exactly(LENGTH / 2))
        .await
        .unwrap();
    until_queued(&gate, 2).await;
    origin.release(1);
    origin.until_in_flight(2).await;
    until_queued(&gate, 1).await;
    assert_eq!(gate.limit("whole").await["in_flight"], 2);
    let grants = "tidegate_early_grants_total{limit=\"whole\"}";
    let overshoot = "tidegate_early_overshoot_max{limit=\"whole\"}";
    assert_eq!(gate.metric(grants).await, Some(1.0));
    assert_eq!(gate.metric(overshoot).await, Some(1.0));
    origin.release(1);
    within("the rest of it", holder.wire.exactly(LENGTH / 2))
        .await
        .unwrap();
    gate.wait_until("the large one's end", |status| {
        status["limits"][0]["in_flight"] == 1
    })
    .await;
    until_queued(&gate, 1).await;
    origin.release(2);
    assert_eq!(first.response().await.status, 200);
    assert_eq!(second.response().await.status, 200);
    assert_eq!(origin.peak(), 2);
    assert_eq!(gate.metric(grants).await, Some(1.0));
    assert_eq!(gate.metric(overshoot).await, Some(1.0));
    gate.until_idle().await;
}

// A16: without the word for it, without a length, and where the work outlives its answer, nobody is served early.
#[tokio::test]
async fn without_evidence_nobody_is_served_early() {
    for (path, early) in [("/large", 0), ("/chunked", 1), ("/leased", 1)] {
        let origin = Origin::start(in_parts);
        let gate = sidecar(&limits(early)).before(&origin).start().await;
        let mut holder = gate.connect().await;
        holder.send_get(path, &by("holder")).await;
        assert_eq!(holder.head().await.0, 200);
        let mut client = waiting(&gate, 1).await;
        origin.release(1);
        // What the client has read has passed the gate, and with it all that the gate could know.
        within("nearly all of it", holder.wire.exactly(NEARLY))
            .await
            .unwrap();
        until_queued(&gate, 1).await;
        assert_eq!(origin.in_flight(), 1, "{path}");
        origin.release(2);
        assert_eq!(client.response().await.status, 200, "{path}");
        assert_eq!(origin.peak(), 1, "{path}");
        let lent = gate
            .metric("tidegate_early_grants_total{limit=\"whole\"}")
            .await;
        assert_eq!(lent, (early > 0).then_some(0.0), "{path}");
    }
}
