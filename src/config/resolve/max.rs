//! A limit's `max`: a number, or the rule by which it moves.

use super::context::Context;
use super::limits::{Known, PLACES_MAX};
use crate::admission::{AdaptiveSettings, Dimension, Follow, Moves};
use crate::config::diagnostic::Place;
use crate::config::file::{self, At, MovingMax, NumberOr};

/// Places for each endpoint; with 256 endpoints still a number of places.
const EACH_MAX: u32 = 1_000_000;
/// The most that latency may let in: beyond this it is no sidecar's upstream.
const ADAPTIVE_MAX: u32 = 1_000_000;

/// Judges the maximum; gives the places at the start, and how they move.
pub(super) fn max(
    cx: &mut Context<'_>,
    limit: &file::Limit,
    known: &Known<'_>,
    per: &[Dimension],
) -> (u32, Option<Moves>) {
    let place = limit.max.place;
    match &limit.max.value {
        NumberOr::Number(text) => {
            let value = At {
                value: text.clone(),
                place,
            };
            (cx.count("max", Some(&value), 0, 0..=PLACES_MAX), None)
        }
        NumberOr::Map(rule) => moving(cx, limit, rule, known, per),
    }
}

fn moving(
    cx: &mut Context<'_>,
    limit: &file::Limit,
    rule: &MovingMax,
    known: &Known<'_>,
    per: &[Dimension],
) -> (u32, Option<Moves>) {
    match (&rule.per_endpoint, &rule.follow, &rule.adaptive) {
        (Some(each), None, None) => {
            let each = cx.count("per_endpoint", Some(each), 1, 1..=EACH_MAX);
            let who = format!("limit `{}`", limit.name.value);
            let named = rule.of.as_ref();
            let hint = "it has no endpoints; write a number, or name one of the upstreams";
            let of = named.and_then(|name| known.upstreams.find_declared(cx, name, &who, hint));
            let of = of.unwrap_or(known.default_upstream);
            (each, Some(Moves::PerEndpoint { each, of }))
        }
        (None, Some(form), None) if rule.of.is_none() => {
            let follow = follow(cx, form);
            (follow.floor, Some(Moves::Follow(follow)))
        }
        (None, None, Some(form)) if rule.of.is_none() => {
            let place = cx.source.key_before(form.place, "adaptive");
            judge_use(cx, limit, place, per);
            let settings = adaptive(cx, &form.value);
            (settings.start, Some(Moves::Adaptive(settings)))
        }
        _ => {
            let place = cx.source.key_before(limit.max.place, "max");
            cx.error(
                "contradiction",
                place,
                "a maximum is a number, or moves by one rule",
            )
            .hint("`50`, or `{ per_endpoint: 50, of: api }`, `{ follow: { floor: 5, ceiling: 100 } }`, or `{ adaptive: {} }`");
            (0, None)
        }
    }
}

/// Latency says what an upstream can do, and nothing about what an account may.
fn judge_use(cx: &mut Context<'_>, limit: &file::Limit, place: Place, per: &[Dimension]) {
    let who = format!("limit `{}`", limit.name.value);
    let own = [Dimension::Resource, Dimension::Upstream];
    let is_of_upstream = per
        .iter()
        .all(|of| own.contains(of) || *of == Dimension::Process);
    if !is_of_upstream || own.iter().all(|of| per.contains(of)) {
        cx.error(
            "contradiction",
            place,
            format!("{who} is to follow latency, which no such key has"),
        )
        .hint(
            "`per: []`, `[resource]` or `[upstream]`; give accounts a limit of their own beside it",
        );
    }
    if limit.count.is_some() {
        cx.error(
            "contradiction",
            place,
            format!("{who} is to follow latency, which says how many may be in flight"),
        )
        .hint("leave `count` away");
    }
}

fn adaptive(cx: &mut Context<'_>, form: &file::Adaptive) -> AdaptiveSettings {
    let usual = AdaptiveSettings::default();
    let ceiling = form.ceiling.as_ref();
    let ceiling = cx.count("ceiling", ceiling, usual.ceiling, 1..=ADAPTIVE_MAX);
    let lowest = usual.floor.min(ceiling);
    let floor = cx.count("floor", form.floor.as_ref(), lowest, 1..=ceiling);
    let start = usual.start.clamp(floor, ceiling);
    AdaptiveSettings {
        floor,
        ceiling,
        start: cx.count("start", form.start.as_ref(), start, floor..=ceiling),
        ..usual
    }
}

fn follow(cx: &mut Context<'_>, form: &file::Follow) -> Follow {
    let ceiling = cx.count("ceiling", Some(&form.ceiling), PLACES_MAX, 1..=PLACES_MAX);
    Follow {
        floor: cx.count("floor", Some(&form.floor), 1, 1..=ceiling),
        ceiling,
        headroom_percent: cx.count("headroom", form.headroom.as_ref(), 200, 101..=1_000),
    }
}
