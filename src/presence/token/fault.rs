//! Why a token is refused, and the two numbers by which clients know it.
//!
//! The socket speaks the SDK's codes (31xxx), the API those of the vendor's REST errors (20xxx); both tell a client whether a
//! fresh token helps. A message says what is wrong and the way out, and never holds any part of the token.

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Not three base64url parts, of which two are JSON objects.
    #[error(
        "this is no JSON web token; send the text that the helper library returned, whole and unchanged"
    )]
    NotJwt,
    /// A header that no token of a helper library has.
    #[error(
        "the token's header must say `alg` HS256, `typ` JWT, and `cty` \"twilio-fpa;v=1\" or none; mint it with a helper library"
    )]
    Header,
    /// `iss` or `sub` is not configured.
    #[error(
        "the token's `iss` is no key or account that is configured here, or its `sub` not that key's account; \
         mint it with a configured key"
    )]
    Issuer,
    /// No active secret made this signature.
    #[error(
        "the token's signature fits no active secret of its issuer; mint it with the secret that is configured"
    )]
    Signature,
    /// `exp` is missing or past.
    #[error("the token has expired or has no `exp`; fetch a new one")]
    Expired,
    /// Good for more than a day.
    #[error(
        "the token is good for more than 24 hours; mint it with a shorter lifetime and fetch a new one in time"
    )]
    Lifetime,
    /// `nbf` has not come.
    #[error(
        "the token is not good yet, or its `nbf` is no time; wait, or set the clock of the machine that mints"
    )]
    NotYet,
    /// It names nobody.
    #[error(
        "the token names no identity; mint it with one (`grants.identity`, or `clientName` in a scope)"
    )]
    IdentityMissing,
    /// The identity is no name.
    #[error(
        "the token's identity must be one name of 1 to 121 characters without control, line-separator or bidi characters"
    )]
    IdentityMalformed,
    /// A grant is not of the documented form; ignoring it could allow what it was to forbid.
    #[error("`{0}` in the token is not of the documented form; correct it where tokens are minted")]
    Grant(&'static str),
}

impl TokenFault {
    /// The code on the socket.
    #[must_use]
    pub const fn signal_code(self) -> u32 {
        match self {
            Self::NotJwt | Self::Header | Self::Issuer | Self::NotYet | Self::Grant(_) => 31204,
            Self::Signature => 31202,
            Self::Expired => 31205,
            Self::Lifetime => 31207,
            Self::IdentityMissing => 31201,
            Self::IdentityMalformed => 31105,
        }
    }

    /// The code in the API's problems.
    #[must_use]
    pub const fn rest_code(self) -> u32 {
        match self {
            Self::NotJwt | Self::Grant(_) => 20101,
            Self::Header => 20102,
            Self::Issuer => 20103,
            Self::Signature => 20107,
            Self::Expired | Self::Lifetime => 20104,
            Self::NotYet => 20105,
            Self::IdentityMissing | Self::IdentityMalformed => 20106,
        }
    }
}
