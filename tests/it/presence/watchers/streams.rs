//! The list first and then each change once, over sockets and server-sent events alike.

use std::time::Duration;

use serde_json::{Value, json};

use crate::presence::desk::{
    Events, OTHER_ACCOUNT, Socket, basic, bearer, gate, names, other_basic, refusal, seeing, set,
    token,
};

/// Longer than changes wait to be told.
const A_WHILE: Duration = Duration::from_millis(400);

// B21, B37: a subscription brings the list once, and then each change once.
#[tokio::test]
async fn a_subscriber_gets_the_list_and_then_each_change_once() {
    let gate = gate("").await;
    set(&gate, "bob", "busy").await;
    let watcher = seeing("watcher");
    let mut stream = Events::open(&gate, &bearer(&watcher), "identities=bob,carol").await;
    let (mut socket, _) = Socket::hello(&gate, &watcher, "desk").await;
    socket
        .say(
            "presence.sub",
            json!({ "id": 7, "identities": ["bob", "carol"] }),
        )
        .await;
    let by_socket = socket.hear("presence.snapshot").await;
    let by_stream = stream.hear("snapshot").await;
    assert_eq!(by_socket["re"], 7);
    for list in [&by_socket, &by_stream] {
        assert_eq!(names(list), ["bob", "carol"]);
        assert_eq!(
            (&list["presence"]["bob"]["status"], &list["left_out"]),
            (&json!("busy"), &json!(0))
        );
        assert_eq!(list["presence"]["carol"]["status"], "offline");
    }
    let mut version = by_stream["version"].as_u64();
    for (identity, status) in [
        ("bob", "away"),
        ("carol", "available"),
        ("bob", "busy"),
        ("dave", "busy"),
        ("carol", "busy"),
    ] {
        let said = set(&gate, identity, status).await;
        if identity == "dave" {
            continue;
        }
        let by_socket = socket.hear("presence.delta").await;
        let by_stream = stream.hear("delta").await;
        assert_eq!(by_socket, by_stream);
        assert_eq!(names(&by_stream), [identity]);
        assert_eq!(by_stream["presence"][identity]["status"], status);
        assert_eq!(by_stream["presence"][identity]["version"], said["version"]);
        assert!(by_stream["version"].as_u64() > version);
        version = by_stream["version"].as_u64();
    }
    set(&gate, "carol", "busy").await;
    assert!(
        socket.is_quiet(A_WHILE).await && stream.is_quiet(A_WHILE).await,
        "once, and nothing that is no change"
    );
    socket.say("presence.unsub", json!({ "id": 8 })).await;
    assert_eq!(socket.hear("presence.unsub").await["re"], 8);
    set(&gate, "bob", "available").await;
    assert_eq!(names(&stream.hear("delta").await), ["bob"]);
    assert!(socket.is_quiet(A_WHILE).await);
}

