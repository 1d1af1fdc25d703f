//! What would become of a request at this moment, in fields and in a sentence.
//!
//! The words are those of the metrics and the access log. Never says more than the moment knows.

use std::borrow::Cow;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Names;
use crate::admission::{Class, Foreseen, Registry, Verdict};

/// What counts at the moment, beside the policy that is asked.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// The counts.
    pub registry: &'a Registry,
    /// The limits in force.
    pub policy: &'a std::sync::Arc<crate::admission::Policy>,
    /// Now.
    pub now: Instant,
}

/// What would become of the request, were it to come now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `admitted`, `queued`, `slowed`, `marked`, `rerouted` or `rejected`.
    pub decision: Cow<'static, str>,
    /// The limit that decides; `None` where all have a place.
    pub limit: Option<String>,
    /// The HTTP status of a refusal.
    pub status: Option<u16>,
    /// Why it would be refused.
    pub reason: Option<Cow<'static, str>>,
    /// Behind how many it would wait.
    pub ahead: Option<u32>,
    /// Where it would be sent instead.
    pub upstream: Option<String>,
    /// The mark that it would carry.
    pub mark: Option<String>,
    /// All of it.
    pub sentence: String,
}

impl Outcome {
    /// Of a request that no limit is asked about.
    pub(super) fn exempt() -> Self {
        Self {
            decision: "admitted".into(),
            limit: None,
            status: None,
            reason: None,
            ahead: None,
            upstream: None,
            mark: None,
            sentence: "it would be admitted: no limit is asked".to_owned(),
        }
    }
}

impl Names<'_> {
    pub(super) fn outcome(&self, running: &Running<'_>, class: &Class) -> Outcome {
        let Running {
            registry,
            policy,
            now,
        } = running;
        let Foreseen {
            verdict,
            limit,
            rerouted,
            mark,
        } = registry.foresee(policy, class, *now);
        let upstream = rerouted.map(|upstream| {
            let mut sent = class.clone();
            sent.upstream = upstream;
            self.upstream(&sent)
        });
        let limit = limit.map(|name| name.to_string());
        let of = limit.as_deref().unwrap_or("-");
        let sent = upstream.as_deref();
        let sent = sent.map_or_else(String::new, |to| format!(", sent to the upstream `{to}`"));
        let (mut status, mut reason, mut ahead) = (None, None, None);
        let (decision, sentence) = match verdict {
            Verdict::Admit => match (&mark, &upstream) {
                (Some(mark), _) => (
                    "marked",
                    format!("it would go over the limit `{of}` with the mark `{mark}`{sent}"),
                ),
                (None, Some(to)) => (
                    "rerouted",
                    format!("the limit `{of}` has no place: it would go to the upstream `{to}`"),
                ),
                (None, None) => (
                    "admitted",
                    "it would be admitted: every limit has a place".to_owned(),
                ),
            },
            Verdict::Wait {
                ahead: count,
                timeout,
            } => {
                ahead = Some(count);
                let timeout = super::super::units::readable(timeout);
                let sentence = format!(
                    "it would wait in the queue of the limit `{of}`, behind {count}, for {timeout} at most{sent}"
                );
                ("queued", sentence)
            }
            Verdict::Slow { delay, times } => {
                let delay = super::super::units::readable(delay);
                let sentence = format!(
                    "it would be slowed by the limit `{of}`: asked again after {delay}, up to {times} times{sent}"
                );
                ("slowed", sentence)
            }
            Verdict::Reject {
                reason: why,
                status: with,
                max,
                in_flight,
            } => {
                (status, reason) = (Some(with), Some(why.as_str().into()));
                let sentence = format!(
                    "it would be refused with {with} {}: {in_flight} of {max} places of the limit `{of}` are taken{sent}",
                    why.as_str()
                );
                ("rejected", sentence)
            }
        };
        Outcome {
            decision: decision.into(),
            limit,
            status,
            reason,
            ahead,
            upstream,
            mark: mark.map(|mark| mark.to_string()),
            sentence,
        }
    }
}
