//! The event stream that the live page hears: what comes on it, how many may listen, and that none of them is in the way.

use serde_json::Value;

use crate::support::client::{self, Connection, by};
use crate::support::origin::{held_origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::{eventually, within};

const LIMITS: &str = "limits: [{ name: account, per: [account], max: 2 }]";
/// As `STREAMS_MAX` of the gate.
const STREAMS_MAX: usize = 1_024;

/// Somebody who listens.
struct Listener {
    connection: Connection,
    text: String,
}

impl Listener {
    async fn open(gate: &Sidecar) -> (u16, Self) {
        let mut connection = Connection::open(&gate.admin).await;
        connection
            .send("GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await;
        let (status, head) = connection.head().await;
        if status == 200 {
            assert!(head.says("content-type", "text/event-stream"));
            assert!(head.says("cache-control", "no-store"));
        }
        let text = String::new();
        (status, Self { connection, text })
    }

    /// The next event of that name.
    async fn next(&mut self, name: &str) -> Value {
        let lead = format!("event: {name}\ndata: ");
        loop {
            if let Some((_, rest)) = self.text.split_once(&lead)
                && let Some((data, rest)) = rest.split_once("\n\n")
            {
                // The marks between chunks may fall into an event.
                let data = without_chunks(data);
                self.text = rest.to_owned();
                return serde_json::from_str(&data)
                    .unwrap_or_else(|error| panic!("{error}: {data}"));
            }
            let bytes = within(name, self.connection.wire.some()).await.unwrap();
            assert!(!bytes.is_empty(), "the stream ended");
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
}

/// A line of JSON has no line end of its own, so each one in it is of a chunk's head.
fn without_chunks(data: &str) -> String {
    let mut lines = data.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let is_size =
        |line: &&str| !line.is_empty() && !line.chars().all(|each| each.is_ascii_hexdigit());
    first + &lines.filter(is_size).collect::<String>()
}

// A28: whoever begins to listen is told of the last minutes, of the moment, and then of each second, and sees what changes.
#[tokio::test]
async fn a_listener_is_told_of_the_last_minutes_and_of_each_second() {
    let origin = held_origin();
    let gate = sidecar(LIMITS).before(&origin).start().await;
    let (status, mut listener) = Listener::open(&gate).await;
    assert_eq!(status, 200);
    let history = listener.next("history").await;
    assert_eq!(history["step_seconds"], 2);
    assert!(
        history["at"].is_array() && history["limits"].is_array(),
        "{history}"
    );
    let first = listener.next("overview").await;
    assert_eq!(
        (&first["in_flight"], &first["phase"]),
        (&0.into(), &"running".into())
    );
    let mut client = gate.connect().await;
    client.send_get("/", &by("A")).await;
    origin.until_in_flight(1).await;
    let mut seen = listener.next("overview").await;
    while seen["in_flight"] == 0 {
        seen = listener.next("overview").await;
    }
    assert_eq!(seen["requests"]["holding"][0]["account"], "A");
    assert_eq!(seen["limits"][0]["fullest"][0]["key"]["account"], "A");
    // A later one is told of what was: a point is made every two seconds.
    listener.next("overview").await;
    let mut later = Value::Null;
    eventually("a point in the last minutes", async || {
        let (_, mut another) = Listener::open(&gate).await;
        later = another.next("history").await;
        let points = later["limits"][0]["in_flight"].as_array().cloned();
        points.is_some_and(|points| points.last() == Some(&1.into()))
    })
    .await;
    let columns = &later["limits"][0];
    for column in ["used", "in_flight", "queued", "refused"] {
        let length = columns[column].as_array().map(Vec::len);
        assert_eq!(length, later["at"].as_array().map(Vec::len), "{column}");
    }
    origin.open();
}

// Bounded everything: as many may listen as may; one more is told so, the data plane serves on, and who leaves makes room.
#[tokio::test]
async fn a_thousand_listeners_are_served_and_one_too_many_is_told() {
    let origin = origin();
    let gate = sidecar(LIMITS).before(&origin).start().await;
    let mut listeners = Vec::new();
    for index in 0..STREAMS_MAX {
        let (status, listener) = Listener::open(&gate).await;
        assert_eq!(status, 200, "listener {index}");
        listeners.push(listener);
    }
    let gauge = "tidegate_event_streams";
    assert_eq!(gate.metric(gauge).await, Some(1_024.0));
    let refused = client::get(&gate.admin, "/v1/events", &[("host", "localhost")]).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.field("retry-after"), "30");
    // Each is told, and nobody behind the data plane's door is in their way.
    for listener in &mut listeners {
        listener.next("history").await;
        listener.next("overview").await;
    }
    for _ in 0..50 {
        assert_eq!(gate.get("/", "A").await.status, 200);
    }
    for listener in listeners.iter_mut().step_by(100) {
        listener.next("overview").await;
    }
    listeners.truncate(10);
    eventually("the others are forgotten", async || {
        gate.metric(gauge).await == Some(10.0)
    })
    .await;
    assert_eq!(Listener::open(&gate).await.0, 200);
    drop(listeners);
    eventually("all are forgotten", async || {
        gate.metric(gauge).await == Some(0.0)
    })
    .await;
}

// CONTRACT §4: whoever listens by a token that holds no longer hears no more, and one who has a new one begins anew.
#[tokio::test]
async fn a_stream_ends_when_the_token_changes() {
    let origin = origin();
    let gate = sidecar(LIMITS).before(&origin).start().await;
    let (_, mut listener) = Listener::open(&gate).await;
    listener.next("overview").await;
    std::fs::write(gate.directory().join("token"), "a-new-one").unwrap();
    let token = r#"admin: { address: "127.0.0.1:0", token: { file: "$DIR/token" } }"#;
    let yaml = format!("{token}\n{LIMITS}");
    gate.reloaded_with(&yaml).await;
    while !listener.text.ends_with("\r\n0\r\n\r\n") {
        let bytes = within("the end of the stream", listener.connection.wire.some()).await;
        let bytes = bytes.expect("the last chunk");
        listener.text.push_str(&String::from_utf8_lossy(&bytes));
    }
}

// CONTRACT §4: what the guard looks at is what is answered: no other spelling of a path is one of the page's calls.
#[tokio::test]
async fn a_second_slash_makes_another_path() {
    let origin = origin();
    let gate = sidecar(LIMITS).before(&origin).start().await;
    for path in [
        "//v1/overview",
        "//v1/events",
        "//v1/reload",
        "/v1//overview",
    ] {
        let answer = client::get(&gate.admin, path, &[("host", "rebound.example")]).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}
