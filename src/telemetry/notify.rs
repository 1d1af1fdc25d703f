//! What became of notifications about limits.
//!
//! Written once a delivery, so plain counters do. Never counts what was never begun: that is the domain's to know.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many were taken, and how many were not.
#[derive(Debug, Default)]
pub struct NotifyStats {
    delivered: AtomicU64,
    failed: AtomicU64,
}

impl NotifyStats {
    /// Counts the end of one delivery.
    pub fn count(&self, is_delivered: bool) {
        let counter = if is_delivered {
            &self.delivered
        } else {
            &self.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were delivered, and how many failed.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.delivered), of(&self.failed))
    }
}
