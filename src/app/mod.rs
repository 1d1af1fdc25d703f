//! The composition root: a configuration in, running parts out; a new configuration in, the same parts changed.
//!
//! Starting binds first and runs last, so that what can fail fails before anything serves. A reload has two phases: prepare all
//! that can fail, then swap what cannot; whatever is refused leaves everything as it was. Shutting down goes by the gate's
//! phases. Never on a request's path.

mod checks;
mod exporter;
mod mount;
mod notify;
mod operations;
mod overrides;
mod reload;
mod supervisor;
mod timekeeper;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use pingora_core::services::background::background_service;
use serde_json::Value;
use tokio::sync::Notify;

use exporter::{Exporter, Exporting};
use notify::{Notifier, Notifying};
use supervisor::Supervisor;
use timekeeper::Timekeeper;

use crate::admin::{self, Operations};
use crate::admission::{Policy, Reason, TemporaryMax};
use crate::classify::Rules;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::presence::Presence;
use crate::proxy::{
    Accepted, Acceptor, Address, BindError, Bound, Gate, Generation, Hosted, Listening, Phase,
    Route, Serve, Stopper, Target, TlsError, Upstream,
};
use crate::telemetry::ResourceTable;

/// After the end of a drain: how long the refusals of those who still waited may take on their way.
const DISMISSED: Duration = Duration::from_millis(500);
/// While shutting down: how long answers say `connection: close` before idle connections are closed. A client that was
/// about to send on an idle connection has learned by then that it should not.
const CLOSING: Duration = Duration::from_secs(2);

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A listener's TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The access log cannot be opened, or a thread not be started.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl StartError {
    fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// The running program.
#[derive(Debug, Clone)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gate: Arc<Gate>,
    stopper: Stopper,
    listeners: Vec<(Address, Arc<ArcSwapOption<Acceptor>>)>,
    admin_address: Address,
    admin: ArcSwap<admin::Settings>,
    started: Instant,
    path: PathBuf,
    state: Mutex<State>,
    /// Told when a generation was put in force.
    applied: Notify,
    presence: Arc<Presence>,
    exporter: Arc<Exporter>,
    views: admin::Views,
    notifier: Notifier,
}

/// What only reloads and readers of the configuration touch.
#[derive(Debug)]
struct State {
    running: Config,
    rules_origin: config::explain::Origin,
    loaded_at: Duration,
    last_refusal: Option<Value>,
    /// Maxima that an operator has put in force for a while.
    overrides: Vec<TemporaryMax>,
    /// What the watched files looked like when they were last judged.
    seen: Vec<Option<config::Stamp>>,
}

/// The admin API, for the streams of its listener.
struct AdminApi(admin::App);

impl Serve for AdminApi {
    async fn serve(self: Arc<Self>, accepted: Accepted) {
        self.0.serve(accepted.stream).await;
    }
}

/// Everything of a new generation that can fail, done.
struct Prepared {
    generation: Generation,
    tls: Vec<Option<rustls::ServerConfig>>,
}

