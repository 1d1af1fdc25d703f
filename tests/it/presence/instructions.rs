//! Documents that the vendor's own helper libraries build, before the reader; and requests that they sign, before the verifier.
//!
//! A document is described here once, as the calls that a customer's program makes and as what must be read of it; both libraries
//! build it. The descriptions are systematic where attributes combine and seeded where texts do.

use super::packages;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidegate::presence::SecretText;
use tidegate::presence::fetch::signature;
use tidegate::presence::instruction::{
    Client, Dial, Document, Events, Instruction, Link, Noun, RejectReason, Sms, StatusCallback,
    Verb, Warning, read,
};

const SCRIPTS: [&str; 2] = ["instructions.py", "instructions.js"];

/// What texts, names and URLs hold that a builder must escape and a reader must not.
const TEXTS: [&str; 12] = [
    "alice",
    "team/sales desk",
    "a&b&amp;c",
    "<Client>",
    "a > b ]]> c",
    "\"double\" and 'single'",
    "日本 語",
    "😀é\u{301}",
    "a+b@c%2F#?=;",
    "tab\tand\nline",
    "\u{e000}\u{fffd}",
    "x",
];
const URLS: [&str; 4] = [
    "/next",
    "https://a.example/next?a=1&b=%26&c='x'",
    "next.php?q=\"é\"",
    "",
];

/// What the libraries are asked to build, and what must be read of it.
#[derive(Default)]
struct Draft {
    calls: Vec<Value>,
    expected: Document,
}

impl Draft {
    fn verb(&mut self, call: Value, expected: Instruction) {
        self.calls.push(call);
        self.expected.verbs.push(expected);
    }
}

#[derive(Deserialize)]
struct Answer {
    documents: Vec<String>,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    computed: String,
    accepted: bool,
    forged: bool,
}

/// Has both libraries build a document, by the calls that a customer's program makes.
pub(super) async fn built(calls: &[Value]) -> [String; 2] {
    let mut built = SCRIPTS.map(|_| String::new());
    for (built, script) in built.iter_mut().zip(SCRIPTS) {
        *built = ask(script, &[calls], &[]).await.documents.remove(0);
    }
    built
}

async fn ask(script: &'static str, documents: &[&[Value]], signatures: &[Value]) -> Answer {
    let input = json!({ "documents": documents, "signatures": signatures });
    let printed = packages::printed_by(script, input.to_string()).await;
    serde_json::from_str(&printed).unwrap()
}

/// Chance, the same each time.
struct Chance(fastrand::Rng);

