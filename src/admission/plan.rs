//! Which limits apply to a resource, and in which order they are asked.
//!
//! Most dimensions first, then the smaller maximum, then the order of the file: a noisy account is refused on its own cell and
//! never touches the wide one. Never changed after it is made.

use std::sync::Arc;

use super::candidate::Candidate;
use super::class::{ResourceId, UpstreamId};
use super::limit::{Limit, Mode};
use super::policy::Policy;

/// Indexes of the limits that apply to one resource.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) upstream: UpstreamId,
    pub(super) enforced: Vec<u16>,
    pub(super) shadow: Vec<u16>,
    pub(super) trials: Vec<Trial>,
}

/// A candidate that has something to say about the resource.
#[derive(Debug)]
pub(super) struct Trial {
    /// Its place in the policy.
    pub(super) candidate: usize,
    /// The places of its limits that apply, in the order in which they are asked.
    limits: Vec<u16>,
}

impl Trial {
    /// The limits of the candidate that apply.
    pub(super) fn limits<'a>(&self, candidate: &'a Candidate) -> impl Iterator<Item = &'a Limit> {
        let limits = self.limits.iter();
        limits.map(|&index| &candidate.limits[usize::from(index)])
    }
}

impl Plan {
    pub(super) fn new(
        limits: &[Limit],
        candidates: &[Candidate],
        resource: ResourceId,
        upstream: UpstreamId,
    ) -> Self {
        let of_mode = |limits, mode| {
            let mut order = in_order(limits, resource, upstream);
            order.retain(|(_, limit)| limit.settings.mode == mode);
            order.into_iter().map(|(index, _)| index).collect()
        };
        let trials = (0..).zip(candidates).map(|(candidate, of)| Trial {
            candidate,
            limits: of_mode(&of.limits, Mode::Shadow),
        });
        Self {
            upstream,
            enforced: of_mode(limits, Mode::Enforce),
            shadow: of_mode(limits, Mode::Shadow),
            trials: trials.filter(|trial| !trial.limits.is_empty()).collect(),
        }
    }
}

/// The limits that cover a resource where it is sent, in the order in which they are asked.
fn in_order(limits: &[Limit], resource: ResourceId, upstream: UpstreamId) -> Vec<(u16, &Limit)> {
    let mut order: Vec<_> = (0..).zip(limits).collect();
    order.retain(|(_, limit)| limit.settings.covers(resource, upstream));
    order.sort_by_key(|(index, limit)| {
        (
            std::cmp::Reverse(limit.settings.per.len()),
            limit.settings.max,
            *index,
        )
    });
    order
}

impl Policy {
    /// Whether the same limits apply to the same resources, so that nothing but numbers and ladders has changed.
    pub(super) fn has_same_shape(&self, other: &Self) -> bool {
        let names = |policy: &Self| -> Vec<_> {
            let labels = &policy.labels;
            let labels = labels.resources.iter().chain(&labels.upstreams);
            labels.map(|label| Arc::clone(label.name())).collect()
        };
        let scopes = |policy: &Self, indexes: &[u16]| -> Vec<_> {
            let limits = indexes
                .iter()
                .map(|&index| &policy.limits[usize::from(index)]);
            let mut scopes: Vec<_> = limits.map(|limit| limit.real.scope.id).collect();
            scopes.sort_unstable();
            scopes
        };
        let guarantees = |policy: &Self| -> std::collections::BTreeMap<_, _> {
            let limits = policy.limits.iter();
            limits
                .map(|limit| {
                    let who = limit.settings.guaranteed.iter().map(|of| of.who);
                    (limit.real.scope.id, who.collect::<Vec<_>>())
                })
                .collect()
        };
        self.plans.len() == other.plans.len()
            && names(self) == names(other)
            && guarantees(self) == guarantees(other)
            && self.plans.iter().zip(&other.plans).all(|(ours, theirs)| {
                scopes(self, &ours.enforced) == scopes(other, &theirs.enforced)
                    && scopes(self, &ours.shadow) == scopes(other, &theirs.shadow)
            })
    }
}
