//! Tunnels: WebSocket and its like, after both sides have agreed to switch.
//!
//! From the 101 on the two connections are copied into each other by a task of their own, which owns the request's
//! context and with it the place. It ends when a side closes, or when nothing has moved for `tunnel_idle_timeout`. Never looks
//! at what passes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::oneshot;

use super::context::Context;
use super::socket::Socket;
use super::upstream::Visit;
use crate::clock::Clock;

/// A client's connection that speaks another protocol from here on.
pub struct Upgraded {
    stream: Box<dyn Io>,
    /// What was read of it already, and how much of that was used.
    ahead: Vec<u8>,
    used: usize,
}

/// Where it arrives once the client was told.
pub(super) type OnUpgrade = oneshot::Receiver<Upgraded>;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

impl std::fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}

impl Upgraded {
    pub(super) fn new(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        ahead: Vec<u8>,
    ) -> Self {
        Self {
            stream: Box::new(stream),
            ahead,
            used: 0,
        }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.used == this.ahead.len() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let rest = &this.ahead[this.used..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        this.used += count;
        if this.used == this.ahead.len() {
            (this.ahead, this.used) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Copies between the two sides until one is done with it.
pub(super) async fn tunnel(
    client: OnUpgrade,
    upstream: Box<Socket>,
    mut context: Box<Context>,
    visit: Visit,
) {
    let idle_timeout = visit.settings.tunnel_idle_timeout;
    let gate = Arc::clone(&context.local.gate);
    let open = gate.open();
    if let Ok(client) = client.await {
        let moved = Arc::new(Moved::new(gate.clock.clone()));
        let client = Touching {
            inner: client,
            moved: Arc::clone(&moved),
        };
        let (from_client, to_client) = tokio::io::split(client);
        let (from_upstream, to_upstream) = tokio::io::split(upstream);
        // One side that is done with it ends the tunnel: what it said is passed on and flushed first.
        tokio::select! {
            () = pass(from_client, to_upstream) => {}
            () = pass(from_upstream, to_client) => {}
            () = moved.stood_still_for(idle_timeout) => {}
            () = context.request.hangup().asked() => {}
        }
    }
    if context.request.hangup().is_asked() {
        context.cut();
    }
    drop(visit);
    drop(context);
    drop(open);
}

/// Copies one direction to its end, and tells the other side that it ended.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    // A side that breaks off is as done as one that closes.
    if tokio::io::copy(&mut from, &mut to).await.is_ok() {
        drop(to.shutdown().await);
    }
}

/// When bytes last moved in either direction.
#[derive(Debug)]
struct Moved {
    clock: Clock,
    opened: Instant,
    nanos: AtomicU64,
}

impl Moved {
    fn new(clock: Clock) -> Self {
        let opened = clock.now();
        Self {
            clock,
            opened,
            nanos: AtomicU64::new(0),
        }
    }

    fn touch(&self) {
        let nanos = self
            .clock
            .now()
            .saturating_duration_since(self.opened)
            .as_nanos();
        self.nanos
            .store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    async fn stood_still_for(&self, bound: Duration) {
        loop {
            let last = self.opened + Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
            let left = (last + bound).saturating_duration_since(self.clock.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.max(Duration::from_millis(1))).await;
        }
    }
}

/// The client's side of a tunnel; every byte in either direction passes it.
#[derive(Debug)]
struct Touching {
    inner: Upgraded,
    moved: Arc<Moved>,
}

impl AsyncRead for Touching {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.moved.touch();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Touching {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.moved.touch();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
