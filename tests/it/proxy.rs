//! How requests are framed: what is broken is refused here, what is unusual goes on in one clean form.

use crate::support::client::{self, by, request};
use crate::support::origin::{Exchange, Next, Origin, origin};
use crate::support::sidecar::sidecar;
use crate::support::wire::Framing;
use crate::support::{eventually, h2};

const HEAD: &str = "POST /x HTTP/1.1\r\nhost: gate.test\r\n";

// One row a line reads as the table that it is.
#[rustfmt::skip]
const BROKEN: [(&str, &str); 25] = [
    ("different lengths", "content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
    ("different lengths in one field", "content-length: 3, 4\r\n\r\nabcd"),
    ("a length with a sign", "content-length: +3\r\n\r\nabc"),
    ("a negative length", "content-length: -3\r\n\r\nabc"),
    ("a length in hexadecimal", "content-length: 0x3\r\n\r\nabc"),
    ("a huge length", "content-length: 99999999999999999999\r\n\r\nabc"),
    ("a bare CR", "x-a: a\rb\r\n\r\n"),
    ("a NUL", "x-a: a\0b\r\n\r\n"),
    ("a folded line", "x-a: a\r\n b\r\n\r\n"),
    ("a space before the colon", "content-length : 3\r\n\r\nabc"),
    ("no colon", "nonsense\r\n\r\n"),
    ("a field without a name", ": 3\r\n\r\n"),
    ("chunked that is not last", "transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("an unknown coding", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("a bad chunk size", "transfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"),
    ("a signed chunk size", "transfer-encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n"),
    ("a huge chunk size", "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n"),
    ("two hosts", "host: b\r\n\r\n"),
    ("no host", "GET / HTTP/1.1\r\nx-a: b\r\n\r\n"),
    ("a host that is none", "GET / HTTP/1.1\r\nhost: a b/c\r\n\r\n"),
    ("a target without a slash", "GET x HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("an unknown version", "GET / HTTP/9.9\r\nhost: a\r\n\r\n"),
    ("a method that is no token", "G@T / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("an escaped slash", "GET /a%2fb HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a climb above the root", "GET /../x HTTP/1.1\r\nhost: a\r\n\r\n"),
];

// G8 (framing): a head or a first chunk that parsers disagree about is 400, and the origin never hears of it.
#[tokio::test]
async fn broken_framing_is_refused_before_the_origin() {
    let origin = origin();
    let gate = sidecar("limits: [{ name: all, per: [], max: 5 }]")
        .before(&origin)
        .start()
        .await;
    let mut passed = Vec::new();
    for (what, bytes) in BROKEN {
        let before = origin.heads().len();
        let mut client = gate.connect().await;
        let head = if bytes.starts_with('G') { "" } else { HEAD };
        client.send(format!("{head}{bytes}")).await;
        let (status, _) = client.head().await;
        let reached = origin.heads().len() - before;
        if (status, reached) != (400, 0) {
            passed.push((what, status, reached));
        }
    }
    assert!(
        passed.is_empty(),
        "not refused, or reached the origin: {passed:?}"
    );
    gate.until_idle().await;
}

#[rustfmt::skip]
const UNUSUAL: [(&str, &str, &str); 7] = [
    ("equal lengths", "content-length: 3\r\ncontent-length: 3\r\n\r\nabc", "abc"),
    ("a length beside chunks", "content-length: 30\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
    ("chunks beside a length", "transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
    ("extensions of chunks", "transfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n", "abc"),
    ("chunked in capitals", "Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
    ("an empty body in chunks", "transfer-encoding: chunked\r\n\r\n0\r\n\r\n", ""),
    ("an empty body with a length", "content-length: 0\r\n\r\n", ""),
];

// Framing: what is unusual and plain goes on with one length or in chunks, never both and never twice.
#[tokio::test]
async fn unusual_framing_goes_on_in_one_clean_form() {
    let origin = origin();
    let gate = sidecar("").before(&origin).start().await;
    for (what, bytes, body) in UNUSUAL {
        let mut client = gate.connect().await;
        client.send(format!("{HEAD}{bytes}")).await;
        assert_eq!(client.response().await.status, 200, "{what}");
        let head = origin.last();
        let lengths: Vec<_> = head.all("content-length").collect();
        let codings: Vec<_> = head.all("transfer-encoding").collect();
        assert_eq!(lengths.len() + codings.len(), 1, "{what}: {}", head.raw);
        assert!(
            lengths
                .iter()
                .all(|length| *length == body.len().to_string()),
            "{}",
            head.raw
        );
        assert_eq!(origin.last_body().bytes, body.as_bytes(), "{what}");
        // A length beside chunks is suspect enough to end the connection (RFC 9112 §6.1).
        if bytes.contains("length") && bytes.contains("ncoding") {
            continue;
        }
        let again = client.get("/again", &[]).await;
        assert_eq!(again.status, 200, "{what}: the connection goes on");
    }
}

// Framing: a chunk that breaks later cuts the origin's body without an end, and closes the client.
#[tokio::test]
async fn a_broken_later_chunk_never_looks_whole() {
    let origin = origin();
    let gate = sidecar("limits: [{ name: all, per: [], max: 5 }]")
        .before(&origin)
        .start()
        .await;
    let mut client = gate.connect().await;
    client
        .send(format!(
            "{HEAD}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
        ))
        .await;
    origin.until_in_flight(1).await;
    client
        .send("zz\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    let answer = client.until_closed().await;
    assert!(
        !answer.starts_with(b"HTTP/1.1 2"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    eventually("the origin's cut", async || origin.cut() == 1).await;
    assert_eq!(origin.heads().len(), 1);
    gate.until_idle().await;
}

// Framing: the head, the length and the absence of a body are told truly for HEAD, 204 and 304.
#[tokio::test]
async fn responses_without_a_body_have_none() {
    let origin = Origin::start(async |exchange: &mut Exchange| match exchange.target() {
        "/204" => exchange.raw("HTTP/1.1 204 No Content\r\n\r\n").await,
        "/304" => {
            exchange
                .raw("HTTP/1.1 304 Not Modified\r\netag: \"e\"\r\n\r\n")
                .await
        }
        "/head" => {
            exchange
                .raw("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n")
                .await
        }
        _ => exchange.reply(200, "next").await,
    });
    let gate = sidecar("limits: [{ name: all, per: [], max: 1 }]")
        .before(&origin)
        .start()
        .await;
    let mut client = gate.connect().await;
    for (method, path, status) in [
        ("GET", "/204", 204),
        ("GET", "/304", 304),
        ("HEAD", "/head", 200),
    ] {
        let response = client.ask(method, path, &[], "").await;
        assert_eq!(response.status, status);
        assert!(response.body.bytes.is_empty());
        if method == "HEAD" {
            assert_eq!(response.field("content-length"), "1234");
        }
        assert_eq!(
            client.get("/next", &[]).await.text(),
            "next",
            "after {path}"
        );
    }
    gate.until_idle().await;
}

// Framing: chunks both ways, and trailers both ways for who asks for them.
#[tokio::test]
async fn chunks_and_trailers_pass_both_ways() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        exchange
            .raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n")
            .await?;
        exchange.chunk("one").await?;
        exchange.raw("3\r\ntwo\r\n0\r\nx-sum: 6\r\n\r\n").await
    });
    let gate = sidecar("").before(&origin).start().await;
    let mut client = gate.connect().await;
    client
        .send(format!(
            "{HEAD}te: trailers\r\nconnection: te\r\ntrailer: x-check\r\ntransfer-encoding: chunked\r\n\r\n\
             2\r\nup\r\n4\r\nload\r\n0\r\nx-check: 7\r\n\r\n"
        ))
        .await;
    let response = client.response().await;
    assert_eq!(response.text(), "onetwo");
    assert_eq!(
        response.body.trailers,
        [("x-sum".to_owned(), "6".to_owned())]
    );
    let body = origin.last_body();
    assert_eq!(body.bytes, b"upload");
    assert_eq!(body.trailers, [("x-check".to_owned(), "7".to_owned())]);
}

// Framing: `Expect` is answered here, after the permit and never before; the origin does not see it.
#[tokio::test]
async fn a_body_is_asked_for_only_once_admitted() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        exchange.hold().await?;
        exchange.reply(200, "ok").await
    });
    let gate = sidecar("limits: [{ name: all, per: [], max: 1 }]")
        .before(&origin)
        .start()
        .await;
    let expecting = format!("{HEAD}expect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    let mut admitted = gate.connect().await;
    admitted.send(&expecting).await;
    assert_eq!(admitted.head().await.0, 100);
    admitted.send("abc").await;
    origin.until_in_flight(1).await;
    assert!(origin.last().get("expect").is_none());
    let mut refused = gate.connect().await;
    refused.send(&expecting).await;
    assert_eq!(refused.head().await.0, 503);
    origin.open();
    assert_eq!(admitted.response().await.status, 200);
    assert_eq!(origin.last_body().bytes, b"abc");
    assert_eq!(origin.heads().len(), 1);
}

// Framing: pipelined requests are answered in order.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        let target = exchange.target().to_owned();
        exchange.reply(200, &target).await
    });
    let gate = sidecar("limits: [{ name: account, per: [account], max: 1 }]").before(&origin);
    let gate = gate.start().await;
    let mut client = gate.connect().await;
    let three = ["/1", "/2", "/3"].map(|path| request("POST", path, &by("A"), "body"));
    client.send(three.concat()).await;
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.response().await.text(), path);
    }
    gate.until_idle().await;
}

