//! The admin API: what operators and Prometheus ask, and the few things they may change.
//!
//! A hyper server on a thread of its own, so that it answers while the data plane is saturated. It reads cells and live
//! requests itself and asks [`Operations`], which `app` implements, for the rest. Bodies, connections and answers are
//! bounded; a panic in a handler is a 500. Never knows how requests are forwarded, nor the configuration file.

mod api;
mod candidate;
mod events;
mod guard;
mod history;
mod host;
mod lease;
mod overview;
mod page;
mod temporary;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::admission::{Leases, Policy, Registry, Snapshot, TemporaryFault, Whose};
use crate::telemetry::{Entered, Live};

pub use history::STEP_SECONDS;
pub use host::App;

/// What the admin API is told.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The bearer token that every call but `/live` and `/ready` must show.
    pub token: Option<String>,
    /// Whether it can be reached from this machine only.
    pub is_local: bool,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Settings")
            .field("token", &token)
            .field("is_local", &self.is_local)
            .finish()
    }
}

/// How a reload ended.
#[derive(Debug)]
pub struct Reload {
    /// Whether the file's configuration is in force now.
    pub is_in_force: bool,
    /// What to tell, as JSON.
    pub answer: Value,
}

/// A request to be explained.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The method; `GET` if left out.
    #[serde(default = "Ask::get")]
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header fields.
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, String>,
    /// The client's address.
    pub client: Option<std::net::IpAddr>,
}

impl Ask {
    fn get() -> String {
        "GET".into()
    }
}

/// What those who look at the live page are shown: the last minutes, and the moment.
#[derive(Debug, Clone, Default)]
pub struct Views(Arc<events::Events>);

impl Views {
    /// Adds a point to the last minutes. To be called every [`STEP_SECONDS`].
    pub fn note(&self, unix_seconds: u64, snapshot: &Snapshot) {
        self.0.history.note(unix_seconds, snapshot);
    }

    /// Ends all event streams, because who may look has changed.
    pub fn end_streams(&self) {
        self.0.end_all();
    }

    /// Event streams that are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.0.count()
    }
}

/// Temporary overrides by limit, as they are shown.
pub type Overrides = std::collections::BTreeMap<Arc<str>, Vec<Value>>;

/// What the admin API asks of the running program.
pub trait Operations: Send + Sync + 'static {
    /// What the admin API is told at this moment.
    fn settings(&self) -> Settings;
    /// Listening, configured, and not shutting down.
    fn is_ready(&self) -> bool;
    /// The generation in force.
    fn generation(&self) -> u64;
    /// The limits in force.
    fn policy(&self) -> Arc<Policy>;
    /// All counts.
    fn registry(&self) -> &Registry;
    /// Requests in progress.
    fn live(&self) -> &Live;
    /// Permits that outlived their response.
    fn leases(&self) -> &Leases<Entered>;
    /// Now.
    fn now(&self) -> Instant;
    /// Since the program started.
    fn uptime(&self) -> Duration;
    /// What there is to look at over time.
    fn views(&self) -> &Views;
    /// The gate as a whole: version, generation, phase, decisions so far, the last refused reload.
    fn about(&self) -> Value;
    /// Temporary overrides in force, by limit, each as the admin API shows it.
    fn overrides(&self) -> Overrides;
    /// Puts a maximum in force for a while, instead of one for the same keys if there is one; or says why that cannot be.
    fn override_limit(
        &self,
        limit: &str,
        whose: Whose,
        max: u32,
        lasts: Duration,
    ) -> Result<Value, TemporaryFault>;
    /// Ends one before its time; false if there is none.
    fn end_override(&self, limit: &str, whose: &Whose) -> bool;
    /// Names, endpoints and health of the upstreams.
    fn upstreams(&self) -> Value;
    /// Names, costs and figures of the resources.
    fn resources(&self) -> Value;
    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// The configuration in force, and the last one refused.
    fn configuration(&self) -> Value;
    /// Reads the configuration file again.
    fn reload(&self) -> Reload;
    /// What would become of a request, or why that cannot be told.
    fn explain(&self, ask: &Ask) -> Result<Value, String>;
}
