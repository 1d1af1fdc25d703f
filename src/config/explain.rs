//! Why a request would be treated as it would: what it matches, who pays, and which limits are asked.
//!
//! Shared by the command line and the admin API. Nothing is counted and nothing is taken: it says which rules apply, not
//! whether there is a place. Never shows a credential.

use std::fmt;

use serde::Serialize;

use super::Config;
use super::diagnostic::Source;
use crate::admission::{Class, Dimension, Limit, Mode, Policy, Priority};
use crate::classify::{Matched, Peer, Rules};

/// Where a generation's rules and limits stand in its file.
#[derive(Debug, Clone)]
pub struct Origin {
    file: String,
    text: String,
    upstreams: Vec<String>,
    resource_lines: Vec<usize>,
    limit_lines: Vec<usize>,
    candidate_lines: Vec<Vec<usize>>,
    identify_lines: Vec<usize>,
}

/// A line of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
}

/// How a request would be treated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Explanation {
    /// It would be classified and judged.
    Judged(Box<Judged>),
    /// It would be answered without being judged.
    Refused(Refused),
}

/// What a request is, and what is asked about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// The resource.
    pub resource: String,
    /// Where it is declared; `None` for `other`.
    pub resource_line: Option<Line>,
    /// Whether it passes every limit unasked.
    pub exempt: bool,
    /// Who pays.
    pub account: String,
    /// What named the account; `None` if nothing did.
    pub identified_by: Option<Line>,
    /// The account's group.
    pub group: Option<String>,
    /// `low`, `normal` or `high`.
    pub priority: &'static str,
    /// Places it takes in each limit.
    pub cost: u32,
    /// Where it would be sent.
    pub upstream: String,
    /// The limits that are asked, in that order; then those in shadow.
    pub limits: Vec<Asked>,
    /// Candidates that judge it on paper.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Tried>,
}

/// One candidate, with its limits in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Its name.
    pub name: String,
    /// Those of its limits that apply.
    pub limits: Vec<Asked>,
}

/// One limit that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// The key it counts under: dimensions and values.
    pub key: Vec<(String, String)>,
    /// Places of that key.
    pub max: u32,
    /// `enforce` or `shadow`; in a candidate always `shadow`.
    pub mode: &'static str,
    /// Where it is declared.
    pub line: Option<Line>,
}

/// An answer without judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The word for it.
    pub reason: &'static str,
    /// In a sentence.
    pub detail: String,
}

impl Config {
    /// Where the rules and limits stand, for those that have taken the configuration apart.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin {
            file: self.path.display().to_string(),
            text: self.text.clone(),
            // The policy's names, for they include the plugin's.
            upstreams: self.policy.upstreams.clone(),
            resource_lines: self.resource_lines.clone(),
            limit_lines: self.limit_lines.clone(),
            candidate_lines: self.candidate_lines.clone(),
            identify_lines: self.identify_lines.clone(),
        }
    }
}

impl Origin {
    /// Where a limit stands, by its place among all.
    #[must_use]
    pub fn limit_line(&self, index: usize) -> Option<Line> {
        self.line(&self.limit_lines, index)
    }

    fn line(&self, lines: &[usize], index: usize) -> Option<Line> {
        let line = lines.get(index).copied().filter(|&line| line > 0)?;
        let text = Source::new(&self.file, &self.text)
            .line(line)
            .trim()
            .to_owned();
        Some(Line {
            file: self.file.clone(),
            line,
            text,
        })
    }
}

/// Explains one request of one peer under one generation.
#[must_use]
pub fn explain(
    origin: &Origin,
    rules: &Rules,
    policy: &Policy,
    head: &http::request::Parts,
    peer: &Peer,
) -> Explanation {
    let matched = match rules.classify(head, peer) {
        Ok(Some(matched)) => matched,
        Ok(None) => {
            let detail = "no resource matches and there is no default upstream".to_owned();
            return Explanation::Refused(Refused {
                status: 404,
                reason: "not_found",
                detail,
            });
        }
        Err(fault) => {
            let (status, reason) = (fault.status(), fault.as_str());
            return Explanation::Refused(Refused {
                status,
                reason,
                detail: fault.to_string(),
            });
        }
    };
    let Matched {
        class,
        identified_by,
    } = matched;
    let index = usize::from(class.resource.0);
    let resource = &rules.settings().resources[index];
    let names = Names { origin, rules };
    let asked = policy.applying(&class);
    let asked = asked.map(|limit| names.asked(policy.limits(), &origin.limit_lines, limit, &class));
    let tried = policy.trying(&class).map(|(index, candidate, limits)| {
        let lines = origin.candidate_lines.get(index);
        let lines = lines.map_or(&[][..], |lines| lines);
        Tried {
            name: candidate.name().to_string(),
            limits: limits
                .map(|limit| names.asked(candidate.limits(), lines, limit, &class))
                .collect(),
        }
    });
    Explanation::Judged(Box::new(Judged {
        resource: resource.name.clone(),
        resource_line: origin.line(&origin.resource_lines, index),
        exempt: resource.is_exempt,
        account: class.account.to_string(),
        identified_by: identified_by.and_then(|index| origin.line(&origin.identify_lines, index)),
        group: class.group.map(|_| names.group(&class)),
        priority: match class.priority {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
        },
        cost: class.cost,
        upstream: names.upstream(&class),
        limits: asked.collect(),
        candidates: tried.collect(),
    }))
}

