//! What the customer's server is asked and told, and how its documents are followed.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::presence::SecretText;
use tidegate::presence::fetch::signature;

use super::scene::{
    APPLICATION, Asked, Customer, NUMBER, OFFER, accept, bring, call, connect, decline, leave,
    page, post, report, until,
};
use crate::presence::desk::AUTH_TOKEN;

/// Whether a request is signed for the URL that it came to.
fn is_signed(customer: &Customer, asked: &Asked) -> bool {
    let fields: Vec<_> = asked
        .fields
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let fields = if asked.method == "GET" { &[] } else { &*fields };
    let given = asked.head.get(signature::SIGNATURE_HEADER);
    let tokens = [SecretText(AUTH_TOKEN.into())];
    let url = customer.url(&asked.target);
    given.is_some_and(|given| signature::verify(&tokens, &url, fields, given))
}

fn warned(record: &Value, code: u64) -> bool {
    let warnings = record["warnings"].as_array().into_iter().flatten();
    warnings.into_iter().any(|warning| warning["code"] == code)
}

// B34, R §3.1, §3.8: every request says who calls whom and how available the called are, and is signed.
#[tokio::test]
async fn a_request_says_who_calls_whom_and_how_available_they_are() {
    let customer = Customer::saying(
        "<Dial action=\"after?leg=1\" method=\"GET\"><Client>carol</Client></Dial>",
    );
    customer.say("/after", "<Hangup/>");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    report(&mut bob, "busy", None).await;
    let sid = bring(&gate, NUMBER).await;
    let asked = customer.concluded("/voice").await;
    for (name, value) in [
        ("CallSid", sid.as_str()),
        ("AccountSid", crate::presence::desk::ACCOUNT),
        ("ApiVersion", "2010-04-01"),
        ("Direction", "inbound"),
        ("CallStatus", "ringing"),
        ("From", "+14155550199"),
        ("Caller", "+14155550199"),
        ("To", NUMBER),
        ("Called", NUMBER),
    ] {
        assert_eq!(asked.field(name), Some(value), "{name}");
    }
    assert_eq!(asked.field("ApplicationSid"), None);
    assert!(is_signed(&customer, &asked));
    let told: Value = serde_json::from_str(asked.field("Presence").unwrap()).unwrap();
    let bob = json!({ "status": "busy", "ringable": false, "devices": [{ "device": "phone", "status": "busy" }] });
    assert_eq!(told, json!({ "bob": bob }));
    let after = customer.concluded("/after").await;
    assert_eq!(after.method, "GET");
    assert_eq!(after.field("leg"), Some("1"));
    assert!(is_signed(&customer, &after));
    let told: Value = serde_json::from_str(after.field("Presence").unwrap()).unwrap();
    assert_eq!(told["carol"]["status"], "offline", "{told}");
    assert_eq!(told["bob"]["status"], "busy");
}

// PLUGIN §4, B34: a client that is called through an application is told about, and so is which application it is.
#[tokio::test]
async fn an_application_is_named_and_the_called_client_told_about() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let communication = json!({ "to": "client:bob", "from": "client:web", "application": APPLICATION, "sdp": OFFER,
        "parameters": { "ticket": "9", "CallStatus": "completed" } });
    let answer = post(&gate, communication).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    bob.hear("call.invite").await;
    let asked = customer.concluded("/voice").await;
    assert_eq!(asked.field("ApplicationSid"), Some(APPLICATION));
    assert_eq!(asked.field("To"), Some("client:bob"));
    assert_eq!(asked.field("ticket"), Some("9"));
    assert_eq!(asked.field("CallStatus"), Some("ringing"));
    let told: Value = serde_json::from_str(asked.field("Presence").unwrap()).unwrap();
    assert_eq!(told["bob"]["ringable"], true, "{told}");
}

