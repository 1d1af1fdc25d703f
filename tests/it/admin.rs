//! What the operator sees and may do.

use std::fmt::Write as _;
use std::time::Duration;

use crate::support::client::{self, Connection, Fields, by};
use crate::support::origin::{Exchange, Origin, held_origin, origin};
use crate::support::sidecar::sidecar;
use crate::support::{eventually, now};

const LIMITS: &str = "resources: [{ name: calls, match: { path: \"/calls/{*rest}\" }, upstream: api }]\n\
                      default_upstream: api\n\
                      limits:\n\
                      - { name: account, per: [account], max: 3 }\n\
                      - { name: whole, per: [], max: 10 }\n";

/// Requests that are held at the origin, and how many of them each query finds.
const REQUESTS: [(&str, &str, &str); 3] = [
    ("POST", "/calls/1?secret=1", "A"),
    ("GET", "/other", "A"),
    ("GET", "/calls/2", "B"),
];
#[rustfmt::skip]
const QUERIES: [(&str, usize); 9] = [
    ("account=A", 2),
    ("resource=calls", 2),
    ("account=A&resource=calls", 1),
    ("state=forwarded", 3),
    ("state=tunnel", 0),
    ("older_than=0s", 3),
    ("older_than=3600s", 0),
    ("older_than=2h30m", 0),
    ("limit=2", 2),
];

