//! The reload contract: whole or not at all, and nothing in flight is forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::client::{Connection, by};
use crate::support::origin::{Origin, held_origin, origin};
use crate::support::sidecar::{Sidecar, full, limit, sidecar};
use crate::support::{eventually, h2, knob, now};

/// One limit per account with that maximum, and something else after it.
fn account(max: u32, more: &str) -> String {
    format!("limits:\n- {{ name: account, per: [account], max: {max} }}\n{more}")
}

async fn hold(gate: &Sidecar, origin: &Origin, who: &str) -> Connection {
    let before = origin.in_flight();
    let mut client = gate.connect().await;
    client.send_get("/", &by(who)).await;
    origin.until_in_flight(before + 1).await;
    client
}

async fn generation(gate: &Sidecar) -> u64 {
    gate.get_admin("/v1/status").await["generation"]
        .as_u64()
        .expect("a generation")
}

// G4 (1, 2): counts belong to the limit's identity, so what is in flight is counted through any reload.
#[tokio::test]
async fn what_is_in_flight_is_counted_through_reloads() {
    let origin = held_origin();
    let gate = sidecar(&account(2, "")).before(&origin).start().await;
    let mut first = hold(&gate, &origin, "A").await;
    for (max, more) in [
        (5, ""),
        (2, "- { name: whole, per: [], max: 50 }\n"),
        (1, ""),
    ] {
        gate.reloaded_with(&account(max, more)).await;
        let seen = gate.limit("account").await;
        assert_eq!((&seen["in_flight"], &seen["max"]), (&1.into(), &max.into()));
    }
    assert_eq!(gate.get("/", "A").await.status, 429);
    origin.release(1);
    assert_eq!(first.response().await.status, 200);
    gate.until_idle().await;
}

// G4 (5): the cells of a removed limit live until they are empty, and the limit that returns still knows them or
// starts from nothing, but is never below zero.
#[tokio::test]
async fn a_removed_limit_neither_leaks_nor_underflows() {
    let origin = held_origin();
    let gate = sidecar(&account(1, "")).before(&origin).start().await;
    let mut first = hold(&gate, &origin, "A").await;
    gate.reloaded_with("limits: []").await;
    let mut second = hold(&gate, &origin, "A").await;
    gate.reloaded_with(&account(1, "")).await;
    origin.open();
    assert_eq!(first.response().await.status, 200);
    assert_eq!(second.response().await.status, 200);
    gate.until_idle().await;
    assert_eq!(gate.get("/", "A").await.status, 200);
    let mut alone = Vec::new();
    for _ in 0..50 {
        alone.push(gate.get("/", "A").await.status);
    }
    assert!(alone.iter().all(|&status| status == 200), "{alone:?}");
    gate.until_idle().await;
}

// G4: a limit that counts on something else is another limit; the answer warns that it begins at zero.
#[tokio::test]
async fn a_limit_of_another_kind_counts_from_zero_and_says_so() {
    let origin = held_origin();
    let gate = sidecar(&account(1, "")).before(&origin).start().await;
    let _first = hold(&gate, &origin, "A").await;
    let answer = gate
        .reloaded_with("limits: [{ name: account, per: [account, resource], max: 1 }]")
        .await;
    // Whoever sees the file first, the call or the look once a second, says it.
    let told = answer.to_string() + &gate.log();
    assert!(told.contains("counts_from_zero"), "{told}");
    assert_eq!(gate.limit("account").await["in_flight"], 0);
    let _second = hold(&gate, &origin, "A").await;
    assert_eq!(gate.get("/", "A").await.status, 429);
    origin.open();
    gate.until_idle().await;
}

// G4 (6): a file that is refused leaves everything as it was, and says why in the answer, the API, the log and
// the metrics.
#[tokio::test]
async fn a_refused_file_changes_nothing() {
    let origin = held_origin();
    let gate = sidecar(&account(1, "")).before(&origin).start().await;
    let _holder = hold(&gate, &origin, "A").await;
    let before = generation(&gate).await;
    let bad = [
        (
            "limits: [{ name: account, per: [account], maximum: 1 }]",
            "maximum",
        ),
        (
            "limits: [{ name: account, per: [nonsense], max: 1 }]",
            "nonsense",
        ),
        (
            "limits: [{ name: account, per: [account], resources: [absent], max: 1 }]",
            "absent",
        ),
        ("limits: [", "syntax"),
    ];
    for (yaml, names) in bad {
        let refused = gate.reload_with(yaml).await;
        assert_eq!(refused.status, 422, "{yaml}: {}", refused.text());
        let told = refused.text();
        assert!(told.contains(names) || names == "syntax", "{yaml}: {told}");
        assert_eq!(
            gate.post_admin("/v1/reload").await.status,
            422,
            "judged again"
        );
        assert_eq!(generation(&gate).await, before);
        let config = gate.get_admin("/v1/config").await;
        assert!(config["last_refusal"] != Value::Null, "{config}");
        assert!(
            config["yaml"]
                .as_str()
                .is_some_and(|text| !text.contains(yaml)),
            "{config}"
        );
        assert_eq!(gate.get("/", "A").await.status, 429);
    }
    let refused = gate
        .metric("tidegate_config_reloads_total{result=\"refused\"}")
        .await;
    assert!(refused >= Some(4.0), "{refused:?}");
    assert!(gate.log().contains("maximum"), "{}", gate.log());
    gate.reloaded_with(&account(2, "")).await;
    assert!(generation(&gate).await > before);
    origin.open();
}

