//! Two servers that are each other's peers: registered at one, called at the other.

use serde_json::{Value, json};

use super::scene::{ANSWER, Customer, accept, bring, call, hang_up, page, traced, until};
use crate::presence::desk::{
    ACCESS, ACCOUNT, Socket, ask, basic, bearer, config, item, plan_with, query, signed, token,
    unix_seconds,
};
use crate::support::eventually;
use crate::support::sidecar::Sidecar;

const PEER_SECRET: &str = "a secret that only the two peers know, and nobody else";

/// Two gates of one deployment, `a` and `b`, with the same account and the same documents.
async fn peers(customer: &Customer) -> (Sidecar, Sidecar) {
    let start = async |node: &str| {
        let more = format!("{}  node: {node}\n", customer.section());
        let plan = plan_with(&config(&more)).env("PEER_SECRET", PEER_SECRET);
        plan.start().await
    };
    let (a, b) = (start("a").await, start("b").await);
    for (gate, node, other, name) in [(&a, "a", &b, "b"), (&b, "b", &a, "a")] {
        let url = format!("http://{}", other.address);
        let peers = format!(
            "  node: {node}\n  peers: {{ secret: {{ env: PEER_SECRET }}, nodes: [{{ name: {name}, url: \"{url}\" }}] }}\n"
        );
        gate.reloaded_with(&config(&format!("{}{peers}", customer.section())))
            .await;
    }
    (a, b)
}

// B5: a call that comes to one server rings the device that is registered at the other, talks, and ends at both.
#[tokio::test]
async fn a_device_at_another_server_rings_and_talks() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let (a, b) = peers(&customer).await;
    let mut alice = page(&a, "alice", "desk").await;
    let mut bob = page(&b, "bob", "phone").await;
    let sid = call(&mut alice, "bob").await;
    let invitation = bob.hear("call.invite").await;
    bob.say("call.ringing", json!({ "callsid": invitation["callsid"] }))
        .await;
    alice.hear("call.ringing").await;
    assert_eq!(
        item(&b, "bob").await["ringable"],
        false,
        "its place is taken while it rings"
    );
    accept(&mut bob, &invitation).await;
    assert_eq!(alice.hear("call.accept").await["sdp"], ANSWER);
    bob.hear("call.accept").await;
    assert_eq!(item(&b, "bob").await["reason"], "in_call");
    let record = until(&a, &sid, "in-progress").await;
    let entry = &record["trace"].as_array().unwrap()[0];
    assert_eq!(
        (&entry["node"], &entry["device"]),
        (&json!("b"), &json!("phone"))
    );
    alice.say("call.hangup", json!({ "callsid": sid })).await;
    bob.hear("call.hangup").await;
    until(&a, &sid, "completed").await;
    eventually("bob is free again", async || {
        item(&b, "bob").await["status"] == "available"
    })
    .await;
}

// B31: an acceptance that comes to another server than the one that holds the call leads there by its bridge token, once.
#[tokio::test]
async fn an_acceptance_at_another_server_finds_its_call() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let (a, b) = peers(&customer).await;
    let mut phone = page(&a, "bob", "phone").await;
    let mut tablet = page(&b, "bob", "tablet").await;
    tablet
        .say(
            "presence.set",
            json!({ "status": "do_not_disturb", "id": 1 }),
        )
        .await;
    tablet.hear("presence.set").await;
    let sid = bring(&a, "+14155550100").await;
    let invitation = phone.hear("call.invite").await;
    accept(&mut tablet, &invitation).await;
    tablet.hear("call.accept").await;
    assert_eq!(
        phone.hear("call.cancel").await["reason"],
        "answered_elsewhere"
    );
    until(&a, &sid, "in-progress").await;
    assert_eq!(item(&b, "bob").await["reason"], "in_call");
    accept(&mut phone, &invitation).await;
    let refused = phone.next().await;
    assert_eq!(refused["payload"]["error"]["code"], 31_104, "{refused}");
    hang_up(&a, &sid).await;
    tablet.hear("call.hangup").await;
    until(&a, &sid, "completed").await;
}

// B31: a token that is forged, another identity's or of an account's call elsewhere is refused, and nothing is told to anybody.
#[tokio::test]
async fn a_bridge_cannot_be_forged_or_borrowed() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let mut eve = page(&gate, "eve", "phone").await;
    let sid = bring(&gate, "+14155550100").await;
    let invitation = bob.hear("call.invite").await;
    let bridge = invitation["bridge"].as_str().unwrap();
    let refused = async |socket: &mut Socket, bridge: &str| {
        let mut forged = invitation.clone();
        forged["bridge"] = Value::from(bridge);
        accept(socket, &forged).await;
        let error = socket.hear("error").await;
        assert_eq!(error["error"]["code"], 31_104, "{bridge}");
    };
    refused(&mut eve, bridge).await;
    let (body, signature) = bridge.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    refused(&mut bob, &format!("{body}.{other}{}", &signature[1..])).await;
    refused(&mut bob, "eyJhbGciOiJub25lIn0.e30.").await;
    refused(&mut bob, "").await;
    until(&gate, &sid, "ringing").await;
    accept(&mut bob, &invitation).await;
    bob.hear("call.accept").await;
    let record = until(&gate, &sid, "in-progress").await;
    assert_eq!(traced(&record, "bob", "phone"), "answered");
}

