//! A way to a gate that can fall silent or break, as networks do.
//!
//! It carries bytes and never looks at them. What befalls it befalls the connections of that moment; those that come later pass, like
//! those of a client that has come back on another network.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    /// It stays open, and nothing passes.
    Silent,
    Cut,
}

/// A way to one address; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Road {
    /// Where it begins.
    pub(crate) address: String,
    fates: Arc<Mutex<Vec<watch::Sender<Fate>>>>,
    _carried: JoinSet<()>,
}

impl Road {
    /// A way to that address: `host:port`, or `unix:` and a path.
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fates = Arc::default();
        let mut carried = JoinSet::new();
        carried.spawn(accept(listener, target.to_owned(), Arc::clone(&fates)));
        Self {
            address,
            fates,
            _carried: carried,
        }
    }

    /// Nothing passes any more on the connections that are there, and neither end is told.
    pub(crate) fn fall_silent(&self) {
        self.meet(Fate::Silent);
    }

    /// The connections that are there break.
    pub(crate) fn cut(&self) {
        self.meet(Fate::Cut);
    }

    fn meet(&self, fate: Fate) {
        for connection in &*self.fates.lock() {
            connection.send_replace(fate);
        }
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    fates: Arc<Mutex<Vec<watch::Sender<Fate>>>>,
) {
    let mut carried = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let (sender, fate) = watch::channel(Fate::Open);
        fates.lock().push(sender);
        let target = target.clone();
        carried.spawn(async move {
            // A gate that is not there any more is as good as a cut.
            if let Some(path) = target.strip_prefix("unix:") {
                if let Ok(far) = UnixStream::connect(path).await {
                    carry(near, far, fate).await;
                }
            } else if let Ok(far) = TcpStream::connect(target).await {
                carry(near, far, fate).await;
            }
        });
    }
}

async fn carry(
    mut near: TcpStream,
    mut far: impl AsyncRead + AsyncWrite + Unpin,
    mut fate: watch::Receiver<Fate>,
) {
    loop {
        let now = *fate.borrow_and_update();
        match now {
            Fate::Open => tokio::select! {
                // However it ends, it has ended.
                _ = copy_bidirectional(&mut near, &mut far) => return,
                changed = fate.changed() => if changed.is_err() { return },
            },
            Fate::Silent => {
                if fate.changed().await.is_err() {
                    return;
                }
            }
            Fate::Cut => return,
        }
    }
}
