//! What becomes of header fields and targets on their way through.

use crate::support::client::{self, by};
use crate::support::h2;
use crate::support::origin::{Exchange, Origin, origin};
use crate::support::sidecar::sidecar;

// Headers: hop-by-hop fields, and those that `Connection` names, end here in both directions.
#[tokio::test]
async fn hop_by_hop_fields_end_here() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange
            .raw(
                "HTTP/1.1 200 OK\r\nconnection: x-bar, keep-alive\r\nx-bar: 1\r\nkeep-alive: timeout=5\r\n\
                 proxy-connection: keep-alive\r\nx-kept: yes\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\
                 content-length: 2\r\n\r\nok",
            )
            .await
    });
    let gate = sidecar("").before(&origin).start().await;
    let mut client = gate.connect().await;
    let fields = [
        ("connection", "x-foo, Keep-Alive, close"),
        ("x-foo", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("x-kept", "yes"),
    ];
    let response = client.get("/", &fields).await;
    let seen = origin.last();
    for gone in ["x-foo", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(seen.get(gone).is_none(), "{gone} in {}", seen.raw);
    }
    assert!(
        !seen.says("te", "gzip") && !seen.says("connection", "x-foo"),
        "{}",
        seen.raw
    );
    assert_eq!(seen.get("x-kept"), Some("yes"));
    for gone in ["x-bar", "keep-alive", "proxy-connection"] {
        assert!(
            response.head.get(gone).is_none(),
            "{gone} in {}",
            response.head.raw
        );
    }
    assert_eq!(response.field("x-kept"), "yes");
    assert_eq!(
        response.head.all("set-cookie").collect::<Vec<_>>(),
        ["a=1", "b=2"]
    );
}

// Headers: what the gate says to the upstream cannot be said by a client.
#[tokio::test]
async fn a_client_cannot_speak_for_the_gate() {
    let origin = origin();
    let gate = sidecar("").before(&origin).start().await;
    let fields = [
        ("x-account", "A"),
        ("x-admission-account", "EVIL"),
        ("X-Admission-Resource", "evil"),
        ("x-admission-lease", "evil"),
        ("x-admission-mark", "evil"),
    ];
    assert_eq!(client::get(&gate.address, "/", &fields).await.status, 200);
    let seen = origin.last();
    assert_eq!(seen.all("x-admission-account").collect::<Vec<_>>(), ["A"]);
    assert_eq!(
        seen.all("x-admission-resource").collect::<Vec<_>>(),
        ["other"]
    );
    assert!(
        !seen.raw.to_ascii_lowercase().contains("evil"),
        "{}",
        seen.raw
    );
}

// Headers: targets and hosts in all their forms reach the origin in one.
#[tokio::test]
async fn targets_and_hosts_reach_the_origin_in_one_form() {
    let origin = origin();
    let gate = sidecar("").before(&origin).start().await;
    let table = [
        (
            "GET /a?b=c%20d HTTP/1.1\r\nhost: a.test:81\r\n\r\n",
            "GET /a?b=c%20d HTTP/1.1",
            "a.test:81",
        ),
        (
            "GET http://other.test/x?y HTTP/1.1\r\nhost: a.test\r\n\r\n",
            "GET /x?y HTTP/1.1",
            "other.test",
        ),
        (
            "GET http://other.test HTTP/1.1\r\nhost: a.test\r\n\r\n",
            "GET / HTTP/1.1",
            "other.test",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n",
            "OPTIONS * HTTP/1.1",
            "a.test",
        ),
        // Forwarded as received, whatever it was matched as.
        (
            "GET /%7Ea/./b//c HTTP/1.1\r\nhost: a.test\r\n\r\n",
            "GET /%7Ea/./b//c HTTP/1.1",
            "a.test",
        ),
    ];
    for (sent, start, host) in table {
        let mut client = gate.connect().await;
        client.send(sent).await;
        assert_eq!(client.response().await.status, 200, "{sent}");
        let seen = origin.last();
        assert_eq!(seen.start, start);
        assert_eq!(seen.all("host").collect::<Vec<_>>(), [host], "{sent}");
    }
    let mut client = gate.connect().await;
    client
        .send("CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")
        .await;
    assert!(client.head().await.0 >= 400, "no tunnel for CONNECT");
    assert_eq!(origin.heads().len(), table.len());

    let yaml = format!(
        "upstreams: {{ api: {{ endpoints: [\"{}\"], host: api.internal }} }}",
        origin.address
    );
    let gate = sidecar(&yaml).start().await;
    assert_eq!(gate.get("/", "A").await.status, 200);
    assert_eq!(
        origin.last().all("host").collect::<Vec<_>>(),
        ["api.internal"]
    );
    assert_eq!(origin.last().get("x-forwarded-host"), Some("gate.test"));
}

