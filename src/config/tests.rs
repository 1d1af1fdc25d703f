//! Tests of the whole way from text to settings; the mistakes and what is said about them are in `tests/diagnostics`.

use std::path::Path;

use proptest::prelude::*;

use super::explain::{Explanation, explain};
use super::{Config, Report, Secrets, load, needs_restart, parse, reference, schema};
use crate::admission::Policy;
use crate::classify::{Peer, Rules};
use crate::proxy::Address;

pub(super) const EXAMPLE: &str = include_str!("../../config.example.yaml");
pub(super) const MINIMAL: &str = "
server: { listeners: [{ address: '127.0.0.1:8080' }] }
upstreams: { api: { endpoints: ['127.0.0.1:3000'] } }
";

fn judged(text: &str) -> Result<Config, Report> {
    parse(Path::new("tidegate.yaml"), text, Secrets::Optional)
}

pub(super) fn good(text: &str) -> Config {
    judged(text).unwrap_or_else(|report| panic!("{report}"))
}

fn root(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Whether expected texts are to be written anew.
#[expect(
    clippy::disallowed_methods,
    reason = "a switch of the tests, not configuration"
)]
fn is_update() -> bool {
    std::env::var("UPDATE").is_ok()
}

/// Compares with a file of the repository, or rewrites it.
fn expect_file(path: &Path, text: &str) {
    if is_update() {
        std::fs::write(path, text).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == text,
        "{} differs; see it with UPDATE=1 cargo test --lib config::, then `git diff`\n{text}",
        path.display()
    );
}

// Each mistake has its YAML, and beside it every word that is said about it.
#[test]
fn every_mistake_is_shown_with_its_place_and_a_way_out() {
    let mut seen = 0;
    let mut paths: Vec<_> = std::fs::read_dir(root("tests/diagnostics"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
    {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap();
        let said = match parse(Path::new(name), &text, Secrets::Required) {
            Ok(config) => Report {
                diagnostics: config.warnings,
            }
            .to_string(),
            Err(report) => report.to_string(),
        };
        assert!(!said.is_empty(), "{} holds a mistake", path.display());
        expect_file(&path.with_extension("txt"), &format!("{said}\n"));
        seen += 1;
    }
    assert!(seen >= 25, "{seen} mistakes");
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let report = load(&path, Secrets::Required).unwrap_err();
        assert_eq!(report.diagnostics.len(), 1, "{report}");
        assert!(report.diagnostics[0].hint.is_some(), "{report}");
        report.diagnostics[0].code
    };
    assert_eq!(file("latin", b"server: \xe9"), "encoding");
    assert_eq!(file("utf16", b"\xff\xfes\0e\0"), "encoding");
    assert_eq!(file("empty", b""), "empty");
    assert_eq!(file("comment", b"# nothing\n\n"), "empty");
    assert_eq!(file("large", &vec![b'#'; (1 << 20) + 1]), "too_large");
    assert_eq!(
        load(folder.path(), Secrets::Required)
            .unwrap_err()
            .diagnostics[0]
            .code,
        "unreadable"
    );
    let absent = load(&folder.path().join("absent"), Secrets::Required).unwrap_err();
    assert_eq!(absent.diagnostics[0].code, "not_found");
    assert!(absent.to_string().ends_with("1 error"), "{absent}");
}

// G20: the example documents every key, and is a configuration.
#[test]
fn the_example_is_good_and_shows_the_defaults() {
    let example = good(EXAMPLE);
    let minimal = good(MINIMAL);
    assert_eq!(example.warnings, []);
    assert_eq!(example.server, minimal.server);
    assert_eq!(example.admin, minimal.admin);
    assert_eq!(example.access_log, minimal.access_log);
    assert_eq!(example.upstreams[0], minimal.upstreams[0]);
    assert_eq!(example.rules.unidentified, minimal.rules.unidentified);
    assert_eq!(example.resources.len(), 4);
    assert_eq!(example.resources[3].name, "other");
    assert_eq!(example.policy.limits.len(), 3);
}

#[test]
fn the_example_names_every_key() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let mut missing = Vec::new();
    each_key(&schema, &mut |key, _| {
        if !EXAMPLE.contains(&format!("{key}:")) {
            missing.push(key.to_owned());
        }
    });
    // Alternatives that stand alone are words.
    missing.retain(|key| !EXAMPLE.contains(key.as_str()));
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_key_is_documented_with_default_and_example() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    each_key(&schema, &mut |key, of| {
        let text = of["description"].as_str().unwrap_or_default();
        let is_alternative = of["description"].is_null();
        assert!(
            is_alternative || text.contains("Default:") || text.contains("Required"),
            "{key}: {text}"
        );
        assert!(is_alternative || text.contains("Example:"), "{key}: {text}");
    });
}

