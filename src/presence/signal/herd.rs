//! A herd on a simulated clock: everybody's network comes back at once, and all are to be in before long, at the pace that is set.
//!
//! Clients are of three kinds. Pages obey `retry_after`, and those that are refused before they can be told so back off by themselves, as
//! ours do; others obey the refusal's `Retry-After`; the voice SDK knows neither, and doubles its wait from 0.1 s up to 20 s while it
//! is refused, beginning anew after each socket that opened. `SIM_SEED=` replays a run.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::pace::Verdict;
use crate::clock::Clock;
use crate::presence::plugin::Presence;
use crate::presence::settings::Settings;
use crate::presence::subscription::outbox::Close;
use crate::presence::testing::{Client, settings, token};

const HERD: usize = 2_000;
const PER_SECOND: u32 = 100;
/// One step of the clock.
const STEP: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Page,
    Server,
    Sdk,
}

struct Member {
    kind: Kind,
    /// When it tries again, and how long it waits after that.
    due: Duration,
    back: Duration,
    tries: u32,
    inside: Option<Client>,
}

/// What a herd did.
struct Told {
    /// When each was let in.
    admitted: Vec<Duration>,
    tries_max: u32,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a knob of the test, not configuration"
)]
fn seed() -> u64 {
    let given = std::env::var("SIM_SEED").ok();
    given.map_or(7, |seed| seed.parse().expect("SIM_SEED is a number"))
}

impl Member {
    /// It was refused, or told to come later; its next try is its own affair.
    fn turned_away(&mut self, now: Duration, back: Duration, was_open: bool, chance: f64) {
        let (first, longest) = match self.kind {
            Kind::Page => (Duration::from_millis(250), Duration::from_secs(10)),
            Kind::Server | Kind::Sdk => (Duration::from_millis(100), Duration::from_secs(20)),
        };
        let obeys = match self.kind {
            // A page cannot read why an upgrade was refused.
            Kind::Page => was_open,
            Kind::Server => true,
            Kind::Sdk => false,
        };
        if was_open {
            self.back = first;
        }
        let own = self.back.mul_f64(0.6 + 0.8 * chance);
        self.due = now + if obeys { back } else { own };
        self.back = (self.back * 2).clamp(first, longest);
    }

    /// Comes to the gate, which judges it; whoever is told something reads it.
    fn come(
        &mut self,
        presence: &Arc<Presence>,
        name: &str,
        now: Duration,
        rng: &mut fastrand::Rng,
    ) {
        self.tries += 1;
        let rate = presence.live().settings.connects_per_second;
        let clock = &presence.clock;
        let late = match presence.pace.judge(rate, clock.now(), rng.f64()) {
            Verdict::Refused(back) => return self.turned_away(now, back, false, rng.f64()),
            Verdict::Late(back) => Some(back),
            Verdict::Welcome => None,
        };
        let mut client = Client::open(presence, 0, late);
        let token = token(name, clock);
        if self.kind == Kind::Sdk {
            client.say("listen", &json!({ "token": token }));
        } else {
            client.say(
                "hello",
                &json!({ "token": token, "device": "d", "audio": true }),
            );
        }
        let (told, close) = client.told();
        let answer = &told[0];
        if late.is_some() {
            assert_eq!(
                (&answer["type"], close),
                (&json!("error"), Some(Close::TRY_LATER))
            );
            let seconds = answer["payload"]["retry_after"].as_u64().expect("a time");
            return self.turned_away(now, Duration::from_secs(seconds), true, rng.f64());
        }
        assert!(["welcome", "connected"].contains(&answer["type"].as_str().unwrap()));
        self.inside = Some(client);
    }
}

/// Lets a herd of these kinds come at once, until all are in.
fn let_in(kinds: &[Kind], seed: u64) -> Told {
    let mut rng = fastrand::Rng::with_seed(seed);
    let clock = Clock::manual();
    let presence = Presence::new(clock.clone());
    presence.configure(Settings {
        connects_per_second: PER_SECOND,
        ..settings()
    });
    let member = |number: usize| Member {
        kind: kinds[number % kinds.len()],
        due: Duration::ZERO,
        back: Duration::ZERO,
        tries: 0,
        inside: None,
    };
    let mut herd: Vec<_> = (0..HERD).map(member).collect();
    let (mut now, mut admitted) = (Duration::ZERO, Vec::new());
    while admitted.len() < HERD {
        assert!(
            now < Duration::from_mins(5),
            "seed {seed}: {} of {HERD} are in",
            admitted.len()
        );
        for (number, member) in herd.iter_mut().enumerate() {
            if member.inside.is_none() && member.due <= now {
                member.come(&presence, &format!("i{number}"), now, &mut rng);
                if member.inside.is_some() {
                    admitted.push(now);
                }
            }
        }
        clock.advance(STEP);
        now += STEP;
    }
    let tries_max = herd.iter().map(|member| member.tries).max();
    Told {
        admitted,
        tries_max: tries_max.unwrap_or(0),
    }
}

/// No second lets in more than the pace, but for the bucket that was full when they came.
fn is_paced(told: &Told) -> bool {
    let rate = f64::from(PER_SECOND);
    let mut so_far = 0.0;
    told.admitted.iter().all(|at| {
        so_far += 1.0;
        so_far <= rate + 1.0 + at.as_secs_f64() * rate
    })
}

// Two thousand at a hundred a second need nineteen seconds. Half are in as soon as they may be, all within twice that and the
// longest time that anybody is asked to stay away, and nobody has to try often: a page with a backoff of its own tried eleven times,
// an SDK twenty-two times, in seven seeds.
#[test]
fn a_herd_of_any_clients_is_in_before_long_at_the_set_pace() {
    let seed = seed();
    let mixed = [Kind::Page, Kind::Server, Kind::Sdk];
    for kinds in [&mixed[..1], &mixed[1..2], &mixed[2..], &mixed] {
        let told = let_in(kinds, seed);
        let half = told.admitted[HERD / 2].as_secs_f64();
        let last = told.admitted[HERD - 1].as_secs_f64();
        let what = format!(
            "{kinds:?}, SIM_SEED={seed}: half in {half} s, all in {last} s, {} tries",
            told.tries_max
        );
        assert!(is_paced(&told), "{what}");
        assert!(half < 12.0 && last < 60.0, "{what}");
        assert!(told.tries_max <= 30, "{what}");
    }
}
