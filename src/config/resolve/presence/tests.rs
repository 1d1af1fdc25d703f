//! Tests of the plugin's section, from text to settings; the mistakes are in `tests/diagnostics`.
//!
//! What the example shows in comments is read here as if it were active. Never asks the plugin anything.

use std::path::Path;
use std::time::Duration;

use crate::admission::{Dimension, Policy, UpstreamId};
use crate::classify::{AccountSource, Peer, Rules};
use crate::config::explain::explain;
use crate::config::tests::{EXAMPLE, MINIMAL, good};
use crate::config::{Secrets, parse};
use crate::presence::{AccountSettings, ApiAccess, Order, SecretText, Settings, Status};

const SID: &str = "AC0123456789abcdef0123456789abcdef";
const KEY: &str = "SK0123456789abcdef0123456789abcdef";
const MOUNTED: &str = "resources: [{ name: signal, match: { path: /signal }, upstream: presence, stream: headers }]\n";

/// A section with one account, whose secret is nowhere.
fn section() -> String {
    let token = "auth_token: { env: TIDEGATE_TEST_NOT_SET }";
    format!("presence: {{ accounts: [{{ sid: {SID}, {token} }}] }}\n")
}

// B25, B38, G20: what the example shows are the defaults.
#[test]
fn the_section_of_the_example_is_good_and_shows_the_defaults() {
    let lines = EXAMPLE.lines().map(|line| line.strip_prefix("# "));
    let block = lines.skip_while(|line| !line.is_some_and(|line| line.starts_with("presence:")));
    let block: Vec<_> = block.map_while(|line| line).collect();
    let config = good(&format!("{MINIMAL}{MOUNTED}{}\n", block.join("\n")));
    assert_eq!(
        config
            .warnings
            .iter()
            .map(|found| found.code)
            .collect::<Vec<_>>(),
        ["secret_missing"; 2]
    );
    let shown = config.presence.unwrap();
    assert_eq!(
        shown.accounts,
        [AccountSettings {
            sid: SID.to_owned(),
            auth_tokens: Vec::new(),
            keys: Vec::new(),
            webhooks: vec!["http://127.0.0.1:4000/presence".to_owned()],
            api: ApiAccess::Tokens,
        }]
    );
    let accounts = Vec::new();
    assert_eq!(Settings { accounts, ..shown }, Settings::default());
}

#[test]
fn an_empty_section_is_all_defaults_and_none_is_no_plugin() {
    let config = good(&format!("{MINIMAL}presence: {{}}"));
    assert_eq!(config.presence, Some(Settings::default()));
    let none = good(MINIMAL);
    assert_eq!(none.presence, None);
    assert_eq!(none.policy.upstreams, ["api"]);
}

#[test]
fn whatever_is_said_arrives() {
    let config = good(&format!(
        "{MINIMAL}presence:\n  {{ assume: away, heartbeat: 12s, grace: 0s, calls_per_device: 2, devices_per_identity: 3, ring_away: true,\n\
         \x20   order: [offline, unavailable, away, do_not_disturb, busy, available], max_sockets: 500, connects_per_second: 7,\n\
         \x20   allowed_origins: ['HTTPS://App.example.com:443', 'https://app.example.com', 'http://[::1]:3000'] }}\n"
    ));
    let mut turned = Status::ALL;
    turned.reverse();
    let told = Settings {
        accounts: Vec::new(),
        assume: Status::Away,
        heartbeat: Duration::from_secs(12),
        grace: Duration::ZERO,
        order: Order::new(&turned).unwrap(),
        calls_per_device: 2,
        devices_per_identity: 3,
        ring_away: true,
        max_sockets: 500,
        // The usual number would never be reached.
        max_sockets_per_account: 500,
        connects_per_second: 7,
        allowed_origins: vec![
            "https://app.example.com".to_owned(),
            "http://[::1]:3000".to_owned(),
        ],
    };
    assert_eq!(config.presence, Some(told));
}

