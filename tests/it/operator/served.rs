//! How the page's files are served, and who may call what behind it.

use std::fmt::Write as _;

use crate::support::client::{self, Connection, Fields};
use crate::support::sidecar::{Sidecar, sidecar};

const LIMITS: &str = "limits: [{ name: account, per: [account], max: 2 }]";
const FILES: [(&str, &str); 9] = [
    ("/", "text/html; charset=utf-8"),
    ("/page.css", "text/css; charset=utf-8"),
    ("/page.js", "text/javascript; charset=utf-8"),
    ("/dom.js", "text/javascript; charset=utf-8"),
    ("/words.js", "text/javascript; charset=utf-8"),
    ("/link.js", "text/javascript; charset=utf-8"),
    ("/limits.js", "text/javascript; charset=utf-8"),
    ("/work.js", "text/javascript; charset=utf-8"),
    ("/facts.js", "text/javascript; charset=utf-8"),
];

async fn gate(more: &str) -> Sidecar {
    let plan = sidecar(&format!("{more}{LIMITS}")).env("ADMIN_SECRET", "open-sesame-123");
    plan.before_address("127.0.0.1:9").start().await
}

// The page may run its own files and nothing else, is asked about each time, and is not sent again while it is the same.
#[tokio::test]
async fn the_page_is_served_with_a_strict_policy() {
    let gate = gate("").await;
    for (path, kind) in FILES {
        let file = client::get(&gate.admin, path, &[]).await;
        assert_eq!(
            (file.status, file.field("content-type")),
            (200, kind),
            "{path}"
        );
        let policy = file.field("content-security-policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src data:",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ] {
            assert!(
                policy.split("; ").any(|known| known == rule),
                "{rule} in {policy}"
            );
        }
        assert_eq!(file.field("x-content-type-options"), "nosniff");
        assert_eq!(file.field("referrer-policy"), "no-referrer");
        assert_eq!(file.field("cache-control"), "no-cache");
        let tag = file.field("etag").to_owned();
        let weak = format!("\"other\", W/{tag}");
        for known in [&*tag, &*weak] {
            let same = client::get(&gate.admin, path, &[("if-none-match", known)]).await;
            assert_eq!((same.status, same.body.bytes.len()), (304, 0), "{path}");
            assert_eq!(same.field("etag"), tag);
        }
        let other = client::get(&gate.admin, path, &[("if-none-match", "\"other\"")]).await;
        assert_eq!(other.status, 200);
        let head = client::ask(&gate.admin, "HEAD", path, &[], "").await;
        assert_eq!((head.status, head.field("content-type")), (200, kind));
        let post = client::ask(&gate.admin, "POST", path, &[("host", "localhost")], "").await;
        assert!([404, 405].contains(&post.status), "{path}: {}", post.status);
    }
}

// The page works without the network: nothing in its files names another place, or brings styles or scripts inside the markup.
#[tokio::test]
async fn the_page_asks_for_nothing_from_elsewhere() {
    let gate = gate("").await;
    for (path, _) in FILES {
        let text = client::get(&gate.admin, path, &[]).await.text();
        for line in text.lines() {
            let rest = line.replace("http://www.w3.org/2000/svg", "");
            let is_elsewhere = ["http:", "https:", "//cdn", "@import", "url("];
            assert!(
                !is_elsewhere.iter().any(|word| rest.contains(word)),
                "{path}: {line}"
            );
        }
        for word in [
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " style=\"",
            " onclick=",
        ] {
            assert!(!text.contains(word), "{word} in {path}");
        }
    }
}

// The page holds nothing, so it comes without the token; all that it shows needs it.
#[tokio::test]
async fn the_page_comes_without_the_token_and_its_data_does_not() {
    let gate = gate("admin: { address: \"127.0.0.1:0\", token: { env: ADMIN_SECRET } }\n").await;
    for (path, _) in FILES {
        let file = client::get(&gate.admin, path, &[]).await;
        assert_eq!(file.status, 200, "{path}");
        assert!(!file.text().contains("open-sesame"));
    }
    for path in ["/v1/overview", "/v1/events"] {
        assert_eq!(
            client::get(&gate.admin, path, &[]).await.status,
            401,
            "{path}"
        );
        // With the token, any name is as good as another.
        let fields = [
            ("authorization", "Bearer open-sesame-123"),
            ("host", "gate.example"),
        ];
        let mut client = Connection::open(&gate.admin).await;
        client.send_get(path, &fields).await;
        assert_eq!(client.head().await.0, 200, "{path}");
    }
}

// CONTRACT §4: neither a page of another site nor one whose name was bound to this address reads the page's data or writes anything.
#[tokio::test]
async fn no_other_page_looks_or_writes() {
    let gate = gate("").await;
    let own = format!("http://{}", gate.admin);
    let over = r#"{"max":3,"for":"10m"}"#;
    let calls = [
        ("GET", "/v1/overview", "", 200),
        ("GET", "/v1/events", "", 200),
        ("PUT", "/v1/limits/account/override", over, 200),
        ("DELETE", "/v1/limits/account/override", "", 204),
        ("DELETE", "/v1/requests/1", "", 404),
        ("DELETE", "/v1/leases/x", "", 404),
        ("POST", "/v1/leases/x/renew", r#"{"ttl":"1s"}"#, 404),
        ("POST", "/v1/reload", "", 200),
    ];
    let strangers: [Fields<'_>; 7] = [
        &[("host", "rebound.example")],
        &[("host", "127.0.0.1.rebound.example")],
        &[("host", "rebound.example:9901")],
        &[("host", "127.0.0.1"), ("origin", "http://evil.example")],
        &[("host", "127.0.0.1"), ("origin", "null")],
        // What another program of this machine serves.
        &[
            ("host", "127.0.0.1:9901"),
            ("origin", "http://127.0.0.1:3000"),
        ],
        &[
            ("host", "localhost"),
            ("origin", "http://localhost.evil.example"),
        ],
    ];
    for (method, path, body, status) in calls {
        for fields in strangers {
            let answer = client::ask(&gate.admin, method, path, fields, body).await;
            assert_eq!(answer.status, 403, "{method} {path} {fields:?}");
            assert!(answer.json()["detail"].is_string());
        }
        let without = format!("{method} {path} HTTP/1.0\r\ncontent-length: 0\r\n\r\n");
        let mut client = Connection::open(&gate.admin).await;
        client.send(without).await;
        assert_eq!(client.head().await.0, 403, "{method} {path} without a Host");
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\norigin: {own}\r\n",
            gate.admin
        );
        write!(text, "content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut client = Connection::open(&gate.admin).await;
        client.send(text).await;
        assert_eq!(
            client.head().await.0,
            status,
            "{method} {path} from its own page"
        );
    }
}
