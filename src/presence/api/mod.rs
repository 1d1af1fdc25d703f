//! The REST side: which path is which, who asks, and how faults are told.
//!
//! Credentials come in `authorization` only: a token as bearer, or an account key as basic authentication; never in a URL, where they
//! would be logged. Pages of other origins may ask where the configuration lets them, since a token authorizes and never a cookie.

pub(in crate::presence) mod ask;
pub(in crate::presence) mod communications;
pub(in crate::presence) mod contacts;
pub(in crate::presence) mod events;
pub(in crate::presence) mod presence;
pub(in crate::presence) mod xmpp;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ORIGIN, VARY,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::json;

use crate::presence::account::Account;
use crate::presence::fault::Fault;
use crate::presence::name::Name;
use crate::presence::peers;
use crate::presence::plugin::{Live, Presence};
use crate::presence::signal;
use crate::presence::subscription::form::write;
use crate::presence::viewer::Viewer;
use crate::proxy::plugin::{BodyFault, Request, RequestBytes, Response};

/// Longest body of a question: a thousand of the longest names.
pub(in crate::presence) const QUESTION_MAX: usize = 512 * 1024;

/// A request that was understood as far as its credentials.
pub(in crate::presence) struct Call {
    pub(in crate::presence) presence: Arc<Presence>,
    pub(in crate::presence) live: Arc<Live>,
    pub(in crate::presence) account: Arc<Account>,
    /// The index of the account among the settings'.
    pub(in crate::presence) index: usize,
    pub(in crate::presence) viewer: Viewer,
    /// The key that it showed, or that signed its token.
    pub(in crate::presence) key: String,
    pub(in crate::presence) method: Method,
    pub(in crate::presence) headers: HeaderMap,
    query: String,
    body: Option<RequestBytes>,
}

