//! The head of a request or an answer, as it came: its fields in order, in one piece of memory.
//!
//! `http::HeaderMap` hashes every name and counts references to every value, which costs a proxy more than all else that it does with
//! a head: a head has few fields, and nearly all of them are only passed on. So here they stand as they are written. A head holds no
//! byte of the buffer it was read into. Never says what a field means.

mod fields;

use std::borrow::Cow;

use http::header::HOST;
use http::request::Parts;
use http::{Method, Request, Uri, Version};
use smallvec::SmallVec;

pub use fields::Fields;
use fields::{COLON, LINE_END, place};

/// A request's head.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its method.
    pub method: Method,
    /// The version that the client spoke.
    pub version: Version,
    /// Its fields.
    pub fields: Fields,
    /// The host and port in the target itself, as HTTP/2 and requests to proxies have it.
    pub authority: Option<Box<str>>,
    /// Where the path ends in the text before the fields, and where the query behind it does.
    path: u32,
    target: u32,
}

/// Why a target is none.
#[derive(Debug, thiserror::Error)]
#[error("the target is none")]
pub struct InvalidTarget;

impl Head {
    /// A head without fields. The target is what stands in the request line.
    pub fn new(method: Method, version: Version, target: &str) -> Result<Self, InvalidTarget> {
        Self::of_raw(method, version, target, b"", 0)
    }

    /// A head without fields yet, but with a copy of `raw`, from which [`push_part`](Self::push_part) takes over so many.
    pub fn of_raw(
        method: Method,
        version: Version,
        target: &str,
        raw: &[u8],
        count: usize,
    ) -> Result<Self, InvalidTarget> {
        if let Some(path) = plain_path(target.as_bytes()) {
            return Ok(Self {
                method,
                version,
                fields: Fields::copied(target.as_bytes(), raw, count, 0),
                authority: None,
                path: place(path),
                target: place(target.len()),
            });
        }
        let uri: Uri = target.parse().map_err(|_| InvalidTarget)?;
        Ok(Self::of_uri(method, version, &uri, raw, count))
    }

    /// Adds a field that stands in the `raw` that the head was made with; any other one is copied.
    pub fn push_part(&mut self, raw: &[u8], name: &[u8], value: &[u8]) {
        self.fields.push_at(self.target as usize, raw, name, value);
    }

    fn of_uri(method: Method, version: Version, uri: &Uri, raw: &[u8], count: usize) -> Self {
        let target = uri.path_and_query().map_or("", |target| target.as_str());
        // A target that names its host may have a query and no path.
        let target = if target.starts_with('?') {
            Cow::Owned(format!("/{target}"))
        } else {
            Cow::Borrowed(target)
        };
        let path = target.find('?').unwrap_or(target.len());
        Self {
            method,
            version,
            fields: Fields::copied(target.as_bytes(), raw, count, 0),
            authority: uri.authority().map(|authority| authority.as_str().into()),
            path: place(path),
            target: place(target.len()),
        }
    }

    /// The same without its fields.
    #[must_use]
    pub fn without_fields(&self) -> Self {
        Self {
            method: self.method.clone(),
            version: self.version,
            fields: Fields {
                text: self.fields.text[..self.target as usize].to_vec(),
                at: SmallVec::new(),
            },
            authority: self.authority.clone(),
            path: self.path,
            target: self.target,
        }
    }

    /// The path as it was sent; empty where the target has none. It is text: targets are read as such.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.fields.text[..self.path as usize]
    }

    /// The same for people.
    #[must_use]
    pub fn path_text(&self) -> &str {
        std::str::from_utf8(self.path()).unwrap_or_default()
    }

    /// The query without its question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        let query = self
            .fields
            .text
            .get(self.path as usize + 1..self.target as usize)?;
        std::str::from_utf8(query).ok()
    }

    /// Path and query as they were sent.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        &self.fields.text[..self.target as usize]
    }

    /// How many bytes it is kept in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.text.len()
    }

    /// Whether there is nothing in it, not even a target.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.text.is_empty()
    }

    /// Whom the client named, with the port: the target's authority beats the field (RFC 9112 §3.2.2).
    #[must_use]
    pub fn host(&self) -> Option<&[u8]> {
        let authority = self
            .authority
            .as_ref()
            .map(|authority| authority.as_bytes());
        authority.or_else(|| self.fields.get(HOST.as_str()))
    }

    /// The same head for those who want it in the types of `http`.
    #[must_use]
    pub fn to_parts(&self) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.version = self.version;
        parts.headers = self.fields.to_map();
        let mut uri = Uri::builder().path_and_query(self.target().to_vec());
        if let Some(authority) = &self.authority {
            uri = uri.scheme("http").authority(&**authority);
        }
        parts.uri = uri.build().unwrap_or_default();
        parts
    }
}

