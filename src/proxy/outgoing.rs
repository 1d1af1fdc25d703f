//! A request on its way to the upstream: its head and what follows, written as the connection takes it.
//!
//! Everything not yet written lies in one buffer, head and first piece of the body together, so that a usual request is one
//! write. While nothing was written, or when there is no body to lose, the same request can be sent again on another
//! connection. Never holds more of a body than one piece.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::Body as _;
use tokio::io::AsyncWrite as _;

use super::body::BodyError;
use super::socket::Socket;
use super::upload::RequestBody;

/// The buffer is written when it holds so much: a few of the client's reads.
const ENOUGH: usize = 32 * 1024;

/// How a request's body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// As long as the head says, or none at all.
    Length,
    /// In chunks.
    Chunked,
}

/// A request that is being written.
#[derive(Debug)]
pub(super) struct Outgoing {
    buffer: Vec<u8>,
    written: usize,
    /// Whether the buffer still begins with the head.
    holds_head: bool,
    framing: Framing,
    body: RequestBody,
    is_body_over: bool,
}

/// Why writing stopped.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The client's side of it broke off.
    Body,
    /// The upstream takes no more; it may have answered before.
    Upstream,
}

impl Outgoing {
    /// A request whose head is written out already.
    pub(super) fn new(head: Vec<u8>, framing: Framing, body: RequestBody) -> Self {
        let is_body_over = body.is_empty();
        Self {
            buffer: head,
            written: 0,
            holds_head: true,
            framing,
            body,
            is_body_over,
        }
    }

    /// The body's upload, for those who watch it.
    pub(super) fn body(&self) -> &RequestBody {
        &self.body
    }

    /// Whether everything was written.
    pub(super) fn is_done(&self) -> bool {
        self.is_body_over && self.written == self.buffer.len()
    }

    /// Whether the upstream is behind: it has not taken what there is.
    pub(super) fn is_blocked(&self) -> bool {
        self.written < self.buffer.len()
    }

    /// Whether the request can be sent anew: everything of it is still here, and it either never left or asks for nothing new.
    pub(super) fn can_rewind(&self, is_idempotent: bool) -> bool {
        self.holds_head && (self.written == 0 || (is_idempotent && self.is_body_over))
    }

    /// Begins from the start again, on another connection.
    pub(super) fn rewind(&mut self) {
        self.written = 0;
    }

    /// Writes until everything is written, or the connection or the client is not ready.
    pub(super) fn poll_write(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stopped>> {
        loop {
            let is_blocked = self.fill(cx).map_err(|_| Stopped::Body)?;
            while self.written < self.buffer.len() {
                let rest = &self.buffer[self.written..];
                match ready!(Pin::new(&mut *socket).poll_write(cx, rest)) {
                    Ok(count) if count > 0 => self.written += count,
                    _ => return Poll::Ready(Err(Stopped::Upstream)),
                }
            }
            if self.is_body_over {
                return Poll::Ready(Ok(()));
            }
            self.buffer.clear();
            (self.written, self.holds_head) = (0, false);
            if is_blocked {
                return Poll::Pending;
            }
        }
    }

    /// Takes over from the body what is there; true if more is to come and not there yet.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool, BodyError> {
        while !self.is_body_over && self.buffer.len() < ENOUGH {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Err(error))) => return Err(error),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.push_data(&data),
                    Err(frame) => {
                        self.push_trailers(&frame.into_trailers().unwrap_or_default());
                        self.is_body_over = true;
                    }
                },
                Poll::Ready(None) => {
                    self.push_trailers(&http::HeaderMap::new());
                    self.is_body_over = true;
                }
            }
        }
        Ok(false)
    }

    fn push_data(&mut self, data: &[u8]) {
        if self.framing == Framing::Length {
            self.buffer.extend_from_slice(data);
            // A body of known length ends with its last byte; asking once more would only find that out.
            self.is_body_over = self.body.is_end_stream();
        } else if !data.is_empty() {
            // Writing to memory does not fail.
            drop(write!(self.buffer, "{:x}\r\n", data.len()));
            self.buffer.extend_from_slice(data);
            self.buffer.extend_from_slice(b"\r\n");
        }
    }

    fn push_trailers(&mut self, trailers: &http::HeaderMap) {
        if self.framing == Framing::Chunked {
            self.buffer.extend_from_slice(b"0\r\n");
            let passing = |name: &&http::HeaderName| super::headers::may_be_trailer(name);
            for (name, value) in trailers.iter().filter(|(name, _)| passing(name)) {
                super::headers::write_field(&mut self.buffer, name.as_str(), value.as_bytes());
            }
            self.buffer.extend_from_slice(b"\r\n");
        }
    }
}
