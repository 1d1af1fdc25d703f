//! When a token is good: not after `exp`, not before `nbf`, and for a day at most.
//!
//! Clocks of those who mint may differ from ours by a minute either way. A day bounds how long a stolen token is of use, so
//! an `iat` that lies in the future does not stretch it. The time is an argument: never reads a clock.

use std::time::Duration;

use serde_json::Value;

use super::fault::TokenFault;
use super::typed::Object;

/// How far clocks may differ.
pub const SKEW: Duration = Duration::from_secs(60);

/// The longest lifetime of a token.
pub const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The last second that a claim can name: more than milliseconds that were taken for seconds, and far from where adding overflows.
const LATEST: f64 = 1e15;

/// Checks the times in their order and returns `exp`, in seconds since the Unix epoch.
pub(super) fn check(claims: &Object, now: Duration) -> Result<u64, TokenFault> {
    let expires = time(claims, "exp", TokenFault::Expired)?.ok_or(TokenFault::Expired)?;
    if now >= Duration::from_secs(expires) + SKEW {
        return Err(TokenFault::Expired);
    }
    let latest_issue = (now + SKEW).as_secs();
    let issued = time(claims, "iat", TokenFault::Lifetime)?.map(|at| at.min(latest_issue));
    let begins = time(claims, "nbf", TokenFault::NotYet);
    let start = issued
        .or(begins.unwrap_or_default())
        .unwrap_or(now.as_secs());
    if expires.saturating_sub(start) > LIFETIME_MAX.as_secs() {
        return Err(TokenFault::Lifetime);
    }
    match begins? {
        Some(begins) if Duration::from_secs(begins) > now + SKEW => Err(TokenFault::NotYet),
        _ => Ok(expires),
    }
}

/// A time in whole seconds; fractions are allowed, and cut.
fn time(claims: &Object, name: &str, fault: TokenFault) -> Result<Option<u64>, TokenFault> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().filter(|at| (0.0..=LATEST).contains(at));
    match (seconds, value) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it lies between 0 and a number that every type here holds"
        )]
        (Some(seconds), Value::Number(_)) => Ok(Some(seconds as u64)),
        _ => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 24 * 60 * 60;

    fn checked(claims: &Value) -> Result<u64, TokenFault> {
        check(claims.as_object().unwrap(), Duration::from_secs(NOW))
    }

    // B1, B38: a token is good until a minute after `exp`, and not a moment longer.
    #[test]
    fn a_token_ends_a_minute_after_its_end() {
        assert_eq!(checked(&json!({"exp": NOW - 59})), Ok(NOW - 59));
        let ended = [
            json!({}),
            json!({"exp": NOW - 60}),
            json!({"exp": "2099"}),
            json!({"exp": -1}),
            json!({"exp": null}),
            json!({"exp": 1e300}),
        ];
        for claims in ended {
            assert_eq!(checked(&claims), Err(TokenFault::Expired), "{claims}");
        }
    }

    // B3: a day at most, from `iat`, else from `nbf`, else from now; a future `iat` does not help.
    #[test]
    fn a_lifetime_is_a_day_at_most() {
        let good = [
            json!({"exp": NOW + DAY}),
            json!({"exp": NOW + DAY, "iat": NOW}),
            json!({"exp": NOW + DAY + 60, "iat": NOW + 60}),
            json!({"exp": NOW + 30, "nbf": NOW + 30 - DAY}),
            json!({"exp": NOW as f64 + 0.5, "iat": NOW as f64 - 0.5}),
        ];
        for claims in good {
            assert!(checked(&claims).is_ok(), "{claims}");
        }
        let long = [
            json!({"exp": NOW + DAY + 1}),
            json!({"exp": NOW + 30, "iat": NOW + 29 - DAY}),
            json!({"exp": NOW + 30, "nbf": NOW + 29 - DAY}),
            json!({"exp": NOW + 100 * DAY, "iat": NOW + 100 * DAY}),
            json!({"exp": NOW + 30, "iat": "now"}),
        ];
        for claims in long {
            assert_eq!(checked(&claims), Err(TokenFault::Lifetime), "{claims}");
        }
    }

    #[test]
    fn a_token_begins_a_minute_before_its_beginning() {
        let begins = |at: u64| checked(&json!({"exp": NOW + 3_600, "nbf": at}));
        assert!(begins(NOW + 60).is_ok());
        assert_eq!(begins(NOW + 61), Err(TokenFault::NotYet));
        let text = json!({"exp": NOW + 3_600, "nbf": "soon"});
        assert_eq!(checked(&text), Err(TokenFault::NotYet));
    }
}
