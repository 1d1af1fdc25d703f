//! Limits, overrides and ladders that never come to anything.
//!
//! A limit stands behind another when whatever it counts the other counts too, key by key, and the other lets less in. What moves, holds
//! only at times, may be gone around or may be over its maximum is no such wall, so nothing is said of it. Never looks at candidates:
//! they are there to be compared.

use super::{Config, Context, covered};
use crate::admission::{
    AccountName, Counted, Dimension, GroupId, LimitSettings, Mode, Moves, ResourceId, Step,
    UpstreamId,
};
use crate::proxy::Departed;

/// Accounts of a group that are looked up among the overrides of a limit.
const ACCOUNTS_COMPARED: usize = 100;

/// One limit, prepared for being compared with all others.
struct Wall<'c> {
    limit: &'c LimitSettings,
    line: usize,
    /// No key of it ever has more in flight, leases aside; `None` where that cannot be said.
    most: Option<u32>,
    /// Which resources it covers wherever they are sent, by their ids: a ladder may send them elsewhere.
    covers: Vec<bool>,
}

/// All checks of this file.
pub(super) fn reach(cx: &mut Context<'_>, config: &Config) {
    never_reached(cx, config);
    more_than_connections(cx, config);
    steps_that_are_not_walked(cx, config);
    overrides_for_nobody(cx, config);
}

fn never_reached(cx: &mut Context<'_>, config: &Config) {
    let walls: Vec<_> = config
        .policy
        .limits
        .iter()
        .zip(&config.limit_lines)
        .map(|(limit, &line)| Wall::new(config, limit, line))
        .collect();
    let mut walls_first: Vec<_> = walls.iter().filter(|wall| wall.most.is_some()).collect();
    walls_first.sort_by_key(|wall| wall.most);
    for (behind, place) in walls.iter().zip(&config.places.limits) {
        let Some((least, own)) = behind.maxima() else {
            continue;
        };
        let cost = behind.cost_most(config);
        let stands = |wall: &&&Wall<'_>| wall.stands_before(behind, config);
        let Some(wall) = walls_first.iter().find(stands) else {
            continue;
        };
        let bound = wall.most.unwrap_or(u32::MAX).saturating_add(cost);
        let what = if least >= bound {
            format!("limit `{}`", behind.limit.name)
        } else if own.is_some_and(|most| most >= bound) {
            format!("an override of limit `{}`", behind.limit.name)
        } else {
            continue;
        };
        let most = wall.most.unwrap_or_default();
        let aside = if behind.limit.counts_leases && !wall.limit.counts_leases {
            ", leases aside"
        } else {
            ""
        };
        let message = format!(
            "{what} is never reached: `{}` counts the same requests and lets no more than {most} in{aside}",
            wall.limit.name
        );
        cx.warning("never_reached", *place, message).hint(format!(
            "lower it to at most {most}, raise the limit in line {}, or take one of them away",
            wall.line
        ));
    }
}

impl<'c> Wall<'c> {
    fn new(config: &Config, limit: &'c LimitSettings, line: usize) -> Self {
        let covers = (0..).zip(&config.policy.resources).map(|(id, resource)| {
            let id = ResourceId(id);
            let only = limit.resources.as_ref();
            let is_named = only.is_none_or(|only| only.contains(&id));
            is_named && !limit.except.contains(&id) && !resource.is_exempt
        });
        Self {
            limit,
            line,
            most: most(config, limit),
            covers: covers.collect(),
        }
    }

    /// The default maximum, and the largest of accounts and groups; `None` for what refuses nobody or does not count what is in flight.
    fn maxima(&self) -> Option<(u32, Option<u32>)> {
        let limit = self.limit;
        let is_judged = limit.mode == Mode::Enforce
            && limit.moves.is_none()
            && limit.counted == Counted::InFlight
            && limit.sample <= 1;
        let own = limit.account_max.iter().map(|(_, max)| *max);
        let own = own.chain(limit.group_max.iter().map(|(_, max)| *max));
        let least = own.clone().chain([limit.max]).min()?;
        is_judged.then(|| (least, own.max()))
    }

    /// The most that a request costs which it counts.
    fn cost_most(&self, config: &Config) -> u32 {
        let resources = config.rules.resources.iter().zip(&self.covers);
        let costs = resources.filter(|(_, is_covered)| **is_covered);
        costs
            .map(|(resource, _)| resource.cost.most())
            .max()
            .unwrap_or(1)
    }

    /// Whether each request that `behind` counts is counted here, and each of its keys in one key of this limit.
    fn stands_before(&self, behind: &Self, config: &Config) -> bool {
        let (wide, narrow) = (self.limit, behind.limit);
        let is_same = std::ptr::eq(wide, narrow);
        let has = |dimension: &Dimension| match dimension {
            Dimension::Process => true,
            Dimension::Group => {
                narrow.per.contains(dimension) || narrow.per.contains(&Dimension::Account)
            }
            other => narrow.per.contains(other),
        };
        let upstreams = match (&wide.upstreams, &narrow.upstreams) {
            (None, _) => true,
            (Some(wide), Some(narrow)) => narrow.iter().all(|of| wide.contains(of)),
            (Some(_), None) => false,
        };
        let counted = || behind.covers.iter().zip(&self.covers);
        !is_same
            && behind.covers.contains(&true)
            && wide.per.iter().all(has)
            && upstreams
            && counted().all(|(narrow, wide)| !narrow || *wide)
            && (wide.counts_leases
                || !narrow.counts_leases
                || !behind.is_for_work_that_outlives(config))
    }

