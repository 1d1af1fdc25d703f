//! Who may begin a call, and with what: rights, restrictions, sizes.

use serde_json::{Value, json};

use super::scene::{
    APPLICATION, Customer, NUMBER, OFFER, call, calling, calling_with, connect, hears_nothing,
    leave, page, post, until,
};
use crate::presence::desk::{
    self, KEY, OTHER_ACCOUNT, SECRET, Socket, ask, basic, bearer, claims, other_basic,
    other_seeing, refusal, signed,
};
use crate::support::sidecar::Sidecar;

/// What a page with that token is told when it calls.
async fn refused(gate: &Sidecar, token: &str, to: &str) -> Value {
    let (mut socket, _) = Socket::hello(gate, token, "desk").await;
    let payload = json!({ "to": to, "sdp": OFFER, "id": 3 });
    socket.say("call.invite", payload).await;
    let told = socket.hear("error").await;
    assert_eq!(told["re"], 3);
    told["error"].clone()
}

// B2: without the right to call out there is no call.
#[tokio::test]
async fn who_may_not_call_out_is_refused() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let error = refused(&gate, &desk::token("alice", None), "bob").await;
    assert_eq!(error["code"], 31_201, "{error}");
    assert!(customer.asked("/voice").is_empty());
}

// B3: each restriction of a token is enforced before anything is asked of anybody, and named.
#[tokio::test]
async fn each_restriction_of_a_token_is_enforced_and_named() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let restrictions = [
        ("calls", json!(0)),
        ("hours", json!([])),
        ("to", json!(["client:team-*", "+1*"])),
        ("media", json!(["message"])),
    ];
    for (key, value) in restrictions {
        let grant = json!({ "publish": true, "restrict": { key: value } });
        let error = refused(&gate, &calling_with("alice", Some(grant)), "bob").await;
        assert_eq!(error["code"], 31_201, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("restrict.{key}")), "{message}");
    }
    assert!(customer.asked("/voice").is_empty());
}

// B3: what a restriction allows goes on: a second call is one too many, and when the first is over there may be another.
#[tokio::test]
async fn a_restriction_on_the_number_of_calls_counts_those_in_progress() {
    let customer = Customer::saying("<Pause length=\"60\"/>");
    let gate = customer.gate("", "").await;
    let grant = json!({ "restrict": { "calls": 1, "to": ["client:team-*"] } });
    let token = calling_with("alice", Some(grant));
    let (mut first, _) = Socket::hello(&gate, &token, "desk").await;
    let sid = call(&mut first, "team-bob").await;
    let (mut second, _) = Socket::hello(&gate, &token, "phone").await;
    let payload = json!({ "to": "team-bob", "sdp": OFFER });
    second.say("call.invite", payload.clone()).await;
    let error = second.hear("error").await;
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("restrict.calls")
    );
    leave(&mut first, &json!(sid)).await;
    until(&gate, &sid, "canceled").await;
    call(&mut second, "team-bob").await;
}

// B3: a restriction of destinations is judged by what the customer's server is told, which the token's fixed parameters decide.
#[tokio::test]
async fn fixed_parameters_win_over_what_the_client_says() {
    let customer = Customer::saying("<Hangup/>");
    let gate = customer.gate("", "").await;
    let mut claims = claims(KEY, desk::ACCOUNT, "alice", json!({ "publish": true }));
    let outgoing =
        json!({ "application_sid": APPLICATION, "params": { "To": "carol", "plan": "gold" } });
    claims["grants"]["voice"]["outgoing"] = outgoing;
    let token = signed(desk::ACCESS, &claims, SECRET);
    let (mut alice, _) = Socket::hello(&gate, &token, "desk").await;
    let parameters = json!({ "plan": "free", "ticket": 7, "CallSid": "CAforged", "From": "client:bob",
        "Presence": "{}", "DialCallStatus": "x", "Caller": "x", "ErrorUrl": "x" });
    let payload = json!({ "to": "bob", "sdp": OFFER, "parameters": parameters, "id": 1 });
    alice.say("call.invite", payload).await;
    let sid = alice.hear("call.invite").await["callsid"].clone();
    let asked = customer.concluded("/voice").await;
    assert_eq!(asked.field("To"), Some("carol"));
    assert_eq!(asked.field("plan"), Some("gold"));
    assert_eq!(asked.field("ticket"), Some("7"));
    assert_eq!(asked.field("From"), Some("client:alice"));
    assert_eq!(asked.field("Caller"), Some("client:alice"));
    assert_eq!(asked.field("CallSid"), sid.as_str());
    assert_eq!(asked.field("ErrorUrl"), None);
    assert_eq!(asked.field("DialCallStatus"), None);
    assert_ne!(asked.field("Presence"), Some("{}"));
}

