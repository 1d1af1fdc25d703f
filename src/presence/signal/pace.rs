//! How fast new sockets are taken: after a network comes back, everybody comes at once.
//!
//! A token bucket of one second's worth. Beyond it a new socket is refused before it costs anything; a quarter as many again are let in just
//! to be told when to come back, as a page in a browser cannot read the refusal of an upgrade. The answer spreads those who
//! wait over the time that it takes to let them all in. Never counts who came, only how many.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Longest time that anybody is asked to stay away, in seconds.
const AWAY_MAX: f64 = 30.0;

/// What becomes of a new socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::presence) enum Verdict {
    /// It is welcome.
    Welcome,
    /// It may come in, to be told to come back after so long.
    Late(Duration),
    /// It is to come back after so long.
    Refused(Duration),
}

/// Takes new sockets at a set pace.
#[derive(Debug)]
pub(in crate::presence) struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    at: Instant,
    welcome: f64,
    late: f64,
    /// How many were turned away that have not had the time to come back.
    away: f64,
}

impl Pace {
    pub(in crate::presence) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            at: now,
            welcome: f64::INFINITY,
            late: f64::INFINITY,
            away: 0.0,
        }))
    }

    /// Judges one more; `chance` is from 0 to 1 and spreads those who are turned away.
    pub(in crate::presence) fn judge(&self, per_second: u32, now: Instant, chance: f64) -> Verdict {
        let rate = f64::from(per_second);
        let mut state = self.0.lock();
        let passed = now.saturating_duration_since(state.at).as_secs_f64();
        state.at = now;
        state.welcome = (state.welcome + passed * rate).min(rate);
        state.late = (state.late + passed * rate / 4.0).min((rate / 4.0).max(1.0));
        state.away = (state.away - passed * rate).max(0.0);
        if state.welcome >= 1.0 {
            state.welcome -= 1.0;
            return Verdict::Welcome;
        }
        state.away += 1.0;
        let all_in = (1.0 + state.away / rate).min(AWAY_MAX);
        let back = Duration::from_secs_f64((1.0 + chance * all_in).min(AWAY_MAX));
        if state.late >= 1.0 {
            state.late -= 1.0;
            return Verdict::Late(back);
        }
        Verdict::Refused(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_herd_is_let_in_at_the_set_pace_and_the_rest_is_spread() {
        let clock = Clock::manual();
        let pace = Pace::new(clock.now());
        let mut chance = fastrand::Rng::with_seed(7);
        let (mut welcome, mut late, mut backs) = (0, 0, Vec::new());
        for _ in 0..10_000 {
            match pace.judge(100, clock.now(), chance.f64()) {
                Verdict::Welcome => welcome += 1,
                Verdict::Late(_) => late += 1,
                Verdict::Refused(back) => backs.push(back.as_secs()),
            }
            clock.advance(Duration::from_millis(1));
        }
        // Ten seconds at a hundred a second, and the bucket that was full.
        assert!((1_090..=1_101).contains(&welcome), "{welcome}");
        assert!((270..=276).contains(&late), "{late}");
        assert!(backs.iter().all(|back| (1..=30).contains(back)));
        assert!(
            backs.iter().any(|back| *back >= 20),
            "a large herd is spread widely"
        );
        clock.advance(Duration::from_secs(60));
        assert_eq!(pace.judge(100, clock.now(), 0.5), Verdict::Welcome);
    }
}
