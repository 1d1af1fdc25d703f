//! A scriptable HTTP/1.1 origin on a thread of its own, which tells what it saw.
//!
//! A script is an async closure over one [`Exchange`]; the connection is kept alive as long as the script
//! says so. Nothing is parsed that a test did not ask for, so that the bytes of the gate are seen as they came.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;

use super::eventually;
use super::wire::{Body, Framing, Head, Wire};

/// What becomes of the connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another request may come.
    Keep,
    /// It is closed.
    Close,
}

/// What the origin saw; shared between its thread and the test.
#[derive(Debug, Default)]
struct Seen {
    heads: Mutex<Vec<Head>>,
    bodies: Mutex<Vec<Body>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    in_flight: AtomicUsize,
    peak: AtomicUsize,
    cut: AtomicUsize,
    counts: Mutex<BTreeMap<&'static str, usize>>,
}

/// A running origin; dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Where it listens, as the configuration writes it.
    pub(crate) address: String,
    seen: Arc<Seen>,
    gate: Arc<Semaphore>,
    _stop: oneshot::Sender<()>,
}

/// One request and the stream to answer it on.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) head: Head,
    pub(crate) wire: Wire,
    seen: Arc<Seen>,
    gate: Arc<Semaphore>,
}

/// An origin that reads the body and answers 200 with `ok`.
pub(crate) fn origin() -> Origin {
    Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        exchange.reply(200, "ok").await
    })
}

/// The same, but each answer waits until the test [opens](Origin::open) the gate.
pub(crate) fn held_origin() -> Origin {
    Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        exchange.hold().await?;
        exchange.reply(200, "ok").await
    })
}

impl Origin {
    /// Runs the script for each request on a free TCP port.
    pub(crate) fn start<F>(script: F) -> Self
    where
        F: AsyncFn(&mut Exchange) -> io::Result<Next> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0", script)
    }

    /// The same on that address, such as one where another origin has been.
    pub(crate) fn start_at<F>(address: &str, script: F) -> Self
    where
        F: AsyncFn(&mut Exchange) -> io::Result<Next> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self::spawn(address, script, async move |serve: &dyn Fn(Wire)| {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                // Closing without reading everything then resets, as a crashed process would.
                serve(Wire::new(stream));
            }
        })
    }

    /// The same on a Unix socket.
    pub(crate) fn start_unix<F>(path: &std::path::Path, script: F) -> Self
    where
        F: AsyncFn(&mut Exchange) -> io::Result<Next> + Send + 'static,
    {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("unix:{}", path.display());
        Self::spawn(address, script, async move |serve: &dyn Fn(Wire)| {
            let listener = UnixListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                serve(Wire::new(stream));
            }
        })
    }

    fn spawn<F, A>(address: String, script: F, accept: A) -> Self
    where
        F: AsyncFn(&mut Exchange) -> io::Result<Next> + Send + 'static,
        A: AsyncFnOnce(&dyn Fn(Wire)) + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let gate = Arc::new(Semaphore::new(0));
        let opened = Arc::clone(&gate);
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let script = Rc::new(script);
            let serve = |wire: Wire| {
                let connection = serve(
                    wire,
                    Rc::clone(&script),
                    Arc::clone(&shared),
                    Arc::clone(&opened),
                );
                tokio::task::spawn_local(connection);
            };
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = accept(&serve) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            seen,
            gate,
            _stop: stop,
        }
    }

    /// Lets so many more held exchanges go on.
    pub(crate) fn release(&self, count: usize) {
        self.gate.add_permits(count);
    }

    /// Lets all held exchanges go on, now and later.
    pub(crate) fn open(&self) {
        self.gate.add_permits(1 << 24);
    }

    /// Exchanges whose script is running.
    pub(crate) fn in_flight(&self) -> usize {
        self.seen.in_flight.load(Ordering::SeqCst)
    }

    /// The most that ever ran at once.
    pub(crate) fn peak(&self) -> usize {
        self.seen.peak.load(Ordering::SeqCst)
    }

    /// Connections ever accepted.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Scripts that ended with an error: the gate cut them, or broke a body.
    pub(crate) fn cut(&self) -> usize {
        self.seen.cut.load(Ordering::SeqCst)
    }

    /// How often a script [counted](Exchange::count) that.
    pub(crate) fn counted(&self, what: &'static str) -> usize {
        self.seen
            .counts
            .lock()
            .get(what)
            .copied()
            .unwrap_or_default()
    }

    /// All heads that arrived.
    pub(crate) fn heads(&self) -> Vec<Head> {
        self.seen.heads.lock().clone()
    }

    /// The head that arrived last.
    pub(crate) fn last(&self) -> Head {
        self.seen
            .heads
            .lock()
            .last()
            .cloned()
            .expect("the origin saw no request")
    }

    /// All bodies that arrived.
    pub(crate) fn bodies(&self) -> Vec<Body> {
        self.seen.bodies.lock().clone()
    }

    /// The body that arrived last.
    pub(crate) fn last_body(&self) -> Body {
        self.seen
            .bodies
            .lock()
            .last()
            .cloned()
            .expect("the origin saw no body")
    }

    /// Requests that arrived, without those of health checks.
    pub(crate) fn served(&self) -> usize {
        let heads = self.seen.heads.lock();
        let is_check = |head: &&Head| head.says("user-agent", "tidegate");
        heads.len() - heads.iter().filter(is_check).count()
    }

    /// Ends it, and waits until nobody listens there any more.
    pub(crate) async fn stop(self) -> String {
        let address = self.address.clone();
        drop(self);
        eventually("the origin's end", async || {
            tokio::net::TcpStream::connect(&address).await.is_err()
        })
        .await;
        address
    }

    /// Waits until exactly so many scripts run.
    pub(crate) async fn until_in_flight(&self, count: usize) {
        eventually(&format!("{count} at the origin"), async || {
            self.in_flight() == count
        })
        .await;
    }
}

