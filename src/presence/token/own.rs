//! Tokens that this program makes for itself and its peers: signed claims of one kind, for a short while.
//!
//! The kind stands in the header and is looked at before the key, so that a token of one kind never passes for another that the
//! same secret signs. What is long is refused before it is worked on. The library makes and compares the signature, in constant
//! time and by one algorithm. Never reads a clock, never logs a token.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::parts::Parts;

/// Longest token of our own, in bytes: with the longest identity it takes little less.
pub(super) const OWN_MAX: usize = 1024;

/// Why a token of our own is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OwnFault {
    /// Too long, or not three base64url parts of which two are JSON objects.
    #[error("this is no token")]
    Malformed,
    /// A token of another kind, or signed by another algorithm.
    #[error("this is a token of another kind")]
    Kind,
    /// Not signed with this secret.
    #[error("the token was not signed here")]
    Signature,
    /// It does not say what a token of its kind says.
    #[error("the token does not say what it must")]
    Claims,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Good for longer than a token of its kind ever is.
    #[error("the token is good for too long")]
    Lifetime,
    /// Made by nobody who is known, or for somebody else.
    #[error("the token is for somebody else")]
    Audience,
}

/// Signs claims as a token of that kind.
pub(super) fn sign(kind: &str, claims: &impl Serialize, secret: &[u8]) -> String {
    let header = Header {
        cty: Some(kind.to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    let signed = jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret));
    signed.expect("claims of ours are JSON, and any secret makes an HMAC")
}

/// What a token of that kind claims, if the secret has signed it.
pub(super) fn verify<T: DeserializeOwned>(
    kind: &str,
    secret: &[u8],
    token: &str,
) -> Result<T, OwnFault> {
    if token.len() > OWN_MAX {
        return Err(OwnFault::Malformed);
    }
    let parts = Parts::of(token).map_err(|_| OwnFault::Malformed)?;
    if !parts.is_of(kind) {
        return Err(OwnFault::Kind);
    }
    let (key, message) = (DecodingKey::from_secret(secret), parts.signed.as_bytes());
    let verified = jsonwebtoken::crypto::verify(parts.signature, message, &key, Algorithm::HS256);
    // Anybody can sign with an empty secret.
    if secret.is_empty() || !verified.unwrap_or(false) {
        return Err(OwnFault::Signature);
    }
    serde_json::from_value(Value::Object(parts.claims)).map_err(|_| OwnFault::Claims)
}

/// Refuses what is over at that time since the Unix epoch.
pub(super) fn is_over(expires: u64, unix_time: Duration) -> bool {
    unix_time >= Duration::from_secs(expires)
}
