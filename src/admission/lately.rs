//! What accounts lately held of the places that a line waits for, and the credit that this gives each in its turns.
//!
//! An account that asks for less than its part on average comes in bursts, and in a burst it holds more than its part: by what is
//! held at the moment alone it would stand behind those who always wait, and its tail would be theirs. So the line keeps a
//! decaying mean of what each account held. One that begins to wait and lately held less than its part has credit: up to
//! [`CREDIT_MAX`] requests that it holds do not count in its turns, as long as it waits and its mean stays that low. So it is
//! never ahead of one that holds nothing, never ahead of others by more than that, and who always waits has none: among those
//! turns are as if there were no credit, and what accounts hold in the long run is too.
//!
//! Time is counted in places granted, so nothing reads a clock and slow work is remembered for longer. Between two events of an
//! account what it holds does not change, so the mean is exact when it is looked at. Integers only. Belongs to a line and is
//! forgotten with it: where nobody waits, nobody stands behind. Never keeps more accounts than some 40 a place, twice over.

use hashbrown::HashTable;

/// The most requests that do not count: the bursts of one that asks for half its part are seldom longer, and it is little for a flood
/// that begins.
const CREDIT_MAX: u32 = 4;
/// The whole credit is for those who held so little that this many times their distance from the part is the part: half of it.
const GAIN: u32 = 2;
/// How long it is remembered, in mean hold times: what it takes to tell a burst from an account that always asks for more. A hold time
/// is as many grants as places are taken.
const MEMORY: u64 = 20;
/// Fixed-point bits of a mean: every number of places fits beside them.
const PLACE_BITS: u32 = 32;
/// An account whose mean is so near what it holds, a sixteenth of a place, is as good as one that nobody knows.
const NEAR: u64 = 1 << (PLACE_BITS - 4);
/// Fewer accounts than this are not worth a look at who may be forgotten.
const SWEEP_MIN: usize = 64;
/// The distance from the part is measured in so many steps, of which each is one request of credit.
const STEPS: u32 = CREDIT_MAX * GAIN;

/// What one account held.
#[derive(Debug)]
struct Past {
    /// The hash of its name. Two that share one would share their past, which is at most four requests wrong.
    account: u64,
    /// Its mean up to then, in fixed point.
    mean: u64,
    /// What it holds since then.
    level: u32,
    at: u64,
}

/// What the accounts held that were let in from a line, or gave places back while others waited.
#[derive(Debug)]
pub(super) struct Lately {
    pasts: HashTable<Past>,
    /// Places granted so far: the time.
    now: u64,
    /// Places taken of the cell when the last were granted. It is full then; in between it lacks what is about to be given on.
    taken: u32,
    /// Those that may be forgotten are looked for when there are so many.
    sweep_at: usize,
}

/// One that waits for its turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking {
    pub(super) account: u64,
    pub(super) weight: u32,
    /// What it holds.
    pub(super) held: u32,
}

impl Past {
    /// The mean at a time. In each step of time it comes nearer to what is held by one part in `memory`.
    fn mean(&self, now: u64, memory: u64) -> u64 {
        let level = places(self.level);
        let keep = keep(now.saturating_sub(self.at), memory);
        let kept = |distance| product(distance, keep);
        if self.mean >= level {
            level + kept(self.mean - level)
        } else {
            level - kept(level - self.mean)
        }
    }
}

impl Lately {
    pub(super) fn new(taken: u32) -> Self {
        Self {
            pasts: HashTable::new(),
            now: 0,
            taken,
            sweep_at: SWEEP_MIN,
        }
    }

    /// How many of the requests that an account holds do not count, where all that wait together weigh so much.
    pub(super) fn credit(&self, of: Asking, weights: u64) -> u32 {
        let past = self
            .pasts
            .find(of.account, |past| past.account == of.account);
        let mean = match past {
            Some(past) => past.mean(self.now, self.memory()),
            None => self.first_mean(of, of.held, weights),
        };
        // The part is that, divided by all weights; each comparison is multiplied by them instead.
        let part = u128::from(self.taken) * u128::from(of.weight);
        let mean = u128::from(mean) * u128::from(STEPS) * u128::from(weights);
        let is_below = |steps: u32| mean <= (part * u128::from(STEPS - steps)) << PLACE_BITS;
        let credit = (1..=CREDIT_MAX).rev().find(|steps| is_below(*steps));
        credit.unwrap_or(0)
    }

    /// What one that nobody knows lately held, who held `before` until this moment.
    ///
    /// As much, for it has not taken any of it from those who wait. But a line that is younger than its memory knows nobody, and those
    /// who always wait least of all: there it held its part, and time tells.
    fn first_mean(&self, of: Asking, before: u32, weights: u64) -> u64 {
        let held = places(before);
        if self.now >= self.memory() {
            return held;
        }
        let part = u128::from(places(self.taken)) * u128::from(of.weight);
        let part = part.div_ceil(u128::from(weights.max(1)));
        held.max(u64::try_from(part).unwrap_or(u64::MAX))
    }

