//! The one who keeps the time for requests that wait for what time gives back.
//!
//! It sleeps until the domain's next instant, and is woken when an earlier one comes. A service of its own, and so a thread of its
//! own: the supervisor may take long over a reload, and whoever waits for a pace is not to wait for that. The timer counts
//! milliseconds and rounds up: who waits is served up to two late, and never early.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use crate::proxy::Gate;

/// Serves those who wait, at their instants.
pub(super) struct Timekeeper(pub(super) Arc<Gate>);

impl Timekeeper {
    async fn keep(&self) {
        let Gate {
            registry, clock, ..
        } = &*self.0;
        let mut due: Option<Instant> = None;
        loop {
            let earlier = poll_fn(|cx| registry.poll_due(due, cx));
            let Some(at) = due else {
                due = Some(earlier.await);
                continue;
            };
            let left = at.saturating_duration_since(clock.now());
            tokio::select! {
                earlier = earlier => due = Some(earlier),
                () = tokio::time::sleep(left) => {
                    registry.serve_due(clock.now());
                    due = registry.next_due();
                }
            }
        }
    }
}

#[async_trait]
impl BackgroundService for Timekeeper {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.keep() => {}
            _ = shutdown.changed() => {}
        }
    }
}