// B6: nothing crosses accounts: a device of the other account with the same name does not ring, and its calls are not seen.
#[tokio::test]
async fn nothing_of_a_call_crosses_accounts() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", OTHER_ACCOUNT).await;
    let (mut stranger, _) = Socket::hello(&gate, &other_seeing("bob"), "phone").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let pair = connect(&mut alice, &mut bob, "bob").await;
    for method in ["GET", "DELETE"] {
        let path = format!("/v1/communications/{}", pair.sid);
        let answer = ask(&gate, &other_basic(), method, &path, "").await;
        assert_eq!(refusal(&answer), (404, 20_404));
    }
    let path = format!("/v1/communications/{}/events", pair.sid);
    let answer = ask(&gate, &other_basic(), "GET", &path, "").await;
    assert_eq!(refusal(&answer), (404, 20_404));
    hears_nothing(&mut stranger).await;
    leave(&mut alice, &json!(pair.sid)).await;
}

// PLUGIN §4: communications are for account keys; what does not exist is not found.
#[tokio::test]
async fn communications_are_for_account_keys_and_known_destinations() {
    let customer = Customer::saying("<Hangup/>");
    let gate = customer.gate("", "").await;
    let voice = json!({ "to": NUMBER, "from": "x", "medium": "voice", "sdp": OFFER });
    let path = "/v1/communications";
    let answer = ask(
        &gate,
        &bearer(&calling("alice")),
        "POST",
        path,
        &voice.to_string(),
    )
    .await;
    assert_eq!(refusal(&answer), (403, 20_403));
    let path = "/v1/communications/CA00000000000000000000000000000000";
    let answer = ask(&gate, &bearer(&calling("alice")), "GET", path, "").await;
    assert_eq!(refusal(&answer), (403, 20_403));
    let answer = ask(&gate, &basic(), "GET", path, "").await;
    assert_eq!(refusal(&answer), (404, 20_404));
    let unknown = [
        json!({ "to": "+14155550111", "from": "x", "medium": "voice", "sdp": OFFER }),
        json!({ "to": "client:bob", "from": "x", "medium": "voice", "sdp": OFFER,
            "application": "AP0000000000000000000000000000ffff" }),
    ];
    for communication in unknown {
        assert_eq!(refusal(&post(&gate, communication).await), (404, 20_404));
    }
    assert!(customer.asked("/voice").is_empty());
}

// PLUGIN §5: a session description has up to 32 KiB and begins with `v=0`; other nonsense is told apart from it.
#[tokio::test]
async fn what_is_no_session_description_begins_no_call() {
    let customer = Customer::saying("<Hangup/>");
    let gate = customer.gate("", "").await;
    let long = format!("v=0\r\n{}", "a".repeat(32 * 1024));
    for sdp in ["", "o=- 1 1", &long] {
        let voice = json!({ "to": NUMBER, "from": "x", "medium": "voice", "sdp": sdp });
        assert_eq!(refusal(&post(&gate, voice).await), (400, 20_001));
    }
    let bad = [
        json!({ "to": "", "from": "x", "sdp": OFFER }),
        json!({ "to": NUMBER, "from": "a\nb", "sdp": OFFER }),
        json!({ "to": NUMBER, "from": "x", "medium": "smoke", "sdp": OFFER }),
        json!({ "to": NUMBER, "from": "x", "medium": "voice", "sdp": OFFER, "colour": "red" }),
        json!({ "to": NUMBER, "from": "x", "medium": "message", "body": "" }),
        json!({ "to": NUMBER, "from": "x", "medium": "message", "body": "x".repeat(1_601) }),
    ];
    for communication in bad {
        assert_eq!(refusal(&post(&gate, communication).await), (400, 20_001));
    }
    let huge = json!({ "to": NUMBER, "from": "x", "sdp": OFFER, "body": "x".repeat(70_000) });
    assert_eq!(refusal(&post(&gate, huge).await), (413, 20_413));
    let mut alice = page(&gate, "alice", "desk").await;
    let payload = json!({ "to": "bob", "sdp": "o=- 1 1", "id": 1 });
    alice.say("call.invite", payload).await;
    assert_eq!(alice.hear("error").await["error"]["code"], 31_100);
    assert!(customer.asked("/voice").is_empty());
}

// PLUGIN §6: a socket makes one call at a time.
#[tokio::test]
async fn a_socket_makes_one_call_at_a_time() {
    let customer = Customer::saying("<Pause length=\"60\"/>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let sid = call(&mut alice, "bob").await;
    let payload = json!({ "to": "carol", "sdp": OFFER, "id": 2 });
    alice.say("call.invite", payload).await;
    assert_eq!(alice.hear("error").await["re"], 2);
    leave(&mut alice, &json!(sid)).await;
    until(&gate, &sid, "canceled").await;
    call(&mut alice, "carol").await;
}
