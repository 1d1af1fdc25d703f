//! A body, decoded as it comes: a length, chunks, or until the connection closes (RFC 9112 §7.1).
//!
//! A chunk's extensions are dropped, its framing is taken strictly: what could be read in two ways is an error. Never holds
//! more than the piece that it hands on.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use tokio::io::AsyncRead;

use super::incoming::{Broken, FIELDS_MAX, HEAD_MAX};
use super::socket::Buffered;

/// Longest line that gives a chunk's size, and longest trailer section, in bytes.
const CHUNK_LINE_MAX: usize = 4 * 1024;

/// What is left of a body.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) left: Left,
    /// Whether the connection can be used again once the body is through.
    pub(super) is_reusable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    Bytes(u64),
    /// So many bytes of this chunk; with its line end and further chunks behind it.
    Chunk(u64),
    /// A line with the next chunk's size comes.
    ChunkSize,
    /// Trailers come, which may be none.
    Trailers,
    UntilClose,
}

impl Decoder {
    /// Whether the body is through.
    pub(super) fn is_over(&self) -> bool {
        self.left == Left::Nothing
    }

    /// The body's length, as far as it is known.
    pub(super) fn size_hint(&self) -> http_body::SizeHint {
        match self.left {
            Left::Nothing => http_body::SizeHint::with_exact(0),
            Left::Bytes(left) => http_body::SizeHint::with_exact(left),
            _ => http_body::SizeHint::default(),
        }
    }

    /// The next frame of the body.
    pub(super) fn poll_frame<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut Buffered<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            match self.left {
                Left::Nothing => return Poll::Ready(None),
                Left::Bytes(left) => {
                    let piece = ready!(poll_some(socket, cx, left))?;
                    let left = left - piece.len() as u64;
                    self.left = if left == 0 {
                        Left::Nothing
                    } else {
                        Left::Bytes(left)
                    };
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Left::UntilClose => {
                    let piece = ready!(socket.poll_piece(cx, u64::MAX)).map_err(Broken::from)?;
                    if piece.is_empty() {
                        self.left = Left::Nothing;
                        return Poll::Ready(None);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Left::ChunkSize => {
                    let line = ready!(poll_line(socket, cx))?;
                    let size = chunk_size(&socket.unused()[..line])?;
                    socket.consume(line);
                    self.left = if size == 0 {
                        Left::Trailers
                    } else {
                        Left::Chunk(size)
                    };
                }
                Left::Chunk(0) => {
                    let line = ready!(poll_line(socket, cx))?;
                    if socket.unused()[..line] != *b"\r\n" {
                        return Poll::Ready(Some(Err(Broken::Syntax(
                            "a chunk is longer than it says",
                        ))));
                    }
                    socket.consume(line);
                    self.left = Left::ChunkSize;
                }
                Left::Chunk(left) => {
                    let piece = ready!(poll_some(socket, cx, left))?;
                    self.left = Left::Chunk(left - piece.len() as u64);
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Left::Trailers => {
                    let trailers = ready!(poll_trailers(socket, cx))?;
                    self.left = Left::Nothing;
                    let frame = (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)));
                    return Poll::Ready(frame);
                }
            }
        }
    }
}

/// The next piece of what must still come.
fn poll_some<S: AsyncRead + Unpin>(
    socket: &mut Buffered<S>,
    cx: &mut Context<'_>,
    left: u64,
) -> Poll<Result<Bytes, Broken>> {
    let piece = ready!(socket.poll_piece(cx, left))?;
    Poll::Ready(if piece.is_empty() {
        Err(Broken::Ended)
    } else {
        Ok(piece)
    })
}

/// The length of the next line with its end, once it is there whole.
fn poll_line<S: AsyncRead + Unpin>(
    socket: &mut Buffered<S>,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Broken>> {
    loop {
        let unused = socket.unused();
        let end = unused
            .iter()
            .take(CHUNK_LINE_MAX)
            .position(|&byte| byte == b'\n');
        if let Some(end) = end {
            return Poll::Ready(Ok(end + 1));
        }
        if unused.len() >= CHUNK_LINE_MAX {
            return Poll::Ready(Err(Broken::Syntax("a chunk's size is longer than 4 KiB")));
        }
        if ready!(socket.poll_fill(cx, HEAD_MAX))? == 0 {
            return Poll::Ready(Err(Broken::Ended));
        }
    }
}

/// A chunk's size: hexadecimal digits, then perhaps an extension, which is dropped.
fn chunk_size(line: &[u8]) -> Result<u64, Broken> {
    const WHAT: Broken = Broken::Syntax("a chunk's size is none");
    let line = line.strip_suffix(b"\r\n").ok_or(WHAT)?;
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let spaces = line[digits..]
        .iter()
        .take_while(|byte| is_space(byte))
        .count();
    let rest = &line[digits + spaces..];
    let is_broken = rest
        .iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t');
    if digits == 0 || digits > 16 || is_broken || !(rest.is_empty() || rest[0] == b';') {
        return Err(WHAT);
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| WHAT)?;
    u64::from_str_radix(text, 16).map_err(|_| WHAT)
}

fn poll_trailers<S: AsyncRead + Unpin>(
    socket: &mut Buffered<S>,
    cx: &mut Context<'_>,
) -> Poll<Result<HeaderMap, Broken>> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        match httparse::parse_headers(socket.unused(), &mut fields) {
            Ok(httparse::Status::Complete((length, fields))) => {
                let mut trailers = HeaderMap::new();
                for field in fields {
                    let name = HeaderName::from_bytes(field.name.as_bytes());
                    let value = HeaderValue::from_bytes(field.value);
                    let (Ok(name), Ok(value)) = (name, value) else {
                        return Poll::Ready(Err(Broken::Syntax("a trailer is malformed")));
                    };
                    if super::headers::may_be_trailer(&name) {
                        trailers.append(name, value);
                    }
                }
                socket.consume(length);
                return Poll::Ready(Ok(trailers));
            }
            Ok(httparse::Status::Partial) if socket.unused().len() < CHUNK_LINE_MAX => {}
            _ => {
                return Poll::Ready(Err(Broken::Syntax(
                    "its trailers are malformed or too long",
                )));
            }
        }
        if ready!(socket.poll_fill(cx, HEAD_MAX))? == 0 {
            return Poll::Ready(Err(Broken::Ended));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_hexadecimal_and_nothing_else() {
        assert_eq!(chunk_size(b"1f;name=value\r\n").unwrap(), 31);
        assert_eq!(chunk_size(b"0 \r\n").unwrap(), 0);
        for bad in [
            &b"\r\n"[..],
            b"g\r\n",
            b"-1\r\n",
            b"0x1\r\n",
            b"1\n",
            b"fffffffffffffffff\r\n",
            b"1 2\r\n",
            b"5\r\r\n",
            b"5\x0c\r\n",
            b"5;a\rb\r\n",
        ] {
            assert!(chunk_size(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_chunk_line_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            drop(chunk_size(&bytes));
        }
    }
}
