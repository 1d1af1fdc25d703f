//! What is written for people holds: every configuration that is shown is one, and every name that is promised exists.
//!
//! Generated files (the reference, the schema) are compared beside the code that generates them, in `config`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tidegate::config::{self, Secrets};
use tidegate::telemetry::names;

use crate::support::origin::{Origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};

/// Files with blocks of code, as far as they are there.
const DOCUMENTS: [&str; 6] = [
    "README.md",
    "CHANGELOG.md",
    "docs/calls.md",
    "docs/guide.md",
    "docs/operate.md",
    "docs/presence.md",
];

/// The fenced blocks of that language, with the line on which each begins.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<(usize, String)> {
    let fence = format!("```{language}");
    let lines: Vec<&'a str> = text.lines().collect();
    let starts = (0..lines.len()).filter(|&index| lines[index].trim_end() == fence);
    let block = |index: usize| {
        let body = lines[index + 1..].iter().take_while(|line| **line != "```");
        let text: String = body.flat_map(|line| [line, "\n"]).collect();
        (index + 1, text)
    };
    starts.map(block).collect()
}

// STYLE, docs: each configuration in a document is a whole one, which can be served as it stands.
#[test]
fn every_configuration_in_the_documents_is_good() {
    for name in DOCUMENTS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for (line, yaml) in blocks(&text, "yaml") {
            if let Err(report) = config::parse(&path, &yaml, Secrets::Optional) {
                panic!("{name}, the block at line {line}\n{report}");
            }
        }
    }
}

#[test]
fn blocks_are_found_with_their_lines() {
    let text = "a\n```yaml\nb: 1\nc: 2\n```\n```sh\nd\n```\n```yaml\ne: 3\n```\n";
    let expected = [(2, "b: 1\nc: 2\n".to_owned()), (9, "e: 3\n".to_owned())];
    assert_eq!(blocks(text, "yaml"), expected);
}

/// A gate that has about everything that is measured, after a request.
async fn measured() -> (Sidecar, Origin) {
    let origin = origin();
    let limits = "limits: [{ name: whole, per: [], max: 10, mode: shadow }, { name: moving, max: { adaptive: {} } }, \
                  { name: early, max: 10, when_full: [{ queue: { length: 10, timeout: 1s, early: 1 } }] }]";
    let candidates = "candidates: { one: { limits: [{ name: whole, max: 5 }] } }";
    let presence = "presence: { accounts: [{ sid: AC0123456789abcdef0123456789abcdef, auth_token: { env: AC_AUTH_TOKEN } }] }";
    let gate = sidecar(&format!(
        "{limits}\n{candidates}\n{presence}\nmetrics: {{ accounts: 5 }}"
    ));
    let gate = gate.env("AC_AUTH_TOKEN", "an auth token of thirty-two bytes or more");
    let gate = gate.before(&origin).start().await;
    assert_eq!(gate.get("/", "A").await.status, 200);
    gate.until_idle().await;
    (gate, origin)
}

// CONTRACT §5: what `/metrics` prints, and the list that dashboards are checked against, are the same names.
#[tokio::test]
async fn every_metric_is_printed_under_its_name() {
    let (gate, _origin) = measured().await;
    let text = gate.metrics().await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let printed: BTreeSet<_> = types
        .filter_map(|line| line.split(' ').next())
        .filter(|name| name.starts_with("tidegate_"))
        .collect();
    assert_eq!(printed, BTreeSet::from(names::ALL), "{text}");
}

// CONTRACT §5: Prometheus' own tool finds nothing to say against the metrics: names, units, types and help.
#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let (gate, _origin) = measured().await;
    let file = gate.directory().join("metrics");
    fs::write(&file, gate.metrics().await).unwrap();
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(fs::File::open(&file).unwrap())
        .output()
        .expect("promtool is installed: Debian's package is `prometheus`");
    let said = [checked.stdout, checked.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(checked.status.success() && said.is_empty(), "{said}");
}
