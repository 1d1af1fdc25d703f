//! The access log: one line a request, written by a thread of its own.
//!
//! Successes may be sampled; what was refused, failed or cut short is always written. Requests hand over a record through a
//! bounded queue and go on; when the writer is behind or the disk is full, lines are dropped and counted. A query is never logged: it may hold secrets. Never blocks a request.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::line::Writer;
use super::record::Record;
use super::share::Share;
use crate::clock::Clock;

/// Lines that may wait for the writer: a tenth of a second at 80,000 requests a second.
const QUEUE: usize = 8 * 1024;
/// At the end, the writer has so long for what is queued.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// How a line looks.
    pub format: LogFormat,
    /// Which successes are written.
    pub share: Share,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// In columns, for people; with colours unless they are unwanted.
    Human {
        /// Where the target is a terminal.
        may_colour: bool,
    },
}

/// The way to the writer.
#[derive(Debug, Default)]
pub struct AccessLog {
    open: ArcSwapOption<Open>,
    /// Hangs up when the writer has written everything.
    written: Mutex<Option<Receiver<()>>>,
    dropped: Arc<AtomicU64>,
}

/// The way to the writer of the settings in force.
#[derive(Debug)]
struct Open {
    sender: SyncSender<Arc<Record>>,
    share: Share,
}

impl AccessLog {
    /// Opens the target and starts writing to it; lines already queued for the one before are still written there.
    /// Called again for the same file, it opens the file anew, as log rotation wants.
    pub fn open(&self, settings: &LogSettings, clock: Clock) -> io::Result<()> {
        let is_terminal = match settings.target {
            LogTarget::Stdout => io::stdout().is_terminal(),
            LogTarget::Stderr => io::stderr().is_terminal(),
            LogTarget::Off | LogTarget::File(_) => false,
        };
        let writer = Writer::new(settings, is_terminal);
        let target: Box<dyn Write + Send> = match &settings.target {
            LogTarget::Off => {
                self.open.store(None);
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
                write_all(&receiver, target, writer, &clock, &dropped);
                drop(done);
            })?;
        let share = settings.share;
        self.open.store(Some(Arc::new(Open { sender, share })));
        *self.written.lock() = Some(written);
        Ok(())
    }

    /// Stops taking records and waits a moment for those handed over to be written.
    pub fn close(&self) {
        self.open.store(None);
        if let Some(written) = self.written.lock().take() {
            // Either the writer is done, or whatever it writes to takes nothing any more.
            let _ = written.recv_timeout(CLOSE_TIMEOUT);
        }
    }

    /// Whether a request is to be written: always if it is a failure, else by the share and its number, if anybody listens.
    pub fn takes(&self, is_failure: bool, number: impl FnOnce() -> u64) -> bool {
        let open = self.open.load();
        open.as_ref()
            .is_some_and(|of| is_failure || of.share.is_all() || of.share.takes(number()))
    }

    /// Hands a record over, or drops it.
    pub fn write(&self, record: Arc<Record>) {
        if let Some(open) = &*self.open.load() {
            match open.sender.try_send(record) {
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
    receiver: &Receiver<Arc<Record>>,
    target: Box<dyn Write + Send>,
    writer: Writer,
    clock: &Clock,
    dropped: &AtomicU64,
) {
    let mut target = BufWriter::with_capacity(64 * 1024, target);
    let mut line = Vec::with_capacity(1024);
    while let Ok(first) = receiver.recv() {
        let mut next = Some(first);
        while let Some(record) = next {
            line.clear();
            writer.write(&mut line, &record, clock.unix_time());
            line.push(b'\n');
            if target.write_all(&line).is_err() {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
            next = receiver.try_recv().ok();
        }
        if target.flush().is_err() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
