//! Uploads that go on after the answer began: what reaches the origin is what the client sent, or visibly not whole.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::client::{Connection, by};
use crate::support::origin::{Exchange, Next, Origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::{eventually, within};

const HEAD: &str =
    "POST /early HTTP/1.1\r\nhost: a\r\nx-account: A\r\ntransfer-encoding: chunked\r\n\r\n";

/// Answers at once, reads the upload meanwhile, and counts how it ended.
async fn early(exchange: &mut Exchange) -> io::Result<Next> {
    exchange
        .raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
        .await?;
    match exchange.body().await {
        Ok(_) => exchange.count("whole"),
        Err(_) => exchange.count("broken"),
    }
    exchange.raw("0\r\n\r\n").await?;
    Ok(Next::Close)
}

async fn begun(gate: &Sidecar) -> Connection {
    let mut client = gate.connect().await;
    client.send(format!("{HEAD}5\r\nfirst\r\n")).await;
    assert_eq!(client.head().await.0, 200);
    client
}

async fn until_ended(origin: &Origin) {
    eventually("the upload's end", async || {
        origin.counted("whole") + origin.counted("broken") == 1
    })
    .await;
    assert_eq!(origin.counted("whole"), 0, "a broken upload looks whole");
}

// G8, G13: an upload that breaks after the answer began never looks whole to the origin, whoever broke it.
#[tokio::test]
async fn an_upload_that_breaks_after_an_early_answer_never_looks_whole() {
    let large = "x".repeat(2_000);
    for (yaml, end) in [
        ("", Some("zz\r\nno size")),
        ("", None),
        (
            "resources: [{ name: all, match: { path: \"/{*rest}\" }, upstream: api, departed: { finish: 2s } }]",
            None,
        ),
        (
            "server: { threads: 1, listeners: [{ address: \"127.0.0.1:0\" }], max_body: 1KiB }",
            Some(&*format!("7d0\r\n{large}\r\n5\r\nafter\r\n0\r\n\r\n")),
        ),
    ] {
        let origin = Origin::start(early);
        let gate = sidecar(yaml).before(&origin).start().await;
        let mut client = begun(&gate).await;
        match end {
            Some(bytes) => client.send(bytes).await,
            None => drop(client),
        }
        until_ended(&origin).await;
        gate.until_idle().await;
    }
}

// CONTRACT §2: `idle_timeout` is for when nothing moves in either direction: a steady upload moves.
#[tokio::test]
async fn a_steady_upload_keeps_an_early_answer_alive() {
    let origin = Origin::start(early);
    let yaml = format!(
        "upstreams: {{ api: {{ endpoints: [\"{}\"], idle_timeout: 500ms }} }}",
        origin.address
    );
    let gate = sidecar(&yaml).start().await;
    let mut client = begun(&gate).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..12 {
        ticks.tick().await;
        client.send("1\r\nz\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    eventually("a whole upload", async || origin.counted("whole") == 1).await;
    gate.until_idle().await;
}

// CONTRACT §3: fields that speak for the gate are removed from a client's trailers too, and so is framing.
#[tokio::test]
async fn trailers_cannot_speak_for_the_gate() {
    let origin = origin();
    let gate = sidecar("").before(&origin).start().await;
    let mut client = gate.connect().await;
    let trailers = "x-admission-account: root\r\ncontent-length: 3\r\nhost: evil\r\nx-sum: 1\r\n";
    client
        .send(format!("{HEAD}1\r\nx\r\n0\r\n{trailers}\r\n"))
        .await;
    assert_eq!(client.response().await.status, 200);
    let body = origin.last_body();
    let seen = format!("{body:?}");
    for name in ["x-admission-account", "content-length", "evil"] {
        assert!(!seen.contains(name), "{name} in {seen}");
    }
    assert!(seen.contains("x-sum"), "{seen}");
    assert_eq!(gate.get("/", by("A")[0].1).await.status, 200);
}

// CONTRACT §3: an origin that takes no more of an upload is late, not the client.
#[tokio::test]
async fn an_origin_that_stops_reading_is_late() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        // It never looks at what comes.
        std::future::pending::<()>().await;
        exchange.reply(200, "never").await
    });
    let yaml = format!(
        "upstreams: {{ api: {{ endpoints: [\"{}\"], idle_timeout: 500ms, response_timeout: 500ms }} }}",
        origin.address
    );
    let gate = sidecar(&yaml).start().await;
    let client = TcpStream::connect(&gate.address).await.unwrap();
    let (mut from_gate, mut to_gate) = client.into_split();
    // More than all buffers on the way hold, so that it is the origin that is waited for.
    let upload = tokio::spawn(async move {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n";
        to_gate.write_all(head.as_bytes()).await?;
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..900 {
            to_gate.write_all(&piece).await?;
        }
        std::io::Result::Ok(to_gate)
    });
    let mut start = [0; 12];
    within("an answer", from_gate.read_exact(&mut start))
        .await
        .unwrap();
    assert_eq!(&start, b"HTTP/1.1 504");
    upload.abort();
}
