//! Promises of the adaptive limit: in small worlds of chance with a clock moved by hand, and window by window.
//!
//! The backend is 40 servers with exponential service of 40 ms, so 40 in flight are 1,000 requests a second and more only wait.
//! With arrivals by chance a limit of exactly 40 leaves some servers idle; 50 uses all but 1 %.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::world::{Limiter, Second, Weather, goodput, run};
use super::{Adaptive, AdaptiveDecision, AdaptiveSettings, Sample};
use crate::admission::Outcome;
use crate::clock::Clock;

const USUAL: Weather = Weather {
    servers: 40,
    service: 0.040,
    offered: 1_000.0,
};
const SEEDS: [u64; 2] = [3, 11];

fn offered(share: f64) -> Weather {
    Weather {
        offered: USUAL.offered * share,
        ..USUAL
    }
}

/// A limit, and a clock that is moved by whole windows.
struct Gate {
    adaptive: Adaptive,
    began: Instant,
    elapsed: Duration,
}

impl Gate {
    fn new(settings: AdaptiveSettings) -> Self {
        let began = Clock::manual().now();
        let adaptive = Adaptive::new(settings);
        assert_eq!(adaptive.close_window(began), None);
        Self {
            adaptive,
            began,
            elapsed: Duration::ZERO,
        }
    }

    fn usual() -> Self {
        Self::new(AdaptiveSettings::default())
    }

    fn ends(&self, count: u32, latency: Duration, in_flight: u32, outcome: Outcome) {
        for _ in 0..count {
            self.adaptive.observe(Sample {
                latency,
                in_flight,
                outcome,
            });
        }
    }

    /// So many requests end alike, then a second is over.
    fn window(&mut self, count: u32, millis: u64, in_flight: u32, outcome: Outcome) -> Option<u32> {
        self.ends(count, Duration::from_millis(millis), in_flight, outcome);
        self.elapsed += Duration::from_secs(1);
        self.adaptive.close_window(self.began + self.elapsed)
    }

    fn decision(&self) -> AdaptiveDecision {
        self.adaptive.numbers().decision
    }
}

impl Limiter for Gate {
    fn limit(&self) -> u32 {
        self.adaptive.limit()
    }

    fn observe(&mut self, latency: Duration, in_flight: u32) {
        self.ends(1, latency, in_flight, Outcome::Success);
    }

    fn close_window(&mut self, elapsed: Duration) {
        self.adaptive.close_window(self.began + elapsed);
    }
}

fn limits(seconds: &[Second]) -> (u32, u32) {
    let limits = seconds.iter().map(|second| second.limit);
    (limits.clone().min().unwrap(), limits.max().unwrap())
}

// G17: half a minute from a start of half the capacity, then within 0.8 and 2.2 of it for ten minutes of overload.
#[test]
fn it_converges_near_capacity_and_stays() {
    for seed in SEEDS {
        let seconds = run(&mut Gate::usual(), seed, (0..600).map(|_| offered(1.5)));
        let settled = &seconds[30..];
        let (least, most) = limits(settled);
        assert!(least >= 32 && most <= 88, "seed {seed}: {least} to {most}");
        let goodput = goodput(settled);
        assert!(goodput > 0.97, "seed {seed}: {goodput}");
    }
}

// G17: Gradient2's defect is that its baseline follows the slowness and its limit runs to the ceiling. Service is twice as slow
// after five minutes, and stays so for ten.
#[test]
fn a_backend_that_becomes_slower_neither_lifts_it_away_nor_lets_it_collapse() {
    for seed in SEEDS {
        let drift = (0..900).map(|second| Weather {
            service: 0.040 * (1.0 + (f64::from(second) / 300.0).min(1.0)),
            ..offered(0.9)
        });
        let seconds = run(&mut Gate::usual(), seed, drift);
        let (least, most) = limits(&seconds[60..]);
        assert!(least >= 30 && most <= 130, "seed {seed}: {least} to {most}");
        let end = limits(&seconds[800..]);
        assert!(end.1 <= 100, "seed {seed}: ends within {end:?}");
        let goodput = goodput(&seconds[60..]);
        assert!(goodput > 0.96, "seed {seed}: {goodput}");
    }
}

