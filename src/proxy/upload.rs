//! A request's body on its way: frame by frame, with back-pressure, nothing held whole.
//!
//! It counts its bytes and notes when a frame last came and why it ended, for whoever waits for the answer meanwhile. What is
//! left of an upload that nobody wants any more is read for a moment, so that the client sees its answer and not a reset. Never
//! reads a byte that nobody asked for.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::body::BodyError;
use super::http1::LaneBody;
use crate::clock::Clock;

/// Of a refused or abandoned upload, so much is read before the connection is given up: without it the kernel's
/// reset can destroy the answer on its way.
const DRAINED_BYTES: usize = 256 * 1024;
/// What is read of a body while its request waits for its places.
const AHEAD_MAX: usize = 64 * 1024;
/// And for so long.
const DRAINED_FOR: Duration = Duration::from_secs(1);

/// What the waiting side may know about an upload.
#[derive(Debug)]
pub(super) struct Upload {
    clock: Clock,
    started: Instant,
    /// Nanoseconds after `started` at which a frame last came.
    moved: AtomicU64,
    is_done: AtomicBool,
    fault: AtomicU8,
}

/// Why an upload failed on the client's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum UploadFault {
    Broken = 1,
    TooLarge = 2,
}

impl Upload {
    fn new(clock: Clock) -> Self {
        let started = clock.now();
        Self {
            clock,
            started,
            moved: AtomicU64::new(0),
            is_done: AtomicBool::new(false),
            fault: AtomicU8::new(0),
        }
    }

    fn touch(&self, is_done: bool) {
        let nanos = self
            .clock
            .now()
            .saturating_duration_since(self.started)
            .as_nanos();
        self.moved
            .store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.is_done.store(is_done, Ordering::Relaxed);
    }

    fn fail(&self, fault: UploadFault) {
        self.fault.store(fault as u8, Ordering::Relaxed);
    }

    /// When a frame last came, and whether it was the last one.
    pub(super) fn progress(&self) -> (Instant, bool) {
        let moved = self.started + Duration::from_nanos(self.moved.load(Ordering::Relaxed));
        (moved, self.is_done.load(Ordering::Relaxed))
    }

    pub(super) fn fault(&self) -> Option<UploadFault> {
        match self.fault.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(UploadFault::Broken),
            _ => Some(UploadFault::TooLarge),
        }
    }
}

/// A request's body as its connection hands it out.
#[derive(Debug)]
pub(super) enum Inbound {
    Http1(LaneBody),
    Http2(Incoming),
}

impl From<LaneBody> for Inbound {
    fn from(body: LaneBody) -> Self {
        Self::Http1(body)
    }
}

