//! The access log: one line of JSON a request, written by a thread of its own.
//!
//! Requests hand over a record through a bounded queue and go on; when the writer is behind or the disk is full, lines
//! are dropped and counted. A query is never logged: it may hold secrets. Never blocks a request.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use serde::Serialize;

use super::record::Record;
use crate::clock::Clock;

/// Lines that may wait for the writer: a tenth of a second at 80,000 requests a second.
const QUEUE: usize = 8 * 1024;
/// At the end, the writer has so long for what is queued.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest path that is written, in bytes.
const PATH_MAX: usize = 2 * 1024;

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// This file, appended to.
    File(PathBuf),
}

/// What the access log is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Where it goes.
    pub target: LogTarget,
}

/// The way to the writer.
#[derive(Debug, Default)]
pub struct AccessLog {
    sender: ArcSwapOption<SyncSender<Box<Record>>>,
    /// Hangs up when the writer has written everything.
    written: Mutex<Option<Receiver<()>>>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens the target and starts writing to it; lines already queued for the one before are still written there.
    /// Called again for the same file, it opens the file anew, as log rotation wants.
    pub fn open(&self, settings: &LogSettings, clock: Clock) -> io::Result<()> {
        let target: Box<dyn Write + Send> = match &settings.target {
            LogTarget::Off => {
                self.sender.store(None);
                return Ok(());
            }
            LogTarget::Stdout => Box::new(io::stdout()),
            LogTarget::Stderr => Box::new(io::stderr()),
            LogTarget::File(path) => {
                Box::new(OpenOptions::new().create(true).append(true).open(path)?)
            }
        };
        let (sender, receiver) = sync_channel(QUEUE);
        let dropped = Arc::clone(&self.dropped);
        let (done, written) = sync_channel(0);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                write_all(&receiver, target, &clock, &dropped);
                drop(done);
            })?;
        self.sender.store(Some(Arc::new(sender)));
        *self.written.lock() = Some(written);
        Ok(())
    }

    /// Stops taking records and waits a moment for those handed over to be written.
    pub fn close(&self) {
        self.sender.store(None);
        if let Some(written) = self.written.lock().take() {
            // Either the writer is done, or whatever it writes to takes nothing any more.
            let _ = written.recv_timeout(CLOSE_TIMEOUT);
        }
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.sender.load().is_some()
    }

    /// Hands a record over, or drops it.
    pub fn write(&self, record: Box<Record>) {
        if let Some(sender) = &*self.sender.load() {
            match sender.try_send(record) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Lines dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Writes until the last sender is gone; flushes whenever nothing waits.
fn write_all(
    receiver: &Receiver<Box<Record>>,
    target: Box<dyn Write + Send>,
    clock: &Clock,
    dropped: &AtomicU64,
) {
    let mut target = BufWriter::with_capacity(64 * 1024, target);
    let mut line = Vec::with_capacity(1024);
    while let Ok(first) = receiver.recv() {
        let mut next = Some(first);
        while let Some(record) = next {
            line.clear();
            let written = serde_json::to_writer(&mut line, &Line::new(&record, clock))
                .map_err(io::Error::from)
                .and_then(|()| {
                    line.push(b'\n');
                    target.write_all(&line)
                });
            if written.is_err() {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
            next = receiver.try_recv().ok();
        }
        if target.flush().is_err() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One line, in the order in which people read it. Times are seconds.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: f64,
    status: u16,
    method: &'a str,
    path: &'a str,
    account: &'a str,
    resource: &'a str,
    upstream: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    decision: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_reject: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates_would_reject: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_wait: Option<f64>,
    duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_duration: Option<f64>,
    bytes: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    protocol: &'a str,
    request_id: &'a str,
}

impl<'a> Line<'a> {
    fn new(record: &'a Record, clock: &Clock) -> Self {
        let request = &record.request;
        let path = request.path();
        let round = |seconds: f64| (seconds * 1e6).round() / 1e6;
        Self {
            time: round(clock.unix_time().as_secs_f64()),
            status: record.status,
            method: request.method.as_str(),
            path: &path[..path.floor_char_boundary(PATH_MAX)],
            account: request.account.as_str(),
            resource: &request.resource,
            upstream: &request.upstream,
            endpoint: record.endpoint.as_deref(),
            decision: record.decision.as_str(),
            reason: record.reason,
            limit: record.limit.as_deref(),
            would_reject: record.would_reject.as_deref(),
            candidates_would_reject: record
                .candidates_would_reject
                .iter()
                .map(|name| &**name)
                .collect(),
            mark: record.mark.as_deref(),
            queue_wait: record.queue_wait.map(|took| round(took.as_secs_f64())),
            duration: round(record.duration.as_secs_f64()),
            upstream_duration: record.upstream.map(|took| round(took.as_secs_f64())),
            bytes: record.bytes,
            cut: record.is_cut,
            client: record.client.map(|address| address.to_string()),
            protocol: record.protocol,
            request_id: std::str::from_utf8(request.request_id.as_bytes()).unwrap_or_default(),
        }
    }
}
