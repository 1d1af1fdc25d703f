//! Who rings: devices that are available at that moment, in the order of the instructions, and one of them is put through.

use serde_json::json;

use super::scene::{
    ANSWER, Customer, NUMBER, accept, bring, call, calling, connect, decline, hears_nothing, leave,
    page, report, traced, until,
};
use crate::presence::desk::{Socket, item, set};
use crate::support::eventually;
use crate::support::sidecar::Sidecar;

/// Two who stand behind one name, chosen so.
fn sales(choose: &str) -> String {
    format!("      destinations: {{ sales: {{ members: [bob, carol], choose: {choose} }} }}\n")
}

async fn with_sales(choose: &str) -> (Customer, Sidecar) {
    let customer = Customer::saying("<Dial><Client>sales</Client></Dial>");
    let gate = customer.gate(&sales(choose), "").await;
    (customer, gate)
}

// B10: presence is read at the moment of ringing: who turned busy while the instructions were on their way does not ring.
#[tokio::test]
async fn a_device_that_turned_busy_just_before_does_not_ring() {
    let customer = Customer::saying(
        "<Pause length=\"1\"/><Dial action=\"/after\"><Client>bob</Client></Dial>",
    );
    customer.say("/after", "<Hangup/>");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    customer.until_asked("/voice", 1).await;
    report(&mut bob, "busy", None).await;
    let record = until(&gate, &sid, "busy").await;
    assert_eq!(traced(&record, "bob", "phone"), "busy");
    hears_nothing(&mut bob).await;
}

// B6, B7: reports over the API show, and never ring; so do devices that are away or cannot receive.
#[tokio::test]
async fn only_who_is_available_on_a_socket_rings() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    set(&gate, "bob", "available").await;
    let mut away = page(&gate, "bob", "away").await;
    report(&mut away, "away", None).await;
    let mut mute = Socket::open(&gate).await;
    let hello = json!({ "token": calling("bob"), "device": "mute", "audio": false });
    mute.say("hello", hello).await;
    mute.hear("welcome").await;
    let mut phone = page(&gate, "bob", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    let invitation = phone.hear("call.invite").await;
    accept(&mut phone, &invitation).await;
    let record = until(&gate, &sid, "in-progress").await;
    assert_eq!(traced(&record, "bob", "desk"), "no_socket");
    assert_eq!(traced(&record, "bob", "away"), "away");
    assert_eq!(traced(&record, "bob", "mute"), "cannot_receive");
    assert_eq!(traced(&record, "bob", "phone"), "answered");
    for socket in [&mut away, &mut mute] {
        hears_nothing(socket).await;
    }
}

// B11: two applications on one device keep statuses of their own: the one that is free rings.
#[tokio::test]
async fn of_two_applications_on_one_device_the_one_that_is_free_rings() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut apps = Vec::new();
    for app in ["work", "home"] {
        let mut socket = Socket::open(&gate).await;
        let hello = json!({ "token": calling("bob"), "device": "pc", "app": app, "audio": true });
        socket.say("hello", hello).await;
        socket.hear("welcome").await;
        apps.push(socket);
    }
    report(&mut apps[0], "do_not_disturb", None).await;
    let sid = bring(&gate, NUMBER).await;
    let invitation = apps[1].hear("call.invite").await;
    accept(&mut apps[1], &invitation).await;
    let record = until(&gate, &sid, "in-progress").await;
    assert_eq!(record["answered_by"]["app"], "home");
    hears_nothing(&mut apps[0]).await;
}

// B29: a name rings all who listen to it, a sub-name the one; the caller hears that it rings, once.
#[tokio::test]
async fn a_name_rings_all_its_devices_and_a_sub_name_one() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut phone = page(&gate, "bob", "phone").await;
    let mut tablet = page(&gate, "bob", "tablet").await;
    let sid = call(&mut alice, "bob").await;
    for bob in [&mut phone, &mut tablet] {
        let invitation = bob.hear("call.invite").await;
        assert_eq!(invitation["to"], "client:bob");
        let ringing = json!({ "callsid": invitation["callsid"] });
        bob.say("call.ringing", ringing.clone()).await;
        bob.say("call.ringing", ringing).await;
        hears_nothing(bob).await;
    }
    alice.hear("call.ringing").await;
    hears_nothing(&mut alice).await;
    leave(&mut alice, &json!(sid)).await;
    for bob in [&mut phone, &mut tablet] {
        assert_eq!(bob.hear("call.cancel").await["reason"], "caller_left");
    }
    until(&gate, &sid, "canceled").await;

    customer.say("/voice", "<Dial><Client>bob/phone</Client></Dial>");
    let sid = call(&mut alice, "bob").await;
    let invitation = phone.hear("call.invite").await;
    accept(&mut phone, &invitation).await;
    let record = until(&gate, &sid, "in-progress").await;
    assert_eq!(record["trace"].as_array().unwrap().len(), 1, "{record}");
    hears_nothing(&mut tablet).await;
}