// G4 (6): what only a restart can change is refused by name.
#[tokio::test]
async fn what_needs_a_restart_is_refused() {
    let origin = origin();
    let gate = sidecar(&account(1, "")).before(&origin).start().await;
    let before = generation(&gate).await;
    let server = |rest: &str| format!("server: {{ {rest} }}\n{}", account(1, ""));
    let table = [
        server(
            "threads: 2, listeners: [{ address: \"127.0.0.1:0\" }, { address: \"unix:$DIR/x\" }]",
        ),
        server("threads: 1, listeners: [{ address: \"127.0.0.1:0\" }]"),
        format!(
            "admin: {{ address: \"unix:$DIR/admin.sock\" }}\n{}",
            account(1, "")
        ),
    ];
    for yaml in table {
        let refused = gate.reload_with(&yaml).await;
        assert_eq!(refused.status, 422, "{yaml}");
        assert!(
            refused.text().contains("needs_restart"),
            "{}",
            refused.text()
        );
        assert_eq!(generation(&gate).await, before);
    }
    assert_eq!(gate.get("/", "A").await.status, 200);
    let allowed = server("threads: 2, listeners: [{ address: \"127.0.0.1:0\" }], keep_alive: 20s");
    gate.reloaded_with(&allowed).await;
}

// G4 (8): the same bytes are the same generation, and the generation is in the API and in the metrics.
#[tokio::test]
async fn the_same_bytes_are_the_same_generation() {
    let origin = origin();
    let gate = sidecar(&account(1, "")).before(&origin).start().await;
    let before = generation(&gate).await;
    let hash = gate.get_admin("/v1/config").await["hash"].clone();
    for _ in 0..3 {
        let answer = gate.post_admin("/v1/reload").await;
        assert_eq!(
            (answer.status, answer.json()["generation"].as_u64()),
            (200, Some(before))
        );
    }
    let answer = gate.reloaded_with(&account(2, "")).await;
    let after = generation(&gate).await;
    assert!(after > before);
    assert_eq!(answer["generation"].as_u64(), Some(after));
    let config = gate.get_admin("/v1/config").await;
    assert_eq!(config["generation"].as_u64(), Some(after));
    assert_ne!(config["hash"], hash);
    assert_eq!(
        gate.metric("tidegate_config_generation").await,
        Some(f64::from(u32::try_from(after).unwrap()))
    );
}

// G4: HUP, a changed file and a ConfigMap's swapped link each reload, without the API.
#[tokio::test]
async fn files_and_signals_reload_too() {
    let origin = origin();
    let plan = sidecar("").before(&origin);
    let directory = plan.directory().to_owned();
    let put = |version: &str, max: u32| {
        let folder = directory.join(version);
        std::fs::create_dir(&folder).unwrap();
        let text = full(&account(max, ""), Some(&origin.address), &directory);
        std::fs::write(folder.join("tidegate.yaml"), text).unwrap();
        let next = directory.join("..data_tmp");
        std::os::unix::fs::symlink(version, &next).unwrap();
        std::fs::rename(next, directory.join("..data")).unwrap();
    };
    put("..v1", 1);
    std::os::unix::fs::symlink("..data/tidegate.yaml", directory.join("tidegate.yaml")).unwrap();
    let gate = plan.start_with(&directory.join("tidegate.yaml")).await;
    let has = |max: u32| move |status: &Value| limit(status, "account")["max"] == max;
    gate.wait_until("the first file", has(1)).await;
    put("..v2", 2);
    gate.wait_until("the swapped link", has(2)).await;
    gate.write(&account(3, ""));
    gate.wait_until("the renamed file", has(3)).await;
    let text = full(&account(4, ""), Some(&origin.address), &directory);
    std::fs::write(gate.config(), &text).unwrap();
    gate.wait_until("the rewritten file", has(4)).await;
    std::fs::write(gate.config(), text.replace("max: 4", "max: 5")).unwrap();
    gate.signal(Signal::HUP);
    gate.wait_until("the signal", has(5)).await;
    gate.signal(Signal::HUP);
    gate.signal(Signal::HUP);
    assert_eq!(gate.get("/", "A").await.status, 200);
}

