//! The one who keeps the time: for requests that wait for what time gives back, and for leases.
//!
//! It sleeps until the domain's next instant, and is woken when an earlier one comes. A service of its own, and so a thread of its
//! own: the supervisor may take long over a reload, and whoever waits for a pace is not to wait for that. The timer counts
//! milliseconds and rounds up: who waits is served up to two late, and never early.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use crate::proxy::Gate;

/// Serves those who wait, and ends leases, at their instants.
pub(super) struct Timekeeper(pub(super) Arc<Gate>);

impl Timekeeper {
    /// Does what is due at the first instant of all, again and again; `poll` tells of an earlier one than is known.
    async fn keep(
        &self,
        poll: impl Fn(Option<Instant>, &mut Context<'_>) -> Poll<Instant>,
        serve: impl Fn(Instant) -> Option<Instant>,
    ) {
        let clock = &self.0.clock;
        let mut due: Option<Instant> = None;
        loop {
            let earlier = poll_fn(|cx| poll(due, cx));
            let Some(at) = due else {
                due = Some(earlier.await);
                continue;
            };
            let left = at.saturating_duration_since(clock.now());
            tokio::select! {
                earlier = earlier => due = Some(earlier),
                () = tokio::time::sleep(left) => due = serve(clock.now()),
            }
        }
    }

    fn expire_leases(&self, now: Instant) -> Option<Instant> {
        let leases = &self.0.leases;
        let expired = leases.expire(now);
        if expired > 0 {
            tracing::warn!(expired, "leases expired that nobody released");
        }
        leases.next_due()
    }
}

#[async_trait]
impl BackgroundService for Timekeeper {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Gate {
            registry, leases, ..
        } = &*self.0;
        let waiters = self.keep(
            |known, cx| registry.poll_due(known, cx),
            |now| {
                registry.serve_due(now);
                registry.next_due()
            },
        );
        let leases = self.keep(
            |known, cx| leases.poll_due(known, cx),
            |now| self.expire_leases(now),
        );
        tokio::select! {
            () = waiters => {}
            () = leases => {}
            _ = shutdown.changed() => {}
        }
    }
}