// R §3.2: a document that cannot be had leads to the fallback, which is told why; its document is followed.
#[tokio::test]
async fn a_document_that_cannot_be_had_leads_to_the_fallback() {
    let customer = Customer::saying("");
    customer.answer("/voice", 500, "text/plain", "secret".into());
    customer.say("/fallback", "<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    bob.hear("call.invite").await;
    let asked = customer.concluded("/fallback").await;
    assert_eq!(asked.field("ErrorCode"), Some("11200"));
    assert_eq!(
        asked.field("ErrorUrl"),
        Some(customer.url("/voice").as_str())
    );
    assert_eq!(asked.field("CallSid"), Some(sid.as_str()));
    let record = until(&gate, &sid, "queued").await;
    assert!(warned(&record, 11_200), "{record}");
    assert!(!record.to_string().contains("secret"));
}

// R §3.2: without a way on, the call has failed.
#[tokio::test]
async fn a_fallback_that_fails_too_ends_the_call() {
    let customer = Customer::saying("");
    customer.answer("/voice", 200, "text/xml", "<Response><Dial>".into());
    customer.answer("/fallback", 404, "text/plain", String::new());
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let sid = call(&mut alice, "bob").await;
    let over = alice.hear("call.hangup").await;
    assert_eq!(over["error"]["code"], 31_005, "{over}");
    let record = until(&gate, &sid, "failed").await;
    assert!(
        warned(&record, 12_100) && warned(&record, 11_200),
        "{record}"
    );
    let asked = customer.concluded("/fallback").await;
    assert_eq!(asked.field("ErrorCode"), Some("12100"));
}

// PLUGIN §6: what needs media fails to the fallback; what was passed over can be read.
#[tokio::test]
async fn a_verb_that_needs_media_leads_to_the_fallback() {
    let customer =
        Customer::saying("<Play>x.mp3</Play><Shout/><Gather><Say>press 1</Say></Gather>");
    customer.say("/fallback", "<Reject/>");
    let gate = customer.gate("", "").await;
    let sid = bring(&gate, NUMBER).await;
    let record = until(&gate, &sid, "no-answer").await;
    assert!(warned(&record, 12_200), "{record}");
    let asked = customer.concluded("/fallback").await;
    assert_eq!(asked.field("ErrorCode"), Some("12200"));
}

// R §3.4: reject says busy or no-answer, also behind other verbs; an empty document hangs up.
#[tokio::test]
async fn reject_hangup_and_an_empty_document_end_a_call_as_they_say() {
    let cases = [
        ("<Reject reason=\"busy\"/>", "busy", 31_486),
        ("<Reject/>", "no-answer", 31_480),
        (
            "<Say>closed</Say><Reject reason=\"rejected\"/>",
            "no-answer",
            31_480,
        ),
        ("<Hangup/>", "no-answer", 31_480),
        ("", "no-answer", 31_480),
    ];
    let customer = Customer::saying("");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    for (verbs, status, code) in cases {
        customer.say("/voice", verbs);
        let sid = call(&mut alice, "bob").await;
        if verbs.contains("Say") {
            assert_eq!(alice.hear("call.say").await["text"], "closed");
        }
        let over = alice.hear("call.hangup").await;
        assert_eq!(over["error"]["code"], code, "{verbs}: {over}");
        let record = until(&gate, &sid, status).await;
        if verbs.contains("Say") {
            assert_eq!(record["announcement"], "closed");
        }
    }
}

// R §3.4: a pause waits, a redirect leads to another document, relative to the one it stands in, and what is behind it is not reached.
#[tokio::test]
async fn a_redirect_leads_on_relative_to_its_document() {
    let customer =
        Customer::saying("<Redirect method=\"GET\">deeper/next?a=b&amp;c=d</Redirect><Reject/>");
    customer.say(
        "/deeper/next",
        "<Pause length=\"1\"/><Redirect>last</Redirect>",
    );
    customer.say("/deeper/last", "<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    bring(&gate, NUMBER).await;
    bob.hear("call.invite").await;
    let next = customer.concluded("/deeper/next").await;
    assert_eq!(next.method, "GET");
    assert_eq!((next.field("a"), next.field("c")), (Some("b"), Some("d")));
    assert!(is_signed(&customer, &next));
    let last = customer.concluded("/deeper/last").await;
    assert_eq!(last.method, "POST");
}

// PLUGIN §6: HTTP redirects are followed, each hop signed for its own URL; 307 keeps the method and its fields.
#[tokio::test]
async fn redirects_of_http_are_followed_and_signed_hop_by_hop() {
    let customer = Customer::saying("");
    customer.lead("/voice", 307, "/moved");
    customer.lead("/moved", 302, "/found");
    customer.say("/found", "<Dial><Client>bob</Client></Dial>");
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    bob.hear("call.invite").await;
    let moved = customer.concluded("/moved").await;
    assert_eq!(moved.method, "POST");
    assert_eq!(moved.field("CallSid"), Some(sid.as_str()));
    assert!(is_signed(&customer, &moved));
    let found = customer.concluded("/found").await;
    assert_eq!(found.method, "GET");
    assert!(is_signed(&customer, &found));
}

// PLUGIN §6: a document that leads to itself is followed so often and no more.
#[tokio::test]
async fn a_circle_of_documents_ends() {
    let customer = Customer::saying("<Redirect>/voice</Redirect>");
    let gate = customer.gate("", "").await;
    let sid = bring(&gate, NUMBER).await;
    until(&gate, &sid, "failed").await;
    assert!(customer.asked("/voice").len() <= 50);
}

// R §3.6: a branch is told about in order, each once, with its own identifier; only what was asked for.
#[tokio::test]
async fn status_callbacks_come_in_order_with_their_numbers() {
    let all = "initiated ringing answered completed";
    let customer = Customer::saying(&format!(
        "<Dial><Client statusCallback=\"/status\" statusCallbackEvent=\"{all}\">bob</Client></Dial>"
    ));
    customer.say("/status", "");
    let gate = customer.gate("", "").await;
    let mut alice = page(&gate, "alice", "desk").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let pair = connect(&mut alice, &mut bob, "bob").await;
    leave(&mut alice, &json!(pair.sid)).await;
    let told = customer.until_asked("/status", 4).await;
    let statuses: Vec<_> = told.iter().map(|told| told.field("CallStatus")).collect();
    let expected = ["initiated", "ringing", "in-progress", "completed"].map(Some);
    assert_eq!(statuses, expected);
    for (number, told) in told.iter().enumerate() {
        assert_eq!(told.field("SequenceNumber"), Some(&*number.to_string()));
        assert_eq!(told.field("CallSid"), pair.callee["callsid"].as_str());
        assert_eq!(told.field("ParentCallSid"), Some(pair.sid.as_str()));
        assert_eq!(told.field("Direction"), Some("outbound-dial"));
        assert_eq!(told.field("To"), Some("client:bob"));
        assert_eq!(told.field("From"), Some("client:alice"));
        assert_eq!(told.field("CallbackSource"), Some("call-progress-events"));
        assert!(told.field("Timestamp").unwrap().ends_with("+0000"));
        assert!(is_signed(&customer, told));
    }
    assert_eq!(told[3].field("CallDuration"), Some("0"));
}

// R §3.6: without a list of events only the end is told; losers are cancelled, and a slow server delays nobody.
#[tokio::test]
async fn a_callback_of_the_end_only_says_how_each_branch_ended() {
    let customer = Customer::saying("<Dial><Client statusCallback=\"/status\">bob</Client></Dial>");
    customer.say("/status", "");
    customer.delay("/status", Duration::from_secs(2));
    let gate = customer.gate("", "").await;
    let mut phone = page(&gate, "bob", "phone").await;
    let mut tablet = page(&gate, "bob", "tablet").await;
    let mut watch = page(&gate, "bob", "watch").await;
    let sid = bring(&gate, NUMBER).await;
    let rejected = phone.hear("call.invite").await;
    let lost = tablet.hear("call.invite").await;
    let won = watch.hear("call.invite").await;
    decline(&mut phone, &rejected).await;
    customer.until_asked("/status", 1).await;
    accept(&mut watch, &won).await;
    watch.hear("call.accept").await;
    leave(&mut watch, &won["callsid"]).await;
    until(&gate, &sid, "completed").await;
    let told = customer.until_asked("/status", 3).await;
    let of = |invitation: &Value| {
        let sid = invitation["callsid"].as_str();
        let mut told = told.iter().filter(|told| told.field("CallSid") == sid);
        told.next().unwrap().field("CallStatus").unwrap().to_owned()
    };
    assert_eq!(of(&rejected), "busy");
    assert_eq!(of(&lost), "canceled");
    assert_eq!(of(&won), "completed");
}

// PLUGIN §6: a message of a document goes to its client beside the call.
#[tokio::test]
async fn an_sms_of_a_document_is_delivered_to_a_client() {
    let customer = Customer::saying(
        "<Sms to=\"client:bob\" from=\"client:shop\">call me</Sms><Reject reason=\"busy\"/>",
    );
    let gate = customer.gate("", "").await;
    let mut bob = page(&gate, "bob", "phone").await;
    let sid = bring(&gate, NUMBER).await;
    let message = bob.hear("message.deliver").await;
    assert_eq!(message["body"], "call me");
    assert_eq!(message["from"], "client:shop");
    until(&gate, &sid, "busy").await;
}
