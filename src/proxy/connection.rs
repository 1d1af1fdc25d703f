//! One client connection: TLS, protocol, and every timeout.
//!
//! The protocol is driven by [`http1`](super::http1), and by hyper for HTTP/2; this file owns what surrounds it: the handshake's
//! deadline, the choice between HTTP/1.1 and HTTP/2 by ALPN or by the first four bytes, the one lazy timer, and the phases of shutting down. The rare branches (TLS,
//! HTTP/2) are boxed, so that the common connection stays small. Never looks inside a request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::activity::{Activity, Deadline, Marked, PREFIX};
use super::body::ResponseBody;
use super::gate::{Gate, Open, Phase};
use super::http1;
use super::tls::Acceptor;
use crate::classify::Peer;
use crate::telemetry::Hangup;

/// HTTP/2: what one stream may send before it is read. One waiting upload holds this much and no more.
const STREAM_WINDOW: u32 = 64 * 1024 - 1;
/// HTTP/2: streams that a client may reset before they were looked at (CVE-2023-44487).
const RESET_STREAMS_MAX: usize = 20;

/// What all requests of a connection share.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) gate: Arc<Gate>,
    pub(super) peer: Peer,
    /// What an upstream is told of how a client came by whom nothing is believed: its address and the scheme.
    pub(super) forwarded: Box<[u8]>,
    /// Whether the peer's forwarded-for fields are believed.
    pub(super) is_trusted: bool,
    pub(super) is_tls: bool,
    is_http2: AtomicBool,
    pub(super) activity: Activity,
    /// Of HTTP/1.1, where requests come one after another.
    hangup: Arc<Hangup>,
    /// Of HTTP/2: that of the request which came last, until its stream is begun.
    newest: Mutex<Option<Arc<Hangup>>>,
}

impl Connection {
    pub(super) fn new(gate: Arc<Gate>, peer: Peer, is_tls: bool) -> Self {
        let scheme = if is_tls { "https" } else { "http" };
        let address = peer
            .address
            .map(|address| format!("x-forwarded-for: {address}\r\n"));
        let forwarded = format!(
            "{}x-forwarded-proto: {scheme}\r\n",
            address.unwrap_or_default()
        );
        let is_trusted = peer
            .address
            .is_some_and(|address| peer.trusted.contains(address));
        let activity = Activity::new(gate.clock.clone());
        Self {
            gate,
            forwarded: forwarded.into_bytes().into(),
            peer,
            is_trusted,
            is_tls,
            is_http2: AtomicBool::new(false),
            activity,
            hangup: Arc::default(),
            newest: Mutex::default(),
        }
    }

    /// How a request that comes now can be ended from outside.
    pub(super) fn hangup(&self) -> Arc<Hangup> {
        if !self.is_http2() {
            return Arc::clone(&self.hangup);
        }
        let hangup = Arc::default();
        *self.newest.lock() = Some(Arc::clone(&hangup));
        hangup
    }

    /// The protocol's name, for the log.
    pub(super) fn protocol(&self) -> &'static str {
        if self.is_http2.load(Ordering::Relaxed) {
            "HTTP/2.0"
        } else {
            "HTTP/1.1"
        }
    }

    pub(super) fn scheme(&self) -> &'static [u8] {
        if self.is_tls { b"https" } else { b"http" }
    }

    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    /// Whether answers tell the client to open no further request on this connection.
    pub(super) fn is_closing(&self) -> bool {
        self.gate.phase() >= Phase::Closing
    }
}

/// Serves a connection to its end.
pub(super) async fn serve<S>(
    stream: S,
    gate: Arc<Gate>,
    mut peer: Peer,
    acceptor: Option<Arc<Acceptor>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let open = gate.open();
    let generation = gate.generation();
    let settings = &generation.settings;
    if gate.stats.connections.load(Ordering::Relaxed) > settings.max_connections {
        gate.stats
            .connections_refused
            .fetch_add(1, Ordering::Relaxed);
        return;
    }
    peer.trusted = settings.trusted_proxies.clone();
    let patience = settings.header_timeout;
    drop(generation);
    match acceptor {
        None => serve_plain(stream, Connection::new(gate, peer, false), open).await,
        Some(acceptor) => {
            let handshake = Box::pin(tokio::time::timeout(patience, acceptor.accept(stream)));
            let Ok(Ok(stream)) = handshake.await else {
                return;
            };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            peer.common_name = super::tls::common_name(stream.get_ref().1);
            let connection = Connection::new(gate, peer, true);
            if is_http2 {
                Box::pin(serve_http2(stream, &[], Arc::new(connection), open)).await;
            } else {
                Box::pin(serve_http1(stream, &[], Arc::new(connection), open)).await;
            }
        }
    }
}

/// Tells HTTP/2 by prior knowledge from HTTP/1 by as few bytes as differ.
async fn serve_plain<S>(mut stream: S, connection: Connection, open: Open)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    const PREFACE: &[u8; PREFIX] = b"PRI ";
    let connection = Arc::new(connection);
    let mut prefix = [0; PREFIX];
    let mut length = 0;
    let settings = connection.gate.generation();
    let mut patience = settings.settings.keep_alive;
    let then = settings.settings.header_timeout;
    drop(settings);
    while length < PREFIX && prefix[..length] == PREFACE[..length] {
        let phase_changed = connection.gate.phase_changed();
        if connection.gate.phase() >= Phase::Shutdown {
            return;
        }
        let read = tokio::select! {
            read = tokio::time::timeout(patience, stream.read(&mut prefix[length..])) => read,
            () = phase_changed => continue,
        };
        match read {
            Ok(Ok(count)) if count > 0 => length += count,
            _ => return,
        }
        patience = then;
    }
    if &prefix == PREFACE {
        Box::pin(serve_http2(stream, &prefix, connection, open)).await;
    } else {
        serve_http1(stream, &prefix[..length], connection, open).await;
    }
}

