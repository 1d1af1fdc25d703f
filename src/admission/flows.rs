//! Those that wait for one cell, by account and priority, in every order that is asked for.
//!
//! Each account's requests of one priority are a *flow*. Flows are kept in the order of turns, of age and of length, by lane and by
//! guarantee; a request that comes or goes, or a place that changes hands, costs a logarithm of their number. Knows
//! nothing of who should go next: that is `fairness`.

use std::collections::VecDeque;

use hashbrown::HashTable;
use slab::Slab;

use super::class::{AccountName, Priority};
use super::lately::{Asking, Lately};
use super::order::{Key, Order, key};
use super::permit::Returned;

/// Fixed-point bits of the ratio of places to weight: with weights up to 1,000 it still orders single places.
const RATIO_BITS: u32 = 16;

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
    pub(super) account: AccountName,
    pub(super) priority: Priority,
    pub(super) weight: u32,
    /// The guarantee that it falls under.
    pub(super) share: Option<usize>,
    /// Where its occupancy is read.
    pub(super) place: P,
    /// In the order of arrival.
    pub(super) entries: VecDeque<Entry>,
    /// When it was last served, as a place in the order of arrival; if never, when its first request came.
    pub(super) served: u64,
    /// Where the account stands among those that time serves: see [`Lane::reached`].
    pub(super) tag: u64,
    /// How many requests of credit it has. What is lost is not given back while it waits.
    credit: u32,
    /// Where it stands in the order of turns, and in that of age.
    turn: Key,
    age: u64,
    pub(super) passed: u32,
}

impl<P> Flow<P> {
    /// Its account, with what that holds.
    pub(super) fn asking(&self, occupied: &impl Fn(&P) -> u32) -> Asking {
        Asking {
            account: self.account.hash(),
            weight: self.weight,
            held: occupied(&self.place),
        }
    }
}

/// Whom a flow belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) account: AccountName,
    pub(super) priority: Priority,
    pub(super) weight: u32,
    pub(super) share: Option<usize>,
}

/// Those of one priority.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// By occupancy, or by where it stands among those that time serves; then by when it was last served.
    pub(super) by_turn: Order,
    /// By the arrival of the oldest.
    pub(super) by_age: Order,
    /// By how many wait for its weight, the most first; then by the arrival of the newest, the latest first.
    pub(super) by_length: Order,
    pub(super) grants: u32,
    pub(super) len: u32,
    /// How far serving by time has come: what each account that has always waited was let in, for its weight.
    pub(super) reached: u64,
}

/// Those who fall under one guarantee.
#[derive(Debug, Default)]
pub(super) struct Share {
    pub(super) by_turn: Order,
    pub(super) len: u32,
}

/// All that wait for one cell.
#[derive(Debug)]
pub(super) struct Flows<P> {
    pub(super) flows: Slab<Flow<P>>,
    /// By the hash of the account. Names are compared in the flows, so that the table stays small enough for a near cache.
    by_owner: HashTable<usize>,
    pub(super) lanes: [Lane; 3],
    pub(super) shares: Vec<Share>,
    pub(super) grants: usize,
    pub(super) len: u32,
    /// Of all flows together.
    pub(super) weight: u64,
    /// The flow and the request for which freed places are saved, because it was passed so often.
    pub(super) saving: Option<(usize, u64)>,
    /// The last to come goes first within an account.
    pub(super) is_newest_first: bool,
    /// What they wait for is given back by time, so turns go by what was let in, and not by what is held.
    pub(super) is_timed: bool,
    /// What accounts lately held, where several share the places and turns go by what is held.
    pub(super) lately: Option<Lately>,
}

impl<P> Flows<P> {
    pub(super) fn new(is_timed: bool, lately: Option<Lately>) -> Self {
        Self {
            is_timed,
            lately,
            flows: Slab::new(),
            by_owner: HashTable::new(),
            lanes: Default::default(),
            shares: Vec::new(),
            grants: 0,
            len: 0,
            weight: 0,
            saving: None,
            is_newest_first: false,
        }
    }

