//! Tells one URL about changes: posted, signed, and sent again where that can help.
//!
//! A batch is a JSON body with an id of its own, which stays the same over all attempts so that the receiver can tell a
//! repetition. Attempts, pauses and the whole are bounded, and pauses are drawn by chance up to a limit that doubles, so that
//! receivers that come back are not hit by everybody at once. The URL is the operator's, so it may be anywhere. Never keeps a
//! batch for later, never follows a redirect, and never reads what is answered.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::egress::Egress;
use super::signature;
use super::{Answer, FetchError, Fetcher, Limits, Outgoing, Wanted};
use crate::clock::Clock;
use crate::presence::settings::SecretText;
use crate::telemetry::WebhookOutcome as Outcome;

/// Carries what is the same over all attempts.
pub(super) const IDEMPOTENCY: HeaderName = HeaderName::from_static("i-twilio-idempotency-token");

/// A URL that is told about changes.
#[derive(Debug)]
pub struct Webhook {
    url: Uri,
    secret: Option<SecretText>,
    clock: Clock,
    pacing: Pacing,
}

/// How often and how long a delivery is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pacing {
    /// Attempts, the first one among them.
    pub attempts: u32,
    /// Longest pause after the first attempt; it doubles with each further one.
    pub pause: Duration,
    /// Longest pause of all, as far as the receiver asks for none.
    pub pause_max: Duration,
    /// The longest pause that a receiver can ask for.
    pub retry_after_max: Duration,
    /// One attempt, from the lookup to the answer's head.
    pub attempt: Duration,
    /// The whole delivery.
    pub total: Duration,
}

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivered {
    /// How.
    pub outcome: Outcome,
    /// How long it took, in seconds, pauses among them.
    pub seconds: f64,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last attempt brought that ended before the time was up.
    pub last: Option<Result<StatusCode, FetchError>>,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(30),
            retry_after_max: Duration::from_mins(1),
            // As long as the API that is stood in for waits for an answer.
            attempt: Duration::from_secs(15),
            total: Duration::from_mins(2),
        }
    }
}

impl Pacing {
    /// The pause after so many attempts; `chance` is in 0 to 1.
    fn pause(&self, attempts: u32, asked: Option<Duration>, chance: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
        let longest = self.pause.saturating_mul(doubled).min(self.pause_max);
        let asked = asked.unwrap_or_default().min(self.retry_after_max);
        longest.mul_f64(chance).max(asked)
    }
}

/// What one attempt means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Over(Outcome),
    /// Once more, and not before the receiver's wish.
    Again(Option<Duration>),
}

impl Webhook {
    /// Tells this URL; signed by the secret if there is one.
    #[must_use]
    pub fn new(url: Uri, secret: Option<SecretText>, clock: Clock) -> Self {
        Self {
            url,
            secret,
            clock,
            pacing: Pacing::default(),
        }
    }

    /// With another pacing.
    #[must_use]
    pub fn paced(self, pacing: Pacing) -> Self {
        Self { pacing, ..self }
    }

    /// Posts a JSON body; `id` is what the receiver knows a repetition by.
    pub async fn deliver(&self, fetcher: &Fetcher, body: Bytes, id: &str) -> Delivered {
        let began = self.clock.now();
        let mut delivered = Delivered {
            outcome: Outcome::GaveUp,
            seconds: 0.0,
            attempts: 0,
            last: None,
        };
        let attempts = self.attempt_all(fetcher, body, id, &mut delivered);
        let in_time = tokio::time::timeout(self.pacing.total, attempts).await;
        delivered.outcome = in_time.unwrap_or(Outcome::GaveUp);
        let took = self.clock.now().saturating_duration_since(began);
        delivered.seconds = took.as_secs_f64();
        delivered
    }

