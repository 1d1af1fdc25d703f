//! Questions about many at once: one message, by names or by contact list, and only if something changed.

use serde_json::{Value, json};

use crate::presence::desk::{
    ask, basic, bearer, gate, item, keep_list, query, refusal, seeing, set, token,
};
use crate::support::client::Connection;

async fn report(connection: &mut Connection, identity: &str, status: &str) {
    let fields = [("authorization", &*basic())];
    let body =
        json!({ "identity": identity, "device": "desk", "status": status, "text": identity })
            .to_string();
    let answer = connection.ask("PUT", "/v1/presence", &fields, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

// B16: however many reports came from however many, one request gets one message with the latest of all.
#[tokio::test]
async fn a_thousand_reports_are_one_message_with_the_latest_of_all() {
    let gate = gate("").await;
    let mut connection = gate.connect().await;
    let names: Vec<_> = (0..1_000)
        .map(|number| format!("member-{number}"))
        .collect();
    for name in &names {
        report(&mut connection, name, "busy").await;
    }
    for name in names.iter().step_by(3) {
        report(&mut connection, name, "away").await;
    }
    let watcher = bearer(&seeing("watcher"));
    let answer = query(&gate, &watcher, json!({ "identities": names })).await;
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert_eq!(
        (
            &answer["left_out"],
            answer["presence"].as_object().unwrap().len()
        ),
        (&json!(0), 1_000)
    );
    for (number, name) in names.iter().enumerate() {
        let item = &answer["presence"][name];
        let status = if number % 3 == 0 { "away" } else { "busy" };
        assert_eq!(
            (&item["status"], &item["text"]),
            (&json!(status), &json!(name))
        );
        assert!(item.get("devices").is_none());
        assert!(item["version"].as_u64() <= answer["version"].as_u64());
    }
    let some = json!({ "identities": &names[..2], "devices": true });
    let with_devices = query(&gate, &watcher, some).await.json();
    assert_eq!(
        with_devices["presence"]["member-0"]["devices"][0]["device"],
        "desk"
    );
    let mut one_more = names.clone();
    one_more.push("one more".into());
    for credentials in [&watcher, &basic()] {
        let refused = query(&gate, credentials, json!({ "identities": one_more })).await;
        assert_eq!(refusal(&refused), (400, 20_001));
    }
}

// B16: who knows the version gets nothing until one of those asked for changes.
#[tokio::test]
async fn a_question_is_answered_again_only_after_a_change_of_those_asked_for() {
    let gate = gate("").await;
    let watcher = bearer(&seeing("watcher"));
    for identity in ["bob", "carol", "dave"] {
        set(&gate, identity, "busy").await;
    }
    let asked = async |since: &Value| {
        let question = json!({ "identities": ["bob", "carol"], "if_version": since });
        query(&gate, &watcher, question).await
    };
    let first = query(&gate, &watcher, json!({ "identities": ["bob", "carol"] }))
        .await
        .json();
    let known = asked(&first["version"]).await;
    assert_eq!((known.status, known.text().as_str()), (304, ""));
    set(&gate, "dave", "away").await;
    assert_eq!(
        asked(&first["version"]).await.status,
        304,
        "another's change is none"
    );
    set(&gate, "carol", "busy").await;
    assert_eq!(
        asked(&first["version"]).await.status,
        304,
        "the same again is none"
    );
    set(&gate, "carol", "away").await;
    let second = asked(&first["version"]).await;
    assert_eq!(second.status, 200);
    assert_eq!(second.json()["presence"]["carol"]["status"], "away");
    assert_eq!(asked(&second.json()["version"]).await.status, 304);
    assert_eq!(asked(&json!(0)).await.status, 200);
    assert_eq!(refusal(&asked(&json!("x")).await), (400, 20_001));
}

// B16, B19: a token that shows more gets a whole answer, though nobody changed; also one minted in the same second as the one before.
#[tokio::test]
async fn a_token_with_other_rights_gets_a_whole_answer() {
    let gate = gate("").await;
    for identity in ["bob", "carol"] {
        set(&gate, identity, "busy").await;
    }
    let grant = |who: Value| bearer(&token("alice", Some(json!({ "subscribe": who }))));
    let question = |since: &Value| json!({ "identities": ["bob", "carol"], "if_version": since });
    let less = grant(json!(["bob"]));
    let first = query(&gate, &less, question(&Value::Null)).await.json();
    assert_eq!(first["left_out"], 1);
    assert_eq!(
        query(&gate, &less, question(&first["version"]))
            .await
            .status,
        304
    );
    for more in [
        grant(json!(["bob", "carol"])),
        grant(json!(["carol"])),
        grant(json!([])),
    ] {
        let answer = query(&gate, &more, question(&first["version"])).await;
        assert_eq!(answer.status, 200, "other rights, another answer");
        assert_eq!(
            query(&gate, &more, question(&first["version"]))
                .await
                .status,
            304
        );
    }
}

// B17: a contact list is asked for by its name: those on it and no others, again and again with fresh values, for each app.
#[tokio::test]
async fn a_contact_list_is_asked_for_by_its_name() {
    let gate = gate("").await;
    let alice = seeing("alice");
    keep_list(&gate, &alice, "team", &["bob", "carol", "nobody"]).await;
    for identity in ["bob", "carol", "dave"] {
        set(&gate, identity, "busy").await;
    }
    let question = || json!({ "list": "team" });
    let first = query(&gate, &bearer(&alice), question()).await.json();
    let names: Vec<_> = first["presence"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["bob", "carol", "nobody"]);
    assert_eq!(first["presence"]["nobody"]["status"], "offline");
    set(&gate, "bob", "away").await;
    let again = query(&gate, &bearer(&alice), question()).await.json();
    assert_eq!(again["presence"]["bob"]["status"], "away");
    // Another application on the device, with a token of its own.
    let second_app = token(
        "alice",
        Some(json!({ "publish": true, "subscribe": ["bob", "carol", "nobody"] })),
    );
    let same = query(&gate, &bearer(&second_app), question()).await.json();
    assert_eq!(same, again);
    // The list itself changes: that is a change too.
    let since = json!({ "list": "team", "if_version": again["version"] });
    assert_eq!(
        query(&gate, &bearer(&alice), since.clone()).await.status,
        304
    );
    keep_list(&gate, &alice, "team", &["bob"]).await;
    let shorter = query(&gate, &bearer(&alice), since).await.json();
    assert_eq!(shorter["presence"].as_object().unwrap().len(), 1);
    // Visibility is applied at reading, and a list is its owner's.
    let blind = token("alice", Some(json!({ "subscribe": [] })));
    let none = query(&gate, &bearer(&blind), question()).await.json();
    assert_eq!(
        (&none["presence"], &none["left_out"]),
        (&json!({}), &json!(1))
    );
    let refused = query(&gate, &bearer(&seeing("bob")), question()).await;
    assert_eq!(refusal(&refused), (404, 20_404));
    let by_key = ask(
        &gate,
        &basic(),
        "POST",
        "/v1/presence/query?identity=alice",
        r#"{"list":"team"}"#,
    )
    .await;
    assert_eq!(by_key.json()["presence"]["bob"]["status"], "away");
    assert_eq!(
        item(&gate, "bob").await["version"],
        by_key.json()["presence"]["bob"]["version"]
    );
}

// A question names either identities or a list, and nothing that is not understood.
#[tokio::test]
async fn a_question_that_is_none_is_refused() {
    let gate = gate("").await;
    for bad in [
        json!({}),
        json!({ "identities": ["a"], "list": "team" }),
        json!({ "identities": "a" }),
        json!({ "identities": [7] }),
        json!({ "identities": [""] }),
        json!({ "identities": ["a\u{2028}b"] }),
        json!({ "identities": ["team-*", "bob"] }),
        json!({ "identities": ["t*m*"] }),
        json!({ "identities": ["team**"] }),
        json!({ "identities": ["a"], "device": true }),
        json!(["a"]),
    ] {
        let refused = query(&gate, &basic(), bad.clone()).await;
        assert_eq!(refusal(&refused), (400, 20_001), "{bad}");
    }
    let refused = query(
        &gate,
        &bearer(&token("alice", None)),
        json!({ "list": "none" }),
    )
    .await;
    assert_eq!(refusal(&refused), (404, 20_404));
}