async fn serve_http1<S>(stream: S, prefix: &[u8], connection: Arc<Connection>, open: Open)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let http = http1::serve(stream, prefix, Arc::clone(&connection));
    // It looks at the phase by itself, whenever it is polled.
    drive(http, &connection, |_| ()).await;
    drop(open);
}

async fn serve_http2<S>(stream: S, prefix: &[u8], connection: Arc<Connection>, open: Open)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let generation = connection.gate.generation();
    let settings = &generation.settings;
    connection.is_http2.store(true, Ordering::Relaxed);
    let io = TokioIo::new(Marked::new(stream, Arc::clone(&connection), prefix));
    let requests = requests(Arc::clone(&connection));
    let max_head = u32::try_from(settings.max_head).unwrap_or(u32::MAX);
    let http = http2::Builder::new(Streams(Arc::clone(&connection)))
        .max_concurrent_streams(settings.max_streams)
        .max_header_list_size(max_head)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(
            (STREAM_WINDOW + 1)
                .saturating_mul(settings.max_streams.max(1))
                .min(i32::MAX as u32),
        )
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .serve_connection(io, requests);
    drop(generation);
    drive(http, &connection, http2::Connection::graceful_shutdown).await;
    drop(open);
}

/// Runs the streams of an HTTP/2 connection, each until it ends or is to be broken off. hyper asks for no more of a body whose client
/// opens no window, so that such a stream is ended from here.
#[derive(Clone)]
struct Streams(Arc<Connection>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        // hyper hands over the stream of a request right after it has called for its answer.
        let Some(hangup) = self.0.newest.lock().take() else {
            tokio::spawn(stream);
            return;
        };
        tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            std::future::poll_fn(|cx| {
                if hangup.is_cut() {
                    return Poll::Ready(());
                }
                let polled = stream.as_mut().poll(cx);
                if polled.is_pending() {
                    hangup.register(cx);
                    // Asked between the two.
                    if hangup.is_cut() {
                        return Poll::Ready(());
                    }
                }
                polled
            })
            .await;
        });
    }
}

/// Runs a connection until it ends, is overdue, or has finished after being asked to.
async fn drive<H: Future>(http: H, connection: &Connection, finish: impl Fn(Pin<&mut H>)) {
    let (header_timeout, keep_alive) = {
        let generation = connection.gate.generation();
        (
            generation.settings.header_timeout,
            generation.settings.keep_alive,
        )
    };
    let deadline = || connection.activity.deadline(header_timeout, keep_alive);
    let mut http = std::pin::pin!(http);
    let mut timer = std::pin::pin!(tokio::time::sleep(header_timeout.min(keep_alive)));
    let mut phase_changed = std::pin::pin!(connection.gate.phase_changed());
    let mut seen = None;
    let mut is_registered = false;
    std::future::poll_fn(|cx| {
        // Without this a client that takes nothing would keep its answer: no more is asked for of a body then.
        if connection.hangup.is_cut() {
            return Poll::Ready(());
        }
        if seen.is_none() {
            connection.hangup.register(cx);
        }
        let phase = connection.gate.phase();
        if seen != Some(phase) {
            // Registers for the next change; polled again only when there was one, so that requests do not pay for it.
            seen = Some(phase);
            phase_changed.set(connection.gate.phase_changed());
            while phase_changed.as_mut().poll(cx).is_ready() {
                phase_changed.set(connection.gate.phase_changed());
            }
            let is_time =
                phase >= Phase::Shutdown || (phase == Phase::Closing && connection.is_http2());
            if is_time {
                finish(http.as_mut());
            }
            if connection.gate.phase() != phase {
                cx.waker().wake_by_ref();
            }
        }
        if http.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        watch(timer.as_mut(), &mut is_registered, deadline(), cx)
    })
    .await;
}

/// Moves the timer to the deadline where it is nearer, and says when it has passed. A timer that was polled once wakes this
/// task by itself; polling it again is left to when it was moved or has fired.
fn watch(
    mut timer: Pin<&mut Sleep>,
    is_registered: &mut bool,
    deadline: Deadline,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if let Deadline::At(at) = deadline
        && Instant::from_std(at) < timer.deadline()
    {
        timer.as_mut().reset(at.into());
        *is_registered = false;
    }
    if *is_registered && !timer.is_elapsed() {
        return Poll::Pending;
    }
    *is_registered = true;
    while timer.as_mut().poll(cx).is_ready() {
        let now = timer.deadline();
        let next = match deadline {
            Deadline::At(at) if Instant::from_std(at) <= now => return Poll::Ready(()),
            Deadline::At(at) => at.into(),
            Deadline::Look(after) => now + after.max(Duration::from_millis(1)),
        };
        timer.as_mut().reset(next);
    }
    Poll::Pending
}

/// Hands each request of an HTTP/2 connection on.
fn requests(
    connection: Arc<Connection>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<ResponseBody>,
    Error = Infallible,
    Future: Send + 'static,
> {
    service_fn(move |request| super::serve_http2(&connection, request))
}
