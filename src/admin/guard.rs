//! Who may call: the token, and for writes no page of another origin.
//!
//! A browser on the operator's machine can be made to send requests to a loopback address; so a write whose `Origin` is
//! another host, or whose `Host` is a name that only DNS rebinding gives us, is refused. Never tells a token's length by time.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, StatusCode};
use sha2::{Digest as _, Sha256};

use super::Settings;

/// Why a call is refused: status and sentence.
pub(super) type Refused = (StatusCode, &'static str);

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It reads, as scrapers and scripts do, under whatever name they know the gate by.
    Read,
    /// It reads as the live page does. Nothing but people's browsers asks so, and a browser can be made to ask by a page whose name
    /// was bound to this address; the token, which such a page does not have, is as good as the name.
    Look,
    /// It changes something.
    Write,
}

/// Checks a call; `/live` and `/ready` are not asked.
pub(super) fn check(
    settings: &Settings,
    headers: &HeaderMap,
    access: Access,
) -> Result<(), Refused> {
    if let Some(token) = &settings.token
        && !shows(headers, token)
    {
        return Err((
            StatusCode::UNAUTHORIZED,
            "show the admin token as `Authorization: Bearer …`",
        ));
    }
    let has_shown = settings.token.is_some();
    match access {
        Access::Read => return Ok(()),
        Access::Look if has_shown => return Ok(()),
        Access::Look | Access::Write => {}
    }
    if access == Access::Write && !settings.is_local && settings.token.is_none() {
        let sentence = "writes from other machines need `admin.token` in the configuration";
        return Err((StatusCode::FORBIDDEN, sentence));
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| is_ours(without_port(host))) {
        let sentence = "the Host field must be an IP address or localhost; to look under another name, set `admin.token`";
        return Err((StatusCode::FORBIDDEN, sentence));
    }
    let origin = headers
        .get(ORIGIN)
        .map(|origin| origin.to_str().unwrap_or_default());
    // With the port: another service of this machine has pages of its own.
    if origin.is_some_and(|origin| authority(origin) != host) {
        return Err((StatusCode::FORBIDDEN, "the Origin field names another host"));
    }
    Ok(())
}

fn shows(headers: &HeaderMap, token: &str) -> bool {
    let shown = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.split_once(' '));
    shown.is_some_and(|(scheme, shown)| {
        // Digests are compared, so that time tells nothing about the token.
        scheme.eq_ignore_ascii_case("bearer") && Sha256::digest(shown) == Sha256::digest(token)
    })
}

/// `admin.address` is an IP address or a Unix socket, so no other name is ours.
fn is_ours(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

fn authority(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, authority)| authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(settings: &Settings, fields: &[(&'static str, &'static str)]) -> Option<u16> {
        let pair = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        let headers = fields.iter().map(pair).collect();
        check(settings, &headers, Access::Write)
            .err()
            .map(|(status, _)| status.as_u16())
    }

    fn local() -> Settings {
        Settings {
            is_local: true,
            ..Settings::default()
        }
    }

    #[test]
    fn pages_of_other_origins_and_rebound_names_may_not_write() {
        assert_eq!(write(&local(), &[("host", "127.0.0.1:9901")]), None);
        assert_eq!(write(&local(), &[("host", "[::1]:9901")]), None);
        assert_eq!(write(&local(), &[("host", "localhost:9901")]), None);
        assert_eq!(write(&local(), &[("host", "evil.example:9901")]), Some(403));
        assert_eq!(write(&local(), &[]), Some(403));
        let page = |origin| write(&local(), &[("host", "localhost:9901"), ("origin", origin)]);
        assert_eq!(page("http://localhost:9901"), None);
        assert_eq!(page("http://localhost:3000"), Some(403));
        assert_eq!(page("http://evil.example"), Some(403));
        assert_eq!(page("null"), Some(403));
    }

    #[test]
    fn a_rebound_name_may_not_look_without_the_token() {
        let look = |settings: &Settings, fields: &[(&'static str, &'static str)]| {
            let pair = |(name, value): &(&'static str, &str)| {
                (http::HeaderName::from_static(name), value.parse().unwrap())
            };
            let headers: HeaderMap = fields.iter().map(pair).collect();
            check(settings, &headers, Access::Look).is_ok()
        };
        assert!(look(&local(), &[("host", "127.0.0.1:9901")]));
        assert!(look(&Settings::default(), &[("host", "10.0.0.1:9901")]));
        assert!(!look(&local(), &[("host", "evil.example:9901")]));
        let closed = Settings {
            token: Some("s3cret".into()),
            ..Settings::default()
        };
        let name = ("host", "gate.internal:9901");
        assert!(!look(&closed, &[name]));
        assert!(look(&closed, &[name, ("authorization", "Bearer s3cret")]));
    }

    #[test]
    fn off_loopback_a_write_needs_the_token() {
        let open = Settings::default();
        assert_eq!(write(&open, &[("host", "10.0.0.1")]), Some(403));
        let closed = Settings {
            token: Some("s3cret".into()),
            ..Settings::default()
        };
        let host = ("host", "10.0.0.1");
        assert_eq!(write(&closed, &[host]), Some(401));
        assert_eq!(
            write(&closed, &[host, ("authorization", "Bearer wrong")]),
            Some(401)
        );
        assert_eq!(
            write(&closed, &[host, ("authorization", "bearer s3cret")]),
            None
        );
    }
}
