//! One limit: what it is made of, what it counts in, and how many places a key has.
//!
//! What must outlive a reload is carried over from the limit that was the same before: its scope, its one shared cell, what its
//! maximum has come to. Never knows which requests it applies to by their order: that is the policy's.

use std::sync::Arc;

use hashbrown::HashMap;

use super::cell::Cell;
use super::class::{AccountName, Class, GroupId, ResourceId, UpstreamId};
use super::hold::Scope;
use super::key::Dimension;
use super::ladder::Ladder;
use super::moving::{Moves, Moving};
use super::occupancy::Occupancy;
use super::registry::free_cell;
use super::sparing::Pressure;
use super::tally::Counted;

/// What a limit does with a request that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Walks its ladder.
    #[default]
    Enforce,
    /// Counts, and notes what it would have done.
    Shadow,
    /// Counts nothing.
    Off,
}

impl Mode {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }
}

/// One limit, as the configuration resolved it.
#[derive(Debug, Clone)]
pub struct LimitSettings {
    /// The name that users see.
    pub name: String,
    /// What makes it the same limit through reloads: name, per, resources, except, upstreams and count in one text.
    pub identity: String,
    /// What it counts on.
    pub per: Vec<Dimension>,
    /// The same, as users write it.
    pub per_names: Vec<String>,
    /// The resources it covers; `None` for all.
    pub resources: Option<Vec<ResourceId>>,
    /// The resources it leaves out.
    pub except: Vec<ResourceId>,
    /// The upstreams it covers; `None` for all.
    pub upstreams: Option<Vec<UpstreamId>>,
    /// How many places a key has; 0 is closed. Where it moves, how many at the start.
    pub max: u32,
    /// What is counted.
    pub counted: Counted,
    /// How that number moves.
    pub moves: Option<Moves>,
    /// Whether it does not for the time being: an operator has put `max` in force.
    pub is_pinned: bool,
    /// Places of accounts of their own.
    pub account_max: Vec<(AccountName, u32)>,
    /// Places of accounts in a group of their own.
    pub group_max: Vec<(GroupId, u32)>,
    /// What it does with a request that does not fit.
    pub mode: Mode,
    /// How.
    pub ladder: Ladder,
    /// Whether leases keep their places; else they return with the response's last byte.
    pub counts_leases: bool,
    /// One request of so many is counted; 1 for all.
    pub sample: u32,
    /// When it holds; `None` for always.
    pub pressure: Option<Pressure>,
    /// Places that some have for sure: while they have less, what falls free is theirs first. Others may use them meanwhile.
    pub guaranteed: Vec<Guarantee>,
}

impl LimitSettings {
    /// Whether it covers a resource where it is sent.
    pub(super) fn covers(&self, resource: ResourceId, upstream: UpstreamId) -> bool {
        self.resources
            .as_ref()
            .is_none_or(|only| only.contains(&resource))
            && !self.except.contains(&resource)
            && self
                .upstreams
                .as_ref()
                .is_none_or(|only| only.contains(&upstream))
    }

    /// A limit of `max` places a key for everything, which refuses with 429 and is the same as long as its name is.
    #[must_use]
    pub fn new(name: &str, per: &[Dimension], max: u32) -> Self {
        Self {
            name: name.into(),
            identity: name.into(),
            per: per.to_vec(),
            per_names: Vec::new(),
            resources: None,
            except: Vec::new(),
            upstreams: None,
            max,
            counted: Counted::InFlight,
            moves: None,
            is_pinned: false,
            account_max: Vec::new(),
            group_max: Vec::new(),
            mode: Mode::Enforce,
            ladder: Ladder::reject(429),
            counts_leases: true,
            sample: 1,
            pressure: None,
            guaranteed: Vec::new(),
        }
    }
}

/// Places that an account or a group has for sure under one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarantee {
    /// Who.
    pub who: Guaranteed,
    /// How many.
    pub min: u32,
}

/// Who has a guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guaranteed {
    /// One account.
    Account(AccountName),
    /// The accounts of a group, together.
    Group(GroupId),
}

/// One limit at work.
#[derive(Debug)]
pub struct Limit {
    pub(super) settings: LimitSettings,
    pub(super) name: Arc<str>,
    pub(super) account_max: HashMap<AccountName, u32, ahash::RandomState>,
    /// The most places that any account or group has of its own.
    own_max: u32,
    pub(super) real: Counting,
    /// The count that would have been: without the requests that this limit would have refused.
    pub(super) paper: Counting,
    /// The maximum that moves, if it does.
    pub(super) moving: Option<Arc<Moving>>,
    /// What each account holds of a key that several share, where some may wait for it: fairness goes by it.
    pub(super) occupancy: Option<Occupancy>,
    /// In the order of `guaranteed`: what those who have a guarantee hold of all keys.
    pub(super) shares: Vec<Arc<Cell>>,
    /// What it counts on, in one text.
    pub(super) axis: Arc<str>,
}

/// One of a limit's two counts.
#[derive(Debug, Clone)]
pub(super) struct Counting {
    pub(super) scope: Arc<Scope>,
    /// The cell itself where the limit has one key only.
    pub(super) only: Option<Arc<Cell>>,
}

