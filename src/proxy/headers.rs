//! Header fields on their way through: what is dropped, kept, replaced and added, in both directions.
//!
//! Hop-by-hop fields and those that `Connection` names end here (RFC 9110 §7.6.1); fields that speak for the gate are
//! never taken from a client. One scan over the names tells what there is to do, so that the usual request pays for what it
//! has. Never touches a field that it does not name.

use std::sync::LazyLock;
use std::time::Duration;

use http::header::{CONNECTION, COOKIE, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use smallvec::SmallVec;

use super::connection::Connection;
use super::outgoing::Framing;
use super::settings::UpstreamSettings;
use crate::admission::{AccountName, LeaseId};
use crate::telemetry::{RequestId, Trace};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Room for a request's head of usual length.
const HEAD: usize = 1024;
/// Longest request id that is kept, in bytes.
const REQUEST_ID_MAX: usize = 128;
/// Protocols that are tunnelled. Others (`h2c` above all, which curl offers unasked) are answered as plain requests.
const TUNNELLED: [&str; 3] = ["websocket", "tcp", "spdy/3.1"];

/// What one look over a request's head shows: everything that is to be done about it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hosts: u8,
    cookies: u8,
    has_length: bool,
    is_chunked: bool,
    has_foreign_coding: bool,
    takes_trailers: bool,
    has_forwarded_for: bool,
    has_forwarded_proto: bool,
    has_forwarded_host: bool,
    /// The request speaks gRPC.
    pub(super) is_grpc: bool,
    /// The client waits to be asked for its body.
    pub(super) is_continue_expected: bool,
    /// The body comes in chunks, of a length that nobody knows yet.
    pub(super) comes_in_chunks: bool,
    /// The protocol to switch to, if it is one that is tunnelled.
    pub(super) upgrade: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    /// Fields that `Connection` names, which end here.
    named: SmallVec<[HeaderName; 4]>,
}

/// Looks over a request's head.
pub(super) fn look(head: &Parts) -> Seen {
    let mut seen = Seen::default();
    for (name, value) in &head.headers {
        match name.as_str() {
            "host" => seen.hosts = seen.hosts.saturating_add(1),
            "cookie" => seen.cookies = seen.cookies.saturating_add(1),
            "content-length" => seen.has_length = true,
            "content-type" => seen.is_grpc = value.as_bytes().starts_with(b"application/grpc"),
            "transfer-encoding" => {
                seen.is_chunked = true;
                seen.has_foreign_coding |= !is_chunked(value);
            }
            "te" => seen.takes_trailers |= contains_token(value, "trailers"),
            "expect" => seen.is_continue_expected = true,
            "upgrade" => seen.upgrade = wanted_upgrade(&head.headers, value),
            "connection" => named_by_connection(value, &mut seen.named),
            "x-request-id" if !value.is_empty() && value.len() <= REQUEST_ID_MAX => {
                seen.request_id = Some(value.clone());
            }
            "x-forwarded-for" => seen.has_forwarded_for = true,
            "x-forwarded-proto" => seen.has_forwarded_proto = true,
            "x-forwarded-host" => seen.has_forwarded_host = true,
            _ => {}
        }
    }
    if head.version == Version::HTTP_2 {
        seen.upgrade = None;
    }
    seen.comes_in_chunks = seen.is_chunked && !seen.has_length;
    seen
}

/// Checks what hyper lets pass and a proxy must not.
pub(super) fn check(head: &Parts, seen: &Seen) -> Result<(), &'static str> {
    if head.method == Method::CONNECT {
        return Err("CONNECT is not forwarded");
    }
    if seen.hosts > 1 {
        return Err("the head has several Host fields");
    }
    if seen.hosts == 0 && head.version == Version::HTTP_11 {
        return Err("the head has no Host field");
    }
    if seen.has_foreign_coding {
        return Err("only the transfer coding `chunked` is understood");
    }
    let target = head.uri.path();
    let is_of_server = target == "*" && head.method == Method::OPTIONS;
    if !target.starts_with('/') && !is_of_server {
        return Err("the target is no path");
    }
    if head
        .uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("the target names a user");
    }
    let host = head.headers.get(HOST).map(HeaderValue::as_bytes);
    if host.is_some_and(|host| !host.iter().all(|&byte| is_of_authority(byte))) {
        return Err("the Host field holds what no host does");
    }
    Ok(())
}

