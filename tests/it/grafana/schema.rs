//! Grafana's own schema, which it publishes as types, judges the dashboards; the compiler of these types is the validator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::boards;
use crate::support::tools::said;

/// Has these files judged.
fn judge(files: &[PathBuf]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grafana/judge.sh");
    let made = tempfile::tempdir().unwrap();
    let judged = Command::new(script).arg(made.path()).args(files).output();
    judged.unwrap()
}

// STYLE, tests: another's tool judges what is written for it.
#[test]
fn grafana_takes_each_dashboard_by_its_own_schema() {
    let files: Vec<_> = boards().into_iter().map(|board| board.path).collect();
    let judged = judge(&files);
    assert!(judged.status.success(), "{}", said(&judged));
}

// The judge is no yes-man: a word that Grafana does not know is found wherever it stands.
#[test]
fn words_that_grafana_does_not_know_are_found() {
    let overview = boards()
        .into_iter()
        .find(|board| board.path.ends_with("overview.json"));
    let good = fs::read_to_string(overview.expect("the overview").path).unwrap();
    let mistakes = [
        (
            "an option",
            "\"graphMode\": \"none\"",
            "\"graphMode\": \"nothing\"",
        ),
        (
            "a kind of panel",
            "\"type\": \"stat\"",
            "\"type\": \"graph\"",
        ),
        ("a key", "\"unit\": \"none\"", "\"units\": \"none\""),
        ("a type", "\"refresh\": 2", "\"refresh\": \"2\""),
        ("a query", "\"range\": true", "\"ranged\": true"),
        ("an override", "\"id\": \"color\"", "\"id\": \"colour\""),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (index, (what, right, wrong)) in mistakes.iter().enumerate() {
        let bad = good.replacen(right, wrong, 1);
        assert_ne!(bad, good, "{what}: nothing to spoil");
        let file = folder.path().join(format!("bad{index}.json"));
        fs::write(&file, bad).unwrap();
        files.push(file);
    }
    let judged = said(&judge(&files));
    for (index, (what, ..)) in mistakes.iter().enumerate() {
        assert!(
            judged.contains(&format!("bad{index}.ts")),
            "{what} passed:\n{judged}"
        );
    }
}
