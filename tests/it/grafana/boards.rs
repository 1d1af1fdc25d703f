//! What Grafana's schema cannot say about a dashboard: that its panels stand apart, ask for what exists, and tell people what to do.

use std::collections::BTreeSet;
use std::fs;

use regex::Regex;
use serde_json::Value;
use tidegate::telemetry::names;

use super::{Board, TO_COME, boards, folder, list, text};

/// What Prometheus and the process itself add to the gate's own metrics.
const NOT_OURS: [&str; 7] = [
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "scrape_duration_seconds",
    "up",
];

/// Metrics that have buckets.
const HISTOGRAMS: [&str; 4] = [
    names::DECISION.0,
    names::QUEUE_WAIT.0,
    names::UPSTREAM.0,
    names::WEBHOOK.0,
];

/// The names before a brace or a bracket in an expression, that is those of metrics.
pub(super) fn metrics(expression: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\b([a-z][a-z_]+)(?:\{|\[|$)|\b(tidegate_[a-z_]+)").unwrap();
    let found = name.captures_iter(expression);
    let named = found.filter_map(|found| found.get(1).or_else(|| found.get(2)));
    named.map(|name| name.as_str().to_owned()).collect()
}

/// The metric that a name in an expression is of, if there is one.
pub(super) fn metric(name: &str) -> Option<&str> {
    let suffixes = ["_bucket", "_count", "_sum"];
    let base = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
    let base = base.filter(|base| HISTOGRAMS.contains(base));
    let is_ours = names::ALL.contains(&name) || TO_COME.contains(&name);
    let is_plain = (is_ours && !HISTOGRAMS.contains(&name)) || NOT_OURS.contains(&name);
    base.or_else(|| is_plain.then_some(name))
}

/// Asserts that no two of these are equal.
fn assert_apart<'v>(what: &str, values: impl Iterator<Item = &'v Value>) {
    let mut seen = BTreeSet::new();
    for value in values {
        assert!(seen.insert(value.to_string()), "{what}: {value} twice");
    }
}

// Links, imports and provisioning hang on identifiers: one that is there twice shadows the other.
#[test]
fn dashboards_panels_and_queries_are_told_apart() {
    let boards = boards();
    assert_apart("uid", boards.iter().map(|board| &board.json["uid"]));
    assert_apart("title", boards.iter().map(|board| &board.json["title"]));
    for Board { path, json } in &boards {
        let panels = list(&json["panels"]);
        let shown = path.display();
        assert_apart(
            &format!("{shown}: id"),
            panels.iter().map(|panel| &panel["id"]),
        );
        assert_apart(
            &format!("{shown}: title"),
            panels.iter().map(|panel| &panel["title"]),
        );
        for panel in panels.iter().filter(|panel| panel["targets"].is_array()) {
            let queries = list(&panel["targets"])
                .iter()
                .map(|target| &target["refId"]);
            assert_apart(&format!("{shown}: {}", panel["title"]), queries);
        }
        let version = json["schemaVersion"].as_u64().unwrap();
        assert!(
            (39..=42).contains(&version),
            "{shown}: one that the judging schema has"
        );
        let name = path.file_stem().unwrap().to_string_lossy();
        assert_eq!(json["uid"], format!("tidegate-{name}"), "links name it so");
    }
}

/// The cells of the grid that a panel covers.
fn cells(panel: &Value) -> impl Iterator<Item = (u64, u64)> {
    let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
    let (x, y, w, h) = (at("x"), at("y"), at("w"), at("h"));
    assert!(
        w > 0 && h > 0 && x + w <= 24,
        "{}: out of the grid",
        panel["title"]
    );
    (x..x + w).flat_map(move |column| (y..y + h).map(move |line| (column, line)))
}

// The grid has 24 columns. A hole is as ugly as an overlap: Grafana would move what stands below it up.
#[test]
fn panels_lie_beside_each_other_without_overlaps_or_holes() {
    for board in boards() {
        let mut covered = BTreeSet::new();
        for panel in board.panels() {
            for cell in cells(panel) {
                assert!(
                    covered.insert(cell),
                    "{} lies on another",
                    board.place(panel)
                );
            }
        }
        let height = covered.iter().map(|(_, line)| line + 1).max().unwrap();
        let all = (0..24).flat_map(|column| (0..height).map(move |line| (column, line)));
        let holes: Vec<_> = all.filter(|cell| !covered.contains(cell)).collect();
        assert!(
            holes.is_empty(),
            "{}: holes at {holes:?}",
            board.path.display()
        );
    }
}

// Whoever looks at a panel at night is told what it shows and what to do, in units, under names.
#[test]
fn each_panel_says_what_to_do_in_units_and_under_names() {
    for board in boards() {
        for panel in board.shown() {
            let place = board.place(panel);
            let said = text(&panel["description"]);
            assert!(said.len() > 40 && said.ends_with('.'), "{place}: {said:?}");
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(defaults["unit"].is_string(), "{place}: no unit");
            for target in list(&panel["targets"]) {
                let legend = text(&target["legendFormat"]);
                assert!(!legend.is_empty(), "{place}: a series without a name");
            }
        }
    }
}

// A dashboard is of any data source, any job and any gates: it names none itself.
#[test]
fn each_query_is_of_the_chosen_source_job_and_gates() {
    let selector =
        Regex::new(r"\b(tidegate|process|scrape)_[a-z_]+(.{0,36})|\bup\{(.{0,35})").unwrap();
    for board in boards() {
        let variables = list(&board.json["templating"]["list"]);
        let names: Vec<_> = variables.iter().map(|of| text(&of["name"])).collect();
        assert_eq!(names[..3], ["datasource", "job", "instance"]);
        for panel in board.shown() {
            let sources = list(&panel["targets"])
                .iter()
                .map(|target| &target["datasource"]);
            for source in sources.chain([&panel["datasource"]]) {
                assert_eq!(source["uid"], "${datasource}", "{}", board.place(panel));
            }
        }
        for query in board.queries().into_iter().chain(board.notes()) {
            let mut found = 0;
            for of in selector.captures_iter(&query.expression) {
                found += 1;
                let chosen = of[0].contains("{job=~\"$job\",instance=~\"$instance\"");
                assert!(chosen, "{}: {} is of all", query.place, &of[0]);
            }
            assert!(
                found > 0,
                "{}: {} asks for nothing",
                query.place,
                query.expression
            );
            for (at, _) in query.expression.match_indices('$') {
                let rest = &query.expression[at + 1..];
                let is_known = names.iter().chain(&["__rate_interval", "__range"]);
                let is_known = is_known.into_iter().any(|name| rest.starts_with(name));
                assert!(is_known, "{}: no variable ${rest}", query.place);
            }
        }
    }
}

// STYLE 22: a metric that a dashboard asks for exists, and is asked for by its buckets only if it has some.
#[test]
fn each_query_asks_for_metrics_that_exist() {
    for query in boards().iter().flat_map(Board::queries) {
        for name in metrics(&query.expression) {
            assert!(
                metric(&name).is_some(),
                "{}: no metric `{name}`",
                query.place
            );
        }
    }
}

// What the gate measures can be seen: no metric is on no dashboard.
#[test]
fn each_metric_is_on_a_dashboard() {
    let queries: Vec<_> = boards().iter().flat_map(Board::queries).collect();
    let asked: BTreeSet<_> = queries
        .iter()
        .flat_map(|query| metrics(&query.expression))
        .collect();
    let shown: BTreeSet<_> = asked.iter().filter_map(|name| metric(name)).collect();
    let all = names::ALL.iter().chain(&TO_COME);
    let missing: Vec<_> = all.filter(|name| !shown.contains(*name)).collect();
    assert!(missing.is_empty(), "on no dashboard: {missing:?}");
}

// The list of exceptions shrinks with what is built.
#[test]
fn what_is_to_come_is_not_there_yet() {
    let there = TO_COME.iter().filter(|name| names::ALL.contains(name));
    let there: Vec<_> = there.collect();
    assert!(there.is_empty(), "take {there:?} out of `grafana::TO_COME`");
}

// What is mounted finds what it names: the provider the folder of the README, and the scrape interval that of Prometheus.
#[test]
fn provisioning_and_readme_speak_of_the_same_folders() {
    let read = |path: &str| fs::read_to_string(folder().join(path)).unwrap();
    let provider: Value =
        serde_yaml::from_str(&read("provisioning/dashboards/tidegate.yaml")).unwrap();
    let path = text(&provider["providers"][0]["options"]["path"]);
    let mount = format!("grafana/dashboards:{path}:ro");
    assert!(read("README.md").matches(&mount).count() == 2, "{mount}");
    let source: Value =
        serde_yaml::from_str(&read("provisioning/datasources/prometheus.yaml")).unwrap();
    let scrape: Value = serde_yaml::from_str(&read("../deploy/prometheus.yaml")).unwrap();
    let interval = &scrape["scrape_configs"][0]["scrape_interval"];
    assert_eq!(
        &source["datasources"][0]["jsonData"]["timeInterval"],
        interval
    );
}