// B5: a peer that does not answer has nobody; the call goes on without it, and its trace says so.
#[tokio::test]
async fn a_silent_peer_counts_as_having_no_devices() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let (a, b) = peers(&customer).await;
    drop(b);
    let sid = bring(&a, "+14155550100").await;
    let record = until(&a, &sid, "busy").await;
    let trace = record["trace"].as_array().unwrap();
    assert!(
        trace
            .iter()
            .any(|entry| entry["outcome"] == "peer_silent" && entry["node"] == "b")
    );
}

// B5, B26: whoever asks one server is told of devices at both.
#[tokio::test]
async fn an_answer_tells_of_devices_at_both_servers() {
    let customer = Customer::saying("");
    let (a, b) = peers(&customer).await;
    let _here = page(&a, "bob", "phone").await;
    let mut there = page(&b, "bob", "tablet").await;
    there
        .say("presence.set", json!({ "status": "away", "id": 1 }))
        .await;
    there.hear("presence.set").await;
    for gate in [&a, &b] {
        let shown = item(gate, "bob").await;
        assert_eq!(shown["status"], "available");
        assert_eq!(shown["device_count"], 2);
        assert_eq!(shown["devices"].as_array().unwrap().len(), 2);
        let asked = query(gate, &basic(), json!({ "identities": ["bob", "eve"] })).await;
        let told = asked.json();
        assert_eq!(told["presence"]["bob"]["device_count"], 2);
        assert_eq!(told["presence"]["eve"]["device_count"], 0);
    }
}

// What opens the way between servers is a peer's token for that server, and nothing else.
#[tokio::test]
async fn only_a_peer_opens_what_is_for_peers() {
    let customer = Customer::saying("");
    let (a, _b) = peers(&customer).await;
    let question =
        json!({ "account": ACCOUNT, "scope": "local", "identities": ["bob"] }).to_string();
    let claims = |iss: &str, aud: &str| {
        let exp = unix_seconds() + 30;
        json!({ "iss": iss, "aud": aud, "exp": exp })
    };
    let kind = Some("tidegate-peer;v=1");
    let good = signed(kind, &claims("b", "a"), PEER_SECRET);
    let answer = ask(&a, &bearer(&good), "POST", "/v1/presence/query", &question).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let forged = [
        signed(
            kind,
            &claims("b", "a"),
            "a secret that the peers do not know, but is long",
        ),
        signed(kind, &claims("b", "c"), PEER_SECRET),
        signed(kind, &claims("stranger", "a"), PEER_SECRET),
        signed(ACCESS, &claims("b", "a"), PEER_SECRET),
        signed(None, &claims("b", "a"), PEER_SECRET),
        token("bob", None),
    ];
    for token in forged {
        let answer = ask(&a, &bearer(&token), "POST", "/v1/presence/query", &question).await;
        assert!(matches!(answer.status, 400 | 401), "{}", answer.text());
        let answer = ask(&a, &bearer(&token), "GET", "/v1/peer", "").await;
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    for path in [
        "/v1/presence/bob",
        "/v1/contacts/list",
        "/v1/communications/CA1",
    ] {
        let answer = ask(&a, &bearer(&good), "GET", path, "").await;
        assert_eq!(
            answer.status, 401,
            "a peer's token opens no customer's path"
        );
    }
}

// The road between two servers is everybody's: what one client says there, however long or deep, ends nobody else's call.
#[tokio::test]
async fn no_client_ends_the_road_of_the_others() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let (a, b) = peers(&customer).await;
    let mut alice = page(&a, "alice", "desk").await;
    let mut bob = page(&b, "bob", "phone").await;
    let sid = call(&mut alice, "bob").await;
    let invitation = bob.hear("call.invite").await;
    accept(&mut bob, &invitation).await;
    alice.hear("call.ringing").await;
    alice.hear("call.accept").await;
    bob.hear("call.accept").await;
    let callsid = &invitation["callsid"];
    let deep: Value =
        serde_json::from_str(&format!("{}{}", "[".repeat(12), "]".repeat(12))).unwrap();
    let candidate = json!({ "callsid": callsid, "candidate": deep });
    bob.say("call.candidate", candidate).await;
    assert_eq!(bob.hear("error").await["error"]["code"], 31_100);
    // The longest description, of the character that JSON makes longest among those that a frame has room for.
    let mut eve = page(&a, "eve", "desk").await;
    let long = format!("v=0{}", "\n".repeat(30_000));
    let invite = json!({ "to": "bob", "sdp": long, "id": 1 });
    customer.say("/voice", "<Dial><Client>carol</Client></Dial>");
    let mut carol = page(&b, "carol", "phone").await;
    eve.say("call.invite", invite).await;
    eve.hear("call.invite").await;
    assert_eq!(carol.hear("call.invite").await["sdp"], long);
    let spoken = json!({ "callsid": callsid, "candidate": "candidate:1", "mid": "0" });
    bob.say("call.candidate", spoken).await;
    assert_eq!(
        alice.hear("call.candidate").await["candidate"],
        "candidate:1"
    );
    alice.say("call.hangup", json!({ "callsid": sid })).await;
    bob.hear("call.hangup").await;
}
