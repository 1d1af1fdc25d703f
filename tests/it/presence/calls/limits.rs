//! Calls under the gate's own limits (B33, A35): a place for each, a line before it, and given back however the call ends.

use std::time::Duration;

use serde_json::{Value, json};

use super::scene::{
    Customer, NUMBER, OFFER, accept, bring, call, connect, hang_up, leave, page, post, until,
    until_suspended,
};
use crate::presence::desk::{self, basic, item};
use crate::support::client::{self, Response};
use crate::support::eventually;
use crate::support::sidecar::Sidecar;

const DIAL: &str = "<Dial><Client>bob</Client></Dial>";

/// A gate with so many places for calls; more of that limit, of the section, and of the resources.
async fn gate(customer: &Customer, limit: &str, section: &str, resource: &str) -> Sidecar {
    let config = customer.config("", section);
    let config = config.replace("limits:\n", &format!("{resource}limits:\n"));
    let limit = format!("- {{ name: places, resources: [calls], {limit} }}\n");
    desk::plan_with(&(config + &limit)).start().await
}

/// A call from outside, as it is answered.
async fn try_bring(gate: &Sidecar) -> Response {
    let voice = json!({ "to": NUMBER, "from": "+14155550199", "medium": "voice", "sdp": OFFER });
    post(gate, voice).await
}

async fn until_free(gate: &Sidecar) {
    eventually("every place is given back", async || {
        gate.limit("places").await["in_flight"] == 0
    })
    .await;
    assert_eq!(
        gate.metric("tidegate_leaks_detected_total").await,
        Some(0.0)
    );
    for phase in ["fetching", "dialing", "in_call"] {
        let sample = format!("tidegate_calls{{state=\"{phase}\"}}");
        assert_eq!(gate.metric(&sample).await, Some(0.0), "{phase}");
    }
}

// G10: a call is listed as what holds its place, and an operator who would end it there is told how it is ended.
#[tokio::test]
async fn a_call_is_listed_and_is_ended_where_it_is_led() {
    let customer = Customer::saying("<Pause length=\"60\"/>");
    let gate = gate(&customer, "per: [account], max: 1", "", "").await;
    let sid = bring(&gate, NUMBER).await;
    let row = gate.get_admin("/v1/requests?state=lease").await[0].take();
    let path = format!("/v1/communications/{sid}");
    assert_eq!(
        (&row["path"], &row["upstream"]),
        (&path.as_str().into(), &"presence".into())
    );
    let by_id = format!("/v1/requests/{}", row["id"]);
    let told = client::ask(&gate.admin, "DELETE", &by_id, &[("host", "localhost")], "").await;
    assert_eq!(told.status, 409);
    let way_out = format!("`DELETE {path}`");
    assert!(told.text().contains(&way_out), "{}", told.text());
    assert_eq!(gate.limit("places").await["in_flight"], 1);
    let ended = desk::ask(&gate, &basic(), "DELETE", &path, "").await;
    assert!((200..300).contains(&ended.status), "{}", ended.text());
    until_free(&gate).await;
}

// B33: no place: over the API the gate's own refusal, with its reason; on a socket the call is hung up; nothing is asked of anybody.
#[tokio::test]
async fn without_a_place_a_call_is_refused_on_either_way() {
    let customer = Customer::saying("<Pause length=\"60\"/>");
    let gate = gate(&customer, "per: [account], max: 1", "", "").await;
    let first = bring(&gate, NUMBER).await;
    customer.until_asked("/voice", 1).await;
    let refused = try_bring(&gate).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(
        refused
            .head
            .says("content-type", "application/problem+json")
    );
    let body = refused.json();
    assert_eq!(body["reason"], "limit_reached", "{body}");
    assert_eq!(body["limit"], "places");
    let mut alice = page(&gate, "alice", "desk").await;
    let sid = call(&mut alice, "bob").await;
    let over = alice.hear("call.hangup").await;
    assert_eq!(over["callsid"], sid.as_str());
    assert_eq!(over["error"]["code"], 31_206);
    until(&gate, &sid, "failed").await;
    eventually("she is free again", async || {
        item(&gate, "alice").await["status"] == "available"
    })
    .await;
    assert_eq!(customer.asked("/voice").len(), 1);
    hang_up(&gate, &first).await;
    until_free(&gate).await;
    call(&mut alice, "bob").await;
}

