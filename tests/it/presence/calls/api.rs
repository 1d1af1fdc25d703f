//! Communications over the API: read, followed, repeated and ended; and what two sides say to each other on the way.

use serde_json::json;

use super::scene::{
    ANSWER, Customer, NUMBER, OFFER, accept, bring, call, connect, hang_up, hears_nothing, leave,
    page, read, traced, until,
};
use crate::presence::desk::{Events, ask, basic};
use crate::support::eventually;
use crate::support::sidecar::Sidecar;

const DIAL: &str = "<Dial><Client>bob</Client></Dial>";

async fn follow(gate: &Sidecar, sid: &str) -> Events {
    let path = format!("/v1/communications/{sid}/events");
    let opened = Events::at(gate.connect().await, &basic(), &path).await;
    opened.unwrap_or_else(|refused| panic!("{}", refused.text()))
}

// PLUGIN §4: a call's stream tells how it stands, what happens, and ends with the call; one that is over says so and ends.
#[tokio::test]
async fn a_stream_tells_how_a_call_goes_and_ends_with_it() {
    let customer = Customer::saying(&format!("<Pause length=\"1\"/><Say>hold on</Say>{DIAL}"));
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    let mut events = follow(&gate, &sid).await;
    assert_eq!(events.hear("queued").await["sid"], sid.as_str());
    assert_eq!(events.hear("announcement").await["announcement"], "hold on");
    let invitation = bob.hear("call.invite").await;
    bob.say("call.ringing", json!({ "callsid": invitation["callsid"] }))
        .await;
    events.hear("ringing").await;
    accept(&mut bob, &invitation).await;
    let answered = events.hear("answered").await;
    assert_eq!(answered["sdp"], ANSWER);
    assert_eq!(answered["answered_by"]["identity"], "bob");
    hang_up(&gate, &sid).await;
    assert_eq!(events.hear("ended").await["status"], "completed");
    assert!(events.next().await.is_none());
    let mut events = follow(&gate, &sid).await;
    assert_eq!(events.hear("ended").await["status"], "completed");
    assert!(events.next().await.is_none());
}

