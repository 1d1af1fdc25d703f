//! Calls of the vendor's SDK, unmodified: phones call phones and pages, through a real gate over TLS.
//!
//! Each phone is a process of `tests/presence/device.js`. Its media is a mock, which names itself in its session descriptions; all that
//! the SDK says to the gate and makes of its answers is real.

use serde_json::{Value, json};

use super::scene::{ANSWER, Customer, OFFER, accept, bring, call, calling, page, read, until};
use crate::presence::desk::{Socket, config, item, secure_gate_with, token};
use crate::presence::phone::Phone;
use crate::presence::road::Road;
use crate::support::now;
use crate::support::sidecar::Sidecar;
use crate::support::tls::Authority;

/// Whoever calls is put through to Bob.
pub(super) const TO_BOB: &str = "<Dial timeout=\"30\"><Client>bob</Client></Dial>";
/// At most one call of an account.
const ONE_CALL: &str =
    "- { name: one-call, per: [account], max: 1, except: [signal, events, presence-api] }\n";

/// A gate with its customer, to which phones come over TLS.
pub(super) struct World {
    pub(super) gate: Sidecar,
    pub(super) authority: Authority,
    pub(super) customer: Customer,
}

impl World {
    pub(super) async fn saying(verbs: &str) -> Self {
        Self::with(verbs, "").await
    }

    /// With more limits.
    pub(super) async fn with(verbs: &str, limits: &str) -> Self {
        let customer = Customer::saying(verbs);
        let config = config(&customer.section()) + limits;
        let (gate, authority) = secure_gate_with(&config).await;
        Self {
            gate,
            authority,
            customer,
        }
    }

    /// A phone that is registered, and may call out.
    pub(super) async fn phone(&self, identity: &str) -> Phone {
        self.phone_by(&self.gate.listeners[1], identity, json!({}))
            .await
    }

    /// The same by another way, with those options of the SDK beside the one that has it tell errors apart.
    pub(super) async fn phone_by(
        &self,
        address: &str,
        identity: &str,
        mut options: Value,
    ) -> Phone {
        options["enableImprovedSignalingErrorPrecision"] = true.into();
        let token = calling(identity);
        let mut phone = Phone::made(address, &self.authority, &token, options).await;
        phone.say("register");
        phone.until("registered").await;
        phone
    }

    /// Alice and Bob talk; both have seen that. The call's identifier comes with them.
    pub(super) async fn talking(&self, mut alice: Phone, mut bob: Phone) -> (Phone, Phone, String) {
        alice.call("bob");
        bob.until("incoming").await;
        bob.say("accept");
        bob.until("call.accept").await;
        let accepted = alice.until("call.accept").await;
        let sid = accepted["callsid"].as_str().unwrap().to_owned();
        until(&self.gate, &sid, "in-progress").await;
        (alice, bob, sid)
    }
}

/// One says something, and the other hears it: both are still sides of the call.
pub(super) async fn is_heard(speaker: &mut Phone, listener: &mut Phone, text: &str) {
    speaker.say(&format!("message {text}"));
    let heard = listener.until("call.messageReceived").await;
    assert_eq!(heard["content"], text);
    assert_eq!(heard["messageType"], "user-defined-message");
    speaker.until("call.messageSent").await;
}

