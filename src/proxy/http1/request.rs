//! A request's head over HTTP/1: its syntax, how its body is framed, and whether the connection may go on after it.
//!
//! `httparse` reads the syntax; what it means for the body (RFC 9112 §6) is decided here, once, and the head that goes on says it in
//! one clean form. What could be read in two ways is refused before anybody else sees it. Never holds a body.

use std::mem::MaybeUninit;
use std::sync::Arc;

use http::{Method, StatusCode, Version};

use super::super::decode::{Decoder, Left};
use super::super::incoming::{FIELDS_MAX, is_chunked, parse_length, part_from};
use crate::head::Head;

/// Longest target, in bytes, as long as `http` takes them.
const TARGET_MAX: usize = 65_534;
/// Longest name of a field, likewise.
const NAME_MAX: usize = 65_535;

/// A request whose head is complete.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) head: Arc<Head>,
    /// How its body comes, if it has one.
    pub(super) body: Option<Decoder>,
    /// Whether the client wants to ask for more on this connection.
    pub(super) keeps_alive: bool,
}

/// Why a head is refused, and with which status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) StatusCode, pub(super) &'static str);

const fn bad(what: &'static str) -> Unreadable {
    Unreadable(StatusCode::BAD_REQUEST, what)
}

/// Too much of a head.
pub(super) const TOO_LONG: Unreadable = Unreadable(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "the head is longer, or has more fields, than this gate accepts",
);

/// A head of which less has come is looked at as a whole each time.
const SHORT: usize = 2 * 1024;

/// Whether the end of a head may be among what came behind the first `looked_at` bytes: a long head that trickles in is not to be parsed
/// from its beginning each time.
pub(super) fn may_be_whole(bytes: &[u8], looked_at: usize) -> bool {
    let from = looked_at.min(bytes.len()).saturating_sub(2);
    let is_end = |at: &[u8]| at.starts_with(b"\n\n") || at == b"\n\r\n";
    looked_at < SHORT || bytes[from..].windows(3).any(is_end) || bytes.ends_with(b"\n\n")
}

/// Parses a head, if it is complete, and tells its length.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Received, usize)>, Unreadable> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LONG),
        Err(httparse::Error::Version) => {
            return Err(bad("the request line names no version of HTTP/1"));
        }
        Err(_) => return Err(bad("the head is not HTTP/1")),
    };
    let version = if request.version == Some(0) {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    let method = request.method.unwrap_or_default();
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("the method is none"))?;
    let target = request.path.unwrap_or_default();
    if target.len() > TARGET_MAX {
        let what = "the target is longer than this gate accepts";
        return Err(Unreadable(StatusCode::URI_TOO_LONG, what));
    }
    let raw = part_from(bytes, length, request.headers);
    let head = Head::of_raw(method, version, target, raw, request.headers.len());
    let mut head = head.map_err(|_| bad("the target is none"))?;
    let mut meaning = Meaning::new(version);
    for field in request.headers.iter() {
        let (name, value) = (field.name.as_bytes(), field.value);
        if name.len() > NAME_MAX {
            return Err(TOO_LONG);
        }
        if meaning.take(name, value)? {
            head.push_part(raw, name, value);
        }
    }
    let body = meaning.body(&mut head)?;
    let received = Received {
        head: Arc::new(head),
        body,
        keeps_alive: meaning.keeps_alive(),
    };
    Ok(Some((received, length)))
}

/// What the fields say about the connection and the body.
#[derive(Debug)]
struct Meaning {
    is_http10: bool,
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    asks_to_stay: bool,
}

impl Meaning {
    fn new(version: Version) -> Self {
        Self {
            is_http10: version == Version::HTTP_10,
            length: None,
            is_chunked: false,
            closes: false,
            asks_to_stay: false,
        }
    }

