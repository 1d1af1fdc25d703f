//! URLs as instructions write them: where a relative one leads (RFC 3986), and which origin a URL is of.
//!
//! What comes out is a URL that can be fetched, or nothing. Characters that no URL may have are escaped, as browsers do, but a
//! host is taken as it is: an international one is to be written in its ASCII form. Never resolves a name.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What is escaped beside all that is not ASCII.
const ESCAPED: AsciiSet = CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A URL taken apart; no part has its mark but `path` its slashes.
#[derive(Debug, Clone, Copy)]
struct Parts<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

/// The absolute URL that a link means in a document from `base`, with the link's fragment; `None` if nothing can be fetched there.
#[must_use]
pub fn resolve(base: &str, link: &str) -> Option<String> {
    let link = utf8_percent_encode(link.trim_ascii(), &ESCAPED).to_string();
    let (base, link) = (Parts::of(base), Parts::of(&link));
    let (authority, path, query) = if link.scheme.is_some() || link.authority.is_some() {
        (link.authority?, Cow::Borrowed(link.path), link.query)
    } else if link.path.is_empty() {
        let query = link.query.or(base.query);
        (base.authority?, Cow::Borrowed(base.path), query)
    } else if link.path.starts_with('/') {
        (base.authority?, Cow::Borrowed(link.path), link.query)
    } else {
        let folder = base.path.rfind('/').map_or("", |at| &base.path[..at]);
        let path = format!("{folder}/{}", link.path);
        (base.authority?, Cow::Owned(path), link.query)
    };
    let scheme = link.scheme.or(base.scheme)?.to_ascii_lowercase();
    let mut url = format!("{scheme}://{authority}{}", without_dots(&path));
    for (mark, part) in [('?', query), ('#', link.fragment)] {
        if let Some(part) = part {
            url.push(mark);
            url.push_str(part);
        }
    }
    origin(&url).is_some().then_some(url)
}

/// `scheme://host[:port]` of an absolute `http` or `https` URL, in lower case and without a port that goes without saying.
#[must_use]
pub fn origin(url: &str) -> Option<String> {
    origin_of(&url.split('#').next()?.parse().ok()?)
}

/// As [`origin`]; `None` too for a URL with a user, whose origin is easily mistaken.
pub(super) fn origin_of(url: &Uri) -> Option<String> {
    let (scheme, authority) = (url.scheme_str()?, url.authority()?);
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return None;
    }
    let host = authority.host().to_ascii_lowercase();
    match authority.port_u16() {
        Some(port) if port != default_port => Some(format!("{scheme}://{host}:{port}")),
        Some(_) => Some(format!("{scheme}://{host}")),
        // What is behind a colon and no port is a doubt.
        None if authority.as_str().len() != host.len() => None,
        None => Some(format!("{scheme}://{host}")),
    }
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Self {
        let (url, fragment) = split(url, '#');
        let (url, query) = split(url, '?');
        let (scheme, rest) = match url.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
            _ => (None, url),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (Some(authority), path)
            }
            None => (None, rest),
        };
        Self {
            scheme,
            authority,
            path,
            query,
            fragment,
        }
    }
}

fn split(text: &str, mark: char) -> (&str, Option<&str>) {
    match text.split_once(mark) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|of| of.is_ascii_alphanumeric() || "+-.".contains(of))
}

/// The path without `.` and `..`; it always begins with a slash.
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_dots = segment == "." || segment == "..";
        if segment == ".." {
            kept.pop();
        }
        if !is_dots {
            kept.push(segment);
        } else if segments.peek().is_none() {
            // What is named is a folder.
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of RFC 3986, 5.4, as far as they are of `http`.
    #[test]
    fn a_link_is_resolved_as_the_standard_shows() {
        let base = "http://a/b/c/d;p?q";
        for (link, url) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q#s"),
            ("g#s", "http://a/b/c/g#s"),
            ("g?y#s", "http://a/b/c/g?y#s"),
            (";x", "http://a/b/c/;x"),
            ("g;x", "http://a/b/c/g;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/./h", "http://a/b/c/g/h"),
            ("g/../h", "http://a/b/c/h"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("g#s/../x", "http://a/b/c/g#s/../x"),
            ("HTTPS://B:81/x/../y#rt=1", "https://B:81/y#rt=1"),
            (" /dial done?x=ü\\ ", "http://a/dial%20done?x=%C3%BC%5C"),
        ] {
            assert_eq!(resolve(base, link).as_deref(), Some(url), "{link}");
        }
        assert_eq!(
            resolve("http://a:81?q", "g").as_deref(),
            Some("http://a:81/g")
        );
    }

    #[test]
    fn what_cannot_be_fetched_is_no_url() {
        for link in [
            "g:h",
            "http:g",
            "ftp://a/",
            "javascript:alert(1)",
            "http://",
            "http:///x",
            "http://u:p@a/",
            "//u@a/",
            "http://a:b/",
            "http://ä/",
        ] {
            assert_eq!(resolve("http://a/b", link), None, "{link}");
        }
        assert_eq!(resolve("/a", "b"), None);
    }

    #[test]
    fn an_origin_has_one_spelling() {
        for (url, expected) in [
            ("HTTP://A.Example:80/x?y#z", Some("http://a.example")),
            ("https://a.example:443", Some("https://a.example")),
            ("https://a.example:80/", Some("https://a.example:80")),
            ("http://[::1]:8080/", Some("http://[::1]:8080")),
            ("http://[::1]/", Some("http://[::1]")),
            ("http://trusted@a/", None),
            ("http://a:/", None),
            ("http://a:x/", None),
            ("ftp://a/", None),
            ("/a", None),
            ("", None),
        ] {
            assert_eq!(origin(url).as_deref(), expected, "{url}");
        }
    }
}
