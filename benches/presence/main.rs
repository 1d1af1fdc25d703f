//! Presence at scale on one machine: many idle sockets, a herd that registers, one change for many watchers, many asked at once.
//!
//! Starts the gate as its users run it (the binary of this profile), and talks to it from a process of its own, so that what the gate
//! uses is the gate's. Prints figures with the questions that they answer. The time of a change to its watchers includes the wait for
//! others; one watcher of fifty is timed, while what the others get waits in the kernel, as their clients would be elsewhere. The naive
//! fan-out is the same gate, told the same changes one by one, each in a flush of its own.
//! Run with `cargo bench --bench presence`; `-- --sockets 2000` is quick, `-- --tls` puts the sockets behind TLS.

mod client;
mod gate;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

use client::{Client, Line, percentile};
use gate::{Gate, Rest};

/// Tells most sockets of this process not to read.
type Away = tokio::sync::watch::Sender<bool>;

/// One socket of so many is timed; the others only get.
const TIMED: usize = 50;
/// Changes for which the others are away: fewer seconds than a silent socket has.
const AT_ONCE: usize = 10;

/// What to measure.
#[derive(Debug, Parser)]
struct Asked {
    /// Sockets that register and then are idle; a process may open some 20,000 files.
    #[arg(long, default_value_t = 15_000)]
    sockets: usize,
    /// Of them, those that watch one identity.
    #[arg(long, default_value_t = 10_000)]
    watchers: usize,
    /// Registrations a second that are offered.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Changes that are told to all watchers.
    #[arg(long, default_value_t = 20)]
    changes: usize,
    /// Over TLS.
    #[arg(long)]
    tls: bool,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let asked = Asked::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(run(&asked))
}

async fn run(asked: &Asked) -> anyhow::Result<()> {
    let gate = Gate::start(asked.tls).await?;
    warm_up(&gate).await?;
    println!("| what | asked for | measured |\n|---|---|---|");
    let (away, _) = tokio::sync::watch::channel(false);
    let mut lines = register(&gate, &away, asked).await?;
    watch(&gate, &away, &mut lines, asked).await?;
    many_at_once(&gate).await?;
    Ok(())
}