impl Chance {
    fn text(&mut self) -> &'static str {
        TEXTS[self.0.usize(..TEXTS.len())]
    }

    fn link(&mut self, names: [&str; 2], attributes: &mut Map<String, Value>) -> Link {
        let url = URLS[self.0.usize(..URLS.len())];
        attributes.insert(names[0].to_owned(), url.into());
        let method = match self.0.u8(..3) {
            0 => Verb::Post,
            said => {
                let (word, method) =
                    [("POST", Verb::Post), ("GET", Verb::Get)][usize::from(said - 1)];
                attributes.insert(names[1].to_owned(), word.into());
                method
            }
        };
        Link {
            url: url.to_owned(),
            method,
        }
    }

    /// A `<Client>`: bits of the number say what it has.
    fn client(&mut self, has: usize) -> (Value, Noun) {
        let mut attributes = Map::new();
        let text = self.text();
        let mut call = json!({ "noun": "client" });
        call[if has & 1 == 0 { "text" } else { "identity" }] = text.into();
        let words = ["initiated", "ringing", "answered", "completed"];
        let named: Vec<_> = (0..4).filter(|bit| has >> (bit + 1) & 1 == 1).collect();
        if !named.is_empty() {
            let words: Vec<_> = named.iter().map(|&bit| words[bit]).collect();
            attributes.insert("statusCallbackEvent".to_owned(), words.into());
        }
        let is_told = has & 32 == 32;
        let status_callback = is_told.then(|| StatusCallback {
            link: self.link(["statusCallback", "statusCallbackMethod"], &mut attributes),
            events: Events {
                initiated: named.contains(&0),
                ringing: named.contains(&1),
                answered: named.contains(&2),
                completed: named.contains(&3) || named.is_empty(),
            },
        });
        // A callback to nowhere is none.
        let status_callback = status_callback.filter(|callback| !callback.link.url.is_empty());
        let parameters: Vec<_> = (0..has % 3)
            .map(|n| (format!("{}{n}", self.text()), self.text().to_owned()))
            .collect();
        call["parameters"] = json!(parameters);
        call["attributes"] = attributes.into();
        let client = Client {
            identity: text.to_owned(),
            parameters,
            status_callback,
        };
        (call, Noun::Client(client))
    }

    /// A `<Dial>`: bits of the number say which attributes it has.
    fn dial(&mut self, has: usize) -> (Value, Instruction) {
        let mut attributes = Map::new();
        let mut say = |name: &str, value: Value| attributes.insert(name.to_owned(), value);
        let mut dial = Dial {
            nouns: Vec::new(),
            action: None,
            timeout: Duration::from_secs(30),
            time_limit: Duration::from_secs(14_400),
            caller_id: None,
            sequential: false,
        };
        if has & 1 == 1 {
            dial.timeout = Duration::from_secs(self.0.u64(5..=600));
            say("timeout", dial.timeout.as_secs().into());
        }
        if has & 2 == 2 {
            dial.time_limit = Duration::from_secs(self.0.u64(1..=86_400));
            say("timeLimit", dial.time_limit.as_secs().into());
        }
        if has & 4 == 4 {
            dial.caller_id = Some(self.text().to_owned());
            say("callerId", json!(dial.caller_id));
        }
        if has & 8 == 8 {
            dial.sequential = self.0.bool();
            say("sequential", dial.sequential.into());
        }
        if has & 16 == 16 {
            say("answerOnBridge", true.into());
        }
        if has & 32 == 32 {
            dial.action = Some(self.link(["action", "method"], &mut attributes));
        }
        let mut nouns = Vec::new();
        for _ in 0..self.0.usize(..4) {
            let (call, noun) = if self.0.u8(..4) == 0 {
                self.other()
            } else {
                let has = self.0.usize(..64);
                self.client(has)
            };
            nouns.push(call);
            dial.nouns.push(noun);
        }
        let call = json!({ "verb": "dial", "attributes": attributes, "nouns": nouns });
        (call, Instruction::Dial(dial))
    }

    fn other(&mut self) -> (Value, Noun) {
        let others = [
            ("number", "Number"),
            ("sip", "Sip"),
            ("conference", "Conference"),
            ("queue", "Queue"),
            ("sim", "Sim"),
        ];
        let (call, name) = others[self.0.usize(..others.len())];
        let call = json!({ "noun": call, "text": self.text() });
        (call, Noun::Other(name.to_owned()))
    }
}

/// Each subset of the attributes of a dial, and each of a client.
fn dials() -> Vec<Draft> {
    let mut chance = Chance(fastrand::Rng::with_seed(34));
    let mut drafts = Vec::new();
    for has in 0..64 {
        let mut draft = Draft::default();
        let (call, expected) = chance.dial(has);
        draft.verb(call, expected);
        let (mut call, mut expected) = chance.dial(0);
        let (noun, client) = chance.client(has);
        call["nouns"] = json!([noun]);
        if let Instruction::Dial(dial) = &mut expected {
            dial.nouns = vec![client];
        }
        draft.verb(call, expected);
        drafts.push(draft);
    }
    drafts
}

