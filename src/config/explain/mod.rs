//! Why a request would be treated as it would: what it matches, who pays, and which limits are asked.
//!
//! Shared by the command line and the admin API. Of a running gate it also says how full the limits are and what would become of the
//! request; nothing is counted and nothing is taken by asking. Never shows a credential.

mod outcome;
mod text;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Config;
use super::diagnostic::Source;
use crate::admission::{Class, Dimension, Limit, Policy, Priority, Standing};
use crate::classify::{Matched, Peer, Rules};
use crate::head::Head;

pub use outcome::{Outcome, Running};

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
}

/// How a request would be treated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Explanation {
    /// It would be classified and judged.
    Judged(Box<Judged>),
    /// It would be answered without being judged.
    Refused(Refused),
}

/// What a request is, and what is asked about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    pub priority: Cow<'static, str>,
    /// Places it takes in each limit.
    pub cost: u32,
    /// Where it would be sent.
    pub upstream: String,
    /// The limits that are asked, in that order; then those in shadow.
    pub limits: Vec<Asked>,
    /// Candidates that judge it on paper.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Tried>,
    /// What would become of it now; only a running gate knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// One candidate, with its limits in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Its name.
    pub name: String,
    /// Those of its limits that apply.
    pub limits: Vec<Asked>,
    /// Whether all of them have a place now; only a running gate knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fits: Option<bool>,
}

/// One limit that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// The key it counts under: dimensions and values.
    pub key: Vec<(String, String)>,
    /// Places of that key; of a running gate, at this moment.
    pub max: u32,
    /// `enforce` or `shadow`; in a candidate always `shadow`.
    pub mode: Cow<'static, str>,
    /// Places of that key that are taken now; this and what follows only a running gate knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Requests that wait for one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued: Option<u32>,
    /// Whether this request would have its places at once; in shadow, whether it would have been admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fits: Option<bool>,
    /// Where it is declared.
    pub line: Option<Line>,
}

/// An answer without judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The word for it.
    pub reason: Cow<'static, str>,
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
    judge(origin, rules, policy, None, (head, peer))
}

/// The same of a running gate, with its numbers at this moment.
#[must_use]
pub fn explain_now(
    origin: &Origin,
    rules: &Rules,
    running: &Running<'_>,
    head: &http::request::Parts,
    peer: &Peer,
) -> Explanation {
    judge(origin, rules, running.policy, Some(running), (head, peer))
}

fn judge(
    origin: &Origin,
    rules: &Rules,
    policy: &Policy,
    running: Option<&Running<'_>>,
    (head, peer): (&http::request::Parts, &Peer),
) -> Explanation {
    let matched = match rules.classify(&Head::from(head), peer) {
        Ok(Some(matched)) => matched,
        Ok(None) => {
            let detail = "no resource matches and there is no default upstream".to_owned();
            return Explanation::Refused(Refused {
                status: 404,
                reason: "not_found".into(),
                detail,
            });
        }
        Err(fault) => {
            let (status, reason) = (fault.status(), fault.as_str());
            return Explanation::Refused(Refused {
                status,
                reason: reason.into(),
                detail: fault.to_string(),
            });
        }
    };
    Explanation::Judged(Box::new(judged(origin, rules, policy, running, matched)))
}

fn judged(
    origin: &Origin,
    rules: &Rules,
    policy: &Policy,
    running: Option<&Running<'_>>,
    matched: Matched,
) -> Judged {
    let Matched {
        class,
        identified_by,
    } = matched;
    let index = usize::from(class.resource.0);
    let resource = &rules.settings().resources[index];
    let names = Names { origin, rules };
    let asked = policy.applying(&class).map(|limit| {
        let asked = names.asked(policy.limits(), &origin.limit_lines, limit, &class);
        asked.standing(running.map(|of| of.registry.standing(policy, limit, &class, of.now)))
    });
    let tried = policy.trying(&class).map(|(index, candidate, limits)| {
        let lines = origin.candidate_lines.get(index);
        let lines = lines.map_or(&[][..], |lines| lines);
        let limits: Vec<_> = limits
            .map(|limit| {
                let asked = names.asked(candidate.limits(), lines, limit, &class);
                asked.standing(running.map(|of| {
                    let on_paper = (candidate, limit);
                    of.registry
                        .standing_on_paper(policy, on_paper, &class, of.now)
                }))
            })
            .collect();
        Tried {
            name: candidate.name().to_string(),
            fits: running.map(|_| limits.iter().all(|limit| limit.fits == Some(true))),
            limits,
        }
    });
    let outcome = running.map(|of| {
        if resource.is_exempt {
            Outcome::exempt()
        } else {
            names.outcome(of, &class)
        }
    });
    Judged {
        resource: resource.name.clone(),
        resource_line: origin.line(&origin.resource_lines, index),
        exempt: resource.is_exempt,
        account: class.account.to_string(),
        identified_by: identified_by.and_then(|index| origin.line(&origin.identify_lines, index)),
        group: class.group.map(|_| names.group(&class)),
        priority: match class.priority {
            Priority::Low => "low".into(),
            Priority::Normal => "normal".into(),
            Priority::High => "high".into(),
        },
        cost: class.cost,
        upstream: names.upstream(&class),
        limits: asked.collect(),
        candidates: tried.collect(),
        outcome,
    }
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
            mode: settings.mode.as_str().into(),
            in_flight: None,
            queued: None,
            fits: None,
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

impl Asked {
    /// With how it stands now, where that is known.
    fn standing(self, now: Option<Standing>) -> Self {
        Self {
            max: now.map_or(self.max, |now| now.max),
            in_flight: now.map(|now| now.in_flight),
            queued: now.map(|now| now.queued),
            fits: now.map(|now| now.fits),
            ..self
        }
    }
}
