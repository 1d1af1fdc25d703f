//! What HTTP asks for: names in paths, methods, bodies, pages of other origins, and on whose account requests count.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::presence::desk::{
    ACCOUNT, OTHER, OTHER_ACCOUNT, ask, basic, bearer, config, gate, other_basic, plan_with, put,
    query, refusal, seeing, token,
};
use crate::support::client::{Connection, request};
use crate::support::sidecar::Sidecar;

// Names are compared byte for byte, whatever is in them, and are percent-encoded in paths.
#[tokio::test]
async fn names_of_all_kinds_are_read_by_their_paths() {
    let gate = gate("").await;
    for name in [
        "a b@d",
        "日本 ü",
        "100%",
        "a+b",
        "a?b#c&d=e",
        "x;y,z",
        "'\"<>",
        "query",
        "events",
        "{a}",
        "*",
        &"é".repeat(121),
    ] {
        let report = json!({ "identity": name, "device": name, "app": name, "status": "busy" });
        put(&gate, &basic(), report).await;
        let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
        // The words of the API win over identities that are called so, unless a letter is encoded.
        let encoded = encoded
            .replace("query", "quer%79")
            .replace("events", "event%73");
        let path = format!("/v1/presence/{encoded}");
        let read = ask(&gate, &basic(), "GET", &path, "").await;
        assert_eq!(read.status, 200, "{name}: {}", read.text());
        let read = read.json();
        assert_eq!(
            (&read["identity"], &read["status"]),
            (&json!(name), &json!("busy"))
        );
        assert_eq!(read["devices"][0]["device"], name);
        let bearer = bearer(&token(name, None));
        let gone = ask(
            &gate,
            &bearer,
            "DELETE",
            &format!("{path}?app={encoded}"),
            "",
        )
        .await;
        assert_eq!(gone.status, 204, "{name}: {}", gone.text());
    }
    for bad in ["%ff", "a%0ab", "%E2%80%AE", &"x".repeat(122), ""] {
        let path = format!("/v1/presence/{bad}");
        let refused = ask(&gate, &basic(), "GET", &path, "").await;
        assert_eq!(refusal(&refused), (400, 20_001), "{bad}");
    }
    assert_eq!(
        refusal(&ask(&gate, &basic(), "GET", "/v1/presence/a/b/c", "").await),
        (404, 20_404)
    );
    // The gate takes no encoded slash in a path; such a name is asked for in a body, or in the query.
    let slash = json!({ "identity": "a/b", "device": "c/d", "status": "busy" });
    put(&gate, &basic(), slash).await;
    let refused = ask(&gate, &basic(), "GET", "/v1/presence/a%2Fb", "").await;
    assert_eq!(refusal(&refused), (400, 20_400));
    let question = json!({ "identities": ["a/b"], "devices": true });
    let asked = query(&gate, &basic(), question).await.json();
    assert_eq!(asked["presence"]["a/b"]["devices"][0]["device"], "c/d");
    assert_eq!(
        refusal(&ask(&gate, &basic(), "GET", "/v1/nothing", "").await),
        (404, 20_404)
    );
}

// A name that no path has room for is read, and its device signed out, by the query (a token's identity is never split, PLUGIN §1).
#[tokio::test]
async fn a_name_with_a_slash_is_read_and_signed_out_like_any_other() {
    let gate = gate("").await;
    for (number, name) in ["alice/mobile", ".", "..", "query", "a/../b?c&d"]
        .into_iter()
        .enumerate()
    {
        let report = json!({ "identity": name, "device": name, "status": "busy" });
        put(&gate, &basic(), report).await;
        let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
        let path = format!("/v1/presence?identity={encoded}");
        let own = bearer(&token(name, None));
        for credentials in [&basic(), &own] {
            let read = ask(&gate, credentials, "GET", &path, "").await.json();
            assert_eq!(
                (&read["identity"], &read["status"]),
                (&json!(name), &json!("busy"))
            );
            assert_eq!(read["devices"][0]["device"], name);
        }
        let other = bearer(&token("alice", None));
        let refused = ask(&gate, &other, "GET", &path, "").await;
        assert_eq!(refusal(&refused), (403, 20_403));
        let device = format!("/v1/presence?device={encoded}");
        let with_owner = format!("{device}&identity={encoded}");
        let by = [(own, &device), (basic(), &with_owner)];
        let (credentials, path_of_device) = &by[number % 2];
        let gone = ask(&gate, credentials, "DELETE", path_of_device, "").await;
        assert_eq!(gone.status, 204);
        let read = ask(&gate, &basic(), "GET", &path, "").await.json();
        assert_eq!(read["device_count"], 0);
    }
    for (method, path) in [
        ("GET", "/v1/presence"),
        ("GET", "/v1/presence?identity="),
        ("DELETE", "/v1/presence?identity=alice"),
    ] {
        let refused = ask(&gate, &basic(), method, path, "").await;
        assert_eq!(refusal(&refused), (400, 20_001), "{method} {path}");
    }
}

