//! Changes told to a customer's own server: signed, gathered while one batch is under way, and again where that can help.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tidegate::presence::SecretText;
use tidegate::presence::fetch::signature::verify_json;

use crate::presence::desk::{
    ACCOUNT, AUTH_TOKEN, Events, OTHER_ACCOUNT, basic, bearer, config, gate, names, other_seeing,
    put, seeing, set,
};
use crate::support::eventually;
use crate::support::origin::{Exchange, Origin, held_origin, origin};
use crate::support::sidecar::Sidecar;

/// A gate whose account tells that server.
async fn telling(receiver: &Origin) -> Sidecar {
    gate(&section(receiver)).await
}

fn section(receiver: &Origin) -> String {
    format!(
        "      webhooks: [{{ url: \"http://{}/hook?for=us\" }}]\n",
        receiver.address
    )
}

async fn until_served(receiver: &Origin, count: usize) {
    eventually("a batch", async || receiver.heads().len() >= count).await;
}

async fn until_delivered(gate: &Sidecar, outcome: &str, count: f64) {
    let sample = format!("tidegate_webhook_seconds_count{{outcome=\"{outcome}\"}}");
    eventually("the outcome is counted", async || {
        gate.metric(&sample).await == Some(count)
    })
    .await;
}

/// A server that answers so the first time, and then takes all.
fn at_first(status: u16) -> Origin {
    let asked = AtomicUsize::new(0);
    Origin::start(async move |exchange: &mut Exchange| {
        exchange.body().await?;
        let is_first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        let status = if is_first { status } else { 200 };
        exchange.reply(status, "").await
    })
}

/// The body that came last.
fn last(receiver: &Origin) -> Value {
    serde_json::from_slice(&receiver.last_body().bytes).unwrap()
}

// B23: each change is posted as signed JSON, with the account and the devices.
#[tokio::test]
async fn a_change_is_posted_as_signed_json() {
    let receiver = origin();
    let gate = telling(&receiver).await;
    let said = set(&gate, "bob", "busy").await;
    until_delivered(&gate, "delivered", 1.0).await;
    let head = receiver.last();
    let body = receiver.last_body().bytes;
    assert!(
        head.start.starts_with("POST /hook?for=us&bodySHA256="),
        "{}",
        head.start
    );
    assert_eq!(head.get("content-type"), Some("application/json"));
    let target = head.start.split(' ').nth(1).unwrap();
    let url = format!("http://{}{target}", receiver.address);
    let given = head.get("x-twilio-signature").unwrap();
    let secret = |text: &str| [SecretText(text.to_owned())];
    assert!(verify_json(&secret(AUTH_TOKEN), &url, &body, given));
    assert!(!verify_json(&secret("another"), &url, &body, given));
    assert!(!verify_json(&secret(AUTH_TOKEN), &url, b"{}", given));
    let batch = last(&receiver);
    assert_eq!(
        (&batch["account"], &batch["type"]),
        (&json!(ACCOUNT), &json!("presence.delta"))
    );
    assert_eq!(batch["payload"]["version"], said["version"]);
    let item = &batch["payload"]["presence"]["bob"];
    assert_eq!(
        (&item["status"], &item["devices"][0]["device"]),
        (&json!("busy"), &json!("desk"))
    );
    // What is no change is not told, nor what is another account's.
    set(&gate, "bob", "busy").await;
    set(&gate, "bob", "away").await;
    until_delivered(&gate, "delivered", 2.0).await;
    assert_eq!(
        last(&receiver)["payload"]["presence"]["bob"]["status"],
        "away"
    );
    assert_eq!(receiver.heads().len(), 2);
}

