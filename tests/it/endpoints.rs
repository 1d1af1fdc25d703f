//! Several endpoints behind one upstream: who gets a request, who is left out, and who comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::clients::nginx;
use crate::support::client::{self, Connection, by};
use crate::support::eventually;
use crate::support::origin::{Exchange, Next, Origin, held_origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};

/// The upstream `api` with these endpoints and whatever else.
fn upstream(addresses: &[&str], more: &str) -> String {
    format!(
        "upstreams: {{ api: {{ endpoints: {addresses:?}, connect_timeout: 1s, {more} }} }}\n\
         limits: [{{ name: account, per: [account], max: 100 }}]"
    )
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// An origin whose health a test decides.
pub(crate) fn moody() -> (Origin, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let mood = Arc::clone(&is_well);
    let origin = Origin::start(async move |exchange: &mut Exchange| {
        exchange.body().await?;
        let is_check = exchange.target() == "/healthz";
        let status = if is_check && !mood.load(Ordering::SeqCst) {
            503
        } else {
            200
        };
        exchange.reply(status, "ok").await
    });
    (origin, is_well)
}

/// What the status tells of the upstream `api`.
fn api(status: &Value) -> &Value {
    &status["upstreams"][0]
}

fn is_healthy(status: &Value, endpoint: usize) -> bool {
    api(status)["endpoints"][endpoint]["healthy"] == true
}

async fn until_healthy(gate: &Sidecar, count: usize) -> Value {
    let what = format!("{count} healthy endpoints");
    gate.wait_until(&what, |status| api(status)["healthy"] == count)
        .await
}

/// Asks so many times on one connection; all must be answered well.
async fn ask(gate: &Sidecar, times: usize, account: &str) {
    let mut client = gate.connect().await;
    for _ in 0..times {
        let answer = client.get("/", &by(account)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

// Round robin: each endpoint gets the same, whichever thread asks; the log tells which one answered.
#[tokio::test]
async fn round_robin_spreads_evenly() {
    let origins = [origin(), origin(), origin()];
    let addresses: Vec<_> = origins.iter().map(|origin| &*origin.address).collect();
    let yaml = upstream(&addresses, "balance: round_robin") + "\naccess_log: { path: stdout }";
    let gate = sidecar(&yaml).start().await;
    for _ in 0..6 {
        ask(&gate, 20, "A").await;
    }
    let served: Vec<_> = origins.iter().map(Origin::served).collect();
    assert_eq!(served, [40, 40, 40]);
    eventually("the lines of the log", async || {
        gate.output().lines().count() == 120
    })
    .await;
    let mut logged = BTreeMap::<String, usize>::new();
    for line in gate.output().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        *logged
            .entry(line["endpoint"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    let expected = addresses
        .iter()
        .map(|address| ((*address).to_owned(), 40))
        .collect();
    assert_eq!(logged, expected);
    gate.until_idle().await;
}

// Least in flight: the idle endpoint is preferred, and a finished request makes room.
#[tokio::test]
async fn least_in_flight_prefers_the_idle_one() {
    let origins = [held_origin(), held_origin()];
    let addresses: Vec<_> = origins.iter().map(|origin| &*origin.address).collect();
    let gate = sidecar(&upstream(&addresses, "balance: least_in_flight"))
        .start()
        .await;
    let mut clients = Vec::new();
    let in_flight = || origins.iter().map(Origin::in_flight).sum::<usize>();
    for count in 1..=6 {
        let mut client = gate.connect().await;
        client.send_get("/", &by("A")).await;
        eventually("the request at an origin", async || in_flight() == count).await;
        assert!(origins[0].in_flight().abs_diff(origins[1].in_flight()) <= 1);
        clients.push(client);
    }
    let status = gate.get_admin("/v1/status").await;
    for endpoint in api(&status)["endpoints"].as_array().unwrap() {
        assert_eq!(endpoint["in_flight"], 3, "{status}");
    }
    origins[1].release(2);
    gate.wait_until("two answers", |status| {
        api(status)["endpoints"][1]["in_flight"] == 1
    })
    .await;
    for _ in 0..2 {
        let mut client = gate.connect().await;
        client.send_get("/", &by("A")).await;
        clients.push(client);
    }
    origins[1].until_in_flight(3).await;
    assert_eq!(origins[0].in_flight(), 3);
    origins.iter().for_each(Origin::open);
    drop(clients);
    gate.until_idle().await;
}

// Consistent hash: an account stays on its endpoint, TCP or Unix socket; when one goes only its accounts move.
#[tokio::test]
async fn consistent_hash_keeps_accounts_where_they_are() {
    let plan = sidecar("");
    let socket = plan.directory().join("origin.sock");
    let answer = async |exchange: &mut Exchange| exchange.reply(200, "ok").await;
    let origins = [Origin::start_unix(&socket, answer), origin(), origin()];
    let addresses: Vec<_> = origins
        .iter()
        .map(|origin| origin.address.clone())
        .collect();
    let names: Vec<_> = addresses.iter().map(|address| &**address).collect();
    let gate = sidecar(&upstream(&names, "balance: consistent_hash"))
        .start()
        .await;
    let homes = async |origins: &[Origin]| {
        let mut homes = Vec::new();
        for number in 0..60 {
            let account = format!("AC{number}");
            let before: Vec<_> = origins.iter().map(Origin::served).collect();
            ask(&gate, 3, &account).await;
            let grown = |index: &usize| origins[*index].served() == before[*index] + 3;
            let home = (0..origins.len()).find(grown);
            homes.push(home.unwrap_or_else(|| panic!("{account} has no home")));
        }
        homes
    };
    let first = homes(&origins).await;
    assert_eq!(homes(&origins).await, first);
    let mut counts = [0; 3];
    first.iter().for_each(|&home| counts[home] += 1);
    assert!(counts.iter().all(|&count| count >= 5), "{counts:?}");
    let [socket, stays, goes] = origins;
    goes.stop().await;
    let second = homes(&[socket, stays]).await;
    let pairs = first.iter().zip(&second);
    let moved = pairs.filter(|(before, after)| **before != 2 && before != after);
    assert_eq!(moved.count(), 0, "{first:?} became {second:?}");
    gate.until_idle().await;
}

// A12: an endpoint that fails its health check gets nothing, is not counted as healthy, and comes back.
#[tokio::test]
async fn an_ill_endpoint_gets_nothing_and_comes_back() {
    let (ill, mood) = moody();
    let (well, _) = moody();
    let checks =
        "health_check: { path: /healthz, interval: 100ms, unhealthy_after: 2, healthy_after: 3 }";
    let yaml = upstream(&[&ill.address, &well.address], checks);
    let gate = sidecar(&yaml).start().await;
    ask(&gate, 10, "A").await;
    assert_eq!((ill.served(), well.served()), (5, 5));
    mood.store(false, Ordering::SeqCst);
    let status = until_healthy(&gate, 1).await;
    assert!(
        !is_healthy(&status, 0) && is_healthy(&status, 1),
        "{status}"
    );
    assert_eq!(api(&status)["endpoints"][0]["passes_check"], false);
    ask(&gate, 10, "A").await;
    assert_eq!((ill.served(), well.served()), (5, 15));
    let samples = [
        (
            "tidegate_upstream_healthy{upstream=\"api\"}".to_owned(),
            1.0,
        ),
        (
            format!(
                "tidegate_endpoint_healthy{{upstream=\"api\",endpoint=\"{}\"}}",
                ill.address
            ),
            0.0,
        ),
        (
            format!(
                "tidegate_endpoint_healthy{{upstream=\"api\",endpoint=\"{}\"}}",
                well.address
            ),
            1.0,
        ),
    ];
    for (sample, value) in samples {
        assert_eq!(gate.metric(&sample).await, Some(value), "{sample}");
    }
    mood.store(true, Ordering::SeqCst);
    until_healthy(&gate, 2).await;
    ask(&gate, 10, "A").await;
    assert_eq!((ill.served(), well.served()), (10, 20));
    let head = ill
        .heads()
        .into_iter()
        .find(|head| head.start.contains("/healthz"))
        .unwrap();
    assert_eq!(head.get("host"), Some(&*ill.address));
}

// No GET is lost when one of two endpoints is killed under load, be it an nginx; and it is soon left out.
#[tokio::test(flavor = "multi_thread")]
async fn killing_an_endpoint_under_load_loses_no_get() {
    const CLIENTS: usize = 8;
    let directory = tempfile::tempdir().unwrap();
    let (running, nginx) = nginx(directory.path()).await;
    let stays = origin();
    let gate = sidecar(&upstream(
        &[&nginx, &stays.address],
        "ejection: { for: 1h }",
    ))
    .start()
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (stop, sent, address) =
                (Arc::clone(&stop), Arc::clone(&sent), gate.address.clone());
            tokio::spawn(async move {
                let mut client = Connection::open(&address).await;
                while !stop.load(Ordering::SeqCst) {
                    let answer = client.get("/", &by("A")).await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let more = async |count: usize| {
        let aim = sent.load(Ordering::SeqCst) + count;
        eventually("more answers", async || sent.load(Ordering::SeqCst) >= aim).await;
    };
    more(500).await;
    drop(running);
    more(500).await;
    let status = until_healthy(&gate, 1).await;
    assert!(
        api(&status)["endpoints"][0]["ejected_until"].is_string(),
        "{status}"
    );
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    gate.until_idle().await;
    let ejections = gate
        .metric("tidegate_endpoint_ejections_total{upstream=\"api\"}")
        .await;
    assert_eq!(ejections, Some(1.0));
}

// Ejection: requests that fail to connect go elsewhere, the endpoint is left out, and one that is back is found.
#[tokio::test]
async fn an_ejected_endpoint_is_tried_again_and_returns() {
    let (absent, well) = (nobody(), origin());
    let yaml = upstream(
        &[&absent, &well.address],
        "ejection: { after: 2, for: 200ms }",
    );
    let gate = sidecar(&yaml).start().await;
    ask(&gate, 8, "A").await;
    let status = gate.get_admin("/v1/status").await;
    assert!(
        !is_healthy(&status, 0) && is_healthy(&status, 1),
        "{status}"
    );
    assert!(
        api(&status)["endpoints"][0]["ejected_until"].is_string(),
        "{status}"
    );
    let back = Origin::start_at(&absent, async |exchange| exchange.reply(200, "back").await);
    eventually("the endpoint's return", async || {
        ask(&gate, 1, "A").await;
        let status = gate.get_admin("/v1/status").await;
        is_healthy(&status, 0)
    })
    .await;
    let (before, others) = (back.served(), well.served());
    ask(&gate, 10, "A").await;
    assert_eq!((back.served() - before, well.served() - others), (5, 5));
    gate.until_idle().await;
}

// Ejection: what breaks after the request was sent costs a POST each time, but only so often in a row; an answer of
// whatever status is no failure.
#[tokio::test]
async fn an_endpoint_that_breaks_is_left_out_after_so_many() {
    let breaks = Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        Ok(Next::Close)
    });
    let grumbles = Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        exchange.reply(500, "no").await
    });
    let yaml = upstream(
        &[&breaks.address, &grumbles.address],
        "ejection: { after: 3, for: 1h }",
    );
    let gate = sidecar(&yaml).start().await;
    let mut statuses = BTreeMap::<u16, usize>::new();
    for _ in 0..20 {
        let answer = client::ask(&gate.address, "POST", "/", &by("A"), "once").await;
        *statuses.entry(answer.status).or_default() += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(500, 17), (502, 3)]));
    assert_eq!((breaks.served(), grumbles.served()), (3, 17));
}

// Ejection: the last endpoint is never left out, so that whatever comes back first serves.
#[tokio::test]
async fn the_last_endpoint_is_never_left_out() {
    let absent = [nobody(), nobody()];
    let yaml = upstream(&[&absent[0], &absent[1]], "ejection: { after: 1, for: 1h }");
    let gate = sidecar(&yaml).start().await;
    for _ in 0..5 {
        let answer = gate.get("/", "A").await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.field("x-admission-reason"), "upstream_unreachable");
    }
    let status = until_healthy(&gate, 0).await;
    let ejected = |index: usize| api(&status)["endpoints"][index]["ejected_until"].is_string();
    assert!(ejected(0) != ejected(1), "{status}");
    let last = usize::from(ejected(0));
    let back = Origin::start_at(&absent[last], async |exchange| {
        exchange.reply(200, "ok").await
    });
    ask(&gate, 3, "A").await;
    assert_eq!(back.served(), 3);
    until_healthy(&gate, 1).await;
    gate.until_idle().await;
}

// Health checks: where all endpoints are ill the answer comes at once and nothing is sent, with one endpoint too.
#[tokio::test]
async fn when_all_are_ill_the_answer_comes_at_once() {
    let checks = "health_check: { path: /healthz, interval: 100ms }";
    let ((first, one), (second, other)) = (moody(), moody());
    let several = sidecar(&upstream(&[&first.address, &second.address], checks))
        .start()
        .await;
    let alone = sidecar(&upstream(&[&first.address], checks)).start().await;
    one.store(false, Ordering::SeqCst);
    other.store(false, Ordering::SeqCst);
    for gate in [&several, &alone] {
        until_healthy(gate, 0).await;
        let answer = gate.get("/", "A").await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(answer.field("x-admission-reason"), "upstream_unreachable");
        gate.until_idle().await;
    }
    assert_eq!((first.served(), second.served()), (0, 0));
    one.store(true, Ordering::SeqCst);
    for gate in [&several, &alone] {
        until_healthy(gate, 1).await;
        ask(gate, 2, "A").await;
    }
    assert_eq!((first.served(), second.served()), (4, 0));
}

// G4: a reload that adds and removes endpoints keeps what is in flight and the health of those that stay.
#[tokio::test]
async fn a_reload_keeps_the_health_of_endpoints_that_stay() {
    let held = Origin::start(async |exchange: &mut Exchange| {
        if exchange.target() == "/held" {
            exchange.hold().await?;
        }
        exchange.reply(200, "ok").await
    });
    let ((ill, mood), (added, _)) = (moody(), moody());
    mood.store(false, Ordering::SeqCst);
    let gate = sidecar(&upstream(&[&held.address], "")).start().await;
    let mut client = gate.connect().await;
    client.send_get("/held", &by("A")).await;
    held.until_in_flight(1).await;
    let status = gate.get_admin("/v1/status").await;
    assert_eq!(api(&status)["endpoints"][0]["in_flight"], 1, "{status}");
    let checks = |unhealthy_after: u32| {
        format!(
            "health_check: {{ path: /healthz, interval: 100ms, unhealthy_after: {unhealthy_after} }}"
        )
    };
    gate.reloaded_with(&upstream(&[&held.address, &ill.address], &checks(2)))
        .await;
    until_healthy(&gate, 1).await;
    // So many failures take longer than the test: what is known right after the reload was known before.
    gate.reloaded_with(&upstream(&[&ill.address, &added.address], &checks(100)))
        .await;
    let status = gate.get_admin("/v1/status").await;
    assert!(
        !is_healthy(&status, 0) && is_healthy(&status, 1),
        "{status}"
    );
    held.release(1);
    assert_eq!(client.response().await.status, 200);
    ask(&gate, 4, "A").await;
    assert_eq!((ill.served(), added.served()), (0, 4));
    gate.reloaded_with(&upstream(&[&ill.address, &added.address], ""))
        .await;
    until_healthy(&gate, 2).await;
    ask(&gate, 4, "A").await;
    assert_eq!((ill.served(), added.served()), (2, 6));
    gate.until_idle().await;
}

// G4: connections to an endpoint that stays are kept, whatever else of its upstream changes.
#[tokio::test]
async fn a_reload_keeps_the_connections_of_endpoints_that_stay() {
    let (stays, added) = (origin(), origin());
    let one_thread = "\nserver: { threads: 1, listeners: [{ address: \"127.0.0.1:0\" }] }";
    let gate = sidecar(&(upstream(&[&stays.address], "") + one_thread))
        .start()
        .await;
    ask(&gate, 4, "A").await;
    let more = upstream(&[&added.address, &stays.address], "response_timeout: 5s");
    gate.reloaded_with(&(more + one_thread)).await;
    ask(&gate, 8, "A").await;
    assert_eq!((stays.served(), added.served()), (8, 4));
    assert_eq!((stays.connections(), added.connections()), (1, 1));
}

// Sockets and names: Unix sockets and host names are endpoints like others, checked over HTTP or by connecting.
#[tokio::test]
async fn unix_sockets_and_names_are_balanced_and_checked() {
    let plan = sidecar("");
    let directory = plan.directory();
    let answer = async |exchange: &mut Exchange| exchange.reply(200, "ok").await;
    let sockets =
        ["a.sock", "b.sock"].map(|name| Origin::start_unix(&directory.join(name), answer));
    let (named, absent) = (origin(), nobody());
    // The name may stand for an IPv6 address too, where nobody listens.
    let name = named.address.replace("127.0.0.1", "localhost");
    let addresses = [&*sockets[0].address, &sockets[1].address, &name, &absent];
    for check in ["path: /healthz, interval: 100ms", "interval: 100ms"] {
        let yaml = upstream(&addresses, &format!("health_check: {{ {check} }}"));
        let gate = sidecar(&yaml).start().await;
        let status = until_healthy(&gate, 3).await;
        assert!(!is_healthy(&status, 3), "{status}");
        let before = [&sockets[0], &sockets[1], &named].map(Origin::served);
        ask(&gate, 30, "A").await;
        let after = [&sockets[0], &sockets[1], &named].map(Origin::served);
        let got = [0, 1, 2].map(|index| after[index] - before[index]);
        assert!(
            got.iter().all(|&count| (5..=20).contains(&count)),
            "{check}: {got:?}"
        );
    }
}

// A request that has not been sent moves to another endpoint, with its body.
#[tokio::test]
async fn a_post_that_was_not_sent_moves_with_its_body() {
    let (absent, well) = (nobody(), origin());
    let yaml = upstream(&[&absent, &well.address], "ejection: off");
    let gate = sidecar(&yaml).start().await;
    for _ in 0..6 {
        let answer = client::ask(&gate.address, "POST", "/", &by("A"), "the body").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(well.last_body().bytes, b"the body");
    }
    let status = gate.get_admin("/v1/status").await;
    assert_eq!(api(&status)["endpoints"][0]["ejected_until"], Value::Null);
    gate.until_idle().await;
}
