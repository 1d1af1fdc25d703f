//! An upstream's answer: its head parsed, and what it means for its body.
//!
//! `httparse` reads the syntax; what it means for the connection (RFC 9112 §6.3 and §9.3) is decided here: how long the body
//! is, and whether the connection can carry another request after it. Fields that end at this hop are left out at once. A
//! head that could be read in two ways is an error. Never holds a body.

use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};

use http::{HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;

use super::decode::{Decoder, Left};
use super::socket::Socket;
use crate::head::Fields;

/// Longest response head, in bytes; nginx takes 4 to 8 KiB, Envoy 60.
pub(super) const HEAD_MAX: usize = 64 * 1024;
/// Most fields of a head or of trailers, as many as hyper takes.
pub(super) const FIELDS_MAX: usize = 100;
/// Fields that the gate adds to every answer, and room for them.
const ADDED: usize = 2;
const ADDED_BYTES: usize = 64;

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the connection ended before the answer did")]
    Ended,
    #[error("the answer is not HTTP/1: {0}")]
    Syntax(&'static str),
}

/// An answer's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// Its fields, but for those that end here; boxed, as a head is moved often.
    pub(super) fields: Box<Fields>,
    pub(super) decoder: Decoder,
    /// What few answers say; boxed for the same reason.
    pub(super) rare: Option<Box<Rare>>,
}

/// What few answers say.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// The words behind the status, where they are not the usual ones.
    pub(super) reason: Option<ReasonPhrase>,
    /// The protocol it switches to, with a status of 101.
    pub(super) upgrade: Option<HeaderValue>,
    /// How long the work goes on after it, if the upstream says so.
    pub(super) hold: Option<HeaderValue>,
}

/// Reads the head of the answer to a request; interim answers but 101 are passed over.
pub(super) fn poll_head(
    socket: &mut Socket,
    cx: &mut Context<'_>,
    is_head_request: bool,
) -> Poll<Result<Head, Broken>> {
    loop {
        if !socket.unused().is_empty()
            && let Some((head, length)) = parse(socket.unused(), is_head_request)?
        {
            socket.consume(length);
            if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            return Poll::Ready(Ok(head));
        }
        let was = socket.unused().len();
        if ready!(socket.poll_fill(cx, HEAD_MAX))? == 0 {
            let is_full = was >= HEAD_MAX;
            let what = Broken::Syntax("its head is longer than 64 KiB");
            return Poll::Ready(Err(if is_full { what } else { Broken::Ended }));
        }
    }
}

/// Parses a head, if it is complete, and tells its length.
fn parse(bytes: &[u8], is_head_request: bool) -> Result<Option<(Head, usize)>, Broken> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut response, bytes, &mut fields)
    {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Broken::Syntax("its head has more than 100 fields"));
        }
        Err(_) => return Err(Broken::Syntax("its head is malformed")),
    };
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Broken::Syntax("its status is none"))?;
    let is_http10 = response.version == Some(0);
    let reason = response
        .reason
        .filter(|words| Some(*words) != status.canonical_reason());
    let reason = reason.and_then(|words| ReasonPhrase::try_from(words.as_bytes()).ok());
    let mut meaning = Meaning::default();
    let count = response.headers.len() + ADDED;
    let raw = part_from(bytes, length, response.headers);
    let mut fields = Fields::of_raw(raw, count, ADDED_BYTES);
    for field in response.headers.iter() {
        let name = field.name.as_bytes();
        if meaning.take(name, field.value)? {
            fields.push_part(raw, name, field.value);
        }
    }
    if meaning.names_fields {
        let named = response
            .headers
            .iter()
            .filter(|field| is_connection(field.name));
        for field in named {
            fields.retain(|name, _| !names(field.value, name));
        }
    }
    let decoder = meaning.decoder(status, is_http10, is_head_request, &mut fields);
    let value = |value: Option<&[u8]>| value.and_then(|value| HeaderValue::from_bytes(value).ok());
    let is_rare = reason.is_some() || meaning.upgrade.is_some() || meaning.hold.is_some();
    let rare = is_rare.then(|| {
        let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
        Box::new(Rare {
            reason,
            upgrade: value(meaning.upgrade.filter(|_| is_switch)),
            hold: value(meaning.hold),
        })
    });
    Ok(Some((
        Head {
            status,
            fields: Box::new(fields),
            decoder,
            rare,
        },
        length,
    )))
}

/// The part of a head of that length in which its fields stand.
pub(super) fn part_from<'a>(
    bytes: &'a [u8],
    length: usize,
    fields: &[httparse::Header<'_>],
) -> &'a [u8] {
    let start = fields.first().map(|first| first.name.as_ptr() as usize);
    let start = start.map_or(length, |at| at.wrapping_sub(bytes.as_ptr() as usize));
    bytes.get(start..length).unwrap_or_default()
}

fn is_connection(name: &str) -> bool {
    name.eq_ignore_ascii_case("connection")
}

/// Whether a value of `Connection` names that field.
fn names(value: &[u8], name: &[u8]) -> bool {
    let mut tokens = value.split(|&byte| byte == b',');
    tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(name))
}

/// Whether a transfer coding is the one that is understood.
pub(super) fn is_chunked(value: &[u8]) -> bool {
    value.trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// What the fields say about the connection and the body.
#[derive(Debug, Default)]
struct Meaning<'a> {
    length: Option<u64>,
    is_length_listed: bool,
    is_chunked: bool,
    closes: bool,
    keeps_alive: bool,
    upgrade: Option<&'a [u8]>,
    hold: Option<&'a [u8]>,
    /// `Connection` names fields, which end here.
    names_fields: bool,
}