// B30: the first that accepts is put through; the other is told that somebody else was first, and what it answers is refused.
#[tokio::test]
async fn the_second_acceptance_is_refused() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut phone = page(&gate, "bob", "phone").await;
    let mut tablet = page(&gate, "bob", "tablet").await;
    let sid = call(&mut alice, "bob").await;
    let first = phone.hear("call.invite").await;
    let second = tablet.hear("call.invite").await;
    assert_ne!(first["callsid"], second["callsid"]);
    accept(&mut phone, &first).await;
    phone.hear("call.accept").await;
    let cancelled = tablet.hear("call.cancel").await;
    assert_eq!(cancelled["callsid"], second["callsid"]);
    assert_eq!(cancelled["reason"], "answered_elsewhere");
    accept(&mut tablet, &second).await;
    let refused = tablet.hear("call.hangup").await;
    assert_eq!(refused["error"]["code"], 31_008);
    assert!(refused["sdp"].is_null());
    alice.hear("call.ringing").await;
    assert_eq!(alice.hear("call.accept").await["sdp"], ANSWER);
    hears_nothing(&mut alice).await;
    let record = until(&gate, &sid, "in-progress").await;
    assert_eq!(traced(&record, "bob", "phone"), "answered");
    assert_eq!(traced(&record, "bob", "tablet"), "answered_elsewhere");
}

// B30, R §5 race 1: two that answer at the same moment: one is put through, and the other is refused, whoever it is.
#[tokio::test]
async fn of_two_that_answer_together_one_wins_and_the_other_is_refused() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut phone = page(&gate, "bob", "phone").await;
    let mut tablet = page(&gate, "bob", "tablet").await;
    for _ in 0..20 {
        let sid = bring(&gate, NUMBER).await;
        let first = phone.hear("call.invite").await;
        let second = tablet.hear("call.invite").await;
        tokio::join!(accept(&mut phone, &first), accept(&mut tablet, &second));
        let (mut won, mut refused) = (0, 0);
        let mut winner = json!(null);
        for bob in [&mut phone, &mut tablet] {
            let mut next = bob.next().await;
            if next["type"] == "call.accept" {
                won += 1;
                winner = next["payload"]["callsid"].take();
                continue;
            }
            if next["type"] == "call.cancel" {
                assert_eq!(next["payload"]["reason"], "answered_elsewhere");
                next = bob.next().await;
            }
            assert_eq!(next["type"], "call.hangup", "{next}");
            assert_eq!(next["payload"]["error"]["code"], 31_008);
            refused += 1;
        }
        assert_eq!((won, refused), (1, 1));
        let bob = if winner == first["callsid"] {
            &mut phone
        } else {
            &mut tablet
        };
        leave(bob, &winner).await;
        bob.hear("call.hangup").await;
        until(&gate, &sid, "completed").await;
    }
}

