//! What goes wrong for a client, with the code that it knows from each side: REST (20xxx) and the signalling of the voice SDK (31xxx).
//!
//! Every message says what is wrong and what to do about it. Never carries a token, nor anything else that a client sent.

use http::StatusCode;

use super::contacts::ContactsFault;
use super::registry::arrival::TooMany;
use super::subscription::SubscribeFault;
use super::token::TokenFault;

/// Why a request to the plugin is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    /// For REST.
    pub(super) code: u32,
    /// For sockets.
    pub(super) signal: u32,
    pub(super) detail: String,
    /// The methods that the path takes, where it was another.
    pub(super) allowed: Option<&'static str>,
}

impl Fault {
    fn new(status: StatusCode, (code, signal): (u32, u32), detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            status,
            code,
            signal,
            detail,
            allowed: None,
        }
    }

    /// What was sent cannot be understood.
    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, (20_001, 31_100), detail)
    }

    /// A name is none.
    pub(super) fn bad_name(what: &str) -> Self {
        let detail = format!("`{what}` is no name: {}", super::NameError);
        Self::new(StatusCode::BAD_REQUEST, (20_001, 31_105), detail)
    }

    /// The token, or the configuration, does not allow it.
    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, (20_403, 31_201), detail)
    }

    /// There is no such thing.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, (20_404, 31_404), detail)
    }

    /// The method is not one for this path.
    pub(super) fn method(allowed: &'static str) -> Self {
        let detail = format!("this path takes {allowed}");
        let fault = Self::new(StatusCode::METHOD_NOT_ALLOWED, (20_405, 31_100), detail);
        Self {
            allowed: Some(allowed),
            ..fault
        }
    }

    /// Longer than it may be.
    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, (20_413, 31_100), detail)
    }

    /// Nothing was shown.
    pub(super) fn anonymous() -> Self {
        let detail =
            "show a token (`authorization: Bearer …`), or an account key by basic authentication";
        Self::new(StatusCode::UNAUTHORIZED, (20_401, 31_204), detail)
    }

    /// A socket is one identity's for its life.
    pub(super) fn other_identity() -> Self {
        let detail = "this token is another identity's; open another socket for it";
        Self::new(StatusCode::FORBIDDEN, (20_403, 31_204), detail)
    }

    /// To be tried again.
    pub(super) fn later(status: StatusCode) -> Self {
        let code = 20_000 + u32::from(status.as_u16());
        let detail = "too many sockets come at once, or are open; come back later";
        Self::new(status, (code, 31_206), detail)
    }

    /// A bridge token leads nowhere: forged, used, another identity's, or of a call that is over.
    pub(super) fn bad_bridge() -> Self {
        let detail = "this bridge token leads to no call that can be answered";
        Self::new(StatusCode::FORBIDDEN, (20_403, 31_104), detail)
    }

    /// As many as may be.
    pub(super) fn too_many(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, (20_409, 31_206), detail)
    }
}

impl From<TokenFault> for Fault {
    fn from(fault: TokenFault) -> Self {
        let codes = (fault.rest_code(), fault.signal_code());
        Self::new(StatusCode::UNAUTHORIZED, codes, fault.to_string())
    }
}

impl From<TooMany> for Fault {
    fn from(fault: TooMany) -> Self {
        Self::too_many(fault.to_string())
    }
}

impl From<ContactsFault> for Fault {
    fn from(fault: ContactsFault) -> Self {
        match fault {
            ContactsFault::ListTooLong => Self::bad(fault.to_string()),
            _ => Self::too_many(fault.to_string()),
        }
    }
}

impl From<SubscribeFault> for Fault {
    fn from(fault: SubscribeFault) -> Self {
        match fault {
            SubscribeFault::TooMany => Self::bad(fault.to_string()),
            SubscribeFault::Internal => Self::forbidden(fault.to_string()),
            SubscribeFault::NoList => Self::not_found(fault.to_string()),
            SubscribeFault::TooManyPresent | SubscribeFault::AccountFull => {
                Self::too_many(fault.to_string())
            }
        }
    }
}
