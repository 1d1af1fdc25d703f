//! The demo's load: each account sends on a schedule of its own, whatever is answered.
//!
//! The schedule is open: the nth request is due at a fixed instant, and its latency counts from that
//! instant, not from when a connection was free for it. A slow answer so delays no later request, and
//! no wait hides (no *coordinated omission*). The runtime's timer may be a millisecond late; that
//! millisecond is in the figures. Never sends more than [`Plan::outstanding`] at once nor opens more
//! than [`Plan::connections`]: what exceeds the first counts as an error, what exceeds the second waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::tally::Figures;
use crate::clock::Clock;

/// Longest wait for one answer, from its sending.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer's body; the origin's and the gate's have some hundreds.
const BODY_BYTES: usize = 64 * 1024;
/// What a refusal of the gate carries, and an answer of the origin does not.
const REASON: &str = "x-admission-reason";

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What one account does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// The account's name.
    pub(super) account: &'static str,
    /// Requests a second; not 0.
    pub(super) rate: u32,
    /// When the first request is due.
    pub(super) offset: Duration,
    /// Connections at once.
    pub(super) connections: usize,
    /// Requests without an answer at once.
    pub(super) outstanding: usize,
}

impl Plan {
    /// When the nth request is due, from the start of the load: known before anything is sent.
    fn due(&self, n: u64) -> Duration {
        let rate = u64::from(self.rate);
        let rest_nanos = (n % rate) * 1_000_000_000 / rate;
        self.offset + Duration::from_secs(n / rate) + Duration::from_nanos(rest_nanos)
    }
}

/// A running load.
#[derive(Debug)]
pub(super) struct Load {
    tallies: Vec<(&'static str, Arc<Mutex<Figures>>)>,
    stop: watch::Sender<bool>,
    accounts: JoinSet<()>,
}

impl Load {
    /// Starts to send all plans to the gate.
    pub(super) fn start(gate: SocketAddr, clock: &Clock, plans: &[Plan]) -> Self {
        let start = clock.now();
        let (stop, stopped) = watch::channel(false);
        let mut accounts = JoinSet::new();
        let mut tallies = Vec::with_capacity(plans.len());
        for plan in plans {
            let caller = Arc::new(Caller {
                account: plan.account,
                gate,
                clock: clock.clone(),
                idle: Mutex::default(),
                places: Semaphore::new(plan.connections),
                figures: Arc::default(),
            });
            tallies.push((plan.account, Arc::clone(&caller.figures)));
            accounts.spawn(keep_schedule(*plan, start, caller, stopped.clone()));
        }
        Self {
            tallies,
            stop,
            accounts,
        }
    }

    /// The figures of this moment, in the order of the plans.
    pub(super) fn figures(&self) -> Vec<(&'static str, Figures)> {
        self.tallies
            .iter()
            .map(|(name, figures)| (*name, figures.lock().clone()))
            .collect()
    }

    /// Sends nothing more, and waits so long for what is outstanding; the rest is cut.
    pub(super) async fn finish(&mut self, grace: Duration) {
        self.stop.send_replace(true);
        let all_answered = async { while self.accounts.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all_answered).await.is_err() {
            self.accounts.shutdown().await;
        }
    }
}

async fn keep_schedule(
    plan: Plan,
    start: Instant,
    caller: Arc<Caller>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut outstanding = JoinSet::new();
    for n in 0.. {
        let due = start + plan.due(n);
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            _ = stopped.wait_for(|stop| *stop) => break,
        }
        while outstanding.try_join_next().is_some() {}
        let fits = outstanding.len() < plan.outstanding;
        {
            let mut figures = caller.figures.lock();
            figures.sent += 1;
            figures.errors += u64::from(!fits);
        }
        if fits {
            outstanding.spawn(Arc::clone(&caller).call(due));
        }
    }
    while outstanding.join_next().await.is_some() {}
}

/// One account: its connections and its figures.
#[derive(Debug)]
struct Caller {
    account: &'static str,
    gate: SocketAddr,
    clock: Clock,
    /// Connections that wait for a request; never more than there are places.
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    places: Semaphore,
    figures: Arc<Mutex<Figures>>,
}

impl Caller {
    async fn call(self: Arc<Self>, due: Instant) {
        let answer = self.exchange().await;
        let latency = self.clock.now().saturating_duration_since(due);
        let mut figures = self.figures.lock();
        match answer {
            Ok(Answer::Admitted) => figures.admitted.record(latency),
            Ok(Answer::Refused) => figures.refused.record(latency),
            Ok(Answer::Unexpected) | Err(_) => figures.errors += 1,
        }
    }