// PLUGIN §4: deleted before the answer a call is cancelled, after it hung up, and after its end left as it is.
#[tokio::test]
async fn a_delete_cancels_before_the_answer_and_hangs_up_after_it() {
    let customer = Customer::saying("<Dial action=\"/after\"><Client>bob</Client></Dial>");
    customer.say("/after", "<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    bob.hear("call.invite").await;
    hang_up(&gate, &sid).await;
    bob.hear("call.cancel").await;
    let record = until(&gate, &sid, "canceled").await;
    assert_eq!(record["dial_status"], "canceled");
    assert_eq!(traced(&record, "bob", "phone"), "caller_left");
    customer.concluded("/after").await;

    let sid = bring(&gate, NUMBER).await;
    let invitation = bob.hear("call.invite").await;
    accept(&mut bob, &invitation).await;
    bob.hear("call.accept").await;
    hang_up(&gate, &sid).await;
    bob.hear("call.hangup").await;
    until(&gate, &sid, "completed").await;
    hang_up(&gate, &sid).await;
    assert_eq!(read(&gate, &sid).await["status"], "completed");
    customer.until_asked("/after", 2).await;
    hears_nothing(&mut bob).await;
    // The caller's end hears that the account ended its call.
    let mut alice = page(&gate, "alice", "desk").await;
    let sid = call(&mut alice, "bob").await;
    bob.hear("call.invite").await;
    hang_up(&gate, &sid).await;
    assert_eq!(alice.hear("call.hangup").await["callsid"], sid.as_str());
}

// PLUGIN §4: `client:x` without an application is dialled, as a document would.
#[tokio::test]
async fn a_client_is_dialled_without_instructions() {
    let customer = Customer::saying("");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = bring(&gate, "client:bob/phone").await;
    let invitation = bob.hear("call.invite").await;
    assert_eq!(invitation["from"], "+14155550199");
    assert_eq!(invitation["sdp"], OFFER);
    accept(&mut bob, &invitation).await;
    until(&gate, &sid, "in-progress").await;
    assert!(customer.asked("/voice").is_empty());
}

// PLUGIN §4: the same key finds the same call, also while the first request is still under way.
#[tokio::test]
async fn the_same_idempotency_key_finds_the_same_call() {
    let customer = Customer::saying("<Pause length=\"60\"/>");
    let gate = customer.gate("", "").await;
    let body = json!({ "to": NUMBER, "from": "x", "sdp": OFFER }).to_string();
    let post = async |key: &str| {
        let authorization = basic();
        let fields = [
            ("authorization", &*authorization),
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        let mut connection = gate.connect().await;
        let answer = connection
            .ask("POST", "/v1/communications", &fields, &body)
            .await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["sid"].as_str().unwrap().to_owned()
    };
    let first = post("one").await;
    assert_eq!(post("one").await, first);
    assert_ne!(post("two").await, first);
    for round in 0..10 {
        let key = format!("together-{round}");
        let (a, b) = tokio::join!(post(&key), post(&key));
        assert_eq!(a, b, "round {round}");
    }
    hang_up(&gate, &first).await;
    until(&gate, &first, "canceled").await;
    assert_eq!(post("one").await, first);
    eventually("the server was asked for each call", async || {
        customer.asked("/voice").len() == 12
    })
    .await;
}

// PLUGIN §4, §6: a trace tells of each device how its ringing ended, or why it did not ring.
#[tokio::test]
async fn a_record_traces_every_device_and_carries_the_answer() {
    let customer =
        Customer::saying("<Dial><Client>bob</Client><Number>+14155550111</Number></Dial>");
    let gate = customer.gate("", "").await;
    let mut phone = page(&gate, "bob", "phone").await;
    let mut tablet = page(&gate, "bob", "tablet").await;
    let sid = bring(&gate, NUMBER).await;
    let first = phone.hear("call.invite").await;
    tablet.hear("call.invite").await;
    accept(&mut phone, &first).await;
    let told = json!({ "callsid": first["callsid"], "candidate": "candidate:9" });
    phone.say("call.candidate", told).await;
    let record = until(&gate, &sid, "in-progress").await;
    assert_eq!(traced(&record, "bob", "phone"), "answered");
    assert_eq!(traced(&record, "bob", "tablet"), "answered_elsewhere");
    assert_eq!(record["trace"][0]["noun"], "Number");
    assert_eq!(record["from"], "+14155550199");
    assert_eq!(record["to"], NUMBER);
    eventually("the answer's candidates can be read", async || {
        let record = read(&gate, &sid).await;
        record["candidates"][0]["candidate"] == "candidate:9"
    })
    .await;
}

// PLUGIN §6: what one side says to the other is passed on unread, and a branch's candidates only when it has won.
#[tokio::test]
async fn two_sides_hear_each_others_candidates_tones_and_offers() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut phone = page(&gate, "bob", "phone").await;
    let mut tablet = page(&gate, "bob", "tablet").await;
    let sid = call(&mut alice, "bob").await;
    let first = phone.hear("call.invite").await;
    let second = tablet.hear("call.invite").await;
    for (socket, invitation, candidate) in [
        (&mut phone, &first, "candidate:phone"),
        (&mut tablet, &second, "candidate:tablet"),
    ] {
        let callsid = &invitation["callsid"];
        let said = json!({ "callsid": callsid, "candidate": candidate });
        socket.say("call.candidate", said).await;
        hears_nothing(socket).await;
    }
    accept(&mut tablet, &second).await;
    alice.hear("call.ringing").await;
    alice.hear("call.accept").await;
    let told = alice.hear("call.candidate").await;
    assert_eq!(told["candidate"], "candidate:tablet");
    assert_eq!(told["callsid"], sid.as_str());
    hears_nothing(&mut alice).await;
    tablet.hear("call.accept").await;
    for (kind, said) in [
        ("candidate", json!({ "candidate": "candidate:3" })),
        ("dtmf", json!({ "dtmf": "12#" })),
        ("reinvite", json!({ "sdp": OFFER })),
    ] {
        let mut from_alice = said.clone();
        from_alice["callsid"] = json!(sid);
        let kind = format!("call.{kind}");
        alice.say(&kind, from_alice).await;
        let heard = tablet.hear(&kind).await;
        let (key, value) = said.as_object().unwrap().iter().next().unwrap();
        assert_eq!(&heard[key], value);
        assert_eq!(heard["callsid"], second["callsid"]);
        let mut from_tablet = said.clone();
        from_tablet["callsid"] = second["callsid"].clone();
        tablet.say(&kind, from_tablet).await;
        assert_eq!(&alice.hear(&kind).await[key], value);
    }
    let end = json!({ "callsid": sid });
    alice.say("call.end_of_candidates", end).await;
    assert_eq!(
        tablet.hear("call.candidate").await["end_of_candidates"],
        true
    );
}

// PLUGIN §5: at most 64 candidates of a side are kept for whoever rings later.
#[tokio::test]
async fn candidates_are_kept_up_to_their_bound() {
    let customer = Customer::saying(&format!("<Pause length=\"1\"/>{DIAL}"));
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = call(&mut alice, "bob").await;
    for number in 0..70 {
        let said = json!({ "callsid": sid, "candidate": number.to_string() });
        alice.say("call.candidate", said).await;
    }
    bob.hear("call.invite").await;
    for number in 0..64 {
        let told = bob.hear("call.candidate").await;
        assert_eq!(told["candidate"], number.to_string());
    }
    hears_nothing(&mut bob).await;
}

// PLUGIN §4: a call can be read after its end; nothing that is said on it is in its record or in the log.
#[tokio::test]
async fn what_two_sides_say_is_in_no_log() {
    let customer = Customer::saying(DIAL);
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let pair = connect(&mut alice, &mut bob, "bob").await;
    let said = json!({ "callsid": pair.sid, "dtmf": "5501-secret" });
    alice.say("call.dtmf", said).await;
    bob.hear("call.dtmf").await;
    leave(&mut alice, &json!(pair.sid)).await;
    until(&gate, &pair.sid, "completed").await;
    let path = format!("/v1/communications/{}", pair.sid);
    let answer = ask(&gate, &basic(), "GET", &path, "").await;
    assert!(!answer.text().contains("secret"));
    let log = gate.log();
    assert!(
        !log.contains("5501-secret") && !log.contains("s=offer"),
        "{log}"
    );
}
