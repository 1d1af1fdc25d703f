//! `tidegate top`: a running gate, live in a terminal.
//!
//! Over the admin API alone. In a terminal it is a screen with keys (`live`, `keys`); elsewhere, and with `--once`, one plain page for
//! scripts. What is shown (`state`, `rows`, `history`) knows nothing of how it is drawn (`panels`, `table`, `draw`). Changes
//! nothing that was not asked for and answered (`question`).

mod calls;
mod draw;
mod history;
mod keys;
mod line;
mod live;
mod paint;
mod panels;
mod question;
mod rows;
mod seen;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod words;

use std::io::{IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Builder;

use self::paint::Paint;
use self::state::State;
use super::client::Gate;
use crate::clock::Clock;
use crate::config::units;

/// Looks cost the gate a walk over its cells and live requests: more often than that, nobody can read them.
const EVERY_MIN: Duration = Duration::from_millis(200);
/// A minute between two looks is no live view any more.
const EVERY_MAX: Duration = Duration::from_secs(60);
/// How wide the plain page is.
const PAGE_WIDTH: u16 = 160;

/// Which gate, and how often.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    gate: Gate,
    /// How often to look: 200ms to 1m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    every: Duration,
    /// Print one plain page and end, as happens anyway where the output is no terminal; takes two looks, for what comes a second
    #[arg(long)]
    once: bool,
    /// No colours; the variable `NO_COLOR` says the same, whatever it holds
    #[arg(long, env = "NO_COLOR", hide_env = true, value_name = "ANY", num_args = 0..=1, require_equals = true,
          default_missing_value = "1")]
    no_color: Option<String>,
    #[arg(env = "TERM", long, hide = true, default_value = "")]
    term: String,
    #[arg(env = "LC_ALL", long, hide = true, default_value = "")]
    locale: String,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let time = units::duration(text).map_err(|error| format!("it {error}; {}", error.hint))?;
    if (EVERY_MIN..=EVERY_MAX).contains(&time) {
        Ok(time)
    } else {
        Err("200ms to 1m".to_owned())
    }
}

/// Shows the gate until the operator quits; as a plain page, fails if the gate cannot be asked.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let clock = Clock::default();
    let state = State::new(&args.gate.address(), args.every, clock.now());
    let can_move = std::io::stdout().is_terminal() && !matches!(&*args.term, "" | "dumb");
    if args.once || !can_move {
        let page = runtime.block_on(page(args, state, &clock))?;
        out.write_all(page.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let paint = Paint {
        has_colour: args.no_color.as_ref().is_none_or(String::is_empty),
        has_unicode: has_unicode(&args.locale),
    };
    let shown = runtime.block_on(live::run(&args.gate, state, &clock, paint));
    shown.context("the terminal cannot be used; --once prints a plain page")?;
    Ok(ExitCode::SUCCESS)
}

/// Terminals have been Unicode for long, and containers set no locale; so only one that says otherwise has none.
fn has_unicode(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.is_empty() || locale.contains("utf-8") || locale.contains("utf8")
}

async fn page(args: &Args, mut state: State, clock: &Clock) -> anyhow::Result<String> {
    for look in 0..2 {
        if look > 0 {
            tokio::time::sleep(args.every).await;
        }
        let seen = calls::look(&args.gate, "").await?;
        state.look(clock.now(), seen);
    }
    Ok(draw::page(&state, clock.now(), PAGE_WIDTH))
}
