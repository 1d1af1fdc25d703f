//! The limits of one generation, compiled so that a request only reads.
//!
//! For every resource there is a plan: the limits that apply to it, most dimensions first, then the smaller
//! maximum, then the order of the file. So a noisy account is refused on its own cell and never touches the
//! wide one. What must outlive a reload (a limit's scope and its one shared cell) is carried over by identity.
//! Never changed after it is made.

use std::sync::Arc;

use hashbrown::HashMap;

use super::candidate::{Candidate, CandidateSettings};
use super::class::{AccountName, Class, GroupId, ResourceId, UpstreamId};
use super::key::{Label, Lookup};
use super::ladder::Step;
use super::limit::{Counting, Limit, LimitSettings, Mode};
use super::moving::Moving;
use super::plan::Plan;

/// A resource, as far as limits care.
#[derive(Debug, Clone)]
pub struct PolicyResource {
    /// Its name.
    pub name: String,
    /// Where its requests go.
    pub upstream: UpstreamId,
    /// Whether no limit covers it.
    pub is_exempt: bool,
}

/// A group of accounts, as far as limits care.
#[derive(Debug, Clone)]
pub struct PolicyGroup {
    /// Its name.
    pub name: String,
    /// Who is in it.
    pub accounts: Vec<AccountName>,
    /// How many places one of its accounts gets for each place of an account with weight 1, where both wait.
    pub weight: u32,
}

/// Everything a policy is made of.
#[derive(Debug, Clone, Default)]
pub struct PolicySettings {
    /// In the order of their ids.
    pub resources: Vec<PolicyResource>,
    /// Names, in the order of their ids.
    pub upstreams: Vec<String>,
    /// In the order of their ids.
    pub groups: Vec<PolicyGroup>,
    /// In the order of the file.
    pub limits: Vec<LimitSettings>,
    /// Sets of limits that are tried on paper, in the order of the file.
    pub candidates: Vec<CandidateSettings>,
}

/// Names with their hashes, by id.
#[derive(Debug, Default)]
pub(super) struct Labels {
    pub(super) resources: Vec<Label>,
    pub(super) upstreams: Vec<Label>,
    pub(super) groups: Vec<Label>,
}

/// The limits of one generation.
#[derive(Debug)]
pub struct Policy {
    pub(super) limits: Vec<Limit>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) labels: Labels,
    pub(super) plans: Vec<Plan>,
    /// For upstreams that requests may be sent to instead of their resource's own.
    rerouted: HashMap<(ResourceId, UpstreamId), Plan, ahash::RandomState>,
    group_of: HashMap<AccountName, GroupId, ahash::RandomState>,
    weights: Vec<u32>,
    by_scope: HashMap<u64, u16, ahash::RandomState>,
}

impl Policy {
    /// Compiles the settings, carrying over from `previous` what belongs to limits that stay the same.
    #[must_use]
    pub fn new(settings: PolicySettings, previous: Option<&Self>) -> Self {
        let limits: Vec<_> = settings
            .limits
            .into_iter()
            .map(|limit| {
                let same = previous.and_then(|previous| previous.by_identity(&limit.identity));
                let moving = Moving::of(&limit, &settings.resources, &settings.upstreams, same);
                Limit::new(limit, moving, same)
            })
            .collect();
        let candidates = Candidate::all(settings.candidates, previous);
        let plan = |(resource, id): (&PolicyResource, u16), upstream| {
            if resource.is_exempt {
                return Plan::new(&[], &[], ResourceId(id), upstream);
            }
            Plan::new(&limits, &candidates, ResourceId(id), upstream)
        };
        let resources = || settings.resources.iter().zip(0..);
        let plans = resources().map(|of| plan(of, of.0.upstream)).collect();
        let others = limits
            .iter()
            .flat_map(|limit| limit.settings.ladder.steps())
            .filter_map(|step| match step {
                Step::Reroute(upstream) => Some(*upstream),
                _ => None,
            });
        let others: std::collections::BTreeSet<_> = others.collect();
        let rerouted = others.iter().flat_map(|&upstream| {
            resources().map(move |of| ((ResourceId(of.1), upstream), plan(of, upstream)))
        });
        let groups = settings.groups.iter().zip(0..);
        Self {
            plans,
            rerouted: rerouted.collect(),
            weights: settings.groups.iter().map(|group| group.weight).collect(),
            by_scope: limits
                .iter()
                .zip(0..)
                .map(|(limit, index)| (limit.real.scope.id, index))
                .collect(),
            group_of: groups
                .flat_map(|(group, id)| group.accounts.iter().map(move |&name| (name, GroupId(id))))
                .collect(),
            labels: Labels {
                resources: settings
                    .resources
                    .iter()
                    .map(|of| Label::new(&of.name))
                    .collect(),
                upstreams: settings
                    .upstreams
                    .iter()
                    .map(|name| Label::new(name))
                    .collect(),
                groups: settings
                    .groups
                    .iter()
                    .map(|group| Label::new(&group.name))
                    .collect(),
            },
            limits,
            candidates,
        }
    }