// B6, B30: a phone calls another by its application's instructions; each has the other's session description, and both hang up.
#[tokio::test]
async fn a_phone_calls_another_and_both_are_put_through() {
    let verbs = "<Dial><Client><Identity>bob</Identity><Parameter name=\"order\" value=\"4 &amp; 5\"/></Client></Dial>";
    let world = World::saying(verbs).await;
    let (mut alice, mut bob) = (world.phone("alice").await, world.phone("bob").await);
    alice.call("bob");
    let incoming = bob.until("incoming").await;
    assert_eq!(incoming["from"], "client:alice");
    assert_eq!(incoming["to"], "client:bob");
    assert_eq!(incoming["custom"]["order"], "4 & 5");
    let ringing = alice.until("call.ringing").await;
    assert_eq!(ringing["status"], "ringing");
    let sid = ringing["callsid"].as_str().unwrap().to_owned();
    assert_eq!(
        world.customer.asked("/voice")[0].field("CallSid"),
        Some(&*sid)
    );
    bob.say("accept");
    let (hers, his) = (
        alice.until("call.accept").await,
        bob.until("call.accept").await,
    );
    assert_eq!(hers["callsid"], *sid);
    assert_eq!(his["callsid"], incoming["callsid"]);
    assert!(hers["peer"].as_str().unwrap().starts_with("phone-"));
    assert_ne!(hers["peer"], his["peer"]);
    until(&world.gate, &sid, "in-progress").await;
    for who in ["alice", "bob"] {
        assert_eq!(item(&world.gate, who).await["reason"], "in_call", "{who}");
    }
    is_heard(&mut alice, &mut bob, "are you there").await;
    is_heard(&mut bob, &mut alice, "I am").await;

    bob.say("hangup");
    bob.until("call.disconnect").await;
    alice.until("call.disconnect").await;
    let record = until(&world.gate, &sid, "completed").await;
    assert_eq!(record["answered_by"]["identity"], "bob");
    let errors = [alice.seen(), bob.seen()].concat();
    let is_error = |seen: &String| seen.ends_with("error");
    assert!(!errors.iter().any(is_error), "{errors:?}");
    for who in ["alice", "bob"] {
        assert_eq!(item(&world.gate, who).await["status"], "available", "{who}");
    }

    // Whoever has hung up calls again at once.
    let (mut alice, mut bob, sid) = world.talking(alice, bob).await;
    alice.say("hangup");
    alice.call("bob");
    bob.until("call.disconnect").await;
    bob.until("incoming").await;
    until(&world.gate, &sid, "completed").await;
}

// R §5, 3: a caller that leaves takes the ringing with it.
#[tokio::test]
async fn a_phone_that_cancels_its_call_has_the_other_stop_ringing() {
    let world = World::saying(TO_BOB).await;
    let (mut alice, mut bob) = (world.phone("alice").await, world.phone("bob").await);
    alice.call("bob");
    bob.until("incoming").await;
    let ringing = alice.until("call.ringing").await;
    alice.say("hangup");
    alice.until("call.disconnect").await;
    bob.until("call.cancel").await;
    let record = until(
        &world.gate,
        ringing["callsid"].as_str().unwrap(),
        "canceled",
    )
    .await;
    assert_eq!(record["trace"][0]["outcome"], "caller_left");

    // R §5, 19: so does one whose process dies.
    alice.call("bob");
    bob.until("incoming").await;
    let ringing = alice.until("call.ringing").await;
    alice.kill();
    bob.until("call.cancel").await;
    until(
        &world.gate,
        ringing["callsid"].as_str().unwrap(),
        "canceled",
    )
    .await;
}

/// A socket that speaks the SDK's words as that identity.
pub(super) async fn listening(gate: &Sidecar, identity: &str) -> Socket {
    let mut socket = Socket::open(gate).await;
    let listen = json!({ "token": calling(identity), "reconnectTimeout": 0, "browserinfo": {} });
    socket.say("listen", listen).await;
    socket.hear("connected").await;
    socket
}

// R §5, 14: the SDK may hang up by its own name for the call while the gate's is on its way to it.
#[tokio::test]
async fn a_call_is_known_by_its_first_name_after_it_has_another() {
    let customer = Customer::saying(TO_BOB);
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "desk").await;
    let mut alice = listening(&gate, "alice").await;
    let (name, twilio) = ("TJSfirst", json!({ "params": "To=bob" }));
    let invite = json!({ "callsid": name, "sdp": OFFER, "twilio": twilio });
    alice.say("invite", invite).await;
    let invitation = bob.hear("call.invite").await;
    let ringing = json!({ "callsid": invitation["callsid"] });
    bob.say("call.ringing", ringing).await;
    let ringing = alice.hear("ringing").await;
    assert_ne!(ringing["callsid"], name);
    alice.say("hangup", json!({ "callsid": name })).await;
    bob.hear("call.cancel").await;
    until(&gate, ringing["callsid"].as_str().unwrap(), "canceled").await;
}

