//! What a gate's admin API told over a while, summed up.
//!
//! Counters are read as differences to the first look, so a gate that has run for long is as good as a fresh one; what is in
//! flight is looked at again and again, and its mean and its most are kept. Memory is for the resources that the gate has and
//! for as many accounts as one answer lists. Never decides anything: the numbers are judged in `fragment`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

/// Accounts that are kept: as many as one answer of the gate lists at most. Of maxima the largest are enough.
pub(super) const ACCOUNTS_MAX: usize = 100;

/// `/v1/status`, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Status {
    pub(super) generation: u64,
    pub(super) uptime_seconds: u64,
    pub(super) resources: Vec<ResourceRow>,
}

/// One resource of a status.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ResourceRow {
    pub(super) name: String,
    pub(super) exempt: bool,
    pub(super) cost: u32,
    pub(super) in_flight: u32,
    pub(super) admitted: u64,
    pub(super) rejected: u64,
    pub(super) upstream_seconds: Seconds,
}

/// A count and a sum that only grow.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Seconds {
    pub(super) count: u64,
    pub(super) sum: f64,
}

/// One row of `/v1/accounts`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct AccountRow {
    pub(super) account: String,
    pub(super) in_flight: u32,
    pub(super) peak: u32,
}

/// What was seen of a gate.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Observed {
    pub(super) watched: Duration,
    /// How often what is in flight was looked at.
    pub(super) looks: u32,
    /// Over all resources that are not exempt; its cost is 1, for the figures count places.
    pub(super) whole: Load,
    /// Resources that are not exempt, in the gate's order.
    pub(super) resources: Vec<Resource>,
    /// The accounts with the largest peaks, largest first.
    pub(super) accounts: Vec<(String, u32)>,
    /// Whether another configuration came into force meanwhile.
    pub(super) was_reloaded: bool,
}

/// One resource, as far as limits care.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Resource {
    pub(super) name: String,
    /// Places that each request takes.
    pub(super) cost: u32,
    pub(super) load: Load,
}

/// How much work there was.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Load {
    /// Requests that were admitted and are over.
    pub(super) finished: u64,
    /// Requests that a limit refused.
    pub(super) rejected: u64,
    /// The most that was in flight at a look, in places.
    pub(super) peak: u32,
    /// What was in flight on average, in requests.
    pub(super) mean: f64,
    /// The same in places.
    pub(super) mean_places: f64,
    /// The variance, in places, that requests would have which come independently of each other.
    pub(super) variance: f64,
    /// How long the answer's head took on average, if any request was sent on.
    pub(super) head_seconds: Option<f64>,
}

/// The gate was started anew while it was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gate was started anew while it was watched; watch it again")]
pub(super) struct Restarted;

/// A watch in progress.
#[derive(Debug, Default)]
pub(super) struct Watch {
    looks: u32,
    first_generation: u64,
    last_generation: u64,
    uptime_seconds: u64,
    seen: Vec<Seen>,
    whole_peak: u32,
    accounts: BTreeMap<String, u32>,
}

/// One resource so far.
#[derive(Debug)]
struct Seen {
    first: ResourceRow,
    last: ResourceRow,
    peak: u32,
    in_flight_sum: u64,
}

impl Watch {
    /// Takes in what is in flight at this moment.
    pub(super) fn look(&mut self, status: Status) -> Result<(), Restarted> {
        if self.looks == 0 {
            self.first_generation = status.generation;
        } else if status.uptime_seconds < self.uptime_seconds {
            return Err(Restarted);
        }
        self.looks += 1;
        self.last_generation = status.generation;
        self.uptime_seconds = status.uptime_seconds;
        let mut whole = 0_u32;
        for row in status.resources.into_iter().filter(|row| !row.exempt) {
            whole = whole.saturating_add(row.in_flight.saturating_mul(row.cost));
            let index = self.index_of(&row);
            let seen = &mut self.seen[index];
            seen.peak = seen.peak.max(row.in_flight);
            seen.in_flight_sum += u64::from(row.in_flight);
            seen.last = row;
        }
        self.whole_peak = self.whole_peak.max(whole);
        Ok(())
    }

    fn index_of(&mut self, row: &ResourceRow) -> usize {
        let known = self.seen.iter().position(|of| of.first.name == row.name);
        known.unwrap_or_else(|| {
            self.seen.push(Seen {
                first: row.clone(),
                last: row.clone(),
                peak: 0,
                in_flight_sum: 0,
            });
            self.seen.len() - 1
        })
    }

    /// Takes in the largest users of the last interval.
    pub(super) fn look_at_accounts(&mut self, rows: Vec<AccountRow>) {
        for row in rows {
            let peak = self.accounts.entry(row.account).or_default();
            *peak = row.peak.max(row.in_flight).max(*peak);
        }
        if self.accounts.len() > 2 * ACCOUNTS_MAX {
            self.accounts = self.largest().into_iter().collect();
        }
    }

    fn largest(&self) -> Vec<(String, u32)> {
        let accounts = self.accounts.iter().filter(|(_, peak)| **peak > 0);
        let mut accounts: Vec<_> = accounts.map(|(name, peak)| (name.clone(), *peak)).collect();
        accounts.sort_by_key(|(_, peak)| std::cmp::Reverse(*peak));
        accounts.truncate(ACCOUNTS_MAX);
        accounts
    }