impl From<Incoming> for Inbound {
    fn from(body: Incoming) -> Self {
        Self::Http2(body)
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx),
            Self::Http2(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError::Client)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// A request's body on its way to the upstream; most requests have none, and a request is moved often.
#[derive(Debug, Default)]
pub(super) struct RequestBody(Option<Box<Sending>>);

#[derive(Debug)]
struct Sending {
    incoming: Inbound,
    /// Frames that were read before the request was sent on.
    ahead: VecDeque<Frame<Bytes>>,
    left: Option<u64>,
    upload: Arc<Upload>,
    /// Whether reading makes the connection ask the client to continue, so that it must not happen without need.
    is_expected: bool,
    is_touched: bool,
}

impl RequestBody {
    /// A body that may be up to `max` bytes long. With `is_expected` the client waits to be asked for it.
    pub(super) fn new(
        incoming: Inbound,
        max: Option<u64>,
        is_expected: bool,
        clock: &Clock,
    ) -> Self {
        if incoming.is_end_stream() {
            return Self::default();
        }
        Self(Some(Box::new(Sending {
            incoming,
            ahead: VecDeque::new(),
            left: max,
            upload: Arc::new(Upload::new(clock.clone())),
            is_expected,
            is_touched: false,
        })))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn upload(&self) -> Option<Arc<Upload>> {
        self.0.as_ref().map(|sending| Arc::clone(&sending.upload))
    }

    /// Looks at what has arrived of a chunked body, so that framing that is broken from the start never reaches the
    /// upstream. Waits for nothing: one turn of the connection's task decodes what lies in its buffer.
    pub(super) async fn peek(&mut self) -> Result<(), UploadFault> {
        let is_unseen =
            |sending: &&mut Box<Sending>| !sending.is_expected && sending.ahead.is_empty();
        let Some(sending) = self.0.as_mut().filter(is_unseen) else {
            return Ok(());
        };
        let mut turns = 0;
        let seen = std::future::poll_fn(|cx| {
            let frame = sending.poll_frame(cx);
            if frame.is_ready() || turns > 0 {
                return Poll::Ready(frame);
            }
            turns += 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        match seen {
            Poll::Ready(Some(Err(_))) => {
                let fault = sending.upload.fault().unwrap_or(UploadFault::Broken);
                self.0 = None;
                Err(fault)
            }
            Poll::Ready(Some(Ok(frame))) => {
                sending.ahead.push_back(frame);
                Ok(())
            }
            Poll::Ready(None) | Poll::Pending => Ok(()),
        }
    }
}

impl RequestBody {
    /// Reads what comes while the request waits for its places, up to [`AHEAD_MAX`]: only of a body that was read can the
    /// end of the connection behind it be seen. Ends with what is wrong with the body, and else never.
    pub(super) async fn read_ahead(&mut self) -> UploadFault {
        let Some(sending) = self.0.as_mut().filter(|sending| !sending.is_expected) else {
            return std::future::pending().await;
        };
        let held = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len);
        let mut length: usize = sending.ahead.iter().map(held).sum();
        std::future::poll_fn(|cx| {
            while length < AHEAD_MAX {
                match ready!(sending.poll_incoming(cx)) {
                    Some(Ok(frame)) => {
                        length += held(&frame);
                        sending.ahead.push_back(frame);
                    }
                    Some(Err(_)) => {
                        let fault = sending.upload.fault().unwrap_or(UploadFault::Broken);
                        return Poll::Ready(fault);
                    }
                    None => return Poll::Pending,
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl RequestBody {
    /// Reads the body to its end and keeps it to be sent on, if that comes within so many bytes.
    pub(super) async fn hold(&mut self, max: usize) -> Result<Bytes, UploadFault> {
        let Some(sending) = self.0.as_mut() else {
            return Ok(Bytes::new());
        };
        let (mut whole, mut trailers) = (BytesMut::new(), None);
        while let Some(frame) = std::future::poll_fn(|cx| sending.poll_frame(cx)).await {
            let Ok(frame) = frame else {
                return Err(sending.upload.fault().unwrap_or(UploadFault::Broken));
            };
            match frame.into_data() {
                Ok(data) if whole.len() + data.len() > max => return Err(UploadFault::TooLarge),
                Ok(data) => whole.extend_from_slice(&data),
                Err(frame) => trailers = Some(frame),
            }
        }
        // One piece again, however many it came in.
        let whole = whole.freeze();
        let data = Some(&whole).filter(|whole| !whole.is_empty());
        sending.ahead.extend(data.cloned().map(Frame::data));
        sending.ahead.extend(trailers);
        Ok(whole)
    }
}

impl Sending {
    fn poll_frame(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.ahead.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.poll_incoming(cx),
        }
    }

    fn poll_incoming(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.is_touched = true;
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(left) = self.left {
                    let Some(left) = left.checked_sub(length) else {
                        self.upload.fail(UploadFault::TooLarge);
                        return Poll::Ready(Some(Err(BodyError::TooLarge)));
                    };
                    self.left = Some(left);
                }
                self.upload.touch(self.incoming.is_end_stream());
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.upload.fail(UploadFault::Broken);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.upload.touch(true);
                Poll::Ready(None)
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0
            .as_mut()
            .map_or(Poll::Ready(None), |sending| sending.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        let is_over =
            |sending: &Sending| sending.ahead.is_empty() && sending.incoming.is_end_stream();
        self.0.as_ref().is_none_or(|sending| is_over(sending))
    }

    fn size_hint(&self) -> SizeHint {
        // Of what was read ahead nobody keeps the sum: the head says how long the body is.
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(sending) if !sending.ahead.is_empty() => SizeHint::default(),
            Some(sending) => sending.incoming.size_hint(),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(sending) = self.0.take() else { return };
        let is_over = sending.incoming.is_end_stream() || sending.upload.fault().is_some();
        if is_over || (sending.is_expected && !sending.is_touched) {
            return;
        }
        if tokio::runtime::Handle::try_current().is_ok() {
            tokio::spawn(drain_upload(sending.incoming));
        }
    }
}

/// Reads on for a moment, so that the client gets to see the answer it was given.
async fn drain_upload(mut incoming: Inbound) {
    let mut left = DRAINED_BYTES;
    let drain = async {
        while let Some(Ok(frame)) = incoming.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else {
                return;
            };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(DRAINED_FOR, drain).await;
}
