//! Who goes next among those that wait for one cell.
//!
//! Service times are unknown and *occupancy* is what is limited, so the next is the account with the smallest
//! `(in flight + cost) / weight`, ties by waiting time: max-min fairness over what is really held, without a guess or a
//! correction (compare the virtual finish times of Kubernetes' Priority and Fairness, KEP-1040). Guaranteed shares go
//! first, then priorities by a fixed schedule, so that a lower one is slowed and never starved. Every step costs a
//! logarithm of the number of waiting accounts; nothing is scanned. Who has to go when a line is full is decided here too: the
//! last in turn of the account that has most in line for its weight. Knows no cells and no locks: what an account holds is asked
//! from whoever calls.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashMap;
use slab::Slab;

use super::class::{AccountName, Priority};

/// Whose turn it is, by grant: while all wait, of ten grants seven are high, two normal, one low.
const SCHEDULE: [Priority; 10] = {
    use Priority::{High, Low, Normal};
    [
        High, High, Normal, High, High, Low, High, Normal, High, High,
    ]
};
/// Of ten places in a full line, how many are a priority's own: as many as of ten grants.
const fn places_of(priority: Priority) -> u32 {
    let (mut count, mut at) = (0, 0);
    while at < SCHEDULE.len() {
        if SCHEDULE[at] as usize == priority as usize {
            count += 1;
        }
        at += 1;
    }
    count
}
/// Every so many grants of a priority go to whoever has waited longest, so that fresh accounts, which hold nothing, cannot
/// starve one that does.
const OLDEST_EVERY: u32 = 8;
/// How often a request that needs more places than are free is passed by smaller ones; then freed places are saved for it.
const PASSES_MAX: u32 = 16;
/// Accounts looked at for a request that fits, when the first in turn does not.
const LOOKS_MAX: usize = 16;
/// Fixed-point bits of the ratio of places to weight: with weights up to 1,000 it still orders single places.
const RATIO_BITS: u32 = 16;

/// A position in the order of turns: ratio, arrival of the account's first waiter, flow.
type Turn = (u64, u64, usize);

/// One waiting request, as far as its turn is concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Its place in the order of arrival.
    pub(super) serial: u64,
    /// What its owner calls it.
    pub(super) id: usize,
    pub(super) cost: u32,
}

/// The waiting requests of one account and priority.
#[derive(Debug)]
pub(super) struct Flow<P> {
    account: AccountName,
    priority: Priority,
    weight: u32,
    /// The guarantee that it falls under.
    share: Option<usize>,
    /// Where its occupancy is read.
    place: P,
    /// In the order of arrival.
    entries: VecDeque<Entry>,
    turn: (u64, u64),
    age: u64,
    /// How many wait for its weight, and the arrival of the newest.
    length: (u64, u64),
    passed: u32,
}

/// Whom a flow belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) account: AccountName,
    pub(super) priority: Priority,
    pub(super) weight: u32,
    pub(super) share: Option<usize>,
}

/// The next one, and the one that was passed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) flow: usize,
    pub(super) id: usize,
    pub(super) serial: u64,
    passed: Option<usize>,
}

#[derive(Debug, Default)]
struct Lane {
    by_turn: BTreeSet<Turn>,
    by_age: BTreeSet<(u64, usize)>,
    by_length: BTreeSet<(u64, u64, usize)>,
    grants: u32,
    len: u32,
}

/// Those who fall under one guarantee.
#[derive(Debug, Default)]
struct Share {
    by_turn: BTreeSet<Turn>,
    len: u32,
}

/// All that wait for one cell.
#[derive(Debug)]
pub(super) struct Flows<P> {
    flows: Slab<Flow<P>>,
    by_owner: HashMap<(AccountName, Priority), usize, ahash::RandomState>,
    lanes: [Lane; 3],
    shares: Vec<Share>,
    grants: usize,
    len: u32,
    /// The flow for which freed places are saved, because it was passed so often.
    saving: Option<usize>,
    /// The last to come goes first within an account.
    pub(super) is_newest_first: bool,
}

