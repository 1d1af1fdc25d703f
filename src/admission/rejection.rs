//! Why not: one stable word a reason, and the numbers a client can act on.
//!
//! The word is the same in the answer, the log, the metrics and the docs. Never an HTTP type: `proxy::respond`
//! makes the answer.

use std::sync::Arc;

/// Shortest and longest wait that is ever advised, in seconds.
const RETRY_AFTER: std::ops::RangeInclusive<f64> = 1.0..=30.0;
/// Advice is stretched by up to this share, though not beyond the longest, and never shortened: clients refused together
/// should not return together.
const JITTER: f64 = 0.5;

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A limit has no place left.
    LimitReached,
    /// As many wait for a place as may.
    QueueFull,
    /// No place came free in time.
    QueueTimeout,
    /// The gate shuts down.
    Draining,
    /// An operator ended the wait.
    Cancelled,
}

impl Reason {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LimitReached => "limit_reached",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Draining => "draining",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A refusal by a limit, with what its client may want to know.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// The limit that decided.
    pub limit: Arc<str>,
    /// What it counts on, such as `account,resource`; empty where one count is for all.
    pub axis: Arc<str>,
    /// The time over which it counts, if it does not count what is in flight.
    pub window: Option<std::time::Duration>,
    /// Its HTTP status.
    pub status: u16,
    /// The maximum for this key.
    pub max: u32,
    /// What was in flight for this key.
    pub in_flight: u32,
    /// What was in flight for the account over all limits.
    pub account_in_flight: u32,
    /// Seconds until a place is expected to come free, unclamped; zero when nothing is known yet.
    pub drain_seconds: f64,
}

impl Rejection {
    /// When to come back, in whole seconds from 1 to 30: the honest value, stretched by up to half by `chance` (0 to 1).
    #[must_use]
    pub fn retry_after(&self, chance: f64) -> u32 {
        let honest = self
            .drain_seconds
            .clamp(*RETRY_AFTER.start(), *RETRY_AFTER.end())
            .ceil();
        let jittered = (honest * (1.0 + JITTER * chance.clamp(0.0, 1.0))).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 to 45, and never negative"
        )]
        let seconds = jittered as u32;
        seconds.min(30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(drain_seconds: f64) -> Rejection {
        Rejection {
            reason: Reason::LimitReached,
            limit: "account".into(),
            axis: "account".into(),
            window: None,
            status: 429,
            max: 1,
            in_flight: 1,
            account_in_flight: 1,
            drain_seconds,
        }
    }

    // G9: whole seconds between 1 and 30.
    #[test]
    fn advice_is_bounded() {
        assert_eq!(rejection(0.0).retry_after(0.0), 1);
        assert_eq!(rejection(0.2).retry_after(0.0), 1);
        assert_eq!(rejection(2.1).retry_after(0.0), 3);
        assert_eq!(rejection(1e9).retry_after(1.0), 30);
    }

    // G9: jitter is one-sided; nobody is told to come back before a place is expected.
    #[test]
    fn jitter_never_shortens_the_advice() {
        for step in 0..=10 {
            let chance = f64::from(step) / 10.0;
            let advice = rejection(10.0).retry_after(chance);
            assert!((10..=15).contains(&advice), "{advice} at {chance}");
        }
    }
}
