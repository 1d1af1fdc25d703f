//! What happened in a run, and the figures that it comes to.
//!
//! A figure is named `client.figure`, or `phase.client.figure`; the client `all` is all of them together. A task belongs to the
//! phase in which it began, an answer to the one in which it came. Never decides what is right.

use std::collections::BTreeMap;
use std::time::Duration;

use super::backend::count;
use super::file::{Scenario, Span};

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was answered while its client waited.
    Completed,
    /// Its last attempt was refused.
    Refused,
    /// Its client waited for the last attempt in vain.
    GaveUp,
}

/// What a client wants, over all its attempts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    pub(super) client: usize,
    pub(super) account: usize,
    pub(super) began: Duration,
    pub(super) attempts: u32,
    pub(super) is_marked: bool,
    /// How long its work takes at full speed, once it has begun: its latency where it is alone.
    pub(super) work: Duration,
    pub(super) ended: Option<(Ending, Duration)>,
}

/// Places that an account took, or gave back.
#[derive(Debug, Clone, Copy)]
struct Held {
    at: Duration,
    client: usize,
    account: usize,
    places: f64,
}

/// All that happened.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) tasks: Vec<Task>,
    held: Vec<Held>,
}

impl Run {
    /// Notes that a task's account took places, or gave them back where there are fewer than none.
    pub(super) fn hold(&mut self, task: usize, places: f64, at: Duration) {
        let Task {
            client, account, ..
        } = self.tasks[task];
        self.held.push(Held {
            at,
            client,
            account,
            places,
        });
    }

    /// The figure of that name; an error says which part of the name means nothing.
    pub(super) fn figure(&self, scenario: &Scenario, name: &str) -> Result<f64, String> {
        let mut parts: Vec<_> = name.split('.').collect();
        let (from, to) = if parts.len() == 3 {
            let phase = scenario.phases.get(parts.remove(0));
            *phase.ok_or_else(|| format!("no such phase: {name}"))?
        } else {
            (Span::default(), scenario.duration)
        };
        let &[who, figure] = parts.as_slice() else {
            return Err(format!("not a figure: {name}"));
        };
        let client = scenario.clients.keys().position(|known| known == who);
        if client.is_none() && who != "all" {
            return Err(format!("no such client: {name}"));
        }
        let (from, to) = (from.0, to.0);
        let view = View {
            run: self,
            client,
            from,
            to,
        };
        view.figure(figure)
            .ok_or_else(|| format!("no such figure: {name}"))
    }
}

/// One client, or all, in one phase.
struct View<'a> {
    run: &'a Run,
    client: Option<usize>,
    from: Duration,
    to: Duration,
}

impl View<'_> {
    fn figure(&self, name: &str) -> Option<f64> {
        let length = (self.to - self.from).as_secs_f64();
        Some(match name {
            "completed" => self.part(|task| task.is(Ending::Completed)),
            "refused" => self.part(|task| task.is(Ending::Refused)),
            "gave_up" => self.part(|task| task.is(Ending::GaveUp)),
            "marked" => self.part(|task| task.is_marked),
            "p50_ms" => self.latency_ms(50),
            "p99_ms" => self.latency_ms(99),
            "p99_to_work" => self.latency_ms(99) / self.work_ms(99),
            "per_s" => self.answers() / length,
            "in_flight_max" => self.in_flight_max(),
            "in_flight_mean" => self.areas().values().sum::<f64>() / length,
            "jain" => self.jain(),
            _ => return None,
        })
    }

    fn is_mine(&self, client: usize) -> bool {
        self.client.is_none_or(|mine| mine == client)
    }

    /// Those that began in the phase.
    fn tasks(&self) -> impl Iterator<Item = &Task> {
        let phase = self.from..self.to;
        let mine = self.run.tasks.iter();
        mine.filter(move |task| self.is_mine(task.client) && phase.contains(&task.began))
    }

    /// The part of all tasks of which that is true.
    fn part(&self, is_so: impl Fn(&Task) -> bool) -> f64 {
        let those = self.tasks().filter(|task| is_so(task)).count();
        count(those) / count(self.tasks().count())
    }

    /// How many were answered in the phase, whenever they began.
    fn answers(&self) -> f64 {
        let phase = self.from..self.to;
        let mine = self.run.tasks.iter();
        let mine = mine.filter(|task| self.is_mine(task.client) && task.is(Ending::Completed));
        let answers = mine.filter(|task| task.ended.is_some_and(|(_, at)| phase.contains(&at)));
        count(answers.count())
    }

    /// The least that so many percent of the answers did not exceed.
    fn latency_ms(&self, percent: usize) -> f64 {
        let answered = self.tasks().filter(|task| task.is(Ending::Completed));
        let latencies = answered.filter_map(|task| Some(task.ended?.1 - task.began));
        percentile_ms(latencies.collect(), percent)
    }

    /// The same of the work alone.
    fn work_ms(&self, percent: usize) -> f64 {
        let answered = self.tasks().filter(|task| task.is(Ending::Completed));
        percentile_ms(answered.map(|task| task.work).collect(), percent)
    }

    fn held(&self) -> impl Iterator<Item = &Held> {
        let mine = self.run.held.iter();
        mine.filter(|held| held.at < self.to && self.is_mine(held.client))
    }

    fn in_flight_max(&self) -> f64 {
        let (mut now, mut most) = (0.0, 0.0_f64);
        for held in self.held() {
            let before = now;
            now += held.places;
            if held.at >= self.from {
                most = most.max(before).max(now);
            }
        }
        most.max(now)
    }

    /// Places held by each account, times the seconds for which.
    fn areas(&self) -> BTreeMap<(usize, usize), f64> {
        let asked = self.tasks().map(|task| ((task.client, task.account), 0.0));
        let mut areas: BTreeMap<_, _> = asked.collect();
        for held in self.held() {
            let seconds = (self.to - held.at.max(self.from)).as_secs_f64();
            *areas.entry((held.client, held.account)).or_default() += held.places * seconds;
        }
        areas
    }

    /// Jain's index over what accounts hold on average: 1 where all hold the same, 1/n where one of n holds all.
    fn jain(&self) -> f64 {
        let areas = self.areas();
        let sum: f64 = areas.values().sum();
        let squares: f64 = areas.values().map(|area| area * area).sum();
        sum * sum / (count(areas.len()) * squares)
    }
}

fn percentile_ms(mut all: Vec<Duration>, percent: usize) -> f64 {
    all.sort_unstable();
    let rank = (all.len() * percent).div_ceil(100);
    let found = all.get(rank.saturating_sub(1));
    found.map_or(f64::NAN, |found| found.as_secs_f64() * 1e3)
}

impl Task {
    fn is(&self, wanted: Ending) -> bool {
        self.ended.is_some_and(|(ending, _)| ending == wanted)
    }
}
