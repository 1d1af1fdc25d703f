//! The section `retries`: how retries are told, and the limit that is their budget.

use super::context::Context;
use super::limits::{Limits, mode};
use crate::admission::{Dimension, LimitSettings, Moves, RetryBudget};
use crate::classify::Retries;
use crate::config::diagnostic::Place;
use crate::config::file;

/// The name of the limit that is the budget.
pub(super) const NAME: &str = "retries";
const AT_LEAST_MAX: u32 = 1_000_000;

/// Judges the section; adds its limit to the others.
pub(super) fn retries(
    cx: &mut Context<'_>,
    section: Option<&file::At<file::Retries>>,
    limits: &mut Limits,
) -> Option<Retries> {
    let file::At { value: form, place } = section?;
    let percent = cx.count("budget", form.budget.as_ref(), 20, 0..=100);
    let floor = cx.count("at_least", form.at_least.as_ref(), 3, 0..=AT_LEAST_MAX);
    let mut budget = LimitSettings::new(NAME, &[Dimension::Account], floor);
    budget.per_names = vec!["account".to_owned()];
    budget.moves = Some(Moves::RetryBudget(RetryBudget { percent, floor }));
    budget.mode = mode(form.mode);
    let place: Place = cx.source.key_before(*place, NAME);
    limits.settings.push(budget);
    limits.lines.push(place.line);
    limits.places.push(place);
    let header = form.header.as_ref();
    Some(Retries {
        header: header.and_then(|name| cx.header(&name.value, name.place)),
    })
}
