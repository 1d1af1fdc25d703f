//! An answer's head over HTTP/1, and how its body is framed behind it (RFC 9112 §6).
//!
//! What an upstream said is written as it came; what the gate says itself is written from its map. The fields that belong to the
//! connection are written here and nowhere else. Never writes a body to an answer that has none.

use std::cell::RefCell;
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;

use super::super::body::ResponseBody;
use super::super::headers::{may_be_trailer, write_field};
use crate::clock::Clock;

/// What the request says about how its answer is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) version: Version,
    pub(super) is_head_request: bool,
    pub(super) takes_trailers: bool,
    /// Whether the connection is to go on after the answer.
    pub(super) keeps_alive: bool,
}

/// How the body follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// Not at all.
    Nothing,
    /// As long as the head says.
    Length,
    /// In chunks, with trailers if the client takes them.
    Chunks { takes_trailers: bool },
    /// Until the connection closes.
    UntilClose,
}

/// Writes the head of an answer, and tells how its body follows.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    response: &Response<ResponseBody>,
    manner: Manner,
    clock: &Clock,
) -> Follows {
    let status = response.status();
    let is_http10 = manner.version == Version::HTTP_10;
    write_status(out, status, is_http10, response.extensions().get());
    let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
    let (mut has_length, mut has_date) = (false, false);
    if let Some(fields) = response.body().passed() {
        fields.write(out, |name, _| {
            has_length |= name == CONTENT_LENGTH.as_str().as_bytes();
            has_date |= name == DATE.as_str().as_bytes();
            status != StatusCode::NO_CONTENT || name != CONTENT_LENGTH.as_str().as_bytes()
        });
    }
    for (name, value) in response.headers() {
        if !is_switch && (name == CONNECTION || name == TRANSFER_ENCODING)
            || status == StatusCode::NO_CONTENT && name == CONTENT_LENGTH
        {
            continue;
        }
        has_length |= name == CONTENT_LENGTH;
        has_date |= name == DATE;
        write_field(out, name.as_str(), value.as_bytes());
    }
    if !has_date {
        write_date(out, clock.unix_time());
    }
    let follows = follows(response, manner, has_length);
    match follows {
        Follows::Length if !has_length => {
            let length = response.body().size_hint().lower();
            drop(write!(out, "content-length: {length}\r\n"));
        }
        Follows::Nothing if !has_length && has_room(status) => {
            if let Some(length) = known_length(response, manner) {
                drop(write!(out, "content-length: {length}\r\n"));
            }
        }
        Follows::Chunks { .. } => write_field(out, "transfer-encoding", b"chunked"),
        _ => {}
    }
    let keeps_alive = manner.keeps_alive && follows != Follows::UntilClose;
    if !keeps_alive && !is_switch {
        write_field(out, "connection", b"close");
    } else if is_http10 && !is_switch {
        write_field(out, "connection", b"keep-alive");
    }
    out.extend_from_slice(b"\r\n");
    follows
}

/// The length of a body that is not sent. An answer to HEAD says what GET would have got; an upstream that does not say that itself is
/// not known to have nothing.
fn known_length(response: &Response<ResponseBody>, manner: Manner) -> Option<u64> {
    let length = response.body().size_hint().exact()?;
    (!manner.is_head_request || length > 0).then_some(length)
}

/// Whether answers of that status may have a body.
fn has_room(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

fn follows(response: &Response<ResponseBody>, manner: Manner, has_length: bool) -> Follows {
    let body = response.body();
    if manner.is_head_request || !has_room(response.status()) || body.is_end_stream() {
        return Follows::Nothing;
    }
    if has_length || body.size_hint().exact().is_some() {
        return Follows::Length;
    }
    if manner.version == Version::HTTP_10 {
        return Follows::UntilClose;
    }
    Follows::Chunks {
        takes_trailers: manner.takes_trailers,
    }
}

fn write_status(
    out: &mut Vec<u8>,
    status: StatusCode,
    is_http10: bool,
    reason: Option<&ReasonPhrase>,
) {
    if status == StatusCode::OK && reason.is_none() && !is_http10 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(if is_http10 {
        b"HTTP/1.0 "
    } else {
        b"HTTP/1.1 "
    });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let usual = || status.canonical_reason().unwrap_or_default().as_bytes();
    out.extend_from_slice(reason.map_or_else(usual, ReasonPhrase::as_bytes));
    out.extend_from_slice(b"\r\n");
}

/// The second that was last written as a date, and how.
#[derive(Debug)]
struct Written(u64, String);

thread_local! {
    static WRITTEN: RefCell<Written> = const { RefCell::new(Written(u64::MAX, String::new())) };
}

/// When the answer was made, if an upstream has not said so (RFC 9110 §6.6.1).
fn write_date(out: &mut Vec<u8>, now: Duration) {
    let text = |now: Duration| httpdate::fmt_http_date(std::time::UNIX_EPOCH + now);
    let written = WRITTEN.try_with(|written| {
        let mut written = written.borrow_mut();
        if written.0 != now.as_secs() {
            *written = Written(now.as_secs(), text(now));
        }
        write_field(out, "date", written.1.as_bytes());
    });
    if written.is_err() {
        write_field(out, "date", text(now).as_bytes());
    }
}

/// Writes what stands before a piece of a body, and tells what stands behind it.
pub(super) fn begin_piece(out: &mut Vec<u8>, follows: Follows, data: &Bytes) -> &'static [u8] {
    match follows {
        Follows::Chunks { .. } => {
            drop(write!(out, "{:x}\r\n", data.len()));
            b"\r\n"
        }
        _ => b"",
    }
}

/// Writes what stands behind the whole body.
pub(super) fn finish(out: &mut Vec<u8>, follows: Follows, trailers: Option<&HeaderMap>) {
    let Follows::Chunks { takes_trailers } = follows else {
        return;
    };
    out.extend_from_slice(b"0\r\n");
    let trailers = trailers.filter(|_| takes_trailers).into_iter().flatten();
    for (name, value) in trailers.filter(|(name, _)| may_be_trailer(name)) {
        write_field(out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}
