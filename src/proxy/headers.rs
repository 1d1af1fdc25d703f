//! Header fields on their way through: what is dropped, kept, replaced and added, in both directions.
//!
//! Hop-by-hop fields and those that `Connection` names end here (RFC 9110 §7.6.1); fields that speak for the gate are
//! never taken from a client. One scan over the names tells what there is to do, so that the usual request pays for what it
//! has. Never touches a field that it does not name.

use std::io::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Version};

use super::connection::Connection;
use super::outgoing::Framing;
use super::settings::UpstreamSettings;
use crate::admission::{AccountName, LeaseId};
use crate::head::{Fields, Head};
use crate::telemetry::{RequestId, Trace};

/// Room for what the gate adds to a request's head.
const ADDED: usize = 512;
/// Longest request id that is kept, in bytes.
const REQUEST_ID_MAX: usize = 128;
/// Protocols that are tunnelled. Others (`h2c` above all, which curl offers unasked) are answered as plain requests.
const TUNNELLED: [&str; 3] = ["websocket", "tcp", "spdy/3.1"];

/// What one look over a request's head shows: everything that is to be done about it.
#[derive(Debug, Default, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field that is there"
)]
pub(super) struct Seen {
    hosts: u8,
    cookies: u8,
    has_length: bool,
    is_chunked: bool,
    has_foreign_coding: bool,
    pub(super) takes_trailers: bool,
    has_forwarded_for: bool,
    has_forwarded_proto: bool,
    has_forwarded_host: bool,
    has_request_id: bool,
    /// `Connection` names fields, which end here.
    names_fields: bool,
    /// The request speaks gRPC.
    pub(super) is_grpc: bool,
    /// The client waits to be asked for its body.
    pub(super) is_continue_expected: bool,
    /// The body comes in chunks, of a length that nobody knows yet.
    pub(super) comes_in_chunks: bool,
    /// The client wants to switch to a protocol that is tunnelled.
    pub(super) wants_upgrade: bool,
}

/// Looks over a request's head.
pub(super) fn look(head: &Head) -> Seen {
    let mut seen = Seen::default();
    let (mut names_upgrade, mut has_upgrade) = (false, false);
    for (name, value) in head.fields.iter() {
        match name {
            b"host" => seen.hosts = seen.hosts.saturating_add(1),
            b"cookie" => seen.cookies = seen.cookies.saturating_add(1),
            b"content-length" => seen.has_length = true,
            b"content-type" => seen.is_grpc = value.starts_with(b"application/grpc"),
            b"transfer-encoding" => {
                seen.is_chunked = true;
                seen.has_foreign_coding |= !super::incoming::is_chunked(value);
            }
            b"te" => seen.takes_trailers |= contains_token(value, "trailers"),
            b"expect" => seen.is_continue_expected = value.eq_ignore_ascii_case(b"100-continue"),
            b"upgrade" => has_upgrade = true,
            b"connection" => {
                names_upgrade |= contains_token(value, "upgrade");
                seen.names_fields |= named_by_connection(value).next().is_some();
            }
            b"x-request-id" => seen.has_request_id = true,
            b"x-forwarded-for" => seen.has_forwarded_for = true,
            b"x-forwarded-proto" => seen.has_forwarded_proto = true,
            b"x-forwarded-host" => seen.has_forwarded_host = true,
            _ => {}
        }
    }
    seen.wants_upgrade = has_upgrade
        && names_upgrade
        && head.version == Version::HTTP_11
        && protocol(&head.fields).is_some();
    // Those of HTTP/1.0 would take it for the answer (RFC 9110 §10.1.1).
    seen.is_continue_expected &= head.version != Version::HTTP_10;
    seen.comes_in_chunks = seen.is_chunked && !seen.has_length;
    seen
}

/// Checks what the syntax lets pass and a proxy must not.
pub(super) fn check(head: &Head, seen: &Seen) -> Result<(), &'static str> {
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
    let target = head.path();
    let is_of_server = target == b"*" && head.method == Method::OPTIONS;
    if target.first() != Some(&b'/') && !is_of_server {
        return Err("the target is no path");
    }
    if head.authority.as_ref().is_some_and(|of| of.contains('@')) {
        return Err("the target names a user");
    }
    let host = head.fields.get("host");
    if host.is_some_and(|host| !host.iter().all(|&byte| OF_AUTHORITY[usize::from(byte)])) {
        return Err("the Host field holds what no host does");
    }
    Ok(())
}

