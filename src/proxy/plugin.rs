//! What is mounted inside the gate instead of behind it: a request in, a response or an upgrade out.
//!
//! A plugin is an upstream without a socket. An editor is no upstream: it stands beside a route, and sees what passes on it. Its requests were classified and admitted like any other, their permit sits in the
//! response's body or in the upgraded connection, and are recorded at the end like any other. A panic of a plugin costs one
//! request: it is answered with 500, or its connection ends. Never sees the permit, nor how the gate forwards.

use std::fmt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;

use super::Asking;
use super::body::ResponseBody;
use super::context::{Context, Taught};
use super::outcome::Refusal;
use super::respond;
use super::upgrade::{OnUpgrade, Upgraded};
use super::upload::{RequestBody, UploadFault};
use crate::admission::Rejection;

/// A client that takes nothing of a plugin's answer for so long has stalled: as long as an upstream's `idle_timeout`, unless said.
const STALL_MAX: Duration = Duration::from_secs(60);

/// A future that a plugin hands out.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What answers requests inside the gate.
pub trait Plugin: fmt::Debug + Send + Sync + 'static {
    /// Answers one request. Dropping the future is how the plugin learns that the client has left.
    fn serve(&self, request: Request) -> Boxed<Response>;
}

/// What judges the requests of a resource, and edits the documents that answer them.
pub trait Edit: fmt::Debug + Send + Sync + 'static {
    /// Whether a request comes from whom it must; `body` is all of its body.
    fn is_genuine(&self, head: &Parts, body: &[u8]) -> bool;

    /// What the client gets instead of a document; `None` if it gets that.
    fn edit(&self, document: &[u8]) -> Option<Bytes>;

    /// An answer went by that is no document, or too long for one.
    fn pass_by(&self);
}

/// A request that was admitted.
#[derive(Debug)]
pub struct Request {
    /// Its head, as it came.
    pub head: Parts,
    /// Its body, unread.
    pub body: RequestBytes,
    /// Where it comes from; `None` behind a Unix socket.
    pub client: Option<IpAddr>,
    /// Whether the connection can be taken over.
    pub can_upgrade: bool,
}

/// The body of a request.
#[derive(Debug)]
pub struct RequestBytes(RequestBody);

/// Why a body cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// Longer than allowed.
    #[error("the body is too long")]
    TooLarge,
    /// It broke off, or its framing is broken.
    #[error("the body broke off")]
    Broken,
}

impl RequestBytes {
    /// Reads it to its end, if that comes within so many bytes.
    pub async fn read(mut self, max: usize) -> Result<Bytes, BodyFault> {
        let mut whole = BytesMut::new();
        while let Some(frame) = self.0.frame().await {
            let Ok(frame) = frame else {
                return Err(match self.0.upload().and_then(|upload| upload.fault()) {
                    Some(UploadFault::TooLarge) => BodyFault::TooLarge,
                    _ => BodyFault::Broken,
                });
            };
            let Ok(data) = frame.into_data() else { break };
            if whole.len() + data.len() > max {
                return Err(BodyFault::TooLarge);
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }
}

/// A body that is made while it is sent.
pub trait Stream: fmt::Debug + Send + Sync + 'static {
    /// The next piece, or `None` after the last.
    fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Bytes>>;
}

/// The body of a response.
#[derive(Debug)]
pub enum Payload {
    /// There already.
    Whole(Bytes),
    /// Made while it is sent; dropped when the client leaves.
    Stream(Box<dyn Stream>),
}

/// A client's connection after it was taken over.
pub type Socket = Upgraded;

/// What happens on a connection after it was taken over.
pub type OnSocket = Box<dyn FnOnce(Socket) -> Boxed<()> + Send>;

/// An answer.
pub struct Response {
    /// Its status; 101 with `upgrade` only.
    pub status: StatusCode,
    /// Its fields, without those of the connection.
    pub headers: HeaderMap,
    /// Its body.
    pub payload: Payload,
    /// The connection changes hands: the protocol, and what happens then.
    pub upgrade: Option<(HeaderValue, OnSocket)>,
    /// A limit has no place for what the request asks for: the gate says so in its own words, and all else is left out.
    refusal: Option<Box<Rejection>>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Response {
    /// An answer with that body.
    #[must_use]
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            payload: Payload::Whole(body.into()),
            upgrade: None,
            refusal: None,
        }
    }

    /// The gate's own answer to what a limit has no place for.
    #[must_use]
    pub fn refused(rejection: Box<Rejection>) -> Self {
        Self {
            refusal: Some(rejection),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "")
        }
    }
}

/// Has the plugin answer a request that has its place.
pub(super) async fn answer(
    mut context: Box<Context>,
    asking: Asking,
    plugin: Arc<dyn Plugin>,
) -> http::Response<ResponseBody> {
    let Asking {
        seen,
        body,
        upgrade: on_client,
    } = asking;
    context.connection().activity.bound_stall(STALL_MAX);
    let head = &context.request.head;
    let request = Request {
        client: context.connection().peer.client_address(&head.fields),
        can_upgrade: on_client.is_some(),
        head: head.to_parts(),
        body: RequestBytes(body),
    };
    let served = AssertUnwindSafe(async { plugin.serve(request).await }).catch_unwind();
    let served = tokio::select! {
        biased;
        served = served => served,
        () = context.request.hangup().asked() => {
            return respond::refuse(context, &Refusal::Cancelled, seen.is_grpc);
        }
    };
    let Ok(served) = served else {
        tracing::error!("the plugin panicked; its request is answered with 500");
        return respond::refuse(context, &Refusal::PluginBroke, seen.is_grpc);
    };
    if let Some(rejection) = served.refusal {
        return respond::refuse(context, &Refusal::Limit(rejection), seen.is_grpc);
    }
    let now = context.local.gate.clock.now();
    let policy = context.route().map(|(route, _)| route.stream);
    let policy = policy.unwrap_or_default();
    let mut response = http::Response::new(());
    *response.status_mut() = served.status;
    *response.headers_mut() = served.headers;
    let in_flight = context.account_in_flight();
    respond::finish(&context, response.headers_mut(), in_flight, now);
    let taught = Taught {
        is_stream: served.upgrade.is_some() || matches!(served.payload, Payload::Stream(_)),
        sent: None,
    };
    if let (Some((protocol, on_socket)), Some(on_client)) = (served.upgrade, on_client) {
        let fields = response.headers_mut();
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(UPGRADE, protocol);
        context.answered(101, taught, policy, now);
        tokio::spawn(take_over(on_client, on_socket, context));
        return response.map(|()| ResponseBody::own(Bytes::new(), None));
    }
    context.answered(served.status.as_u16(), taught, policy, now);
    response.map(|()| match served.payload {
        Payload::Whole(bytes) => ResponseBody::own(bytes, Some(context)),
        Payload::Stream(stream) => ResponseBody::stream(stream, context),
    })
}

/// Runs what happens on the connection, with the request's context at hand until it is over.
async fn take_over(client: OnUpgrade, on_socket: OnSocket, mut context: Box<Context>) {
    let open = context.local.gate.open();
    if let Ok(upgraded) = client.await {
        let session = AssertUnwindSafe(on_socket(upgraded)).catch_unwind();
        tokio::select! {
            session = session => if session.is_err() {
                tracing::error!("the plugin panicked; its connection is closed");
            },
            () = context.request.hangup().asked() => {}
        }
    }
    if context.request.hangup().is_asked() {
        context.cut();
    }
    drop(context);
    drop(open);
}
