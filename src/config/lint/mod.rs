//! What works, but hardly as it was meant: warnings about a configuration without errors.
//!
//! Each check is a function of the settings, and says only what it is sure of: a rule that may be shadowed is not
//! reported, one that is, is. Never an error.

mod reach;
#[cfg(test)]
mod tests;

use super::Config;
use super::diagnostic::Place;
use super::resolve::{Context, OTHER};
use crate::admission::{Cost, Dimension, LimitSettings, Mode, Moves, ResourceId};
use crate::classify::{AccountSource, ResourceMatch, Template, ValueSource};
use crate::proxy::{Balance, StreamPolicy};

/// Where orchestrators look by custom.
const PROBES: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// What the presence plugin keeps open for as long as its clients are there.
const SOCKETS: [&str; 2] = ["/signal", "/v1/presence/events"];

/// All checks.
pub(super) fn lint(cx: &mut Context<'_>, config: &Config) {
    shadowed_resources(cx, config);
    limits_that_cover_exempt_resources_only(cx, config);
    costs_above_the_maximum(cx, config);
    limited_probes(cx, config);
    forgeable_accounts(cx, config);
    captures_that_no_path_has(cx, config);
    certificates_that_nobody_asks_for(cx, config);
    choices_by_an_account_that_nobody_has(cx, config);
    sockets_that_hold_places(cx, config);
    addresses_that_anybody_claims(cx, config);
    reach::reach(cx, config);
}

fn shadowed_resources(cx: &mut Context<'_>, config: &Config) {
    let matches: Vec<_> = config
        .rules
        .resources
        .iter()
        .map_while(|resource| resource.matches.as_ref())
        .collect();
    for (later, wanted) in matches.iter().enumerate() {
        let Some(earlier) = matches[..later]
            .iter()
            .position(|wide| covers(wide, wanted))
        else {
            continue;
        };
        let names = (
            &config.rules.resources[later].name,
            &config.rules.resources[earlier].name,
        );
        let message = format!(
            "resource `{}` never matches: `{}` takes all its requests",
            names.0, names.1
        );
        cx.warning("shadowed", config.places.resources[later], message)
            .hint(format!(
                "the first that matches wins; move it above line {}",
                config.resource_lines[earlier]
            ));
    }
}

/// Whether all requests that fit `narrow` fit `wide` too.
fn covers(wide: &ResourceMatch, narrow: &ResourceMatch) -> bool {
    let methods = wide.methods.is_empty()
        || (!narrow.methods.is_empty()
            && narrow
                .methods
                .iter()
                .all(|method| wide.methods.contains(method)));
    let is_wide_host = |host: &String| {
        wide.hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(host))
    };
    let hosts = wide.hosts.is_empty()
        || (!narrow.hosts.is_empty() && narrow.hosts.iter().all(is_wide_host));
    let path = match (&wide.path, &narrow.path) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide.covers(narrow),
        (Some(_), None) => false,
    };
    let headers = wide.headers.iter().all(|(name, value)| {
        narrow
            .headers
            .iter()
            .any(|(known, wanted)| known == name && (value.is_none() || value == wanted))
    });
    methods && hosts && path && headers
}

fn covered<'c>(config: &'c Config, limit: &'c LimitSettings) -> impl Iterator<Item = usize> + 'c {
    config
        .policy
        .resources
        .iter()
        .enumerate()
        .filter_map(move |(index, resource)| {
            let id = ResourceId(u16::try_from(index).ok()?);
            let is_covered = limit
                .resources
                .as_ref()
                .is_none_or(|only| only.contains(&id))
                && !limit.except.contains(&id)
                && limit
                    .upstreams
                    .as_ref()
                    .is_none_or(|only| only.contains(&resource.upstream))
                && !resource.is_exempt;
            is_covered.then_some(index)
        })
}

