//! One client connection over HTTP/1: a request at a time, in one task, from its first byte to the last of its answer.
//!
//! hyper serves HTTP/2 and everything beside the data plane. HTTP/1 is the way of nearly every request through the gate, and half of
//! what such a request cost was carrying its head, its answer and its bodies between hyper's types and ours; so this part of the thin
//! path is ours too. The task reads a head, polls the exchange, and writes the answer. Meanwhile it reads of the request's body what is
//! asked for, and where there is none it listens for a client that leaves: that drops the exchange, and with it the place. Never reads
//! ahead of the request at hand by more than one buffer, never looks inside one.

mod lane;
mod reply;
mod request;
mod wire;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Method, Response, StatusCode};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::body::{BodyError, ResponseBody};
use super::connection::Connection;
use super::decode::{Decoder, Left};
use super::gate::Phase;
use super::headers;
use super::respond;
use super::upgrade::Upgraded;
use super::upload::RequestBody;
use super::{Asking, serve as answer};

use lane::{Asked, Feed};
use reply::{Follows, Manner};
use request::{Received, TOO_LONG, Unreadable};
use wire::Wire;

pub(super) use lane::LaneBody;

/// A client whose head was refused may still be sending: so long, and so many times a buffer, is read of it, that it sees the answer
/// and not a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_READS: usize = 32;

/// What the connection still has to read of the request at hand.
#[derive(Debug)]
enum Intake {
    /// Nothing.
    Done,
    /// A body.
    Body {
        feed: Feed,
        decoder: Decoder,
        /// The client waits to be told to go on.
        must_continue: bool,
    },
    /// What nobody wants, cannot be read, or was never asked for: the connection ends with the answer. Whoever still waits for it waits
    /// for as long as the answer takes.
    Lost(#[expect(dead_code, reason = "it is held, and ends with the answer")] Option<Feed>),
}

/// What came of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// A frame of the body, or the news that none comes.
    Frame,
    /// The client's end.
    Departure,
}

#[derive(Debug)]
struct Http1<S> {
    wire: Wire<S>,
    connection: Arc<Connection>,
    intake: Intake,
    /// So much of a head that is arriving was found not to be the whole of it.
    looked_at: usize,
}

