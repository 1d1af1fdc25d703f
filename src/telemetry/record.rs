//! What is told about one request, once, when it is over.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::live::Request;
use super::metrics::DecisionWord;
use super::share;
use super::trace::Trace;

/// Longest path that is told, in bytes.
const PATH_MAX: usize = 2 * 1024;

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
    /// Its place in a trace, while traces are on.
    pub trace: Option<Trace>,
}

impl Record {
    /// Its path as far as it is told, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        let path = self.request.path();
        &path[..path.floor_char_boundary(PATH_MAX)]
    }

    /// Whether it is one of those that are always told: refused, failed, or cut short.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        is_failure(self.status, self.reason, self.is_cut)
    }
}

/// Whether a request with that end is one of those that are always told.
#[must_use]
pub fn is_failure(status: u16, reason: &str, is_cut: bool) -> bool {
    status >= 400 || is_cut || reason != "none"
}

/// The number by which a share chooses a request: its trace's, else one made of its id.
#[must_use]
pub fn number(request: &Request, trace: Option<&Trace>) -> u64 {
    trace.map_or_else(|| share::number_of(&request.request_id), Trace::number)
}
