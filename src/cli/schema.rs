//! `tidegate schema`: the JSON Schema of the configuration, for editors.
//!
//! Generated from the types that read the file. Never reads one.

use std::io::Write;
use std::process::ExitCode;

/// Nothing to say.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints the schema.
pub fn run(_: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    out.write_all(crate::config::schema().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
