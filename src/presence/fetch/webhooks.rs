//! Presence changes told to the customers' own servers (B23).
//!
//! A webhook is a watcher of its whole account. While one batch is under way the next gathers, so that a slow server gets fewer and
//! larger batches, and never more than one at a time. Delivery, its signature and its retries are [`webhook`](super::webhook)'s.
//! What a server did not take within all tries it never gets: the next batch tells what changed since.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::Fetcher;
use super::webhook::Webhook;
use crate::presence::account::{Account, Subscription};
use crate::presence::plugin::{Live, Presence};
use crate::presence::settings::SecretText;
use crate::presence::subscription::Wanted;
use crate::presence::subscription::form::Form;
use crate::presence::subscription::outbox::{Next, Outbox};
use crate::presence::viewer::Viewer;
use crate::telemetry::{PresenceStats, WebhookKind, WebhookOutcome};

/// The deliveries that run.
#[derive(Debug, Default)]
pub(in crate::presence) struct Webhooks(Mutex<Running>);

#[derive(Debug, Default)]
struct Running {
    deliveries: Vec<Delivery>,
}

/// One webhook of one account.
#[derive(Debug)]
struct Delivery {
    account: Arc<Account>,
    url: String,
    target: http::Uri,
    secret: Option<SecretText>,
    outbox: Arc<Outbox>,
    _subscription: Subscription,
    /// `None` until it is started.
    task: Option<AbortHandle>,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Webhooks {
    /// Has exactly the configured ones watch their accounts, so that no change is missed until they are [started](Self::start).
    pub(in crate::presence) fn follow(&self, live: &Live) {
        let mut running = self.0.lock();
        let wanted: Vec<_> = live
            .accounts
            .iter()
            .zip(&live.settings.accounts)
            .flat_map(|(account, of)| {
                let secret = of.auth_tokens.first();
                of.webhooks.iter().map(move |url| (account, url, secret))
            })
            .collect();
        running.deliveries.retain(|known| {
            wanted.iter().any(|(account, url, secret)| {
                Arc::ptr_eq(account, &known.account)
                    && **url == known.url
                    && *secret == known.secret.as_ref()
            })
        });
        for (account, url, secret) in wanted {
            let is_known = running
                .deliveries
                .iter()
                .any(|known| Arc::ptr_eq(account, &known.account) && *url == known.url);
            let Ok(target) = url.parse::<http::Uri>() else {
                continue;
            };
            if is_known {
                continue;
            }
            let outbox = Arc::default();
            let Some(subscription) = subscribe(account, &outbox) else {
                continue;
            };
            running.deliveries.push(Delivery {
                account: Arc::clone(account),
                url: url.clone(),
                target,
                secret: secret.cloned(),
                outbox,
                _subscription: subscription,
                task: None,
            });
        }
    }

    /// Starts the deliveries that do not run yet.
    pub(in crate::presence) fn start(&self, presence: &Presence) {
        let mut running = self.0.lock();
        let waiting = running.deliveries.iter_mut();
        for delivery in waiting.filter(|of| of.task.is_none()) {
            let (target, secret) = (delivery.target.clone(), delivery.secret.clone());
            let webhook = Webhook::new(target, secret, presence.clock.clone());
            let delivering = deliver(
                delivery.account.sid.clone(),
                Arc::clone(&delivery.outbox),
                webhook,
                presence.fetcher(),
                Arc::clone(&presence.stats),
            );
            delivery.task = Some(tokio::spawn(delivering).abort_handle());
        }
    }
}

/// Sends batch after batch to one URL, for as long as it is configured.
async fn deliver(
    account: String,
    outbox: Arc<Outbox>,
    webhook: Webhook,
    fetcher: Fetcher,
    stats: Arc<PresenceStats>,
) {
    loop {
        // It stays in the outbox until it is delivered: as long as something is there, changes gather.
        let next = std::future::poll_fn(|cx| outbox.poll_first(cx)).await;
        let Next::Text(text) = next else { return };
        // Made to be put before the other members of the object.
        let body = format!("{{\"account\":\"{}\",{}", account, &text[1..]);
        let id = format!("{:032x}", fastrand::u128(..));
        let delivered = webhook.deliver(&fetcher, Bytes::from(body), &id).await;
        outbox.pop();
        let outcome = delivered.outcome;
        let took = std::time::Duration::from_secs_f64(delivered.seconds);
        stats.observe_webhook(WebhookKind::Presence, outcome, took);
        if outcome != WebhookOutcome::Delivered {
            let attempts = delivered.attempts;
            let outcome = outcome.as_str();
            let last = delivered.last.map(|last| match last {
                Ok(status) => format!("status {}", status.as_u16()),
                Err(error) => error.to_string(),
            });
            let last = last.unwrap_or_else(|| "no answer in time".into());
            tracing::warn!(
                account,
                attempts,
                outcome,
                last,
                "presence changes were not taken"
            );
        }
    }
}

/// Watches the whole account; who is there already is not told, only what changes.
fn subscribe(account: &Arc<Account>, outbox: &Arc<Outbox>) -> Option<Subscription> {
    let wanted = Wanted::Prefix(String::new());
    let subscribed = account.subscribe(
        outbox,
        Form::Webhook,
        Viewer::Account,
        wanted,
        true,
        |_, _| (),
    );
    subscribed.ok()
}
