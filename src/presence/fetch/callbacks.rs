//! Status callbacks of one call: told in the order in which things happened, and never waited for.
//!
//! One task tells one after the other, since whoever is told numbers them; it begins with the first and ends behind the last. What
//! waits is bounded, and so is the time that is left when the call is over: a server that cannot keep up misses the newest rather
//! than holding anything up. A callback that was not taken is given up for the next. Never reads what is answered.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::cookies::Jar;
use super::follow::{Ask, follow};
use super::patience::{After, Patience};
use super::reach::Reach;
use super::reference::origin;
use super::{Limits, Wanted};
use crate::presence::instruction::Verb;
use crate::telemetry::{WebhookKind, WebhookOutcome};

/// Callbacks that wait: more than the branches of a call tell in a burst.
const WAITING_MAX: usize = 64;

/// How long what waits is told after the call is over.
const AFTERWARDS: Duration = Duration::from_mins(2);

/// For one callback with its retries. A repetition is known by its token, so a server's own failure is worth another try.
const USUAL: Patience = Patience {
    limits: Limits {
        connect: Duration::from_secs(5),
        silence: Duration::from_secs(15),
        total: Duration::from_secs(15),
    },
    retries: 2,
    pause: Duration::from_millis(500),
    after: After {
        unconnected: true,
        silent: false,
        client_error: false,
        server_error: true,
    },
};

/// The callbacks of one call. Dropping it ends them, once what waits is told.
#[derive(Debug)]
pub struct Callbacks {
    reach: Reach,
    patience: Patience,
    afterwards: Duration,
    /// `None` until there is something to tell.
    teller: Option<Teller>,
    has_warned: bool,
}

/// The way to the task that tells them.
#[derive(Debug)]
struct Teller {
    waiting: mpsc::Sender<Callback>,
    /// Dropped with the call.
    _open: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Callback {
    url: String,
    method: Verb,
    fields: Vec<(String, String)>,
}

impl Callbacks {
    /// A call that told nothing yet.
    #[must_use]
    pub fn new(reach: Reach) -> Self {
        Self {
            reach,
            patience: USUAL,
            afterwards: AFTERWARDS,
            teller: None,
            has_warned: false,
        }
    }

    /// Tells an absolute URL, in its turn. Must be called in a runtime; returns at once, and drops it if too much waits.
    pub fn push(&mut self, url: String, method: Verb, fields: Vec<(String, String)>) {
        let callback = Callback {
            url,
            method,
            fields,
        };
        let (reach, patience, afterwards) = (&self.reach, &self.patience, self.afterwards);
        let start = || Teller::start(reach.clone(), patience.clone(), afterwards).0;
        let teller = self.teller.get_or_insert_with(start);
        if let Err(refused) = teller.waiting.try_send(callback) {
            self.reach
                .count_callback(WebhookOutcome::GaveUp, Duration::ZERO);
            // Once a call: the figures tell how many.
            if !std::mem::replace(&mut self.has_warned, true) {
                let origin = origin(&refused.into_inner().url);
                tracing::warn!(origin, "status callbacks are dropped, since too many wait");
            }
        }
    }
}

impl Teller {
    /// Starts a task that ends by itself.
    fn start(reach: Reach, patience: Patience, afterwards: Duration) -> (Self, JoinHandle<()>) {
        let (waiting, mut rx) = mpsc::channel(WAITING_MAX);
        let (open, call) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let late = async {
                // Nothing is ever sent: it ends when the other side is dropped.
                call.await.ok();
                tokio::time::sleep(afterwards).await;
            };
            tokio::select! {
                biased;
                () = tell_all(&reach, &patience, &mut rx) => return,
                () = late => {}
            }
            // The one under way, and what waits behind it.
            let untold = 1 + rx.len();
            for _ in 0..untold {
                reach.count_callback(WebhookOutcome::GaveUp, afterwards);
            }
            tracing::warn!(untold, "status callbacks were given up after the call");
        });
        let teller = Self {
            waiting,
            _open: open,
        };
        (teller, task)
    }
}

async fn tell_all(reach: &Reach, patience: &Patience, waiting: &mut mpsc::Receiver<Callback>) {
    let mut cookies = Jar::default();
    while let Some(callback) = waiting.recv().await {
        let began = reach.clock.now();
        let token = format!("{:032x}", fastrand::u128(..));
        let ask = Ask {
            url: &callback.url,
            method: callback.method,
            fields: &callback.fields,
            idempotency: &token,
        };
        let told = follow(reach, &mut cookies, &ask, patience.clone(), Wanted::Head).await;
        let took = reach.clock.now().saturating_duration_since(began);
        let outcome = told
            .as_ref()
            .err()
            .map_or(WebhookOutcome::Delivered, |lost| lost.outcome());
        reach.count_callback(outcome, took);
        if let Err(lost) = told {
            // The whole URL may hold what only its owner should see.
            let (origin, code, reason) = (origin(&callback.url), lost.code(), lost.to_string());
            let outcome = outcome.as_str();
            tracing::warn!(
                origin,
                code,
                outcome,
                reason,
                "a status callback was not taken"
            );
        }
    }
}

impl Reach {
    fn count_callback(&self, outcome: WebhookOutcome, took: Duration) {
        self.stats
            .observe_webhook(WebhookKind::Callback, outcome, took);
    }
}

