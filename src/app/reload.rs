//! Reloading: judge the file, prepare all that can fail, then swap what cannot.
//!
//! Whatever is refused leaves everything as it was, and is kept to be looked at. Never on a request's path.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Inner, Parts, Prepared, State, admin_settings, generation};
use crate::admin;
use crate::config::{self, Config, Diagnostic, Report, Secrets};
use crate::proxy::{Acceptor, Generation, TlsError, server_config};
use crate::telemetry::{self, ReloadResult};

impl Inner {
    pub(super) fn reload(&self) -> admin::Reload {
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
            overrides: &state.overrides,
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
        self.notifier.follow(config.notify.as_ref(), &self.gate);
        let admin = Arc::new(admin_settings(&config));
        if *self.admin.swap(Arc::clone(&admin)) != *admin {
            self.views.end_streams();
        }
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
        warnings.extend(state.prune_overrides(&config.policy).iter().map(|name| {
            json!({
                "severity": "warning",
                "code": "override_ended",
                "message": format!("a temporary override of the limit `{name}` ended: there is no such limit or group any more"),
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
        // Nobody reads the answer where the file itself was noticed.
        for warning in warnings {
            let (code, message) = (warning["code"].as_str(), warning["message"].as_str());
            tracing::warn!(code, "{}", message.unwrap_or_default());
        }
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
    pub(super) fn is_stale(&self) -> bool {
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
