//! How many places a request takes: as many as the file says, or as long work of its kind usually takes.
//!
//! A limit on what is in flight weighs long work by itself, for its places come back late. A limit on starts or completions does
//! not: there a learned cost has a report of ten seconds count as much as a hundred lookups of a tenth. What was learned is
//! read at the decision and stays with the permit, so that places are given back as they were taken. Never reads a clock.

use std::sync::Arc;
use std::time::Duration;

use super::hold::MeanHold;

/// The places that requests of one kind take.
#[derive(Debug, Clone)]
pub enum Cost {
    /// So many.
    Fixed(u32),
    /// By how long they hold them.
    Learned(Arc<LearnedCost>),
}

impl Cost {
    /// Places of a request that comes now; at least 1.
    #[must_use]
    pub fn now(&self) -> u32 {
        match self {
            Self::Fixed(cost) => *cost,
            Self::Learned(learned) => learned.now(),
        }
    }

    /// The most that a request may ever take.
    #[must_use]
    pub fn most(&self) -> u32 {
        match self {
            Self::Fixed(cost) => *cost,
            Self::Learned(learned) => learned.most,
        }
    }

    /// What learns from its requests.
    #[must_use]
    pub fn learner(&self) -> Option<Arc<LearnedCost>> {
        match self {
            Self::Fixed(_) => None,
            Self::Learned(learned) => Some(Arc::clone(learned)),
        }
    }

    /// Goes on with what an earlier configuration's cost of the same kind has learned.
    pub fn carry_on(&self, earlier: &Self) {
        if let (Self::Learned(learned), Self::Learned(earlier)) = (self, earlier) {
            learned.mean.carry_on(&earlier.mean);
        }
    }
}

/// A cost that follows the mean time for which requests hold their places.
#[derive(Debug)]
pub struct LearnedCost {
    unit: Duration,
    most: u32,
    mean: MeanHold,
}

impl LearnedCost {
    /// A place for each `unit`, and `most` at most; 1 until something was learned.
    #[must_use]
    pub fn new(unit: Duration, most: u32) -> Self {
        Self {
            unit,
            most: most.max(1),
            mean: MeanHold::default(),
        }
    }

    /// Takes note of a request that was answered, and held its places so long. What costs the most teaches no more than that: one
    /// client that reads for an hour must not make a whole kind of request dear for everybody.
    pub fn learn(&self, held: Duration) {
        let most = self.unit.saturating_mul(self.most);
        self.mean.learn(held.min(most).as_secs_f64());
    }

    fn now(&self) -> u32 {
        let units = self.mean.seconds() / self.unit.as_secs_f64();
        // A float that is out of range becomes the nearest number that there is; not a number becomes 0.
        (units.round() as u32).clamp(1, self.most)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn learned(times: &[f64]) -> Cost {
        let cost = Arc::new(LearnedCost::new(Duration::from_millis(100), 50));
        for _ in 0..2_000 {
            let at = |&time| cost.learn(Duration::from_secs_f64(time));
            times.iter().for_each(at);
        }
        Cost::Learned(cost)
    }

    // G16: a place for each unit of the mean, one at least, and no more than the bound.
    #[test]
    fn a_learned_cost_follows_the_mean_hold_time() {
        assert_eq!(learned(&[]).now(), 1);
        assert_eq!(learned(&[0.004]).now(), 1);
        assert_eq!(learned(&[1.0]).now(), 10);
        assert_eq!(learned(&[60.0]).now(), 50);
        let spoilt = learned(&[0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 3_600.0]).now();
        assert!(spoilt < 30, "{spoilt}");
        let mixed = learned(&[0.5, 1.5]).now();
        assert!((6..=14).contains(&mixed), "{mixed}");
        assert_eq!(Cost::Fixed(7).now(), 7);
    }

    // G16, G4: another configuration goes on with it, within its own bounds.
    #[test]
    fn what_was_learned_is_carried_on() {
        let other = Cost::Learned(Arc::new(LearnedCost::new(Duration::from_secs(1), 3)));
        other.carry_on(&learned(&[2.0]));
        assert_eq!(other.now(), 2);
        other.carry_on(&Cost::Fixed(9));
        assert_eq!(other.now(), 2);
    }
}
