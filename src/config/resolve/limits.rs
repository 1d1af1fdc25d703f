//! The section `limits`.

use std::collections::HashSet;
use std::time::Duration;

use super::accounts::Accounts;
use super::context::{Context, Names};
use super::covered::{Covered, identity};
use super::resources::Resources;
use super::upstreams::UpstreamNames;
use super::{ladder, sparing};
use crate::admission::{
    AccountName, Counted, Dimension, GroupId, Guarantee, Ladder, LimitSettings, Mode, UpstreamId,
};
use crate::classify::ValueSource;
use crate::config::diagnostic::{Place, closest};
use crate::config::file::{self, At, Count, Per};

pub(super) const LIMITS_MAX: usize = 1_000;
const OVERRIDES_MAX: usize = 100_000;
const DIMENSIONS_MAX: usize = 8;
/// Header and path values over all limits: each costs every request a look.
const VALUES_MAX: usize = 8;
/// The count of a key has 32 bits, and a request may cost a million places.
pub(super) const PLACES_MAX: u32 = 1_000_000_000;

/// What limits refer to.
pub(super) struct Known<'a> {
    pub(super) resources: &'a Resources,
    pub(super) upstreams: &'a UpstreamNames,
    pub(super) default_upstream: UpstreamId,
    pub(super) accounts: &'a Accounts,
}

/// What the section says.
#[derive(Debug, Default)]
pub(super) struct Limits {
    pub(super) settings: Vec<LimitSettings>,
    pub(super) lines: Vec<usize>,
    pub(super) places: Vec<Place>,
    pub(super) values: Vec<ValueSource>,
    /// Where each value is first asked for.
    pub(super) value_places: Vec<Place>,
}

/// Judges the section.
pub(super) fn limits(cx: &mut Context<'_>, section: &[file::Limit], known: &Known<'_>) -> Limits {
    let mut all = Limits::default();
    let mut names = Names::new("limit");
    if let Some(first) = section.first() {
        cx.bound("limits", section.len(), LIMITS_MAX, first.name.place);
        let overrides = section
            .iter()
            .map(|limit| limit.overrides.as_ref().map_or(0, Vec::len))
            .sum();
        cx.bound("overrides", overrides, OVERRIDES_MAX, first.name.place);
    }
    for limit in section.iter().take(LIMITS_MAX) {
        names.declare(cx, &limit.name, &[super::retries::NAME]);
        let made = one(cx, limit, known, &mut all);
        all.settings.push(made);
        all.lines.push(limit.name.place.line);
        all.places.push(limit.name.place);
    }
    for (at, limit) in section.iter().take(LIMITS_MAX).enumerate() {
        let queues = all.settings[at].ladder.queues();
        all.settings[at].pressure = sparing::pressure(cx, limit, section, &names, queues);
    }
    all
}

pub(super) fn one(
    cx: &mut Context<'_>,
    limit: &file::Limit,
    known: &Known<'_>,
    all: &mut Limits,
) -> LimitSettings {
    not_supported(cx, limit);
    let who = format!("limit `{}`", limit.name.value);
    let (per, per_names) = dimensions(cx, limit, all);
    let covered = Covered::new(cx, limit, known, &who);
    let (max, moves) = super::max::max(cx, limit, known, &per);
    // Whoever counts on something unknown hears about that first.
    let is_judged = limit.per.as_ref().map_or(0, Vec::len) == per.len();
    let (account_max, group_max) = overrides(cx, limit, known, is_judged.then_some(&per));
    let of = ladder::Of {
        who: &who,
        place: limit.name.place,
        per: &per,
        max: moves.is_none().then_some(max),
        upstreams: known.upstreams,
    };
    let steps = limit.when_full.as_deref().unwrap_or_default();
    let ladder = ladder::ladder(cx, steps, &of);
    let guaranteed = super::guaranteed::guaranteed(cx, limit, known, max);
    if !guaranteed.is_empty() && !ladder.queues() {
        cx.error(
            "contradiction",
            limit.name.place,
            format!("{who} guarantees places, but nobody waits for them"),
        )
        .hint("add `queue` to `when_full`: what falls free goes to the waiting requests of those who have less");
    }
    let counts_accounts = per.contains(&Dimension::Account);
    let counted = counted(cx, limit);
    if counted != Counted::InFlight {
        given_back_by_time(cx, limit, &ladder, &guaranteed);
    }
    let sample = sparing::sample(cx, limit, max, ladder.queues());
    LimitSettings {
        name: limit.name.value.clone(),
        identity: identity(
            &limit.name.value,
            &per_names,
            &covered,
            known,
            counted,
            sample,
        ),
        per,
        per_names,
        resources: covered.resources,
        except: covered.except,
        upstreams: covered.upstreams,
        max,
        counted,
        moves,
        is_pinned: false,
        account_max,
        group_max,
        mode: mode(limit.mode.as_ref().map(|mode| mode.value)),
        ladder,
        counts_leases: match limit.leases.as_ref().map(|leases| leases.value) {
            None => counts_accounts,
            Some(file::Leases::Count) => true,
            Some(file::Leases::Skip) => false,
        },
        sample,
        pressure: None,
        guaranteed,
    }
}

