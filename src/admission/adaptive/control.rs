//! The rule: what a window that closed means for the limit.
//!
//! The queue in the upstream is estimated from how much slower it is than usual, as TCP Vegas does. That alone drifts: the usual
//! slows with the queue. So the rule also asks whether more in flight went with more throughput or with more latency.
//! Never moves by more than a step a window, and never on a window that says nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::filter::{Average, History, Point, Smooth};
use super::window::Window;
use super::{AdaptiveDecision, AdaptiveNumbers, AdaptiveSettings};

/// The latency of a window is the one that this share of its requests do not exceed: the tail shows a queue before the mean does,
/// and at 50 samples a p90 still has five above it (failsafe-go).
const QUANTILE: f64 = 0.9;
/// Windows in the smoothed latency (failsafe-go): as many as the median looks at.
const SHORT_WINDOWS: u32 = 5;
/// Windows in the correlations (failsafe-go): some 50 moves, which is a limit of 100 going up and down by half.
const CORRELATION_WINDOWS: usize = 50;
/// Fewer than this many steps waiting: raise; more than that many: lower (Netflix' Vegas, failsafe-go).
const ALPHA: f64 = 3.0;
const BETA: f64 = 6.0;
/// Below this, throughput does not follow what is in flight; above the other, latency does; less variation is constancy
/// (failsafe-go).
const THROUGHPUT_FOLLOWS: f64 = 0.3;
const LATENCY_FOLLOWS: f64 = 0.5;
const THROUGHPUT_CONSTANT: f64 = 0.2;
/// Above this, what is in flight explains two thirds of the throughput (0.8² = 0.64): little variation then only says that the limit
/// varied little.
const THROUGHPUT_FOLLOWS_CLOSELY: f64 = 0.8;
/// Windows whose mean throughput is the usual one: long enough that a limit of 100 loses a third meanwhile, which shows, and short
/// enough that an upstream that can do less for good is not measured by what it could.
const USUAL_WINDOWS: usize = 20;
/// The limit is at most this many times what was in flight at the peak of the last [`CORRELATION_WINDOWS`] (failsafe-go, which looks at
/// one window): a limit that nothing has tried says nothing, and a lull of seconds must not cost the next rush.
const USE_FACTOR: f64 = 5.0;
/// One failure in so many requests is a sign of overload: rarer ones happen in health, and at 1,000 requests a second would
/// lower the limit in every window.
const OVERLOADS: u64 = 20;
/// A window that lasted so many times its length without enough samples is dropped: its first samples are of another time.
/// It is also the longest that a slow upstream stretches it (30 s in failsafe-go).
const LONGEST: u32 = 30;

#[derive(Debug, Clone)]
pub(super) struct Control {
    settings: AdaptiveSettings,
    /// Steps are fractions of a place, so the limit is, too; who asks sees it rounded down.
    limit: f64,
    window: Window,
    /// When the window began; `None` before the first call.
    since: Option<Instant>,
    /// How long the window is.
    length: Duration,
    short: Smooth,
    long: Average,
    /// Filtered as latency is, else a change would show in them at other times and correlate with nothing.
    in_flight: Smooth,
    throughput: Smooth,
    /// Successes a second in the last window alone.
    throughput_now: f64,
    history: History,
    peaks: VecDeque<u32>,
    numbers: AdaptiveNumbers,
    decisions: [u64; AdaptiveDecision::ALL.len()],
}

impl Control {
    pub(super) fn new(settings: AdaptiveSettings) -> Self {
        Self {
            limit: settings.start.into(),
            window: Window::new(),
            since: None,
            length: settings.window,
            short: Smooth::new(SHORT_WINDOWS),
            long: Average::new(settings.baseline_windows),
            in_flight: Smooth::new(SHORT_WINDOWS),
            throughput: Smooth::new(SHORT_WINDOWS),
            throughput_now: 0.0,
            history: History::new(CORRELATION_WINDOWS),
            peaks: VecDeque::with_capacity(CORRELATION_WINDOWS),
            numbers: AdaptiveNumbers::default(),
            decisions: [0; AdaptiveDecision::ALL.len()],
            settings,
        }
    }