/// Whether it covers anything but calls, which no request is.
fn meets_requests(config: &Config, limit: &LimitSettings) -> bool {
    let other = config.places.resources.len();
    covered(config, limit).any(|index| index <= other)
}

/// The limits in force and those of candidates, with where they stand.
fn every_limit(config: &Config) -> impl Iterator<Item = (&LimitSettings, &Place)> {
    let sets = config.policy.candidates.iter();
    let sets = sets.zip(&config.places.candidates);
    let tried = sets.flat_map(|(of, places)| of.limits.iter().zip(places));
    let enforced = config.policy.limits.iter().zip(&config.places.limits);
    enforced.chain(tried)
}

fn limits_that_cover_exempt_resources_only(cx: &mut Context<'_>, config: &Config) {
    for (limit, place) in every_limit(config) {
        if covered(config, limit).next().is_none() {
            let message = format!(
                "limit `{}` meets no request: all resources it covers are exempt",
                limit.name
            );
            cx.warning("unreachable", *place, message)
                .hint("take `exempt` away, or the limit");
        }
    }
}

fn costs_above_the_maximum(cx: &mut Context<'_>, config: &Config) {
    for (limit, place) in every_limit(config) {
        if limit.mode == Mode::Off {
            continue;
        }
        let usual = match &limit.moves {
            // It leaves room for the cost of whatever is retried.
            Some(Moves::RetryBudget(_)) => continue,
            Some(Moves::Adaptive(of)) => of.floor,
            Some(Moves::Follow(of)) => of.floor,
            Some(Moves::PerEndpoint { .. }) | None => limit.max,
        };
        let own = limit.account_max.iter().map(|(_, max)| *max);
        let of_groups = limit.group_max.iter().map(|(_, max)| *max);
        // A maximum of 0 is closed on purpose.
        let maxima = own.chain(of_groups).chain([usual]).filter(|max| *max > 0);
        let (Some(least), Some(most)) = (maxima.clone().min(), maxima.max()) else {
            continue;
        };
        let cost = |index: usize| &config.rules.resources[index].cost;
        let name = |index: usize| &config.rules.resources[index].name;
        if let Some(index) = covered(config, limit).find(|&index| cost(index).most() > most) {
            let message = format!(
                "limit `{}` may refuse every request of `{}`: each costs up to {} and there are {most} places",
                limit.name,
                name(index),
                cost(index).most(),
            );
            cx.warning("never_fits", *place, message)
                .hint("raise `max`, or lower the resource's `cost`");
        }
        // What is refused teaches nothing, so a cost that no place is left for would stay for good.
        let learned = |index: &usize| matches!(cost(*index), Cost::Learned(_));
        if let Some(index) = covered(config, limit)
            .filter(learned)
            .find(|&index| cost(index).most() > least)
        {
            let message = format!(
                "limit `{}` has {least} places, and a request of `{}` may come to cost {}",
                limit.name,
                name(index),
                cost(index).most(),
            );
            cx.error("contradiction", *place, message)
                .hint("lower the cost's `most`, or raise the least maximum: `max`, `floor` and those of `overrides`");
        }
    }
}

