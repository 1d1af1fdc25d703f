//! The way of a request's body from its connection to whoever reads it: one frame at a time.
//!
//! The connection reads from its socket only what is asked for, so that an upload stands still where nobody takes it. The reader is
//! mostly polled by the connection's own task, and may be a task of its own, which goes on for a moment when the answer is out. Never
//! holds more than one frame.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::super::body::BodyError;
use super::super::decode::Left;

/// What the two sides share.
#[derive(Debug)]
pub(super) struct Lane(Mutex<State>);

#[derive(Debug)]
struct State {
    frame: Option<Result<Frame<Bytes>, BodyError>>,
    /// The reader waits for a frame.
    is_wanted: bool,
    /// No frame comes any more.
    is_over: bool,
    /// The reader is gone.
    is_left: bool,
    reader: Option<Waker>,
    connection: Option<Waker>,
    /// How much is still to come, as far as it is known.
    left: Left,
}

/// What the connection is to do about the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Read the next frame.
    Frame,
    /// Nothing at this moment.
    Nothing,
    /// Nobody reads it any more.
    Left,
}

impl Lane {
    /// The connection has polled the reader, and is woken from now on when it wants something.
    pub(super) fn asked(&self, cx: &Context<'_>) -> Asked {
        let mut state = self.0.lock();
        // Also while it reads: the reader may leave meanwhile.
        match &mut state.connection {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
        if state.is_left {
            Asked::Left
        } else if state.is_wanted && state.frame.is_none() {
            Asked::Frame
        } else {
            Asked::Nothing
        }
    }

    /// Hands over a frame, or why there is none. A reader of the connection's own task is polled by it.
    pub(super) fn put(
        &self,
        frame: Option<Result<Frame<Bytes>, BodyError>>,
        left: Left,
        own: Option<&Waker>,
    ) {
        let mut state = self.0.lock();
        state.is_over = frame.is_none() || left == Left::Nothing || matches!(frame, Some(Err(_)));
        state.frame = frame;
        state.left = left;
        state.is_wanted = false;
        let reader = state.reader.take();
        drop(state);
        let reader = reader.filter(|reader| own.is_none_or(|own| !own.will_wake(reader)));
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The reader's end.
#[derive(Debug)]
pub(in super::super) struct LaneBody(Arc<Lane>);

/// Both ends of a new lane.
pub(super) fn lane(left: Left) -> (Arc<Lane>, LaneBody) {
    let state = State {
        frame: None,
        is_wanted: false,
        is_over: false,
        is_left: false,
        reader: None,
        connection: None,
        left,
    };
    let lane = Arc::new(Lane(Mutex::new(state)));
    (Arc::clone(&lane), LaneBody(lane))
}

/// The connection is gone: what has not come will not come.
#[derive(Debug)]
pub(super) struct Feed(pub(super) Arc<Lane>);

impl Drop for Feed {
    fn drop(&mut self) {
        let is_over = self.0.0.lock().is_over;
        if !is_over {
            self.0
                .put(Some(Err(BodyError::Client)), Left::Nothing, None);
        }
    }
}

impl Body for LaneBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.0.0.lock();
        if let Some(frame) = state.frame.take() {
            return Poll::Ready(Some(frame));
        }
        if state.is_over {
            return Poll::Ready(None);
        }
        state.is_wanted = true;
        match &mut state.reader {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
        // The connection's own task looks by itself for what became of the poll.
        let connection = state.connection.take();
        let connection = connection.filter(|connection| !connection.will_wake(cx.waker()));
        drop(state);
        if let Some(connection) = connection {
            connection.wake();
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.0.lock();
        state.is_over && state.frame.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.0.lock().left {
            Left::Bytes(left) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for LaneBody {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.is_left = true;
        let connection = state.connection.take();
        drop(state);
        if let Some(connection) = connection {
            connection.wake();
        }
    }
}
