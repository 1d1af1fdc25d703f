//! Counting that spares: one request of several, or a limit that only holds while another one is nearly full.
//!
//! A sampled limit reads its cell for every request and writes it for one in `sample`, so that many cores meet on the cell's line
//! that much less. It is right on average: where `max` places are n samples, what is really in flight strays from it by a part
//! of about 1/√n (each of `max` requests is counted or not, independently: a binomial number). Nobody can wait for such a place.
//!
//! A limit under pressure counts always, since reading and adding cost tens of nanoseconds, and so is exact from the moment at which
//! it begins to hold; below its threshold it refuses nobody. Never draws chance or looks at another limit where neither is asked for.

use super::class::Class;
use super::limit::Limit;
use super::policy::Policy;
use super::registry::Registry;

/// When a limit holds: while so much of another one is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// The other limit's place among the limits.
    pub limit: u16,
    /// Percent of the other's places.
    pub percent: u32,
}

impl Limit {
    /// Whether this request is one of those that are counted.
    #[inline]
    pub(super) fn is_sampled(&self) -> bool {
        self.settings.sample <= 1 || fastrand::u32(..self.settings.sample) == 0
    }

    /// How many of so many places are counted.
    #[inline]
    fn samples(&self, places: u32) -> u32 {
        match self.settings.sample {
            0 | 1 => places,
            sample => places.div_ceil(sample),
        }
    }

    /// How many places so many samples stand for.
    #[inline]
    pub(super) fn places(&self, samples: u32) -> u32 {
        samples.saturating_mul(self.settings.sample.max(1))
    }
}

impl Registry {
    /// How many samples a limit has for a class now: of its `usual` places, or of those that a retry budget leaves; as many as it likes
    /// while there is no pressure.
    #[inline]
    pub(super) fn samples_for(
        &self,
        policy: &Policy,
        limit: &Limit,
        class: &Class,
        usual: impl FnOnce() -> u32,
    ) -> u32 {
        let max = match limit.settings.pressure {
            Some(pressure) if !self.is_pressed(policy, pressure, class) => u32::MAX,
            _ => self.budget(policy, limit, class).unwrap_or_else(usual),
        };
        limit.samples(max)
    }

    fn is_pressed(&self, policy: &Policy, pressure: Pressure, class: &Class) -> bool {
        let Some(other) = policy.limits.get(usize::from(pressure.limit)) else {
            return true;
        };
        let cell = self.find(policy, other, &other.real, class);
        let max = other.max_of(class, cell.as_deref());
        let taken = cell.map_or(0, |cell| other.places(cell.count.in_flight()));
        u64::from(taken) * 100 >= u64::from(max) * u64::from(pressure.percent)
    }
}
