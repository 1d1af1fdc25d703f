//! Which accounts appear most often, in memory that does not grow with their number.
//!
//! The Space-Saving algorithm (Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data
//! Streams", 2005): who is not listed takes the place of the one with the smallest count, and inherits that count as the error
//! of his own. So `count - error <= true count <= count`, the error is at most a [`LISTED`]th of all that was noted, and whoever
//! has more than that share is listed. Never forgets a heavy account for a crowd of light ones.

use super::class::AccountName;

/// Accounts that are listed: an error below a hundredth of all; 22 KiB when full.
pub(super) const LISTED: usize = 128;

/// How often accounts appeared.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    /// Apart from the names, so that looking for one reads two KiB and no more.
    counts: Vec<Count>,
    /// At the same places.
    names: Vec<Named>,
}

#[derive(Debug)]
struct Count {
    hash: u64,
    count: u64,
}

#[derive(Debug)]
struct Named {
    account: AccountName,
    error: u64,
}

/// One account that appeared often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heavy {
    pub(super) account: AccountName,
    /// At most so often.
    pub(super) count: u64,
    /// The count may be too high by so much.
    pub(super) error: u64,
}

impl Sketch {
    /// Counts one appearance.
    pub(super) fn note(&mut self, account: &AccountName) {
        let hash = account.hash();
        let mut smallest = 0;
        for at in 0..self.counts.len() {
            if self.counts[at].hash == hash && self.names[at].account == *account {
                self.counts[at].count += 1;
                return;
            }
            if self.counts[at].count < self.counts[smallest].count {
                smallest = at;
            }
        }
        let (account, error) = (*account, 0);
        if self.counts.len() < LISTED {
            self.counts.push(Count { hash, count: 1 });
            self.names.push(Named { account, error });
            return;
        }
        let error = self.counts[smallest].count;
        let count = error + 1;
        self.counts[smallest] = Count { hash, count };
        self.names[smallest] = Named { account, error };
    }

    /// At most `top` accounts, the heaviest first.
    pub(super) fn heaviest(&self, top: usize) -> Vec<Heavy> {
        let listed = self.counts.iter().zip(&self.names);
        let mut heavy: Vec<_> = listed
            .map(|(of, named)| Heavy {
                account: named.account,
                count: of.count,
                error: named.error,
            })
            .collect();
        heavy.sort_by(|a, b| {
            let by_name = || a.account.as_bytes().cmp(b.account.as_bytes());
            b.count.cmp(&a.count).then_with(by_name)
        });
        heavy.truncate(top);
        heavy
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn account(number: u32) -> AccountName {
        AccountName::new(format!("account-{number}").as_bytes()).unwrap()
    }

    #[test]
    fn a_few_accounts_are_counted_exactly_and_the_heaviest_comes_first() {
        let mut sketch = Sketch::default();
        for number in [1, 2, 2, 3, 3, 3] {
            sketch.note(&account(number));
        }
        let heavy = |number, count| Heavy {
            account: account(number),
            count,
            error: 0,
        };
        assert_eq!(sketch.heaviest(2), [heavy(3, 3), heavy(2, 2)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        // G6: whatever comes in whatever order, the bounds hold, memory is bounded, and who is heavy is listed.
        #[test]
        fn a_count_is_never_too_low_and_too_high_by_no_more_than_its_error(
            // Squared, so that some numbers are much more common than others.
            stream in proptest::collection::vec((0_u32..40).prop_flat_map(|of| 0..=of * of), 1..4_000)
        ) {
            let mut sketch = Sketch::default();
            let mut seen = HashMap::new();
            for &number in &stream {
                sketch.note(&account(number));
                *seen.entry(account(number)).or_insert(0_u64) += 1;
            }
            let all = stream.len() as u64;
            let listed = sketch.heaviest(usize::MAX);
            prop_assert!(listed.len() <= LISTED);
            prop_assert_eq!(listed.iter().map(|of| of.count).sum::<u64>(), all);
            for of in &listed {
                let truth = seen[&of.account];
                prop_assert!(of.count - of.error <= truth && truth <= of.count, "{of:?} {truth}");
                prop_assert!(of.error <= all / LISTED as u64, "{of:?}");
            }
            for (account, count) in &seen {
                let is_listed = listed.iter().any(|of| of.account == *account);
                prop_assert!(is_listed || *count <= all / LISTED as u64, "{account} {count}");
            }
        }
    }
}
