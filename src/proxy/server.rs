//! How pingora hosts the data plane: its server and its threads, our sockets and streams, one trigger to stop.
//!
//! pingora binds inside a task, retries for half a minute and then lives on deaf; so sockets are bound here, where an error
//! ends the program. Its own listeners register every stream with the thread that accepted it, so that each event takes a way through
//! another thread, and read the clock twice whenever a stream has nothing to read; so accepting is ours too: it is one loop. It hears signals
//! only once and sleeps its whole grace period; so the trigger is ours and its run is left to a thread of its own. Never parses a byte.

use std::fs;
use std::future::Future;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{
    ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
};
use pingora_core::services::Service;
use tokio::sync::watch;

use super::connection;
use super::gate::Gate;
use super::settings::Address;
use super::stream::Stream;
use super::tls::Acceptor;
use crate::classify::Peer;

/// Who may use a Unix socket of ours, as a file mode: its owner and group.
const UNIX_MODE: u32 = 0o660;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Before the next try where the system has no room for another connection: without it the thread would do nothing but try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refuses.
    #[error("cannot listen on {address}")]
    Refused {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// Something that is not a socket lies at the path.
    #[error("cannot listen on unix:{}: a file that is no socket is there", path.display())]
    NoSocket {
        /// Where.
        path: PathBuf,
    },
    /// Somebody answers at the path.
    #[error("cannot listen on unix:{}: another process listens there", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
}

/// A socket that listens, not yet served.
#[derive(Debug)]
pub struct Bound {
    /// Where it really listens: with the port that was free, if 0 was asked for.
    pub address: Address,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Bound {
    /// Opens a listener.
    pub fn bind(address: &Address) -> Result<Self, BindError> {
        let refused = |source| BindError::Refused {
            address: address.clone(),
            source,
        };
        match address {
            Address::Tcp(wanted) => {
                let socket = listen_tcp(*wanted).map_err(refused)?;
                let address = Address::Tcp(socket.local_addr().map_err(refused)?);
                Ok(Self {
                    address,
                    socket: Socket::Tcp(socket),
                })
            }
            Address::Unix(path) => {
                clear_path(path)?;
                let socket = UnixListener::bind(path).map_err(refused)?;
                socket.set_nonblocking(true).map_err(refused)?;
                let mode = fs::Permissions::from_mode(UNIX_MODE);
                fs::set_permissions(path, mode).map_err(refused)?;
                Ok(Self {
                    address: address.clone(),
                    socket: Socket::Unix(socket),
                })
            }
        }
    }
}

fn listen_tcp(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Type};
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Removes a socket that a dead process left behind, and nothing else.
fn clear_path(path: &Path) -> Result<(), BindError> {
    let Ok(there) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !there.file_type().is_socket() {
        return Err(BindError::NoSocket { path: path.into() });
    }
    if UnixStream::connect(path).is_ok() {
        return Err(BindError::InUse { path: path.into() });
    }
    fs::remove_file(path).map_err(|source| BindError::Refused {
        address: Address::Unix(path.into()),
        source,
    })
}

/// A stream that came by a listener.
#[derive(Debug)]
pub struct Accepted {
    /// The stream.
    pub stream: Stream,
    /// By which of the service's listeners, in their order.
    pub listener: usize,
    /// Who is at its other end; `None` behind a Unix socket.
    pub peer: Option<IpAddr>,
}

/// What serves the streams of a service.
pub trait Serve: Send + Sync + 'static {
    /// Serves one to its end.
    fn serve(self: Arc<Self>, accepted: Accepted) -> impl Future<Output = ()> + Send;
}

/// Serves streams of all data listeners.
#[derive(Debug)]
pub struct App {
    gate: Arc<Gate>,
    /// In the order of the listeners; `None` inside for plain text.
    acceptors: Vec<Arc<ArcSwapOption<Acceptor>>>,
}

impl App {
    /// An app for these listeners; the acceptors may be swapped while it runs.
    #[must_use]
    pub fn new(gate: Arc<Gate>, acceptors: Vec<Arc<ArcSwapOption<Acceptor>>>) -> Self {
        Self { gate, acceptors }
    }
}

impl Serve for App {
    fn serve(self: Arc<Self>, accepted: Accepted) -> impl Future<Output = ()> + Send {
        let Accepted {
            stream,
            listener,
            peer,
        } = accepted;
        let peer = Peer {
            address: peer.map(|address| address.to_canonical()),
            ..Peer::default()
        };
        let acceptor = self.acceptors.get(listener);
        let acceptor = acceptor.and_then(|acceptor| acceptor.load_full());
        connection::serve(stream, Arc::clone(&self.gate), peer, acceptor)
    }
}

/// A service of a pingora server that accepts streams on sockets which were bound before it started.
#[derive(Debug)]
pub struct Listening<A> {
    name: &'static str,
    app: Arc<A>,
    sockets: Vec<Bound>,
    threads: usize,
    /// Closes the listeners before the server stops, if set.
    close: Option<ShutdownWatch>,
}

impl<A> Listening<A> {
    /// A service of that name, on so many threads.
    #[must_use]
    pub fn new(name: &'static str, app: A, sockets: Vec<Bound>, threads: usize) -> Self {
        Self {
            name,
            app: Arc::new(app),
            sockets,
            threads,
            close: None,
        }
    }

    /// Has its listeners closed by [`Stopper::close_listeners`].
    #[must_use]
    pub fn closed_by(mut self, stopper: &Stopper) -> Self {
        self.close = Some(stopper.listeners.subscribe());
        self
    }
}

