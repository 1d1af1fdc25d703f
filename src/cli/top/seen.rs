//! What a gate told at one moment, as far as people look at it.
//!
//! Every text comes out of an answer as a [`Text`], which a terminal can print: accounts and paths are chosen by clients, who
//! would like to move the operator's cursor. Fields that another version of the gate does not tell are as if nothing was there.

use std::ops::Deref;

use serde::Deserialize;

use crate::telemetry::is_printable;

/// Characters of a text that are kept; longer ones are longer than a line.
const TEXT_MAX: usize = 256;

/// A text without control characters, and of bounded length.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "String")]
pub(super) struct Text(String);

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut printable: String = text.chars().map(printable).take(TEXT_MAX).collect();
        if text.chars().nth(TEXT_MAX).is_some() {
            printable.push('…');
        }
        Self(printable)
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

fn printable(character: char) -> char {
    if is_printable(character) {
        character
    } else {
        char::REPLACEMENT_CHARACTER
    }
}

/// `/v1/overview`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Overview {
    pub(super) generation: u64,
    pub(super) uptime_seconds: u64,
    pub(super) in_flight: u64,
    pub(super) queued: u64,
    pub(super) limits: Vec<Limit>,
    #[serde(default)]
    pub(super) limits_total: usize,
    #[serde(default)]
    pub(super) version: Text,
    #[serde(default)]
    pub(super) phase: Text,
    #[serde(default)]
    pub(super) leases: u64,
    #[serde(default)]
    pub(super) connections: u64,
    #[serde(default)]
    pub(super) leaks_detected: u64,
    #[serde(default)]
    pub(super) loaded_at: Text,
    #[serde(default)]
    pub(super) last_refusal: Option<Refusal>,
    #[serde(default)]
    pub(super) decisions: Vec<Decided>,
    #[serde(default)]
    pub(super) accounts: Vec<Account>,
    #[serde(default)]
    pub(super) requests: Requests,
    #[serde(default)]
    pub(super) upstreams: Vec<Upstream>,
}

/// A configuration that was not put in force.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Refusal {
    pub(super) at: Text,
    #[serde(default)]
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// What is wrong with it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Diagnostic {
    pub(super) code: Text,
    pub(super) message: Text,
    pub(super) file: Text,
    pub(super) line: usize,
}

/// How often the gate decided so.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Decided {
    pub(super) decision: Text,
    pub(super) count: u64,
}

/// One limit.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Limit {
    pub(super) name: Text,
    #[serde(default)]
    pub(super) per: Vec<Text>,
    #[serde(default)]
    pub(super) mode: Text,
    pub(super) max: u64,
    pub(super) in_flight: u64,
    #[serde(default)]
    pub(super) queued: u64,
    #[serde(default)]
    pub(super) used_ratio: f64,
    #[serde(default)]
    pub(super) refused: u64,
    #[serde(default)]
    pub(super) would: Would,
    #[serde(default)]
    pub(super) fullest: Vec<Key>,
    #[serde(default)]
    pub(super) overrides: Vec<Override>,
}

/// What a limit in shadow would have done.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Would {
    pub(super) rejected: u64,
}

/// One key of a limit.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Key {
    pub(super) key: std::collections::BTreeMap<Text, Text>,
    pub(super) in_flight: u64,
    pub(super) max: u64,
}

/// A maximum that is in force for a while.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Override {
    #[serde(default)]
    pub(super) account: Option<Text>,
    #[serde(default)]
    pub(super) group: Option<Text>,
    pub(super) max: u64,
    #[serde(default)]
    pub(super) seconds_left: u64,
}

/// One account.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Account {
    pub(super) account: Text,
    pub(super) in_flight: u64,
    #[serde(default)]
    pub(super) peak: u64,
}

/// The oldest requests, by what they do.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Requests {
    pub(super) waiting: Vec<Request>,
    pub(super) holding: Vec<Request>,
    pub(super) leases: Vec<Request>,
}

/// One request.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) account: Text,
    pub(super) state: Text,
    pub(super) age_seconds: f64,
    #[serde(default)]
    pub(super) method: Text,
    #[serde(default)]
    pub(super) path: Text,
    #[serde(default)]
    pub(super) upstream: Text,
}

