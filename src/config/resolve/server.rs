//! The sections `server`, `admin`, `access_log` and `metrics`.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;

use super::context::Context;
use crate::admission::Registry;
use crate::classify::TrustedProxies;
use crate::config::Admin;
use crate::config::diagnostic::Place;
use crate::config::file::{self, At, LogFormat, Scalar};
use crate::config::{Places, units};
use crate::proxy::{Address, Certificate, Listener, Settings, Tls};
use crate::telemetry::{LogSettings, LogTarget};

const LISTENERS_MAX: usize = 64;
const LIST_MAX: usize = 1_000;
const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// What holds for the whole data plane.
pub(super) fn server(cx: &mut Context<'_>, server: &file::Server, places: &mut Places) -> Settings {
    places.threads = server
        .threads
        .as_ref()
        .map(|threads| threads.place)
        .unwrap_or_default();
    cx.not_supported(
        server.upgrade_socket.as_ref(),
        "upgrade_socket",
        "handing the listeners to a new process is",
    );
    let (concurrency_header, duration_header) = headers(cx, server.headers.as_ref());
    let timeout_header = server
        .timeout_header
        .as_ref()
        .filter(|name| !units::is_off(&name.value.0))
        .and_then(|name| cx.header(&name.value.0, name.place));
    Settings {
        listeners: listeners(cx, &server.listeners, places),
        threads: threads(cx, server.threads.as_ref()),
        drain_delay: cx.duration(
            "drain_delay",
            server.drain_delay.as_ref(),
            Duration::ZERO,
            Duration::ZERO..=HOUR,
        ),
        drain_timeout: cx.duration(
            "drain_timeout",
            server.drain_timeout.as_ref(),
            Duration::from_secs(30),
            Duration::ZERO..=DAY,
        ),
        header_timeout: cx.duration(
            "header_timeout",
            server.header_timeout.as_ref(),
            Duration::from_secs(10),
            MS..=HOUR,
        ),
        keep_alive: cx.duration(
            "keep_alive",
            server.keep_alive.as_ref(),
            Duration::from_secs(75),
            MS..=DAY,
        ),
        max_connections: cx.count(
            "max_connections",
            server.max_connections.as_ref(),
            10_000,
            1..=1_000_000,
        ) as usize,
        max_head: max_head(cx, server),
        max_body: server
            .max_body
            .as_ref()
            .filter(|value| !units::is_off(&value.value.0))
            .map(|value| cx.size("max_body", Some(value), 0, 0..=1 << 40)),
        max_streams: cx.count("max_streams", server.max_streams.as_ref(), 128, 1..=10_000),
        trusted_proxies: trusted_proxies(cx, server.trusted_proxies.as_deref().unwrap_or_default()),
        concurrency_header,
        timeout_header,
        duration_header,
    }
}

fn max_head(cx: &mut Context<'_>, server: &file::Server) -> usize {
    let bytes = cx.size(
        "max_head",
        server.max_head.as_ref(),
        64 << 10,
        8 << 10..=1 << 20,
    );
    usize::try_from(bytes).expect("a MiB fits")
}

fn threads(cx: &mut Context<'_>, value: Option<&At<Scalar>>) -> usize {
    let auto = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match value {
        Some(value) if value.value.0 != "auto" => {
            cx.count("threads", Some(value), 1, 1..=1_024) as usize
        }
        _ => auto,
    }
}