// B21: with devices each device's change is told, without them only what shows.
#[tokio::test]
async fn devices_are_told_to_those_who_asked_for_them() {
    let gate = gate("").await;
    let mut plain = Events::open(&gate, &basic(), "identities=bob").await;
    let mut deep = Events::open(&gate, &basic(), "identities=bob&devices=true").await;
    plain.hear("snapshot").await;
    assert_eq!(
        deep.hear("snapshot").await["presence"]["bob"]["devices"],
        json!([])
    );
    let (mut socket, _) = Socket::hello(&gate, &token("bob", None), "desk").await;
    plain.hear("delta").await;
    deep.hear("delta").await;
    let (_mobile, _) = Socket::hello(&gate, &token("bob", None), "mobile").await;
    plain.hear("delta").await;
    assert_eq!(
        deep.hear("delta").await["presence"]["bob"]["devices"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    socket
        .say("presence.set", json!({ "status": "away" }))
        .await;
    let devices = &deep.hear("delta").await["presence"]["bob"]["devices"];
    let statuses: Vec<_> = devices
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["status"].as_str().unwrap())
        .collect();
    assert_eq!(
        statuses.iter().filter(|status| **status == "away").count(),
        1,
        "{statuses:?}"
    );
    assert!(plain.is_quiet(A_WHILE).await, "what shows is the same");
}

// B37: a pattern brings those who are there, and then who comes.
#[tokio::test]
async fn a_pattern_brings_those_who_are_there_and_then_who_comes() {
    let gate = gate("").await;
    for identity in ["team-a", "other", "team"] {
        set(&gate, identity, "available").await;
    }
    let mut stream = Events::open(&gate, &bearer(&seeing("watcher")), "identities=team-*").await;
    let list = stream.hear("snapshot").await;
    assert_eq!((names(&list), list.get("more")), (vec!["team-a"], None));
    set(&gate, "other", "busy").await;
    set(&gate, "team-b", "away").await;
    assert_eq!(names(&stream.hear("delta").await), ["team-b"]);
    for bad in [
        "identities=t*m*",
        "identities=team**",
        "identities=team-*,bob",
        "",
        "list=none",
        "identities=a%00",
        "identities=a&list=b",
    ] {
        let refused = Events::try_open(&gate, &bearer(&seeing("watcher")), bad).await;
        let status = refused.err().map(|answer| refusal(&answer).0);
        assert_eq!(
            status,
            Some(if bad == "list=none" { 404 } else { 400 }),
            "{bad}"
        );
    }
}

// B37: a list that one message does not hold follows as changes.
#[tokio::test]
async fn a_long_list_follows_in_parts() {
    let gate = gate("").await;
    let mut connection = gate.connect().await;
    for number in 0..1_100 {
        let fields = [("authorization", &*basic())];
        let body = json!({ "identity": format!("i{number}"), "device": "d", "status": "busy" })
            .to_string();
        assert_eq!(
            connection
                .ask("PUT", "/v1/presence", &fields, &body)
                .await
                .status,
            200
        );
    }
    let mut stream = Events::open(&gate, &basic(), "identities=*").await;
    let list = stream.hear("snapshot").await;
    assert_eq!((names(&list).len(), &list["more"]), (1_000, &json!(true)));
    let rest = stream.hear("delta").await;
    assert_eq!(names(&rest).len(), 100);
    assert!(
        names(&rest)
            .iter()
            .all(|name| list["presence"].get(name).is_none())
    );
    let many: Vec<_> = (0..1_001).map(|number| format!("i{number}")).collect();
    let query = format!("identities={}", many.join(","));
    let refused = Events::try_open(&gate, &basic(), &query).await;
    assert_eq!(
        refused.err().map(|answer| refusal(&answer)),
        Some((400, 20_001))
    );
}

// B19: whom a token does not show is in no list and no change; a new token is a new judgement.
#[tokio::test]
async fn subscriptions_show_what_the_token_shows() {
    let gate = gate(OTHER_ACCOUNT).await;
    for identity in ["bob", "secret"] {
        set(&gate, identity, "busy").await;
    }
    let grant = |who: Value| token("alice", Some(json!({ "publish": true, "subscribe": who })));
    let some = grant(json!(["bob"]));
    let mut stream = Events::open(&gate, &bearer(&some), "identities=bob,secret,nobody").await;
    let mut all = Events::open(&gate, &bearer(&some), "identities=*").await;
    let list = stream.hear("snapshot").await;
    assert_eq!((names(&list), &list["left_out"]), (vec!["bob"], &json!(2)));
    let list = all.hear("snapshot").await;
    assert_eq!(
        (names(&list), &list["left_out"]),
        (vec!["bob"], &json!(0)),
        "a pattern does not tell how many"
    );
    let (mut socket, _) = Socket::hello(&gate, &some, "desk").await;
    all.hear("delta").await;
    socket
        .say("presence.sub", json!({ "identities": ["bob", "secret"] }))
        .await;
    socket.hear("presence.snapshot").await;
    set(&gate, "secret", "away").await;
    set(&gate, "bob", "away").await;
    for delta in [
        socket.hear("presence.delta").await,
        stream.hear("delta").await,
        all.hear("delta").await,
    ] {
        assert_eq!(names(&delta), ["bob"]);
    }
    // The socket's next token shows another.
    socket
        .say("hello", json!({ "token": grant(json!(["secret"])) }))
        .await;
    socket.hear("welcome").await;
    socket.hear("presence.resync").await;
    let list = socket.hear("presence.snapshot").await;
    assert_eq!(
        (names(&list), &list["left_out"]),
        (vec!["secret"], &json!(1))
    );
    set(&gate, "bob", "busy").await;
    set(&gate, "secret", "busy").await;
    assert_eq!(names(&socket.hear("presence.delta").await), ["secret"]);
    let mut other = Events::open(&gate, &other_basic(), "identities=*").await;
    assert_eq!(names(&other.hear("snapshot").await), Vec::<&str>::new());
}

// An idle stream is written to, so that nothing between takes it for dead; its end frees its place.
#[tokio::test]
async fn an_idle_stream_is_written_to_and_bounded() {
    let gate = gate("  heartbeat: 1s\n  max_sockets_per_account: 2\n").await;
    let mut first = Events::open(&gate, &basic(), "identities=bob").await;
    first.hear("snapshot").await;
    first.comment().await;
    let _second = Events::open(&gate, &basic(), "identities=bob").await;
    let refused = Events::try_open(&gate, &basic(), "identities=bob").await;
    assert_eq!(
        refused.err().map(|answer| refusal(&answer)),
        Some((409, 20_409))
    );
    drop(first);
    crate::support::eventually("its place is free", async || {
        Events::try_open(&gate, &basic(), "identities=bob")
            .await
            .is_ok()
    })
    .await;
}

// A key that is taken away ends the streams that it opened, also those of the account's own credentials.
#[tokio::test]
async fn a_key_that_is_taken_away_ends_its_streams() {
    let gate = gate(OTHER_ACCOUNT).await;
    let mut by_token = Events::open(&gate, &bearer(&seeing("alice")), "identities=bob").await;
    let mut by_other = Events::open(&gate, &other_basic(), "identities=bob").await;
    let mut by_account = Events::open(&gate, &basic(), "identities=bob").await;
    for stream in [&mut by_token, &mut by_other, &mut by_account] {
        stream.hear("snapshot").await;
    }
    let (mut socket, _) = Socket::hello(&gate, &seeing("alice"), "desk").await;
    socket
        .say("register", json!({ "media": { "audio": false } }))
        .await;
    socket.hear("offline").await;
    let key = "SK11111111111111111111111111111111";
    let config = crate::presence::desk::config("").replace(crate::presence::desk::KEY, key);
    gate.reloaded_with(&config).await;
    assert_eq!(by_token.next().await, None, "its key went");
    assert_eq!(by_other.next().await, None, "its account went");
    assert_eq!(socket.hear("error").await["error"]["code"], 31_205);
    assert_eq!(
        socket.until_closed().await,
        Some(4001),
        "though no device is registered on it"
    );
    set(&gate, "bob", "busy").await;
    by_account.hear("delta").await;
}
