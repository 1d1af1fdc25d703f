//! The composition root: a configuration in, running parts out; a new configuration in, the same parts changed.
//!
//! Starting binds first and runs last, so that what can fail fails before anything serves. A reload has two phases: prepare all
//! that can fail, then swap what cannot; whatever is refused leaves everything as it was. Shutting down goes by the gate's
//! phases. Never on a request's path.

mod checks;
mod exporter;
mod mount;
mod operations;
mod supervisor;
mod timekeeper;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use pingora_core::services::background::background_service;
use serde_json::{Value, json};
use tokio::sync::Notify;

use exporter::{Exporter, Exporting};
use supervisor::Supervisor;
use timekeeper::Timekeeper;

use crate::admin::{self, Operations};
use crate::admission::{Policy, Reason};
use crate::classify::Rules;
use crate::clock::Clock;
use crate::config::{self, Config, Diagnostic, Report, Secrets};
use crate::presence::Presence;
use crate::proxy::{
    Acceptor, Address, BindError, Bound, Gate, Generation, Hosted, Phase, Prebound, Route, Stopper,
    Target, TlsError, Upstream, server_config,
};
use crate::telemetry::{self, ReloadResult, ResourceTable};

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
}

/// What only reloads and readers of the configuration touch.
#[derive(Debug)]
struct State {
    running: Config,
    rules_origin: config::explain::Origin,
    loaded_at: Duration,
    last_refusal: Option<Value>,
    /// What the watched files looked like when they were last judged.
    seen: Vec<Option<config::Stamp>>,
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
            }),
            listeners: listeners.clone(),
            applied: Notify::new(),
            presence: Arc::clone(&presence),
            exporter: Arc::clone(&exporter),
            gate: Arc::clone(&gate),
        });
        presence.guard(Arc::new(mount::Doorway(Arc::clone(&gate))));
        let mut server = Hosted::new();
        let timekeeper = Timekeeper(Arc::clone(&gate));
        let data = crate::proxy::App::new(gate, listeners);
        server.add(Prebound::new("data", data, bound, threads).closed_by(&stopper));
        let api = admin::App::new(Arc::clone(&inner) as Arc<dyn Operations>);
        server.add(Prebound::new("admin", api, vec![admin], 1));
        server.add(background_service(
            "supervisor",
            Supervisor(Arc::clone(&inner)),
        ));
        server.add(background_service("presence", mount::Ticking(presence)));
        server.add(background_service("timekeeper", timekeeper));
        server.add(background_service("traces", Exporting(exporter)));
        let spawned = server.spawn(stopper);
        spawned.map_err(StartError::system("cannot start a thread"))?;
        Ok(Self(inner))
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
                // pingora leaves the file behind; a missing one is as good as removed.
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
}

