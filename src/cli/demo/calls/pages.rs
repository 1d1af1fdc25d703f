//! The two pages behind the gate of the demo of calls: each with a fresh token of its own in it.
//!
//! No request is trusted to be more than it is: whoever opens a page gets its token, as this is the loopback interface of somebody
//! who tries things. A real server looks at who is signed in first.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use super::PEOPLE;
use super::papers::Papers;
use super::seen::{Seen, Tell};
use crate::cli::demo::server::Answer;
use crate::clock::Clock;

const PAGE: &str = include_str!("page/phone.html");
const SCRIPT: &str = include_str!("page/phone.js");
const STYLE: &str = include_str!("page/phone.css");
/// A page may use nothing but what comes from here, and connect to nothing but the gate.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// What serves the pages.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) papers: Papers,
    pub(super) clock: Clock,
    pub(super) tell: Tell,
}

impl Answer for Arc<Pages> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        match path {
            "/phone.js" => text("text/javascript", SCRIPT.to_owned()),
            "/phone.css" => text("text/css", STYLE.to_owned()),
            _ => match PEOPLE.into_iter().find(|name| path[1..] == **name) {
                Some(name) => self.page(name).unwrap_or_else(|error| {
                    plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}"))
                }),
                None => plain(StatusCode::NOT_FOUND, "open /alice or /bob"),
            },
        }
    }
}

impl Pages {
    fn page(&self, name: &'static str) -> anyhow::Result<Response<Full<Bytes>>> {
        let token = self.papers.token(name, self.clock.unix_time());
        let token = token.context("no token for the page")?;
        self.tell.say(Seen::Opened(name));
        // Names and tokens are letters, digits, dots, dashes and underscores: nothing that HTML would take otherwise.
        let page = PAGE
            .replace("{identity}", name)
            .replace("{people}", &PEOPLE.join(" "))
            .replace("{token}", &token);
        Ok(text("text/html", page))
    }
}

fn text(kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_str(&format!("{kind}; charset=utf-8"));
    headers.insert(header::CONTENT_TYPE, kind.expect("it is plain text"));
    // A page holds a token.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}

fn plain(status: StatusCode, words: &str) -> Response<Full<Bytes>> {
    let mut response = text("text/plain", format!("{words}\n"));
    *response.status_mut() = status;
    response
}
