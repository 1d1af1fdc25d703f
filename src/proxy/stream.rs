//! A plain stream by TCP or over a Unix socket: from a client, or to an upstream.
//!
//! Writes are tried before anything is asked of the runtime, as nearly every socket takes what it is given; only one that does not is
//! waited for. Reads go through the runtime, which so has its say on how long a connection that always has more keeps the thread.
//! Never buffers.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// One end of a connection.
#[derive(Debug)]
pub enum Stream {
    /// By TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Reads what is there. Asks the system only if there was an event.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
        }
    }
}

/// What came of a try, unless it has to wait.
fn done(tried: io::Result<usize>) -> Option<Poll<io::Result<usize>>> {
    match tried {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        // Interrupted before anything was done: the runtime tries again.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
        done => Some(Poll::Ready(done)),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => {
                done(stream.try_write(buf)).unwrap_or_else(|| Pin::new(stream).poll_write(cx, buf))
            }
            Self::Unix(stream) => {
                done(stream.try_write(buf)).unwrap_or_else(|| Pin::new(stream).poll_write(cx, buf))
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => done(stream.try_write_vectored(bufs))
                .unwrap_or_else(|| Pin::new(stream).poll_write_vectored(cx, bufs)),
            Self::Unix(stream) => done(stream.try_write_vectored(bufs))
                .unwrap_or_else(|| Pin::new(stream).poll_write_vectored(cx, bufs)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is held back by a plain socket.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    // G5: a peer that takes nothing holds the writer up, and loses nothing.
    #[tokio::test]
    async fn what_a_full_socket_does_not_take_is_written_once_it_does() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = Stream::Unix(ours);
        let text: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
        let mut taken = 0;
        // Until it takes no more, by turns in one piece and in two.
        std::future::poll_fn(|cx| {
            loop {
                let (first, second) = text[taken..].split_at(1_000);
                let wrote = if taken % 2 == 0 {
                    Pin::new(&mut ours).poll_write(cx, first)
                } else {
                    let both = [first, second].map(IoSlice::new);
                    Pin::new(&mut ours).poll_write_vectored(cx, &both)
                };
                match wrote {
                    Poll::Ready(wrote) => taken += wrote.unwrap(),
                    Poll::Pending => return Poll::Ready(()),
                }
            }
        })
        .await;
        assert!(taken > 0);
        let rest = text[taken..].to_vec();
        let writing = tokio::spawn(async move {
            ours.write_all(&rest).await.unwrap();
        });
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        writing.await.unwrap();
        assert!(read == text);
    }
}
