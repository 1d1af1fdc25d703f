//! The auditor: compares what cells count with what the live requests hold.
//!
//! A count and its permits are read one after the other while requests come and go, so a single difference means
//! nothing. Nor do several at once: a place that was handed to a waiter counts from that moment, and is its request's only
//! when its task runs, which takes milliseconds on a busy machine, and the next waiter follows. So within a scan a cell is suspect
//! only while every one of many samples differs, some time apart, and a leak is told only when the same smallest difference
//! stands in three scans a second apart. Never corrects a count: a leak is a defect to mend.

use std::time::Duration;

use hashbrown::HashMap;

use super::live::Live;
use crate::admission::{Policy, Registry};

/// Samples a scan takes of suspect cells: with requests coming and going, chance differences cancel. A cell that queues all the time and
/// differs in four looks of five passes for a leak in one scan of 1,200, and in three in a row once in half a century.
const SAMPLES: usize = 32;
/// Between two samples: longer than a task waits for its thread as a rule. All of them take a third of the second between scans.
const APART: Duration = Duration::from_millis(10);
/// Scans in which a difference must stand.
const SCANS: u32 = 3;

/// Watches for leaks; to be asked once a second.
#[derive(Debug, Default)]
pub struct Auditor {
    /// Cells in suspicion: the difference, and in how many scans it stood.
    suspects: HashMap<u64, (i64, u32)>,
}

impl Auditor {
    /// Scans once and returns how many leaks became certain by it.
    pub async fn scan(&mut self, registry: &Registry, policy: &Policy, live: &Live) -> u64 {
        let mut differing = differences(registry, policy, live);
        for _ in 1..SAMPLES {
            if differing.is_empty() {
                break;
            }
            tokio::time::sleep(APART).await;
            let again = differences(registry, policy, live);
            differing.retain(|cell, difference| match again.get(cell) {
                Some(other) if other.signum() == difference.signum() => {
                    *difference = if other.abs() < difference.abs() {
                        *other
                    } else {
                        *difference
                    };
                    true
                }
                _ => false,
            });
        }
        let mut found = 0;
        let before = std::mem::take(&mut self.suspects);
        for (cell, difference) in differing {
            let scans = match before.get(&cell) {
                Some(&(same, scans)) if same == difference => scans + 1,
                _ => 1,
            };
            found += u64::from(scans == SCANS);
            self.suspects.insert(cell, (difference, scans));
        }
        found
    }
}

/// Cells whose count is not what live requests hold, with the surplus. The one cell of a limit that a reload removed is
/// not in the list; it goes with the last permit that points to it.
fn differences(registry: &Registry, policy: &Policy, live: &Live) -> HashMap<u64, i64> {
    let mut held = live.places();
    let mut differing = HashMap::new();
    registry.counts(policy, |cell, in_flight| {
        let difference = i64::from(in_flight) - held.remove(&cell).unwrap_or(0);
        if difference != 0 {
            differing.insert(cell, difference);
        }
    });
    differing
}
