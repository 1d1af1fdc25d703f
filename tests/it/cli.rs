//! What an operator types, and what comes back.

use std::process::Stdio;

use crate::support::{binary, now, sidecar};

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program to its end.
pub(crate) async fn tidegate(arguments: &[&str]) -> Ended {
    let mut command = std::process::Command::new(binary());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("TIDEGATE_CONFIG")
        .env_remove("TIDEGATE_ADMIN_TOKEN");
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A directory with that configuration.
fn file(yaml: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tidegate.yaml");
    let text = sidecar::full(yaml, Some("127.0.0.1:9"), directory.path());
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (directory, path)
}

const GOOD: &str = "resources: [{ name: calls, match: { methods: [POST], path: \"/Accounts/{account}/Calls\" }, \
                    upstream: api }]\n\
                    default_upstream: api\n\
                    accounts: { identify: [{ path: account }, { header: x-account }] }\n\
                    limits:\n\
                    - { name: calls-per-account, per: [account, resource], resources: [calls], max: 20 }\n\
                    - { name: whole, per: [], max: 400 }\n";

// CLI: 0 when good, 1 when the configuration is bad, 2 when it was typed wrong.
#[tokio::test]
async fn the_exit_status_says_whose_fault_it_was() {
    let (_keep, good) = file(GOOD);
    let (_keep, bad) = file("limits: [{ name: x, per: [account], max: 1, maximum: 2 }]");
    let (_keep, secret) =
        file("admin: { address: \"127.0.0.1:0\", token: { env: ABSENT_SECRET } }");
    let table: &[(&[&str], i32)] = &[
        (&["check", "-c", &good], 0),
        (&["check", "-c", &bad], 1),
        (&["check", "-c", "/nonexistent/tidegate.yaml"], 1),
        (&["serve", "-c", &bad], 1),
        (&["serve", "-c", &secret], 1),
        (&["check", "-c", &secret], 0),
        (&["check", "--deny-warnings", "-c", &secret], 1),
        (&["--help"], 0),
        (&["--version"], 0),
        (&["serve", "--no-such-flag"], 2),
        (&["no-such-command"], 2),
        (&["explain", "-c", &good], 2),
        (&["explain", "-c", &good, "a/b"], 2),
        (&["explain", "-c", &good, "-H", "no colon", "/"], 2),
    ];
    for (arguments, code) in table {
        let ended = tidegate(arguments).await;
        assert_eq!(ended.code, *code, "{arguments:?}: {ended:?}");
        assert!(
            !ended.stderr.contains("panicked"),
            "{arguments:?}: {ended:?}"
        );
    }
    let told = tidegate(&["serve", "-c", &bad]).await.stderr;
    assert!(
        told.contains("error[") && told.contains("tidegate.yaml:") && told.contains('^'),
        "{told}"
    );
    let told = tidegate(&["check", "--format", "json", "-c", &bad]).await;
    serde_json::from_str::<serde_json::Value>(&told.stdout).expect("JSON");
}

// CLI, G20: `explain` tells what a request is and which limits it must fit.
#[tokio::test]
async fn explain_tells_what_a_request_would_be() {
    let (_keep, good) = file(GOOD);
    let told = tidegate(&["explain", "-c", &good, "-X", "POST", "/Accounts/AC_7/Calls"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    for word in [
        "calls",
        "AC_7",
        "calls-per-account",
        "20",
        "whole",
        "400",
        "api",
    ] {
        assert!(told.stdout.contains(word), "{word} in {}", told.stdout);
    }
    let told = tidegate(&[
        "explain",
        "-c",
        &good,
        "-H",
        "x-account: AC_8",
        "/elsewhere",
    ])
    .await;
    assert!(
        told.stdout.contains("AC_8") && told.stdout.contains("other"),
        "{}",
        told.stdout
    );
    assert!(
        !told.stdout.contains("calls-per-account"),
        "{}",
        told.stdout
    );
}

// CLI: the reference and the schema come from the program itself.
#[tokio::test]
async fn reference_and_schema_are_printed() {
    let reference = tidegate(&["reference"]).await;
    assert_eq!(reference.code, 0);
    for word in [
        "server",
        "max_head",
        "when_full",
        "departed",
        "trusted_proxies",
    ] {
        assert!(reference.stdout.contains(word), "{word}");
    }
    let schema = tidegate(&["schema"]).await;
    assert_eq!(schema.code, 0);
    let schema: serde_json::Value = serde_json::from_str(&schema.stdout).expect("a JSON schema");
    assert!(schema["properties"]["limits"].is_object(), "{schema}");
}

// CLI: the demo needs nothing, ends by itself, and shows the noisy account refused and the others not.
#[tokio::test]
async fn the_demo_runs_and_sums_up() {
    let start = now();
    let demo = tidegate(&["demo", "--for", "2s"]).await;
    assert_eq!(demo.code, 0, "{demo:?}");
    assert!(start.elapsed().as_secs() < 15, "{:?}", start.elapsed());
    let text = demo.stdout.to_ascii_lowercase();
    for word in ["noisy", "admitted", "refused", "p99"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

// CLI: the demo of calls needs nothing either, says where its pages are, and leaves nothing behind.
#[tokio::test]
async fn the_demo_of_calls_says_where_its_pages_are() {
    let start = now();
    let demo = tidegate(&["demo", "--calls", "--for", "500ms"]).await;
    assert_eq!(demo.code, 0, "{demo:?}");
    assert!(start.elapsed().as_secs() < 15, "{:?}", start.elapsed());
    for word in [
        "https://127.0.0.1:",
        "/alice",
        "/bob",
        "calls: 0, answered: 0",
    ] {
        assert!(demo.stdout.contains(word), "{word} in {}", demo.stdout);
    }
    let both = tidegate(&["demo", "--calls", "--without-limits"]).await;
    assert_eq!(both.code, 2, "{both:?}");
}
