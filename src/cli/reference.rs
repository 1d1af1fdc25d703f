//! `tidegate reference`: what every key of the configuration means, in Markdown.
//!
//! Generated from the types that read the file. Never reads one.

use std::io::Write;
use std::process::ExitCode;

/// Nothing to say.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints the reference.
pub fn run(_: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    out.write_all(crate::config::reference().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
