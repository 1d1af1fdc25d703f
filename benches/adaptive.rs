//! What limits that move make of the same worlds: ours, and three of Netflix' concurrency-limits as comparison.
//!
//! Mostly a backend of 40 servers with exponential service of 40 ms (1,000 requests a second) behind each limit, Poisson arrivals that
//! do not retry, a second a window, seeded. The three are written after their sources with the defaults found there, between the same
//! floor and ceiling as ours, and are asked once a window with its mean latency, as `WindowedLimit` does. The first minute is left
//! out. A p99 latency ratio of 1 is that of service alone. Measures decisions, never time.
//! Run with `cargo bench --bench adaptive`; the numbers are the same on every machine of one architecture.

// What only the tests of the library look at.
#[allow(dead_code, reason = "shared with the library's tests")]
#[path = "../src/admission/adaptive/world.rs"]
mod world;

use std::time::{Duration, Instant};

use tidegate::admission::{Adaptive, AdaptiveSettings, Outcome, Sample};
use tidegate::clock::Clock;

use world::{Limiter, Second, Weather, goodput, run};

const SERVERS: u32 = 40;
const SERVICE: f64 = 0.040;
const CAPACITY: f64 = SERVERS as f64 / SERVICE;
const FLOOR: f64 = 4.0;
const CEILING: f64 = 200.0;
const START: f64 = 20.0;
const SEED: u64 = 7;
/// Seconds until the first one that is judged: all begin at half of what is right.
const WARM_UP: usize = 60;

fn main() {
    println!("| world | limit | goodput share | p99 latency ratio | least | most | last |");
    println!("|---|---|---|---|---|---|---|");
    for (name, weather) in worlds() {
        show(name, "ours", &mut Ours::new(), &weather);
        show(
            name,
            "Gradient2",
            &mut Windowed::new(Gradient2::new()),
            &weather,
        );
        show(name, "AIMD", &mut Windowed::new(Aimd::new()), &weather);
        show(name, "Vegas", &mut Windowed::new(Vegas::new()), &weather);
    }
}

fn worlds() -> Vec<(&'static str, Vec<Weather>)> {
    let usual = Weather {
        servers: SERVERS,
        service: SERVICE,
        offered: CAPACITY,
    };
    let offered = |share: f64| Weather {
        offered: CAPACITY * share,
        ..usual
    };
    let steady = (0..600).map(|_| offered(1.5));
    // Service takes twice as long after five minutes, and stays so.
    let drift = (0..900).map(|second| Weather {
        service: SERVICE * (1.0 + (f64::from(second) / 300.0).min(1.0)),
        ..offered(0.9)
    });
    let halved = (0..900).map(|second| Weather {
        servers: if (300..600).contains(&second) {
            SERVERS / 2
        } else {
            SERVERS
        },
        ..offered(1.2)
    });
    let spike = (0..600).map(|second| {
        offered(if (300..360).contains(&second) {
            3.0
        } else {
            0.5
        })
    });
    let light = (0..600).map(|_| offered(0.2));
    let backend = |servers| Weather {
        servers,
        service: 0.1,
        offered: f64::from(servers) / 0.1 * 1.5,
    };
    let small = (0..900).map(|_| backend(8));
    let large = (0..900).map(|_| backend(120));
    vec![
        ("steady, 1.5 × capacity", steady.collect()),
        ("drift, service 2 × slower", drift.collect()),
        ("capacity halved for 5 min", halved.collect()),
        ("spike, 3 × for 1 min", spike.collect()),
        ("light, 0.2 × capacity", light.collect()),
        ("8 servers of 100 ms, 1.5 ×", small.collect()),
        ("120 servers of 100 ms, 1.5 ×", large.collect()),
    ]
}

fn show(world: &str, limit: &str, limiter: &mut impl Limiter, weather: &[Weather]) {
    let seconds = run(limiter, SEED, weather.iter().copied());
    let judged = &seconds[WARM_UP..];
    let limits = judged.iter().map(|second| second.limit);
    println!(
        "| {world} | {limit} | {:.3} | {:.2} | {} | {} | {} |",
        goodput(judged),
        p99(judged) / UNLOADED_P99,
        limits.clone().min().unwrap_or(0),
        limits.max().unwrap_or(0),
        limiter.limit(),
    );
}

/// The p99 of exponential service that never waits, over its mean: ln 100.
const UNLOADED_P99: f64 = 4.605;

/// Over the mean time of service of its second.
fn p99(seconds: &[Second]) -> f64 {
    let mut all: Vec<_> = seconds.iter().flat_map(|second| &second.slowness).collect();
    all.sort_by(|a, b| a.total_cmp(b));
    all.get(all.len() * 99 / 100)
        .map_or(0.0, |slowness| f64::from(**slowness))
}