/// RFC 3986 §3.2.2 and §3.2.3: unreserved, escaped or a sub-delimiter, and what frames an address and a port. The `@` of a
/// user is not among them: a Host has none.
fn is_of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

fn is_chunked(value: &HeaderValue) -> bool {
    value
        .as_bytes()
        .trim_ascii()
        .eq_ignore_ascii_case(b"chunked")
}

impl Seen {
    /// The value of `x-request-id`: the client's, if it is of decent length, else a new one.
    pub(super) fn request_id(&self) -> RequestId {
        self.request_id
            .clone()
            .map_or_else(RequestId::new, RequestId::Kept)
    }
}

/// What goes into a request's head beside what the client said.
#[derive(Debug)]
pub(super) struct Added<'a> {
    pub(super) connection: &'a Connection,
    pub(super) upstream: &'a UpstreamSettings,
    pub(super) account: &'a AccountName,
    pub(super) resource: &'a str,
    pub(super) request_id: &'a RequestId,
    /// By which the upstream may hold on to its place.
    pub(super) lease: LeaseId,
    /// The mark with which it goes over a limit.
    pub(super) mark: Option<&'a str>,
    /// Its place in a trace.
    pub(super) trace: Option<&'a Trace>,
    /// How long it waited here.
    pub(super) waited: Duration,
    pub(super) is_body_empty: bool,
}

/// Writes the head that goes to the upstream, of the one that came and what the gate adds, and tells how the body follows.
pub(super) fn write_head(head: &Parts, seen: &Seen, added: &Added<'_>) -> (Vec<u8>, Framing) {
    let mut out = Vec::with_capacity(HEAD);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    let target = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_hosts(&mut out, head, seen, added);
    let is_trusted = added.connection.is_trusted;
    let mut has_length = false;
    for (name, value) in &head.headers {
        let is_passed = match name.as_str() {
            "content-length" => !std::mem::replace(&mut has_length, true),
            "cookie" => seen.cookies == 1,
            "grpc-timeout" if !added.waited.is_zero() => {
                write_grpc_timeout(&mut out, value, added.waited);
                false
            }
            text => is_passed_on(text, is_trusted) && !seen.named.contains(name),
        };
        if is_passed {
            write_field(&mut out, name.as_str(), value.as_bytes());
        }
    }
    if seen.cookies > 1 {
        // RFC 9113 §8.2.3: several fields over HTTP/2 must be one over HTTP/1.1.
        let all: Vec<_> = head
            .headers
            .get_all(COOKIE)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        write_field(&mut out, "cookie", &all.join(&b"; "[..]));
    }
    write_field(&mut out, "x-request-id", added.request_id.as_bytes());
    write_field(&mut out, "x-admission-account", added.account.as_bytes());
    write_field(&mut out, "x-admission-resource", added.resource.as_bytes());
    out.extend_from_slice(b"x-admission-lease: ");
    added.lease.write(&mut out);
    out.extend_from_slice(b"\r\n");
    if let Some(mark) = added.mark {
        write_field(&mut out, "x-admission-mark", mark.as_bytes());
    }
    if let Some(trace) = added.trace {
        trace.write(&mut out);
    }
    if seen.takes_trailers {
        write_field(&mut out, "te", b"trailers");
    }
    if let Some(protocol) = &seen.upgrade {
        write_field(&mut out, "connection", b"upgrade");
        write_field(&mut out, "upgrade", protocol.as_bytes());
    }
    let framing = write_framing(&mut out, head, has_length, added.is_body_empty);
    out.extend_from_slice(b"\r\n");
    (out, framing)
}

