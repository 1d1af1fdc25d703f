//! A limit's `when_full`: the steps, tried in order; the last refuses.

use super::context::Context;
use crate::admission::{Dimension, Ladder};
use crate::config::file::{At, Step};

/// Judges the steps of a limit that counts on `per`.
pub(super) fn ladder(cx: &mut Context<'_>, steps: &[At<Step>], per: &[Dimension]) -> Ladder {
    let mut status = default_status(per);
    for (index, step) in steps.iter().enumerate() {
        let (word, what) = match &step.value {
            Step::Queue(_) => ("queue", "waiting for a place is"),
            Step::Slow(_) => ("slow", "waiting and asking again is"),
            Step::Admit(_) => ("admit", "going over a limit is"),
            Step::Reroute(_) => ("reroute", "going to another upstream is"),
            Step::Reject(form) => {
                let wanted = form.as_ref().and_then(|form| form.status.as_ref());
                let parsed = cx.count("status", wanted, u32::from(status), 400..=599);
                status = u16::try_from(parsed).unwrap_or(status);
                if index + 1 < steps.len() {
                    let place = cx.source.key_before(step.place, "reject");
                    cx.error(
                        "contradiction",
                        place,
                        "`reject` is the last step; nothing comes after it",
                    )
                    .hint("move it to the end of `when_full`");
                }
                continue;
            }
        };
        cx.not_supported(Some(step), word, what);
    }
    Ladder::reject(status)
}

/// Whoever has a key of his own can do something about it: 429; all others meet a service that is full: 503.
fn default_status(per: &[Dimension]) -> u16 {
    let is_own = per.iter().any(|dimension| {
        matches!(
            dimension,
            Dimension::Account | Dimension::Group | Dimension::ClientNetwork | Dimension::Value(_)
        )
    });
    if is_own { 429 } else { 503 }
}
