//! The spans of one request: what it was, what was decided about it, how long it waited, and how its upstream did.
//!
//! Names and attributes are those of OpenTelemetry's semantic conventions for HTTP, and ours under `tidegate.`. A span's name
//! holds the resource and never the path, whose values have no bound. What clients choose is cut, so that no request makes more than
//! some 10 KiB of spans. A query is never told: it may hold secrets.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use http::Method;
use http::uri::Authority;

use super::super::record::Record;
use super::context::{Noted, Trace};
use super::proto::{AnyValue, Event, KeyValue, Span, SpanKind, Status, StatusCode, Value};

/// The flags of a span say whether its parent is of another process (`SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`).
const KNOWS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
/// Longest method that is told, in bytes; those that anybody knows are shorter.
const METHOD_MAX: usize = 64;
/// The resource of what could not be classified.
const NOWHERE: &str = "-";
/// The status that is logged for a client that left; none was sent.
const CLIENT_LEFT: u16 = 499;

/// One moment by both clocks, so that all times of a batch are told by the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) unix_time: Duration,
}

impl Moment {
    fn nanos(self, at: Instant) -> u64 {
        let ago = self.now.saturating_duration_since(at);
        u64::try_from(self.unix_time.saturating_sub(ago).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// How many spans a record makes.
pub(super) fn count(record: &Record) -> usize {
    let Some(noted) = record.trace.as_ref().and_then(Trace::noted) else {
        return 0;
    };
    let (decided, sent) = (noted.decided.is_some(), noted.sent.is_some());
    1 + usize::from(decided)
        + usize::from(decided && record.queue_wait.is_some())
        + usize::from(sent)
}

/// The spans of a request that is recorded: its own first, the others under it.
pub(super) fn spans(record: &Record, moment: Moment) -> Vec<Span> {
    let Some((trace, noted)) = record
        .trace
        .as_ref()
        .and_then(|trace| Some((trace, trace.noted()?)))
    else {
        return Vec::new();
    };
    let maker = Maker {
        record,
        trace,
        noted,
        moment,
        own: fastrand::u64(1..),
    };
    let mut spans = vec![maker.server()];
    spans.extend(noted.decided.map(|decided| maker.decision(decided)));
    if let (Some(decided), Some(waited)) = (noted.decided, record.queue_wait) {
        spans.push(maker.wait(decided, waited));
    }
    spans.extend(noted.sent.map(|sent| maker.upstream(sent)));
    spans
}

struct Maker<'r> {
    record: &'r Record,
    trace: &'r Trace,
    noted: &'r Noted,
    moment: Moment,
    /// The id of the request's own span.
    own: u64,
}

impl Maker<'_> {
    fn server(&self) -> Span {
        let (record, request) = (self.record, &self.record.request);
        let mut span = self.span(self.own, self.trace.parent());
        let is_remote = if self.trace.parent() == 0 {
            0
        } else {
            IS_REMOTE
        };
        span.flags |= is_remote;
        span.kind = SpanKind::Server.into();
        span.name = method(&request.head.method).to_owned();
        if &*request.resource != NOWHERE {
            span.name = format!("{} {}", span.name, request.resource);
        }
        self.set_times(&mut span, request.started, self.end());
        let attributes = &mut Attributes(&mut span.attributes);
        attributes.method(&request.head.method);
        attributes.text("url.path", record.path());
        let scheme = if self.noted.is_tls { "https" } else { "http" };
        attributes.text("url.scheme", scheme);
        if let Some(host) = &self.noted.host {
            attributes.server(host);
        }
        if let Some(client) = self.noted.client {
            attributes.text("client.address", client.to_string());
        }
        if let Some(peer) = record.client {
            attributes.text("network.peer.address", peer.to_string());
        }
        attributes.protocol(record.protocol);
        if record.status != 0 && record.status != CLIENT_LEFT {
            attributes.int("http.response.status_code", record.status.into());
        }
        let bytes = i64::try_from(record.bytes).unwrap_or(i64::MAX);
        attributes.int("http.response.body.size", bytes);
        self.ours(attributes);
        if record.is_cut {
            attributes.flag("tidegate.cut");
        }
        let is_broken = record.is_cut && record.reason != "none";
        if record.status >= 500 || is_broken {
            attributes.error(record.reason, record.status);
            span.status = failed();
        } else if record.status == CLIENT_LEFT {
            attributes.error(record.reason, record.status);
        }
        span
    }

    /// What the access log calls by the same words.
    fn ours(&self, attributes: &mut Attributes<'_>) {
        let (record, request) = (self.record, &self.record.request);
        attributes.text("tidegate.account", request.account.as_str());
        attributes.text("tidegate.resource", &*request.resource);
        attributes.text("tidegate.upstream", &*request.upstream);
        attributes.text("tidegate.decision", record.decision.as_str());
        attributes.text("tidegate.reason", record.reason);
        let named = [
            ("tidegate.limit", &record.limit),
            ("tidegate.would_reject", &record.would_reject),
            ("tidegate.mark", &record.mark),
        ];
        for (key, name) in named {
            if let Some(name) = name {
                attributes.text(key, &**name);
            }
        }
        let id = String::from_utf8_lossy(request.request_id.as_bytes());
        attributes.text("tidegate.request_id", id);
    }

    fn decision(&self, decided: Instant) -> Span {
        let mut span = self.child("decision", self.record.request.started, decided);
        let decision = match self.record.queue_wait {
            // What became of it afterwards is told by the request's own span.
            Some(_) => "queued",
            None => self.record.decision.as_str(),
        };
        Attributes(&mut span.attributes).text("tidegate.decision", decision);
        span
    }

    fn wait(&self, decided: Instant, waited: Duration) -> Span {
        let until = self.record.request.started + waited;
        let mut span = self.child("wait", decided, until);
        let decision = self.record.decision.as_str();
        Attributes(&mut span.attributes).text("tidegate.decision", decision);
        span
    }

    /// The gate's own request, from sent on to the answer's last byte.
    fn upstream(&self, sent: Instant) -> Span {
        let (record, request) = (self.record, &self.record.request);
        let mut span = self.span(self.trace.upstream_span(), self.own);
        span.kind = SpanKind::Client.into();
        span.name = format!("{} {}", method(&request.head.method), request.upstream);
        self.set_times(&mut span, sent, self.end());
        let attributes = &mut Attributes(&mut span.attributes);
        attributes.method(&request.head.method);
        attributes.text("tidegate.upstream", &*request.upstream);
        attributes.protocol("HTTP/1.1");
        if let Some(endpoint) = &self.noted.endpoint {
            attributes.server(endpoint);
            if !endpoint.starts_with("unix:") {
                let url = format!("http://{endpoint}{}", record.path());
                attributes.text("url.full", url);
            }
        }
        let Some(to_head) = record.upstream else {
            // The answer is the gate's own, and says why there is no other.
            attributes.error(record.reason, record.status);
            span.status = failed();
            return span;
        };
        attributes.int("http.response.status_code", record.status.into());
        let is_broken = record.is_cut && record.reason != "none";
        if record.status >= 400 || is_broken {
            attributes.error(record.reason, record.status);
            span.status = failed();
        }
        span.events.push(Event {
            time_unix_nano: self.moment.nanos(sent + to_head),
            name: "response head".into(),
        });
        span
    }

    fn end(&self) -> Instant {
        self.record.request.started + self.record.duration
    }

    fn child(&self, name: &str, from: Instant, to: Instant) -> Span {
        let mut span = self.span(fastrand::u64(1..), self.own);
        name.clone_into(&mut span.name);
        span.kind = SpanKind::Internal.into();
        self.set_times(&mut span, from, to);
        span
    }

    fn set_times(&self, span: &mut Span, from: Instant, to: Instant) {
        span.start_time_unix_nano = self.moment.nanos(from);
        span.end_time_unix_nano = self.moment.nanos(to.max(from));
    }

    fn span(&self, id: u64, parent: u64) -> Span {
        let state = self.noted.state.as_deref();
        Span {
            trace_id: self.trace.id().to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            trace_state: state.unwrap_or_default().to_owned(),
            parent_span_id: if parent == 0 {
                Vec::new()
            } else {
                parent.to_be_bytes().to_vec()
            },
            flags: u32::from(self.trace.flags()) | KNOWS_IS_REMOTE,
            ..Span::default()
        }
    }
}

fn failed() -> Option<Status> {
    Some(Status {
        code: StatusCode::Error.into(),
    })
}

/// The method for names: one of a few words, whatever clients invent.
fn method(method: &Method) -> &str {
    if is_known(method) {
        method.as_str()
    } else {
        "HTTP"
    }
}

/// The methods of RFC 9110 and RFC 5789, as the conventions have them.
fn is_known(method: &Method) -> bool {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    known.contains(method)
}

/// Attributes that are being gathered.
struct Attributes<'a>(&'a mut Vec<KeyValue>);