// G17: 60 windows to give up what half the servers cannot do, 60 to find it again.
#[test]
fn halved_capacity_is_found_and_so_is_its_return() {
    for seed in SEEDS {
        let halved = (0..720).map(|second| Weather {
            servers: if (240..480).contains(&second) { 20 } else { 40 },
            ..offered(1.2)
        });
        let seconds = run(&mut Gate::usual(), seed, halved);
        let (half, again) = (&seconds[300..480], &seconds[540..]);
        let (least, most) = limits(half);
        assert!(least >= 14 && most <= 50, "seed {seed}: {least} to {most}");
        let goodputs = (goodput(half), goodput(again));
        assert!(
            goodputs.0 > 0.92 && goodputs.1 > 0.95,
            "seed {seed}: {goodputs:?}"
        );
    }
}

// G17: no probe: where the load fits, nobody is ever refused.
#[test]
fn light_load_is_never_refused() {
    for seed in SEEDS {
        let seconds = run(&mut Gate::usual(), seed, (0..600).map(|_| offered(0.2)));
        let refused: u32 = seconds.iter().map(|second| second.refused).sum();
        assert_eq!(refused, 0, "seed {seed}");
    }
}

#[test]
fn a_slow_upstream_under_light_load_does_not_lower_it_below_what_is_used() {
    let mut gate = Gate::usual();
    for _ in 0..20 {
        gate.window(100, 20, 12, Outcome::Success);
    }
    assert_eq!(gate.limit(), 25);
    for _ in 0..20 {
        gate.window(100, 400, 12, Outcome::Success);
    }
    assert!(gate.limit() >= 12, "{}", gate.limit());
}

#[test]
fn few_samples_prolong_the_window() {
    let mut gate = Gate::usual();
    assert_eq!(gate.window(20, 20, 20, Outcome::Success), None);
    assert_eq!(gate.decision(), AdaptiveDecision::FewSamples);
    assert_eq!(gate.window(20, 20, 20, Outcome::Success), None);
    assert_eq!(gate.window(20, 20, 20, Outcome::Success), Some(21));
    let numbers = gate.adaptive.numbers();
    assert_eq!(numbers.samples, 60);
    assert_eq!(numbers.decision, AdaptiveDecision::Raised);
    let off = numbers.latency_short.as_secs_f64() / 0.020 - 1.0;
    assert!(off.abs() < 1.0 / 32.0, "{numbers:?}");
}

#[test]
fn samples_of_a_window_that_never_fills_are_forgotten() {
    let mut gate = Gate::usual();
    gate.window(49, 20, 20, Outcome::Success);
    for _ in 0..30 {
        gate.window(0, 20, 20, Outcome::Success);
    }
    assert_eq!(gate.window(1, 20, 20, Outcome::Success), None);
}

#[test]
fn a_limit_that_is_not_half_used_is_not_raised() {
    let mut gate = Gate::usual();
    assert_eq!(gate.window(100, 20, 9, Outcome::Success), None);
    assert_eq!(gate.decision(), AdaptiveDecision::Unused);
}

#[test]
fn it_comes_down_to_five_times_what_is_in_flight() {
    let mut gate = Gate::usual();
    for _ in 0..30 {
        gate.window(100, 20, 2, Outcome::Success);
    }
    assert_eq!(gate.limit(), 10);
}

// G17: streams, and whatever else its caller ignores, teach nothing.
#[test]
fn what_is_ignored_does_not_move_it() {
    let (mut with, mut without) = (Gate::usual(), Gate::usual());
    for _ in 0..60 {
        assert_eq!(with.window(500, 60_000, 20, Outcome::Ignore), None);
        without.window(0, 0, 0, Outcome::Ignore);
    }
    for _ in 0..60 {
        with.ends(100, Duration::from_secs(60), 200, Outcome::Ignore);
        let moved = with.window(100, 20, 20, Outcome::Success);
        assert_eq!(moved, without.window(100, 20, 20, Outcome::Success));
        assert_eq!(with.adaptive.numbers(), without.adaptive.numbers());
    }
}

#[test]
fn rare_failures_do_not_lower_it() {
    let mut gate = Gate::usual();
    gate.ends(4, Duration::ZERO, 20, Outcome::Overload);
    assert_eq!(gate.window(100, 20, 20, Outcome::Success), Some(21));
}

#[test]
fn failures_for_overload_lower_it_by_one_step_a_window_down_to_the_floor() {
    let mut gate = Gate::usual();
    assert_eq!(gate.window(10_000, 1, 20, Outcome::Overload), Some(18));
    assert_eq!(gate.decision(), AdaptiveDecision::LoweredByOverload);
    for _ in 0..30 {
        gate.window(10_000, 1, 20, Outcome::Overload);
    }
    assert_eq!(gate.limit(), 4);
    assert_eq!(gate.decision(), AdaptiveDecision::AtBound);
}

