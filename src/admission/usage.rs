//! The largest users of the last interval, those included whose cell is gone since.
//!
//! A cell packs its own peaks, and goes when it idles; its shard notes them as it removes the cell: beside the requests, or for
//! a new account that pushes idle cells out of a full shard. A peak is a maximum and no sum, so a list of the largest is enough,
//! and no sketch: an account falls off a full list only when [`TOP_MAX`] others of its shard have held as much, and these stand
//! before it in every answer of at most that many rows; if it comes back, its new peak alone decides whether it belongs to
//! them. So the rows are as exact as the cells, and only among equals is it chance who is left out. Never does anything when a
//! place is taken or given back, never keeps more than two such lists a shard.

use std::cmp::Reverse;

use hashbrown::HashMap;

use super::cell::Cell;
use super::class::AccountName;
use super::registry::Registry;

/// Most accounts that can be asked for: more than anybody reads, and 64 shards with two lists of so many names of 144 bytes are
/// 2 MiB at most, when all are full.
const TOP_MAX: usize = 100;

/// One account.
#[derive(Debug, Clone)]
pub struct AccountUse {
    /// Its name.
    pub account: AccountName,
    /// Its requests in flight now, leases included.
    pub in_flight: u32,
    /// The most that it had in flight at once in the last complete interval of six seconds.
    pub peak: u32,
}

/// What accounts held whose cells a shard has removed: in this interval, and in the last complete one.
#[derive(Debug, Default)]
pub(super) struct Departed {
    current: Largest,
    last: Largest,
}

impl Departed {
    /// Notes the peaks of an account's cell that was just removed.
    pub(super) fn note(&mut self, cell: &Cell) {
        let (current, last) = cell.count.peaks();
        self.current.note(cell, current);
        self.last.note(cell, last);
    }

    /// Begins the next interval.
    pub(super) fn turn(&mut self) {
        self.last = std::mem::take(&mut self.current);
    }
}

/// The largest peaks, each of another account, largest first.
#[derive(Debug, Default)]
struct Largest(Vec<(AccountName, u32)>);

impl Largest {
    fn note(&mut self, cell: &Cell, peak: u32) {
        let is_full = self.0.len() == TOP_MAX;
        let least = self.0.last().map_or(0, |(_, least)| *least);
        // A flood of accounts with a request each ends here once the list is full.
        if peak == 0 || is_full && peak <= least {
            return;
        }
        let Some(account) = cell.account() else {
            return;
        };
        if let Some(known) = self.0.iter_mut().find(|(known, _)| *known == account) {
            known.1 = known.1.max(peak);
        } else {
            self.0.truncate(TOP_MAX - 1);
            self.0.push((account, peak));
        }
        self.0.sort_by_key(|(_, peak)| Reverse(*peak));
    }
}

impl Registry {
    /// Most accounts that [`accounts`](Self::accounts) can tell.
    pub const ACCOUNTS_MAX: usize = TOP_MAX;

    /// The accounts that held most in the last complete interval, at most `top` and at most [`Self::ACCOUNTS_MAX`], largest
    /// first; among equals those that hold more now.
    #[must_use]
    pub fn accounts(&self, top: usize) -> Vec<AccountUse> {
        let top = top.min(TOP_MAX);
        let mut rows = Vec::new();
        // An account's cells all lie in one shard, the one that is there and those that are gone.
        self.each_shard(|cells, departed| {
            let mut gone: HashMap<_, _> = departed.last.0.iter().copied().collect();
            let cells = cells
                .iter()
                .filter(|cell| cell.key.scope() == self.accounts.scope.id);
            for cell in cells {
                let (in_flight, last_peak) = (cell.count.in_flight(), cell.count.last_peak());
                let Some(account) = cell.account() else {
                    continue;
                };
                let peak = gone.remove(&account).unwrap_or(0).max(last_peak);
                if in_flight > 0 || peak > 0 {
                    rows.push(AccountUse {
                        account,
                        in_flight,
                        peak,
                    });
                }
            }
            rows.extend(gone.into_iter().map(|(account, peak)| AccountUse {
                account,
                in_flight: 0,
                peak,
            }));
            keep_largest(&mut rows, top);
        });
        rows
    }
}

fn keep_largest(rows: &mut Vec<AccountUse>, top: usize) {
    let rank = |of: &AccountUse| (Reverse(of.peak), Reverse(of.in_flight));
    rows.sort_by(|a, b| {
        let by_name = || a.account.as_bytes().cmp(b.account.as_bytes());
        rank(a).cmp(&rank(b)).then_with(by_name)
    });
    rows.truncate(top);
}
