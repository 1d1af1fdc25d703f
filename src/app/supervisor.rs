//! What happens beside the requests: sweeping, auditing, moving maxima, watching files, asking endpoints whether they are well.
//!
//! One service for all of it, as pingora takes none after its start. Never holds up a request.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use super::Inner;
use super::checks::Checks;
use crate::admin;
use crate::telemetry::Auditor;

/// How often cells are swept, leaks are looked for, and files are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Ticks in one interval of the peaks.
const PEAK_TICKS: u32 = 6;

/// What happens beside the requests: sweeping, auditing, watching files, asking endpoints whether they are well.
pub(super) struct Supervisor(pub(super) Arc<Inner>);

#[async_trait]
impl BackgroundService for Supervisor {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let gate = &self.0.gate;
        let mut auditor = Auditor::default();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut checks = Checks::default();
        let mut tick = 0u32;
        let mut turned = gate.clock.now();
        loop {
            checks.follow(&gate.generation().upstreams);
            tokio::select! {
                _ = ticks.tick() => tick = tick.wrapping_add(1),
                () = self.0.applied.notified() => continue,
                _ = shutdown.changed() => return,
            }
            let generation = gate.generation();
            let policy = Arc::clone(&generation.policy);
            gate.registry
                .serve_risen(policy.follow_endpoints(|of| generation.healthy_endpoints(of)));
            let now = gate.clock.now();
            gate.registry.serve_risen(policy.adapt(now));
            gate.registry.sweep(now);
            policy.turn_rates(now.saturating_duration_since(turned));
            turned = now;
            if tick.is_multiple_of(admin::STEP_SECONDS) {
                let at = gate.clock.unix_time().as_secs();
                self.0.views.note(at, &gate.registry.snapshot(&policy));
            }
            self.0.expire_overrides(now);
            if tick.is_multiple_of(PEAK_TICKS) {
                gate.registry.turn_peaks(&policy);
            }
            let leaks = tokio::select! {
                leaks = auditor.scan(&gate.registry, &policy, &gate.live) => leaks,
                _ = shutdown.changed() => return,
            };
            if leaks > 0 {
                gate.stats.leaks.fetch_add(leaks, Ordering::Relaxed);
                tracing::error!(leaks, "counts stand apart from the live requests");
            }
            if self.0.is_stale() {
                self.0.reload();
            }
        }
    }
}
