//! Whether anything came back on a connection yet: what tells a server that is silent from one that is slow.
//!
//! A request may be repeated as long as no byte of an answer was seen, and an HTTP client only tells of whole heads. Never looks at
//! what passes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that is listened to.
#[derive(Debug)]
pub(super) struct Ear<S> {
    stream: S,
    heard: Heard,
}

/// What was heard: whether a byte came.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<AtomicBool>);

impl<S> Ear<S> {
    /// Listens to a connection.
    pub(super) fn listen(stream: S) -> (Self, Heard) {
        let heard = Heard::default();
        let ear = Self {
            stream,
            heard: heard.clone(),
        };
        (ear, heard)
    }
}

impl Heard {
    /// Ends when nothing has come for so long; never, once something has come.
    pub(super) async fn nothing_for(&self, limit: Duration) {
        tokio::time::sleep(limit).await;
        // A flag that is only asked about: it orders nothing else.
        if self.0.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ear<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.heard.0.store(true, Ordering::Relaxed);
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ear<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
