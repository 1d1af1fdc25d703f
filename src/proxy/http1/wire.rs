//! The client's side of the bytes: what was read and not used, and what is to be written.
//!
//! A head and a small body lie in one buffer and go out by one write; a large piece of a body is written from where it lies. Never
//! holds more than one such piece.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::activity::Activity;
use super::super::decode::Decoder;
use super::super::gather::write_gathered;
use super::super::incoming::Broken;
use super::super::socket::Buffered;
use super::reply::{self, Follows};

/// A piece of a body that is longer is not copied.
const COPIED_MAX: usize = 4 * 1024;
/// What is written at once, as far as bodies come in small pieces.
const ENOUGH: usize = 32 * 1024;
/// A buffer that has grown beyond this is given back between two answers.
const KEPT_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Wire<S> {
    /// Taken when the connection switches to another protocol.
    io: Option<Buffered<S>>,
    max_head: usize,
    /// What is written first.
    pub(super) out: Vec<u8>,
    written: usize,
    /// Then this piece, and what stands behind it.
    piece: Bytes,
    behind: &'static [u8],
    /// Something was written that the stream may still hold back: TLS takes more than the socket does.
    is_held_back: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, prefix: &[u8], max_head: usize) -> Self {
        Self {
            io: Some(Buffered::new(stream, prefix)),
            max_head,
            out: Vec::new(),
            written: 0,
            piece: Bytes::new(),
            behind: b"",
            is_held_back: false,
        }
    }

    /// Bytes that were read and not used.
    pub(super) fn unused(&self) -> &[u8] {
        self.io.as_ref().map_or(&[], Buffered::unused)
    }

    pub(super) fn consume(&mut self, count: usize) {
        if let Some(io) = &mut self.io {
            io.consume(count);
        }
    }

    /// Forgets what was read.
    pub(super) fn forget(&mut self) {
        self.consume(self.unused().len());
    }

    /// Whether no more is read until something was used.
    pub(super) fn is_full(&self) -> bool {
        self.unused().len() >= self.max_head
    }

    /// Reads more; `Ok(0)` is the end, or a buffer that is full.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Some(io) => io.poll_fill(cx, self.max_head),
            None => Poll::Ready(Ok(0)),
        }
    }

    /// The next frame of a request's body.
    pub(super) fn poll_frame(
        &mut self,
        decoder: &mut Decoder,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.io {
            Some(io) => decoder.poll_frame(io, cx),
            None => Poll::Ready(Some(Err(Broken::Ended))),
        }
    }

    /// Whether more may be put behind what is to be written.
    pub(super) fn has_room(&self) -> bool {
        self.piece.is_empty() && self.behind.is_empty() && self.out.len() < ENOUGH
    }

    /// Puts a piece of a body behind what is to be written.
    pub(super) fn push(&mut self, data: Bytes, follows: Follows) {
        if data.is_empty() {
            // An empty chunk would be the last one.
            return;
        }
        let behind = reply::begin_piece(&mut self.out, follows, &data);
        if data.len() <= COPIED_MAX {
            self.out.extend_from_slice(&data);
            self.out.extend_from_slice(behind);
        } else {
            (self.piece, self.behind) = (data, behind);
        }
    }

    /// Writes all there is to write; a client that takes nothing is marked.
    pub(super) fn poll_flush(
        &mut self,
        activity: &Activity,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while self.written < self.out.len() || !self.piece.is_empty() || !self.behind.is_empty() {
            let rest = &self.out[self.written..];
            let wrote = if self.piece.is_empty() && self.behind.is_empty() {
                io.stream().poll_write(cx, rest)
            } else {
                let all = [rest, &self.piece, self.behind].map(IoSlice::new);
                write_gathered(io.stream(), cx, &all)
            };
            activity.note_write(wrote.is_pending());
            let mut count = ready!(wrote)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let head = count.min(self.out.len() - self.written);
            self.written += head;
            self.is_held_back = true;
            count -= head;
            let piece = count.min(self.piece.len());
            self.piece.advance(piece);
            self.behind = &self.behind[count - piece..];
        }
        if !self.is_held_back {
            return Poll::Ready(Ok(()));
        }
        let flushed = io.stream().poll_flush(cx);
        activity.note_write(flushed.is_pending());
        ready!(flushed)?;
        self.is_held_back = false;
        self.written = 0;
        self.piece = Bytes::new();
        if self.out.capacity() > KEPT_MAX {
            self.out = Vec::new();
        } else {
            self.out.clear();
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the client that nothing more comes.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => io.stream().poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The stream alone, for another protocol, and what was read of that already.
    pub(super) fn take(&mut self) -> Option<(S, Vec<u8>)> {
        self.io.take().map(Buffered::into_parts)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Waker;

    use tokio::io::ReadBuf;

    use super::*;
    use crate::clock::Clock;

    /// A stream that takes everything at once and lets it go at the third request, as TLS over a full socket.
    #[derive(Debug, Default)]
    struct Holding {
        taken: Vec<u8>,
        flushes: usize,
    }

    impl AsyncRead for Holding {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Holding {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.taken.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            if self.flushes % 3 == 0 {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn an_answer_is_not_written_before_the_stream_has_let_go_of_it() {
        let activity = Activity::new(Clock::manual());
        let mut cx = Context::from_waker(Waker::noop());
        let mut wire = Wire::new(Holding::default(), b"", 8 * 1024);
        let large = Bytes::from(vec![b'x'; COPIED_MAX + 1]);
        for piece in [Bytes::from_static(b"small"), large.clone(), large] {
            wire.push(piece, Follows::Length);
            assert!(!wire.poll_flush(&activity, &mut cx).is_ready());
            assert!(!wire.poll_flush(&activity, &mut cx).is_ready());
            assert!(wire.poll_flush(&activity, &mut cx).is_ready());
            assert!(wire.poll_flush(&activity, &mut cx).is_ready());
        }
        let (stream, _) = wire.take().unwrap();
        assert_eq!(
            (stream.taken.len(), stream.flushes),
            (5 + 2 * (COPIED_MAX + 1), 9)
        );
    }
}
