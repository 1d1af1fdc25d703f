//! What is given to those who deploy is good, as the tools of each place judge it: Prometheus, systemd, and the gate itself.
//!
//! The manifests' schemas and the Dockerfile are judged by `make check-deploy`, whose tools are not needed for anything else. Nothing here
//! builds an image or starts a service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tidegate::config::{self, Secrets};

fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name)
}

/// Runs a tool, which must find nothing wrong.
fn judge(tool: &str, package: &str, arguments: &[&str]) {
    let judged = Command::new(tool).args(arguments).output();
    let judged =
        judged.unwrap_or_else(|_| panic!("{tool} is installed: Debian's package is `{package}`"));
    let said = [judged.stdout, judged.stderr].concat();
    assert!(
        judged.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn prometheus_takes_its_configuration() {
    let file = deployed("prometheus.yaml");
    judge(
        "promtool",
        "prometheus",
        &["check", "config", file.to_str().unwrap()],
    );
}

#[test]
fn systemd_takes_the_unit() {
    let unit = fs::read_to_string(deployed("tidegate.service")).unwrap();
    // systemd looks for the program too.
    let unit = unit.replace("/usr/local/bin/tidegate", env!("CARGO_BIN_EXE_tidegate"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tidegate.service");
    fs::write(&file, unit).unwrap();
    judge(
        "systemd-analyze",
        "systemd",
        &["verify", file.to_str().unwrap()],
    );
}

#[test]
fn the_gate_takes_the_configuration_of_the_manifest() {
    let path = deployed("kubernetes.yaml");
    let manifest = fs::read_to_string(&path).unwrap();
    let block = manifest.split("  tidegate.yaml: |\n").nth(1).unwrap();
    let block = block.split("\n---").next().unwrap();
    let yaml: String = block
        .lines()
        .flat_map(|line| [line.strip_prefix("    ").unwrap_or(line), "\n"])
        .collect();
    if let Err(report) = config::parse(&path, &yaml, Secrets::Optional) {
        panic!("{report}");
    }
}

/// The documents of a manifest.
fn documents(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(deployed(name)).unwrap();
    let documents = text.split("\n---\n");
    documents
        .map(|document| serde_yaml::from_str(document).unwrap())
        .collect()
}

// G24: both ways to scale look at a limit that the manifest sets, and keep 70 % of its places in use, as they say.
#[test]
fn autoscaling_follows_a_limit_of_the_manifest() {
    let keda = &documents("autoscale.yaml")[0];
    let trigger = &keda["spec"]["triggers"][0]["metadata"];
    let [hpa, adapter] = &documents("autoscale-hpa.yaml")[..] else {
        panic!("an autoscaler and the adapter's rule");
    };
    let adapter = adapter["data"]["config.yaml"].as_str().unwrap();
    let adapter: Value = serde_yaml::from_str(adapter).unwrap();
    let rule = &adapter["rules"][0];
    let pods = &hpa["spec"]["metrics"][0]["pods"];
    assert_eq!(rule["name"]["as"], pods["metric"]["name"]);

    let api = documents("kubernetes.yaml");
    let config = api[0]["data"]["tidegate.yaml"].as_str().unwrap();
    let config: Value = serde_yaml::from_str(config).unwrap();
    let limits = config["limits"].as_array().unwrap();
    let whole = limits.iter().find(|limit| limit["name"] == "whole-api");
    let places = whole.unwrap()["max"].as_u64().unwrap();
    let target = (places * 7 / 10).to_string();
    for threshold in [&trigger["threshold"], &pods["target"]["averageValue"]] {
        assert_eq!(threshold, &target);
    }
    for query in [
        &trigger["query"],
        &rule["seriesQuery"],
        &rule["metricsQuery"],
    ] {
        let query = query.as_str().unwrap();
        assert!(
            query.contains("tidegate_demand{limit=\"whole-api\""),
            "{query}"
        );
    }
    for scaled in [keda, hpa] {
        assert_eq!(
            scaled["spec"]["scaleTargetRef"]["name"],
            api[1]["metadata"]["name"]
        );
    }
}