#[test]
fn secrets_keep_their_order_and_are_watched_and_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str| {
        let secret = format!("hush-{name}-0123456789abcdef0123456789");
        std::fs::write(folder.path().join(name), &secret).unwrap();
        SecretText(secret)
    };
    let secrets = ["new", "old", "key"].map(written);
    let text = format!(
        "{MINIMAL}{MOUNTED}presence:\n  accounts:\n    - sid: {SID}\n      auth_token: [{{ file: new }}, {{ file: old }}]\n\
         \x20     keys: [{{ id: {KEY}, secret: {{ file: key }} }}]\n      api: internal\n"
    );
    let path = folder.path().join("tidegate.yaml");
    let config = parse(&path, &text, Secrets::Required).unwrap();
    assert_eq!(config.warnings, []);
    let watched = ["new", "old", "key"].map(|name| folder.path().join(name));
    assert_eq!(config.watched, watched);
    assert!(!format!("{config:?}").contains("hush"));
    let account = &config.presence.unwrap().accounts[0];
    assert_eq!(account.auth_tokens, secrets[..2]);
    assert_eq!(account.keys[0].id, KEY);
    assert_eq!(account.keys[0].secrets, secrets[2..]);
    assert_eq!(account.api, ApiAccess::Internal);
    std::fs::write(folder.path().join("key"), "short").unwrap();
    let weak = parse(&path, &text, Secrets::Required).unwrap();
    assert_eq!(weak.warnings[0].code, "weak_key");
}

#[test]
fn a_secret_that_is_missing_refuses_serving_and_warns_whoever_looks() {
    let text = format!("{MINIMAL}{MOUNTED}{}", section());
    let path = Path::new("tidegate.yaml");
    let looked = parse(path, &text, Secrets::Optional).unwrap();
    assert_eq!(looked.warnings[0].code, "secret_missing");
    let refused = parse(path, &text, Secrets::Required).unwrap_err();
    assert_eq!(refused.diagnostics[0].code, "secret_missing");
}

// The plugin is one upstream more for limits and resources, and none for what needs an API.
#[test]
fn the_plugin_is_the_upstream_behind_the_last() {
    let limits = "limits: [{ name: sockets, max: 5, upstreams: [presence], per: [upstream] }, { name: api, max: 9, upstreams: [api] }]\n";
    let config = good(&format!("{MINIMAL}{MOUNTED}{limits}{}", section()));
    assert_eq!(config.upstreams.len(), 1);
    assert_eq!(config.policy.upstreams, ["api", "presence"]);
    let plugin = UpstreamId(1);
    assert_eq!(config.resources[0].upstream, plugin);
    assert_eq!(config.rules.resources[0].upstream, plugin);
    assert_eq!(config.policy.resources[0].upstream, plugin);
    assert_eq!(
        config.resources[1].upstream,
        UpstreamId(0),
        "`other` is not the plugin's"
    );
    let limit = &config.policy.limits[0];
    assert_eq!(limit.upstreams.as_deref(), Some(&[plugin][..]));
    assert_eq!(limit.per, [Dimension::Upstream]);
    let more = MINIMAL.replace("{ api:", "{ bulk: { endpoints: ['127.0.0.1:3001'] }, api:");
    let more = format!(
        "{more}default_upstream: api\n{MOUNTED}{limits}{}",
        section()
    );
    let more = good(&more);
    assert_eq!(more.resources[0].upstream, UpstreamId(2));
    assert_eq!(
        more.policy.limits[0].identity, limit.identity,
        "it counts on through a reload"
    );
}

#[test]
fn a_request_for_the_plugin_is_explained() {
    let limits = "limits: [{ name: all, max: 5, per: [upstream] }, { name: api, max: 9, upstreams: [api] }]\n";
    let config = good(&format!("{MINIMAL}{MOUNTED}{limits}{}", section()));
    let origin = config.origin();
    let policy = Policy::new(config.policy, None);
    let rules = Rules::new(config.rules);
    let head = http::Request::builder().uri("/signal").body(()).unwrap();
    let text = explain(
        &origin,
        &rules,
        &policy,
        &head.into_parts().0,
        &Peer::default(),
    )
    .to_string();
    assert!(text.contains("upstream     presence\n"), "{text}");
    assert!(
        text.contains("1. all  max 5, [upstream=presence]"),
        "{text}"
    );
    assert!(!text.contains("2. api"), "{text}");
}

#[test]
fn who_is_identified_by_presence_is_not_forged() {
    let limits =
        "accounts: { identify: [presence] }\nlimits: [{ name: account, max: 5, per: [account] }]\n";
    let config = good(&format!("{MINIMAL}{MOUNTED}{limits}{}", section()));
    assert!(matches!(
        config.rules.identify[..],
        [AccountSource::Presence]
    ));
    let codes: Vec<_> = config.warnings.iter().map(|found| found.code).collect();
    assert!(!codes.contains(&"forgeable"), "{codes:?}");
}
