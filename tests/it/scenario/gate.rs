//! A scenario's gate: what its configuration means to the real domain, and the accounts of its clients.
//!
//! The configuration goes through the real parser, and what a request is through the real classifier, so a scenario cannot
//! say what an operator could not. Never forwards anything.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use http::Request;
use serde_json::{Value, json};
use tidegate::admission::{Class, Policy, Registry};
use tidegate::classify::{Peer, Rules};
use tidegate::clock::Clock;
use tidegate::config::{self, Config, Secrets};
use tidegate::head::Head;

use super::file::{Client, Event, Scenario};

/// What every configuration has, unless it says otherwise.
fn sections() -> [(&'static str, Value); 3] {
    let listeners = json!([{ "address": "127.0.0.1:0" }]);
    [
        ("server", json!({ "listeners": listeners })),
        (
            "upstreams",
            json!({ "api": { "endpoints": ["127.0.0.1:1"] } }),
        ),
        ("default_upstream", json!("api")),
    ]
}

/// The gate of one run.
pub(super) struct Gate {
    settings: Value,
    /// The classes of every client, one for each of its accounts.
    pub(super) classes: Vec<Vec<Class>>,
    pub(super) registry: Arc<Registry>,
    pub(super) policy: Arc<Policy>,
    pub(super) clock: Clock,
}

impl Gate {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut yaml = scenario.gate.clone();
        for (name, section) in sections() {
            if yaml.get(name).is_none() {
                yaml[name] = section;
            }
        }
        yaml["accounts"]["identify"] = json!([{ "header": "x-account" }]);
        for (name, client) in &scenario.clients {
            if let Some(group) = &client.group {
                let accounts: Vec<_> = accounts(name, client).collect();
                yaml["accounts"]["groups"][group]["accounts"] = json!(accounts);
            }
        }
        let config = parse(&yaml);
        let rules = Rules::new(config.rules);
        let clients = scenario.clients.iter();
        Self {
            settings: yaml,
            classes: clients
                .map(|(name, client)| classes(&rules, name, client))
                .collect(),
            registry: Registry::new(),
            policy: Arc::new(Policy::new(config.policy, None)),
            clock: Clock::manual(),
        }
    }

    /// The part of an event that the gate learns of.
    pub(super) fn change(&mut self, event: &Event) {
        for (name, max) in &event.max {
            let limits = self.settings["limits"].as_array_mut();
            let limit = limits.and_then(|all| all.iter_mut().find(|of| of["name"] == *name));
            limit.expect("the limit is there")["max"] = json!(max);
        }
        if !event.max.is_empty() {
            let settings = parse(&self.settings).policy;
            self.policy = Arc::new(Policy::new(settings, Some(&self.policy)));
            self.registry.apply(&self.policy);
        }
        if let Some(healthy) = event.endpoints {
            let risen = self.policy.follow_endpoints(|_| healthy);
            self.registry.serve_risen(risen);
        }
    }

    /// What the gate does beside the requests. And nobody waits for a place that is free.
    pub(super) fn tick(&self, now: Instant) {
        self.registry.serve_risen(self.policy.adapt(now));
        self.registry.sweep(now);
        let costs = self.classes.iter().flatten().map(|class| class.cost);
        let largest = costs.max().unwrap_or(1);
        for limit in self.policy.limits() {
            for key in self.registry.keys(&self.policy, limit, usize::MAX) {
                let is_full = key.in_flight + largest > key.max;
                assert!(key.queued == 0 || is_full, "a free place: {key:?}");
            }
        }
    }

    /// Nothing is in flight, nobody waits.
    pub(super) fn assert_empty(&self) {
        let mut left = 0;
        self.registry
            .counts(&self.policy, |_, count| left += u64::from(count));
        assert_eq!((left, self.registry.waiting()), (0, 0), "what is left over");
    }
}

fn parse(yaml: &Value) -> Config {
    // JSON is YAML.
    config::parse(
        Path::new("scenario.yaml"),
        &yaml.to_string(),
        Secrets::Optional,
    )
    .unwrap_or_else(|report| panic!("{report}"))
}

/// A client with one account is its account; those of others are numbered.
fn accounts(name: &str, client: &Client) -> impl Iterator<Item = String> {
    let is_one = client.accounts == 1;
    (0..client.accounts).map(move |index| {
        if is_one {
            name.to_owned()
        } else {
            format!("{name}-{index}")
        }
    })
}

fn classes(rules: &Rules, name: &str, client: &Client) -> Vec<Class> {
    let class = |account: String| {
        let request = Request::get(&client.path).header("x-account", account);
        let (head, ()) = request.body(()).expect("a fine request").into_parts();
        let matched = rules.classify(&Head::from(&head), &Peer::default());
        matched.ok().flatten().expect("a resource").class
    };
    accounts(name, client).map(class).collect()
}