/// What ids stand for.
struct Names<'a> {
    origin: &'a Origin,
    rules: &'a Rules,
}

impl Names<'_> {
    fn group(&self, class: &Class) -> String {
        let group = class
            .group
            .and_then(|id| self.rules.settings().groups.get(usize::from(id.0)));
        group.map_or_else(|| "-".to_owned(), |group| group.name.clone())
    }

    fn upstream(&self, class: &Class) -> String {
        self.origin
            .upstreams
            .get(usize::from(class.upstream.0))
            .cloned()
            .unwrap_or_default()
    }

    /// One of `all` these limits, which stand on these lines.
    fn asked<'p>(
        &self,
        mut all: impl Iterator<Item = &'p Limit>,
        lines: &[usize],
        limit: &Limit,
        class: &Class,
    ) -> Asked {
        let settings = limit.settings();
        let values = settings
            .per
            .iter()
            .map(|&dimension| self.value(dimension, class));
        let index = all.position(|known| known.name() == limit.name());
        Asked {
            name: limit.name().to_owned(),
            key: settings.per_names.iter().cloned().zip(values).collect(),
            max: limit.max_for(class),
            mode: settings.mode.as_str(),
            line: index.and_then(|index| self.origin.line(lines, index)),
        }
    }

    fn value(&self, dimension: Dimension, class: &Class) -> String {
        let absent = || "-".to_owned();
        match dimension {
            Dimension::Account => class.account.to_string(),
            Dimension::Resource => self.rules.settings().resources[usize::from(class.resource.0)]
                .name
                .clone(),
            Dimension::Group => self.group(class),
            Dimension::Upstream => self.upstream(class),
            Dimension::ClientNetwork => class
                .network
                .map_or_else(absent, |network| network.to_string()),
            Dimension::Process => absent(),
            Dimension::Value(index) => class
                .values
                .get(usize::from(index))
                .map_or_else(absent, ToString::to_string),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Judged(judged) => judged.fmt(f),
            Self::Refused(Refused {
                status,
                reason,
                detail,
            }) => {
                writeln!(f, "answered     {status} {reason}\nbecause      {detail}")
            }
        }
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource_line = shown(self.resource_line.as_ref(), "what no resource matches");
        writeln!(f, "resource     {}  ({resource_line})", self.resource)?;
        writeln!(f, "upstream     {}", self.upstream)?;
        if self.exempt {
            return writeln!(
                f,
                "exempt       forwarded without being identified or limited"
            );
        }
        let identified_by = shown(self.identified_by.as_ref(), "nothing identifies it");
        writeln!(f, "account      {}  ({identified_by})", self.account)?;
        writeln!(f, "group        {}", self.group.as_deref().unwrap_or("-"))?;
        writeln!(f, "priority     {}", self.priority)?;
        writeln!(f, "cost         {}", self.cost)?;
        if self.limits.is_empty() {
            writeln!(f, "limits       none applies")?;
        } else {
            writeln!(f, "limits       in the order in which they are asked")?;
        }
        for (number, limit) in (1..).zip(&self.limits) {
            let mode = if limit.mode == Mode::Enforce.as_str() {
                ""
            } else {
                ", in shadow"
            };
            limit.write(f, number, mode)?;
        }
        for candidate in &self.candidates {
            writeln!(f, "on paper     the candidate {}", candidate.name)?;
            for (number, limit) in (1..).zip(&candidate.limits) {
                limit.write(f, number, "")?;
            }
        }
        Ok(())
    }
}

impl Asked {
    fn write(&self, f: &mut fmt::Formatter<'_>, number: usize, mode: &str) -> fmt::Result {
        let Self { name, max, .. } = self;
        let key = self.key.iter();
        let key = key.map(|(dimension, value)| format!("{dimension}={value}"));
        let key = key.collect::<Vec<_>>().join(", ");
        let key = if key.is_empty() {
            "one count for all"
        } else {
            &key
        };
        let line = shown(self.line.as_ref(), "");
        writeln!(f, "  {number}. {name}  max {max}{mode}, [{key}]  ({line})")
    }
}

fn shown(line: Option<&Line>, without: &str) -> String {
    line.map_or_else(|| without.to_owned(), ToString::to_string)
}
