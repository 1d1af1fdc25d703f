//! A small world to try limits in: clients that ask by chance, a backend of so many servers, a limit between them.
//!
//! Arrivals are Poisson and do not retry, service is exponential, and who does not fit is refused. Seeded, with a clock of its own,
//! so a run repeats exactly. `benches/adaptive.rs` includes this file, so it imports nothing of the crate. Never sleeps.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// What is tried: it sees each request that ended, and closes a window each second.
pub(crate) trait Limiter {
    fn limit(&self) -> u32;
    fn observe(&mut self, latency: Duration, in_flight: u32);
    /// `elapsed` since the world began.
    fn close_window(&mut self, elapsed: Duration);
}

/// What holds during one second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Requests that are served at once.
    pub(crate) servers: u32,
    /// Mean time of service, in seconds.
    pub(crate) service: f64,
    /// Requests offered, a second.
    pub(crate) offered: f64,
}

impl Weather {
    /// Requests a second that could be served.
    pub(crate) fn possible(&self) -> f64 {
        self.offered.min(f64::from(self.servers) / self.service)
    }
}

/// What one second brought.
#[derive(Debug, Clone)]
pub(crate) struct Second {
    pub(crate) weather: Weather,
    pub(crate) limit: u32,
    pub(crate) completed: u32,
    pub(crate) refused: u32,
    /// Of those that ended, over the mean time of service.
    pub(crate) slowness: Vec<f32>,
}

/// Shares of what was possible that was completed, over some seconds; above 1 by chance.
pub(crate) fn goodput(seconds: &[Second]) -> f64 {
    let completed: f64 = seconds.iter().map(|s| f64::from(s.completed)).sum();
    let possible: f64 = seconds.iter().map(|s| s.weather.possible()).sum();
    completed / possible
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    began: u64,
    in_flight: u32,
}

/// The state between two events; times in nanoseconds.
struct World {
    chance: fastrand::Rng,
    served: BinaryHeap<Reverse<(u64, Request)>>,
    waiting: VecDeque<Request>,
    next_arrival: u64,
}

/// Lets seconds of such weather pass.
pub(crate) fn run(
    limiter: &mut impl Limiter,
    seed: u64,
    weather: impl IntoIterator<Item = Weather>,
) -> Vec<Second> {
    let mut world = World {
        chance: fastrand::Rng::with_seed(seed),
        served: BinaryHeap::new(),
        waiting: VecDeque::new(),
        next_arrival: 0,
    };
    let mut passed = Vec::new();
    for (second, weather) in (1_u64..).zip(weather) {
        let mut record = Second {
            weather,
            limit: limiter.limit(),
            completed: 0,
            refused: 0,
            slowness: Vec::new(),
        };
        world.pass(second * 1_000_000_000, limiter, &mut record);
        limiter.close_window(Duration::from_secs(second));
        passed.push(record);
    }
    passed
}

impl World {
    fn pass(&mut self, until: u64, limiter: &mut impl Limiter, record: &mut Second) {
        loop {
            let end = self.served.peek().map_or(u64::MAX, |next| next.0.0);
            let next = end.min(self.next_arrival);
            if next >= until {
                return;
            }
            if end <= self.next_arrival {
                self.complete(limiter, record);
            } else {
                self.arrive(limiter, record);
            }
        }
    }

    fn complete(&mut self, limiter: &mut impl Limiter, record: &mut Second) {
        let Some(Reverse((now, request))) = self.served.pop() else {
            return;
        };
        let latency = Duration::from_nanos(now - request.began);
        limiter.observe(latency, request.in_flight);
        record.completed += 1;
        let slowness = latency.as_secs_f64() / record.weather.service;
        record.slowness.push(slowness as f32);
        self.serve(now, record.weather);
    }

    fn arrive(&mut self, limiter: &mut impl Limiter, record: &mut Second) {
        let now = self.next_arrival;
        let in_flight = (self.served.len() + self.waiting.len()) as u32;
        if in_flight < limiter.limit() {
            let request = Request {
                began: now,
                in_flight: in_flight + 1,
            };
            self.waiting.push_back(request);
            self.serve(now, record.weather);
        } else {
            record.refused += 1;
        }
        self.next_arrival = now + self.exponential(1.0 / record.weather.offered);
    }

    fn serve(&mut self, now: u64, weather: Weather) {
        while self.served.len() < weather.servers as usize {
            let Some(request) = self.waiting.pop_front() else {
                return;
            };
            let end = now + self.exponential(weather.service);
            self.served.push(Reverse((end, request)));
        }
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        let nanos = -mean * (1.0 - self.chance.f64()).ln() * 1e9;
        (nanos as u64).max(1)
    }
}
