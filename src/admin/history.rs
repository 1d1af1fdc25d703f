//! How full each limit was in the last minutes, so that whoever opens the live page sees what led here.
//!
//! One point every two seconds for five minutes, of the limits that stand first in the file: some 200 KiB when all are there. It is
//! for looking; Prometheus keeps the long run. Never written on a request's path.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::admission::Snapshot;

/// Points that are kept.
const POINTS: usize = 150;
/// Seconds between two of them.
pub const STEP_SECONDS: u32 = 2;
/// Limits of which points are kept.
const LIMITS_MAX: usize = 50;

/// The last minutes.
#[derive(Debug, Default)]
pub struct History(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    points: VecDeque<Point>,
    /// How they are shown, until there is another one.
    shown: Option<Bytes>,
}

/// All limits at one moment.
#[derive(Debug)]
struct Point {
    /// Seconds since the epoch.
    at: u64,
    limits: Vec<Fullness>,
}

#[derive(Debug)]
struct Fullness {
    limit: Arc<str>,
    /// Of the fullest key, in thousandths; above 1,000 where a limit was lowered or may be exceeded.
    used: u16,
    in_flight: u32,
    queued: u32,
    refused: u64,
}

impl History {
    /// Adds a point. To be called every [`STEP_SECONDS`].
    pub fn note(&self, at: u64, snapshot: &Snapshot) {
        let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let limits = snapshot.limits.iter().take(LIMITS_MAX);
        let limits = limits.map(|limit| Fullness {
            limit: Arc::clone(&limit.name),
            used: thousandths(limit.used_ratio),
            in_flight: narrow(limit.in_flight),
            queued: narrow(limit.queued),
            refused: limit.refused,
        });
        let limits = limits.collect();
        let mut state = self.0.lock();
        state.shown = None;
        if state.points.len() == POINTS {
            state.points.pop_front();
        }
        state.points.push_back(Point { at, limits });
    }

    /// All points as they are written out for those who come: once for all that come before the next point.
    pub(super) fn shown(&self, write: impl FnOnce(&Value) -> Bytes) -> Bytes {
        let mut state = self.0.lock();
        let State { points, shown } = &mut *state;
        shown.get_or_insert_with(|| write(&view(points))).clone()
    }
}

/// All points, oldest first: for each limit its columns, and `null` where it was not there.
fn view(points: &VecDeque<Point>) -> Value {
    let newest = points.back().map_or(&[][..], |point| &point.limits);
    let limits = newest.iter().enumerate().map(|(index, of)| {
        let column = |value: &dyn Fn(&Fullness) -> Value| -> Vec<Value> {
            let find = |point: &Point| {
                // The same place as a rule; another one after a reload.
                let same = point.limits.get(index);
                let same = same.filter(|known| known.limit == of.limit);
                let other = || point.limits.iter().find(|known| known.limit == of.limit);
                same.or_else(other).map_or(Value::Null, value)
            };
            points.iter().map(find).collect()
        };
        json!({
            "name": &*of.limit,
            "used": column(&|of| json!(f64::from(of.used) / 1e3)),
            "in_flight": column(&|of| of.in_flight.into()),
            "queued": column(&|of| of.queued.into()),
            "refused": column(&|of| of.refused.into()),
        })
    });
    json!({
        "step_seconds": STEP_SECONDS,
        "at": points.iter().map(|point| point.at).collect::<Vec<_>>(),
        "limits": limits.collect::<Vec<_>>(),
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
fn thousandths(ratio: f64) -> u16 {
    (ratio * 1e3).clamp(0.0, f64::from(u16::MAX)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    // A28: the last five minutes and no more.
    #[test]
    fn the_oldest_point_makes_way() {
        let history = History::default();
        for at in 0..400 {
            history.note(at, &Snapshot::default());
        }
        let view = view(&history.0.lock().points);
        let at = view["at"].as_array().unwrap();
        assert_eq!((at.len(), at[0].as_u64()), (POINTS, Some(250)));
        assert_eq!(thousandths(0.5), 500);
        assert_eq!(thousandths(1e9), u16::MAX);
    }
}
