//! Values of attributes, and the notes that are taken of what is passed over.
//!
//! A customer's mistake in one attribute must not lose a call, so each has a value to go on with. Never notes more than a
//! document of mistakes is worth reading.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use roxmltree::Node;

use super::{Link, Verb, Warning};

/// Something that the vendor's schema does not know, or that cannot be followed here.
pub(super) const SCHEMA: u32 = 12_200;
/// Warnings of one document.
const WARNINGS_MAX: usize = 50;
/// Characters of what a warning is about.
const ABOUT_MAX: usize = 128;

/// What was passed over so far.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Warning>);

impl Notes {
    /// Notes something once.
    pub(super) fn warn(&mut self, code: u32, about: impl Display) {
        let about: String = about.to_string().chars().take(ABOUT_MAX).collect();
        let warning = Warning { code, about };
        if self.0.len() < WARNINGS_MAX && !self.0.contains(&warning) {
            self.0.push(warning);
        }
    }

    /// Notes the attributes of an element that are not among those understood; another namespace's are nobody's business.
    pub(super) fn unheard(&mut self, node: Node<'_, '_>, understood: &[&str]) {
        for attribute in node.attributes() {
            let name = attribute.name();
            if attribute.namespace().is_none() && !understood.contains(&name) {
                self.warn(SCHEMA, format_args!("{} {name}", node.tag_name().name()));
            }
        }
    }

    /// Notes the elements inside one that are not among those understood.
    pub(super) fn unheard_children(&mut self, node: Node<'_, '_>, understood: &[&str]) {
        for child in node.children().filter(Node::is_element) {
            let name = child.tag_name().name();
            if !understood.contains(&name) {
                self.warn(SCHEMA, format_args!("{} {name}", node.tag_name().name()));
            }
        }
    }

    /// What was noted, in the order of the document.
    pub(super) fn into_warnings(self) -> Vec<Warning> {
        self.0
    }

    /// Notes a value that is none of the attribute's.
    fn wrong(&mut self, code: u32, node: Node<'_, '_>, name: &str, value: &str) {
        let element = node.tag_name().name();
        self.warn(code, format_args!("{element} {name}=\"{value}\""));
    }
}

/// What an attribute says, without blanks around it; what says nothing is absent.
pub(super) fn said<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.attribute(name)
        .map(str::trim)
        .filter(|said| !said.is_empty())
}

/// Whole seconds. What is no number, or zero where that means nothing, is the default; what is out of range is the nearest in it.
pub(super) fn seconds(
    node: Node<'_, '_>,
    name: &str,
    (range, default, code): (RangeInclusive<u64>, u64, u32),
    notes: &mut Notes,
) -> Duration {
    let Some(value) = node.attribute(name) else {
        return Duration::from_secs(default);
    };
    let seconds = match value.trim().parse::<u64>() {
        Ok(seconds) if range.contains(&seconds) => return Duration::from_secs(seconds),
        Ok(0) | Err(_) => default,
        Ok(seconds) => seconds.clamp(*range.start(), *range.end()),
    };
    notes.wrong(code, node, name, value);
    Duration::from_secs(seconds)
}

/// `true` or `false`, which is the default.
pub(super) fn flag(node: Node<'_, '_>, name: &str, notes: &mut Notes) -> bool {
    let value = node.attribute(name).unwrap_or("false");
    let is_true = value.trim().eq_ignore_ascii_case("true");
    if !is_true && !value.trim().eq_ignore_ascii_case("false") {
        notes.wrong(SCHEMA, node, name, value);
    }
    is_true
}

/// `GET` or `POST`, which is the default.
pub(super) fn method(node: Node<'_, '_>, name: &str, code: u32, notes: &mut Notes) -> Verb {
    let value = node.attribute(name).unwrap_or("POST");
    if value.trim().eq_ignore_ascii_case("GET") {
        return Verb::Get;
    }
    if !value.trim().eq_ignore_ascii_case("POST") {
        notes.wrong(code, node, name, value);
    }
    Verb::Post
}

/// A URL, and the attribute that says how it is asked for. An empty one is the document's own.
pub(super) fn link(
    node: Node<'_, '_>,
    (url, how): (&str, &str),
    code: u32,
    notes: &mut Notes,
) -> Option<Link> {
    let url = node.attribute(url)?.trim().to_owned();
    let method = method(node, how, code, notes);
    Some(Link { url, method })
}

/// One of several words; the first is the default.
pub(super) fn word<T: Copy>(
    node: Node<'_, '_>,
    name: &str,
    words: [(&str, T); 2],
    notes: &mut Notes,
) -> T {
    let Some(value) = node.attribute(name) else {
        return words[0].1;
    };
    let found = words.iter().find(|(word, _)| *word == value.trim());
    if found.is_none() {
        notes.wrong(SCHEMA, node, name, value);
    }
    found.unwrap_or(&words[0]).1
}
