//! Phones of the voice SDK where it gets rough: networks that break while it rings, silence, two calls at once, tokens that end.

use std::time::Duration;

use serde_json::{Value, json};

use super::phones::{TO_BOB, World, is_heard};
use super::scene::{APPLICATION, NUMBER, accept, bring, call, page, read, until};
use crate::presence::desk::{draft, item, sign};
use crate::presence::phone::Phone;
use crate::presence::road::Road;
use crate::support::{eventually, now};

fn text(of: &Value) -> String {
    of.as_str().unwrap().to_owned()
}

// R §5, 6: a phone whose network breaks while it rings rings again when it is back, under the same name, and may answer.
#[tokio::test]
async fn a_phone_that_was_lost_while_it_rang_rings_again() {
    let world = World::saying(TO_BOB).await;
    let road = Road::to(&world.gate.listeners[1]).await;
    let mut alice = world.phone("alice").await;
    let mut bob = world.phone_by(&road.address, "bob", json!({})).await;
    alice.call("bob");
    let first = bob.until("incoming").await;
    road.cut();
    bob.until("call.transportClose").await;
    let again = bob.until("incoming").await;
    assert_eq!(again["callsid"], first["callsid"]);
    bob.say("accept");
    bob.until("call.accept").await;
    let accepted = alice.until("call.accept").await;
    is_heard(&mut alice, &mut bob, "at last").await;
    let record = read(&world.gate, &text(&accepted["callsid"])).await;
    assert_eq!(record["trace"].as_array().unwrap().len(), 1, "{record}");
    assert_eq!(record["trace"][0]["outcome"], "answered");
}

// R §5, 8: silence is noticed by both ends after the same time, in any order, and the call goes on.
#[tokio::test]
async fn a_call_goes_on_when_a_silent_phone_comes_back() {
    let world = World::saying(TO_BOB).await;
    let road = Road::to(&world.gate.listeners[1]).await;
    let patient = json!({ "maxCallSignalingTimeoutMs": 30_000 });
    let alice = world.phone_by(&road.address, "alice", patient).await;
    let bob = world.phone("bob").await;
    let (mut alice, mut bob, sid) = world.talking(alice, bob).await;
    road.fall_silent();
    alice.until("call.reconnecting").await;
    alice.until("call.reconnected").await;
    is_heard(&mut alice, &mut bob, "can you hear me").await;
    is_heard(&mut bob, &mut alice, "again").await;
    assert_eq!(read(&world.gate, &sid).await["status"], "in-progress");
    assert_eq!(item(&world.gate, "alice").await["device_count"], 1);
    assert_eq!(item(&world.gate, "alice").await["reason"], "in_call");
    bob.say("hangup");
    alice.until("call.disconnect").await;
    until(&world.gate, &sid, "completed").await;
    eventually("alice can be rung", async || {
        item(&world.gate, "alice").await["ringable"] == true
    })
    .await;
}

// PLUGIN §6: a phone that begins a call does not hear what rings any more, and its caller is told that it is busy.
#[tokio::test]
async fn a_phone_that_calls_while_it_rings_is_busy() {
    let world = World::saying(TO_BOB).await;
    let (mut alice, mut bob) = (world.phone("alice").await, world.phone("bob").await);
    let mut carol = page(&world.gate, "carol", "desk").await;
    alice.call("bob");
    bob.until("incoming").await;
    world
        .customer
        .say("/voice", "<Dial><Client>carol</Client></Dial>");
    bob.call("carol");
    let invitation = carol.hear("call.invite").await;
    assert_eq!(alice.refused().await.0, 31_486);
    accept(&mut carol, &invitation).await;
    bob.until("call.accept").await;
    bob.say("hangup");
    bob.until("call.disconnect").await;
}

// R §5, 11: of two who call each other at once, the first finds the second busy, and is free for its call.
#[tokio::test]
async fn of_two_phones_that_call_each_other_at_once_one_gets_through() {
    let world = World::saying(TO_BOB).await;
    let (mut alice, mut bob) = (world.phone("alice").await, world.phone("bob").await);
    // Both calls are there before either is put through.
    let thinking = Duration::from_secs(3);
    world.customer.delay("/voice", thinking);
    alice.call("bob");
    let asked = world.customer.until_asked("/voice", 1).await;
    assert_eq!(asked[0].field("From"), Some("client:alice"));
    world
        .customer
        .say("/voice", "<Dial><Client>alice</Client></Dial>");
    world.customer.delay("/voice", thinking);
    bob.call("alice");
    assert_eq!(alice.refused().await.0, 31_486);
    alice.until("incoming").await;
    alice.say("accept");
    bob.until("call.accept").await;
    is_heard(&mut alice, &mut bob, "I meant to call you").await;
    assert!(!bob.seen().contains(&"incoming".to_owned()));
}

