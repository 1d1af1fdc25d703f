//! Maxima that an operator puts in force for a while, over what the configuration says.
//!
//! They are laid over the settings that a policy is compiled from, so that nothing on a request's path knows of them: a limit
//! whose numbers changed is the same limit, with its counts and those who wait. Names and not ids, because a reload gives new
//! ids. Never changes what a limit counts, and never looks at a clock: whoever keeps the list takes out what is over.

use std::sync::Arc;
use std::time::Instant;

use super::class::{AccountName, GroupId};
use super::key::Dimension;
use super::limit::{LimitSettings, Mode};
use super::moving::Moves;
use super::policy::PolicySettings;

/// One maximum in force for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporaryMax {
    /// Of which limit.
    pub limit: Arc<str>,
    /// Of whose keys.
    pub whose: Whose,
    /// How many places a key has meanwhile; 0 is closed.
    pub max: u32,
    /// Until when.
    pub until: Instant,
}

/// Whose keys a temporary maximum is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// All that have no override of their own: it stands for the limit's `max`, whether that moves or not.
    Everyone,
    /// One account's.
    Account(AccountName),
    /// Those of a group's accounts that have no override of their own.
    Group(Arc<str>),
}

/// Why a temporary maximum cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemporaryFault {
    /// There is no such limit.
    #[error("no limit has that name; /v1/status lists them")]
    UnknownLimit,
    /// There is no such group.
    #[error("no group has that name; the configuration's `accounts.groups` lists them")]
    UnknownGroup,
    /// Its keys are shared by all accounts.
    #[error(
        "the limit does not count by account or group, so none of them has a number of its own there; leave `account` and `group` away, and the override is for every key"
    )]
    NotCounted,
    /// It counts nothing.
    #[error("the limit has `mode: off` and counts nothing; set another mode in the configuration")]
    Off,
    /// So many are in force already.
    #[error(
        "as many overrides are in force as may be; end one, or write them into the configuration"
    )]
    TooMany,
    /// It has no number of its own.
    #[error(
        "the limit is a budget of retries, a part of what each account has in flight; change it in the configuration"
    )]
    Budget,
}

impl TemporaryMax {
    /// Whether it is for the same keys.
    #[must_use]
    pub fn is_for_the_same(&self, other: &Self) -> bool {
        self.limit == other.limit && self.whose == other.whose
    }

    /// Whether it can be laid over these settings.
    pub fn check(&self, settings: &PolicySettings) -> Result<(), TemporaryFault> {
        let limit = settings.limits.iter().find(|of| of.name == *self.limit);
        let limit = limit.ok_or(TemporaryFault::UnknownLimit)?;
        let counts = |dimension| limit.per.contains(&dimension);
        let is_counted = match &self.whose {
            Whose::Everyone => true,
            Whose::Account(_) => counts(Dimension::Account),
            Whose::Group(_) => counts(Dimension::Account) || counts(Dimension::Group),
        };
        if let Whose::Group(name) = &self.whose {
            settings.group(name).ok_or(TemporaryFault::UnknownGroup)?;
        }
        if limit.mode == Mode::Off {
            return Err(TemporaryFault::Off);
        }
        if matches!(limit.moves, Some(Moves::RetryBudget(_))) {
            return Err(TemporaryFault::Budget);
        }
        is_counted.then_some(()).ok_or(TemporaryFault::NotCounted)
    }

    fn lay_over(&self, limit: &mut LimitSettings, group: Option<GroupId>) {
        match (&self.whose, group) {
            (Whose::Everyone, _) => (limit.max, limit.is_pinned) = (self.max, true),
            (Whose::Account(name), _) => put(&mut limit.account_max, *name, self.max),
            (Whose::Group(_), Some(group)) => put(&mut limit.group_max, group, self.max),
            (Whose::Group(_), None) => {}
        }
    }
}

fn put<K: PartialEq>(maxima: &mut Vec<(K, u32)>, whose: K, max: u32) {
    maxima.retain(|(known, _)| *known != whose);
    maxima.push((whose, max));
}

impl PolicySettings {
    /// The same with these maxima laid over it; those that cannot be are left out.
    #[must_use]
    pub fn with_temporary(mut self, temporary: &[TemporaryMax]) -> Self {
        for of in temporary
            .iter()
            .filter(|of| of.check(&self).is_ok())
            .collect::<Vec<_>>()
        {
            let group = match &of.whose {
                Whose::Group(name) => self.group(name),
                _ => None,
            };
            let limits = self.limits.iter_mut();
            let mut limits = limits.filter(|limit| limit.name == *of.limit);
            if let Some(limit) = limits.next() {
                of.lay_over(limit, group);
            }
        }
        self
    }

    fn group(&self, name: &str) -> Option<GroupId> {
        let index = self.groups.iter().position(|group| group.name == name)?;
        u16::try_from(index).ok().map(GroupId)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::super::policy::PolicyGroup;
    use super::*;

    fn settings() -> PolicySettings {
        let account = |name: &str| AccountName::new(name.as_bytes()).expect("a name");
        let mut by_account = LimitSettings::new("account", &[Dimension::Account], 10);
        by_account.account_max = vec![(account("gold"), 30)];
        PolicySettings {
            groups: vec![PolicyGroup {
                name: "big".into(),
                accounts: vec![account("gold")],
                weight: 1,
            }],
            limits: vec![by_account, LimitSettings::new("whole", &[], 100)],
            ..PolicySettings::default()
        }
    }

    fn temporary(limit: &str, whose: Whose, max: u32) -> TemporaryMax {
        let until = crate::clock::Clock::default().now();
        TemporaryMax {
            limit: limit.into(),
            whose,
            max,
            until,
        }
    }

    // A11: what is laid over changes numbers only, and what cannot be says why.
    #[test]
    fn a_temporary_maximum_changes_nothing_but_a_number() {
        let gold = Whose::Account(AccountName::new(b"gold").expect("a name"));
        let all = [
            temporary("account", gold.clone(), 50),
            temporary("account", Whose::Group("big".into()), 40),
            temporary("whole", Whose::Everyone, 0),
            temporary("gone", Whose::Everyone, 1),
        ];
        let laid = settings().with_temporary(&all);
        assert_eq!(laid.limits[0].max, 10);
        assert_eq!(laid.limits[0].account_max.len(), 1);
        assert_eq!(laid.limits[0].account_max[0].1, 50);
        assert_eq!(laid.limits[0].group_max, [(GroupId(0), 40)]);
        assert_eq!((laid.limits[1].max, laid.limits[1].is_pinned), (0, true));
        assert_eq!(laid.limits[1].identity, settings().limits[1].identity);
        for (limit, whose, fault) in [
            ("gone", Whose::Everyone, TemporaryFault::UnknownLimit),
            (
                "account",
                Whose::Group("none".into()),
                TemporaryFault::UnknownGroup,
            ),
            ("whole", gold, TemporaryFault::NotCounted),
        ] {
            let refused = temporary(limit, whose, 1).check(&settings());
            assert_eq!(refused, Err(fault));
        }
    }
}
