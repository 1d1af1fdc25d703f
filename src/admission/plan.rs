//! Which limits apply to a resource, and in which order they are asked.
//!
//! Most dimensions first, then the smaller maximum, then the order of the file: a noisy account is refused on its own cell and
//! never touches the wide one. Never changed after it is made.

use std::sync::Arc;

use super::class::{ResourceId, UpstreamId};
use super::policy::{Limit, Mode, Policy};

/// Indexes of the limits that apply to one resource.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) upstream: UpstreamId,
    pub(super) enforced: Vec<u16>,
    pub(super) shadow: Vec<u16>,
}

impl Plan {
    pub(super) fn new(limits: &[Limit], resource: ResourceId, upstream: UpstreamId) -> Self {
        let mut order: Vec<(u16, &Limit)> = (0..).zip(limits).collect();
        order.retain(|(_, limit)| limit.covers(resource, upstream));
        order.sort_by_key(|(index, limit)| {
            (
                std::cmp::Reverse(limit.settings.per.len()),
                limit.settings.max,
                *index,
            )
        });
        let of_mode = |mode| {
            let these = order
                .iter()
                .filter(move |(_, limit)| limit.settings.mode == mode);
            these.map(|(index, _)| *index).collect()
        };
        Self {
            upstream,
            enforced: of_mode(Mode::Enforce),
            shadow: of_mode(Mode::Shadow),
        }
    }
}

impl Policy {
    /// Whether the same limits apply to the same resources, so that nothing but numbers and ladders has changed.
    pub(super) fn has_same_shape(&self, other: &Self) -> bool {
        let names = |policy: &Self| -> Vec<_> {
            let labels = policy.labels.resources.iter();
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