/// A few sockets come and go: the gate's code is in memory then, and what it makes once is made, so that neither is counted as theirs.
async fn warm_up(gate: &Gate) -> anyhow::Result<()> {
    for number in 0..200 {
        let mut client = Client::open(gate.address(number), gate.tls.clone()).await?;
        let hello = json!({ "token": gate.token("early"), "device": "d", "audio": true });
        client.say("hello", hello).await?;
        client.hear("welcome").await?;
        client.say("bye", json!({})).await?;
    }
    // More than one tick of everything that moves by itself.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// Registers all sockets at the offered rate: how long each takes, and what they cost once they are idle.
async fn register(gate: &Gate, away: &Away, asked: &Asked) -> anyhow::Result<Vec<Line>> {
    let before = gate.resident_kib();
    let began = now();
    let (mut tasks, mut lines, mut took) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..asked.sockets {
        let due = began + Duration::from_secs(1) / asked.rate * u32::try_from(number)?;
        tokio::time::sleep_until(due.into()).await;
        let (address, tls) = (gate.address(number).to_owned(), gate.tls.clone());
        let token = gate.token(&format!("i{number}"));
        let is_timed = number.is_multiple_of(TIMED);
        let is_away = if is_timed {
            present()
        } else {
            away.subscribe()
        };
        tasks.push(tokio::spawn(async move {
            let began = now();
            let mut client = Client::open(&address, tls).await?;
            let hello = json!({ "token": token, "device": "d", "audio": true });
            client.say("hello", hello).await?;
            client.hear("welcome").await?;
            let took = began.elapsed();
            // At once: a socket that does not echo heartbeats is given up.
            anyhow::Ok((client.stay(is_away), took))
        }));
    }
    for task in tasks {
        let (line, elapsed) = task.await??;
        took.push(elapsed);
        lines.push(line);
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = asked.sockets as f64 / seconds;
    println!(
        "| registrations (connect, upgrade, token, welcome) | {}/s | {rate:.0}/s, p50 {:.1} ms, p99 {:.1} ms |",
        asked.rate,
        ms(percentile(&mut took, 0.5)),
        ms(percentile(&mut took, 0.99)),
    );
    // Two heartbeats: what was only needed to connect is given back, and what idling takes is taken.
    tokio::time::sleep(Duration::from_secs(21)).await;
    let after = gate.resident_kib();
    let each = (after - before) as f64 / asked.sockets as f64;
    let kind = if asked.tls { "TLS" } else { "plain" };
    println!(
        "| resident memory of an idle registered socket ({} {kind}) | ≤ 10 KiB | {each:.1} KiB ({before} → {after} KiB) |",
        asked.sockets
    );
    Ok(lines)
}

/// Tells one identity's changes to many watchers: after a while in which nothing changed, one right behind the other, and in a burst.
async fn watch(gate: &Gate, away: &Away, lines: &mut [Line], asked: &Asked) -> anyhow::Result<()> {
    let mut hub = Client::open(gate.address(0), gate.tls.clone()).await?;
    let hello = json!({ "token": gate.token("hub"), "device": "d", "audio": true });
    hub.say("hello", hello).await?;
    hub.hear("welcome").await?;
    let hub = hub.stay(present());
    let watchers = asked.watchers.min(lines.len());
    let lines = &mut lines[..watchers];
    for line in lines.iter() {
        line.say("presence.sub", json!({ "identities": ["hub"] }))
            .await;
    }
    for line in lines.iter_mut() {
        line.until("presence.snapshot").await?;
    }
    let mut statuses = ["away", "busy", "available"].into_iter().cycle();
    let others = Others::ask(gate);
    let rounds = asked.changes.div_ceil(AT_ONCE);
    let mut took = Vec::new();
    for _ in 0..rounds {
        took.extend(
            changes(gate, &hub, away, lines, &mut statuses, true)
                .await?
                .0,
        );
    }
    print_told(watchers, "after a while", &mut took);
    let mut others = others.end();
    println!(
        "| one identity asked over REST meanwhile, every 5 ms | | p50 {:.1} ms, p99 {:.1} ms |",
        ms(percentile(&mut others, 0.5)),
        ms(percentile(&mut others, 0.99)),
    );
    let (mut took, mut cpu) = (Vec::new(), 0.0);
    for _ in 0..rounds {
        let (some, used) = changes(gate, &hub, away, lines, &mut statuses, false).await?;
        took.extend(some);
        cpu += used;
    }
    print_told(watchers, "right behind another", &mut took);
    burst(gate, &hub, lines, asked, cpu / (rounds * AT_ONCE) as f64).await
}

fn print_told(watchers: usize, when: &str, took: &mut [Duration]) {
    println!(
        "| one change to {watchers} watchers, {when} | p99 < 150 ms, the window of 100 ms included | p50 {:.0} ms, p99 {:.0} ms, longest {:.0} ms |",
        ms(percentile(took, 0.5)),
        ms(percentile(took, 0.99)),
        ms(percentile(took, 1.0)),
    );
}

/// Some changes one after another: how long each watcher took to hear of each that is timed, and the gate's CPU. The others are away.
async fn changes(
    gate: &Gate,
    hub: &Line,
    away: &Away,
    lines: &mut [Line],
    statuses: &mut impl Iterator<Item = &'static str>,
    is_quiet: bool,
) -> anyhow::Result<(Vec<Duration>, f64)> {
    // Who is heard now is not taken for lost while it is away.
    for line in lines.iter() {
        line.beat().await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    away.send_replace(true);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut took, cpu) = (Vec::new(), gate.cpu());
    for status in statuses.take(AT_ONCE) {
        if is_quiet {
            let pause = Duration::from_millis(fastrand::u64(200..300));
            tokio::time::sleep(pause).await;
        }
        let said = now();
        hub.say("presence.set", json!({ "status": status })).await;
        for line in lines.iter_mut().step_by(TIMED) {
            let at = line.until("presence.delta").await?;
            took.push(at.saturating_duration_since(said));
        }
    }
    // The last are still written to when the timed ones have heard.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let cpu = gate.cpu() - cpu;
    away.send_replace(false);
    for (index, line) in lines.iter_mut().enumerate() {
        let timed = index.is_multiple_of(TIMED);
        for _ in 0..if timed { 0 } else { AT_ONCE } {
            line.until("presence.delta").await?;
        }
    }
    Ok((took, cpu))
}

/// As many changes as fast as they can be said; `each` is the CPU that one took which was told by itself.
async fn burst(
    gate: &Gate,
    hub: &Line,
    lines: &mut [Line],
    asked: &Asked,
    each: f64,
) -> anyhow::Result<()> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let cpu = gate.cpu();
    for number in 0..asked.changes {
        let status = ["away", "busy"][number % 2];
        hub.say("presence.set", json!({ "status": status })).await;
    }
    // However many messages it was: what they cost is counted once nobody is told anything more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for line in lines.iter_mut() {
        line.until("presence.delta").await?;
    }
    let burst = gate.cpu() - cpu;
    println!(
        "| {} changes in a burst to {} watchers, told together: CPU to one by one (N x M), which is {:.1} µs a watcher | fewer | {:.3} |",
        asked.changes,
        lines.len(),
        each / lines.len() as f64 * 1e6,
        burst / (each * asked.changes as f64),
    );
    Ok(())
}

/// Somebody who asks for one identity all the time, on a thread of its own.
struct Others {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Duration>>,
}

impl Others {
    fn ask(gate: &Gate) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, address) = (Arc::clone(&is_over), gate.plain.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().expect("a runtime");
            let asking = async {
                let (mut took, mut connection) = (Vec::new(), Rest::connect(&address).await?);
                while !over.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    let began = now();
                    connection.ask("GET", "/v1/presence/hub", "").await?;
                    took.push(began.elapsed());
                }
                anyhow::Ok(took)
            };
            runtime.block_on(asking).expect("answers")
        });
        Self { is_over, thread }
    }

    fn end(self) -> Vec<Duration> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it asked to the end")
    }
}

/// Asks for a thousand at once over REST.
async fn many_at_once(gate: &Gate) -> anyhow::Result<()> {
    let identities: Vec<_> = (0..1_000).map(|number| format!("i{number}")).collect();
    let body = json!({ "identities": identities }).to_string();
    let mut took = Vec::new();
    let mut connection = gate.connect().await?;
    for _ in 0..300 {
        let began = now();
        let answer = connection.post("/v1/presence/query", &body).await?;
        took.push(began.elapsed());
        anyhow::ensure!(answer.len() > 50_000, "a thousand items");
    }
    println!(
        "| a thousand identities in one question | p99 < 5 ms | p50 {:.1} ms, p99 {:.1} ms |",
        ms(percentile(&mut took, 0.5)),
        ms(percentile(&mut took, 0.99)),
    );
    Ok(())
}

/// For sockets that always read.
fn present() -> tokio::sync::watch::Receiver<bool> {
    static ALWAYS: std::sync::OnceLock<Away> = std::sync::OnceLock::new();
    ALWAYS
        .get_or_init(|| tokio::sync::watch::channel(false).0)
        .subscribe()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a bench measures the machine's time"
)]
fn now() -> Instant {
    Instant::now()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
