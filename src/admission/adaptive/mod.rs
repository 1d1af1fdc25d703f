//! A limit that finds its number: raised while more in flight brings more throughput, lowered when it only brings waiting.
//!
//! It is the correlation-guarded Vegas of failsafe-go's `adaptivelimiter`, after Uber's Cinnamon, and not a gradient with a probe:
//! no request is refused to measure how fast the upstream is when idle, and the guard stops the upward drift of limits whose
//! baseline follows the queue that they let grow. Only successes with a latency and overloads teach it; what ends early, streams and
//! what its caller calls [`Outcome::Ignore`] do not. Never reads a clock, never blocks who observes, never leaves floor and ceiling.

mod control;
mod filter;
mod histogram;
#[cfg(all(test, not(feature = "loom")))]
mod tests;
mod window;
#[cfg(all(test, not(feature = "loom")))]
mod world;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::control::Control;
use self::window::Shards;
use super::permit::Outcome;

/// How an adaptive limit moves. Values that contradict each other are set right: see [`Adaptive::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdaptiveSettings {
    /// The least it may be, at least 1.
    ///
    /// Default 4: what a process with a thread a core serves on the smallest machines, and where steps of one are still
    /// smaller than the limit.
    pub floor: u32,
    /// The most it may be.
    ///
    /// Default 200 (failsafe-go): a bound on the harm if the latency says nothing, such as of an upstream that queues elsewhere.
    pub ceiling: u32,
    /// Where it begins. Default 20 (failsafe-go, Netflix): small enough not to flood, and a minute away from 100.
    pub start: u32,
    /// How often it may move. Default 1 s (failsafe-go, Cinnamon): longer than most requests take, so that a window shows the
    /// effect of the last move.
    pub window: Duration,
    /// A window with fewer samples is prolonged. Default 50 (failsafe-go, Envoy): five samples lie above a p90.
    pub samples_min: u32,
    /// Windows in the baseline latency. Default 60: a minute, so that a deployment which is slower for good counts as normal
    /// after two, while a minute of overload does not.
    pub baseline_windows: u32,
}

impl Default for AdaptiveSettings {
    fn default() -> Self {
        Self {
            floor: 4,
            ceiling: 200,
            start: 20,
            window: Duration::from_secs(1),
            samples_min: 50,
            baseline_windows: 60,
        }
    }
}

impl AdaptiveSettings {
    fn consistent(mut self) -> Self {
        self.floor = self.floor.max(1);
        self.ceiling = self.ceiling.max(self.floor);
        self.start = self.start.clamp(self.floor, self.ceiling);
        self.samples_min = self.samples_min.max(1);
        self.baseline_windows = self.baseline_windows.max(1);
        self
    }
}

/// One request that ended.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// How long the upstream took, from the permit to the response's head or last byte, whichever the caller takes always.
    pub latency: Duration,
    /// What was in flight under this limit when the request got its permit, itself included.
    pub in_flight: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// What the limit did when its last window closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdaptiveDecision {
    /// Too few samples: the window goes on.
    #[default]
    FewSamples,
    /// Hardly anything waits: raised.
    Raised,
    /// What waits is neither little nor much: held.
    Held,
    /// Less than half of it is in use, so latencies say nothing about it: held.
    Unused,
    /// At the floor or the ceiling, and would have gone beyond: held.
    AtBound,
    /// Too much waits: lowered.
    LoweredByQueue,
    /// More in flight brought no more throughput, or only latency: lowered.
    LoweredByCorrelation,
    /// Requests failed for overload: lowered.
    LoweredByOverload,
    /// More than five times what was lately in flight: lowered.
    LoweredToUse,
}

