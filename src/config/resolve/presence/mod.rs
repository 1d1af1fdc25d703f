//! The section `presence`: what the plugin is told, and whether anything mounts it.
//!
//! The plugin counts as one upstream more, behind those of the file, so that limits and resources name it like any other; what only
//! an API behind the gate can be, it is not. Never judges what a token says.

mod accounts;
mod addresses;
mod calls;
mod peers;
mod scripts;
#[cfg(test)]
mod tests;

pub(super) use accounts::weak;
pub(super) use addresses::url_fault;
pub(super) use calls::reroutes;

use std::time::Duration;

use super::context::Context;
use super::resources::Resources;
use super::upstreams::UpstreamNames;
use crate::config::file::{self, At, StatusWord, UnavailableWord};
use crate::presence::{Order, Settings, Status, Unavailable};

/// The name by which resources and limits know the plugin.
pub(super) const NAME: &str = "presence";

const SECOND: Duration = Duration::from_secs(1);
/// The SDK of Twilio's clients gives up a connection on which nothing came for 15 s; the rest is for the way.
const HEARTBEAT_MAX: Duration = Duration::from_secs(12);
/// Whoever is away for longer signs in again.
const GRACE_MAX: Duration = Duration::from_hours(1);
const CALLS_MAX: u32 = 100;
/// Each is looked at when one of them changes.
const DEVICES_MAX: u32 = 1_000;
/// As many as the gate has connections at most.
const SOCKETS_MAX: u32 = 1_000_000;
const CONNECTS_MAX: u32 = 1_000_000;

/// Judges the section, if there is one.
pub(super) fn presence(
    cx: &mut Context<'_>,
    section: Option<&At<file::Presence>>,
) -> Option<Settings> {
    let section = &section?.value;
    let usual = Settings::default();
    let max_sockets = cx.count(
        "max_sockets",
        section.max_sockets.as_ref(),
        places(usual.max_sockets),
        1..=SOCKETS_MAX,
    );
    let per_account = section.max_sockets_per_account.as_ref();
    let per_account_usual = places(usual.max_sockets_per_account).min(max_sockets);
    Some(Settings {
        accounts: accounts::accounts(cx, section.accounts.as_ref()),
        assume: section.assume.map_or(usual.assume, status),
        heartbeat: heartbeat(cx, section.heartbeat.as_ref(), usual.heartbeat),
        grace: cx.duration(
            "grace",
            section.grace.as_ref(),
            usual.grace,
            Duration::ZERO..=GRACE_MAX,
        ),
        order: section
            .order
            .as_ref()
            .and_then(|order| self::order(cx, order))
            .unwrap_or(usual.order),
        calls_per_device: cx.count(
            "calls_per_device",
            section.calls_per_device.as_ref(),
            usual.calls_per_device,
            1..=CALLS_MAX,
        ),
        devices_per_identity: cx.count(
            "devices_per_identity",
            section.devices_per_identity.as_ref(),
            places(usual.devices_per_identity),
            1..=DEVICES_MAX,
        ) as usize,
        ring_away: section.ring_away.unwrap_or(usual.ring_away),
        max_sockets: max_sockets as usize,
        max_sockets_per_account: cx.count(
            "max_sockets_per_account",
            per_account,
            per_account_usual,
            1..=max_sockets,
        ) as usize,
        connects_per_second: cx.count(
            "connects_per_second",
            section.connects_per_second.as_ref(),
            usual.connects_per_second,
            1..=CONNECTS_MAX,
        ),
        allowed_origins: addresses::origins(cx, section.allowed_origins.as_ref()),
        call_resource: section
            .call_resource
            .as_ref()
            .map_or(usual.call_resource, |name| name.value.clone()),
        unavailable: unavailable(section.unavailable.unwrap_or_default()),
        egress: peers::egress(cx, section.egress.as_ref()),
        node: peers::node(cx, section.node.as_ref()).unwrap_or(usual.node),
        peers: peers::peers(cx, section.peers.as_ref(), section.node.as_ref()),
    })
}

