//! The log of changes of one identity: who changed what, and how long each status was shown.
//!
//! The last thousand entries are kept, fewer where the account as a whole has many, so that nobody's log is shortened by
//! another's. Never holds free texts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::consolidate::rfc3339;
use super::session::Source;
use crate::presence::name::Name;
use crate::presence::status::{Reason, Status};

/// Most entries of one identity.
pub const LOG_MAX: usize = 1_000;
/// Entries of one account beyond which identities keep no more than [`LOG_KEPT`]: some 80 MB.
pub(in crate::presence) const ACCOUNT_LOG_MAX: usize = 1_000_000;
/// What every identity may keep.
pub(in crate::presence) const LOG_KEPT: usize = 16;

/// One change of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When, in milliseconds since the Unix epoch.
    #[serde(serialize_with = "rfc3339")]
    pub at: u64,
    /// The device that changed.
    pub device: Name,
    /// The application on it.
    pub app: Name,
    /// What it was; `offline` before it registered.
    pub old: Status,
    /// What it became; `offline` once it is gone.
    pub new: Status,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What changed it.
    #[serde(serialize_with = "word")]
    pub source: Source,
    /// What was shown of the identity from then on.
    pub shown: Status,
}

fn word<S: serde::Serializer>(source: &Source, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(source.as_str())
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Page {
    /// In the order in which they happened.
    pub entries: Vec<Entry>,
    /// Seconds for which each status was shown, from `since`, or the oldest entry that is kept, until now.
    pub time_in_state: BTreeMap<&'static str, f64>,
    /// Where to go on, if there are more.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "next")]
    pub next: Option<u64>,
}

fn next<S: serde::Serializer>(at: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => rfc3339(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// What happened to one identity.
#[derive(Debug, Default)]
pub(in crate::presence) struct History(VecDeque<Entry>);

impl History {
    /// Adds an entry; `total` counts those of the account.
    pub(in crate::presence) fn push(&mut self, entry: Entry, total: &mut usize) {
        self.0.push_back(entry);
        *total += 1;
        let is_crowded = *total > ACCOUNT_LOG_MAX && self.0.len() > LOG_KEPT;
        if self.0.len() > LOG_MAX || is_crowded {
            self.0.pop_front();
            *total -= 1;
        }
    }

    pub(in crate::presence) fn len(&self) -> usize {
        self.0.len()
    }

    /// The entries from `since` on, up to `limit`; the times until `now`, in milliseconds since the Unix epoch.
    pub(in crate::presence) fn page(&self, since: Option<u64>, limit: usize, now: u64) -> Page {
        let from = since.unwrap_or(0);
        let mut entries: Vec<_> = self.0.iter().filter(|entry| entry.at >= from).collect();
        // Entries of one millisecond stay together, so that going on at its time neither repeats nor leaves out one.
        let mut next = entries.get(limit).map(|entry| entry.at);
        if let Some(at) = next {
            let end = entries.partition_point(|entry| entry.at < at);
            if end > 0 {
                entries.truncate(end);
            } else {
                entries.retain(|entry| entry.at == at);
                next = self
                    .0
                    .iter()
                    .map(|entry| entry.at)
                    .find(|&later| later > at);
            }
        }
        Page {
            entries: entries.into_iter().cloned().collect(),
            time_in_state: self.time_in_state(from, now),
            next,
        }
    }

    fn time_in_state(&self, from: u64, now: u64) -> BTreeMap<&'static str, f64> {
        let mut times = BTreeMap::new();
        let ends = self.0.iter().skip(1).map(|entry| entry.at).chain([now]);
        for (entry, end) in self.0.iter().zip(ends) {
            let begin = entry.at.max(from);
            if end > begin {
                let took = Duration::from_millis(end - begin).as_secs_f64();
                *times.entry(entry.shown.as_str()).or_insert(0.0) += took;
            }
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: u64, shown: Status) -> Entry {
        Entry {
            at,
            device: Name::new("d").unwrap(),
            app: Name::new("a").unwrap(),
            old: Status::Offline,
            new: shown,
            reason: None,
            source: Source::Api,
            shown,
        }
    }

    // B40: time in each state can be computed, also for a part of the log.
    #[test]
    fn each_status_lasts_until_the_next_entry() {
        let (mut history, mut total) = (History::default(), 0);
        for (at, status) in [(1_000, Status::Available), (3_000, Status::Busy)] {
            history.push(entry(at, status), &mut total);
        }
        let whole = history.page(None, 10, 10_000).time_in_state;
        assert_eq!(whole, BTreeMap::from([("available", 2.0), ("busy", 7.0)]));
        let part = history.page(Some(2_500), 10, 10_000);
        assert_eq!(part.time_in_state["available"], 0.5);
        assert_eq!(part.entries.len(), 1);
    }

    // B40: a log is bounded, and read page by page without repeating or leaving out an entry.
    #[test]
    fn pages_cover_the_log_once() {
        let (mut history, mut total) = (History::default(), 0);
        for at in 0..2_500u64 {
            history.push(entry(1_000 + at / 3, Status::Away), &mut total);
        }
        assert_eq!((history.len(), total), (LOG_MAX, LOG_MAX));
        let (mut since, mut seen) = (None, 0);
        loop {
            let page = history.page(since, 7, 10_000);
            assert!(page.entries.len() <= 7 && !page.entries.is_empty());
            seen += page.entries.len();
            match page.next {
                Some(next) => since = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, LOG_MAX);
        for at in 0..50 {
            let mut total = ACCOUNT_LOG_MAX;
            history.push(entry(5_000 + at, Status::Away), &mut total);
        }
        assert!(history.len() <= LOG_MAX);
    }
}
