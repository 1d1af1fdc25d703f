//! The event stream of the live page: the last minutes once, and then everything once a second.
//!
//! A view is made and written out once for all who listen, and only while somebody does. A listener holds the newest one and
//! nothing behind it: one that is slow misses some, and none can make memory grow. The more listen, the longer the pause, so that
//! a thousand of them cost the gate no more than a page or two. Never on the data plane's threads.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http_body::Frame;
use serde_json::Value;
use tokio::sync::watch;

use super::history::History;
use super::{Operations, overview};

/// Listeners at once.
pub(super) const STREAMS_MAX: usize = 1_024;

/// Those who listen, and what they are told.
#[derive(Debug)]
pub(super) struct Events {
    /// The last minutes.
    pub(super) history: History,
    newest: watch::Sender<Bytes>,
    count: AtomicUsize,
    /// Whether somebody makes the views.
    is_running: parking_lot::Mutex<bool>,
}

/// One listener.
pub(super) struct Listener {
    events: Arc<Events>,
    first: Option<Bytes>,
    next: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            history: History::default(),
            newest: watch::Sender::new(Bytes::new()),
            count: AtomicUsize::new(0),
            is_running: parking_lot::Mutex::new(false),
        }
    }
}

impl Events {
    /// How many listen.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// A new listener; `None` if as many as may be listen already.
    pub(super) fn listen(self: &Arc<Self>, operations: &Arc<dyn Operations>) -> Option<Listener> {
        let more = |count: usize| (count < STREAMS_MAX).then_some(count + 1);
        let order = Ordering::Relaxed;
        self.count.fetch_update(order, order, more).ok()?;
        let history = event("history", &self.history.view());
        let now = event("overview", &overview::overview(&**operations));
        let receiver = self.newest.subscribe();
        self.run(Arc::clone(operations));
        let next = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.changed().await.ok()?;
            let newest = receiver.borrow_and_update().clone();
            Some((newest, receiver))
        });
        Some(Listener {
            events: Arc::clone(self),
            first: Some([history, now].concat().into()),
            next: Box::pin(next),
        })
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
                let view = AssertUnwindSafe(|| overview::overview(&*operations));
                if let Ok(view) = std::panic::catch_unwind(view) {
                    events.newest.send_replace(event("overview", &view));
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
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let next = self.next.as_mut().poll_next(cx);
        next.map(|view| view.map(|view| Ok(Frame::data(view))))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.events.count.fetch_sub(1, Ordering::Relaxed);
    }
}
