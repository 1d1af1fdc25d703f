//! Who may give and obtain presence over REST, and what others are told who may not.

use serde_json::{Value, json};

use crate::presence::desk::{
    ACCESS, ACCOUNT, AUTH_TOKEN, Events, KEY, OTHER, OTHER_ACCOUNT, SECRET, Socket, ask, basic,
    bearer, claims, gate, item, other_basic, other_seeing, put, query, refusal, seeing, set,
    signed, token, try_put, unix_seconds,
};

const NOBODY_YET: &str = r#"{"device":"desk","status":"available"}"#;

fn good() -> Value {
    claims(KEY, ACCOUNT, "alice", json!({ "publish": true }))
}

/// A token with one claim put otherwise, signed as it should be.
fn with(path: &str, value: Value) -> String {
    let mut claims = good();
    *claims.pointer_mut(path).unwrap() = value;
    signed(ACCESS, &claims, SECRET)
}

/// What is shown, what is wrong with it, and the code that says so.
fn bad_credentials() -> Vec<(&'static str, String, u64)> {
    let now = unix_seconds();
    let mut no_end = good();
    no_end.as_object_mut().unwrap().remove("exp");
    vec![
        ("nothing", String::new(), 20_401),
        ("no JWT", bearer("no.token.here"), 20_101),
        (
            "a wrong `cty`",
            bearer(&signed(Some("other"), &good(), SECRET)),
            20_102,
        ),
        (
            "an unknown key",
            bearer(&with("/iss", json!("SK00"))),
            20_103,
        ),
        (
            "another's account",
            bearer(&with("/sub", json!(OTHER))),
            20_103,
        ),
        (
            "a wrong secret",
            bearer(&signed(ACCESS, &good(), AUTH_TOKEN)),
            20_107,
        ),
        ("no end", bearer(&signed(ACCESS, &no_end, SECRET)), 20_104),
        (
            "an end that is past",
            bearer(&with("/exp", json!(now - 100))),
            20_104,
        ),
        (
            "an end in two days",
            bearer(&with("/exp", json!(now + 200_000))),
            20_104,
        ),
        (
            "no identity",
            bearer(&with("/grants/identity", Value::Null)),
            20_106,
        ),
        (
            "an identity that is no name",
            bearer(&with("/grants/identity", json!("a\nb"))),
            20_106,
        ),
        ("a wrong password", "Basic YTpi".into(), 20_401),
        ("another scheme", "Digest abc".into(), 20_401),
    ]
}

