//! A count that cannot leak: every way to end, mixed by a seed, leaves nothing behind.

use std::io;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Frame;

use crate::support::client::{Connection, by};
use crate::support::origin::{Exchange, Next, Origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::{eventually, h2, knob, within};

/// Where a client leaves its request.
#[derive(Debug, Clone, Copy)]
enum Leaves {
    BeforeTheHeadEnds,
    InTheUpload,
    Waiting,
    InTheDownload,
    Never,
}

/// What the origin does, chosen by the path.
const ORIGIN: [&str; 8] = [
    "/ok",
    "/reset",
    "/half",
    "/hang",
    "/early",
    "/slow",
    "/continue-less",
    "/unreachable",
];
const LEAVES: [Leaves; 5] = [
    Leaves::BeforeTheHeadEnds,
    Leaves::InTheUpload,
    Leaves::Waiting,
    Leaves::InTheDownload,
    Leaves::Never,
];

async fn misbehave(exchange: &mut Exchange) -> io::Result<Next> {
    match exchange.target().split('?').next().unwrap_or_default() {
        "/reset" => Ok(Next::Close),
        "/hang" => {
            exchange.until_closed().await;
            Ok(Next::Close)
        }
        "/early" => {
            exchange
                .raw("HTTP/1.1 413 Big\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig")
                .await?;
            Ok(Next::Close)
        }
        "/half" => {
            exchange.body().await?;
            exchange
                .raw("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhalf")
                .await?;
            Ok(Next::Close)
        }
        "/slow" => {
            exchange.body().await?;
            exchange
                .raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            for _ in 0..5 {
                exchange.chunk("piece").await?;
                tokio::task::yield_now().await;
            }
            exchange.raw("0\r\n\r\n").await
        }
        _ => {
            exchange.body().await?;
            exchange.reply(200, "ok").await
        }
    }
}

fn yaml(origin: &str, round: usize) -> String {
    // Limits are raised, lowered, renamed, removed and rekeyed between rounds.
    let limits = [
        "- { name: account, per: [account], max: 4 }\n- { name: whole, per: [], max: 12 }",
        "- { name: account, per: [account], max: 1 }\n- { name: whole, per: [], max: 50 }",
        "- { name: renamed, per: [account], max: 4 }",
        "- { name: account, per: [account, resource], max: 3 }\n- { name: whole, per: [], max: 12, mode: shadow }",
        "- { name: whole, per: [], max: 3 }\n- { name: header, per: [{ header: x-account }, process], max: 2 }",
    ];
    // Places on paper come back on the same paths; one set stays, another comes and goes.
    let trial = |name| {
        let max = round % 3 + 1;
        format!(
            "  {name}: {{ limits: [{{ name: account, per: [account], max: {max} }}, {{ name: whole, max: 8 }}] }}\n"
        )
    };
    let candidates = trial("stays") + &trial(["comes", "goes"][round % 2]);
    let departed = ["close", "{ finish: 100ms }", "close"][round % 3];
    let stream = ["body_end", "headers", "{ first: 50ms }", "body_end"][round % 4];
    format!(
        "server: {{ threads: 2, listeners: [{{ address: \"127.0.0.1:0\" }}], header_timeout: 300ms }}\n\
         upstreams:\n  \
           api: {{ endpoints: [\"{origin}\"], response_timeout: 150ms, idle_timeout: 150ms }}\n  \
           nobody: {{ endpoints: [\"127.0.0.1:9\"], connect_timeout: 100ms }}\n\
         resources:\n\
         - {{ name: gone, match: {{ path: \"/unreachable\" }}, upstream: nobody }}\n\
         - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: api, departed: {departed}, stream: {stream} }}\n\
         default_upstream: api\n\
         limits:\n{}\ncandidates:\n{candidates}",
        limits[round % limits.len()]
    )
}

async fn old(address: &str, path: &str, account: &str, leaves: Leaves, resets: bool) {
    let mut client = if resets {
        Connection::open_to_reset(address).await
    } else {
        Connection::open(address).await
    };
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nx-account: {account}\r\nconnection: close\r\ncontent-length: 5000\r\n"
    );
    let body = "x".repeat(5_000);
    // The gate may answer and close at any point, so that writing may fail.
    let sent = match leaves {
        Leaves::BeforeTheHeadEnds => client.wire.send(head).await,
        Leaves::InTheUpload => client.wire.send(head + "\r\n" + &body[..2_000]).await,
        _ => client.wire.send(head + "\r\n" + &body).await,
    };
    match (leaves, sent) {
        (Leaves::InTheDownload, Ok(())) => drop(client.wire.head().await),
        // Until the gate closes, as it was asked to.
        (Leaves::Never, Ok(())) => drop(client.wire.rest().await),
        (Leaves::Waiting, Ok(())) => tokio::task::yield_now().await,
        _ => {}
    }
}