/// Serves a connection to its end; `prefix` was read of it before.
pub(super) async fn serve<S>(stream: S, prefix: &[u8], connection: Arc<Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let max_head = connection.gate.generation().settings.max_head;
    let wire = Wire::new(stream, prefix, max_head);
    let mut http = Http1 {
        wire,
        connection,
        intake: Intake::Done,
        looked_at: 0,
    };
    loop {
        let received = std::future::poll_fn(|cx| http.poll_request(cx)).await;
        let received = match received {
            Ok(Some(received)) => received,
            Ok(None) => return http.end(false).await,
            Err(unreadable) => return http.refuse(unreadable).await,
        };
        let Some(stays) = http.exchange(received).await else {
            return;
        };
        if !stays {
            let lingers = !matches!(http.intake, Intake::Done);
            return http.end(lingers).await;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Http1<S> {
    /// The next request, or `None` at the connection's end.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Received>, Unreadable>> {
        loop {
            let unused = self.wire.unused();
            if unused.is_empty() {
                if self.connection.gate.phase() >= Phase::Shutdown {
                    return Poll::Ready(Ok(None));
                }
            } else {
                self.connection.activity.bytes_came();
                if request::may_be_whole(unused, self.looked_at)
                    && let Some((received, length)) = request::parse(unused)?
                {
                    self.looked_at = 0;
                    self.wire.consume(length);
                    return Poll::Ready(Ok(Some(received)));
                }
                if self.wire.is_full() {
                    return Poll::Ready(Err(TOO_LONG));
                }
                self.looked_at = self.wire.unused().len();
            }
            match ready!(self.wire.poll_fill(cx)) {
                Ok(count) if count > 0 => {}
                // In the middle of a head, too: nobody is left who could be answered.
                _ => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// One request and its answer; whether the connection is to go on after it, and `None` if it is over at once.
    async fn exchange(&mut self, received: Received) -> Option<bool> {
        let Received {
            head,
            body,
            keeps_alive,
        } = received;
        let mut seen = headers::look(&head);
        // Of a body that is not read whole, what is left would be taken for the other protocol.
        seen.wants_upgrade &= body.is_none();
        let (body, intake) = self.body(body, seen.is_continue_expected);
        self.intake = intake;
        let mut manner = Manner {
            version: head.version,
            is_head_request: head.method == Method::HEAD,
            takes_trailers: seen.takes_trailers,
            keeps_alive,
        };
        let (hand_over, upgrade) = if seen.wants_upgrade {
            let (hand_over, upgrade) = oneshot::channel();
            (Some(hand_over), Some(upgrade))
        } else {
            (None, None)
        };
        let asking = Asking {
            seen,
            body,
            upgrade,
        };
        let response = {
            let connection = Arc::clone(&self.connection);
            let mut answering = std::pin::pin!(answer(&connection, head, asking));
            std::future::poll_fn(|cx| self.poll_answering(answering.as_mut(), cx)).await?
        };
        self.forgo();
        manner.keeps_alive &= self.goes_on();
        let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let keeps_alive = self.write(response, manner).await.ok()?;
        if is_switch {
            self.switch(hand_over?);
            return None;
        }
        // What is left of an upload is read for as long as somebody wants it.
        std::future::poll_fn(|cx| self.poll_rest(cx)).await;
        // A client that was told that the connection goes on may have asked for more: only the last phase takes that back.
        let is_over = self.connection.gate.phase() >= Phase::Shutdown;
        Some(keeps_alive && matches!(self.intake, Intake::Done) && !is_over)
    }

    /// The answer is there: a client that still waits to be told to go on with its body has it instead.
    fn forgo(&mut self) {
        let is_unasked =
            matches!(&self.intake, Intake::Body { must_continue, .. } if *must_continue);
        if is_unasked
            && let Intake::Body { feed, .. } = std::mem::replace(&mut self.intake, Intake::Done)
        {
            // Who was not asked for its body may send it or not; what comes next could be either.
            self.intake = Intake::Lost(Some(feed));
        }
    }

    /// The body of a request, for who answers it and for the connection.
    fn body(&self, decoder: Option<Decoder>, is_expected: bool) -> (RequestBody, Intake) {
        let Some(decoder) = decoder else {
            return (RequestBody::default(), Intake::Done);
        };
        let (feed, body) = lane::lane(decoder.left);
        let max = self.connection.gate.generation().settings.max_body;
        let body = RequestBody::new(body.into(), max, is_expected, &self.connection.gate.clock);
        let intake = Intake::Body {
            feed: Feed(feed),
            decoder,
            must_continue: is_expected,
        };
        (body, intake)
    }

    /// Whether nothing speaks against another request.
    fn goes_on(&self) -> bool {
        !self.connection.is_closing() && !matches!(self.intake, Intake::Lost(_))
    }

    /// Polls the exchange, and reads what it asks for; `None` if the client leaves.
    fn poll_answering(
        &mut self,
        mut answering: Pin<&mut impl Future<Output = Response<ResponseBody>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Response<ResponseBody>>> {
        loop {
            if let Poll::Ready(response) = answering.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            match ready!(self.poll_intake(cx)) {
                Came::Frame => {}
                Came::Departure => return Poll::Ready(None),
            }
        }
    }

    /// Reads what is asked for of the body; where there is none, listens for the client's departure.
    fn poll_intake(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        let Intake::Body {
            feed,
            decoder,
            must_continue,
        } = &mut self.intake
        else {
            return self.poll_departure(cx);
        };
        match feed.0.asked(cx) {
            Asked::Frame => {}
            Asked::Nothing => return Poll::Pending,
            Asked::Left => {
                self.intake = Intake::Lost(None);
                return Poll::Ready(Came::Frame);
            }
        }
        if std::mem::take(must_continue) {
            self.wire
                .out
                .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if ready!(self.wire.poll_flush(&self.connection.activity, cx)).is_err() {
            return Poll::Ready(Came::Departure);
        }
        let frame = ready!(self.wire.poll_frame(decoder, cx));
        let frame = frame.map(|frame| frame.map_err(|_| BodyError::Client));
        let is_broken = matches!(frame, Some(Err(_)));
        feed.0.put(frame, decoder.left, Some(cx.waker()));
        if is_broken {
            self.intake = Intake::Lost(None);
        } else if decoder.left == Left::Nothing {
            self.intake = Intake::Done;
        }
        Poll::Ready(Came::Frame)
    }

    /// Ready once the client has left. A client that closes its own half has left, too; behind bytes of a next request nobody looks.
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        if matches!(self.intake, Intake::Lost(_)) || !self.wire.unused().is_empty() {
            return Poll::Pending;
        }
        match ready!(self.wire.poll_fill(cx)) {
            Ok(count) if count > 0 => Poll::Pending,
            _ => Poll::Ready(Came::Departure),
        }
    }

    /// Writes an answer, and tells whether the connection goes on after it; an error if it could not be written whole.
    async fn write(
        &mut self,
        response: Response<ResponseBody>,
        manner: Manner,
    ) -> Result<bool, ()> {
        let clock = &self.connection.gate.clock;
        let follows = reply::write_head(&mut self.wire.out, &response, manner, clock);
        let mut body = Some(response.into_body()).filter(|_| follows != Follows::Nothing);
        if let (Follows::Length, Some(whole)) = (follows, &mut body)
            && whole.copy_rest(&mut self.wire.out)
        {
            body = None;
        }
        std::future::poll_fn(|cx| self.poll_write(&mut body, follows, cx)).await?;
        Ok(manner.keeps_alive && follows != Follows::UntilClose)
    }

    fn poll_write(
        &mut self,
        body: &mut Option<ResponseBody>,
        follows: Follows,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ()>> {
        loop {
            if let Some(open) = body
                && self.wire.has_room()
            {
                match Pin::new(&mut *open).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        let is_last = open.is_end_stream();
                        match frame.into_data() {
                            Ok(data) => self.wire.push(data, follows),
                            Err(frame) => {
                                reply::finish(&mut self.wire.out, follows, frame.trailers_ref());
                                *body = None;
                                continue;
                            }
                        }
                        if is_last && follows == Follows::Length {
                            // The place is given back before the last bytes are out: a client that saw the end is never refused for
                            // a request that is over.
                            *body = None;
                        }
                        continue;
                    }
                    Poll::Ready(None) => {
                        reply::finish(&mut self.wire.out, follows, None);
                        *body = None;
                        continue;
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(())),
                    Poll::Pending => {
                        ready!(self.wire.poll_flush(&self.connection.activity, cx))
                            .map_err(drop)?;
                        match ready!(self.poll_intake(cx)) {
                            Came::Frame => continue,
                            Came::Departure => return Poll::Ready(Err(())),
                        }
                    }
                }
            }
            ready!(self.wire.poll_flush(&self.connection.activity, cx)).map_err(drop)?;
            if body.is_none() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads on of a body that somebody still wants, although its answer is out.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while matches!(self.intake, Intake::Body { .. }) {
            if ready!(self.poll_intake(cx)) == Came::Departure {
                self.intake = Intake::Lost(None);
            }
        }
        Poll::Ready(())
    }

    /// Hands the connection over to another protocol.
    fn switch(&mut self, to: oneshot::Sender<Upgraded>) {
        if let Some((stream, rest)) = self.wire.take() {
            // Nobody takes it where the exchange was ended meanwhile; dropped, it is closed.
            drop(to.send(Upgraded::new(stream, rest)));
        }
    }

    /// Answers a head that is none.
    async fn refuse(&mut self, Unreadable(status, detail): Unreadable) {
        let manner = Manner {
            version: http::Version::HTTP_11,
            is_head_request: false,
            takes_trailers: false,
            keeps_alive: false,
        };
        let response = respond::unreadable(status, detail);
        if self.write(response, manner).await.is_ok() {
            self.end(true).await;
        }
    }

    /// Closes after the last answer. What the client may still be sending would have the kernel reset the connection, and the answer with
    /// it: then it is read for a moment.
    async fn end(&mut self, lingers: bool) {
        let ended = std::future::poll_fn(|cx| self.wire.poll_shutdown(cx)).await;
        if ended.is_err() || !lingers {
            return;
        }
        let read = async {
            for _ in 0..LINGER_READS {
                self.wire.forget();
                let count = std::future::poll_fn(|cx| self.wire.poll_fill(cx)).await;
                if !matches!(count, Ok(count) if count > 0) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, read).await;
    }
}
