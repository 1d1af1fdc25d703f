//! Properties of conversations under hostile input: whatever comes on a socket, or over the road from a peer, nothing panics, what is said
//! back stays within its bound, and calls of others go on.
//!
//! A few hundred conversations a run; a longer look is `PROPTEST_CASES=100000 cargo test --lib signal::hostile`, and a failure prints the
//! smallest conversation that shows it.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::sockets::Held;
use super::talk::Talk;
use crate::clock::Clock;
use crate::presence::Name;
use crate::presence::plugin::Presence;
use crate::presence::settings::{
    AccountSettings, Application, KeySettings, Script, SecretText, Settings,
};
use crate::presence::subscription::form::Form;
use crate::presence::subscription::outbox::WAITING_MAX;
use crate::presence::token::Draft;

const APPLICATION: &str = "AP00000000000000000000000000000001";

/// Messages as clients send them, with every member that is looked at.
const MESSAGES: [&str; 16] = [
    r#"{"type":"register","payload":{"media":{"audio":true}},"version":"1.6"}"#,
    r#"{"type":"presence.set","payload":{"status":"away","reason":"away_short","text":"x","id":1}}"#,
    r#"{"type":"presence.sub","payload":{"identities":["*"],"devices":true,"id":"a"}}"#,
    r#"{"type":"call.invite","payload":{"to":"bob","parameters":{"a":"b","CallSid":1},"sdp":"v=0\r\n","id":2}}"#,
    r#"{"type":"invite","payload":{"callsid":"T1","sdp":"v=0\r\n","twilio":{"params":"To=bob&a=b"}}}"#,
    r#"{"type":"invite","payload":{"callsid":"CA1","sdp":"v=0","reconnect":"00","twilio":{}}}"#,
    r#"{"type":"call.accept","payload":{"callsid":"CA1","bridge":"eyJ.e30.x","sdp":"v=0\r\n"}}"#,
    r#"{"type":"answer","payload":{"callsid":"CA1","sdp":"v=0\r\n"}}"#,
    r#"{"type":"call.reject","payload":{"callsid":"CA1"}}"#,
    r#"{"type":"hangup","payload":{"callsid":"T1","message":"x"}}"#,
    r#"{"type":"call.candidate","payload":{"callsid":"CA1","candidate":"candidate:1","mid":"0"}}"#,
    r#"{"type":"reinvite","payload":{"callsid":"CA1","sdp":"v=0"}}"#,
    r#"{"type":"dtmf","payload":{"callsid":"CA1","dtmf":"1"}}"#,
    r#"{"type":"message","payload":{"callsid":"CA1","content":"x","voiceeventsid":"KX1"}}"#,
    r#"{"type":"message.ack","payload":{"sid":"SM1"}}"#,
    r#"{"type":"bye","payload":{}}"#,
];

/// What breaks one.
const PIECES: [&str; 18] = [
    "null", "[]", "{}", "\"\"", "-1", "1e999", "\\u0000", "\\ud800", "\"", "{", "}", "[[[[", ",",
    ":", "v=0", "client:", "\u{202e}", "call.",
];

fn settings() -> Settings {
    let script = Script {
        // A port that nobody listens on: nothing leaves this machine.
        url: "http://127.0.0.1:9/voice".into(),
        fallback_url: None,
    };
    let application = Application {
        voice: Some(script),
        ..Application::default()
    };
    let account = AccountSettings {
        sid: "AC0123456789abcdef0123456789abcdef".into(),
        keys: vec![KeySettings {
            id: "SK0123456789abcdef0123456789abcdef".into(),
            secrets: vec![SecretText("a secret of thirty-two bytes or more".into())],
        }],
        applications: vec![(APPLICATION.into(), application)],
        ..AccountSettings::default()
    };
    Settings {
        accounts: vec![account],
        ..Settings::default()
    }
}

/// A socket that has logged in, in either dialect.
fn socket(presence: &Arc<Presence>, clock: &Clock, identity: &str, is_page: bool) -> (Talk, Held) {
    let draft = Draft {
        identity: Name::new(identity).unwrap(),
        account: None,
        may_receive: true,
        application: Some(APPLICATION.into()),
        presence: Some(json!({ "publish": true, "subscribe": ["*"] })),
        ttl: Duration::from_hours(1),
        is_capability: false,
    };
    let token = draft.sign(&settings(), clock.unix_time()).unwrap();
    let heartbeat = presence.live().settings.heartbeat;
    let held = presence
        .sockets
        .open(Form::Socket, 100, heartbeat, clock.now());
    let held = held.unwrap();
    let mut talk = Talk::new(Arc::clone(presence), Arc::clone(&held.line), 7, None);
    let hello = if is_page {
        json!({ "type": "hello", "payload": { "token": token, "device": "d", "audio": true } })
    } else {
        json!({ "type": "listen", "payload": { "token": token } })
    };
    talk.hear(&hello.to_string());
    (talk, held)
}

/// Messages, most of them changed in a few places.
fn conversation() -> impl Strategy<Value = Vec<String>> {
    let piece = prop::sample::select(&PIECES[..]);
    let change = (any::<Index>(), 0_usize..8, piece);
    let message = (
        prop::sample::select(&MESSAGES[..]),
        prop::collection::vec(change, 0..4),
    );
    let message = message.prop_map(|(message, changes)| {
        let mut text = message.to_owned();
        for (at, length, piece) in changes {
            let at = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text
                .floor_char_boundary(text.len().min(at + length))
                .max(at);
            text.replace_range(at..end, piece);
        }
        text
    });
    prop::collection::vec(message, 1..20)
}

proptest! {
    #[test]
    fn no_conversation_breaks_anything(said in conversation(), is_page in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = Clock::manual();
            let presence = Presence::new(clock.clone());
            presence.configure(settings());
            let (mut alice, held) = socket(&presence, &clock, "alice", is_page);
            let (_bob, other) = socket(&presence, &clock, "bob", true);
            for text in &said {
                clock.advance(Duration::from_millis(100));
                alice.hear(text);
                tokio::task::yield_now().await;
            }
            assert!(held.line.outbox.waiting() <= WAITING_MAX);
            assert!(!other.line.outbox.is_closing(), "who says nothing wrong stays");
            drop(alice);
            presence.tick();
        });
    }
}