    /// How many requests wait.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// How many requests of an account wait.
    pub(super) fn waiting_of(&self, account: &AccountName) -> usize {
        let flows = self.of_account(account);
        flows.map(|flow| self.flows[flow].entries.len()).sum()
    }

    /// The flows of an account: one for each of its priorities.
    fn of_account(&self, account: &AccountName) -> impl Iterator<Item = usize> {
        let found = self.by_owner.iter_hash(account.hash()).copied();
        found.filter(|&flow| self.flows[flow].account == *account)
    }

    /// The flow of an account and a priority.
    pub(super) fn of_owner(&self, account: &AccountName, priority: Priority) -> Option<usize> {
        self.of_account(account)
            .find(|&flow| self.flows[flow].priority == priority)
    }

    /// Adds a request; gives the flow that it waits in. `place` says where a new flow's occupancy is read, and when its account was last
    /// served, if that is known.
    pub(super) fn push(
        &mut self,
        owner: Owner,
        entry: Entry,
        place: impl FnOnce() -> (P, Option<u64>),
        occupied: impl Fn(&P) -> u32,
    ) -> usize {
        let flow = if let Some(flow) = self.of_owner(&owner.account, owner.priority) {
            flow
        } else {
            let weight = owner.weight.max(1);
            let (place, served) = place();
            self.weight += u64::from(weight);
            let flow = self.flows.insert(Flow {
                account: owner.account,
                priority: owner.priority,
                weight,
                share: owner.share,
                place,
                served: served.unwrap_or(entry.serial),
                entries: VecDeque::new(),
                tag: self.lanes[owner.priority as usize].reached
                    + ratio(u64::from(entry.cost), weight),
                credit: u32::MAX,
                turn: 0,
                age: 0,
                passed: 0,
            });
            let flows = &self.flows;
            let hash = |&flow: &usize| flows[flow].account.hash();
            self.by_owner
                .insert_unique(owner.account.hash(), flow, hash);
            flow
        };
        let entries = &mut self.flows[flow].entries;
        // One that comes anew is the last; only one that has waited elsewhere belongs further in front.
        if entries.back().is_none_or(|last| last.serial < entry.serial) {
            entries.push_back(entry);
        } else {
            let at = entries.partition_point(|other| other.serial < entry.serial);
            entries.insert(at, entry);
        }
        self.len += 1;
        self.arrange(flow, &occupied);
        self.measure(flow, |len| len + 1);
        flow
    }

    /// Takes a request out; of no effect if it is not there.
    pub(super) fn remove(&mut self, flow: usize, serial: u64, occupied: impl Fn(&P) -> u32) {
        let Some(found) = self.flows.get(flow) else {
            return;
        };
        // The next in turn is in front.
        let at = match found.entries.front() {
            Some(first) if first.serial == serial => Ok(0),
            _ => found
                .entries
                .binary_search_by_key(&serial, |entry| entry.serial),
        };
        let Ok(at) = at else {
            return;
        };
        let found = &mut self.flows[flow];
        found.entries.remove(at);
        if self.saving == Some((flow, serial)) {
            // Whoever comes after it has not been passed.
            self.saving = None;
            found.passed = 0;
        }
        self.len -= 1;
        self.measure(flow, |len| len - 1);
        let found = &self.flows[flow];
        if found.entries.is_empty() {
            self.weight -= u64::from(found.weight);
            let hash = found.account.hash();
            self.unlink(flow);
            if let Ok(entry) = self.by_owner.find_entry(hash, |&known| known == flow) {
                entry.remove();
            }
            self.flows.remove(flow);
        } else {
            self.arrange(flow, &occupied);
        }
    }

