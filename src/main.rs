//! Parses the arguments, runs, and ends with 0 (good), 1 (the configuration or the run failed) or 2 (wrong usage).

use std::process::ExitCode;

use clap::Parser as _;

/// Heaps by thread suit a data plane whose requests stay on theirs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::Cli::parse().run()
}
