//! All cells, in shards; and the one question: may this request go on?
//!
//! A shard's lock is held for one lookup, and not at all when the thread's own cache knows the cell; the cache is
//! safe because a removed cell is marked dead. Memory is bounded by the work in hand: a cell that nobody uses goes
//! after one to two sweeps, and earlier, oldest first, when more than [`IDLE_CELLS_MAX`] wait for theirs. Never removes a
//! cell in use. A request that lost a race for one of its places gives the others back, and may so have been in
//! another's way for a moment; it never held a place that was not free.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use hashbrown::HashTable;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::cell::{Cell, Count, Take};
use super::class::{AccountName, Class};
use super::hold::Scope;
use super::key::{Dimension, Lookup};
use super::policy::{Counting, Limit, Policy};
use super::{Decision, Permit, Reason, Rejection, Step};

/// Enough that sixteen threads seldom meet; a power of two.
const SHARDS: usize = 64;
/// Cells without anything in flight that are kept at most: some 15 MiB.
const IDLE_CELLS_MAX: usize = 64 * 1024;
/// Oldest cells looked at for each new one above that bound: more than one, so that the bound is reached.
const EVICTION_LOOKS: usize = 4;
/// Cells that a thread remembers: 8 KiB of pointers, a few hundred busy accounts.
const CACHE_SLOTS: usize = 1024;

/// All counts of the process.
#[derive(Debug)]
pub struct Registry {
    shards: Box<[Mutex<Shard>]>,
    /// The built-in count of every account, without maximum.
    pub(super) accounts: Counting,
}

/// Two cache lines apart, so that one shard's lock does not slow its neighbour's.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    by_key: HashTable<Arc<Cell>>,
    /// The same cells, oldest first.
    by_age: VecDeque<Arc<Cell>>,
}