/// What is left of the time that a gRPC client gave, after it waited here; at least a millisecond, for none means for ever.
fn write_grpc_timeout(out: &mut Vec<u8>, value: &HeaderValue, waited: Duration) {
    let Some(given) = value.to_str().ok().and_then(super::wait::grpc_timeout) else {
        return write_field(out, "grpc-timeout", value.as_bytes());
    };
    let left = given.saturating_sub(waited).as_millis().max(1);
    // Eight digits are all that the field may have; in seconds they last for three years.
    let text = if left < 100_000_000 {
        format!("{left}m")
    } else {
        format!("{}S", (left / 1_000).min(99_999_999))
    };
    write_field(out, "grpc-timeout", text.as_bytes());
}

/// One field with its line end.
pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether a field is passed on as it came; the rest ends here or is written anew.
fn is_passed_on(name: &str, is_trusted: bool) -> bool {
    match name {
        "host"
        | "connection"
        | "keep-alive"
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "te"
        | "transfer-encoding"
        | "upgrade"
        | "expect"
        | "x-request-id"
        | "x-forwarded-for" => false,
        "x-forwarded-proto" | "x-forwarded-host" | "forwarded" => is_trusted,
        _ if name.starts_with("x-forwarded-") => is_trusted,
        _ => !name.starts_with("x-admission-"),
    }
}

/// `Host`, and what is told about the host and the way that the client came by.
fn write_hosts(out: &mut Vec<u8>, head: &Parts, seen: &Seen, added: &Added<'_>) {
    let field = head.headers.get(HOST).map(HeaderValue::as_bytes);
    // A target that names its host beats the field (RFC 9112 §3.2.2).
    let authority = head
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let asked = authority.or(field);
    let upstream = added.upstream.host.as_ref().map(HeaderValue::as_bytes);
    write_field(out, "host", upstream.or(asked).unwrap_or_default());
    let connection = added.connection;
    let is_trusted = connection.is_trusted;
    if let Some(peer) = &connection.peer_value {
        out.extend_from_slice(b"x-forwarded-for: ");
        if is_trusted && seen.has_forwarded_for {
            // The chain that a trusted proxy reported, with that proxy at its end.
            for line in head.headers.get_all(&X_FORWARDED_FOR) {
                out.extend_from_slice(line.as_bytes());
                out.extend_from_slice(b", ");
            }
        }
        out.extend_from_slice(peer.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if !(is_trusted && seen.has_forwarded_proto) {
        write_field(
            out,
            "x-forwarded-proto",
            if connection.is_tls { b"https" } else { b"http" },
        );
    }
    if !(is_trusted && seen.has_forwarded_host)
        && let Some(asked) = asked
    {
        write_field(out, "x-forwarded-host", asked);
    }
}

/// One framing: the length that the client said, or chunks, or that there is none where one is usual.
fn write_framing(out: &mut Vec<u8>, head: &Parts, has_length: bool, is_empty: bool) -> Framing {
    if has_length {
        return Framing::Length;
    }
    if !is_empty {
        write_field(out, "transfer-encoding", b"chunked");
        return Framing::Chunked;
    }
    if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
        write_field(out, "content-length", b"0");
    }
    Framing::Length
}

fn wanted_upgrade(headers: &HeaderMap, protocol: &HeaderValue) -> Option<HeaderValue> {
    let names_it = headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| contains_token(value, "upgrade"));
    let text = protocol.to_str().ok()?;
    let is_tunnelled = TUNNELLED
        .iter()
        .any(|known| text.eq_ignore_ascii_case(known));
    (names_it && is_tunnelled).then(|| protocol.clone())
}

