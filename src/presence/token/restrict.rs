//! What a token forbids: how many calls, when, to whom, and by which medium (B3).
//!
//! A restriction that is not understood makes the token invalid: it would forbid nothing, and whoever wrote it would not know.
//! So do keys that do not exist. Never counts calls and never reads a clock: both are arguments.

use std::time::Duration;

use serde_json::Value;

use super::fault::TokenFault;
use super::typed::{Object, field, has_only, list};
use crate::presence::name::{NAME_MAX, Name};

/// Most ranges of hours: one for each hour of a day.
const HOURS_MAX: usize = 24;
/// Most targets: each is compared with each identity of a batch.
const TARGETS_MAX: usize = 100;
/// Most media named: each a few times over at worst.
const MEDIA_MAX: usize = 8;

/// How identities are written among targets, where numbers stand beside them.
const CLIENT: &str = "client:";

const MINUTES_A_DAY: u16 = 24 * 60;

/// What a token forbids (`grants.presence.restrict`); an absent part forbids nothing, an empty list everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restrict {
    /// Calls of the bearer at once.
    pub calls: Option<u32>,
    /// The times of day at which calls may begin.
    pub hours: Option<Vec<Hours>>,
    /// Who may be called, and seen.
    pub to: Option<Vec<Target>>,
    /// How.
    pub media: Option<Vec<Medium>>,
}

/// How two parties communicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Medium {
    /// A call.
    Voice,
    /// A text.
    Message,
}

/// A range of the day in UTC, `08:00-18:00Z`; it wraps over midnight where it ends before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// In minutes since midnight, inclusive.
    from: u16,
    /// In minutes since midnight, exclusive.
    until: u16,
}

/// Whom a call may go to: `client:alice`, `+14155550100`, or a beginning of these and a `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    text: String,
    is_beginning: bool,
}

impl Restrict {
    /// Reads the grant's restrictions.
    pub(super) fn of(restrict: &Object) -> Result<Self, TokenFault> {
        if !has_only(restrict, &["calls", "hours", "to", "media"]) {
            return Err(TokenFault::Grant("grants.presence.restrict"));
        }
        let calls = |value: &Value| u32::try_from(value.as_u64()?).ok();
        let hours = |value| list(value, HOURS_MAX, |item| Hours::new(item.as_str()?));
        let to = |value| list(value, TARGETS_MAX, |item| Target::new(item.as_str()?));
        let media = |value| list(value, MEDIA_MAX, |item| Medium::of_word(item.as_str()?));
        Ok(Self {
            calls: field(restrict, "calls", "grants.presence.restrict.calls", calls)?,
            hours: field(restrict, "hours", "grants.presence.restrict.hours", hours)?,
            to: field(restrict, "to", "grants.presence.restrict.to", to)?,
            media: field(restrict, "media", "grants.presence.restrict.media", media)?,
        })
    }

    /// Whether one more call or message may begin: `calls_now` are those in progress, `to` is `client:` and an identity, or a
    /// number. Else the key of the restriction that forbids it, the first in the order of the reference.
    pub fn check(
        &self,
        calls_now: u32,
        unix_time: Duration,
        to: &str,
        medium: Medium,
    ) -> Result<(), &'static str> {
        if self.calls.is_some_and(|most| calls_now >= most) {
            return Err("calls");
        }
        let minute = minute_of_day(unix_time);
        let is_hour = |hours: &Vec<Hours>| hours.iter().any(|hours| hours.contain(minute));
        if !self.hours.as_ref().is_none_or(is_hour) {
            return Err("hours");
        }
        let is_target = |targets: &Vec<Target>| targets.iter().any(|target| target.matches(to));
        if !self.to.as_ref().is_none_or(is_target) {
            return Err("to");
        }
        let is_medium = |media: &Vec<Medium>| media.contains(&medium);
        if !self.media.as_ref().is_none_or(is_medium) {
            return Err("media");
        }
        Ok(())
    }

    /// Whether that identity is among those who may be called; an absent list excludes nobody.
    #[must_use]
    pub fn reaches(&self, identity: &Name) -> bool {
        let identity = identity.as_str();
        let targets = self.to.as_ref();
        targets.is_none_or(|all| all.iter().any(|target| target.is_client(identity)))
    }
}

impl Medium {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::Message => "message",
        }
    }

    /// The medium of that word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        let all = [Self::Voice, Self::Message];
        all.into_iter().find(|medium| medium.as_str() == word)
    }
}

impl Hours {
    /// Reads `08:00-18:00Z`; `None` if it is none, or begins when it ends, which could mean a day or nothing.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let (from, until) = text.strip_suffix('Z')?.split_once('-')?;
        let (from, until) = (minutes(from)?, minutes(until)?);
        (from != until && from < MINUTES_A_DAY).then_some(Self { from, until })
    }

    fn contain(self, minute: u16) -> bool {
        if self.from < self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }
}

impl Target {
    /// Reads a target; `None` if it is none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let beginning = text.strip_suffix('*');
        let rest = beginning.unwrap_or(text);
        let named = rest.strip_prefix(CLIENT).unwrap_or(rest);
        let is_short = named.chars().count() <= NAME_MAX;
        let is_plain = !rest.contains('*') && !rest.chars().any(char::is_control);
        let is_target = !text.is_empty() && is_short && is_plain;
        is_target.then(|| Self {
            text: rest.to_owned(),
            is_beginning: beginning.is_some(),
        })
    }

    fn matches(&self, to: &str) -> bool {
        if self.is_beginning {
            to.starts_with(&self.text)
        } else {
            to == self.text
        }
    }

    /// [`matches`](Self::matches) of `client:` and that identity, without writing them together.
    fn is_client(&self, identity: &str) -> bool {
        match self.text.strip_prefix(CLIENT) {
            Some(beginning) if self.is_beginning => identity.starts_with(beginning),
            Some(name) => identity == name,
            None => self.is_beginning && CLIENT.starts_with(&self.text),
        }
    }
}