    /// Notes that one that waited got so many places, and what is taken of the cell with them.
    pub(super) fn granted(&mut self, of: Asking, cost: u32, taken: u32, weights: u64) {
        self.now = self.now.saturating_add(u64::from(cost));
        self.taken = taken;
        let before = of.held.saturating_sub(cost);
        let mean = self.first_mean(of, before, weights);
        self.note(of.account, of.held, mean);
    }

    /// Notes that an account gave places back. Of one that does not wait it is not known what it holds, only what it was seen to.
    pub(super) fn returned(
        &mut self,
        account: u64,
        count: u32,
        waiting: Option<Asking>,
        weights: u64,
    ) {
        let known = self.pasts.find(account, |past| past.account == account);
        if let Some(of) = waiting {
            let before = of.held.saturating_add(count);
            let mean = self.first_mean(of, before, weights);
            self.note(account, of.held, mean);
        } else if let Some(known) = known {
            let (held, mean) = (known.level.saturating_sub(count), known.mean);
            self.note(account, held, mean);
        }
    }

    /// From this moment on an account holds so many; what it lately held, if nobody knows.
    fn note(&mut self, account: u64, held: u32, mean: u64) {
        let (now, memory) = (self.now, self.memory());
        let known = self.pasts.find_mut(account, |past| past.account == account);
        if let Some(past) = known {
            past.mean = past.mean(now, memory);
            past.level = held;
            past.at = now;
            return;
        }
        if self.pasts.len() >= self.sweep_at {
            self.sweep();
        }
        let past = Past {
            account,
            mean,
            level: held,
            at: now,
        };
        self.pasts.insert_unique(account, past, |past| past.account);
    }

    /// Forgets those of whom nothing more is known than of one that nobody knows. The means come to no more than the places, so few
    /// are left; and as it is done when they have doubled, each new one pays for a few looks.
    fn sweep(&mut self) {
        let (now, memory) = (self.now, self.memory());
        self.pasts.retain(|past| {
            let mean = past.mean(now, memory);
            mean.abs_diff(places(past.level)) > NEAR
        });
        self.sweep_at = (2 * self.pasts.len()).max(SWEEP_MIN);
    }

    /// How much time is remembered.
    fn memory(&self) -> u64 {
        MEMORY * u64::from(self.taken.max(1))
    }
}

fn places(count: u32) -> u64 {
    u64::from(count) << PLACE_BITS
}

/// What is left of a distance after so much time: (1 - 1/memory)^time, as a part of 2^64.
fn keep(time: u64, memory: u64) -> u64 {
    // By then less than the last bit is left.
    if time / memory > 64 {
        return 0;
    }
    let (mut kept, mut step, mut left) = (u64::MAX, u64::MAX - u64::MAX / memory, time);
    while left > 0 {
        if left & 1 == 1 {
            kept = product(kept, step);
        }
        step = product(step, step);
        left >>= 1;
    }
    kept
}