fn contains_token(value: &HeaderValue, wanted: &str) -> bool {
    let mut tokens = value.as_bytes().split(|&byte| byte == b',');
    tokens.any(|token| {
        let name = token.split(|&byte| byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
    })
}

/// Adds the fields that a `Connection` field names; not those that belong to the message itself.
fn named_by_connection(value: &HeaderValue, named: &mut SmallVec<[HeaderName; 4]>) {
    for token in value.as_bytes().split(|&byte| byte == b',') {
        let token = token.trim_ascii();
        let is_kept = [&b"close"[..], b"keep-alive", b"host"]
            .iter()
            .any(|kept| token.eq_ignore_ascii_case(kept));
        if !is_kept && let Ok(name) = HeaderName::from_bytes(token) {
            named.push(name);
        }
    }
}

/// What every response of the gate tells.
pub(super) fn annotate(
    headers: &mut HeaderMap,
    names: (Option<&HeaderName>, Option<&HeaderName>),
    in_flight: u32,
    took: Duration,
) {
    if let Some(name) = names.0 {
        headers.insert(name, number(in_flight));
    }
    if let Some(name) = names.1 {
        headers.insert(name, seconds(took));
    }
}

/// Values made once: copying one costs nothing, making one an allocation.
const PREPARED: usize = 1024;

/// A whole number as a value.
pub(super) fn number(number: u32) -> HeaderValue {
    static SMALL: LazyLock<Vec<HeaderValue>> =
        LazyLock::new(|| (0..PREPARED).map(|n| prepared(n.to_string())).collect());
    SMALL
        .get(number as usize)
        .cloned()
        .unwrap_or_else(|| HeaderValue::from(number))
}

/// Seconds with three decimals.
pub(super) fn seconds(took: Duration) -> HeaderValue {
    static SHORT: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
        (0..PREPARED)
            .map(|ms| prepared(format!("{}.{:03}", ms / 1000, ms % 1000)))
            .collect()
    });
    let millis = took.as_millis();
    usize::try_from(millis)
        .ok()
        .and_then(|ms| SHORT.get(ms))
        .cloned()
        .unwrap_or_else(|| {
            let text = format!("{}.{:03}", millis / 1000, millis % 1000);
            HeaderValue::try_from(text).expect("digits and a dot are a value")
        })
}

/// Leaks on purpose, a fixed number of times: a value over static bytes is copied without a reference count.
fn prepared(text: String) -> HeaderValue {
    HeaderValue::from_static(text.leak())
}

/// The target's path and query, for the log and the admin API.
pub(super) fn target(head: &Parts) -> Option<PathAndQuery> {
    head.uri.path_and_query().cloned()
}

/// Whether a field may come behind a body: none that frames it, directs it, or speaks for the gate (RFC 9110 §6.5.1).
pub(super) fn may_be_trailer(name: &HeaderName) -> bool {
    let name = name.as_str();
    !matches!(
        name,
        "content-length"
            | "transfer-encoding"
            | "host"
            | "connection"
            | "te"
            | "trailer"
            | "upgrade"
            | "content-encoding"
            | "content-type"
            | "content-range"
            | "authorization"
            | "cookie"
            | "set-cookie"
    ) && !name.starts_with("x-admission-")
        && !name.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        map
    }

    // A32: numbers and seconds as clients read them.
    #[test]
    fn numbers_are_plain_and_seconds_have_three_decimals() {
        assert_eq!(number(7), "7");
        assert_eq!(number(123_456), "123456");
        assert_eq!(seconds(Duration::from_micros(1_999)), "0.001");
        assert_eq!(seconds(Duration::from_millis(61_040)), "61.040");
    }

    #[test]
    fn only_listed_protocols_are_tunnelled() {
        let upgrade = |protocol, connection| {
            let headers = headers(&[("upgrade", protocol), ("connection", connection)]);
            wanted_upgrade(&headers, &headers["upgrade"]).is_some()
        };
        assert!(upgrade("WebSocket", "keep-alive, Upgrade"));
        assert!(!upgrade("h2c", "Upgrade, HTTP2-Settings"));
        assert!(!upgrade("websocket", "keep-alive"));
    }

    #[test]
    fn a_request_id_of_decent_length_is_kept_and_another_is_made() {
        let id = |value: &str| {
            let request = http::Request::builder()
                .header("x-request-id", value)
                .body(())
                .unwrap();
            look(&request.into_parts().0).request_id()
        };
        assert_eq!(id("abc").as_bytes(), b"abc");
        let long = "x".repeat(REQUEST_ID_MAX + 1);
        assert_eq!(id(&long).as_bytes().len(), 32);
        assert_ne!(id("").as_bytes(), id("").as_bytes());
    }
}
