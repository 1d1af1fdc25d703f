//! Sends a request on and waits for the answer's head.
//!
//! A connection of this thread's pool first, a fresh one else. A pooled connection that turns out dead is replaced once,
//! when nothing was sent on it, or when the request may be repeated and has no body. An endpoint that takes no connection, or
//! breaks a fresh one on such a request, is left for another one, once a request. Writing and reading go on side by side, so
//! an answer may come before the request is through. A dropped exchange closes the upstream connection, and with it the
//! upstream learns that its client has left. Never buffers a body, never retries an answer.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::incoming::{self, Broken, Head};
use super::outcome::Refusal;
use super::outgoing::{Outgoing, Stopped};
use super::pool;
use super::socket::{Alarm, Socket};
use super::upload::{Upload, UploadFault};
use super::upstream::{ConnectError, Upstream, Visit};
use crate::admission::AccountName;

/// What an exchange needs to know of its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner<'a> {
    /// Who pays: some upstreams are chosen by it.
    pub(super) account: &'a AccountName,
    /// It may be sent twice (RFC 9110 §9.2.2).
    pub(super) is_idempotent: bool,
    /// Its answer has no body, whatever the head says.
    pub(super) is_head_request: bool,
}

/// An answer's head, with the connection that its body comes on, and what is left of the request if the answer was early.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) head: Head,
    pub(super) socket: Box<Socket>,
    pub(super) visit: Visit,
    pub(super) rest: Option<Box<Outgoing>>,
    /// When the request's last byte came, if it had a body and is through.
    pub(super) sent: Option<Instant>,
}

/// Sends the request and waits for the answer's head.
pub(super) async fn forward(
    mut visit: Visit,
    mut request: Outgoing,
    manner: Manner<'_>,
    now: Instant,
) -> Result<Answered, Refusal> {
    let upload = request.body().upload();
    let upload = upload.as_deref();
    if let Some(mut socket) = pool::checkout(&visit, now) {
        match exchange(&visit, &mut socket, &mut request, manner, upload, now).await {
            Ok(head) => return Ok(answered(head, socket, visit, request)),
            Err(Failed::Refusal(refusal)) => return Err(refusal),
            Err(Failed::Connection { has_answered }) => {
                // One that ends in silence may just have been closed while idle; nonsense is the endpoint's fault.
                if has_answered {
                    visit.failed();
                }
                if has_answered || !request.can_rewind(manner.is_idempotent) {
                    return Err(Refusal::UpstreamBroke);
                }
                request.rewind();
            }
        }
    }
    let mut has_moved = false;
    loop {
        let mut socket = Box::pin(connect(&mut visit, manner, &mut has_moved)).await?;
        let now = visit.clock().now();
        match exchange(&visit, &mut socket, &mut request, manner, upload, now).await {
            Ok(head) => return Ok(answered(head, socket, visit, request)),
            Err(Failed::Refusal(refusal)) => return Err(refusal),
            Err(Failed::Connection { has_answered }) => {
                visit.failed();
                let may_move =
                    !has_moved && !has_answered && request.can_rewind(manner.is_idempotent);
                if !may_move || !visit.move_on(manner.account.as_bytes(), now) {
                    return Err(Refusal::UpstreamBroke);
                }
                has_moved = true;
                request.rewind();
            }
        }
    }
}

fn answered(head: Head, socket: Box<Socket>, visit: Visit, request: Outgoing) -> Answered {
    let upload = request.body().upload();
    let sent = upload.and_then(|upload| match upload.progress() {
        (at, true) => Some(at),
        (_, false) => None,
    });
    let rest = (!request.is_done()).then(|| Box::new(request));
    Answered {
        head,
        socket,
        visit,
        rest,
        sent,
    }
}

/// A fresh connection, to another endpoint if this one takes none and the request has not moved before.
async fn connect(
    visit: &mut Visit,
    manner: Manner<'_>,
    has_moved: &mut bool,
) -> Result<Box<Socket>, Refusal> {
    loop {
        let error = match visit.connect().await {
            Ok(socket) => return Ok(socket),
            Err(error) => error,
        };
        let (upstream, endpoint) = (visit.name(), &*visit.endpoint().name);
        tracing::debug!(upstream, endpoint, %error, "no connection");
        let now = visit.clock().now();
        if *has_moved || !visit.move_on(manner.account.as_bytes(), now) {
            return Err(match error {
                ConnectError::TimedOut => Refusal::UpstreamTimeout,
                ConnectError::Unreachable(_) => Refusal::UpstreamUnreachable,
            });
        }
        *has_moved = true;
    }
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
    visit: &Visit,
    socket: &mut Socket,
    request: &mut Outgoing,
    manner: Manner<'_>,
    upload: Option<&Upload>,
    started: Instant,
) -> Result<Head, Failed> {
    let mut alarm = socket.take_alarm();
    let answer = std::future::poll_fn(|cx| poll_exchange(socket, request, manner, cx));
    let answered = tokio::select! {
        biased;
        answer = answer => answer,
        () = overdue(visit, upload, started, &mut alarm) => {
            let is_uploading =
                upload.is_some_and(|upload| !upload.progress().1) && !request.is_blocked();
            let late = if is_uploading { Refusal::ClientTimeout } else { Refusal::UpstreamTimeout };
            Err(Failed::Refusal(late))
        }
    };
    socket.put_alarm(alarm);
    match &answered {
        Ok(_) => visit.succeeded(started),
        Err(Failed::Refusal(Refusal::UpstreamTimeout)) => visit.failed(),
        Err(_) => {}
    }
    answered
}

/// Writes what can be written, and reads what there is of the answer.
fn poll_exchange(
    socket: &mut Socket,
    request: &mut Outgoing,
    manner: Manner<'_>,
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
async fn overdue(
    upstream: &Upstream,
    upload: Option<&Upload>,
    started: Instant,
    alarm: &mut Option<Alarm>,
) {
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
        let until = (now + look.max(Duration::from_millis(1))).into();
        let alarm = alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if alarm.is_elapsed() || alarm.deadline() > until {
            alarm.as_mut().reset(until);
        }
        alarm.as_mut().await;
        now = upstream.clock().now();
    }
}
