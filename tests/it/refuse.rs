//! What a refused client is told, and that nobody else hears of its request.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use crate::support::client::{self, Connection, Response, by, request};
use crate::support::origin::{Exchange, Origin, held_origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::{h2, within};

const CALLS: &str = "resources: [{ name: calls, match: { path: \"/calls\" }, upstream: api }]\n\
                     default_upstream: api\n\
                     limits: [{ name: calls-per-account, per: [account, resource], max: 1 }]";

/// A gate whose only place for A's calls is taken.
async fn full(origin: &Origin, yaml: &str) -> (Sidecar, Connection) {
    let gate = sidecar(yaml).before(origin).start().await;
    let mut holder = gate.connect().await;
    holder.send_get("/calls", &by("A")).await;
    origin.until_in_flight(1).await;
    (gate, holder)
}

fn seconds(response: &Response) -> u64 {
    response
        .field("retry-after")
        .parse()
        .expect("whole seconds")
}

// A14, G8, G9, A32: the refusal names code, reason, limit, account and resource, and when to come back.
#[tokio::test]
async fn a_refusal_says_why_and_when_to_come_back() {
    let origin = held_origin();
    let (gate, _holder) = full(&origin, CALLS).await;
    let refused = gate.get("/calls", "A").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.field("content-type"), "application/problem+json");
    assert_eq!(refused.field("x-admission-reason"), "limit_reached");
    assert_eq!(refused.field("x-concurrent-requests"), "1");
    let wait = seconds(&refused);
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(
        refused.field("ratelimit-policy"),
        "\"calls-per-account\";q=1;qu=\"concurrent-requests\""
    );
    assert_eq!(
        refused.field("ratelimit"),
        format!("\"calls-per-account\";r=0;t={wait}")
    );
    let body = refused.json();
    let expected = serde_json::json!({
        "type": "urn:tidegate:limit_reached", "status": 429, "code": 20429,
        "reason": "limit_reached", "limit": "calls-per-account", "max": 1, "in_flight": 1,
        "account": "A", "resource": "calls", "retry_after": wait,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&body[name], value, "{name} in {body}");
    }
    for text in ["title", "detail"] {
        assert!(
            body[text].as_str().is_some_and(|text| !text.is_empty()),
            "{text} in {body}"
        );
    }
    assert_eq!(origin.heads().len(), 1, "the origin heard of it");
    assert_eq!(gate.limit("calls-per-account").await["in_flight"], 1);
}

// A14: the status is as configured, and the code follows it.
#[tokio::test]
async fn the_status_is_as_configured() {
    let origin = held_origin();
    let yaml = CALLS.replace(
        "max: 1 }",
        "max: 1, when_full: [{ reject: { status: 503 } }] }",
    );
    let (gate, _holder) = full(&origin, &yaml).await;
    let refused = gate.get("/calls", "A").await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (503, &20503.into())
    );
}

// A14: a refusal needs no body, and a body that comes anyway does not eat the answer.
#[tokio::test]
async fn a_refusal_does_not_wait_for_the_body() {
    let origin = held_origin();
    let (gate, _holder) = full(&origin, CALLS).await;
    let mut client = gate.connect().await;
    client
        .send("POST /calls HTTP/1.1\r\nhost: a\r\nx-account: A\r\ncontent-length: 10000000\r\n\r\n")
        .await;
    assert_eq!(
        client.response().await.status,
        429,
        "no byte of the body was sent"
    );

    let mut client = gate.connect().await;
    client
        .send(request("POST", "/calls", &by("A"), &"x".repeat(100_000)))
        .await;
    assert_eq!(
        client.response().await.status,
        429,
        "all of a modest body was sent"
    );
    let next = client.get("/calls", &by("A")).await;
    assert_eq!(
        next.status, 429,
        "the connection goes on behind a drained body"
    );

    // The gate may close while the rest is still on its way; the answer must arrive all the same.
    let mut client = gate.connect().await;
    let large = request("POST", "/calls", &by("A"), &"x".repeat(220_000));
    let sent = client.wire.send(large).await;
    assert_eq!(client.response().await.status, 429, "{sent:?}");
    assert_eq!(origin.heads().len(), 1);
}

