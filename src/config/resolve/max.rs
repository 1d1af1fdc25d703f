//! A limit's `max`: a number, or the rule by which it moves.

use super::context::Context;
use super::limits::{Known, PLACES_MAX};
use crate::admission::{Follow, Moves, UpstreamId};
use crate::config::file::{self, At, Max, MovingMax};

/// Places for each endpoint; with 256 endpoints still a number of places.
const EACH_MAX: u32 = 1_000_000;

/// Judges the maximum; gives the places at the start, and how they move.
pub(super) fn max(
    cx: &mut Context<'_>,
    limit: &file::Limit,
    known: &Known<'_>,
) -> (u32, Option<Moves>) {
    let place = limit.max.place;
    match &limit.max.value {
        Max::Fixed(text) => {
            let value = At {
                value: text.clone(),
                place,
            };
            (cx.count("max", Some(&value), 0, 0..=PLACES_MAX), None)
        }
        Max::Moving(rule) => moving(cx, limit, rule, known),
    }
}

fn moving(
    cx: &mut Context<'_>,
    limit: &file::Limit,
    rule: &MovingMax,
    known: &Known<'_>,
) -> (u32, Option<Moves>) {
    cx.not_supported(
        rule.adaptive.as_ref(),
        "adaptive",
        "a maximum that latency moves is",
    );
    match (&rule.per_endpoint, &rule.follow) {
        (Some(each), None) if rule.adaptive.is_none() => {
            let each = cx.count("per_endpoint", Some(each), 1, 1..=EACH_MAX);
            let who = format!("limit `{}`", limit.name.value);
            let named = rule.of.as_ref();
            let of = named.map_or(Some(known.default_upstream), |name| {
                known.upstreams.find(cx, name, "unknown_upstream", &who)
            });
            let of = of.and_then(|index| u16::try_from(index).ok());
            let of = UpstreamId(of.unwrap_or_default());
            (each, Some(Moves::PerEndpoint { each, of }))
        }
        (None, Some(form)) if rule.adaptive.is_none() && rule.of.is_none() => {
            let follow = follow(cx, form);
            (follow.floor, Some(Moves::Follow(follow)))
        }
        (None, None) if rule.adaptive.is_some() => (0, None),
        _ => {
            let place = cx.source.key_before(limit.max.place, "max");
            cx.error(
                "contradiction",
                place,
                "a maximum is a number, or moves by one rule",
            )
            .hint("`50`, or `{ per_endpoint: 50, of: api }`, or `{ follow: { floor: 5, ceiling: 100 } }`");
            (0, None)
        }
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
