//! The section `candidates`: sets of limits in the form of the section `limits`, less what would act.
//!
//! What a candidate cannot do is refused where it is written, never ignored: who moves a set into force later must not find
//! it doing more than was tried. Never judges such a limit any further.

use super::context::{Context, Names};
use super::limits::{self, Known, Limits};
use crate::admission::CandidateSettings;
use crate::config::diagnostic::Place;
use crate::config::file::{self, At, Named, NumberOr};

/// Each set that covers a request costs it what limits in force cost.
const CANDIDATES_MAX: usize = 8;

/// What the section says.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) settings: Vec<CandidateSettings>,
    /// Of the limits of each.
    pub(super) lines: Vec<Vec<usize>>,
    pub(super) places: Vec<Vec<Place>>,
}

/// Judges the section; header and path values are counted together with those of the limits in force.
pub(super) fn candidates(
    cx: &mut Context<'_>,
    section: Option<&At<Named<file::Candidate>>>,
    known: &Known<'_>,
    enforced: &mut Limits,
) -> Candidates {
    let mut all = Candidates::default();
    let Some(section) = section else {
        return all;
    };
    let sets = &section.value.0;
    let place = cx.source.key_before(section.place, "candidates");
    cx.bound("candidates", sets.len(), CANDIDATES_MAX, place);
    let mut names = Names::new("candidate");
    for (name, set) in sets.iter().take(CANDIDATES_MAX) {
        names.declare(cx, name, &[]);
        let places = set.limits.value.iter().map(|limit| limit.name.place);
        let places: Vec<_> = places.collect();
        all.settings.push(one(cx, name, set, known, enforced));
        all.lines.push(places.iter().map(|of| of.line).collect());
        all.places.push(places);
    }
    all
}

fn one(
    cx: &mut Context<'_>,
    name: &At<String>,
    set: &file::Candidate,
    known: &Known<'_>,
    enforced: &mut Limits,
) -> CandidateSettings {
    let list = &set.limits.value;
    if list.is_empty() {
        let message = format!(
            "candidate `{}` has no limit, so there is nothing to try",
            name.value
        );
        cx.error("contradiction", name.place, message)
            .hint("such as `limits: [{ name: account, per: [account], max: 50 }]`");
    }
    cx.bound("limits", list.len(), limits::LIMITS_MAX, name.place);
    let mut names = Names::new("limit");
    let mut made = Vec::new();
    for limit in list.iter().take(limits::LIMITS_MAX) {
        names.declare(cx, &limit.name, &[]);
        if !acts(cx, limit) {
            made.push(limits::one(cx, limit, known, enforced));
        }
    }
    CandidateSettings {
        name: name.value.clone(),
        limits: made,
    }
}

/// Refuses what a limit on paper cannot do; true if there was any.
fn acts(cx: &mut Context<'_>, limit: &file::Limit) -> bool {
    let before = cx.found.len();
    if let Some(mode) = &limit.mode {
        refuse(cx, mode.place, "mode", "a candidate is always on paper");
    }
    if let Some(steps) = &limit.when_full {
        let place = steps.first().map_or(limit.name.place, |step| step.place);
        let why = "a candidate refuses nobody, and waiting is not simulated";
        refuse(cx, place, "when_full", why);
    }
    if let Some(list) = &limit.guaranteed {
        let place = list.first().map_or(limit.name.place, |of| of.place);
        let why = "guarantees are for those who wait, and nobody waits for a candidate";
        refuse(cx, place, "guaranteed", why);
    }
    for (asked, key) in [
        (limit.sample.as_ref().map(|of| of.place), "sample"),
        (limit.when.as_ref().map(|of| of.place), "when"),
    ] {
        if let Some(place) = asked {
            refuse(cx, place, key, "a candidate counts all, always");
        }
    }
    if let Some(store) = &limit.shared {
        let why = "a candidate counts what this sidecar lets in";
        refuse(cx, store.place, "shared", why);
    }
    if let NumberOr::Map(rule) = &limit.max.value
        && let Some(adaptive) = &rule.adaptive
    {
        let why = "only what is in force changes the latency that it would learn from";
        refuse(cx, adaptive.place, "adaptive", why);
    }
    cx.found.len() > before
}

fn refuse(cx: &mut Context<'_>, value: Place, key: &str, why: &str) {
    let place = cx.source.key_before(value, key);
    cx.error(
        "not_supported",
        place,
        format!("`{key}` means nothing in a candidate: {why}"),
    )
    .hint(format!("leave `{key}` away"));
}