// A method that a path does not take is refused with those that it takes.
#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let gate = gate("").await;
    for (path, wrong, allowed) in [
        (
            "/v1/presence",
            ["POST", "PATCH", "OPTIONS"],
            "GET, PUT, DELETE",
        ),
        (
            "/v1/presence/alice",
            ["PUT", "POST", "PATCH"],
            "GET, DELETE",
        ),
        ("/v1/presence/query", ["GET", "PUT", "DELETE"], "POST"),
        ("/v1/presence/events", ["POST", "PUT", "DELETE"], "GET"),
        ("/v1/presence/alice/log", ["POST", "PUT", "DELETE"], "GET"),
        (
            "/v1/contacts/team?identity=alice",
            ["POST", "PATCH", "OPTIONS"],
            "GET, PUT, DELETE",
        ),
    ] {
        for method in wrong {
            let refused = ask(&gate, &basic(), method, path, "").await;
            assert_eq!(refusal(&refused), (405, 20_405), "{method} {path}");
            assert_eq!(refused.field("allow"), allowed);
        }
    }
    let refused = gate.connect().await.get("/signal", &[]).await;
    assert_eq!(refusal(&refused), (400, 20_001), "a socket is not a page");
}

// A body that is not understood is refused, and one that is too long is not read to its end.
#[tokio::test]
async fn a_body_that_is_none_is_refused() {
    let gate = gate("").await;
    let alice = bearer(&token("alice", None));
    let deep = format!(r#"{{"device":{}"#, "[".repeat(10_000));
    for bad in [
        "",
        "{",
        "null",
        "[]",
        r#"{"device":"desk","status":"busy"} x"#,
        r#"{"device":"desk","status":"busy","colour":"red"}"#,
        r#"{"device":"desk","status":"busy","status":"away"}"#,
        r#"{"device":"desk","status":"busy","ttl":300}"#,
        "{\"device\":\"desk\",\"status\":\"b\u{0}\"}",
        &deep,
    ] {
        let refused = ask(&gate, &alice, "PUT", "/v1/presence", bad).await;
        assert_eq!(refusal(&refused), (400, 20_001), "{bad}");
        let refused = ask(&gate, &alice, "POST", "/v1/presence/query", bad).await;
        assert_eq!(refusal(&refused), (400, 20_001), "{bad}");
    }
    let long = |length: usize| {
        json!({ "device": "desk", "status": "busy", "text": "x".repeat(length) }).to_string()
    };
    let refused = ask(&gate, &alice, "PUT", "/v1/presence", &long(20_000)).await;
    assert_eq!(refusal(&refused), (413, 20_413));
    let refused = ask(&gate, &alice, "POST", "/v1/presence/query", &long(600_000)).await;
    assert_eq!(refusal(&refused), (413, 20_413));
    let longest: Vec<_> = (0..1_000)
        .map(|number| format!("{}{number:03}", "日".repeat(118)))
        .collect();
    let question = json!({ "identities": longest }).to_string();
    let answered = ask(&gate, &basic(), "POST", "/v1/presence/query", &question).await;
    assert_eq!(
        answered.status, 200,
        "a thousand of the longest names are asked for"
    );
    let fields = [
        ("authorization", &*alice),
        ("content-type", "application/xmpp+xml"),
    ];
    let stanza = format!(
        "<presence><status>{}</status></presence>",
        "x".repeat(20_000)
    );
    let path = "/v1/presence?device=desk";
    let refused = gate
        .connect()
        .await
        .ask("PUT", path, &fields, &stanza)
        .await;
    assert_eq!(refusal(&refused), (413, 20_413));
}

/// What a page of that origin is told, in asking first and in asking.
async fn from_origin(gate: &Sidecar, origin: &str) -> [Option<String>; 3] {
    let credentials = basic();
    let first = [("origin", origin), ("access-control-request-method", "PUT")];
    let preflight = gate
        .connect()
        .await
        .ask("OPTIONS", "/v1/presence", &first, "")
        .await;
    assert_eq!(preflight.status, 204, "{}", preflight.text());
    assert!(
        preflight
            .field("access-control-allow-headers")
            .contains("authorization")
    );
    assert!(
        preflight
            .field("access-control-allow-methods")
            .contains("PUT")
    );
    let fields = [("origin", origin), ("authorization", &*credentials)];
    let read = gate
        .connect()
        .await
        .get("/v1/presence/alice", &fields)
        .await;
    let refused = gate
        .connect()
        .await
        .get("/v1/presence/alice", &fields[..1])
        .await;
    assert_eq!((read.status, refused.status), (200, 401));
    [preflight, read, refused].map(|answer| {
        assert!(answer.head.says("vary", "origin"));
        answer
            .head
            .get("access-control-allow-origin")
            .map(str::to_owned)
    })
}

// Pages of any origin may ask, or of those that are configured; refusals can be read too.
#[tokio::test]
async fn pages_of_allowed_origins_may_ask() {
    let gate_of_any = gate("").await;
    let any = from_origin(&gate_of_any, "https://a.example").await;
    assert!(
        any.iter()
            .all(|origin| origin.as_deref() == Some("https://a.example"))
    );
    let gate = gate("  allowed_origins: [\"https://app.example\"]\n").await;
    let allowed = from_origin(&gate, "https://app.example").await;
    assert!(
        allowed
            .iter()
            .all(|origin| origin.as_deref() == Some("https://app.example"))
    );
    for other in ["https://app.example.evil", "http://app.example", "null"] {
        assert_eq!(
            from_origin(&gate, other).await,
            [None, None, None],
            "{other}"
        );
    }
    let plain = gate
        .connect()
        .await
        .get("/v1/presence/alice", &[("authorization", &*basic())])
        .await;
    assert_eq!(plain.head.get("access-control-allow-origin"), None);
}

/// A report whose body does not come: it stays in flight.
async fn held(gate: &Sidecar, credentials: &str) -> Connection {
    let mut connection = gate.connect().await;
    let fields = [("authorization", credentials), ("content-length", "100")];
    connection
        .send(request("PUT", "/v1/presence", &fields, ""))
        .await;
    connection
}

fn accounts(keys: &[Value]) -> Vec<&str> {
    keys.iter()
        .filter_map(|key| key["key"]["account"].as_str())
        .collect()
}

// The account of a token is what limits count on; a bad token counts on nobody's.
#[tokio::test]
async fn limits_count_on_the_account_of_the_token() {
    let config = config(OTHER_ACCOUNT).replace("max: 100", "max: 2");
    let gate = plan_with(&config).start().await;
    let alice = bearer(&seeing("alice"));
    let _first = held(&gate, &alice).await;
    let _second = held(&gate, &basic()).await;
    let status = gate
        .wait_until("two in flight", |status| status["in_flight"] == 2)
        .await;
    assert_eq!(status["in_flight"], 2);
    let refused = ask(&gate, &alice, "GET", "/v1/presence/bob", "").await;
    assert_eq!(refused.status, 429, "both credentials are one account's");
    let other = ask(&gate, &other_basic(), "GET", "/v1/presence/bob", "").await;
    assert_eq!(other.status, 200, "another account has its own");
    let forged = ask(&gate, &format!("{alice}x"), "GET", "/v1/presence/bob", "").await;
    assert_eq!(refusal(&forged), (401, 20_107));
    let keys = gate.keys("account").await;
    let ours = keys.iter().find(|key| key["key"]["account"] == ACCOUNT);
    assert_eq!(ours.unwrap()["in_flight"], 2, "{keys:?}");
    assert!(
        accounts(&keys)
            .iter()
            .all(|account| [ACCOUNT, OTHER].contains(account) || !account.starts_with("AC")),
        "{keys:?}"
    );
}
