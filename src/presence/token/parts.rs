//! The outside of a token: three parts, two of them JSON, and the header that says which kind it is.
//!
//! Read by hand rather than by the library, so that each mistake has its own fault, and so that the header chooses a kind of token
//! and never an algorithm. Nothing here is believed yet: no signature was looked at.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::fault::TokenFault;
use super::typed::Object;
use crate::presence::depth::is_too_deep;

/// Longest token that is looked at, in bytes: it comes from somebody unknown. The library's own tokens take well under 2 KiB.
const TOKEN_MAX: usize = 16 * 1024;

/// The content type by which access tokens are told from capability tokens.
pub(super) const ACCESS_TOKEN: &str = "twilio-fpa;v=1";

/// Which of the two formats a token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Signed with a key's secret.
    Access,
    /// Signed with the account's auth token.
    Capability,
}

/// A token taken apart.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// What the signature covers.
    pub(super) signed: &'a str,
    /// The signature, in base64url.
    pub(super) signature: &'a str,
    header: Object,
    /// What it claims.
    pub(super) claims: Object,
}

impl<'a> Parts<'a> {
    /// Takes a token apart.
    pub(super) fn of(token: &'a str) -> Result<Self, TokenFault> {
        if token.len() > TOKEN_MAX {
            return Err(TokenFault::NotJwt);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenFault::NotJwt)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenFault::NotJwt)?;
        // A further dot would be in `claims`, and is no base64url.
        bytes(signature)?;
        Ok(Self {
            signed,
            signature,
            header: object(header)?,
            claims: object(claims)?,
        })
    }

    /// Which kind of token the header makes it.
    pub(super) fn kind(&self) -> Result<Kind, TokenFault> {
        if self.is_of(ACCESS_TOKEN) {
            return Ok(Kind::Access);
        }
        let is_capability = self.is_understood() && !self.header.contains_key("cty");
        is_capability
            .then_some(Kind::Capability)
            .ok_or(TokenFault::Header)
    }

    /// Whether the header says that it is a token of this content type.
    pub(super) fn is_of(&self, content_type: &str) -> bool {
        self.is_understood() && self.says("cty", content_type)
    }

    /// The only algorithm there is, and no extension that must be understood.
    fn is_understood(&self) -> bool {
        self.says("alg", "HS256") && self.says("typ", "JWT") && !self.header.contains_key("crit")
    }

    fn says(&self, name: &str, wanted: &str) -> bool {
        self.header.get(name).and_then(Value::as_str) == Some(wanted)
    }
}

fn bytes(part: &str) -> Result<Vec<u8>, TokenFault> {
    // Without padding and without stray bits: each token has one spelling.
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part);
    bytes.map_err(|_| TokenFault::NotJwt)
}

fn object(part: &str) -> Result<Object, TokenFault> {
    let json = bytes(part)?;
    if is_too_deep(&json) {
        return Err(TokenFault::NotJwt);
    }
    serde_json::from_slice(&json).map_err(|_| TokenFault::NotJwt)
}
