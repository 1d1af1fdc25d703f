//! Spans that go to a collector together, in OTLP's binary form.
//!
//! The request of a post and the answer to it; whoever has a network posts it. Never larger than whoever fills it lets it become.

use bytes::Bytes;
use prost::Message as _;

use super::TraceSettings;
use super::proto::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, InstrumentationScope, Resource,
    ResourceSpans, ScopeSpans, Span, Value,
};
use super::span::{self, Moment, attribute};
use crate::clock::Clock;
use crate::telemetry::Record;

/// The version of the conventions that the attributes keep to.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.29.0";

/// Spans that are gathered.
#[derive(Debug, Default)]
pub struct Batch {
    spans: Vec<Span>,
    /// Of those, as they are posted.
    bytes: usize,
}

impl Batch {
    /// Adds the spans of these requests, while there are any and the batch has neither so many spans nor so many bytes; says whether it
    /// has. It may go over by the spans of one request.
    pub fn fill<R: AsRef<Record>>(
        &mut self,
        clock: &Clock,
        spans_max: usize,
        bytes_max: usize,
        mut next: impl FnMut() -> Option<R>,
    ) -> bool {
        let moment = Moment {
            now: clock.now(),
            unix_time: clock.unix_time(),
        };
        while self.spans.len() < spans_max && self.bytes < bytes_max {
            let Some(record) = next() else {
                return false;
            };
            let spans = span::spans(record.as_ref(), moment);
            self.bytes += spans.iter().map(Span::encoded_len).sum::<usize>();
            self.spans.extend(spans);
        }
        true
    }

    /// How many spans it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// What is posted.
    #[must_use]
    pub fn encode(self, settings: &TraceSettings) -> Bytes {
        let text = |key: &str, value: &str| attribute(key, Value::String(value.to_owned()));
        let version = env!("CARGO_PKG_VERSION");
        let mut attributes = vec![
            text("service.name", &settings.service_name),
            text("service.version", version),
        ];
        let own = settings.attributes.iter();
        attributes.extend(own.map(|(key, value)| text(key, value)));
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes }),
                scope_spans: vec![ScopeSpans {
                    scope: Some(InstrumentationScope {
                        name: env!("CARGO_PKG_NAME").into(),
                        version: version.into(),
                    }),
                    spans: self.spans,
                }],
                schema_url: SCHEMA.into(),
            }],
        };
        request.encode_to_vec().into()
    }
}

/// How many spans of a batch that was posted the collector did not take, by its answer.
#[must_use]
pub fn rejected_by(answer: &[u8]) -> usize {
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let rejected = answer.partial_success.map(|part| part.rejected_spans);
    usize::try_from(rejected.unwrap_or(0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use http::{HeaderMap, Method, Version};

    use super::super::Trace;
    use super::*;
    use crate::admission::AccountName;
    use crate::head::Head;
    use crate::telemetry::{DecisionWord, Request, RequestId, Share};

    /// Bytes of the spans that a request may make, whatever its client sends.
    const REQUEST_MAX: usize = 10 * 1024;

    /// A request all of whose fields are as long as a head lets them be.
    fn longest(clock: &Clock) -> Arc<Record> {
        let method = Method::from_bytes(&[b'M'; 20_000]).unwrap();
        let path = format!("/{}", "p".repeat(60_000));
        let mut head = Head::new(method, Version::HTTP_11, &path).unwrap();
        head.fields.push(b"host", &[b'h'; 20_000]);
        head.fields.push(b"tracestate", &[b's'; 512]);
        head.fields.push(
            b"traceparent",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        );
        let mut trace = Trace::join(&head, Share::ALL, true);
        trace.decided(|| Some([127, 0, 0, 1].into()), clock.now());
        trace.sent(|| Some("upstream.test:8080".into()), clock.now());
        let request = Request::new(
            AccountName::new("a".repeat(128).as_bytes()).unwrap(),
            "calls".into(),
            "api".into(),
            Arc::new(head),
            RequestId::Kept([b'i'; 128].into()),
            clock.now(),
            1,
            Arc::default(),
        );
        Arc::new(Record {
            request: Arc::new(request),
            client: Some([127, 0, 0, 1].into()),
            protocol: "HTTP/1.1",
            status: 502,
            decision: DecisionWord::Queued,
            reason: "upstream_broke",
            limit: None,
            would_reject: None,
            candidates_would_reject: Box::default(),
            mark: None,
            queue_wait: Some(Duration::from_secs(1)),
            endpoint: None,
            bytes: 42,
            duration: Duration::from_secs(2),
            upstream: Some(Duration::from_secs(1)),
            is_cut: true,
            trace: Some(trace),
        })
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_whatever_clients_send() {
        let clock = Clock::manual();
        let record = longest(&clock);
        let mut batch = Batch::default();
        assert!(!batch.fill(&clock, usize::MAX, 1, || None::<Arc<Record>>));
        assert!(batch.fill(&clock, usize::MAX, 1, || Some(Arc::clone(&record))));
        assert_eq!(batch.len(), 4);
        let of_one = batch.bytes;
        assert!(of_one <= REQUEST_MAX, "{of_one}");
        let bound = 20 * of_one;
        assert!(batch.fill(&clock, usize::MAX, bound, || Some(Arc::clone(&record))));
        let settings = TraceSettings {
            url: "http://collector.test".parse().unwrap(),
            headers: HeaderMap::new(),
            service_name: "gate".into(),
            attributes: Vec::new(),
        };
        let posted = batch.encode(&settings).len();
        // Some bytes of each span's own length, and what is said about the process.
        assert!(
            (bound..bound + of_one + 1024).contains(&posted),
            "{posted} of {bound}"
        );
    }
}