/// Answers a request.
pub(in crate::presence) async fn serve(presence: Arc<Presence>, request: Request) -> Response {
    let live = presence.live();
    let origin = request.head.headers.get(ORIGIN).cloned();
    let allowed = allowed_origin(&live.settings.allowed_origins, origin.as_ref());
    let mut response = if request.head.method == Method::OPTIONS && origin.is_some() {
        preflight()
    } else {
        let answered = route(presence, live, request).await;
        answered.unwrap_or_else(|fault| problem(&fault))
    };
    if origin.is_some() {
        response
            .headers
            .insert(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(allowed) = allowed {
        response
            .headers
            .insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    }
    response
}

async fn route(
    presence: Arc<Presence>,
    live: Arc<Live>,
    request: Request,
) -> Result<Response, Fault> {
    let path = request.head.uri.path().to_owned();
    if path == "/signal" {
        return signal::upgrade(&presence, &request);
    }
    if let Some(node) = peer(&live, &request, presence.clock.unix_time()) {
        return of_peer(&presence, &live, request, &node).await;
    }
    let segments: Vec<_> = path.split('/').skip(1).collect();
    let Some(("v1", rest)) = segments.split_first().map(|(first, rest)| (*first, rest)) else {
        return Err(nothing_here());
    };
    let (index, viewer, key) =
        credentials(&live, &request.head.headers, presence.clock.unix_time())?;
    let account = Arc::clone(live.accounts.get(index).ok_or_else(Fault::anonymous)?);
    let query = request.head.uri.query().unwrap_or_default().to_owned();
    let call = Call {
        presence,
        live,
        account,
        index,
        viewer,
        key,
        method: request.head.method,
        headers: request.head.headers,
        query,
        body: Some(request.body),
    };
    match rest {
        ["peer"] => Err(Fault::anonymous()),
        ["presence"] => presence::whole(call).await,
        ["presence", "query"] => presence::query(call).await,
        ["presence", "events"] => events::stream(&call),
        ["presence", name] => presence::one(&call, &decoded(name)?).await,
        ["presence", identity, "log"] => presence::log(&call, &decoded(identity)?),
        ["communications"] => communications::begin(call).await,
        ["communications", sid] => communications::one(&call, sid),
        ["communications", sid, "events"] => communications::events(&call, sid),
        ["contacts", list] => contacts::list(call, &decoded(list)?).await,
        _ => Err(nothing_here()),
    }
}

/// Which peer asks, by its token, which opens two paths and no other.
fn peer(live: &Live, request: &Request, now: Duration) -> Option<String> {
    if !matches!(request.head.uri.path(), "/v1/peer" | "/v1/presence/query") {
        return None;
    }
    let value = request.head.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    let peer = is_bearer.then(|| peers::verified(live, token.trim(), now))?;
    Some(peer?.name.clone())
}

async fn of_peer(
    presence: &Arc<Presence>,
    live: &Live,
    request: Request,
    node: &str,
) -> Result<Response, Fault> {
    if request.head.uri.path() == "/v1/peer" {
        return peers::accept(presence, &request, node);
    }
    let body = request.body.read(QUESTION_MAX).await;
    let body = body.map_err(|_| Fault::bad("the body broke off, or is too long"))?;
    let question = serde_json::from_slice(&body);
    let question = question.map_err(|_| Fault::bad("the body is no question of a peer"))?;
    let mut response = Response::new(StatusCode::OK, peers::answer(live, &question)?);
    let fields = &mut response.headers;
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn nothing_here() -> Fault {
    Fault::not_found("nothing here answers to this path; see the paths of the presence API")
}

fn decoded(segment: &str) -> Result<Name, Fault> {
    let text = percent_decode_str(segment).decode_utf8();
    ask::name(&text.map_err(|_| Fault::bad_name("path"))?, "path")
}

/// Who asks: the index of the account, as whom, and by which of its keys.
pub(in crate::presence) fn credentials(
    live: &Live,
    headers: &HeaderMap,
    now: Duration,
) -> Result<(usize, Viewer, String), Fault> {
    let value = headers.get(AUTHORIZATION).ok_or_else(Fault::anonymous)?;
    let value = value.to_str().map_err(|_| Fault::anonymous())?.trim();
    let (scheme, rest) = value.split_once(' ').ok_or_else(Fault::anonymous)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        let grant = live.verifier.verify(rest.trim(), now)?;
        let (account, key) = (grant.account, grant.issuer.clone());
        return Ok((account, Viewer::Bearer(Arc::new(grant)), key));
    }
    if scheme.eq_ignore_ascii_case("basic")
        && let Ok(bytes) = BASE64_STANDARD.decode(rest.trim())
        && let Ok(text) = String::from_utf8(bytes)
        && let Some((user, password)) = text.split_once(':')
        && let Some(account) = live.verifier.account_of_key(user, password)
    {
        return Ok((account, Viewer::Account, user.to_owned()));
    }
    Err(Fault::anonymous())
}

impl Call {
    /// The first value of a query parameter.
    pub(in crate::presence) fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The values of a query parameter that is a list: commas part them, and stand for themselves only when encoded.
    pub(in crate::presence) fn list_parameter(&self, name: &str) -> Option<Vec<String>> {
        let pairs = self.query.split('&');
        let value = pairs
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)?
            .1;
        let decode = |part: &str| {
            let plain = part.replace('+', " ");
            percent_decode_str(&plain).decode_utf8_lossy().into_owned()
        };
        Some(
            value
                .split(',')
                .filter(|part| !part.is_empty())
                .map(decode)
                .collect(),
        )
    }

    /// The whole body, if it is not longer than that.
    pub(in crate::presence) async fn body(&mut self, max: usize) -> Result<Bytes, Fault> {
        let Some(body) = self.body.take() else {
            return Ok(Bytes::new());
        };
        body.read(max).await.map_err(|fault| match fault {
            BodyFault::TooLarge => Fault::too_large(format!("the body is longer than {max} bytes")),
            BodyFault::Broken => Fault::bad("the body broke off"),
        })
    }

    /// The body as JSON.
    pub(in crate::presence) async fn json<T: serde::de::DeserializeOwned>(
        &mut self,
        max: usize,
    ) -> Result<T, Fault> {
        let body = self.body(max).await?;
        serde_json::from_slice(&body).map_err(|error| {
            let mut detail = format!("the body: {error}");
            detail.truncate(detail.floor_char_boundary(300));
            Fault::bad(detail)
        })
    }

    /// Refuses reads of bearers where the account keeps them to itself.
    pub(in crate::presence) fn check_access(&self) -> Result<(), Fault> {
        let of = self.live.settings.accounts.get(self.index);
        ask::check_access(&self.viewer, of.map(|of| of.api).unwrap_or_default())
    }

    /// Refuses what the asker may not see, whether it exists or not.
    pub(in crate::presence) fn check_visible(&self, identity: &Name) -> Result<(), Fault> {
        if self.viewer.may_see(identity) {
            return Ok(());
        }
        Err(Fault::forbidden(
            "this token does not show this identity (`grants.presence.subscribe`)",
        ))
    }
}

/// An answer in JSON.
pub(in crate::presence) fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = Response::new(status, write(body));
    let fields = &mut response.headers;
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer without a body.
pub(in crate::presence) fn empty(status: StatusCode) -> Response {
    Response::new(status, "")
}

/// A fault, as RFC 9457 says it.
pub(in crate::presence) fn problem(fault: &Fault) -> Response {
    let body = json!({
        "type": "urn:tidegate:presence",
        "title": fault.status.canonical_reason().unwrap_or("Refused"),
        "status": fault.status.as_u16(),
        "detail": fault.detail,
        "code": fault.code,
    });
    let mut response = answer(fault.status, &body);
    let fields = &mut response.headers;
    fields.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if fault.status == StatusCode::UNAUTHORIZED {
        fields.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer, Basic realm=\"tidegate\""),
        );
    }
    if let Some(allowed) = fault.allowed
        && let Ok(allowed) = HeaderValue::from_str(allowed)
    {
        fields.insert(ALLOW, allowed);
    }
    response
}

fn allowed_origin(allowed: &[String], origin: Option<&HeaderValue>) -> Option<HeaderValue> {
    let origin = origin?;
    let is_allowed =
        allowed.is_empty() || allowed.iter().any(|of| of.as_bytes() == origin.as_bytes());
    is_allowed.then(|| origin.clone())
}

/// What a browser asks before it lets a page ask.
fn preflight() -> Response {
    let mut response = empty(StatusCode::NO_CONTENT);
    let fields = &mut response.headers;
    fields.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, PUT, POST, DELETE"),
    );
    fields.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, idempotency-key"),
    );
    fields.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}