async fn new(address: &str, path: &str, account: &str, leaves: Leaves) {
    let mut client = h2::Connection::open(address).await;
    let (upload, body) = h2::steps();
    let uri = format!("http://gate.test{path}");
    let request = http::Request::post(uri)
        .header("x-account", account)
        .body(body)
        .unwrap();
    let data = || Frame::data(Bytes::from(vec![b'x'; 2_000]));
    match leaves {
        Leaves::BeforeTheHeadEnds => client.task.abort(),
        Leaves::InTheUpload => {
            let request = tokio::spawn(client.sender.send_request(request));
            upload.send(data()).await.ok();
            tokio::task::yield_now().await;
            request.abort();
        }
        Leaves::Waiting => {
            drop(upload);
            let request = tokio::spawn(client.sender.send_request(request));
            tokio::task::yield_now().await;
            request.abort();
        }
        Leaves::InTheDownload => {
            drop(upload);
            drop(client.sender.send_request(request).await);
        }
        Leaves::Never => {
            upload.send(data()).await.ok();
            drop(upload);
            if let Ok(response) = client.sender.send_request(request).await {
                response.into_body().collect().await.ok();
            }
        }
    }
}

async fn torture(gate: &Sidecar, random: &mut fastrand::Rng, requests: u64) {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..requests {
        while running.len() >= 40 {
            running.join_next().await;
        }
        let address = gate.address.clone();
        let path = ORIGIN[random.usize(..ORIGIN.len())];
        let account = format!("A{}", random.u8(..5));
        let leaves = LEAVES[random.usize(..LEAVES.len())];
        let (over_h2, resets) = (random.bool(), random.bool());
        running.spawn(async move {
            let what = format!("the end of {path}, {leaves:?}, HTTP/2: {over_h2}");
            let request = async {
                if over_h2 {
                    new(&address, path, &account, leaves).await;
                } else {
                    old(&address, path, &account, leaves, resets).await;
                }
            };
            within(&what, request).await;
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

// G1, G6, A3, A23 (reference §7): whatever the mix of clients, origins and reloads, every gauge comes back to zero and
// the auditor finds nothing. TORTURE=N sets the number of requests, SIM_SEED=N replays a run.
#[tokio::test(flavor = "multi_thread")]
async fn no_way_to_end_leaks_a_place() {
    const ROUNDS: usize = 15;
    let requests = knob("TORTURE", 3_000);
    let seed = knob("SIM_SEED", fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let origin = Origin::start(misbehave);
    let gate = sidecar(&yaml(&origin.address, 0)).start().await;
    for round in 0..ROUNDS {
        let per_round = requests.div_ceil(ROUNDS as u64);
        let reload = async {
            let next = yaml(&origin.address, round + 1);
            gate.reloaded_with(&next).await;
        };
        tokio::join!(torture(&gate, &mut random, per_round), reload);
    }
    let what = format!("nothing in flight (SIM_SEED={seed})");
    gate.wait_until(&what, |status| status["in_flight"] == 0)
        .await;
    gate.until_idle().await;
    // A leak is counted after three scans, one second apart: let them all pass, and ask again.
    tokio::time::sleep(std::time::Duration::from_millis(4_500)).await;
    gate.until_idle().await;
    for name in ["tidegate_in_flight", "tidegate_oldest_request_age_seconds"] {
        assert_eq!(
            gate.metric(name).await,
            Some(0.0),
            "{name}, SIM_SEED={seed}"
        );
    }
    for candidate in gate.get_admin("/v1/candidates").await.as_array().unwrap() {
        for limit in candidate["limits"].as_array().unwrap() {
            assert_eq!(limit["in_flight"], 0, "{candidate}, SIM_SEED={seed}");
        }
    }
    assert_eq!(gate.get("/ok", "A0").await.status, 200, "SIM_SEED={seed}");
    eventually("the origin's idleness", async || origin.in_flight() == 0).await;
}

// G18: many accounts seen and gone leave no key and no memory behind. ACCOUNTS=1000000 is the full run.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_seen_and_gone_leave_no_trace() {
    const CLIENTS: u64 = 8;
    let accounts = knob("ACCOUNTS", 40_000);
    let origin = origin();
    let gate = sidecar(
        "limits:\n- { name: account, per: [account], max: 2 }\n- { name: by-resource, per: [account, resource], max: 2 }",
    );
    let gate = gate.before(&origin).start().await;
    let flood = async |first: u64, count: u64| {
        let clients = (0..CLIENTS).map(|client| {
            let address = gate.address.clone();
            tokio::spawn(async move {
                let mut connection = Connection::open(&address).await;
                for index in (0..count / CLIENTS).map(|index| first + index * CLIENTS + client) {
                    let account = format!("account-with-a-rather-long-name-{index:012}");
                    assert_eq!(connection.get("/", &by(&account)).await.status, 200);
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
    };
    flood(0, accounts).await;
    let settled = gate.resident_kib();
    flood(accounts, accounts).await;
    gate.until_idle().await;
    eventually("the idle keys' end", async || {
        gate.metric("tidegate_keys").await == Some(0.0) && gate.keys("account").await.is_empty()
    })
    .await;
    let resident = gate.resident_kib();
    assert!(
        resident < settled + 16 * 1024,
        "{settled} KiB grew to {resident} KiB"
    );
    assert_eq!(gate.get("/", "one-more").await.status, 200);
}
