//! The reference and the JSON Schema, generated from the types that read the file.
//!
//! What a key means is written once, in its doc comment in `file`. Never says anything about keys that the reader does not accept.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::file::File;

const INTRODUCTION: &str = "\
# The configuration of Tidegate

One YAML file. Unknown keys are errors. Durations are whole numbers with `ms`, `s`, `m`, `h` or `d` (`250ms`, `2h30m`), sizes with `B`, `KiB`,
`MiB`, `GiB` or `TiB`; `off` may also be written `false`. A secret is `{ env: NAME }` or `{ file: PATH }`, never in the file itself. Relative
paths begin at the configuration's own directory. What is marked *not built yet* is refused with `not_supported`, never ignored.

A request whose client leaves gives its places back at once, or is drained first, as `departed` says. While a request waits, a client that
leaves is noticed at once too, except in three cases, in which it is noticed only when the wait ends: more than 64 KiB of the
request's body are still unread, the client sent `Expect: 100-continue` and holds its body back, or further pipelined
requests stand behind the request. A client that closes only its sending half counts as departed.
";

const WORDS: &[(&str, &str)] = &[
    ("account", "who pays for a request"),
    ("resource", "a kind of thing that requests act on"),
    (
        "limit",
        "how much may be in flight for a key; its number is `max`",
    ),
    (
        "key",
        "the values of a limit's dimensions in one request: what is counted together",
    ),
    (
        "in flight",
        "admitted and not yet through: the gate holds an open exchange",
    ),
    (
        "permit",
        "the proof that a request fitted; it gives its places back when the request ends",
    ),
    ("cost", "how many places a request takes in each limit"),
    (
        "ladder",
        "what is tried, in order, with a request that does not fit",
    ),
    (
        "refuse",
        "answer a request on purpose without forwarding it, to protect",
    ),
    (
        "reason",
        "the one stable word for why a request was refused; the same in answer, log and metrics",
    ),
    ("priority", "who goes first when not everybody can"),
    ("group", "accounts that share numbers"),
    (
        "upstream",
        "an API behind the gate; its addresses are endpoints",
    ),
    ("exempt", "forwarded without being identified or limited"),
    (
        "shadow",
        "a limit that counts and notes what it would have refused",
    ),
    (
        "candidate",
        "a set of limits that is tried on paper: it judges what is let in, and refuses nobody",
    ),
    ("lease", "a permit that outlives its request"),
    (
        "generation",
        "the number of the configuration at work; each reload that is applied adds one",
    ),
    ("drain", "take nothing new, let what is in flight finish"),
];

/// The reference, in Markdown.
#[must_use]
pub fn reference() -> String {
    let schema = schema_value();
    let mut out = INTRODUCTION.to_owned();
    out.push_str("\n## Words\n\n| word | meaning |\n| --- | --- |\n");
    let row = |(word, meaning): &(&str, &str)| format!("| {word} | {meaning} |\n");
    out.extend(WORDS.iter().map(row));
    let walker = Walker {
        definitions: schema.get("$defs").and_then(Value::as_object),
    };
    walker.section(&mut out, "", &schema);
    out
}

/// The JSON Schema.
#[must_use]
pub fn schema() -> String {
    format!("{:#}\n", schema_value())
}

fn schema_value() -> Value {
    let mut schema = schemars::schema_for!(File).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "The configuration of Tidegate".into());
    }
    schema
}

struct Walker<'s> {
    definitions: Option<&'s Map<String, Value>>,
}

impl<'s> Walker<'s> {
    /// A map's keys as a list, then what is inside each, under its path.
    fn section(&self, out: &mut String, path: &str, schema: &'s Value) {
        let heading = if path.is_empty() {
            "Sections".to_owned()
        } else {
            format!("`{path}`")
        };
        write!(out, "\n## {heading}\n\n").expect("writing to a string does not fail");
        let Some(keys) = schema.get("properties").and_then(Value::as_object) else {
            return;
        };
        for (key, of) in keys {
            let text = of
                .get("description")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            writeln!(out, "* **`{key}`** ({}): {text}", self.kind(of))
                .expect("writing to a string does not fail");
            for word in self.words(of) {
                writeln!(out, "  * {word}").expect("writing to a string does not fail");
            }
        }
        // What has the form of another section is explained there.
        let own = keys.iter().filter(|(_, of)| of.get("x-form").is_none());
        for (key, of) in own {
            let base = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            for (path, inside) in self.inside(&base, of) {
                self.section(out, &path, inside);
            }
        }
    }