fn each_key(schema: &serde_json::Value, seen: &mut impl FnMut(&str, &serde_json::Value)) {
    match schema {
        serde_json::Value::Object(map) => {
            if let Some(keys) = map.get("properties").and_then(|keys| keys.as_object()) {
                keys.iter().for_each(|(key, of)| seen(key, of));
            }
            map.values().for_each(|of| each_key(of, seen));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|of| each_key(of, seen)),
        _ => {}
    }
}

#[test]
fn the_reference_and_the_schema_are_generated() {
    expect_file(&root("docs/reference.md"), &reference());
    expect_file(&root("docs/schema.json"), &schema());
}

#[test]
fn off_may_be_written_false() {
    let with = |body: &str, log: &str| {
        good(&format!(
            "server: {{ listeners: [{{ address: '[::1]:0' }}], max_body: {body}, headers: {log} }}\n\
             access_log: {{ path: {log} }}\nupstreams: {{ api: {{ endpoints: ['[::1]:3000'] }} }}\n"
        ))
    };
    for word in ["off", "false", "\"off\""] {
        let config = with(word, word);
        assert_eq!(config.server.max_body, None);
        assert_eq!(config.server.concurrency_header, None);
        assert_eq!(config.access_log.target, crate::telemetry::LogTarget::Off);
    }
    assert_eq!(with("10MiB", "off").server.max_body, Some(10 << 20));
    let mode = good(&format!(
        "{MINIMAL}limits: [{{ name: a, max: 1, mode: false }}]"
    ));
    assert_eq!(mode.policy.limits[0].mode, crate::admission::Mode::Off);
}

#[test]
fn a_limit_is_the_same_when_what_it_counts_is_the_same() {
    let identity = |limit: &str| {
        good(&format!("{MINIMAL}resources: [{{ name: a, match: {{ path: /a }} }}, {{ name: b, match: {{ path: /b }} }}]\nlimits: [{limit}]"))
            .policy
            .limits[0]
            .identity
            .clone()
    };
    let one = identity("{ name: l, per: [account], resources: [a, b], max: 1 }");
    assert_eq!(
        one,
        identity("{ name: l, per: [account], resources: [b, a], max: 2, mode: shadow }")
    );
    assert_ne!(
        one,
        identity("{ name: l, per: [account], resources: [a], max: 1 }")
    );
    assert_ne!(
        one,
        identity("{ name: l, per: [], resources: [a, b], max: 1 }")
    );
    assert_eq!(
        one,
        "name=l;per=account;resources=a,b;except=;upstreams=*;count=InFlight;sample=1"
    );
}

#[test]
fn whoever_has_a_key_of_his_own_is_told_429_and_all_others_503() {
    let status = |limit: &str| {
        let config = good(&format!(
            "{MINIMAL}limits: [{{ name: l, max: 1, {limit} }}]"
        ));
        config.policy.limits[0].ladder.status()
    };
    assert_eq!(status("per: [account]"), 429);
    assert_eq!(status("per: [{ header: x }]"), 429);
    assert_eq!(status("per: [client_network, resource]"), 429);
    assert_eq!(status("per: []"), 503);
    assert_eq!(status("per: [resource, process]"), 503);
    assert_eq!(status("per: [account], when_full: [reject]"), 429);
    assert_eq!(
        status("per: [account], when_full: [{ reject: { status: 503 } }]"),
        503
    );
}

#[test]
fn values_that_several_limits_count_on_are_found_once() {
    let config = good(&format!(
        "{MINIMAL}limits: [{{ name: a, max: 1, per: [{{ header: X-Tenant }}] }}, {{ name: b, max: 1, per: [{{ path: p }}, {{ header: x-tenant }}] }}]"
    ));
    assert_eq!(config.rules.values.len(), 2);
    assert_eq!(
        config.policy.limits[0].per[0],
        config.policy.limits[1].per[1]
    );
    assert_eq!(
        config.policy.limits[1].per_names,
        ["path:p", "header:x-tenant"]
    );
}