    async fn exchange(&self) -> Result<Answer, Error> {
        let _place = self.places.acquire().await?;
        tokio::time::timeout(ANSWER_TIMEOUT, async {
            // The gate may close an idle connection at the moment it is taken: what was not sent at all
            // goes over a fresh one. Any other trouble is the gate's, and counts.
            if let Some(idle) = self.take_idle() {
                match self.send(idle).await {
                    Err(error) if is_unsent(&error) => {}
                    answer => return answer,
                }
            }
            self.send(self.connect().await?).await
        })
        .await?
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let stream = TcpStream::connect(self.gate).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends when its sender is dropped; what broke it, the sender hears too.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    async fn send(&self, mut connection: SendRequest<Full<Bytes>>) -> Result<Answer, Error> {
        let request = Request::post(call_path(self.account))
            .header(header::HOST, self.gate.to_string())
            .header("x-account", self.account)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from_static(
                b"To=%2B15550100&From=%2B15550199",
            )))?;
        let response = connection.send_request(request).await?;
        let answer = Answer::of(&response);
        Limited::new(response.into_body(), BODY_BYTES)
            .collect()
            .await?;
        // A connection is ready again a moment after its answer's last byte, or closed for good.
        if connection.ready().await.is_ok() {
            self.idle.lock().push(connection);
        }
        Ok(answer)
    }
}

fn is_unsent(error: &Error) -> bool {
    error
        .downcast_ref::<hyper::Error>()
        .is_some_and(hyper::Error::is_canceled)
}

/// The path that an account's calls are made at, in the manner of a well-known telephony API.
pub(super) fn call_path(account: &str) -> String {
    format!("/2010-04-01/Accounts/{account}/Calls.json")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Admitted,
    Refused,
    Unexpected,
}

impl Answer {
    fn of(response: &Response<Incoming>) -> Self {
        let refusal = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ]
        .contains(&response.status());
        match response.status() {
            status if status.is_success() => Self::Admitted,
            _ if refusal && response.headers().contains_key(REASON) => Self::Refused,
            _ => Self::Unexpected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::origin::Origin;
    use super::*;

    const PLAN: Plan = Plan {
        account: "acme",
        rate: 400,
        offset: Duration::ZERO,
        connections: 4,
        outstanding: 30,
    };

    async fn until(load: &Load, enough: impl Fn(&Figures) -> bool) -> Figures {
        let found = async {
            loop {
                let (_, figures) = load.figures().remove(0);
                if enough(&figures) {
                    return figures;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found)
            .await
            .unwrap()
    }

    #[test]
    fn arrivals_are_due_at_fixed_instants_for_as_long_as_it_runs() {
        let plan = Plan {
            rate: 15,
            offset: Duration::from_millis(7),
            ..PLAN
        };
        assert_eq!(plan.due(0), Duration::from_millis(7));
        assert_eq!(plan.due(15), Duration::from_millis(1007));
        assert_eq!(plan.due(15 * 86_400), Duration::from_millis(86_400_007));
        assert_eq!(plan.due(1), plan.due(0) + Duration::from_nanos(66_666_666));
    }

    #[tokio::test]
    async fn a_gate_that_never_answers_does_not_slow_the_arrivals_and_is_not_flooded() {
        // The kernel completes the connections; nobody reads them.
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut load = Load::start(deaf.local_addr().unwrap(), &Clock::default(), &[PLAN]);
        let figures = until(&load, |figures| figures.sent >= 100).await;
        assert_eq!(figures.admitted() + figures.refused(), 0);
        assert_eq!(figures.in_flight(), 30);
        assert!(figures.errors >= 70);
        load.finish(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn a_wait_for_a_connection_is_part_of_the_latency() {
        let clock = Clock::default();
        let origin = Origin::start(clock.clone(), 16).await.unwrap();
        let plan = Plan {
            connections: 1,
            outstanding: 1000,
            ..PLAN
        };
        let mut load = Load::start(origin.address(), &clock, &[plan]);
        let figures = until(&load, |figures| figures.admitted() >= 20).await;
        load.finish(Duration::ZERO).await;
        assert_eq!(figures.errors, 0);
        // Twenty answers of at least 20 ms one after the other, all due within the first 50 ms.
        assert!(figures.admitted.quantile(990).unwrap() >= Duration::from_millis(340));
    }
}
