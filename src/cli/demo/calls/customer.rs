//! A customer's server, as the gate of the demo of calls asks it: whom to ring, and how it went.
//!
//! `POST /voice` answers with the instructions of a call; `/progress` and `/ended` hear what comes of it. Never sees what the pages
//! say to each other.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;

use super::seen::{Seen, Tell};
use crate::cli::demo::server::Answer;

/// Bytes of a request's body; the gate tells some hundreds about a call.
const BODY_BYTES: usize = 64 * 1024;
/// Characters of a name on the terminal.
const NAME_MAX: usize = 40;

/// What serves instructions.
#[derive(Debug)]
pub(super) struct Customer {
    pub(super) tell: Tell,
}

impl Answer for Arc<Customer> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_BYTES).collect().await else {
            return said(StatusCode::PAYLOAD_TOO_LARGE, String::new());
        };
        let fields = form_urlencoded::parse(&body.to_bytes())
            .into_owned()
            .collect();
        match self.hear(head.uri.path(), &Fields(fields)) {
            Some(document) => said(StatusCode::OK, document),
            None => said(StatusCode::NOT_FOUND, String::new()),
        }
    }
}

impl Customer {
    /// The gate asks what to do with a call, or tells how it goes.
    fn hear(&self, path: &str, fields: &Fields) -> Option<String> {
        let seen = match (path, fields.of("CallStatus")) {
            ("/voice", _) => Seen::Called {
                from: fields.name("From"),
                to: fields.name("To"),
            },
            ("/progress", "ringing") => Seen::Rings(fields.name("To")),
            ("/progress", "in-progress") => Seen::Answered(fields.name("To")),
            ("/ended", _) => Seen::Ended {
                status: fields.name("DialCallStatus"),
                seconds: fields.of("DialCallDuration").parse().ok(),
            },
            _ => return None,
        };
        self.tell.say(seen);
        Some(match path {
            "/voice" => put_through(fields.of("To")),
            _ => "<Response/>".to_owned(),
        })
    }
}

/// The instructions: put the call through to whom it is for, and tell how that goes.
fn put_through(to: &str) -> String {
    let to = to.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<Response><Dial timeout=\"30\" action=\"/ended\"><Client statusCallback=\"/progress\" \
         statusCallbackEvent=\"ringing answered\">{to}</Client></Dial></Response>"
    )
}

/// What the gate tells, as a form.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn of(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// A name, fit for a terminal: callers choose whom they call.
    fn name(&self, name: &str) -> String {
        let value = self.of(name);
        let value = value.strip_prefix("client:").unwrap_or(value).chars();
        value.filter(|c| !c.is_control()).take(NAME_MAX).collect()
    }
}

fn said(status: StatusCode, document: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(document)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/xml; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_put_into_instructions_as_text() {
        let document = put_through("a<b>&c");
        assert!(document.contains(">a&lt;b>&amp;c</Client>"), "{document}");
    }

    #[test]
    fn a_name_on_the_terminal_is_short_and_plain() {
        let told = |value: &str| Fields(vec![("To".into(), value.into())]).name("To");
        assert_eq!(told("client:bob"), "bob");
        assert_eq!(told("\x1b[2Jbob\r\n"), "[2Jbob");
        assert_eq!(told(&"x".repeat(1_000)).len(), NAME_MAX);
    }
}
