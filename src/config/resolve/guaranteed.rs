//! A limit's `guaranteed`: who has places for sure.

use super::context::Context;
use super::limits::{Known, PLACES_MAX};
use crate::admission::{GroupId, Guarantee, Guaranteed};
use crate::config::file::{self, NumberOr};

/// Each is looked at whenever a place falls free while somebody waits.
const GUARANTEES_MAX: usize = 16;

/// Judges the guarantees of a limit that has `max` places.
pub(super) fn guaranteed(
    cx: &mut Context<'_>,
    limit: &file::Limit,
    known: &Known<'_>,
    max: u32,
) -> Vec<Guarantee> {
    let who = format!("limit `{}`", limit.name.value);
    let list = limit.guaranteed.as_deref().unwrap_or_default();
    cx.bound("guarantees", list.len(), GUARANTEES_MAX, limit.name.place);
    let mut made: Vec<Guarantee> = Vec::new();
    for item in list.iter().take(GUARANTEES_MAX) {
        let min = cx.count("min", Some(&item.value.min), 1, 1..=PLACES_MAX);
        let owner = match (&item.value.account, &item.value.group) {
            (Some(name), None) => super::accounts::account(cx, name).map(Guaranteed::Account),
            (None, Some(name)) => known
                .accounts
                .group_names
                .find(cx, name, "unknown_group", &who)
                .and_then(|index| u16::try_from(index).ok())
                .map(|index| Guaranteed::Group(GroupId(index))),
            _ => {
                cx.error(
                    "contradiction",
                    item.place,
                    "a guarantee is for one account or for one group",
                )
                .hint("such as `{ group: gold, min: 100 }`");
                None
            }
        };
        if let Some(owner) = owner {
            if made.iter().any(|known| known.who == owner) {
                cx.error(
                    "double_name",
                    item.place,
                    format!("{who} guarantees places to the same twice"),
                )
                .hint("keep one of them");
            }
            made.push(Guarantee { who: owner, min });
        }
    }
    let sum = made.iter().fold(0u32, |sum, of| sum.saturating_add(of.min));
    let has_one_key = limit.per.as_ref().is_none_or(Vec::is_empty);
    if sum > max && has_one_key && matches!(limit.max.value, NumberOr::Number(_)) {
        cx.error(
            "contradiction",
            limit.name.place,
            format!("{who} guarantees {sum} places and has {max}"),
        )
        .hint("guarantee less, or raise `max`");
    }
    made
}