    /// Requests finished so far, in flight at the last look, and the most at any look, for telling how it goes.
    pub(super) fn progress(&self) -> (u64, u32, u32) {
        let finished = self.seen.iter().map(Seen::finished).sum();
        let in_flight = self.seen.iter().map(|seen| seen.last.in_flight).sum();
        (finished, in_flight, self.whole_peak)
    }

    /// Sums up.
    pub(super) fn observed(&self, watched: Duration) -> Observed {
        let looks = f64::from(self.looks.max(1));
        let resources: Vec<_> = self.seen.iter().map(|seen| seen.resource(looks)).collect();
        let accounts = self.largest();
        let loads = || resources.iter().map(|of| &of.load);
        let upstream = self.seen.iter().map(Seen::upstream);
        let upstream = upstream.fold(Seconds::default(), |all, of| Seconds {
            count: all.count + of.count,
            sum: all.sum + of.sum,
        });
        // An account's peak is counted at each request, so it may show more than all looks did.
        let largest = accounts.first().map_or(0, |(_, peak)| *peak);
        Observed {
            watched,
            looks: self.looks,
            whole: Load {
                finished: loads().map(|load| load.finished).sum(),
                rejected: loads().map(|load| load.rejected).sum(),
                peak: self.whole_peak.max(largest),
                mean: loads().map(|load| load.mean).sum(),
                mean_places: loads().map(|load| load.mean_places).sum(),
                variance: loads().map(|load| load.variance).sum(),
                head_seconds: upstream.mean(),
            },
            resources,
            accounts,
            was_reloaded: self.first_generation != self.last_generation,
        }
    }
}

impl Seen {
    fn finished(&self) -> u64 {
        self.last.admitted.saturating_sub(self.first.admitted)
    }

    fn upstream(&self) -> Seconds {
        let (first, last) = (self.first.upstream_seconds, self.last.upstream_seconds);
        Seconds {
            count: last.count.saturating_sub(first.count),
            sum: (last.sum - first.sum).max(0.0),
        }
    }

    fn resource(&self, looks: f64) -> Resource {
        let cost = self.last.cost;
        let mean = float(self.in_flight_sum) / looks;
        Resource {
            name: self.last.name.clone(),
            cost,
            load: Load {
                finished: self.finished(),
                rejected: self.last.rejected.saturating_sub(self.first.rejected),
                peak: self.peak.saturating_mul(cost),
                mean,
                mean_places: mean * f64::from(cost),
                variance: mean * f64::from(cost) * f64::from(cost),
                head_seconds: self.upstream().mean(),
            },
        }
    }
}

impl Seconds {
    fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / float(self.count))
    }
}

/// Counts of a watch are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(in_flight: u32, admitted: u64) -> ResourceRow {
        ResourceRow {
            name: "calls".to_owned(),
            exempt: false,
            cost: 2,
            in_flight,
            admitted,
            rejected: 0,
            upstream_seconds: Seconds {
                count: admitted,
                sum: float(admitted) / 4.0,
            },
        }
    }

    fn status(uptime_seconds: u64, resources: Vec<ResourceRow>) -> Status {
        Status {
            generation: 1,
            uptime_seconds,
            resources,
        }
    }

    // G7: what went on before the watch is not in it, and exempt requests are not.
    #[test]
    fn a_watch_counts_from_its_first_look() {
        let mut watch = Watch::default();
        let probes = ResourceRow {
            name: "probes".to_owned(),
            exempt: true,
            ..row(50, 0)
        };
        for (uptime, in_flight, admitted) in [(100, 4, 1_000), (101, 6, 1_040), (102, 2, 1_120)] {
            let rows = vec![row(in_flight, admitted), probes.clone()];
            watch.look(status(uptime, rows)).unwrap();
        }
        let observed = watch.observed(Duration::from_secs(2));
        assert_eq!((observed.looks, observed.resources.len()), (3, 1));
        let load = Load {
            finished: 120,
            rejected: 0,
            peak: 12,
            mean: 4.0,
            mean_places: 8.0,
            variance: 16.0,
            head_seconds: Some(0.25),
        };
        assert_eq!(observed.resources[0].load, load);
        assert_eq!(observed.whole, load);
    }

    #[test]
    fn a_gate_that_was_started_anew_is_noticed() {
        let mut watch = Watch::default();
        watch.look(status(100, Vec::new())).unwrap();
        assert_eq!(watch.look(status(0, Vec::new())), Err(Restarted));
    }

    // G7, A28: accounts keep their largest peak of all intervals, and there are never many.
    #[test]
    fn the_largest_accounts_are_kept() {
        let mut watch = Watch::default();
        for look in 0..50 {
            let account = |n: u32| AccountRow {
                account: format!("a{look}-{n}"),
                in_flight: 0,
                peak: 1 + n,
            };
            watch.look_at_accounts((0..100).map(account).collect());
            assert!(watch.accounts.len() <= 2 * ACCOUNTS_MAX);
        }
        let largest = watch.largest();
        assert_eq!(largest.len(), ACCOUNTS_MAX);
        assert!(largest[..50].iter().all(|(_, peak)| *peak == 100));
    }
}
