//! `GET /v1/presence/events`: the list once and then changes, as server-sent events (HTML standard, §9.2).
//!
//! The stream is an outbox like a socket's: no task is behind it, and it ends when its client leaves, its token ends or the gate goes
//! down. Reconnecting gets a fresh list, so that no events are numbered or kept.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::Call;
use super::ask;
use crate::presence::account::Open;
use crate::presence::fault::Fault;
use crate::presence::registry::session::Moment;
use crate::presence::signal::sockets::Held;
use crate::presence::subscription::form::Form;
use crate::presence::subscription::outbox::Next;
use crate::presence::viewer::Viewer;
use crate::proxy::plugin::{Payload, Response, Stream};

/// nginx and its like hold answers back unless told.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// One open stream, and what is kept as long as it is.
#[derive(Debug)]
struct Events<T> {
    held: Held,
    _open: Open,
    _kept: T,
}

/// A place for one more stream, which ends with the credentials that opened it.
pub(super) fn open(call: &Call) -> Result<(Held, Open), Fault> {
    if call.presence.sockets.is_draining() {
        return Err(Fault::later(StatusCode::SERVICE_UNAVAILABLE));
    }
    let settings = &call.live.settings;
    let at = Moment::of(&call.presence.clock);
    let too_many = || Fault::too_many("as many sockets and streams are open as may be; close some");
    let open = call.account.open(settings.max_sockets_per_account);
    let open = open.ok_or_else(too_many)?;
    let (max, heartbeat) = (settings.max_sockets, settings.heartbeat);
    let sockets = &call.presence.sockets;
    let held = sockets.open(Form::Event, max, heartbeat, at.now);
    let held = held.ok_or_else(too_many)?;
    let token_end = match &call.viewer {
        Viewer::Account => None,
        Viewer::Bearer(grant) => Some(at.instant_of(grant.ends())),
    };
    held.line.know(token_end, &call.account.sid, &call.key);
    Ok((held, open))
}

/// The answer that is such a stream; something may be kept as long as it is open.
pub(super) fn answer(
    (held, open): (Held, Open),
    kept: impl std::fmt::Debug + Send + Sync + 'static,
) -> Response {
    let mut response = Response::new(StatusCode::OK, "");
    response.payload = Payload::Stream(Box::new(Events {
        held,
        _open: open,
        _kept: kept,
    }));
    let fields = &mut response.headers;
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Begins a stream.
pub(in crate::presence) fn stream(call: &Call) -> Result<Response, Fault> {
    if call.method != Method::GET {
        return Err(Fault::method("GET"));
    }
    call.check_access()?;
    let (identities, list) = (call.list_parameter("identities"), call.parameter("list"));
    let of = call.parameter("identity");
    let wanted = ask::wanted(
        &call.viewer,
        identities.as_deref(),
        list.as_deref(),
        of.as_deref(),
    )?;
    let with_devices = call.parameter("devices").as_deref() == Some("true");
    let (held, open) = open(call)?;
    let subscription = call.account.subscribe(
        &held.line.outbox,
        Form::Event,
        call.viewer.clone(),
        wanted,
        with_devices,
        |outbox, list| outbox.say(list),
    )?;
    Ok(answer((held, open), subscription))
}

impl<T: std::fmt::Debug + Send + Sync + 'static> Stream for Events<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.held.line.outbox.poll_next(cx).map(|next| match next {
            Next::Text(text) => Some(Bytes::from(text)),
            Next::Close(_) => None,
        })
    }
}
