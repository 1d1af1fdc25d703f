//! A connection with the bytes that were read and not yet used; to an upstream by TCP or a Unix socket, or to a client.
//!
//! The buffer is a fixed piece of memory that lives as long as the connection: heads and small bodies are read into it and
//! copied out, large bodies never touch it. Never knows what the bytes mean.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::stream::Stream;

/// What is read ahead: a head of usual length and a small body. Longer heads let it grow.
const BUFFER: usize = 8 * 1024;
/// A buffer that has grown beyond this is made short again once it is empty.
const KEPT_MAX: usize = 16 * 1024;
/// What is read at once of a body that is longer than what was read ahead.
const PIECE: usize = 64 * 1024;
/// The same of a body whose length nobody knows: it may be a trickle.
const PIECE_OF_UNKNOWN: usize = 16 * 1024;
/// From here on it is cheaper to read into memory of its own than to copy out of the buffer.
const LARGE: usize = 4 * 1024;

/// A stream to an upstream, and its timer.
#[derive(Debug)]
pub(super) struct Timed {
    stream: Stream,
    alarm: Option<Alarm>,
}

/// A connection with its buffer.
#[derive(Debug)]
pub(super) struct Buffered<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Where the unused bytes begin and end.
    start: usize,
    end: usize,
}

/// A timer that lives as long as its connection. One exchange after the other uses it, and moves it only when it has gone off too early:
/// a timer of its own, which nearly never goes off, would cost each of them more than reading its answer's head.
pub(super) type Alarm = Pin<Box<Sleep>>;

/// A connection to an upstream; boxed where it is handed from one to the next, several times a request.
pub(super) type Socket = Buffered<Timed>;

impl From<Stream> for Box<Socket> {
    fn from(stream: Stream) -> Self {
        let alarm = None;
        Box::new(Buffered::new(Timed { stream, alarm }, &[]))
    }
}

impl Socket {
    /// The connection's timer, which is to be put back.
    pub(super) fn take_alarm(&mut self) -> Option<Alarm> {
        self.stream.alarm.take()
    }

    pub(super) fn put_alarm(&mut self, alarm: Option<Alarm>) {
        self.stream.alarm = alarm;
    }

    /// Whether nothing has happened on an idle connection: nothing came, and it was not closed. Asks the system only when
    /// there was an event.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = self.stream.stream.try_read(&mut byte);
        self.unused().is_empty()
            && matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl<S: AsyncRead + Unpin> Buffered<S> {
    /// With bytes that were read before.
    pub(super) fn new(stream: S, ahead: &[u8]) -> Self {
        let mut buffer = vec![0; BUFFER.max(ahead.len())];
        buffer[..ahead.len()].copy_from_slice(ahead);
        Self {
            stream,
            buffer,
            start: 0,
            end: ahead.len(),
        }
    }

    /// The stream alone, and what was read and not used.
    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        let rest = self.unused().to_vec();
        (self.stream, rest)
    }

    /// The stream, to be written to.
    pub(super) fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(&mut self.stream)
    }

    /// Bytes that were read and not used.
    pub(super) fn unused(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Notes that the first `count` unused bytes were used.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEPT_MAX {
                self.buffer.truncate(BUFFER);
                self.buffer.shrink_to_fit();
            }
        }
    }

    /// Reads more into the buffer, which may grow up to `max`; `Ok(0)` is the end, or a buffer that is full.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else if self.buffer.len() < max {
                self.buffer.resize((self.buffer.len() * 2).min(max), 0);
            } else {
                return Poll::Ready(Ok(0));
            }
        }
        let mut free = ReadBuf::new(&mut self.buffer[self.end..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut free))?;
        let count = free.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }

    /// The next piece of a body that has at least one and at most `left` bytes more; empty at the connection's end.
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        left: u64,
    ) -> Poll<io::Result<Bytes>> {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if self.unused().is_empty() {
            if left >= LARGE {
                let room = if left == usize::MAX {
                    PIECE_OF_UNKNOWN
                } else {
                    left.min(PIECE)
                };
                // Taken again at the next turn if nothing has come: memory that is not written to costs next to nothing.
                let mut piece = BytesMut::with_capacity(room);
                {
                    // The capacity may be more than was asked for; what follows the body must stay where it is.
                    let mut limited = (&mut self.stream).take(room as u64);
                    let mut read = std::pin::pin!(limited.read_buf(&mut piece));
                    ready!(read.as_mut().poll(cx))?;
                }
                // A sender of few bytes at a time would have each of them hold all that memory.
                let is_full = piece.len() >= room / 2;
                return Poll::Ready(Ok(if is_full {
                    piece.freeze()
                } else {
                    Bytes::copy_from_slice(&piece)
                }));
            }
            if ready!(self.poll_fill(cx, BUFFER))? == 0 {
                return Poll::Ready(Ok(Bytes::new()));
            }
        }
        let count = self.unused().len().min(left);
        let piece = Bytes::copy_from_slice(&self.unused()[..count]);
        self.consume(count);
        Poll::Ready(Ok(piece))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Buffered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.unused().len().min(buf.remaining());
        if count > 0 {
            buf.put_slice(&self.unused()[..count]);
            self.consume(count);
            return Poll::Ready(Ok(()));
        }
        self.stream().poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Buffered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
