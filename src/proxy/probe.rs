//! Asking endpoints whether they are well.
//!
//! pingora's checks ask, over HTTP or by connecting; what follows from the answers is kept with the endpoint, so that it
//! outlives a reload that changes the upstream. Each endpoint has a task and a rhythm of its own: a slow one holds up
//! nobody, and many gates do not ask at the same moment. Runs beside the requests, on the supervisor's thread; never on a
//! data thread.

use std::io;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_load_balancing::health_check::{HealthCheck as Check, HttpHealthCheck, TcpHealthCheck};
use pingora_load_balancing::{Backend, Extensions};
use tokio::task::JoinSet;

use super::endpoint::{Endpoint, Target};
use super::settings::{EndpointAddress, HealthCheck};
use super::upstream::Upstream;

type Probe = Box<dyn Check + Send + Sync>;

impl Upstream {
    /// Asks all endpoints again and again until dropped; ends at once without a `health_check`.
    pub async fn keep_checking(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        for index in 0..self.settings.endpoints.len() {
            if let Some(settings) = self.settings.health_check.clone() {
                tasks.spawn(keep_asking(Arc::clone(&self), index, settings));
            }
        }
        tasks.join_all().await;
    }
}

async fn keep_asking(upstream: Arc<Upstream>, index: usize, settings: HealthCheck) {
    let endpoint = upstream.endpoint(index);
    let probe = probe(&upstream, endpoint, &settings);
    let resolve = upstream.settings.resolve;
    // The first round is asked at once; from then on each keeps a beat that chance has set.
    let mut pause = settings.interval.mul_f64(fastrand::f64());
    loop {
        let asked = tokio::time::timeout(settings.timeout, ask(endpoint, &*probe, resolve)).await;
        let said = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let threshold = if said.is_ok() {
            settings.healthy_after
        } else {
            settings.unhealthy_after
        };
        let now = upstream.clock().now();
        if endpoint.health.checked(said.is_ok(), threshold, now) {
            let (upstream, endpoint) = (upstream.name(), &*endpoint.name);
            match said {
                Ok(()) => tracing::info!(
                    upstream,
                    endpoint,
                    "the endpoint passes its health check again"
                ),
                Err(why) => {
                    tracing::warn!(
                        upstream,
                        endpoint,
                        why,
                        "the endpoint fails its health check"
                    );
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = settings.interval;
    }
}

/// Asks one address after the other, as a request would try them.
async fn ask(
    endpoint: &Arc<Endpoint>,
    probe: &(dyn Check + Send + Sync),
    resolve: Duration,
) -> Result<(), String> {
    let targets = endpoint.targets(resolve).await;
    let mut why = "no address".to_owned();
    for target in targets.map_err(|error| error.to_string())? {
        let backend = backend(&target).map_err(|error| error.to_string())?;
        match probe.check(&backend).await {
            Ok(()) => {
                endpoint.prefer(&target);
                return Ok(());
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

fn backend(target: &Target) -> io::Result<Backend> {
    let addr = match target {
        Target::Tcp(address) => SocketAddr::Inet(*address),
        Target::Unix(path) => SocketAddr::Unix(UnixAddr::from_pathname(path)?),
    };
    Ok(Backend {
        addr,
        weight: 1,
        ext: Extensions::new(),
    })
}

/// One of pingora's checks. It has no timeouts of its own: one bounds all of it, and pingora's short ones would start a
/// thread that wakes a hundred times a second.
fn probe(upstream: &Upstream, endpoint: &Endpoint, settings: &HealthCheck) -> Probe {
    let Some(path) = &settings.path else {
        let mut check = TcpHealthCheck::new();
        check.peer_template.options.connection_timeout = None;
        return check;
    };
    let own = match &endpoint.address {
        EndpointAddress::Host(..) => &*endpoint.name,
        EndpointAddress::Unix(_) => "localhost",
    };
    let host = upstream
        .settings
        .host
        .as_ref()
        .and_then(|host| host.to_str().ok());
    let mut check = HttpHealthCheck::new(host.unwrap_or(own), false);
    check.req.set_uri(path.clone().into());
    // A constant is a good value.
    drop(check.req.insert_header("user-agent", "tidegate"));
    check.peer_template.options.connection_timeout = None;
    check.peer_template.options.read_timeout = None;
    check.validator = Some(Box::new(|head| {
        if head.status.is_success() {
            return Ok(());
        }
        let status = pingora_core::ErrorType::HTTPStatus(head.status.as_u16());
        pingora_core::Error::e_explain(status, "of the health check")
    }));
    Box::new(check)
}