// B33: a call waits for its place in line, and begins when one is free, with what its caller said meanwhile.
#[tokio::test]
async fn a_call_waits_in_line_for_its_place() {
    let customer = Customer::saying(DIAL);
    let line = "per: [account], max: 1, when_full: [{ queue: { length: 5, timeout: 30s } }]";
    let gate = gate(&customer, line, "", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let first = bring(&gate, NUMBER).await;
    bob.hear("call.invite").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let second = call(&mut alice, "bob").await;
    let candidate = json!({ "callsid": second, "candidate": "candidate:1" });
    alice.say("call.candidate", candidate).await;
    assert_eq!(
        item(&gate, "alice").await["status"],
        "busy",
        "from its invitation on"
    );
    eventually("it waits", async || {
        gate.limit("places").await["queued"] == 1
    })
    .await;
    assert_eq!(
        until(&gate, &second, "queued").await["sid"],
        second.as_str()
    );
    hang_up(&gate, &first).await;
    bob.hear("call.cancel").await;
    let invitation = bob.hear("call.invite").await;
    assert_eq!(invitation["from"], "client:alice");
    assert_eq!(bob.hear("call.candidate").await["candidate"], "candidate:1");
    accept(&mut bob, &invitation).await;
    until(&gate, &second, "in-progress").await;
    hang_up(&gate, &second).await;
    until_free(&gate).await;
}

// B33: a request that brings a call is answered when the call has its place; one that is given up leaves the line.
#[tokio::test]
async fn a_request_waits_in_line_and_leaves_it_with_its_client() {
    let customer = Customer::saying("<Pause length=\"60\"/>");
    let line = "per: [account], max: 1, when_full: [{ queue: { length: 5, timeout: 30s } }]";
    let gate = gate(&customer, line, "", "").await;
    let first = bring(&gate, NUMBER).await;
    let queued = async |number: u64| {
        eventually("so many wait", async || {
            gate.limit("places").await["queued"] == number
        })
        .await;
    };
    let mut given_up = Box::pin(try_bring(&gate));
    tokio::select! {
        answer = &mut given_up => panic!("{}", answer.text()),
        () = queued(1) => {}
    }
    drop(given_up);
    queued(0).await;
    let (second, ()) = tokio::join!(bring(&gate, NUMBER), async {
        queued(1).await;
        hang_up(&gate, &first).await;
    });
    assert_eq!(customer.until_asked("/voice", 2).await.len(), 2);
    hang_up(&gate, &second).await;
    until_free(&gate).await;
}

// B33: who leaves the line is cancelled, and counted so; one that the account cancels is hung up.
#[tokio::test]
async fn a_caller_that_leaves_the_line_is_cancelled() {
    let customer = Customer::saying("<Pause length=\"60\"/>");
    let line = "per: [account], max: 1, when_full: [{ queue: { length: 5, timeout: 30s } }]";
    let gate = gate(&customer, line, "", "").await;
    let first = bring(&gate, NUMBER).await;
    customer.until_asked("/voice", 1).await;
    let mut alice = page(&gate, "alice", "desk").await;
    let sid = call(&mut alice, "bob").await;
    leave(&mut alice, &json!(sid)).await;
    until(&gate, &sid, "canceled").await;
    let sid = call(&mut alice, "bob").await;
    hang_up(&gate, &sid).await;
    assert_eq!(alice.hear("call.hangup").await["callsid"], sid.as_str());
    until(&gate, &sid, "canceled").await;
    let sid = call(&mut alice, "bob").await;
    alice.lose();
    until(&gate, &sid, "canceled").await;
    let canceled = "tidegate_calls_total{status=\"canceled\"}";
    assert_eq!(gate.metric(canceled).await, Some(3.0));
    hang_up(&gate, &first).await;
    until_free(&gate).await;
}

// A35: however a call ends, its place is given back, and its end is counted.
#[tokio::test]
async fn a_place_is_given_back_however_the_call_ends() {
    let customer = Customer::saying(DIAL);
    let gate = gate(&customer, "per: [account], max: 1", "  grace: 1s\n", "").await;
    let mut alice = page(&gate, "alice", "desk").await;

    // Instructions that cannot be had, or lead nowhere.
    for verbs in [
        "",
        "<Reject/>",
        "<Dial><Client>bob</Client></Dial>",
        "<Gather/>",
    ] {
        customer.say("/voice", verbs);
        call(&mut alice, "bob").await;
        alice.hear("call.hangup").await;
        until_free(&gate).await;
    }
    customer.say("/voice", DIAL);

    // The time is up.
    let mut bob = page(&gate, "bob", "phone").await;
    customer.say("/voice", "<Dial timeout=\"5\"><Client>bob</Client></Dial>");
    call(&mut alice, "bob").await;
    bob.hear("call.invite").await;
    bob.hear("call.cancel").await;
    until_free(&gate).await;
    alice.hear("call.ringing").await;
    alice.hear("call.hangup").await;

    // Either side hangs up, or the account does.
    for who in ["caller", "callee", "account"] {
        let pair = connect(&mut alice, &mut bob, "bob").await;
        assert_eq!(gate.limit("places").await["in_flight"], 1);
        match who {
            "caller" => leave(&mut alice, &json!(pair.sid)).await,
            "callee" => leave(&mut bob, &pair.callee["callsid"]).await,
            _ => hang_up(&gate, &pair.sid).await,
        }
        if who != "caller" {
            alice.hear("call.hangup").await;
        }
        bob.hear("call.hangup").await;
        until_free(&gate).await;
    }

    // Both sockets are lost in the talk.
    connect(&mut alice, &mut bob, "bob").await;
    alice.lose();
    bob.lose();
    until_suspended(&gate, "bob").await;
    until_free(&gate).await;

    // The caller is lost before the answer.
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    call(&mut alice, "bob").await;
    bob.hear("call.invite").await;
    alice.lose();
    bob.hear("call.cancel").await;
    until_free(&gate).await;
    let ended = async |status: &str| {
        let sample = format!("tidegate_calls_total{{status=\"{status}\"}}");
        gate.metric(&sample).await
    };
    assert_eq!(ended("completed").await, Some(4.0));
    assert_eq!(ended("canceled").await, Some(1.0));
    assert_eq!(ended("failed").await, Some(1.0));
    assert_eq!(ended("busy").await, Some(1.0));
    assert_eq!(ended("no-answer").await, Some(3.0));
}

// PLUGIN §2: nobody talks longer than the call's place may be held, whatever the document says; without `timeLimit` too long, it counts.
#[tokio::test]
async fn a_talk_ends_when_its_place_may_be_held_no_longer() {
    for (seconds, resource) in [
        (600, "- { name: calls, completion: { hold_up_to: 1s } }\n"),
        (1, "- { name: calls, completion: { hold_up_to: 1h } }\n"),
        (1, ""),
    ] {
        let customer = Customer::saying(&format!(
            "<Dial timeLimit=\"{seconds}\" action=\"/after\"><Client>bob</Client></Dial>"
        ));
        customer.say("/after", "");
        let gate = gate(&customer, "per: [account], max: 1", "", resource).await;
        let mut alice = page(&gate, "alice", "desk").await;
        let mut bob = page(&gate, "bob", "phone").await;
        let pair = connect(&mut alice, &mut bob, "bob").await;
        let over = bob.hear("call.hangup").await;
        assert_eq!(over["reason"], "time_limit", "{over}");
        alice.hear("call.hangup").await;
        let told = customer.concluded("/after").await;
        assert_eq!(told.field("DialCallDuration"), Some("1"));
        until(&gate, &pair.sid, "completed").await;
        until_free(&gate).await;
    }
}

// PLUGIN §7: what goes on is told by its state.
#[tokio::test]
async fn metrics_tell_what_calls_do() {
    let customer = Customer::saying(DIAL);
    let gate = gate(&customer, "per: [account], max: 9", "", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let counted = async |state: &str, number: f64| {
        let sample = format!("tidegate_calls{{state=\"{state}\"}}");
        eventually(&sample, async || gate.metric(&sample).await == Some(number)).await;
    };
    customer.delay("/voice", Duration::from_secs(1));
    call(&mut alice, "bob").await;
    counted("fetching", 1.0).await;
    let invitation: Value = bob.hear("call.invite").await;
    counted("dialing", 1.0).await;
    counted("fetching", 0.0).await;
    accept(&mut bob, &invitation).await;
    counted("in_call", 1.0).await;
    leave(&mut bob, &invitation["callsid"]).await;
    until_free(&gate).await;
    let completed = "tidegate_calls_total{status=\"completed\"}";
    assert_eq!(gate.metric(completed).await, Some(1.0));
}
