//! Who gets in: exactly as many as fit, per key, for as long as the gate holds their exchange.

use crate::support::client::{self, Connection, Response, by};
use crate::support::origin::{Exchange, Next, Origin, held_origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::{eventually, within};

const PER_ACCOUNT: &str = "limits: [{ name: account, per: [account], max: 100 }]";

/// Sends all these requests at once, each on a connection of its own, before any is answered.
async fn race(gate: &Sidecar, accounts: usize, requests: usize) -> Vec<Connection> {
    let mut clients = Vec::new();
    for _ in 0..requests {
        clients.push(gate.connect().await);
    }
    let sending = clients.into_iter().enumerate().map(|(index, mut client)| {
        tokio::spawn(async move {
            let account = format!("A{}", index % accounts);
            client.send_get("/race", &by(&account)).await;
            client
        })
    });
    let mut sent = Vec::new();
    for client in sending.collect::<Vec<_>>() {
        sent.push(client.await.unwrap());
    }
    sent
}

async fn statuses(clients: Vec<Connection>) -> Vec<u16> {
    let reading = clients
        .into_iter()
        .map(|mut client| tokio::spawn(async move { client.response().await.status }));
    let mut statuses = Vec::new();
    for status in reading.collect::<Vec<_>>() {
        statuses.push(status.await.unwrap());
    }
    statuses
}

// A1, A2: 2,000 at once against a limit of 100, for one account and for each of several.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_race_exactly_as_many_are_admitted_as_fit() {
    for accounts in [1, 8] {
        let origin = held_origin();
        let max = 100 / accounts;
        let yaml = format!("limits: [{{ name: account, per: [account], max: {max} }}]");
        let gate = sidecar(&yaml).before(&origin).start().await;
        let clients = race(&gate, accounts, 2_000).await;
        let admitted = max * accounts;
        let refused = f64::from(u32::try_from(2_000 - admitted).unwrap());
        eventually("everyone else's refusal", async || {
            let rejected = "tidegate_requests_total{decision=\"rejected\"}";
            gate.metric(rejected).await == Some(refused)
        })
        .await;
        origin.until_in_flight(admitted).await;
        let keys = gate.keys("account").await;
        assert_eq!(keys.len(), accounts);
        assert!(keys.iter().all(|key| key["in_flight"] == max), "{keys:?}");
        origin.open();
        let statuses = statuses(clients).await;
        assert_eq!(
            statuses.iter().filter(|&&status| status == 200).count(),
            admitted
        );
        assert_eq!(
            statuses.iter().filter(|&&status| status == 429).count(),
            2_000 - admitted
        );
        assert_eq!(origin.peak(), admitted);
        assert_eq!(origin.heads().len(), admitted);
        gate.until_idle().await;
    }
}

// A2, A3: up by one when sent on, down by one at the end, and not at all for a refused one.
#[tokio::test]
async fn each_request_in_progress_counts_one() {
    let origin = held_origin();
    let gate = sidecar("limits: [{ name: all, per: [], max: 2 }]")
        .before(&origin)
        .start()
        .await;
    let mut first = gate.connect().await;
    let mut second = gate.connect().await;
    first.send_get("/", &by("A")).await;
    origin.until_in_flight(1).await;
    assert_eq!(gate.limit("all").await["in_flight"], 1);
    second.send_get("/", &by("B")).await;
    origin.until_in_flight(2).await;
    assert_eq!(gate.limit("all").await["in_flight"], 2);
    assert_eq!(gate.get("/", "C").await.status, 503);
    assert_eq!(gate.limit("all").await["in_flight"], 2);
    origin.release(1);
    origin.until_in_flight(1).await;
    gate.wait_until("one left", |status| status["in_flight"] == 1)
        .await;
    origin.release(1);
    assert_eq!(first.response().await.status, 200);
    assert_eq!(second.response().await.status, 200);
    gate.until_idle().await;
}

