//! `tidegate demo`: an origin, the gate and a load with a noisy account, in one process, out of nothing.
//!
//! The gate is the real one, started from YAML as an operator would write it; the origin and the load
//! are there only to be looked at, and measure nothing but themselves. Four accounts behave, one
//! offers more than the origin can serve; with the limits on, only that one is refused. Listens on the
//! loopback interface alone, on free ports, and reads and writes no file. `--calls` shows another part
//! of it, in `calls`.

mod calls;
mod load;
mod origin;
mod server;
mod table;
mod tally;

use std::any::Any;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use self::load::{Load, Plan};
use self::origin::{Origin, WORKERS};
use self::table::Scene;
use crate::clock::Clock;

/// The account that sends too much.
const NOISY: &str = "noisy";
/// Those that behave, each with [`QUIET_RATE`] requests a second.
const QUIET: [&str; 4] = ["acme", "birch", "cedar", "delta"];
const QUIET_RATE: u32 = 15;
/// Less than one request at a time on average, so these suffice even when an answer takes a second.
const QUIET_CONNECTIONS: usize = 16;
/// Each costs four open files in this one process (the load's end, the gate's two, the origin's), and
/// many systems allow 1,024: (128 + 4 × 16) × 4 = 768.
const NOISY_CONNECTIONS: usize = 128;
/// Requests of one account without an answer; more are not sent.
const OUTSTANDING: usize = 2000;
/// What is still in flight at the end may take so long: a dozen times the origin's slowest answer.
const GRACE: Duration = Duration::from_secs(1);

/// How often the table is drawn over itself on a terminal.
const REDRAW: Duration = Duration::from_millis(500);
/// How often it is printed where it cannot be drawn over.
const REPRINT: Duration = Duration::from_secs(5);

/// What `tidegate demo` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// End by itself after this time, with a summary: 20s, 500ms, 1m [default: until Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    pub run_for: Option<Duration>,

    /// Requests a second of the noisy account
    #[arg(long, value_name = "N", default_value_t = 400,
          value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub rate: u32,

    /// The same load with the limits off, to see the difference
    #[arg(long)]
    pub without_limits: bool,

    /// Instead of all that: two pages that call each other through the presence plugin, in your browser
    #[arg(long, conflicts_with_all = ["rate", "without_limits"])]
    pub calls: bool,
}

/// A gate that runs.
pub struct Gate {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where the admin API listens.
    pub admin: SocketAddr,
    /// Keeps it running; dropping it stops the gate.
    pub guard: Box<dyn Any + Send>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gate = f.debug_struct("Gate");
        gate.field("address", &self.address)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

/// Runs the demo until `--for` is over or Ctrl-C, and writes what it shows to `out`.
///
/// `start_gate` gets the whole configuration as YAML. The origin and the load run as tasks of the
/// current runtime; one with several threads keeps them apart from a slow terminal.
///
/// # Errors
///
/// No free port, a gate that does not start, or an `out` that cannot be written to. A reader of `out`
/// that has gone (`tidegate demo | head`) is a good end.
pub async fn run(
    args: &Args,
    out: &mut dyn Write,
    start_gate: impl FnOnce(&str) -> anyhow::Result<Gate>,
) -> anyhow::Result<()> {
    if args.calls {
        return calls::run(args, out, start_gate).await;
    }
    let clock = Clock::default();
    let origin = Origin::start(clock.clone(), WORKERS).await?;
    let yaml = configuration(origin.address(), !args.without_limits);
    let gate = start_gate(&yaml).context("the demo's gate did not start")?;
    let screen = Screen {
        out,
        redraws: io::stdout().is_terminal(),
        drawn: false,
    };
    match show(args, &clock, &origin, &gate, screen).await {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        ended => ended.context("the demo broke off"),
    }
}

async fn show(
    args: &Args,
    clock: &Clock,
    origin: &Origin,
    gate: &Gate,
    mut screen: Screen<'_>,
) -> io::Result<()> {
    screen.write(&introduction(gate, !args.without_limits))?;
    let started = clock.now();
    let mut load = Load::start(gate.address, clock, &plans(args.rate));
    let scene = |load: &Load, until: Instant| Scene {
        elapsed: until.saturating_duration_since(started),
        accounts: load.figures(),
        service: origin.service(),
        limits: !args.without_limits,
    };

    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let end = args.run_for.map(|time| started + time);
    let period = if screen.redraws { REDRAW } else { REPRINT };
    let mut next = started + period;
    loop {
        let wake = end.map_or(next, |end| end.min(next));
        tokio::select! {
            signal = &mut interrupted => {
                signal?;
                break;
            }
            () = tokio::time::sleep_until(wake.into()) => {}
        }
        let now = clock.now();
        if end.is_some_and(|end| now >= end) {
            break;
        }
        screen.draw(&scene(&load, now))?;
        // After a terminal that stood still, the missed tables are left out.
        while next <= now {
            next += period;
        }
    }

    let ended = clock.now();
    load.finish(GRACE).await;
    let scene = scene(&load, ended);
    screen.draw(&scene)?;
    screen.write(&format!("{}\n", scene.verdict()))
}

/// Where the text goes, and whether a table may be drawn over the one before.
struct Screen<'a> {
    out: &'a mut dyn Write,
    redraws: bool,
    drawn: bool,
}

