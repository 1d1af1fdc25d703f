//! How pingora hosts the data plane: sockets bound beforehand, streams handed to us, one trigger to stop.
//!
//! pingora binds inside a task, retries for half a minute and then lives on deaf; so sockets are bound here, where an error
//! ends the program, and handed over through its table of inherited sockets. It hears signals only once and sleeps its
//! whole grace period; so the trigger is ours and its run is left to a thread of its own. Never parses a byte.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{
    ListenFds, RunArgs, RuntimeOpts, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
};
use pingora_core::services::Service;
use pingora_core::services::listening::Service as Listening;
use tokio::sync::watch;

use super::connection;
use super::gate::Gate;
use super::settings::Address;
use super::tls::Acceptor;
use crate::classify::Peer;

/// Who may use a Unix socket of ours, as a file mode: its owner and group.
const UNIX_MODE: u32 = 0o660;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

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

    /// The name by which pingora finds the socket in its table.
    fn name(&self) -> String {
        match &self.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => path.display().to_string(),
        }
    }

    fn listener(&self) -> ListenerConfig {
        let buffer = L4BufferSettings::unbuffered();
        match &self.address {
            Address::Tcp(_) => ListenerConfig::tcp(self.name()).l4_buffer(buffer),
            Address::Unix(_) => ListenerConfig::uds(self.name())
                .permissions(fs::Permissions::from_mode(UNIX_MODE))
                .l4_buffer(buffer),
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

/// Serves streams of all data listeners.
#[derive(Debug)]
pub struct App {
    gate: Arc<Gate>,
    /// By the address that is listened on; `None` inside for plain text.
    listeners: Vec<(Address, Arc<ArcSwapOption<Acceptor>>)>,
}

impl App {
    /// An app for these listeners; the acceptors may be swapped while it runs.
    #[must_use]
    pub fn new(gate: Arc<Gate>, listeners: Vec<(Address, Arc<ArcSwapOption<Acceptor>>)>) -> Self {
        Self { gate, listeners }
    }

    fn acceptor(&self, local: Option<&PeerAddress>) -> Option<Arc<Acceptor>> {
        let is_it = |address: &Address| match (address, local) {
            (Address::Tcp(ours), Some(PeerAddress::Inet(theirs))) => {
                ours.port() == theirs.port()
                    && (ours.ip() == theirs.ip().to_canonical() || ours.ip().is_unspecified())
            }
            (Address::Unix(ours), Some(PeerAddress::Unix(theirs))) => {
                theirs.as_pathname() == Some(ours)
            }
            _ => false,
        };
        let found = match self.listeners.as_slice() {
            [(_, only)] => Some(only),
            many => many
                .iter()
                .find(|(address, _)| is_it(address))
                .map(|(_, acceptor)| acceptor),
        };
        found.and_then(|acceptor| acceptor.load_full())
    }
}

#[async_trait]
impl ServerApp for App {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        _shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let digest = stream.get_socket_digest();
        let acceptor = self.acceptor(digest.as_ref().and_then(|digest| digest.local_addr()));
        let address = digest.as_ref().and_then(|digest| digest.peer_addr());
        let address = address
            .and_then(PeerAddress::as_inet)
            .map(|inet| inet.ip().to_canonical());
        let peer = Peer {
            address,
            ..Peer::default()
        };
        connection::serve(stream, Arc::clone(&self.gate), peer, acceptor).await;
        None
    }
}

/// A pingora service whose sockets were bound before it started.
pub struct Prebound<A> {
    inner: Listening<A>,
    sockets: Vec<Bound>,
    /// Closes the listeners before the server stops, if set.
    close: Option<ShutdownWatch>,
}

impl<A> std::fmt::Debug for Prebound<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prebound")
            .field("sockets", &self.sockets)
            .finish_non_exhaustive()
    }
}

impl<A> Prebound<A> {
    /// A service of that name, on so many threads.
    #[must_use]
    pub fn new(name: &str, app: A, sockets: Vec<Bound>, threads: usize) -> Self {
        let mut inner = Listening::new(name.into(), app);
        inner.threads = Some(threads);
        for socket in &sockets {
            inner.add_listener(socket.listener());
        }
        Self {
            inner,
            sockets,
            close: None,
        }
    }
}

impl<A> Prebound<A> {
    /// Has its listeners closed by [`Stopper::close_listeners`].
    #[must_use]
    pub fn closed_by(mut self, stopper: &Stopper) -> Self {
        self.close = Some(stopper.listeners.subscribe());
        self
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> Service for Prebound<A> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        if let Some(table) = &fds {
            for bound in self.sockets.drain(..) {
                let name = bound.name();
                // From here on the table owns the descriptor, and pingora the socket it makes of it.
                let fd = match bound.socket {
                    Socket::Tcp(socket) => socket.into_raw_fd(),
                    Socket::Unix(socket) => socket.into_raw_fd(),
                };
                table.lock().add(name, fd.as_raw_fd());
            }
        }
        let shutdown = self.close.take().unwrap_or(shutdown);
        self.inner
            .start_service(fds, shutdown, listeners_per_fd)
            .await;
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn threads(&self) -> Option<usize> {
        self.inner.threads()
    }

    fn runtime_opts_override(&self, global: &RuntimeOpts) -> Option<RuntimeOpts> {
        self.inner.runtime_opts_override(global)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        self.inner.listen_addresses()
    }
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
