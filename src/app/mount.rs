//! The plugin, where it meets the gate: mounted as an upstream, asked whose credentials are whose, and moved by time.
//!
//! Only here do the two know each other. Never on the path of a request that goes elsewhere.

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use crate::admission::{AccountName, UpstreamId};
use crate::classify::Credentials;
use crate::presence::{Mounted, Presence};
use crate::proxy::{Target, Upstream};

/// The plugin's id as an upstream: behind the last of the others, as `config` counts.
pub(super) fn id(upstreams: &[Arc<Upstream>]) -> UpstreamId {
    UpstreamId(u16::try_from(upstreams.len()).expect("there are at most 1,000 upstreams"))
}

/// The plugin as a target of resources.
pub(super) fn target(presence: &Arc<Presence>) -> Target {
    Target::Plugin(Arc::new(Mounted(Arc::clone(presence))))
}

/// The plugin as a verifier of its credentials.
pub(super) fn credentials(presence: &Arc<Presence>) -> Arc<dyn Credentials> {
    Arc::new(Verifying(Arc::clone(presence)))
}

#[derive(Debug)]
struct Verifying(Arc<Presence>);

impl Credentials for Verifying {
    fn account(&self, headers: &HeaderMap) -> Option<AccountName> {
        let sid = self.0.account_of(headers)?;
        AccountName::new(sid.as_bytes()).ok()
    }
}

/// What time moves in the plugin, on a thread of its own.
pub(super) struct Ticking(pub(super) Arc<Presence>);

#[async_trait]
impl BackgroundService for Ticking {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = Arc::clone(&self.0).run() => {}
            _ = shutdown.changed() => {}
        }
    }
}
