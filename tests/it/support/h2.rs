//! HTTP/2 clients: hyper's, by prior knowledge or over a stream that a test brings.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::wire::Stream;
use super::within;

/// A connection on which requests can be sent at once.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Steps>,
    /// Ends when the connection does.
    pub(crate) task: JoinHandle<hyper::Result<()>>,
}

/// A body that a test sends step by step; it ends when its sender is dropped.
#[derive(Debug)]
pub(crate) struct Steps(mpsc::Receiver<Frame<Bytes>>);

/// A body that is all there.
pub(crate) fn whole(bytes: &str) -> Steps {
    let (send, steps) = steps();
    if !bytes.is_empty() {
        send.try_send(Frame::data(Bytes::copy_from_slice(bytes.as_bytes())))
            .unwrap();
    }
    steps
}

/// A body and the hand that sends it.
pub(crate) fn steps() -> (mpsc::Sender<Frame<Bytes>>, Steps) {
    let (send, receive) = mpsc::channel(16);
    (send, Steps(receive))
}

impl Body for Steps {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(ready!(self.0.poll_recv(cx)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

impl Connection {
    /// Prior knowledge over TCP.
    pub(crate) async fn open(address: &str) -> Self {
        Self::over(
            within("a connection", TcpStream::connect(address))
                .await
                .unwrap(),
        )
        .await
    }

    /// Over a stream that is already there.
    pub(crate) async fn over(stream: impl Stream + 'static) -> Self {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        let shaken = within(
            "an HTTP/2 handshake",
            builder.handshake(TokioIo::new(stream)),
        )
        .await;
        let (sender, connection) = shaken.unwrap();
        Self {
            sender,
            task: tokio::spawn(connection),
        }
    }

    /// Sends a request and waits for the response's head.
    pub(crate) async fn send(
        &mut self,
        request: http::Request<Steps>,
    ) -> hyper::Result<http::Response<Incoming>> {
        within("an HTTP/2 response", self.sender.send_request(request)).await
    }

    /// A GET by that account, answered whole.
    pub(crate) async fn get(
        &mut self,
        path: &str,
        account: &str,
    ) -> (http::response::Parts, String) {
        let response = self.send(get(path, account)).await.unwrap();
        let (head, body) = response.into_parts();
        let body = within("a body", body.collect()).await.unwrap().to_bytes();
        (head, String::from_utf8_lossy(&body).into_owned())
    }
}

/// A GET by that account.
pub(crate) fn get(path: &str, account: &str) -> http::Request<Steps> {
    let uri = format!("http://gate.test{path}");
    http::Request::get(uri)
        .header("x-account", account)
        .body(whole(""))
        .unwrap()
}
