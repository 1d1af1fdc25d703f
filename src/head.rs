//! The head of a request or an answer, as it came: its fields in order, in one piece of memory.
//!
//! `http::HeaderMap` hashes every name and counts references to every value, which costs a proxy more than all else that it does with
//! a head: a head has few fields, and nearly all of them are only passed on. Here they stand in the form in which HTTP/1.1 writes
//! them, so that fields which follow each other are passed on by one copy; names are looked for one after another. A head holds no
//! byte of the buffer it was read into. Never says what a field means.

use std::fmt;
use std::ops::Range;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// Fields in order, names in lower case.
#[derive(Clone, Default)]
pub struct Fields {
    /// What stands before the first field, then each as `name: value` with its line end.
    text: Vec<u8>,
    at: Vec<Field>,
}

/// Where a field stands in the text.
#[derive(Debug, Clone, Copy)]
struct Field {
    start: u32,
    name: u32,
    end: u32,
}

/// Between a name and its value, and behind that.
const COLON: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";

impl Field {
    fn name(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..(self.start + self.name) as usize]
    }

    fn value(self, text: &[u8]) -> &[u8] {
        let start = (self.start + self.name) as usize + COLON.len();
        &text[start..self.end as usize - LINE_END.len()]
    }
}

/// A place in the text. Heads are bounded far below 4 GiB where they are read.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Fields {
    /// None yet, with room for so many bytes and fields.
    #[must_use]
    pub fn with_capacity(bytes: usize, count: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes + count * (COLON.len() + LINE_END.len())),
            at: Vec::with_capacity(count),
        }
    }

    /// Adds a field behind the others. The caller has seen to it that name and value are what RFC 9110 §5.1 and §5.5 allow.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        self.text[start..].make_ascii_lowercase();
        self.text.extend_from_slice(COLON);
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(LINE_END);
        self.at.push(Field {
            start: place(start),
            name: place(name.len()),
            end: place(self.text.len()),
        });
    }

    /// The value of the first field of that name, which is in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let field = self.at.iter().find(|field| self.is_named(field, name))?;
        Some(field.value(&self.text))
    }

    fn is_named(&self, field: &Field, name: &str) -> bool {
        field.name as usize == name.len() && field.name(&self.text) == name.as_bytes()
    }

    /// The same, if it is visible ASCII text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let value = self.get(name)?;
        let is_visible = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
        let text = value.iter().all(is_visible).then_some(value)?;
        std::str::from_utf8(text).ok()
    }

    /// Whether there is a field of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The values of all fields of that name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.at
            .iter()
            .filter(move |field| self.is_named(field, name))
            .map(|field| field.value(&self.text))
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.at
            .iter()
            .map(|field| (field.name(&self.text), field.value(&self.text)))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    /// Takes out what is not to be kept.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&[u8], &[u8]) -> bool) {
        let text = &self.text;
        self.at
            .retain(|field| is_kept(field.name(text), field.value(text)));
    }

    /// Writes those that are to be passed on, each with its line end.
    pub fn write(&self, out: &mut Vec<u8>, mut is_passed: impl FnMut(&[u8], &[u8]) -> bool) {
        // Those that follow each other are copied at once.
        let mut run = 0..0;
        for field in &self.at {
            if is_passed(field.name(&self.text), field.value(&self.text)) {
                if run.end != field.start {
                    out.extend_from_slice(&self.text[run.start as usize..run.end as usize]);
                    run.start = field.start;
                }
                run.end = field.end;
            }
        }
        out.extend_from_slice(&self.text[run.start as usize..run.end as usize]);
    }

    /// The same fields for those who want a map.
    #[must_use]
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len());
        for (name, value) in self.iter() {
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            {
                map.append(name, value);
            }
        }
        map
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        let bytes = map
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len());
        let mut fields = Self::with_capacity(bytes.sum(), map.len());
        for (name, value) in map {
            fields.push(name.as_str().as_bytes(), value.as_bytes());
        }
        fields
    }
}

