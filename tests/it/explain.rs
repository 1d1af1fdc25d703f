//! Explaining a request to a running gate: how full its limits are, and what would become of the request, were it to come now.

use serde_json::{Value, json};

use crate::support::client::{self, by};
use crate::support::origin::{held_origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::{binary, eventually};

const LIMITS: &str = "resources:
  - { name: queued, match: { path: /queued }, upstream: api }
  - { name: slowed, match: { path: /slowed }, upstream: api }
  - { name: marked, match: { path: /marked }, upstream: api }
  - { name: refused, match: { path: /refused }, upstream: api }
  - { name: probes, match: { path: /healthz }, exempt: true, upstream: api }
default_upstream: api
limits:
  - { name: queue, per: [account], resources: [queued], max: 1, when_full: [{ queue: { length: 2, timeout: 9s } }] }
  - { name: slow, per: [account], resources: [slowed], max: 0, when_full: [{ slow: { delay: 200ms, times: 3, length: 100 } }] }
  - { name: mark, per: [account], resources: [marked], max: 1, when_full: [{ admit: { up_to: 5, mark: overage } }] }
  - { name: refuse, per: [account], resources: [refused], max: 0, when_full: [{ reject: { status: 503 } }] }
  - { name: quiet, per: [account], resources: [queued], max: 1, mode: shadow }
candidates:
  tighter: { limits: [{ name: none, per: [account], max: 0 }] }
";

async fn explained(gate: &Sidecar, path: &str) -> Value {
    let body = json!({ "path": path, "headers": { "x-account": "A" } }).to_string();
    let fields = [("content-type", "application/json")];
    let told = client::ask(&gate.admin, "POST", "/v1/explain", &fields, &body).await;
    assert_eq!(told.status, 200, "{}", told.text());
    told.json()["judged"].clone()
}

// G20: each outcome is foreseen with the limit that decides, its numbers and a sentence; the words are those of the metrics.
#[tokio::test]
async fn what_would_become_of_a_request_is_told() {
    let api = held_origin();
    let gate = sidecar(LIMITS).before(&api).start().await;
    let mut holder = gate.connect().await;
    holder.send_get("/marked", &by("A")).await;
    api.until_in_flight(1).await;
    for (path, decision, limit, part) in [
        ("/", "admitted", Value::Null, "every limit has a place"),
        ("/healthz", "admitted", Value::Null, "no limit is asked"),
        (
            "/queued",
            "admitted",
            Value::Null,
            "every limit has a place",
        ),
        (
            "/slowed",
            "slowed",
            json!("slow"),
            "after 200ms, up to 3 times",
        ),
        (
            "/marked",
            "marked",
            json!("mark"),
            "with the mark `overage`",
        ),
        (
            "/refused",
            "rejected",
            json!("refuse"),
            "refused with 503 limit_reached: 0 of 0 places",
        ),
    ] {
        let outcome = explained(&gate, path).await["outcome"].clone();
        assert_eq!(outcome["decision"], decision, "{path}: {outcome}");
        assert_eq!(outcome["limit"], limit, "{path}: {outcome}");
        let sentence = outcome["sentence"].as_str().unwrap();
        assert!(sentence.contains(part), "{path}: {sentence}");
    }
    let outcome = explained(&gate, "/refused").await["outcome"].clone();
    assert_eq!(
        (&outcome["status"], &outcome["reason"]),
        (&json!(503), &json!("limit_reached"))
    );
    // What is foreseen comes true.
    assert_eq!(gate.get("/refused", "A").await.status, 503);
}

// G20: the numbers are the key's own at this moment, and a wait is told with how many are ahead.
#[tokio::test]
async fn the_numbers_of_the_moment_are_told() {
    let api = held_origin();
    let gate = sidecar(LIMITS).before(&api).start().await;
    let mut holder = gate.connect().await;
    holder.send_get("/queued", &by("A")).await;
    api.until_in_flight(1).await;
    let judged = explained(&gate, "/queued").await;
    let (queue, quiet) = (&judged["limits"][0], &judged["limits"][1]);
    assert_eq!(
        (&queue["name"], &queue["max"]),
        (&json!("queue"), &json!(1))
    );
    let numbers = [&queue["in_flight"], &queue["queued"], &queue["fits"]];
    assert_eq!(numbers, [&json!(1), &json!(0), &json!(false)], "{judged}");
    // In shadow and on paper: what they would say.
    assert_eq!(
        (&quiet["mode"], &quiet["fits"]),
        (&json!("shadow"), &json!(false))
    );
    assert_eq!(judged["candidates"][0]["fits"], false, "{judged}");
    let outcome = &judged["outcome"];
    assert_eq!(
        (&outcome["decision"], &outcome["ahead"]),
        (&json!("queued"), &json!(0))
    );
    let mut waiters = [gate.connect().await, gate.connect().await];
    for (index, waiter) in waiters.iter_mut().enumerate() {
        waiter.send_get("/queued", &by("A")).await;
        gate.wait_until("one more waits", |status| status["queued"] == index + 1)
            .await;
        let judged = explained(&gate, "/queued").await;
        assert_eq!(judged["limits"][0]["queued"], index + 1);
        let outcome = &judged["outcome"];
        if index == 0 {
            assert_eq!(
                (&outcome["decision"], &outcome["ahead"]),
                (&json!("queued"), &json!(1))
            );
        } else {
            let told = [&outcome["decision"], &outcome["reason"], &outcome["status"]];
            assert_eq!(
                told,
                [&json!("rejected"), &json!("queue_full"), &json!(429)]
            );
        }
    }
    // The key of another account is another one.
    let body = json!({ "path": "/queued", "headers": { "x-account": "B" } }).to_string();
    let told = client::ask(&gate.admin, "POST", "/v1/explain", &[], &body)
        .await
        .json();
    assert_eq!(told["judged"]["limits"][0]["in_flight"], 0);
    assert_eq!(told["judged"]["outcome"]["decision"], "admitted");
}

// G20: asking takes nothing, counts nothing, and makes no key.
#[tokio::test]
async fn asking_takes_and_counts_nothing() {
    let api = origin();
    let gate = sidecar(LIMITS).before(&api).start().await;
    for _ in 0..20 {
        for path in ["/queued", "/refused", "/marked", "/slowed"] {
            explained(&gate, path).await;
        }
    }
    for limit in ["queue", "refuse", "mark", "slow", "quiet"] {
        assert!(gate.keys(limit).await.is_empty(), "{limit}");
    }
    for sample in [
        "tidegate_refused_total",
        "tidegate_shadow_total",
        "tidegate_candidate_total",
    ] {
        assert_eq!(gate.metric(sample).await, Some(0.0), "{sample}");
    }
    assert_eq!(api.heads().len(), 0);
    gate.until_idle().await;
}

// G20: where the ladder sends elsewhere, the other upstream's limits decide.
#[tokio::test]
async fn a_request_that_would_be_sent_elsewhere_is_told_so() {
    let (api, bulk) = (origin(), origin());
    let yaml = format!(
        "upstreams: {{ api: {{ endpoints: [\"{}\"] }}, bulk: {{ endpoints: [\"{}\"] }} }}
default_upstream: api
resources: [{{ name: big, match: {{ path: /big }}, upstream: bulk }}]
limits:
  - {{ name: own, per: [account], upstreams: [api], max: 0, when_full: [{{ reroute: bulk }}] }}
  - {{ name: other, per: [account], upstreams: [bulk], max: 3 }}
",
        api.address, bulk.address
    );
    let gate = sidecar(&yaml).start().await;
    let outcome = explained(&gate, "/").await["outcome"].clone();
    let told = [
        &outcome["decision"],
        &outcome["upstream"],
        &outcome["limit"],
    ];
    assert_eq!(
        told,
        [&json!("rerouted"), &json!("bulk"), &json!("own")],
        "{outcome}"
    );
    gate.reloaded_with(&yaml.replace("max: 3", "max: 0")).await;
    let outcome = explained(&gate, "/").await["outcome"].clone();
    let told = [&outcome["decision"], &outcome["limit"]];
    assert_eq!(told, [&json!("rejected"), &json!("other")], "{outcome}");
}

// G20: the command line asks the running gate, prints the same text with numbers, and no credential.
#[tokio::test]
async fn the_command_line_asks_a_running_gate() {
    let api = held_origin();
    let yaml = format!("accounts: {{ identify: [basic_auth: username] }}\n{LIMITS}");
    let gate = sidecar(&yaml).before(&api).start().await;
    let mut holder = gate.connect().await;
    holder
        .send_get("/queued", &[("authorization", "Basic QTpzZWNyZXQ=")])
        .await;
    api.until_in_flight(1).await;
    let ask = async |more: &[&str]| {
        let mut command = std::process::Command::new(binary());
        command
            .args(["explain", "-H", "Authorization: Basic QTpzZWNyZXQ="])
            .args(more);
        tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap()
    };
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let told = ask(&["--admin", &gate.admin, "/queued"]).await;
    let text = said(&told.stdout);
    assert!(told.status.success(), "{}", said(&told.stderr));
    for part in [
        "account      A",
        "1. queue  max 1: 1 in flight, no place, [account=A]",
        "now          it would wait in the queue of the limit `queue`, behind 0, for 9s at most",
        "the candidate tighter, which would refuse it now",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("QTpz") && !text.contains("secret"), "{text}");
    let told = ask(&["--json", "--admin", &gate.admin, "/queued"]).await;
    let value: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(value["judged"]["outcome"]["decision"], "queued");
    // Of a file alone, nobody knows what is in flight.
    let file = gate.config().display().to_string();
    let text = said(&ask(&["-c", &file, "/queued"]).await.stdout);
    assert!(
        text.contains("1. queue  max 1, [account=A]") && !text.contains("now "),
        "{text}"
    );
    let told = ask(&["--admin", "127.0.0.1:1", "/queued"]).await;
    assert_eq!(told.status.code(), Some(1));
    assert!(said(&told.stderr).contains("no gate can be reached at 127.0.0.1:1"));
    eventually("nothing more at the origin", async || {
        api.heads().len() == 1
    })
    .await;
}
