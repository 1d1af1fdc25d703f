//! Where instructions are: addresses whose fragments may say how they are asked for.
//!
//! A fragment is never sent, and read when a call comes; it is judged here, so that a slip shows in `check` and not in the first call.
//! Of an address, which may hold a password, nothing but the fragment is said again.

use std::ops::RangeInclusive;

use super::addresses;
use crate::config::file::{self, At};
use crate::config::resolve::context::Context;
use crate::presence::Script;

/// Overrides that are numbers: times in milliseconds, and how often it is tried again. Twilio's ranges.
const NUMBERS: [(&str, RangeInclusive<u32>); 4] = [
    ("ct", 100..=10_000),
    ("rt", 100..=15_000),
    ("tt", 100..=15_000),
    ("rc", 0..=5),
];
/// After what it may be tried again.
const CAUSES: [&str; 5] = ["4xx", "5xx", "ct", "rt", "all"];
/// Characters of an override that are shown.
const SHOWN: usize = 32;

/// What is wrong with a fragment.
#[derive(Debug, PartialEq, Eq)]
struct Slip {
    code: &'static str,
    message: String,
    hint: String,
}

/// Judges where instructions are.
pub(super) fn script(cx: &mut Context<'_>, script: &file::Script) -> Option<Script> {
    let url = url(cx, "url", &script.url);
    let fallback = script.fallback_url.as_ref();
    let fallback_url = fallback.and_then(|of| self::url(cx, "fallback_url", of));
    Some(Script {
        url: url?,
        fallback_url,
    })
}

fn url(cx: &mut Context<'_>, key: &str, url: &At<String>) -> Option<String> {
    if let Some(why) = addresses::address_fault(&url.value) {
        cx.error("bad_value", url.place, format!("`{key}` {why}"))
            .hint("`http` or `https`, and the whole address: `https://app.example.com/voice`");
        return None;
    }
    let fragment = url.value.split_once('#').map(|(_, fragment)| fragment);
    if let Some(Err(slip)) = fragment.map(judge) {
        let message = format!("the fragment of `{key}` {}", slip.message);
        cx.error(slip.code, url.place, message).hint(slip.hint);
        return None;
    }
    Some(url.value.clone())
}

/// Judges the overrides of a fragment.
fn judge(fragment: &str) -> Result<(), Slip> {
    let mut seen = Vec::new();
    for part in fragment.split('&') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let number = NUMBERS.iter().find(|(known, _)| *known == key);
        match number {
            Some((_, range)) => self::number(key, value, range)?,
            None if key == "rp" => value.split(',').try_for_each(cause)?,
            None => return Err(unknown(key)),
        }
        if seen.contains(&key) {
            return Err(Slip {
                code: "double_name",
                message: format!("says `{key}` twice"),
                hint: "keep one of them".to_owned(),
            });
        }
        seen.push(key);
    }
    Ok(())
}

fn unknown(key: &str) -> Slip {
    Slip {
        code: "bad_value",
        message: format!("has the override `{}`, which there is not", shown(key)),
        hint: "known are `ct`, `rt`, `tt`, `rc` and `rp`, such as `#ct=2000&rc=2&rp=5xx,ct`"
            .to_owned(),
    }
}

fn number(key: &str, value: &str, range: &RangeInclusive<u32>) -> Result<(), Slip> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && value.parse().is_ok_and(|number| range.contains(&number)) {
        return Ok(());
    }
    let (code, why) = if is_number {
        ("out_of_range", "which is out of range")
    } else {
        ("bad_value", "which is no whole number")
    };
    let unit = if key == "rc" { "times" } else { "milliseconds" };
    Err(Slip {
        code,
        message: format!("sets `{key}` to `{}`, {why}", shown(value)),
        hint: format!("from {} to {} {unit}", range.start(), range.end()),
    })
}

fn cause(word: &str) -> Result<(), Slip> {
    if CAUSES.contains(&word) {
        return Ok(());
    }
    Err(Slip {
        code: "bad_value",
        message: format!("sets `rp` to `{}`, which is none of its words", shown(word)),
        hint: "a list of `4xx`, `5xx`, `ct`, `rt` and `all`, such as `rp=5xx,ct`".to_owned(),
    })
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_holds_overrides_that_are_known_and_in_range() {
        for good in [
            "ct=100",
            "ct=10000&rt=15000&tt=15000&rc=5",
            "rc=0&rp=4xx,5xx,ct,rt,all",
        ] {
            assert_eq!(judge(good), Ok(()), "{good}");
        }
        let outside = "ct=99 ct=10001 rt=99 rt=15001 tt=0 tt=15001 rc=6 rc=99999999999";
        for wrong in outside.split(' ') {
            assert_eq!(judge(wrong).unwrap_err().code, "out_of_range", "{wrong}");
        }
        assert_eq!(judge("rc=1&rc=1").unwrap_err().code, "double_name");
    }

    #[test]
    fn whatever_else_a_fragment_holds_is_named() {
        for (wrong, named) in [
            ("", "has the override ``"),
            ("part", "has the override `part`"),
            ("CT=200", "has the override `CT`"),
            ("rc=1&", "has the override ``"),
            ("ct", "sets `ct` to ``"),
            ("ct=+200", "sets `ct` to `+200`"),
            ("rp=", "sets `rp` to ``"),
            ("rp=5xx,tt", "sets `rp` to `tt`"),
        ] {
            let slip = judge(wrong).unwrap_err();
            assert!(slip.message.starts_with(named), "{wrong}: {slip:?}");
            assert_eq!(slip.code, "bad_value", "{wrong}");
        }
    }
}
