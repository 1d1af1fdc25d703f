//! What a URL says about whom to connect to, and what to tell them.
//!
//! Read once, so that what is resolved, what is verified in a certificate and what stands in `host` cannot differ. A URL that
//! leaves a doubt is none. Never resolves a name.

use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;

/// The server that a URL names, and the URL as it is asked for there.
#[derive(Debug)]
pub(in crate::presence) struct Target {
    /// A name, or an address without brackets.
    pub(in crate::presence) host: String,
    pub(in crate::presence) port: u16,
    /// Whom the certificate must be for; `None` without TLS.
    pub(in crate::presence) tls: Option<ServerName<'static>>,
    /// The value of `host`.
    pub(in crate::presence) host_field: HeaderValue,
    /// Path and query.
    pub(in crate::presence) path: Uri,
}

impl Target {
    /// Reads an absolute `http` or `https` URL; `None` for any other, and for one with a user or a port that is no number.
    pub(in crate::presence) fn of(url: &Uri) -> Option<Self> {
        let authority = url.authority()?;
        let (is_tls, default_port) = match url.scheme_str()? {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return None,
        };
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == authority.host() => default_port,
            None => return None,
        };
        if authority.as_str().contains('@') || authority.host().is_empty() || port == 0 {
            return None;
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let tls = is_tls.then(|| ServerName::try_from(host.clone()));
        // A URL may have a query without a path, a request may not.
        let query = url.query().map(|query| format!("?{query}"));
        let path = format!("{}{}", url.path(), query.unwrap_or_default());
        Some(Self {
            host,
            port,
            tls: tls.transpose().ok()?,
            host_field: authority.as_str().try_into().ok()?,
            path: path.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Option<Target> {
        Target::of(&url.parse().unwrap())
    }

    #[test]
    fn a_url_says_whom_to_ask_for_what() {
        let ipv6 = target("https://[2001:db8::1]/").unwrap();
        assert_eq!((ipv6.host.as_str(), ipv6.port), ("2001:db8::1", 443));
        assert!(matches!(ipv6.tls, Some(ServerName::IpAddress(_))));
        let named = target("http://a.example:81?b=c").unwrap();
        assert_eq!((named.host.as_str(), named.port), ("a.example", 81));
        assert_eq!(named.host_field, "a.example:81");
        assert_eq!(named.path, "/?b=c");
        assert!(named.tls.is_none());
    }

    #[test]
    fn a_url_that_leaves_a_doubt_is_none() {
        let relative = ["/a", "a:1", "*"];
        let odd = ["ftp://a/", "http://u:p@a/", "http://u@a:80/"];
        let ports = ["http://a:0/", "http://a:99999/", "http://a:/"];
        for url in [relative, odd, ports].concat() {
            assert!(target(url).is_none(), "{url}");
        }
        assert!(target("https://a_b..c/").is_none());
    }
}