impl AdaptiveDecision {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::FewSamples,
        Self::Raised,
        Self::Held,
        Self::Unused,
        Self::AtBound,
        Self::LoweredByQueue,
        Self::LoweredByCorrelation,
        Self::LoweredByOverload,
        Self::LoweredToUse,
    ];

    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FewSamples => "few_samples",
            Self::Raised => "raised",
            Self::Held => "held",
            Self::Unused => "unused",
            Self::AtBound => "at_bound",
            Self::LoweredByQueue => "lowered_by_queue",
            Self::LoweredByCorrelation => "lowered_by_correlation",
            Self::LoweredByOverload => "lowered_by_overload",
            Self::LoweredToUse => "lowered_to_use",
        }
    }
}

/// What an adaptive limit knows, for metrics; as of the last window that closed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AdaptiveNumbers {
    /// How much may be in flight.
    pub limit: u32,
    /// The p90 of latency, smoothed over about five windows; off by at most 3.2 %. Zero before the first window.
    pub latency_short: Duration,
    /// The same over about a minute of windows, which is what it is compared with.
    pub latency_long: Duration,
    /// How many of the limit's requests are estimated to wait in the upstream; below zero when it is faster than usual.
    pub queue: i64,
    /// How in-flight and throughput moved together over the last 50 windows, −1 to 1; 0 while unknown.
    pub throughput_correlation: f64,
    /// The same for in-flight and latency.
    pub latency_correlation: f64,
    /// Standard deviation of throughput over its mean, over the last 50 windows.
    pub throughput_variation: f64,
    /// Successes in the last window.
    pub samples: u64,
    /// What came of it.
    pub decision: AdaptiveDecision,
    /// How many windows ended in each decision, in the order of [`AdaptiveDecision::ALL`].
    pub decisions: [u64; AdaptiveDecision::ALL.len()],
}

/// A limit that follows what the upstream can do. Any number of threads may observe; one closes the windows.
#[derive(Debug)]
pub struct Adaptive {
    /// Written once a window, so every core keeps its own copy of the line.
    limit: AtomicU32,
    shards: Shards,
    /// Taken by whoever closes windows or reads the numbers, never by who observes.
    control: Mutex<Control>,
}

impl Adaptive {
    /// A limit that has learned nothing yet. A floor of 0 is taken for 1, a ceiling below the floor for the floor, and a start
    /// outside for the nearer of the two.
    #[must_use]
    pub fn new(settings: AdaptiveSettings) -> Self {
        let settings = settings.consistent();
        Self {
            limit: AtomicU32::new(settings.start),
            shards: Shards::new(),
            control: Mutex::new(Control::new(settings)),
        }
    }

    /// A limit of other settings that knows what this one has learned, and is as high as its own bounds allow.
    #[must_use]
    pub fn with(&self, settings: AdaptiveSettings) -> Self {
        let control = self.control.lock().with(settings.consistent());
        Self {
            limit: AtomicU32::new(control.limit()),
            shards: Shards::new(),
            control: Mutex::new(control),
        }
    }

    /// How much may be in flight now.
    #[must_use]
    pub fn limit(&self) -> u32 {
        // Relaxed: the number stands for itself, nothing is read because of it.
        self.limit.load(Ordering::Relaxed)
    }

    /// Takes note of a request that ended.
    ///
    /// A success counts with its latency unless that is zero, which no upstream takes; an overload counts as one; the rest
    /// teaches nothing. Costs an uncontended lock on a line of this thread's own.
    pub fn observe(&self, sample: Sample) {
        match sample.outcome {
            Outcome::Success if !sample.latency.is_zero() => {
                self.shards.success(sample.latency, sample.in_flight);
            }
            Outcome::Overload => self.shards.overload(sample.in_flight),
            Outcome::Success | Outcome::Ignore => {}
        }
    }

    /// Closes the window if it is over, and gives the new limit if it changed. To be called at least once a window.
    pub fn close_window(&self, now: Instant) -> Option<u32> {
        let mut control = self.control.lock();
        self.shards.drain(control.window());
        control.close(now);
        let limit = control.limit();
        (self.limit.swap(limit, Ordering::Relaxed) != limit).then_some(limit)
    }

    /// What it knows.
    #[must_use]
    pub fn numbers(&self) -> AdaptiveNumbers {
        self.control.lock().numbers()
    }
}