impl<P> Default for Flows<P> {
    fn default() -> Self {
        Self {
            flows: Slab::new(),
            by_owner: HashMap::default(),
            lanes: Default::default(),
            shares: Vec::new(),
            grants: 0,
            len: 0,
            saving: None,
            is_newest_first: false,
        }
    }
}

impl<P> Flows<P> {
    /// How many requests wait.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// How many requests of an account wait.
    pub(super) fn waiting_of(&self, account: &AccountName) -> usize {
        let of = |priority| self.by_owner.get(&(*account, priority));
        let flows = [Priority::Low, Priority::Normal, Priority::High].map(of);
        let flows = flows.into_iter().flatten();
        flows.map(|&flow| self.flows[flow].entries.len()).sum()
    }

    /// Adds a request; gives the flow that it waits in.
    pub(super) fn push(
        &mut self,
        owner: Owner,
        entry: Entry,
        place: impl FnOnce() -> P,
        occupied: impl Fn(&P) -> u32,
    ) -> usize {
        let key = (owner.account, owner.priority);
        let flow = if let Some(&flow) = self.by_owner.get(&key) {
            self.unlink(flow);
            flow
        } else {
            let flow = self.flows.insert(Flow {
                account: owner.account,
                priority: owner.priority,
                weight: owner.weight.max(1),
                share: owner.share,
                place: place(),
                entries: VecDeque::new(),
                turn: (0, 0),
                age: 0,
                length: (0, 0),
                passed: 0,
            });
            self.by_owner.insert(key, flow);
            flow
        };
        let entries = &mut self.flows[flow].entries;
        let at = entries.partition_point(|other| other.serial < entry.serial);
        entries.insert(at, entry);
        self.len += 1;
        self.link(flow, &occupied);
        self.measure(flow, |len| len + 1);
        flow
    }

    /// Takes a request out; of no effect if it is not there.
    pub(super) fn remove(&mut self, flow: usize, serial: u64, occupied: impl Fn(&P) -> u32) {
        let Some(found) = self.flows.get(flow) else {
            return;
        };
        let Ok(at) = found
            .entries
            .binary_search_by_key(&serial, |entry| entry.serial)
        else {
            return;
        };
        self.unlink(flow);
        let found = &mut self.flows[flow];
        found.entries.remove(at);
        self.len -= 1;
        self.measure(flow, |len| len - 1);
        let found = &self.flows[flow];
        if found.entries.is_empty() {
            self.saving = self.saving.filter(|saving| *saving != flow);
            let key = (found.account, found.priority);
            self.by_owner.remove(&key);
            self.flows.remove(flow);
        } else {
            self.link(flow, &occupied);
        }
    }