struct Ours {
    adaptive: Adaptive,
    began: Instant,
}

impl Ours {
    fn new() -> Self {
        let adaptive = Adaptive::new(AdaptiveSettings::default());
        let began = Clock::manual().now();
        adaptive.close_window(began);
        Self { adaptive, began }
    }
}

impl Limiter for Ours {
    fn limit(&self) -> u32 {
        self.adaptive.limit()
    }

    fn observe(&mut self, latency: Duration, in_flight: u32) {
        self.adaptive.observe(Sample {
            latency,
            in_flight,
            outcome: Outcome::Success,
        });
    }

    fn close_window(&mut self, elapsed: Duration) {
        self.adaptive.close_window(self.began + elapsed);
    }
}

/// A rule that is asked once a window.
trait Rule {
    fn limit(&self) -> f64;
    /// The window's mean latency in seconds, and the most that was in flight.
    fn update(&mut self, latency: f64, in_flight: f64);
}

struct Windowed<R> {
    rule: R,
    sum: f64,
    count: f64,
    in_flight: u32,
}

impl<R: Rule> Windowed<R> {
    fn new(rule: R) -> Self {
        Self {
            rule,
            sum: 0.0,
            count: 0.0,
            in_flight: 0,
        }
    }
}

impl<R: Rule> Limiter for Windowed<R> {
    fn limit(&self) -> u32 {
        self.rule.limit() as u32
    }

    fn observe(&mut self, latency: Duration, in_flight: u32) {
        self.sum += latency.as_secs_f64();
        self.count += 1.0;
        self.in_flight = self.in_flight.max(in_flight);
    }

    fn close_window(&mut self, _: Duration) {
        if self.count > 0.0 {
            let latency = self.sum / self.count;
            self.rule.update(latency, self.in_flight.into());
        }
        (self.sum, self.count, self.in_flight) = (0.0, 0.0, 0);
    }
}

/// `Gradient2Limit`: an average of 600 windows as baseline, tolerance 1.5, 4 requests of queue, smoothing 0.2.
struct Gradient2 {
    limit: f64,
    long: f64,
    count: f64,
}

impl Gradient2 {
    fn new() -> Self {
        Self {
            limit: START,
            long: 0.0,
            count: 0.0,
        }
    }
}

impl Rule for Gradient2 {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn update(&mut self, short: f64, in_flight: f64) {
        self.count += 1.0;
        let weight = if self.count <= 10.0 {
            1.0 / self.count
        } else {
            2.0 / 601.0
        };
        self.long += (short - self.long) * weight;
        if self.long / short > 2.0 {
            self.long *= 0.9;
        }
        if in_flight < self.limit / 2.0 {
            return;
        }
        let gradient = (1.5 * self.long / short).clamp(0.5, 1.0);
        let limit = self.limit * gradient + 4.0;
        self.limit = (self.limit * 0.8 + limit * 0.2).clamp(FLOOR, CEILING);
    }
}

/// `AIMDLimit`: a latency over 5 s counts as a drop.
struct Aimd {
    limit: f64,
}

impl Aimd {
    fn new() -> Self {
        Self { limit: START }
    }
}

impl Rule for Aimd {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn update(&mut self, latency: f64, in_flight: f64) {
        if latency > 5.0 {
            self.limit = (self.limit * 0.9).min(self.limit - 1.0);
        } else if in_flight * 2.0 >= self.limit {
            self.limit += 1.0;
        }
        self.limit = self.limit.clamp(FLOOR, CEILING);
    }
}

/// `VegasLimit`: the least latency seen as baseline, forgotten every 30 × limit updates by chance.
struct Vegas {
    limit: f64,
    least: f64,
    updates: f64,
    jitter: f64,
    chance: fastrand::Rng,
}

impl Vegas {
    fn new() -> Self {
        Self {
            limit: START,
            least: f64::MAX,
            updates: 0.0,
            jitter: 1.0,
            chance: fastrand::Rng::with_seed(SEED),
        }
    }
}

impl Rule for Vegas {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn update(&mut self, latency: f64, in_flight: f64) {
        self.updates += 1.0;
        if self.updates >= self.jitter * 30.0 * self.limit {
            self.jitter = 0.5 + 0.5 * self.chance.f64();
            self.updates = 0.0;
            self.least = latency;
            return;
        }
        if latency < self.least {
            self.least = latency;
            return;
        }
        if in_flight * 2.0 < self.limit {
            return;
        }
        let step = self.limit.log10().max(1.0).floor();
        let queue = (self.limit * (1.0 - self.least / latency)).ceil();
        if queue <= step {
            self.limit += 6.0 * step;
        } else if queue < 3.0 * step {
            self.limit += step;
        } else if queue > 6.0 * step {
            self.limit -= step;
        }
        self.limit = self.limit.clamp(FLOOR, CEILING);
    }
}
