//! Whom other servers have: asked all at once, and answered from what is registered here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::presence::account::Account;
use crate::presence::fault::Fault;
use crate::presence::fetch::egress::Egress;
use crate::presence::fetch::{Fetcher, Limits, Outgoing, Wanted};
use crate::presence::name::Name;
use crate::presence::plugin::{Live, Presence};
use crate::presence::registry::session::SessionRef;
use crate::presence::routing::{self, Device, Party, Place, Verdict};
use crate::presence::settings::Peer;
use crate::presence::subscription::form::write;
use crate::presence::token::peer;
use crate::proxy::plugin::Boxed;

/// How long a call waits for its peers.
const PATIENCE: Duration = Duration::from_millis(300);
/// Longest answer: a thousand devices.
const ANSWER_MAX: usize = 2 * 1024 * 1024;
/// Identities of one question.
const IDENTITIES_MAX: usize = 1_000;

/// What a peer asks: `POST /v1/presence/query` with its token.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::presence) struct Question {
    account: String,
    scope: String,
    identities: Vec<Name>,
}

/// What it is told: who is registered here, and whether each can be rung.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    devices: Vec<Registered>,
    /// What is shown of each.
    presence: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Registered {
    identity: Name,
    device: Name,
    app: Name,
    epoch: u64,
    verdict: String,
    #[serde(default)]
    unwilling: bool,
    calls: u32,
    handled: u64,
}

type Found = (Vec<Device>, Vec<Arc<str>>);

impl Presence {
    /// What the peers know of these, and which of them did not say in time.
    pub(in crate::presence) fn ask_peers(
        &self,
        account: &Account,
        parties: &[Party],
    ) -> Boxed<Found> {
        let who = parties.iter().map(|party| party.identity.clone());
        let answers = self.ask_all(account, who.collect());
        Box::pin(async move {
            let (mut found, mut silent) = Found::default();
            for (node, answer) in answers.await {
                match answer {
                    Some(answer) => {
                        let devices = answer.devices.into_iter();
                        found.extend(devices.filter_map(|of| of.device(&node)));
                    }
                    None => silent.push(node),
                }
            }
            (found, silent)
        })
    }

    /// What is shown of these at the peers: one map by identity for each peer that said so in time.
    pub(in crate::presence) fn shown_at_peers(
        &self,
        account: &Account,
        who: Vec<Name>,
    ) -> Boxed<Vec<Map<String, Value>>> {
        let answers = self.ask_all(account, who);
        Box::pin(async move {
            let answers = answers.await.into_iter();
            answers
                .filter_map(|(_, answer)| Some(answer?.presence))
                .collect()
        })
    }

    /// Asks all peers at once.
    fn ask_all(
        &self,
        account: &Account,
        identities: Vec<Name>,
    ) -> Boxed<Vec<(Arc<str>, Option<Answer>)>> {
        let live = self.live();
        let Some(peers) = live.settings.peers.clone() else {
            return Box::pin(std::future::ready(Vec::new()));
        };
        let question = Question {
            account: account.sid.clone(),
            scope: "local".into(),
            identities,
        };
        let (fetcher, body) = (self.fetcher(), Bytes::from(write(&question)));
        let (node, now) = (live.settings.node.clone(), self.clock.unix_time());
        Box::pin(async move {
            let asked = peers.nodes.iter().map(|to| async {
                let token = peer::sign(&peers, &node, to, now);
                let answer = ask(&fetcher, to, &token, body.clone()).await;
                (Arc::from(to.name.as_str()), answer)
            });
            join_all(asked).await
        })
    }
}

async fn ask(fetcher: &Fetcher, to: &Peer, token: &str, body: Bytes) -> Option<Answer> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(AUTHORIZATION, format!("Bearer {token}").try_into().ok()?);
    let outgoing = Outgoing {
        method: Method::POST,
        url: format!("{}/v1/presence/query", to.url).parse().ok()?,
        headers,
        body,
        limits: Limits::within(PATIENCE),
        wanted: Wanted::Body(ANSWER_MAX),
    };
    let answer = fetcher.send(outgoing, Egress::Trusted).await.ok()?;
    let is_good = answer.status == StatusCode::OK;
    is_good.then(|| serde_json::from_slice(&answer.body).ok())?
}

impl Registered {
    fn device(self, node: &Arc<str>) -> Option<Device> {
        Some(Device {
            verdict: Verdict::of_word(&self.verdict)?,
            is_unwilling: self.unwilling,
            session: SessionRef {
                identity: self.identity,
                device: self.device,
                app: self.app,
                epoch: self.epoch,
            },
            place: Place::Node(Arc::clone(node)),
            load: (self.calls, self.handled),
        })
    }
}

/// Which peer asks, if it is one.
pub(in crate::presence) fn verified<'l>(
    live: &'l Live,
    token: &str,
    now: Duration,
) -> Option<&'l Peer> {
    let peers = live.settings.peers.as_ref()?;
    peer::verify(peers, &live.settings.node, token, now).ok()
}

/// Answers a peer, from what is registered here alone.
pub(in crate::presence) fn answer(live: &Live, question: &Question) -> Result<String, Fault> {
    if question.scope != "local" || question.identities.len() > IDENTITIES_MAX {
        return Err(Fault::bad(
            "a peer asks about up to 1,000 identities, with `scope: local`",
        ));
    }
    let mut accounts = live.accounts.iter();
    let account = accounts.find(|of| of.sid == question.account);
    let account = account.ok_or_else(|| Fault::not_found("this account is not configured here"))?;
    let (devices, presence) = account.with(|state| {
        let presence = question.identities.iter().map(|identity| {
            let item = state.registry.item(identity, true);
            let item = serde_json::to_value(item).expect("an item is an object");
            (identity.as_str().to_owned(), item)
        });
        let presence = presence.collect();
        let parties = question.identities.iter().map(|identity| Party {
            identity: identity.clone(),
            device: None,
        });
        let found = parties.flat_map(|party| routing::devices(&state.registry, &party));
        (found.map(Registered::of).collect(), presence)
    });
    Ok(write(&Answer { devices, presence }))
}

impl Registered {
    fn of(device: Device) -> Self {
        let session = device.session;
        Self {
            identity: session.identity,
            device: session.device,
            app: session.app,
            epoch: session.epoch,
            verdict: device.verdict.as_str().to_owned(),
            unwilling: device.is_unwilling,
            calls: device.load.0,
            handled: device.load.1,
        }
    }
}
