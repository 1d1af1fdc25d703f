//! Tests of the plugin's section, from text to settings; the mistakes are in `tests/diagnostics`.
//!
//! What the example shows in comments is read here as if it were active. Never asks the plugin anything.

use std::path::Path;
use std::time::Duration;

use crate::admission::{Cost, Dimension, Policy, Priority, ResourceId, UpstreamId};
use crate::classify::{AccountSource, Peer, Rules};
use crate::config::explain::explain;
use crate::config::tests::{EXAMPLE, MINIMAL, good};
use crate::config::{Secrets, parse};
use crate::presence::{
    ApiAccess, Application, Choose, Destination, Name, Order, Peers, Script, SecretText, Settings,
    Status, Unavailable,
};

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
    let of = &shown.accounts[0];
    let webhooks = ["http://127.0.0.1:4000/presence"];
    assert_eq!(
        (&*of.sid, &of.webhooks[..]),
        (SID, &webhooks.map(str::to_owned)[..])
    );
    assert_eq!(
        (&of.auth_tokens, &of.keys, of.api),
        (&vec![], &vec![], ApiAccess::Tokens)
    );
    assert_eq!(
        (
            of.applications.len(),
            of.numbers.len(),
            of.destinations.len()
        ),
        (1, 1, 1)
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
        ..Settings::default()
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

// B8, B27, B34: whose instructions run, which names stand for several, and what else calls need.
#[test]
fn what_is_said_about_calls_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "hush-peers-0123456789abcdef0123456789";
    std::fs::write(folder.path().join("secret"), secret).unwrap();
    let app = "AP00000000000000000000000000000001";
    let text = format!(
        "{MINIMAL}{MOUNTED}presence:\n  accounts:\n    - sid: {SID}\n      auth_token: {{ file: secret }}\n\
         \x20     applications: {{ {app}: {{ voice: {{ url: 'http://a/v#rc=2', fallback_url: 'https://b/' }}, clients: [alice] }} }}\n\
         \x20     numbers: {{ +12: {{ messaging: {{ url: 'http://a/m' }} }}, '+123456789012345': {{ voice: {{ url: 'http://a' }} }} }}\n\
         \x20     destinations: {{ Sales team: {{ members: [bob, Émile], choose: in_order }}, one: {{ members: [one] }} }}\n\
         \x20 unavailable: message\n  egress: {{ allow: [10.0.0.0/8, '::1'] }}\n  node: b\n\
         \x20 peers: {{ secret: {{ file: secret }}, nodes: [{{ name: a, url: 'HTTPS://Gate.example.com:443' }}] }}\n"
    );
    let path = folder.path().join("tidegate.yaml");
    let config = parse(&path, &text, Secrets::Required).unwrap();
    assert_eq!(config.warnings, []);
    assert!(!format!("{config:?}").contains("hush"));
    let told = config.presence.unwrap();
    let script = |url: &str| Script {
        url: url.to_owned(),
        fallback_url: None,
    };
    let names = |list: &[&str]| list.iter().map(|name| Name::new(name).unwrap()).collect();
    let (voice, fallback_url) = (script("http://a/v#rc=2"), Some("https://b/".to_owned()));
    let voice = Some(Script {
        fallback_url,
        ..voice
    });
    let of = &told.accounts[0];
    let wanted = Application {
        voice,
        messaging: None,
        clients: names(&["alice"]),
    };
    assert_eq!(of.applications, [(app.to_owned(), wanted)]);
    let (number, called) = &of.numbers[0];
    assert_eq!(
        (&**number, &called.messaging),
        ("+12", &Some(script("http://a/m")))
    );
    let team = Destination {
        members: names(&["bob", "Émile"]),
        choose: Choose::InOrder,
    };
    let one = Destination {
        members: names(&["one"]),
        choose: Choose::All,
    };
    let name = |text| Name::new(text).unwrap();
    assert_eq!(
        of.destinations,
        [(name("Sales team"), team), (name("one"), one)]
    );
    assert_eq!((told.unavailable, &*told.node), (Unavailable::Message, "b"));
    assert_eq!(
        told.egress,
        ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]
    );
    let Peers {
        secret: read,
        nodes,
    } = told.peers.unwrap();
    assert_eq!(read.0, secret);
    assert_eq!(
        (&*nodes[0].name, &*nodes[0].url),
        ("a", "https://gate.example.com")
    );
}

// B10: limits name calls like anything else, and no request is taken for one.
#[test]
fn calls_count_as_a_resource_that_no_request_is_of() {
    let limits = "limits: [{ name: calls, max: 5, resources: [calls], per: [account, resource] }, { name: rest, max: 9, except: [calls, signal] }]\n";
    let config = good(&format!("{MINIMAL}{MOUNTED}{limits}{}", section()));
    // Nothing identifies accounts, and nothing needs to.
    let codes: Vec<_> = config.warnings.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["probes_limited", "secret_missing"]);
    let names: Vec<_> = config.resources.iter().map(|of| of.name.as_str()).collect();
    assert_eq!(names, ["signal", "other", "calls"]);
    let calls = &config.rules.resources[2];
    assert_eq!(
        (calls.upstream, calls.priority),
        (UpstreamId(1), Priority::Normal)
    );
    assert_eq!(config.policy.limits[0].resources, Some(vec![ResourceId(2)]));
    assert_eq!(
        config.policy.limits[1].except,
        [ResourceId(2), ResourceId(0)]
    );
    assert_eq!(config.resource_lines[2], 0);
    let rules = Rules::new(config.rules);
    for uri in ["/", "/calls", "/signal", "*"] {
        let head = http::Request::builder().uri(uri).body(()).unwrap();
        let found = rules.classify(
            &crate::head::Head::from(&head.into_parts().0),
            &Peer::default(),
        );
        assert_ne!(
            found.unwrap().unwrap().class.resource,
            ResourceId(2),
            "{uri}"
        );
    }
    let none = good(MINIMAL);
    assert_eq!(
        none.resources.len(),
        1,
        "without the plugin there are no calls"
    );
}

#[test]
fn a_resource_of_the_file_may_be_what_calls_count_as() {
    let section = format!(
        "{}  call_resource: voice\n",
        section()
            .replace("{ accounts: [{", "\n  accounts: [{")
            .replace("}] }", "}]")
    );
    let told = |resource: &str| {
        let resources = MOUNTED.replace("[{", &format!("[{{ {resource} }}, {{"));
        let limit = "limits: [{ name: l, max: 50, resources: [voice] }]\n";
        let config = good(&format!("{MINIMAL}{resources}{limit}{section}"));
        let only = config.policy.limits[0].resources.as_ref().unwrap()[0];
        let index = usize::from(only.0);
        assert_eq!(config.presence.as_ref().unwrap().call_resource, "voice");
        assert_eq!(config.resources.len(), 3, "it is there once");
        assert_eq!(config.resources[index].name, "voice");
        (index, config)
    };
    let (index, config) = told("name: voice, match: { path: /calls }, upstream: api");
    assert_eq!((index, config.resources[0].upstream), (0, UpstreamId(0)));
    let (index, config) =
        told("name: voice, priority: high, cost: 2, completion: { hold_up_to: 4h }");
    assert_eq!(index, 2);
    let voice = &config.rules.resources[2];
    assert_eq!(
        (voice.priority, voice.upstream),
        (Priority::High, UpstreamId(1))
    );
    assert!(matches!(voice.cost, Cost::Fixed(2)));
    assert_eq!(
        config.resources[2].completion,
        Some(Duration::from_hours(4))
    );
    assert_eq!(config.resources[1].name, "other");
    assert!(config.resource_lines[2] > 0);
}
