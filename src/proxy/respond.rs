//! The gate's own answers: a body for programs (RFC 9457), fields for clients, and the same for gRPC.
//!
//! One place at the edge turns a [`Refusal`] into HTTP. A refused body is read for a moment, so that the client sees the
//! answer and not a reset. Never says what the client sent, except the account and resource it was found to be.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::body::ResponseBody;
use super::context::Context;
use super::headers::{self, number};
use super::outcome::Refusal;
use crate::admission::{Reason, Rejection};
use crate::classify::Fault;
use crate::head::Fields;
use crate::telemetry::DecisionWord;

const REASON: &[u8] = b"x-admission-reason";
/// Room for the fields of a refusal, in bytes, and how many there are at most.
const FIELDS_BYTES: usize = 384;
const FIELDS: usize = 9;
/// Room for its body.
const BODY_BYTES: usize = 512;

/// Answers by ourselves, and notes it in the context.
pub(super) fn refuse(
    mut context: Box<Context>,
    refusal: &Refusal,
    is_grpc: bool,
) -> Response<ResponseBody> {
    let retry_after = retry_after(refusal);
    let mut fields = Fields::with_capacity(FIELDS_BYTES, FIELDS);
    let (status, body) = if is_grpc {
        grpc(&mut fields, refusal, retry_after)
    } else {
        problem(&mut fields, &context, refusal, retry_after)
    };
    fields.push(REASON, refusal.reason().as_bytes());
    if let Some(seconds) = retry_after {
        fields.push(b"retry-after", number(seconds).as_bytes());
    }
    if let Refusal::Limit(rejection) = refusal
        && rejection.reason != Reason::Draining
        && rejection.reason != Reason::Cancelled
    {
        ratelimit(&mut fields, rejection, retry_after.unwrap_or(1));
    }
    if matches!(refusal, Refusal::Fault(Fault::Unauthorized)) {
        fields.push(b"www-authenticate", b"Bearer error=\"invalid_token\"");
    }
    let account_in_flight = match refusal {
        Refusal::Limit(rejection) => rejection.account_in_flight,
        _ => context.account_in_flight(),
    };
    let now = context.local.gate.clock.now();
    finish(&context, &mut fields, account_in_flight, now);
    if !refusal.is_after_admission() {
        context.decision = DecisionWord::Rejected;
    }
    if let Refusal::Limit(rejection) = refusal {
        context.limit = Some(rejection.limit.clone());
    }
    context.refused(status.as_u16(), refusal.reason(), refusal.outcome());
    let mut response = if context.connection().is_http2() {
        let headers = fields.to_map();
        let mut response = Response::new(ResponseBody::own(body, Some(context)));
        *response.headers_mut() = headers;
        response
    } else {
        Response::new(ResponseBody::refusal(body, fields, Some(context)))
    };
    *response.status_mut() = status;
    response
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
pub(super) fn unreadable(status: StatusCode, detail: &str) -> Response<ResponseBody> {
    let reason = "head_invalid";
    let mut fields = Fields::with_capacity(FIELDS_BYTES, FIELDS);
    fields.push(b"content-type", b"application/problem+json");
    fields.push(REASON, reason.as_bytes());
    let body = Object::problem(status, reason, detail)
        .text("account", "-")
        .end();
    let mut response = Response::new(ResponseBody::refusal(body, fields, None));
    *response.status_mut() = status;
    response
}

/// Seconds after which the same request may fit; 1 for what a moment may mend.
fn retry_after(refusal: &Refusal) -> Option<u32> {
    match refusal {
        Refusal::Limit(rejection) => Some(rejection.retry_after(fastrand::f64())),
        Refusal::UpstreamUnreachable => Some(1),
        _ => None,
    }
}

/// The body of a refusal for programs (RFC 9457, with members of our own).
fn problem(
    fields: &mut Fields,
    context: &Context,
    refusal: &Refusal,
    retry_after: Option<u32>,
) -> (StatusCode, Bytes) {
    fields.push(b"content-type", b"application/problem+json");
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut body = Object::problem(status, refusal.reason(), &refusal.detail());
    if let Refusal::Limit(rejection) = refusal {
        let axis = rejection.axis.split(',').filter(|name| !name.is_empty());
        body = body
            .text("limit", &rejection.limit)
            .texts("per", axis)
            .number("max", rejection.max)
            .number("in_flight", rejection.in_flight);
    }
    body = body.text("account", context.request.account.as_str());
    if let Some((route, _)) = context.route() {
        body = body.text("resource", &route.name);
    }
    if let Some(seconds) = retry_after {
        body = body.number("retry_after", seconds);
    }
    (status, body.end())
}

/// A JSON object, written member by member. Refusals come in thousands just when there is no time for them, and the general way of
/// writing JSON looks at every byte of what is nearly always the same text.
struct Object(Vec<u8>);

impl Object {
    /// What every problem says.
    fn problem(status: StatusCode, reason: &str, detail: &str) -> Self {
        let mut text = Vec::with_capacity(BODY_BYTES);
        text.extend_from_slice(b"{\"type\":\"urn:tidegate:");
        text.extend_from_slice(reason.as_bytes());
        text.push(b'"');
        let code = if status == StatusCode::TOO_MANY_REQUESTS {
            20_429
        } else {
            20_000 + u32::from(status.as_u16())
        };
        Self(text)
            .text("title", status.canonical_reason().unwrap_or("Refused"))
            .number("status", status.as_u16().into())
            .text("detail", detail)
            .number("code", code)
            .text("reason", reason)
    }

    fn name(&mut self, name: &'static str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn value(&mut self, text: &str) {
        let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
        if text
            .bytes()
            .fold(false, |found, byte| found | is_special(byte))
        {
            // A text always has a JSON form, and memory takes it.
            drop(serde_json::to_writer(&mut self.0, text));
            return;
        }
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
    }

    fn text(mut self, name: &'static str, text: &str) -> Self {
        self.name(name);
        self.value(text);
        self
    }

    fn texts<'t>(mut self, name: &'static str, texts: impl Iterator<Item = &'t str>) -> Self {
        self.name(name);
        self.0.push(b'[');
        for (index, text) in texts.enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            self.value(text);
        }
        self.0.push(b']');
        self
    }

    fn number(mut self, name: &'static str, value: u32) -> Self {
        self.name(name);
        self.0.extend_from_slice(number(value).as_bytes());
        self
    }

    fn end(mut self) -> Bytes {
        self.0.push(b'}');
        self.0.into()
    }
}

