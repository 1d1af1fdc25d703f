//! Origins that misbehave, and what their clients are told.

use crate::support::client::{self, by};
use crate::support::origin::{Exchange, Next, Origin, origin};
use crate::support::sidecar::sidecar;
use crate::support::{eventually, wire};

/// An upstream that fails soon, so that a test need not wait.
fn impatient(address: &str) -> String {
    format!(
        "upstreams: {{ api: {{ endpoints: [\"{address}\"], connect_timeout: 300ms, \
         response_timeout: 300ms, idle_timeout: 300ms }} }}\n\
         limits: [{{ name: account, per: [account], max: 1 }}]"
    )
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

// A3, G8: refused, broken and silent origins are 502, 502 and 504, with the reason, and give the place back.
#[tokio::test]
async fn failures_of_the_origin_have_a_status_and_a_reason() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        match exchange.target() {
            "/nonsense" => {
                exchange.raw("SSH-2.0-OpenSSH\r\n\r\n").await?;
            }
            "/hang" => exchange.until_closed().await,
            _ => {}
        }
        Ok(Next::Close)
    });
    let gate = sidecar(&impatient(&origin.address)).start().await;
    let deaf = sidecar(&impatient(&nobody())).start().await;
    let table = [
        (&deaf, "POST", "/", 502, "upstream_unreachable"),
        (&gate, "POST", "/close", 502, "upstream_broke"),
        (&gate, "POST", "/nonsense", 502, "upstream_broke"),
        (&gate, "POST", "/hang", 504, "upstream_timeout"),
    ];
    for (gate, method, path, status, reason) in table {
        let answer = client::ask(&gate.address, method, path, &by("A"), "body").await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.field("content-type"), "application/problem+json");
        assert_eq!(answer.field("x-admission-reason"), reason);
        assert_eq!(answer.field("x-concurrent-requests"), "1");
        let body = answer.json();
        assert_eq!(body["reason"], reason, "{body}");
        assert_eq!(body["type"], format!("urn:tidegate:{reason}"));
        assert_eq!(
            (&body["status"], &body["code"]),
            (&status.into(), &(status + 20_000).into())
        );
        gate.until_idle().await;
    }
}

// A3: an origin that falls silent within its body is cut, and the client sees a broken body, not a whole one.
#[tokio::test]
async fn a_body_that_stops_is_cut() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange
            .raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        exchange.chunk("begun").await?;
        exchange.until_closed().await;
        Ok(Next::Close)
    });
    let gate = sidecar(&impatient(&origin.address)).start().await;
    let mut client = gate.connect().await;
    client.send_get("/", &by("A")).await;
    assert_eq!(client.head().await.0, 200);
    let rest = client.until_closed().await;
    let rest = String::from_utf8_lossy(&rest);
    assert!(
        rest.contains("begun") && !rest.contains("0\r\n\r\n"),
        "{rest}"
    );
    gate.until_idle().await;
}

// A3: an early answer while the client still uploads is passed on.
#[tokio::test]
async fn an_early_answer_is_passed_on_during_the_upload() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange
            .raw("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig")
            .await?;
        exchange.until_closed().await;
        Ok(Next::Close)
    });
    let gate = sidecar("limits: [{ name: account, per: [account], max: 1 }]").before(&origin);
    let gate = gate.start().await;
    let mut client = gate.connect().await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\nx-account: A\r\ncontent-length: 100000\r\n\r\n")
        .await;
    client.send("x".repeat(1_000)).await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (413, "big"));
    drop(client);
    gate.until_idle().await;
}

