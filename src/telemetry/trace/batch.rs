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
}

impl Batch {
    /// Adds the spans of these requests, while there are any and the batch is not yet so long.
    pub fn fill<R: AsRef<Record>>(
        &mut self,
        clock: &Clock,
        length: usize,
        mut next: impl FnMut() -> Option<R>,
    ) {
        let moment = Moment {
            now: clock.now(),
            unix_time: clock.unix_time(),
        };
        while self.spans.len() < length
            && let Some(record) = next()
        {
            self.spans.extend(span::spans(record.as_ref(), moment));
        }
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
