//! From what was typed to what it means: settings of every part, and all findings.
//!
//! Each section is judged to its end, in the order in which sections refer to each other, so that one run of `check`
//! lists everything. Settings of a file with errors are thrown away. Never reads running state.

mod accounts;
mod candidates;
mod context;
mod covered;
mod edits;
mod guaranteed;
mod ladder;
mod limits;
mod max;
mod presence;
mod resources;
mod retries;
mod server;
mod sparing;
mod upstreams;

pub(super) use context::Context;
pub(super) use resources::OTHER;

use std::path::{Path, PathBuf};

use super::file::File;
use super::{Config, Places};
use crate::admission::{PolicyGroup, PolicySettings};
use crate::classify;
use limits::Known;

/// Judges the whole file. The settings are worth something only without errors among the findings.
pub(super) fn resolve(cx: &mut Context<'_>, file: &File, path: &Path, hash: String) -> Config {
    not_supported(cx, file);
    let mut places = Places::default();
    let server = server::server(cx, &file.server, &mut places);
    let admin = server::admin(cx, file.admin.as_ref(), &server.listeners, &mut places);
    let access_log = server::access_log(cx, file.access_log.as_ref());
    let metrics = file.metrics.as_ref();
    let metrics_accounts = server::metrics_accounts(cx, metrics);
    let (upstreams, upstream_names) = upstreams::upstreams(cx, file, &mut places);
    let default = upstreams::default_upstream(
        cx,
        file.default_upstream.as_ref(),
        &upstream_names,
        file.upstreams.place,
    );
    let keys = accounts::keys(cx, file.keys.as_ref());
    let has_plugin = upstream_names.plugin().is_some();
    let accounts = accounts::accounts(cx, file.accounts.as_ref(), &keys, has_plugin);
    let section = file.resources.as_deref().unwrap_or_default();
    let calls = presence::call_resource(file.presence.as_ref(), &upstream_names);
    let resources = resources::resources(cx, section, &upstream_names, default, calls.as_ref());
    let presence = presence::presence(cx, file.presence.as_ref());
    presence::mounts(cx, file.presence.as_ref(), &resources, &upstream_names);
    let edits = edits::edits(cx, section, file.presence.as_ref());
    let known = Known {
        resources: &resources,
        upstreams: &upstream_names,
        default_upstream: default,
        accounts: &accounts,
    };
    let section = file.limits.as_deref().unwrap_or_default();
    let mut limits = limits::limits(cx, section, &known);
    presence::reroutes(cx, section, &limits.settings, &resources);
    let retries = retries::retries(cx, file.retries.as_ref(), &mut limits);
    let candidates = candidates::candidates(cx, file.candidates.as_ref(), &known, &mut limits);
    places.values = limits.value_places;
    places.identify = accounts.places;
    places.limits = limits.places;
    places.candidates = candidates.places;
    places.resources = resources.places();
    places.upstreams = file.upstreams.place;
    let policy = PolicySettings {
        resources: resources.policy,
        upstreams: upstream_names.texts(),
        groups: accounts
            .groups
            .iter()
            .zip(&accounts.weights)
            .map(policy_group)
            .collect(),
        limits: limits.settings,
        candidates: candidates.settings,
    };
    Config {
        server,
        admin,
        access_log,
        metrics_accounts,
        policy,
        upstreams,
        presence,
        resources: resources.proxy,
        edits,
        rules: classify::Settings {
            resources: resources.rules,
            identify: accounts.identify,
            unidentified: accounts.unidentified,
            groups: accounts.groups,
            keys: keys.made,
            values: limits.values,
            retries,
            plugin: None,
        },
        resource_lines: resources.lines,
        limit_lines: limits.lines,
        candidate_lines: candidates.lines,
        identify_lines: accounts.identify_lines,
        path: PathBuf::from(path),
        text: cx.source.text().to_owned(),
        hash,
        watched: std::mem::take(&mut cx.watched),
        warnings: Vec::new(),
        places,
    }
}

fn policy_group((group, &weight): (&classify::Group, &u32)) -> PolicyGroup {
    PolicyGroup {
        name: group.name.clone(),
        accounts: group.accounts.clone(),
        weight,
    }
}

fn not_supported(cx: &mut Context<'_>, file: &File) {
    cx.not_supported(
        file.notify.as_ref(),
        "notify",
        "telling others about limits is",
    );
    cx.not_supported(
        file.stores.as_ref(),
        "stores",
        "counts shared by several sidecars are",
    );
}