// Headers: forwarded-for fields of strangers are replaced, those of trusted proxies extended.
#[tokio::test]
async fn forwarded_fields_are_believed_from_trusted_proxies_only() {
    let origin = origin();
    let fields = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
    ];
    let seen = async |server: &str| {
        let gate = sidecar(server).before(&origin).start().await;
        assert_eq!(client::get(&gate.address, "/", &fields).await.status, 200);
        let head = origin.last();
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
            .map(|name| head.all(name).collect::<Vec<_>>().join(", "))
    };
    assert_eq!(seen("").await, ["127.0.0.1", "http", "gate.test"]);
    let trusting = "server: { threads: 2, listeners: [{ address: \"127.0.0.1:0\" }], \
                    trusted_proxies: [127.0.0.0/8] }";
    assert_eq!(
        seen(trusting).await,
        ["203.0.113.9, 127.0.0.1", "https", "shop.example"]
    );
}

// Headers: a request id is kept or made, and a trace goes on.
#[tokio::test]
async fn a_request_id_is_kept_or_made() {
    let origin = origin();
    let gate = sidecar("").before(&origin).start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let fields = [("x-request-id", "mine-1"), ("traceparent", trace)];
    client::get(&gate.address, "/", &fields).await;
    assert_eq!(
        origin.last().all("x-request-id").collect::<Vec<_>>(),
        ["mine-1"]
    );
    assert_eq!(origin.last().get("traceparent"), Some(trace));
    let mut made = Vec::new();
    for _ in 0..2 {
        gate.get("/", "A").await;
        made.push(origin.last().get("x-request-id").map(str::to_owned));
    }
    assert!(
        made[0].as_ref().is_some_and(|id| !id.is_empty()) && made[0] != made[1],
        "{made:?}"
    );
}

// Headers: several cookies of HTTP/2 are one field in HTTP/1.1.
#[tokio::test]
async fn cookies_of_http2_are_joined() {
    let origin = origin();
    let gate = sidecar("").before(&origin).start().await;
    let mut client = h2::Connection::open(&gate.address).await;
    let mut request = h2::get("/", "A");
    for cookie in ["a=1", "b=2", "c=3"] {
        request
            .headers_mut()
            .append("cookie", http::HeaderValue::from_static(cookie));
    }
    assert_eq!(client.send(request).await.unwrap().status(), 200);
    assert_eq!(
        origin.last().all("cookie").collect::<Vec<_>>(),
        ["a=1; b=2; c=3"]
    );
}

// Headers: curl's offer to upgrade to h2c is no tunnel; the answer is plain HTTP/1.1.
#[tokio::test]
async fn an_offer_of_h2c_is_not_tunnelled() {
    let origin = origin();
    let gate = sidecar("").before(&origin).start().await;
    let mut client = gate.connect().await;
    let fields = [
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
    ];
    let response = client.get("/", &fields).await;
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    let seen = origin.last();
    assert!(
        seen.get("upgrade").is_none() && seen.get("http2-settings").is_none(),
        "{}",
        seen.raw
    );
    assert_eq!(client.get("/again", &by("A")).await.status, 200);
}