    /// Puts an account where it belongs after it gave places back.
    pub(super) fn refresh(&mut self, returned: &Returned, occupied: impl Fn(&P) -> u32) {
        let account = &returned.account;
        let mut flows = [None; 3];
        for flow in self.of_account(account) {
            flows[self.flows[flow].priority as usize] = Some(flow);
        }
        if let Some(lately) = &mut self.lately {
            let flow = flows.iter().flatten().next();
            let waiting = flow.map(|flow| self.flows[*flow].asking(&occupied));
            lately.returned(account.hash(), returned.places, waiting, self.weight);
        }
        for flow in flows.into_iter().flatten() {
            self.arrange(flow, &occupied);
        }
    }

    /// Where the occupancy of a flow is read.
    pub(super) fn place(&self, flow: usize) -> Option<&P> {
        self.flows.get(flow).map(|flow| &flow.place)
    }

    /// The same, to be changed.
    pub(super) fn place_mut(&mut self, flow: usize) -> Option<&mut P> {
        self.flows.get_mut(flow).map(|flow| &mut flow.place)
    }

    /// The request of a flow that goes first.
    pub(super) fn turn_entry(&self, flow: usize) -> Entry {
        let entries = &self.flows[flow].entries;
        let entry = if self.is_newest_first {
            entries.back()
        } else {
            entries.front()
        };
        *entry.expect("a flow without requests is taken out")
    }

    pub(super) fn turn_of(&self, flow: usize, occupied: &impl Fn(&P) -> u32) -> Key {
        let of = &self.flows[flow];
        if self.is_timed {
            return key(of.tag, of.served);
        }
        let (held, cost) = (occupied(&of.place), self.turn_entry(flow).cost);
        let uncounted = u64::from(self.credit(of, occupied)) * u64::from(cost);
        let places = u64::from(held).saturating_sub(uncounted) + u64::from(cost);
        key(ratio(places, of.weight), of.served)
    }

    /// What is left of a flow's credit.
    fn credit(&self, of: &Flow<P>, occupied: &impl Fn(&P) -> u32) -> u32 {
        let Some(lately) = self.lately.as_ref().filter(|_| of.credit > 0) else {
            return 0;
        };
        lately
            .credit(of.asking(occupied), self.weight)
            .min(of.credit)
    }

    /// Puts a flow where it belongs now. Most changes leave one of its places as it was, and a step in a crowd is made of little else.
    pub(super) fn arrange(&mut self, flow: usize, occupied: &impl Fn(&P) -> u32) {
        let turn = self.turn_of(flow, occupied);
        let credit = self.credit(&self.flows[flow], occupied);
        let of = &mut self.flows[flow];
        of.credit = credit;
        let age = of.entries.front().map_or(0, |entry| entry.serial);
        let lane = &mut self.lanes[of.priority as usize];
        if age != of.age {
            of.age = age;
            lane.by_age.set(flow, key(0, age));
        }
        if turn == of.turn {
            return;
        }
        of.turn = turn;
        lane.by_turn.set(flow, turn);
        if let Some(share) = of.share {
            if self.shares.len() <= share {
                self.shares.resize_with(share + 1, Share::default);
            }
            self.shares[share].by_turn.set(flow, turn);
        }
    }

    fn unlink(&mut self, flow: usize) {
        let of = &self.flows[flow];
        let lane = &mut self.lanes[of.priority as usize];
        lane.by_turn.remove(flow);
        lane.by_age.remove(flow);
        lane.by_length.remove(flow);
        if let Some(share) = of.share.and_then(|share| self.shares.get_mut(share)) {
            share.by_turn.remove(flow);
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
        if let Some(newest) = of.entries.back() {
            lane.by_length.set(
                flow,
                longest_first(of.entries.len(), of.weight, newest.serial),
            );
        }
    }
}

/// The key of a flow in which so many wait.
fn longest_first(len: usize, weight: u32, newest: u64) -> Key {
    !key(ratio(len as u64, weight), newest)
}

/// How many wait for its weight, by the key of a flow.
pub(super) fn length_of(longest_first: Key) -> u64 {
    (!longest_first >> 64) as u64
}

/// Places or requests for a weight, in fixed point.
pub(super) fn ratio(count: u64, weight: u32) -> u64 {
    (count << RATIO_BITS) / u64::from(weight.max(1))
}
