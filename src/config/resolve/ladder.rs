//! A limit's `when_full`: the steps, tried in order; the last refuses.

use std::time::Duration;

use super::context::Context;
use super::limits::PLACES_MAX;
use super::upstreams::UpstreamNames;
use crate::admission::{Dimension, Ladder, Order, Overage, Priority, Queue, Slow, Step};
use crate::config::diagnostic::Place;
use crate::config::file::{self, At};

/// Steps of one ladder: each sort twice is more than anybody can follow.
const STEPS_MAX: usize = 8;
/// Requests that may wait for one key, or sleep under one limit.
const LENGTH_MAX: u32 = 100_000;
/// Places above a maximum. It is meant for a few: each is a request more than the upstream was to have, if the estimate is wrong.
const EARLY_MAX: u32 = 1_000;
const WAIT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);

/// Of which limit the steps are.
pub(super) struct Of<'a> {
    pub(super) who: &'a str,
    pub(super) place: Place,
    pub(super) per: &'a [Dimension],
    pub(super) max: Option<u32>,
    pub(super) upstreams: &'a UpstreamNames,
}

/// Judges the steps of a limit.
pub(super) fn ladder(cx: &mut Context<'_>, steps: &[At<file::Step>], of: &Of<'_>) -> Ladder {
    let mut status = default_status(of.per);
    let mut made = Vec::new();
    cx.bound("steps", steps.len(), STEPS_MAX, of.place);
    for (index, step) in steps.iter().enumerate() {
        match &step.value {
            file::Step::Queue(form) => made.push(Step::Queue(queue(cx, form))),
            file::Step::Slow(form) => made.push(Step::Slow(slow(cx, form))),
            file::Step::Admit(form) => made.push(Step::Admit(overage(cx, form, of))),
            file::Step::Reroute(name) => {
                let hint =
                    "name one of the upstreams; what is meant for them means nothing to the plugin";
                let found = of.upstreams.find_declared(cx, name, of.who, hint);
                made.extend(found.map(Step::Reroute));
            }
            file::Step::Reject(form) => {
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
            }
        }
    }
    Ladder::new(made, status)
}

fn queue(cx: &mut Context<'_>, form: &file::Queue) -> Queue {
    let length = cx.count("length", Some(&form.length), 1, 1..=LENGTH_MAX);
    let own = form.per_account.as_ref();
    Queue {
        length,
        per_account: cx.count("per_account", own, length, 1..=LENGTH_MAX),
        timeout: cx.duration("timeout", Some(&form.timeout), Duration::from_secs(1), WAIT),
        order: match form.order {
            None | Some(file::Order::OldestFirst) => Order::OldestFirst,
            Some(file::Order::Adaptive) => Order::Adaptive,
        },
        early: cx.count("early", form.early.as_ref(), 0, 0..=EARLY_MAX),
    }
}

fn slow(cx: &mut Context<'_>, form: &file::Slow) -> Slow {
    Slow {
        delay: cx.duration("delay", Some(&form.delay), Duration::from_secs(1), WAIT),
        times: cx.count("times", form.times.as_ref(), 1, 1..=100),
        length: cx.count("length", form.length.as_ref(), 100, 1..=LENGTH_MAX),
    }
}

fn overage(cx: &mut Context<'_>, form: &file::Admit, of: &Of<'_>) -> Overage {
    let up_to = cx.count("up_to", Some(&form.up_to), PLACES_MAX, 1..=PLACES_MAX);
    if let Some(max) = of.max.filter(|&max| up_to <= max) {
        cx.error(
            "contradiction",
            form.up_to.place,
            format!("{} goes up to {up_to}, but has {max} places anyway", of.who),
        )
        .hint("`up_to` is the harder limit: larger than `max`");
    }
    let mark = form.mark.as_ref();
    if let Some(mark) = mark.filter(|mark| !super::context::is_name(&mark.value)) {
        cx.error(
            "bad_name",
            mark.place,
            format!("`{}` cannot be a mark", mark.value),
        )
        .hint("1 to 64 lower-case letters, digits, `-`, `_` and `.`");
    }
    Overage {
        up_to,
        priority: form
            .priority
            .map_or(Priority::Low, super::resources::priority),
        mark: mark.map_or("overage", |mark| mark.value.as_str()).into(),
    }
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
