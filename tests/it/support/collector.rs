//! A collector for traces, made of the published definitions of OTLP: a program in Python that tells each span it was sent.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use super::tools::said;

/// How long a span may take: a batch waits for a second, and one that is tried again for one more.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running collector; killed when dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    child: Child,
    lines: mpsc::Receiver<Value>,
    /// Where it listens.
    pub(crate) address: String,
}

impl Collector {
    /// Starts one whose first answers are these (see `tests/traces/collector.py`).
    pub(crate) async fn start(answers: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
        let script = folder.join("packages.sh");
        // The packages may have to be fetched first.
        let made = tokio::task::spawn_blocking(move || Command::new(script).output().unwrap());
        let made = made.await.unwrap();
        assert!(made.status.success(), "packages.sh: {}", said(&made));
        let python = folder.join("../../target/traces-venv/bin/python");
        let mut command = Command::new(python);
        command.arg(folder.join("collector.py")).args(answers);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel(10_000);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).expect("lines of JSON");
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        let mut collector = Self {
            child,
            lines,
            address: String::new(),
        };
        let address = collector.next().await;
        address
            .as_str()
            .expect("an address")
            .clone_into(&mut collector.address);
        collector
    }

    /// The section that has spans sent to it, with these keys more.
    pub(crate) fn section(&self, more: &str) -> String {
        format!("traces: {{ otlp: \"http://{}\"{more} }}\n", self.address)
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.recv()).await;
        let line = line.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for the collector"));
        line.expect("the collector is still there")
    }

    /// The next so many spans.
    pub(crate) async fn spans(&mut self, count: usize) -> Vec<Value> {
        let mut spans = Vec::new();
        while spans.len() < count {
            let span = self.next().await;
            assert!(span.get("broken").is_none(), "{span}");
            spans.push(span);
        }
        spans
    }

    /// The spans that it was sent and nobody has looked at.
    pub(crate) fn rest(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