/// RFC 3986 §3.2.2 and §3.2.3: unreserved, escaped or a sub-delimiter, and what frames an address and a port. The `@` of a
/// user is not among them: a Host has none.
const OF_AUTHORITY: [bool; 256] = {
    let others = b"-._~%!$&'()*+,;=:[]";
    let mut is_allowed = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        is_allowed[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        is_allowed[others[at] as usize] = true;
        at += 1;
    }
    is_allowed
};

impl Seen {
    /// The value of `x-request-id`: the client's, if it is of decent length, else a new one.
    pub(super) fn request_id(&self, head: &Head) -> RequestId {
        let is_decent = |id: &&[u8]| !id.is_empty() && id.len() <= REQUEST_ID_MAX;
        let kept = || head.fields.all("x-request-id").rfind(is_decent);
        let kept = if self.has_request_id { kept() } else { None };
        kept.map_or_else(RequestId::new, |id| RequestId::Kept(id.into()))
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
    /// The answer is to be a document that can be read.
    pub(super) wants_document: bool,
}

/// Writes the head that goes to the upstream, of the one that came and what the gate adds, and tells how the body follows.
pub(super) fn write_head(head: &Head, seen: &Seen, added: &Added<'_>) -> (Vec<u8>, Framing) {
    let mut out = Vec::with_capacity(head.len() + ADDED);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    let target = head.target();
    out.extend_from_slice(if target.is_empty() { b"/" } else { target });
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_hosts(&mut out, head, seen, added);
    let is_trusted = added.connection.is_trusted;
    let mut has_length = false;
    head.fields.write(&mut out, |name, _| match name {
        b"content-length" => !std::mem::replace(&mut has_length, true),
        b"cookie" => seen.cookies == 1,
        b"grpc-timeout" => added.waited.is_zero(),
        _ => {
            is_passed_on(name, is_trusted)
                && !(seen.names_fields && is_named(head, name))
                && added.trace.is_none_or(|trace| trace.passes(name))
                && !(added.wants_document && super::edit::is_not_asked_for(name))
        }
    });
    if seen.cookies > 1 {
        // RFC 9113 §8.2.3: several fields over HTTP/2 must be one over HTTP/1.1.
        let all: Vec<_> = head.fields.all("cookie").collect();
        write_field(&mut out, "cookie", &all.join(&b"; "[..]));
    }
    if !added.waited.is_zero()
        && let Some(value) = head.fields.get("grpc-timeout")
    {
        write_grpc_timeout(&mut out, value, added.waited);
    }
    out.extend_from_slice(b"x-request-id: ");
    out.extend_from_slice(added.request_id.as_bytes());
    out.extend_from_slice(b"\r\nx-admission-account: ");
    out.extend_from_slice(added.account.as_bytes());
    out.extend_from_slice(b"\r\nx-admission-resource: ");
    out.extend_from_slice(added.resource.as_bytes());
    out.extend_from_slice(b"\r\nx-admission-lease: ");
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
    if let (true, Some(protocol)) = (seen.wants_upgrade, protocol(&head.fields)) {
        write_field(&mut out, "connection", b"upgrade");
        write_field(&mut out, "upgrade", protocol);
    }
    let framing = write_framing(&mut out, head, has_length, added.is_body_empty);
    out.extend_from_slice(b"\r\n");
    (out, framing)
}

/// What is left of the time that a gRPC client gave, after it waited here; at least a millisecond, for none means for ever.
fn write_grpc_timeout(out: &mut Vec<u8>, value: &[u8], waited: Duration) {
    let given = std::str::from_utf8(value).ok();
    let Some(given) = given.and_then(super::wait::grpc_timeout) else {
        return write_field(out, "grpc-timeout", value);
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
fn is_passed_on(name: &[u8], is_trusted: bool) -> bool {
    match name {
        b"host"
        | b"connection"
        | b"keep-alive"
        | b"proxy-connection"
        | b"proxy-authenticate"
        | b"proxy-authorization"
        | b"te"
        | b"transfer-encoding"
        | b"upgrade"
        | b"expect"
        | b"x-request-id"
        | b"x-forwarded-for" => false,
        b"forwarded" => is_trusted,
        _ if name.starts_with(b"x-forwarded-") => is_trusted,
        _ => !name.starts_with(b"x-admission-"),
    }
}

/// `Host`, and what is told about the host and the way that the client came by.
fn write_hosts(out: &mut Vec<u8>, head: &Head, seen: &Seen, added: &Added<'_>) {
    let asked = head.host();
    let upstream = added.upstream.host.as_ref().map(HeaderValue::as_bytes);
    write_field(out, "host", upstream.or(asked).unwrap_or_default());
    let connection = added.connection;
    let is_trusted = connection.is_trusted;
    if !is_trusted {
        out.extend_from_slice(&connection.forwarded);
        if let Some(asked) = asked {
            write_field(out, "x-forwarded-host", asked);
        }
        return;
    }
    if let Some(peer) = connection.peer.address {
        out.extend_from_slice(b"x-forwarded-for: ");
        if seen.has_forwarded_for {
            // The chain that a trusted proxy reported, with that proxy at its end.
            for line in head.fields.all("x-forwarded-for") {
                out.extend_from_slice(line);
                out.extend_from_slice(b", ");
            }
        }
        drop(write!(out, "{peer}\r\n"));
    }
    if !seen.has_forwarded_proto {
        write_field(out, "x-forwarded-proto", connection.scheme());
    }
    if !seen.has_forwarded_host
        && let Some(asked) = asked
    {
        write_field(out, "x-forwarded-host", asked);
    }
}

/// One framing: the length that the client said, or chunks, or that there is none where one is usual.
fn write_framing(out: &mut Vec<u8>, head: &Head, has_length: bool, is_empty: bool) -> Framing {
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

/// The protocol that a client offers to switch to, if it is one that is tunnelled.
fn protocol(fields: &Fields) -> Option<&[u8]> {
    let offered = fields.get("upgrade")?;
    let is_tunnelled = |known: &&str| offered.eq_ignore_ascii_case(known.as_bytes());
    TUNNELLED.iter().any(is_tunnelled).then_some(offered)
}

fn contains_token(value: &[u8], wanted: &str) -> bool {
    let mut tokens = value.split(|&byte| byte == b',');
    tokens.any(|token| {
        let name = token.split(|&byte| byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
    })
}

/// The fields that a `Connection` field names; not those that belong to the message itself.
fn named_by_connection(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let tokens = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    tokens.filter(|token| {
        !token.is_empty()
            && ![&b"close"[..], b"keep-alive", b"host"]
                .iter()
                .any(|kept| token.eq_ignore_ascii_case(kept))
    })
}

/// Whether `Connection` names that field.
fn is_named(head: &Head, name: &[u8]) -> bool {
    let mut values = head.fields.all("connection");
    values.any(|value| named_by_connection(value).any(|token| token.eq_ignore_ascii_case(name)))
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

    fn head(pairs: &[(&str, &str)]) -> Head {
        let mut head = Head::new(Method::GET, Version::HTTP_11, "/").unwrap();
        for (name, value) in pairs {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        head
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
            look(&head(&[("upgrade", protocol), ("connection", connection)])).wants_upgrade
        };
        assert!(upgrade("WebSocket", "keep-alive, Upgrade"));
        assert!(!upgrade("h2c", "Upgrade, HTTP2-Settings"));
        assert!(!upgrade("websocket", "keep-alive"));
    }

    #[test]
    fn a_request_id_of_decent_length_is_kept_and_another_is_made() {
        let id = |value: &str| {
            let head = head(&[("x-request-id", value)]);
            look(&head).request_id(&head)
        };
        assert_eq!(id("abc").as_bytes(), b"abc");
        let long = "x".repeat(REQUEST_ID_MAX + 1);
        assert_eq!(id(&long).as_bytes().len(), 32);
        assert_ne!(id("").as_bytes(), id("").as_bytes());
        let two = head(&[("x-request-id", &long), ("x-request-id", "b")]);
        assert_eq!(look(&two).request_id(&two).as_bytes(), b"b");
    }
}
