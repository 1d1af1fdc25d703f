//! A connection to an upstream: TCP or a Unix socket, with the bytes that were read and not yet used.
//!
//! The buffer is a fixed piece of memory that lives as long as the connection: heads and small bodies are read into it and
//! copied out, large bodies never touch it. Never knows what the bytes mean.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// What is read ahead: a response's head of usual length and a small body. Longer heads let it grow.
const BUFFER: usize = 8 * 1024;
/// What is read at once of a body that is longer than what was read ahead.
const PIECE: usize = 64 * 1024;
/// The same of a body whose length nobody knows: it may be a trickle.
const PIECE_OF_UNKNOWN: usize = 16 * 1024;
/// From here on it is cheaper to read into memory of its own than to copy out of the buffer.
const LARGE: usize = 4 * 1024;

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection to an upstream.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    buffer: Vec<u8>,
    /// Where the unused bytes begin and end.
    start: usize,
    end: usize,
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::new(Stream::Tcp(stream))
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::new(Stream::Unix(stream))
    }
}

impl Socket {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
        }
    }

    /// Whether nothing has happened on an idle connection: nothing came, and it was not closed. Asks the system only when
    /// there was an event.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = match &self.stream {
            Stream::Tcp(stream) => stream.try_read(&mut byte),
            Stream::Unix(stream) => stream.try_read(&mut byte),
        };
        self.unused().is_empty()
            && matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
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
        ready!(self.stream.poll_read(cx, &mut free))?;
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
                // Memory is taken when there is something to put into it.
                ready!(self.stream.poll_read_ready(cx))?;
                let room = if left == usize::MAX {
                    PIECE_OF_UNKNOWN
                } else {
                    left.min(PIECE)
                };
                let mut piece = BytesMut::with_capacity(room);
                {
                    let mut read = std::pin::pin!(self.stream.read_limited(&mut piece, room));
                    ready!(read.as_mut().poll(cx))?;
                }
                return Poll::Ready(Ok(piece.freeze()));
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

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    async fn read_limited(&mut self, piece: &mut BytesMut, limit: usize) -> io::Result<usize> {
        // The capacity may be more than was asked for; what follows the body must stay where it is.
        let limit = limit as u64;
        match self {
            Self::Tcp(stream) => stream.take(limit).read_buf(piece).await,
            Self::Unix(stream) => stream.take(limit).read_buf(piece).await,
        }
    }
}

impl AsyncRead for Socket {
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
        self.stream.poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