// G6, G20: candidates have the form of limits, share their values, and are explained by their lines.
#[test]
fn candidates_are_sets_of_limits_with_lines_of_their_own() {
    let config = good(&format!(
        "{MINIMAL}limits: [{{ name: a, max: 9, per: [{{ header: x-tenant }}] }}]\ncandidates:\n  one:\n    limits:\n\
         \x20     - {{ name: b, max: 1 }}\n      - {{ name: a, max: 5, per: [{{ path: p }}, {{ header: X-Tenant }}] }}\n"
    ));
    assert_eq!(config.rules.values.len(), 2);
    let tried = &config.policy.candidates[0].limits;
    assert_eq!(tried[1].per[1], config.policy.limits[0].per[0]);
    let origin = config.origin();
    let policy = Policy::new(config.policy, None);
    let head = http::Request::builder().uri("/").body(()).unwrap();
    let head = head.into_parts().0;
    let rules = Rules::new(config.rules);
    let text = explain(&origin, &rules, &policy, &head, &Peer::default()).to_string();
    let (_, on_paper) = text.split_once("on paper     the candidate one\n").unwrap();
    let wanted = "  1. a  max 5, [path:p=-, header:x-tenant=-]  (tidegate.yaml:9: - { name: a,";
    assert!(on_paper.starts_with(wanted), "{text}");
    assert!(
        on_paper.contains("\n  2. b  max 1, [one count for all]"),
        "{text}"
    );
}

#[test]
fn secrets_come_from_files_and_are_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "hush-hush\n").unwrap();
    let text = format!("{MINIMAL}admin: {{ token: {{ file: token }} }}");
    let path = folder.path().join("tidegate.yaml");
    let config = parse(&path, &text, Secrets::Required).unwrap();
    assert_eq!(config.admin.token.as_deref(), Some("hush-hush"));
    assert_eq!(config.watched, [folder.path().join("token")]);
    assert!(!format!("{config:?}").contains("hush"));
    let absent = format!("{MINIMAL}admin: {{ token: {{ env: TIDEGATE_NOT_SET_ANYWHERE }} }}");
    assert_eq!(
        parse(&path, &absent, Secrets::Required)
            .unwrap_err()
            .diagnostics[0]
            .code,
        "secret_missing"
    );
    assert_eq!(
        parse(&path, &absent, Secrets::Optional).unwrap().warnings[0].code,
        "secret_missing"
    );
}

#[test]
fn addresses_and_threads_need_a_restart() {
    let running = good(EXAMPLE);
    assert_eq!(needs_restart(&running, &good(EXAMPLE)), []);
    let new = good(
        &EXAMPLE
            .replace("127.0.0.1:8080 ", "127.0.0.1:8081 ")
            .replace("threads: auto", "threads: 77")
            .replace("127.0.0.1:9901", "127.0.0.1:9902"),
    );
    let found = needs_restart(&running, &new);
    assert_eq!(
        found.iter().map(|found| found.code).collect::<Vec<_>>(),
        ["needs_restart"; 3]
    );
    assert!(
        found[0].to_string().contains("- address: 127.0.0.1:8081"),
        "{}",
        found[0]
    );
    assert!(found.iter().all(|found| found.line > 0));
}

// G20: one can ask why.
#[test]
fn a_request_is_explained_by_the_lines_that_decide() {
    let config = good(EXAMPLE);
    let origin = config.origin();
    let policy = Policy::new(config.policy, None);
    let rules = Rules::new(config.rules);
    let ask = |method: &str, path: &str| {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("x-account", "AC_GOLD");
        let head = request.body(()).unwrap().into_parts().0;
        explain(&origin, &rules, &policy, &head, &Peer::default())
    };
    let Explanation::Judged(judged) = ask("POST", "/2010-04-01/Accounts/AC1/Calls.json") else {
        panic!()
    };
    assert_eq!(
        (judged.resource.as_str(), judged.account.as_str()),
        ("calls", "AC1")
    );
    assert_eq!(
        judged.identified_by.unwrap().text,
        "- path: account                          # a capture of the resource's path"
    );
    let limits: Vec<_> = judged
        .limits
        .iter()
        .map(|limit| (limit.name.as_str(), limit.max))
        .collect();
    assert_eq!(
        limits,
        [
            ("calls-per-account", 20),
            ("account", 100),
            ("whole-api", 400)
        ]
    );
    assert_eq!(
        judged.limits[0].line.as_ref().unwrap().text,
        "- name: calls-per-account"
    );
    let text = ask("GET", "/any").to_string();
    assert!(
        text.contains("account      AC_GOLD") && text.contains("group        gold"),
        "{text}"
    );
    assert!(
        text.contains("account  max 300, [account=AC_GOLD]"),
        "{text}"
    );
    assert!(ask("GET", "/healthz").to_string().contains("exempt"));
    assert!(
        ask("GET", "/a%2fb")
            .to_string()
            .starts_with("answered     400 path_invalid")
    );
}

