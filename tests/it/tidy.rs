//! Style is a test: who may import whom, headers, lengths, and names that must exist.
//!
//! Reads the source as text, which is enough because rustfmt lays it out. Each failure names the file, the line and
//! the rule that is broken.

use std::fs;
use std::path::{Path, PathBuf};

/// The import table of the design: a module, and the modules whose names it may write after `crate::`.
const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("main", &["cli"]),
    (
        "cli",
        &[
            "app",
            "config",
            "proxy",
            "classify",
            "admission",
            "telemetry",
            "admin",
            // A token is minted for trying the plugin.
            "presence",
            "clock",
        ],
    ),
    (
        "app",
        &[
            "config",
            "proxy",
            "classify",
            "admission",
            "telemetry",
            "admin",
            "presence",
            "clock",
            "head",
        ],
    ),
    (
        "config",
        &[
            "proxy",
            "classify",
            "admission",
            "telemetry",
            "admin",
            "presence",
            "clock",
            "head",
        ],
    ),
    (
        "proxy",
        &["classify", "admission", "telemetry", "clock", "head"],
    ),
    ("classify", &["admission", "clock", "head"]),
    ("admission", &["clock"]),
    // An address is what both are configured with, and says nothing about forwarding.
    (
        "admin",
        &["admission", "telemetry", "clock", "proxy::Address"],
    ),
    ("telemetry", &["admission", "clock", "head"]),
    (
        "presence",
        &["admission", "proxy::plugin", "telemetry", "clock", "wheel"],
    ),
    ("clock", &[]),
    ("head", &[]),
    ("wheel", &[]),
    ("lib", &["app", "cli"]),
];

/// What a module never knows, as words of its code.
const NEVER_KNOWS: [(&str, &[&str]); 3] = [
    (
        "admission",
        &[
            "http::",
            "hyper::",
            "hyper_util::",
            "pingora_core::",
            "serde::",
            "serde_json::",
            "prometheus::",
            "std::fs",
            "SystemTime",
        ],
    ),
    (
        "classify",
        &["Policy", "Rejection", "Registry", "Permit", "Decision"],
    ),
    ("proxy", &["serde_yaml::", "prometheus::"]),
];

const LONGEST_FILE: usize = 500;
const LONGEST_FUNCTION: usize = 70;

struct Source {
    /// Relative to the repository's root.
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files under that folder whose name ends so, in order.
fn files(under: &str, ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(under)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(source(&path));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn source(path: &Path) -> Source {
    let shown = path
        .strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string();
    Source {
        path: shown,
        text: fs::read_to_string(path).unwrap_or_default(),
    }
}

fn rust() -> Vec<Source> {
    ["src", "tests", "benches"]
        .into_iter()
        .flat_map(|folder| files(folder, ".rs"))
        .collect()
}

/// The lines of code with their numbers: without comments, and without the tests at the file's end.
fn code(source: &Source) -> Vec<(usize, &str)> {
    let lines = source.text.lines().enumerate();
    let own = lines.take_while(|(_, line)| *line != "#[cfg(test)]");
    own.map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
        .collect()
}

/// The paths written after `crate::`, in braces too, with their lines.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines = code(source);
    for (index, (number, line)) in lines.iter().enumerate() {
        let mut rest = *line;
        while let Some(at) = rest.find("crate::") {
            let is_word_before = rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            rest = &rest[at + "crate::".len()..];
            if is_word_before {
                continue;
            }
            let following: String = lines[index + 1..].iter().map(|(_, line)| *line).collect();
            let statement = format!("{rest}{following}");
            found.extend(heads(&statement).into_iter().map(|path| (*number, path)));
        }
    }
    found
}

/// The first two names of each path of an import: of `a::b::c` or of `{a::b, c::{d, e}}`.
fn heads(statement: &str) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let Some(group) = statement.strip_prefix('{') else {
        let path: String = statement.chars().take_while(|&c| word(c)).collect();
        return vec![shortened(&path)];
    };
    let mut depth = 1;
    let mut paths = vec![String::new()];
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => paths.push(String::new()),
            _ if depth == 1 && word(character) => paths.last_mut().unwrap().push(character),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    paths
        .iter()
        .filter(|path| !path.is_empty())
        .map(|path| shortened(path))
        .collect()
}

fn shortened(path: &str) -> String {
    path.split("::")
        .filter(|name| !name.is_empty())
        .take(2)
        .collect::<Vec<_>>()
        .join("::")
}

fn module(path: &str) -> &str {
    let inside = path.trim_start_matches("src/");
    inside
        .split('/')
        .next()
        .unwrap_or(inside)
        .trim_end_matches(".rs")
}

fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

