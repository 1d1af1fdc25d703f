//! From a request's head to a [`Class`](crate::admission::Class): what it acts on and who pays.
//!
//! [`Rules`] are compiled once a generation and only read after; matching does not allocate unless the path needs
//! rewriting or a token needs checking. Never knows limits, nor how a fault is answered.

mod account;
mod path;
mod retry;
mod rule;
mod template;
mod token;

pub use account::{AccountSource, Credentials, Peer, TrustedProxies};
pub use retry::Retries;
pub use rule::{Group, Matched, Resource, ResourceMatch, Rules, Settings, ValueSource};
pub use template::{Template, TemplateError};
pub use token::{Key, KeyError, KeySettings, TokenAlgorithm};

/// Why a request's head gives no class. All of them are the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The account's name is too long, or holds a character that names may not hold.
    #[error(
        "the account is not 1 to 128 printable ASCII characters without space, quote or backslash"
    )]
    AccountInvalid,
    /// The path hides a slash or a NUL, or climbs above the root.
    #[error("the path holds an encoded slash or NUL, or climbs above its root")]
    PathInvalid,
    /// A credential was shown and does not verify.
    #[error("the bearer token does not verify")]
    Unauthorized,
}

impl Fault {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountInvalid => "account_invalid",
            Self::PathInvalid => "path_invalid",
            Self::Unauthorized => "unauthorized",
        }
    }

    /// The HTTP status it is answered with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::AccountInvalid | Self::PathInvalid => 400,
            Self::Unauthorized => 401,
        }
    }
}