#[test]
fn failures_far_below_the_limit_do_not_lower_it() {
    let mut gate = Gate::usual();
    assert_eq!(gate.window(100, 1, 5, Outcome::Overload), None);
    assert_eq!(gate.decision(), AdaptiveDecision::Unused);
}

#[test]
fn a_window_lasts_at_least_twice_the_fastest_request() {
    let mut gate = Gate::usual();
    assert!(gate.window(100, 3_000, 20, Outcome::Success).is_some());
    for _ in 0..5 {
        assert_eq!(gate.window(100, 3_000, 20, Outcome::Success), None);
    }
    assert!(gate.window(100, 3_000, 20, Outcome::Success).is_some());
}

#[test]
fn other_settings_keep_what_was_learned() {
    let mut gate = Gate::usual();
    for _ in 0..20 {
        gate.window(100, 20, 40, Outcome::Success);
    }
    let before = gate.adaptive.numbers();
    assert!(before.limit > 30);
    gate.adaptive = gate.adaptive.with(AdaptiveSettings {
        ceiling: 30,
        ..AdaptiveSettings::default()
    });
    let after = gate.adaptive.numbers();
    assert_eq!((gate.limit(), after.limit), (30, 30));
    assert_eq!(after.latency_long, before.latency_long);
    gate.adaptive = gate.adaptive.with(AdaptiveSettings::default());
    assert_eq!(gate.limit(), 30);
}

#[test]
fn settings_that_contradict_each_other_are_set_right() {
    let mut gate = Gate::new(AdaptiveSettings {
        floor: 0,
        ceiling: 0,
        start: 99,
        window: Duration::ZERO,
        samples_min: 0,
        baseline_windows: 0,
    });
    assert_eq!(gate.limit(), 1);
    gate.window(9, 20, 9, Outcome::Success);
    assert_eq!(gate.limit(), 1);
}

#[test]
fn a_clock_that_stands_or_goes_back_closes_nothing() {
    let mut gate = Gate::usual();
    gate.window(100, 20, 20, Outcome::Success);
    gate.ends(100, Duration::from_millis(20), 20, Outcome::Success);
    assert_eq!(gate.adaptive.close_window(gate.began + gate.elapsed), None);
    assert_eq!(gate.adaptive.close_window(gate.began), None);
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Success),
        1 => Just(Outcome::Overload),
        1 => Just(Outcome::Ignore)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    // G17: floor and ceiling hold, a window moves the limit by a step, and no sequence makes it panic.
    #[test]
    fn no_samples_move_it_out_of_its_bounds(
        floor in 0_u32..50,
        ceiling in any::<u32>(),
        start in any::<u32>(),
        samples_min in 0_u32..4,
        windows in prop::collection::vec(
            (prop::collection::vec((any::<u64>(), any::<u8>(), any::<u32>(), outcome()), 0..8), 0_u64..40_000),
            0..150,
        ),
    ) {
        let settings = AdaptiveSettings { floor, ceiling, start, samples_min, ..AdaptiveSettings::default() };
        let bounds = floor.max(1)..=ceiling.max(floor).max(1);
        let mut gate = Gate::new(settings);
        for (samples, millis) in windows {
            for (nanos, shift, in_flight, outcome) in samples {
                // As many small numbers as large ones.
                let shift = u32::from(shift);
                gate.ends(1, Duration::from_nanos(nanos >> (shift % 64)), in_flight >> (shift % 32), outcome);
            }
            gate.elapsed += Duration::from_millis(millis);
            let before = gate.limit();
            gate.adaptive.close_window(gate.began + gate.elapsed);
            let after = gate.limit();
            prop_assert!(bounds.contains(&after), "{after} outside {bounds:?}");
            let step = f64::from(before).log10().max(1.0);
            prop_assert!((f64::from(after) - f64::from(before)).abs() <= step + 1.0, "{before} to {after}");
            let numbers = gate.adaptive.numbers();
            prop_assert!(numbers.throughput_variation.is_finite());
            prop_assert!(numbers.latency_correlation.abs() <= 1.0 && numbers.throughput_correlation.abs() <= 1.0);
        }
    }
}
