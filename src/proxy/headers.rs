//! Header fields on their way through: what is dropped, kept, replaced and added, in both directions.
//!
//! Hop-by-hop fields and those that `Connection` names end here (RFC 9110 §7.6.1); fields that speak for the gate are
//! never taken from a client. One scan over the names tells what there is to do, so that the usual request pays for what it
//! has. Never touches a field that it does not name.

use std::sync::LazyLock;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use smallvec::SmallVec;

use super::connection::Connection;
use super::settings::UpstreamSettings;
use crate::admission::AccountName;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_ADMISSION_ACCOUNT: HeaderName = HeaderName::from_static("x-admission-account");
const X_ADMISSION_RESOURCE: HeaderName = HeaderName::from_static("x-admission-resource");

/// Fields that every request gets on its way.
const ADDED: usize = 6;
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
    has_forwarded: bool,
    /// The request speaks gRPC.
    pub(super) is_grpc: bool,
    /// The client waits to be asked for its body.
    pub(super) is_continue_expected: bool,
    /// The body comes in chunks, of a length that nobody knows yet.
    pub(super) comes_in_chunks: bool,
    /// The protocol to switch to, if it is one that is tunnelled.
    pub(super) upgrade: Option<HeaderValue>,
    /// Fields that end here.
    doomed: SmallVec<[HeaderName; 4]>,
}

/// Looks over a request's head.
pub(super) fn look(head: &Parts, connection: &Connection) -> Seen {
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
                seen.doomed.push(name.clone());
            }
            "te" => {
                seen.takes_trailers |= contains_token(value, "trailers");
                seen.doomed.push(name.clone());
            }
            "expect" => {
                seen.is_continue_expected = true;
                seen.doomed.push(name.clone());
            }
            "upgrade" => {
                seen.upgrade = wanted_upgrade(&head.headers, value);
                seen.doomed.push(name.clone());
            }
            "connection" => {
                seen.doomed.push(name.clone());
                named_by_connection(value, &mut seen.doomed);
            }
            "keep-alive" | "proxy-connection" | "proxy-authenticate" | "proxy-authorization" => {
                seen.doomed.push(name.clone());
            }
            text if text.starts_with("x-forwarded-") || text == "forwarded" => {
                seen.has_forwarded = true;
                if !connection.is_trusted {
                    seen.doomed.push(name.clone());
                }
            }
            text if text.starts_with("x-admission-") => seen.doomed.push(name.clone()),
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

/// The value of `x-request-id`: the client's, if it is of decent length, else a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let kept = headers
        .get(X_REQUEST_ID)
        .filter(|id| !id.is_empty() && id.len() <= REQUEST_ID_MAX);
    kept.cloned().unwrap_or_else(|| {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let random = fastrand::u128(..).to_be_bytes();
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(random) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        HeaderValue::from_bytes(&text).expect("hexadecimal digits are a value")
    })
}