/// That part of a number.
fn product(of: u64, part: u64) -> u64 {
    let product = u128::from(of) * u128::from(part);
    // The high half of a product of two halves.
    (product >> 64) as u64
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ME: u64 = 7;
    const OTHER: u64 = 8;

    fn of(account: u64, held: u32) -> Asking {
        Asking {
            account,
            weight: 1,
            held,
        }
    }

    fn asking(held: u32) -> Asking {
        of(ME, held)
    }

    /// A line before 32 places in which nothing has happened, for so many mean hold times.
    fn line(age: u32) -> Lately {
        let mut lately = Lately::new(32);
        pass(&mut lately, age);
        lately
    }

    fn pass(lately: &mut Lately, hold_times: u32) {
        for _ in 0..32 * hold_times {
            lately.granted(of(OTHER, 1), 1, 32, 2);
        }
    }

    fn exact(mean: u64) -> f64 {
        mean as f64 / places(1) as f64
    }

    proptest! {
        // G2: what is integrated at events is what small steps come to, whenever it is looked at.
        #[test]
        fn the_mean_is_that_of_small_steps(
            taken in 1..60_u32,
            events in prop::collection::vec((0..200_u32, 0..9_u32), 1..40),
        ) {
            let mut lately = Lately::new(taken);
            let (mut held, mut mean) = (0, None);
            for (others, now) in events {
                // Others are let in one by one; then the account gets places, or gives some back.
                let cost = now.saturating_sub(held);
                for _ in 0..others {
                    lately.granted(of(OTHER, 0), 1, taken, 2);
                }
                let memory = 20.0 * f64::from(taken);
                let time = if mean.is_some() { others + cost } else { 0 };
                let is_young = others + cost < 20 * taken;
                let first = if is_young { f64::from(taken) / 2.0 } else { 0.0 };
                let value = mean.get_or_insert(first);
                for _ in 0..time {
                    *value += (f64::from(held) - *value) / memory;
                }
                if now > held {
                    lately.granted(asking(now), cost, taken, 2);
                } else {
                    lately.returned(ME, held - now, Some(asking(now)), 2);
                }
                held = now;
                let seen = lately.pasts.find(ME, |past| past.account == ME);
                let seen = exact(seen.unwrap().mean(lately.now, lately.memory()));
                prop_assert!((seen - *value).abs() < 1e-6, "{seen} and not {value}");
            }
        }

        // G2: whatever happens, no more is given than the most, and nothing overflows.
        #[test]
        fn the_credit_has_bounds(
            taken in any::<u32>(),
            events in prop::collection::vec((any::<u32>(), any::<u32>(), any::<bool>()), 0..20),
            (weight, others, held) in (1..=u32::MAX, any::<u32>(), any::<u32>()),
        ) {
            // As many flows as there may be waiters, each with the greatest weight.
            let all = u64::from(weight) + u64::from(others) * (1 << 20);
            let mut lately = Lately::new(taken);
            for (count, held, is_grant) in events {
                if is_grant {
                    lately.granted(Asking { weight, ..asking(held) }, count, taken, all);
                } else {
                    lately.returned(ME, count, Some(Asking { weight, ..asking(held) }), all);
                }
            }
            let of = Asking { weight, ..asking(held) };
            prop_assert!(lately.credit(of, all) <= CREDIT_MAX);
        }
    }

    // G2: all of it at half the part or less, none at the part or more, and whole requests between.
    #[test]
    fn credit_grows_as_less_was_held() {
        let credit = |held| line(20).credit(asking(held), 2);
        // Two that wait for 32 places: a part is 16.
        let credits = [0, 8, 9, 10, 11, 12, 13, 14, 15, 16, 32].map(credit);
        assert_eq!(credits, [4, 4, 3, 3, 2, 2, 1, 1, 0, 0, 0]);
    }

    // G2: a weight makes the part greater, and so the credit.
    #[test]
    fn credit_is_by_weight() {
        let of = Asking {
            weight: 3,
            ..asking(12)
        };
        assert_eq!(line(20).credit(of, 4), 4);
        assert_eq!(line(20).credit(asking(12), 4), 0);
    }

    // G2: who is unknown because everybody is has no credit.
    #[test]
    fn a_young_line_gives_nothing_on_trust() {
        assert_eq!(line(0).credit(asking(0), 2), 0);
        assert_eq!(line(19).credit(asking(0), 2), 0);
        assert_eq!(line(20).credit(asking(0), 2), 4);
        let mut known = line(0);
        known.granted(asking(1), 1, 32, 2);
        let mut credits = Vec::new();
        for _ in 0..4 {
            credits.push(known.credit(asking(1), 2));
            pass(&mut known, 5);
        }
        // It began with 16, and holds 1.
        assert_eq!(credits, [0, 1, 2, 3]);
    }

    // G2: an account that held its part until a moment ago has no credit, and one that did long ago has.
    #[test]
    fn what_was_held_is_remembered_for_some_hold_times() {
        let mut lately = line(20);
        lately.returned(ME, 16, Some(asking(0)), 2);
        let mut credits = Vec::new();
        for _ in 0..5 {
            credits.push(lately.credit(asking(0), 2));
            pass(&mut lately, 4);
        }
        // Of 16 are left 16, 13.1, 10.7, 8.8 and 7.2.
        assert_eq!(credits, [0, 1, 2, 3, 4]);
    }

    // One that does not wait is told what it gave back, not what it holds.
    #[test]
    fn what_is_given_back_by_one_that_does_not_wait_counts() {
        let mut lately = Lately::new(32);
        lately.returned(ME, 1, None, 2);
        assert!(lately.pasts.is_empty(), "nobody knows what it held");
        lately.granted(asking(20), 20, 32, 2);
        lately.returned(ME, 20, None, 2);
        pass(&mut lately, 200);
        assert_eq!(lately.credit(asking(20), 32), 4, "it holds nothing by now");
    }

    // However many accounts come by, few are kept.
    #[test]
    fn accounts_that_faded_are_forgotten() {
        let mut lately = Lately::new(32);
        for account in 0..100_000 {
            lately.granted(of(1_000 + account, 1), 1, 32, 17);
            lately.returned(1_000 + account, 1, None, 17);
            assert!(lately.pasts.len() <= 2 * 40 * 32 + SWEEP_MIN);
        }
    }
}
