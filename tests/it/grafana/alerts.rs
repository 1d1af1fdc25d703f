//! Alert rules: Prometheus takes them, each was seen quiet and firing, and each tells whoever it wakes what to do.

use std::fs;

use serde_json::Value;

use super::boards::{metric, metrics};
use super::{folder, list, text};
use crate::support::tools::{PROMTOOL, said};

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// All rules.
fn rules() -> Vec<Value> {
    let file: Value = serde_yaml::from_str(&read("alerts.yaml")).unwrap();
    let groups = list(&file["groups"]).iter();
    let rules: Vec<_> = groups
        .flat_map(|group| list(&group["rules"]))
        .cloned()
        .collect();
    assert!(rules.len() >= 12, "the rules are there");
    rules
}

#[tokio::test]
async fn prometheus_takes_the_alert_rules() {
    let file = folder().join("alerts.yaml");
    let judged = PROMTOOL
        .run(&["check", "rules", file.to_str().unwrap()])
        .await;
    assert!(judged.status.success(), "{}", said(&judged));
}

#[tokio::test]
async fn alerts_fire_when_they_should_and_only_then() {
    let file = folder().join("alerts_test.yaml");
    let judged = PROMTOOL
        .run(&["test", "rules", file.to_str().unwrap()])
        .await;
    assert!(judged.status.success(), "{}", said(&judged));
}

// A rule that was never seen firing may never fire, and one never seen quiet may never stop.
#[test]
fn each_alert_is_tested_quiet_and_firing() {
    let tests = read("alerts_test.yaml");
    for rule in rules() {
        let name = text(&rule["alert"]);
        let asked = format!("alertname=\"{name}\",alertstate=\"firing\"");
        let lines: Vec<_> = tests.lines().filter(|line| line.contains(&asked)).collect();
        let quiet = |line: &&&str| line.contains("exp_samples: []");
        assert!(
            lines.iter().any(|line| quiet(&line)),
            "{name} is never quiet"
        );
        assert!(lines.iter().any(|line| !quiet(&line)), "{name} never fires");
    }
}

#[test]
fn each_alert_says_what_is_wrong_and_what_to_do() {
    for rule in rules() {
        let name = text(&rule["alert"]);
        assert!(name.starts_with("Tidegate"), "{name}");
        let severity = text(&rule["labels"]["severity"]);
        assert!(["page", "ticket"].contains(&severity), "{name}: {severity}");
        for what in ["summary", "description", "runbook"] {
            let said = rule["annotations"][what].as_str().unwrap_or_default();
            assert!(said.len() > 20, "{name}: {what} is {said:?}");
        }
        for metric_name in metrics(text(&rule["expr"])) {
            assert!(
                metric(&metric_name).is_some(),
                "{name}: no metric `{metric_name}`"
            );
        }
    }
}