// A3: success, error status, broken connection and departure all give the place back.
#[tokio::test]
async fn every_way_to_end_gives_the_place_back() {
    let origin = Origin::start(async |exchange: &mut Exchange| match exchange.target() {
        "/error" => exchange.reply(500, "no").await,
        "/break" => Ok(Next::Close),
        "/half" => {
            exchange
                .raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
                .await?;
            Ok(Next::Close)
        }
        "/hang" => {
            exchange.until_closed().await;
            Ok(Next::Close)
        }
        _ => exchange.reply(200, "ok").await,
    });
    let gate = sidecar("limits: [{ name: account, per: [account], max: 1 }]").before(&origin);
    let gate = gate.start().await;
    for (path, status) in [
        ("/ok", 200),
        ("/error", 500),
        ("/break", 502),
        ("/half", 200),
    ] {
        let mut client = gate.connect().await;
        client.send_get(path, &by("A")).await;
        assert_eq!(client.head().await.0, status, "{path}");
        client.until_closed_or_idle().await;
        gate.until_idle().await;
    }
    let mut client = gate.connect().await;
    client.send_get("/hang", &by("A")).await;
    origin.until_in_flight(1).await;
    assert_eq!(gate.get("/ok", "A").await.status, 429);
    drop(client);
    gate.until_idle().await;
    assert_eq!(gate.get("/ok", "A").await.status, 200);
}

// A5, A6: calls, messages and another account are three values that are read apart.
#[tokio::test]
async fn values_are_kept_apart_by_account_and_resource() {
    let origin = held_origin();
    let gate = sidecar(
        "resources:\n\
         - { name: calls, match: { path: \"/calls\" }, upstream: api }\n\
         - { name: messages, match: { path: \"/messages\" }, upstream: api }\n\
         limits: [{ name: each, per: [account, resource], max: 2 }]",
    );
    let gate = gate.before(&origin).start().await;
    let mut clients = Vec::new();
    for (path, account) in [
        ("/messages", "A"),
        ("/messages", "A"),
        ("/calls", "A"),
        ("/calls", "B"),
        ("/calls", "B"),
    ] {
        let mut client = gate.connect().await;
        client.send_get(path, &by(account)).await;
        clients.push(client);
    }
    origin.until_in_flight(5).await;
    let keys = gate.keys("each").await;
    let count = |account: &str, resource: &str| {
        let wanted = serde_json::json!({ "account": account, "resource": resource });
        keys.iter()
            .find(|key| key["key"] == wanted)
            .map(|key| key["in_flight"].clone())
    };
    assert_eq!(count("A", "messages"), Some(2.into()));
    assert_eq!(count("A", "calls"), Some(1.into()));
    assert_eq!(count("B", "calls"), Some(2.into()));
    assert_eq!(gate.get("/messages", "A").await.status, 429);
    let mut call = gate.connect().await;
    call.send_get("/calls", &by("A")).await;
    origin.until_in_flight(6).await;
    origin.open();
}

// A8, G3: a request must fit all limits, and when one refuses, none is charged.
#[tokio::test]
async fn when_one_limit_refuses_none_is_charged() {
    let origin = held_origin();
    let gate = sidecar(
        "limits:\n\
         - { name: whole, per: [], max: 3 }\n\
         - { name: account, per: [account], max: 1 }",
    );
    let gate = gate.before(&origin).start().await;
    let mut clients = Vec::new();
    for (index, account) in ["A", "B"].into_iter().enumerate() {
        let mut client = gate.connect().await;
        client.send_get("/", &by(account)).await;
        clients.push(client);
        origin.until_in_flight(index + 1).await;
    }
    let refused = gate.get("/", "A").await;
    assert_eq!(
        (refused.status, refused.json()["limit"].as_str()),
        (429, Some("account"))
    );
    assert_eq!(gate.limit("whole").await["in_flight"], 2);
    let mut third = gate.connect().await;
    third.send_get("/", &by("C")).await;
    origin.until_in_flight(3).await;
    let refused = gate.get("/", "D").await;
    assert_eq!(
        (refused.status, refused.json()["limit"].as_str()),
        (503, Some("whole"))
    );
    assert!(
        gate.keys("account")
            .await
            .iter()
            .all(|key| key["key"]["account"] != "D" || key["in_flight"] == 0)
    );
    origin.open();
}