/// What a limit does with what does not fit.
pub(super) fn mode(word: Option<file::Mode>) -> Mode {
    match word {
        None | Some(file::Mode::Enforce) => Mode::Enforce,
        Some(file::Mode::Shadow) => Mode::Shadow,
        Some(file::Mode::Off) => Mode::Off,
    }
}

fn counted(cx: &mut Context<'_>, limit: &file::Limit) -> Counted {
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    let mut over = |name: &str, window: &At<file::Scalar>| {
        cx.duration(name, Some(window), Duration::from_secs(1), range.clone())
    };
    match limit.count.as_ref().map(|count| &count.value) {
        None | Some(Count::InFlight) => Counted::InFlight,
        Some(Count::InFlightStartedWithin(window)) => {
            Counted::StartedWithin(over("in_flight_started_within", window))
        }
        Some(Count::StartsPer(window)) => Counted::StartsPer(over("starts_per", window)),
        Some(Count::CompletionsPer(window)) => {
            Counted::CompletionsPer(over("completions_per", window))
        }
    }
}

/// Nobody holds what time gives back: what a limit says about holding means nothing there.
fn given_back_by_time(
    cx: &mut Context<'_>,
    limit: &file::Limit,
    ladder: &Ladder,
    guaranteed: &[Guarantee],
) {
    let who = format!("limit `{}`", limit.name.value);
    if ladder.early() > 0 {
        cx.error(
            "contradiction",
            limit.name.place,
            format!(
                "{who} serves early on what is near completion, but time gives its places back"
            ),
        )
        .hint("leave `early` away, or count `in_flight`");
    }
    if !guaranteed.is_empty() {
        cx.error(
            "contradiction",
            limit.name.place,
            format!("{who} guarantees places, but time gives them back and nobody holds them"),
        )
        .hint("leave `guaranteed` away, or count `in_flight`; `weight` of a group holds here too");
    }
}

fn not_supported(cx: &mut Context<'_>, limit: &file::Limit) {
    cx.not_supported(
        limit.shared.as_ref(),
        "shared",
        "counts shared by several sidecars are",
    );
}

fn dimensions(
    cx: &mut Context<'_>,
    limit: &file::Limit,
    all: &mut Limits,
) -> (Vec<Dimension>, Vec<String>) {
    let list = limit.per.as_deref().unwrap_or_default();
    cx.bound("dimensions", list.len(), DIMENSIONS_MAX, limit.name.place);
    let mut per = Vec::new();
    let mut names = Vec::new();
    for item in list {
        let Some((dimension, name)) = dimension(cx, item, all) else {
            continue;
        };
        if per.contains(&dimension) {
            cx.error(
                "double_dimension",
                item.place,
                format!("`{name}` is counted on twice"),
            )
            .hint("keep one of them");
            continue;
        }
        per.push(dimension);
        names.push(name);
    }
    (per, names)
}

