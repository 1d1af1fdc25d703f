//! What scalars mean: durations, sizes, counts, words for "off".
//!
//! Durations are numbers with `ms`, `s`, `m`, `h` or `d`, largest first when several are given (`2h30m`). Sizes are
//! numbers with `B`, `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024) or `KB`, `MB`, `GB`, `TB` (powers of 1000). Never floats, so that a
//! value means exactly what it says.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Why a text is no amount, and what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UnitError {
    message: &'static str,
    /// What helps.
    pub hint: &'static str,
}

/// Whether the text is a word for "off": other tools rewrite `off` as `false`.
#[must_use]
pub fn is_off(text: &str) -> bool {
    matches!(text, "off" | "false" | "Off" | "OFF" | "False" | "FALSE")
}

/// A duration: `250ms`, `1h`, `2h30m`.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = UnitError {
        message: "is no duration",
        hint: "write a whole number and a unit: `250ms`, `30s`, `5m`, `1h` or `2h30m`",
    };
    let mut rest = text;
    let mut sum = 0_u64;
    let mut larger = u64::MAX;
    while !rest.is_empty() {
        let (number, tail) = whole_number(rest).ok_or(wrong)?;
        let end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        if unit.is_empty() {
            return Err(UnitError {
                message: "has no unit",
                ..wrong
            });
        }
        let (_, millis) = DURATION_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or(wrong)?;
        if *millis >= larger {
            return Err(wrong);
        }
        larger = *millis;
        let part = number.checked_mul(*millis);
        sum = part.and_then(|part| sum.checked_add(part)).ok_or(wrong)?;
        rest = tail;
    }
    if text.is_empty() {
        Err(wrong)
    } else {
        Ok(Duration::from_millis(sum))
    }
}

/// A size in bytes: `64KiB`.
pub fn size(text: &str) -> Result<u64, UnitError> {
    let wrong = UnitError {
        message: "is no size",
        hint: "write a whole number and a unit: `512B`, `64KiB`, `10MiB` or `1GiB`",
    };
    let (number, unit) = whole_number(text).ok_or(wrong)?;
    if unit.is_empty() {
        return Err(UnitError {
            message: "has no unit",
            ..wrong
        });
    }
    let (_, bytes) = SIZE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(wrong)?;
    number.checked_mul(*bytes).ok_or(wrong)
}

/// A whole number without sign.
pub fn count(text: &str) -> Result<u64, UnitError> {
    let wrong = UnitError {
        message: "is no whole number",
        hint: "write digits only, such as `100`",
    };
    match whole_number(text) {
        Some((number, "")) => Ok(number),
        _ => Err(wrong),
    }
}

/// A duration as people write it.
#[must_use]
pub fn readable(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, unit): &&(&str, u64)| millis >= *unit && millis.is_multiple_of(*unit);
    match DURATION_UNITS.iter().find(fits) {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// A size as people write it.
#[must_use]
pub fn readable_size(bytes: u64) -> String {
    let fits = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    match SIZE_UNITS[..5].iter().rev().find(fits) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

fn whole_number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("2h30m"), Ok(Duration::from_mins(150)));
        assert_eq!(duration("1d"), Ok(Duration::from_hours(24)));
        for wrong in [
            "",
            "30",
            "s",
            "1.5s",
            "-1s",
            "1 s",
            "30m2h",
            "1s1s",
            "99999999999999999999s",
            "9999999999999999d",
            "1ſ",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("30").unwrap_err().to_string(), "has no unit");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1MB"), Ok(1_000_000));
        for wrong in ["", "64", "64kib", "KiB", "-1B", "99999999999TiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_back_means_the_same() {
        for text in ["250ms", "30s", "5m", "36h", "7d"] {
            assert_eq!(readable(duration(text).unwrap()), text);
        }
        assert_eq!(readable_size(65_536), "64KiB");
        assert_eq!(readable_size(1_000), "1000B");
    }
}
