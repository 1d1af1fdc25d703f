//! The words of a call: how it stands, how its branches end, and how whoever is told hears of it.
//!
//! Statuses are the vendor's vocabulary, since customers' servers compare with it. Reasons are ours, the same on sockets, in traces
//! and in logs.

use serde::{Deserialize, Serialize};

use crate::telemetry::CallEnd;

/// How a call stands, as customers' servers and the API are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallStatus {
    /// Accepted; nobody rings yet.
    Queued,
    /// Somebody rings.
    Ringing,
    /// Answered.
    InProgress,
    /// Was answered, and is over.
    Completed,
    /// Somebody was there who does not want it.
    Busy,
    /// It could not be put through.
    Failed,
    /// Nobody answered, or nobody was there.
    NoAnswer,
    /// The caller left before an answer.
    Canceled,
    /// Of a message: a device has it.
    Delivered,
    /// Of a message: no device took it.
    Undelivered,
}

impl CallStatus {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Ringing => "ringing",
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::NoAnswer => "no-answer",
            Self::Canceled => "canceled",
            Self::Delivered => "delivered",
            Self::Undelivered => "undelivered",
        }
    }

    /// How the figures know a call that ended so.
    pub(in crate::presence) const fn end(self) -> Option<CallEnd> {
        Some(match self {
            Self::Completed => CallEnd::Completed,
            Self::Busy => CallEnd::Busy,
            Self::Failed => CallEnd::Failed,
            Self::NoAnswer => CallEnd::NoAnswer,
            Self::Canceled => CallEnd::Canceled,
            _ => return None,
        })
    }

    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Ringing | Self::InProgress)
    }
}

/// How the ringing of one device ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::presence) enum BranchEnd {
    /// It answered first.
    Won,
    /// Another device answered first.
    Lost,
    /// Its user does not want the call.
    Rejected,
    /// Its user began another call.
    Busy,
    /// It hung up, or could not be told.
    Failed,
    /// It rang to the end of the time.
    Timeout,
    /// Its socket was lost and did not come back in time, or it signed out.
    Gone,
    /// The caller left, or the call was ended otherwise.
    Cancelled,
}

impl BranchEnd {
    /// The word in a call's trace, and the reason that the device is told.
    pub(in crate::presence) const fn as_str(self) -> &'static str {
        match self {
            Self::Won => "answered",
            Self::Lost => "answered_elsewhere",
            Self::Rejected => "rejected",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Gone => "gone",
            Self::Cancelled => "caller_left",
        }
    }

    /// How a status callback says it.
    pub(in crate::presence) const fn status(self) -> CallStatus {
        match self {
            Self::Won => CallStatus::Completed,
            Self::Lost | Self::Cancelled => CallStatus::Canceled,
            Self::Rejected | Self::Busy => CallStatus::Busy,
            Self::Failed => CallStatus::Failed,
            Self::Timeout | Self::Gone => CallStatus::NoAnswer,
        }
    }
}

/// Why a leg is told that it is over, with the number by which the voice SDK knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::presence) enum Farewell {
    /// The other side hung up, or the instructions ended.
    Over,
    /// The callee does not want it, or is occupied.
    Busy,
    /// Nobody answered.
    NoAnswer,
    /// It could not be put through.
    Failed,
    /// Another device answered first.
    AnsweredElsewhere,
    /// The time for talking is up.
    TimeLimit,
    /// The gate goes down.
    Draining,
    /// A limit has no place for it.
    NoPlace,
    /// Its bridge token leads nowhere.
    NoBridge,
}

impl Farewell {
    /// The word on sockets.
    pub(in crate::presence) const fn as_str(self) -> &'static str {
        match self {
            Self::Over => "hung_up",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Failed => "failed",
            Self::AnsweredElsewhere => "answered_elsewhere",
            Self::TimeLimit => "time_limit",
            Self::Draining => "draining",
            Self::NoPlace => "no_place",
            Self::NoBridge => "no_bridge",
        }
    }

    /// The voice SDK's error; `None` where it is none.
    pub(in crate::presence) const fn code(self) -> Option<u32> {
        match self {
            Self::Over | Self::TimeLimit => None,
            Self::Busy => Some(31_486),
            Self::NoAnswer => Some(31_480),
            Self::Failed => Some(31_005),
            Self::AnsweredElsewhere => Some(31_008),
            Self::NoBridge => Some(31_104),
            Self::Draining | Self::NoPlace => Some(31_206),
        }
    }

    /// What a caller hears of a call that ends so.
    pub(in crate::presence) const fn of(status: CallStatus) -> Self {
        match status {
            CallStatus::Busy => Self::Busy,
            CallStatus::NoAnswer => Self::NoAnswer,
            CallStatus::Failed => Self::Failed,
            _ => Self::Over,
        }
    }
}
