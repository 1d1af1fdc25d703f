//! What waits to be written to one client: bounded, and woken without a task of its own.
//!
//! Whoever has something to say pushes; the one task that owns the connection takes. A client that does not read gets no more than the
//! bound: who pushes is told, and decides whether the message can wait or the client is to go. Never blocks.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Bytes that may wait for one client.
pub(in crate::presence) const WAITING_MAX: usize = 256 * 1024;

/// Why a connection is closed: the code of RFC 6455 §7.4 (those from 4000 on are ours), and a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// The code.
    pub code: u16,
    /// The word.
    pub reason: &'static str,
}

impl Close {
    /// The client said goodbye.
    pub const NORMAL: Self = Self::new(1000, "bye");
    /// The gate goes down.
    pub const GOING_AWAY: Self = Self::new(1001, "going away");
    /// Against the rules of the protocol.
    pub const POLICY: Self = Self::new(1008, "policy");
    /// A frame that is longer than it may be.
    pub const TOO_BIG: Self = Self::new(1009, "too big");
    /// The client does not read, or comes too early.
    pub const TRY_LATER: Self = Self::new(1013, "try again later");
    /// Another session of the same device and app took its place.
    pub const REPLACED: Self = Self::new(4009, "replaced");
    /// The token ended, or its key went.
    pub const TOKEN_END: Self = Self::new(4001, "token ended");
    /// Nothing was heard for too long.
    pub const SILENT: Self = Self::new(4008, "silent");

    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::presence) enum Next {
    /// A message.
    Text(Utf8Bytes),
    /// The end.
    Close(Close),
}

/// The messages that wait for one client.
#[derive(Debug)]
pub(in crate::presence) struct Outbox {
    state: Mutex<State>,
    waker: AtomicWaker,
    max: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::holding(WAITING_MAX)
    }
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Utf8Bytes>,
    bytes: usize,
    close: Option<Close>,
}

impl Outbox {
    /// One in which so many bytes may wait.
    pub(in crate::presence) fn holding(max: usize) -> Self {
        Self {
            state: Mutex::default(),
            waker: AtomicWaker::new(),
            max,
        }
    }

    /// Adds a message; false if too much waits already. One that is longer than the bound by itself still goes where little waits.
    /// After the end nothing is added, nor is anything missed.
    pub(in crate::presence) fn push(&self, text: Utf8Bytes) -> bool {
        {
            let mut state = self.state.lock();
            if state.close.is_some() {
                return true;
            }
            if !state.has_room() && state.bytes + text.len() > self.max {
                return false;
            }
            state.bytes += text.len();
            state.queue.push_back(text);
        }
        self.waker.wake();
        true
    }

    /// Adds a message that cannot wait; a client that has not read so much is closed. One that is being closed already hears what
    /// was said before, and nothing more.
    pub(in crate::presence) fn say(&self, text: Utf8Bytes) {
        if !self.push(text) && self.state.lock().close.is_none() {
            self.cut(Close::TRY_LATER);
        }
    }

    /// Closes after what waits is written.
    pub(in crate::presence) fn close(&self, close: Close) {
        self.state.lock().close.get_or_insert(close);
        self.waker.wake();
    }

    /// Closes at once; what waits is lost.
    pub(in crate::presence) fn cut(&self, close: Close) {
        {
            let mut state = self.state.lock();
            state.close.get_or_insert(close);
            (state.queue, state.bytes) = (VecDeque::new(), 0);
        }
        self.waker.wake();
    }

    /// Whether a client has read what was written to it, but for a little.
    pub(in crate::presence) fn has_room(&self) -> bool {
        self.state.lock().has_room()
    }

    /// Whether the end was said, though perhaps not written yet.
    pub(in crate::presence) fn is_closing(&self) -> bool {
        self.state.lock().close.is_some()
    }

    /// Bytes that wait.
    pub(in crate::presence) fn waiting(&self) -> usize {
        self.state.lock().bytes
    }

