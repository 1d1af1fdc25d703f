//! The load: every request is sent when it is due, whatever became of those before it.
//!
//! It is an open loop. The schedule is fixed before it starts, and a latency counts from the instant at which the request
//! was due, so that a proxy which answers slowly is not spared the requests that would have come meanwhile (*coordinated
//! omission*). A thread of its own keeps the schedule, because the runtime's timer is exact to a millisecond only; how late it was
//! is part of every latency, and is reported.
//!
//! Each account is a client of its own, with its own keep-alive connections. While all of them are busy its requests wait here,
//! and no other account's do. A client gives up when its patience ends, closes the connection, and never retries. Never has more
//! than [`Args::connections`] open.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tidegate::clock::Clock;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};

use crate::origin::WORK;
use crate::schedule::{Arrival, Distribution, Share, arrivals};
use crate::tally::{End, Outcome, Tally};

/// Between the start of the process and the first instant: the runtime is up by then.
const HEAD_START: Duration = Duration::from_millis(50);
/// Due requests that the runtime has not taken up; the schedule's thread waits beyond it, and that shows as lateness.
const BACKLOG: usize = 65_536;

/// One step.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to send to.
    #[arg(long)]
    target: SocketAddr,
    /// An account and its requests a second, as NAME=RATE; several times.
    #[arg(long = "account", required = true)]
    accounts: Vec<Share>,
    /// Seconds that count.
    #[arg(long)]
    seconds: f64,
    /// Seconds of the same load before them, which do not.
    #[arg(long, default_value_t = 1.0)]
    warm: f64,
    /// Keep-alive connections of all accounts together, shared out evenly.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// How service times are spread.
    #[arg(long, value_enum, default_value = "exponential")]
    distribution: Distribution,
    /// Their mean.
    #[arg(long, default_value_t = 10.0)]
    mean_ms: f64,
    /// An answer within this time is good.
    #[arg(long)]
    slo_ms: f64,
    /// When a client gives up.
    #[arg(long, default_value_t = 2000.0)]
    patience_ms: f64,
    /// The same seed is the same load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Sends it all, and tells what came of it.
