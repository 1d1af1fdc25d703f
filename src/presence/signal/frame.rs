//! What comes on a socket: the envelope, and what of it is looked at before anything is believed.
//!
//! Frames are bounded before they get here. Depth is counted before parsing, so that no nesting costs more than one pass.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::presence::depth::is_too_deep;
use crate::presence::fault::Fault;

/// Longest id of a request, in characters of JSON.
const ID_MAX: usize = 64;

/// What stands around every message.
#[derive(Debug, Deserialize)]
pub(in crate::presence) struct Frame<'a> {
    #[serde(borrow)]
    pub(in crate::presence) r#type: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    id: Option<Value>,
}

impl<'a> Frame<'a> {
    /// Reads the envelope.
    pub(in crate::presence) fn read(text: &'a str) -> Result<Self, Fault> {
        if is_too_deep(text.as_bytes()) {
            return Err(Fault::bad("the message is nested more than 16 deep"));
        }
        serde_json::from_str(text).map_err(|_| {
            Fault::bad("a message is a JSON object with `type`, `payload` and `version`")
        })
    }

    /// Reads what the message carries.
    pub(in crate::presence) fn payload<T: Deserialize<'a>>(&self) -> Result<T, Fault> {
        let text = self.payload.map_or("{}", RawValue::get);
        // What serde says names members and types, never more of a value than a word of it.
        serde_json::from_str(text).map_err(|error| {
            let mut detail = format!("the payload of `{}`: {error}", cut(&self.r#type));
            detail.truncate(detail.floor_char_boundary(300));
            Fault::bad(detail)
        })
    }

    /// What the reply is to carry as `re`, if the client wants one: a member of the payload, or of the envelope.
    pub(in crate::presence) fn id(&self) -> Option<Value> {
        #[derive(Deserialize)]
        struct Id {
            id: Option<Value>,
        }
        let inner = self
            .payload
            .and_then(|payload| serde_json::from_str::<Id>(payload.get()).ok());
        let id = inner
            .and_then(|inner| inner.id)
            .or_else(|| self.id.clone())?;
        let is_plain = id.is_string() || id.is_number();
        (is_plain && id.to_string().len() <= ID_MAX).then_some(id)
    }
}

/// A word of a client, short enough to be said back.
pub(in crate::presence) fn cut(word: &str) -> &str {
    &word[..word.floor_char_boundary(64)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_an_envelope_that_is_not_too_deep() {
        let text = r#"{"type":"a","payload":{"id":7,"x":"[[[[[[[[[[[[[[[[[[[["},"version":"1.6"}"#;
        let frame = Frame::read(text).unwrap();
        assert_eq!((&*frame.r#type, frame.id()), ("a", Some(7.into())));
        let outer = Frame::read(r#"{"type":"a","id":"x"}"#).unwrap();
        assert_eq!(outer.id(), Some("x".into()));
        let deep = format!(
            r#"{{"type":"a","payload":{}{}}}"#,
            "[".repeat(17),
            "]".repeat(17)
        );
        for bad in ["", "[]", "1", r#"{"payload":{}}"#, &deep] {
            assert!(Frame::read(bad).is_err(), "{bad}");
        }
        let long = format!(r#"{{"type":"a","id":"{}"}}"#, "x".repeat(100));
        assert_eq!(Frame::read(&long).unwrap().id(), None);
    }

    proptest::proptest! {
        #[test]
        fn no_message_makes_it_panic(text in "[\\[{\"\\\\a:,1\\]}]{0,80}") {
            if let Ok(frame) = Frame::read(&text) {
                drop(frame.id());
                drop(frame.payload::<crate::presence::api::ask::Said>());
            }
        }
    }
}
