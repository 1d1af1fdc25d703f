//! A budget for retries: a limit that counts nothing else, and has places by what the account has in flight.
//!
//! Clients that retry in overload add to it. What a retry is, whoever classifies requests knows; here it only has fewer places. Never
//! concerns first attempts.

use hashbrown::HashMap;

use super::class::{AccountName, Class};
use super::limit::Limit;
use super::moving::Moves;
use super::policy::Policy;
use super::registry::Registry;

/// How much of what an account has in flight may be retries: as Envoy's retry budgets, by concurrency and not by rate, so that it
/// needs no clock and means the same for fast work and slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Percent of it.
    pub percent: u32,
    /// Retries that it may have in any case.
    pub floor: u32,
}

impl RetryBudget {
    /// Retries of an account that has so much in flight.
    #[must_use]
    pub fn max(&self, account_in_flight: u32) -> u32 {
        let part = u64::from(account_in_flight) * u64::from(self.percent) / 100;
        u32::try_from(part).unwrap_or(u32::MAX).max(self.floor)
    }
}

impl Limit {
    /// Whether it counts such requests: a retry budget counts retries only.
    #[inline]
    pub(super) fn counts(&self, class: &Class) -> bool {
        class.is_retry || self.retry_budget().is_none()
    }

    #[inline]
    pub(super) fn retry_budget(&self) -> Option<&RetryBudget> {
        match &self.moving.as_ref()?.rule {
            Moves::RetryBudget(budget) => Some(budget),
            _ => None,
        }
    }
}

impl Registry {
    /// Places that a retry budget leaves to a class; `None` for other limits.
    #[inline]
    pub(super) fn budget(&self, policy: &Policy, limit: &Limit, class: &Class) -> Option<u32> {
        let budget = limit.retry_budget()?;
        let requests = budget.max(self.account_in_flight(policy, class));
        Some(requests.saturating_mul(class.cost))
    }

    /// What each account has in flight, for limits whose places go by that; else nothing.
    pub(super) fn held_by_account<'l>(
        &self,
        limits: impl IntoIterator<Item = &'l Limit>,
    ) -> HashMap<AccountName, u32, ahash::RandomState> {
        let mut held = HashMap::default();
        let mut limits = limits.into_iter();
        if limits.any(|limit| limit.retry_budget().is_some()) {
            self.each_cell(|cell| {
                if cell.key.scope() == self.accounts.scope.id
                    && let Some(account) = cell.account()
                {
                    held.insert(account, cell.count.in_flight());
                }
            });
        }
        held
    }
}
