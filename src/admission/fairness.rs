//! Who goes next among those that wait for one cell.
//!
//! Service times are unknown and *occupancy* is what is limited, so the next is the account with the smallest
//! `(in flight + cost) / weight`, and among equals the one that was served longest ago, as in round robin: max-min fairness over
//! what is really held, without a guess or a correction (compare the virtual finish times of Kubernetes' Priority and
//! Fairness, KEP-1040). Ties are the rule where there are about as many accounts as places: by waiting time, an account that asks
//! for less than its share would stand behind all that always wait. One that nobody knows counts as served when it came, so
//! that fresh accounts do not overtake those that wait.
//!
//! What is held at the moment says little of an account whose requests come in bursts. So of one that lately held less than its part
//! up to four requests do not count, until it has had its part or waits no longer: see [`Lately`](super::lately::Lately). It is a warp
//! that is bounded, as in borrowed-virtual-time scheduling (Duda and Cheriton, SOSP 1999), and that is earned as
//! compensation tickets are (Waldspurger and Weihl, OSDI 1994): by having used less. Nobody goes before one that holds nothing and
//! was served earlier. Where an account stands is looked at when it asks, is served or gives back, and when it is about to be
//! first; credit is only lost in between, so nobody stands further back than is right.
//!
//! Where time gives places back, holding says nothing: work that is over still counts, or work that goes on does not. There turns go
//! by what was let in for its weight, from where all stand when an account begins to wait (start-time fair queueing: Goyal, Vin
//! and Cheng, SIGCOMM 1996; one that begins to wait stands where it would if it had just been served, so nothing has to be
//! remembered of those that do not wait).
//!
//! Guaranteed shares go first, then priorities by a fixed schedule, so that a lower one is slowed and never starved. Every step costs a
//! logarithm of the number of waiting accounts; nothing is scanned. Who has to go when a line is full is decided here too: the
//! last in turn of the account that has most in line for its weight. Knows no cells and no locks: what an account holds is asked
//! from whoever calls.

use super::class::Priority;
use super::flows::{Entry, Flows, Owner, length_of, ratio};
use super::order::Order;

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

/// Every so many grants of a priority go to whoever has waited longest of those that hold no more than their part, so that fresh
/// accounts, heavy ones and cheap requests cannot starve the others. Grants are not what is limited: without that condition an
/// account whose work takes long, which is nearly always the oldest, would be lifted far above its part.
const OLDEST_EVERY: u32 = 8;
/// How often a request that needs more places than are free is passed by others; then freed places are saved for it.
const PASSES_MAX: u32 = 16;
/// Accounts looked at for a request that fits, when the first in turn does not.
const LOOKS_MAX: usize = 16;
/// The next one, and the one that was passed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) flow: usize,
    pub(super) id: usize,
    pub(super) serial: u64,
    /// The flow that would have gone before it, but for its costs; and by how many it was passed.
    passed: Option<(usize, u32)>,
}

/// Whether a request's places are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Now,
    /// Once others have given theirs back.
    Later,
    /// It needs more than there are: the maximum was lowered while it waited.
    Never,
}

impl Pick {
    fn of(flow: usize, entry: Entry) -> Self {
        Self {
            flow,
            id: entry.id,
            serial: entry.serial,
            passed: None,
        }
    }
}

impl<P> Flows<P> {
    /// Who goes next: the first in turn that `fits`. So many places are `taken` of the cell.
    pub(super) fn next(
        &mut self,
        taken: u32,
        occupied: impl Fn(&P) -> u32,
        fits: impl Fn(usize) -> Fit,
        is_unmet: impl Fn(usize) -> bool,
    ) -> Option<Pick> {
        if let Some((flow, _)) = self.saving {
            let entry = self.turn_entry(flow);
            match fits(entry.id) {
                Fit::Now => return Some(Pick::of(flow, entry)),
                Fit::Later => return None,
                Fit::Never => self.saving = None,
            }
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
            let mut passed = None;
            if !self.is_timed
                && lane.grants.wrapping_add(1).is_multiple_of(OLDEST_EVERY)
                && let Some((flow, entry)) = self.oldest(priority, taken, &occupied)
            {
                match fits(entry.id) {
                    Fit::Now => return Some(Pick::of(flow, entry)),
                    Fit::Later => passed = Some((flow, OLDEST_EVERY)),
                    Fit::Never => {}
                }
            }
            let found = self.first(
                |this| &this.lanes[priority as usize].by_turn,
                &occupied,
                &fits,
            );
            if let Some(found) = found {
                let passed = passed.or(found.passed);
                return Some(Pick { passed, ..found });
            }
        }
        None
    }

