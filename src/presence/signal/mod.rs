//! `GET /signal`: the WebSocket on which devices live.
//!
//! The handshake is judged before it costs anything: how fast others come, how many there are, and from which page it comes. Then one task
//! owns the connection, reads what comes and writes what waits, with small buffers: there are many sockets and most are idle. Never
//! looks into a message.

pub(in crate::presence) mod calls;
pub(in crate::presence) mod frame;
#[cfg(test)]
mod herd;
#[cfg(test)]
mod hostile;
pub(in crate::presence) mod pace;
pub(in crate::presence) mod page;
pub(in crate::presence) mod sdk;
pub(in crate::presence) mod sockets;
mod strangers;
pub(in crate::presence) mod talk;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{SinkExt as _, Stream as _, StreamExt as _};
use http::header::{CONNECTION, ORIGIN, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, error::Error};

use crate::presence::fault::Fault;
use crate::presence::plugin::Presence;
use crate::presence::subscription::form::Form;
use crate::presence::subscription::outbox::{Close, Next, Outbox};
use crate::proxy::plugin::{Request, Response, Socket};
use pace::Verdict;
use sockets::Held;
use talk::Talk;

/// Longest message, in bytes.
const MESSAGE_MAX: usize = 64 * 1024;
/// What is read at once: an idle socket keeps it.
const READ: usize = 2 * 1024;
/// How long a client may take to hear that it is closed.
const FAREWELL: Duration = Duration::from_secs(2);

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");
pub(in crate::presence) const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// Answers the handshake.
pub(in crate::presence) fn upgrade(
    presence: &Arc<Presence>,
    request: &Request,
) -> Result<Response, Fault> {
    let headers = &request.head.headers;
    let live = presence.live();
    let origins = &live.settings.allowed_origins;
    if request.head.method != Method::GET {
        return Err(Fault::method("GET"));
    }
    if let Some(origin) = headers.get(ORIGIN)
        && !origins.is_empty()
        && !origins
            .iter()
            .any(|allowed| allowed.as_bytes() == origin.as_bytes())
    {
        return Err(Fault::forbidden(
            "pages of this origin may not open sockets here (`presence.allowed_origins`)",
        ));
    }
    let (accept, protocol) = handshake(request)?;
    if presence.sockets.is_draining() {
        return Ok(later(
            StatusCode::SERVICE_UNAVAILABLE,
            Duration::from_secs(1),
        ));
    }
    let now = presence.clock.now();
    let verdict = presence
        .pace
        .judge(live.settings.connects_per_second, now, fastrand::f64());
    let late = match verdict {
        Verdict::Welcome => None,
        Verdict::Late(back) => Some(back),
        Verdict::Refused(back) => {
            presence.stats.count_refused();
            return Ok(later(StatusCode::TOO_MANY_REQUESTS, back));
        }
    };
    let (max, heartbeat) = (live.settings.max_sockets, live.settings.heartbeat);
    let Some(held) = presence.sockets.open(Form::Socket, max, heartbeat, now) else {
        presence.stats.count_refused();
        return Ok(later(
            StatusCode::SERVICE_UNAVAILABLE,
            Duration::from_secs(10),
        ));
    };
    let mut response = Response::new(StatusCode::SWITCHING_PROTOCOLS, "");
    response.headers.insert(ACCEPT, accept);
    let talk = Talk::new(
        Arc::clone(presence),
        Arc::clone(&held.line),
        kind(headers),
        late,
    );
    let run = move |socket: Socket| Box::pin(run(socket, talk, held)) as _;
    response.upgrade = Some((protocol, Box::new(run)));
    Ok(response)
}

/// What answers the handshake of a WebSocket (RFC 6455 §4.2.2): the proof that it was read, and the protocol.
pub(in crate::presence) fn handshake(
    request: &Request,
) -> Result<(HeaderValue, HeaderValue), Fault> {
    let headers = &request.head.headers;
    let key = headers.get(KEY).filter(|_| request.can_upgrade);
    let key = key.filter(|_| headers.get(VERSION).is_some_and(|version| version == "13"));
    let Some(key) = key else {
        return Err(Fault::bad(
            "this path opens a WebSocket (RFC 6455, version 13) over HTTP/1.1",
        ));
    };
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    let accept = accept.map_err(|_| Fault::bad("the key of the WebSocket is malformed"))?;
    Ok((accept, HeaderValue::from_static("websocket")))
}