impl From<&Parts> for Head {
    fn from(parts: &Parts) -> Self {
        let (method, version) = (parts.method.clone(), parts.version);
        let mut head = Self::of_uri(method, version, &parts.uri, b"", parts.headers.len());
        let bytes = parts
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len());
        let lines = parts.headers.len() * (COLON.len() + LINE_END.len());
        head.fields.text.reserve(bytes.sum::<usize>() + lines);
        for (name, value) in &parts.headers {
            head.fields.push(name.as_str().as_bytes(), value.as_bytes());
        }
        head
    }
}

/// What may stand in a target as it is: RFC 3986 §3.3 and §3.4, and the braces that clients send in spite of it. Not the hash
/// of a fragment, which is no part of a request.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b'!' as usize;
    while byte <= b'~' as usize {
        plain[byte] = !matches!(byte as u8, b'"' | b'#' | b'<' | b'>' | b'`');
        byte += 1;
    }
    plain
};

/// The length of the path of a target that begins with it, and holds nothing that would have to be looked at more closely.
fn plain_path(target: &[u8]) -> Option<usize> {
    let is_plain =
        target.first() == Some(&b'/') && target.iter().all(|&byte| PLAIN[usize::from(byte)]);
    let query = || target.iter().position(|&byte| byte == b'?');
    is_plain.then(|| query().unwrap_or(target.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str) -> Option<Head> {
        Head::new(Method::GET, Version::HTTP_11, target).ok()
    }

    #[test]
    fn a_target_is_a_path_with_a_query_or_names_its_host_too() {
        let parts = |target: &str| {
            let head = head(target).unwrap();
            let query = head.query().map(str::to_owned);
            let target = String::from_utf8(head.target().to_vec()).unwrap();
            (head.path_text().to_owned(), query, target)
        };
        let text = |text: &str| text.to_owned();
        assert_eq!(
            parts("/a?b?c"),
            (text("/a"), Some(text("b?c")), text("/a?b?c"))
        );
        assert_eq!(parts("/a?"), (text("/a"), Some(text("")), text("/a?")));
        assert_eq!(parts("/a#f"), (text("/a"), None, text("/a")));
        assert_eq!(
            parts("http://h:1/a?b"),
            (text("/a"), Some(text("b")), text("/a?b"))
        );
        assert_eq!(parts("http://h"), (text("/"), None, text("/")));
        assert_eq!(
            parts("http://h?b"),
            (text("/"), Some(text("b")), text("/?b"))
        );
        assert_eq!(parts("*").0, "*");
        assert_eq!(head("http://h:1/a").unwrap().host(), Some(&b"h:1"[..]));
        for bad in ["", "/a b", "/<", "/a`", "http://", "/\u{1}"] {
            assert!(head(bad).is_none(), "{bad:?}");
        }
    }

    proptest::proptest! {
        // A target is read as the types of `http` read it.
        #[test]
        fn a_target_means_the_same_as_a_uri(target in "[!-~]{0,4}(/[!-~]{0,8}){0,3}") {
            let uri = target.parse::<Uri>().ok();
            let head = head(&target);
            proptest::prop_assert_eq!(head.is_some(), uri.is_some(), "{:?}", uri);
            if let (Some(head), Some(uri)) = (head, uri) {
                let target = uri.path_and_query().map_or("", |target| target.as_str());
                let slash = if target.starts_with('?') { "/" } else { "" };
                let target = format!("{slash}{target}");
                proptest::prop_assert_eq!(head.target(), target.as_bytes());
                proptest::prop_assert_eq!(head.query(), uri.query());
                proptest::prop_assert_eq!(head.authority.as_deref(), uri.authority().map(|of| of.as_str()));
            }
        }
    }
}