// R §3.7, PLUGIN §6: who rejects is busy, and so is who talks already; the SDK's users know it by its number.
#[tokio::test]
async fn a_phone_that_rejects_or_talks_is_busy() {
    let world = World::saying(TO_BOB).await;
    let (mut alice, mut bob) = (world.phone("alice").await, world.phone("bob").await);
    alice.call("bob");
    bob.until("incoming").await;
    bob.say("reject");
    bob.until("call.reject").await;
    assert_eq!(alice.refused().await.0, 31_486);
    assert_eq!(item(&world.gate, "bob").await["ringable"], true);

    let mut carol = page(&world.gate, "carol", "desk").await;
    call(&mut carol, "bob").await;
    bob.until("incoming").await;
    bob.say("accept");
    bob.until("call.accept").await;
    assert_eq!(carol.hear("call.ringing").await["re"], Value::Null);
    carol.hear("call.accept").await;
    alice.call("bob");
    assert_eq!(alice.refused().await.0, 31_486);
    assert!(!bob.seen().contains(&"incoming".to_owned()));
}

// R §3.7: nobody answers in time.
#[tokio::test]
async fn a_call_that_nobody_answers_ends_in_time() {
    let world = World::saying("<Dial timeout=\"5\"><Client>bob</Client></Dial>").await;
    let (mut alice, mut bob) = (world.phone("alice").await, world.phone("bob").await);
    alice.call("bob");
    bob.until("incoming").await;
    let start = now();
    let ringing = alice.until("call.ringing").await;
    bob.until("call.cancel").await;
    assert_eq!(alice.refused().await.0, 31_480);
    let took = start.elapsed().as_secs_f64();
    assert!((4.0..8.0).contains(&took), "{took}");
    let record = read(&world.gate, ringing["callsid"].as_str().unwrap()).await;
    assert_eq!(record["status"], "no-answer");
}

// PLUGIN §2, §3: no place, no right, nobody by that token: the SDK raises the error that says so, and may call again.
#[tokio::test]
async fn a_phone_is_told_why_its_call_is_refused() {
    let world = World::with(TO_BOB, ONE_CALL).await;
    let (mut alice, mut bob) = (world.phone("alice").await, world.phone("bob").await);
    let only = bring(&world.gate, "client:bob").await;
    bob.until("incoming").await;
    alice.call("bob");
    assert_eq!(alice.refused().await.0, 31_206);
    // A page knows its call by name before it is told that there is no place for it.
    let mut carol = page(&world.gate, "carol", "desk").await;
    let sid = call(&mut carol, "bob").await;
    let refused = carol.hear("call.hangup").await;
    assert_eq!(refused["callsid"], *sid);
    assert_eq!(refused["error"]["code"], 31_206);
    bob.say("reject");
    until(&world.gate, &only, "busy").await;
    alice.call("bob");
    bob.until("incoming").await;

    let precise = json!({ "enableImprovedSignalingErrorPrecision": true });
    let mute = token("dora", None);
    let address = &world.gate.listeners[1];
    let mut dora = Phone::made(address, &world.authority, &mute, precise).await;
    dora.call("bob");
    assert_eq!(dora.refused().await.0, 31_201);
    // What the SDK says without that option: a code of its own, and the gate's beside it.
    let mut erin = Phone::made(address, &world.authority, &token("erin", None), json!({})).await;
    erin.call("bob");
    assert_eq!(erin.refused().await, (json!(31_005), json!(31_201)));
}