    /// Whether nothing waits.
    pub(in crate::presence) fn is_empty(&self) -> bool {
        self.state.lock().bytes == 0
    }

    /// Whether it is to close at once, without regard to what is being written.
    pub(in crate::presence) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<Close> {
        self.waker.register(cx.waker());
        let state = self.state.lock();
        match state.close {
            Some(close) if state.queue.is_empty() => Poll::Ready(close),
            _ => Poll::Pending,
        }
    }

    /// Takes the next message, or the end.
    pub(in crate::presence) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let next = self.poll_first(cx);
        if let Poll::Ready(Next::Text(_)) = &next {
            self.pop();
        }
        next
    }

    /// The next message, which stays there until it is [taken out](Self::pop), or the end.
    pub(in crate::presence) fn poll_first(&self, cx: &mut Context<'_>) -> Poll<Next> {
        self.waker.register(cx.waker());
        let state = self.state.lock();
        match (state.queue.front(), state.close) {
            (Some(text), _) => Poll::Ready(Next::Text(text.clone())),
            (None, Some(close)) => Poll::Ready(Next::Close(close)),
            (None, None) => Poll::Pending,
        }
    }

    /// Takes the first message out, if it is still there.
    pub(in crate::presence) fn pop(&self) {
        let mut state = self.state.lock();
        let Some(text) = state.queue.pop_front() else {
            return;
        };
        state.bytes -= text.len();
        if state.queue.is_empty() {
            // Most clients are idle most of the time, and there are many.
            state.queue = VecDeque::new();
        }
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.bytes < WAITING_MAX / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn next(outbox: &Outbox) -> Poll<Next> {
        outbox.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_client_that_does_not_read_is_held_to_its_bound_and_then_closed() {
        let outbox = Outbox::default();
        let big = Utf8Bytes::from("x".repeat(WAITING_MAX * 2));
        assert!(outbox.push(big), "a long one goes alone");
        assert!(!outbox.push("more".into()));
        outbox.say("cannot wait".into());
        assert_eq!(next(&outbox), Poll::Ready(Next::Close(Close::TRY_LATER)));
        outbox.say("late".into());
        assert_eq!(next(&outbox), Poll::Ready(Next::Close(Close::TRY_LATER)));
    }

    #[test]
    fn a_long_message_goes_where_little_waits() {
        let outbox = Outbox::default();
        assert!(outbox.push("resync".into()));
        assert!(outbox.push("x".repeat(WAITING_MAX * 2).into()));
        assert!(!outbox.push("more".into()));
    }

    #[test]
    fn what_is_first_stays_until_it_is_taken_out() {
        let outbox = Outbox::default();
        outbox.say("a".into());
        let first = |outbox: &Outbox| outbox.poll_first(&mut Context::from_waker(Waker::noop()));
        for _ in 0..2 {
            assert_eq!(first(&outbox), Poll::Ready(Next::Text("a".into())));
            assert!(!outbox.is_empty());
        }
        outbox.pop();
        assert!(outbox.is_empty() && first(&outbox).is_pending());
    }

    #[test]
    fn what_comes_after_the_end_takes_nothing_of_what_was_before_it() {
        let outbox = Outbox::default();
        outbox.say("why".into());
        outbox.close(Close::TOKEN_END);
        outbox.say("late".into());
        assert_eq!(next(&outbox), Poll::Ready(Next::Text("why".into())));
        assert_eq!(next(&outbox), Poll::Ready(Next::Close(Close::TOKEN_END)));
    }

    #[test]
    fn an_orderly_end_comes_after_what_was_said() {
        let outbox = Outbox::default();
        assert!(next(&outbox).is_pending());
        outbox.say("bye".into());
        outbox.close(Close::GOING_AWAY);
        outbox.say("news that comes too late".into());
        assert_eq!(next(&outbox), Poll::Ready(Next::Text("bye".into())));
        assert_eq!(next(&outbox), Poll::Ready(Next::Close(Close::GOING_AWAY)));
    }
}