// G9: the advice follows what places really take, is never shorter, and at most half as long again.
#[tokio::test]
async fn the_advice_follows_the_drain_rate() {
    const HOLD: Duration = Duration::from_millis(2_100);
    let origin = Origin::start(async |exchange: &mut Exchange| {
        tokio::time::sleep(HOLD).await;
        exchange.reply(200, "ok").await
    });
    let gate = sidecar(CALLS).before(&origin).start().await;
    assert_eq!(gate.get("/calls", "A").await.status, 200);
    let mut holder = gate.connect().await;
    holder.send_get("/calls", &by("A")).await;
    origin.until_in_flight(1).await;
    for _ in 0..20 {
        let wait = seconds(&gate.get("/calls", "A").await);
        assert!((3..=5).contains(&wait), "{wait}");
    }
}

// G8: a gRPC client gets trailers only: status 8 and the time to push back, in either protocol.
#[tokio::test]
async fn a_grpc_client_is_refused_in_its_own_words() {
    let origin = held_origin();
    let (gate, _holder) = full(&origin, CALLS).await;
    let mut client = h2::Connection::open(&gate.address).await;
    let request = http::Request::post("http://gate.test/calls")
        .header("x-account", "A")
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    let response = client
        .send(request.body(h2::whole("\0\0\0\0\0")).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(
        response.body().is_end_stream(),
        "trailers only: one header block ends the stream"
    );
    let said = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    assert_eq!(said("grpc-status"), Some("8"));
    assert!(said("grpc-message").is_some_and(|text| text.contains("calls-per-account")));
    assert!(said("content-type").is_some_and(|text| text.starts_with("application/grpc")));
    let pushback = said("grpc-retry-pushback-ms").and_then(|text| text.parse::<u64>().ok());
    assert!(
        pushback.is_some_and(|pushback| (1_000..=30_000).contains(&pushback)),
        "{pushback:?}"
    );
    let body = within("no body", response.into_body().collect())
        .await
        .unwrap();
    assert!(body.to_bytes().is_empty());

    let fields = [("x-account", "A"), ("content-type", "application/grpc")];
    let old = client::ask(&gate.address, "POST", "/calls", &fields, "12345").await;
    assert_eq!(
        (old.status, old.field("grpc-status"), old.text().as_str()),
        (200, "8", "")
    );
}

// G8, A31: the gate's other refusals have the same shape, in both forms.
#[tokio::test]
async fn all_refusals_have_one_shape() {
    let origin = held_origin();
    let gate = sidecar(
        "accounts: { identify: [{ jwt: { claim: sub, keys: [k] } }, { header: x-account }] }\n\
         keys: { k: { algorithm: HS256, secret: { env: THE_SECRET } } }",
    );
    let gate = gate
        .env("THE_SECRET", "0123456789abcdef0123456789abcdef")
        .before(&origin)
        .start()
        .await;
    let long = "x".repeat(129);
    let table = [
        (
            "/",
            ("x-account", "with space"),
            400,
            "account_invalid",
            "3",
        ),
        ("/", ("x-account", "qu\"ote"), 400, "account_invalid", "3"),
        (
            "/",
            ("x-account", long.as_str()),
            400,
            "account_invalid",
            "3",
        ),
        ("/", ("x-account", ""), 400, "account_invalid", "3"),
        ("/a%2fb", ("x-account", "A"), 400, "path_invalid", "3"),
        ("/a%00b", ("x-account", "A"), 400, "path_invalid", "3"),
        ("/a/../../b", ("x-account", "A"), 400, "path_invalid", "3"),
        (
            "/",
            ("authorization", "Bearer not.a.token"),
            401,
            "unauthorized",
            "16",
        ),
    ];
    for (path, field, status, reason, grpc) in table {
        let refused = client::get(&gate.address, path, &[field]).await;
        assert_eq!(refused.status, status, "{path} {field:?}");
        assert_eq!(refused.field("content-type"), "application/problem+json");
        assert_eq!(refused.field("x-admission-reason"), reason);
        let body = refused.json();
        assert_eq!(body["type"], format!("urn:tidegate:{reason}"));
        assert_eq!(
            (&body["code"], &body["status"]),
            (&(status + 20_000).into(), &status.into())
        );
        assert!(
            !refused.text().contains("not.a.token"),
            "a credential is never told"
        );
        let fields = [field, ("content-type", "application/grpc")];
        let refused = client::get(&gate.address, path, &fields).await;
        assert_eq!(
            (refused.status, refused.field("grpc-status")),
            (200, grpc),
            "{reason}"
        );
    }
    assert_eq!(origin.heads().len(), 0);
    gate.until_idle().await;
}