fn listeners(
    cx: &mut Context<'_>,
    list: &At<Vec<file::Listener>>,
    places: &mut Places,
) -> Vec<Listener> {
    cx.bound("listeners", list.value.len(), LISTENERS_MAX, list.place);
    if list.value.is_empty() {
        cx.error(
            "missing_listener",
            list.place,
            "there is no listener, so that nobody can connect",
        )
        .hint("such as `- address: 127.0.0.1:8080`");
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for listener in &list.value {
        let tls = listener.tls.as_ref().map(|of| tls(cx, of));
        let Some(address) = address(cx, &listener.address) else {
            continue;
        };
        let is_free = matches!(&address, Address::Tcp(socket) if socket.port() == 0);
        if !is_free && listeners.iter().any(|known| known.address == address) {
            let message = format!("two listeners have the address `{address}`");
            cx.error("double_address", listener.address.place, message)
                .hint("keep one of them");
        }
        places.listeners.push(listener.address.place);
        listeners.push(Listener { address, tls });
    }
    listeners
}

fn tls(cx: &mut Context<'_>, tls: &file::Tls) -> Tls {
    let first = Certificate {
        certificate: cx.watched_file(&tls.certificate),
        private_key: cx.watched_file(&tls.private_key),
    };
    let more = tls.more.as_deref().unwrap_or_default();
    cx.bound("certificates", more.len(), LIST_MAX, tls.certificate.place);
    let mut certificates = vec![first];
    for further in more {
        certificates.push(Certificate {
            certificate: cx.watched_file(&further.certificate),
            private_key: cx.watched_file(&further.private_key),
        });
    }
    let client_ca = tls.client_ca.as_ref().map(|path| cx.watched_file(path));
    Tls {
        certificates,
        client_ca,
    }
}

fn address(cx: &mut Context<'_>, text: &At<String>) -> Option<Address> {
    if let Some(path) = text.value.strip_prefix("unix:") {
        if !path.is_empty() {
            return Some(Address::Unix(cx.path(path)));
        }
    } else if let Ok(address) = text.value.parse::<SocketAddr>() {
        return Some(Address::Tcp(address));
    }
    let message = format!("`{}` is no address to listen on", text.value);
    cx.error("bad_address", text.place, message)
        .hint("an IP address and a port (`127.0.0.1:8080`, `[::]:8080`), or `unix:/path`");
    None
}

fn trusted_proxies(cx: &mut Context<'_>, list: &[At<String>]) -> TrustedProxies {
    if let Some(first) = list.first() {
        cx.bound("trusted proxies", list.len(), LIST_MAX, first.place);
    }
    let networks = list.iter().filter_map(|text| cx.network(text));
    TrustedProxies::new(networks.collect())
}

fn headers(
    cx: &mut Context<'_>,
    headers: Option<&file::OffOr<file::HeaderNames>>,
) -> (Option<HeaderName>, Option<HeaderName>) {
    let concurrency = Some(HeaderName::from_static("x-concurrent-requests"));
    let duration = Some(HeaderName::from_static("x-request-duration"));
    match headers {
        None => (concurrency, duration),
        Some(file::OffOr::Word(word)) => {
            if !units::is_off(&word.value.0) {
                let message = format!("`headers` is `{}`", word.value.0);
                cx.error("bad_value", word.place, message)
                    .hint("`off`, or a map with `concurrency` and `duration`");
            }
            (None, None)
        }
        Some(file::OffOr::Map(names)) => {
            let mut one = |name: Option<&At<Scalar>>, default| match name {
                None => default,
                Some(name) if units::is_off(&name.value.0) => None,
                Some(name) => cx.header(&name.value.0, name.place),
            };
            (
                one(names.concurrency.as_ref(), concurrency),
                one(names.duration.as_ref(), duration),
            )
        }
    }
}

/// The admin API; it may not share an address with the data plane's listeners.
pub(super) fn admin(
    cx: &mut Context<'_>,
    section: Option<&file::Admin>,
    listeners: &[Listener],
    places: &mut Places,
) -> Admin {
    let default = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 9901)));
    let written = section.and_then(|section| section.address.as_ref());
    let place = written.map_or_else(Place::default, |text| text.place);
    places.admin = place;
    let address = written
        .and_then(|text| address(cx, text))
        .unwrap_or(default);
    let is_free = matches!(&address, Address::Tcp(socket) if socket.port() == 0);
    if !is_free
        && let Some(index) = listeners
            .iter()
            .position(|listener| listener.address == address)
    {
        let place = if place.line == 0 {
            places.listeners[index]
        } else {
            place
        };
        cx.error(
            "double_address",
            place,
            format!("the admin API and a listener share the address `{address}`"),
        )
        .hint("give the admin API a port of its own, such as 127.0.0.1:9901");
    }
    let token = section.and_then(|section| section.token.as_ref());
    let is_open = matches!(&address, Address::Tcp(socket) if !socket.ip().is_loopback());
    if is_open && token.is_none() {
        cx.warning(
            "admin_open",
            place,
            "whoever reaches the admin API may read it; writes are refused without a token",
        )
        .hint("set `admin.token`, or listen on 127.0.0.1");
    }
    Admin {
        address,
        token: token.and_then(|token| cx.secret(token)),
    }
}

/// Where the access log goes.
pub(super) fn access_log(cx: &mut Context<'_>, section: Option<&file::AccessLog>) -> LogSettings {
    if let Some(format) = section.and_then(|section| section.format.as_ref())
        && format.value == LogFormat::Human
    {
        cx.error(
            "not_supported",
            format.place,
            "the format `human` is not built yet",
        )
        .hint("write `json`, or leave `format` away");
    }
    let path = section.and_then(|section| section.path.as_ref());
    let target = match path.map(|path| path.value.0.as_str()) {
        None | Some("stdout") => LogTarget::Stdout,
        Some("stderr") => LogTarget::Stderr,
        Some(word) if units::is_off(word) => LogTarget::Off,
        Some(path) => LogTarget::File(cx.path(path)),
    };
    if let Some(path) = path.filter(|path| path.value.0.is_empty()) {
        cx.error("bad_value", path.place, "`path` is empty")
            .hint("a file, `stdout`, `stderr` or `off`");
    }
    LogSettings { target }
}

/// How many accounts the metrics tell apart.
pub(super) fn metrics_accounts(
    cx: &mut Context<'_>,
    section: Option<&file::Metrics>,
) -> Option<usize> {
    let accounts = section?.accounts.as_ref()?;
    let most = u32::try_from(Registry::ACCOUNTS_MAX).unwrap_or(u32::MAX);
    Some(cx.count("accounts", Some(accounts), 1, 1..=most) as usize)
}