/// Each other verb with each text.
fn others() -> Vec<Draft> {
    let owned = |text: &str| text.to_owned();
    let link = |url: &str, method| {
        Instruction::Redirect(Link {
            url: owned(url),
            method,
        })
    };
    let sms = |to: Option<&str>, body: &str| {
        Instruction::Sms(Sms {
            to: to.map(str::to_owned),
            from: to.map(str::to_owned),
            body: owned(body),
        })
    };
    let mut drafts = Vec::new();
    for (at, text) in TEXTS.into_iter().enumerate() {
        let mut draft = Draft::default();
        draft.verb(
            json!({ "verb": "say", "text": text, "attributes": { "voice": "alice", "loop": 2 } }),
            Instruction::Say(owned(text)),
        );
        draft.verb(json!({ "verb": "play", "text": text }), Instruction::Play);
        draft.verb(json!({ "verb": "sms", "text": text }), sms(None, text));
        draft.verb(
            json!({ "verb": "sms", "text": text, "attributes": { "to": text, "from": text } }),
            sms(Some(text), text),
        );
        draft.verb(
            json!({ "verb": "pause" }),
            Instruction::Pause(Duration::from_secs(1)),
        );
        draft.verb(
            json!({ "verb": "pause", "attributes": { "length": at } }),
            Instruction::Pause(Duration::from_secs(at as u64)),
        );
        draft.verb(
            json!({ "verb": "reject" }),
            Instruction::Reject(RejectReason::Rejected),
        );
        draft.verb(
            json!({ "verb": "reject", "attributes": { "reason": "busy" } }),
            Instruction::Reject(RejectReason::Busy),
        );
        draft.verb(
            json!({ "verb": "redirect", "text": text }),
            link(text, Verb::Post),
        );
        draft.verb(
            json!({ "verb": "redirect", "text": URLS[1], "attributes": { "method": "GET" } }),
            link(URLS[1], Verb::Get),
        );
        draft.verb(json!({ "verb": "hangup" }), Instruction::Hangup);
        drafts.push(draft);
        let mut draft = Draft::default();
        draft.verb(
            json!({ "verb": "message", "text": text, "attributes": { "to": text, "from": text } }),
            sms(Some(text), text),
        );
        draft.verb(json!({ "verb": "message", "body": text }), sms(None, text));
        drafts.push(draft);
    }
    drafts
}

/// What needs media, and what is passed over.
fn without_media() -> Vec<Draft> {
    let mut draft = Draft::default();
    for (verb, name) in [
        ("gather", "Gather"),
        ("record", "Record"),
        ("leave", "Leave"),
        ("echo", "Echo"),
        ("pay", "Pay"),
        ("start", "Start"),
        ("stop", "Stop"),
        ("connect", "Connect"),
        ("refer", "Refer"),
        ("prompt", "Prompt"),
    ] {
        draft.verb(json!({ "verb": verb }), Instruction::Media(name.to_owned()));
    }
    for (verb, name) in [("enqueue", "Enqueue"), ("queue", "Queue")] {
        let call = json!({ "verb": verb, "text": "support" });
        draft.verb(call, Instruction::Media(name.to_owned()));
    }
    let (mut call, expected) = Chance(fastrand::Rng::with_seed(1)).dial(0);
    call["attributes"] = json!({ "record": "record-from-answer", "trim": "trim-silence" });
    draft.verb(call, expected);
    draft.expected.warnings = ["Dial record", "Dial trim"]
        .map(|about| Warning {
            code: 12_200,
            about: about.to_owned(),
        })
        .into();
    vec![draft]
}

// B34: what a customer's program says with the vendor's library is what is read, whichever library it is.
#[tokio::test]
async fn what_the_libraries_build_is_read_as_it_was_meant() {
    let drafts: Vec<_> = [dials(), others(), without_media()]
        .into_iter()
        .flatten()
        .collect();
    let calls: Vec<_> = drafts.iter().map(|draft| &draft.calls[..]).collect();
    for script in SCRIPTS {
        let answer = ask(script, &calls, &[]).await;
        assert_eq!(answer.documents.len(), drafts.len());
        for (built, draft) in answer.documents.iter().zip(&drafts) {
            let read = read(built.as_bytes()).unwrap_or_else(|fault| panic!("{fault}: {built}"));
            assert_eq!(read.verbs, draft.expected.verbs, "{script}: {built}");
            let sorted = |warnings: &[Warning]| {
                let about = warnings.iter().map(|warning| warning.about.clone());
                about.collect::<BTreeSet<_>>()
            };
            assert_eq!(
                sorted(&read.warnings),
                sorted(&draft.expected.warnings),
                "{script}: {built}"
            );
        }
    }
}

