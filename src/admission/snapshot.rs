//! Views for humans and for Prometheus, read from the cells when asked for.
//!
//! No gauge is kept beside a cell, so none can drift from it. Reading takes each shard's lock in turn: a view is
//! exact for a key and approximate across keys. Never on a request's path.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hashbrown::HashMap;

use super::cell::Cell;
use super::class::AccountName;
use super::early::EarlyUse;
use super::key::{Dimension, readable};
use super::limit::{Limit, Mode};
use super::policy::Policy;
use super::registry::Registry;
use super::tally::Counted;

/// One limit, summed over its keys.
#[derive(Debug, Clone)]
pub struct LimitUse {
    /// Its name.
    pub name: Arc<str>,
    /// What it counts on, as users write it.
    pub per: Vec<String>,
    /// What it does with what does not fit.
    pub mode: Mode,
    /// What it counts; where time gives places back, what is in flight says little of how many are left.
    pub counted: Counted,
    /// The default maximum of a key; of a retry budget what an account may have in any case.
    pub max: u32,
    /// Where it is a retry budget: how much of what an account has in flight its places are, in percent.
    pub budget: Option<u32>,
    /// In flight over all keys.
    pub in_flight: u64,
    /// Requests that wait for a place, over all keys.
    pub queued: u64,
    /// Keys with something in flight.
    pub keys: usize,
    /// In flight over maximum, of the fullest key.
    pub used_ratio: f64,
    /// In shadow mode, and in a candidate: requests that would have been admitted, and refused.
    pub would: (u64, u64),
    /// What it lent above its maximum, where it may.
    pub early: Option<EarlyUse>,
    /// Refusals in its name so far.
    pub refused: u64,
    /// Places that would be in use if nobody were refused: what is in flight and waits (one place for each who waits), and the places
    /// refused a second times the seconds that one is held (Little's law). Who is refused and tries again counts each time. `None` where
    /// places are not held but paced.
    pub demand: Option<f64>,
}

/// One candidate, on paper.
#[derive(Debug, Clone)]
pub struct CandidateUse {
    /// Its name.
    pub name: Arc<str>,
    /// Requests that it would have admitted, and refused, of those that one of its limits covers.
    pub would: (u64, u64),
    /// In the order of the file. A refusal is counted at the first limit without a place, so that they sum up to the candidate's.
    pub limits: Vec<LimitUse>,
}

/// One key of a limit.
#[derive(Debug, Clone)]
pub struct KeyUse {
    /// Dimensions and values.
    pub key: Vec<(String, String)>,
    /// Places taken.
    pub in_flight: u32,
    /// Places there are.
    pub max: u32,
    /// Requests that wait for one.
    pub queued: u32,
    /// The most taken in the last interval of six seconds, or in this one.
    pub peak: u32,
    /// Requests refused of late for want of a place of this key: a count that is halved every six seconds.
    pub refused_lately: u16,
}

/// All limits at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// In the order of the file.
    pub limits: Vec<LimitUse>,
    /// In the order of the file.
    pub candidates: Vec<CandidateUse>,
    /// Requests in flight over all accounts.
    pub in_flight: u64,
    /// Requests that wait, whatever for.
    pub queued: u64,
}

impl Limit {
    fn use_of_none(&self) -> LimitUse {
        let scope = &self.real.scope;
        LimitUse {
            name: Arc::clone(&self.name),
            per: self.settings.per_names.clone(),
            mode: self.settings.mode,
            counted: self.settings.counted,
            max: self.default_max(None, 0),
            budget: self.retry_budget().map(|budget| budget.percent),
            in_flight: 0,
            queued: 0,
            keys: 0,
            used_ratio: 0.0,
            would: (
                scope.would_admit.load(Ordering::Relaxed),
                scope.would_reject.load(Ordering::Relaxed),
            ),
            early: self.early_use(),
            refused: scope.refusals.count.load(Ordering::Relaxed),
            demand: None,
        }
    }
}

impl LimitUse {
    fn add(&mut self, limit: &Limit, cell: &Cell, max: u32) {
        let in_flight = limit.places(cell.count.in_flight());
        self.queued += u64::from(cell.count.waiting());
        if in_flight == 0 {
            return;
        }
        self.in_flight += u64::from(in_flight);
        self.keys += 1;
        self.used_ratio = self
            .used_ratio
            .max(f64::from(in_flight) / f64::from(max.max(1)));
    }
}

