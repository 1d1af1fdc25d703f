//! The section `upstreams`.

use std::time::Duration;

use http::HeaderValue;

use super::context::{Context, Names};
use crate::config::diagnostic::Place;
use crate::config::file::{self, At, Protocol};
use crate::proxy::{Endpoint, UpstreamSettings};

/// More than anyone puts behind one sidecar.
const UPSTREAMS_MAX: usize = 1_000;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// All upstreams in the order of their ids, and their names.
pub(super) fn upstreams(
    cx: &mut Context<'_>,
    section: &At<file::Named<file::Upstream>>,
) -> (Vec<UpstreamSettings>, Names) {
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
        names.declare(cx, name, &["presence", "other"]);
        upstreams.push(one(cx, name, upstream));
    }
    (upstreams, names)
}

/// Where requests go that say nothing else.
pub(super) fn default_upstream(
    cx: &mut Context<'_>,
    wanted: Option<&At<String>>,
    names: &Names,
    place: Place,
) -> usize {
    if let Some(name) = wanted {
        let found = names.find(cx, name, "unknown_upstream", "`default_upstream`");
        return found.unwrap_or(0);
    }
    if names.len() > 1 {
        let place = cx.source.key_before(place, "upstreams");
        let message = "there are several upstreams and no `default_upstream`";
        cx.error("missing_default", place, message).hint(format!(
            "say where requests go that no resource matches, such as `default_upstream: {}`",
            names.text(0)
        ));
    }
    0
}

fn one(cx: &mut Context<'_>, name: &At<String>, upstream: &file::Upstream) -> UpstreamSettings {
    cx.not_supported(
        upstream.balance.as_ref(),
        "balance",
        "choosing among several endpoints is",
    );
    cx.not_supported(
        upstream.health_check.as_ref(),
        "health_check",
        "health checks are",
    );
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
        endpoint: endpoints(cx, &upstream.endpoints),
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

fn endpoints(cx: &mut Context<'_>, list: &At<Vec<At<String>>>) -> Endpoint {
    if let Some(second) = list.value.get(1) {
        cx.error(
            "not_supported",
            second.place,
            "more than one endpoint is not built yet",
        )
        .hint("keep one of them");
    }
    // A value in place of a broken one only lets the rest be judged.
    let nowhere = Endpoint::Host(String::new(), 0);
    let Some(first) = list.value.first() else {
        cx.error(
            "missing_endpoint",
            list.place,
            "the upstream has no endpoint",
        )
        .hint("such as `endpoints: [\"127.0.0.1:3000\"]`");
        return nowhere;
    };
    endpoint(cx, first).unwrap_or(nowhere)
}

fn endpoint(cx: &mut Context<'_>, text: &At<String>) -> Option<Endpoint> {
    match parse_endpoint(&text.value) {
        Some(Endpoint::Unix(path)) => Some(Endpoint::Unix(cx.path(&path.to_string_lossy()))),
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

fn parse_endpoint(text: &str) -> Option<Endpoint> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty()).then(|| Endpoint::Unix(path.into()));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|&port| port > 0)?;
    if let Some(inner) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        inner.parse::<std::net::Ipv6Addr>().ok()?;
        return Some(Endpoint::Host(inner.to_owned(), port));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_host = !host.is_empty() && host.len() <= 253 && host.chars().all(is_plain);
    is_host.then(|| Endpoint::Host(host.to_owned(), port))
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
