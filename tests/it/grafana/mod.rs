//! What is given to those who watch the gate with Prometheus and Grafana: dashboards, alert rules, and that they show what is there.
//!
//! Dashboards are judged by Grafana's own schema and by what it cannot say; rules by Prometheus' own tool; and each query of both is
//! asked of a real Prometheus that scrapes a real gate under load. Nothing here draws a dashboard: Grafana's server is not run.

mod alerts;
mod boards;
mod live;
mod prometheus;
mod schema;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Metrics that dashboards and rules name and the gate does not print yet. Whoever adds one takes it out here, which a test asks for.
pub(crate) const TO_COME: [&str; 2] = [
    "tidegate_notifications_total",
    "tidegate_spans_dropped_total",
];

/// The folder of what is given.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana")
}

/// A dashboard as it is written.
#[derive(Debug)]
struct Board {
    path: PathBuf,
    json: Value,
}

/// One query of a dashboard, and where it stands.
#[derive(Debug)]
struct Query {
    place: String,
    expression: String,
    /// The labels that name a series in the legend.
    labels: Vec<String>,
}

/// All dashboards.
fn boards() -> Vec<Board> {
    let files = fs::read_dir(folder().join("dashboards")).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| Board {
        json: serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap(),
        path,
    };
    let boards: Vec<_> = paths.into_iter().map(read).collect();
    assert!(boards.len() >= 5, "the dashboards are there");
    boards
}

/// The members of a list, which must be one.
fn list(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"))
}

/// A text, which must be one.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// The labels that a legend names: `{{limit}} of {{instance}}`.
fn named_in(legend: &str) -> Vec<String> {
    let named = legend.split("{{").skip(1);
    let named = named.filter_map(|rest| rest.split_once("}}"));
    named.map(|(label, _)| label.to_owned()).collect()
}

impl Board {
    fn panels(&self) -> &[Value] {
        list(&self.json["panels"])
    }

    /// The panels that show data.
    fn shown(&self) -> impl Iterator<Item = &Value> {
        let has_data = |panel: &&Value| !["row", "text"].contains(&text(&panel["type"]));
        self.panels().iter().filter(has_data)
    }

    /// Where something of it stands, for messages.
    fn place(&self, of: &Value) -> String {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let name = of["title"].as_str().or_else(|| of["name"].as_str());
        format!("{file}: {}", name.unwrap_or("?"))
    }

    /// What its panels ask.
    fn queries(&self) -> Vec<Query> {
        let of_panels = self.shown().flat_map(|panel| {
            let targets = list(&panel["targets"]).iter();
            targets.map(move |target| self.query(panel, target))
        });
        of_panels.collect()
    }

    /// What its annotations ask, which has an answer only now and then.
    fn notes(&self) -> Vec<Query> {
        let notes = list(&self.json["annotations"]["list"]).iter();
        let notes = notes.filter(|note| note["builtIn"] != 1);
        notes
            .map(|note| self.query(note, &note["target"]))
            .collect()
    }

    fn query(&self, of: &Value, target: &Value) -> Query {
        Query {
            place: self.place(of),
            expression: text(&target["expr"]).to_owned(),
            labels: named_in(text(&target["legendFormat"])),
        }
    }
}
