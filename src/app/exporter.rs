//! Spans on their way to a collector: gathered in batches, posted, tried again for a while, and else dropped and counted.
//!
//! A service and a thread of its own, so that neither requests nor what else happens beside them wait for a collector. It looks for
//! finished requests ten times a second, and not at all before traces are switched on. What was recorded before they are switched off is
//! still sent. Everything is bounded: what waits, what is tried, and how long the end may take. What it holds is at most 16 MiB: eight
//! batches that wait and one that is tried, each of 1 MiB and the last request's spans, and one in the making, which takes a few times
//! as much as when it is posted. The queue before it holds 4,096 requests at most, each
//! with the buffer of its head (`max_head`) at most, and is emptied whether a collector takes anything or not.
//! Never holds more while a collector hangs: what finds no room is dropped and counted.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::presence::fetch::egress::Egress;
use crate::presence::fetch::{Answer, Fetcher, Limits, Outgoing, Wanted, native_roots};
use crate::proxy::Gate;
use crate::telemetry::{Batch, TraceSettings, rejected_by};

/// How often finished requests are looked for: what they hold is let go of by then.
const LOOK: Duration = Duration::from_millis(100);
/// How long spans wait for others to go with them.
const BATCH_AGE: Duration = Duration::from_secs(1);
/// Spans after which a batch is sent: some 600 KiB.
const BATCH_SPANS: usize = 1024;
/// Bytes after which a batch is sent, however few spans they are: collectors take 4 MiB and more.
const BATCH_BYTES: usize = 1024 * 1024;
/// Batches that wait while another one is tried: a few seconds of a busy gate.
const BATCHES: usize = 8;
/// How long one post may take.
const POST: Duration = Duration::from_secs(10);
/// How often a batch is tried: with the pauses between, over 15 seconds.
const TRIES: u32 = 5;
/// The first pause, which doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a collector may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// At the end of the process: how long what was gathered may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest answer that is looked at.
const ANSWER_MAX: usize = 64 * 1024;

/// What sends spans.
#[derive(Debug)]
pub(super) struct Exporter {
    gate: Arc<Gate>,
    settings: ArcSwapOption<TraceSettings>,
    switched: Notify,
    /// The process ends.
    closing: watch::Sender<bool>,
    fetcher: OnceLock<Fetcher>,
    /// Hangs up when all is sent.
    finished: Mutex<Receiver<()>>,
    finishing: Mutex<Option<SyncSender<()>>>,
}

/// A batch as it is posted.
struct Sealed {
    body: Bytes,
    spans: usize,
    settings: Arc<TraceSettings>,
}

/// What became of a post.
enum Posted {
    /// Taken, but for so many spans.
    Taken(usize),
    /// Not now; perhaps after so long.
    Later(Duration, String),
    /// Never.
    Refused(String),
}

impl Exporter {
    pub(super) fn new(gate: Arc<Gate>, settings: Option<TraceSettings>) -> Self {
        let (finishing, finished) = sync_channel(0);
        Self {
            gate,
            settings: ArcSwapOption::from(settings.map(Arc::new)),
            switched: Notify::new(),
            closing: watch::Sender::new(false),
            fetcher: OnceLock::new(),
            finished: Mutex::new(finished),
            finishing: Mutex::new(Some(finishing)),
        }
    }

    /// Puts other settings in force.
    pub(super) fn configure(&self, settings: Option<TraceSettings>) {
        self.settings.store(settings.map(Arc::new));
        self.switched.notify_one();
    }

