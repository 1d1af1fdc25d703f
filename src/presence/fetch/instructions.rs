//! Instructions of one call: which document is asked for, and how it is read.
//!
//! A call asks a customer's servers again and again, as each document leads to the next; the requests of one call share its
//! cookies, and are counted so that no two documents can send it in circles for ever. Why a document could not be had is told by
//! the vendor's numbers and in words that never hold anything of what came back.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

pub use super::follow::Ask;

use super::cookies::Jar;
use super::follow::{Lost, follow, without_fragment};
use super::patience::{After, Patience};
use super::reach::Reach;
use super::{Limits, Wanted, reference};
use crate::presence::instruction::{self, DOCUMENT_MAX, Document, DocumentFault};
use crate::telemetry::{WebhookKind, WebhookOutcome};

/// Documents that one call may ask for.
const DOCUMENTS_MAX: u32 = 50;

/// As the vendor's API waits: somebody holds a phone meanwhile.
const USUAL: Patience = Patience {
    limits: Limits {
        connect: Duration::from_secs(5),
        silence: Duration::from_secs(15),
        total: Duration::from_secs(15),
    },
    retries: 1,
    pause: Duration::ZERO,
    after: After {
        unconnected: true,
        silent: false,
        client_error: false,
        server_error: false,
    },
};

/// What the requests of one call share.
#[derive(Debug)]
pub struct Journey {
    reach: Reach,
    cookies: Jar,
    documents: u32,
}

/// A document that can be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// What it says.
    pub document: Document,
    /// Where it came from in the end, which its relative links are relative to.
    pub url: String,
}

/// Why there is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    /// The number under which the vendor's documentation knows it: `ErrorCode`.
    pub code: u32,
    /// The URL that was asked for: `ErrorUrl`.
    pub url: String,
    /// What is wrong, without anything that came back.
    pub detail: String,
}

/// The same, before it is known of what URL.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("the answer is not declared to be XML")]
    ContentType,
    #[error(transparent)]
    Document(#[from] DocumentFault),
}

impl Journey {
    /// A call that asked for nothing yet.
    #[must_use]
    pub fn new(reach: Reach) -> Self {
        Self {
            reach,
            cookies: Jar::default(),
            documents: 0,
        }
    }

    /// Asks for a document, and follows where that leads.
    pub async fn fetch(&mut self, ask: Ask<'_>) -> Result<Fetched, Failure> {
        let failure = |code, detail| Failure {
            code,
            url: without_fragment(ask.url).to_owned(),
            detail,
        };
        if self.documents == DOCUMENTS_MAX {
            let detail = format!("the call has asked for {DOCUMENTS_MAX} documents already");
            return Err(failure(11_200, detail));
        }
        self.documents += 1;
        let began = self.reach.clock.now();
        let fetched = self.document(&ask).await;
        let took = self.reach.clock.now().saturating_duration_since(began);
        let outcome = match &fetched {
            Ok(_) => WebhookOutcome::Delivered,
            Err(Fault::Lost(lost)) => lost.outcome(),
            Err(_) => WebhookOutcome::Refused,
        };
        let stats = &self.reach.stats;
        stats.observe_webhook(WebhookKind::Instructions, outcome, took);
        fetched.map_err(|fault| failure(fault.code(), fault.to_string()))
    }

    /// The absolute URL that a link means in a document from `base`, with the link's fragment; `None` if nothing can be fetched
    /// there.
    #[must_use]
    pub fn resolve(base: &str, link: &str) -> Option<String> {
        reference::resolve(base, link)
    }

    async fn document(&mut self, ask: &Ask<'_>) -> Result<Fetched, Fault> {
        let wanted = Wanted::Body(DOCUMENT_MAX);
        let arrived = follow(&self.reach, &mut self.cookies, ask, USUAL, wanted).await?;
        let answer = arrived.answer;
        if !is_xml(&answer.headers, &answer.body) {
            return Err(Fault::ContentType);
        }
        Ok(Fetched {
            document: instruction::read(&answer.body)?,
            url: arrived.url,
        })
    }
}

impl Fault {
    fn code(&self) -> u32 {
        match self {
            Self::Lost(lost) => lost.code(),
            Self::ContentType => 12_300,
            Self::Document(fault) => fault.code,
        }
    }
}

/// Whether the answer is declared to be XML, or is not declared and looks like it.
fn is_xml(headers: &HeaderMap, body: &Bytes) -> bool {
    let declared = headers.get(CONTENT_TYPE).map(|value| value.to_str());
    let declared = declared.unwrap_or(Ok("")).unwrap_or("unreadable");
    let essence = declared.split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        "" => body.starts_with(b"<"),
        "text/xml" | "application/xml" => true,
        other => other.contains('/') && other.ends_with("+xml"),
    }
}

#[cfg(test)]
mod tests {
    use http::header::SET_COOKIE;

    use super::super::BODY_MAX;
    use super::super::loopback::{Server, answer, moved, reach, status, xml};
    use super::*;
    use crate::presence::instruction::{Instruction, Verb};

    const HANGUP: &str = "<Response><Hangup/></Response>";

