//! How an operator ends a request that is in progress, wherever it is.
//!
//! One word says what the connection works at, or that it was asked to stop; one slot holds the waker of whoever drives it. An
//! HTTP/1.1 connection has one for all its requests, since it has one of them at a time, and an HTTP/2 stream has its own. So a
//! request pays two stores, and whoever waits registers once. A request that has ended meanwhile is never mistaken for the next
//! one: asking is a compare-exchange on its number. Never ends anything itself: those who drive the request look and do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// Nothing is in progress.
const IDLE: u64 = 0;
/// What is in progress is to be answered by the gate, if it still can.
const REFUSE: u64 = u64::MAX - 1;
/// What is in progress is to be broken off.
const CUT: u64 = u64::MAX;

/// The word and the waker.
#[derive(Debug, Default)]
pub struct Hangup {
    word: AtomicU64,
    waker: AtomicWaker,
}

impl Hangup {
    /// A request of that number begins; if an earlier one was cut, that stays, for the connection is on its way out.
    pub fn begin(&self, id: u64) {
        let _ = self
            .word
            .compare_exchange(IDLE, id, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The request of that number is over. After a refusal its connection serves on; after a cut it does not.
    pub fn end(&self, id: u64) {
        let to_idle = |from| {
            self.word
                .compare_exchange(from, IDLE, Ordering::Relaxed, Ordering::Relaxed)
        };
        let _ = to_idle(id).or_else(|_| to_idle(REFUSE));
    }

    /// Asks for the end of the request of that number: by an answer if it has none yet, else by breaking it off. False if it is over.
    pub fn ask(&self, id: u64, has_answer: bool) -> bool {
        let wanted = if has_answer { CUT } else { REFUSE };
        let from = |known| {
            self.word
                .compare_exchange(known, wanted, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        // One who was to be refused may have been answered just before; then asking again breaks it off.
        let is_asked = from(id) || has_answer && from(REFUSE);
        if is_asked {
            self.waker.wake();
        }
        is_asked
    }

    /// Whether its request is to end in any way.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.word.load(Ordering::Acquire) >= REFUSE
    }

    /// Whether its request is to be broken off.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.word.load(Ordering::Acquire) == CUT
    }

    /// Has the task woken when it is asked. The latest one to register is the one that is woken.
    pub fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    /// Ready once its request is to end.
    pub fn poll_asked(&self, cx: &Context<'_>) -> Poll<()> {
        self.register(cx);
        if self.is_asked() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Waits until its request is to end.
    pub async fn asked(&self) {
        std::future::poll_fn(|cx| self.poll_asked(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // G10: an operator who is late ends nothing else.
    #[test]
    fn asking_ends_the_request_that_was_meant_and_no_later_one() {
        let hangup = Hangup::default();
        hangup.begin(7);
        hangup.end(7);
        hangup.begin(8);
        assert!(!hangup.ask(7, true));
        assert!(!hangup.is_asked());
        assert!(hangup.ask(8, false));
        assert!(hangup.is_asked() && !hangup.is_cut());
        hangup.end(8);
        hangup.begin(8);
        assert!(!hangup.is_asked(), "who was refused may ask again");
        assert!(hangup.ask(8, false));
        assert!(hangup.ask(8, true) && hangup.is_cut());
        hangup.end(8);
        hangup.begin(9);
        assert!(hangup.is_cut(), "its connection is on its way out");
    }
}
