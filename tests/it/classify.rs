//! What a request is: its resource and its account, seen from what the gate tells the origin.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::support::client::{Connection, Fields, by, request};
use crate::support::origin::{held_origin, origin};
use crate::support::sidecar::sidecar;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[expect(clippy::disallowed_methods, reason = "a token carries the wall clock")]
fn token(subject: &str, lifetime: i64, secret: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let expiry = i64::try_from(now).unwrap() + lifetime;
    let claims = serde_json::json!({ "sub": subject, "exp": expiry });
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

// A31: method, path, host and header choose the resource; the first that matches wins.
#[tokio::test]
async fn the_first_resource_that_matches_wins() {
    let origin = origin();
    let gate = sidecar(
        "resources:\n\
         - { name: calls, match: { methods: [POST], path: \"/Accounts/{account}/Calls\" }, upstream: api }\n\
         - { name: beta, match: { path: \"/v/{*rest}\", headers: { x-beta: \"yes\" } }, upstream: api }\n\
         - { name: hosted, match: { host: shop.test }, upstream: api }\n\
         - { name: tree, match: { path: \"/v/{*rest}\" }, upstream: api }\n\
         default_upstream: api",
    );
    let gate = gate.before(&origin).start().await;
    let table: &[(&str, &str, Fields<'_>, &str)] = &[
        ("POST", "/Accounts/A/Calls", &[], "calls"),
        ("GET", "/Accounts/A/Calls", &[], "other"),
        ("POST", "/Accounts/A/B/Calls", &[], "other"),
        ("POST", "/Accounts//A/./Calls", &[], "calls"),
        ("POST", "/Accounts/A/%43alls?x=y", &[], "calls"),
        ("GET", "/v/1/2", &[("x-beta", "yes")], "beta"),
        ("GET", "/v/1/2", &[("x-beta", "no")], "tree"),
        ("GET", "/v/1", &[], "tree"),
        ("GET", "/nowhere", &[], "other"),
    ];
    let mut client = gate.connect().await;
    for (method, path, fields, resource) in table {
        assert_eq!(
            client.ask(method, path, fields, "").await.status,
            200,
            "{method} {path}"
        );
        let seen = origin.last();
        assert_eq!(
            seen.get("x-admission-resource"),
            Some(*resource),
            "{method} {path}"
        );
    }
    client
        .send("GET /v/1 HTTP/1.1\r\nhost: Shop.Test:8080\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(origin.last().get("x-admission-resource"), Some("hosted"));
}

const IDENTIFY: &str = "resources: [{ name: calls, match: { path: \"/Accounts/{account}/{*rest}\" }, upstream: api }]\n\
                        default_upstream: api\n\
                        keys: { k: { algorithm: HS256, secret: { env: THE_SECRET } } }\n\
                        accounts:\n  \
                          unidentified: nobody\n  \
                          identify:\n  \
                          - path: account\n  \
                          - basic_auth: username\n  \
                          - jwt: { claim: sub, keys: [k] }\n  \
                          - header: x-account\n";

// A31: path, credentials, claim and header name the account, in the order of the list.
#[tokio::test]
async fn the_first_source_that_yields_names_the_account() {
    let origin = origin();
    let plan = sidecar(IDENTIFY).env("THE_SECRET", SECRET);
    let gate = plan.before(&origin).start().await;
    let token = format!("Bearer {}", token("AC_JWT", 600, SECRET));
    let jwt = ("authorization", token.as_str());
    // The user is AC_BASIC and the password `secret`.
    let basic = ("authorization", "Basic QUNfQkFTSUM6c2VjcmV0");
    let header = ("x-account", "AC_H");
    let table: &[(&str, Fields<'_>, &str)] = &[
        ("/Accounts/AC_PATH/x", &[basic], "AC_PATH"),
        ("/x", &[basic, header], "AC_BASIC"),
        ("/x", &[jwt, header], "AC_JWT"),
        ("/x", &[header], "AC_H"),
        ("/x", &[], "nobody"),
    ];
    for (path, fields, account) in table {
        let response = gate.connect().await.get(path, fields).await;
        assert_eq!(
            response.status,
            200,
            "{path} {fields:?}: {}",
            response.text()
        );
        assert_eq!(
            origin.last().get("x-admission-account"),
            Some(*account),
            "{fields:?}"
        );
    }
}

// A31: a token that does not verify is 401, and nobody falls through to a laxer identity by garbling it.
#[tokio::test]
async fn a_token_that_does_not_verify_is_unauthorized() {
    let origin = origin();
    let plan = sidecar(IDENTIFY).env("THE_SECRET", SECRET);
    let gate = plan.before(&origin).start().await;
    let good = token("AC_JWT", 600, SECRET);
    let (signed, _) = good.rsplit_once('.').expect("three parts");
    let bad = [
        ("late", token("AC_JWT", -600, SECRET)),
        (
            "forged",
            token("AC_JWT", 600, "another secret, as long as that one"),
        ),
        ("unsigned", format!("{signed}.")),
        ("nonsense", "not.a.token".to_owned()),
    ];
    for (what, token) in bad {
        let bearer = format!("Bearer {token}");
        let fields = [("authorization", bearer.as_str()), ("x-account", "AC_H")];
        let response = gate.connect().await.get("/x", &fields).await;
        assert_eq!(response.status, 401, "{what}: {}", response.text());
    }
    assert_eq!(origin.heads().len(), 0);
    assert!(!gate.log().contains("AC_JWT") && !gate.log().contains(SECRET));
}

// A31: the client's address can be the account, through trusted proxies too.
#[tokio::test]
async fn an_address_can_be_the_account() {
    let origin = origin();
    let gate = sidecar(
        "server: { threads: 2, listeners: [{ address: \"127.0.0.1:0\" }], trusted_proxies: [127.0.0.1/32] }\n\
         accounts: { identify: [client_address] }",
    );
    let gate = gate.before(&origin).start().await;
    let forwarded = [("x-forwarded-for", "198.51.100.7")];
    for (from, account) in [("127.0.0.1", "198.51.100.7"), ("127.0.0.2", "127.0.0.2")] {
        let mut client = Connection::open_from(from, &gate.address).await;
        assert_eq!(client.get("/", &forwarded).await.status, 200);
        assert_eq!(origin.last().get("x-admission-account"), Some(account));
    }
}

// A31, A7: exempt requests are forwarded past a full limit and are counted nowhere.
#[tokio::test]
async fn exempt_requests_are_never_limited() {
    let origin = held_origin();
    let gate = sidecar(
        "resources: [{ name: probes, match: { path: \"/healthz\" }, upstream: api, exempt: true }]\n\
         default_upstream: api\n\
         limits: [{ name: all, per: [], max: 1 }]",
    );
    let gate = gate.before(&origin).start().await;
    let mut holder = gate.connect().await;
    holder.send_get("/", &by("A")).await;
    origin.until_in_flight(1).await;
    let mut probes = Vec::new();
    for index in 2..=5 {
        let mut probe = gate.connect().await;
        // An account that would be refused is not even looked at.
        probe
            .send(request(
                "GET",
                "/healthz",
                &[("x-account", "not valid")],
                "",
            ))
            .await;
        probes.push(probe);
        origin.until_in_flight(index).await;
    }
    assert_eq!(gate.limit("all").await["in_flight"], 1);
    assert_eq!(gate.get("/", "B").await.status, 503);
    origin.open();
    for mut probe in probes {
        assert_eq!(probe.response().await.status, 200);
    }
    gate.until_idle().await;
}

// A7: a limit covers the resources and upstreams that it names, less its exceptions.
#[tokio::test]
async fn a_limit_covers_what_it_names() {
    let origin = held_origin();
    let second = held_origin();
    let yaml = format!(
        "upstreams: {{ api: {{ endpoints: [\"{}\"] }}, bulk: {{ endpoints: [\"{}\"] }} }}\n\
         resources:\n\
         - {{ name: a, match: {{ path: \"/a\" }}, upstream: api }}\n\
         - {{ name: b, match: {{ path: \"/b\" }}, upstream: api }}\n\
         - {{ name: c, match: {{ path: \"/c\" }}, upstream: bulk }}\n\
         default_upstream: api\n\
         limits:\n\
         - {{ name: only-a, per: [], resources: [a], max: 1 }}\n\
         - {{ name: not-a, per: [], except: [a], upstreams: [api], max: 1 }}",
        origin.address, second.address
    );
    let gate = sidecar(&yaml).start().await;
    let mut clients = Vec::new();
    for (path, at_api, at_bulk) in [("/a", 1, 0), ("/b", 2, 0), ("/c", 2, 1), ("/c", 2, 2)] {
        let mut client = gate.connect().await;
        client.send_get(path, &by("A")).await;
        clients.push(client);
        origin.until_in_flight(at_api).await;
        second.until_in_flight(at_bulk).await;
    }
    for (path, limit) in [("/a", "only-a"), ("/b", "not-a"), ("/elsewhere", "not-a")] {
        assert_eq!(gate.get(path, "A").await.json()["limit"], limit);
    }
    origin.open();
    second.open();
}
