//! The section `upstreams`.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::context::{Context, Names};
use super::presence::NAME;
use crate::admission::UpstreamId;
use crate::config::diagnostic::Place;
use crate::config::file::{self, At, Protocol};
use crate::config::{Places, units};
use crate::proxy::{Balance, Ejection, EndpointAddress, HealthCheck, UpstreamSettings};

/// More than anyone puts behind one sidecar.
const UPSTREAMS_MAX: usize = 1_000;
/// Each is looked at when one is chosen, and has metrics of its own.
const ENDPOINTS_MAX: usize = 256;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The upstreams by name: those of the file, and behind them the plugin, if there is a section for it.
#[derive(Debug)]
pub(super) struct UpstreamNames {
    declared: Names,
    /// The same and the plugin.
    all: Names,
    has_plugin: bool,
}

impl UpstreamNames {
    fn new(cx: &mut Context<'_>, declared: Names, plugin: Option<Place>) -> Self {
        let mut all = declared.clone();
        // An upstream of its name is refused already.
        let plugin = plugin.filter(|_| !declared.has(NAME));
        if let Some(place) = plugin {
            let value = NAME.to_owned();
            all.declare(cx, &At { value, place }, &[]);
        }
        Self {
            declared,
            all,
            has_plugin: plugin.is_some(),
        }
    }

    /// The upstream that `who` names, which may be the plugin.
    pub(super) fn find(
        &self,
        cx: &mut Context<'_>,
        name: &At<String>,
        who: &str,
    ) -> Option<UpstreamId> {
        if name.value == NAME && !self.all.has(NAME) {
            missing_plugin(cx, name.place, who);
            return None;
        }
        let found = self.all.find(cx, name, "unknown_upstream", who);
        found.map(id)
    }

    /// The upstream of the file that `who` names; the plugin is none, and `hint` says what else to do.
    pub(super) fn find_declared(
        &self,
        cx: &mut Context<'_>,
        name: &At<String>,
        who: &str,
        hint: &str,
    ) -> Option<UpstreamId> {
        if name.value == NAME {
            let message =
                format!("{who} names the presence plugin, which is no API behind the gate");
            cx.error("contradiction", name.place, message).hint(hint);
            return None;
        }
        let found = self.declared.find(cx, name, "unknown_upstream", who);
        found.map(id)
    }

    /// The id of the plugin: one beyond the last of the file.
    pub(super) fn plugin(&self) -> Option<UpstreamId> {
        self.has_plugin.then(|| id(self.declared.len()))
    }

    /// The name of an id.
    pub(super) fn text(&self, of: UpstreamId) -> &str {
        self.all.text(usize::from(of.0))
    }

    /// All names in the order of their ids.
    pub(super) fn texts(&self) -> Vec<String> {
        let all = 0..self.all.len();
        all.map(|index| self.all.text(index).to_owned()).collect()
    }
}

fn id(index: usize) -> UpstreamId {
    UpstreamId(u16::try_from(index).expect("there are at most 1,000 upstreams, and the plugin"))
}

/// Says that `who` needs the section of the plugin.
pub(super) fn missing_plugin(cx: &mut Context<'_>, place: Place, who: &str) {
    let message = format!("{who} names the presence plugin, and there is no section `presence`");
    cx.error("missing_presence", place, message).hint(
        "add it: `presence: { accounts: [{ sid: AC…, auth_token: { env: AC_AUTH_TOKEN } }] }`",
    );
}

/// All upstreams in the order of their ids, and their names.
pub(super) fn upstreams(
    cx: &mut Context<'_>,
    file: &file::File,
    places: &mut Places,
) -> (Vec<UpstreamSettings>, UpstreamNames) {
    let section = &file.upstreams;
    let mut names = Names::new("upstream");
    cx.bound(
        "upstreams",
        section.value.0.len(),
        UPSTREAMS_MAX,
        section.place,
    );
    if section.value.0.is_empty() {
        let place = cx.source.key_before(section.place, "upstreams");
        cx.error(
            "missing_upstream",
            place,
            "there is no upstream, so that nothing can be forwarded",
        )
        .hint("such as `api: { endpoints: [\"127.0.0.1:3000\"] }`");
    }
    let mut upstreams = Vec::new();
    for (name, upstream) in section.value.0.iter().take(UPSTREAMS_MAX) {
        names.declare(cx, name, &[NAME, "other"]);
        places
            .balances
            .push(upstream.balance.as_ref().map(|of| of.place));
        upstreams.push(one(cx, name, upstream));
    }
    let plugin = file.presence.as_ref().map(|section| section.place);
    (upstreams, UpstreamNames::new(cx, names, plugin))
}

