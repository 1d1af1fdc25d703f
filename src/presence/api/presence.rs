//! `/v1/presence`: reports over the API, one identity, many at once, and the log.

use std::time::{Duration, UNIX_EPOCH};

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ask::{self, Answer, Question, Said};
use super::xmpp;
use super::{Call, QUESTION_MAX, answer, empty};
use crate::presence::fault::Fault;
use crate::presence::name::Name;
use crate::presence::peers::merge;
use crate::presence::registry::arrival::TokenEnd;
use crate::presence::registry::consolidate::Item;
use crate::presence::registry::history::LOG_MAX;
use crate::presence::registry::session::{Moment, Report, SocketId, Source};
use crate::presence::signal::page::APP;
use crate::presence::subscription::outbox::Close;
use crate::presence::viewer::Viewer;
use crate::proxy::plugin::Response;

/// Longest body of a report.
const REPORT_MAX: usize = 16 * 1024;
/// How long a report counts that does not say, and at least and at most.
const TTL: Duration = Duration::from_mins(5);
const TTL_MIN: Duration = Duration::from_secs(10);
const TTL_MAX: Duration = Duration::from_hours(24);
/// Entries of a log in one answer, unless it is said.
const PAGE: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    identity: Option<String>,
    device: Option<String>,
    app: Option<String>,
    status: Option<String>,
    reason: Option<crate::presence::Reason>,
    text: Option<String>,
    ttl: Option<String>,
}

/// What a report is about.
struct Target {
    identity: Name,
    device: Name,
    app: Name,
    ttl: Duration,
    source: Source,
}

#[derive(Debug, Serialize)]
struct Changed {
    #[serde(flatten)]
    item: Item,
    changed: bool,
}

/// `PUT /v1/presence`, and `GET` and `DELETE` of a name that stands in the query: any name, where a path has no room for one with a
/// `/` in it, encoded or not, nor for `.`, `..`, `query` and `events`.
pub(in crate::presence) async fn whole(call: Call) -> Result<Response, Fault> {
    let named = |parameter: &str| {
        let text = call.parameter(parameter);
        let missing = || Fault::bad(format!("`?{parameter}=` says which"));
        ask::name(&text.ok_or_else(missing)?, parameter)
    };
    match call.method {
        Method::PUT => put(call).await,
        Method::GET => one(&call, &named("identity")?).await,
        Method::DELETE => one(&call, &named("device")?).await,
        _ => Err(Fault::method("GET, PUT, DELETE")),
    }
}

/// A report, in JSON or as an XMPP stanza.
async fn put(mut call: Call) -> Result<Response, Fault> {
    if let Viewer::Bearer(grant) = &call.viewer
        && !grant.may_give
    {
        return Err(Fault::forbidden(
            "this token does not allow to give presence (`grants.presence.publish`)",
        ));
    }
    let kind = call
        .headers
        .get(CONTENT_TYPE)
        .map(http::HeaderValue::as_bytes);
    let is_xmpp = kind.is_some_and(|kind| kind.starts_with(b"application/xmpp+xml"));
    let (target, report) = if is_xmpp {
        stanza(&mut call).await?
    } else {
        words(&mut call).await?
    };
    match report {
        Some(report) => reported(&call, &target, report),
        None => {
            let gone = leave(
                &call,
                &target.identity,
                &target.device,
                Some(&target.app),
                target.source,
            );
            Ok(shown(&call, &target.identity, gone))
        }
    }
}

async fn words(call: &mut Call) -> Result<(Target, Option<Report>), Fault> {
    let put: Put = call.json(REPORT_MAX).await?;
    let said = Said {
        status: put.status,
        reason: put.reason,
        text: put.text,
    };
    let device = put
        .device
        .as_deref()
        .ok_or_else(|| Fault::bad("`device` says which device reports"))?;
    let target = Target {
        identity: ask::owner(&call.viewer, put.identity.as_deref())?,
        device: ask::name(device, "device")?,
        app: ask::name(put.app.as_deref().unwrap_or(APP), "app")?,
        ttl: ttl(put.ttl.as_deref())?,
        source: Source::Api,
    };
    Ok((target, Some(said.report()?)))
}

async fn stanza(call: &mut Call) -> Result<(Target, Option<Report>), Fault> {
    let body = call.body(xmpp::STANZA_MAX).await?;
    let text = std::str::from_utf8(&body).map_err(|_| Fault::bad("the stanza is not UTF-8"))?;
    let stanza = xmpp::read(text)?;
    let named = match (call.parameter("identity"), stanza.from) {
        (Some(named), Some(from)) if named != from => {
            return Err(Fault::forbidden(
                "the stanza is from somebody else than `?identity=` names",
            ));
        }
        (named, from) => named.or(from),
    };
    let device = call
        .parameter("device")
        .ok_or_else(|| Fault::bad("`?device=` says which device reports"))?;
    let target = Target {
        identity: ask::owner(&call.viewer, named.as_deref())?,
        device: ask::name(&device, "device")?,
        app: ask::name(call.parameter("app").as_deref().unwrap_or(APP), "app")?,
        ttl: ttl(call.parameter("ttl").as_deref())?,
        source: Source::Xmpp,
    };
    Ok((target, stanza.report))
}

fn ttl(text: Option<&str>) -> Result<Duration, Fault> {
    let Some(text) = text else { return Ok(TTL) };
    let ttl = humantime::parse_duration(text).ok();
    ttl.filter(|ttl| (TTL_MIN..=TTL_MAX).contains(ttl))
        .ok_or_else(|| Fault::bad("`ttl` is from 10s to 24h, such as \"5m\""))
}

