//! Patterns of identities: one name, or all that begin with something.
//!
//! One `*`, at the end, is all there is: a pattern is matched in one comparison, however hostile it is. A `*` elsewhere is refused
//! rather than taken for itself, since whoever wrote it meant more.

use crate::presence::name::{Name, NameError};

/// An identity, or all that begin with something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// This one.
    Exact(Name),
    /// All that begin so; empty for all.
    Prefix(String),
}

/// Why something is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pattern is a name, or the beginning of names and one `*` at its end")]
pub struct PatternError;

impl From<NameError> for PatternError {
    fn from(_: NameError) -> Self {
        Self
    }
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let beginning = text.strip_suffix('*');
        if beginning.unwrap_or(text).contains('*') {
            return Err(PatternError);
        }
        Ok(match beginning {
            Some("") => Self::Prefix(String::new()),
            Some(beginning) => Self::Prefix(Name::new(beginning)?.as_str().to_owned()),
            None => Self::Exact(Name::new(text)?),
        })
    }

    /// Whether it is that identity, or one of those.
    #[must_use]
    pub fn matches(&self, identity: &Name) -> bool {
        match self {
            Self::Exact(name) => name == identity,
            Self::Prefix(beginning) => identity.as_str().starts_with(beginning),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // B2, B19: a pattern reaches one identity, or those that begin so.
    #[test]
    fn a_pattern_is_a_name_or_a_beginning() {
        let matches = |pattern: &str, name: &str| {
            Pattern::new(pattern)
                .unwrap()
                .matches(&Name::new(name).unwrap())
        };
        assert!(matches("bob", "bob") && !matches("bob", "bobby") && !matches("bob", "Bob"));
        assert!(matches("team:*", "team:a") && matches("team:*", "team:"));
        assert!(!matches("team:*", "team") && matches("*", "日本"));
        for bad in ["", "**", "a*b", "*a", "a\n*", &("x".repeat(122) + "*")] {
            assert_eq!(Pattern::new(bad), Err(PatternError), "{bad:?}");
        }
    }
}
