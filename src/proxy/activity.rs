//! What a client connection is doing, so that one lazy timer can enforce every timeout of it.
//!
//! Reads and writes leave marks, and a single timer a connection looks at them when it is due: no request arms or disarms anything,
//! and a head, a pause between requests, an idle HTTP/2 connection and a client that takes nothing have a bound each. Never closes
//! anything itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::gather::write_gathered;
use crate::clock::Clock;

/// How often a busy connection is looked at for want of a nearer deadline.
const BUSY_LOOK: Duration = Duration::from_secs(30);
/// Longest prefix that is read to tell the protocols apart.
pub(super) const PREFIX: usize = 4;

/// A mark whose time nobody has needed yet: it is taken when the timer first looks, so that requests which come and go
/// between two looks never read the clock for it.
const UNTIMED: u64 = u64::MAX;

/// Marks of one connection. Times are nanoseconds since it was opened, plus one; zero means not set.
#[derive(Debug)]
pub(super) struct Activity {
    clock: Clock,
    opened: Instant,
    in_progress: AtomicU32,
    /// Since when a head is arriving.
    head_since: AtomicU64,
    /// Since when nothing is in progress.
    idle_since: AtomicU64,
    /// Since when the client takes no bytes.
    blocked_since: AtomicU64,
    /// How long it may take none, in nanoseconds.
    blocked_max: AtomicU64,
}

impl Activity {
    pub(super) fn new(clock: Clock) -> Self {
        let opened = clock.now();
        Self {
            clock,
            opened,
            in_progress: AtomicU32::new(0),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(1),
            blocked_since: AtomicU64::new(0),
            blocked_max: AtomicU64::new(0),
        }
    }

    fn mark(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.opened).as_nanos();
        u64::try_from(nanos).unwrap_or(UNTIMED - 2) + 1
    }

    /// The instant of a mark, which is now if it was not timed yet.
    fn timed(&self, mark: &AtomicU64) -> Option<Instant> {
        match mark.load(Ordering::Relaxed) {
            0 => None,
            UNTIMED => {
                let now = self.clock.now();
                mark.store(self.mark(now), Ordering::Relaxed);
                Some(now)
            }
            nanos => Some(self.opened + Duration::from_nanos(nanos - 1)),
        }
    }

    /// Bytes of a head came, unless a request is in progress.
    pub(super) fn bytes_came(&self) {
        if self.in_progress.load(Ordering::Relaxed) == 0
            && self.head_since.load(Ordering::Relaxed) == 0
        {
            self.head_since.store(UNTIMED, Ordering::Relaxed);
        }
    }

    /// A request's head is complete.
    pub(super) fn begin(&self) {
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
    }

    /// A request is over at that instant.
    pub(super) fn end(&self, now: Instant) {
        if self.in_progress.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.idle_since.store(self.mark(now), Ordering::Relaxed);
        }
    }

    /// Something was written, or the client takes nothing.
    pub(super) fn note_write(&self, is_pending: bool) {
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        if is_pending && blocked == 0 {
            self.blocked_since.store(UNTIMED, Ordering::Relaxed);
        } else if !is_pending && blocked != 0 {
            self.blocked_since.store(0, Ordering::Relaxed);
        }
    }

    /// A client that takes nothing for so long has stalled.
    pub(super) fn bound_stall(&self, bound: Duration) {
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        self.blocked_max.store(nanos, Ordering::Relaxed);
    }

    /// When the connection is to be closed if nothing changes, and whether that is sure already.
    pub(super) fn deadline(&self, header_timeout: Duration, keep_alive: Duration) -> Deadline {
        if self.in_progress.load(Ordering::Relaxed) > 0 {
            let Some(blocked) = self.timed(&self.blocked_since) else {
                return Deadline::Look(BUSY_LOOK);
            };
            let bound = Duration::from_nanos(self.blocked_max.load(Ordering::Relaxed));
            return Deadline::At(blocked + bound);
        }
        match self.timed(&self.head_since) {
            Some(since) => Deadline::At(since + header_timeout),
            None => Deadline::At(self.timed(&self.idle_since).unwrap_or(self.opened) + keep_alive),
        }
    }
}

/// When to look at a connection again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadline {
    /// It is overdue then.
    At(Instant),
    /// Nothing is due; look again after this.
    Look(Duration),
}

/// A client's stream that leaves marks, and gives back the bytes that were read to tell the protocol.
#[derive(Debug)]
pub(super) struct Marked<S> {
    inner: S,
    activity: Arc<super::connection::Connection>,
    prefix: [u8; PREFIX],
    prefix_len: usize,
    prefix_read: usize,
}

impl<S> Marked<S> {
    pub(super) fn new(
        inner: S,
        connection: Arc<super::connection::Connection>,
        prefix: &[u8],
    ) -> Self {
        let mut bytes = [0; PREFIX];
        bytes[..prefix.len()].copy_from_slice(prefix);
        if !prefix.is_empty() {
            connection.activity.bytes_came();
        }
        Self {
            inner,
            activity: connection,
            prefix: bytes,
            prefix_len: prefix.len(),
            prefix_read: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Marked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix_read < self.prefix_len {
            let rest = &self.prefix[self.prefix_read..self.prefix_len];
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            self.prefix_read += count;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.activity.activity.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Marked<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.activity.activity.note_write(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = write_gathered(Pin::new(&mut self.inner), cx, bufs);
        self.activity.activity.note_write(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);

    #[test]
    fn a_head_has_its_own_deadline_from_its_first_byte() {
        let clock = Clock::manual();
        let start = clock.now();
        let activity = Activity::new(clock.clone());
        assert_eq!(activity.deadline(HEAD, IDLE), Deadline::At(start + IDLE));
        clock.advance(Duration::from_secs(5));
        activity.bytes_came();
        assert_eq!(
            activity.deadline(HEAD, IDLE),
            Deadline::At(clock.now() + HEAD)
        );
        clock.advance(Duration::from_secs(5));
        activity.bytes_came();
        assert_eq!(
            activity.deadline(HEAD, IDLE),
            Deadline::At(start + Duration::from_secs(15))
        );
        activity.begin();
        assert_eq!(activity.deadline(HEAD, IDLE), Deadline::Look(BUSY_LOOK));
        activity.end(clock.now());
        assert_eq!(
            activity.deadline(HEAD, IDLE),
            Deadline::At(clock.now() + IDLE)
        );
    }
}
