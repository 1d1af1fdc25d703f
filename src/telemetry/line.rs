//! One line of the access log: JSON for programs, columns for people.
//!
//! Both use the same words. Never a query, which may hold secrets, and for people never a character that a terminal would act on
//! or that hides.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::access_log::{LogFormat, LogSettings};
use super::record::Record;
use super::trace::Trace;

/// Writes lines in one form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer {
    form: Form,
    /// The share of successes that is written, where that is not all.
    sample: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Json,
    Human { is_coloured: bool },
}

impl Writer {
    pub(super) fn new(settings: &LogSettings, is_terminal: bool) -> Self {
        let form = match settings.format {
            LogFormat::Json => Form::Json,
            LogFormat::Human { may_colour } => Form::Human {
                is_coloured: may_colour && is_terminal,
            },
        };
        let share = settings.share;
        Self {
            form,
            sample: (!share.is_all()).then(|| share.ratio()),
        }
    }

    /// Adds the line without its end.
    pub(super) fn write(&self, line: &mut Vec<u8>, record: &Record, unix_time: Duration) {
        let sample = self.sample.filter(|_| !record.is_failure());
        match self.form {
            Form::Json => {
                // Numbers and strings always have a JSON form, and memory takes them.
                drop(serde_json::to_writer(
                    line,
                    &Line::new(record, sample, unix_time),
                ));
            }
            Form::Human { is_coloured } => {
                line.extend_from_slice(human(record, sample, unix_time, is_coloured).as_bytes());
            }
        }
    }
}

/// One object, in the order in which people read it. Times are seconds.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: f64,
    status: u16,
    method: &'a str,
    path: &'a str,
    account: &'a str,
    resource: &'a str,
    upstream: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    decision: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_reject: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates_would_reject: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_wait: Option<f64>,
    duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_duration: Option<f64>,
    bytes: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    protocol: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<f64>,
}

impl<'a> Line<'a> {
    fn new(record: &'a Record, sample: Option<f64>, unix_time: Duration) -> Self {
        let request = &record.request;
        let round = |seconds: f64| (seconds * 1e6).round() / 1e6;
        Self {
            time: round(unix_time.as_secs_f64()),
            status: record.status,
            method: request.head.method.as_str(),
            path: record.path(),
            account: request.account.as_str(),
            resource: &request.resource,
            upstream: &request.upstream,
            endpoint: record.endpoint.as_deref(),
            decision: record.decision.as_str(),
            reason: record.reason,
            limit: record.limit.as_deref(),
            would_reject: record.would_reject.as_deref(),
            candidates_would_reject: record
                .candidates_would_reject
                .iter()
                .map(|name| &**name)
                .collect(),
            mark: record.mark.as_deref(),
            queue_wait: record.queue_wait.map(|took| round(took.as_secs_f64())),
            duration: round(record.duration.as_secs_f64()),
            upstream_duration: record.upstream.map(|took| round(took.as_secs_f64())),
            bytes: record.bytes,
            cut: record.is_cut,
            client: record.client.map(|address| address.to_string()),
            protocol: record.protocol,
            request_id: request.request_id.as_str(),
            trace_id: record.trace.as_ref().map(Trace::id_text),
            sample,
        }
    }
}

/// Columns that stand below each other as long as their values are of usual length: when, status, how long, bytes, account,
/// resource, method and path; behind them what is out of the ordinary.
fn human(record: &Record, sample: Option<f64>, unix_time: Duration, is_coloured: bool) -> String {
    let request = &record.request;
    let (colour, plain) = if is_coloured {
        (colour(record), "\x1b[0m")
    } else {
        ("", "")
    };
    let time = humantime::format_rfc3339_millis(UNIX_EPOCH + unix_time);
    let mut line = format!(
        "{time} {colour}{:3}{plain} {:>9} {:>9} {:<12} {:<12} {:<6} ",
        record.status,
        length(record.duration),
        record.bytes,
        request.account.as_str(),
        request.resource,
        request.head.method.as_str(),
    );
    push_visible(&mut line, record.path());
    if record.decision.as_str() != "admitted" {
        more(&mut line, record.decision.as_str(), "");
    }
    if record.reason != "none" {
        more(&mut line, record.reason, "");
    }
    if record.is_cut {
        more(&mut line, "cut", "");
    }
    let names = [
        ("limit=", &record.limit),
        ("would_reject=", &record.would_reject),
        ("mark=", &record.mark),
        ("endpoint=", &record.endpoint),
    ];
    for (word, name) in names {
        if let Some(name) = name {
            more(&mut line, word, name);
        }
    }
    if let Some(took) = record.queue_wait {
        more(&mut line, "queue_wait=", &length(took));
    }
    if let Some(took) = record.upstream {
        more(&mut line, "upstream=", &length(took));
    }
    if let Some(trace) = &record.trace {
        more(&mut line, "trace_id=", &trace.id_text());
    }
    if let Some(sample) = sample {
        more(&mut line, "sample=", &sample.to_string());
    }
    line
}

fn more(line: &mut String, word: &str, value: &str) {
    line.push(' ');
    line.push_str(word);
    line.push_str(value);
}