// A22: each request in progress can be listed: who, what, where, since when; and the list can be narrowed.
#[tokio::test]
async fn requests_in_progress_are_listed() {
    let origin = held_origin();
    let gate = sidecar(LIMITS).before(&origin).start().await;
    let mut clients = Vec::new();
    for (index, (method, path, account)) in REQUESTS.into_iter().enumerate() {
        let mut client = gate.connect().await;
        client
            .send(client::request(method, path, &by(account), ""))
            .await;
        clients.push(client);
        origin.until_in_flight(index + 1).await;
    }
    let all = gate.get_admin("/v1/requests").await;
    let all = all.as_array().expect("a list").clone();
    assert_eq!(all.len(), 3, "{all:?}");
    let call = all
        .iter()
        .find(|request| request["method"] == "POST")
        .expect("the call");
    for (name, value) in [
        ("account", "A"),
        ("resource", "calls"),
        ("state", "forwarded"),
        ("upstream", "api"),
    ] {
        assert_eq!(call[name], value, "{name} of {call}");
    }
    let path = call["path"].as_str().expect("a path");
    assert!(
        path.starts_with("/calls/1") && !path.contains("secret"),
        "{path}"
    );
    let age = call["age_seconds"].as_f64().expect("an age");
    assert!((0.0..10.0).contains(&age), "{age}");
    let ids: std::collections::BTreeSet<_> = all
        .iter()
        .map(|request| request["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 3);
    for (query, count) in QUERIES {
        let found = gate.get_admin(&format!("/v1/requests?{query}")).await;
        assert_eq!(
            found.as_array().map(Vec::len),
            Some(count),
            "{query}: {found}"
        );
    }
    for query in [
        "older_than=30",
        "older_than=soon",
        "older_than=-1s",
        "limit=0",
        "limit=many",
    ] {
        let refused = gate.ask_admin(&format!("/v1/requests?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
    }
    origin.open();
    gate.until_idle().await;
    eventually("an empty list", async || {
        gate.get_admin("/v1/requests").await == serde_json::json!([])
    })
    .await;
}

// A6, A28: status and keys tell each limit and each key as it is.
#[tokio::test]
async fn status_and_keys_tell_what_is_counted() {
    let origin = held_origin();
    let gate = sidecar(LIMITS).before(&origin).start().await;
    let mut clients = Vec::new();
    for (index, account) in ["A", "B", "A"].into_iter().enumerate() {
        let mut client = gate.connect().await;
        client.send_get("/", &by(account)).await;
        clients.push(client);
        origin.until_in_flight(index + 1).await;
    }
    let status = gate.get_admin("/v1/status").await;
    assert_eq!(
        (&status["in_flight"], &status["queued"]),
        (&3.into(), &0.into())
    );
    assert!(
        status["generation"].is_u64() && status["uptime_seconds"].is_number(),
        "{status}"
    );
    assert!(status["upstreams"].is_array(), "{status}");
    let expected = serde_json::json!([
        { "name": "account", "per": ["account"], "mode": "enforce", "max": 3, "in_flight": 3, "queued": 0, "keys": 2 },
        { "name": "whole", "per": [], "mode": "enforce", "max": 10, "in_flight": 3, "queued": 0, "keys": 1 },
    ]);
    for (seen, wanted) in status["limits"]
        .as_array()
        .unwrap()
        .iter()
        .zip(expected.as_array().unwrap())
    {
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(&seen[name], value, "{name} of {seen}");
        }
    }
    let resources = serde_json::json!([
        { "name": "calls", "exempt": false, "cost": 1, "in_flight": 0, "admitted": 0, "rejected": 0,
          "upstream_seconds": { "count": 0, "sum": 0.0 } },
        { "name": "other", "exempt": false, "cost": 1, "in_flight": 3, "admitted": 0, "rejected": 0,
          "upstream_seconds": { "count": 0, "sum": 0.0 } },
    ]);
    assert_eq!(status["resources"], resources);
    let keys = gate.keys("account").await;
    let first = &keys[0];
    assert_eq!(
        first["key"],
        serde_json::json!({ "account": "A" }),
        "the fullest first: {keys:?}"
    );
    assert_eq!(
        (&first["in_flight"], &first["max"], &first["peak"]),
        (&2.into(), &3.into(), &2.into())
    );
    let top = gate.get_admin("/v1/limits/account/keys?top=1").await;
    assert_eq!(top.as_array().map(Vec::len), Some(1));
    assert_eq!(gate.ask_admin("/v1/limits/absent/keys").await.status, 404);
    origin.open();
}

// A28: the largest users of the last interval are listed, also when nothing of them is left but their peak.
#[tokio::test]
async fn the_largest_users_of_the_last_interval_are_listed() {
    let origin = held_origin();
    let gate = sidecar(LIMITS).before(&origin).start().await;
    let mut clients = Vec::new();
    for (index, account) in ["A", "B", "A", "A"].into_iter().enumerate() {
        let mut client = gate.connect().await;
        client.send_get("/", &by(account)).await;
        clients.push(client);
        origin.until_in_flight(index + 1).await;
    }
    origin.open();
    gate.until_idle().await;
    let wanted = serde_json::json!([
        { "account": "A", "in_flight": 0, "peak": 3 },
        { "account": "B", "in_flight": 0, "peak": 1 },
    ]);
    eventually("their peaks without their cells", async || {
        gate.keys("account").await.is_empty() && gate.get_admin("/v1/accounts").await == wanted
    })
    .await;
    let first = gate.get_admin("/v1/accounts?top=1").await;
    assert_eq!(first.as_array().map(Vec::len), Some(1), "{first}");
    for query in ["top=0", "top=101", "top=all"] {
        let refused = gate.ask_admin(&format!("/v1/accounts?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(
            refused.text().contains("from 1 to 100"),
            "{}",
            refused.text()
        );
    }
    assert_eq!(gate.post_admin("/v1/accounts").await.status, 405);
}

// CONTRACT §5: the metrics of this stage are there, read from the cells, and no label is an account.
#[tokio::test]
async fn metrics_tell_what_the_cells_hold() {
    let origin = held_origin();
    let gate = sidecar(LIMITS).before(&origin).start().await;
    let mut clients = Vec::new();
    for index in 1..=3 {
        let mut client = gate.connect().await;
        client.send_get("/calls/1", &by("AC_UNIQUE")).await;
        clients.push(client);
        origin.until_in_flight(index).await;
    }
    assert_eq!(gate.get("/calls/1", "AC_UNIQUE").await.status, 429);
    let expected = [
        ("tidegate_in_flight{limit=\"account\"}", 3.0),
        ("tidegate_limit{limit=\"account\"}", 3.0),
        ("tidegate_limit_used_ratio{limit=\"account\"}", 1.0),
        ("tidegate_keys{limit=\"account\"}", 1.0),
        ("tidegate_queued{limit=\"account\"}", 0.0),
        ("tidegate_in_flight{limit=\"whole\"}", 3.0),
        ("tidegate_leaks_detected_total", 0.0),
        ("tidegate_config_generation", 1.0),
    ];
    for (name, value) in expected {
        assert_eq!(
            gate.metric(name).await,
            Some(value),
            "{name} in {}",
            gate.metrics().await
        );
    }
    origin.open();
    gate.until_idle().await;
    let text = gate.metrics().await;
    assert!(!text.contains("AC_UNIQUE"), "{text}");
    let requests = |decision: &str, reason: &str| {
        let line = text.lines().find(|line| {
            line.starts_with("tidegate_requests_total{")
                && line.contains(&format!("decision=\"{decision}\""))
                && line.contains(&format!("reason=\"{reason}\""))
                && line.contains("resource=\"calls\"")
        });
        line.and_then(|line| line.rsplit(' ').next())
            .map(str::to_owned)
    };
    assert_eq!(
        requests("rejected", "limit_reached").as_deref(),
        Some("1"),
        "{text}"
    );
    assert_eq!(requests("admitted", "none").as_deref(), Some("3"), "{text}");
    for name in [
        "tidegate_upstream_seconds_count{",
        "tidegate_decision_seconds_count",
        "tidegate_oldest_request_age_seconds",
        "tidegate_config_reloads_total",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
}

// CONTRACT §4: a page of another site cannot make an operator's browser write; reads take any Host.
#[tokio::test]
async fn writes_are_for_this_host_only() {
    let origin = origin();
    let gate = sidecar(LIMITS).before(&origin).start().await;
    let own = format!("http://{}", gate.admin);
    let table: &[(&str, Fields<'_>, u16)] = &[
        ("127.0.0.1", &[], 200),
        ("localhost:9901", &[], 200),
        ("[::1]", &[], 200),
        ("rebound.example", &[], 403),
        ("127.0.0.1", &[("origin", "http://evil.example")], 403),
        ("127.0.0.1", &[("origin", "null")], 403),
        (&gate.admin, &[("origin", &own)], 200),
    ];
    for (host, fields, status) in table {
        let mut text = format!("POST /v1/reload HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n");
        for (name, value) in *fields {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        let mut client = Connection::open(&gate.admin).await;
        client.send(text + "\r\n").await;
        assert_eq!(client.response().await.status, *status, "{host} {fields:?}");
        let mut client = Connection::open(&gate.admin).await;
        client
            .send(format!("GET /v1/status HTTP/1.1\r\nhost: {host}\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.status, 200, "{host}");
    }
}

// CONTRACT §2: with a token, all but /live and /ready need it; secrets are never shown.
#[tokio::test]
async fn a_token_guards_everything_but_the_probes() {
    let origin = origin();
    let gate = sidecar(
        "admin: { address: \"127.0.0.1:0\", token: { env: ADMIN_SECRET } }\n\
         keys: { k: { algorithm: HS256, secret: { file: \"$DIR/secret\" } } }\n\
         accounts: { identify: [{ jwt: { claim: sub, keys: [k] } }] }\n",
    );
    let gate = gate.env("ADMIN_SECRET", "open-sesame-123");
    std::fs::write(
        gate.directory().join("secret"),
        "hush-hush-hush-hush-hush-hush-hush",
    )
    .unwrap();
    let gate = gate.before(&origin).start().await;
    for path in ["/live", "/ready"] {
        assert_eq!(gate.ask_admin(path).await.status, 200, "{path}");
    }
    let paths = [
        "/metrics",
        "/v1/status",
        "/v1/accounts",
        "/v1/requests",
        "/v1/config",
        "/v1/limits/x/keys",
    ];
    for path in paths {
        assert_eq!(gate.ask_admin(path).await.status, 401, "{path}");
        let wrong = [("authorization", "Bearer open-sesame-124")];
        assert_eq!(
            client::get(&gate.admin, path, &wrong).await.status,
            401,
            "{path}"
        );
    }
    assert_eq!(gate.post_admin("/v1/reload").await.status, 401);
    let right = [("authorization", "Bearer open-sesame-123")];
    let config = client::get(&gate.admin, "/v1/config", &right).await;
    assert_eq!(config.status, 200);
    let config = config.json();
    for name in ["generation", "loaded_at", "hash", "yaml"] {
        assert!(!config[name].is_null(), "{name} in {config}");
    }
    for secret in ["open-sesame", "hush-hush"] {
        assert!(
            !config.to_string().contains(secret) && !gate.log().contains(secret),
            "{config}"
        );
    }
}

// CONTRACT §4: explain over the API is the same as on the command line; unknown paths and methods are 404 and 405.
#[tokio::test]
async fn explain_and_unknown_paths() {
    let origin = origin();
    let gate = sidecar(LIMITS).before(&origin).start().await;
    let body = serde_json::json!({
        "method": "GET", "path": "/calls/1", "headers": { "x-account": "AC_9" },
    });
    let fields = [("content-type", "application/json")];
    let told = client::ask(
        &gate.admin,
        "POST",
        "/v1/explain",
        &fields,
        &body.to_string(),
    )
    .await;
    assert_eq!(told.status, 200, "{}", told.text());
    for word in ["AC_9", "calls", "account", "whole"] {
        assert!(told.text().contains(word), "{word} in {}", told.text());
    }
    let no_path = r#"{"path":"calls"}"#;
    let refused = client::ask(&gate.admin, "POST", "/v1/explain", &fields, no_path).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(gate.ask_admin("/no/such/path").await.status, 404);
    assert_eq!(gate.ask_admin("/v1/reload").await.status, 405);
    let large = "x".repeat(4_000_000);
    let mut client = Connection::open(&gate.admin).await;
    client
        .wire
        .send(client::request("POST", "/v1/explain", &fields, &large))
        .await
        .ok();
    let refused = client.head().await.0;
    assert!((400..500).contains(&refused), "{refused}");
    assert_eq!(origin.heads().len(), 0);
}

// The admin API answers at once while the data plane is busy, and on a Unix socket too.
#[tokio::test]
async fn the_admin_api_lives_beside_the_data_plane() {
    let origin = held_origin();
    let gate = sidecar(
        "admin: { address: \"unix:$DIR/admin.sock\" }\nlimits: [{ name: whole, per: [], max: 200 }]",
    );
    let gate = gate.before(&origin).start().await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = gate.connect().await;
        client.send_get("/", &by("A")).await;
        clients.push(client);
    }
    origin.until_in_flight(200).await;
    let start = now();
    assert_eq!(
        gate.get_admin("/v1/requests?limit=1000")
            .await
            .as_array()
            .map(Vec::len),
        Some(200)
    );
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    origin.open();
}

// A22: the access log has one line of JSON a request, whatever its end, and no secret.
#[tokio::test]
async fn the_access_log_has_a_line_for_each_request() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        exchange.reply(200, "ok").await
    });
    let gate = sidecar(
        "access_log: { path: stdout, format: json }\nlimits: [{ name: account, per: [account], max: 1, \
         overrides: [{ account: closed, max: 0 }] }]",
    );
    let gate = gate.before(&origin).start().await;
    let fields = [
        ("x-account", "A"),
        ("authorization", "Basic c2VjcmV0OnNlY3JldA=="),
    ];
    assert_eq!(
        client::get(&gate.address, "/logged?q=1", &fields)
            .await
            .status,
        200
    );
    assert_eq!(gate.get("/refused", "closed").await.status, 429);
    eventually("two lines", async || gate.output().lines().count() >= 2).await;
    let output = gate.output();
    let lines: Vec<serde_json::Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let find = |status: u16| {
        lines
            .iter()
            .find(|line| line["status"] == status)
            .expect("a line")
    };
    assert_eq!(
        (&find(200)["account"], &find(200)["resource"]),
        (&"A".into(), &"other".into())
    );
    assert_eq!(
        (&find(429)["account"], &find(429)["reason"]),
        (&"closed".into(), &"limit_reached".into())
    );
    assert!(!output.contains("c2VjcmV0"), "{output}");
}
