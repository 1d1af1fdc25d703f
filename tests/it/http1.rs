//! HTTP/1 as the gate speaks it with clients: what a byte more or less, sooner or later, must not change.

use crate::support::client::{by, request};
use crate::support::origin::{Exchange, Origin, origin};
use crate::support::sidecar::sidecar;

const ALL: &str = "limits: [{ name: all, per: [], max: 5 }]";

/// An origin that answers with as many bytes as the path says, of the kind that the path says.
fn sizes() -> Origin {
    Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        let target = exchange.target().to_owned();
        let (kind, size) = target[1..].split_once('/').unwrap_or_default();
        let body = pattern(size.parse().unwrap_or_default());
        if kind == "length" {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            return exchange.raw(&(head + &body)).await;
        }
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        exchange.raw(head).await?;
        for piece in body.as_bytes().chunks(10_000) {
            exchange.chunk(std::str::from_utf8(piece).unwrap()).await?;
        }
        exchange.raw("0\r\n\r\n").await
    })
}

fn pattern(length: usize) -> String {
    (0..length)
        .map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap()))
        .collect()
}

// Streaming: whatever its size and framing, an answer arrives whole, and the next one begins where it ends.
#[tokio::test]
async fn answers_of_all_sizes_follow_each_other_on_one_connection() {
    let origin = sizes();
    let gate = sidecar(ALL).before(&origin).start().await;
    let mut client = gate.connect().await;
    let edges = [
        0, 1, 4_095, 4_096, 4_097, 8_192, 32_767, 32_768, 65_536, 65_537, 1_000_000,
    ];
    for kind in ["length", "chunks"] {
        for size in edges {
            let answer = client.get(&format!("/{kind}/{size}"), &by("A")).await;
            assert_eq!(answer.status, 200, "{kind} {size}");
            assert!(answer.text() == pattern(size), "{kind} {size}");
        }
    }
    gate.until_idle().await;
}

// Framing: a request may come in any two pieces.
#[tokio::test]
async fn a_request_may_be_cut_anywhere() {
    let origin = origin();
    let gate = sidecar(ALL).before(&origin).start().await;
    let text = "POST /x HTTP/1.1\r\nHost: gate.test\r\nTE:trailers\r\nx-a:  b \r\ntransfer-encoding: chunked\r\n\r\n\
                3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 1\r\n\r\n";
    let mut client = gate.connect().await;
    for cut in 1..text.len() {
        client.send(&text[..cut]).await;
        tokio::task::yield_now().await;
        client.send(&text[cut..]).await;
        assert_eq!(client.response().await.status, 200, "{cut}");
        let (head, body) = (origin.last(), origin.last_body());
        assert_eq!(body.bytes, b"abcde", "{cut}");
        assert_eq!(
            body.trailers,
            [("x-sum".to_owned(), "1".to_owned())],
            "{cut}"
        );
        assert_eq!(head.all("x-a").collect::<Vec<_>>(), ["b"], "{cut}");
    }
    gate.until_idle().await;
}

const FRAMINGS: [&str; 14] = [
    "",
    "content-length: 0\r\n",
    "content-length: 3\r\n",
    "content-length: 13\r\n",
    "content-length: 3, 3\r\n",
    "content-length: 3 3\r\n",
    "content-length:3\r\n",
    "content-length : 3\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding:\tChunked \r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "transfer-encoding: identity\r\n",
    "x: y\r\n transfer-encoding: chunked\r\n",
    "transfer\u{1}encoding: chunked\r\n",
];

// G8 (framing): however two fields frame a body, the origin sees requests that were asked for, each in one framing, and no body as a head.
#[tokio::test]
async fn no_two_fields_smuggle_a_request() {
    let origin = origin();
    let gate = sidecar(ALL).before(&origin).start().await;
    let behind = "GET /behind HTTP/1.1\r\nhost: gate.test\r\n\r\n";
    for (first, second) in FRAMINGS
        .iter()
        .flat_map(|a| FRAMINGS.iter().map(move |b| (a, b)))
    {
        let mut client = gate.connect().await;
        let head = format!("POST /x HTTP/1.1\r\nhost: gate.test\r\n{first}{second}\r\n");
        client
            .send(format!("{head}3\r\nabc\r\n0\r\n\r\n{behind}"))
            .await;
        // It closes by itself unless it takes everything for whole requests.
        let (status, _) = client.head().await;
        assert!(matches!(status, 200 | 400), "{first}{second}: {status}");
    }
    gate.until_idle().await;
    for head in origin.heads() {
        assert!(
            ["POST /x HTTP/1.1", "GET /behind HTTP/1.1"].contains(&&*head.start),
            "{}",
            head.raw
        );
        let framings = head.all("content-length").count() + head.all("transfer-encoding").count();
        assert!(framings <= 1, "{}", head.raw);
    }
}