thread_local! {
    static CACHE: RefCell<Vec<Option<Arc<Cell>>>> = RefCell::new(vec![None; CACHE_SLOTS]);
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            accounts: Counting {
                scope: Arc::new(Scope::new()),
                only: None,
            },
        }
    }

    /// Takes places for a request in every limit that applies, or in none.
    pub fn acquire(&self, policy: &Policy, class: &Class, now: Instant) -> Decision {
        let plan = policy.plan(class);
        // `None` where nobody is counted yet; such a cell is made only once everything is known to fit.
        let mut cells = SmallVec::<[(Option<Arc<Cell>>, u32); 6]>::new();
        // Reading comes first: a request that cannot fit writes to no cell and makes none.
        for &index in &plan.enforced {
            let limit = &policy.limits[usize::from(index)];
            let max = limit.max_of(class);
            let cell = self.find(policy, limit, &limit.real, class);
            let in_flight = cell.as_ref().map_or(0, |cell| cell.count.in_flight());
            if in_flight.saturating_add(class.cost) > max {
                return self.reject(policy, limit, class, max, in_flight);
            }
            cells.push((cell, max));
        }
        let mut permit = Permit {
            cells: SmallVec::new(),
            cost: class.cost,
            account: None,
            taken_at: now,
            account_in_flight: 0,
            would_reject: None,
        };
        for (&index, (cell, max)) in plan.enforced.iter().zip(cells) {
            let limit = &policy.limits[usize::from(index)];
            let cell = cell.unwrap_or_else(|| {
                self.find_or_insert(&limit.real, policy.lookup(limit, &limit.real, class))
            });
            if let Err(in_flight) = self.take(&mut permit, policy, limit, cell, class, max) {
                drop(permit);
                return self.reject(policy, limit, class, max, in_flight);
            }
        }
        for &index in &plan.shadow {
            self.take_in_shadow(
                &mut permit,
                policy,
                &policy.limits[usize::from(index)],
                class,
            );
        }
        permit.account_in_flight = self.take_of_account(&mut permit, policy, class);
        Decision::Admit(permit)
    }

    /// Takes one cell into the permit; a removed one is looked up again.
    fn take(
        &self,
        permit: &mut Permit,
        policy: &Policy,
        limit: &Limit,
        mut cell: Arc<Cell>,
        class: &Class,
        max: u32,
    ) -> Result<(), u32> {
        loop {
            match cell.take(class.cost, max) {
                Take::Taken(_) => {
                    permit.cells.push(cell);
                    return Ok(());
                }
                Take::Full(in_flight) => return Err(in_flight),
                Take::Dead => {
                    cell =
                        self.find_or_insert(&limit.real, policy.lookup(limit, &limit.real, class));
                }
            }
        }
    }

    fn take_in_shadow(&self, permit: &mut Permit, policy: &Policy, limit: &Limit, class: &Class) {
        let real = self.find_or_insert(&limit.real, policy.lookup(limit, &limit.real, class));
        // Without a maximum only a removed cell or an overflowing count can be in the way.
        let _ = self.take(permit, policy, limit, real, class, u32::MAX);
        let max = limit.max_of(class);
        loop {
            let paper =
                self.find_or_insert(&limit.paper, policy.lookup(limit, &limit.paper, class));
            match paper.take(class.cost, max) {
                Take::Taken(_) => {
                    limit.real.scope.would_admit.fetch_add(1, Ordering::Relaxed);
                    permit.cells.push(paper);
                    return;
                }
                Take::Full(_) => {
                    limit
                        .real
                        .scope
                        .would_reject
                        .fetch_add(1, Ordering::Relaxed);
                    permit
                        .would_reject
                        .get_or_insert_with(|| Arc::clone(&limit.name));
                    return;
                }
                Take::Dead => {}
            }
        }
    }

    fn take_of_account(&self, permit: &mut Permit, policy: &Policy, class: &Class) -> u32 {
        loop {
            let cell = self.find_or_insert(&self.accounts, self.account_lookup(policy, class));
            match cell.take(1, u32::MAX) {
                Take::Taken(in_flight) => {
                    permit.account = Some(cell);
                    return in_flight;
                }
                Take::Full(in_flight) => return in_flight,
                Take::Dead => {}
            }
        }
    }

    fn reject(
        &self,
        policy: &Policy,
        limit: &Limit,
        class: &Class,
        max: u32,
        in_flight: u32,
    ) -> Decision {
        let Step::Reject { status } = limit.settings.ladder.last();
        // Places come free at in_flight / hold a second; a closed limit or one without history says nothing.
        let missing = f64::from(in_flight) + f64::from(class.cost) - f64::from(max);
        let drain_seconds =
            limit.real.scope.mean_hold_seconds() * missing / f64::from(in_flight.max(1));
        Decision::Reject(Box::new(Rejection {
            reason: Reason::LimitReached,
            limit: Arc::clone(&limit.name),
            status,
            max,
            in_flight,
            account_in_flight: self.account_in_flight(policy, class),
            drain_seconds,
        }))
    }

    /// What an account has in flight.
    #[must_use]
    pub fn account_in_flight(&self, policy: &Policy, class: &Class) -> u32 {
        let lookup = self.account_lookup(policy, class);
        self.lookup_cell(&lookup)
            .map_or(0, |cell| cell.count.in_flight())
    }

    /// What the key of this class has in flight under one limit.
    #[must_use]
    pub fn in_flight(&self, policy: &Policy, limit: &Limit, class: &Class) -> u32 {
        let cell = self.find(policy, limit, &limit.real, class);
        cell.map_or(0, |cell| cell.count.in_flight())
    }

    fn account_lookup<'a>(&'a self, policy: &'a Policy, class: &'a Class) -> Lookup<'a> {
        let scope = self.accounts.scope.id;
        Lookup {
            scope,
            dimensions: &[Dimension::Account],
            class,
            labels: &policy.labels,
        }
    }

    fn find(
        &self,
        policy: &Policy,
        limit: &Limit,
        counting: &Counting,
        class: &Class,
    ) -> Option<Arc<Cell>> {
        if let Some(only) = &counting.only {
            return Some(Arc::clone(only));
        }
        self.lookup_cell(&policy.lookup(limit, counting, class))
    }

    fn find_or_insert(&self, counting: &Counting, lookup: Lookup<'_>) -> Arc<Cell> {
        if let Some(only) = &counting.only {
            return Arc::clone(only);
        }
        self.lookup_cell(&lookup)
            .unwrap_or_else(|| self.insert(counting, lookup))
    }

    fn lookup_cell(&self, lookup: &Lookup<'_>) -> Option<Arc<Cell>> {
        let hash = lookup.hash();
        let cached = CACHE.try_with(|cache| {
            let cache = cache.borrow();
            let cell = cache[slot(hash)].as_ref()?;
            (cell.hash == hash && cell.key.matches(lookup) && !cell.count.is_dead())
                .then(|| Arc::clone(cell))
        });
        if let Ok(Some(cell)) = cached {
            return Some(cell);
        }
        let shard = self.shard(hash).lock();
        let cell = shard
            .by_key
            .find(hash, |cell| cell.hash == hash && cell.key.matches(lookup))?;
        let cell = Arc::clone(cell);
        drop(shard);
        remember(&cell);
        Some(cell)
    }

    fn insert(&self, counting: &Counting, lookup: Lookup<'_>) -> Arc<Cell> {
        let hash = lookup.hash();
        let mut shard = self.shard(hash).lock();
        let known = shard
            .by_key
            .find(hash, |cell| cell.hash == hash && cell.key.matches(&lookup));
        if let Some(cell) = known {
            let cell = Arc::clone(cell);
            drop(shard);
            remember(&cell);
            return cell;
        }
        let cell = Arc::new(Cell {
            count: Count::new(),
            hash,
            id: next_cell_id(),
            key: lookup.to_key(),
            scope: Arc::clone(&counting.scope),
            used: AtomicBool::new(true),
        });
        shard
            .by_key
            .insert_unique(hash, Arc::clone(&cell), |cell| cell.hash);
        shard.by_age.push_back(Arc::clone(&cell));
        if shard.by_age.len() > IDLE_CELLS_MAX / SHARDS {
            shard.evict_oldest();
        }
        drop(shard);
        remember(&cell);
        cell
    }

    /// By bits in the middle: the table inside a shard tells its entries apart by the lowest bits and the top seven,
    /// which must not be the same for all of them.
    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    /// Removes cells that nobody has used since the last sweep. To be called once a second.
    pub fn sweep(&self) {
        for shard in &self.shards {
            shard.lock().sweep();
        }
    }

    /// Begins the next interval of every cell's peak. To be called every six seconds.
    pub fn turn_peaks(&self, policy: &Policy) {
        self.each_cell(|cell| cell.count.turn_peak());
        let only = policy
            .limits
            .iter()
            .filter_map(|limit| limit.real.only.as_deref());
        only.for_each(|cell| cell.count.turn_peak());
    }

    /// Visits every cell outside the policy, shard by shard.
    pub(super) fn each_cell(&self, mut visit: impl FnMut(&Cell)) {
        for shard in &self.shards {
            shard.lock().by_age.iter().for_each(|cell| visit(cell));
        }
    }

    /// What each cell with something in flight counts, by cell id: the auditor's one side.
    pub fn counts(&self, policy: &Policy, mut visit: impl FnMut(u64, u32)) {
        let mut visit_cell = |cell: &Cell| visit(cell.id, cell.count.in_flight());
        self.each_cell(&mut visit_cell);
        let countings = policy
            .limits
            .iter()
            .flat_map(|limit| [&limit.real, &limit.paper]);
        countings
            .filter_map(|counting| counting.only.as_deref())
            .for_each(visit_cell);
    }

    /// The number of cells, in use and idle, for tests and the curious.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().by_age.len())
            .sum()
    }
}

