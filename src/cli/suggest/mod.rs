//! `tidegate suggest`: watches a running gate and prints the limits that what it saw suggests.
//!
//! Looks at what is in flight a few times a second, over the admin API alone, and leaves the gate as it is: no request of a
//! client does anything new for it. How it goes is told on standard error, in a dozen lines at most; the fragment goes to standard
//! output, and when nothing can be suggested nothing does. Never writes a file, never changes a limit.

mod fragment;
mod observe;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::MissedTickBehavior;

use self::observe::{ACCOUNTS_MAX, Observed, Watch};
use super::client::Gate;
use crate::clock::Clock;
use crate::config::units::{self, readable};

/// Between two looks. Each costs the gate a walk over its cells and live requests, beside the data plane: milliseconds where
/// there are a hundred thousand.
const LOOK: Duration = Duration::from_millis(250);
/// Looks for each look at the accounts, whose peaks stand for six seconds.
const LOOKS_AN_ACCOUNTS: u32 = 8;
/// Shorter than that, no interval of six seconds need have ended.
const WATCH_MIN: Duration = Duration::from_secs(7);
/// Longer than that, nobody waits.
const WATCH_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is told how it goes.
const TOLD: u32 = 10;

/// What is watched, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    gate: Gate,
    /// How long to watch: 30s, 10m, 1h; at least 7s, and best at the busiest hour
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = parse_time)]
    watch_for: Duration,
    /// How much may be in flight, in percent of the most that was seen
    #[arg(long, value_name = "PERCENT", default_value_t = 150,
          value_parser = clap::value_parser!(u32).range(100..=1000))]
    headroom: u32,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let time = units::duration(text).map_err(|error| format!("it {error}; {}", error.hint))?;
    if time < WATCH_MIN {
        Err("accounts are counted in intervals of six seconds, so watch for 7s at least".to_owned())
    } else if time > WATCH_MAX {
        Err("24h at most".to_owned())
    } else {
        Ok(time)
    }
}

/// Watches, then suggests; fails if the gate cannot be watched, or does not show enough.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let observed = runtime.block_on(watch(args, &Clock::default(), err))?;
    let fragment = fragment::fragment(&observed, &args.gate.address(), args.headroom)?;
    write!(out, "{fragment}")?;
    Ok(ExitCode::SUCCESS)
}

async fn watch(args: &Args, clock: &Clock, err: &mut impl Write) -> anyhow::Result<Observed> {
    let accounts = format!("/v1/accounts?top={ACCOUNTS_MAX}");
    let mut watch = Watch::default();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = clock.now();
    let mut told = 0;
    for look in 0_u32.. {
        looks.tick().await;
        watch.look(args.gate.read("/v1/status").await?)?;
        let elapsed = clock.now().saturating_duration_since(started);
        let is_over = elapsed >= args.watch_for;
        if is_over || look.is_multiple_of(LOOKS_AN_ACCOUNTS) {
            watch.look_at_accounts(args.gate.read(&accounts).await?);
        }
        if is_over {
            return Ok(watch.observed(elapsed));
        }
        if look == 0 {
            let (gate, time) = (args.gate.address(), readable(args.watch_for));
            writeln!(err, "tidegate: watching {gate} for {time}")?;
        } else if elapsed >= args.watch_for * (told + 1) / TOLD {
            told += 1;
            let (finished, in_flight, peak) = watch.progress();
            writeln!(
                err,
                "tidegate: {} % watched: {finished} requests finished, {in_flight} in flight, {peak} places at most",
                told * 100 / TOLD
            )?;
        }
    }
    unreachable!("a watch ends by time")
}