    /// The next request of the account that has waited longest, of those of a priority that hold no more than their part of the places.
    fn oldest(
        &self,
        priority: Priority,
        taken: u32,
        occupied: &impl Fn(&P) -> u32,
    ) -> Option<(usize, Entry)> {
        let by_age = self.lanes[priority as usize].by_age.iter();
        by_age.take(LOOKS_MAX).find_map(|(_, flow)| {
            let of = &self.flows[flow];
            let entry = self.turn_entry(flow);
            let all = u64::from(taken) + u64::from(entry.cost);
            let held = u64::from(occupied(&of.place));
            let is_within = held * self.weight <= all * u64::from(of.weight);
            is_within.then_some((flow, entry))
        })
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
            let longest = lane(priority).by_length.iter();
            let longer = longest
                .take_while(|&(key, _)| length_of(key) > above)
                .take(LOOKS_MAX);
            longer.map(|(_, flow)| flow).find(|flow| !is_kept(*flow))
        };
        let goes_first = lane(own).len < part(own) || is_owed_to_it;
        let others = [Priority::Low, Priority::Normal, Priority::High]
            .into_iter()
            .filter(|of| *of != own && lane(*of).len > part(*of))
            .filter(|of| goes_first || *of < own);
        let above = if is_owed_to_it {
            0
        } else {
            let known = self.of_owner(&owner.account, own);
            let waiting = known.map_or(0, |flow| self.flows[flow].entries.len() as u64);
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

    /// Notes that the pick got its places, at this place in the order of arrival; so many are `taken` of the cell with them. To be
    /// called before it is taken out.
    pub(super) fn granted(
        &mut self,
        pick: Pick,
        at: u64,
        taken: u32,
        occupied: impl Fn(&P) -> u32,
    ) {
        if let Some((at, times)) = pick.passed {
            self.flows[at].passed += times;
            if self.flows[at].passed >= PASSES_MAX {
                self.saving = Some((at, self.turn_entry(at).serial));
            }
        }
        self.saving = self.saving.filter(|(flow, _)| *flow != pick.flow);
        let cost = self.turn_entry(pick.flow).cost;
        let flow = &mut self.flows[pick.flow];
        flow.passed = 0;
        flow.served = at;
        let lane = &mut self.lanes[flow.priority as usize];
        if self.is_timed {
            lane.reached = lane.reached.max(flow.tag);
            flow.tag += ratio(u64::from(cost), flow.weight);
        }
        if let Some(lately) = &mut self.lately {
            lately.granted(flow.asking(&occupied), cost, taken, self.weight);
        }
        lane.grants = lane.grants.wrapping_add(1);
        self.grants = self.grants.wrapping_add(1);
    }

    /// The first in that order that fits.
    fn first(
        &mut self,
        order: impl Fn(&Self) -> &Order,
        occupied: &impl Fn(&P) -> u32,
        fits: &impl Fn(usize) -> Fit,
    ) -> Option<Pick> {
        // An account may have taken places since it was put here; each look puts one right.
        for _ in 0..LOOKS_MAX {
            let (turn, flow) = order(self).first()?;
            if self.turn_of(flow, occupied) == turn {
                break;
            }
            self.arrange(flow, occupied);
        }
        let mut head = None;
        for (_, flow) in order(self).iter().take(LOOKS_MAX) {
            let entry = self.turn_entry(flow);
            match fits(entry.id) {
                Fit::Now => {
                    let passed = head.map(|head| (head, 1));
                    return Some(Pick {
                        passed,
                        ..Pick::of(flow, entry)
                    });
                }
                Fit::Later => head = head.or(Some(flow)),
                Fit::Never => {}
            }
        }
        None
    }
}