/// Trailers-Only: the status in the header block, and no body (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn grpc(fields: &mut Fields, refusal: &Refusal, retry_after: Option<u32>) -> (StatusCode, Bytes) {
    fields.push(b"content-type", b"application/grpc");
    let status = number(u32::from(refusal.grpc_status()));
    fields.push(b"grpc-status", status.as_bytes());
    fields.push(
        b"grpc-message",
        percent_encoded(&refusal.detail()).as_bytes(),
    );
    if let Some(seconds) = retry_after {
        let millis = number(seconds.saturating_mul(1_000));
        fields.push(b"grpc-retry-pushback-ms", millis.as_bytes());
    }
    (StatusCode::OK, Bytes::new())
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
/// window. A limit's name is plain text, which may stand in a field as it is.
fn ratelimit(fields: &mut Fields, rejection: &Rejection, retry_after: u32) {
    let Rejection {
        limit,
        max,
        in_flight,
        window,
        ..
    } = rejection;
    let name = limit.as_bytes();
    let left = number(max.saturating_sub(*in_flight));
    let (max, retry_after) = (number(*max), number(retry_after));
    let seconds = window.map(|window| u32::try_from(window.as_secs().max(1)).unwrap_or(u32::MAX));
    let seconds = seconds.map(number);
    let unit: [&[u8]; 2] = match &seconds {
        None => [b";qu=\"concurrent-requests\"", b""],
        Some(seconds) => [b";w=", seconds.as_bytes()],
    };
    let policy = [b"\"", name, b"\";q=", max.as_bytes(), unit[0], unit[1]];
    fields.push_all(b"ratelimit-policy", &policy);
    let state = [
        b"\"",
        name,
        b"\";r=",
        left.as_bytes(),
        b";t=",
        retry_after.as_bytes(),
    ];
    fields.push_all(b"ratelimit", &state);
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        // A14: whatever a name holds, the body is JSON that says it.
        #[test]
        fn a_body_is_json_whatever_the_names_hold(detail in "\\PC{0,40}", raw in "[\\x00-\\x7f]{0,20}", max: u32) {
            let body = Object::problem(StatusCode::TOO_MANY_REQUESTS, "limit_reached", &detail)
                .text("limit", &raw)
                .texts("per", [&*raw, &*detail].into_iter())
                .number("max", max)
                .end();
            let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
            proptest::prop_assert_eq!(read, serde_json::json!({
                "type": "urn:tidegate:limit_reached",
                "title": "Too Many Requests",
                "status": 429,
                "detail": detail,
                "code": 20_429,
                "reason": "limit_reached",
                "limit": raw,
                "per": [raw, detail],
                "max": max,
            }));
        }
    }
}