    fn by_identity(&self, identity: &str) -> Option<&Limit> {
        self.limits
            .iter()
            .find(|limit| limit.settings.identity == identity)
    }

    /// The limit of that name.
    #[must_use]
    pub fn limit(&self, name: &str) -> Option<&Limit> {
        self.limits.iter().find(|limit| limit.name() == name)
    }

    /// All limits, in the order of the file.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.limits.iter()
    }

    /// The limits that decide about a class, in the order in which they are asked; then those in shadow.
    pub fn applying(&self, class: &Class) -> impl Iterator<Item = &Limit> {
        let plan = self.plan(class);
        plan.enforced
            .iter()
            .chain(&plan.shadow)
            .map(|&index| &self.limits[usize::from(index)])
            .filter(|limit| limit.counts(class))
    }

    /// The group of an account.
    #[must_use]
    pub fn group_of(&self, account: &AccountName) -> Option<GroupId> {
        if self.group_of.is_empty() {
            return None;
        }
        self.group_of.get(account).copied()
    }

    /// Names of limits that existed in `previous` but counted something else, or nothing, so that they begin at zero.
    #[must_use]
    pub fn counting_from_zero(&self, previous: &Self) -> Vec<Arc<str>> {
        let is_off = |limit: &Limit| limit.settings.mode == Mode::Off;
        let fresh = self.limits.iter().filter(|limit| {
            previous.limit(limit.name()).is_some()
                && !is_off(limit)
                && previous
                    .by_identity(&limit.settings.identity)
                    .is_none_or(is_off)
        });
        fresh.map(|limit| Arc::clone(&limit.name)).collect()
    }

    /// The limits that apply to a class where it is to be sent.
    pub(super) fn plan(&self, class: &Class) -> &Plan {
        let own = &self.plans[usize::from(class.resource.0)];
        if own.upstream == class.upstream {
            return own;
        }
        self.rerouted
            .get(&(class.resource, class.upstream))
            .unwrap_or(own)
    }

    /// How many places an account gets for each of an account with weight 1.
    pub(super) fn weight_of(&self, class: &Class) -> u32 {
        class
            .group
            .map_or(1, |group| self.weights[usize::from(group.0)])
    }

    /// The limit that counts in a scope.
    pub(super) fn by_scope(&self, scope: u64) -> Option<&Limit> {
        let index = *self.by_scope.get(&scope)?;
        Some(&self.limits[usize::from(index)])
    }

    pub(super) fn lookup<'a>(
        &'a self,
        limit: &'a Limit,
        counting: &'a Counting,
        class: &'a Class,
    ) -> Lookup<'a> {
        let dimensions = &limit.settings.per;
        Lookup {
            scope: counting.scope.id,
            dimensions,
            class,
            labels: &self.labels,
        }
    }
}
