//! Who pays: the sources that may name the account, tried in the order of the configuration.
//!
//! A source that is absent yields to the next; one that is there and broken is a fault, so that nobody falls
//! through to a laxer identity by garbling a stricter one. Never logs a credential.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::Fault;
use super::path::decoded;
use super::token::Key;
use crate::admission::AccountName;
use crate::head::{Fields, Head};

/// Characters of basic credentials that are read: whole groups of four, so that the cut is clean.
const BASIC_READ: usize = 256;

/// One place where an account's name may be found.
#[derive(Debug, Clone)]
pub enum AccountSource {
    /// A capture of the resource's path.
    Path(String),
    /// The user name of basic authentication.
    BasicAuth,
    /// The first header of this name.
    Header(HeaderName),
    /// The first query parameter of this name.
    Query(String),
    /// A claim of a bearer token, verified with one of these keys (indexes into the settings' keys).
    Jwt {
        /// The claim's name.
        claim: String,
        /// Keys to try, in order.
        keys: Vec<usize>,
    },
    /// The common name of the client's certificate.
    ClientCertificate,
    /// The client's address.
    ClientAddress,
    /// The account of a credential that the presence plugin verifies.
    Presence,
}

/// Verifies credentials that only a plugin knows.
pub trait Credentials: std::fmt::Debug + Send + Sync {
    /// The account that they are of, or `None` if they do not verify.
    fn account(&self, headers: &HeaderMap) -> Option<AccountName>;
}

/// Peers whose forwarded-for fields are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Takes over the networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    /// Whether a peer of that address is believed.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The other end of a client connection.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Its address; `None` behind a Unix socket.
    pub address: Option<IpAddr>,
    /// The common name of its certificate, if it showed one that verifies.
    pub common_name: Option<String>,
    /// The proxies in front whose forwarded-for fields count.
    pub trusted: TrustedProxies,
}

impl Peer {
    /// Where the request comes from: the last address of `x-forwarded-for` that is not a trusted proxy's, if
    /// the peer is one; else the peer.
    #[must_use]
    pub fn client_address(&self, fields: &Fields) -> Option<IpAddr> {
        let address = self.address?;
        if self.trusted.0.is_empty() || !self.trusted.contains(address) {
            return Some(address);
        }
        let mut last = address;
        for line in fields.all("x-forwarded-for").rev() {
            for hop in line.rsplit(|&byte| byte == b',') {
                // What is no address was written by no proxy that is believed: the hop before it is the client.
                let hop = std::str::from_utf8(hop.trim_ascii())
                    .ok()
                    .and_then(|hop| hop.parse().ok());
                let Some(hop) = hop else { return Some(last) };
                last = hop;
                if !self.trusted.contains(hop) {
                    return Some(last);
                }
            }
        }
        Some(last)
    }
}

impl AccountSource {
    /// The account, `None` if this source has nothing to say, or a fault if it is there and broken.
    pub(super) fn find<'p>(
        &self,
        head: &Head,
        peer: &Peer,
        capture: &impl Fn(&str) -> Option<&'p [u8]>,
        keys: &[Key],
    ) -> Result<Option<AccountName>, Fault> {
        match self {
            Self::Path(name) => capture(name)
                .map(|found| named(&decoded(found)))
                .transpose(),
            Self::BasicAuth => basic_auth_user(&head.fields),
            Self::Header(name) => head.fields.get(name.as_str()).map(named).transpose(),
            Self::Query(name) => query_parameter(head.query(), name),
            Self::Jwt {
                claim,
                keys: wanted,
            } => {
                let Some(token) = credentials(&head.fields, "bearer") else {
                    return Ok(None);
                };
                let token = std::str::from_utf8(token).map_err(|_| Fault::Unauthorized)?;
                let verified = wanted.iter().find_map(|&key| keys[key].claim(token, claim));
                verified
                    .ok_or(Fault::Unauthorized)?
                    .map(|name| named(name.as_bytes()))
                    .transpose()
            }
            Self::ClientCertificate => peer
                .common_name
                .as_ref()
                .map(|name| named(name.as_bytes()))
                .transpose(),
            Self::ClientAddress => {
                let address = peer.client_address(&head.fields);
                address
                    .map(|address| named(address.to_string().as_bytes()))
                    .transpose()
            }
            // Only the plugin can tell, and [`Rules`](super::Rules) asks it.
            Self::Presence => Ok(None),
        }
    }

    /// Whether any client can claim any account through this source, for `check`.
    #[must_use]
    pub fn is_forgeable(&self) -> bool {
        matches!(
            self,
            Self::Path(_) | Self::BasicAuth | Self::Header(_) | Self::Query(_)
        )
    }
}

fn named(name: &[u8]) -> Result<AccountName, Fault> {
    AccountName::new(name).map_err(|_| Fault::AccountInvalid)
}