// R §5, 20: two callers want one phone: it rings once, and the other caller hears that it is busy.
#[tokio::test]
async fn a_phone_rings_for_one_caller_at_a_time() {
    let world = World::saying(TO_BOB).await;
    let mut bob = world.phone("bob").await;
    let (one, other) = (
        bring(&world.gate, NUMBER).await,
        bring(&world.gate, NUMBER).await,
    );
    let incoming = bob.until("incoming").await;
    assert_eq!(incoming["from"], "+14155550199");
    eventually("one of them is told", async || {
        let both = [
            read(&world.gate, &one).await,
            read(&world.gate, &other).await,
        ];
        both.iter().filter(|call| call["status"] == "busy").count() == 1
    })
    .await;
    bob.say("accept");
    bob.until("call.accept").await;
    assert!(!bob.seen().contains(&"incoming".to_owned()));
}

// B38: a token that ends takes the phone's registration, and leaves it its call.
#[tokio::test]
async fn a_call_outlives_the_token_of_its_phone() {
    const HOUR: Duration = Duration::from_hours(1);
    let world = World::saying(TO_BOB).await;
    let mut brief = draft(
        "alice",
        None,
        HOUR + Duration::from_secs(8) - Duration::from_mins(1),
    );
    brief.application = Some(APPLICATION.into());
    let token = sign(&brief, HOUR);
    let address = &world.gate.listeners[1];
    let mut alice = Phone::made(address, &world.authority, &token, json!({})).await;
    alice.say("register");
    alice.until("registered").await;
    let bob = world.phone("bob").await;
    let (mut alice, mut bob, sid) = world.talking(alice, bob).await;
    let error = alice.until("error").await;
    assert_eq!(error["from"], 31_205);
    eventually("alice is not registered", async || {
        item(&world.gate, "alice").await["device_count"] == 0
    })
    .await;
    is_heard(&mut bob, &mut alice, "are you still there").await;
    is_heard(&mut alice, &mut bob, "for now").await;
    assert_eq!(read(&world.gate, &sid).await["status"], "in-progress");
    let start = now();
    alice.say("hangup");
    bob.until("call.disconnect").await;
    assert!(start.elapsed() < Duration::from_secs(5));
    until(&world.gate, &sid, "completed").await;
}

// B38: who signs out, or ends the SDK, in a call: the first goes on with it, the second has hung up.
#[tokio::test]
async fn a_phone_that_signs_out_keeps_its_call_until_it_ends() {
    let world = World::saying(TO_BOB).await;
    let (alice, bob) = (world.phone("alice").await, world.phone("bob").await);
    let (mut alice, mut bob, sid) = world.talking(alice, bob).await;
    bob.say("unregister");
    bob.until("unregistered").await;
    is_heard(&mut alice, &mut bob, "you are gone").await;
    is_heard(&mut bob, &mut alice, "not from you").await;
    let mut carol = page(&world.gate, "carol", "desk").await;
    let second = call(&mut carol, "bob").await;
    carol.hear("call.hangup").await;
    assert_ne!(read(&world.gate, &second).await["status"], "in-progress");
    bob.say("destroy");
    bob.until("destroyed").await;
    alice.until("call.disconnect").await;
    until(&world.gate, &sid, "completed").await;
}

// R §5, 2: an acceptance that crosses the end of the call on its way is told so, and its phone is free.
#[tokio::test]
async fn a_phone_that_accepts_too_late_is_free_again() {
    let world = World::saying(TO_BOB).await;
    let (mut alice, mut bob) = (world.phone("alice").await, world.phone("bob").await);
    for _ in 0..5 {
        alice.call("bob");
        bob.until("incoming").await;
        alice.until("call.ringing").await;
        alice.say("hangup");
        // On a busy machine his phone might read this word when the next call has come, and take it for that one.
        bob.obey("accept").await;
        alice.until("call.disconnect").await;
        eventually("bob can be rung again", async || {
            item(&world.gate, "bob").await["ringable"] == true
        })
        .await;
    }
    let (mut alice, mut bob, _) = world.talking(alice, bob).await;
    is_heard(&mut alice, &mut bob, "now").await;
}