    async fn attempt_all(
        &self,
        fetcher: &Fetcher,
        body: Bytes,
        id: &str,
        so_far: &mut Delivered,
    ) -> Outcome {
        let outgoing = match self.outgoing(body, id) {
            Ok(outgoing) => outgoing,
            Err(error) => {
                so_far.last = Some(Err(error));
                return Outcome::Refused;
            }
        };
        loop {
            so_far.attempts += 1;
            let answer = fetcher.send(outgoing.clone(), Egress::Trusted).await;
            let verdict = verdict(&answer, self.clock.unix_time());
            so_far.last = Some(answer.map(|answer| answer.status));
            match verdict {
                Verdict::Over(outcome) => return outcome,
                Verdict::Again(_) if so_far.attempts >= self.pacing.attempts => {
                    return Outcome::GaveUp;
                }
                Verdict::Again(asked) => {
                    let chance = fastrand::f64();
                    let pause = self.pacing.pause(so_far.attempts, asked, chance);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn outgoing(&self, body: Bytes, id: &str) -> Result<Outgoing, FetchError> {
        // An id that no header can carry is a mistake of ours; nothing is sent, as with a URL that is none.
        let id = HeaderValue::try_from(id).map_err(|_| FetchError::BadUrl)?;
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(IDEMPOTENCY, id);
        let mut url = self.url.clone();
        if let Some(secret) = &self.secret {
            let signed = signature::signed_json_url(&url.to_string(), &body);
            let signature = signature::sign(&secret.0, &signed);
            let signature = HeaderValue::try_from(signature).expect("it is base64");
            headers.insert(signature::SIGNATURE_HEADER, signature);
            url = signed.parse().map_err(|_| FetchError::BadUrl)?;
        }
        Ok(Outgoing {
            method: Method::POST,
            url,
            headers,
            body,
            limits: Limits::within(self.pacing.attempt),
            wanted: Wanted::Head,
        })
    }
}

fn verdict(answer: &Result<Answer, FetchError>, unix_time: Duration) -> Verdict {
    let answer = match answer {
        Ok(answer) => answer,
        // Only these two would fail the same way again.
        Err(FetchError::BadUrl | FetchError::RefusedAddress) => {
            return Verdict::Over(Outcome::Refused);
        }
        Err(_) => return Verdict::Again(None),
    };
    match answer.status.as_u16() {
        200..=299 => Verdict::Over(Outcome::Delivered),
        408 | 425 | 429 | 500.. => Verdict::Again(retry_after(&answer.headers, unix_time)),
        _ => Verdict::Over(Outcome::Refused),
    }
}

/// How long the receiver asks to be left alone: seconds, or a date.
fn retry_after(headers: &HeaderMap, unix_time: Duration) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since_the_epoch = date.duration_since(UNIX_EPOCH).ok()?;
    Some(since_the_epoch.saturating_sub(unix_time))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::Arc;

    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Empty};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use parking_lot::Mutex;
    use rustls::RootCertStore;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    const BODY: &[u8] = br#"{"version":7,"presence":{"alice":{"status":"busy"}}}"#;

    fn fetcher() -> Fetcher {
        Fetcher::new(RootCertStore::empty()).unwrap()
    }

    fn secret() -> SecretText {
        SecretText("12345".into())
    }

    /// As it is but for the time that passes.
    fn quick() -> Pacing {
        Pacing {
            pause: Duration::from_millis(1),
            pause_max: Duration::from_millis(4),
            retry_after_max: Duration::from_millis(4),
            ..Pacing::default()
        }
    }

    type Arrived = (http::request::Parts, Bytes);

    /// Answers with one status after another, and then not at all; tells what arrived.
    async fn receiver(statuses: &[u16]) -> (Webhook, mpsc::Receiver<Arrived>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?for=us", listener.local_addr().unwrap());
        let statuses: VecDeque<u16> = statuses.iter().copied().collect();
        let statuses = Arc::new(Mutex::new(statuses));
        let (tx, rx) = mpsc::channel(16);
        let answer = move |request: Request<Incoming>| {
            let (statuses, tx) = (Arc::clone(&statuses), tx.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                tx.send((head, body)).await.unwrap();
                let Some(status) = statuses.lock().pop_front() else {
                    return std::future::pending().await;
                };
                let mut response = Response::new(Empty::<Bytes>::new());
                *response.status_mut() = status.try_into().unwrap();
                let headers = response.headers_mut();
                headers.insert(RETRY_AFTER, HeaderValue::from_static("3600"));
                Ok::<_, Infallible>(response)
            }
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer.clone()));
                tokio::spawn(connection);
            }
        });
        let webhook = Webhook::new(url.parse().unwrap(), Some(secret()), Clock::default());
        (webhook.paced(quick()), rx)
    }

    async fn deliver(webhook: &Webhook) -> Delivered {
        let body = Bytes::from_static(BODY);
        webhook.deliver(&fetcher(), body, "batch-7").await
    }

    // B23: subscriptions work by webhook.
    #[tokio::test]
    async fn a_batch_arrives_once_as_signed_json() {
        let (webhook, mut arrived) = receiver(&[202]).await;
        let delivered = deliver(&webhook).await;
        assert_eq!(delivered.outcome, Outcome::Delivered);
        assert_eq!(delivered.last, Some(Ok(StatusCode::ACCEPTED)));
        assert!(delivered.seconds > 0.0 && delivered.attempts == 1);
        let (head, body) = arrived.recv().await.unwrap();
        assert_eq!((head.method, body.as_ref()), (Method::POST, BODY));
        assert_eq!(head.headers[CONTENT_TYPE], "application/json");
        let signature = head.headers[signature::SIGNATURE_HEADER].to_str().unwrap();
        let authority = webhook.url.authority().unwrap();
        let url = format!("http://{authority}{}", head.uri);
        assert!(url.contains("/hook?for=us&bodySHA256="), "{url}");
        let verify = |url, body| signature::verify_json(&[secret()], url, body, signature);
        assert!(verify(&url, BODY));
        assert!(!verify(&url, b"{}"));
        assert!(arrived.try_recv().is_err());
    }

    #[tokio::test]
    async fn without_a_secret_nothing_is_signed() {
        let (mut webhook, mut arrived) = receiver(&[200]).await;
        webhook.secret = None;
        assert_eq!(deliver(&webhook).await.outcome, Outcome::Delivered);
        let (head, _) = arrived.recv().await.unwrap();
        assert_eq!(head.uri, "/hook?for=us");
        assert!(!head.headers.contains_key(signature::SIGNATURE_HEADER));
    }

    #[tokio::test]
    async fn a_repetition_is_known_by_its_token() {
        let (webhook, mut arrived) = receiver(&[500, 429, 200]).await;
        let delivered = deliver(&webhook).await;
        assert_eq!(delivered.outcome, Outcome::Delivered);
        assert_eq!(delivered.attempts, 3);
        for _ in 0..3 {
            let (head, body) = arrived.recv().await.unwrap();
            assert_eq!(head.headers[IDEMPOTENCY], "batch-7");
            assert_eq!(body, BODY);
        }
    }

    #[tokio::test]
    async fn who_refuses_is_not_asked_again() {
        for status in [300, 307, 400, 401, 404, 410] {
            let (webhook, mut arrived) = receiver(&[status, 200]).await;
            let delivered = deliver(&webhook).await;
            assert_eq!(delivered.outcome, Outcome::Refused, "{status}");
            assert_eq!(delivered.attempts, 1);
            arrived.recv().await.unwrap();
            assert!(arrived.try_recv().is_err());
        }
    }

    #[tokio::test]
    async fn attempts_are_bounded() {
        let (webhook, _arrived) = receiver(&[408, 425, 502, 503, 504, 200]).await;
        let delivered = deliver(&webhook).await;
        assert_eq!(delivered.outcome, Outcome::GaveUp);
        assert_eq!(delivered.attempts, 5);
        assert_eq!(delivered.last, Some(Ok(StatusCode::GATEWAY_TIMEOUT)));
    }

    #[tokio::test]
    async fn who_hangs_is_given_up_in_time() {
        let (webhook, mut arrived) = receiver(&[]).await;
        let by_attempt = webhook.paced(Pacing {
            attempt: Duration::from_millis(50),
            ..quick()
        });
        let delivered = deliver(&by_attempt).await;
        assert_eq!(delivered.outcome, Outcome::GaveUp);
        assert_eq!(delivered.last, Some(Err(FetchError::Timeout)));
        assert_eq!(delivered.attempts, 5);
        let in_all = by_attempt.paced(Pacing {
            total: Duration::from_millis(50),
            ..quick()
        });
        let delivered = deliver(&in_all).await;
        assert_eq!(
            (delivered.outcome, delivered.attempts),
            (Outcome::GaveUp, 1)
        );
        assert!(delivered.seconds >= 0.05 && delivered.seconds < 5.0);
        assert!(arrived.recv().await.is_some());
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_not_tried() {
        let webhook = Webhook::new("/hook".parse().unwrap(), Some(secret()), Clock::manual());
        let delivered = deliver(&webhook).await;
        assert_eq!(delivered.outcome, Outcome::Refused);
        let id = "a\r\nb";
        let delivered = webhook.deliver(&fetcher(), Bytes::new(), id).await;
        assert_eq!(
            (delivered.outcome, delivered.attempts),
            (Outcome::Refused, 0)
        );
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_heed_the_receiver() {
        let pacing = Pacing::default();
        let longest = [1, 2, 3, 4, 7, 40].map(|n| pacing.pause(n, None, 1.0).as_millis());
        assert_eq!(longest, [500, 1_000, 2_000, 4_000, 30_000, 30_000]);
        assert_eq!(pacing.pause(3, None, 0.0), Duration::ZERO);
        assert_eq!(pacing.pause(3, None, 0.5), Duration::from_secs(1));
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(pacing.pause(1, asked(20), 1.0), Duration::from_secs(20));
        assert_eq!(pacing.pause(1, asked(9_999), 1.0), Duration::from_mins(1));
        assert_eq!(pacing.pause(4, asked(1), 1.0), Duration::from_secs(4));
        // The attempts and pauses that nobody asked for end before the whole does.
        let pauses: Duration = (1..pacing.attempts)
            .map(|n| pacing.pause(n, None, 1.0))
            .sum();
        assert!(pacing.attempt * pacing.attempts + pauses < pacing.total);
    }

    #[test]
    fn a_receiver_asks_in_seconds_or_by_a_date() {
        let now = Duration::from_secs(784_111_770);
        for (text, seconds) in [
            ("7", Some(7)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{text}");
        }
    }
}