type Held = HashMap<AccountName, u32, ahash::RandomState>;

impl Policy {
    /// The maximum of a key that is known by its values only, and by what its account has in flight where it goes by that.
    fn max_of_key(&self, limit: &Limit, cell: &Cell, held: &Held) -> u32 {
        if let Some(budget) = limit.retry_budget() {
            let account = cell.account();
            let held = account.and_then(|account| held.get(&account));
            return budget.max(held.copied().unwrap_or(0));
        }
        let key = &cell.key;
        let mut account = None;
        let mut group = None;
        let mut at = 0;
        for (dimension, value) in limit.settings.per.iter().zip(key.values()) {
            match dimension {
                Dimension::Account => account = AccountName::new(value).ok(),
                Dimension::Group => {
                    let of_name = |label: &str| label.as_bytes() == value;
                    group = (0..)
                        .zip(&self.labels.groups)
                        .find(|(_, known)| of_name(known.name()))
                        .map(|(id, _)| super::GroupId(id));
                }
                other => at = self.place_of(*other, value).unwrap_or(at),
            }
        }
        let group = group.or_else(|| account.as_ref().and_then(|account| self.group_of(account)));
        limit.max_for_key(account.as_ref(), group, Some(cell), at)
    }
}

impl Registry {
    /// All limits at this moment.
    #[must_use]
    pub fn snapshot(&self, policy: &Policy) -> Snapshot {
        let known: Vec<_> = policy.every_limit().collect();
        let mut limits: Vec<_> = known.iter().map(|limit| limit.use_of_none()).collect();
        let by_scope: HashMap<u64, usize> = (0..)
            .zip(&known)
            .map(|(index, limit)| (limit.real.scope.id, index))
            .collect();
        let held = self.held_by_account(known.iter().copied());
        let mut in_flight = 0;
        self.each_cell(|cell| {
            if cell.key.scope() == self.accounts.scope.id {
                in_flight += u64::from(cell.count.in_flight());
            } else if let Some(&index) = by_scope.get(&cell.key.scope()) {
                let max = policy.max_of_key(known[index], cell, &held);
                limits[index].add(known[index], cell, max);
            }
        });
        for (limit, seen) in known.iter().zip(&mut limits) {
            if let Some(only) = &limit.real.only {
                seen.add(limit, only, limit.default_max(Some(only), 0));
            }
        }
        for (limit, seen) in known.iter().zip(&mut limits) {
            let scope = &limit.real.scope;
            let refused = scope.refusals.places_rate.per_second() * scope.mean_hold_seconds();
            let held = seen.in_flight.saturating_add(seen.queued);
            let is_held = scope.counted == Counted::InFlight;
            seen.demand = is_held.then(|| float(held) + refused);
        }
        let queued = self.waiting() as u64;
        let mut tried = limits.split_off(policy.limits.len()).into_iter();
        let candidates = policy.candidates.iter().map(|candidate| CandidateUse {
            name: Arc::clone(candidate.name()),
            would: candidate.would(),
            limits: tried.by_ref().take(candidate.limits.len()).collect(),
        });
        Snapshot {
            candidates: candidates.collect(),
            limits,
            in_flight,
            queued,
        }
    }

    /// For each of the first `limits` limits the keys that have taken most of their own places, at most `top` of each. One pass over all
    /// cells, in which nothing is kept but what may be among them.
    #[must_use]
    pub fn fullest(&self, policy: &Policy, limits: usize, top: usize) -> Vec<Vec<KeyUse>> {
        let known = &policy.limits[..limits.min(policy.limits.len())];
        let mut ranked: Vec<_> = known.iter().map(|_| Ranking::new(top)).collect();
        let by_scope: HashMap<u64, usize> = (0..)
            .zip(known)
            .map(|(index, limit)| (limit.real.scope.id, index))
            .collect();
        let held = self.held_by_account(known);
        let mut offer = |cell: &Arc<Cell>| {
            let Some(&index) = by_scope.get(&cell.key.scope()) else {
                return;
            };
            let limit = &known[index];
            let in_flight = limit.places(cell.count.in_flight());
            let is_refused = cell.refused.load(Ordering::Relaxed) > 0;
            if in_flight > 0 || cell.count.waiting() > 0 || is_refused {
                let max = policy.max_of_key(limit, cell, &held);
                ranked[index].offer(cell, in_flight, max);
            }
        };
        let single = known.iter().filter_map(|limit| limit.real.only.as_ref());
        single.for_each(&mut offer);
        self.each_shard(|cells, _| cells.iter().for_each(&mut offer));
        let rows = known.iter().zip(ranked).map(|(limit, ranking)| {
            let rows = ranking.finish().into_iter();
            rows.map(|(cell, max)| key_use(limit, &cell, max)).collect()
        });
        rows.collect()
    }

