//! Scenarios: how many clients, over many requests, fare with the limits of a world.
//!
//! Each is a file in `tests/scenarios`: a world above, the figures expected of it below, and why. A discrete-event simulation
//! runs it over the real domain, with several seeds; nothing sleeps and no socket is opened. A failure prints all figures that
//! were asked for, seed by seed; `SIM_SEED=7 cargo test scenario` replays one, and `-- --nocapture` shows the figures of those
//! that hold.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::admission::seeds;
use crate::admission::simulation::Seed;

mod backend;
mod file;
mod gate;
mod simulation;
mod tally;

use simulation::Simulation;

/// Every variant is run with so many seeds.
const SEEDS: u64 = 3;
/// A figure may be so much beside its range: sums of many parts are not exact.
const ROUNDING: f64 = 1e-6;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

/// Runs all variants of a scenario, and fails with a table of all figures if one is not as expected.
#[expect(clippy::print_stdout, reason = "the figures are for whoever asks")]
fn holds(name: &str) {
    let text = fs::read_to_string(folder().join(format!("{name}.yaml"))).unwrap();
    let variants = file::read(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let seeds = seeds(SEEDS);
    let mut table = format!("{name}: figures with the seeds {seeds:?}\n");
    let mut are_all_right = true;
    for (variant, scenario) in &variants {
        let run = |&seed| {
            let seed = Seed(seed);
            Simulation::new(scenario, seed.0).run()
        };
        let runs: Vec<_> = seeds.iter().map(run).collect();
        for (figure, (low, high)) in &scenario.expect {
            let right = low - ROUNDING..=high + ROUNDING;
            let (mut seen, mut is_right) = (String::new(), true);
            for run in &runs {
                let value = run.figure(scenario, figure);
                let value = value.unwrap_or_else(|error| panic!("{name}: {error}"));
                is_right &= right.contains(&value);
                write!(seen, "{value:>10.3}").unwrap();
            }
            are_all_right &= is_right;
            let mark = if is_right { "    " } else { "NOT " };
            let range = format!("{low} to {high}");
            writeln!(table, "{mark}{variant:<20}{figure:<32}{range:<16}{seen}").unwrap();
        }
    }
    println!("{table}");
    assert!(are_all_right, "\n{table}");
}

/// One test a scenario, and one that knows them all.
macro_rules! scenarios {
    ($($(#[$note:meta])* $test:ident = $file:literal;)*) => {
        const SCENARIOS: &[&str] = &[$($file),*];
        $($(#[$note])* #[test] fn $test() { holds($file); })*
    };
}

scenarios! {
    // A4, A34, G2
    a_mouse_is_served_beside_elephants = "elephants-and-mice";
    // A4, A34, G2
    a_mouse_in_bursts_waits_as_if_it_were_alone = "mouse-in-bursts";
    // A4, A34, G2
    a_full_queue_turns_away_those_who_fill_it = "crowded-queue";
    // A4, A9, G2
    slow_readers_leave_the_rest_to_others = "slow-readers";
    // A4, G15
    lower_tiers_are_shed_for_the_top_one = "tier-shed";
    // A4, G15
    a_spike_of_the_lowest_tier_costs_it_alone = "bottom-spike";
    // A17, A34, G9
    a_retry_storm_ends_with_the_stall = "retry-storm";
    // A11, A12, G4
    a_maximum_is_halved_and_raised_under_load = "capacity-halved";
    // G17
    an_adaptive_maximum_follows_an_upstream_that_slows_down = "latency-drift";
    // A17, A34
    an_adaptive_queue_gives_more_useful_answers = "queue-sojourn";
    // G14
    a_guarantee_is_lent_and_comes_back = "guarantee";
    // A9, G2
    places_follow_weights = "weights";
    // A27, G2
    costly_requests_have_their_turn = "costs";
    // A18, A20
    between_soft_and_hard_limit_is_a_mark = "soft-and-hard";
}

// Each file is run, and each says which requirements it shows.
#[test]
fn every_scenario_is_run() {
    let entries = fs::read_dir(folder()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    let mut known: Vec<_> = SCENARIOS
        .iter()
        .map(|name| format!("{name}.yaml"))
        .collect();
    known.sort_unstable();
    assert_eq!(names, known);
}
