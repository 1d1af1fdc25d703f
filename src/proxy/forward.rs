//! Sends a request on and waits for the answer's head.
//!
//! A connection of this thread's pool first, a fresh one else. A pooled connection that turns out dead is replaced once,
//! when nothing was sent on it, or when the request may be repeated and has no body. A dropped future closes the upstream
//! connection, and with it the upstream learns that its client has left. Never buffers a body, never retries an answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;

use super::body::{RequestBody, Upload, UploadFault};
use super::outcome::Refusal;
use super::pool;
use super::upstream::{ConnectError, Sender, Upstream};

/// An answer's head, with the connection that its body comes on.
pub(super) type Answered = (Response<Incoming>, Sender);

/// Sends the request and waits for the answer's head.
pub(super) async fn forward(
    upstream: &Arc<Upstream>,
    head: Parts,
    body: RequestBody,
    now: Instant,
) -> Result<Answered, Refusal> {
    let upload = body.upload();
    let Some(mut sender) = pool::checkout(upstream, now) else {
        let sender = connect(upstream).await?;
        return fresh(
            upstream,
            sender,
            Request::from_parts(head, body),
            upload.as_deref(),
        )
        .await;
    };
    // What may be repeated is what asks for nothing new (RFC 9110 §9.2.2) and has no body that is gone after one reading.
    let copy = (head.method.is_idempotent() && body.is_empty()).then(|| copy_of(&head));
    let request = Request::from_parts(head, body);
    let (error, unsent) = match send(upstream, &mut sender, request, upload.as_deref(), now).await {
        Ok(response) => return Ok((response, sender)),
        Err(Failed::Refusal(refusal)) => return Err(refusal),
        Err(Failed::Connection(error, unsent)) => (error, unsent),
    };
    let again = unsent.map(|request| *request);
    let again =
        again.or_else(|| copy.map(|head| Request::from_parts(head, RequestBody::default())));
    let is_dead = error.is_canceled() || error.is_closed() || is_broken(&error);
    let (Some(request), true) = (again, is_dead) else {
        return Err(Refusal::UpstreamBroke);
    };
    let sender = connect(upstream).await?;
    fresh(upstream, sender, request, upload.as_deref()).await
}

async fn fresh(
    upstream: &Arc<Upstream>,
    mut sender: Sender,
    request: Request<RequestBody>,
    upload: Option<&Upload>,
) -> Result<Answered, Refusal> {
    let now = upstream.clock().now();
    match send(upstream, &mut sender, request, upload, now).await {
        Ok(response) => Ok((response, sender)),
        Err(Failed::Refusal(refusal)) => Err(refusal),
        Err(Failed::Connection(..)) => Err(Refusal::UpstreamBroke),
    }
}

async fn connect(upstream: &Arc<Upstream>) -> Result<Sender, Refusal> {
    Box::pin(upstream.connect()).await.map_err(|error| {
        tracing::debug!(upstream = upstream.name(), %error, "no connection");
        match error {
            ConnectError::TimedOut => Refusal::UpstreamTimeout,
            ConnectError::Unreachable(_) | ConnectError::Broke(_) => Refusal::UpstreamUnreachable,
        }
    })
}

enum Failed {
    Refusal(Refusal),
    /// The connection failed; the request comes back if nothing of it was sent.
    Connection(hyper::Error, Option<Box<Request<RequestBody>>>),
}

async fn send(
    upstream: &Upstream,
    sender: &mut Sender,
    request: Request<RequestBody>,
    upload: Option<&Upload>,
    started: Instant,
) -> Result<Response<Incoming>, Failed> {
    let mut answer = std::pin::pin!(sender.try_send_request(request));
    let mut answered = tokio::select! {
        biased;
        answered = &mut answer => Some(answered),
        () = overdue(upstream, upload, started) => None,
    };
    if answered.is_none() {
        // The answer may have come in the same instant.
        answered = std::future::poll_fn(|cx| {
            let now = match answer.as_mut().poll(cx) {
                std::task::Poll::Ready(answered) => Some(answered),
                std::task::Poll::Pending => None,
            };
            std::task::Poll::Ready(now)
        })
        .await;
    }
    let is_uploading = upload.is_some_and(|upload| !upload.progress().1);
    match (answered, upload.and_then(Upload::fault)) {
        (Some(Ok(response)), _) => Ok(response),
        (_, Some(UploadFault::TooLarge)) => Err(Failed::Refusal(Refusal::BodyTooLarge)),
        (_, Some(UploadFault::Broken)) => Err(Failed::Refusal(Refusal::BodyInvalid)),
        (Some(Err(mut error)), None) => {
            let unsent = error.take_message().map(Box::new);
            Err(Failed::Connection(error.into_error(), unsent))
        }
        (None, None) if is_uploading => Err(Failed::Refusal(Refusal::ClientTimeout)),
        (None, None) => Err(Failed::Refusal(Refusal::UpstreamTimeout)),
    }
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

/// The same head again. Extensions are left out: they belong to the connection that the request came on.
fn copy_of(head: &Parts) -> Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = head.method.clone();
    copy.uri = head.uri.clone();
    copy.version = head.version;
    copy.headers = head.headers.clone();
    copy
}

fn is_broken(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || {
        let cause = std::error::Error::source(error);
        cause.is_some_and(<dyn pingora_core::ErrorTrait + 'static>::is::<std::io::Error>)
    }
}