#[cfg(test)]
mod tests {
    use super::super::loopback::{Server, fields, moved, reach, status, xml};
    use super::*;

    type Counted = Box<dyn Fn(WebhookOutcome) -> u64>;

    /// As it is but for the time that passes, with its task.
    fn quick(server: &Server, afterwards: Duration) -> (Callbacks, JoinHandle<()>) {
        let mut callbacks = Callbacks::new(reach(&[server], &[]));
        callbacks.patience.pause = Duration::from_millis(1);
        let (reach, patience) = (callbacks.reach.clone(), callbacks.patience.clone());
        let (teller, task) = Teller::start(reach, patience, afterwards);
        callbacks.teller = Some(teller);
        (callbacks, task)
    }

    fn counted(callbacks: &Callbacks) -> Counted {
        let stats = callbacks.reach.stats.clone();
        Box::new(move |outcome| stats.webhooks(WebhookKind::Callback, outcome))
    }

    fn push(callbacks: &mut Callbacks, url: String) {
        callbacks.push(url, Verb::Post, fields(&[("CallStatus", "ringing")]));
    }

    /// Ends the call and waits until all is told.
    async fn finish((callbacks, task): (Callbacks, JoinHandle<()>)) -> Counted {
        let counted = counted(&callbacks);
        drop(callbacks);
        task.await.unwrap();
        counted
    }

    #[tokio::test]
    async fn a_call_is_told_in_order_after_it_is_over_too() {
        let server = Server::start(|asked, _| match asked.path.as_str() {
            "/0" => moved(307, "/moved"),
            _ => status(204),
        });
        let server = server.await;
        let (mut callbacks, task) = quick(&server, AFTERWARDS);
        for index in 0..5 {
            push(&mut callbacks, server.url(&format!("/{index}")));
        }
        callbacks.push(server.url("/5"), Verb::Get, fields(&[("a", "b")]));
        let count = finish((callbacks, task)).await;
        assert_eq!(count(WebhookOutcome::Delivered), 6);
        let asked = server.asked();
        let paths: Vec<_> = asked.iter().map(|of| of.path.as_str()).collect();
        assert_eq!(paths, ["/0", "/moved", "/1", "/2", "/3", "/4", "/5?a=b"]);
        assert_eq!(asked[2].body, "CallStatus=ringing");
        for of in asked {
            assert_eq!(of.is_signed(&server.origin()), Some(true), "{}", of.path);
        }
    }

    #[tokio::test]
    async fn what_fails_is_tried_three_times_and_then_the_next() {
        let server = Server::start(|asked, kept| match (asked.path.as_str(), kept) {
            ("/broken", _) | (_, 3) => status(503),
            ("/gone", _) => status(410),
            _ => status(200),
        });
        let server = server.await;
        let (mut callbacks, task) = quick(&server, AFTERWARDS);
        for path in ["/broken", "/shaky", "/gone", "/good"] {
            push(&mut callbacks, server.url(path));
        }
        let count = finish((callbacks, task)).await;
        let asked = server.asked();
        let paths: Vec<_> = asked.iter().map(|of| of.path.as_str()).collect();
        let expected = [
            "/broken", "/broken", "/broken", "/shaky", "/shaky", "/gone", "/good",
        ];
        assert_eq!(paths, expected);
        let token = |index: usize| asked[index].field("i-twilio-idempotency-token").unwrap();
        assert!(token(0) == token(2) && token(2) != token(3) && token(3) == token(4));
        assert_eq!(count(WebhookOutcome::Delivered), 2);
        assert_eq!(count(WebhookOutcome::Refused), 1);
        assert_eq!(count(WebhookOutcome::GaveUp), 1);
    }

    #[tokio::test]
    async fn where_nothing_may_go_nothing_is_told() {
        let inside = Server::start(|_, _| status(200)).await;
        let mut callbacks = Callbacks::new(reach(&[], &[]));
        push(&mut callbacks, inside.url("/"));
        push(&mut callbacks, "/relative".to_owned());
        let counted = counted(&callbacks);
        drop(callbacks);
        while counted(WebhookOutcome::Refused) < 2 {
            tokio::task::yield_now().await;
        }
        assert!(inside.asked().is_empty());
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_the_newest_is_dropped() {
        let server = Server::start(|_, _| xml("<a/>")).await;
        let (mut callbacks, task) = quick(&server, AFTERWARDS);
        for index in 0..WAITING_MAX + 6 {
            push(&mut callbacks, server.url(&format!("/{index}")));
        }
        let count = finish((callbacks, task)).await;
        assert_eq!(count(WebhookOutcome::GaveUp), 6);
        let asked = server.asked();
        assert_eq!(asked.len(), WAITING_MAX);
        assert_eq!(asked.last().unwrap().path, format!("/{}", WAITING_MAX - 1));
    }

    #[tokio::test]
    async fn after_the_call_the_time_is_bounded() {
        let server = Server::start(|_, _| None).await;
        let (mut callbacks, task) = quick(&server, Duration::from_millis(500));
        for _ in 0..3 {
            push(&mut callbacks, server.url("/"));
        }
        assert_eq!(finish((callbacks, task)).await(WebhookOutcome::GaveUp), 3);
        assert_eq!(server.asked().len(), 1);
    }

    #[test]
    fn a_call_that_tells_nothing_costs_no_task() {
        // It would need a runtime.
        drop(Callbacks::new(reach(&[], &[])));
    }
}