/// Green for what went well, yellow for what the client or a limit ended, red for what the upstream or the gate did not manage.
fn colour(record: &Record) -> &'static str {
    match record.status {
        500.. => "\x1b[31m",
        400.. => "\x1b[33m",
        _ if record.is_cut => "\x1b[33m",
        _ => "\x1b[32m",
    }
}

/// A length of time in the unit that leaves it short.
fn length(of: Duration) -> String {
    match of.as_micros() {
        0..1_000 => format!("{}us", of.as_micros()),
        1_000..10_000_000 => format!("{:.1}ms", of.as_secs_f64() * 1e3),
        _ => format!("{:.1}s", of.as_secs_f64()),
    }
}

/// Whether people see a character as itself: control characters would be obeyed by a terminal, and those that turn the direction of
/// writing or have no width would make a line say something else than it does.
#[must_use]
pub fn is_printable(character: char) -> bool {
    let is_hidden = matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    );
    !character.is_control() && !is_hidden
}

/// A path's bytes may be any of UTF-8: what people would not see is shown by its number.
fn push_visible(line: &mut String, text: &str) {
    for character in text.chars() {
        if !is_printable(character) {
            write!(line, "\\u{{{:x}}}", u32::from(character))
                .expect("writing to a string does not fail");
        } else {
            line.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Method, Version};

    use super::*;
    use crate::admission::AccountName;
    use crate::clock::Clock;
    use crate::head::Head;
    use crate::telemetry::{DecisionWord, Request, RequestId, Share};

    fn record(path: &'static str, status: u16, reason: &'static str) -> Record {
        let request = Request::new(
            AccountName::new(b"AC_GOLD").unwrap(),
            "calls".into(),
            "api".into(),
            Arc::new(Head::new(Method::POST, Version::HTTP_11, path).unwrap()),
            RequestId::new(),
            Clock::manual().now(),
            1,
            Arc::default(),
        );
        Record {
            request: Arc::new(request),
            client: None,
            protocol: "HTTP/1.1",
            status,
            decision: DecisionWord::Admitted,
            reason,
            limit: (reason == "limit_reached").then(|| "whole".into()),
            would_reject: None,
            candidates_would_reject: Box::default(),
            mark: None,
            queue_wait: None,
            endpoint: None,
            bytes: 42,
            duration: Duration::from_micros(12_345),
            upstream: None,
            is_cut: false,
            trace: None,
        }
    }

    fn written(record: &Record, format: LogFormat, ratio: f64, is_terminal: bool) -> String {
        let settings = LogSettings {
            target: super::super::LogTarget::Stdout,
            format,
            share: Share::of(ratio),
        };
        let mut line = Vec::new();
        let at = Duration::from_millis(1_700_000_000_123);
        Writer::new(&settings, is_terminal).write(&mut line, record, at);
        String::from_utf8(line).unwrap()
    }

    const HUMAN: LogFormat = LogFormat::Human { may_colour: true };

    #[test]
    fn a_line_for_people_stands_in_columns() {
        let good = written(&record("/calls?secret=1", 200, "none"), HUMAN, 1.0, false);
        let refused = written(&record("/calls", 429, "limit_reached"), HUMAN, 1.0, false);
        assert_eq!(
            good,
            "2023-11-14T22:13:20.123Z 200    12.3ms        42 AC_GOLD      calls        POST   /calls"
        );
        assert_eq!(good.find("/calls"), refused.find("/calls"));
        assert!(refused.ends_with("/calls limit_reached limit=whole"));
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let record = record("/calls", 503, "limit_reached");
        assert!(written(&record, HUMAN, 1.0, true).contains("\x1b[31m503\x1b[0m"));
        let unwanted = LogFormat::Human { may_colour: false };
        for (format, is_terminal) in [(HUMAN, false), (unwanted, true)] {
            assert!(!written(&record, format, 1.0, is_terminal).contains('\x1b'));
        }
    }

    #[test]
    fn a_path_cannot_steer_a_terminal() {
        // The control sequence introducer of eight bits, which HTTP lets pass in a path.
        let line = written(&record("/\u{9b}31m", 200, "none"), HUMAN, 1.0, false);
        assert!(line.ends_with("/\\u{9b}31m"), "{line}");
        // Writing from right to left, and nothing at all.
        let line = written(
            &record("/\u{202e}a\u{200b}ü", 200, "none"),
            HUMAN,
            1.0,
            false,
        );
        assert!(line.ends_with("/\\u{202e}a\\u{200b}ü"), "{line}");
    }

    #[test]
    fn a_sampled_line_tells_its_share_and_one_that_is_always_written_does_not() {
        for format in [LogFormat::Json, HUMAN] {
            let tells = |status, reason| {
                written(&record("/", status, reason), format, 0.01, false).contains("sample")
            };
            assert!(tells(200, "none"));
            assert!(!tells(429, "limit_reached") && !tells(404, "none"));
        }
        let line = written(&record("/", 200, "none"), LogFormat::Json, 0.01, false);
        assert!(line.ends_with("\"sample\":0.01}"), "{line}");
    }
}