    /// Whether it counts what goes on after its answer by the configuration's own word: calls, and resources with `completion`.
    fn is_for_work_that_outlives(&self, config: &Config) -> bool {
        let other = config.places.resources.len();
        let mut covered = (0..).zip(&self.covers).filter(|(_, covered)| **covered);
        covered.any(|(index, _)| {
            let settings = config.resources.get(index);
            index > other || settings.is_some_and(|of| of.completion.is_some())
        })
    }
}

/// No key of the limit ever has more in flight, leases aside.
fn most(config: &Config, limit: &LimitSettings) -> Option<u32> {
    let is_wall = limit.mode == Mode::Enforce
        && limit.counted == Counted::InFlight
        && limit.sample <= 1
        && limit.pressure.is_none();
    let default = match &limit.moves {
        None => limit.max,
        Some(Moves::PerEndpoint { each, of }) => each.saturating_mul(endpoints(config, *of)?),
        Some(_) => return None,
    };
    let mut over = 0;
    for step in limit.ladder.steps() {
        match step {
            // Who is sent elsewhere is counted here no more.
            Step::Reroute(_) => return None,
            Step::Admit(overage) => over = over.max(overage.up_to),
            Step::Queue(_) | Step::Slow(_) | Step::Reject { .. } => {}
        }
    }
    let own = limit.account_max.iter().map(|(_, max)| *max);
    let of_groups = limit.group_max.iter().map(|(_, max)| *max);
    let most = own.chain(of_groups).fold(default, u32::max).max(over);
    // A maximum of 0 is closed on purpose, and not for long.
    (is_wall && most > 0).then(|| most.saturating_add(limit.ladder.early()))
}

fn endpoints(config: &Config, of: UpstreamId) -> Option<u32> {
    let upstream = config.upstreams.get(usize::from(of.0))?;
    u32::try_from(upstream.endpoints.len()).ok()
}

/// All connections with all their streams are fewer requests than there are places.
fn more_than_connections(cx: &mut Context<'_>, config: &Config) {
    let server = &config.server;
    let streams = u64::from(server.max_streams).max(1);
    let requests = (server.max_connections as u64).saturating_mul(streams);
    for ((limit, place), &line) in config
        .policy
        .limits
        .iter()
        .zip(&config.places.limits)
        .zip(&config.limit_lines)
    {
        let wall = Wall::new(config, limit, line);
        let goes_on = |index: usize| {
            let settings = config.resources.get(index);
            settings.is_some_and(|of| matches!(of.departed, Departed::Finish(_)))
        };
        // What a lease, a call or an upstream holds that finishes for nobody needs no connection.
        let is_held = limit.counts_leases
            || wall.is_for_work_that_outlives(config)
            || covered(config, limit).any(goes_on);
        let Some((least, _)) = wall.maxima().filter(|_| !is_held) else {
            continue;
        };
        let places = requests.saturating_mul(u64::from(wall.cost_most(config)));
        if u64::from(least) >= places {
            let message = format!(
                "limit `{}` is never reached: {} connections with {} streams each are {requests} requests at most",
                limit.name, server.max_connections, server.max_streams
            );
            cx.warning("never_reached", *place, message)
                .hint("lower its `max`, or raise `server.max_connections`");
        }
    }
}

fn steps_that_are_not_walked(cx: &mut Context<'_>, config: &Config) {
    for (limit, place) in config.policy.limits.iter().zip(&config.places.limits) {
        let steps = limit.ladder.steps();
        if limit.mode == Mode::Shadow && !steps.is_empty() {
            let message = format!(
                "limit `{}` is in shadow, where `when_full` is not walked: what would wait or go on otherwise counts as refused",
                limit.name
            );
            cx.warning("ladder_in_shadow", *place, message).hint(
                "read its figures as how often the ladder would begin, or write `mode: enforce`",
            );
        }
        let in_vain = steps.iter().find_map(|step| match step {
            Step::Queue(queue) if queue.per_account > queue.length => Some(queue),
            _ => None,
        });
        if let Some(queue) = in_vain {
            let message = format!(
                "the queue of limit `{}` never has {} requests of one account: it has room for {}",
                limit.name, queue.per_account, queue.length
            );
            cx.warning("never_reached", *place, message)
                .hint("lower `per_account`, or leave it away, which means the whole length");
        }
    }
}

fn overrides_for_nobody(cx: &mut Context<'_>, config: &Config) {
    for (limit, place) in config.policy.limits.iter().zip(&config.places.limits) {
        let own = |account: &AccountName| {
            let mut known = limit.account_max.iter();
            known
                .find(|(known, _)| known == account)
                .map(|(_, max)| *max)
        };
        let groups = limit.group_max.iter().filter_map(|(GroupId(index), max)| {
            let group = config.policy.groups.get(usize::from(*index))?;
            Some((group, *max))
        });
        let mut for_nobody = groups.filter(|(group, max)| {
            let accounts = &group.accounts;
            // A group with many accounts is not compared with as many overrides, and saying the same twice does no harm.
            let is_small = accounts.len() <= ACCOUNTS_COMPARED;
            let says_the_same =
                !accounts.is_empty() && accounts.iter().all(|name| own(name) == Some(*max));
            is_small && !says_the_same && accounts.iter().all(|name| own(name).is_some())
        });
        if let Some((group, _)) = for_nobody.next() {
            let message = format!(
                "the override of limit `{}` for the group `{}` is for nobody: each of its accounts has one of its own",
                limit.name, group.name
            );
            cx.warning("override_unused", *place, message)
                .hint("an account's own override goes first; take one of them away");
        }
    }
}
