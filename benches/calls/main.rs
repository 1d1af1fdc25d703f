//! Calls on one machine: how fast an invitation reaches ten devices, and how many calls a second are set up and torn down.
//!
//! Starts the gate as its users run it (the binary of this profile), and talks to it from a process of its own, so that what the gate uses
//! is the gate's; both share the machine's cores. Calls are brought over the API to a client's name, so that no customer's server is part
//! of the figures. Run with `cargo bench --bench calls`.

#[path = "../presence/client.rs"]
#[expect(dead_code, reason = "the presence bench uses all of it")]
mod client;
#[path = "../presence/gate.rs"]
#[expect(dead_code, reason = "the presence bench uses all of it")]
mod gate;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use serde_json::{Value, json};

use client::{Client, percentile};
use gate::{Gate, Rest};

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=offer\r\n";
const DEVICES: usize = 10;
/// A device says two things a call and may say 30 a second, so that its calls are no closer than this.
const APART: Duration = Duration::from_millis(70);

/// What to measure.
#[derive(Debug, Parser)]
struct Asked {
    /// Invitations to ten devices.
    #[arg(long, default_value_t = 1_000)]
    invitations: usize,
    /// Lines on which calls follow each other.
    #[arg(long, default_value_t = 200)]
    lines: usize,
    /// Seconds for which they do.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
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
    let gate = Gate::start(false).await?;
    println!("| what | asked for | measured |\n|---|---|---|");
    fan_out(&gate, asked).await?;
    throughput(&gate, asked).await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a bench measures the machine")]
fn now() -> Instant {
    Instant::now()
}

async fn device(gate: &Gate, identity: &str, device: &str) -> anyhow::Result<Client> {
    let mut client = Client::open(gate.address(0), None).await?;
    let hello = json!({ "token": gate.token(identity), "device": device, "audio": true });
    client.say("hello", hello).await?;
    client.hear("welcome").await?;
    Ok(client)
}

/// Brings a call to a client; its identifier comes back.
async fn bring(rest: &mut Rest, to: &str) -> anyhow::Result<String> {
    let call = json!({ "to": format!("client:{to}"), "from": "+14155550199", "sdp": OFFER });
    let answer = rest
        .ask("POST", "/v1/communications", &call.to_string())
        .await?;
    let body = answer.windows(4).position(|of| of == b"\r\n\r\n");
    let body: Value = serde_json::from_slice(&answer[body.context("a body")? + 4..])?;
    Ok(body["sid"].as_str().context("a sid")?.to_owned())
}

/// From the request to the last of ten devices that has its invitation.
async fn fan_out(gate: &Gate, asked: &Asked) -> anyhow::Result<()> {
    let mut devices = Vec::new();
    for number in 0..DEVICES {
        devices.push(device(gate, "ten", &format!("d{number}")).await?);
    }
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let mut rest = gate.connect().await?;
    for _ in 0..asked.invitations {
        let began = now();
        let sid = bring(&mut rest, "ten").await?;
        for (index, device) in devices.iter_mut().enumerate() {
            device.hear("call.invite").await?;
            if index == 0 {
                first.push(now() - began);
            }
        }
        last.push(now() - began);
        let path = format!("/v1/communications/{sid}");
        rest.ask("DELETE", &path, "").await?;
        for device in &mut devices {
            device.hear("call.cancel").await?;
        }
    }
    let (p50, p99) = (percentile(&mut last, 0.5), percentile(&mut last, 0.99));
    let one = percentile(&mut first, 0.5);
    println!(
        "| a call to ten devices, from the request to the tenth that has read it | p99 5 ms | p50 {:.2} ms, p99 {:.2} ms (the first device p50 {:.2} ms) |",
        ms(p50),
        ms(p99),
        ms(one)
    );
    Ok(())
}

/// Calls set up, answered and hung up, on many lines at once.
async fn throughput(gate: &Gate, asked: &Asked) -> anyhow::Result<()> {
    let cpu = gate.cpu();
    let began = now();
    let until = began + Duration::from_secs(asked.seconds);
    let mut tasks = Vec::new();
    for line in 0..asked.lines {
        let identity = format!("line{line}");
        let mut callee = device(gate, &identity, "phone").await?;
        let mut rest = gate.connect().await?;
        tasks.push(tokio::spawn(async move {
            let mut took = Vec::new();
            while now() < until {
                let began = now();
                bring(&mut rest, &identity).await?;
                let invitation = callee.hear("call.invite").await?;
                let invitation: Value = serde_json::from_str(&invitation)?;
                let callsid = invitation["payload"]["callsid"].clone();
                let answer = json!({ "callsid": callsid, "sdp": OFFER });
                callee.say("call.accept", answer).await?;
                callee.hear("call.accept").await?;
                took.push(now() - began);
                callee
                    .say("call.hangup", json!({ "callsid": callsid }))
                    .await?;
                callee.hear("call.hangup").await?;
                tokio::time::sleep(APART.saturating_sub(now() - began)).await;
            }
            anyhow::Ok(took)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    let (seconds, calls) = ((now() - began).as_secs_f64(), all.len());
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 calls")]
    let (rate, each) = (calls as f64 / seconds, (gate.cpu() - cpu) / calls as f64);
    println!(
        "| calls set up, answered and torn down, {} at a time | report | {rate:.0} a second, {:.2} ms of CPU each; to the answer p50 {:.1} ms, p99 {:.1} ms |",
        asked.lines,
        each * 1_000.0,
        ms(percentile(&mut all, 0.5)),
        ms(percentile(&mut all, 0.99)),
    );
    Ok(())
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}