#[test]
fn line_ends_and_marks_of_other_systems_are_fine() {
    let windows = format!("\u{feff}{}", EXAMPLE.replace('\n', "\r\n"));
    assert_eq!(good(&windows).limit_lines, good(EXAMPLE).limit_lines);
    let old = "server: {\r  listeners: [{ address: 127.0.0.1:80 }] }\rupstreams: {\r  api: { endpoints: [x] } }\r";
    let report = judged(old).unwrap_err();
    assert_eq!(report.diagnostics[0].line, 4, "{report}");
}

#[test]
fn a_file_of_the_largest_size_is_judged_in_reasonable_time() {
    let line = |n| format!("  - {{ account: A{n}, max: x }}\n");
    let mut list = (0..25_000).map(line).collect::<Vec<_>>().concat();
    list.truncate(900_000);
    let end = list.rfind('\n').unwrap() + 1;
    let text = format!(
        "{MINIMAL}limits:\n- name: l\n  per: [account]\n  max: 1\n  overrides:\n{}",
        &list[..end]
    );
    let report = judged(&text).unwrap_err();
    assert!(
        report.diagnostics.len() > 20_000,
        "{}",
        report.diagnostics.len()
    );
}

#[test]
fn a_socket_has_a_path() {
    let config = good(&MINIMAL.replace("127.0.0.1:8080", "unix:/run/tidegate.sock"));
    assert_eq!(
        config.server.listeners[0].address,
        Address::Unix("/run/tidegate.sock".into())
    );
}

// The reader's budget: neither the stack nor the memory is at the mercy of the text.
#[test]
fn nesting_and_aliases_without_end_are_refused() {
    let is_bounded = |text: &str| {
        let report = judged(text).unwrap_err();
        assert!(report.to_string().len() < 2_000, "{report}");
        matches!(report.diagnostics[0].code, "syntax" | "too_large")
    };
    // What stands beside `header` is passed over, so that it may be of any form.
    let beside = format!("{MINIMAL}limits:\n- per:\n  - header: x\n    beside:\n");
    let deep = |open: &str| format!("{beside}      {}\n", open.repeat(200_000));
    assert!(is_bounded(&deep("[")));
    assert!(is_bounded(&deep("{a: ")));
    let level = |level: usize| {
        let inside = format!("*l{}, ", level - 1).repeat(10);
        format!("      l{level}: &l{level} [{inside}]\n")
    };
    let bomb = (1..12).map(level).collect::<Vec<_>>().concat();
    let bomb = format!("l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n{bomb}");
    assert!(is_bounded(&format!("{beside}      {bomb}")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    // No text makes it panic, and whatever it says can be shown.
    #[test]
    fn no_mutation_of_the_example_makes_it_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, any::<char>()), 1..6)
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (index, kind, letter) in edits {
            let at = index.index(text.len());
            match kind {
                0 => text.truncate(at.max(1)),
                1 => { text.remove(at); }
                2 => text.insert(at, letter),
                3 => text[at] = letter,
                4 => text[at] = ':',
                5 => text[at] = '\n',
                6 => text.insert(at, '\t'),
                7 => text[at] = '{',
                8 => text[at] = '*',
                9 => text[at] = '&',
                10 => text.splice(at..(at + 9).min(text.len()), "99999999999999999999".chars()).for_each(drop),
                _ => text.splice(at..at, "- {a: [".chars()).for_each(drop),
            }
        }
        match judged(&text.into_iter().collect::<String>()) {
            Ok(config) => config.warnings.iter().for_each(|found| drop(found.to_string())),
            Err(report) => prop_assert!(!report.to_string().is_empty()),
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        if let Err(report) = judged(&text) {
            prop_assert!(!report.to_string().is_empty());
        }
    }
}