// Framing: HTTP/1.0 gets no chunks and a close.
#[tokio::test]
async fn an_old_client_is_answered_in_its_own_version() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange
            .raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        exchange.chunk("old").await?;
        exchange.raw("0\r\n\r\n").await
    });
    let gate = sidecar("").before(&origin).start().await;
    for host in ["host: gate.test\r\n", ""] {
        let mut client = gate.connect().await;
        client.send(format!("GET / HTTP/1.0\r\n{host}\r\n")).await;
        let (status, head) = client.head().await;
        assert_eq!(status, 200, "{}", head.raw);
        assert!(head.get("transfer-encoding").is_none(), "{}", head.raw);
        assert_eq!(client.until_closed().await, b"old");
        assert!(origin.last().start.ends_with("HTTP/1.1"));
    }
}

// Bounds: bodies and heads beyond their maximum are 413 and 431.
#[tokio::test]
async fn what_is_too_large_is_refused() {
    let origin = origin();
    let gate = sidecar(
        "server: { threads: 2, listeners: [{ address: \"127.0.0.1:0\" }], \
         max_body: 1KiB, max_head: 16KiB }\n\
         limits: [{ name: all, per: [], max: 5 }]",
    );
    let gate = gate.before(&origin).start().await;
    let large = "x".repeat(2_000);
    let told = client::ask(&gate.address, "POST", "/", &by("A"), &large).await;
    assert_eq!(told.status, 413);
    assert_eq!(origin.heads().len(), 0);
    let fits = client::ask(&gate.address, "POST", "/", &by("A"), &large[..1_024]).await;
    assert_eq!(fits.status, 200);

    let mut client = gate.connect().await;
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1_024));
    client
        .send(format!(
            "{HEAD}transfer-encoding: chunked\r\n\r\n{chunk}{chunk}"
        ))
        .await;
    assert_eq!(client.head().await.0, 413);

    let mut client = gate.connect().await;
    client
        .send(format!(
            "GET / HTTP/1.1\r\nhost: a\r\nx-large: {}\r\n\r\n",
            "x".repeat(40_000)
        ))
        .await;
    assert_eq!(client.head().await.0, 431);
    gate.until_idle().await;
}

