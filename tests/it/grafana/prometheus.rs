//! A real Prometheus with the configuration that is given to people, which scrapes once a second so that a test need not wait.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use super::folder;
use crate::support::client;
use crate::support::eventually;
use crate::support::tools::{PROMETHEUS, Running};

/// A running Prometheus; killed when dropped.
#[derive(Debug)]
pub(super) struct Prometheus {
    _process: Running,
    directory: TempDir,
    address: String,
}

impl Prometheus {
    /// Watches the gate with that admin address, by `deploy/prometheus.yaml` as it is but for address and intervals.
    pub(super) async fn watching(admin: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("prometheus.yaml");
        let given = fs::read_to_string(folder().join("../deploy/prometheus.yaml")).unwrap();
        let rules = folder().join("alerts.yaml").display().to_string();
        let mut config = given;
        for (given, ours) in [
            ("127.0.0.1:9901", admin),
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("../grafana/alerts.yaml", &rules),
        ] {
            assert!(
                config.contains(given),
                "{given} stands in deploy/prometheus.yaml"
            );
            config = config.replace(given, ours);
        }
        config.push_str("global: { evaluation_interval: 1s }\n");
        fs::write(&file, config).unwrap();
        let mut prometheus = Self {
            _process: start(directory.path(), &file),
            directory,
            address: String::new(),
        };
        prometheus.until_listening().await;
        eventually("Prometheus is ready", async || {
            client::get(&prometheus.address, "/-/ready", &[])
                .await
                .status
                == 200
        })
        .await;
        prometheus
    }

    async fn until_listening(&mut self) {
        let log = self.directory.path().join("stderr");
        eventually("Prometheus listens", async || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            let line = log
                .lines()
                .find(|line| line.contains("msg=\"Listening on\""));
            let address = line.and_then(|line| line.split("address=").nth(1));
            let address = address.and_then(|rest| rest.split_whitespace().next());
            self.address = address.unwrap_or_default().to_owned();
            !self.address.is_empty()
        })
        .await;
    }

    /// What its API answers, which must be a success.
    pub(super) async fn ask(&self, path: &str) -> Value {
        let mut answer = client::get(&self.address, path, &[]).await.json();
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].take()
    }

    /// The series of an expression at this moment whose value is a number, as their labels.
    pub(super) async fn series(&self, expression: &str) -> Vec<Value> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("query", expression);
        let path = format!("/api/v1/query?{}", query.finish());
        let mut data = self.ask(&path).await;
        let series = data["result"].as_array_mut().into_iter().flatten();
        let is_number = |series: &&mut Value| {
            let value = series["value"][1]
                .as_str()
                .and_then(|text| text.parse().ok());
            value.is_some_and(f64::is_finite)
        };
        series
            .filter(is_number)
            .map(|series| series["metric"].take())
            .collect()
    }
}

fn start(directory: &Path, config: &Path) -> Running {
    let log = File::create(directory.join("stderr")).unwrap();
    let mut command = PROMETHEUS.command();
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!(
        "--storage.tsdb.path={}",
        directory.join("data").display()
    ));
    command.args(["--web.listen-address=127.0.0.1:0", "--log.format=logfmt"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let started = command.spawn();
    Running(started.expect("prometheus is installed: Debian's package is `prometheus`"))
}