/// Makes the head that goes to the upstream of the one that came, except for the fields that name its class.
pub(super) fn to_upstream(
    head: &mut Parts,
    seen: &mut Seen,
    connection: &Connection,
    upstream: &UpstreamSettings,
    request_id: &HeaderValue,
) {
    let authority = head
        .uri
        .authority()
        .and_then(|a| HeaderValue::try_from(a.as_str()).ok());
    if head.uri.scheme().is_some() || authority.is_some() {
        let target = head.uri.path_and_query().cloned();
        head.uri = target.map_or_else(Uri::default, Uri::from);
    }
    head.version = Version::HTTP_11;
    let headers = &mut head.headers;
    headers.reserve(ADDED);
    for name in seen.doomed.drain(..) {
        headers.remove(name);
    }
    if seen.cookies > 1 {
        join_cookies(headers);
    }
    if let Some(authority) = authority {
        headers.insert(HOST, authority);
    }
    forwarded_for(headers, connection, seen.has_forwarded);
    if let Some(host) = &upstream.host {
        headers.insert(HOST, host.clone());
    }
    headers.insert(X_REQUEST_ID, request_id.clone());
    if seen.takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if seen.comes_in_chunks {
        // Said explicitly, since hyper assumes no body for some methods otherwise.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(protocol) = &seen.upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
}

/// Gives a body of unknown length, or none where one is usual, its framing.
pub(super) fn frame(head: &mut Parts, seen: &Seen, is_empty: bool) {
    if seen.has_length || seen.comes_in_chunks {
        return;
    }
    if !is_empty {
        head.headers
            .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    } else if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
        head.headers
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// Tells the upstream what the request was found to be.
pub(super) fn name_class(headers: &mut HeaderMap, account: &AccountName, resource: &HeaderValue) {
    if let Ok(account) = HeaderValue::from_bytes(account.as_bytes()) {
        headers.insert(X_ADMISSION_ACCOUNT, account);
    }
    headers.insert(X_ADMISSION_RESOURCE, resource.clone());
}

fn forwarded_for(headers: &mut HeaderMap, connection: &Connection, has_forwarded: bool) {
    // What an untrusted peer claimed was taken out before; so only a trusted one's is there to be kept.
    let has = |headers: &HeaderMap, name: &HeaderName| has_forwarded && headers.contains_key(name);
    if let Some(peer) = &connection.peer_value {
        let is_known = has(headers, &X_FORWARDED_FOR);
        let value = if is_known {
            extended(headers, peer)
        } else {
            Some(peer.clone())
        };
        if let Some(value) = value {
            headers.insert(X_FORWARDED_FOR, value);
        }
    }
    if !has(headers, &X_FORWARDED_PROTO) {
        let scheme = if connection.is_tls { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if !has(headers, &X_FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

/// The chain that a trusted proxy reported, with that proxy at its end.
fn extended(headers: &HeaderMap, peer: &HeaderValue) -> Option<HeaderValue> {
    let mut chain = Vec::new();
    for line in headers.get_all(X_FORWARDED_FOR) {
        chain.extend_from_slice(line.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)).ok()
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

/// RFC 9113 §8.2.3: cookies may come in several fields over HTTP/2 and must be one over HTTP/1.1.
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let all: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Adds the fields that a `Connection` field names; not those that belong to the message itself.
fn named_by_connection(value: &HeaderValue, doomed: &mut SmallVec<[HeaderName; 4]>) {
    for token in value.as_bytes().split(|&byte| byte == b',') {
        let token = token.trim_ascii();
        let is_kept = [&b"close"[..], b"keep-alive", b"host"]
            .iter()
            .any(|kept| token.eq_ignore_ascii_case(kept));
        if !is_kept && let Ok(name) = HeaderName::from_bytes(token) {
            doomed.push(name);
        }
    }
}

/// Makes the head that goes to the client of the upstream's.
pub(super) fn to_client(headers: &mut HeaderMap) {
    let mut doomed = SmallVec::new();
    for (name, value) in &*headers {
        match name.as_str() {
            "connection" => {
                doomed.push(name.clone());
                named_by_connection(value, &mut doomed);
            }
            "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "x-admission-hold" => {
                doomed.push(name.clone());
            }
            _ => {}
        }
    }
    for name in doomed {
        headers.remove(name);
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

    #[test]
    fn fields_that_connection_names_end_here() {
        let mut map = headers(&[
            ("connection", "close, X-Secret , keep-alive, Host"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("proxy-connection", "close"),
            ("trailer", "x-sum"),
            ("host", "a"),
        ]);
        to_client(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "trailer"]);
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
        assert_eq!(request_id(&headers(&[("x-request-id", "abc")])), "abc");
        let made = request_id(&HeaderMap::new());
        assert_eq!(made.len(), 32);
        assert_ne!(made, request_id(&HeaderMap::new()));
    }
}
