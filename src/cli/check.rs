//! `tidegate check`: judges a configuration, as text or as JSON.
//!
//! Never starts anything, and never needs the secrets to be there.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::config::{self, Config, Diagnostic, Report, Secrets};

/// What is judged, and how it is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(short, long, env = "TIDEGATE_CONFIG", default_value = "tidegate.yaml")]
    pub config: PathBuf,
    /// How findings are shown.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    /// Fail when there are warnings.
    #[arg(long)]
    pub deny_warnings: bool,
}

/// How findings are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For reading.
    Human,
    /// One JSON object.
    Json,
}

/// Judges the file: 0 if it may be served, else 1. Findings for reading go to `err`, all else to `out`.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<ExitCode> {
    let judged = config::load(&args.config, Secrets::Optional);
    let (found, config): (Vec<Diagnostic>, Option<Config>) = match judged {
        Ok(mut config) => (std::mem::take(&mut config.warnings), Some(config)),
        Err(Report { diagnostics }) => (diagnostics, None),
    };
    let is_good = config.is_some() && (found.is_empty() || !args.deny_warnings);
    if args.format == Format::Json {
        serde_json::to_writer_pretty(&mut *out, &json!({ "ok": is_good, "diagnostics": found }))?;
        writeln!(out)?;
    } else {
        if !found.is_empty() {
            writeln!(err, "{}", Report { diagnostics: found })?;
        }
        if let Some(config) = config.filter(|_| is_good) {
            // What is there by itself has no line.
            let declared = config.resource_lines.iter().filter(|&&line| line > 0);
            let resources = counted(declared.count(), "resource");
            let limits = counted(config.policy.limits.len(), "limit");
            writeln!(out, "{}: ok ({resources}, {limits})", args.config.display())?;
        }
    }
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, args: &[&str]) -> (bool, String, String) {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidegate.yaml");
        std::fs::write(&path, text).unwrap();
        let line = ["check", "-c", path.to_str().unwrap()]
            .into_iter()
            .chain(args.iter().copied());
        let args = <Line as clap::Parser>::parse_from(line).args;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&args, &mut out, &mut err).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (code == ExitCode::SUCCESS, text(out), text(err))
    }

    const GOOD: &str = "server: { listeners: [{ address: '127.0.0.1:8080' }] }\nupstreams: { api: { endpoints: ['127.0.0.1:3000'] } }\n";

    #[test]
    fn a_good_file_is_said_to_be_good() {
        let (is_good, out, err) = check(GOOD, &["--deny-warnings"]);
        assert!(is_good && err.is_empty(), "{err}");
        assert!(
            out.ends_with("tidegate.yaml: ok (0 resources, 0 limits)\n"),
            "{out}"
        );
    }

    // G20: warnings are shown, and fail only where that is asked for.
    #[test]
    fn warnings_fail_when_they_are_denied() {
        let text = format!("{GOOD}limits: [{{ name: account, per: [account], max: 5 }}]\n");
        let (is_good, out, err) = check(&text, &[]);
        assert!(
            is_good && out.contains("ok (0 resources, 1 limit)"),
            "{out}"
        );
        assert!(err.ends_with("2 warnings\n"), "{err}");
        assert!(!check(&text, &["--deny-warnings"]).0);
    }

    #[test]
    fn errors_are_told_to_people_and_to_programs() {
        let text = GOOD.replace("server:", "sever:");
        let (is_good, out, err) = check(&text, &[]);
        assert!(
            !is_good && out.is_empty() && err.contains("error[unknown_key]"),
            "{err}"
        );
        let (is_good, out, err) = check(&text, &["--format", "json"]);
        assert!(!is_good && err.is_empty(), "{err}");
        let told: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(told["ok"], false);
        assert_eq!(told["diagnostics"][0]["code"], "unknown_key");
        assert_eq!(told["diagnostics"][0]["line"], 1);
    }
}