impl Shard {
    fn evict_oldest(&mut self) {
        for _ in 0..EVICTION_LOOKS {
            let Some(cell) = self.by_age.pop_front() else {
                return;
            };
            if cell.count.kill() {
                unlink(&mut self.by_key, &cell);
            } else {
                self.by_age.push_back(cell);
            }
        }
    }

    fn sweep(&mut self) {
        let Self { by_key, by_age } = self;
        by_age.retain(|cell| {
            // One that is in use now counts as used until the next sweep: it idles from its release on.
            let is_spared = cell
                .used
                .swap(cell.count.in_flight() > 0, Ordering::Relaxed);
            let goes = !is_spared && cell.count.kill();
            if goes {
                unlink(by_key, cell);
            }
            !goes
        });
        // Room for as many again: growing back every second costs more than it saves.
        let room = 2 * by_age.len();
        by_age.shrink_to(room);
        by_key.shrink_to(room, |cell| cell.hash);
    }
}

fn unlink(by_key: &mut HashTable<Arc<Cell>>, cell: &Arc<Cell>) {
    if let Ok(entry) = by_key.find_entry(cell.hash, |known| Arc::ptr_eq(known, cell)) {
        entry.remove();
    }
}

/// A cell outside the registry, for a limit that has one key.
pub(super) fn free_cell(scope: &Arc<Scope>) -> Arc<Cell> {
    let (labels, values) = (super::policy::Labels::default(), SmallVec::new());
    let class = Class {
        account: AccountName::new(b"-").expect("a dash is a name"),
        resource: super::ResourceId(0),
        upstream: super::UpstreamId(0),
        group: None,
        priority: super::Priority::Normal,
        cost: 1,
        network: None,
        values,
    };
    let lookup = Lookup {
        scope: scope.id,
        dimensions: &[],
        class: &class,
        labels: &labels,
    };
    Arc::new(Cell {
        count: Count::new(),
        hash: 0,
        id: next_cell_id(),
        key: lookup.to_key(),
        scope: Arc::clone(scope),
        used: AtomicBool::new(true),
    })
}

fn next_cell_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low bits choose among 1024"
)]
fn slot(hash: u64) -> usize {
    hash as usize % CACHE_SLOTS
}

/// Puts a cell into this thread's cache; while the thread ends there is none.
fn remember(cell: &Arc<Cell>) {
    let _ = CACHE.try_with(|cache| cache.borrow_mut()[slot(cell.hash)] = Some(Arc::clone(cell)));
}
