//! From text to the mirror of the file, or to the one finding that stopped it.
//!
//! Syntax, wrong types and unknown keys stop at the first. The reader's budget bounds what a hostile file can cost, and
//! its own pictures of the text are not used: findings look alike, wherever they come from. Never panics on any text.

use serde_yaml::Error;

use super::diagnostic::{Diagnostic, Place, Report, Severity, Source, closest};
use super::file::File;

/// Reads the text.
pub(super) fn read(source: &Source<'_>) -> Result<File, Report> {
    let options = serde_yaml::options! { with_snippet: false };
    serde_yaml::from_str_with_options(source.text(), options)
        .map_err(|error| finding(source, &error).into())
}

/// The reader's words for what it wanted, in ours.
fn readable(expected: &str) -> &str {
    match expected {
        "mapping start" => "a map",
        "sequence start" => "a list",
        "string scalar" | "scalar" => "one value",
        "bool" | "boolean" => "`true` or `false`",
        other => other,
    }
}

fn finding(source: &Source<'_>, error: &Error) -> Diagnostic {
    let error = innermost(error);
    let place = error
        .location()
        .map_or_else(Place::default, |location| Place::from(&location));
    let (code, message, hint) = described(error);
    let is_blank = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
    if source.text().lines().all(is_blank) {
        let mut found = source.diagnostic(
            Severity::Error,
            "empty",
            Place::default(),
            "the file says nothing".into(),
        );
        found.hint =
            Some("`server.listeners` and `upstreams` are required; see config.example.yaml".into());
        return found;
    }
    let mut found = source.diagnostic(Severity::Error, code, place, message);
    found.hint = hint;
    found
}

fn innermost(error: &Error) -> &Error {
    match error.without_snippet() {
        Error::AliasError { error, .. } => innermost(error),
        error => error,
    }
}

/// Code, message and hint.
type Words = (&'static str, String, Option<String>);

fn words(code: &'static str, message: String, hint: &str) -> Words {
    (code, message, Some(hint.to_owned()))
}

fn described(error: &Error) -> Words {
    match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => (
            "unknown_key",
            format!("there is no key `{field}` here"),
            expected_of(field, expected),
        ),
        Error::SerdeUnknownVariant { variant, .. } if variant == "~" => nothing_here(),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => {
            let message = format!("`{variant}` is none of the words that may stand here");
            ("unknown_word", message, expected_of(variant, expected))
        }
        Error::SerdeMissingField { field, .. } => {
            let hint = format!("`tidegate reference` says what `{field}` may be");
            words(
                "missing_key",
                format!("the key `{field}` is required here"),
                &hint,
            )
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("?");
            words(
                "double_key",
                format!("the key `{key}` is given twice"),
                "keep one of them",
            )
        }
        Error::NullIntoString { .. } => nothing_here(),
        Error::MultipleDocuments { .. } => {
            let message = "the file holds more than one document".to_owned();
            words("syntax", message, "keep one; `---` begins another")
        }
        Error::UnknownAnchor { .. } => {
            let message = "`*` refers to an anchor, and there is none of that name".to_owned();
            words(
                "syntax",
                message,
                "a text that begins with `*` needs quotes",
            )
        }
        Error::Budget { .. } => {
            let hint = "aliases that multiply, or nesting without end, are not followed";
            words(
                "too_large",
                "the file asks for more than a configuration needs".to_owned(),
                hint,
            )
        }
        error => wrong_type(error).unwrap_or_else(|| syntax(error)),
    }
}

fn nothing_here() -> Words {
    let hint = "write a value, or take the key away";
    words("wrong_type", "a value is missing here".to_owned(), hint)
}

fn wrong_type(error: &Error) -> Option<Words> {
    let message = match error {
        Error::SerdeInvalidType {
            unexpected,
            expected,
            ..
        }
        | Error::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => {
            format!("expected {expected}, found {unexpected}")
        }
        Error::Unexpected { expected, .. } => format!("expected {}", readable(expected)),
        Error::InvalidScalar { ty, .. } => format!("expected {}", readable(ty)),
        _ => return None,
    };
    Some(words(
        "wrong_type",
        message,
        "`tidegate reference` says what each key may be",
    ))
}

fn syntax(error: &Error) -> Words {
    /// Enough for every message of the reader; a hostile text may be quoted in it.
    const SHOWN: usize = 300;
    let message = error.to_string();
    let message = message.lines().next().unwrap_or_default();
    let message = message.split(" at line ").next().unwrap_or(message);
    let hint =
        "the mistake may stand before this place: an open bracket or quote, or an indentation";
    words("syntax", message.chars().take(SHOWN).collect(), hint)
}

fn expected_of(wrong: &str, expected: &[&'static str]) -> Option<String> {
    // `false` is another tool's spelling of `off`, not one to advise.
    let expected: Vec<_> = expected
        .iter()
        .copied()
        .filter(|word| *word != "false")
        .collect();
    if expected.is_empty() {
        return None;
    }
    let list = expected
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    Some(match closest(wrong, expected.iter().copied()) {
        Some(name) => format!("did you mean `{name}`? known here are {list}"),
        None => format!("known here are {list}"),
    })
}
