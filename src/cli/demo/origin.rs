//! The demo's origin: an API with a handful of workers, so that there is something to protect.
//!
//! A request waits for one of [`WORKERS`] workers, first come first served, keeps it for 20 to 80 ms
//! and is answered with JSON. So the origin serves about 370 requests a second, and a caller that
//! sends more makes everybody wait: just what many a real API does. Service times come from a seeded
//! sequence, so that two runs are alike. Never looks at accounts: it trusts whoever stands in front.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::server::{Answer, Server};
use super::tally::Histogram;
use crate::clock::Clock;

/// Requests served at once. Below what the noisy account offers (400 a second × 42 ms = 17), above
/// what its limit lets through beside the others (10 + 3).
pub(super) const WORKERS: usize = 16;

/// Bytes of a request's body; a call's form has some dozens.
const BODY_BYTES: usize = 64 * 1024;

const MEDIAN_SECONDS: f64 = 0.040;
/// The spread of the logarithm: two thirds of all requests take 30 to 54 ms.
const SPREAD: f64 = 0.3;
const SEED: u64 = 0x7469_6465;

/// A running origin; dropping it closes its socket and its connections.
#[derive(Debug)]
pub(super) struct Origin {
    server: Server,
    workshop: Arc<Workshop>,
}

#[derive(Debug)]
struct Workshop {
    clock: Clock,
    workers: Semaphore,
    served: AtomicU64,
    service: Mutex<Histogram>,
}

impl Origin {
    /// Starts on a free port of the loopback interface, with so many workers.
    pub(super) async fn start(clock: Clock, workers: usize) -> anyhow::Result<Self> {
        let workshop = Arc::new(Workshop {
            clock,
            workers: Semaphore::new(workers),
            served: AtomicU64::new(0),
            service: Mutex::default(),
        });
        let server = Server::start(Arc::clone(&workshop)).await?;
        Ok(Self { server, workshop })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// How long its workers took, without the wait for one: the best that any caller can see.
    pub(super) fn service(&self) -> Histogram {
        self.workshop.service.lock().clone()
    }
}

impl Answer for Arc<Workshop> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        answer(request, self).await
    }
}

async fn answer(request: Request<Incoming>, workshop: &Workshop) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    if Limited::new(body, BODY_BYTES).collect().await.is_err() {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return response;
    }
    let Ok(_worker) = workshop.workers.acquire().await else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return response;
    };
    let number = workshop.served.fetch_add(1, Ordering::Relaxed);
    let started = workshop.clock.now();
    tokio::time::sleep(service_time(number)).await;
    let took = workshop.clock.now().saturating_duration_since(started);
    workshop.service.lock().record(took);

    let call = serde_json::json!({
        "sid": format!("CA{number:032x}"),
        "status": "queued",
        "path": head.uri.path(),
        "served_in_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    });
    let mut response = Response::new(Full::new(Bytes::from(format!("{call}\n"))));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The time that the `number`th request takes: about lognormal, within 20 to 80 ms.
fn service_time(number: u64) -> Duration {
    let mut random = fastrand::Rng::with_seed(SEED ^ number);
    // The sum of twelve uniform numbers less six is a good enough normal one.
    let normal = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
    let seconds = MEDIAN_SECONDS * (SPREAD * normal).exp();
    Duration::from_secs_f64(seconds.clamp(MEDIAN_SECONDS / 2.0, MEDIAN_SECONDS * 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_times_are_the_same_in_every_run_and_spread_around_the_median() {
        let times: Vec<_> = (0..1000).map(service_time).collect();
        assert_eq!(times, (0..1000).map(service_time).collect::<Vec<_>>());
        assert!(
            times
                .iter()
                .all(|time| (20..=80).contains(&time.as_millis()))
        );
        let mean = times.iter().sum::<Duration>() / 1000;
        assert!((40..46).contains(&mean.as_millis()), "mean {mean:?}");
    }
}
