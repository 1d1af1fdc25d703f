//! What unit tests of the plugin share: an account with a key, tokens of it, and sockets without a network.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::{Value, json};

use super::name::Name;
use super::plugin::Presence;
use super::settings::{AccountSettings, KeySettings, SecretText, Settings};
use super::signal::sockets::Held;
use super::signal::talk::Talk;
use super::subscription::form::Form;
use super::subscription::outbox::{Close, Next};
use super::token::Draft;
use crate::clock::Clock;

/// The key of the account.
pub(super) const KEY: &str = "SK0123456789abcdef0123456789abcdef";

/// One account with one key.
pub(super) fn settings() -> Settings {
    let account = AccountSettings {
        sid: "AC0123456789abcdef0123456789abcdef".into(),
        auth_tokens: vec![SecretText("an auth token of thirty-two bytes".into())],
        keys: vec![KeySettings {
            id: KEY.into(),
            secrets: vec![SecretText("a secret of thirty-two bytes or more".into())],
        }],
        ..AccountSettings::default()
    };
    Settings {
        accounts: vec![account],
        ..Settings::default()
    }
}

/// A token of that identity, which may be called, good for an hour.
pub(super) fn token(identity: &str, clock: &Clock) -> String {
    let draft = Draft {
        identity: Name::new(identity).unwrap(),
        account: None,
        may_receive: true,
        application: None,
        presence: None,
        ttl: Duration::from_hours(1),
        is_capability: false,
    };
    draft.sign(&settings(), clock.unix_time()).unwrap()
}

/// A socket and its conversation: what comes is said to it, and what it is told is read from its outbox.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) talk: Talk,
    pub(super) held: Held,
}

impl Client {
    /// A socket of that kind of client, which came beyond the pace if it is to come back after some time.
    pub(super) fn open(presence: &Arc<Presence>, kind: u64, late: Option<Duration>) -> Self {
        let settings = &presence.live().settings;
        let (max, now) = (settings.max_sockets, presence.clock.now());
        let sockets = &presence.sockets;
        let held = sockets.open(Form::Socket, max, settings.heartbeat, now);
        let held = held.expect("there is room");
        let talk = Talk::new(Arc::clone(presence), Arc::clone(&held.line), kind, late);
        Self { talk, held }
    }

    /// Says a message.
    pub(super) fn say(&mut self, r#type: &str, payload: &Value) {
        let message = json!({ "type": r#type, "payload": payload });
        self.talk.hear(&message.to_string());
    }

    /// What it was told since the last time, but for heartbeats, and how it was closed if it was.
    pub(super) fn told(&self) -> (Vec<Value>, Option<Close>) {
        let mut told = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match self.held.line.outbox.poll_next(&mut cx) {
                Poll::Ready(Next::Text(text)) if text.trim().is_empty() => {}
                Poll::Ready(Next::Text(text)) => told.push(serde_json::from_str(&text).unwrap()),
                Poll::Ready(Next::Close(close)) => return (told, Some(close)),
                Poll::Pending => return (told, None),
            }
        }
    }
}
