//! Ending a request from the admin API, in every state that it can be in: its client is told or cut, its places come back, the log
//! says why, and nobody else is touched.

use std::io;

use http_body_util::BodyExt as _;

use super::{admin, end, logged, only};
use crate::support::client::{Connection, by};
use crate::support::origin::{Exchange, Next, Origin, held_origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::{eventually, h2, within};

const LIMITS: &str = "access_log: { path: stdout }\n\
                      resources:\n\
                      - { name: calls, match: { methods: [POST], path: /calls }, upstream: api, completion: { hold_up_to: 1h } }\n\
                      - { name: rest, match: { path: \"/{*rest}\" }, upstream: api }\n\
                      limits: [{ name: whole, per: [], max: 2, leases: count }]";

/// More than all buffers between an origin and a client that takes nothing.
const FLOOD: usize = 64 * 1024 * 1024;

/// Answers as the path says: `/stream` begins and holds, `/flood` sends without end, `/socket` switches, `/calls` is begun, and all else
/// is held.
async fn anything(exchange: &mut Exchange) -> io::Result<Next> {
    let target = exchange.target().to_owned();
    exchange.body().await?;
    match &*target {
        "/stream" => {
            exchange
                .raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            exchange.chunk("first").await?;
            exchange.hold().await?;
            exchange.chunk("last").await?;
            exchange.raw("0\r\n\r\n").await
        }
        "/flood" => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {FLOOD}\r\n\r\n");
            exchange.raw(&head).await?;
            let piece = "x".repeat(64 * 1024);
            for _ in 0..FLOOD / piece.len() {
                exchange.raw(&piece).await?;
            }
            Ok(Next::Keep)
        }
        "/socket" => {
            exchange
                .raw("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
                .await?;
            exchange.until_closed().await;
            exchange.count("closed");
            Ok(Next::Close)
        }
        "/calls" => exchange.reply(201, "begun").await,
        "/calls/slow" => {
            exchange
                .raw("HTTP/1.1 201 Created\r\nx-admission-hold: 1h\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            exchange.chunk("first").await?;
            exchange.hold().await?;
            exchange.raw("0\r\n\r\n").await
        }
        "/plain" => exchange.reply(200, "ok").await,
        _ => {
            exchange.hold().await?;
            exchange.reply(200, "ok").await
        }
    }
}

async fn gate_before(origin: &Origin) -> Sidecar {
    sidecar(LIMITS).before(origin).start().await
}

async fn asking(gate: &Sidecar, path: &str) -> Connection {
    let mut client = gate.connect().await;
    client.send_get(path, &by("A")).await;
    client
}

// G10: one that has no answer yet is answered by the gate, its upstream is cut, and its place is free.
#[tokio::test]
async fn a_forwarded_request_is_answered_503_and_its_upstream_is_cut() {
    let origin = Origin::start(anything);
    let gate = gate_before(&origin).await;
    let mut client = asking(&gate, "/held").await;
    let row = only(&gate, "forwarded").await;
    end(&gate, &row).await;
    let answer = client.response().await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.field("x-admission-reason"), "cancelled");
    eventually("the upstream is cut", async || origin.cut() == 1).await;
    gate.until_idle().await;
    let line = logged(&gate, "/held").await;
    assert_eq!(
        (&line["reason"], &line["status"]),
        (&"cancelled".into(), &503.into()),
        "{line}"
    );
    let again = admin(&gate, "DELETE", &format!("/v1/requests/{}", row["id"]), "").await;
    assert_eq!(again.status, 404, "{}", again.text());
}

// G10: an answer that is on its way is broken off, so that no client takes it for a whole one.
#[tokio::test]
async fn a_streaming_answer_is_cut() {
    let origin = Origin::start(anything);
    let gate = gate_before(&origin).await;
    let mut client = asking(&gate, "/stream").await;
    assert_eq!(client.head().await.0, 200);
    let row = only(&gate, "streaming").await;
    end(&gate, &row).await;
    let rest = client.until_closed().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    eventually("the upstream is cut", async || origin.cut() == 1).await;
    gate.until_idle().await;
    let line = logged(&gate, "/stream").await;
    assert_eq!(
        (&line["reason"], &line["cut"]),
        (&"cancelled".into(), &true.into()),
        "{line}"
    );
}

// G10: nor does a client that takes nothing keep its place.
#[tokio::test]
async fn an_answer_that_its_client_does_not_read_is_cut() {
    let origin = Origin::start(anything);
    let gate = gate_before(&origin).await;
    let client = asking(&gate, "/flood").await;
    let row = only(&gate, "streaming").await;
    end(&gate, &row).await;
    gate.until_idle().await;
    eventually("the upstream is cut", async || origin.cut() == 1).await;
    assert_eq!(logged(&gate, "/flood").await["reason"], "cancelled");
    drop(client);
}

// G10: of the streams of an HTTP/2 connection, the one that was meant ends.
#[tokio::test]
async fn one_stream_of_an_http2_connection_is_ended_and_the_others_go_on() {
    let origin = Origin::start(anything);
    let gate = gate_before(&origin).await;
    let mut client = h2::Connection::open(&gate.address).await;
    let other = client.send(h2::get("/stream", "other")).await.unwrap();
    let ended = client.send(h2::get("/stream", "A")).await.unwrap();
    let rows = gate.get_admin("/v1/requests?account=A").await;
    end(&gate, &rows[0]).await;
    let broken = within("the end", ended.into_body().collect()).await;
    assert!(broken.is_err(), "a reset");
    origin.release(1);
    let whole = within("the other", other.into_body().collect())
        .await
        .unwrap();
    assert_eq!(whole.to_bytes(), "firstlast");
    gate.until_idle().await;
    // Nor is the connection closed.
    assert_eq!(client.get("/plain", "A").await.1, "ok");
    // One without an answer gets one.
    let task = tokio::spawn(client.sender.send_request(h2::get("/held", "A")));
    let row = only(&gate, "forwarded").await;
    end(&gate, &row).await;
    let refused = within("the answer", task).await.unwrap().unwrap();
    assert_eq!(refused.status(), 503);
    gate.until_idle().await;
}

// G10: the same for a stream whose client opens no window.
#[tokio::test]
async fn a_stream_whose_client_opens_no_window_is_ended() {
    let origin = Origin::start(anything);
    let gate = gate_before(&origin).await;
    let mut client = h2::Connection::open(&gate.address).await;
    let unread = client.send(h2::get("/flood", "A")).await.unwrap();
    let row = only(&gate, "streaming").await;
    end(&gate, &row).await;
    gate.until_idle().await;
    assert_eq!(logged(&gate, "/flood").await["reason"], "cancelled");
    drop(unread);
    assert_eq!(client.get("/plain", "A").await.1, "ok");
}

// G10: a connection that has changed hands is closed on both sides.
#[tokio::test]
async fn a_tunnel_is_closed() {
    let origin = Origin::start(anything);
    let gate = gate_before(&origin).await;
    let mut client = gate.connect().await;
    let fields = [
        ("x-account", "A"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
    ];
    client.send_get("/socket", &fields).await;
    assert_eq!(client.head().await.0, 101);
    let row = only(&gate, "tunnel").await;
    end(&gate, &row).await;
    assert_eq!(client.until_closed().await, b"");
    eventually("the upstream's side", async || {
        origin.counted("closed") == 1
    })
    .await;
    gate.until_idle().await;
    assert_eq!(logged(&gate, "/socket").await["reason"], "cancelled");
}

// G10, A35: work that outlives its answer gives its place back, and its upstream's own release finds nothing.
#[tokio::test]
async fn a_lease_is_released() {
    let origin = Origin::start(anything);
    let gate = gate_before(&origin).await;
    let begun = gate
        .connect()
        .await
        .ask("POST", "/calls", &by("A"), "")
        .await;
    assert_eq!(begun.status, 201);
    let lease = origin.last().get("x-admission-lease").unwrap().to_owned();
    let row = only(&gate, "lease").await;
    assert_eq!(gate.limit("whole").await["in_flight"], 1);
    end(&gate, &row).await;
    gate.until_idle().await;
    let late = admin(&gate, "DELETE", &format!("/v1/leases/{lease}"), "").await;
    assert_eq!(late.status, 404);
}

// G10: a place that an operator frees goes to whoever waits, at once.
#[tokio::test]
async fn the_freed_place_goes_to_who_waits() {
    let origin = held_origin();
    let yaml = "limits: [{ name: whole, per: [], max: 1, when_full: [{ queue: { length: 5, timeout: 60s } }] }]";
    let gate = sidecar(yaml).before(&origin).start().await;
    let _holder = asking(&gate, "/first").await;
    let row = only(&gate, "forwarded").await;
    let mut waiting = asking(&gate, "/second").await;
    only(&gate, "queued").await;
    end(&gate, &row).await;
    eventually("the second is sent on", async || {
        origin
            .heads()
            .iter()
            .any(|head| head.start.contains("/second"))
    })
    .await;
    origin.open();
    assert_eq!(waiting.response().await.status, 200);
}

// G10: the number of a request that is over ends nothing, though its connection serves the next one.
#[tokio::test]
async fn the_next_request_of_a_connection_is_not_hit() {
    let origin = Origin::start(anything);
    let gate = gate_before(&origin).await;
    let mut client = asking(&gate, "/held").await;
    let first = only(&gate, "forwarded").await;
    origin.release(1);
    assert_eq!(client.response().await.status, 200);
    client.send_get("/held", &by("A")).await;
    eventually("the next one", async || {
        let rows = gate.get_admin("/v1/requests").await;
        rows[0]["state"] == "forwarded" && rows[0]["id"] != first["id"]
    })
    .await;
    let late = admin(
        &gate,
        "DELETE",
        &format!("/v1/requests/{}", first["id"]),
        "",
    )
    .await;
    assert_eq!(late.status, 404);
    origin.release(1);
    assert_eq!(client.response().await.status, 200);
    // Nor is one hit that comes on a connection whose request was ended: the connection is closed, or serves it.
    client.send_get("/held", &by("A")).await;
    let row = only(&gate, "forwarded").await;
    end(&gate, &row).await;
    let refused = client.response().await;
    assert_eq!(refused.status, 503);
    if refused.head.says("connection", "close") {
        assert_eq!(client.until_closed().await, b"");
    } else {
        assert_eq!(client.get("/plain", &by("A")).await.status, 200);
    }
    assert_eq!(gate.get("/plain", "A").await.status, 200);
    gate.until_idle().await;
}

// G10: what is no request's number is answered as such.
#[tokio::test]
async fn what_is_not_there_cannot_be_ended() {
    let origin = held_origin();
    let gate = gate_before(&origin).await;
    for id in ["0", "999999", "-1", "x", "18446744073709551616"] {
        let answer = admin(&gate, "DELETE", &format!("/v1/requests/{id}"), "").await;
        assert_eq!(answer.status, 404, "{id}");
    }
    let other = admin(&gate, "PUT", "/v1/requests/1", "{}").await;
    assert_eq!((other.status, other.field("allow")), (405, "DELETE"));
}

// G10, A35: an answer that was to leave a lease behind leaves none when it is ended: its places come back now.
#[tokio::test]
async fn an_answer_that_is_ended_leaves_no_lease() {
    let origin = Origin::start(anything);
    let gate = gate_before(&origin).await;
    let mut client = asking(&gate, "/calls/slow").await;
    assert_eq!(client.head().await.0, 201);
    let row = only(&gate, "streaming").await;
    end(&gate, &row).await;
    client.until_closed().await;
    gate.until_idle().await;
    assert_eq!(gate.get_admin("/v1/leases").await, serde_json::json!([]));
    assert_eq!(logged(&gate, "/calls/slow").await["reason"], "cancelled");
}