// B11, R §5, 1: every phone of an identity rings; one answers, and the others stop.
#[tokio::test]
async fn of_two_phones_of_one_identity_one_answers_and_the_other_stops() {
    let world = World::saying(TO_BOB).await;
    let mut alice = world.phone("alice").await;
    let (mut first, mut second) = (world.phone("bob").await, world.phone("bob").await);
    alice.call("bob");
    first.until("incoming").await;
    second.until("incoming").await;
    second.say("accept");
    second.until("call.accept").await;
    let accepted = alice.until("call.accept").await;
    let cancelled = first.until("call.cancel").await;
    assert_eq!(cancelled["status"], "closed");
    let record = read(&world.gate, accepted["callsid"].as_str().unwrap()).await;
    let outcomes: Vec<_> = record["trace"].as_array().unwrap().iter().collect();
    assert_eq!(outcomes.len(), 2);
    is_heard(&mut alice, &mut second, "hello").await;
    assert!(!first.seen().contains(&"call.messageReceived".to_owned()));
}

// R §5, 8: a call outlives the connections of its sides: each comes back with its reconnect token, and the other notices nothing.
#[tokio::test]
async fn a_call_goes_on_when_a_phone_comes_back() {
    let world = World::saying(TO_BOB).await;
    let gate = &world.gate;
    let (hers, his) = (
        Road::to(&gate.listeners[1]).await,
        Road::to(&gate.listeners[1]).await,
    );
    let patient = json!({ "maxCallSignalingTimeoutMs": 30_000 });
    let alice = world.phone_by(&hers.address, "alice", patient).await;
    let bob = world.phone_by(&his.address, "bob", json!({})).await;
    let (mut alice, mut bob, sid) = world.talking(alice, bob).await;
    hers.cut();
    alice.until("call.reconnecting").await;
    alice.until("call.reconnected").await;
    is_heard(&mut alice, &mut bob, "back").await;
    is_heard(&mut bob, &mut alice, "good").await;
    his.cut();
    bob.until("call.reconnecting").await;
    bob.until("call.reconnected").await;
    is_heard(&mut alice, &mut bob, "you too").await;
    assert_eq!(read(gate, &sid).await["status"], "in-progress");
    bob.say("hangup");
    alice.until("call.disconnect").await;
    let record = until(gate, &sid, "completed").await;
    assert_eq!(record["trace"].as_array().unwrap().len(), 1);
    for phone in [&mut alice, &mut bob] {
        assert!(!phone.seen().contains(&"call.error".to_owned()));
    }
}

// R §5, 8: for as long as the phone said that it would try, and not longer; who comes to a call that is over is told so.
#[tokio::test]
async fn a_call_ends_when_a_phone_does_not_come_back_in_time() {
    let world = World::saying(TO_BOB).await;
    let address = &world.gate.listeners[1];
    let hasty = json!({ "maxCallSignalingTimeoutMs": 2_000 });
    let alice = world.phone_by(address, "alice", hasty).await;
    let bob = world.phone("bob").await;
    let (alice, mut bob, sid) = world.talking(alice, bob).await;
    alice.kill();
    let start = now();
    bob.until("call.disconnect").await;
    let took = start.elapsed().as_secs_f64();
    assert!((1.5..6.0).contains(&took), "{took}");
    until(&world.gate, &sid, "completed").await;

    let mut alice = listening(&world.gate, "alice").await;
    let late = json!({ "callsid": sid, "sdp": OFFER, "reconnect": "00", "twilio": {} });
    alice.say("invite", late).await;
    let told = alice.hear("hangup").await;
    assert_eq!(told["callsid"], *sid);
    assert_eq!(told["error"]["code"], 31_209);
}

