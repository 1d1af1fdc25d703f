//! What answers HTTP in a demo: one listener on a free port of the loopback interface, and a function for what it says.
//!
//! For the gate alone, so it is plain HTTP/1.1 with no more than is needed to stand behind it. Never sees a request's meaning.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Connections at once: more than the gate opens for a demo's load, fewer than the 1,024 files that a
/// process may commonly have open.
const CONNECTIONS: usize = 512;
/// After a failed accept (no more files), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers one request.
pub(super) trait Answer: Clone + Send + Sync + 'static {
    /// The answer; it must come, whatever was asked.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// A running server; dropping it closes its socket and its connections.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Starts on a free port of the loopback interface.
    pub(super) async fn start(answer: impl Answer) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.context("no port for the demo's origin")?;
        let address = listener.local_addr();
        Ok(Self {
            address: address.context("the demo's origin has no address")?,
            accepting: tokio::spawn(accept(listener, answer)),
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, answer: impl Answer) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, answer.clone()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, answer: impl Answer) {
    let answer_one = service_fn(|request| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(answer.answer(request).await) }
    });
    // Without Nagle's delay: an answer is one small segment. A connection that breaks is its client's loss.
    if stream.set_nodelay(true).is_ok() {
        let served = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answer_one)
            .await;
        drop(served);
    }
}