    fn resolved(&self, schema: &'s Value) -> &'s Value {
        let name = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|name| name.strip_prefix("#/$defs/"));
        name.and_then(|name| self.definitions?.get(name))
            .unwrap_or(schema)
    }

    /// The alternatives that are not null.
    fn alternatives(&self, schema: &'s Value) -> Vec<&'s Value> {
        let schema = self.resolved(schema);
        let list = schema
            .get("anyOf")
            .or_else(|| schema.get("oneOf"))
            .and_then(Value::as_array);
        let Some(list) = list else {
            return vec![schema];
        };
        let is_null = |of: &Value| of.get("type").and_then(Value::as_str) == Some("null");
        list.iter()
            .filter(|of| !is_null(of))
            .flat_map(|of| self.alternatives(of))
            .collect()
    }

    /// Maps inside a value, each with its path.
    fn inside(&self, path: &str, schema: &'s Value) -> Vec<(String, &'s Value)> {
        let mut found = Vec::new();
        for of in self.alternatives(schema) {
            if let Some(items) = of.get("items") {
                found.extend(self.inside(&format!("{path}[]"), items));
            } else if let Some(values) = of
                .get("additionalProperties")
                .filter(|values| values.is_object())
            {
                found.extend(self.inside(&format!("{path}.NAME"), values));
            } else if is_tagged(of) {
                let (word, value) = tag(of).expect("it is tagged");
                found.extend(self.inside(&format!("{path}.{word}"), value));
            } else if of.get("properties").is_some() {
                found.push((path.to_owned(), of));
            }
        }
        found
    }

    fn kind(&self, schema: &'s Value) -> String {
        if let Some(kind) = schema.get("x-kind").and_then(Value::as_str) {
            return kind.to_owned();
        }
        let mut kinds: Vec<String> = Vec::new();
        for of in self.alternatives(schema) {
            let kind = if let Some(items) = of.get("items") {
                format!("list of {}", self.kind(items))
            } else if of.get("enum").is_some() || of.get("const").is_some() {
                "word".to_owned()
            } else {
                match of.get("type") {
                    Some(Value::String(kind)) => readable(kind).to_owned(),
                    Some(Value::Array(kinds)) if kinds.len() > 2 => "value".to_owned(),
                    Some(Value::Array(kinds)) => {
                        readable(kinds.first().and_then(Value::as_str).unwrap_or_default())
                            .to_owned()
                    }
                    _ => "value".to_owned(),
                }
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds.join(" or ")
    }

    /// The words that may stand for a value, with what they mean.
    fn words(&self, schema: &'s Value) -> Vec<String> {
        let mut words = Vec::new();
        for of in self.alternatives(schema) {
            let of = of
                .get("items")
                .map_or_else(|| vec![of], |items| self.alternatives(items));
            for of in of {
                let text = of
                    .get("description")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                let word = if let Some(word) = of.get("const").and_then(Value::as_str) {
                    format!("`{word}`: {text}")
                } else if is_tagged(of)
                    && let Some((word, _)) = tag(of)
                {
                    format!("`{word}: …`: {text}")
                } else {
                    continue;
                };
                // One value and a list of such values have the same words.
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        words.retain(|word| !word.ends_with(": "));
        words
    }
}

/// Whether it is one alternative of several: a map of one entry that the alternative is named by.
fn is_tagged(schema: &Value) -> bool {
    tag(schema).is_some_and(|(_, value)| value.get("description").is_none())
}

/// The word and the value of a map with exactly one entry.
fn tag(schema: &Value) -> Option<(&String, &Value)> {
    let keys = schema.get("properties")?.as_object()?;
    let is_required = schema
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|list| list.len() == 1);
    (keys.len() == 1 && is_required).then(|| keys.iter().next())?
}

fn readable(kind: &str) -> &str {
    match kind {
        "object" => "map",
        "array" => "list",
        "integer" => "number",
        "boolean" => "true or false",
        "string" => "text",
        other => other,
    }
}