// Bounds: a head that never ends, a silent connection and an idle HTTP/2 connection are closed.
#[tokio::test]
async fn slow_and_silent_connections_are_closed() {
    let origin = origin();
    let gate = sidecar(
        "server: { threads: 2, listeners: [{ address: \"127.0.0.1:0\" }], \
         header_timeout: 200ms, keep_alive: 400ms }",
    );
    let gate = gate.before(&origin).start().await;
    for begun in [
        "",
        "GET",
        "PR",
        "PRI * HTTP/2.0\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-a:",
    ] {
        let mut client = gate.connect().await;
        client.send(begun).await;
        let answer = client.until_closed().await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{begun:?}");
    }
    let mut idle = gate.connect().await;
    assert_eq!(idle.get("/", &[]).await.status, 200);
    idle.until_closed().await;
    let mut idle = h2::Connection::open(&gate.address).await;
    assert_eq!(idle.get("/", "A").await.0.status, 200);
    eventually("the idle HTTP/2 connection's end", async || {
        idle.task.is_finished()
    })
    .await;
    assert_eq!(origin.heads().len(), 2);
}

// HTTP/2 by prior knowledge: bodies, trailers and many streams; the origin sees plain HTTP/1.1.
#[tokio::test]
async fn http2_is_spoken_by_prior_knowledge() {
    use http_body_util::BodyExt as _;
    let origin = Origin::start(async |exchange: &mut Exchange| {
        let body = exchange
            .wire
            .body(Framing::of_request(&exchange.head))
            .await?;
        exchange
            .raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n")
            .await?;
        exchange
            .chunk(&format!("{} bytes", body.bytes.len()))
            .await?;
        exchange.raw("0\r\nx-sum: 1\r\n\r\n").await?;
        Ok(Next::Keep)
    });
    let gate = sidecar("limits: [{ name: account, per: [account], max: 50 }]").before(&origin);
    let gate = gate.start().await;
    let client = h2::Connection::open(&gate.address).await;
    let streams = (0..40).map(|index| {
        let mut sender = client.sender.clone();
        tokio::spawn(async move {
            let uri = format!("http://gate.test/{index}");
            let request = http::Request::post(uri).header("te", "trailers");
            let request = request.body(h2::whole("twelve bytes")).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(
                body.trailers().map(|trailers| trailers["x-sum"] == "1"),
                Some(true)
            );
            assert_eq!(body.to_bytes(), "12 bytes");
        })
    });
    for stream in streams.collect::<Vec<_>>() {
        stream.await.unwrap();
    }
    let head = origin.last();
    assert!(head.start.ends_with("HTTP/1.1"), "{}", head.raw);
    assert_eq!(head.all("host").collect::<Vec<_>>(), ["gate.test"]);
    gate.until_idle().await;
}
