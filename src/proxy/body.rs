//! An answer's body on its way to the client: frame by frame, with back-pressure, nothing held whole.
//!
//! It carries the request's context, and with it the permit, to the last byte or the abort. When a client leaves an answer that
//! its resource wants finished, the rest is drained with the place held. Never reads a byte that nobody asked for.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::context::Context;
use super::decode::{Decoder, Left};
use super::incoming::Broken;
use super::outgoing::{Outgoing, Stopped};
use super::plugin::Stream;
use super::pool;
use super::settings::Departed;
use super::socket::Socket;
use super::upstream::Visit;
use crate::head::Fields;

/// An answer is near completion once no more than this is left of it to read. The gate reads so much at once, and as much lies in
/// the buffers of a connection: what has the place is then the transfer and no longer the work.
const END_MAX: u64 = 64 * 1024;
/// And no more than this part of it: an answer that is short as a whole may be begun long before it is made.
const END_PART: u64 = 10;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The client broke it off.
    #[error("the request's body ended before its end")]
    Client,
    /// The upstream broke it off.
    #[error("the answer's body broke off")]
    Upstream(#[from] Broken),
    /// It is longer than allowed.
    #[error("the body is too long")]
    TooLarge,
    /// The request broke off after its answer began.
    #[error("the request's body broke off")]
    Upload,
    /// Nothing moved for too long.
    #[error("the body stopped moving")]
    Idle,
    /// An operator ended the request.
    #[error("an operator ended the request")]
    Cancelled,
}

/// An upstream's answer on its way to the client.
#[derive(Debug)]
pub(super) struct Answer {
    /// The fields of its head, for a client to whom they are written as they came.
    passed: Option<Box<Fields>>,
    decoder: Decoder,
    /// Goes back to the pool once the body is through.
    socket: Option<Box<Socket>>,
    /// What is left of the request, if the answer came before it was through.
    rest: Option<Box<Outgoing>>,
    visit: Visit,
    departed: Departed,
    /// When the answer's head came, or a frame had to be waited for: when the connection was last known to work.
    moved_at: Instant,
    idle: Option<Pin<Box<Sleep>>>,
    /// With so many bytes left it is near completion, which is told once; 0 where its length is unknown, or it was told.
    end: u64,
    /// How it broke off; told a turn later, so that the client gets what came before.
    broken: Option<BodyError>,
}

/// A response's body.
#[derive(Debug)]
pub(super) struct ResponseBody {
    payload: Payload,
    context: Option<Box<Context>>,
    /// Whether the task that polls it is the one that is woken when an operator ends the request.
    is_watched: bool,
}

#[derive(Debug)]
enum Payload {
    /// What the gate says itself; boxed with its fields, if there are any.
    Own(Option<Bytes>, Option<Box<Fields>>),
    /// Boxed, as a body is moved often.
    Answer(Box<Answer>),
    /// An answer of which a part was read before.
    Behind(Box<(Option<Bytes>, Answer)>),
    /// What a plugin says, as it says it.
    Plugin(Box<dyn Stream>),
}

impl Answer {
    pub(super) fn new(
        decoder: Decoder,
        socket: Box<Socket>,
        rest: Option<Box<Outgoing>>,
        visit: Visit,
        departed: Departed,
        now: Instant,
    ) -> Self {
        let socket = Some(socket);
        let end = match decoder.left {
            Left::Bytes(length) => (length / END_PART).min(END_MAX),
            _ => 0,
        };
        let mut answer = Self {
            passed: None,
            decoder,
            socket,
            rest,
            visit,
            departed,
            moved_at: now,
            idle: None,
            end,
            broken: None,
        };
        if answer.decoder.is_over() {
            answer.give_back();
        }
        answer
    }

    /// Takes over the fields of its head, to be written as they came.
    pub(super) fn passes(&mut self, fields: Box<Fields>) {
        self.passed = Some(fields);
    }

    /// The answer is through: the connection is free for the next request, if both sides have said all they had to say.
    fn give_back(&mut self) {
        let is_free = self.decoder.is_reusable && self.rest.take().is_none();
        if let Some(socket) = self
            .socket
            .take()
            .filter(|socket| is_free && socket.unused().is_empty())
        {
            pool::give(socket, &self.visit, self.moved_at);
        }
    }

    fn is_over(&self) -> bool {
        self.socket.is_none()
    }