// STYLE 22, DESIGN §2: the import table holds.
#[test]
fn modules_import_only_what_the_table_allows() {
    let mut broken = Vec::new();
    for source in files("src", ".rs") {
        let own = module(&source.path);
        let allowed = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == own)
            .map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else {
            broken.push(format!(
                "{}:1: `{own}` is no room of the house",
                source.path
            ));
            continue;
        };
        for (line, path) in imports(&source) {
            let first = path.split("::").next().unwrap_or_default();
            let known = MAY_IMPORT.iter().any(|(name, _)| *name == first);
            if known
                && first != own
                && !allowed.contains(&first)
                && !allowed.contains(&path.as_str())
            {
                broken.push(format!(
                    "{}:{line}: `{own}` must not import `{path}`",
                    source.path
                ));
            }
        }
    }
    assert_none(&broken);
}

// DESIGN §2, invariant 1: what a module never knows is not in its code.
#[test]
fn modules_do_not_know_what_they_never_know() {
    let mut broken = Vec::new();
    for source in files("src", ".rs") {
        let own = module(&source.path);
        for (_, words) in NEVER_KNOWS.iter().filter(|(name, _)| *name == own) {
            for (number, line) in code(&source) {
                let named = words.iter().find(|word| has_word(line, word));
                let path = &source.path;
                broken.extend(named.map(|w| format!("{path}:{number}: `{own}` never knows `{w}`")));
            }
        }
    }
    broken.retain(|line| !line.starts_with("src/admission/shared/"));
    assert_none(&broken);
}

/// Whether the line has that word, not as the end of a longer one nor inside a path.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    line.match_indices(word).any(|(at, _)| {
        let after = &line[at + word.len()..];
        let begins = !line[..at].ends_with(is_part);
        begins
            && (word.ends_with("::")
                || !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

// STYLE 7: each file begins with what it is.
#[test]
fn each_file_has_a_header() {
    let without = rust()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "));
    let broken: Vec<_> = without
        .map(|source| format!("{}:1: no `//!` header", source.path))
        .collect();
    assert_none(&broken);
}

// STYLE: no file over 500 lines, no function over 70.
#[test]
fn files_and_functions_are_short() {
    let mut broken = Vec::new();
    for source in rust() {
        let lines: Vec<_> = source.text.lines().collect();
        if lines.len() > LONGEST_FILE {
            broken.push(format!(
                "{}:{}: over {LONGEST_FILE} lines",
                source.path,
                lines.len()
            ));
        }
        for (index, line) in lines.iter().enumerate() {
            let trimmed = line.trim_start();
            let indent = &line[..line.len() - trimmed.len()];
            let is_function = !trimmed.starts_with("//")
                && trimmed
                    .split('(')
                    .next()
                    .is_some_and(|start| start.split(' ').any(|w| w == "fn"))
                && !trimmed.ends_with(';');
            if !is_function {
                continue;
            }
            let body = lines[index..]
                .iter()
                .skip_while(|line| !line.ends_with('{'))
                .skip(1);
            let close = format!("{indent}}}");
            let body = body.take_while(|line| **line != close);
            let long = body.filter(|line| {
                let line = line.trim();
                !line.is_empty() && !line.starts_with("//")
            });
            let length = long.count();
            if length > LONGEST_FUNCTION && !trimmed.ends_with('}') {
                broken.push(format!("{}:{}: {length} lines", source.path, index + 1));
            }
        }
    }
    assert_none(&broken);
}

// The repository names no machine: paths of whoever wrote it are of no use to whoever reads it.
#[test]
fn no_file_names_a_machine() {
    let mut sources = rust();
    for (folder, ending) in [
        ("docs", ".md"),
        ("deploy", ""),
        ("grafana", ""),
        ("benches", ".sh"),
        (".ci", ""),
    ] {
        sources.extend(files(folder, ending));
    }
    let top = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let top = top.filter(|path| path.is_file() && !path.ends_with(".git"));
    sources.extend(top.map(|path| source(&path)));
    let machine = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    let mut broken = Vec::new();
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            if machine.iter().any(|path| line.contains(path)) {
                broken.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
            }
        }
    }
    assert_none(&broken);
}

// STYLE 22: a metric that documents or dashboards name exists.
#[test]
fn metrics_that_are_named_exist() {
    let names = fs::read_to_string(root().join("src/telemetry/names.rs")).unwrap();
    let mut sources = files("grafana", ".json");
    sources.extend(files("docs", ".md"));
    sources.push(source(&root().join("README.md")));
    let mut broken = Vec::new();
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            for (at, _) in line.match_indices("tidegate_") {
                let word: String = line[at..]
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
                    .collect();
                let suffixes = ["_bucket", "_count", "_sum"];
                let base = suffixes.iter().find_map(|suffix| word.strip_suffix(suffix));
                let known = |name: &str| names.contains(&format!("\"{name}\""));
                if !known(&word) && !base.is_some_and(known) {
                    broken.push(format!("{}:{}: no metric `{word}`", source.path, index + 1));
                }
            }
        }
    }
    assert_none(&broken);
}
