//! What a reload cannot change.
//!
//! Listeners and threads belong to the process, not to a generation. Never compares what a reload can change.

use super::Config;
use super::diagnostic::{Diagnostic, Place, Severity, Source};
use crate::proxy::Address;

/// One finding for each change of `new` that only a restart can make.
#[must_use]
pub fn needs_restart(running: &Config, new: &Config) -> Vec<Diagnostic> {
    let name = new.path.display().to_string();
    let source = Source::new(&name, &new.text);
    let mut found = Vec::new();
    let mut refuse = |place: Place, message: String| {
        let mut finding = source.diagnostic(Severity::Error, "needs_restart", place, message);
        finding.hint("restart tidegate, or leave it as it was");
        found.push(finding);
    };
    let (was, is) = (addresses(running), addresses(new));
    if was != is {
        let changed = is
            .iter()
            .zip(&new.places.listeners)
            .find(|(address, _)| !was.contains(address));
        let place = changed.or_else(|| is.iter().zip(&new.places.listeners).next());
        let shown = |list: &[&Address]| {
            list.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let message = format!(
            "the listeners change from {} to {}",
            shown(&was),
            shown(&is)
        );
        refuse(place.map(|(_, place)| *place).unwrap_or_default(), message);
    }
    let (was, is) = (running.server.threads, new.server.threads);
    if was != is {
        refuse(
            new.places.threads,
            format!("`server.threads` changes from {was} to {is}"),
        );
    }
    let (was, is) = (&running.admin.address, &new.admin.address);
    if was != is {
        refuse(
            new.places.admin,
            format!("`admin.address` changes from {was} to {is}"),
        );
    }
    found
}

fn addresses(config: &Config) -> Vec<&Address> {
    config
        .server
        .listeners
        .iter()
        .map(|listener| &listener.address)
        .collect()
}