impl Exchange {
    /// The method of the request line.
    pub(crate) fn method(&self) -> &str {
        self.head.start.split(' ').next().unwrap_or_default()
    }

    /// The target of the request line.
    pub(crate) fn target(&self) -> &str {
        self.head.start.split(' ').nth(1).unwrap_or_default()
    }

    /// Reads the whole body and records it.
    pub(crate) async fn body(&mut self) -> io::Result<Body> {
        let body = self.wire.body(Framing::of_request(&self.head)).await?;
        self.seen.bodies.lock().push(body.clone());
        Ok(body)
    }

    /// Waits for one [`Origin::release`], or for [`Origin::open`]; an error when the gate leaves first.
    pub(crate) async fn hold(&mut self) -> io::Result<()> {
        tokio::select! {
            permit = self.gate.acquire() => {
                permit.expect("never closed").forget();
                Ok(())
            }
            _ = self.wire.some() => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Counts something that a test asks for.
    pub(crate) fn count(&self, what: &'static str) {
        *self.seen.counts.lock().entry(what).or_default() += 1;
    }

    /// Answers with a length.
    pub(crate) async fn reply(&mut self, status: u16, body: &str) -> io::Result<Next> {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\n\r\n{body}");
        self.raw(&head).await
    }

    /// Writes these bytes and keeps the connection.
    pub(crate) async fn raw(&mut self, bytes: &str) -> io::Result<Next> {
        self.wire.send(bytes).await?;
        Ok(Next::Keep)
    }

    /// One chunk of a chunked body.
    pub(crate) async fn chunk(&mut self, bytes: &str) -> io::Result<Next> {
        self.raw(&format!("{:x}\r\n{bytes}\r\n", bytes.len())).await
    }

    /// Waits until the other side closes or resets.
    pub(crate) async fn until_closed(&mut self) {
        while self.wire.some().await.is_ok_and(|bytes| !bytes.is_empty()) {}
    }
}

/// A count that goes down on every way out.
struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    fn up(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve<F>(wire: Wire, script: Rc<F>, seen: Arc<Seen>, gate: Arc<Semaphore>)
where
    F: AsyncFn(&mut Exchange) -> io::Result<Next>,
{
    seen.connections.fetch_add(1, Ordering::SeqCst);
    let _open = Counted::up(&seen.open);
    let mut exchange = Exchange {
        head: Head::default(),
        wire,
        seen: Arc::clone(&seen),
        gate,
    };
    while let Ok(Some(head)) = exchange.wire.head().await {
        seen.heads.lock().push(head.clone());
        exchange.head = head;
        let _running = Counted::up(&seen.in_flight);
        seen.peak
            .fetch_max(seen.in_flight.load(Ordering::SeqCst), Ordering::SeqCst);
        match script(&mut exchange).await {
            Ok(Next::Keep) => {}
            Ok(Next::Close) => break,
            Err(_) => {
                seen.cut.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
    }
}

/// Makes the close of a TCP stream a reset.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    socket2::SockRef::from(stream)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
}
