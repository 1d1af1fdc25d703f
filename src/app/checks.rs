//! The health checks that run: one task for each upstream that wants to be asked.
//!
//! pingora takes no services after its start, so all of them hang in the supervisor, which follows the generations: an
//! upstream that stays the same through a reload keeps its task, one that went loses it. Never holds up the supervisor.

use std::sync::Arc;

use tokio::task::AbortHandle;

use crate::proxy::Upstream;

/// The tasks, each with its upstream.
#[derive(Debug, Default)]
pub(super) struct Checks(Vec<(Arc<Upstream>, AbortHandle)>);

impl Checks {
    /// Begins and ends tasks so that exactly these upstreams are asked.
    pub(super) fn follow(&mut self, upstreams: &[Arc<Upstream>]) {
        self.0.retain(|(known, task)| {
            let stays = upstreams
                .iter()
                .any(|upstream| Arc::ptr_eq(upstream, known));
            if !stays {
                task.abort();
            }
            stays
        });
        for upstream in upstreams {
            if upstream.settings().health_check.is_none() {
                upstream.forget_checks();
            } else if !self.0.iter().any(|(known, _)| Arc::ptr_eq(upstream, known)) {
                let task = tokio::spawn(Arc::clone(upstream).keep_checking());
                self.0.push((Arc::clone(upstream), task.abort_handle()));
            }
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        for (_, task) in &self.0 {
            task.abort();
        }
    }
}