    fn post(url: &str) -> Ask<'_> {
        Ask {
            url,
            method: Verb::Post,
            fields: &[],
            idempotency: "1",
        }
    }

    #[tokio::test]
    async fn a_document_is_read_and_its_links_are_relative_to_it() {
        let server = Server::start(|asked, _| match asked.path.as_str() {
            "/a" => moved(307, "/voice/start?x=1"),
            _ => xml(HANGUP),
        });
        let server = server.await;
        let mut journey = Journey::new(reach(&[&server], &[]));
        let fetched = journey.fetch(post(&server.url("/a#rt=500"))).await.unwrap();
        assert_eq!(fetched.document.verbs, [Instruction::Hangup]);
        assert_eq!(fetched.url, server.url("/voice/start?x=1"));
        let next = Journey::resolve(&fetched.url, "next#rc=0").unwrap();
        assert_eq!(next, server.url("/voice/next#rc=0"));
        let delivered = |outcome| {
            let stats = &journey.reach.stats;
            stats.webhooks(WebhookKind::Instructions, outcome)
        };
        assert_eq!(delivered(WebhookOutcome::Delivered), 1);
        assert_eq!(delivered(WebhookOutcome::Refused), 0);
    }

    #[tokio::test]
    async fn the_requests_of_a_call_share_their_cookies() {
        let server = Server::start(|asked, _| {
            let mut reply = match asked.path.as_str() {
                "/first" => moved(302, "/second"),
                _ => xml(HANGUP),
            };
            let cookie = format!("seen={}; Path=/", asked.path.trim_start_matches('/'));
            let response = reply.as_mut().unwrap();
            response
                .headers_mut()
                .insert(SET_COOKIE, cookie.parse().unwrap());
            reply
        });
        let server = server.await;
        let reach = reach(&[&server], &[]);
        let mut journey = Journey::new(reach.clone());
        for path in ["/first", "/third"] {
            journey.fetch(post(&server.url(path))).await.unwrap();
        }
        let mut another = Journey::new(reach);
        another.fetch(post(&server.url("/fourth"))).await.unwrap();
        let asked = server.asked();
        let seen: Vec<_> = asked.iter().map(|of| of.field("cookie")).collect();
        let expected = [None, Some("seen=first"), Some("seen=second"), None];
        assert_eq!(seen, expected);
    }

    #[tokio::test]
    async fn only_what_is_declared_xml_is_read() {
        let big = "x".repeat(BODY_MAX + 1);
        for (content_type, body, code) in [
            ("text/xml", HANGUP, 0),
            ("Application/XML;charset=UTF-8", HANGUP, 0),
            ("application/twiml+xml", HANGUP, 0),
            ("", HANGUP, 0),
            ("", "a secret of the server's", 12_300),
            ("text/html", HANGUP, 12_300),
            ("text/plain", HANGUP, 12_300),
            ("application/json", "{}", 12_300),
            ("+xml", HANGUP, 12_300),
            ("text/xml", "a secret of the server's", 12_100),
            ("text/xml", &big, 11_200),
        ] {
            let reply = body.to_owned();
            let server = Server::start(move |_, _| answer(200, content_type, reply.clone()));
            let server = server.await;
            let mut journey = Journey::new(reach(&[&server], &[]));
            let url = server.url("/x?y=1#rc=0");
            let fetched = journey.fetch(post(&url)).await;
            if code == 0 {
                assert!(fetched.is_ok(), "{content_type}: {fetched:?}");
                continue;
            }
            let failure = fetched.unwrap_err();
            assert_eq!((failure.code, failure.url), (code, server.url("/x?y=1")));
            let detail = failure.detail;
            assert!(
                !detail.contains("secret") && !detail.contains("xxx"),
                "{detail}"
            );
            let stats = &journey.reach.stats;
            let refused = stats.webhooks(WebhookKind::Instructions, WebhookOutcome::Refused);
            assert_eq!(refused, 1, "{content_type}");
        }
    }

    #[tokio::test]
    async fn who_cannot_be_asked_is_told_by_number() {
        let broken = Server::start(|_, _| status(500)).await;
        let closed = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}/", listener.local_addr().unwrap())
        };
        let opened = reach(&[], &["127.0.0.0/8".parse().unwrap()]);
        let mut journey = Journey::new(opened);
        for (url, code) in [
            (broken.url("/").as_str(), 11_200),
            (&closed, 11_205),
            ("http://a..b/", 11_210),
            ("http://u:p@127.0.0.1/", 11_210),
            ("/relative", 11_210),
            ("", 11_210),
        ] {
            let failure = journey.fetch(post(url)).await.unwrap_err();
            assert_eq!(failure.code, code, "{url}");
            assert!(!failure.detail.contains("127"), "{}", failure.detail);
        }
        let stats = &journey.reach.stats;
        let of = |outcome| stats.webhooks(WebhookKind::Instructions, outcome);
        assert_eq!(of(WebhookOutcome::GaveUp), 3);
        assert_eq!(of(WebhookOutcome::Refused), 3);
    }

    #[tokio::test]
    async fn a_call_does_not_ask_for_ever() {
        let server = Server::start(|_, _| xml("<Response><Redirect>/</Redirect></Response>")).await;
        let mut journey = Journey::new(reach(&[&server], &[]));
        let url = server.url("/");
        for _ in 0..DOCUMENTS_MAX {
            journey.fetch(post(&url)).await.unwrap();
        }
        let failure = journey.fetch(post(&url)).await.unwrap_err();
        assert_eq!(failure.code, 11_200);
        assert_eq!(server.asked().len(), 50);
    }
}