impl App {
    /// Opens every listener, then serves on threads of its own. Returns as soon as connections are accepted.
    pub fn start(mut config: Config, clock: Clock) -> Result<Self, StartError> {
        let bound: Result<Vec<_>, _> = config
            .server
            .listeners
            .iter()
            .map(|listener| Bound::bind(&listener.address))
            .collect();
        let bound = bound?;
        let admin = Bound::bind(&config.admin.address)?;
        let listeners: Result<Vec<_>, TlsError> = config
            .server
            .listeners
            .iter()
            .zip(&bound)
            .map(|(listener, bound)| {
                let acceptor = listener.tls.as_ref().map(Acceptor::new).transpose()?;
                let acceptor = Arc::new(ArcSwapOption::from(acceptor.map(Arc::new)));
                Ok((bound.address.clone(), acceptor))
            })
            .collect();
        let listeners = listeners?;
        let resources = ResourceTable::default();
        let presence = Presence::new(clock.clone());
        presence.configure(config.presence.clone().unwrap_or_default());
        let made_of = Parts {
            resources: &resources,
            clock: &clock,
            presence: &presence,
            overrides: &[],
        };
        let generation = generation(&mut config, 1, None, &made_of);
        let threads = generation.settings.threads;
        let started = clock.now();
        let loaded_at = clock.unix_time();
        let gate = Arc::new(Gate::new(generation, resources, clock.clone()));
        let log = gate.log.open(&config.access_log, clock);
        log.map_err(StartError::system("cannot open the access log"))?;
        let exporter = Arc::new(Exporter::new(Arc::clone(&gate), config.traces.clone()));
        let stopper = Stopper::new();
        let notifier = Notifier::default();
        notifier.follow(config.notify.as_ref(), &gate);
        let inner = Arc::new(Inner {
            stopper: stopper.clone(),
            admin_address: admin.address.clone(),
            admin: ArcSwap::from_pointee(admin_settings(&config)),
            started,
            path: config.path.clone(),
            state: Mutex::new(State {
                rules_origin: config.origin(),
                seen: config.stamps(),
                running: config,
                loaded_at,
                last_refusal: None,
                overrides: Vec::new(),
            }),
            listeners: listeners.clone(),
            applied: Notify::new(),
            presence: Arc::clone(&presence),
            exporter,
            views: admin::Views::default(),
            notifier,
            gate: Arc::clone(&gate),
        });
        presence.guard(Arc::new(mount::Doorway(Arc::clone(&gate))));
        let acceptors = listeners.into_iter().map(|(_, acceptor)| acceptor);
        let data = crate::proxy::App::new(gate, acceptors.collect());
        let data = Listening::new("data", data, bound, threads).closed_by(&stopper);
        let app = Self(inner);
        app.host(data, admin)?;
        Ok(app)
    }

    /// Starts the threads: of the data plane, of the admin API, and of what happens beside them.
    fn host(&self, data: Listening<crate::proxy::App>, admin: Bound) -> Result<(), StartError> {
        let inner = &self.0;
        let mut server = Hosted::new();
        server.add(data);
        let api = admin::App::new(Arc::clone(inner) as Arc<dyn Operations>);
        server.add(Listening::new("admin", AdminApi(api), vec![admin], 1));
        let supervisor = Supervisor(Arc::clone(inner));
        server.add(background_service("supervisor", supervisor));
        let ticking = mount::Ticking(Arc::clone(&inner.presence));
        server.add(background_service("presence", ticking));
        let timekeeper = Timekeeper(Arc::clone(&inner.gate));
        server.add(background_service("timekeeper", timekeeper));
        let exporting = Exporting(Arc::clone(&inner.exporter));
        server.add(background_service("traces", exporting));
        let notifying = Notifying(Arc::clone(inner));
        server.add(background_service("notifier", notifying));
        let spawned = server.spawn(inner.stopper.clone());
        spawned.map_err(StartError::system("cannot start a thread"))
    }

    /// Where clients connect, with the ports that were really taken.
    pub fn listeners(&self) -> impl Iterator<Item = &Address> {
        self.0.listeners.iter().map(|(address, _)| address)
    }

    /// Where the admin API listens.
    #[must_use]
    pub fn admin_address(&self) -> &Address {
        &self.0.admin_address
    }

    /// Reads the configuration file again.
    pub fn reload(&self) {
        self.0.reload();
    }