fn dimension(
    cx: &mut Context<'_>,
    item: &At<Per>,
    all: &mut Limits,
) -> Option<(Dimension, String)> {
    let Per {
        dimension: word,
        name,
    } = &item.value;
    let plain = match word.as_str() {
        "account" => Some(Dimension::Account),
        "resource" => Some(Dimension::Resource),
        "group" => Some(Dimension::Group),
        "upstream" => Some(Dimension::Upstream),
        "client_network" => Some(Dimension::ClientNetwork),
        "process" => Some(Dimension::Process),
        _ => None,
    };
    match (plain, word.as_str(), name) {
        (Some(dimension), _, None) => Some((dimension, word.clone())),
        (Some(_), ..) => {
            cx.error(
                "bad_value",
                item.place,
                format!("the dimension `{word}` has no name behind it"),
            )
            .hint(format!("write `{word}`"));
            None
        }
        (None, "header", Some(name)) => {
            let header = cx.header(&name.value, name.place)?;
            let shown = format!("header:{header}");
            Some((
                all.value(cx, ValueSource::Header(header), item.place)?,
                shown,
            ))
        }
        (None, "path", Some(name)) => {
            let shown = format!("path:{}", name.value);
            Some((
                all.value(cx, ValueSource::Path(name.value.clone()), item.place)?,
                shown,
            ))
        }
        (None, "header" | "path", None) => {
            cx.error(
                "bad_value",
                item.place,
                format!("the dimension `{word}` says not which"),
            )
            .hint(format!("write `{{ {word}: NAME }}`"));
            None
        }
        _ => {
            let known = [
                "account",
                "resource",
                "group",
                "upstream",
                "client_network",
                "process",
                "header",
                "path",
            ];
            let meant = closest(word, known.into_iter())
                .map_or_else(String::new, |name| format!("did you mean `{name}`? "));
            cx.error("unknown_dimension", item.place, format!("there is no dimension `{word}`"))
                .hint(format!("{meant}known are `account`, `resource`, `group`, `upstream`, `client_network`, `process`, `{{ header: NAME }}`, `{{ path: CAPTURE }}`"));
            None
        }
    }
}

impl Limits {
    /// The dimension of a header or path value; the same value has one index, however many limits count on it.
    fn value(
        &mut self,
        cx: &mut Context<'_>,
        source: ValueSource,
        place: Place,
    ) -> Option<Dimension> {
        let known = self.values.iter().position(|value| *value == source);
        let index = known.unwrap_or(self.values.len());
        if index >= VALUES_MAX {
            cx.error(
                "too_many",
                place,
                "the limits count on too many headers and captures",
            )
            .hint(format!(
                "at most {VALUES_MAX} different ones over all limits"
            ));
            return None;
        }
        if known.is_none() {
            self.values.push(source);
            self.value_places.push(place);
        }
        Some(Dimension::Value(
            u8::try_from(index).expect("there are at most eight"),
        ))
    }
}

type Overrides = (Vec<(AccountName, u32)>, Vec<(GroupId, u32)>);

fn overrides(
    cx: &mut Context<'_>,
    limit: &file::Limit,
    known: &Known<'_>,
    per: Option<&Vec<Dimension>>,
) -> Overrides {
    let (mut accounts, mut groups) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    let who = format!("limit `{}`", limit.name.value);
    let counts = |dimension| per.is_none_or(|per| per.contains(&dimension));
    let counts_accounts = counts(Dimension::Account);
    let counts_groups = counts_accounts || counts(Dimension::Group);
    for item in limit
        .overrides
        .as_deref()
        .unwrap_or_default()
        .iter()
        .take(OVERRIDES_MAX)
    {
        let max = cx.count("max", Some(&item.value.max), 0, 0..=PLACES_MAX);
        let (name, is_account, is_counted) = match (&item.value.account, &item.value.group) {
            (Some(account), None) => (account, true, counts_accounts),
            (None, Some(group)) => (group, false, counts_groups),
            _ => {
                cx.error(
                    "contradiction",
                    item.place,
                    "an override is for one account or for one group",
                )
                .hint("such as `{ account: AC_GOLD, max: 300 }`");
                continue;
            }
        };
        if !is_counted {
            let kind = if is_account { "an account" } else { "a group" };
            cx.error("contradiction", name.place, format!("{who} has places for {kind}, but does not count by it"))
                .hint("its keys are shared by all accounts; add `account` to `per`, or leave the override away");
            continue;
        }
        if !seen.insert((is_account, name.value.as_str())) {
            cx.error(
                "double_name",
                name.place,
                format!("{who} has two overrides for `{}`", name.value),
            )
            .hint("keep one of them");
            continue;
        }
        if is_account {
            accounts.extend(super::accounts::account(cx, name).map(|account| (account, max)));
        } else {
            let found = known
                .accounts
                .group_names
                .find(cx, name, "unknown_group", &who);
            groups.extend(
                found.map(|index| (GroupId(u16::try_from(index).unwrap_or(u16::MAX)), max)),
            );
        }
    }
    (accounts, groups)
}
