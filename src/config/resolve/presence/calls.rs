//! Calls of one account: whose instructions run, and which names stand for several; and what calls ask of limits.
//!
//! Never says who can be called: that shows when somebody is.

use std::collections::HashSet;

use super::accounts::{Lines, identifier};
use super::scripts;
use crate::admission::LimitSettings;
use crate::config::file::{self, At, ChooseWord, Named, Step};
use crate::config::resolve::context::Context;
use crate::config::resolve::resources::Resources;
use crate::presence::{Application, Choose, Destination, Name};

/// Of one account; so are the numbers and the destinations.
const APPLICATIONS_MAX: usize = 1_000;
const NUMBERS_MAX: usize = 1_000;
const DESTINATIONS_MAX: usize = 1_000;
/// The field that tells their availability has no room for more.
const CLIENTS_MAX: usize = 10;
/// Each is looked at when the destination is dialled.
const MEMBERS_MAX: usize = 100;
/// Digits behind the `+` of a number, as E.164 has them.
const NUMBER: std::ops::RangeInclusive<usize> = 2..=15;
/// Characters of a wrong name that are shown.
const SHOWN: usize = 64;

/// Judges what runs when a client calls out.
pub(super) fn applications(
    cx: &mut Context<'_>,
    map: Option<&At<Named<file::Application>>>,
) -> Vec<(String, Application)> {
    let Some(At { value, place }) = map else {
        return Vec::new();
    };
    cx.bound("applications", value.0.len(), APPLICATIONS_MAX, *place);
    let mut seen = Lines::new();
    let mut made = Vec::new();
    for (sid, form) in value.0.iter().take(APPLICATIONS_MAX) {
        identifier(cx, "application", "AP", sid, &mut seen);
        made.push((sid.value.clone(), application(cx, sid, form)));
    }
    made
}

/// Judges what runs when a number is called.
pub(super) fn numbers(
    cx: &mut Context<'_>,
    map: Option<&At<Named<file::Application>>>,
) -> Vec<(String, Application)> {
    let Some(At { value, place }) = map else {
        return Vec::new();
    };
    cx.bound("numbers", value.0.len(), NUMBERS_MAX, *place);
    let mut made = Vec::new();
    for (number, form) in value.0.iter().take(NUMBERS_MAX) {
        if !is_number(&number.value) {
            let message = format!("`{}` is no number that is called", shown(&number.value));
            cx.error("bad_name", number.place, message)
                .hint("`+` and 2 to 15 digits, in quotation marks: `\"+14155550100\"`");
        }
        made.push((number.value.clone(), application(cx, number, form)));
    }
    made
}

fn is_number(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        NUMBER.contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
    })
}

fn application(cx: &mut Context<'_>, key: &At<String>, form: &file::Application) -> Application {
    if form.voice.is_none() && form.messaging.is_none() {
        let message = format!("`{}` has no instructions", shown(&key.value));
        cx.error("missing_script", key.place, message)
            .hint("give it `voice` or `messaging`, such as `voice: { url: \"http://127.0.0.1:4000/voice\" }`");
    }
    let script = |cx: &mut Context<'_>, of: &Option<file::Script>| {
        of.as_ref().and_then(|of| scripts::script(cx, of))
    };
    Application {
        voice: script(cx, &form.voice),
        messaging: script(cx, &form.messaging),
        clients: form
            .clients
            .as_ref()
            .map_or_else(Vec::new, |list| names(cx, "clients", list, CLIENTS_MAX)),
    }
}

/// Judges the names that stand for several identities.
pub(super) fn destinations(
    cx: &mut Context<'_>,
    map: Option<&At<Named<file::Destination>>>,
) -> Vec<(Name, Destination)> {
    let Some(At { value, place }) = map else {
        return Vec::new();
    };
    cx.bound("destinations", value.0.len(), DESTINATIONS_MAX, *place);
    let mut made = Vec::new();
    for (name, form) in value.0.iter().take(DESTINATIONS_MAX) {
        if form.members.value.is_empty() {
            let message = format!("the destination `{}` has no member", shown(&name.value));
            cx.error("missing_member", name.place, message)
                .hint("such as `members: [alice, bob]`");
        }
        let destination = Destination {
            members: names(cx, "members", &form.members, MEMBERS_MAX),
            choose: match form.choose.unwrap_or_default() {
                ChooseWord::All => Choose::All,
                ChooseWord::InOrder => Choose::InOrder,
                ChooseWord::LeastLoaded => Choose::LeastLoaded,
            },
        };
        made.extend(self::name(cx, name).map(|name| (name, destination)));
    }
    made
}

/// Names of identities, each once.
fn names(cx: &mut Context<'_>, key: &str, list: &At<Vec<At<String>>>, max: usize) -> Vec<Name> {
    cx.bound(key, list.value.len(), max, list.place);
    let mut seen = HashSet::new();
    let mut made = Vec::new();
    for text in list.value.iter().take(max) {
        let Some(name) = name(cx, text) else {
            continue;
        };
        if seen.insert(text.value.as_str()) {
            made.push(name);
        } else {
            let message = format!("`{key}` names `{}` twice", shown(&text.value));
            cx.error("double_name", text.place, message)
                .hint("keep one of them");
        }
    }
    made
}

fn name(cx: &mut Context<'_>, text: &At<String>) -> Option<Name> {
    let name = Name::new(&text.value).ok();
    if name.is_none() {
        let message = format!("`{}` is no name of an identity", shown(&text.value));
        cx.error("bad_name", text.place, message)
            .hint("1 to 121 characters, none of which ends a line, controls, or turns the direction of writing");
    }
    name
}

/// What could draw on the operator's screen is escaped.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN).collect();
    start.escape_debug().to_string()
}

/// Refuses to send calls elsewhere: no upstream but the plugin knows what a call is.
pub(in crate::config::resolve) fn reroutes(
    cx: &mut Context<'_>,
    section: &[file::Limit],
    limits: &[LimitSettings],
    resources: &Resources,
) {
    let Some(calls) = resources.calls else {
        return;
    };
    let resource = &resources.policy[usize::from(calls.0)];
    let covers = |limit: &LimitSettings| {
        let (only, upstreams) = (limit.resources.as_ref(), limit.upstreams.as_ref());
        only.is_none_or(|only| only.contains(&calls))
            && !limit.except.contains(&calls)
            && upstreams.is_none_or(|only| only.contains(&resource.upstream))
            && !resource.is_exempt
    };
    for (limit, _) in section.iter().zip(limits).filter(|(_, made)| covers(made)) {
        let steps = limit.when_full.as_deref().unwrap_or_default();
        let reroute = steps.iter().find(|of| matches!(of.value, Step::Reroute(_)));
        let Some(step) = reroute else {
            continue;
        };
        let place = cx.source.key_before(step.place, "reroute");
        let (who, name) = (&limit.name.value, &resource.name);
        let message = format!("limit `{who}` covers `{name}`, and a call cannot be sent elsewhere");
        let hint = match limit.resources {
            Some(_) => "leave `reroute` away".to_owned(),
            None => {
                format!("leave `reroute` away, or `except: [{name}]` and limit calls by themselves")
            }
        };
        cx.error("contradiction", place, message).hint(hint);
    }
}
