//! The plugin, where it meets the gate: mounted as an upstream, set beside one to edit its answers, asked whose credentials are whose, and moved by time.
//!
//! Only here do the two know each other. Never on the path of a request that goes elsewhere.

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, Method, Version};
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use crate::admission::{AccountName, Decision, Permit, Turn, UpstreamId};
use crate::classify::Credentials;
use crate::head::Head;
use crate::presence::{Admitted, CallPermit, Doors, EditSettings, Editor, Mounted, Presence};
use crate::proxy::plugin::{Boxed, Edit};
use crate::proxy::{Gate, Target, Upstream};
use crate::telemetry::{Request, RequestId, State};

/// The plugin's id as an upstream: behind the last of the others, as `config` counts.
pub(super) fn id(upstreams: &[Arc<Upstream>]) -> UpstreamId {
    UpstreamId(u16::try_from(upstreams.len()).expect("there are at most 1,000 upstreams"))
}

/// The plugin as a target of resources.
pub(super) fn target(presence: &Arc<Presence>) -> Target {
    Target::Plugin(Arc::new(Mounted(Arc::clone(presence))))
}

/// What edits the answers of a resource by what the plugin knows.
pub(super) fn editor(
    presence: &Arc<Presence>,
    settings: Option<EditSettings>,
) -> Option<Arc<dyn Edit>> {
    Some(Arc::new(Editor::new(Arc::clone(presence), settings?)))
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

/// The gate's limits, where calls of the plugin take their places.
#[derive(Debug)]
pub(super) struct Doorway(pub(super) Arc<Gate>);

impl Doors for Doorway {
    fn admit(&self, account: &str, resource: &str, call: &str) -> Boxed<Admitted> {
        let gate = Arc::clone(&self.0);
        // An account's sid is letters and digits.
        let account = AccountName::new(account.as_bytes()).ok();
        let resource: Arc<str> = resource.into();
        let path = format!("/v1/communications/{call}");
        Box::pin(async move {
            let classify = || {
                let generation = gate.generation();
                let class = account.and_then(|name| generation.rules.class_of(name, &resource));
                (Arc::clone(&generation.policy), class)
            };
            let (policy, class) = classify();
            // Where the plugin's section was taken out a moment ago, nothing counts calls.
            let Some(class) = class else { return Ok(None) };
            let mut decision = gate.registry.acquire(&policy, &class, gate.clock.now());
            loop {
                let mut wait = match decision {
                    Decision::Admit(permit) => {
                        let mut seat = call_permit(&gate, permit, class.account, &resource, &path);
                        seat.held_max = gate.generation().hold_up_to(class.resource);
                        return Ok(Some(seat));
                    }
                    Decision::Reject(rejection) => return Err(rejection),
                    Decision::Wait(wait) => wait,
                };
                let left = wait.deadline().saturating_duration_since(gate.clock.now());
                let turn = tokio::time::timeout(left, &mut wait).await;
                let now = gate.clock.now();
                decision = match turn.unwrap_or_else(|_| wait.give_up()) {
                    Turn::Admit(permit) => Decision::Admit(permit),
                    Turn::Reject(rejection) => Decision::Reject(rejection),
                    Turn::Resume(ask) => gate.registry.resume(ask, now),
                    Turn::Renew(ask) => match classify() {
                        (policy, Some(class)) => {
                            gate.registry.resume(ask.renewed(&policy, &class), now)
                        }
                        // The plugin was taken out meanwhile: it waits by the rules it came by.
                        (_, None) => gate.registry.resume(ask, now),
                    },
                };
            }
        })
    }
}

/// Enters a call among all that is in progress, by the address under which it can be read.
fn call_permit(
    gate: &Gate,
    mut permit: Permit,
    account: AccountName,
    resource: &Arc<str>,
    path: &str,
) -> CallPermit {
    let now = gate.clock.now();
    permit.begin(now);
    let head = Head::new(Method::POST, Version::HTTP_11, path);
    let head = Arc::new(head.expect("a call's sid is letters and digits"));
    let (id, upstream) = (gate.live.next_id(), crate::proxy::PLUGIN.into());
    let resource = Arc::clone(resource);
    let request = Request::new(
        account,
        resource,
        upstream,
        head,
        RequestId::new(),
        now,
        id,
        Arc::default(),
    );
    // Its work outlives the request that began it, and is not late for that.
    request.set_state(State::Lease);
    let entered = gate.live.enter(Arc::new(request), Some(&permit));
    CallPermit {
        permit,
        entered,
        held_max: None,
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