    /// Copies what is left if that is short and was read whole with the head, as most bodies are; tells how long it was.
    fn copy_rest(&mut self, out: &mut Vec<u8>) -> Option<usize> {
        let Left::Bytes(left) = self.decoder.left else {
            return None;
        };
        let is_plain = self.rest.is_none() && self.broken.is_none() && self.idle.is_none();
        let left = usize::try_from(left).ok().filter(|_| is_plain)?;
        let socket = self.socket.as_mut()?;
        out.extend_from_slice(socket.unused().get(..left)?);
        socket.consume(left);
        self.decoder.left = Left::Nothing;
        self.give_back();
        Some(left)
    }

    /// Whether it has come near completion just now. While the request is still being sent, the upstream may have to hear it.
    fn nears_completion(&mut self) -> bool {
        let is_near = matches!(self.decoder.left, Left::Bytes(left) if left <= self.end);
        let is_near = is_near && self.rest.is_none();
        if is_near {
            self.end = 0;
        }
        is_near
    }

    fn poll_frame(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(broken) = self.broken.take() {
            return Poll::Ready(Some(Err(broken)));
        }
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(None);
        };
        if let Some(rest) = &mut self.rest {
            match rest.poll_write(socket, cx) {
                Poll::Ready(Ok(())) => self.rest = None,
                // Asked for more, a broken body would seem to end; so nobody asks, and the upstream is cut without its end.
                Poll::Ready(Err(Stopped::Body)) => {
                    (self.rest, self.decoder.is_reusable) = (None, false);
                    self.broken = Some(BodyError::Upload);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // The answer counts, whatever becomes of the request; but the connection is not to be used again.
                Poll::Ready(Err(Stopped::Upstream)) => {
                    (self.rest, self.decoder.is_reusable) = (None, false);
                }
                Poll::Pending => {}
            }
        }
        match self.decoder.poll_frame(socket, cx) {
            Poll::Ready(Some(Err(error))) => {
                self.broken = Some(error.into());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(frame) => {
                if self.idle.take().is_some() {
                    self.moved_at = self.visit.clock().now();
                }
                if frame.is_none() || self.decoder.is_over() {
                    self.give_back();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Poll::Pending => {
                let idle_timeout = self.visit.settings.idle_timeout;
                let idle = self
                    .idle
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(idle_timeout)));
                ready!(idle.as_mut().poll(cx));
                // What is left of the request may have moved meanwhile.
                let upload = self.rest.as_ref().and_then(|rest| rest.body().upload());
                let due = upload.map(|upload| (upload.progress().0 + idle_timeout).into());
                if let Some(due) = due.filter(|due| *due > idle.deadline()) {
                    idle.as_mut().reset(due);
                    ready!(idle.as_mut().poll(cx));
                }
                Poll::Ready(Some(Err(BodyError::Idle)))
            }
        }
    }
}

impl ResponseBody {
    /// What the gate says itself.
    pub(super) fn own(bytes: Bytes, context: Option<Box<Context>>) -> Self {
        Self {
            payload: Payload::Own(Some(bytes), None),
            context,
            is_watched: false,
        }
    }

    /// What the gate says itself, with fields that are written as they are.
    pub(super) fn refusal(bytes: Bytes, fields: Fields, context: Option<Box<Context>>) -> Self {
        Self {
            payload: Payload::Own(Some(bytes), Some(Box::new(fields))),
            context,
            is_watched: false,
        }
    }

    /// The client left: reads the upstream's answer to its end, with the place held. Whoever drains sets the bound.
    pub(super) async fn drain(mut self) {
        let mut held = self.context.take();
        let Some(context) = &mut held else { return };
        context.cut();
        let hangup = context.request.hangup();
        // Dropped before the context: the upstream is cut, and then the place is given back.
        let mut this = std::pin::pin!(self);
        let drained = std::future::poll_fn(|cx| {
            while let Some(Ok(_)) = ready!(this.as_mut().poll_frame(cx)) {}
            Poll::Ready(())
        });
        tokio::select! {
            () = drained => {}
            () = hangup.asked() => {}
        }
    }

    /// Whether an operator has ended the request. The task that polls first is the one that is woken for it: a body that nobody asks for
    /// more, because its client takes nothing, has been asked once.
    fn is_cancelled(&mut self, cx: &TaskContext<'_>) -> bool {
        let Some(context) = &mut self.context else {
            return false;
        };
        if matches!(self.payload, Payload::Own(..)) {
            return false;
        }
        let hangup = context.request.hangup();
        if !std::mem::replace(&mut self.is_watched, true) {
            hangup.register(cx);
        }
        let is_cancelled = hangup.is_asked();
        if is_cancelled {
            context.cut();
        }
        is_cancelled
    }