// B1: a token that does not verify is refused by the code of what is wrong with it, and nobody appears.
#[tokio::test]
async fn a_bad_token_is_refused_by_its_code_and_nobody_appears() {
    let gate = gate("").await;
    for (what, credentials, code) in bad_credentials() {
        for (method, path, body) in [
            ("PUT", "/v1/presence", NOBODY_YET),
            ("GET", "/v1/presence/alice", ""),
            ("POST", "/v1/presence/query", r#"{"identities":["alice"]}"#),
            ("GET", "/v1/presence/events?identities=alice", ""),
            ("GET", "/v1/contacts/team", ""),
        ] {
            let answer = ask(&gate, &credentials, method, path, body).await;
            assert_eq!(refusal(&answer), (401, code), "{what}: {method} {path}");
            answer.field("www-authenticate");
            assert!(!answer.text().contains(&signed(ACCESS, &good(), SECRET)));
        }
    }
    assert_eq!(item(&gate, "alice").await["device_count"], 0);
    assert_eq!(
        gate.metric("tidegate_presence_changes_total").await,
        Some(0.0)
    );
    let right = bearer(&signed(ACCESS, &good(), SECRET));
    let answer = ask(&gate, &right, "PUT", "/v1/presence", NOBODY_YET).await;
    assert_eq!(answer.status, 200, "the good one is taken");
}

// B1: a token in the URL is none.
#[tokio::test]
async fn a_token_is_never_taken_from_the_url() {
    let gate = gate("").await;
    let path = format!(
        "/v1/presence/alice?token={0}&access_token={0}",
        token("alice", None)
    );
    let fields = [("x-none", "")];
    let answer = gate.connect().await.get(&path, &fields).await;
    assert_eq!(refusal(&answer), (401, 20_401));
}

// B2: giving is a right of its own, and the right to receive stands for it only where there is no presence grant.
#[tokio::test]
async fn giving_presence_is_a_right_of_its_own() {
    let gate = gate("").await;
    let report = || json!({ "device": "desk", "status": "available" });
    let publisher = token("alice", Some(json!({ "publish": true })));
    assert_eq!(
        put(&gate, &bearer(&publisher), report()).await["changed"],
        true
    );
    let receiver = token("bob", None);
    assert_eq!(
        put(&gate, &bearer(&receiver), report()).await["changed"],
        true
    );
    for grant in [
        json!({}),
        json!({ "publish": false }),
        json!({ "subscribe": ["*"] }),
    ] {
        let silent = token("carol", Some(grant));
        let refused = try_put(&gate, &bearer(&silent), report()).await;
        assert_eq!(refusal(&refused), (403, 20_403));
    }
    assert_eq!(item(&gate, "carol").await["device_count"], 0);
    // A token gives for nobody else; an account key for everybody, by name.
    let for_bob = json!({ "identity": "bob", "device": "desk", "status": "away" });
    let refused = try_put(&gate, &bearer(&publisher), for_bob.clone()).await;
    assert_eq!(refusal(&refused), (403, 20_403));
    assert_eq!(put(&gate, &basic(), for_bob).await["status"], "away");
    assert_eq!(
        refusal(&try_put(&gate, &basic(), report()).await),
        (400, 20_001)
    );
    let refused = ask(
        &gate,
        &bearer(&publisher),
        "DELETE",
        "/v1/presence/desk?identity=bob",
        "",
    )
    .await;
    assert_eq!(refusal(&refused), (403, 20_403));
    assert_eq!(item(&gate, "bob").await["device_count"], 1);
}

// B2: obtaining reaches as far as the patterns, and asking about many as far as `query`.
#[tokio::test]
async fn obtaining_reaches_as_far_as_the_patterns() {
    let gate = gate("").await;
    for identity in ["alice", "bob", "team-a", "team-b"] {
        set(&gate, identity, "available").await;
    }
    let bounded = bearer(&token(
        "alice",
        Some(json!({ "subscribe": ["team-*"], "query": 2 })),
    ));
    let read = async |identity: &str| {
        let path = format!("/v1/presence/{identity}");
        ask(&gate, &bounded, "GET", &path, "").await
    };
    for identity in ["alice", "team-a", "team-nobody"] {
        assert_eq!(read(identity).await.status, 200, "{identity}");
    }
    for identity in ["bob", "team", "Team-a"] {
        assert_eq!(refusal(&read(identity).await), (403, 20_403), "{identity}");
    }
    let ask_for = async |who: &[&str]| query(&gate, &bounded, json!({ "identities": who })).await;
    assert_eq!(ask_for(&["team-a", "team-b"]).await.status, 200);
    assert_eq!(
        refusal(&ask_for(&["team-a", "team-b", "alice"]).await),
        (400, 20_001)
    );
    let none = bearer(&token(
        "alice",
        Some(json!({ "subscribe": ["*"], "query": 0 })),
    ));
    let refused = query(&gate, &none, json!({ "identities": ["bob"] })).await;
    assert_eq!(refusal(&refused), (403, 20_403));
}

// B19: those who may not be seen are left out of a batch and refused one by one, whether they exist or not.
#[tokio::test]
async fn whom_a_token_does_not_show_cannot_be_told_from_nobody() {
    let gate = gate("").await;
    for identity in ["bob", "secret"] {
        set(&gate, identity, "busy").await;
    }
    let grant = json!({ "subscribe": ["bob", "team-*"], "restrict": { "to": ["client:bob"] } });
    let alice = bearer(&token("alice", Some(grant)));
    let mut texts = Vec::new();
    for hidden in ["secret", "nobody", "team-x"] {
        for path in [
            format!("/v1/presence/{hidden}"),
            format!("/v1/presence/{hidden}/log"),
        ] {
            let answer = ask(&gate, &alice, "GET", &path, "").await;
            assert_eq!(refusal(&answer), (403, 20_403), "{path}");
            texts.push(answer.text());
        }
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    let batch = query(
        &gate,
        &alice,
        json!({ "identities": ["secret", "bob", "nobody", "team-x"] }),
    )
    .await;
    let batch = batch.json();
    assert_eq!(batch["left_out"], 3);
    assert_eq!(batch["presence"].as_object().unwrap().len(), 1);
    assert_eq!(batch["presence"]["bob"]["status"], "busy");
    // A question by pattern tells no more: neither who is left out nor how many.
    let all = query(&gate, &alice, json!({ "identities": ["*"] }))
        .await
        .json();
    assert_eq!(
        (
            &all["left_out"],
            &all["presence"].as_object().unwrap().len()
        ),
        (&json!(0), &1)
    );
    let seen = query(&gate, &basic(), json!({ "identities": ["*"] }))
        .await
        .json();
    assert_eq!(
        seen["presence"].as_object().unwrap().len(),
        2,
        "an account key sees all"
    );
}

// B19: nothing crosses accounts.
#[tokio::test]
async fn nothing_crosses_accounts() {
    let gate = gate(OTHER_ACCOUNT).await;
    set(&gate, "bob", "busy").await;
    let mallory = bearer(&other_seeing("mallory"));
    let other = |report: Value| put(&gate, &mallory, report);
    other(json!({ "device": "desk", "status": "away" })).await;
    for credentials in [&mallory, &other_basic()] {
        let read = ask(&gate, credentials, "GET", "/v1/presence/bob", "")
            .await
            .json();
        assert_eq!(
            (&read["status"], &read["device_count"]),
            (&json!("offline"), &json!(0))
        );
        let all = query(&gate, credentials, json!({ "identities": ["*"] }))
            .await
            .json();
        assert_eq!(
            all["presence"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>(),
            ["mallory"]
        );
        let log = ask(&gate, credentials, "GET", "/v1/presence/bob/log", "")
            .await
            .json();
        assert_eq!(log["entries"], json!([]));
    }
    let mut stream = Events::open(&gate, &mallory, "identities=*").await;
    stream.hear("snapshot").await;
    set(&gate, "bob", "available").await;
    other(json!({ "device": "desk", "status": "busy" })).await;
    let delta = stream.hear("delta").await;
    assert_eq!(
        delta["presence"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["mallory"]
    );
    let gone = ask(
        &gate,
        &other_basic(),
        "DELETE",
        "/v1/presence/desk?identity=bob",
        "",
    )
    .await;
    assert_eq!(refusal(&gone), (404, 20_404));
    assert_eq!(item(&gate, "bob").await["status"], "available");
    assert_eq!(item(&gate, "mallory").await["device_count"], 0);
}

// B35: an internal API is read by account keys alone; devices still report.
#[tokio::test]
async fn an_internal_api_is_read_by_account_keys_alone() {
    let gate = gate("      api: internal\n").await;
    let alice = seeing("alice");
    let reported = put(
        &gate,
        &bearer(&alice),
        json!({ "device": "desk", "status": "away" }),
    )
    .await;
    assert_eq!(reported["changed"], true);
    for (method, path, body) in [
        ("GET", "/v1/presence/alice", ""),
        ("GET", "/v1/presence/nobody", ""),
        ("GET", "/v1/presence/alice/log", ""),
        ("POST", "/v1/presence/query", r#"{"identities":["alice"]}"#),
        ("GET", "/v1/presence/events?identities=alice", ""),
    ] {
        let refused = ask(&gate, &bearer(&alice), method, path, body).await;
        assert_eq!(refusal(&refused), (403, 20_403), "{method} {path}");
    }
    let (mut socket, _) = Socket::hello(&gate, &alice, "mobile").await;
    for r#type in ["presence.sub", "presence.query"] {
        socket.say(r#type, json!({ "identities": ["alice"] })).await;
        assert_eq!(
            socket.hear("error").await["error"]["code"],
            31_201,
            "{type}"
        );
    }
    assert_eq!(item(&gate, "alice").await["device_count"], 2);
    let mut stream = Events::open(&gate, &basic(), "identities=alice").await;
    assert_eq!(
        stream.hear("snapshot").await["presence"]["alice"]["status"],
        "available"
    );
}

// B35: a reload that makes the API internal ends what bearers watch; their devices stay.
#[tokio::test]
async fn watching_ends_when_the_api_becomes_internal() {
    let gate = gate("").await;
    let (mut socket, _) = Socket::hello(&gate, &seeing("alice"), "desk").await;
    socket
        .say("presence.sub", json!({ "identities": ["*"] }))
        .await;
    socket.hear("presence.snapshot").await;
    let internal = super::super::desk::config("      api: internal\n");
    assert_eq!(gate.reload_with(&internal).await.status, 200);
    socket.hear("presence.unsub").await;
    set(&gate, "bob", "busy").await;
    socket
        .say("presence.set", json!({ "id": 1, "status": "away" }))
        .await;
    socket.hear("presence.set").await;
    assert_eq!(item(&gate, "alice").await["status"], "away");
}
