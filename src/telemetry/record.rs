//! What is told about one request, once, when it is over.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::live::Request;
use super::metrics::DecisionWord;

/// One request that is over.
#[derive(Debug)]
pub struct Record {
    /// Who and what.
    pub request: Arc<Request>,
    /// Where from.
    pub client: Option<IpAddr>,
    /// `HTTP/1.1` and its like.
    pub protocol: &'static str,
    /// What was answered.
    pub status: u16,
    /// What the gate decided.
    pub decision: DecisionWord,
    /// Why, one of [`super::names::REASONS`].
    pub reason: &'static str,
    /// The limit that refused.
    pub limit: Option<Arc<str>>,
    /// The limit in shadow mode that would have.
    pub would_reject: Option<Arc<str>>,
    /// The candidates that would have.
    pub candidates_would_reject: Box<[Arc<str>]>,
    /// The mark with which it went over a limit.
    pub mark: Option<Arc<str>>,
    /// How long it waited for its places, if it did.
    pub queue_wait: Option<Duration>,
    /// Which of several endpoints answered.
    pub endpoint: Option<Arc<str>>,
    /// Bytes of the response's body that were passed on.
    pub bytes: u64,
    /// From the request's head to the response's last byte.
    pub duration: Duration,
    /// From the request sent on to the response's head, if it was sent on and answered.
    pub upstream: Option<Duration>,
    /// Whether the response was cut short.
    pub is_cut: bool,
}