/// The name of what calls count as, if the plugin is there.
pub(super) fn call_resource(
    section: Option<&At<file::Presence>>,
    upstreams: &UpstreamNames,
) -> Option<At<String>> {
    let section = section.filter(|_| upstreams.plugin().is_some())?;
    let named = section.value.call_resource.clone();
    Some(named.unwrap_or_else(|| At {
        value: Settings::default().call_resource,
        place: section.place,
    }))
}

/// Judges the section against the resources that mount it.
pub(super) fn mounts(
    cx: &mut Context<'_>,
    section: Option<&At<file::Presence>>,
    resources: &Resources,
    upstreams: &UpstreamNames,
) {
    // Where an upstream has its name, that is refused first.
    let (Some(section), Some(plugin)) = (section, upstreams.plugin()) else {
        return;
    };
    let place = cx.source.key_before(section.place, NAME);
    let mut matching = resources.matching().iter();
    let mounting = matching.find(|of| of.upstream == plugin);
    let has_account = section
        .value
        .accounts
        .as_ref()
        .is_some_and(|accounts| !accounts.value.is_empty());
    match mounting {
        None => {
            cx.warning("unmounted", place, "no resource mounts the presence plugin")
                .hint("add one with `upstream: presence`, or take the section away");
        }
        Some(resource) if !has_account => {
            let message = format!(
                "resource `{}` mounts the presence plugin, but there is no account, so that it believes nobody",
                resource.name
            );
            cx.error("missing_account", place, message).hint(
                "add one under `presence.accounts`, with its `sid`, and `auth_token` or `keys`",
            );
        }
        Some(_) => {}
    }
}

fn unavailable(word: UnavailableWord) -> Unavailable {
    match word {
        UnavailableWord::Busy => Unavailable::Busy,
        UnavailableWord::Text => Unavailable::Text,
        UnavailableWord::Message => Unavailable::Message,
    }
}

/// A bound of the settings as a number of the file.
fn places(bound: usize) -> u32 {
    u32::try_from(bound).unwrap_or(u32::MAX)
}

fn heartbeat(cx: &mut Context<'_>, wanted: Option<&At<file::Scalar>>, usual: Duration) -> Duration {
    let before = cx.found.len();
    let parsed = cx.duration("heartbeat", wanted, usual, SECOND..=HEARTBEAT_MAX);
    let found = cx.found.get_mut(before);
    if let Some(found) = found.filter(|found| found.code == "out_of_range") {
        found.hint(
            "from 1s to 12s: clients give up a connection on which nothing came for 15 seconds",
        );
    }
    parsed
}

fn status(word: StatusWord) -> Status {
    match word {
        StatusWord::Available => Status::Available,
        StatusWord::Busy => Status::Busy,
        StatusWord::DoNotDisturb => Status::DoNotDisturb,
        StatusWord::Away => Status::Away,
        StatusWord::Unavailable => Status::Unavailable,
        StatusWord::Offline => Status::Offline,
    }
}

/// Each status once: what is left out would count as nothing, and nobody means that.
fn order(cx: &mut Context<'_>, list: &At<Vec<At<StatusWord>>>) -> Option<Order> {
    let mut order: Vec<Status> = Vec::new();
    for word in &list.value {
        let status = status(word.value);
        if order.contains(&status) {
            let message = format!("`order` names `{}` twice", status.as_str());
            cx.error("double_name", word.place, message)
                .hint("keep one of them");
        } else {
            order.push(status);
        }
    }
    let missing: Vec<_> = Status::ALL
        .iter()
        .filter(|status| !order.contains(status))
        .map(|status| format!("`{}`", status.as_str()))
        .collect();
    if !missing.is_empty() {
        let place = cx.source.key_before(list.place, "order");
        let message = format!("`order` leaves out {}", missing.join(", "));
        cx.error("missing_status", place, message)
            .hint("name each of the six statuses once, the one that counts most first");
    }
    Order::new(&order)
}
