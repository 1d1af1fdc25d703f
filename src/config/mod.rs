//! The configuration: one YAML file in, the settings of every part out, or all that is wrong with it.
//!
//! `source` reads bytes and secrets, `file` mirrors the YAML, `resolve` says what it means, `lint` what it probably should not
//! mean. Everything after this is settings: no other part sees the file. Never knows running state.

mod diagnostic;
mod diff;
pub mod explain;
mod file;
mod lint;
mod reference;
mod resolve;
mod source;
mod stamp;
mod syntax;
#[cfg(test)]
mod tests;
pub mod units;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::admission::PolicySettings;
use crate::telemetry::LogSettings;
use crate::{classify, presence, proxy};

pub use diagnostic::{Diagnostic, Report, Severity, summary};
pub use diff::needs_restart;
pub use reference::{reference, schema};
pub use stamp::Stamp;

use diagnostic::{Place, Source};
use resolve::Context;

/// Whether secrets and files beside the configuration must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// A missing one is an error: for serving, and for a reload.
    Required,
    /// A missing one is a warning: for those who only look.
    Optional,
}

/// Where the admin API listens, and what it asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where.
    pub address: proxy::Address,
    /// The bearer token that every call but `/live` and `/ready` must show.
    pub token: Option<String>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Admin")
            .field("address", &self.address)
            .field("token", &token)
            .finish()
    }
}

/// What one file means.
#[derive(Debug)]
pub struct Config {
    /// The data plane.
    pub server: proxy::Settings,
    /// The admin API.
    pub admin: Admin,
    /// The access log.
    pub access_log: LogSettings,
    /// How many accounts the metrics tell apart, if they do.
    pub metrics_accounts: Option<usize>,
    /// In the order of their ids.
    pub upstreams: Vec<proxy::UpstreamSettings>,
    /// The plugin, if there is a section for it. Resources that mount it have the upstream behind the last of `upstreams`.
    pub presence: Option<presence::Settings>,
    /// What the data plane does with each resource, in the order of their ids: those that match requests, `other`, and what calls of the
    /// plugin count as if that matches none.
    pub resources: Vec<proxy::ResourceSettings>,
    /// What edits the answers of each resource, in the same order.
    pub edits: Vec<Option<presence::EditSettings>>,
    /// What requests are.
    pub rules: classify::Settings,
    /// How much may be in flight.
    pub policy: PolicySettings,
    /// The line of each resource; 0 for what is there by itself.
    pub resource_lines: Vec<usize>,
    /// The line of each limit.
    pub limit_lines: Vec<usize>,
    /// The line of each limit of each candidate.
    pub candidate_lines: Vec<Vec<usize>>,
    /// The line of each source of accounts.
    pub identify_lines: Vec<usize>,
    /// The file, as it was named.
    pub path: PathBuf,
    /// The YAML as read. Secrets are never in it.
    pub text: String,
    /// SHA-256 of the file's bytes, in hex.
    pub hash: String,
    /// Certificates, keys, authorities and secrets beside the file.
    pub watched: Vec<PathBuf>,
    /// What works, but hardly as it was meant.
    pub warnings: Vec<Diagnostic>,
    places: Places,
}

/// Places of what lint and diff talk about.
#[derive(Debug, Default)]
struct Places {
    listeners: Vec<Place>,
    threads: Place,
    admin: Place,
    upstreams: Place,
    /// Of each upstream that says how an endpoint is chosen.
    balances: Vec<Option<Place>>,
    /// Of those in front of `other`.
    resources: Vec<Place>,
    identify: Vec<Place>,
    limits: Vec<Place>,
    /// Of the limits of each candidate.
    candidates: Vec<Vec<Place>>,
    values: Vec<Place>,
}

impl Config {
    /// What the file and all files beside it look like now.
    #[must_use]
    pub fn stamps(&self) -> Vec<Option<Stamp>> {
        std::iter::once(&self.path)
            .chain(&self.watched)
            .map(|path| Stamp::of(path))
            .collect()
    }

    /// A refusal of the file as a whole, for what shows only when it is put to work.
    #[must_use]
    pub fn refusal(&self, code: &'static str, message: &str) -> Report {
        let name = self.path.display().to_string();
        let hint = "mend it and reload; the running configuration stays until then";
        Diagnostic::of_file(&name, code, message.to_owned(), hint).into()
    }
}

/// A time since the Unix epoch as RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn rfc3339(unix_time: std::time::Duration) -> String {
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + unix_time).to_string()
}

/// Reads and judges a file.
pub fn load(path: &Path, secrets: Secrets) -> Result<Config, Report> {
    parse(path, &source::read(path)?, secrets)
}

/// Judges a text as if it were the file's.
pub fn parse(path: &Path, text: &str, secrets: Secrets) -> Result<Config, Report> {
    let name = path.display().to_string();
    let source = Source::new(&name, text);
    let file = syntax::read(&source)?;
    let mut cx = Context::new(&source, path, secrets);
    let mut config = resolve::resolve(&mut cx, &file, path, hash(text.as_bytes()));
    if !cx.has_errors() {
        lint::lint(&mut cx, &config);
    }
    let is_refused = cx.has_errors();
    let mut diagnostics = cx.found;
    diagnostics.sort_by_key(|found| (found.line, found.column));
    if is_refused {
        return Err(Report { diagnostics });
    }
    config.warnings = diagnostics;
    Ok(config)
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("writing to a string does not fail");
            hex
        })
}
