//! Addresses of the plugin's section: where changes are posted, where instructions are, and which pages may ask.
//!
//! An origin is kept as browsers write it, so that comparing its bytes is enough. Never looks a name up.

use http::Uri;

use crate::config::file::At;
use crate::config::resolve::context::Context;

const ORIGINS_MAX: usize = 1_000;
/// Longer ones are not taken by all servers.
const URL_MAX: usize = 2_048;

/// Whether a text is a whole address that can be posted to; says why not.
pub(super) fn is_url(cx: &mut Context<'_>, url: &At<String>) -> bool {
    let Some(why) = url_fault(&url.value) else {
        return true;
    };
    // What may hold a password is not said again; the line that is shown is the file's own.
    cx.error("bad_value", url.place, format!("`url` {why}"))
        .hint("`http` or `https`, and the whole address: `https://hooks.example.com/presence`");
    false
}

/// What is wrong with an address that is posted to.
pub(in crate::config::resolve) fn url_fault(text: &str) -> Option<&'static str> {
    // The parser forgets a fragment.
    if text.contains('#') {
        return Some("has a fragment, which is never sent");
    }
    address_fault(text)
}

/// What is wrong with an address, whatever its fragment.
pub(super) fn address_fault(text: &str) -> Option<&'static str> {
    if text.len() > URL_MAX {
        return Some("is longer than 2,048 characters");
    }
    let address = text.split('#').next().unwrap_or_default();
    let Ok(parsed) = address.parse::<Uri>() else {
        return Some("is no address");
    };
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Some("is neither `http://…` nor `https://…`");
    }
    let authority = parsed.authority()?;
    if authority.as_str().contains('@') {
        return Some("holds a user name; requests are signed instead");
    }
    let has_port = authority.as_str().len() > authority.host().len();
    let is_port = !has_port || authority.port_u16().is_some_and(|port| port > 0);
    (authority.host().is_empty() || !is_port).then_some("is no address")
}

/// The origins as browsers write them.
pub(super) fn origins(cx: &mut Context<'_>, list: Option<&At<Vec<At<String>>>>) -> Vec<String> {
    let Some(At { value, place }) = list else {
        return Vec::new();
    };
    cx.bound("origins", value.len(), ORIGINS_MAX, *place);
    let mut origins = Vec::new();
    for text in value.iter().take(ORIGINS_MAX) {
        let Some(origin) = origin(&text.value) else {
            let shown: String = text.value.chars().take(128).collect();
            let hint = if text.value == "*" {
                "leave the list empty to allow any"
            } else {
                "scheme, host and port, nothing behind them: `https://app.example.com`"
            };
            cx.error("bad_value", text.place, format!("`{shown}` is no origin"))
                .hint(hint);
            continue;
        };
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    origins
}

/// Lower case, and without the scheme's own port.
pub(super) fn origin(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if !is_scheme || !rest.bytes().all(is_plain) {
        return None;
    }
    let authority: http::uri::Authority = rest.parse().ok()?;
    let host = authority.host();
    let port = match rest.strip_prefix(host)?.strip_prefix(':') {
        None if rest.len() == host.len() => None,
        None => return None,
        Some(port) => Some(port.parse::<u16>().ok().filter(|&port| port > 0)?),
    };
    if host.is_empty() {
        return None;
    }
    let scheme = scheme.to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    Some(match (scheme.as_str(), port) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_browsers_write() {
        let same = ["https://app.example.com", "http://[::1]:3000", "app://x"];
        for text in same {
            assert_eq!(origin(text).as_deref(), Some(text));
        }
        assert_eq!(origin("HTTPS://App.Example.com:443").unwrap(), same[0]);
        assert_eq!(origin("http://a:080").unwrap(), "http://a");
        assert_eq!(origin("http://a:443").unwrap(), "http://a:443");
        let wrong = [
            "",
            "*",
            "null",
            "app.example.com",
            "https://",
            "https://a/",
            "https://a/b",
            "https://a?b",
            "https://a#b",
            "https://u@a",
            "https://a:",
            "https://a:0",
            "https://a:99999",
            "https://ä",
            "https://a b",
            "1://a",
            "https://[::1",
            "://a",
        ];
        for text in wrong {
            assert_eq!(origin(text), None, "{text}");
        }
    }

    #[test]
    fn a_webhook_is_a_whole_address_without_credentials() {
        for text in [
            "http://127.0.0.1:4000/presence",
            "https://hooks.example.com",
            "https://[::1]:8443/a?b=c",
        ] {
            assert_eq!(url_fault(text), None, "{text}");
        }
        let long = format!("http://a/{}", "b".repeat(URL_MAX));
        for text in [
            "",
            "/presence",
            "hooks.example.com",
            "hooks:80",
            "ftp://a/",
            "http:///a",
            "http://",
            "http://u:p@a/",
            "http://a/#b",
            "http://a b/",
            "http://a:99999/",
            "http://a:/",
            &long,
        ] {
            assert!(url_fault(text).is_some(), "{text}");
        }
    }
}
