//! Programs of other projects, run for real; one that is missing fails the test with its package.

use std::process::{Child, Command, Output, Stdio};

/// A program that must be there.
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
}

/// The HTTP client.
pub(crate) const CURL: Tool = Tool::new("curl", "curl");
/// The HTTP/1.1 load generator.
pub(crate) const WRK: Tool = Tool::new("wrk", "wrk");
/// The HTTP/2 load generator.
pub(crate) const H2LOAD: Tool = Tool::new("h2load", "nghttp2-client");
/// The web server, as an origin.
pub(crate) const NGINX: Tool = Tool::new("nginx", "nginx-light");
/// The judge of what is written for Prometheus.
pub(crate) const PROMTOOL: Tool = Tool::new("promtool", "prometheus");
/// Prometheus itself.
pub(crate) const PROMETHEUS: Tool = Tool::new("prometheus", "prometheus");
/// The browser, which a script starts.
pub(crate) const CHROMIUM: Tool = Tool::new("chromium", "chromium");
/// The terminal, as a program: it has a real pseudo-terminal, and tells what stands on its screen.
pub(crate) const TMUX: Tool = Tool::new("tmux", "tmux");

impl Tool {
    const fn new(program: &'static str, package: &'static str) -> Self {
        Self { program, package }
    }

    /// How to call it, for what [`run`](Self::run) and [`spawn`](Self::spawn) do not.
    pub(crate) fn command(&self) -> Command {
        // Debian keeps servers out of an ordinary user's path.
        let found = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"]
            .map(|directory| std::path::Path::new(directory).join(self.program));
        let found = found.into_iter().find(|path| path.exists());
        Command::new(found.unwrap_or_else(|| self.program.into()))
    }

    /// Fails without it.
    pub(crate) fn must_be_there(&self) {
        let (program, package) = (self.command(), self.package);
        let is_there = std::path::Path::new(program.get_program()).exists();
        assert!(is_there, "{}: apt-get install {package}", self.program);
    }

    /// Runs it to its end, off the test's runtime.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null());
        let (program, package) = (self.program, self.package);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap();
        output.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install {package}"))
    }

    /// Starts it and leaves it running.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        let child = self.command().args(arguments).stdin(Stdio::null()).spawn();
        let (program, package) = (self.program, self.package);
        let child =
            child.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install {package}"));
        Running(child)
    }
}

/// A program that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a program said, both ways.
pub(crate) fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}