    /// The same under other settings.
    pub(super) fn with(&self, settings: AdaptiveSettings) -> Self {
        let mut control = self.clone();
        control.long.set_age(settings.baseline_windows);
        control.length = settings.window;
        control.settings = settings;
        control.limit = control.bounded(control.limit);
        control
    }

    pub(super) fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    pub(super) fn limit(&self) -> u32 {
        // Between a floor and a ceiling that are `u32`.
        self.limit as u32
    }

    pub(super) fn numbers(&self) -> AdaptiveNumbers {
        AdaptiveNumbers {
            limit: self.limit(),
            decisions: self.decisions,
            ..self.numbers
        }
    }

    /// Closes the window if it lasted long enough, but for a tenth, and saw enough.
    pub(super) fn close(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let lasted = now.saturating_duration_since(since);
        // Whoever asks once a window comes now a little late and now a little early.
        if lasted < self.length.mul_f64(0.9) || lasted.is_zero() {
            return;
        }
        let samples = self.window.successes + self.window.overloads;
        if samples >= self.settings.samples_min.into() {
            self.numbers.samples = self.window.successes;
            self.numbers.decision = self.conclude(lasted);
        } else {
            self.numbers.decision = AdaptiveDecision::FewSamples;
            if lasted < self.settings.window.saturating_mul(LONGEST) {
                return;
            }
            if samples == 0 {
                // Perhaps nothing fits any more that there is: whoever has seen nothing for so long goes back to where it began.
                let start = f64::from(self.settings.start);
                self.limit = self.limit.max((self.limit + self.step()).min(start));
            }
        }
        self.decisions[self.numbers.decision as usize] += 1;
        self.begin(now);
    }

    /// Begins the next window, which lasts twice as long as the fastest request: a shorter one would move again before the last
    /// move can show (failsafe-go).
    fn begin(&mut self, now: Instant) {
        let seen = if self.window.successes == 0 {
            Duration::ZERO
        } else {
            self.window.latency_min
        };
        let window = self.settings.window;
        self.length = seen
            .saturating_mul(2)
            .min(window.saturating_mul(LONGEST))
            .max(window);
        self.since = Some(now);
        self.window.clear();
    }

    fn conclude(&mut self, lasted: Duration) -> AdaptiveDecision {
        if self.peaks.len() >= CORRELATION_WINDOWS {
            self.peaks.pop_front();
        }
        self.peaks.push_back(self.window.in_flight_max);
        let samples = self.window.successes + self.window.overloads;
        let is_overloaded = self.window.overloads.saturating_mul(OVERLOADS) >= samples;
        if is_overloaded {
            // Latencies of the few that survived are not learned from.
            return self.moved(AdaptiveDecision::LoweredByOverload);
        }
        self.learn(lasted);
        let decision = self.judge();
        self.moved(decision)
    }

    fn learn(&mut self, lasted: Duration) {
        let Some(latency) = self.window.latencies.quantile(QUANTILE) else {
            return;
        };
        let successes = self.window.successes as f64;
        self.throughput_now = successes / lasted.as_secs_f64();
        let short = self.short.add(latency);
        let long = self.long.add(short);
        let point = Point {
            latency: short,
            in_flight: self
                .in_flight
                .add(self.window.in_flight_sum as f64 / successes),
            throughput: self.throughput.add(self.throughput_now),
        };
        self.history.add(point);
        let numbers = &mut self.numbers;
        numbers.latency_short = Duration::from_secs_f64(short);
        numbers.latency_long = Duration::from_secs_f64(long);
        numbers.queue = (self.limit * (1.0 - long / short)).ceil() as i64;
        numbers.throughput_correlation =
            self.history.correlation(|p| p.in_flight, |p| p.throughput);
        numbers.latency_correlation = self.history.correlation(|p| p.in_flight, |p| p.latency);
        numbers.throughput_variation = self.history.variation(|p| p.throughput);
    }

