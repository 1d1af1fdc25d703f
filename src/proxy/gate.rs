//! What all connections share: the configuration in force, the counts, and the way to shut down.
//!
//! One pointer swap puts a new generation in force; a request loads it once and keeps it to its end. Each thread keeps a
//! reference of its own, so that threads do not meet on a reference count. Never holds a generation longer than the
//! last request that began under it, and one a thread.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::plugin::{Edit, Plugin};
use super::settings::{Departed, ResourceSettings, Settings, StreamPolicy};
use super::upstream::Upstream;
use crate::admission::{Leases, Policy, Registry, ResourceId, UpstreamId};
use crate::classify::Rules;
use crate::clock::Clock;
use crate::telemetry::{AccessLog, Entered, GateStats, Live, ResourceStats, ResourceTable, Spans};

/// One configuration at work; never changed after it is made.
#[derive(Debug)]
pub struct Generation {
    /// Counts up from 1.
    pub number: u64,
    /// What requests are.
    pub rules: Arc<Rules>,
    /// What they may take.
    pub policy: Arc<Policy>,
    /// What is done with them, by resource.
    pub routes: Arc<[Route]>,
    /// By [`crate::admission::UpstreamId`].
    pub upstreams: Vec<Arc<Upstream>>,
    /// What holds for all.
    pub settings: Settings,
}

/// What is done with requests of one resource.
#[derive(Debug)]
pub struct Route {
    pub(super) name: Arc<str>,
    pub(super) target: Target,
    pub(super) stream: StreamPolicy,
    pub(super) departed: Departed,
    pub(super) completion: Option<Duration>,
    pub(super) edit: Option<Arc<dyn Edit>>,
    pub(super) stats: Arc<ResourceStats>,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub enum Target {
    /// To an API behind the gate.
    Upstream(Arc<Upstream>),
    /// To what is mounted inside it.
    Plugin(Arc<dyn Plugin>),
}

/// The name of the plugin, as an upstream.
pub const PLUGIN: &str = "presence";

impl Target {
    /// The name that users see.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Upstream(upstream) => upstream.name(),
            Self::Plugin(_) => PLUGIN,
        }
    }
}

impl Generation {
    /// The same under other limits.
    #[must_use]
    pub fn with_policy(&self, policy: Arc<Policy>) -> Self {
        Self {
            number: self.number,
            rules: Arc::clone(&self.rules),
            policy,
            routes: Arc::clone(&self.routes),
            upstreams: self.upstreams.clone(),
            settings: self.settings.clone(),
        }
    }

    /// How long work of a resource may hold its place after its answer, if the configuration bounds it.
    #[must_use]
    pub fn hold_up_to(&self, of: ResourceId) -> Option<Duration> {
        self.routes.get(usize::from(of.0))?.completion
    }

    /// Healthy endpoints of one upstream.
    #[must_use]
    pub fn healthy_endpoints(&self, of: UpstreamId) -> usize {
        self.upstreams[usize::from(of.0)].healthy_endpoints()
    }
}

impl Route {
    /// A route to one of the targets, writing to the figures of that resource.
    #[must_use]
    pub fn new(settings: &ResourceSettings, targets: &[Target], table: &ResourceTable) -> Self {
        Self {
            name: settings.name.as_str().into(),
            target: targets[usize::from(settings.upstream.0)].clone(),
            stream: settings.stream,
            departed: settings.departed,
            completion: settings.completion,
            edit: None,
            stats: table.of(&settings.name),
        }
    }

    /// The same with an editor of its answers, or without.
    #[must_use]
    pub fn edited_by(self, edit: Option<Arc<dyn Edit>>) -> Self {
        Self { edit, ..self }
    }
}

/// How far shutting down has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Serving.
    Running,
    /// Not ready any more; the listeners are still open.
    Draining,
    /// Listeners are closed; HTTP/1.1 answers say `connection: close`, HTTP/2 sends GOAWAY.
    Closing,
    /// Idle connections are closed; the others after their answer.
    Shutdown,
}