    /// Notes what a field means; false if it is written anew or not at all.
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Unreadable> {
        // Told apart by their lengths, which few other fields share.
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for token in value.split(|&byte| byte == b',') {
                    let token = token.trim_ascii();
                    self.closes |= token.eq_ignore_ascii_case(b"close");
                    self.asks_to_stay |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = parse_length(value).ok_or(bad("the content-length is none"))?;
                if self
                    .length
                    .replace(length)
                    .is_some_and(|other| other != length)
                {
                    return Err(bad("the head has two lengths"));
                }
                return Ok(false);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.is_http10 {
                    return Err(bad("HTTP/1.0 has no transfer codings"));
                }
                if self.is_chunked || !is_chunked(value) {
                    return Err(bad("only the transfer coding `chunked` is understood"));
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(true)
    }

    /// How the body comes. Chunks beat a length (RFC 9112 §6.3), which then is nothing to pass on.
    fn body(&mut self, head: &mut Head) -> Result<Option<Decoder>, Unreadable> {
        let left = if self.is_chunked {
            // Sent by nobody but those who try what is behind: nothing on the connection is believed after it.
            self.closes |= self.length.is_some();
            Left::ChunkSize
        } else {
            let Some(length) = self.length else {
                return Ok(None);
            };
            let digits = length.to_string();
            head.fields.push(b"content-length", digits.as_bytes());
            if length == 0 {
                return Ok(None);
            }
            Left::Bytes(length)
        };
        Ok(Some(Decoder {
            left,
            is_reusable: true,
        }))
    }

    fn keeps_alive(&self) -> bool {
        !self.closes && (!self.is_http10 || self.asks_to_stay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(text: &str) -> Received {
        parse(text.as_bytes()).unwrap().unwrap().0
    }

    fn status(text: &[u8]) -> u16 {
        parse(text).map_or_else(|Unreadable(status, _)| status.as_u16(), |_| 200)
    }

    // G8: one framing, or none at all.
    #[test]
    fn a_body_is_framed_in_one_way() {
        let left = |fields: &str| {
            let received = received(&format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
            let lengths = received.head.fields.all("content-length").count();
            (received.body.map(|body| body.left), lengths)
        };
        assert_eq!(left(""), (None, 0));
        assert_eq!(left("content-length: 0\r\n"), (None, 1));
        assert_eq!(left("Content-Length: 5\r\n"), (Some(Left::Bytes(5)), 1));
        assert_eq!(
            left("content-length: 5\r\ncontent-length: 5\r\n"),
            (Some(Left::Bytes(5)), 1)
        );
        assert_eq!(left("content-length: 5, 5\r\n"), (Some(Left::Bytes(5)), 1));
        assert_eq!(
            left("transfer-encoding: Chunked\r\n"),
            (Some(Left::ChunkSize), 0)
        );
        let both = "content-length: 5\r\ntransfer-encoding: chunked\r\n";
        assert_eq!(left(both), (Some(Left::ChunkSize), 0));
    }

    // G8: what two servers read in two ways is read by none.
    #[test]
    fn a_head_that_reads_in_two_ways_is_refused() {
        for fields in [
            "content-length: 5\r\ncontent-length: 6\r\n",
            "content-length: +5\r\n",
            "content-length: 5 6\r\n",
            "content-length: \r\n",
            "content-length: 99999999999999999999999\r\n",
            "transfer-encoding: gzip\r\n",
            "transfer-encoding: chunked, gzip\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding : chunked\r\n",
            "transfer-encoding: \u{b}chunked\r\n",
            "a: b\r\n c\r\n",
            "a: b\rc: d\r\n",
            "a\r\n",
            ": a\r\n",
            "a: \0\r\n",
        ] {
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
            assert_eq!(status(head.as_bytes()), 400, "{fields:?}");
        }
        assert_eq!(
            status(b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n"),
            400
        );
        for line in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.2",
            "GET / HTTP/2.0",
            "GET /",
            "G(T / HTTP/1.1",
            " GET / HTTP/1.1",
        ] {
            assert_eq!(
                status(format!("{line}\r\nhost: a\r\n\r\n").as_bytes()),
                400,
                "{line}"
            );
        }
    }

    #[test]
    fn a_connection_goes_on_where_the_client_wants_it_to() {
        let keeps = |text: &str| received(text).keeps_alive;
        assert!(keeps("GET / HTTP/1.1\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nconnection: x, Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert!(!keeps(
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"
        ));
    }

    #[test]
    fn what_is_too_much_of_a_head_has_its_own_status() {
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "a: b\r\n".repeat(FIELDS_MAX + 1)
        );
        assert_eq!(status(many.as_bytes()), 431);
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(TARGET_MAX));
        assert_eq!(status(long.as_bytes()), 414);
        assert_eq!(
            parse(b"GET / HTTP/1.1\r\nhost: a").unwrap().map(|_| ()),
            None
        );
    }

    #[test]
    fn the_end_of_a_long_head_is_seen_wherever_it_is_cut() {
        for end in ["\r\n\r\n", "\n\n", "\n\r\n"] {
            let head = format!("GET / HTTP/1.1\r\na: {}{end}", "x".repeat(SHORT));
            let body = head.clone() + "body";
            for cut in SHORT..head.len() {
                assert!(may_be_whole(head.as_bytes(), cut), "{end:?} {cut}");
                assert!(may_be_whole(body.as_bytes(), cut), "{end:?} {cut}");
            }
            assert!(!may_be_whole(&head.as_bytes()[..head.len() - 1], SHORT));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_head_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            drop(parse(&bytes));
            drop(parse(&[b"GET / HTTP/1.1\r\n", bytes.as_slice()].concat()));
            drop(parse(&[b"POST ", bytes.as_slice(), b" HTTP/1.1\r\n\r\n"].concat()));
        }
    }
}
