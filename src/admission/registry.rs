//! All cells, in shards.
//!
//! A shard's lock is held for one lookup, and not at all when the thread's own cache knows the cell; the cache is
//! safe because a removed cell is marked dead. Memory is bounded by the work in hand: a cell that nobody uses goes
//! after one to two sweeps, and earlier, oldest first, when more than [`IDLE_CELLS_MAX`] wait for theirs. Never removes a
//! cell in use, or one that somebody waits for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use std::time::Instant;

use hashbrown::HashTable;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::cell::{Cell, Count};
use super::class::{AccountName, Class};
use super::episode::Episodes;
use super::hold::Scope;
use super::key::{Dimension, Lookup};
use super::limit::{Counting, Limit};
use super::moving::Moves;
use super::policy::Policy;
use super::renew::Renewing;
use super::sync::AtomicU32;
use super::tally::{Counted, Tally};
use super::usage::Departed;
use super::waiting::Room;

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
    pub(super) this: Weak<Self>,
    shards: Box<[Mutex<Shard>]>,
    /// The built-in count of every account, without maximum.
    pub(super) accounts: Counting,
    /// Those who wait.
    pub(super) room: Room,
    pub(super) renewing: Renewing,
    /// Who met which limit of late, for those who want to be told.
    pub episodes: Episodes,
}

/// Two cache lines apart, so that one shard's lock does not slow its neighbour's.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    by_key: HashTable<Arc<Cell>>,
    /// The same cells, oldest first.
    by_age: VecDeque<Arc<Cell>>,
    /// What is kept of accounts' cells that were here.
    departed: Departed,
}

thread_local! {
    static CACHE: RefCell<Vec<Option<Arc<Cell>>>> = RefCell::new(vec![None; CACHE_SLOTS]);
}