impl Phase {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            // How far it has come is nothing that anybody could act on.
            Self::Draining | Self::Closing | Self::Shutdown => "draining",
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub struct Gate {
    current: ArcSwap<Generation>,
    /// Every count.
    pub registry: Arc<Registry>,
    /// Requests in progress.
    pub live: Arc<Live>,
    /// Permits that outlived their response.
    pub leases: Leases<Entered>,
    /// Figures of the gate as a whole.
    pub stats: GateStats,
    /// Figures by resource.
    pub resources: ResourceTable,
    /// The access log.
    pub log: AccessLog,
    /// The way to whoever exports spans.
    pub spans: Spans,
    /// The time.
    pub clock: Clock,
    phase: AtomicU8,
    phase_changed: Notify,
    /// Told when the last connection closes while shutting down.
    idle: Notify,
}

/// A thread's own reference to the generation in force.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) gate: Arc<Gate>,
    pub(super) generation: Arc<Generation>,
    /// By resource.
    pub(super) names: Vec<Names>,
}

/// Names of a resource, each with a reference count that only one thread touches.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) resource: Arc<str>,
    pub(super) upstream: Arc<str>,
}

impl Names {
    /// The names of what has no resource.
    pub(super) fn none() -> Self {
        Self {
            resource: "-".into(),
            upstream: "-".into(),
        }
    }
}

thread_local! {
    static LOCAL: RefCell<Option<Arc<Local>>> = const { RefCell::new(None) };
}

impl Gate {
    /// A gate that serves by the given generation.
    #[must_use]
    pub fn new(first: Generation, resources: ResourceTable, clock: Clock) -> Self {
        first
            .policy
            .follow_endpoints(|of| first.healthy_endpoints(of));
        Self {
            current: ArcSwap::from_pointee(first),
            registry: Registry::new(),
            live: Arc::default(),
            leases: Leases::new(clock.now()),
            stats: GateStats::default(),
            resources,
            log: AccessLog::default(),
            spans: Spans::default(),
            clock,
            phase: AtomicU8::new(Phase::Running as u8),
            phase_changed: Notify::new(),
            idle: Notify::new(),
        }
    }

    /// The generation in force.
    #[must_use]
    pub fn generation(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Puts a generation in force: the one step of a reload that cannot fail.
    pub fn apply(&self, generation: Generation) {
        let policy = Arc::clone(&generation.policy);
        policy.follow_endpoints(|of| generation.healthy_endpoints(of));
        let generation = Arc::new(generation);
        self.registry
            .apply_with(&policy, || self.current.store(generation));
    }

    /// This thread's reference to the generation in force.
    pub(super) fn local(self: &Arc<Self>) -> Arc<Local> {
        let current = self.current.load();
        let known = LOCAL.try_with(|local| {
            let local = local.borrow();
            let local = local.as_ref()?;
            let is_current =
                Arc::ptr_eq(&local.generation, &current) && Arc::ptr_eq(&local.gate, self);
            is_current.then(|| Arc::clone(local))
        });
        if let Ok(Some(known)) = known {
            return known;
        }
        let generation = Arc::clone(&current);
        let own = |route: &Route| Names {
            resource: Arc::from(&*route.name),
            upstream: Arc::from(route.target.name()),
        };
        let names = generation.routes.iter().map(own).collect();
        let local = Arc::new(Local {
            gate: Arc::clone(self),
            generation,
            names,
        });
        drop(LOCAL.try_with(|known| known.replace(Some(Arc::clone(&local)))));
        local
    }

    /// How far shutting down has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            2 => Phase::Closing,
            _ => Phase::Shutdown,
        }
    }

    /// Goes on to the next phase of shutting down and wakes every connection.
    pub fn enter_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
        self.phase_changed.notify_waiters();
    }

    /// Waits for the phase to change.
    pub(super) fn phase_changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.phase_changed.notified()
    }

    /// Waits until no connection and no tunnel is open.
    pub async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.stats.connections.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Counts a connection or a tunnel until the guard is dropped.
    pub(super) fn open(self: &Arc<Self>) -> Open {
        self.stats.connections.fetch_add(1, Ordering::AcqRel);
        Open(Arc::clone(self))
    }
}

/// One open connection or tunnel.
#[derive(Debug)]
pub(super) struct Open(Arc<Gate>);

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.stats.connections.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