#[async_trait]
impl<A: Serve> Service for Listening<A> {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
    ) {
        let shutdown = self.close.take().unwrap_or(shutdown);
        let sockets = self.sockets.drain(..).enumerate();
        let accepting: Vec<_> = sockets
            .map(|(listener, bound)| {
                let (app, shutdown) = (Arc::clone(&self.app), shutdown.clone());
                pingora_runtime::current_handle().spawn(async move {
                    if let Err(error) = accept(bound.socket, listener, &app, shutdown).await {
                        tracing::error!(address = %bound.address, %error, "cannot accept connections");
                    }
                })
            })
            .collect();
        futures_util::future::join_all(accepting).await;
    }

    fn name(&self) -> &str {
        self.name
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}

/// A stream on its way to the thread that serves it. Where it is accepted the runtime has it by then, and lets go of it again.
enum Moved {
    Tcp(std::net::TcpStream),
    Unix(UnixStream),
}

impl Moved {
    /// Hands the stream to the runtime of this thread.
    fn settle(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(stream) => {
                // An answer is often one small segment, which Nagle's delay would keep.
                stream.set_nodelay(true)?;
                tokio::net::TcpStream::from_std(stream).map(Stream::Tcp)
            }
            Self::Unix(stream) => tokio::net::UnixStream::from_std(stream).map(Stream::Unix),
        }
    }
}

/// A socket that listens, known to the runtime.
enum Open {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Open {
    fn new(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Tcp(socket) => tokio::net::TcpListener::from_std(socket).map(Self::Tcp),
            Socket::Unix(socket) => tokio::net::UnixListener::from_std(socket).map(Self::Unix),
        }
    }

    /// The next stream, and whose it is.
    async fn next(&self) -> io::Result<(Moved, Option<IpAddr>)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((Moved::Tcp(stream.into_std()?), Some(peer.ip())))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                Ok((Moved::Unix(stream.into_std()?), None))
            }
        }
    }
}

/// Accepts streams until it is told to stop; each is served by one of the service's threads, which alone hears of its events.
async fn accept<A: Serve>(
    socket: Socket,
    listener: usize,
    app: &Arc<A>,
    mut shutdown: ShutdownWatch,
) -> io::Result<()> {
    let socket = Open::new(socket)?;
    loop {
        let next = tokio::select! {
            next = socket.next() => next,
            // Or nobody is left to tell it.
            _ = shutdown.wait_for(|is_told| *is_told) => return Ok(()),
        };
        let (stream, peer) = match next {
            Ok(next) => next,
            // The client's affair, and over.
            Err(error) if is_of_the_client(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let app = Arc::clone(app);
        pingora_runtime::current_handle().spawn(async move {
            // A client that has left meanwhile is nobody's loss.
            if let Ok(stream) = stream.settle() {
                let accepted = Accepted {
                    stream,
                    listener,
                    peer,
                };
                app.serve(accepted).await;
            }
        });
    }
}

/// Of errors of an accept, those of one connection alone.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// A pingora server, ready to run.
pub struct Hosted(Server);

impl std::fmt::Debug for Hosted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hosted").finish_non_exhaustive()
    }
}

/// Stops a running server, in two steps.
///
/// pingora tells all services to stop at once; the data listeners listen to their own trigger, so that the admin API
/// answers until the end.
#[derive(Debug, Clone)]
pub struct Stopper {
    listeners: watch::Sender<bool>,
    all: watch::Sender<bool>,
}

impl Stopper {
    /// A trigger that has not been pulled.
    #[must_use]
    pub fn new() -> Self {
        Self {
            listeners: watch::Sender::new(false),
            all: watch::Sender::new(false),
        }
    }

    /// Closes the data listeners; connections are told by the gate's phases.
    pub fn close_listeners(&self) {
        self.listeners.send_replace(true);
    }

    /// Ends every service and cuts what is open.
    pub fn stop(&self) {
        self.close_listeners();
        self.all.send_replace(true);
    }
}

impl Default for Stopper {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ShutdownSignalWatch for Stopper {
    async fn recv(&self) -> ShutdownSignal {
        let mut pulled = self.all.subscribe();
        // The sender is `self`: it outlives the wait.
        drop(pulled.wait_for(|pulled| *pulled).await);
        ShutdownSignal::FastShutdown
    }
}

impl Hosted {
    /// A server without services.
    #[must_use]
    pub fn new() -> Self {
        let conf = ServerConf {
            work_stealing: false,
            // Draining is ours: when pingora is told, all is over.
            grace_period_seconds: Some(0),
            graceful_shutdown_timeout_seconds: Some(0),
            // Else a timer thread wakes a hundred times a second for ever.
            fast_timeout_to_tokio_threshold_seconds: Some(1),
            ..ServerConf::default()
        };
        let mut server = Server::new_with_opt_and_conf(None, conf);
        server.bootstrap();
        Self(server)
    }

    /// Adds a service; none can be added later.
    pub fn add(&mut self, service: impl pingora_core::services::ServiceWithDependents + 'static) {
        self.0.add_service(service);
    }

    /// Serves on a thread of its own, which outlives whoever started it.
    pub fn spawn(self, stopper: Stopper) -> io::Result<()> {
        std::thread::Builder::new()
            .name("pingora".into())
            .spawn(move || {
                self.0.run(RunArgs {
                    shutdown_signal: Box::new(stopper),
                });
            })?;
        Ok(())
    }
}

impl Default for Hosted {
    fn default() -> Self {
        Self::new()
    }
}