/// `08:00`, or `24:00` for the end of the day.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits = |text: &str| {
        let is_two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_two.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= MINUTES_A_DAY).then_some(minute)
}

fn minute_of_day(unix_time: Duration) -> u16 {
    let minute = unix_time.as_secs() / 60 % u64::from(MINUTES_A_DAY);
    u16::try_from(minute).expect("a day has fewer minutes than 65,536")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn restrict(json: &Value) -> Result<Restrict, TokenFault> {
        Restrict::of(json.as_object().unwrap())
    }

    fn at(hour: u64, minute: u64) -> Duration {
        Duration::from_secs(20_000 * 86_400 + hour * 3_600 + minute * 60)
    }

    // B3: number, time, destination and medium are each enforced, and the offending key is named.
    #[test]
    fn each_restriction_is_enforced_and_named() {
        let all = restrict(&json!({
            "calls": 2, "hours": ["08:00-18:00Z"], "to": ["client:team-*", "+1*", "client:bob"], "media": ["voice"],
        }));
        let all = all.unwrap();
        let check = |calls, time, to, medium| all.check(calls, time, to, medium);
        for to in ["client:team-a", "+14155550100", "client:bob"] {
            assert_eq!(check(1, at(8, 0), to, Medium::Voice), Ok(()));
        }
        let to = "client:bob";
        assert_eq!(check(2, at(9, 0), to, Medium::Voice), Err("calls"));
        assert_eq!(check(0, at(7, 59), to, Medium::Voice), Err("hours"));
        assert_eq!(check(0, at(18, 0), to, Medium::Voice), Err("hours"));
        for to in ["client:bobby", "client:team", "+44", "bob", ""] {
            assert_eq!(check(0, at(9, 0), to, Medium::Voice), Err("to"), "{to}");
        }
        assert_eq!(check(0, at(9, 0), to, Medium::Message), Err("media"));
    }

    #[test]
    fn what_is_absent_forbids_nothing_and_what_is_empty_everything() {
        let free = Restrict::default();
        assert_eq!(free.check(u32::MAX, at(0, 0), "", Medium::Message), Ok(()));
        assert!(free.reaches(&Name::new("bob").unwrap()));
        for key in ["hours", "to", "media"] {
            let none = restrict(&json!({key: []})).unwrap();
            assert_eq!(none.check(0, at(0, 0), "x", Medium::Voice), Err(key));
        }
        let none = restrict(&json!({"calls": 0})).unwrap();
        assert_eq!(none.check(0, at(0, 0), "x", Medium::Voice), Err("calls"));
    }

    #[test]
    fn hours_wrap_over_midnight() {
        let contain = |text: &str, time| Hours::new(text).unwrap().contain(minute_of_day(time));
        assert!(contain("22:00-06:00Z", at(23, 0)) && contain("22:00-06:00Z", at(5, 59)));
        assert!(!contain("22:00-06:00Z", at(6, 0)) && !contain("22:00-06:00Z", at(21, 59)));
        assert!(contain("00:00-24:00Z", at(0, 0)) && contain("00:00-24:00Z", at(23, 59)));
        assert!(contain("22:00-00:00Z", at(23, 59)) && !contain("22:00-00:00Z", at(0, 0)));
    }

    // B19: what may not be called may not be seen either.
    #[test]
    fn targets_that_are_identities_decide_who_is_reached() {
        let reaches = |to: Value, name: &str| {
            let restrict = restrict(&json!({ "to": to })).unwrap();
            restrict.reaches(&Name::new(name).unwrap())
        };
        assert!(reaches(json!(["client:team-*"]), "team-a"));
        assert!(reaches(json!(["client:bob"]), "bob") && !reaches(json!(["client:bob"]), "bo"));
        assert!(reaches(json!(["*"]), "bob") && reaches(json!(["client:*"]), "bob"));
        assert!(!reaches(json!(["+1*", "bob"]), "bob") && !reaches(json!(["b*"]), "bob"));
        assert!(reaches(
            json!([format!("client:{}", "x".repeat(121))]),
            &"x".repeat(121)
        ));
    }

    #[test]
    fn a_restriction_that_is_not_understood_is_refused() {
        let many = vec!["client:a"; TARGETS_MAX + 1];
        let bad = [
            json!({"call": 2}),
            json!({"calls": -1}),
            json!({"calls": "2"}),
            json!({"calls": null}),
            json!({"calls": 1.5}),
            json!({"hours": "08:00-18:00Z"}),
            json!({"hours": ["08:00-18:00"]}),
            json!({"hours": ["8:00-18:00Z"]}),
            json!({"hours": ["08:00-24:01Z"]}),
            json!({"hours": ["24:00-08:00Z"]}),
            json!({"hours": ["08:60-18:00Z"]}),
            json!({"hours": ["+8:00-18:00Z"]}),
            json!({"hours": ["08:00-08:00Z"]}),
            json!({"to": [""]}),
            json!({"to": ["a*b"]}),
            json!({"to": [1]}),
            json!({ "to": many }),
            json!({"media": ["fax"]}),
        ];
        for json in bad {
            assert!(
                matches!(restrict(&json), Err(TokenFault::Grant(_))),
                "{json}"
            );
        }
    }
}