// B8: behind one name, whoever is available rings: all, or the first of the list, and with none available nobody.
#[tokio::test]
async fn a_destination_rings_its_available_members() {
    let (_customer, gate) = with_sales("all").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let mut carol = page(&gate, "carol", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    bob.hear("call.invite").await;
    let invitation = carol.hear("call.invite").await;
    accept(&mut carol, &invitation).await;
    assert_eq!(
        bob.hear("call.cancel").await["reason"],
        "answered_elsewhere"
    );
    until(&gate, &sid, "in-progress").await;
    let sid = bring(&gate, NUMBER).await;
    let invitation = bob.hear("call.invite").await;
    decline(&mut bob, &invitation).await;
    until(&gate, &sid, "busy").await;
    report(&mut bob, "away", None).await;
    let sid = bring(&gate, NUMBER).await;
    let record = until(&gate, &sid, "busy").await;
    assert_eq!(traced(&record, "carol", "phone"), "in_call");
    hears_nothing(&mut bob).await;
}

// B8: in order, the next member rings only when the one before it is over.
#[tokio::test]
async fn a_destination_in_order_rings_one_member_after_the_other() {
    let (_customer, gate) = with_sales("in_order").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let mut carol = page(&gate, "carol", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    let invitation = bob.hear("call.invite").await;
    hears_nothing(&mut carol).await;
    decline(&mut bob, &invitation).await;
    let invitation = carol.hear("call.invite").await;
    accept(&mut carol, &invitation).await;
    let record = until(&gate, &sid, "in-progress").await;
    assert_eq!(traced(&record, "bob", "phone"), "rejected");
    assert_eq!(record["answered_by"]["identity"], "carol");
    hears_nothing(&mut bob).await;
}

// B9: the one that answered the fewest calls rings.
#[tokio::test]
async fn the_least_loaded_member_rings() {
    let (_customer, gate) = with_sales("least_loaded").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let mut carol = page(&gate, "carol", "phone").await;
    let mut answered = Vec::new();
    for _ in 0..4 {
        let sid = bring(&gate, NUMBER).await;
        let (who, other) = if answered.len() % 2 == 0 {
            (&mut bob, &mut carol)
        } else {
            (&mut carol, &mut bob)
        };
        let invitation = who.hear("call.invite").await;
        accept(who, &invitation).await;
        let told = who.hear("call.accept").await;
        let record = until(&gate, &sid, "in-progress").await;
        answered.push(record["answered_by"]["identity"].clone());
        leave(who, &told["callsid"]).await;
        who.hear("call.hangup").await;
        until(&gate, &sid, "completed").await;
        hears_nothing(other).await;
    }
    assert_eq!(json!(answered), json!(["bob", "carol", "bob", "carol"]));
}

// B28, R §5 race 18: in sequence, each noun has its time; who had its time and answers then is refused.
#[tokio::test]
async fn a_sequential_dial_tries_one_noun_after_the_other() {
    let customer = Customer::saying(
        "<Dial sequential=\"true\" timeout=\"5\"><Client>bob</Client><Client>nobody</Client>\
         <Client>carol</Client></Dial>",
    );
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let mut carol = page(&gate, "carol", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    let first = bob.hear("call.invite").await;
    hears_nothing(&mut carol).await;
    assert_eq!(bob.hear("call.cancel").await["reason"], "timeout");
    let second = carol.hear("call.invite").await;
    accept(&mut bob, &first).await;
    assert_eq!(bob.hear("call.hangup").await["error"]["code"], 31_008);
    accept(&mut carol, &second).await;
    let record = until(&gate, &sid, "in-progress").await;
    assert_eq!(record["answered_by"]["identity"], "carol");
    assert_eq!(traced(&record, "bob", "phone"), "timeout");
}

// R §3.5: a page is told the words of the customer's document, and who calls, as that says.
#[tokio::test]
async fn an_invitation_carries_the_customers_parameters_and_caller_id() {
    let customer = Customer::saying(
        "<Dial callerId=\"client:desk\"><Client><Identity>bob</Identity>\
         <Parameter name=\"ticket\" value=\"4 &amp; 5\"/></Client></Dial>",
    );
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    bring(&gate, NUMBER).await;
    let invitation = bob.hear("call.invite").await;
    assert_eq!(invitation["from"], "client:desk");
    assert_eq!(invitation["parameters"], json!({ "ticket": "4 & 5" }));
}

// B20: whom a batch answer shows, a page can ask to be connected with, and is.
#[tokio::test]
async fn a_page_asks_about_many_and_is_connected_with_one_that_is_shown() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let token = super::scene::calling_with("alice", Some(json!({ "subscribe": ["*"] })));
    let (mut alice, _) = Socket::hello(&gate, &token, "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let question = json!({ "identities": ["bob", "carol"], "id": 7 });
    alice.say("presence.query", question).await;
    let shown = alice.hear("presence.query").await;
    assert_eq!(shown["presence"]["bob"]["ringable"], true, "{shown}");
    assert_eq!(shown["presence"]["carol"]["ringable"], false);
    let pair = connect(&mut alice, &mut bob, "bob").await;
    leave(&mut alice, &json!(pair.sid)).await;
    bob.hear("call.hangup").await;
}

// B14: the caller is busy from its invitation on, before anybody rings; both show what they said before when the call is over.
#[tokio::test]
async fn a_caller_is_busy_from_its_invitation_on() {
    let customer = Customer::saying("<Pause length=\"60\"/>");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    report(&mut alice, "away", Some("lunch")).await;
    let sid = call(&mut alice, "bob").await;
    let shown = item(&gate, "alice").await;
    assert_eq!(
        (&shown["status"], &shown["reason"]),
        (&json!("busy"), &json!("in_call"))
    );
    leave(&mut alice, &json!(sid)).await;
    eventually("she is away again", async || {
        let shown = item(&gate, "alice").await;
        shown["status"] == "away" && shown["text"] == "lunch"
    })
    .await;
}