impl Screen<'_> {
    fn draw(&mut self, scene: &Scene) -> io::Result<()> {
        let table = format!("{}\n", scene.table());
        let text = if self.redraws {
            let up = if self.drawn { table.lines().count() } else { 0 };
            over_the_last(&table, up)
        } else {
            table
        };
        self.drawn = true;
        self.write(&text)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// The table behind the escapes that go so many lines up, each line clearing what it overwrites, and
/// all below (an echoed `^C`) cleared at the end.
fn over_the_last(table: &str, up: usize) -> String {
    let mut text = if up > 0 {
        format!("\r\x1b[{up}A")
    } else {
        "\r".to_owned()
    };
    for line in table.lines() {
        text.push_str(line);
        text.push_str("\x1b[K\n");
    }
    text.push_str("\x1b[J");
    text
}

fn plans(noisy_rate: u32) -> Vec<Plan> {
    let quiet = QUIET.map(|account| (account, QUIET_RATE, QUIET_CONNECTIONS));
    let noisy = (NOISY, noisy_rate, NOISY_CONNECTIONS);
    // Seven milliseconds apart, so that they do not all send at the same instants.
    let offsets = (0..).map(|n| Duration::from_millis(7 * n));
    let all = quiet.into_iter().chain([noisy]).zip(offsets);
    all.map(|((account, rate, connections), offset)| Plan {
        account,
        rate,
        offset,
        connections,
        outstanding: OUTSTANDING,
    })
    .collect()
}

/// The limits as an operator writes them. The wide one lets 16 work and 44 wait in the origin, a tenth
/// of a second at most; the narrow one keeps any single account from being more than a part of that.
fn limits(on: bool) -> String {
    let mode = if on { "" } else { "\n    mode: off" };
    format!(
        "\
limits:
  - name: whole-api
    per: []
    max: 60{mode}
  - name: account
    per: [account]
    max: 10{mode}
"
    )
}

/// The whole configuration of the demo's gate.
fn configuration(origin: SocketAddr, limits_on: bool) -> String {
    let limits = limits(limits_on);
    let calls = load::call_path("{account}");
    format!(
        r#"server:
  listeners:
    - address: 127.0.0.1:0
admin:
  address: 127.0.0.1:0
access_log: {{ path: off }}
upstreams:
  api:
    endpoints: ["{origin}"]
accounts:
  identify:
    - path: account
    - header: x-account
resources:
  - name: calls
    match: {{ methods: [POST], path: "{calls}" }}
    upstream: api
  - name: everything
    match: {{ path: "/{{*rest}}" }}
    upstream: api
{limits}"#
    )
}

fn introduction(gate: &Gate, limits_on: bool) -> String {
    let Gate { address, admin, .. } = gate;
    let yaml = limits(limits_on).replace('\n', "\n  ");
    let yaml = yaml.trim_end();
    let path = load::call_path("you");
    let (other, other_shows) = if limits_on {
        (" --without-limits", "the same load without protection")
    } else {
        ("", "the same load with the limits on")
    };
    let quiet = QUIET.len();
    format!(
        "\
An API that serves {WORKERS} requests at a time, the gate in front of it, and {quiet} accounts that
behave beside one that does not.

  gate     http://{address}
  look     http://{admin}/   or: tidegate top --admin {admin}
  admin    http://{admin}/v1/status   http://{admin}/metrics
  try      curl -i -X POST http://{address}{path}
           curl -i -H 'x-account: {NOISY}' http://{address}/hello

This is the whole configuration of what may be in flight:

  {yaml}

Next: `tidegate demo{other}` shows {other_shows}.
For an API of yours: config.example.yaml, then `tidegate check -c FILE` and
`tidegate serve -c FILE`. Ctrl-C ends the demo.

"
    )
}

/// Reads `500ms`, `20s`, `1m` or `1h`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a time is a number and its unit: 500ms, 20s, 1m or 1h".to_owned()),
    };
    match number.parse::<u32>() {
        Ok(0) => Err("a demo of no time shows nothing".to_owned()),
        Ok(number) => Ok(Duration::from_millis(u64::from(number) * millis)),
        Err(_) => Err(format!("{number:?} is not a whole number below 4294967296")),
    }
}

#[cfg(test)]
mod tests;
