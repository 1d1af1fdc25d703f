//! Contact lists: kept, read, bounded, and told to their owners.

use serde_json::{Value, json};

use crate::presence::desk::{
    OTHER_ACCOUNT, Socket, ask, basic, bearer, gate, other_basic, refusal, token,
};

fn list(identities: &[String]) -> String {
    json!({ "identities": identities }).to_string()
}

fn numbered(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("identity {number}"))
        .collect()
}

// B17: a list is put, read, put again and deleted; it is its owner's.
#[tokio::test]
async fn a_list_is_kept_for_its_owner() {
    let gate = gate(OTHER_ACCOUNT).await;
    let alice = bearer(&token("alice", None));
    let ours =
        async |method: &str, path: &str, body: &str| ask(&gate, &alice, method, path, body).await;
    let team = "/v1/contacts/my%20team%3A1";
    assert_eq!(refusal(&ours("GET", team, "").await), (404, 20_404));
    let put = ours(
        "PUT",
        team,
        r#"{"identities":["bob","carol","bob","日本"]}"#,
    )
    .await;
    assert_eq!(put.status, 200, "{}", put.text());
    let kept = ours("GET", team, "").await.json();
    assert_eq!(kept, put.json());
    assert_eq!(
        (&kept["list"], &kept["identities"]),
        (&json!("my team:1"), &json!(["bob", "carol", "日本"]))
    );
    let again = ours("PUT", team, r#"{"identities":["bob","carol","日本"]}"#)
        .await
        .json();
    assert_eq!(
        again["version"], kept["version"],
        "the same again is no change"
    );
    let named = format!("{team}?identity=alice");
    assert_eq!(ours("GET", &named, "").await.status, 200);
    assert_eq!(
        refusal(&ours("GET", "/v1/contacts/x?identity=bob", "").await),
        (403, 20_403)
    );
    let bob = ask(&gate, &bearer(&token("bob", None)), "GET", team, "").await;
    assert_eq!(refusal(&bob), (404, 20_404));
    // An account key says whose it means, and another account's means somebody else.
    assert_eq!(
        refusal(&ask(&gate, &basic(), "GET", team, "").await),
        (400, 20_001)
    );
    assert_eq!(ask(&gate, &basic(), "GET", &named, "").await.json(), kept);
    assert_eq!(
        refusal(&ask(&gate, &other_basic(), "GET", &named, "").await),
        (404, 20_404)
    );
    assert_eq!(ours("DELETE", team, "").await.status, 204);
    assert_eq!(refusal(&ours("DELETE", team, "").await), (404, 20_404));
    assert_eq!(refusal(&ours("GET", team, "").await), (404, 20_404));
}

// B17: lists and their names are bounded.
#[tokio::test]
async fn lists_are_bounded() {
    let gate = gate("").await;
    let alice = bearer(&token("alice", None));
    let put = async |name: &str, body: &str| {
        ask(&gate, &alice, "PUT", &format!("/v1/contacts/{name}"), body).await
    };
    assert_eq!(put("long", &list(&numbered(1_000))).await.status, 200);
    assert_eq!(
        refusal(&put("long", &list(&numbered(1_001))).await),
        (400, 20_001)
    );
    for bad in [
        "{}",
        r#"{"identities":"bob"}"#,
        r#"{"identities":["a\u0000"]}"#,
        r#"{"identities":[],"name":"x"}"#,
        "",
        "[",
    ] {
        assert_eq!(refusal(&put("bad", bad).await), (400, 20_001), "{bad}");
    }
    assert_eq!(put(&"x".repeat(121), &list(&[])).await.status, 200);
    for bad in ["x".repeat(122), "%0a".into(), "%ff".into(), String::new()] {
        assert_eq!(
            refusal(&put(&bad, &list(&[])).await),
            (400, 20_001),
            "{bad}"
        );
    }
    for number in 2..100 {
        assert_eq!(put(&format!("l{number}"), &list(&[])).await.status, 200);
    }
    assert_eq!(refusal(&put("one-more", &list(&[])).await), (409, 20_409));
    assert_eq!(
        put("long", &list(&[])).await.status,
        200,
        "one that is there is changed all the same"
    );
    let huge = list(&vec!["é".repeat(121); 3_000]);
    assert_eq!(refusal(&put("huge", &huge).await), (413, 20_413));
    let longest: Vec<_> = (0..1_000)
        .map(|number| format!("{}{number:03}", "日".repeat(118)))
        .collect();
    assert_eq!(
        put("long", &list(&longest)).await.status,
        200,
        "the longest list is taken"
    );
}

// B24: the owner's sockets are told of each change of its lists, others are not.
#[tokio::test]
async fn changes_of_a_list_are_told_to_its_owner() {
    let gate = gate("").await;
    let alice = bearer(&token("alice", None));
    let (mut desk, _) = Socket::hello(&gate, &token("alice", None), "desk").await;
    let (mut mobile, _) = Socket::hello(&gate, &token("alice", None), "mobile").await;
    let (mut bob, _) = Socket::hello(&gate, &token("bob", None), "desk").await;
    let put = async |credentials: &str, path: &str, body: &str| {
        let answer = ask(&gate, credentials, "PUT", path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let first = put(&alice, "/v1/contacts/team", r#"{"identities":["bob"]}"#).await;
    put(&alice, "/v1/contacts/team", r#"{"identities":["bob"]}"#).await;
    let path = "/v1/contacts/team?identity=alice";
    let second = put(&basic(), path, r#"{"identities":["bob","carol"]}"#).await;
    assert_eq!(
        ask(&gate, &alice, "DELETE", "/v1/contacts/team", "")
            .await
            .status,
        204
    );
    for socket in [&mut desk, &mut mobile] {
        for expected in [&first, &second, &json!({ "list": "team", "deleted": true })] {
            let delta: Value = socket.hear("contacts.delta").await;
            assert_eq!(delta, *expected);
        }
    }
    bob.say("presence.query", json!({ "id": 1, "identities": ["bob"] }))
        .await;
    bob.hear("presence.query").await;
}

// B24: whoever writes at once with others, the last that the owner hears is what the list is.
#[tokio::test]
async fn writers_at_once_leave_the_owner_with_what_the_list_is() {
    let gate = gate("").await;
    let token = token("alice", None);
    let (mut socket, _) = Socket::hello(&gate, &token, "desk").await;
    let alice = bearer(&token);
    let writer = async |writer: usize| {
        let mut connection = gate.connect().await;
        for number in 0..25 {
            let body = list(&[format!("{writer}-{number}")]);
            let fields = [("authorization", &*alice)];
            let answer = connection
                .ask("PUT", "/v1/contacts/team", &fields, &body)
                .await;
            assert_eq!(
                answer.json()["identities"],
                json!([format!("{writer}-{number}")]),
                "each hears of its own"
            );
        }
    };
    tokio::join!(writer(0), writer(1), writer(2), writer(3));
    let kept = ask(&gate, &alice, "GET", "/v1/contacts/team", "")
        .await
        .json();
    let mut last = 0;
    for _ in 0..100 {
        let delta = socket.hear("contacts.delta").await;
        let version = delta["version"].as_u64().unwrap();
        assert!(version > last, "in order, each once");
        last = version;
    }
    assert_eq!(kept["version"], last);
}
