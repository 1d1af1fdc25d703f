//! Traces: a request's place among the spans of others, and what is told about it to a collector.
//!
//! On a request's path only its place is kept, and a few instants; spans are made of the finished record, by whoever exports them.
//! Never waits for a collector, never invents a parent that no span will have.

mod batch;
mod context;
mod proto;
mod queue;
mod span;

use http::{HeaderMap, Uri};

pub use batch::{Batch, rejected_by};
pub use context::Trace;
pub use queue::Spans;

/// Where spans go, and in whose name.
#[derive(Clone, PartialEq)]
pub struct TraceSettings {
    /// Where batches are posted.
    pub url: Uri,
    /// Fields of each post; their values are secrets.
    pub headers: HeaderMap,
    /// Who says it: `service.name`.
    pub service_name: String,
    /// What else is said about this process.
    pub attributes: Vec<(String, String)>,
}

impl std::fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceSettings")
            .field("url", &self.url)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("service_name", &self.service_name)
            .field("attributes", &self.attributes)
            .finish()
    }
}