impl Counting {
    pub(super) fn new(per: &[Dimension], counted: Counted) -> Self {
        let scope = Arc::new(Scope::new(counted));
        let is_single = per.iter().all(|&dimension| dimension == Dimension::Process);
        let only = is_single.then(|| free_cell(&scope));
        Self { scope, only }
    }
}

impl Limit {
    pub(super) fn new(
        settings: LimitSettings,
        moving: Option<Arc<Moving>>,
        previous: Option<&Self>,
    ) -> Self {
        let (real, paper) = match previous {
            Some(same) => (same.real.clone(), same.paper.clone()),
            None => {
                let fresh = || Counting::new(&settings.per, settings.counted);
                (fresh(), fresh())
            }
        };
        let shares = settings.guaranteed.iter().enumerate().map(|(at, of)| {
            let same = previous.and_then(|previous| {
                let known = previous.settings.guaranteed.get(at)?;
                (known.who == of.who).then(|| Arc::clone(&previous.shares[at]))
            });
            same.unwrap_or_else(|| free_cell(&real.scope))
        });
        let occupancy = Occupancy::of(&settings, previous);
        let others = occupancy.iter().map(|of| &of.counting);
        for counting in [&real, &paper].into_iter().chain(others) {
            let flag = &counting.scope.counts_leases;
            flag.store(settings.counts_leases, std::sync::atomic::Ordering::Relaxed);
        }
        real.scope.heed_completion(settings.early() > 0);
        let of_accounts = settings.account_max.iter().map(|(_, max)| *max);
        let of_groups = settings.group_max.iter().map(|(_, max)| *max);
        let own_max = of_accounts.chain(of_groups).max();
        Self {
            name: settings.name.as_str().into(),
            account_max: settings.account_max.iter().copied().collect(),
            own_max: own_max.unwrap_or_default(),
            moving,
            occupancy,
            shares: shares.collect(),
            axis: settings.per_names.join(",").into(),
            settings,
            real,
            paper,
        }
    }

    /// The guarantee that a class falls under: its account's own, else its group's.
    #[inline]
    pub(super) fn share_of(&self, class: &Class) -> Option<usize> {
        let guaranteed = &self.settings.guaranteed;
        if guaranteed.is_empty() {
            return None;
        }
        let of = |wanted| guaranteed.iter().position(|share| share.who == wanted);
        of(Guaranteed::Account(class.account))
            .or_else(|| class.group.and_then(|group| of(Guaranteed::Group(group))))
    }

    /// Whether a guarantee is not met yet by what is held under it, and so many more places.
    pub(super) fn is_owed(&self, share: usize, more: u32) -> bool {
        let guaranteed = self.settings.guaranteed.get(share);
        guaranteed
            .is_some_and(|of| self.shares[share].count.in_flight().saturating_add(more) < of.min)
    }

    /// The name that users see.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &LimitSettings {
        &self.settings
    }

    /// The places of the key that a class falls under: its account's own, else its group's, else the default.
    #[must_use]
    pub fn max_for(&self, class: &Class) -> u32 {
        self.max_of(class, None)
    }

    /// The same of a key whose cell is known; `at` is where its number stands, if each key has its own.
    pub(super) fn max_for_key(
        &self,
        account: Option<&AccountName>,
        group: Option<GroupId>,
        cell: Option<&Cell>,
        at: usize,
    ) -> u32 {
        if let Some(own) = account.and_then(|account| self.account_max.get(account)) {
            return *own;
        }
        group
            .and_then(|group| self.settings.group_max.iter().find(|(of, _)| *of == group))
            .map_or_else(|| self.default_max(cell, at), |(_, max)| *max)
    }

    #[inline]
    pub(super) fn max_of(&self, class: &Class, cell: Option<&Cell>) -> u32 {
        if self.account_max.is_empty() && self.settings.group_max.is_empty() {
            return self.default_max(cell, self.place_of(class));
        }
        self.max_for_key(
            Some(&class.account),
            class.group,
            cell,
            self.place_of(class),
        )
    }

    /// Where the number of a class stands, if each key has its own.
    #[inline]
    pub(super) fn place_of(&self, class: &Class) -> usize {
        self.moving.as_ref().map_or(0, |moving| moving.at(class))
    }

    /// No class has more places of that cell, but for what a step of the ladder or a loan adds. `None` where the cell alone does not
    /// say which number is its own.
    pub(super) fn most_of(&self, cell: &Cell) -> Option<u32> {
        if self.moving.as_ref().is_some_and(|it| it.goes_by_class()) {
            return None;
        }
        Some(self.default_max(Some(cell), 0).max(self.own_max))
    }

    /// The places of a key for which nobody has said otherwise.
    #[inline]
    pub(super) fn default_max(&self, cell: Option<&Cell>, at: usize) -> u32 {
        match &self.moving {
            Some(moving) if !self.settings.is_pinned => moving.max(cell, at),
            _ => self.settings.max,
        }
    }
}
