//! The event stream of the live page: the last minutes once, and then everything once a second.
//!
//! A view is made and written out once for all who listen, and only while somebody does. A listener holds the newest one and
//! nothing behind it: one that is slow misses some, and none can make memory grow. The more listen, the longer the pause, so that
//! a thousand of them cost the gate no more than a page or two. Never on the data plane's threads.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use http_body::Frame;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use super::history::History;
use super::{Operations, overview};

/// Listeners at once.
pub(super) const STREAMS_MAX: usize = 1_024;

/// A view that is no older serves the next one who comes, too.
const FRESH: Duration = Duration::from_secs(1);

/// Those who listen, and what they are told.
#[derive(Debug)]
pub(super) struct Events {
    /// The last minutes.
    pub(super) history: History,
    newest: watch::Sender<Bytes>,
    /// The newest view, and when it was made.
    made: Mutex<Option<(Instant, Bytes)>>,
    count: AtomicUsize,
    /// Changes when those who listen have to show anew that they may.
    turn: AtomicU64,
    /// Whether somebody makes the views.
    is_running: Mutex<bool>,
}

/// A place among those who listen, given back when dropped.
struct Seat(Arc<Events>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One listener.
pub(super) struct Listener {
    first: std::array::IntoIter<Bytes, 2>,
    next: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            history: History::default(),
            newest: watch::Sender::new(Bytes::new()),
            made: Mutex::default(),
            count: AtomicUsize::new(0),
            turn: AtomicU64::new(0),
            is_running: Mutex::new(false),
        }
    }
}

impl Events {
    /// How many listen.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Ends all streams at their next view: what they were let in by holds no longer. Pages come back by themselves.
    pub(super) fn end_all(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
        *self.made.lock() = None;
    }

    /// A new listener; `None` if as many as may be listen already.
    pub(super) fn listen(self: &Arc<Self>, operations: &Arc<dyn Operations>) -> Option<Listener> {
        let more = |count: usize| (count < STREAMS_MAX).then_some(count + 1);
        let order = Ordering::Relaxed;
        self.count.fetch_update(order, order, more).ok()?;
        let seat = Seat(Arc::clone(self));
        let first = [
            self.history.shown(|view| event("history", view)),
            self.view(&**operations),
        ];
        let receiver = self.newest.subscribe();
        self.run(Arc::clone(operations));
        let turn = self.turn.load(Ordering::Relaxed);
        let listening = (receiver, seat);
        let next =
            futures_util::stream::unfold(listening, move |(mut receiver, seat)| async move {
                receiver.changed().await.ok()?;
                if seat.0.turn.load(Ordering::Relaxed) != turn {
                    return None;
                }
                let newest = receiver.borrow_and_update().clone();
                Some((newest, (receiver, seat)))
            });
        Some(Listener {
            first: first.into_iter(),
            next: Box::pin(next),
        })
    }

    /// The newest view, made anew if it is not fresh.
    fn view(&self, operations: &dyn Operations) -> Bytes {
        let now = operations.now();
        let mut made = self.made.lock();
        if let Some((at, view)) = &*made
            && now.saturating_duration_since(*at) < FRESH
        {
            return view.clone();
        }
        let view = event("overview", &overview::overview(operations));
        *made = Some((now, view.clone()));
        view
    }

    /// Makes views until nobody listens any more.
    fn run(self: &Arc<Self>, operations: Arc<dyn Operations>) {
        if std::mem::replace(&mut *self.is_running.lock(), true) {
            return;
        }
        let events = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause(events.count())).await;
                let mut is_running = events.is_running.lock();
                if events.count() == 0 {
                    *is_running = false;
                    return;
                }
                drop(is_running);
                // Caught, as a view that cannot be made once must not be the last one.
                let view = AssertUnwindSafe(|| events.view(&*operations));
                if let Ok(view) = std::panic::catch_unwind(view) {
                    events.newest.send_replace(view);
                }
            }
        });
    }
}

/// How long between two views.
fn pause(listeners: usize) -> Duration {
    Duration::from_secs(match listeners {
        ..=50 => 1,
        51..=250 => 2,
        _ => 5,
    })
}

/// One event as <https://html.spec.whatwg.org/multipage/server-sent-events.html> wants it; JSON has no line end of its own.
fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

impl Stream for Listener {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.next() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let next = self.next.as_mut().poll_next(cx);
        next.map(|view| view.map(|view| Ok(Frame::data(view))))
    }
}
