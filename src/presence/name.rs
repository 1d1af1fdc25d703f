//! Names of identities, devices, apps and contact lists.
//!
//! Compared byte for byte, so that nobody is taken for somebody else by a mapping of characters; what could make two names
//! look alike on an operator's screen by hiding or reordering is refused. Shared, since one name stands in many places.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest name, in characters: what the helper libraries of access tokens allow for an identity.
pub const NAME_MAX: usize = 121;

/// 1 to 121 characters without control, line-separator or bidi characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why something is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to 121 characters without control, line-separator or bidi characters")]
pub struct NameError;

impl Name {
    /// Checks and takes over a name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        // Four bytes are the longest character: what is longer needs no counting.
        let is_short = text.len() <= NAME_MAX * 4 && text.chars().count() <= NAME_MAX;
        if text.is_empty() || !is_short || text.chars().any(is_misleading) {
            return Err(NameError);
        }
        Ok(Self(text.into()))
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters, those that end a line, and those that turn the direction of writing (Unicode's `Bidi_Control`).
fn is_misleading(of: char) -> bool {
    of.is_control()
        || matches!(
            of,
            '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
        )
        || matches!(of, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_shows_what_it_is() {
        for good in ["alice", "a b/c@d", "日本", &"é".repeat(121)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "a\n",
            "a\u{2028}",
            "a\u{202e}b",
            "\u{0}",
            &"é".repeat(122),
        ] {
            assert_eq!(Name::new(bad), Err(NameError), "{bad:?}");
        }
        assert!(Name::new(&"x".repeat(1_000_000)).is_err());
    }
}