impl fmt::Debug for Fields {
    /// Names alone: values may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .iter()
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        f.debug_list().entries(names).finish()
    }
}

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
    /// A head without fields, with room for so many bytes and fields. The target is what stands in the request line.
    pub fn new(
        method: Method,
        version: Version,
        target: &str,
        bytes: usize,
        count: usize,
    ) -> Result<Self, InvalidTarget> {
        let mut fields = Fields::with_capacity(target.len() + bytes, count);
        if let Some(path) = plain_path(target.as_bytes()) {
            fields.text.extend_from_slice(target.as_bytes());
            return Ok(Self {
                method,
                version,
                fields,
                authority: None,
                path: place(path),
                target: place(target.len()),
            });
        }
        let uri: Uri = target.parse().map_err(|_| InvalidTarget)?;
        Ok(Self::of_uri(method, version, &uri, fields))
    }

    fn of_uri(method: Method, version: Version, uri: &Uri, mut fields: Fields) -> Self {
        let target = uri.path_and_query().map_or("", |target| target.as_str());
        // The text before the fields is the target: it is written while there is no field.
        fields.text.extend_from_slice(target.as_bytes());
        Self {
            method,
            version,
            fields,
            authority: uri.authority().map(|authority| authority.as_str().into()),
            path: place(uri.path().len().min(target.len())),
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
                at: Vec::new(),
            },
            authority: self.authority.clone(),
            path: self.path,
            target: self.target,
        }
    }

    fn text(&self, range: Range<u32>) -> &str {
        let bytes = &self.fields.text[range.start as usize..range.end as usize];
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// The path as it was sent; empty where the target has none.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text(0..self.path)
    }

    /// The query without its question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        (self.path < self.target).then(|| self.text(self.path + 1..self.target))
    }

    /// Path and query as they were sent.
    #[must_use]
    pub fn target(&self) -> &str {
        self.text(0..self.target)
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
        let mut uri = Uri::builder().path_and_query(self.target());
        if let Some(authority) = &self.authority {
            uri = uri.scheme("http").authority(&**authority);
        }
        parts.uri = uri.build().unwrap_or_default();
        parts
    }
}

impl From<&Parts> for Head {
    fn from(parts: &Parts) -> Self {
        let target = parts
            .uri
            .path_and_query()
            .map_or(0, |target| target.as_str().len());
        let bytes = parts
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len());
        let fields = Fields::with_capacity(target + bytes.sum::<usize>(), parts.headers.len());
        let mut head = Self::of_uri(parts.method.clone(), parts.version, &parts.uri, fields);
        for (name, value) in &parts.headers {
            head.fields.push(name.as_str().as_bytes(), value.as_bytes());
        }
        head
    }
}

/// The length of the path of a target that begins with it, and holds nothing that would have to be looked at more closely.
fn plain_path(target: &[u8]) -> Option<usize> {
    if target.first() != Some(&b'/') {
        return None;
    }
    let mut path = target.len();
    for (at, &byte) in target.iter().enumerate() {
        match byte {
            b'?' => path = path.min(at),
            // RFC 3986 §3.3 and §3.4, but for the fragment, and the quotes and braces that clients send in spite of it.
            b'!' | b'"' | b'$'..=b';' | b'=' | b'@'..=b'_' | b'a'..=b'~' => {}
            _ => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in pairs {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn head(target: &str) -> Option<Head> {
        Head::new(Method::GET, Version::HTTP_11, target, 0, 0).ok()
    }

    #[test]
    fn fields_are_found_by_their_name_in_lower_case_and_keep_their_order() {
        let fields = fields(&[("Host", "a"), ("X-A", "1"), ("x-b", ""), ("x-a", "2")]);
        assert_eq!(fields.get("host"), Some(&b"a"[..]));
        assert_eq!(fields.all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(fields.get("x-b"), Some(&b""[..]));
        assert_eq!(fields.get("x-c"), None);
        assert_eq!(fields.to_map().get_all("x-a").iter().count(), 2);
        assert_eq!(Fields::from(&fields.to_map()).len(), 4);
    }

    #[test]
    fn what_is_passed_on_is_written_as_it_came_and_the_rest_is_left_out() {
        let mut fields = fields(&[("a", "1"), ("B", "2"), ("c", "3"), ("d", "4")]);
        let written = |fields: &Fields, without: &[u8]| {
            let mut out = Vec::new();
            fields.write(&mut out, |name, _| name != without);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(&fields, b"c"), "a: 1\r\nb: 2\r\nd: 4\r\n");
        assert_eq!(written(&fields, b"a"), "b: 2\r\nc: 3\r\nd: 4\r\n");
        fields.retain(|name, _| name != b"b");
        assert_eq!(written(&fields, b"d"), "a: 1\r\nc: 3\r\n");
        assert_eq!(written(&Fields::default(), b""), "");
    }

    #[test]
    fn a_target_is_a_path_with_a_query_or_names_its_host_too() {
        let parts = |target: &str| {
            let head = head(target).unwrap();
            let query = head.query().map(str::to_owned);
            (head.path().to_owned(), query, head.target().to_owned())
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
                proptest::prop_assert_eq!(head.target(), target);
                proptest::prop_assert_eq!(head.query(), uri.query());
                proptest::prop_assert_eq!(head.authority.as_deref(), uri.authority().map(|of| of.as_str()));
            }
        }
    }
}