    /// Stops taking requests, lets those in flight finish, and returns when all have or `drain_timeout` has passed;
    /// true if nothing had to be cut.
    pub async fn drain(&self) -> bool {
        let gate = &self.0.gate;
        let settings = gate.generation().settings.clone();
        gate.enter_phase(Phase::Draining);
        // Sockets go one after another, so that not all of their clients come back at once; some of the time is for their answers.
        self.0
            .presence
            .drain(settings.drain_delay + settings.drain_timeout / 2);
        tokio::time::sleep(settings.drain_delay).await;
        self.0.stopper.close_listeners();
        gate.enter_phase(Phase::Closing);
        let finished = async {
            let _ = tokio::time::timeout(CLOSING, gate.idle()).await;
            gate.enter_phase(Phase::Shutdown);
            gate.idle().await;
        };
        let mut finished = std::pin::pin!(finished);
        let in_time = tokio::time::timeout(settings.drain_timeout, &mut finished);
        let mut is_finished = in_time.await.is_ok();
        if !is_finished {
            let has_calls = self.0.presence.hang_up();
            if has_calls || gate.registry.waiting() > 0 {
                // Who still talks or waits is told, and has a moment to hear it.
                gate.registry.dismiss_all(Reason::Draining);
                is_finished = tokio::time::timeout(DISMISSED, finished).await.is_ok();
            }
        }
        for (address, _) in &self.0.listeners {
            if let Address::Unix(path) = address {
                // The file of a socket outlives it; a missing one is as good as removed.
                drop(std::fs::remove_file(path));
            }
        }
        is_finished
    }

    /// Ends every thread, cuts what is open, and tells what is left of spans and the access log.
    pub fn stop(&self) {
        self.0.exporter.close();
        self.0.stopper.stop();
        self.0.gate.log.close();
    }

    /// Ends every thread and cuts what is open. What is left of spans and the access log is lost: nothing is waited for.
    pub fn stop_at_once(&self) {
        self.0.stopper.stop();
    }
}

/// What generations are made of beside the configuration.
#[derive(Clone, Copy)]
struct Parts<'a> {
    resources: &'a ResourceTable,
    clock: &'a Clock,
    presence: &'a Arc<Presence>,
    overrides: &'a [TemporaryMax],
}

/// Takes the settings out of a configuration and makes a generation of them, keeping what stays the same.
fn generation(
    config: &mut Config,
    number: u64,
    previous: Option<&Generation>,
    parts: &Parts<'_>,
) -> Generation {
    let Parts {
        resources,
        clock,
        presence,
        overrides,
    } = *parts;
    let upstreams: Vec<_> = config
        .upstreams
        .iter()
        .map(|settings| {
            let mut known = previous
                .into_iter()
                .flat_map(|previous| &previous.upstreams);
            let known = known.find(|known| known.name() == settings.name);
            match known {
                Some(same) if same.settings() == settings => Arc::clone(same),
                _ => Arc::new(Upstream::new(
                    settings.clone(),
                    known.map(|known| &**known),
                    clock.clone(),
                )),
            }
        })
        .collect();
    for resource in &config.rules.resources {
        let known = previous.map(|previous| &previous.rules.settings().resources);
        let same = known.and_then(|known| known.iter().find(|of| of.name == resource.name));
        if let Some(same) = same {
            resource.cost.carry_on(&same.cost);
        }
    }
    let mut targets: Vec<_> = upstreams.iter().cloned().map(Target::Upstream).collect();
    if config.presence.is_some() {
        config.rules.plugin = Some((mount::id(&upstreams), mount::credentials(presence)));
        targets.push(mount::target(presence));
    }
    let edits = config.edits.iter().cloned();
    let route = |(resource, edit)| {
        Route::new(resource, &targets, resources).edited_by(mount::editor(presence, edit))
    };
    Generation {
        number,
        rules: Arc::new(Rules::new(std::mem::take(&mut config.rules))),
        policy: Arc::new(Policy::new(
            config.policy.clone().with_temporary(overrides),
            previous.map(|previous| &*previous.policy),
        )),
        routes: config.resources.iter().zip(edits).map(route).collect(),
        upstreams,
        settings: config.server.clone(),
    }
}

fn admin_settings(config: &Config) -> admin::Settings {
    let is_local = match &config.admin.address {
        Address::Tcp(address) => address.ip().is_loopback(),
        Address::Unix(_) => true,
    };
    admin::Settings {
        token: config.admin.token.clone(),
        is_local,
    }
}