/// Where requests go that say nothing else.
pub(super) fn default_upstream(
    cx: &mut Context<'_>,
    wanted: Option<&At<String>>,
    names: &UpstreamNames,
    place: Place,
) -> UpstreamId {
    let first = UpstreamId(0);
    if let Some(name) = wanted {
        let hint = "mount it with `upstream: presence` in a resource of its own";
        let found = names.find_declared(cx, name, "`default_upstream`", hint);
        return found.unwrap_or(first);
    }
    if names.declared.len() > 1 {
        let place = cx.source.key_before(place, "upstreams");
        let message = "there are several upstreams and no `default_upstream`";
        cx.error("missing_default", place, message).hint(format!(
            "say where requests go that no resource matches, such as `default_upstream: {}`",
            names.text(first)
        ));
    }
    first
}

fn one(cx: &mut Context<'_>, name: &At<String>, upstream: &file::Upstream) -> UpstreamSettings {
    if let Some(protocol) = upstream
        .protocol
        .as_ref()
        .filter(|protocol| protocol.value == Protocol::Http2)
    {
        cx.error(
            "not_supported",
            protocol.place,
            "HTTP/2 to upstreams is not built yet",
        )
        .hint("write `http1`, or leave `protocol` away");
    }
    let pool = upstream.pool.as_ref();
    let idle = pool.and_then(|pool| pool.idle.as_ref());
    let pool_idle_timeout = pool.and_then(|pool| pool.idle_timeout.as_ref());
    let seconds = Duration::from_secs;
    UpstreamSettings {
        name: name.value.clone(),
        endpoints: endpoints(cx, &upstream.endpoints),
        balance: match upstream.balance.as_ref().map(|balance| balance.value) {
            None | Some(file::Balance::RoundRobin) => Balance::RoundRobin,
            Some(file::Balance::LeastInFlight) => Balance::LeastInFlight,
            Some(file::Balance::ConsistentHash) => Balance::ConsistentHash,
        },
        health_check: upstream
            .health_check
            .as_ref()
            .map(|check| health_check(cx, check)),
        ejection: ejection(cx, upstream.ejection.as_ref()),
        connect_timeout: cx.duration(
            "connect_timeout",
            upstream.connect_timeout.as_ref(),
            SECOND,
            MS..=HOUR,
        ),
        response_timeout: cx.duration(
            "response_timeout",
            upstream.response_timeout.as_ref(),
            seconds(60),
            MS..=DAY,
        ),
        idle_timeout: cx.duration(
            "idle_timeout",
            upstream.idle_timeout.as_ref(),
            seconds(60),
            MS..=DAY,
        ),
        tunnel_idle_timeout: cx.duration(
            "tunnel_idle_timeout",
            upstream.tunnel_idle_timeout.as_ref(),
            HOUR,
            MS..=7 * DAY,
        ),
        host: upstream.host.as_ref().and_then(|host| self::host(cx, host)),
        resolve: cx.duration(
            "resolve",
            upstream.resolve.as_ref(),
            seconds(30),
            SECOND..=DAY,
        ),
        pool_idle: cx.count("pool.idle", idle, 64, 0..=10_000) as usize,
        pool_idle_timeout: cx.duration(
            "pool.idle_timeout",
            pool_idle_timeout,
            seconds(55),
            MS..=DAY,
        ),
    }
}

/// Endpoints in the order of the file; one that is given twice is an error, for it would get twice its share.
fn endpoints(cx: &mut Context<'_>, list: &At<Vec<At<String>>>) -> Vec<EndpointAddress> {
    cx.bound("endpoints", list.value.len(), ENDPOINTS_MAX, list.place);
    if list.value.is_empty() {
        cx.error(
            "missing_endpoint",
            list.place,
            "the upstream has no endpoint",
        )
        .hint("such as `endpoints: [\"127.0.0.1:3000\"]`");
    }
    let mut endpoints = Vec::new();
    for text in list.value.iter().take(ENDPOINTS_MAX) {
        let Some(endpoint) = endpoint(cx, text) else {
            continue;
        };
        if endpoints.contains(&endpoint) {
            let message = format!("the endpoint `{endpoint}` is given twice");
            cx.error("double_endpoint", text.place, message)
                .hint("keep one of them");
        } else {
            endpoints.push(endpoint);
        }
    }
    endpoints
}