// B38, PLUGIN §5: a new token in a call renews rights, and changes nothing of the call.
#[tokio::test]
async fn a_new_token_leaves_a_call_as_it_is() {
    let world = World::saying(TO_BOB).await;
    let (alice, bob) = (world.phone("alice").await, world.phone("bob").await);
    let (mut alice, mut bob, sid) = world.talking(alice, bob).await;
    for phone in [&mut alice, &mut bob] {
        phone.seen();
    }
    let before = (alice.noted().len(), bob.noted().len());
    alice.say(&format!("update {}", calling("alice")));
    bob.say(&format!("update {}", calling("bob")));
    is_heard(&mut alice, &mut bob, "still here").await;
    is_heard(&mut bob, &mut alice, "me too").await;
    assert_eq!((alice.seen().len(), bob.seen().len()), before);
    assert_eq!(read(&world.gate, &sid).await["status"], "in-progress");
    alice.say("hangup");
    bob.until("call.disconnect").await;
    until(&world.gate, &sid, "completed").await;
}

// B1: a phone and a page are the same to each other.
#[tokio::test]
async fn phones_and_pages_call_each_other() {
    let world = World::saying(TO_BOB).await;
    let mut alice = world.phone("alice").await;
    let mut bob = page(&world.gate, "bob", "desk").await;
    alice.call("bob");
    let invitation = bob.hear("call.invite").await;
    let offer = invitation["sdp"].as_str().unwrap();
    assert!(offer.contains("s=phone-"), "{offer}");
    let ringing = json!({ "callsid": invitation["callsid"] });
    bob.say("call.ringing", ringing).await;
    alice.until("call.ringing").await;
    accept(&mut bob, &invitation).await;
    let accepted = alice.until("call.accept").await;
    assert_eq!(accepted["peer"], "answer");
    bob.hear("call.accept").await;
    alice.say("message how are you");
    let said = bob.hear("call.message").await;
    assert_eq!(said["content"], "how are you");
    alice.until("call.messageSent").await;
    alice.say("digits 12#");
    assert_eq!(bob.hear("call.dtmf").await["dtmf"], "12#");
    alice.say("hangup");
    bob.hear("call.hangup").await;

    world
        .customer
        .say("/voice", "<Dial><Client>alice</Client></Dial>");
    let sid = call(&mut bob, "alice").await;
    let incoming = alice.until("incoming").await;
    assert_eq!(incoming["from"], "client:bob");
    assert_eq!(bob.hear("call.ringing").await["callsid"], *sid);
    alice.say("accept");
    let accepted = alice.until("call.accept").await;
    assert_eq!(accepted["peer"], "offer");
    let answered = bob.hear("call.accept").await;
    assert!(answered["sdp"].as_str().unwrap().contains("s=phone-"));
    assert_ne!(answered["sdp"], ANSWER);
    bob.say("call.hangup", json!({ "callsid": sid })).await;
    alice.until("call.disconnect").await;
}

// R §6.1: the SDK calls without registering too; it cannot be called, and comes back to its call like any other.
#[tokio::test]
async fn a_phone_that_is_not_registered_calls() {
    let world = World::saying(TO_BOB).await;
    let road = Road::to(&world.gate.listeners[1]).await;
    let patient = json!({ "maxCallSignalingTimeoutMs": 30_000 });
    let token = calling("alice");
    let alice = Phone::made(&road.address, &world.authority, &token, patient).await;
    let bob = world.phone("bob").await;
    let (mut alice, mut bob, sid) = world.talking(alice, bob).await;
    let shown = item(&world.gate, "alice").await;
    assert_eq!(shown["device_count"], 0);
    assert_eq!(shown["reason"], "in_call");
    road.cut();
    alice.until("call.reconnecting").await;
    alice.until("call.reconnected").await;
    is_heard(&mut bob, &mut alice, "who are you").await;
    alice.say("hangup");
    bob.until("call.disconnect").await;
    until(&world.gate, &sid, "completed").await;
    assert_eq!(item(&world.gate, "alice").await["status"], "offline");
}