// A9, A10: overrides by account, then by group, else the default, each held to its own.
#[tokio::test]
async fn each_account_is_held_to_its_own_maximum() {
    let origin = held_origin();
    let gate = sidecar(
        "accounts: { identify: [{ header: x-account }], groups: { gold: { accounts: [G, H] } } }\n\
         limits:\n\
         - name: account\n  \
           per: [account]\n  \
           max: 1\n  \
           overrides: [{ account: G, max: 4 }, { group: gold, max: 3 }, { account: Z, max: 0 }]",
    );
    let gate = gate.before(&origin).start().await;
    let mut clients = Vec::new();
    let mut total = 0;
    for (account, max) in [("A", 1), ("G", 4), ("H", 3), ("Z", 0)] {
        for _ in 0..max {
            let mut client = gate.connect().await;
            client.send_get("/", &by(account)).await;
            clients.push(client);
            total += 1;
            origin.until_in_flight(total).await;
        }
        let refused = gate.get("/", account).await;
        assert_eq!(
            (refused.status, &refused.json()["max"]),
            (429, &max.into()),
            "{account}"
        );
    }
    origin.open();
}

// A11: raising admits at once; lowering cuts nobody, and admits nobody until the count has drained.
#[tokio::test]
async fn a_changed_maximum_holds_without_restart() {
    let yaml = |max: u32| format!("limits: [{{ name: account, per: [account], max: {max} }}]");
    let origin = held_origin();
    let gate = sidecar(&yaml(1)).before(&origin).start().await;
    let mut clients = Vec::new();
    let hold = async |clients: &mut Vec<Connection>| {
        let mut client = gate.connect().await;
        client.send_get("/", &by("A")).await;
        clients.push(client);
        origin.until_in_flight(clients.len()).await;
    };
    hold(&mut clients).await;
    assert_eq!(gate.get("/", "A").await.status, 429);
    gate.reloaded_with(&yaml(3)).await;
    hold(&mut clients).await;
    hold(&mut clients).await;
    assert_eq!(gate.get("/", "A").await.status, 429);
    gate.reloaded_with(&yaml(1)).await;
    let limit = gate.limit("account").await;
    assert_eq!((&limit["in_flight"], &limit["max"]), (&3.into(), &1.into()));
    for left in [2, 1] {
        origin.release(1);
        gate.wait_until("one less", |status| status["in_flight"] == left)
            .await;
        assert_eq!(gate.get("/", "A").await.status, 429, "{left} in flight");
    }
    origin.release(1);
    gate.until_idle().await;
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
    origin.open();
    assert_eq!(gate.get("/", "A").await.status, 200);
}

// A27: a request takes as many places as its resource costs.
#[tokio::test]
async fn a_cost_takes_that_many_places() {
    let origin = held_origin();
    let gate = sidecar(
        "resources:\n\
         - { name: heavy, match: { path: \"/heavy\" }, upstream: api, cost: 3 }\n\
         - { name: light, match: { path: \"/{*rest}\" }, upstream: api }\n\
         limits: [{ name: account, per: [account], max: 5 }]",
    );
    let gate = gate.before(&origin).start().await;
    let mut clients = Vec::new();
    for (path, taken) in [("/heavy", 3), ("/light", 4)] {
        let mut client = gate.connect().await;
        client.send_get(path, &by("A")).await;
        clients.push(client);
        gate.wait_until("the cost", |status| {
            status["limits"][0]["in_flight"] == taken
        })
        .await;
    }
    assert_eq!(gate.get("/heavy", "A").await.status, 429);
    let mut last = gate.connect().await;
    last.send_get("/light", &by("A")).await;
    origin.until_in_flight(3).await;
    assert_eq!(gate.get("/light", "A").await.status, 429);
    origin.open();
    assert_eq!(last.response().await.status, 200);
    gate.until_idle().await;
}

