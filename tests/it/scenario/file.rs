//! The vocabulary of `tests/scenarios/*.yaml`: a gate and its clients, what happens, and what is expected.
//!
//! `gate` is the gate's own configuration, less what no scenario is about, so that a scenario shows what an operator writes. A
//! `$word` stands for what each variant sets: variants of one world stand beside each other. Strict: an unknown key is an
//! error. Never runs anything.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A duration, or a time since the beginning; written `20ms` or `1s 500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let duration = humantime::parse_duration(&text).map_err(serde::de::Error::custom)?;
        Ok(Self(duration))
    }
}

/// What is expected: a figure (`mouse.completed`, or `storm.mouse.completed` in a phase), the lowest and the highest that is
/// right.
type Expected = BTreeMap<String, (f64, f64)>;

/// One variant of a world.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// The requirements that it shows.
    #[serde(rename = "shows")]
    _shows: Vec<String>,
    /// What is expected, and why that is right.
    #[serde(rename = "why")]
    _why: String,
    /// For how long requests arrive.
    pub(super) duration: Span,
    /// The gate's configuration.
    pub(super) gate: Value,
    /// How many requests go at full speed behind the gate; when more are there they share it. Without, all do.
    pub(super) backend: Option<f64>,
    pub(super) clients: BTreeMap<String, Client>,
    #[serde(default)]
    pub(super) events: Vec<Event>,
    /// Parts of the time whose figures are looked at by themselves.
    #[serde(default)]
    pub(super) phases: BTreeMap<String, (Span, Span)>,
    #[serde(default)]
    variants: BTreeMap<String, Variant>,
    #[serde(default)]
    pub(super) expect: Expected,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variant {
    /// What stands in the text for each `$word`.
    set: BTreeMap<String, String>,
    /// What is expected of this variant beside what is expected of all.
    #[serde(default)]
    expect: Expected,
}

/// Those who ask in one way.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    /// Over how many accounts its requests spread.
    #[serde(default = "one")]
    pub(super) accounts: u32,
    /// The group of these accounts.
    pub(super) group: Option<String>,
    #[serde(default = "root")]
    pub(super) path: String,
    /// Requests a second of all its accounts, each independent of the others.
    pub(super) rate: f64,
    /// They come at even distances.
    #[serde(default)]
    pub(super) evenly: bool,
    /// How long the work of a request takes at full speed.
    pub(super) work: Span,
    /// That is the mean, and it is distributed exponentially.
    #[serde(default)]
    pub(super) varies: bool,
    /// How long it waits for an answer.
    pub(super) patience: Option<Span>,
    /// Whether it tells the gate so.
    #[serde(default)]
    pub(super) tells: bool,
    /// How often it comes again when it was refused or has waited in vain.
    #[serde(default)]
    pub(super) retries: u32,
    /// When it was refused, it comes again when the refusal says; else at once.
    #[serde(default)]
    pub(super) heeds_advice: bool,
}

fn one() -> u32 {
    1
}

fn root() -> String {
    "/".into()
}

/// What happens at a time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    pub(super) at: Span,
    /// A reload with other maxima.
    #[serde(default)]
    pub(super) max: BTreeMap<String, u32>,
    /// Clients ask so often from now on.
    #[serde(default)]
    pub(super) rates: BTreeMap<String, f64>,
    /// So many endpoints are healthy.
    pub(super) endpoints: Option<usize>,
    /// So many requests go at full speed; none while it stalls.
    pub(super) backend: Option<f64>,
}

/// The variants of a file, by name; one without a name if it has none.
pub(super) fn read(text: &str) -> Result<Vec<(String, Scenario)>, String> {
    /// All that has to be known before the words are replaced.
    #[derive(Deserialize)]
    struct Names {
        #[serde(default)]
        variants: BTreeMap<String, Variant>,
    }
    let names: Names = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let mut variants = names.variants;
    if variants.is_empty() {
        variants.insert(String::new(), Variant::default());
    }
    let read = |(name, variant): (String, Variant)| {
        let mut text = text.to_owned();
        // Longer words first: one may begin with another.
        let mut words: Vec<_> = variant.set.iter().collect();
        words.sort_by_key(|(word, _)| Reverse(word.len()));
        for (word, value) in words {
            text = text.replace(&format!("${word}"), value);
        }
        let mut scenario: Scenario =
            serde_yaml::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        if let Some(own) = scenario.variants.remove(&name) {
            scenario.expect.extend(own.expect);
        }
        Ok((name, scenario))
    };
    variants.into_iter().map(read).collect()
}