// G8 (framing): what stands behind a length beside chunks is not believed (RFC 9112 §6.1).
#[tokio::test]
async fn nothing_is_answered_behind_a_length_beside_chunks() {
    let origin = origin();
    let gate = sidecar(ALL).before(&origin).start().await;
    let mut client = gate.connect().await;
    let two = "POST /x HTTP/1.1\r\nhost: gate.test\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
               3\r\nabc\r\n0\r\n\r\nGET /behind HTTP/1.1\r\nhost: gate.test\r\n\r\n";
    client.send(two).await;
    let answer = client.response().await;
    assert_eq!((answer.status, answer.field("connection")), (200, "close"));
    assert_eq!(client.until_closed().await, b"");
    assert_eq!(origin.heads().len(), 1);
}

// A14: a head that is none is answered in the same form as every refusal, and a client that goes on sending sees it, too.
#[tokio::test]
async fn a_head_that_is_none_is_told_why() {
    let origin = origin();
    let gate = sidecar(ALL).before(&origin).start().await;
    for (text, status) in [
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n".to_owned(), 400),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(100_000)), 431),
    ] {
        let mut client = gate.connect().await;
        client.send(text + &"x".repeat(20_000)).await;
        let answer = client.response().await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.field("x-admission-reason"), "head_invalid");
        assert_eq!(answer.field("content-type"), "application/problem+json");
        assert_eq!(answer.json()["status"], status);
        assert!(client.wire.rest().await.is_ok_and(|rest| rest.is_empty()));
    }
    assert_eq!(origin.heads().len(), 0);
    gate.until_idle().await;
}

// Bounds: a head is as long as `max_head` says, also where that is all that is read at once.
#[tokio::test]
async fn a_short_bound_of_heads_holds() {
    let origin = origin();
    let server = "server: { listeners: [{ address: \"127.0.0.1:0\" }], max_head: 8KiB }\n";
    let gate = sidecar(&(server.to_owned() + ALL))
        .before(&origin)
        .start()
        .await;
    for (length, status) in [(8_000, 200), (8_200, 431)] {
        let mut client = gate.connect().await;
        let long = "x".repeat(length);
        client
            .send(request("GET", "/", &[("x-long", &long)], ""))
            .await;
        assert_eq!(client.response().await.status, status, "{length}");
    }
}

// HTTP/1.0: a body that ends with the connection ends it, whatever the client asked for.
#[tokio::test]
async fn an_old_client_that_wants_to_stay_sees_where_an_answer_ends() {
    let origin = sizes();
    let gate = sidecar(ALL).before(&origin).start().await;
    let old = |path: &str| format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let mut client = gate.connect().await;
    client.send(old("/length/3")).await;
    let answer = client.response().await;
    assert_eq!(
        (answer.text(), answer.field("connection")),
        (pattern(3), "keep-alive")
    );
    client.send(old("/chunks/5000")).await;
    let (status, head) = client.head().await;
    assert_eq!((status, head.get("connection")), (200, Some("close")));
    assert_eq!(client.until_closed().await, pattern(5_000).as_bytes());
}

// Expect: only what RFC 9110 §10.1.1 names is answered, and not to those who would take it for the answer.
#[tokio::test]
async fn nobody_is_told_to_continue_who_did_not_ask() {
    let origin = origin();
    let gate = sidecar(ALL).before(&origin).start().await;
    for (version, expectation, is_told) in [
        ("1.1", "100-Continue", true),
        ("1.1", "a miracle", false),
        ("1.0", "100-continue", false),
    ] {
        let mut client = gate.connect().await;
        let head = format!(
            "POST / HTTP/{version}\r\nhost: gate.test\r\nexpect: {expectation}\r\ncontent-length: 3\r\n\r\n"
        );
        client.send(head).await;
        if is_told {
            assert_eq!(client.head().await.0, 100);
        }
        client.send("abc").await;
        assert_eq!(
            client.response().await.status,
            200,
            "{version} {expectation}"
        );
    }
}

// Bounds: an upload that nobody wants holds its connection for a moment, and not for as long as an idle one may stay.
#[tokio::test]
async fn a_refused_upload_that_stands_still_is_given_up() {
    let origin = origin();
    let gate = sidecar("limits: [{ name: all, per: [], max: 0 }]")
        .before(&origin)
        .start()
        .await;
    let mut client = gate.connect().await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n0123456789")
        .await;
    assert_eq!(client.response().await.status, 503);
    assert_eq!(client.until_closed().await, b"");
}