/// What follows the scheme in `authorization`; empty if nothing does, which is broken rather than absent.
fn credentials<'h>(fields: &'h Fields, scheme: &str) -> Option<&'h [u8]> {
    let value = fields.get(AUTHORIZATION.as_str())?.trim_ascii();
    let end = value
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(value.len());
    let (found, rest) = value.split_at(end);
    found
        .eq_ignore_ascii_case(scheme.as_bytes())
        .then(|| rest.trim_ascii())
}

fn basic_auth_user(fields: &Fields) -> Result<Option<AccountName>, Fault> {
    let Some(encoded) = credentials(fields, "basic") else {
        return Ok(None);
    };
    // The longest name and its colon end inside the first 129 bytes; of a longer password nothing more is read.
    let mut decoded = [0; BASIC_READ / 4 * 3];
    let length = BASE64_STANDARD
        .decode_slice(encoded.get(..BASIC_READ).unwrap_or(encoded), &mut decoded)
        .map_err(|_| Fault::AccountInvalid)?;
    let user = decoded[..length]
        .split(|&byte| byte == b':')
        .next()
        .unwrap_or_default();
    named(user).map(Some)
}

fn query_parameter(query: Option<&str>, wanted: &str) -> Result<Option<AccountName>, Fault> {
    let mut pairs = query.unwrap_or_default().split('&');
    let value = pairs.find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == wanted));
    value
        .map(|(_, value)| named(&decoded(value.as_bytes())))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in pairs {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn peer(address: &str, trusted: &[&str]) -> Peer {
        let trusted = trusted
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        Peer {
            address: Some(address.parse().unwrap()),
            common_name: None,
            trusted: TrustedProxies::new(trusted),
        }
    }

    // A31: an address that the client wrote itself is not believed.
    #[test]
    fn forwarded_for_counts_only_from_a_trusted_proxy() {
        let claimed = headers(&[("x-forwarded-for", "198.51.100.7")]);
        let address =
            |peer: &Peer, headers: &Fields| peer.client_address(headers).unwrap().to_string();
        assert_eq!(address(&peer("192.0.2.1", &[]), &claimed), "192.0.2.1");
        assert_eq!(
            address(&peer("10.0.0.1", &["10.0.0.0/8"]), &claimed),
            "198.51.100.7"
        );
        let forged = headers(&[("x-forwarded-for", "203.0.113.9, 198.51.100.7, 10.0.0.2")]);
        assert_eq!(
            address(&peer("10.0.0.1", &["10.0.0.0/8"]), &forged),
            "198.51.100.7"
        );
    }

    // A31: credentials name the account; broken ones are a fault, not another identity.
    #[test]
    fn basic_auth_names_its_user_and_broken_encoding_is_a_fault() {
        let user = |value: &str| basic_auth_user(&headers(&[("authorization", value)]));
        assert_eq!(
            user("Basic QUMxOnNlY3JldA==").unwrap().unwrap().as_str(),
            "AC1"
        );
        assert_eq!(user("basic QUMxOg==").unwrap().unwrap().as_str(), "AC1");
        assert_eq!(user("Bearer x").unwrap(), None);
        assert_eq!(user("Basic ***"), Err(Fault::AccountInvalid));
        assert_eq!(user("Basic Og=="), Err(Fault::AccountInvalid));
        assert_eq!(
            user("Basic"),
            Err(Fault::AccountInvalid),
            "nothing shown is broken, not absent"
        );
        let long = BASE64_STANDARD.encode(format!("AC1:{}", "p".repeat(4_000)));
        assert_eq!(
            user(&format!("Basic {long}")).unwrap().unwrap().as_str(),
            "AC1"
        );
    }

    // A31, G19: bytes that are no address hide nobody who stands behind a proxy that is believed.
    #[test]
    fn a_garbled_forwarded_for_does_not_hide_the_client() {
        let mut garbled = Fields::default();
        garbled.push(b"x-forwarded-for", b"\xff, 198.51.100.7");
        let proxy = peer("10.0.0.1", &["10.0.0.0/8"]);
        assert_eq!(
            proxy.client_address(&garbled).unwrap().to_string(),
            "198.51.100.7"
        );
    }

    // A31: a query parameter can name the account.
    #[test]
    fn a_query_parameter_names_the_account() {
        let found = query_parameter(Some("a=1&account=acme&account=b"), "account").unwrap();
        assert_eq!(found.unwrap().as_str(), "acme");
        assert_eq!(query_parameter(Some("a=1"), "account").unwrap(), None);
        assert_eq!(
            query_parameter(Some("account="), "account"),
            Err(Fault::AccountInvalid)
        );
        let escaped = query_parameter(Some("account=%61c%40me"), "account").unwrap();
        assert_eq!(
            escaped.unwrap().as_str(),
            "ac@me",
            "one account has one spelling"
        );
    }
}