impl<'a> Meaning<'a> {
    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|&byte| byte == b',') {
            let token = token.trim_ascii();
            if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keeps_alive = true;
            } else if token.eq_ignore_ascii_case(b"close") {
                self.closes = true;
            } else {
                self.names_fields |= !token.is_empty();
            }
        }
    }

    /// Notes what a field means; false if it ends here.
    fn take(&mut self, name: &[u8], value: &'a [u8]) -> Result<bool, Broken> {
        // Told apart by their lengths, which few other fields share.
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => {}
            7 if is("upgrade") => self.upgrade = Some(value),
            10 if is("keep-alive") => {}
            10 if is("connection") => self.connection(value),
            14 if is("content-length") => {
                let length = parse_length(value).ok_or(Broken::Syntax("its length is none"))?;
                if self.length.is_some_and(|other| other != length) {
                    return Err(Broken::Syntax("it has two lengths"));
                }
                self.is_length_listed |= value.contains(&b',');
                // The same length said twice is passed on once.
                return Ok(self.length.replace(length).is_none());
            }
            16 if is("proxy-connection") || is("x-admission-hold") => {
                if name[0].eq_ignore_ascii_case(&b'x') {
                    self.hold = Some(value);
                }
            }
            17 if is("transfer-encoding") => {
                if self.is_chunked || !is_chunked(value) {
                    return Err(Broken::Syntax(
                        "it has another transfer coding than `chunked`",
                    ));
                }
                self.is_chunked = true;
            }
            18 if is("proxy-authenticate") => {}
            19 if is("proxy-authorization") => {}
            _ => return Ok(true),
        }
        Ok(false)
    }

    fn decoder(
        &self,
        status: StatusCode,
        is_http10: bool,
        is_head_request: bool,
        fields: &mut Fields,
    ) -> Decoder {
        let without_length =
            |fields: &mut Fields| fields.retain(|name, _| name != b"content-length");
        if let Some(length) = self.length.filter(|_| self.is_length_listed) {
            // A list of the same is passed on as one.
            without_length(fields);
            fields.push(b"content-length", length.to_string().as_bytes());
        }
        let persists = !self.closes && (!is_http10 || self.keeps_alive);
        let has_none = is_head_request
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        if has_none {
            return Decoder {
                left: Left::Nothing,
                is_reusable: persists,
            };
        }
        match (self.is_chunked, self.length) {
            (true, length) => {
                // A length beside chunks is a sign of smuggling: the chunks count, and nothing after them is believed.
                without_length(fields);
                let is_reusable = persists && length.is_none() && !is_http10;
                Decoder {
                    left: Left::ChunkSize,
                    is_reusable,
                }
            }
            (false, Some(0)) => Decoder {
                left: Left::Nothing,
                is_reusable: persists,
            },
            (false, Some(length)) => Decoder {
                left: Left::Bytes(length),
                is_reusable: persists,
            },
            (false, None) => Decoder {
                left: Left::UntilClose,
                is_reusable: false,
            },
        }
    }
}

/// A length is digits, which may come as a list of the same (RFC 9110 §8.6).
pub(super) fn parse_length(value: &[u8]) -> Option<u64> {
    let mut lengths = std::str::from_utf8(value).ok()?.split(',').map(|text| {
        let text = text.trim();
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u64>().ok())
            .flatten()
    });
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        parse(text.as_bytes(), false).unwrap().unwrap().0
    }

    fn refused(text: &str) -> bool {
        parse(text.as_bytes(), false).is_err()
    }

    #[test]
    fn a_body_is_as_long_as_its_head_says() {
        let left = |text: &str| head(text).decoder.left;
        assert_eq!(
            left("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
            Left::Bytes(5)
        );
        assert_eq!(
            left("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n"),
            Left::Bytes(5)
        );
        assert_eq!(
            left("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"),
            Left::ChunkSize
        );
        assert_eq!(left("HTTP/1.1 200 OK\r\n\r\n"), Left::UntilClose);
        assert_eq!(
            left("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n"),
            Left::Nothing
        );
        assert_eq!(left("HTTP/1.1 304 Not Modified\r\n\r\n"), Left::Nothing);
    }

    #[test]
    fn a_head_that_reads_in_two_ways_is_refused_or_closes_its_connection() {
        assert!(refused(
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n"
        ));
        assert!(refused("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n"));
        assert!(refused(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"
        ));
        assert!(refused("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n"));
        let both =
            head("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(both.decoder.left, Left::ChunkSize);
        assert!(!both.decoder.is_reusable);
        assert!(!both.fields.contains("content-length"));
    }

    #[test]
    fn a_connection_is_reused_only_where_the_answer_allows_it() {
        let is_reusable = |text: &str| head(text).decoder.is_reusable;
        assert!(is_reusable("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(!is_reusable(
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: Close\r\n\r\n"
        ));
        assert!(!is_reusable("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(is_reusable(
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
        ));
        assert!(!is_reusable("HTTP/1.1 200 OK\r\n\r\n"));
    }

    #[test]
    fn fields_of_this_hop_are_left_out() {
        let head = head(
            "HTTP/1.1 200 OK\r\nconnection: x-a, keep-alive\r\nkeep-alive: timeout=5\r\nx-a: 1\r\n\
             x-admission-hold: 1m\r\nx-b: 2\r\nset-cookie: a\r\nset-cookie: b\r\n\r\n",
        );
        let map = head.fields.to_map();
        let names: Vec<_> = map.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(map.get_all("set-cookie").iter().count(), 2);
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            drop(parse(&[b"HTTP/1.1 200 OK\r\n", bytes.as_slice()].concat(), false));
        }
    }
}