// B23: what changes while a batch is under way is told in one batch after it, as it is by then.
#[tokio::test]
async fn changes_gather_while_a_batch_is_under_way() {
    let receiver = held_origin();
    let gate = telling(&receiver).await;
    let mut watcher = Events::open(&gate, &basic(), "identities=bob,carol").await;
    watcher.hear("snapshot").await;
    set(&gate, "bob", "busy").await;
    watcher.hear("delta").await;
    receiver.until_in_flight(1).await;
    for (identity, status) in [
        ("bob", "away"),
        ("carol", "busy"),
        ("bob", "unavailable"),
        ("carol", "available"),
    ] {
        set(&gate, identity, status).await;
        // Others have been told by now, so that the webhook would have been.
        watcher.hear("delta").await;
    }
    assert_eq!(receiver.heads().len(), 1, "one at a time");
    receiver.open();
    until_delivered(&gate, "delivered", 2.0).await;
    let batch = last(&receiver);
    assert_eq!(names(&batch["payload"]), ["bob", "carol"]);
    let presence = &batch["payload"]["presence"];
    assert_eq!(
        (&presence["bob"]["status"], &presence["carol"]["status"]),
        (&json!("unavailable"), &json!("available"))
    );
    assert_eq!((receiver.heads().len(), receiver.peak()), (2, 1));
}

// B23: a batch that failed is sent again, the same and known by its token; the next has another.
#[tokio::test]
async fn a_batch_that_failed_is_sent_again_under_the_same_token() {
    let receiver = at_first(500);
    let gate = telling(&receiver).await;
    set(&gate, "bob", "busy").await;
    until_delivered(&gate, "delivered", 1.0).await;
    let first = receiver.last_body().bytes;
    let tokens = |receiver: &Origin| -> Vec<String> {
        let token = |head: &crate::support::wire::Head| {
            head.get("i-twilio-idempotency-token").unwrap().to_owned()
        };
        receiver.heads().iter().map(token).collect()
    };
    let twice = tokens(&receiver);
    assert_eq!((twice.len(), &twice[0]), (2, &twice[1]));
    assert!(!twice[0].is_empty());
    set(&gate, "bob", "away").await;
    until_delivered(&gate, "delivered", 2.0).await;
    assert_ne!(tokens(&receiver)[2], twice[0]);
    assert_ne!(receiver.last_body().bytes, first);
}

// B23: one that refuses is not asked again, and hears of the next change all the same.
#[tokio::test]
async fn a_receiver_that_refuses_hears_of_the_next_change() {
    let receiver = at_first(403);
    let gate = telling(&receiver).await;
    set(&gate, "bob", "busy").await;
    until_delivered(&gate, "refused", 1.0).await;
    set(&gate, "carol", "busy").await;
    until_delivered(&gate, "delivered", 1.0).await;
    assert_eq!(receiver.heads().len(), 2);
    assert_eq!(names(&last(&receiver)["payload"]), ["carol"]);
    assert!(gate.log().contains("presence changes were not taken"));
    assert!(!gate.log().contains(AUTH_TOKEN));
}

// B23: each account tells its own; a reload adds and takes away receivers.
#[tokio::test]
async fn receivers_are_an_account_s_own_and_follow_the_configuration() {
    let (first, second) = (origin(), origin());
    let gate = gate(&(section(&first) + OTHER_ACCOUNT)).await;
    let other = bearer(&other_seeing("mallory"));
    put(&gate, &other, json!({ "device": "d", "status": "busy" })).await;
    set(&gate, "bob", "busy").await;
    until_served(&first, 1).await;
    assert_eq!(names(&last(&first)["payload"]), ["bob"]);
    gate.reloaded_with(&config(&(section(&second) + OTHER_ACCOUNT)))
        .await;
    eventually("the second is told", async || {
        let alice = bearer(&seeing("alice"));
        for status in ["away", "busy"] {
            put(&gate, &alice, json!({ "device": "d", "status": status })).await;
        }
        !second.heads().is_empty()
    })
    .await;
    assert_eq!(names(&last(&second)["payload"]), ["alice"]);
    assert_eq!(
        first.heads().len(),
        1,
        "who is not configured any more is told nothing"
    );
}