fn limited_probes(cx: &mut Context<'_>, config: &Config) {
    let falls_into = |path: &&str| {
        let probe = Template::parse(path).expect("a plain path is a template");
        config.rules.resources.iter().position(|resource| {
            resource.matches.as_ref().is_none_or(|wanted| {
                (wanted.methods.is_empty() || wanted.methods.contains(&http::Method::GET))
                    && wanted.hosts.is_empty()
                    && wanted.headers.is_empty()
                    && wanted.path.as_ref().is_none_or(|path| path.covers(&probe))
            })
        })
    };
    let found: Vec<usize> = PROBES.iter().filter_map(falls_into).collect();
    let is_said = found
        .iter()
        .any(|&index| config.rules.resources[index].is_exempt);
    // The limit is named where the resource has no line.
    let limited = found.iter().find_map(|&index| {
        let mut limits = config.policy.limits.iter().zip(&config.places.limits);
        let limit = limits.find(|(limit, _)| {
            limit.mode != Mode::Off && covered(config, limit).any(|covered| covered == index)
        })?;
        Some((index, &limit.0.name, limit.1))
    });
    let Some((index, limit, limit_place)) = limited.filter(|_| !is_said) else {
        return;
    };
    let probes = "{ name: probes, match: { path: /healthz }, exempt: true }";
    if let Some(place) = config.places.resources.get(index) {
        let name = &config.rules.resources[index].name;
        let message = format!(
            "health probes are limited like everything else: `/healthz` and the like fall under `{name}`"
        );
        let hint = format!("put a resource before it: `- {probes}`");
        cx.warning("probes_limited", *place, message).hint(hint);
    } else {
        let message = format!(
            "limit `{limit}` counts health probes too: `/healthz` and the like fall under no resource"
        );
        let hint = format!("put a resource for them under `resources`: `- {probes}`");
        cx.warning("probes_limited", *limit_place, message)
            .hint(hint);
    }
}

fn forgeable_accounts(cx: &mut Context<'_>, config: &Config) {
    // The account of a call is the plugin's own word: nobody claims it.
    let is_judged =
        |limit: &LimitSettings| limit.mode == Mode::Enforce && meets_requests(config, limit);
    let enforced = || config.policy.limits.iter().filter(|limit| is_judged(limit));
    let counts_accounts = |limit: &LimitSettings| limit.per.contains(&Dimension::Account);
    if !enforced().any(counts_accounts) {
        return;
    }
    if config.rules.identify.is_empty() {
        let index = config
            .policy
            .limits
            .iter()
            .position(|limit| is_judged(limit) && counts_accounts(limit))
            .unwrap_or(0);
        let message = format!(
            "limit `{}` counts accounts, but nothing identifies them: all are `{}`",
            config.policy.limits[index].name, config.rules.unidentified
        );
        cx.warning("unidentified", config.places.limits[index], message)
            .hint("say in `accounts.identify` where the account's name is found, such as `- header: x-account`");
        return;
    }
    let can_evade = |dimension: &Dimension| {
        matches!(
            dimension,
            Dimension::Account | Dimension::Group | Dimension::Value(_)
        )
    };
    let is_last_line = |limit: &LimitSettings| !limit.per.iter().any(can_evade);
    let forgeable = config
        .rules
        .identify
        .iter()
        .position(AccountSource::is_forgeable);
    if let Some(index) = forgeable.filter(|_| !enforced().any(is_last_line)) {
        let message =
            "a client may claim any account here, and every limit counts on what the client claims";
        cx.warning("forgeable", config.places.identify[index], message)
            .hint("verify it in front of Tidegate or with `jwt`, or add a limit without it, such as `per: [client_network]`");
    }
}

fn addresses_that_anybody_claims(cx: &mut Context<'_>, config: &Config) {
    let Some(place) = config.places.trusts_everyone else {
        return;
    };
    let identifies = |source: &AccountSource| matches!(source, AccountSource::ClientAddress);
    let counts = |limit: &LimitSettings| limit.per.contains(&Dimension::ClientNetwork);
    let who = if config.rules.identify.iter().any(identifies) {
        "accounts are"
    } else if every_limit(config).any(|(limit, _)| counts(limit)) {
        "a limit's keys are"
    } else {
        return;
    };
    let message = format!(
        "every peer is believed to be a proxy, and {who} the client's address: a client may claim any in `x-forwarded-for`"
    );
    cx.warning("trusts_everyone", place, message)
        .hint("name the networks of the proxies in front, such as `10.0.0.0/8`");
}

