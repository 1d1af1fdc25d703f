//! Sends a request on and waits for the answer's head.
//!
//! A connection of this thread's pool first, a fresh one else. A pooled connection that turns out dead is replaced once,
//! when nothing was sent on it, or when the request may be repeated and has no body. Writing and reading go on side by side, so
//! an answer may come before the request is through. A dropped exchange closes the upstream connection, and with it the
//! upstream learns that its client has left. Never buffers a body, never retries an answer.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::incoming::{self, Broken, Head};
use super::outcome::Refusal;
use super::outgoing::{Outgoing, Stopped};
use super::pool;
use super::socket::Socket;
use super::upload::{Upload, UploadFault};
use super::upstream::{ConnectError, Upstream};

/// What an exchange needs to know of its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// It may be sent twice (RFC 9110 §9.2.2).
    pub(super) is_idempotent: bool,
    /// Its answer has no body, whatever the head says.
    pub(super) is_head_request: bool,
}

/// An answer's head, with the connection that its body comes on, and what is left of the request if the answer was early.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) head: Head,
    pub(super) socket: Socket,
    pub(super) rest: Option<Box<Outgoing>>,
}

/// Sends the request and waits for the answer's head.
pub(super) async fn forward(
    upstream: &Arc<Upstream>,
    mut request: Outgoing,
    manner: Manner,
    now: Instant,
) -> Result<Answered, Refusal> {
    let upload = request.body().upload();
    let upload = upload.as_deref();
    if let Some(mut socket) = pool::checkout(upstream, now) {
        match exchange(upstream, &mut socket, &mut request, manner, upload, now).await {
            Ok(head) => return Ok(answered(head, socket, request)),
            Err(Failed::Refusal(refusal)) => return Err(refusal),
            Err(Failed::Connection { has_answered }) => {
                if has_answered || !request.can_rewind(manner.is_idempotent) {
                    return Err(Refusal::UpstreamBroke);
                }
                request.rewind();
            }
        }
    }
    let mut socket = Box::pin(connect(upstream)).await?;
    let now = upstream.clock().now();
    match exchange(upstream, &mut socket, &mut request, manner, upload, now).await {
        Ok(head) => Ok(answered(head, socket, request)),
        Err(Failed::Refusal(refusal)) => Err(refusal),
        Err(Failed::Connection { .. }) => Err(Refusal::UpstreamBroke),
    }
}

fn answered(head: Head, socket: Socket, request: Outgoing) -> Answered {
    let rest = (!request.is_done()).then(|| Box::new(request));
    Answered { head, socket, rest }
}

async fn connect(upstream: &Arc<Upstream>) -> Result<Socket, Refusal> {
    upstream.connect().await.map_err(|error| {
        tracing::debug!(upstream = upstream.name(), %error, "no connection");
        match error {
            ConnectError::TimedOut => Refusal::UpstreamTimeout,
            ConnectError::Unreachable(_) => Refusal::UpstreamUnreachable,
        }
    })
}

#[derive(Debug)]
enum Failed {
    Refusal(Refusal),
    /// The connection failed, before or after something of an answer came.
    Connection {
        has_answered: bool,
    },
}

async fn exchange(
    upstream: &Upstream,
    socket: &mut Socket,
    request: &mut Outgoing,
    manner: Manner,
    upload: Option<&Upload>,
    started: Instant,
) -> Result<Head, Failed> {
    let answer = std::future::poll_fn(|cx| poll_exchange(socket, request, manner, cx));
    tokio::select! {
        biased;
        answer = answer => answer,
        () = overdue(upstream, upload, started) => {
            let is_uploading =
                upload.is_some_and(|upload| !upload.progress().1) && !request.is_blocked();
            let late = if is_uploading { Refusal::ClientTimeout } else { Refusal::UpstreamTimeout };
            Err(Failed::Refusal(late))
        }
    }
}

/// Writes what can be written, and reads what there is of the answer.
fn poll_exchange(
    socket: &mut Socket,
    request: &mut Outgoing,
    manner: Manner,
    cx: &mut Context<'_>,
) -> Poll<Result<Head, Failed>> {
    // An upstream that takes no more may have said why: that is read below.
    if let Poll::Ready(Err(Stopped::Body)) = request.poll_write(socket, cx) {
        let fault = request.body().upload().and_then(|upload| upload.fault());
        return Poll::Ready(Err(Failed::Refusal(match fault {
            Some(UploadFault::TooLarge) => Refusal::BodyTooLarge,
            _ => Refusal::BodyInvalid,
        })));
    }
    let head = match incoming::poll_head(socket, cx, manner.is_head_request) {
        Poll::Pending => return Poll::Pending,
        Poll::Ready(head) => head,
    };
    Poll::Ready(head.map_err(|error| {
        tracing::debug!(%error, "no answer");
        let has_answered = matches!(error, Broken::Syntax(_)) || !socket.unused().is_empty();
        Failed::Connection { has_answered }
    }))
}

/// Ends when the upload has stood still for `idle_timeout`, or the answer's head is later than `response_timeout` after the
/// request was sent.
async fn overdue(upstream: &Upstream, upload: Option<&Upload>, started: Instant) {
    let settings = &upstream.settings;
    let mut now = started;
    loop {
        let due: Instant = match upload.map(Upload::progress) {
            None => started + settings.response_timeout,
            Some((at, true)) => at.max(started) + settings.response_timeout,
            Some((at, false)) => at.max(started) + settings.idle_timeout,
        };
        let left = due.saturating_duration_since(now);
        if left.is_zero() {
            return;
        }
        // Looked at again before a short timeout can have passed unnoticed since the upload's end.
        let look = if upload.is_some() {
            left.min(settings.response_timeout)
        } else {
            left
        };
        tokio::time::sleep(look.max(Duration::from_millis(1))).await;
        now = upstream.clock().now();
    }
}
