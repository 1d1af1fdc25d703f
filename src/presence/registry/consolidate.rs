//! Of several devices one answer: what is shown of an identity, and whether it can be rung.
//!
//! Two truths are kept apart. What is shown is the status that counts most among the devices that report one, with calls in
//! progress laid over it; nothing reported is overwritten, so that it is there again after the call. What can be rung is asked of each
//! device by itself, never of the consolidated answer. Never looks at who asks: visibility is by identity, before this.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::session::{Channel, Session};
use crate::presence::name::Name;
use crate::presence::status::{Order, Reason, Status};

/// How devices make one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Which status counts most.
    pub order: Order,
    /// What those are taken for who say nothing.
    pub assume: Status,
    /// Whether devices whose user is away are rung.
    pub ring_away: bool,
    /// Calls and ringings of one device at once.
    pub calls_per_device: u32,
}

/// What is shown of an identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::presence) struct Shown {
    pub(in crate::presence) status: Status,
    pub(in crate::presence) reason: Option<Reason>,
    pub(in crate::presence) text: Option<Arc<str>>,
    pub(in crate::presence) ringable: bool,
    pub(in crate::presence) device_count: usize,
}

/// An identity, for whoever may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Who.
    pub identity: Name,
    /// The status that counts.
    pub status: Status,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// In its own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Arc<str>>,
    /// When that status began.
    #[serde(serialize_with = "rfc3339")]
    pub since: u64,
    /// Whether a device of it can be rung now.
    pub ringable: bool,
    /// Devices and apps that are registered.
    pub device_count: usize,
    /// Of the change that made it so.
    pub version: u64,
    /// Each of them, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<DeviceItem>>,
}

/// One device's app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceItem {
    /// The device.
    pub device: Name,
    /// The application on it.
    pub app: Name,
    /// What it reports, or the assumed status if it may not.
    pub status: Status,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// In its own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Arc<str>>,
    /// When that status began.
    #[serde(serialize_with = "rfc3339")]
    pub since: u64,
    /// `socket` or `api`.
    pub channel: &'static str,
    /// Its socket was lost and may come back.
    pub suspended: bool,
    /// Calls in progress.
    pub in_calls: u32,
    /// Whether it can be rung now.
    pub ringable: bool,
}

/// Milliseconds since the Unix epoch as RFC 3339 in UTC.
pub(in crate::presence) fn rfc3339<S: serde::Serializer>(
    unix_ms: &u64,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(*unix_ms);
    serializer.collect_str(&humantime::format_rfc3339_millis(at))
}

impl Session {
    /// Whether it can be rung now.
    pub(in crate::presence) fn is_ringable(&self, rules: &Rules) -> bool {
        // A device that may receive but not give says nothing about itself, and is rung all the same.
        let is_willing = match self.report.as_ref().map(|report| report.status) {
            None | Some(Status::Available) => true,
            Some(Status::Away) => rules.ring_away,
            Some(_) => false,
        };
        self.may_be_rung() && is_willing && self.calls + self.rings < rules.calls_per_device
    }

    pub(in crate::presence) fn item(&self, rules: &Rules) -> DeviceItem {
        let report = self.report.as_ref();
        DeviceItem {
            device: self.device.clone(),
            app: self.app.clone(),
            status: report.map_or(rules.assume, |report| report.status),
            reason: report.and_then(|report| report.reason),
            text: report.and_then(|report| report.text.clone()),
            since: self.since,
            channel: match self.channel {
                Channel::Socket(_) => "socket",
                Channel::Api { .. } => "api",
            },
            suspended: self.suspended.is_some(),
            in_calls: self.calls,
            ringable: self.is_ringable(rules),
        }
    }
}

/// What is shown of these sessions, whose identity may be in a call; `absent` if none of them reports anything.
pub(in crate::presence) fn shown(
    sessions: &[Session],
    is_engaged: bool,
    rules: &Rules,
    absent: Status,
) -> Shown {
    let reports = sessions
        .iter()
        .filter_map(|session| Some((session.report.as_ref()?, session.since)));
    let first = reports
        .min_by_key(|(report, since)| (rules.order.rank(report.status), std::cmp::Reverse(*since)));
    let mut shown = Shown {
        status: absent,
        reason: None,
        text: None,
        ringable: sessions.iter().any(|session| session.is_ringable(rules)),
        device_count: sessions.len(),
    };
    if let Some((report, _)) = first {
        shown.status = report.status;
        shown.reason = report.reason;
        shown.text.clone_from(&report.text);
    }
    if is_engaged {
        (shown.status, shown.reason) = (Status::Busy, Some(Reason::InCall));
    }
    shown
}