    /// The rule of failsafe-go's `computeChange`, with Vegas' exception of limits that are not used, and with two of our own that keep
    /// the guard from overshooting: throughput that follows closely acquits, and so does throughput that goes missing.
    fn judge(&self) -> AdaptiveDecision {
        let AdaptiveNumbers {
            queue,
            throughput_correlation,
            latency_correlation,
            throughput_variation,
            ..
        } = self.numbers;
        let queue = queue as f64;
        let is_latency_ours = latency_correlation > LATENCY_FOLLOWS;
        let is_throughput_constant = throughput_variation < THROUGHPUT_CONSTANT
            && throughput_correlation < THROUGHPUT_FOLLOWS_CLOSELY;
        let is_in_vain = throughput_correlation < 0.0
            || (throughput_correlation < THROUGHPUT_FOLLOWS && is_latency_ours)
            || (is_throughput_constant && is_latency_ours);
        if !self.is_half_used() {
            AdaptiveDecision::Unused
        } else if queue > BETA * self.step() {
            AdaptiveDecision::LoweredByQueue
        } else if self.is_full() && is_in_vain && !self.is_throughput_missing() {
            if self.throughput_now >= self.throughput_usual() {
                AdaptiveDecision::LoweredByCorrelation
            } else {
                // Where throughput is flat, half of the windows lower the limit and hardly any raises it, so it does come down.
                AdaptiveDecision::Held
            }
        } else if queue < ALPHA * self.step() {
            AdaptiveDecision::Raised
        } else {
            AdaptiveDecision::Held
        }
    }

    /// Moves the limit by a step as decided, and says what became of it.
    fn moved(&mut self, decision: AdaptiveDecision) -> AdaptiveDecision {
        use AdaptiveDecision as D;
        let step = self.step();
        let peak = f64::from(self.peaks.iter().copied().max().unwrap_or(0));
        let (mut target, mut decision) = match decision {
            D::Raised => (self.limit + step, decision),
            D::LoweredByQueue | D::LoweredByCorrelation => (self.limit - step, decision),
            D::LoweredByOverload if self.is_half_used() => (self.limit - step, decision),
            // Failures of a load far below the limit are not made by the limit.
            D::LoweredByOverload => (self.limit, D::Unused),
            other => (self.limit, other),
        };
        if target < self.limit && !self.is_full() {
            // What was in use found room: a limit below it would refuse a load that is no larger.
            target = target.max(self.window.in_flight_max.into()).min(self.limit);
        }
        // Only an unused limit can be so far above the peak, so this overrules nothing but a hold.
        if self.limit > USE_FACTOR * peak {
            target = (self.limit - step).max(USE_FACTOR * peak);
            decision = D::LoweredToUse;
        }
        let bounded = self.bounded(target);
        if bounded == self.limit && target != self.limit {
            decision = D::AtBound;
        }
        self.limit = bounded;
        decision
    }

    /// log10 of the limit, at least 1 (Vegas): a large limit moves in larger steps, though relatively in smaller ones.
    fn step(&self) -> f64 {
        self.limit.log10().max(1.0)
    }

    /// Whether the window brought less than windows did lately, by more than chance explains.
    ///
    /// Correlations remember the way up for 50 windows, and so would go on to lower a limit that is already below what the upstream
    /// can do. The loss shows at once in the throughput of the window alone: then the places that went were not in vain.
    fn is_throughput_missing(&self) -> bool {
        // The count of n independent events deviates by √n, which is 1/√n of it. Twice that would hold a limit of ten down until
        // it lost a quarter of its throughput.
        let deviation = 1.0 / (self.window.successes as f64).sqrt();
        self.throughput_now < self.throughput_usual() * (1.0 - deviation)
    }

    fn throughput_usual(&self) -> f64 {
        self.history.mean_of_last(USUAL_WINDOWS, |p| p.throughput)
    }

    fn is_full(&self) -> bool {
        self.window.in_flight_max >= self.limit()
    }

    fn is_half_used(&self) -> bool {
        f64::from(self.window.in_flight_max) * 2.0 >= self.limit
    }

    fn bounded(&self, limit: f64) -> f64 {
        limit.clamp(self.settings.floor.into(), self.settings.ceiling.into())
    }
}
