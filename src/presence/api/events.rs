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
    // A reload that came to its end before this line was known has not ended it.
    let live = call.presence.live();
    live.check_key(&call.account, &call.key)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderMap;

    use super::*;
    use crate::clock::Clock;
    use crate::presence::plugin::Presence;
    use crate::presence::settings::{ApiAccess, Settings};
    use crate::presence::testing::{KEY, settings, token};

    /// Three configurations under which Alice's token opens no stream, and what it is told.
    fn revoking() -> [(Settings, StatusCode); 3] {
        let (mut no_key, mut internal, mut no_account) = (settings(), settings(), settings());
        no_key.accounts[0].keys.clear();
        internal.accounts[0].api = ApiAccess::Internal;
        no_account.accounts.clear();
        [
            (no_key, StatusCode::UNAUTHORIZED),
            (internal, StatusCode::FORBIDDEN),
            (no_account, StatusCode::UNAUTHORIZED),
        ]
    }

    /// Alice's request for a stream, as far as her token, which was good.
    fn asked(presence: &Arc<Presence>) -> Call {
        let (live, now) = (presence.live(), presence.clock.unix_time());
        let token = token("alice", &presence.clock);
        let grant = live.verifier.verify(&token, now).unwrap();
        Call {
            presence: Arc::clone(presence),
            account: Arc::clone(&live.accounts[0]),
            live,
            index: 0,
            viewer: Viewer::Bearer(Arc::new(grant)),
            key: KEY.into(),
            method: Method::GET,
            headers: HeaderMap::new(),
            query: "identities=alice".into(),
            body: None,
        }
    }

    // B35, B38: a request that was let in before a reload took its rights away opens no stream after it.
    #[test]
    fn a_stream_whose_rights_went_while_it_was_asked_for_is_not_opened() {
        for (after, status) in revoking() {
            let presence = Presence::new(Clock::manual());
            presence.configure(settings());
            let call = asked(&presence);
            presence.configure(after);
            assert_eq!(stream(&call).err().map(|fault| fault.status), Some(status));
            assert_eq!(presence.sockets.count(), 0, "nothing of it is left");
        }
    }

    // The same wherever between the two the reload comes: of two threads, one sees what the other did.
    #[test]
    fn no_stream_outlives_a_reload_that_it_crosses() {
        for round in 0..300 {
            let (after, _) = revoking()[round % 3].clone();
            let presence = Presence::new(Clock::manual());
            presence.configure(settings());
            let call = asked(&presence);
            let start = std::sync::Barrier::new(2);
            let opened = std::thread::scope(|threads| {
                threads.spawn(|| {
                    start.wait();
                    presence.configure(after);
                });
                start.wait();
                stream(&call)
            });
            let Ok(response) = opened else { continue };
            let Payload::Stream(mut events) = response.payload else {
                panic!("it is a stream");
            };
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(events.poll_next(&mut cx).is_ready(), "the list");
            assert!(
                matches!(events.poll_next(&mut cx), Poll::Ready(None)),
                "round {round}: it has ended"
            );
        }
    }
}
