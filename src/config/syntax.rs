//! From text to the mirror of the file, or to the one finding that stopped it.
//!
//! Syntax, wrong types and unknown keys stop at the first. The reader's budget bounds what a hostile file can cost, and
//! its own pictures of the text are not used: findings look alike, wherever they come from. Never panics on any text.

use serde_yaml::Error;

use super::diagnostic::{Diagnostic, Place, Severity, Source, closest};
use super::file::File;

/// Reads the text.
pub(super) fn read(source: &Source<'_>) -> Result<File, Diagnostic> {
    let options = serde_yaml::options! { with_snippet: false };
    serde_yaml::from_str_with_options(source.text(), options)
        .map_err(|error| finding(source, &error))
}

const REFERENCE: &str = "`tidegate reference` says what each key may be";

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

fn described(error: &Error) -> (&'static str, String, Option<String>) {
    match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => (
            "unknown_key",
            format!("there is no key `{field}` here"),
            expected_of(field, expected),
        ),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => (
            "unknown_word",
            format!("`{variant}` is none of the words that may stand here"),
            expected_of(variant, expected),
        ),
        Error::SerdeMissingField { field, .. } => {
            let hint = format!("`tidegate reference` says what `{field}` may be");
            (
                "missing_key",
                format!("the key `{field}` is required here"),
                Some(hint),
            )
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("?");
            let hint = "keep one of them".to_owned();
            (
                "double_key",
                format!("the key `{key}` is given twice"),
                Some(hint),
            )
        }
        Error::SerdeInvalidType {
            unexpected,
            expected,
            ..
        }
        | Error::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => (
            "wrong_type",
            format!("expected {expected}, found {unexpected}"),
            Some(REFERENCE.to_owned()),
        ),
        Error::Unexpected { expected, .. } => {
            let expected = readable(expected);
            (
                "wrong_type",
                format!("expected {expected}"),
                Some(REFERENCE.to_owned()),
            )
        }
        Error::InvalidScalar { ty, .. } => (
            "wrong_type",
            format!("expected {}", readable(ty)),
            Some(REFERENCE.to_owned()),
        ),
        Error::NullIntoString { .. } => {
            let hint = "write a value, or take the key away".to_owned();
            (
                "wrong_type",
                "a value is missing here".to_owned(),
                Some(hint),
            )
        }
        Error::Budget { .. } => (
            "too_large",
            "the file asks for more than a configuration needs".to_owned(),
            Some("aliases that multiply, or nesting without end, are not followed".to_owned()),
        ),
        error => {
            let message = error.to_string();
            let message = message.lines().next().unwrap_or_default();
            let message = message.split(" at line ").next().unwrap_or(message);
            let hint = "the mistake may stand before this place: an open bracket or quote, or an indentation";
            (
                "syntax",
                message.chars().take(300).collect(),
                Some(hint.to_owned()),
            )
        }
    }
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
