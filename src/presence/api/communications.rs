//! `/v1/communications`: calls and messages that another system brings: a carrier's edge, a page of the customer's.
//!
//! For account keys only. A call answers 201 once it has its place; what becomes of it is read from its record, or followed as
//! server-sent events. The same `Idempotency-Key` within a day finds the call of the first request.

use std::sync::Arc;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Call, answer, empty, events};
use crate::presence::call::board::Event;
use crate::presence::call::book::Record;
use crate::presence::call::start::{self, Asked};
use crate::presence::call::switch::call_sid;
use crate::presence::fault::Fault;
use crate::presence::fetch::fields::{client_parameters, form_of};
use crate::presence::message::{self, BODY_MAX, Message, SENT_MAX};
use crate::presence::name::Name;
use crate::presence::routing;
use crate::presence::settings::{Application, Script};
use crate::presence::token::Medium;
use crate::presence::viewer::Viewer;
use crate::proxy::plugin::Response;

/// Longest body: a session description and what goes with it.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest `Idempotency-Key`, `from` and `to`.
const KEY_MAX: usize = 255;
const ADDRESS_MAX: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Communication {
    to: String,
    from: String,
    medium: Option<String>,
    application: Option<String>,
    sdp: Option<String>,
    body: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// `POST /v1/communications`.
pub(in crate::presence) async fn begin(mut call: Call) -> Result<Response, Fault> {
    if call.method != Method::POST {
        return Err(Fault::method("POST"));
    }
    check_key(&call)?;
    let key = idempotency_key(&call)?;
    let now = call.presence.clock.now();
    if let Some(key) = &key {
        let first = call.account.book.lock().repeated(key, now);
        if let Some(first) = first {
            return Ok(begun(&call, &first));
        }
    }
    let asked: Communication = call.json(BODY_BYTES_MAX).await?;
    for text in [&asked.to, &asked.from] {
        let is_plain = !text.chars().any(char::is_control);
        if text.is_empty() || text.len() > ADDRESS_MAX || !is_plain {
            return Err(Fault::bad(
                "`to` and `from` are numbers, or `client:` and an identity",
            ));
        }
    }
    let medium = asked.medium.as_deref().unwrap_or("voice");
    let medium = Medium::of_word(medium);
    let medium = medium.ok_or_else(|| Fault::bad("`medium` is `voice` or `message`"))?;
    match medium {
        Medium::Voice => voice(call, asked, key).await,
        Medium::Message => message(&call, asked, key),
    }
}

async fn voice(call: Call, asked: Communication, key: Option<String>) -> Result<Response, Fault> {
    let offer = start::description(asked.sdp.as_deref().unwrap_or_default())?;
    let (parameters, clients, application, script) =
        instructions(&call, &asked, |of| of.voice.as_ref())?;
    let asked = Asked {
        from: asked.from,
        to: asked.to,
        application,
        parameters,
        clients,
        script,
        offer,
    };
    let sid = call_sid();
    // The place first: what is refused leaves no trace.
    let seat = match call.presence.doors() {
        None => None,
        Some(doors) => {
            let resource = &call.live.settings.call_resource;
            match doors.admit(&call.account.sid, resource, &sid).await {
                Ok(seat) => seat,
                Err(rejection) => return Ok(Response::refused(rejection)),
            }
        }
    };
    let ready = start::prepare(&call.presence, &call.account, &sid, asked, None)?;
    if let Some(first) = remember(&call, key, &sid) {
        return Ok(begun(&call, &first));
    }
    tokio::spawn(ready.run(seat));
    Ok(begun(&call, &sid))
}

/// What a communication that was taken is answered with, the first time and whenever it is asked for again.
fn begun(call: &Call, sid: &str) -> Response {
    let now = call.presence.clock.now();
    let record = call.account.book.lock().find(sid, now);
    let status = record.map(|record| record.lock().status);
    let status = status.map_or("queued", |status| status.as_str());
    answer(
        StatusCode::CREATED,
        &json!({ "sid": sid, "status": status }),
    )
}

fn message(call: &Call, asked: Communication, key: Option<String>) -> Result<Response, Fault> {
    let body = asked.body.clone().unwrap_or_default();
    if body.is_empty() || body.chars().count() > BODY_MAX {
        return Err(Fault::bad(
            "`body` is the message's text, of up to 1,600 characters",
        ));
    }
    let (parameters, clients, application, script) =
        instructions(call, &asked, |of| of.messaging.as_ref())?;
    let sid = message::message_sid();
    let sent = call.account.send(SENT_MAX);
    let sent = sent
        .ok_or_else(|| Fault::too_many("this account has as many messages under way as may be"))?;
    let record = Record::new(&sid, ("inbound", "message"), &asked.from, &asked.to);
    let record = Arc::new(Mutex::new(record));
    let now = call.presence.clock.now();
    if !call.account.book.lock().begin(&record, None, now) {
        return Err(Fault::too_many(
            "this account has as many messages under way as may be",
        ));
    }
    if let Some(first) = remember(call, key, &sid) {
        call.account.book.lock().end(&sid, now);
        return Ok(begun(call, &first));
    }
    let script = script.map(|script| {
        let own = [
            ("MessageSid", sid.as_str()),
            ("AccountSid", &call.account.sid),
            ("ApiVersion", "2010-04-01"),
            ("From", &asked.from),
            ("To", &asked.to),
            ("Body", &body),
        ];
        let application = application.as_deref().map(|sid| ("ApplicationSid", sid));
        let own = own.into_iter().chain(application);
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut fields: Vec<_> = own.chain(parameters).collect();
        let who: Vec<_> = called(call, &asked.to).into_iter().chain(clients).collect();
        let presence = crate::presence::call::told::told(&call.account, &who);
        fields.push(("Presence".into(), presence));
        (script, fields)
    });
    let message = Message {
        sid: sid.clone(),
        from: asked.from,
        to: asked.to,
        body,
        record: Some(record),
    };
    let (presence, account) = (Arc::clone(&call.presence), Arc::clone(&call.account));
    tokio::spawn(message::run(presence, account, message, script, sent));
    Ok(begun(call, &sid))
}

/// Who is meant by a client's name.
fn called(call: &Call, to: &str) -> Vec<Name> {
    let Some((name, of)) = to
        .strip_prefix("client:")
        .zip(start::settings_of(&call.live, &call.account).ok())
    else {
        return Vec::new();
    };
    let target = call
        .account
        .with(|state| routing::target(&state.registry, &of.destinations, name));
    let parties = target.into_iter().flat_map(|target| target.parties);
    parties.map(|party| party.identity).collect()
}

type Instructed = (
    Vec<(String, String)>,
    Vec<Name>,
    Option<String>,
    Option<Script>,
);

/// By whose instructions it goes: the number's, the application's, or none where a client is named without one.
fn instructions(
    call: &Call,
    asked: &Communication,
    of: impl Fn(&Application) -> Option<&Script>,
) -> Result<Instructed, Fault> {
    let settings = start::settings_of(&call.live, &call.account)?;
    let application = match (&asked.application, asked.to.strip_prefix("client:")) {
        (Some(sid), _) => Some(start::application(settings, sid)?),
        (None, Some(name)) => {
            Name::new(name).map_err(|_| Fault::bad_name("to"))?;
            None
        }
        (None, None) => {
            let mut numbers = settings.numbers.iter();
            let number = numbers.find(|(number, _)| *number == asked.to);
            let (_, number) = number.ok_or_else(|| {
                Fault::not_found("there is no such number (`presence.accounts.numbers`)")
            })?;
            Some(number)
        }
    };
    let form = form_of(None, &asked.parameters);
    let (parameters, dropped) = client_parameters(&form, &[]);
    call.presence.stats.count_dropped_parameters(dropped);
    let Some(application) = application else {
        return Ok((parameters, Vec::new(), None, None));
    };
    let script = of(application).cloned();
    let script = script.ok_or_else(|| {
        Fault::not_found("nothing is configured for this medium there (`voice`, `messaging`)")
    })?;
    let clients = application.clients.clone();
    Ok((parameters, clients, asked.application.clone(), Some(script)))
}

fn check_key(call: &Call) -> Result<(), Fault> {
    match call.viewer {
        Viewer::Account => Ok(()),
        Viewer::Bearer(_) => Err(Fault::forbidden(
            "communications are for account keys (basic authentication)",
        )),
    }
}

fn idempotency_key(call: &Call) -> Result<Option<String>, Fault> {
    let Some(key) = call.headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = key.to_str().ok().filter(|key| key.len() <= KEY_MAX);
    let key = key.ok_or_else(|| Fault::bad("`idempotency-key` has up to 255 plain characters"))?;
    Ok(Some(key.to_owned()))
}

/// Has the key find that communication from now on; the one of a request with the same key that was faster, if there was.
fn remember(call: &Call, key: Option<String>, sid: &str) -> Option<String> {
    let now = call.presence.clock.now();
    call.account.book.lock().key(&key?, sid, now)
}

/// `GET` and `DELETE /v1/communications/{sid}`.
pub(in crate::presence) fn one(call: &Call, sid: &str) -> Result<Response, Fault> {
    check_key(call)?;
    let record = find(call, sid)?;
    match call.method {
        Method::GET => Ok(answer(StatusCode::OK, &*record.lock())),
        Method::DELETE => {
            let live = call.account.book.lock().call(sid);
            if let Some(live) = live {
                live.tell(Event::Cancelled);
            }
            Ok(empty(StatusCode::NO_CONTENT))
        }
        _ => Err(Fault::method("GET, DELETE")),
    }
}

fn find(call: &Call, sid: &str) -> Result<Arc<Mutex<Record>>, Fault> {
    let now = call.presence.clock.now();
    let found = call.account.book.lock().find(sid, now);
    found.ok_or_else(|| {
        Fault::not_found("there is no such communication; they are kept for 10 minutes")
    })
}

/// `GET /v1/communications/{sid}/events`: how it stands, and then what happens, to its end.
pub(in crate::presence) fn events(call: &Call, sid: &str) -> Result<Response, Fault> {
    check_key(call)?;
    if call.method != Method::GET {
        return Err(Fault::method("GET"));
    }
    let record = find(call, sid)?;
    let (held, open) = events::open(call)?;
    if !record.lock().follow(&held.line.outbox) {
        return Err(Fault::too_many(
            "this call has as many streams open as may be; close some",
        ));
    }
    Ok(events::answer((held, open), ()))
}
