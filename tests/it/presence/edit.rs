//! Documents between a customer's server and the vendor, edited by presence on their way through a real gate.
//!
//! The origin answers with whatever the test has laid there; the test plays the vendor, which signs its requests for the public
//! address. Reports come over the API.

use super::desk::{ACCOUNT, AUTH_TOKEN, set};
use super::instructions;

use std::fs;
use std::sync::Arc;

use parking_lot::Mutex;
use regex::Regex;
use serde_json::json;
use tidegate::presence::fetch::signature;

use crate::support::client::{Fields, Response};
use crate::support::origin::{Exchange, Origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::{eventually, now};

const URL: &str = "https://app.example.com/twilio";
const FALLBACK: &str = "<Response><Say>Später, nobody is here</Say></Response>";
const FORM: &str = "To=client%3Asales&From=%2B1+415&CallSid=CA1";
const PAIRS: [(&str, &str); 3] = [
    ("To", "client:sales"),
    ("From", "+1 415"),
    ("CallSid", "CA1"),
];
const FORM_KIND: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const KIB_64: usize = 64 * 1024;

/// A gate that edits, and an origin whose answer the test lays down.
struct Desk {
    gate: Sidecar,
    origin: Origin,
    answer: Arc<Mutex<String>>,
}

fn config(order: &str) -> String {
    format!(
        "presence:\n  accounts: [{{ sid: {ACCOUNT}, auth_token: {{ env: AC_AUTH_TOKEN }} }}]\n\
         resources:\n\
         - {{ name: presence-api, match: {{ path: \"/v1/{{*rest}}\" }}, upstream: presence }}\n\
         - name: voice\n  match: {{ path: \"/voice/{{*rest}}\" }}\n  \
         edit: {{ dial_by_presence: {{ account: {ACCOUNT}, public_url: \"{URL}/\", order: {order}, fallback: nobody.xml }} }}\n\
         limits:\n- {{ name: all, max: 100 }}\n"
    )
}

impl Desk {
    async fn new(order: &str) -> Self {
        let answer = Arc::new(Mutex::new(String::new()));
        let laid = Arc::clone(&answer);
        let origin = Origin::start(async move |exchange: &mut Exchange| {
            exchange.body().await?;
            let answer = laid.lock().clone();
            exchange.raw(&answer).await
        });
        let plan = sidecar(&config(order)).before(&origin);
        fs::write(plan.directory().join("nobody.xml"), FALLBACK).unwrap();
        let gate = plan.env("AC_AUTH_TOKEN", AUTH_TOKEN).start().await;
        Self {
            gate,
            origin,
            answer,
        }
    }

    /// What the origin answers from now on: a 200 with these lines of a head and a length.
    fn lay(&self, fields: &str, body: &str) {
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\n{fields}content-length: {length}\r\n\r\n");
        *self.answer.lock() = head + body;
    }

    fn lay_xml(&self, body: &str) {
        self.lay(
            "content-type: text/xml; charset=utf-8\r\netag: \"1\"\r\n",
            body,
        );
    }

    /// The vendor's request for instructions.
    async fn call(&self, more: Fields<'_>) -> Response {
        let signature = signature::sign_form(AUTH_TOKEN, &format!("{URL}/voice/in?x=%20"), &PAIRS);
        self.ask("/voice/in?x=%20", &signature, FORM, more).await
    }

    async fn ask(&self, path: &str, signature: &str, form: &str, more: Fields<'_>) -> Response {
        let fields = [&[("x-twilio-signature", signature), FORM_KIND], more].concat();
        let mut connection = self.gate.connect().await;
        connection.ask("POST", path, &fields, form).await
    }

    /// What comes of a document.
    async fn edited(&self, document: &str) -> String {
        self.lay_xml(document);
        let answer = self.call(&[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            answer.field("content-length"),
            answer.body.bytes.len().to_string()
        );
        answer.text()
    }

    async fn counted(&self, result: &str) -> usize {
        let sample = format!("tidegate_twiml_edits_total{{result=\"{result}\"}}");
        self.gate.metric(&sample).await.unwrap() as usize
    }
}

fn dial(names: &[&str]) -> String {
    let clients: String = names
        .iter()
        .map(|name| format!("<Client>{name}</Client>\n"))
        .collect();
    format!("<?xml version='1.0'?>\n<Response><Dial timeout = '5'>{clients}</Dial></Response>\n")
}

// B6, B10: whoever is not available when the document passes is not dialled, and nothing else of it changes.
#[tokio::test]
async fn only_those_who_are_available_are_left_in_a_document() {
    let desk = Desk::new("as_written").await;
    set(&desk.gate, "alice", "available").await;
    set(&desk.gate, "bob", "busy").await;
    let all = dial(&["alice", "bob", "eve"]);
    let without = all
        .replace("<Client>bob</Client>", "")
        .replace("<Client>eve</Client>", "");
    assert_eq!(desk.edited(&all).await, without);
    set(&desk.gate, "bob", "available").await;
    set(&desk.gate, "alice", "away").await;
    let without = all
        .replace("<Client>alice</Client>", "")
        .replace("<Client>eve</Client>", "");
    assert_eq!(desk.edited(&all).await, without);
    assert_eq!(desk.edited(&dial(&["bob"])).await, dial(&["bob"]));
    assert_eq!(desk.edited(&dial(&["alice"])).await, FALLBACK);
    for (result, count) in [
        ("edited", 2),
        ("untouched", 1),
        ("nobody_left", 1),
        ("skipped", 0),
    ] {
        assert_eq!(desk.counted(result).await, count, "{result}");
    }
    desk.gate.until_idle().await;
}

#[tokio::test]
async fn whoever_waited_longest_is_dialled_first() {
    let desk = Desk::new("idle").await;
    for name in ["carol", "alice", "bob"] {
        set(&desk.gate, name, "available").await;
        let set_at = now();
        let has_passed = async || set_at.elapsed().as_millis() > 1;
        eventually("idleness is told by the millisecond", has_passed).await;
    }
    let edited = desk.edited(&dial(&["alice", "bob", "carol"])).await;
    assert_eq!(edited, dial(&["carol", "alice", "bob"]));
}

// B6: what the vendor's own libraries build comes through byte for byte, but for those who were cut.
#[tokio::test]
async fn documents_of_the_libraries_lose_nothing_but_the_nouns_that_are_cut() {
    let desk = Desk::new("as_written").await;
    for name in ["alice", "日本 \"語\" & <co>"] {
        set(&desk.gate, name, "available").await;
    }
    let client = |name: &str| {
        json!({ "noun": "client", "identity": name, "parameters": [["k > \"v\"", "a & b\n'"]],
            "attributes": { "statusCallback": "/s?a=1&b='2'", "statusCallbackEvent": ["ringing", "completed"] } })
    };
    let nouns = ["bob", "alice", "bob", "日本 \"語\" & <co>"].map(client);
    let calls = [
        json!({ "verb": "say", "text": "<Client>bob</Client> é" }),
        json!({ "verb": "dial", "nouns": nouns, "attributes": { "action": "/next?x=1&y=>", "timeLimit": 60 } }),
        json!({ "verb": "dial", "nouns": [{ "noun": "client", "text": "bob" }, { "noun": "number", "text": "+1" }] }),
        json!({ "verb": "redirect", "text": "https://a.example/?a=1&b=2" }),
    ];
    let of_bob =
        Regex::new("<Client[^<]*(<Identity>)?bob(</Identity>)?(<Parameter[^<]*)?</Client>")
            .unwrap();
    for built in instructions::built(&calls).await {
        assert_eq!(of_bob.find_iter(&built).count(), 3, "{built}");
        assert_eq!(desk.edited(&built).await, of_bob.replace_all(&built, ""));
    }
}

// B34: nobody but the vendor may learn from the answers who is there, and the customer's server never hears of others.
#[tokio::test]
async fn what_is_not_signed_for_the_public_address_goes_nowhere() {
    let desk = Desk::new("as_written").await;
    desk.lay_xml(&dial(&["alice"]));
    let url = format!("{URL}/voice/in");
    let good = signature::sign_form(AUTH_TOKEN, &url, &PAIRS);
    let other_token = signature::sign_form("another token", &url, &PAIRS);
    let local = signature::sign_form(AUTH_TOKEN, "http://gate.test/voice/in", &PAIRS);
    let forged = FORM.replace("CA1", "CA2");
    for (path, signature, form) in [
        ("/voice/in", "", FORM),
        ("/voice/in", other_token.as_str(), FORM),
        ("/voice/in", local.as_str(), FORM),
        ("/voice/in", good.as_str(), forged.as_str()),
        ("/voice/in", good.as_str(), ""),
        ("/voice/other", good.as_str(), FORM),
        ("/voice/in?x=1", good.as_str(), FORM),
    ] {
        let answer = desk.ask(path, signature, form, &[]).await;
        assert_eq!(
            (answer.status, answer.field("x-admission-reason")),
            (403, "signature_invalid"),
            "{path}"
        );
    }
    assert_eq!(
        (desk.origin.served(), desk.counted("bad_signature").await),
        (0, 7)
    );
    assert_eq!(desk.ask("/voice/in", &good, FORM, &[]).await.status, 200);
    assert_eq!(
        desk.origin.last_body().bytes,
        FORM.as_bytes(),
        "it goes on as it came"
    );
    desk.gate.until_idle().await;
}

#[tokio::test]
async fn a_request_without_a_body_is_signed_by_its_query() {
    let desk = Desk::new("as_written").await;
    desk.lay_xml(&dial(&["alice"]));
    let path = "/voice/in?To=client%3Aalice&x";
    let signature = signature::sign(AUTH_TOKEN, &format!("{URL}{path}"));
    let fields = [("x-twilio-signature", signature.as_str())];
    let mut connection = desk.gate.connect().await;
    assert_eq!(connection.get(path, &fields).await.text(), FALLBACK);
    let head = connection.ask("HEAD", path, &fields, "").await;
    assert_eq!((head.status, desk.counted("skipped").await), (200, 1));
    assert_eq!(connection.get("/voice/in?x", &fields).await.status, 403);
}

#[tokio::test]
async fn forms_up_to_64_kib_are_read_and_longer_ones_refused() {
    let desk = Desk::new("as_written").await;
    desk.lay_xml(&dial(&["alice"]));
    let long = |length: usize| "x".repeat(length - "Body=".len());
    for (length, status) in [(KIB_64, 200), (KIB_64 + 1, 413)] {
        let body = long(length);
        let signature =
            signature::sign_form(AUTH_TOKEN, &format!("{URL}/voice/in"), &[("Body", &body)]);
        let form = format!("Body={body}");
        let answer = desk.ask("/voice/in", &signature, &form, &[]).await;
        assert_eq!(answer.status, status, "{length}");
        // The same in chunks, whose length nobody says before.
        let mut connection = desk.gate.connect().await;
        let head = format!(
            "POST /voice/in HTTP/1.1\r\nhost: a\r\nx-twilio-signature: {signature}\r\n\
             content-type: {}\r\ntransfer-encoding: chunked\r\n\r\n",
            FORM_KIND.1
        );
        connection.send(head).await;
        for piece in form.as_bytes().chunks(10_000) {
            connection.send(format!("{:x}\r\n", piece.len())).await;
            connection.send([piece, b"\r\n"].concat()).await;
        }
        connection.send("0\r\n\r\n").await;
        assert_eq!(
            connection.response_to("POST").await.status,
            status,
            "{length} in chunks"
        );
    }
    assert_eq!(desk.origin.served(), 2);
    assert_eq!(desk.origin.last_body().bytes.len(), KIB_64);
    desk.gate.until_idle().await;
}

#[tokio::test]
async fn what_is_no_document_goes_by_as_it_came() {
    let desk = Desk::new("as_written").await;
    let document = dial(&["nobody"]);
    for (fields, body) in [
        ("content-type: text/plain\r\netag: \"1\"\r\n", &*document),
        ("content-type: text/xml; charset=iso-8859-1\r\n", &document),
        (
            "content-type: text/xml\r\ncontent-encoding: gzip\r\n",
            "\u{1f}zip",
        ),
        ("", &document),
        ("content-type: text/xml\r\n", ""),
    ] {
        desk.lay(fields, body);
        let answer = desk.call(&[]).await;
        assert_eq!(
            (answer.text().as_str(), answer.head.get("etag").is_some()),
            (body, fields.contains("etag"))
        );
    }
    *desk.answer.lock() = format!(
        "HTTP/1.1 404 No\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n{document}",
        document.len()
    );
    assert_eq!(desk.call(&[]).await.text(), document);
    assert_eq!(desk.counted("skipped").await, 6);
    for unreadable in [
        "<Response><Dial>",
        "<Reply/>",
        " <?xml version='1.0'?><Response/>",
        "{}",
    ] {
        assert_eq!(desk.edited(unreadable).await, unreadable);
        assert_eq!(desk.call(&[]).await.field("etag"), "\"1\"");
    }
    assert_eq!(desk.counted("unreadable").await, 8);
}

#[tokio::test]
async fn documents_up_to_64_kib_are_edited_and_longer_ones_go_by() {
    let desk = Desk::new("as_written").await;
    for (length, is_edited) in [(KIB_64, true), (KIB_64 + 1, false), (5 * KIB_64, false)] {
        let document = dial(&["nobody"]);
        let document = format!("{document}{}", " ".repeat(length - document.len()));
        let expected = if is_edited { FALLBACK } else { &document };
        desk.lay_xml(&document);
        assert!(desk.call(&[]).await.text() == expected, "{length}");
        // The same in chunks, whose length nobody says before.
        let mut chunked =
            "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ntransfer-encoding: chunked\r\n\r\n"
                .to_owned();
        for piece in document.as_bytes().chunks(10_000) {
            let piece = std::str::from_utf8(piece).unwrap();
            chunked.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
        }
        *desk.answer.lock() = chunked + "0\r\n\r\n";
        assert!(
            desk.call(&[]).await.text() == expected,
            "{length} in chunks"
        );
    }
    assert_eq!(
        (
            desk.counted("nobody_left").await,
            desk.counted("skipped").await
        ),
        (2, 4)
    );
    desk.gate.until_idle().await;
}

#[tokio::test]
async fn nothing_is_asked_for_that_could_not_be_edited() {
    let desk = Desk::new("as_written").await;
    desk.lay_xml(&dial(&["nobody"]));
    let answer = desk
        .call(&[
            ("accept-encoding", "gzip"),
            ("if-none-match", "\"1\""),
            ("range", "bytes=0-1"),
            ("accept", "*/*"),
        ])
        .await;
    let head = desk.origin.last();
    for name in ["accept-encoding", "if-none-match", "range"] {
        assert_eq!(head.get(name), None, "{name}");
    }
    assert_eq!(
        (head.get("accept"), head.get("x-twilio-signature").is_some()),
        (Some("*/*"), true)
    );
    assert_eq!(
        (answer.text().as_str(), answer.head.get("etag")),
        (FALLBACK, None)
    );
    // Elsewhere it is asked for all the same.
    desk.gate
        .connect()
        .await
        .get("/other", &[("accept-encoding", "gzip")])
        .await;
    assert_eq!(desk.origin.last().get("accept-encoding"), Some("gzip"));
}

#[tokio::test]
async fn a_document_that_breaks_off_is_an_error_and_no_half() {
    let desk = Desk::new("as_written").await;
    *desk.answer.lock() = "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ntransfer-encoding: chunked\r\n\r\n5\r\n<Resp\r\nzz\r\n".to_owned();
    let answer = desk.call(&[]).await;
    assert_eq!(
        (answer.status, answer.field("x-admission-reason")),
        (502, "upstream_broke")
    );
    desk.gate.until_idle().await;
}

#[tokio::test]
async fn a_fallback_is_read_again_with_the_configuration_and_must_be_a_document() {
    let desk = Desk::new("as_written").await;
    let file = desk.gate.directory().join("nobody.xml");
    fs::write(&file, "<Response>").unwrap();
    let answer = desk.gate.reload_with(&config("as_written")).await;
    assert!(
        answer.text().contains("is no document to answer with"),
        "{}",
        answer.text()
    );
    assert_eq!(desk.edited(&dial(&["nobody"])).await, FALLBACK);
    fs::write(&file, "<Response><Hangup/></Response>").unwrap();
    desk.gate.reloaded_with(&config("as_written")).await;
    assert_eq!(
        desk.edited(&dial(&["nobody"])).await,
        "<Response><Hangup/></Response>"
    );
}