fn certificates_that_nobody_asks_for(cx: &mut Context<'_>, config: &Config) {
    let mut tls = config
        .server
        .listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref());
    let is_asked = tls.any(|tls| tls.client_ca.is_some());
    let wanted = config
        .rules
        .identify
        .iter()
        .position(|source| matches!(source, AccountSource::ClientCertificate));
    if let Some(index) = wanted.filter(|_| !is_asked) {
        let message = "no client shows a certificate, because no listener asks for one";
        cx.warning("no_client_ca", config.places.identify[index], message)
            .hint("set `tls.client_ca` of a listener, or take the source away");
    }
}

fn choices_by_an_account_that_nobody_has(cx: &mut Context<'_>, config: &Config) {
    if !config.rules.identify.is_empty() {
        return;
    }
    for (upstream, place) in config.upstreams.iter().zip(&config.places.balances) {
        let is_choice = upstream.balance == Balance::ConsistentHash && upstream.endpoints.len() > 1;
        if let Some(place) = place.filter(|_| is_choice) {
            let message = format!(
                "upstream `{}` chooses by the account, but nothing identifies accounts: one endpoint gets everything",
                upstream.name
            );
            cx.warning("unidentified", place, message).hint(
                "say in `accounts.identify` where the account's name is found, or balance in another way",
            );
        }
    }
}

fn captures_that_no_path_has(cx: &mut Context<'_>, config: &Config) {
    let has = |name: &str| {
        let templates = config
            .rules
            .resources
            .iter()
            .filter_map(|resource| resource.matches.as_ref()?.path.as_ref());
        templates
            .into_iter()
            .any(|template| template.names().any(|known| known == name))
    };
    let identify = config.rules.identify.iter().zip(&config.places.identify);
    let identify = identify.filter_map(|(source, place)| match source {
        AccountSource::Path(name) => Some((name, *place)),
        _ => None,
    });
    let values = config.rules.values.iter().zip(&config.places.values);
    let values = values.filter_map(|(source, place)| match source {
        ValueSource::Path(name) => Some((name, *place)),
        ValueSource::Header(_) => None,
    });
    let asked: Vec<(&String, Place)> = identify.chain(values).collect();
    for (name, place) in asked.into_iter().filter(|(name, _)| !has(name)) {
        cx.warning("unknown_capture", place, format!("no resource's path has the capture `{{{name}}}`"))
            .hint(format!("captures are declared in `match.path`, such as `/accounts/{{{name}}}/calls`; `{OTHER}` has none"));
    }
}

fn sockets_that_hold_places(cx: &mut Context<'_>, config: &Config) {
    let plugin = config.upstreams.len();
    let resources = &config.rules.resources;
    for (index, place) in config.places.resources.iter().enumerate() {
        let (resource, settings) = (&resources[index], &config.resources[index]);
        let holds = settings.stream != StreamPolicy::Headers && !resource.is_exempt;
        if usize::from(resource.upstream.0) != plugin || !holds {
            continue;
        }
        let Some(path) = SOCKETS.iter().find(|path| falls_into(config, index, path)) else {
            continue;
        };
        let message = format!(
            "resource `{}` holds its places in the limits while a socket of `{path}` is open",
            resource.name
        );
        let hint = "write `stream: headers`, in a resource of its own if this one is for more: open sockets are bounded by `presence.max_sockets`";
        cx.warning("sockets_limited", *place, message).hint(hint);
    }
}

/// Whether a GET of that path may be the first match of that resource.
fn falls_into(config: &Config, index: usize, path: &str) -> bool {
    let wanted = |index: usize| config.rules.resources[index].matches.as_ref();
    let Some(wide) = wanted(index) else {
        return false;
    };
    let probe = ResourceMatch {
        methods: vec![http::Method::GET],
        path: Template::parse(path).ok(),
        hosts: wide.hosts.clone(),
        headers: wide.headers.clone(),
    };
    let mut earlier = (0..index).filter_map(wanted);
    covers(wide, &probe) && !earlier.any(|earlier| covers(earlier, &probe))
}
