//! One plain write for a head and a small body.
//!
//! A vectored write costs the kernel more than a plain one, and most messages are a head with nothing or little behind it: a
//! single buffer is written as it is, a few small ones are gathered on the stack. Large bodies are never copied.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// What is gathered at most, in bytes: a head of usual length and a small body.
const GATHERED: usize = 1024;

/// Writes the buffers with as little ado as they allow.
pub(super) fn write_gathered<S: AsyncWrite>(
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
    let (first, second) = (filled.next(), filled.next());
    match (first, second) {
        (None, _) => return stream.poll_write(cx, &[]),
        (Some(only), None) => return stream.poll_write(cx, only),
        _ => {}
    }
    let total: usize = bufs.iter().map(|buf| buf.len()).sum();
    if total > GATHERED {
        return stream.poll_write_vectored(cx, bufs);
    }
    let mut gathered = [0; GATHERED];
    let mut end = 0;
    for buf in bufs {
        gathered[end..end + buf.len()].copy_from_slice(buf);
        end += buf.len();
    }
    stream.poll_write(cx, &gathered[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[&[u8]]) -> Vec<u8> {
        let bufs: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut out = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let done = write_gathered(Pin::new(&mut out), &mut cx, &bufs);
        assert!(matches!(done, Poll::Ready(Ok(count)) if count == out.len()));
        out
    }

    #[test]
    fn buffers_are_written_in_order_whatever_their_size() {
        assert_eq!(written(&[]), b"");
        assert_eq!(written(&[b"head", b""]), b"head");
        assert_eq!(written(&[b"head", b"", b"body"]), b"headbody");
        let long = vec![b'x'; GATHERED];
        assert_eq!(
            written(&[b"head", &long]),
            [b"head".as_slice(), &long].concat()
        );
    }
}
