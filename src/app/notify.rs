//! Notifications: tells one URL that an account met a limit, once an episode, and what would help.
//!
//! The domain notes which episodes begin; here each becomes one signed message, posted off the requests' path by the same sender
//! that tells presence changes, with its bounds on tries and time. A few are under way at once, the others wait in the domain's
//! bounded list. A reload switches it on, off or elsewhere; what is under way goes on to where it was sent. Never holds up a
//! request, and never tells twice what the receiver took.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Inner;
use crate::admission::{Met, Moves, Onset};
use crate::config::{self, NotifySettings};
use crate::presence::fetch::webhook::{Delivered, Webhook};
use crate::presence::fetch::{Fetcher, native_roots};
use crate::proxy::Gate;
use crate::telemetry::{NotifyStats, WebhookOutcome};

/// Messages under way at once: a receiver that hangs holds up as many for two minutes.
const UNDER_WAY_MAX: usize = 4;
/// How often the domain is asked for beginnings. They do not wake anybody, since they are noted on the path of refusals.
const LOOKS: Duration = Duration::from_millis(250);

/// Where notifications go, and what became of them.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    to: ArcSwapOption<Webhook>,
    changed: Notify,
    /// Made when it is first needed: reading the machine's authorities takes a moment.
    fetcher: OnceLock<Fetcher>,
    pub(super) stats: NotifyStats,
}

impl Notifier {
    /// Follows a configuration.
    pub(super) fn follow(&self, settings: Option<&NotifySettings>, gate: &Gate) {
        let to = settings.map(|of| {
            let (url, secret) = (of.url.clone(), of.secret.clone());
            Arc::new(Webhook::new(url, secret, gate.clock.clone()))
        });
        self.to.store(to);
        gate.registry.episodes.follow(settings.map(|of| of.quiet));
        self.changed.notify_one();
    }

    fn fetcher(&self) -> Fetcher {
        let make = || Fetcher::new(native_roots()).expect("ring is a provider");
        self.fetcher.get_or_init(make).clone()
    }
}

/// Posts what there is to tell.
pub(super) struct Notifying(pub(super) Arc<Inner>);

impl Notifying {
    async fn run(&self) {
        let Inner { gate, notifier, .. } = &*self.0;
        let mut under_way = JoinSet::new();
        loop {
            let is_on = notifier.to.load().is_some();
            tokio::select! {
                () = notifier.changed.notified() => {}
                () = tokio::time::sleep(LOOKS), if is_on => {}
                Some(ended) = under_way.join_next() => {
                    // A task that panicked has told nobody.
                    let delivered: Option<Delivered> = ended.ok();
                    note_end(&notifier.stats, delivered.as_ref());
                }
            }
            let Some(webhook) = notifier.to.load_full() else {
                continue;
            };
            while under_way.len() < UNDER_WAY_MAX
                && let Some(onset) = gate.registry.episodes.next()
            {
                let body = Bytes::from(self.0.message(&onset).to_string());
                let (webhook, fetcher) = (Arc::clone(&webhook), notifier.fetcher());
                let id = format!("{:032x}", fastrand::u128(..));
                under_way.spawn(async move { webhook.deliver(&fetcher, body, &id).await });
            }
        }
    }
}

#[async_trait]
impl BackgroundService for Notifying {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.run() => {}
            _ = shutdown.changed() => {}
        }
    }
}

fn note_end(stats: &NotifyStats, delivered: Option<&Delivered>) {
    let is_delivered = delivered.is_some_and(|of| of.outcome == WebhookOutcome::Delivered);
    stats.count(is_delivered);
    let Some(of) = delivered.filter(|_| !is_delivered) else {
        return;
    };
    let (attempts, outcome) = (of.attempts, of.outcome.as_str());
    let last = of.last.map(|last| match last {
        Ok(status) => format!("status {}", status.as_u16()),
        Err(error) => error.to_string(),
    });
    let last = last.unwrap_or_else(|| "no answer in time".into());
    tracing::warn!(
        attempts,
        outcome,
        last,
        "a notification about a limit was not taken"
    );
}

impl Inner {
    /// What is posted about one beginning.
    fn message(&self, onset: &Onset) -> Value {
        let key: Map<String, Value> = onset
            .key
            .iter()
            .map(|(dimension, value)| (dimension.clone(), json!(value)))
            .collect();
        let age = self.gate.clock.now().saturating_duration_since(onset.began);
        let (reason, mark) = match &onset.met {
            Met::Refused(reason) => (reason.as_str(), None),
            Met::Marked(mark) => ("marked", Some(&**mark)),
        };
        let (line, remedy) = self.remedy(onset);
        json!({
            "limit": &*onset.limit,
            "key": key,
            "account": onset.account.map(|name| name.as_str().to_owned()),
            "resource": &*onset.resource,
            "reason": reason,
            "mark": mark,
            "max": onset.max,
            "in_flight": onset.in_flight,
            "since": config::rfc3339(self.gate.clock.unix_time().saturating_sub(age)),
            "detail": detail(onset),
            "remedy": remedy,
            "line": line,
        })
    }

    /// The limit's line in the running configuration, and what would help.
    fn remedy(&self, onset: &Onset) -> (Option<config::explain::Line>, String) {
        let policy = Arc::clone(&self.gate.generation().policy);
        let index = policy
            .limits()
            .position(|limit| limit.name() == &*onset.limit);
        let Some((index, limit)) = index.zip(policy.limit(&onset.limit)) else {
            return (None, "nothing: the limit is gone since".to_owned());
        };
        let line = self.state.lock().rules_origin.limit_line(index);
        let place = line
            .as_ref()
            .map_or_else(String::new, |at| format!(" in {}:{}", at.file, at.line));
        if matches!(limit.settings().moves, Some(Moves::RetryBudget(_))) {
            let remedy = format!("raise `budget` or `at_least` of `retries`{place}");
            return (line, remedy);
        }
        let mut body = Map::new();
        body.insert("max".into(), json!("N"));
        let of_account = onset.account.map_or_else(String::new, |account| {
            body.insert("account".into(), json!(account.as_str()));
            format!(", or add `overrides: [{{ account: {account}, max: N }}]` there")
        });
        let group = onset.key.iter().find(|(dimension, _)| dimension == "group");
        if let Some((_, group)) = group.filter(|(_, name)| onset.account.is_none() && name != "-") {
            body.insert("group".into(), json!(group));
        }
        body.insert("for".into(), json!("30m"));
        let body = Value::Object(body).to_string().replacen("\"N\"", "N", 1);
        let name = limit.name();
        let remedy = format!(
            "raise `max`{place}{of_account}; for a while: PUT /v1/limits/{name}/override of the admin API with {body}"
        );
        (line, remedy)
    }
}

/// What happened, in a sentence.
fn detail(onset: &Onset) -> String {
    let Onset {
        limit,
        account,
        max,
        in_flight,
        met,
        ..
    } = onset;
    let who = account.map_or_else(
        || "requests".to_owned(),
        |account| format!("the account `{account}`"),
    );
    let taken = format!("{in_flight} of {max} places are taken");
    match met {
        Met::Refused(reason) => {
            format!(
                "{who} met the limit `{limit}`: {taken}, and a request was refused ({})",
                reason.as_str()
            )
        }
        Met::Marked(mark) => {
            format!(
                "{who} went over the limit `{limit}`: {taken}, and a request was let in with the mark `{mark}`"
            )
        }
    }
}
