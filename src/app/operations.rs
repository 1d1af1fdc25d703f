//! What the admin API may ask of the running program, answered from its parts.
//!
//! Reads only what is there at that moment, and changes nothing but by a reload. Never waits for a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Inner;
use crate::admin::{self, Ask, Operations};
use crate::admission::{AccountUse, Leases, Policy, Registry, TemporaryFault, Whose};
use crate::classify::{self, Peer};
use crate::config;
use crate::proxy::{Phase, Upstream};
use crate::telemetry::{self, Entered, Live, Sources, State, UpstreamHealth};

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

    fn views(&self) -> &admin::Views {
        &self.views
    }

    fn about(&self) -> Value {
        let gate = &self.gate;
        let decided = gate.resources.decided();
        let decided = decided.iter().map(|((decision, reason), count)| {
            json!({ "decision": decision, "reason": reason, "count": count })
        });
        let presence = self.presence.count().map(|of| {
            json!({ "devices": of.live + of.suspended + of.api, "sockets": of.sockets, "calls": self.presence.stats.calls() })
        });
        let mut about = json!({
            "at": gate.clock.unix_time().as_secs_f64(),
            "version": env!("CARGO_PKG_VERSION"),
            "phase": gate.phase().as_str(),
            "uptime_seconds": self.uptime().as_secs(),
            "connections": gate.stats.connections.load(Ordering::Relaxed),
            "leaks_detected": gate.stats.leaks.load(Ordering::Relaxed),
            "log_lines_dropped": gate.log.dropped(),
            "decisions": decided.collect::<Vec<_>>(),
            "presence": presence,
        });
        let mut facts = self.facts();
        let both = about.as_object_mut().zip(facts.as_object_mut());
        if let Some((about, facts)) = both {
            about.append(facts);
        }
        about
    }

    fn overrides(&self) -> admin::Overrides {
        self.shown_overrides()
    }

    fn override_limit(
        &self,
        limit: &str,
        whose: Whose,
        max: u32,
        lasts: Duration,
    ) -> Result<Value, TemporaryFault> {
        self.begin_override(limit, whose, max, lasts)
    }

    fn end_override(&self, limit: &str, whose: &Whose) -> bool {
        self.end_override_of(limit, whose)
    }

    fn upstreams(&self) -> Value {
        let mut in_flight = BTreeMap::new();
        self.gate.live.each(|request| {
            let is_there = matches!(
                request.state(),
                State::Forwarded | State::Streaming | State::Tunnel
            );
            if is_there {
                *in_flight.entry(Arc::clone(&request.upstream)).or_insert(0) += 1;
            }
        });
        let generation = self.gate.generation();
        let upstreams = generation.upstreams.iter();
        upstreams
            .map(|upstream| self.upstream(upstream, &in_flight))
            .collect()
    }

    fn resources(&self) -> Value {
        let mut in_flight = BTreeMap::new();
        self.gate.live.each_holding(|request| {
            // A lease is no request any more.
            if request.state() != State::Lease {
                *in_flight.entry(Arc::clone(&request.resource)).or_insert(0) += 1;
            }
        });
        let generation = self.gate.generation();
        let resources = generation.rules.settings().resources.iter();
        let row = |resource: &classify::Resource| {
            let totals = self.gate.resources.of(&resource.name).totals();
            json!({
                "name": resource.name,
                "exempt": resource.is_exempt,
                "cost": resource.cost.now(),
                "in_flight": in_flight.get(&*resource.name).copied().unwrap_or(0),
                "admitted": totals.admitted,
                "rejected": totals.rejected,
                "upstream_seconds": {
                    "count": totals.upstream_count,
                    "sum": (totals.upstream_seconds * 1e3).round() / 1e3,
                },
            })
        };
        resources.map(row).collect()
    }

    fn metrics(&self) -> String {
        let generation = self.gate.generation();
        let upstreams = generation.upstreams.iter().map(|upstream| UpstreamHealth {
            name: upstream.name().to_owned(),
            healthy: upstream.healthy_endpoints(),
            endpoints: upstream
                .endpoints()
                .map(|endpoint| (endpoint.name, endpoint.is_healthy, endpoint.ejections))
                .collect(),
        });
        telemetry::exposition(&Sources {
            snapshot: self.gate.registry.snapshot(&generation.policy),
            resources: &self.gate.resources,
            gate: &self.gate.stats,
            live: &self.gate.live,
            leases: &self.gate.leases,
            log: &self.gate.log,
            spans: &self.gate.spans,
            generation: generation.number,
            overrides: (self.shown_overrides().into_iter())
                .map(|(limit, of)| (limit, of.len() as u64))
                .collect(),
            accounts: self.largest_accounts(),
            event_streams: self.views.streams(),
            notifications: self.notifications(),
            upstreams: upstreams.collect(),
            adaptive: generation.policy.adaptive().collect(),
            presence: self
                .presence
                .count()
                .map(|count| (&*self.presence.stats, count)),
            now: self.now(),
        })
    }

    fn configuration(&self) -> Value {
        let mut facts = self.facts();
        facts["yaml"] = self.state.lock().running.text.as_str().into();
        facts
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
        let rules = &generation.rules;
        let running = config::explain::Running {
            registry: &self.gate.registry,
            policy: &generation.policy,
            now: self.now(),
        };
        Ok(json!(config::explain::explain_now(
            &origin, rules, &running, &head, &peer
        )))
    }
}

impl Inner {
    /// Notifications that were delivered, failed and dropped.
    fn notifications(&self) -> (u64, u64, u64) {
        let (delivered, failed) = self.notifier.stats.totals();
        (delivered, failed, self.gate.registry.episodes.dropped())
    }

    /// The accounts that the metrics tell apart, if they do.
    fn largest_accounts(&self) -> Option<Vec<AccountUse>> {
        let top = self.state.lock().running.metrics_accounts?;
        Some(self.gate.registry.accounts(top))
    }

    /// What is in force, without its text.
    fn facts(&self) -> Value {
        let state = self.state.lock();
        json!({
            "generation": self.generation(),
            "loaded_at": config::rfc3339(state.loaded_at),
            "hash": state.running.hash,
            "last_refusal": state.last_refusal,
        })
    }

    /// What is known of one upstream.
    fn upstream(&self, upstream: &Upstream, in_flight: &BTreeMap<Arc<str>, usize>) -> Value {
        // The only endpoint of an upstream has all that is in flight there, and is not counted apart.
        let all = || in_flight.get(upstream.name()).copied().unwrap_or(0);
        let endpoints = upstream.endpoints().map(|endpoint| {
            let until = endpoint
                .ejected_for
                .map(|left| config::rfc3339(self.gate.clock.unix_time() + left));
            json!({
                "address": &*endpoint.name,
                "healthy": endpoint.is_healthy,
                "passes_check": endpoint.passes_check,
                "in_flight": endpoint.in_flight.unwrap_or_else(all),
                "ejected_until": until,
            })
        });
        json!({
            "name": upstream.name(),
            "healthy": upstream.healthy_endpoints(),
            "endpoints": endpoints.collect::<Vec<_>>(),
        })
    }
}