// Upstream pool: a connection that died while idle costs a GET nothing; a POST whose body went out is not sent twice.
#[tokio::test]
async fn a_dead_pooled_connection_is_retried_once_where_that_is_safe() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        match exchange.target() {
            // The connection dies when the next request comes, not before.
            "/last" => {
                exchange.reply(200, "last").await?;
                exchange.wire.some().await?;
                exchange.count("wasted");
                Ok(Next::Close)
            }
            _ => exchange.reply(200, "ok").await,
        }
    });
    let gate = sidecar(
        "server: { threads: 1, listeners: [{ address: \"127.0.0.1:0\" }] }\n\
         limits: [{ name: account, per: [account], max: 1 }]",
    );
    let gate = gate.before(&origin).start().await;
    assert_eq!(gate.get("/last", "A").await.text(), "last");
    let retried = gate.get("/retried", "A").await;
    assert_eq!((retried.status, retried.text().as_str()), (200, "ok"));
    assert_eq!((origin.connections(), origin.counted("wasted")), (2, 1));
    assert_eq!(gate.get("/last", "A").await.text(), "last");
    let posted = client::ask(&gate.address, "POST", "/", &by("A"), "once").await;
    assert_eq!(
        (posted.status, posted.field("x-admission-reason")),
        (502, "upstream_broke")
    );
    assert_eq!(origin.counted("wasted"), 2);
    assert!(
        origin
            .heads()
            .iter()
            .all(|head| !head.start.starts_with("POST"))
    );
    gate.until_idle().await;
}

// Upstream pool: connections are reused, and one that the origin closed while idle is never used.
#[tokio::test]
async fn connections_to_the_origin_are_reused() {
    let origin = origin();
    let gate = sidecar("server: { threads: 1, listeners: [{ address: \"127.0.0.1:0\" }] }");
    let gate = gate.before(&origin).start().await;
    for _ in 0..50 {
        assert_eq!(gate.get("/", "A").await.status, 200);
    }
    assert_eq!((origin.connections(), origin.heads().len()), (1, 50));
}

// Upstream pool: a connection that came back broken or half-read is not used again.
#[tokio::test]
async fn a_connection_that_says_close_is_not_reused() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange
            .raw("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
            .await?;
        Ok(Next::Close)
    });
    let gate = sidecar("").before(&origin).start().await;
    let mut client = gate.connect().await;
    for _ in 0..20 {
        let response = client.ask("POST", "/", &by("A"), "body").await;
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }
    assert_eq!(origin.connections(), 20);
}

// Sockets: Unix sockets on both sides; the listener's file has a safe mode and only a dead socket is replaced.
#[tokio::test]
async fn unix_sockets_work_on_both_sides() {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    let plan = sidecar(
        "server: { threads: 2, listeners: [{ address: \"unix:$DIR/gate.sock\" }, \
         { address: \"127.0.0.1:0\" }] }",
    );
    let origin = Origin::start_unix(&plan.directory().join("origin.sock"), async |exchange| {
        exchange.body().await?;
        exchange.reply(200, "over a socket").await
    });
    let gate = plan.before(&origin).start().await;
    assert_eq!(gate.listeners.len(), 2, "{:?}", gate.listeners);
    for address in &gate.listeners {
        let response = client::ask(address, "POST", "/", &by("A"), "body").await;
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "over a socket"),
            "{address}"
        );
    }
    let socket = std::fs::metadata(gate.directory().join("gate.sock")).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o007, 0, "others may connect");
}

// Streaming: back-pressure reaches the origin, so that nothing is held whole.
#[tokio::test]
async fn a_slow_reader_slows_the_origin() {
    const CHUNK: usize = 64 * 1024;
    const CHUNKS: usize = 2_000;
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange
            .raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        let chunk = "x".repeat(CHUNK);
        for _ in 0..CHUNKS {
            exchange.chunk(&chunk).await?;
            exchange.count("chunks");
        }
        exchange.raw("0\r\n\r\n").await
    });
    let gate = sidecar("").before(&origin).start().await;
    let before = gate.resident_kib();
    let mut client = gate.connect().await;
    client.send_get("/", &by("A")).await;
    let (_, head) = client.head().await;
    // Nothing is read for as long as the origin still gets rid of something.
    let mut last = usize::MAX;
    eventually("the origin to be held up", async || {
        let sent = origin.counted("chunks");
        let stands = sent == last;
        last = sent;
        tokio::task::yield_now().await;
        stands && sent > 0
    })
    .await;
    assert!(last < CHUNKS, "{last} chunks of {CHUNK} bytes went nowhere");
    assert!(
        gate.resident_kib() < before + 32 * 1024,
        "{} KiB",
        gate.resident_kib()
    );
    let framing = wire::Framing::of_response(&head, 200, "GET");
    let body = client.wire.body(framing).await.unwrap();
    assert_eq!(body.bytes.len(), CHUNK * CHUNKS);
}