// A32: every response carries the account's concurrency, itself included, and the seconds to its head.
#[tokio::test]
async fn every_response_tells_concurrency_and_duration() {
    let origin = held_origin();
    let gate = sidecar("limits: [{ name: account, per: [account], max: 2 }]").before(&origin);
    let gate = gate.start().await;
    let mut first = gate.connect().await;
    first.send_get("/", &by("A")).await;
    origin.until_in_flight(1).await;
    let mut second = gate.connect().await;
    second.send_get("/", &by("A")).await;
    origin.until_in_flight(2).await;
    let refused = gate.get("/", "A").await;
    tells(&refused, "2");
    let other = within("another account", async {
        let mut client = gate.connect().await;
        client.send_get("/", &by("B")).await;
        origin.until_in_flight(3).await;
        origin.open();
        client.response().await
    });
    tells(&other.await, "1");
    tells(&second.response().await, "2");
    assert_eq!(first.response().await.status, 200);

    gate.reloaded_with(
        "server: { threads: 2, listeners: [{ address: \"127.0.0.1:0\" }], \
         headers: { concurrency: x-mine, duration: off } }",
    )
    .await;
    let renamed = gate.get("/", "A").await;
    assert_eq!(renamed.field("x-mine"), "1");
    assert!(renamed.head.get("x-request-duration").is_none());
    assert!(renamed.head.get("x-concurrent-requests").is_none());
}

fn tells(response: &Response, concurrency: &str) {
    assert_eq!(
        response.field("x-concurrent-requests"),
        concurrency,
        "{}",
        response.head.raw
    );
    let duration = response.field("x-request-duration");
    let decimals = duration.split_once('.').map(|(_, decimals)| decimals.len());
    assert_eq!(
        (duration.parse::<f64>().is_ok(), decimals),
        (true, Some(3)),
        "{duration}"
    );
}

// A3, G1, DESIGN §3: a client that saw the end of its response is never refused for that very request.
#[tokio::test(flavor = "multi_thread")]
async fn who_saw_the_end_is_never_refused_for_it() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 2_500;
    let origin = origin();
    let gate = sidecar("limits: [{ name: account, per: [account], max: 1 }]").before(&origin);
    let gate = gate.start().await;
    let clients = (0..CLIENTS).map(|client| {
        let address = gate.address.clone();
        tokio::spawn(async move {
            let account = format!("A{client}");
            for _ in 0..REQUESTS {
                let response = client::get(&address, "/", &by(&account)).await;
                assert_eq!(response.status, 200, "{}", response.text());
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    gate.until_idle().await;
}

// A4: a saturated account does not keep others out.
#[tokio::test]
async fn a_full_account_leaves_the_others_alone() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        if exchange.head.says("x-account", "noisy") {
            exchange.hold().await?;
        }
        exchange.reply(200, "ok").await
    });
    let gate = sidecar(PER_ACCOUNT).before(&origin).start().await;
    let mut noisy = Vec::new();
    for _ in 0..150 {
        let mut client = gate.connect().await;
        client.send_get("/", &by("noisy")).await;
        noisy.push(client);
    }
    origin.until_in_flight(100).await;
    for _ in 0..200 {
        assert_eq!(gate.get("/", "quiet").await.status, 200);
    }
    assert_eq!(origin.in_flight(), 100);
    origin.open();
}

// G6: a shadowed limit refuses nobody and counts on paper; `off` counts nothing.
#[tokio::test]
async fn a_shadowed_limit_refuses_on_paper_only() {
    let origin = held_origin();
    let gate = sidecar(
        "limits:\n\
         - { name: paper, per: [account], max: 1, mode: shadow }\n\
         - { name: none, per: [], max: 1, mode: off }",
    );
    let gate = gate.before(&origin).start().await;
    let mut clients = Vec::new();
    for index in 1..=3 {
        let mut client = gate.connect().await;
        client.send_get("/", &by("A")).await;
        clients.push(client);
        origin.until_in_flight(index).await;
    }
    assert_eq!(gate.limit("paper").await["in_flight"], 3);
    assert_eq!(gate.limit("none").await["in_flight"], 0);
    let refused = gate
        .metric("tidegate_shadow_total{decision=\"rejected\",limit=\"paper\"}")
        .await;
    assert_eq!(refused, Some(2.0));
    gate.reloaded_with("limits: [{ name: paper, per: [account], max: 1 }]")
        .await;
    assert_eq!(gate.get("/", "A").await.status, 429);
    origin.open();
}