/// What generations are made of beside the configuration.
#[derive(Clone, Copy)]
struct Parts<'a> {
    resources: &'a ResourceTable,
    clock: &'a Clock,
    presence: &'a Arc<Presence>,
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
        rules: Rules::new(std::mem::take(&mut config.rules)),
        policy: Arc::new(Policy::new(
            std::mem::take(&mut config.policy),
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

impl Inner {
    fn reload(&self) -> admin::Reload {
        let mut state = self.state.lock();
        let judged = config::load(&self.path, Secrets::Required);
        let seen = state.running.stamps();
        let are_files_unchanged = seen == state.seen;
        state.seen = seen;
        let config = match judged {
            Ok(config) => config,
            Err(report) => return self.refuse(&mut state, &report),
        };
        if config.hash == state.running.hash && are_files_unchanged {
            // Whoever rotates logs moves the file and sends HUP.
            if let Err(report) = self.open_log(&config, &state.running) {
                return self.refuse(&mut state, &report);
            }
            self.gate.stats.count_reload(ReloadResult::Unchanged);
            return self.in_force("unchanged", &[]);
        }
        let running = self.gate.generation();
        match self.prepare(&state, config, &running) {
            Err(report) => self.refuse(&mut state, &report),
            Ok((config, prepared)) => self.commit(&mut state, config, prepared, &running),
        }
    }

    /// Does all that can fail, and changes nothing.
    fn prepare(
        &self,
        state: &State,
        mut config: Config,
        running: &Generation,
    ) -> Result<(Config, Prepared), Report> {
        let diagnostics = config::needs_restart(&state.running, &config);
        if !diagnostics.is_empty() {
            return Err(Report { diagnostics });
        }
        let listeners = config.server.listeners.iter();
        let tls = listeners.map(|listener| listener.tls.as_ref().map(server_config).transpose());
        let tls: Result<Vec<_>, TlsError> = tls.collect();
        let tls = tls.map_err(|error| config.refusal("tls", &chain(&error)))?;
        self.open_log(&config, &state.running)?;
        let parts = Parts {
            resources: &self.gate.resources,
            clock: &self.gate.clock,
            presence: &self.presence,
        };
        let generation = generation(&mut config, running.number + 1, Some(running), &parts);
        Ok((config, Prepared { generation, tls }))
    }

    /// Opens the access log where it is new, and a file anew.
    fn open_log(&self, config: &Config, running: &Config) -> Result<(), Report> {
        let is_file = matches!(config.access_log.target, telemetry::LogTarget::File(_));
        if config.access_log == running.access_log && !is_file {
            return Ok(());
        }
        let opened = self
            .gate
            .log
            .open(&config.access_log, self.gate.clock.clone());
        opened.map_err(|error| {
            config.refusal(
                "access_log",
                &format!("cannot open the access log: {error}"),
            )
        })
    }

    /// Swaps everything in; nothing here can fail.
    fn commit(
        &self,
        state: &mut State,
        config: Config,
        prepared: Prepared,
        running: &Generation,
    ) -> admin::Reload {
        let Prepared { generation, tls } = prepared;
        for ((_, acceptor), tls) in self.listeners.iter().zip(tls) {
            match (acceptor.load_full(), tls) {
                (Some(acceptor), Some(tls)) => acceptor.swap(tls),
                (None, Some(tls)) => acceptor.store(Some(Arc::new(Acceptor::of(tls)))),
                (_, None) => acceptor.store(None),
            }
        }
        let fresh = generation.policy.counting_from_zero(&running.policy);
        let presence = config.presence.clone();
        self.presence.configure(presence.unwrap_or_default());
        self.exporter.configure(config.traces.clone());
        self.gate.apply(generation);
        self.applied.notify_one();
        self.admin.store(Arc::new(admin_settings(&config)));
        let mut warnings: Vec<Value> = config.warnings.iter().map(|found| json!(found)).collect();
        warnings.extend(fresh.iter().map(|name| {
            json!({
                "severity": "warning",
                "code": "counts_from_zero",
                "message": format!(
                    "limit `{name}` counts something else than before, so it begins at zero; \
                     what is in flight is not in its count"
                ),
            })
        }));
        state.rules_origin = config.origin();
        state.seen = config.stamps();
        state.running = config;
        state.loaded_at = self.gate.clock.unix_time();
        self.gate.stats.count_reload(ReloadResult::Applied);
        self.in_force("applied", &warnings)
    }

    fn in_force(&self, result: &str, warnings: &[Value]) -> admin::Reload {
        let generation = self.gate.generation().number;
        tracing::info!(
            generation,
            result,
            warnings = warnings.len(),
            "configuration reloaded"
        );
        let answer = json!({ "generation": generation, "result": result, "warnings": warnings });
        admin::Reload {
            is_in_force: true,
            answer,
        }
    }

    fn refuse(&self, state: &mut State, report: &Report) -> admin::Reload {
        let generation = self.gate.generation().number;
        tracing::error!(
            generation,
            "configuration refused, the running one stays\n{report}"
        );
        self.gate.stats.count_reload(ReloadResult::Refused);
        let at = config::rfc3339(self.gate.clock.unix_time());
        let diagnostics: &[Diagnostic] = &report.diagnostics;
        state.last_refusal = Some(json!({ "at": at, "diagnostics": diagnostics }));
        let answer = json!({
            "generation": generation,
            "result": "refused",
            "diagnostics": diagnostics,
        });
        admin::Reload {
            is_in_force: false,
            answer,
        }
    }

    /// Whether a file has changed since it was last judged.
    fn is_stale(&self) -> bool {
        let state = self.state.lock();
        state.running.stamps() != state.seen
    }
}

/// An error with its causes, once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
