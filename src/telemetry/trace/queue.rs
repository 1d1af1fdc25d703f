//! The way of finished requests to whoever exports their spans.
//!
//! Bounded: when the exporter is behind, spans are dropped and counted. The exporter looks by itself a few times a second, so that
//! handing over wakes nobody, except when a batch has gathered meanwhile. Never blocks a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::super::record::Record;
use super::span;

/// Requests that may wait for the exporter. It looks ten times a second, so this is enough for 40,000 recorded requests a second.
/// Each may keep the buffer that its head was read into, `max_head` at most, until the exporter has looked.
const QUEUE: usize = 4 * 1024;
/// So many at once are worth waking the exporter for.
const CROWD: usize = QUEUE / 4;

/// The way to the exporter.
#[derive(Debug)]
pub struct Spans {
    sender: mpsc::Sender<Arc<Record>>,
    receiver: Mutex<mpsc::Receiver<Arc<Record>>>,
    crowded: Notify,
    dropped: AtomicU64,
}

impl Default for Spans {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self {
            sender,
            receiver: Mutex::new(receiver),
            crowded: Notify::new(),
            dropped: AtomicU64::new(0),
        }
    }
}

impl Spans {
    /// Hands a record over, or drops its spans.
    pub fn hand_over(&self, record: Arc<Record>) {
        match self.sender.try_send(record) {
            Ok(()) => {
                if self.sender.capacity() == QUEUE - CROWD {
                    self.crowded.notify_one();
                }
            }
            Err(full) => self.drop_spans(span::count(&full.into_inner())),
        }
    }

    /// Counts spans that reach no collector.
    pub fn drop_spans(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Spans dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The next record that waits, if one does.
    pub fn take(&self) -> Option<Arc<Record>> {
        self.receiver.lock().try_recv().ok()
    }

    /// Waits until many have gathered.
    pub async fn crowded(&self) {
        self.crowded.notified().await;
    }
}
