//! How presence is put into words for those who are told: on a socket, as a server-sent event, or for a webhook.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::presence::name::Name;

/// The version of the envelope that the voice SDK speaks.
pub(in crate::presence) const ENVELOPE: &str = "1.6";

/// To whom something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::presence) enum Form {
    /// A message on `/signal`.
    Socket,
    /// A server-sent event (HTML standard, §9.2).
    Event,
    /// The body of a webhook.
    Webhook,
}

/// Several identities in one message.
#[derive(Debug, Serialize)]
pub(in crate::presence) struct Presence<T> {
    /// The account's, at that moment.
    pub(in crate::presence) version: u64,
    /// By identity.
    pub(in crate::presence) presence: BTreeMap<Name, T>,
    /// How many were asked for that the asker may not see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::presence) left_out: Option<usize>,
    /// More of the list follows as changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::presence) more: Option<bool>,
}

/// What stands around every message on a socket.
#[derive(Debug, Serialize)]
pub(in crate::presence) struct Envelope<'a, T> {
    pub(in crate::presence) r#type: &'a str,
    pub(in crate::presence) payload: T,
    pub(in crate::presence) version: &'static str,
}

/// JSON of values that cannot fail to be written: ours, with strings for keys.
pub(in crate::presence) fn write(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings are keys and nothing fails by itself")
}

/// A message on a socket.
pub(in crate::presence) fn message(r#type: &str, payload: impl Serialize) -> Utf8Bytes {
    let version = ENVELOPE;
    Utf8Bytes::from(write(&Envelope {
        r#type,
        payload,
        version,
    }))
}

/// A server-sent event. JSON has no line breaks, so that one line holds it.
pub(in crate::presence) fn event(name: &str, data: &impl Serialize) -> Utf8Bytes {
    Utf8Bytes::from(format!("event: {name}\ndata: {}\n\n", write(data)))
}

impl Form {
    /// The list, once.
    pub(in crate::presence) fn snapshot<T: Serialize>(self, presence: &Presence<T>) -> Utf8Bytes {
        self.named("snapshot", presence)
    }

    /// What changed since.
    pub(in crate::presence) fn delta<T: Serialize>(self, presence: &Presence<T>) -> Utf8Bytes {
        self.named("delta", presence)
    }

    /// The answer to a question.
    pub(in crate::presence) fn answer<T: Serialize>(self, presence: &Presence<T>) -> Utf8Bytes {
        self.named("query", presence)
    }

    /// The watcher missed something; the list follows.
    pub(in crate::presence) fn resync(self) -> Utf8Bytes {
        self.named("resync", &serde_json::json!({}))
    }

    /// The subscription is over, though its client did nothing.
    pub(in crate::presence) fn ended(self) -> Utf8Bytes {
        self.named("unsub", &serde_json::json!({}))
    }

    fn named(self, name: &str, payload: &impl Serialize) -> Utf8Bytes {
        match self {
            Self::Socket => message(&format!("presence.{name}"), payload),
            Self::Event => event(name, payload),
            Self::Webhook => Utf8Bytes::from(write(&serde_json::json!({
                "type": format!("presence.{name}"),
                "payload": payload,
            }))),
        }
    }
}
