//! `tidegate suggest` beside a running gate: a real load, and everything that can be in the way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use crate::cli::tidegate;
use crate::support::client::{self, by};
use crate::support::origin::{Exchange, Origin, origin};
use crate::support::sidecar::{Sidecar, limit, sidecar};

const TOKEN: &str = "open-sesame-123";
/// A host from which writes are taken.
const LOCAL: (&str, &str) = ("host", "localhost");

const CONFIG: &str = "admin: { address: \"127.0.0.1:0\", token: { env: ADMIN_SECRET } }\n\
                      default_upstream: api\n\
                      resources: [{ name: calls, match: { path: \"/calls/{*rest}\" }, upstream: api }]\n";

/// An origin whose every answer takes its time.
fn slow_origin() -> Origin {
    Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        exchange.reply(200, "ok").await
    })
}

/// Asks again as soon as it was answered, until it is told to stop.
async fn keep_asking(gate: &Sidecar, account: &str, path: &str, stop: &AtomicBool) {
    let mut client = gate.connect().await;
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(client.get(path, &by(account)).await.status, 200);
    }
}

fn max(status: &Value, name: &str) -> u64 {
    let found = limit(status, name);
    assert_eq!(found["mode"], "shadow", "{found}");
    found["max"].as_u64().expect("a number")
}

// G7: from a load of which the most at once is known come limits that hold it, and the file with them is good.
#[tokio::test]
async fn limits_are_suggested_from_what_a_gate_does() {
    let origin = slow_origin();
    let gate = sidecar(CONFIG).env("ADMIN_SECRET", TOKEN).before(&origin);
    let gate = gate.start().await;
    let stop = AtomicBool::new(false);
    let suggested = async {
        let admin = ["suggest", "--admin", &gate.admin, "--token", TOKEN];
        let ended = tidegate(&[&admin[..], &["--for", "7s"]].concat()).await;
        stop.store(true, Ordering::Relaxed);
        ended
    };
    let acme = [(); 4].map(|()| keep_asking(&gate, "acme", "/calls/1", &stop));
    let birch = [(); 2].map(|()| keep_asking(&gate, "birch", "/messages", &stop));
    let load = futures_util::future::join(join_all(acme), join_all(birch));
    let (ended, _) = tokio::join!(suggested, load);
    assert_eq!(ended.code, 0, "{ended:?}");
    let (fragment, progress) = (ended.stdout, ended.stderr);
    assert!((2..=12).contains(&progress.lines().count()), "{progress}");
    for evidence in ["from 7s", "acme 4", "birch 2", "L = λW"] {
        assert!(fragment.contains(evidence), "{evidence} in\n{fragment}");
    }
    assert!(!(progress + &fragment).contains(TOKEN));

    gate.write(&(CONFIG.to_owned() + &fragment));
    let config = gate.config().display().to_string();
    let checked = tidegate(&["check", "-c", &config]).await;
    assert_eq!(checked.code, 0, "{checked:?}\n{fragment}");
    assert!(checked.stdout.contains("4 limits"), "{checked:?}");
    let right = [("authorization", &*format!("Bearer {TOKEN}"))];
    let reloaded = client::ask(&gate.admin, "POST", "/v1/reload", &[right[0], LOCAL], "").await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    let status = client::get(&gate.admin, "/v1/status", &right).await.json();
    // The largest account has four connections, so four in flight at most, times 150 %.
    assert_eq!(max(&status, "suggested-account"), 6);
    // Six connections in all: below is the largest account's peak times 150 %, above is 6 + 4 × √6 if they never rest.
    for (name, range) in [
        ("suggested-whole", 6..=16),
        ("suggested-resource-calls", 3..=12),
        ("suggested-resource-other", 2..=8),
    ] {
        let max = max(&status, name);
        assert!(range.contains(&max), "{name}: {max}\n{fragment}");
    }
}

// G7: an idle gate gets no limits but an explanation; over a Unix socket too.
#[tokio::test]
async fn an_idle_gate_gets_no_limits() {
    let origin = origin();
    let gate = sidecar("admin: { address: \"unix:$DIR/admin.sock\" }").before(&origin);
    let gate = gate.start().await;
    let ended = tidegate(&["suggest", "--admin", &gate.admin, "--for", "7s"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
    assert!(
        ended.stderr.contains("error: no requests went through"),
        "{}",
        ended.stderr
    );
}

// G7: what is in the way is told with its place and the way out, before anything is watched.
#[tokio::test]
async fn what_cannot_be_watched_is_told_at_once() {
    let origin = origin();
    let gate = sidecar(CONFIG).env("ADMIN_SECRET", TOKEN).before(&origin);
    let gate = gate.start().await;
    let absent = "unix:/nonexistent/admin.sock";
    let admin = gate.admin.as_str();
    let table: &[(&[&str], i32, &[&str])] = &[
        (&["--admin", absent], 1, &["no gate", absent, "--admin"]),
        (
            &["--admin", admin],
            1,
            &["401", admin, "TIDEGATE_ADMIN_TOKEN"],
        ),
        (
            &["--admin", admin, "--token", "other"],
            1,
            &["401", admin, "admin.token"],
        ),
        (
            &["--admin", &origin.address],
            1,
            &["no admin API", &origin.address, "--admin"],
        ),
        (
            &["--admin", &gate.address],
            1,
            &["no admin API", &gate.address, "--admin"],
        ),
        (&["--admin", "9901"], 2, &["unix:/path"]),
        (&["--for", "3s"], 2, &["7s"]),
        (&["--for", "soon"], 2, &["5m"]),
        (&["--headroom", "50"], 2, &["100..=1000"]),
    ];
    for (arguments, code, words) in table {
        let ended = tidegate(&[&["suggest"], *arguments].concat()).await;
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (*code, ""),
            "{arguments:?}: {ended:?}"
        );
        for word in *words {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
    }
}
