//! Contact lists as subscriptions: the stream follows the list.

use serde_json::json;

use crate::presence::desk::{
    Events, Socket, ask, basic, bearer, gate, keep_list, names, refusal, seeing, set,
};
use crate::support::eventually;

// B22, B24: who watches a list is told of those on it, whoever they are at the time.
#[tokio::test]
async fn a_stream_follows_its_list() {
    let gate = gate("").await;
    let alice = seeing("alice");
    keep_list(&gate, &alice, "team", &["bob", "carol"]).await;
    let mut stream = Events::open(&gate, &bearer(&alice), "list=team").await;
    let mut by_key = Events::open(&gate, &basic(), "list=team&identity=alice").await;
    let (mut socket, _) = Socket::hello(&gate, &alice, "desk").await;
    socket.say("presence.sub", json!({ "list": "team" })).await;
    assert_eq!(
        names(&socket.hear("presence.snapshot").await),
        ["bob", "carol"]
    );
    for stream in [&mut stream, &mut by_key] {
        assert_eq!(names(&stream.hear("snapshot").await), ["bob", "carol"]);
    }
    keep_list(&gate, &alice, "team", &["carol", "dave"]).await;
    for stream in [&mut stream, &mut by_key] {
        stream.hear("resync").await;
        assert_eq!(names(&stream.hear("snapshot").await), ["carol", "dave"]);
    }
    socket.hear("contacts.delta").await;
    socket.hear("presence.resync").await;
    assert_eq!(
        names(&socket.hear("presence.snapshot").await),
        ["carol", "dave"]
    );
    set(&gate, "bob", "busy").await;
    set(&gate, "dave", "busy").await;
    assert_eq!(names(&stream.hear("delta").await), ["dave"]);
    assert_eq!(names(&socket.hear("presence.delta").await), ["dave"]);
    let gone = ask(&gate, &bearer(&alice), "DELETE", "/v1/contacts/team", "").await;
    assert_eq!(gone.status, 204);
    stream.hear("resync").await;
    assert_eq!(names(&stream.hear("snapshot").await), Vec::<&str>::new());
    set(&gate, "dave", "away").await;
    keep_list(&gate, &alice, "team", &["bob"]).await;
    stream.hear("resync").await;
    assert_eq!(names(&stream.hear("snapshot").await), ["bob"]);
    set(&gate, "bob", "away").await;
    assert_eq!(names(&stream.hear("delta").await), ["bob"]);
    let refused = Events::try_open(&gate, &bearer(&seeing("bob")), "list=team").await;
    assert_eq!(
        refused.err().map(|answer| refusal(&answer)),
        Some((404, 20_404)),
        "a list is its owner's"
    );
    let refused = Events::try_open(&gate, &bearer(&alice), "list=team&identity=bob").await;
    assert_eq!(
        refused.err().map(|answer| refusal(&answer)),
        Some((403, 20_403))
    );
}

// B22: a list that many write at once leaves nothing behind that could be told to the wrong one, or to nobody.
#[tokio::test]
async fn a_list_that_many_write_at_once_leaves_nothing_behind() {
    let gate = gate("").await;
    let alice = bearer(&seeing("alice"));
    ask(
        &gate,
        &alice,
        "PUT",
        "/v1/contacts/team",
        r#"{"identities":[]}"#,
    )
    .await;
    let members: Vec<_> = (0..20).map(|number| format!("m{number}")).collect();
    let stream = Events::open(&gate, &alice, "list=team").await;
    let writer = async |writer: usize| {
        let mut connection = gate.connect().await;
        for number in 0..40 {
            let body =
                json!({ "identities": [members[(number * 7 + writer * 5) % 20]] }).to_string();
            let fields = [("authorization", &*alice)];
            let answer = connection
                .ask("PUT", "/v1/contacts/team", &fields, &body)
                .await;
            assert_eq!(answer.status, 200);
        }
    };
    tokio::join!(writer(0), writer(1), writer(2), writer(3));
    drop(stream);
    eventually("the stream has ended", async || {
        gate.metric("tidegate_presence_sockets").await == Some(0.0)
    })
    .await;
    let naive = gate.metric("tidegate_presence_naive_messages_total").await;
    for member in &members {
        set(&gate, member, "busy").await;
    }
    assert_eq!(
        gate.metric("tidegate_presence_naive_messages_total").await,
        naive,
        "nobody watches any more"
    );
    let mut stream = Events::open(&gate, &alice, "identities=m0").await;
    stream.hear("snapshot").await;
    set(&gate, "m0", "away").await;
    stream.hear("delta").await;
}
