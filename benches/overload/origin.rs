//! The origin: an API with S workers, and a queue of its own before them.
//!
//! A request waits for a worker, first come first served, and keeps it for the time that `x-work-us` says; what does not
//! fit waits, without a bound that anybody can see. That is what most APIs do that call a database or another service: a pool
//! of threads or connections with a line before it (Tomcat, Puma, gunicorn, Node over a connection pool). A worker does not notice
//! that its caller has left, as in these. So an origin without protection serves everybody late, and at last works for
//! nobody. Workers are threads that sleep: what is scarce are places, not this machine's cores.
//!
//! A sleep ends late, the more so on a busy machine. A worker makes up for it with its next requests, so that capacity
//! stays S ÷ mean service time. `GET /idle` tells whether all work is done, for the pause between two steps.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::{Condvar, Mutex};
use tidegate::clock::Clock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// How long a worker is busy with a request, in microseconds; without it, no time.
pub(crate) const WORK: &str = "x-work-us";
/// Requests that wait at once; above what a load of this bench can bring, and a bound on memory.
const LONGEST_LINE: usize = 100_000;
/// Lateness that a worker makes up for at most; more than this, and the machine has stood still.
const DEBT: Duration = Duration::from_millis(20);
/// After a failed accept (no more files), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct Line {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Job>,
    busy: usize,
}

#[derive(Debug)]
struct Job {
    work: Duration,
    done: oneshot::Sender<()>,
}

/// Serves on that address with so many workers, until the process is ended.
pub(crate) fn serve(address: SocketAddr, workers: usize) -> anyhow::Result<()> {
    let line = Arc::new(Line::default());
    for _ in 0..workers {
        let line = Arc::clone(&line);
        thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || work(&line))
            .context("no thread for a worker")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("{address} is taken"))?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, Arc::clone(&line)))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    })
}

/// One worker, for ever.
#[expect(
    clippy::disallowed_methods,
    reason = "sleeping is a worker's work, and it has a thread of its own"
)]
fn work(line: &Line) {
    let clock = Clock::default();
    let mut debt = Duration::ZERO;
    let mut state = line.state.lock();
    loop {
        let Some(job) = state.waiting.pop_front() else {
            line.arrived.wait(&mut state);
            continue;
        };
        state.busy += 1;
        drop(state);
        let began = clock.now();
        let owed = job.work.saturating_sub(debt);
        if !owed.is_zero() {
            thread::sleep(owed);
        }
        debt = (debt + clock.now().duration_since(began))
            .saturating_sub(job.work)
            .min(DEBT);
        // Whoever asked may have left; the work was done all the same.
        let _ = job.done.send(());
        state = line.state.lock();
        state.busy -= 1;
    }
}

async fn connection(stream: TcpStream, line: Arc<Line>) {
    let service = service_fn(|request| {
        let line = Arc::clone(&line);
        async move { Ok::<_, Infallible>(answer(&request, &line).await) }
    });
    // An answer is one small segment, which Nagle's delay would keep. A connection that breaks is its client's loss.
    if stream.set_nodelay(true).is_ok() {
        drop(
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await,
        );
    }
}

async fn answer(request: &Request<Incoming>, line: &Line) -> Response<Full<Bytes>> {
    if request.uri().path() == "/idle" {
        let state = line.state.lock();
        let is_idle = state.busy == 0 && state.waiting.is_empty();
        return response(
            if is_idle {
                StatusCode::OK
            } else {
                StatusCode::ACCEPTED
            },
            "",
        );
    }
    let asked = request
        .headers()
        .get(WORK)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let (done, finished) = oneshot::channel();
    {
        let mut state = line.state.lock();
        if state.waiting.len() >= LONGEST_LINE {
            return response(StatusCode::INTERNAL_SERVER_ERROR, "the line is full\n");
        }
        state.waiting.push_back(Job {
            work: Duration::from_micros(asked.unwrap_or(0)),
            done,
        });
    }
    line.arrived.notify_one();
    match finished.await {
        Ok(()) => response(StatusCode::OK, "ok\n"),
        Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, "the worker is gone\n"),
    }
}

fn response(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