fn endpoint(cx: &mut Context<'_>, text: &At<String>) -> Option<EndpointAddress> {
    match parse_endpoint(&text.value) {
        Some(EndpointAddress::Unix(path)) => {
            Some(EndpointAddress::Unix(cx.path(&path.to_string_lossy())))
        }
        Some(endpoint) => Some(endpoint),
        None => {
            let hint = if text.value.contains("://") {
                "without a scheme: `host:port`; TLS to upstreams is not built yet"
            } else {
                "`host:port`, `[::1]:3000` or `unix:/path`"
            };
            cx.error(
                "bad_address",
                text.place,
                format!("`{}` is no endpoint", text.value),
            )
            .hint(hint);
            None
        }
    }
}

fn health_check(cx: &mut Context<'_>, check: &file::HealthCheck) -> HealthCheck {
    let often = 100 * MS..=HOUR;
    HealthCheck {
        path: check.path.as_ref().and_then(|path| self::path(cx, path)),
        interval: cx.duration("interval", check.interval.as_ref(), 2 * SECOND, often),
        timeout: cx.duration("timeout", check.timeout.as_ref(), SECOND, MS..=60 * SECOND),
        unhealthy_after: cx.count(
            "unhealthy_after",
            check.unhealthy_after.as_ref(),
            2,
            1..=100,
        ),
        healthy_after: cx.count("healthy_after", check.healthy_after.as_ref(), 1, 1..=100),
    }
}

fn path(cx: &mut Context<'_>, path: &At<String>) -> Option<PathAndQuery> {
    let parsed = path.value.parse::<PathAndQuery>().ok();
    // The parser forgives a fragment, which is never sent, and a path without its slash.
    let is_path =
        |parsed: &PathAndQuery| parsed.as_str() == path.value && path.value.starts_with('/');
    let parsed = parsed.filter(is_path);
    if parsed.is_none() {
        cx.error(
            "bad_value",
            path.place,
            format!("`path`: `{}` is no path", path.value),
        )
        .hint("it begins with a slash and holds no space: `/healthz`");
    }
    parsed
}

fn ejection(
    cx: &mut Context<'_>,
    ejection: Option<&file::OffOr<file::EjectionRules>>,
) -> Option<Ejection> {
    let rules = match ejection {
        None => None,
        Some(file::OffOr::Map(rules)) => Some(rules),
        Some(file::OffOr::Word(word)) => {
            if !units::is_off(&word.value.0) {
                let message = format!("`ejection` is `{}`", word.value.0);
                cx.error("bad_value", word.place, message)
                    .hint("`off`, or a map with `after` and `for`");
            }
            return None;
        }
    };
    let (after, period) = (
        rules.and_then(|rules| rules.after.as_ref()),
        rules.and_then(|rules| rules.r#for.as_ref()),
    );
    Some(Ejection {
        after: cx.count("after", after, 5, 1..=1_000),
        period: cx.duration("for", period, 10 * SECOND, 100 * MS..=HOUR),
    })
}

fn parse_endpoint(text: &str) -> Option<EndpointAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty()).then(|| EndpointAddress::Unix(path.into()));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|&port| port > 0)?;
    if let Some(inner) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        // However it is written, it is the same endpoint.
        let address = inner.parse::<IpAddr>().ok().filter(IpAddr::is_ipv6)?;
        return Some(EndpointAddress::Host(address.to_string(), port));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_host = !host.is_empty() && host.len() <= 253 && host.chars().all(is_plain);
    is_host.then(|| EndpointAddress::Host(host.to_owned(), port))
}

fn host(cx: &mut Context<'_>, host: &At<String>) -> Option<HeaderValue> {
    let is_host = host
        .value
        .parse::<http::uri::Authority>()
        .is_ok_and(|parsed| !parsed.as_str().contains('@'));
    if !is_host {
        cx.error(
            "bad_value",
            host.place,
            format!("`{}` is no host", host.value),
        )
        .hint("a name or an address, with a port if it needs one: `api.internal:8443`");
        return None;
    }
    HeaderValue::try_from(&host.value).ok()
}
