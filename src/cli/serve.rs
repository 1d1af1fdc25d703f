//! `tidegate serve`: runs the gate until a signal ends it.
//!
//! HUP reloads, TERM and INT drain and end with 0, a second one ends at once with 1. One line on standard error says when
//! and where the gate listens. Never handles a request: this thread waits for signals only.

use std::any::Any;
use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use signal_hook::consts::SIGHUP;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::demo;
use crate::app::App;
use crate::clock::Clock;
use crate::config::{self, Secrets};
use crate::proxy::Address;

/// What is served.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(short, long, env = "TIDEGATE_CONFIG", default_value = "tidegate.yaml")]
    pub config: PathBuf,
}

/// Serves until a signal ends it.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Until the handler below is in place, a HUP must not end the process, as is its default.
    signal_hook::flag::register(SIGHUP, Arc::new(AtomicBool::new(false)))?;
    let mut err = std::io::stderr();
    let config = match config::load(&args.config, Secrets::Required) {
        Ok(config) => config,
        Err(report) => {
            writeln!(err, "{report}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    for warning in &config.warnings {
        writeln!(err, "{warning}")?;
    }
    log_to_stderr();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        // Before anybody is told that the gate is ready, it must hear.
        let mut signals = Signals::new()?;
        let app = App::start(config, Clock::default())?;
        writeln!(err, "{}", ready_line(&app))?;
        anyhow::Ok(signals.drive(&app).await)
    });
    // A second signal may leave a thread behind that still waits, which dropping the runtime would wait for.
    runtime.shutdown_background();
    code
}

/// `tidegate: ready listeners=… admin=…`, for people and scripts that wait for it.
fn ready_line(app: &App) -> String {
    let listeners: Vec<_> = app.listeners().map(ToString::to_string).collect();
    format!(
        "tidegate: ready listeners={} admin={}",
        listeners.join(","),
        app.admin_address()
    )
}

/// The signals that the gate hears.
struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Reloads when told, until it is told to stop; then drains and ends what runs, or ends it at once when told again.
    async fn drive(&mut self, app: &App) -> ExitCode {
        loop {
            tokio::select! {
                _ = self.hang_up.recv() => app.reload(),
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
            }
        }
        tracing::info!("draining");
        let ended = async {
            if !app.drain().await {
                tracing::warn!("drain_timeout passed, what was left is cut");
            }
            let app = app.clone();
            // It waits for the collector and the disk, while this thread hears.
            tokio::task::spawn_blocking(move || app.stop()).await
        };
        tokio::select! {
            ended = ended => {
                ended.expect("nothing in it panics");
                ExitCode::SUCCESS
            }
            () = self.stop() => {
                app.stop_at_once();
                ExitCode::FAILURE
            }
        }
    }
}

/// Runs the demo with the gate in this process.
pub fn demo(args: &demo::Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(demo::run(args, out, start_for_demo))?;
    Ok(ExitCode::SUCCESS)
}

fn start_for_demo(yaml: &str) -> anyhow::Result<demo::Gate> {
    let config = config::parse("demo.yaml".as_ref(), yaml, Secrets::Required)?;
    let app = App::start(config, Clock::default())?;
    let tcp = |address: &Address| match address {
        Address::Tcp(address) => Ok(*address),
        Address::Unix(_) => anyhow::bail!("the demo listens on TCP"),
    };
    let address = tcp(app.listeners().next().context("the demo has a listener")?)?;
    let admin = tcp(app.admin_address())?;
    let guard: Box<dyn Any + Send> = Box::new(StopOnDrop(app));
    Ok(demo::Gate {
        address,
        admin,
        guard,
    })
}

struct StopOnDrop(App);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What the program says about itself goes to standard error; `TIDEGATE_LOG` takes tracing's directives.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("TIDEGATE_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,pingora_core=warn"));
    let is_terminal = std::io::stderr().is_terminal();
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal);
    // A second logger in one process, as tests may have, changes nothing.
    drop(logger.try_init());
}