    /// Sends what was gathered, if that can be done at once.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
        // Either all is sent, or the collector takes nothing.
        let _ = self.finished.lock().recv_timeout(FAREWELL);
    }

    /// Makes batches of finished requests, until the end.
    async fn gather(&self, sealed: mpsc::Sender<Sealed>) {
        let mut closing = self.closing.subscribe();
        let mut batch = Batch::default();
        let mut settings = None;
        let mut due: Option<Instant> = None;
        loop {
            // Those who were recorded before it was switched off are sent as they would have been.
            settings = self.settings.load_full().or(settings);
            let Some(to) = &settings else {
                tokio::select! {
                    () = self.switched.notified() => continue,
                    _ = closing.wait_for(|is| *is) => return,
                }
            };
            tokio::select! {
                () = sleep(LOOK) => {}
                () = self.gate.spans.crowded() => {}
                () = self.switched.notified() => {}
                _ = closing.wait_for(|is| *is) => {}
            }
            let is_closing = *closing.borrow();
            loop {
                let spans = &self.gate.spans;
                let next = || spans.take();
                if !batch.fill(&self.gate.clock, BATCH_SPANS, BATCH_BYTES, next) {
                    break;
                }
                self.seal(std::mem::take(&mut batch), to, &sealed);
            }
            let now = Instant::from_std(self.gate.clock.now());
            if batch.is_empty() {
                due = None;
            } else if is_closing || *due.get_or_insert(now + BATCH_AGE) <= now {
                self.seal(std::mem::take(&mut batch), to, &sealed);
                due = None;
            }
            if is_closing {
                return;
            }
        }
    }

    fn seal(&self, batch: Batch, to: &Arc<TraceSettings>, sealed: &mpsc::Sender<Sealed>) {
        let spans = batch.len();
        // Encoding is not worth it for what would find no room.
        let Ok(room) = sealed.try_reserve() else {
            return self.gate.spans.drop_spans(spans);
        };
        room.send(Sealed {
            body: batch.encode(to),
            spans,
            settings: Arc::clone(to),
        });
    }

    /// Posts batches, one after another, until there will be none.
    async fn deliver(&self, mut sealed: mpsc::Receiver<Sealed>) {
        let mut is_away = false;
        while let Some(batch) = sealed.recv().await {
            let failure = self.try_to_post(&batch).await.err();
            if let Some(failure) = &failure {
                self.gate.spans.drop_spans(batch.spans);
                if !is_away {
                    let collector = batch.settings.url.to_string();
                    tracing::warn!(collector, failure, "spans are dropped until it takes some");
                }
            } else if is_away {
                tracing::info!("the collector takes spans again");
            }
            is_away = failure.is_some();
        }
    }

    /// Posts one batch, and again while there is hope; else says why there is none.
    async fn try_to_post(&self, batch: &Sealed) -> Result<(), String> {
        let mut closing = self.closing.subscribe();
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.post(batch).await {
                Posted::Taken(rejected) => {
                    self.gate.spans.drop_spans(rejected.min(batch.spans));
                    return Ok(());
                }
                Posted::Refused(why) => return Err(why),
                Posted::Later(after, why) => {
                    let is_last = attempt >= TRIES || *closing.borrow();
                    if is_last {
                        return Err(why);
                    }
                    tokio::select! {
                        () = sleep(pause.max(after)) => {}
                        _ = closing.wait_for(|is| *is) => {}
                    }
                    pause *= 2;
                }
            }
        }
        Ok(())
    }

    async fn post(&self, batch: &Sealed) -> Posted {
        let make = || Fetcher::new(native_roots()).expect("ring is a provider");
        let fetcher = self.fetcher.get_or_init(make);
        let mut headers = batch.settings.headers.clone();
        let kind = HeaderValue::from_static("application/x-protobuf");
        headers.insert(CONTENT_TYPE, kind);
        let outgoing = Outgoing {
            method: Method::POST,
            url: batch.settings.url.clone(),
            headers,
            body: batch.body.clone(),
            limits: Limits::within(POST),
            wanted: Wanted::Body(ANSWER_MAX),
        };
        match fetcher.send(outgoing, Egress::Trusted).await {
            Ok(answer) => judged(&answer),
            Err(error) => Posted::Later(Duration::ZERO, error.to_string()),
        }
    }
}

/// What an answer means, by the specification of OTLP over HTTP: four statuses are worth another try.
fn judged(answer: &Answer) -> Posted {
    if answer.status.is_success() {
        return Posted::Taken(rejected_by(&answer.body));
    }
    let why = format!("it answers {}", answer.status);
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let after = answer.headers.get(RETRY_AFTER);
            let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
            let after = Duration::from_secs(after.unwrap_or(0));
            Posted::Later(after.min(PAUSE_MAX), why)
        }
        _ => Posted::Refused(why),
    }
}

/// The exporter as a service.
pub(super) struct Exporting(pub(super) Arc<Exporter>);

#[async_trait]
impl BackgroundService for Exporting {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let finishing = self.0.finishing.lock().take();
        let (sender, batches) = mpsc::channel(BATCHES);
        let all = async { tokio::join!(self.0.gather(sender), self.0.deliver(batches)) };
        tokio::select! {
            _ = all => {}
            _ = shutdown.changed() => {}
        }
        drop(finishing);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn answer(status: u16, fields: &[(&'static str, &str)]) -> Answer {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, value.parse().unwrap());
        }
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Bytes::new(),
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again_and_not_before_the_collector_says() {
        for status in [429, 502, 503, 504] {
            let Posted::Later(after, _) = judged(&answer(status, &[("retry-after", "7")])) else {
                panic!("{status}");
            };
            assert_eq!(after, Duration::from_secs(7));
        }
        for status in [301, 400, 401, 404, 413, 500] {
            assert!(matches!(judged(&answer(status, &[])), Posted::Refused(_)));
        }
        assert!(matches!(judged(&answer(200, &[])), Posted::Taken(0)));
        let never = judged(&answer(503, &[("retry-after", "999999")]));
        assert!(matches!(never, Posted::Later(PAUSE_MAX, _)));
    }
}