    /// The keys of one limit that hold most, at most `top`, largest first.
    #[must_use]
    pub fn keys(&self, policy: &Policy, limit: &Limit, top: usize) -> Vec<KeyUse> {
        let mut keys = Vec::new();
        let kept = top.saturating_mul(2).max(128);
        let held = self.held_by_account([limit]);
        let mut add = |cell: &Cell| {
            keys.push(key_use(limit, cell, policy.max_of_key(limit, cell, &held)));
            // However many keys there are, memory is for twice as many as asked for.
            if keys.len() >= kept {
                keep_fullest(&mut keys, top);
            }
        };
        if let Some(only) = &limit.real.only {
            add(only);
        }
        self.each_cell(|cell| {
            if cell.key.scope() == limit.real.scope.id {
                add(cell);
            }
        });
        keep_fullest(&mut keys, top);
        keys
    }
}

#[expect(clippy::cast_precision_loss, reason = "places are counted in 32 bits")]
fn float(count: u64) -> f64 {
    count as f64
}

impl Policy {
    /// Takes note of how much each limit has refused in the time since the last call. To be called about once a second.
    pub fn turn_rates(&self, elapsed: Duration) {
        for limit in &self.limits {
            let refusals = &limit.real.scope.refusals;
            let places = refusals.places.load(Ordering::Relaxed);
            refusals.places_rate.turn(places, elapsed.as_secs_f64());
        }
    }
}

fn key_use(limit: &Limit, cell: &Cell, max: u32) -> KeyUse {
    let values = limit.settings.per.iter().zip(cell.key.values());
    let named = limit.settings.per_names.iter().zip(values);
    KeyUse {
        key: named
            .map(|(name, (&dimension, value))| (name.clone(), readable(dimension, value)))
            .collect(),
        in_flight: limit.places(cell.count.in_flight()),
        max,
        queued: cell.count.waiting(),
        peak: limit.places(cell.count.peak()),
        refused_lately: cell.refused.load(Ordering::Relaxed),
    }
}

/// How much of its places a key has taken, in millionths; how often it was refused of late; how much it has taken.
type Rank = (u64, u16, u32);

/// The cells that have taken most of their places.
#[derive(Debug)]
struct Ranking {
    top: usize,
    rows: Vec<(Rank, Arc<Cell>, u32)>,
    /// What is no fuller is not among them.
    floor: Rank,
}

impl Ranking {
    fn new(top: usize) -> Self {
        Self {
            top,
            rows: Vec::new(),
            floor: Rank::default(),
        }
    }

    fn offer(&mut self, cell: &Arc<Cell>, in_flight: u32, max: u32) {
        let millionths = u64::from(in_flight) * 1_000_000 / u64::from(max.max(1));
        let rank = (millionths, cell.refused.load(Ordering::Relaxed), in_flight);
        if self.rows.len() >= self.top && rank <= self.floor {
            return;
        }
        self.rows.push((rank, Arc::clone(cell), max));
        if self.rows.len() >= 2 * self.top {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.rows.sort_by_key(|row| std::cmp::Reverse(row.0));
        self.rows.truncate(self.top);
        self.floor = self.rows.last().map_or_else(Rank::default, |row| row.0);
    }

    fn finish(mut self) -> Vec<(Arc<Cell>, u32)> {
        self.cut();
        let rows = self.rows.into_iter();
        rows.map(|(_, cell, max)| (cell, max)).collect()
    }
}

fn keep_fullest(keys: &mut Vec<KeyUse>, top: usize) {
    keys.sort_by(|a, b| {
        let of = |key: &KeyUse| (key.in_flight, key.refused_lately, key.peak);
        of(b).cmp(&of(a)).then_with(|| a.key.cmp(&b.key))
    });
    keys.truncate(top);
}
