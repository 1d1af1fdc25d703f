//! The gate's own answers: a body for programs (RFC 9457), fields for clients, and the same for gRPC.
//!
//! One place at the edge turns a [`Refusal`] into HTTP. A refused body is read for a moment, so that the client sees the
//! answer and not a reset. Never says what the client sent, except the account and resource it was found to be.

use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::body::ResponseBody;
use super::context::Context;
use super::headers;
use super::outcome::Refusal;
use crate::admission::{Reason, Rejection};
use crate::classify::Fault;
use crate::head::Fields;
use crate::telemetry::DecisionWord;

const REASON: HeaderName = HeaderName::from_static("x-admission-reason");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The body of a refusal (RFC 9457, with members of our own).
#[derive(Debug, Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: String,
    code: u32,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u32>,
    account: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
}

/// Answers by ourselves, and notes it in the context.
pub(super) fn refuse(
    mut context: Box<Context>,
    refusal: &Refusal,
    is_grpc: bool,
) -> Response<ResponseBody> {
    let retry_after = retry_after(refusal);
    let mut response = if is_grpc {
        grpc(refusal, retry_after)
    } else {
        problem(&context, refusal, retry_after)
    };
    let fields = response.headers_mut();
    fields.insert(REASON, HeaderValue::from_static(refusal.reason()));
    if let Some(seconds) = retry_after {
        fields.insert(RETRY_AFTER, headers::number(seconds));
    }
    if let Refusal::Limit(rejection) = refusal
        && rejection.reason != Reason::Draining
        && rejection.reason != Reason::Cancelled
    {
        ratelimit(fields, rejection, retry_after.unwrap_or(1));
    }
    if matches!(refusal, Refusal::Fault(Fault::Unauthorized)) {
        let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
        fields.insert(WWW_AUTHENTICATE, challenge);
    }
    let account_in_flight = match refusal {
        Refusal::Limit(rejection) => rejection.account_in_flight,
        _ => context.account_in_flight(),
    };
    finish(
        &context,
        fields,
        account_in_flight,
        context.local.gate.clock.now(),
    );
    let is_refused = !refusal.is_after_admission();
    if is_refused {
        context.decision = DecisionWord::Rejected;
    }
    if let Refusal::Limit(rejection) = refusal {
        context.limit = Some(rejection.limit.clone());
    }
    let status = response.status().as_u16();
    context.refused(status, refusal.reason(), refusal.outcome());
    response.map(|bytes| ResponseBody::own(bytes, Some(context)))
}

/// The fields that every response of the gate carries.
pub(super) fn finish(
    context: &Context,
    fields: &mut impl Annotated,
    account_in_flight: u32,
    now: Instant,
) {
    let settings = &context.local.generation.settings;
    let names = (
        settings.concurrency_header.as_ref(),
        settings.duration_header.as_ref(),
    );
    let took = now.saturating_duration_since(context.request.started);
    if let Some(name) = names.0 {
        fields.annotate(name, headers::number(account_in_flight));
    }
    if let Some(name) = names.1 {
        fields.annotate(name, headers::seconds(took));
    }
}

/// Fields to which the gate adds its own, in place of what others said under that name.
pub(super) trait Annotated {
    fn annotate(&mut self, name: &HeaderName, value: HeaderValue);
}

impl Annotated for HeaderMap {
    fn annotate(&mut self, name: &HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }
}

impl Annotated for Fields {
    fn annotate(&mut self, name: &HeaderName, value: HeaderValue) {
        let name = name.as_str();
        if self.contains(name) {
            self.retain(|known, _| known != name.as_bytes());
        }
        self.push(name.as_bytes(), value.as_bytes());
    }
}

/// The answer to a head that is none: nobody knows whose it is, and what it asks for.
pub(super) fn unreadable(status: StatusCode, detail: &'static str) -> Response<ResponseBody> {
    let reason = "head_invalid";
    let body = Problem {
        r#type: format!("urn:tidegate:{reason}"),
        title: status.canonical_reason().unwrap_or("Refused"),
        status: status.as_u16(),
        detail: detail.to_owned(),
        code: 20_000 + u32::from(status.as_u16()),
        reason,
        limit: None,
        per: None,
        max: None,
        in_flight: None,
        account: "-",
        resource: None,
        retry_after: None,
    };
    let mut response = of_problem(status, &body);
    response
        .headers_mut()
        .insert(REASON, HeaderValue::from_static(reason));
    response.map(|bytes| ResponseBody::own(bytes, None))
}

/// Seconds after which the same request may fit; 1 for what a moment may mend.
fn retry_after(refusal: &Refusal) -> Option<u32> {
    match refusal {
        Refusal::Limit(rejection) => Some(rejection.retry_after(fastrand::f64())),
        Refusal::UpstreamUnreachable => Some(1),
        _ => None,
    }
}

fn problem(context: &Context, refusal: &Refusal, retry_after: Option<u32>) -> Response<Bytes> {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let rejection = match refusal {
        Refusal::Limit(rejection) => Some(rejection),
        _ => None,
    };
    let body = Problem {
        r#type: format!("urn:tidegate:{}", refusal.reason()),
        title: status.canonical_reason().unwrap_or("Refused"),
        status: status.as_u16(),
        detail: refusal.detail(),
        code: if status == StatusCode::TOO_MANY_REQUESTS {
            20_429
        } else {
            20_000 + u32::from(status.as_u16())
        },
        reason: refusal.reason(),
        limit: rejection.map(|rejection| &*rejection.limit),
        per: rejection.map(|rejection| {
            let axis = rejection.axis.split(',');
            axis.filter(|name| !name.is_empty()).collect()
        }),
        max: rejection.map(|rejection| rejection.max),
        in_flight: rejection.map(|rejection| rejection.in_flight),
        account: context.request.account.as_str(),
        resource: context.route().map(|(route, _)| &*route.name),
        retry_after,
    };
    of_problem(status, &body)
}

fn of_problem(status: StatusCode, body: &Problem<'_>) -> Response<Bytes> {
    // A struct of numbers and strings always has a JSON form.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Trailers-Only: the status in the header block, and no body (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn grpc(refusal: &Refusal, retry_after: Option<u32>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert(
        GRPC_STATUS,
        headers::number(u32::from(refusal.grpc_status())),
    );
    let message = percent_encoded(&refusal.detail());
    if let Ok(message) = HeaderValue::try_from(message) {
        fields.insert(GRPC_MESSAGE, message);
    }
    if let Some(seconds) = retry_after {
        fields.insert(GRPC_PUSHBACK, headers::number(seconds * 1_000));
    }
    response
}

/// gRPC messages escape what is not printable ASCII, and the percent sign.
fn percent_encoded(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// RateLimit fields (draft-ietf-httpapi-ratelimit-headers), with the quota's unit being requests in flight, or requests over a
/// window.
fn ratelimit(fields: &mut HeaderMap, rejection: &Rejection, retry_after: u32) {
    let Rejection {
        limit,
        max,
        in_flight,
        window,
        ..
    } = rejection;
    let left = max.saturating_sub(*in_flight);
    let unit = match window {
        None => "qu=\"concurrent-requests\"".to_owned(),
        Some(window) => format!("w={}", window.as_secs().max(1)),
    };
    let policy = format!("\"{limit}\";q={max};{unit}");
    let state = format!("\"{limit}\";r={left};t={retry_after}");
    if let (Ok(policy), Ok(state)) = (HeaderValue::try_from(policy), HeaderValue::try_from(state)) {
        fields.insert(RATELIMIT_POLICY, policy);
        fields.insert(RATELIMIT, state);
    }
}