fn reported(call: &Call, target: &Target, report: Report) -> Result<Response, Fault> {
    let at = Moment::of(&call.presence.clock);
    let token = match &call.viewer {
        Viewer::Account => None,
        Viewer::Bearer(grant) => Some(TokenEnd {
            at: at.instant_of(grant.ends()),
            key: grant.issuer.as_str().into(),
        }),
    };
    let names = (&target.identity, &target.device, &target.app);
    let changed = call.account.with(|state| {
        // What a key has signed is ended under this lock when the key goes.
        call.presence.live().check_key(&call.account, &call.key)?;
        let registry = &mut state.registry;
        let put = registry.put(names, report, target.ttl, token, target.source, at);
        put.map_err(Fault::from)
    })?;
    Ok(shown(call, &target.identity, changed))
}

fn shown(call: &Call, identity: &Name, changed: bool) -> Response {
    let item = call
        .account
        .with(|state| state.registry.item(identity, true));
    answer(StatusCode::OK, &Changed { item, changed })
}

/// Ends the sessions of a device; true if there was one. Their sockets are closed.
fn leave(call: &Call, identity: &Name, device: &Name, app: Option<&Name>, source: Source) -> bool {
    let at = Moment::of(&call.presence.clock);
    let sockets: Vec<Option<SocketId>> = call.account.with(|state| {
        let sessions = state.registry.sessions_of(identity, device, app);
        for (session, _) in &sessions {
            state.registry.leave(session, source, at);
        }
        sessions.into_iter().map(|(_, socket)| socket).collect()
    });
    for line in sockets
        .iter()
        .flatten()
        .filter_map(|id| call.presence.sockets.find(*id))
    {
        line.outbox.close(Close::NORMAL);
    }
    !sockets.is_empty()
}

/// `GET /v1/presence/{identity}`, `DELETE /v1/presence/{device}`.
pub(in crate::presence) async fn one(call: &Call, name: &Name) -> Result<Response, Fault> {
    if call.method == Method::GET {
        call.check_access()?;
        call.check_visible(name)?;
        let item = call.account.with(|state| state.registry.item(name, true));
        if call.live.settings.peers.is_none() {
            return Ok(answer(StatusCode::OK, &item));
        }
        let mut item = serde_json::to_value(item).expect("an item is an object");
        for mut peer in at_peers(call, vec![name.clone()]).await {
            if let Some(theirs) = peer.remove(name.as_str()) {
                merge::one(&mut item, theirs, &call.live.settings.order);
            }
        }
        return Ok(answer(StatusCode::OK, &item));
    }
    if call.method != Method::DELETE {
        return Err(Fault::method("GET, DELETE"));
    }
    let identity = ask::owner(&call.viewer, call.parameter("identity").as_deref())?;
    let app = call
        .parameter("app")
        .map(|app| ask::name(&app, "app"))
        .transpose()?;
    if leave(call, &identity, name, app.as_ref(), Source::Api) {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    Err(Fault::not_found("no device of this name is registered"))
}

/// `POST /v1/presence/query`.
pub(in crate::presence) async fn query(mut call: Call) -> Result<Response, Fault> {
    if call.method != Method::POST {
        return Err(Fault::method("POST"));
    }
    call.check_access()?;
    let mut question: Question = call.json(QUESTION_MAX).await?;
    let has_peers = call.live.settings.peers.is_some();
    // Versions count what changed here: they say nothing about what changed there.
    question.if_version = question.if_version.filter(|_| !has_peers);
    let of = call.parameter("identity");
    match ask::query(&call.account, &call.viewer, &question, of.as_deref())? {
        Answer::Unchanged(_) => Ok(empty(StatusCode::NOT_MODIFIED)),
        Answer::Presence(presence) if has_peers => {
            let who = presence.presence.keys().cloned().collect();
            let mut whole = serde_json::to_value(presence).expect("strings are keys");
            let peers = at_peers(&call, who).await;
            if let Some(own) = whole["presence"].as_object_mut() {
                merge::merge(own, peers, &call.live.settings.order);
            }
            Ok(answer(StatusCode::OK, &whole))
        }
        Answer::Presence(presence) => Ok(answer(StatusCode::OK, &presence)),
    }
}

/// What is shown of these at the peers, if there are any.
async fn at_peers(call: &Call, who: Vec<Name>) -> Vec<Map<String, Value>> {
    call.presence.shown_at_peers(&call.account, who).await
}

/// `GET /v1/presence/{identity}/log`.
pub(in crate::presence) fn log(call: &Call, identity: &Name) -> Result<Response, Fault> {
    if call.method != Method::GET {
        return Err(Fault::method("GET"));
    }
    call.check_access()?;
    call.check_visible(identity)?;
    let since = call
        .parameter("since")
        .map(|text| moment(&text))
        .transpose()?;
    let limit = call.parameter("limit").map(|text| text.parse::<usize>());
    let limit = limit
        .unwrap_or(Ok(PAGE))
        .ok()
        .filter(|limit| (1..=LOG_MAX).contains(limit));
    let limit = limit.ok_or_else(|| Fault::bad(format!("`limit` is from 1 to {LOG_MAX}")))?;
    let at = Moment::of(&call.presence.clock);
    let page = call
        .account
        .with(|state| state.registry.log_of(identity, since, limit, at));
    Ok(answer(StatusCode::OK, &page))
}

fn moment(text: &str) -> Result<u64, Fault> {
    let time = humantime::parse_rfc3339_weak(text).ok();
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let ms = since.and_then(|since| u64::try_from(since.as_millis()).ok());
    ms.ok_or_else(|| Fault::bad("`since` is a time such as 2026-01-31T12:00:00.000Z"))
}
