//! Every way in which the gate answers by itself, each with one status, one word and one sentence.
//!
//! Split by fault: the client's, the limits', the upstream's. `respond` makes the HTTP answer of it, `context` the log
//! line and the metric. Never carries what a client sent.

use super::headers::number;
use crate::admission::{Outcome, Reason, Rejection};
use crate::classify::Fault;

/// What a limit says to the client's developer. Put together by hand: refusals come in thousands, and formatting is dear.
fn limited(rejection: &Rejection) -> String {
    let then = match rejection.reason {
        Reason::LimitReached => "; wait until requests in flight have finished, then retry",
        Reason::QueueFull => ", and as many requests wait as may; retry later",
        Reason::QueueTimeout => ", and none came free in time; retry later",
        Reason::Draining => return "this gate shuts down; retry, and another will answer".into(),
        Reason::Cancelled => return "an operator ended the wait of this request".into(),
    };
    let (taken, max) = (number(rejection.in_flight), number(rejection.max));
    [
        taken.to_str().unwrap_or_default(),
        " of ",
        max.to_str().unwrap_or_default(),
        " places of the limit `",
        &rejection.limit,
        "` are taken",
        then,
    ]
    .concat()
}

/// Why the gate answers instead of the upstream.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A limit has no place.
    Limit(Box<Rejection>),
    /// The request's class cannot be told.
    Fault(Fault),
    /// The head is one that HTTP does not allow, or that cannot be forwarded safely.
    HeadInvalid(&'static str),
    /// The body's framing is broken.
    BodyInvalid,
    /// The body is longer than `server.max_body`.
    BodyTooLarge,
    /// The client stopped sending its body.
    ClientTimeout,
    /// The request is not signed by whom it must come from.
    SignatureInvalid,
    /// No resource matches, and there is no default upstream.
    NoResource,
    /// No connection to the upstream.
    UpstreamUnreachable,
    /// The upstream closed or broke the connection before its answer's head.
    UpstreamBroke,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The plugin panicked.
    PluginBroke,
    /// An operator ended the request.
    Cancelled,
}

impl Refusal {
    /// The HTTP status.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Limit(rejection) => rejection.status,
            Self::Fault(fault) => fault.status(),
            Self::HeadInvalid(_) | Self::BodyInvalid => 400,
            Self::SignatureInvalid => 403,
            Self::ClientTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::NoResource => 404,
            Self::PluginBroke => 500,
            Self::UpstreamUnreachable | Self::UpstreamBroke => 502,
            Self::Cancelled => 503,
            Self::UpstreamTimeout => 504,
        }
    }

    /// The word that users see everywhere.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Limit(rejection) => rejection.reason.as_str(),
            Self::Fault(fault) => fault.as_str(),
            Self::HeadInvalid(_) => "head_invalid",
            Self::BodyInvalid => "body_invalid",
            Self::BodyTooLarge => "body_too_large",
            Self::ClientTimeout => "client_timeout",
            Self::SignatureInvalid => "signature_invalid",
            Self::NoResource => "no_resource",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamBroke => "upstream_broke",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::PluginBroke => "plugin_broke",
            Self::Cancelled => Reason::Cancelled.as_str(),
        }
    }

    /// A sentence for the client's developer, with the way out.
    pub(super) fn detail(&self) -> String {
        let text = match self {
            Self::Limit(rejection) => {
                return limited(rejection);
            }
            Self::Fault(Fault::AccountInvalid) => {
                "the account's name must be 1 to 128 printable ASCII characters \
                 without space, quote or backslash"
            }
            Self::Fault(Fault::PathInvalid) => {
                "the path holds an encoded slash or NUL, or climbs above its root"
            }
            Self::Fault(Fault::Unauthorized) => "the bearer token does not verify; get a new one",
            Self::HeadInvalid(what) => what,
            Self::BodyInvalid => "the request's body is not framed as its head says",
            Self::BodyTooLarge => "the request's body is longer than this gate accepts",
            Self::ClientTimeout => "the request's body stopped arriving",
            Self::SignatureInvalid => {
                "the request is not signed for this address with the account's auth token"
            }
            Self::NoResource => "nothing here answers to this method and path",
            Self::UpstreamUnreachable => "the service behind this gate cannot be reached",
            Self::UpstreamBroke => {
                "the service behind this gate gave no answer, or none that HTTP allows"
            }
            Self::UpstreamTimeout => "the service behind this gate did not answer in time",
            Self::PluginBroke => "this gate failed to answer; its log says more",
            Self::Cancelled => "an operator ended this request",
        };
        text.into()
    }

    /// What limits may learn from it.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::UpstreamUnreachable | Self::UpstreamBroke | Self::UpstreamTimeout => {
                Outcome::Overload
            }
            _ => Outcome::Ignore,
        }
    }

    /// The gRPC status (<https://grpc.io/docs/guides/status-codes/>) that says the same.
    pub(super) fn grpc_status(&self) -> u8 {
        match self {
            Self::Limit(rejection) => match rejection.reason {
                Reason::LimitReached | Reason::QueueFull | Reason::QueueTimeout => 8,
                Reason::Draining | Reason::Cancelled => 14,
            },
            Self::Fault(Fault::Unauthorized) => 16,
            Self::Fault(_) | Self::HeadInvalid(_) | Self::BodyInvalid | Self::BodyTooLarge => 3,
            Self::UpstreamTimeout | Self::ClientTimeout => 4,
            Self::SignatureInvalid => 7,
            Self::NoResource => 12,
            Self::PluginBroke => 13,
            Self::UpstreamUnreachable | Self::UpstreamBroke | Self::Cancelled => 14,
        }
    }

    /// Whether the request went through the limits before it failed.
    pub(super) fn is_after_admission(&self) -> bool {
        matches!(
            self,
            Self::UpstreamUnreachable
                | Self::UpstreamBroke
                | Self::UpstreamTimeout
                | Self::PluginBroke
                | Self::Cancelled
                | Self::BodyInvalid
                | Self::BodyTooLarge
                | Self::ClientTimeout
                | Self::SignatureInvalid
        )
    }
}