// G4: a file that was refused for something outside it is judged again, and a secret is read again.
#[tokio::test]
async fn a_missing_secret_refuses_until_it_is_there() {
    let origin = origin();
    let gate = sidecar(&account(1, "")).before(&origin).start().await;
    let yaml = account(
        1,
        "keys: { k: { algorithm: HS256, secret: { file: \"$DIR/secret\" } } }\n\
         accounts: { identify: [{ jwt: { claim: sub, keys: [k] } }, { header: x-account }] }\n",
    );
    assert_eq!(gate.reload_with(&yaml).await.status, 422);
    std::fs::write(
        gate.directory().join("secret"),
        "0123456789abcdef0123456789abcdef",
    )
    .unwrap();
    assert_eq!(gate.post_admin("/v1/reload").await.status, 200);
    assert!(
        !gate
            .get_admin("/v1/config")
            .await
            .to_string()
            .contains("0123456789abcdef")
    );
}

// A reload cuts no connection: an open stream goes on, and so does keep-alive in both protocols.
#[tokio::test]
async fn a_reload_cuts_no_connection() {
    let origin = origin();
    let gate = sidecar(&account(9, "")).before(&origin).start().await;
    let mut old = gate.connect().await;
    let mut new = h2::Connection::open(&gate.address).await;
    for max in 10..20 {
        assert_eq!(old.get("/", &by("A")).await.status, 200);
        assert_eq!(new.get("/", "A").await.0.status, 200);
        gate.reloaded_with(&account(max, "")).await;
    }
    // One for each of the two threads at most.
    assert!(
        origin.connections() <= 2,
        "pools survive reloads: {}",
        origin.connections()
    );
}

// Another upstream takes effect for the next request.
#[tokio::test]
async fn a_changed_upstream_serves_the_next_request() {
    let old = held_origin();
    let new = Origin::start(async |exchange| exchange.reply(200, "new").await);
    let upstream =
        |address: &str| format!("upstreams: {{ api: {{ endpoints: [\"{address}\"] }} }}");
    let gate = sidecar(&upstream(&old.address)).start().await;
    let mut first = hold(&gate, &old, "A").await;
    gate.reloaded_with(&upstream(&new.address)).await;
    assert_eq!(gate.get("/", "A").await.text(), "new");
    old.open();
    assert_eq!(first.response().await.text(), "ok");
    gate.until_idle().await;
}

// Ten reloads a second under load refuse nobody and admit nobody in error; memory stays flat.
// RELOAD_STORM_SECONDS=60 is the full run.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_reloads_disturbs_nobody() {
    const FITTING: usize = 8;
    let seconds = knob("RELOAD_STORM_SECONDS", 5);
    let origin = origin();
    // Every generation differs; the maxima of what is tested stay, those of a bystander change.
    let yaml = |round: u32| {
        format!(
            "limits:\n- {{ name: account, per: [account], max: {FITTING}, overrides: [{{ account: closed, max: 0 }}] }}\n\
             - {{ name: by-resource, per: [account, resource], max: {} }}\n\
             - {{ name: r{}, per: [resource], max: 1000 }}",
            20 + round % 7,
            round % 3,
        )
    };
    let gate = sidecar(&yaml(0)).before(&origin).start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicUsize::new(0));
    // As many clients as fit, so that no refusal is right; and one account that never fits.
    let clients = (0..FITTING + 2).map(|index| {
        let (stop, sent, address) = (Arc::clone(&stop), Arc::clone(&sent), gate.address.clone());
        tokio::spawn(async move {
            let (who, right) = if index < FITTING {
                ("open", 200)
            } else {
                ("closed", 429)
            };
            let mut client = Connection::open(&address).await;
            while !stop.load(Ordering::SeqCst) {
                let response = client.get("/", &by(who)).await;
                assert_eq!(response.status, right, "{who}: {}", response.text());
                sent.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let (start, mut round, mut settled) = (now(), 0, 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        ticks.tick().await;
        round += 1;
        gate.reloaded_with(&yaml(round)).await;
        if start.elapsed() < Duration::from_secs(seconds) / 3 {
            settled = gate.resident_kib();
        }
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let resident = gate.resident_kib();
    assert!(
        sent.load(Ordering::SeqCst) > 1_000,
        "{sent:?} requests are no load"
    );
    assert!(
        resident < settled + 8 * 1024,
        "{settled} KiB grew to {resident} KiB"
    );
    assert!(generation(&gate).await > u64::from(round) / 2);
    gate.until_idle().await;
    eventually("the origin's idleness", async || origin.in_flight() == 0).await;
}