/// A request: its URL, and the pairs of its form.
type Request = (&'static str, Vec<(&'static str, &'static str)>);

fn requests() -> Vec<Request> {
    let call = vec![
        ("To", "client:日本"),
        ("From", "+14155550100"),
        ("CallSid", "CA1"),
        ("Presence", "{\"alice\":{\"status\":\"busy\"}}"),
    ];
    let many = vec![
        ("B", ""),
        ("A", "2"),
        ("A", "1"),
        ("A", "1"),
        ("a", "é&=+ "),
        ("A", "😀"),
    ];
    let urls = [
        "https://a.example/voice",
        "https://a.example:443/voice?x=1&y=%20é",
        "https://a.example:8443/",
        "http://a.example:80/voice?q='single'",
        "http://127.0.0.1:4000/voice?a=1",
        "https://user:pass@a.example/voice",
    ];
    let forms = [call, many, Vec::new()];
    let requests = urls.into_iter().flat_map(|url| {
        let forms = forms.clone();
        forms.into_iter().map(move |form| (url, form))
    });
    requests.collect()
}

// B34: either side signs, and the other accepts it; changed by one character, it is a forgery.
#[tokio::test]
async fn signatures_of_forms_are_the_libraries_own() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let requests = requests();
    let signed: Vec<_> = requests
        .iter()
        .map(|(url, pairs)| {
            let signature = signature::sign_form(TOKEN, url, pairs);
            json!({ "token": TOKEN, "url": url, "pairs": pairs, "signature": signature })
        })
        .collect();
    let tokens = [SecretText("next".to_owned()), SecretText(TOKEN.to_owned())];
    for script in SCRIPTS {
        let answer = ask(script, &[], &signed).await;
        for ((url, pairs), theirs) in requests.iter().zip(&answer.signatures) {
            assert!(
                theirs.accepted && !theirs.forged,
                "{script}: {url} {pairs:?}"
            );
            assert!(
                signature::verify(&tokens, url, pairs, &theirs.computed),
                "{url} {pairs:?}"
            );
            let other = format!("{url}x");
            assert!(!signature::verify(&tokens, &other, pairs, &theirs.computed));
            assert!(!signature::verify(
                &tokens[..1],
                url,
                pairs,
                &theirs.computed
            ));
        }
    }
}

// B23: webhooks have JSON bodies, whose hash the libraries check in the URL.
#[tokio::test]
async fn signatures_of_json_bodies_are_the_libraries_own() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let requests = [
        ("https://a.example/hook", "{}"),
        (
            "https://a.example:8443/hook?x=1",
            "{\"identity\":\"日本 😀\"}",
        ),
        ("http://127.0.0.1:4000/?", "[1, 2]\n"),
    ];
    let urls = requests.map(|(url, body)| signature::signed_json_url(url, body.as_bytes()));
    let signed: Vec<_> = requests
        .iter()
        .zip(&urls)
        .map(|((_, body), url)| {
            json!({ "token": TOKEN, "url": url, "body": body, "signature": signature::sign(TOKEN, url) })
        })
        .collect();
    let tokens = [SecretText(TOKEN.to_owned())];
    for script in SCRIPTS {
        let answer = ask(script, &[], &signed).await;
        for (((_, body), url), theirs) in requests.iter().zip(&urls).zip(&answer.signatures) {
            assert!(theirs.accepted && !theirs.forged, "{script}: {url}");
            let verify = |body: &str| {
                signature::verify_json(&tokens, url, body.as_bytes(), &theirs.computed)
            };
            assert!(verify(body) && !verify(&format!("{body} ")), "{url}");
        }
    }
}