    /// Puts an account where it belongs after what it holds has changed.
    pub(super) fn refresh(&mut self, account: &AccountName, occupied: impl Fn(&P) -> u32) {
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            if let Some(&flow) = self.by_owner.get(&(*account, priority)) {
                self.unlink(flow);
                self.link(flow, &occupied);
            }
        }
    }

    /// Where the occupancy of a flow is read.
    pub(super) fn place(&self, flow: usize) -> Option<&P> {
        self.flows.get(flow).map(|flow| &flow.place)
    }

    /// Has the occupancy of an account's flow read elsewhere from now on, if it still waits.
    pub(super) fn replace_place(&mut self, flow: usize, account: &AccountName, place: P) {
        if let Some(found) = self.flows.get_mut(flow).filter(|of| of.account == *account) {
            found.place = place;
        }
    }

    /// Who goes next: the first in turn that `fits`.
    pub(super) fn next(
        &mut self,
        occupied: impl Fn(&P) -> u32,
        fits: impl Fn(usize) -> bool,
        is_unmet: impl Fn(usize) -> bool,
    ) -> Option<Pick> {
        if let Some(flow) = self.saving {
            let entry = self.turn_entry(flow);
            return fits(entry.id).then_some(Pick {
                flow,
                id: entry.id,
                serial: entry.serial,
                passed: None,
            });
        }
        for share in 0..self.shares.len() {
            if self.shares[share].len > 0 && is_unmet(share) {
                let found = self.first(|this| &this.shares[share].by_turn, &occupied, &fits);
                if found.is_some() {
                    return found;
                }
            }
        }
        let scheduled = SCHEDULE[self.grants % SCHEDULE.len()];
        let order = [scheduled, Priority::High, Priority::Normal, Priority::Low];
        for (index, priority) in order.into_iter().enumerate() {
            if index > 0 && priority == scheduled {
                continue;
            }
            let lane = &self.lanes[priority as usize];
            if (lane.grants + 1).is_multiple_of(OLDEST_EVERY)
                && let Some(&(serial, flow)) = lane.by_age.first()
                && let Some(entry) = self.flows[flow].entries.front()
                && fits(entry.id)
            {
                debug_assert_eq!(entry.serial, serial, "the oldest is the first of its flow");
                return Some(Pick {
                    flow,
                    id: entry.id,
                    serial,
                    passed: None,
                });
            }
            let found = self.first(
                |this| &this.lanes[priority as usize].by_turn,
                &occupied,
                &fits,
            );
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Who has to go for a newcomer where a line of this length is full: the last in turn of those who have most in line for
    /// their weight (longest queue drop: Suter, Lakshman, Stiliadis and Choudhury, Infocom 1998). `None` if the newcomer would
    /// itself be that one.
    ///
    /// First a priority that has more than its own part of the line makes way, the lowest first: for one that has less than
    /// its part, for a higher one, and for a guarantee that is not met. `is_owed` says whether a guarantee is not met by what is
    /// held and so many that wait; those who wait on one make way for nobody.
    pub(super) fn last(
        &self,
        owner: &Owner,
        length: u32,
        is_owed: impl Fn(usize, u32) -> bool,
    ) -> Option<usize> {
        let own = owner.priority;
        let lane = |priority| &self.lanes[priority as usize];
        let part = |priority| {
            let places = u64::from(length) * u64::from(places_of(priority));
            u32::try_from(places / SCHEDULE.len() as u64).unwrap_or(u32::MAX)
        };
        let waiting = |share: usize| self.shares.get(share).map_or(0, |share| share.len);
        let is_owed_to_it = owner
            .share
            .is_some_and(|share| is_owed(share, waiting(share)));
        let is_kept = |flow: usize| {
            let share = self.flows[flow].share;
            share.is_some_and(|share| is_owed(share, waiting(share).saturating_sub(1)))
        };
        let longest = |priority, above: u64| {
            let longest = lane(priority).by_length.iter().rev();
            let longer = longest
                .take_while(|(length, ..)| *length > above)
                .take(LOOKS_MAX);
            longer.map(|(.., flow)| *flow).find(|flow| !is_kept(*flow))
        };
        let goes_first = lane(own).len < part(own) || is_owed_to_it;
        let others = [Priority::Low, Priority::Normal, Priority::High]
            .into_iter()
            .filter(|of| *of != own && lane(*of).len > part(*of))
            .filter(|of| goes_first || *of < own);
        let above = if is_owed_to_it {
            0
        } else {
            let known = self.by_owner.get(&(owner.account, own));
            let waiting = known.map_or(0, |&flow| self.flows[flow].entries.len() as u64);
            ratio(waiting + 1, owner.weight)
        };
        let flow = others
            .into_iter()
            .find_map(|priority| longest(priority, 0))
            .or_else(|| longest(own, above))?;
        let entries = &self.flows[flow].entries;
        let last = if self.is_newest_first {
            entries.front()
        } else {
            entries.back()
        };
        last.map(|entry| entry.id)
    }

    /// Notes that the pick got its places. To be called before it is taken out.
    pub(super) fn granted(&mut self, pick: Pick) {
        if let Some(at) = pick.passed {
            self.flows[at].passed += 1;
            if self.flows[at].passed >= PASSES_MAX {
                self.saving = Some(at);
            }
        }
        self.saving = self.saving.filter(|saving| *saving != pick.flow);
        let flow = &mut self.flows[pick.flow];
        flow.passed = 0;
        let lane = &mut self.lanes[flow.priority as usize];
        lane.grants = lane.grants.wrapping_add(1);
        self.grants = self.grants.wrapping_add(1);
    }

    /// The first in that order that fits.
    fn first(
        &mut self,
        order: impl Fn(&Self) -> &BTreeSet<Turn>,
        occupied: &impl Fn(&P) -> u32,
        fits: &impl Fn(usize) -> bool,
    ) -> Option<Pick> {
        // An account may have taken places since it was put here; each look puts one right.
        for _ in 0..LOOKS_MAX {
            let &(ratio, serial, flow) = order(self).first()?;
            if self.turn_of(flow, occupied) == (ratio, serial) {
                break;
            }
            self.unlink(flow);
            self.link(flow, occupied);
        }
        let mut head = None;
        for &(.., flow) in order(self).iter().take(LOOKS_MAX) {
            let entry = self.turn_entry(flow);
            if fits(entry.id) {
                return Some(Pick {
                    flow,
                    id: entry.id,
                    serial: entry.serial,
                    passed: head,
                });
            }
            head = head.or(Some(flow));
        }
        None
    }

    /// The request of a flow that goes first.
    fn turn_entry(&self, flow: usize) -> Entry {
        let entries = &self.flows[flow].entries;
        let entry = if self.is_newest_first {
            entries.back()
        } else {
            entries.front()
        };
        *entry.expect("a flow without requests is taken out")
    }

    fn turn_of(&self, flow: usize, occupied: &impl Fn(&P) -> u32) -> (u64, u64) {
        let of = &self.flows[flow];
        let places = u64::from(occupied(&of.place)) + u64::from(self.turn_entry(flow).cost);
        let oldest = of.entries.front().map_or(0, |entry| entry.serial);
        (ratio(places, of.weight), oldest)
    }

    fn link(&mut self, flow: usize, occupied: &impl Fn(&P) -> u32) {
        let turn = self.turn_of(flow, occupied);
        let of = &mut self.flows[flow];
        of.turn = turn;
        of.age = turn.1;
        let lane = &mut self.lanes[of.priority as usize];
        lane.by_turn.insert((turn.0, turn.1, flow));
        lane.by_age.insert((of.age, flow));
        if let Some(share) = of.share {
            if self.shares.len() <= share {
                self.shares.resize_with(share + 1, Share::default);
            }
            self.shares[share].by_turn.insert((turn.0, turn.1, flow));
        }
    }

    fn unlink(&mut self, flow: usize) {
        let of = &self.flows[flow];
        let turn = (of.turn.0, of.turn.1, flow);
        let lane = &mut self.lanes[of.priority as usize];
        lane.by_turn.remove(&turn);
        lane.by_age.remove(&(of.age, flow));
        if let Some(share) = of.share.and_then(|share| self.shares.get_mut(share)) {
            share.by_turn.remove(&turn);
        }
    }

    /// Keeps the lengths right after a request has come or gone.
    fn measure(&mut self, flow: usize, change: impl Fn(u32) -> u32) {
        let of = &mut self.flows[flow];
        let lane = &mut self.lanes[of.priority as usize];
        lane.len = change(lane.len);
        if let Some(share) = of.share.and_then(|share| self.shares.get_mut(share)) {
            share.len = change(share.len);
        }
        lane.by_length.remove(&(of.length.0, of.length.1, flow));
        if let Some(newest) = of.entries.back() {
            of.length = (ratio(of.entries.len() as u64, of.weight), newest.serial);
            lane.by_length.insert((of.length.0, of.length.1, flow));
        }
    }
}

/// Places or requests for a weight, in fixed point.
fn ratio(count: u64, weight: u32) -> u64 {
    (count << RATIO_BITS) / u64::from(weight.max(1))
}