/// One upstream.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Upstream {
    pub(super) name: Text,
    #[serde(default)]
    pub(super) endpoints: Vec<Endpoint>,
}

/// One of its endpoints.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Endpoint {
    pub(super) address: Text,
    pub(super) healthy: bool,
    #[serde(default)]
    pub(super) passes_check: Option<bool>,
    #[serde(default)]
    pub(super) in_flight: u64,
    #[serde(default)]
    pub(super) ejected_until: Option<Text>,
}

impl Overview {
    /// Refusals since the gate's start, for whatever reason.
    pub(super) fn refused(&self) -> u64 {
        let refused = self.decisions.iter();
        let refused = refused.filter(|of| &*of.decision == "rejected");
        refused.map(|of| of.count).sum()
    }

    /// The refused configuration, if none came into force since.
    pub(super) fn outstanding_refusal(&self) -> Option<&Refusal> {
        // Both are RFC 3339 in UTC and of one length, so they sort as text.
        let refusal = self.last_refusal.as_ref();
        refusal.filter(|refusal| refusal.at > self.loaded_at)
    }
}

impl Limit {
    /// The key nearest to its maximum; none where nothing is in flight, or the gate shows no keys.
    pub(super) fn fullest(&self) -> Option<&Key> {
        let keys = self.fullest.iter();
        keys.max_by(|a, b| a.used().total_cmp(&b.used()))
    }

    /// How full the fullest key is; above 1 where a maximum was lowered, or is not enforced.
    pub(super) fn used(&self) -> f64 {
        self.fullest().map_or(self.used_ratio, Key::used)
    }

    /// Whether it decides.
    pub(super) fn is_enforced(&self) -> bool {
        &*self.mode == "enforce"
    }
}

impl Key {
    fn used(&self) -> f64 {
        ratio(self.in_flight, self.max)
    }

    /// Whose it is.
    pub(super) fn whose(&self) -> String {
        let values: Vec<_> = self.key.values().map(|value| &**value).collect();
        values.join(" ")
    }
}

impl Override {
    /// Whether it is not for one account or group.
    pub(super) fn is_for_everyone(&self) -> bool {
        self.account.is_none() && self.group.is_none()
    }

    /// Whose maximum it is.
    pub(super) fn whose(&self) -> String {
        match (&self.account, &self.group) {
            (Some(account), _) => account.to_string(),
            (None, Some(group)) => format!("group {}", &**group),
            (None, None) => "everyone".to_owned(),
        }
    }
}

/// A part of a maximum; a closed limit is full as soon as anything is in it.
#[expect(clippy::cast_precision_loss, reason = "places are far below 2^53")]
pub(super) fn ratio(part: u64, max: u64) -> f64 {
    match (part, max) {
        (0, _) => 0.0,
        (_, 0) => 1.0,
        _ => part as f64 / max as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // CLI: what a client chose cannot speak to the operator's terminal.
    #[test]
    fn a_text_holds_nothing_that_a_terminal_obeys() {
        let hostile = "/a\u{1b}[2J\u{1b}]0;owned\u{7}\r\n\t\u{9b}31m\u{202e}cba\u{200b}é漢";
        let text = Text::from(hostile);
        assert_eq!(&*text, "/a�[2J�]0;owned�����31m�cba�é漢");
        let long = Text::from("x".repeat(100_000));
        assert_eq!(long.chars().count(), TEXT_MAX + 1);
        let read: Text = serde_json::from_str("\"\\u001b[31m\"").unwrap();
        assert_eq!(&*read, "�[31m");
    }

    #[test]
    fn the_fullest_key_is_the_one_nearest_to_its_own_maximum() {
        let key = |in_flight, max| Key {
            key: std::collections::BTreeMap::new(),
            in_flight,
            max,
        };
        let limit = Limit {
            fullest: vec![key(20, 100), key(9, 10), key(0, 0)],
            ..Limit::default()
        };
        assert_eq!(limit.fullest().map(|key| key.max), Some(10));
        assert_eq!((ratio(1, 0), ratio(0, 0)), (1.0, 0.0));
    }
}