pub(crate) fn run(args: &Args) -> anyhow::Result<Value> {
    let per_client = args.connections / args.accounts.len();
    anyhow::ensure!(per_client > 0, "fewer connections than accounts");
    let milliseconds = |value: f64| Duration::try_from_secs_f64(value / 1e3);
    let warm = Duration::try_from_secs_f64(args.warm)?;
    let span = warm + Duration::try_from_secs_f64(args.seconds)?;
    let work = (args.distribution, milliseconds(args.mean_ms)?);
    let schedule = arrivals(&args.accounts, span, work, args.seed);
    let clock = Clock::default();
    let start = clock.now() + HEAD_START;
    let (sender, due) = mpsc::channel(BACKLOG);
    let instants: Vec<_> = schedule.iter().map(|arrival| start + arrival.due).collect();
    let pace = clock.clone();
    thread::Builder::new()
        .name("schedule".to_owned())
        .spawn(move || keep_schedule(&pace, &instants, &sender))
        .context("no thread for the schedule")?;

    let load = Rc::new(Load {
        target: args.target,
        host: HeaderValue::from_str(&args.target.to_string())?,
        clients: args
            .accounts
            .iter()
            .map(|share| client(share, per_client))
            .collect::<Result<_, _>>()?,
        outcomes: RefCell::new(vec![None; schedule.len()]),
        left: Cell::new(schedule.len()),
        is_over: Notify::new(),
        patience: milliseconds(args.patience_ms)?,
        schedule,
        start,
        clock,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, Rc::clone(&load).send_all(due));
    Ok(load.report(args, warm, milliseconds(args.slo_ms)?))
}

/// Hands each request over when it is due.
#[expect(
    clippy::disallowed_methods,
    reason = "this thread does nothing but wait for instants"
)]
fn keep_schedule(clock: &Clock, instants: &[Instant], sender: &mpsc::Sender<usize>) {
    for (index, due) in instants.iter().enumerate() {
        let wait = due.saturating_duration_since(clock.now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        if sender.blocking_send(index).is_err() {
            return;
        }
    }
}

type Connection = SendRequest<Empty<Bytes>>;
type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Load {
    target: SocketAddr,
    host: HeaderValue,
    clients: Vec<Client>,
    schedule: Vec<Arrival>,
    outcomes: RefCell<Vec<Option<Outcome>>>,
    /// Requests that are not over.
    left: Cell<usize>,
    is_over: Notify,
    patience: Duration,
    start: Instant,
    clock: Clock,
}

/// One account: its connections, and what waits for one.
struct Client {
    account: HeaderValue,
    connections: usize,
    open: Cell<usize>,
    opened: Cell<usize>,
    idle: RefCell<Vec<Connection>>,
    /// Requests with their lateness.
    waiting: RefCell<VecDeque<(usize, Duration)>>,
}

fn client(share: &Share, connections: usize) -> anyhow::Result<Client> {
    Ok(Client {
        account: HeaderValue::from_str(&share.account)?,
        connections,
        open: Cell::new(0),
        opened: Cell::new(0),
        idle: RefCell::default(),
        waiting: RefCell::default(),
    })
}

impl Load {
    async fn send_all(self: Rc<Self>, mut due: mpsc::Receiver<usize>) {
        while let Some(index) = due.recv().await {
            let late = self.clock.now().saturating_duration_since(self.due(index));
            let client = self.client(index);
            let idle = client.idle.borrow_mut().pop();
            if idle.is_none() {
                if client.open.get() == client.connections {
                    client.waiting.borrow_mut().push_back((index, late));
                    continue;
                }
                client.open.set(client.open.get() + 1);
            }
            spawn_local(Rc::clone(&self).drive(idle, index, late));
        }
        while self.left.get() > 0 {
            self.is_over.notified().await;
        }
    }

    /// One connection's part: this request, and then those that wait for a connection.
    async fn drive(
        self: Rc<Self>,
        mut connection: Option<Connection>,
        mut index: usize,
        mut late: Duration,
    ) {
        loop {
            let until = self.due(index) + self.patience;
            // Whose patience ended before there was a connection sends nothing.
            if self.clock.now() < until {
                let exchange = self.exchange(&mut connection, index);
                let end = match tokio::time::timeout_at(until.into(), exchange).await {
                    Ok(Ok(status)) => End::Answered(status),
                    Ok(Err(_)) => End::Broken,
                    Err(_) => End::GaveUp,
                };
                if !matches!(end, End::Answered(_)) {
                    connection = None;
                }
                self.note(index, end, late);
            } else {
                self.note(index, End::GaveUp, late);
            }
            let client = self.client(index);
            let next = client.waiting.borrow_mut().pop_front();
            match (next, connection) {
                (Some(next), rest) => {
                    (index, late) = next;
                    connection = rest;
                }
                (None, Some(connection)) => return client.idle.borrow_mut().push(connection),
                (None, None) => return client.open.set(client.open.get() - 1),
            }
        }
    }

    async fn exchange(
        &self,
        connection: &mut Option<Connection>,
        index: usize,
    ) -> Result<u16, Failure> {
        if let Some(open) = connection
            && open.ready().await.is_err()
        {
            *connection = None;
        }
        let open = match connection {
            Some(open) => open,
            None => connection.insert(self.connect(index).await?),
        };
        let request = Request::get("/v1/reports/42")
            .header(header::HOST, &self.host)
            .header("x-account", &self.client(index).account)
            .header(WORK, u64::try_from(self.schedule[index].work.as_micros())?)
            .body(Empty::new())?;
        let response = open.send_request(request).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(status)
    }

    async fn connect(&self, index: usize) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(self.target).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends when its sender is dropped; what broke it, the sender hears too.
        spawn_local(async move { drop(connection.await) });
        let client = self.client(index);
        client.opened.set(client.opened.get() + 1);
        Ok(sender)
    }

    fn note(&self, index: usize, end: End, late: Duration) {
        let since = self.clock.now().saturating_duration_since(self.due(index));
        let latency = if end == End::GaveUp {
            self.patience
        } else {
            since
        };
        self.outcomes.borrow_mut()[index] = Some(Outcome { end, latency, late });
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0 {
            self.is_over.notify_one();
        }
    }

    fn due(&self, index: usize) -> Instant {
        self.start + self.schedule[index].due
    }

    fn client(&self, index: usize) -> &Client {
        &self.clients[self.schedule[index].account]
    }

    fn report(&self, args: &Args, warm: Duration, slo: Duration) -> Value {
        let mut all = Tally::default();
        let mut accounts: Vec<_> = args.accounts.iter().map(|_| Tally::default()).collect();
        for (arrival, outcome) in self.schedule.iter().zip(self.outcomes.borrow().iter()) {
            if arrival.due >= warm
                && let Some(outcome) = outcome
            {
                all.add(*outcome, slo);
                accounts[arrival.account].add(*outcome, slo);
            }
        }
        let names = args.accounts.iter().map(|share| share.account.clone());
        let accounts: serde_json::Map<_, _> = names
            .zip(accounts.into_iter().map(|tally| tally.json(args.seconds)))
            .collect();
        json!({
            "sent_with_warm_up": self.schedule.len(),
            "connections_opened": self.clients.iter().map(|client| client.opened.get()).sum::<usize>(),
            "all": all.json(args.seconds),
            "accounts": accounts,
        })
    }
}
