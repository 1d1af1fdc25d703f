//! How the admin API is hosted: hyper on whatever stream it is handed, bounded and apart from the data plane.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::events::STREAMS_MAX;
use super::{Operations, api};

/// Connections at once: event streams, and beside them some scrapers, some people and their dashboards.
const CONNECTIONS_MAX: usize = STREAMS_MAX + 256;
/// A head takes no longer, and an idle connection stays no longer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the admin API.
pub struct App {
    operations: Arc<dyn Operations>,
    connections: Semaphore,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl App {
    /// An API over the running program.
    #[must_use]
    pub fn new(operations: Arc<dyn Operations>) -> Self {
        Self {
            operations,
            connections: Semaphore::new(CONNECTIONS_MAX),
        }
    }

    /// Serves a connection to its end.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Ok(_one) = self.connections.try_acquire() else {
            return;
        };
        let answer = service_fn(|request| {
            let operations = Arc::clone(&self.operations);
            async move {
                let answering = AssertUnwindSafe(api::answer(&operations, request));
                let answered = futures_util::FutureExt::catch_unwind(answering).await;
                Ok::<_, Infallible>(answered.unwrap_or_else(|_| api::panicked()))
            }
        });
        // What a client does wrong on this connection is its own affair.
        drop(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), answer)
                .await,
        );
    }
}
