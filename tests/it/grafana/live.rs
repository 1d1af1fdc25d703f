//! Each query of each panel, asked of a real Prometheus that scrapes a real gate under a load that makes everything happen at once.
//!
//! The load is bounded by the test: its tasks end with it. Nothing here waits a fixed time; what must come is asked for again until a
//! deadline.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;
use tokio::task::JoinSet;

use super::boards::metrics;
use super::prometheus::Prometheus;
use super::{Board, Query, TO_COME, boards, list, text};
use crate::presence::calls::scene::{Customer, connect, leave, page};
use crate::presence::desk::{ACCOUNT, Events, KEY, basic, plan_with, set};
use crate::support::client::{self, by};
use crate::support::origin::{Exchange, Next, Origin};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, now};

/// How long all panels may take to have data: some scrapes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two rounds of questions, and between two requests of a client.
const PACE: Duration = Duration::from_millis(20);
/// Between two calls, and between two changes of mind: the gate closes sockets that say too much.
const PACE_OF_PEOPLE: Duration = Duration::from_millis(200);

/// Limits with a queue that lends places, a shadow, an adaptive one, one that sends elsewhere; candidates; two endpoints; the plugin.
fn config(customer: &Customer, [one, two, bulk]: [&Origin; 3]) -> String {
    let (one, two, bulk) = (&one.address, &two.address, &bulk.address);
    let plugin = customer.section();
    format!(
        "accounts: {{ identify: [presence, {{ header: x-account }}] }}
upstreams:
  api:
    endpoints: [\"{one}\", \"{two}\"]
    health_check: {{ path: /healthz, interval: 200ms }}
  bulk: {{ endpoints: [\"{bulk}\"] }}
default_upstream: api
metrics: {{ accounts: 3 }}
presence:
  accounts:
    - sid: {ACCOUNT}
      auth_token: {{ env: AC_AUTH_TOKEN }}
      keys: [{{ id: {KEY}, secret: {{ env: SK_SECRET }} }}]
{plugin}
resources:
- {{ name: signal, match: {{ path: /signal }}, upstream: presence, stream: headers }}
- {{ name: events, match: {{ path: /v1/presence/events }}, upstream: presence, stream: headers }}
- {{ name: presence-api, match: {{ path: \"/v1/{{*rest}}\" }}, upstream: presence }}
- {{ name: work, match: {{ path: /work }} }}
- {{ name: heavy, match: {{ path: /heavy }} }}
limits:
- {{ name: whole-api, per: [], max: 400 }}
- name: account
  per: [account]
  max: 4
  except: [signal, events, presence-api]
  when_full: [{{ queue: {{ length: 4, timeout: 30ms, early: 1 }} }}]
- {{ name: moving, per: [upstream], resources: [work], max: {{ adaptive: {{}} }} }}
- {{ name: heavy, per: [], resources: [heavy], max: 1, when_full: [{{ reroute: bulk }}] }}
- {{ name: trial, per: [account], max: 2, mode: shadow }}
candidates:
  tighter: {{ limits: [{{ name: account, per: [account], max: 2 }}] }}
"
    )
}

/// An origin that takes a moment, breaks off, is overloaded, or goes on working for a second, as the path says.
fn origin() -> Origin {
    Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        match exchange.target() {
            "/healthz" => exchange.reply(200, "ok").await,
            "/broken" => Ok(Next::Close),
            "/overload" => exchange.reply(503, "").await,
            "/lasting" => {
                let head =
                    "HTTP/1.1 202 Accepted\r\nx-admission-hold: 1s\r\ncontent-length: 0\r\n\r\n";
                exchange.raw(head).await
            }
            _ => {
                tokio::time::sleep(PACE).await;
                exchange.reply(200, "ok").await
            }
        }
    })
}

/// Clients that ask without end: how many, as whom, for what.
const CLIENTS: [(usize, &str, &str); 6] = [
    (12, "noisy", "/work"),
    (2, "acme", "/work"),
    (3, "birch", "/heavy"),
    (1, "cedar", "/broken"),
    (1, "cedar", "/overload"),
    (1, "delta", "/lasting"),
];

/// Starts the clients, and two devices that call each other while a third changes its mind and is watched.
fn load(gate: &Arc<Sidecar>) -> JoinSet<()> {
    let mut load = JoinSet::new();
    for (count, account, path) in CLIENTS {
        for _ in 0..count {
            let address = gate.address.clone();
            load.spawn(async move {
                loop {
                    client::get(&address, path, &by(account)).await;
                    tokio::time::sleep(PACE).await;
                }
            });
        }
    }
    let gate_of_calls = Arc::clone(gate);
    load.spawn(async move {
        let mut alice = page(&gate_of_calls, "alice", "desk").await;
        let mut bob = page(&gate_of_calls, "bob", "phone").await;
        loop {
            let pair = connect(&mut alice, &mut bob, "bob").await;
            leave(&mut alice, &Value::from(pair.sid)).await;
            bob.hear("call.hangup").await;
            tokio::time::sleep(PACE_OF_PEOPLE).await;
        }
    });
    let gate = Arc::clone(gate);
    load.spawn(async move {
        let mut watched = Events::open(&gate, &basic(), "identities=carol").await;
        for status in ["away", "available"].iter().cycle() {
            set(&gate, "carol", status).await;
            watched.next().await.expect("the watcher is told");
            tokio::time::sleep(PACE_OF_PEOPLE).await;
        }
    });
    load
}

/// An expression as Grafana sends it: of everything, over a few scrapes.
fn sent(expression: &str) -> String {
    let sent = expression
        .replace("$__rate_interval", "5s")
        .replace("$__range", "1m");
    let variable = Regex::new(r"\$[a-z]+").unwrap();
    variable.replace_all(&sent, ".+").into_owned()
}

/// What the drop-down lists of a dashboard ask, as expressions that have a sample for each value.
fn lists(board: &Board) -> Vec<Query> {
    let values = Regex::new(r"^label_values\((.*), ([a-z]+)\)$").unwrap();
    let variables = list(&board.json["templating"]["list"]).iter();
    let asked = variables.filter(|of| of["type"] == "query");
    let query = |of: &Value| {
        let found = values
            .captures(text(&of["query"]["query"]))
            .expect("label_values(…)");
        Query {
            place: board.place(of),
            expression: format!("count by ({}) ({})", &found[2], &found[1]),
            labels: vec![found[2].to_owned()],
        }
    };
    asked.map(query).collect()
}

/// Whether a query has a number, under all the labels that its legend names.
async fn is_answered(prometheus: &Prometheus, query: &Query) -> bool {
    let series = prometheus.series(&sent(&query.expression)).await;
    let is_named = |labels: &Value| query.labels.iter().all(|label| labels[label].is_string());
    series.iter().any(is_named)
}

/// Asks until each query has had a sample that is a number.
async fn until_answered(prometheus: &Prometheus, load: &mut JoinSet<()>, mut queries: Vec<Query>) {
    let start = now();
    loop {
        let mut unanswered = Vec::new();
        for query in queries {
            if !is_answered(prometheus, &query).await {
                unanswered.push(query);
            }
        }
        if unanswered.is_empty() {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "no data after {PATIENCE:?}: {unanswered:#?}"
        );
        if let Some(ended) = load.try_join_next() {
            panic!("a client ended: {ended:?}");
        }
        queries = unanswered;
        tokio::time::sleep(PACE).await;
    }
}

/// The names of alerts that fire.
async fn firing(prometheus: &Prometheus) -> BTreeSet<String> {
    let alerts = prometheus.ask("/api/v1/alerts").await;
    let firing = list(&alerts["alerts"])
        .iter()
        .filter(|alert| alert["state"] == "firing");
    firing
        .map(|alert| text(&alert["labels"]["alertname"]).to_owned())
        .collect()
}

// CONTRACT §5: what the gate prints is what dashboards and rules ask for, by name and by label.
#[tokio::test]
async fn every_panel_shows_data_of_a_real_gate_and_alerts_are_true() {
    let customer = Customer::saying("<Dial><Client>bob</Client></Dial>");
    let (one, two, bulk) = (origin(), origin(), origin());
    let config = config(&customer, [&one, &two, &bulk]);
    let gate = Arc::new(plan_with(&config).start().await);
    let prometheus = Prometheus::watching(&gate.admin).await;
    eventually("the first scrape", async || {
        prometheus.series("up == 1").await.len() == 1
    })
    .await;
    let mut load = load(&gate);

    let boards = boards();
    let queries = boards.iter().flat_map(Board::queries);
    let queries = queries.chain(boards.iter().flat_map(lists));
    let is_to_come = |query: &Query| {
        let named = metrics(&query.expression);
        named.iter().any(|name| TO_COME.contains(&name.as_str()))
    };
    let (later, queries): (Vec<_>, Vec<_>) = queries.partition(is_to_come);
    for query in later {
        // Prometheus can read it at least.
        prometheus.series(&sent(&query.expression)).await;
    }
    until_answered(&prometheus, &mut load, queries).await;

    // The one thing that is wrong here: nobody releases the leases of delta.
    eventually("the alert about leases", async || {
        firing(&prometheus).await.contains("TidegateLeaseExpired")
    })
    .await;
    assert_eq!(
        firing(&prometheus).await.len(),
        1,
        "{:?}",
        firing(&prometheus).await
    );
    let rules = prometheus.ask("/api/v1/rules").await;
    let groups = list(&rules["groups"]).iter();
    for rule in groups.flat_map(|group| list(&group["rules"])) {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}
