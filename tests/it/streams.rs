//! How long a place is held: streams, tunnels, and clients that leave.

use std::io;
use std::time::Duration;

use http_body_util::BodyExt as _;

use crate::support::client::{Connection, by};
use crate::support::origin::{Exchange, Next, Origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::{eventually, h2, now, within};

/// A resource with these settings, and one place per account.
fn one_place(settings: &str) -> String {
    format!(
        "resources: [{{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: api{settings} }}]\n\
         limits: [{{ name: account, per: [account], max: 1 }}]"
    )
}

/// Sends a head and a first chunk, holds, and then sends the rest.
async fn stream(exchange: &mut Exchange) -> io::Result<Next> {
    exchange.body().await?;
    exchange
        .raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    exchange.chunk("first").await?;
    exchange.hold().await?;
    exchange.chunk("last").await?;
    exchange.raw("0\r\n\r\n").await
}

/// Accepts any upgrade and echoes until either side ends.
async fn echo(exchange: &mut Exchange) -> io::Result<Next> {
    if exchange.head.get("upgrade").is_none() {
        return exchange.reply(200, "plain").await;
    }
    exchange
        .raw(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .await?;
    loop {
        let bytes = exchange.wire.some().await?;
        if bytes.is_empty() || bytes == b"bye" {
            return Ok(Next::Close);
        }
        exchange.wire.send(&bytes).await?;
    }
}

async fn tunnel(gate: &Sidecar, account: &str) -> (u16, Connection) {
    let mut client = gate.connect().await;
    let fields = [
        ("x-account", account),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
    ];
    client.send_get("/socket", &fields).await;
    let (status, head) = client.head().await;
    if status == 101 {
        assert!(head.says("upgrade", "websocket") && head.says("connection", "upgrade"));
    }
    (status, client)
}

async fn state(gate: &Sidecar) -> String {
    let requests = gate.get_admin("/v1/requests").await;
    requests[0]["state"].as_str().unwrap_or_default().to_owned()
}

// A33, G5: a streaming body holds its place until the last byte.
#[tokio::test]
async fn a_stream_holds_its_place_until_the_last_byte() {
    let origin = Origin::start(stream);
    let gate = sidecar(&one_place("")).before(&origin).start().await;
    let mut client = gate.connect().await;
    client.send_get("/", &by("A")).await;
    assert_eq!(client.head().await.0, 200);
    eventually("the state", async || state(&gate).await == "streaming").await;
    assert_eq!(gate.get("/", "A").await.status, 429);
    origin.release(1);
    let rest = within("the last chunk", client.wire.exactly(19))
        .await
        .unwrap();
    assert!(
        rest.ends_with(b"last\r\n"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
    gate.until_idle().await;
}

// G5: with `headers` the place is free while the body still runs; with `first`, after that time.
#[tokio::test]
async fn a_stream_policy_frees_the_place_earlier() {
    let origin = Origin::start(stream);
    for policy in [", stream: headers", ", stream: { first: 300ms }"] {
        let gate = sidecar(&one_place(policy)).before(&origin).start().await;
        let start = now();
        let mut client = gate.connect().await;
        client.send_get("/", &by("A")).await;
        assert_eq!(client.head().await.0, 200);
        gate.until_idle().await;
        if policy.contains("first") {
            assert!(
                start.elapsed() >= Duration::from_millis(300),
                "{:?}",
                start.elapsed()
            );
        }
        let mut next = gate.connect().await;
        next.send_get("/", &by("A")).await;
        assert_eq!(next.head().await.0, 200, "{policy}");
        origin.release(2);
        let rest = within("the last chunk", client.wire.exactly(19))
            .await
            .unwrap();
        assert!(rest.ends_with(b"last\r\n"));
        drop((client, next));
        gate.until_idle().await;
        assert_eq!(origin.in_flight(), 0);
    }
}

// A33: a tunnel carries bytes both ways and holds its place until it closes, from either side.
#[tokio::test]
async fn a_tunnel_holds_its_place_until_it_closes() {
    let origin = Origin::start(echo);
    let gate = sidecar(&one_place("")).before(&origin).start().await;
    for client_closes in [true, false] {
        let (status, mut client) = tunnel(&gate, "A").await;
        assert_eq!(status, 101);
        let large = "x".repeat(300_000);
        for text in ["one", "two", large.as_str()] {
            client.send(text).await;
            let back = within("the echo", client.wire.exactly(text.len()))
                .await
                .unwrap();
            assert_eq!(back, text.as_bytes());
        }
        assert_eq!(state(&gate).await, "tunnel");
        assert_eq!(tunnel(&gate, "A").await.0, 429);
        assert_eq!(tunnel(&gate, "B").await.0, 101);
        if client_closes {
            drop(client);
        } else {
            client.send("bye").await;
            client.until_closed().await;
        }
        gate.until_idle().await;
        assert_eq!(gate.get("/", "A").await.text(), "plain");
    }
}

// G5: with `stream: headers` a tunnel gives its place back at the 101.
#[tokio::test]
async fn a_tunnel_under_headers_gives_its_place_back_at_once() {
    let origin = Origin::start(echo);
    let gate = sidecar(&one_place(", stream: headers"))
        .before(&origin)
        .start()
        .await;
    let (_, mut first) = tunnel(&gate, "A").await;
    gate.until_idle().await;
    let status = gate.get_admin("/v1/status").await;
    assert_eq!(status["resources"][0]["in_flight"], 0, "it holds no place");
    let (status, mut second) = tunnel(&gate, "A").await;
    assert_eq!(status, 101);
    for client in [&mut first, &mut second] {
        client.send("still there").await;
        assert_eq!(
            within("the echo", client.wire.exactly(11)).await.unwrap(),
            b"still there"
        );
    }
}

// A33: an upgrade that the origin declines is an ordinary answer; a silent tunnel ends after its timeout.
#[tokio::test]
async fn tunnels_are_declined_and_time_out() {
    let origin = Origin::start(
        async |exchange: &mut Exchange| match exchange.head.get("x-no") {
            Some(_) => exchange.reply(426, "no").await,
            None => echo(exchange).await,
        },
    );
    let gate = sidecar(&format!(
        "upstreams: {{ api: {{ endpoints: [\"{}\"], tunnel_idle_timeout: 300ms }} }}\n{}",
        origin.address,
        one_place("")
    ));
    let gate = gate.start().await;
    let mut client = gate.connect().await;
    let fields = [
        ("x-account", "A"),
        ("x-no", "1"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
    ];
    let declined = client.get("/socket", &fields).await;
    assert_eq!((declined.status, declined.text().as_str()), (426, "no"));
    gate.until_idle().await;
    let (status, mut silent) = tunnel(&gate, "A").await;
    assert_eq!(status, 101);
    silent.until_closed().await;
    gate.until_idle().await;
    eventually("the origin's end", async || origin.in_flight() == 0).await;
}

// A3, G13: with `close` the upstream is cut as soon as the client is gone.
#[tokio::test]
async fn a_departed_client_takes_the_upstream_with_it() {
    let origin = Origin::start(stream_or_wait);
    let gate = sidecar(&one_place("")).before(&origin).start().await;
    for path in ["/wait", "/stream"] {
        let mut client = gate.connect().await;
        client.send_get(path, &by("A")).await;
        origin.until_in_flight(1).await;
        if path == "/stream" {
            client.head().await;
        }
        drop(client);
        origin.until_in_flight(0).await;
        gate.until_idle().await;
    }
    assert_eq!(origin.cut(), 2);
}

async fn stream_or_wait(exchange: &mut Exchange) -> io::Result<Next> {
    if exchange.target() == "/stream" {
        return stream(exchange).await;
    }
    exchange.hold().await?;
    exchange.reply(200, "ok").await
}

// G13: with `finish` the place stays taken until the upstream really ends, in either protocol.
#[tokio::test]
async fn orphaned_work_keeps_its_place_until_the_upstream_ends() {
    let origin = Origin::start(stream_or_wait);
    let gate = sidecar(&one_place(", departed: { finish: 1h }"))
        .before(&origin)
        .start()
        .await;
    for (path, over_h2) in [
        ("/wait", false),
        ("/stream", false),
        ("/wait", true),
        ("/stream", true),
    ] {
        if over_h2 {
            let mut client = h2::Connection::open(&gate.address).await;
            let sent = client.sender.send_request(h2::get(path, "A"));
            let sent = tokio::spawn(sent);
            origin.until_in_flight(1).await;
            if path == "/stream" {
                let response = within("a head", sent).await.unwrap().unwrap();
                drop(response);
            } else {
                sent.abort();
            }
        } else {
            let mut client = gate.connect().await;
            client.send_get(path, &by("A")).await;
            origin.until_in_flight(1).await;
            if path == "/stream" {
                client.head().await;
            }
            drop(client);
        }
        for _ in 0..20 {
            assert_eq!(gate.get("/", "A").await.status, 429, "{path} {over_h2}");
        }
        assert_eq!(
            (
                gate.limit("account").await["in_flight"].as_u64(),
                origin.cut()
            ),
            (Some(1), 0)
        );
        origin.release(1);
        gate.until_idle().await;
    }
    assert_eq!(origin.cut(), 0);
}

// G13: the bound of `finish` cuts an upstream that never ends.
#[tokio::test]
async fn orphaned_work_is_bounded() {
    let origin = Origin::start(stream_or_wait);
    let gate = sidecar(&one_place(", departed: { finish: 300ms }"))
        .before(&origin)
        .start()
        .await;
    let mut client = gate.connect().await;
    client.send_get("/wait", &by("A")).await;
    origin.until_in_flight(1).await;
    let left = now();
    drop(client);
    gate.until_idle().await;
    assert!(
        left.elapsed() >= Duration::from_millis(250),
        "{:?}",
        left.elapsed()
    );
    origin.until_in_flight(0).await;
}

// G13, A1: streams that are reset at once cannot put more than the limit on the origin.
#[tokio::test]
async fn rapid_resets_cannot_pass_the_limit() {
    let origin = Origin::start(stream_or_wait);
    let yaml = one_place(", departed: { finish: 1h }").replace("max: 1", "max: 5");
    let gate = sidecar(&yaml).before(&origin).start().await;
    let client = h2::Connection::open(&gate.address).await;
    for index in 0..500 {
        let mut sender = client.sender.clone();
        within("room for a stream", sender.ready()).await.unwrap();
        let before = origin.heads().len();
        let sent = tokio::spawn(sender.send_request(h2::get("/wait", "A")));
        match index % 3 {
            // Reset before it is sent, just after, or once it is known to be with the origin or refused.
            0 => {}
            1 => tokio::task::yield_now().await,
            _ => {
                eventually("the origin or a refusal", async || {
                    sent.is_finished() || origin.heads().len() > before
                })
                .await;
            }
        }
        sent.abort();
    }
    origin.until_in_flight(5).await;
    assert_eq!(origin.peak(), 5);
    assert_eq!(gate.limit("account").await["in_flight"], 5);
    assert_eq!(gate.get("/", "A").await.status, 429);
    origin.open();
    gate.until_idle().await;
    assert_eq!(origin.peak(), 5);
    let mut after = h2::Connection::open(&gate.address).await;
    assert_eq!(after.get("/wait", "A").await.0.status, 200);
}

// A33: an upload and a download may run at once over HTTP/2.
#[tokio::test]
async fn both_directions_stream_at_once() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange
            .raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        // Answers each piece of the upload as it comes.
        loop {
            let bytes = exchange.wire.some().await?;
            exchange.chunk("heard").await?;
            if bytes.is_empty() || bytes.ends_with(b"0\r\n\r\n") {
                exchange.raw("0\r\n\r\n").await?;
                return Ok(Next::Close);
            }
        }
    });
    let gate = sidecar(&one_place("")).before(&origin).start().await;
    let mut client = h2::Connection::open(&gate.address).await;
    let (send, steps) = h2::steps();
    let request = http::Request::post("http://gate.test/")
        .body(steps)
        .unwrap();
    let piece = || hyper::body::Frame::data(bytes::Bytes::from_static(b"piece"));
    send.send(piece()).await.unwrap();
    let mut response = client.send(request).await.unwrap();
    for _ in 0..5 {
        let heard = within("an answer", response.body_mut().frame())
            .await
            .unwrap()
            .unwrap();
        assert!(heard.into_data().unwrap().starts_with(b"heard"));
        send.send(piece()).await.unwrap();
    }
    drop(send);
    within("the end", response.into_body().collect())
        .await
        .unwrap();
    gate.until_idle().await;
}
