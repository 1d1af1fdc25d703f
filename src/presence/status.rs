//! What a client can be: six statuses, three reasons, and the order in which one of several counts.
//!
//! `offline` is never reported by a client; it is what the silent and the departed are taken for. Never knows who has a status.

use serde::{Deserialize, Serialize};

/// Whether somebody can be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Can be called.
    Available,
    /// Is occupied.
    Busy,
    /// Wants no calls.
    DoNotDisturb,
    /// Is not at the device.
    Away,
    /// Cannot be called.
    Unavailable,
    /// Nobody is there.
    Offline,
}

/// Why somebody is away, busy or unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// For a moment.
    AwayShort,
    /// For longer.
    AwayLong,
    /// A call is in progress.
    InCall,
}

impl Status {
    /// All, in the order in which they count unless configured otherwise.
    pub const ALL: [Self; 6] = [
        Self::Available,
        Self::Busy,
        Self::DoNotDisturb,
        Self::Away,
        Self::Unavailable,
        Self::Offline,
    ];

    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Busy => "busy",
            Self::DoNotDisturb => "do_not_disturb",
            Self::Away => "away",
            Self::Unavailable => "unavailable",
            Self::Offline => "offline",
        }
    }

    /// The status of that word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

impl Reason {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AwayShort => "away_short",
            Self::AwayLong => "away_long",
            Self::InCall => "in_call",
        }
    }
}

/// Which of several statuses counts: the first of the order that any device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order([u8; 6]);

impl Default for Order {
    fn default() -> Self {
        Self::new(&Status::ALL).expect("each is there once")
    }
}

impl Order {
    /// An order of all statuses, the one that counts most first; `None` if one is missing or there twice.
    #[must_use]
    pub fn new(order: &[Status]) -> Option<Self> {
        let mut ranks = [u8::MAX; 6];
        for (status, rank) in order.iter().zip(0..) {
            let slot = &mut ranks[*status as usize];
            if *slot != u8::MAX {
                return None;
            }
            *slot = rank;
        }
        (!ranks.contains(&u8::MAX)).then_some(Self(ranks))
    }

    /// Less counts more.
    #[must_use]
    pub fn rank(&self, status: Status) -> u8 {
        self.0[status as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // B12: the order is configurable, and complete.
    #[test]
    fn an_order_names_each_status_once() {
        let default = Order::default();
        assert!(default.rank(Status::Available) < default.rank(Status::DoNotDisturb));
        let mut turned = Status::ALL;
        turned.reverse();
        assert_eq!(Order::new(&turned).unwrap().rank(Status::Offline), 0);
        assert_eq!(Order::new(&Status::ALL[1..]), None);
        assert_eq!(Order::new(&[Status::Busy; 6]), None);
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for status in Status::ALL {
            assert_eq!(Status::of_word(status.as_str()), Some(status));
            let json = serde_json::to_string(&status).unwrap();
            assert_eq!(json, format!("\"{}\"", status.as_str()));
        }
    }
}