    /// The fields of the answer's head, where they are no part of the response's own.
    pub(super) fn passed(&self) -> Option<&Fields> {
        match &self.payload {
            Payload::Own(_, fields) => fields.as_deref(),
            Payload::Answer(answer) => answer.passed.as_deref(),
            _ => None,
        }
    }

    /// Writes the whole of an answer that is there already, and says whether it did.
    pub(super) fn copy_rest(&mut self, out: &mut Vec<u8>) -> bool {
        let (Payload::Answer(answer), Some(context)) = (&mut self.payload, &mut self.context)
        else {
            return false;
        };
        if context.request.hangup().is_asked() {
            return false;
        }
        let copied = answer.copy_rest(out);
        context.sent += copied.unwrap_or_default() as u64;
        copied.is_some()
    }

    /// The request's context, for another body.
    pub(super) fn take_context(&mut self) -> Option<Box<Context>> {
        self.context.take()
    }

    /// What is left of an upstream's answer, behind what was read of it.
    pub(super) fn behind(mut self, ahead: Bytes) -> Self {
        let context = self.context.take();
        let payload = match std::mem::replace(&mut self.payload, Payload::Own(None, None)) {
            Payload::Answer(answer) => Payload::Behind(Box::new((Some(ahead), *answer))),
            other => other,
        };
        Self {
            payload,
            context,
            is_watched: false,
        }
    }

    /// What a plugin says bit by bit.
    pub(super) fn stream(stream: Box<dyn Stream>, context: Box<Context>) -> Self {
        Self {
            payload: Payload::Plugin(stream),
            context: Some(context),
            is_watched: false,
        }
    }

    /// An upstream's answer, with the context of its request.
    pub(super) fn answer(answer: Answer, context: Box<Context>) -> Self {
        Self {
            payload: Payload::Answer(Box::new(answer)),
            context: Some(context),
            is_watched: false,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.is_cancelled(cx) {
            return Poll::Ready(Some(Err(BodyError::Cancelled)));
        }
        let (frame, is_near) = match &mut this.payload {
            Payload::Own(bytes, _) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                (bytes.map(|bytes| Ok(Frame::data(bytes))), false)
            }
            Payload::Answer(answer) => {
                let frame = ready!(answer.poll_frame(cx));
                (frame, answer.nears_completion())
            }
            Payload::Behind(held) => {
                if let Some(ahead) = held.0.take() {
                    // It was counted when it was read.
                    return Poll::Ready(Some(Ok(Frame::data(ahead))));
                }
                (ready!(held.1.poll_frame(cx)), false)
            }
            Payload::Plugin(stream) => {
                let piece = ready!(stream.poll_next(cx));
                (piece.map(|bytes| Ok(Frame::data(bytes))), false)
            }
        };
        if let Some(context) = &mut this.context {
            match &frame {
                Some(Ok(frame)) => {
                    context.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if is_near {
                        context.nears_completion();
                    }
                }
                Some(Err(_)) => context.fail(),
                None => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.payload {
            Payload::Own(bytes, _) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Payload::Answer(answer) => answer.is_over(),
            Payload::Behind(held) => held.0.is_none() && held.1.is_over(),
            Payload::Plugin(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.payload {
            Payload::Own(bytes, _) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Payload::Answer(answer) => answer.decoder.size_hint(),
            Payload::Behind(_) | Payload::Plugin(_) => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let Some(mut context) = self.context.take() else {
            return;
        };
        let answer = match &mut self.payload {
            Payload::Answer(answer) => answer,
            Payload::Behind(held) => &mut held.1,
            Payload::Own(..) | Payload::Plugin(_) => {
                if context.request.hangup().is_cut() {
                    context.cut();
                }
                return;
            }
        };
        if answer.is_over() {
            return;
        }
        context.cut();
        let is_orphan = !context.has_failed()
            && !context.request.hangup().is_asked()
            && tokio::runtime::Handle::try_current().is_ok();
        if let (Departed::Finish(bound), true) = (answer.departed, is_orphan) {
            let payload = std::mem::replace(&mut self.payload, Payload::Own(None, None));
            let context = Some(context);
            let orphan = Self {
                payload,
                context,
                is_watched: true,
            };
            tokio::spawn(async move { drop(tokio::time::timeout(bound, orphan.drain()).await) });
        }
    }
}