/// Asks to come back later.
fn later(status: StatusCode, back: Duration) -> Response {
    let mut response = crate::presence::api::problem(&Fault::later(status));
    response
        .headers
        .insert(RETRY_AFTER, HeaderValue::from(back.as_secs().max(1)));
    response
        .headers
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// What kind of client it is: those of one kind take over each other's lost sessions.
fn kind(headers: &HeaderMap) -> u64 {
    let agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes);
    // Two that share a hash would share what they may share anyway: they are of one identity.
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(agent)
}

/// What ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The client signed out (RFC 6455 §7.4.1: 1000 and 1001).
    Left,
    /// It is gone without a word, or without the right one.
    Lost,
    /// The server ends it.
    Closed(Close),
}

/// Owns a connection to its end.
async fn run(socket: Socket, mut talk: Talk, held: Held) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let mut stream = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
    let outbox = Arc::clone(&held.line.outbox);
    let ended = loop {
        match step(&mut stream, &outbox).await {
            Step::Heard(text) => talk.hear(&text),
            Step::Alive => held.line.hear(talk.presence.clock.now()),
            Step::Say(text) => {
                let said = write(&mut stream, &outbox, Message::Text(text)).await;
                if let Err(ended) = said {
                    break ended;
                }
            }
            Step::Ended(ended) => break ended,
        }
    };
    if ended == Ended::Left {
        talk.leave();
    }
    drop(talk);
    let frame = match ended {
        Ended::Closed(close) => Some(CloseFrame {
            code: close.code.into(),
            reason: close.reason.into(),
        }),
        Ended::Left | Ended::Lost => None,
    };
    part(&mut stream, frame).await;
    drop(held);
}

/// Closes in order: says so, and reads on for a moment, since closing with something unread would reset the connection and lose what
/// was said. A client that does not answer is closed all the same.
async fn part(stream: &mut WebSocketStream<Socket>, frame: Option<CloseFrame>) {
    let parting = async {
        if stream.close(frame).await.is_ok() {
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    drop(tokio::time::timeout(FAREWELL, parting).await);
}

/// What is next on a connection.
enum Step {
    Heard(tokio_tungstenite::tungstenite::Utf8Bytes),
    Alive,
    Say(tokio_tungstenite::tungstenite::Utf8Bytes),
    Ended(Ended),
}

async fn step(stream: &mut WebSocketStream<Socket>, outbox: &Outbox) -> Step {
    let mut stream = std::pin::Pin::new(stream);
    std::future::poll_fn(|cx| {
        // What waits goes first: a client that talks without end still hears.
        if let Poll::Ready(next) = outbox.poll_next(cx) {
            return Poll::Ready(match next {
                Next::Text(text) => Step::Say(text),
                Next::Close(close) => Step::Ended(Ended::Closed(close)),
            });
        }
        let Poll::Ready(message) = stream.as_mut().poll_next(cx) else {
            return Poll::Pending;
        };
        Poll::Ready(match message {
            Some(Ok(Message::Text(text))) => Step::Heard(text),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Step::Alive,
            Some(Ok(Message::Binary(_))) => Step::Ended(Ended::Closed(Close::POLICY)),
            Some(Ok(Message::Close(Some(frame))))
                if matches!(u16::from(frame.code), 1000 | 1001) =>
            {
                Step::Ended(Ended::Left)
            }
            Some(Err(Error::Capacity(_))) => Step::Ended(Ended::Closed(Close::TOO_BIG)),
            Some(Err(Error::Protocol(_) | Error::Utf8(_))) => {
                Step::Ended(Ended::Closed(Close::POLICY))
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => Step::Ended(Ended::Lost),
        })
    })
    .await
}

/// Writes one message; a client that does not read is given up when its outbox is.
async fn write(
    stream: &mut WebSocketStream<Socket>,
    outbox: &Outbox,
    message: Message,
) -> Result<(), Ended> {
    tokio::select! {
        biased;
        written = stream.send(message) => written.map_err(|_| Ended::Lost),
        close = std::future::poll_fn(|cx| outbox.poll_cut(cx)) => Err(Ended::Closed(close)),
    }
}
