//! What an operator types: one file a subcommand, each with its arguments and a `run`.
//!
//! The only room that prints. Messages for people go to standard error, answers to standard output.

pub mod check;
mod client;
pub mod demo;
pub mod explain;
pub mod reference;
pub mod schema;
pub mod serve;
pub mod suggest;
pub mod token;
pub mod top;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An admission-control sidecar: it counts the requests in flight per account and resource, and lets through what fits.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve by a configuration file; HUP reloads it, TERM drains
    Serve(serve::Args),
    /// Judge a configuration file and print all that is wrong with it
    Check(check::Args),
    /// Say how a request would be treated, and by which lines of the configuration
    Explain(explain::Args),
    /// See the gate at work: an origin, a noisy account and four that do not notice
    Demo(demo::Args),
    /// Watch a running gate and print limits that would fit what it does
    Suggest(suggest::Args),
    /// Watch a running gate live in a terminal, and step in
    Top(top::Args),
    /// Print a token for trying the presence plugin
    Token(token::Args),
    /// Print the configuration reference as Markdown
    Reference(reference::Args),
    /// Print the configuration's JSON Schema
    Schema(schema::Args),
}

impl Cli {
    /// Does what was asked for: 0 is good, 1 is not; wrong usage has ended with 2 before.
    pub fn run(self) -> ExitCode {
        let (mut out, mut err) = (io::stdout(), io::stderr());
        let done = match self.command {
            Command::Serve(args) => serve::run(&args),
            Command::Check(args) => check::run(&args, &mut out, &mut err),
            Command::Explain(args) => explain::run(&args, &mut out, &mut err),
            Command::Demo(args) => serve::demo(&args, &mut out),
            Command::Suggest(args) => suggest::run(&args, &mut out, &mut err),
            Command::Top(args) => top::run(&args, &mut out),
            Command::Token(args) => token::run(&args, &mut out, &mut err),
            Command::Reference(args) => reference::run(&args, &mut out),
            Command::Schema(args) => schema::run(&args, &mut out),
        };
        done.unwrap_or_else(|error| {
            if is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            // Nobody is left to tell if standard error is gone.
            drop(writeln!(err, "error: {error:#}"));
            ExitCode::FAILURE
        })
    }
}

/// Whoever reads our output has read enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let of_text = error.downcast_ref::<io::Error>().map(io::Error::kind);
    let of_json = error.downcast_ref::<serde_json::Error>();
    let kind = of_text.or_else(|| of_json?.io_error_kind());
    kind == Some(io::ErrorKind::BrokenPipe)
}
