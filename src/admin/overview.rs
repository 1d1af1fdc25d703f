//! All that the live page and `tidegate top` show, in one answer.
//!
//! What is long is cut to what people read: the fullest keys, the largest accounts, the oldest requests. Each word is the one
//! of the metrics and the log. Read from the cells and the live requests at that moment; never on a request's path.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::api;
use super::{Operations, Overrides};
use crate::admission::{AccountUse, Counted, KeyUse, LimitUse};
use crate::telemetry::State;

/// Limits that are shown.
const LIMITS_MAX: usize = 200;
/// Of each limit the keys that have taken most of their own places.
const KEYS_TOP: usize = 8;
/// Limits of which keys are shown: the ones that stand first.
const KEYED_MAX: usize = 20;
const ACCOUNTS_TOP: usize = 12;
const OLDEST_TOP: usize = 25;

/// The whole of it.
pub(super) fn overview(operations: &dyn Operations) -> Value {
    let policy = operations.policy();
    let snapshot = operations.registry().snapshot(&policy);
    let overrides = operations.overrides();
    let registry = operations.registry();
    let mut fullest = registry.fullest(&policy, KEYED_MAX, KEYS_TOP).into_iter();
    let limits = snapshot.limits.iter().take(LIMITS_MAX);
    let limits = limits.map(|seen| {
        let mut shown = limit(seen, &overrides);
        if let Some(keys) = fullest.next().filter(|keys| !keys.is_empty()) {
            shown["fullest"] = keys.iter().map(key).collect();
        }
        shown
    });
    let limits: Vec<_> = limits.collect();
    let accounts = registry.accounts(ACCOUNTS_TOP);
    let candidates = snapshot
        .candidates
        .iter()
        .map(|of| json!({ "name": &*of.name, "admitted": of.would.0, "rejected": of.would.1 }));
    let mut shown = operations.about();
    let more = json!({
        "in_flight": snapshot.in_flight,
        "queued": snapshot.queued,
        "leases": operations.leases().len(),
        "limits": limits,
        "limits_total": snapshot.limits.len(),
        "accounts": accounts.iter().map(account).collect::<Vec<_>>(),
        "candidates": candidates.collect::<Vec<_>>(),
        "requests": oldest(operations),
        "resources": operations.resources(),
        "upstreams": operations.upstreams(),
    });
    if let (Some(shown), Value::Object(more)) = (shown.as_object_mut(), more) {
        shown.extend(more);
    }
    shown
}

/// What a limit counts, as it is configured.
pub(super) fn counted(of: Counted) -> Value {
    let within =
        |word: &str, window| json!({ word: humantime::format_duration(window).to_string() });
    match of {
        Counted::InFlight => "in_flight".into(),
        Counted::StartedWithin(window) => within("in_flight_started_within", window),
        Counted::StartsPer(window) => within("starts_per", window),
        Counted::CompletionsPer(window) => within("completions_per", window),
    }
}

/// One limit, over all its keys.
pub(super) fn limit(limit: &LimitUse, overrides: &Overrides) -> Value {
    let mut shown = json!({
        "name": &*limit.name,
        "per": limit.per,
        "mode": limit.mode.as_str(),
        "count": counted(limit.counted),
        "max": limit.max,
        "in_flight": limit.in_flight,
        "queued": limit.queued,
        "keys": limit.keys,
        "used_ratio": round(limit.used_ratio),
        "refused": limit.refused,
        "demand": limit.demand.map(round),
        "would": { "admitted": limit.would.0, "rejected": limit.would.1 },
        "overrides": overrides.get(&limit.name).map_or(&[][..], |of| of),
    });
    if let Some(budget) = limit.budget {
        shown["budget"] = budget.into();
    }
    shown
}

/// What one account has in flight, and had.
pub(super) fn account(of: &AccountUse) -> Value {
    json!({
        "account": of.account.as_str(),
        "in_flight": of.in_flight,
        "peak": of.peak,
    })
}

/// One key of a limit.
pub(super) fn key(of: &KeyUse) -> Value {
    let key: BTreeMap<_, _> = of.key.iter().map(|(name, value)| (name, value)).collect();
    json!({
        "key": key,
        "in_flight": of.in_flight,
        "max": of.max,
        "queued": of.queued,
        "peak": of.peak,
        "refused_lately": of.refused_lately,
    })
}

/// The oldest requests of those that wait, of those that hold places, and of leases.
fn oldest(operations: &dyn Operations) -> Value {
    let now = operations.now();
    let mut kinds: [Vec<_>; 3] = std::array::from_fn(|_| Vec::new());
    operations.live().each(|request| {
        let state = request.state();
        let kind = &mut kinds[match state {
            State::Queued => 0,
            State::Lease => 2,
            State::Forwarded | State::Streaming | State::Tunnel => 1,
        }];
        // A list twice as long as wanted is cut now and then, so that a hundred thousand requests are never copied.
        if kind.len() == 2 * OLDEST_TOP {
            keep_oldest(kind);
        }
        let is_wanted =
            kind.len() < OLDEST_TOP || kind.iter().any(|(started, _)| request.started < *started);
        if is_wanted {
            let age = now.saturating_duration_since(request.started);
            kind.push((request.started, api::row(request, state, age)));
        }
    });
    let [waiting, holding, leases] = kinds.map(|mut kind| {
        keep_oldest(&mut kind);
        kind.into_iter().map(|(_, row)| row).collect::<Vec<_>>()
    });
    json!({ "waiting": waiting, "holding": holding, "leases": leases })
}

fn keep_oldest(rows: &mut Vec<(std::time::Instant, Value)>) {
    rows.sort_by_key(|(started, _)| *started);
    rows.truncate(OLDEST_TOP);
}

fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
