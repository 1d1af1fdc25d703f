//! The vendor's packages for Node and Python, unmodified: made ready once a run, by the script that `make test` calls too.
//!
//! Other processes that want them at the same time wait for each other there. Never leaves anything outside the checkout.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::support::tools::said;

/// How long a script may take to say something: Node begins slowly on a busy machine, and the SDK notices silence after 15 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a script may take to end when its input has ended.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs a script of `tests/presence` with that input to its end, and returns what it printed: `.js` with Node, `.py` with Python.
pub(crate) async fn printed_by(script: &'static str, input: String) -> String {
    let printed = tokio::task::spawn_blocking(move || run(script, &input));
    printed.await.unwrap()
}

fn run(script: &str, input: &str) -> String {
    let path = folder().join(script);
    let mut command = match path.extension().and_then(|ending| ending.to_str()) {
        Some("py") => Command::new(python()),
        _ => Command::new("node"),
    };
    command.arg(path).current_dir(folder());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A script of `tests/presence` that runs in Node beside the test, led by lines and answering with lines of JSON. It ends with its
/// input, and is killed if that does not end it.
pub(crate) struct Script {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<Value>,
    ended: std::sync::mpsc::Receiver<()>,
}

impl Script {
    /// Starts it with those arguments and variables.
    pub(crate) async fn start(
        script: &'static str,
        arguments: &[&str],
        variables: &[(&str, String)],
    ) -> Self {
        // The packages may have to be fetched first.
        let folder = tokio::task::spawn_blocking(folder).await.unwrap();
        let mut command = Command::new("node");
        command.arg(folder.join(script)).args(arguments);
        command
            .envs(variables.iter().cloned())
            .current_dir(folder)
            .stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel(1_000);
        // Its end is the sender's.
        let (at_end, ended) = std::sync::mpsc::sync_channel(0);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let _at_end: std::sync::mpsc::SyncSender<()> = at_end;
            for line in stdout.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|_| Value::from(line));
                if sender.blocking_send(value).is_err() {
                    return;
                }
            }
        });
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            ended,
        }
    }

    /// Says a line.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self
            .stdin
            .as_mut()
            .expect("its input is open until it is dropped");
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line that it prints.
    pub(crate) async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.recv()).await;
        let line = line.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for a script"));
        line.expect("the script is still there")
    }

    /// What it printed that was not looked at yet.
    pub(crate) fn rest(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }

    /// Kills it, so that it says goodbye to nobody.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Disconnected once it has ended; it is killed either way, which is nothing to one that has.
        self.ended.recv_timeout(FAREWELL).ok();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Where the scripts are, and beside them `node_modules`.
fn folder() -> &'static Path {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/presence");
        let made = Command::new(folder.join("packages.sh")).output().unwrap();
        assert!(made.status.success(), "packages.sh: {}", said(&made));
        folder
    })
}

fn python() -> PathBuf {
    folder().join("../../target/presence-venv/bin/python")
}
