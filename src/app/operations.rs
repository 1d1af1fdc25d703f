//! What the admin API may ask of the running program, answered from its parts.
//!
//! Reads only what is there at that moment, and changes nothing but by a reload. Never waits for a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Inner;
use crate::admin::{self, Ask, Operations};
use crate::admission::{Leases, Policy, Registry};
use crate::classify::Peer;
use crate::config;
use crate::proxy::Phase;
use crate::telemetry::{self, Entered, Live, Sources};

impl Operations for Inner {
    fn settings(&self) -> admin::Settings {
        self.admin.load().as_ref().clone()
    }

    fn is_ready(&self) -> bool {
        self.gate.phase() == Phase::Running
    }

    fn generation(&self) -> u64 {
        self.gate.generation().number
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.gate.generation().policy)
    }

    fn registry(&self) -> &Registry {
        &self.gate.registry
    }

    fn live(&self) -> &Live {
        &self.gate.live
    }

    fn leases(&self) -> &Leases<Entered> {
        &self.gate.leases
    }

    fn now(&self) -> Instant {
        self.gate.clock.now()
    }

    fn uptime(&self) -> Duration {
        self.now().saturating_duration_since(self.started)
    }

    fn upstreams(&self) -> Value {
        let generation = self.gate.generation();
        let upstreams = generation.upstreams.iter().map(|upstream| {
            json!({
                "name": upstream.name(),
                "endpoints": [upstream.settings().endpoint.to_string()],
                "healthy": upstream.is_up(),
            })
        });
        upstreams.collect()
    }

    fn metrics(&self) -> String {
        let generation = self.gate.generation();
        let upstreams = generation.upstreams.iter();
        telemetry::exposition(&Sources {
            snapshot: self.gate.registry.snapshot(&generation.policy),
            resources: &self.gate.resources,
            gate: &self.gate.stats,
            live: &self.gate.live,
            leases: &self.gate.leases,
            log: &self.gate.log,
            generation: generation.number,
            upstreams: upstreams.map(|of| (of.name().into(), of.is_up())).collect(),
            now: self.now(),
        })
    }

    fn configuration(&self) -> Value {
        let state = self.state.lock();
        json!({
            "generation": self.generation(),
            "loaded_at": config::rfc3339(state.loaded_at),
            "hash": state.running.hash,
            "yaml": state.running.text,
            "last_refusal": state.last_refusal,
        })
    }

    fn reload(&self) -> admin::Reload {
        Self::reload(self)
    }

    fn explain(&self, ask: &Ask) -> Result<Value, String> {
        let mut request = http::Request::builder()
            .method(ask.method.as_str())
            .uri(&ask.path);
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(())
            .map_err(|error| format!("this is no request: {error}"))?;
        let (head, ()) = request.into_parts();
        if !head.uri.path().starts_with('/') && head.uri.path() != "*" {
            return Err("the path begins with a slash, or is a whole URL".to_owned());
        }
        let generation = self.gate.generation();
        let trusted = generation.settings.trusted_proxies.clone();
        let peer = Peer {
            address: ask.client,
            common_name: None,
            trusted,
        };
        let origin = self.state.lock().rules_origin.clone();
        let (rules, policy) = (&generation.rules, &generation.policy);
        Ok(json!(config::explain::explain(
            &origin, rules, policy, &head, &peer
        )))
    }
}