impl Registry {
    /// An empty registry. It is shared from the start, because permits that are given back find their way to those who
    /// wait by it.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            accounts: Counting {
                scope: Arc::new(Scope::new(Counted::InFlight)),
                only: None,
            },
            room: Room::default(),
            renewing: Renewing::default(),
            episodes: Episodes::default(),
        })
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
        cell.map_or(0, |cell| limit.places(cell.count.in_flight()))
    }

    pub(super) fn account_lookup<'a>(&'a self, policy: &'a Policy, class: &'a Class) -> Lookup<'a> {
        let scope = self.accounts.scope.id;
        Lookup {
            scope,
            dimensions: &[Dimension::Account],
            class,
            labels: &policy.labels,
        }
    }

    pub(super) fn find(
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

    pub(super) fn find_or_insert(&self, counting: &Counting, lookup: Lookup<'_>) -> Arc<Cell> {
        if let Some(only) = &counting.only {
            return Arc::clone(only);
        }
        self.lookup_cell(&lookup)
            .unwrap_or_else(|| self.insert(counting, lookup))
    }

    fn lookup_cell(&self, lookup: &Lookup<'_>) -> Option<Arc<Cell>> {
        let hash = lookup.hash();
        // The model checker runs its threads on one of the machine's, where they would share a cache.
        let cached = if cfg!(feature = "loom") {
            None
        } else {
            cached(lookup, hash)
        };
        if let Some(cell) = cached {
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
            tally: Tally::new(counting.scope.counted),
            used: AtomicBool::new(true),
            note: AtomicU32::new(0),
            refused: std::sync::atomic::AtomicU16::new(0),
        });
        shard
            .by_key
            .insert_unique(hash, Arc::clone(&cell), |cell| cell.hash);
        shard.by_age.push_back(Arc::clone(&cell));
        if shard.by_age.len() > IDLE_CELLS_MAX / SHARDS {
            shard.evict_oldest(self.accounts.scope.id);
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
    pub fn sweep(&self, now: Instant) {
        for shard in &self.shards {
            shard.lock().sweep(now, self.accounts.scope.id);
        }
    }

    /// Begins the next interval of every cell's peak. To be called every six seconds.
    pub fn turn_peaks(&self, policy: &Policy) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.by_age.iter().for_each(|cell| cell.turn());
            // Under the same lock: a cell and what is kept of it are in the same interval at any moment.
            shard.departed.turn();
        }
        let only = policy
            .every_limit()
            .flat_map(|limit| [&limit.real.only, &limit.paper.only])
            .flatten();
        only.for_each(|cell| cell.turn());
        let follows = |limit: &&Limit| matches!(limit.settings.moves, Some(Moves::Follow(_)));
        self.serve_risen(policy.limits.iter().filter(follows));
    }

    /// Visits every cell outside the policy, shard by shard.
    pub(super) fn each_cell(&self, mut visit: impl FnMut(&Cell)) {
        self.each_shard(|cells, _| cells.iter().for_each(|cell| visit(cell)));
    }

    /// Visits shard by shard the cells outside the policy, and what is kept of those that are gone.
    pub(super) fn each_shard(&self, mut visit: impl FnMut(&VecDeque<Arc<Cell>>, &Departed)) {
        for shard in &self.shards {
            let shard = shard.lock();
            visit(&shard.by_age, &shard.departed);
        }
    }

    /// What each cell with something in flight counts, by cell id: the auditor's one side.
    pub fn counts(&self, policy: &Policy, mut visit: impl FnMut(u64, u32)) {
        let mut visit_cell = |cell: &Cell| {
            // What time gives back is not what permits hold.
            if !cell
                .tally
                .as_ref()
                .is_some_and(|tally| tally.counts_started())
            {
                visit(cell.id, cell.count.in_flight());
            }
        };
        self.each_cell(&mut visit_cell);
        let countings = policy
            .every_limit()
            .flat_map(|limit| [&limit.real, &limit.paper]);
        countings
            .filter_map(|counting| counting.only.as_deref())
            .for_each(&mut visit_cell);
        let shares = policy.limits.iter().flat_map(|limit| &limit.shares);
        shares.for_each(|cell| visit_cell(cell));
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
    /// Removes idle cells from the old end; `accounts` is the scope of the accounts' own cells.
    fn evict_oldest(&mut self, accounts: u64) {
        for _ in 0..EVICTION_LOOKS {
            let Some(cell) = self.by_age.pop_front() else {
                return;
            };
            if cell.tally.is_none() && cell.count.kill() {
                unlink(&mut self.by_key, &cell, &mut self.departed, accounts);
            } else {
                self.by_age.push_back(cell);
            }
        }
    }

    fn sweep(&mut self, now: Instant, accounts: u64) {
        let Self {
            by_key,
            by_age,
            departed,
        } = self;
        by_age.retain(|cell| {
            // One that is in use now counts as used until the next sweep: it idles from its release on.
            let is_spared = cell
                .used
                .swap(cell.count.in_flight() > 0, Ordering::Relaxed);
            let goes = !is_spared && cell.kill(now);
            if goes {
                unlink(by_key, cell, departed, accounts);
            }
            !goes
        });
        // Room for as many again: growing back every second costs more than it saves.
        let room = 2 * by_age.len();
        by_age.shrink_to(room);
        by_key.shrink_to(room, |cell| cell.hash);
    }
}

/// Takes a dead cell out of the table, and keeps the peaks of an account's own.
fn unlink(
    by_key: &mut HashTable<Arc<Cell>>,
    cell: &Arc<Cell>,
    departed: &mut Departed,
    accounts: u64,
) {
    if cell.key.scope() == accounts {
        departed.note(cell);
    }
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
        learner: None,
        is_retry: false,
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
        tally: Tally::new(scope.counted),
        used: AtomicBool::new(true),
        note: AtomicU32::new(0),
        refused: std::sync::atomic::AtomicU16::new(0),
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

/// The cell as this thread remembers it.
fn cached(lookup: &Lookup<'_>, hash: u64) -> Option<Arc<Cell>> {
    let known = CACHE.try_with(|cache| {
        let cache = cache.borrow();
        let cell = cache[slot(hash)].as_ref()?;
        (cell.hash == hash && cell.key.matches(lookup) && !cell.count.is_dead())
            .then(|| Arc::clone(cell))
    });
    known.ok().flatten()
}

/// Puts a cell into this thread's cache; while the thread ends there is none.
fn remember(cell: &Arc<Cell>) {
    let _ = CACHE.try_with(|cache| cache.borrow_mut()[slot(cell.hash)] = Some(Arc::clone(cell)));
}
