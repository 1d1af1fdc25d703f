//! The two ends of the overload bench: an API with a handful of workers, and a load that never waits for it.
//!
//! `overload origin` is the first, `overload load` the second; `run.py` beside this file starts both, puts one proxy after
//! the other between them, and makes a report. Each end is one process, so that its CPU time and its core are its own.
//! Nothing here knows which proxy stands between the ends, and nothing listens off the loopback interface.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod load;
mod origin;
mod schedule;
mod tally;

#[derive(Debug, Parser)]
#[command(about = "The two ends of the overload bench; see benches/overload/run.py")]
struct Asked {
    #[command(subcommand)]
    end: End,
}

#[derive(Debug, Subcommand)]
enum End {
    /// Serves until it is ended.
    Origin {
        /// The port on 127.0.0.1.
        #[arg(long)]
        port: u16,
        /// Requests served at once.
        #[arg(long)]
        workers: usize,
    },
    /// Sends one step's requests, and prints what came of them as JSON.
    Load(load::Args),
}

fn main() -> ExitCode {
    let done = match Asked::parse().end {
        End::Origin { port, workers } => {
            origin::serve(SocketAddr::from(([127, 0, 0, 1], port)), workers)
        }
        End::Load(args) => load::run(&args).map(|found| println!("{found}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
