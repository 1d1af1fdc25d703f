//! The gate as its users run it: a process, a configuration file, and what it tells.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client::{self, Connection, Response};
use super::origin::Origin;
use super::{BETWEEN_LOOKS, PATIENCE, binary, eventually, now, within};

/// What every configuration gets unless it has its own section of that name.
const SECTIONS: [(&str, &str); 4] = [
    (
        "server",
        "server: { threads: 2, listeners: [{ address: \"127.0.0.1:0\" }] }\n",
    ),
    ("admin", "admin: { address: \"127.0.0.1:0\" }\n"),
    ("access_log", "access_log: { path: off }\n"),
    (
        "accounts",
        "accounts: { identify: [{ header: x-account }] }\n",
    ),
];

/// A sidecar to be started.
#[derive(Debug)]
pub(crate) struct Plan {
    yaml: String,
    origin: Option<String>,
    environment: Vec<(String, String)>,
    directory: TempDir,
}

/// A running sidecar; killed when dropped.
#[derive(Debug)]
pub(crate) struct Sidecar {
    child: Child,
    directory: TempDir,
    origin: Option<String>,
    /// The first listener.
    pub(crate) address: String,
    /// All listeners.
    pub(crate) listeners: Vec<String>,
    /// The admin API.
    pub(crate) admin: String,
}

/// A sidecar with that configuration. `$DIR` in it is a directory of its own; listeners, admin, access log and
/// accounts (by `x-account`) are filled in where absent.
pub(crate) fn sidecar(yaml: &str) -> Plan {
    let directory = tempfile::tempdir().unwrap();
    Plan {
        yaml: yaml.to_owned(),
        origin: None,
        environment: Vec::new(),
        directory,
    }
}

impl Plan {
    /// With that origin as its only upstream, `api`.
    pub(crate) fn before(self, origin: &Origin) -> Self {
        self.before_address(&origin.address)
    }

    /// The same by address.
    pub(crate) fn before_address(mut self, address: &str) -> Self {
        self.origin = Some(address.to_owned());
        self
    }

    /// With this variable in its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The directory that `$DIR` stands for.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(self) -> Sidecar {
        let directory = self.directory.path();
        let config = directory.join("tidegate.yaml");
        fs::write(&config, full(&self.yaml, self.origin.as_deref(), directory)).unwrap();
        self.start_with(&config).await
    }

    /// Starts it with a file that the test wrote.
    pub(crate) async fn start_with(self, config: &Path) -> Sidecar {
        let log = File::create(self.directory.path().join("stderr")).unwrap();
        let out = File::create(self.directory.path().join("stdout")).unwrap();
        let child = Command::new(binary())
            .args(["serve", "-c"])
            .arg(config)
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let mut gate = Sidecar {
            child,
            directory: self.directory,
            origin: self.origin,
            address: String::new(),
            listeners: Vec::new(),
            admin: String::new(),
        };
        gate.until_ready().await;
        gate
    }
}

/// The configuration with everything filled in.
pub(crate) fn full(yaml: &str, origin: Option<&str>, directory: &Path) -> String {
    let mut text = String::new();
    for (name, section) in SECTIONS {
        if !yaml
            .lines()
            .any(|line| line.starts_with(&format!("{name}:")))
        {
            text.push_str(section);
        }
    }
    if let Some(origin) = origin {
        writeln!(
            text,
            "upstreams: {{ api: {{ endpoints: [\"{origin}\"] }} }}"
        )
        .unwrap();
    }
    text + &yaml.replace("$DIR", &directory.display().to_string())
}

impl Sidecar {
    async fn until_ready(&mut self) {
        let mut ready = None;
        eventually("the line that says ready", async || {
            let log = self.log();
            let line = log
                .lines()
                .find_map(|line| line.split_once("tidegate: ready "));
            ready = line.map(|(_, rest)| rest.to_owned());
            let ended = self.child.try_wait().unwrap();
            assert!(
                ready.is_some() || ended.is_none(),
                "ended before it was ready: {log}"
            );
            ready.is_some()
        })
        .await;
        for word in ready.unwrap_or_default().split_whitespace() {
            match word.split_once('=') {
                Some(("listeners", list)) => {
                    self.listeners = list.split(',').map(str::to_owned).collect();
                }
                Some(("admin", address)) => address.clone_into(&mut self.admin),
                _ => {}
            }
        }
        self.address = self
            .listeners
            .first()
            .cloned()
            .expect("a listener in the ready line");
    }