impl Attributes<'_> {
    fn put(&mut self, key: &str, value: Value) {
        self.0.push(attribute(key, value));
    }

    fn text<'t>(&mut self, key: &str, text: impl Into<Cow<'t, str>>) {
        self.put(key, Value::String(text.into().into_owned()));
    }

    fn int(&mut self, key: &str, number: i64) {
        self.put(key, Value::Int(number));
    }

    fn flag(&mut self, key: &str) {
        self.put(key, Value::Bool(true));
    }

    fn method(&mut self, method: &Method) {
        if is_known(method) {
            self.text("http.request.method", method.as_str());
        } else {
            self.text("http.request.method", "_OTHER");
            let method = method.as_str();
            let method = &method[..method.floor_char_boundary(METHOD_MAX)];
            self.text("http.request.method_original", method);
        }
    }

    /// `host`, `host:port` or `unix:/path`.
    fn server(&mut self, of: &str) {
        if let Some(path) = of.strip_prefix("unix:") {
            self.text("server.address", path);
            return;
        }
        let Ok(authority) = of.parse::<Authority>() else {
            return;
        };
        let host = authority.host();
        self.text("server.address", host.trim_matches(['[', ']']));
        if let Some(port) = authority.port_u16() {
            self.int("server.port", port.into());
        }
    }

    fn protocol(&mut self, name: &str) {
        let version = name.strip_prefix("HTTP/").unwrap_or(name);
        // The conventions write 2 where the log writes 2.0.
        let version = version.strip_suffix(".0").unwrap_or(version);
        self.text("network.protocol.version", version);
    }

    /// The word of the gate, or the status where the answer is another's.
    fn error(&mut self, reason: &str, status: u16) {
        if reason == "none" {
            let is_status = status >= 400;
            let kind = is_status.then(|| status.to_string());
            self.text("error.type", kind.unwrap_or_else(|| "cut".into()));
        } else {
            self.text("error.type", reason);
        }
    }
}

pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
    }
}
