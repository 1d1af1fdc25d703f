//! The path that rules are matched against.
//!
//! Unreserved characters that were escaped are decoded once, `.`, `..` and `//` are resolved (RFC 3986 §6.2.2), so that
//! a path has one spelling and no other evades its limit. An escaped slash, backslash or NUL, or a climb above the root
//! is refused: servers disagree on what they mean. The request is forwarded as it came. Never decodes twice.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::Fault;

/// A path in its one spelling, split at its slashes.
#[derive(Debug)]
pub(super) struct NormalPath<'a> {
    bytes: Bytes<'a>,
    /// Where each segment begins; it ends one before the next begins.
    starts: SmallVec<[u32; 16]>,
}

#[derive(Debug)]
enum Bytes<'a> {
    AsReceived(&'a [u8]),
    Rewritten(SmallVec<[u8; 128]>),
}

/// Whether a literal segment has another spelling once normalised.
pub(super) fn is_rewritten(segment: &[u8]) -> bool {
    decode_unreserved(segment).is_none_or(|decoded| decoded.as_slice() != segment)
}

impl<'a> NormalPath<'a> {
    /// `path` begins with a slash, or is `*` or empty (an `OPTIONS *`, a `CONNECT`).
    pub(super) fn new(path: &'a [u8]) -> Result<Self, Fault> {
        let starts = starts(path);
        if is_normal(path, &starts) {
            let bytes = Bytes::AsReceived(path);
            return Ok(Self { bytes, starts });
        }
        let rewritten = rewrite(path)?;
        let starts = self::starts(&rewritten);
        let bytes = Bytes::Rewritten(rewritten);
        Ok(Self { bytes, starts })
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::AsReceived(bytes) => bytes,
            Bytes::Rewritten(bytes) => bytes,
        }
    }

    pub(super) fn segment_count(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn segment(&self, index: usize) -> &[u8] {
        let start = self.starts[index] as usize;
        let end = self
            .starts
            .get(index + 1)
            .map_or(self.bytes().len(), |&next| next as usize - 1);
        &self.bytes()[start..end]
    }

    /// Everything from the segment of that index on.
    pub(super) fn rest(&self, index: usize) -> &[u8] {
        self.starts
            .get(index)
            .map_or(&[], |&start| &self.bytes()[start as usize..])
    }
}

/// Where segments begin.
fn starts(path: &[u8]) -> SmallVec<[u32; 16]> {
    let mut starts = SmallVec::new();
    for (start, &byte) in (1u32..).zip(path) {
        if byte == b'/' {
            starts.push(start);
        }
    }
    starts
}

/// The common case: nothing escaped, no empty segment but the last, none that begins with a dot.
fn is_normal(path: &[u8], starts: &[u32]) -> bool {
    let first = |&start: &u32| path.get(start as usize);
    !path.contains(&b'%')
        && !starts
            .iter()
            .any(|start| matches!(first(start), Some(b'/' | b'.')))
}

fn rewrite(path: &[u8]) -> Result<SmallVec<[u8; 128]>, Fault> {
    let decoded = decode_unreserved(path).ok_or(Fault::PathInvalid)?;
    let mut out = SmallVec::<[u8; 128]>::new();
    let mut segments = decoded.split(|&byte| byte == b'/').peekable();
    segments.next();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"" | b"." if !is_last => {}
            b"" | b"." => out.push(b'/'),
            b".." => {
                let parent = out
                    .iter()
                    .rposition(|&byte| byte == b'/')
                    .ok_or(Fault::PathInvalid)?;
                out.truncate(parent);
                if is_last {
                    out.push(b'/');
                }
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    Ok(out)
}

/// Decodes what needed no escape; `None` for an escaped slash, backslash or NUL.
fn decode_unreserved(text: &[u8]) -> Option<SmallVec<[u8; 128]>> {
    let mut out = SmallVec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| tail.get(..2).and_then(hex))
            .flatten();
        match escaped {
            Some(0 | b'/' | b'\\') => return None,
            Some(plain) if plain.is_ascii_alphanumeric() || b"-._~".contains(&plain) => {
                out.push(plain);
                rest = &tail[2..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    Some(out)
}

/// A value with every escape decoded once: a name has one spelling, however its reserved characters were sent.
pub(super) fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| tail.get(..2).and_then(hex))
            .flatten();
        out.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    Cow::Owned(out)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(path: &str) -> Result<String, Fault> {
        let path = NormalPath::new(path.as_bytes())?;
        Ok(String::from_utf8_lossy(path.bytes()).into_owned())
    }

    #[test]
    fn a_path_has_one_spelling() {
        for (received, wanted) in [
            ("/a/b", "/a/b"),
            ("/%61/b", "/a/b"),
            ("/a//b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/x/../b", "/a/b"),
            ("/a/%2e%2e/b", "/b"),
            ("/a/%2E/b", "/a/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/b//", "/a/b/"),
            ("/a/.hidden", "/a/.hidden"),
            ("/a/..x", "/a/..x"),
            ("/%2561", "/%2561"),
            ("/a%20b", "/a%20b"),
            ("/a%zz", "/a%zz"),
            ("/a%", "/a%"),
            ("/..a/..", "/"),
        ] {
            assert_eq!(normal(received).as_deref(), Ok(wanted), "{received}");
        }
    }

    #[test]
    fn a_path_that_servers_read_differently_is_refused() {
        for path in [
            "/a%2fb",
            "/a%2Fb",
            "/a%00",
            "/..",
            "/a/../..",
            "/%2e%2e/a",
            "/a%5cb",
        ] {
            assert_eq!(normal(path), Err(Fault::PathInvalid), "{path}");
        }
    }

    proptest::proptest! {
        // Normalising is idempotent: what was normalised has no other spelling left.
        #[test]
        fn normalising_twice_changes_nothing(path in "(/[a.%2eE/x]{0,6}){1,6}") {
            if let Ok(once) = normal(&path) {
                // A decoded percent sign may form a new escape; it is not decoded a second time, by design.
                proptest::prop_assume!(!once.contains('%'));
                proptest::prop_assert_eq!(normal(&once), Ok(once));
            }
        }

        #[test]
        fn no_path_makes_it_panic(path in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            drop(NormalPath::new(&path));
        }
    }
}