    /// What it wrote on stderr.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr")).unwrap_or_default()
    }

    /// What it wrote on stdout.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.directory.path().join("stdout")).unwrap_or_default()
    }

    /// The directory that `$DIR` stands for.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("tidegate.yaml")
    }

    /// A connection to the first listener.
    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(&self.address).await
    }

    /// One GET by that account on a connection of its own.
    pub(crate) async fn get(&self, path: &str, account: &str) -> Response {
        client::get(&self.address, path, &client::by(account)).await
    }

    /// Writes a new file by renaming, as editors and tools do.
    pub(crate) fn write(&self, yaml: &str) {
        let next = self.directory.path().join("next.yaml");
        fs::write(
            &next,
            full(yaml, self.origin.as_deref(), self.directory.path()),
        )
        .unwrap();
        fs::rename(next, self.config()).unwrap();
    }

    /// Writes a new file and asks for a reload.
    pub(crate) async fn reload_with(&self, yaml: &str) -> Response {
        self.write(yaml);
        self.post_admin("/v1/reload").await
    }

    /// The same, which must succeed.
    pub(crate) async fn reloaded_with(&self, yaml: &str) -> Value {
        let answer = self.reload_with(yaml).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// A write without a body.
    pub(crate) async fn post_admin(&self, path: &str) -> Response {
        let fields = [("host", "localhost"), ("content-length", "0")];
        client::ask(&self.admin, "POST", path, &fields, "").await
    }

    /// A read as it comes.
    pub(crate) async fn ask_admin(&self, path: &str) -> Response {
        client::get(&self.admin, path, &[]).await
    }

    /// A read that must succeed.
    pub(crate) async fn get_admin(&self, path: &str) -> Value {
        let answer = self.ask_admin(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// The text of `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        self.ask_admin("/metrics").await.text()
    }

    /// The sum of the samples of that name that have these labels, in any order: `name` or `name{label="value"}`;
    /// `None` when there is none.
    pub(crate) async fn metric(&self, sample: &str) -> Option<f64> {
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let labels = labels.trim_end_matches('}');
        let fits = |line: &&str| {
            let seen = line.split([' ', '{']).next();
            seen == Some(name) && labels.split(',').all(|label| line.contains(label))
        };
        let text = self.metrics().await;
        let samples = text.lines().filter(fits);
        let values: Vec<f64> = samples
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Waits until `/v1/status` fits.
    pub(crate) async fn wait_until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let start = now();
        loop {
            let status = self.get_admin("/v1/status").await;
            if fits(&status) {
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "waited {PATIENCE:?} for {what}: {status}"
            );
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// What `/v1/status` says about one limit.
    pub(crate) async fn limit(&self, name: &str) -> Value {
        limit(&self.get_admin("/v1/status").await, name).clone()
    }

    /// The keys of one limit.
    pub(crate) async fn keys(&self, limit: &str) -> Vec<Value> {
        let keys = self
            .get_admin(&format!("/v1/limits/{limit}/keys?top=1000"))
            .await;
        keys.as_array().cloned().expect("a list of keys")
    }

    /// Waits until nothing is in flight anywhere, in no limit, and the auditor found no leak.
    pub(crate) async fn until_idle(&self) {
        self.wait_until("nothing in flight", |status| {
            let limits = status["limits"].as_array();
            status["in_flight"] == 0
                && limits.is_some_and(|limits| limits.iter().all(|limit| limit["in_flight"] == 0))
        })
        .await;
        assert_eq!(
            self.metric("tidegate_leaks_detected_total").await,
            Some(0.0)
        );
    }

    /// The process's resident memory.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("a resident size");
        line.split_whitespace()
            .nth(1)
            .and_then(|text| text.parse().ok())
            .expect("a number")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn until_exit(&mut self) -> ExitStatus {
        let mut status = None;
        let wait = eventually("the process's end", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        within("the process's end", wait).await;
        status.expect("it ended")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut log = self.log();
            log.truncate(log.floor_char_boundary(8000));
            std::io::Write::write_all(&mut std::io::stderr(), log.as_bytes()).ok();
        }
        // It may have ended by itself, which is what some tests wait for.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// One limit of a status.
pub(crate) fn limit<'s>(status: &'s Value, name: &str) -> &'s Value {
    let limits = status["limits"].as_array().expect("a list of limits");
    let found = limits.iter().find(|limit| limit["name"] == name);
    found.unwrap_or_else(|| panic!("no limit {name} in {status}"))
}
