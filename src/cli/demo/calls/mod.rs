//! `tidegate demo --calls`: two pages that call each other through the gate.
//!
//! The gate is the real one, with TLS and the presence plugin, started from YAML as an operator would write it. Behind it, in the same
//! process, stand the pages and a customer's server that says whom to ring. Listens on the loopback interface alone, on free ports;
//! its certificate and its secrets are made anew at each start.

mod customer;
mod pages;
mod papers;
mod seen;

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::customer::Customer;
use self::pages::Pages;
use self::papers::Papers;
use self::seen::{Seen, Tally, Tell, line};
use super::server::Server;
use super::{Args, Gate};
use crate::clock::Clock;

/// Who has a page.
const PEOPLE: [&str; 2] = ["alice", "bob"];

/// Runs until `--for` is over or Ctrl-C, and writes what happens to `out`.
pub(super) async fn run(
    args: &Args,
    out: &mut dyn Write,
    start_gate: impl FnOnce(&str) -> anyhow::Result<Gate>,
) -> anyhow::Result<()> {
    let clock = Clock::default();
    let papers = Papers::make()?;
    let (tell, mut seen) = Tell::new();
    let customer = Customer { tell: tell.clone() };
    let customer = Server::start(Arc::new(customer)).await?;
    let pages = Arc::new(Pages {
        papers,
        clock: clock.clone(),
        tell,
    });
    let origin = Server::start(Arc::clone(&pages)).await?;
    let yaml = configuration(&pages.papers, origin.address(), customer.address());
    let gate = start_gate(&yaml).context("the demo's gate did not start")?;
    match show(args, &clock, &mut seen, &gate, out).await {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        ended => ended.context("the demo broke off"),
    }
}

async fn show(
    args: &Args,
    clock: &Clock,
    seen: &mut mpsc::Receiver<Seen>,
    gate: &Gate,
    out: &mut dyn Write,
) -> io::Result<()> {
    write(out, &introduction(gate))?;
    let started = clock.now();
    let mut tally = Tally::default();
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    // Whatever ends it, its files go with it.
    let mut terminated = signal(SignalKind::terminate())?;
    let end = async {
        match args.run_for {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let mut end = std::pin::pin!(end);
    loop {
        let happened = tokio::select! {
            signal = &mut interrupted => {
                signal?;
                break;
            }
            _ = terminated.recv() => break,
            () = &mut end => break,
            Some(happened) = seen.recv() => happened,
        };
        tally.count(&happened);
        let elapsed = clock.now().saturating_duration_since(started);
        write(out, &line(elapsed, &happened))?;
    }
    write(out, &format!("{}\n", tally.verdict()))
}

fn write(out: &mut dyn Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// As many calls at once as may be, as an operator writes it: a third is refused before anything rings.
const LIMITS: &str = "\
limits:
  - name: calls
    per: [account]
    max: 2
    except: [signal, pages]
";

/// The whole configuration of the demo's gate.
fn configuration(papers: &Papers, pages: SocketAddr, customer: SocketAddr) -> String {
    let Papers {
        account,
        key,
        application,
        ..
    } = papers;
    let folder = papers.folder().display();
    format!(
        r#"server:
  listeners:
    - address: 127.0.0.1:0
      tls: {{ certificate: "{folder}/gate.crt", private_key: "{folder}/gate.key" }}
admin:
  address: 127.0.0.1:0
access_log: {{ path: off }}
upstreams:
  pages:
    endpoints: ["{pages}"]
accounts:
  identify: [presence]
presence:
  accounts:
    - sid: {account}
      auth_token: {{ file: "{folder}/auth_token" }}
      keys: [{{ id: {key}, secret: {{ file: "{folder}/secret" }} }}]
      applications:
        {application}: {{ voice: {{ url: "http://{customer}/voice" }} }}
resources:
  - {{ name: signal, match: {{ path: /signal }}, upstream: presence, stream: headers }}
  - {{ name: pages, match: {{ methods: [GET], path: "/{{page}}" }}, upstream: pages }}
{LIMITS}"#
    )
}

fn introduction(gate: &Gate) -> String {
    let Gate { address, admin, .. } = gate;
    let [one, other] = PEOPLE;
    let yaml = LIMITS.replace('\n', "\n  ");
    let yaml = yaml.trim_end();
    format!(
        "\
Two pages that call each other through the gate: who is there is told live, a call is put through
by instructions fetched from a customer's server, and the voices go from page to page.

  {one:<7}  https://{address}/{one}
  {other:<7}  https://{address}/{other}
  admin    http://{admin}/v1/status   http://{admin}/metrics

Try, in a browser that has a microphone (the certificate is made at this start, by nobody known:
let the browser go on in spite of it):

  1. Open both pages, each in a window of its own, and see both come in.
  2. Call from one, answer on the other, talk, hang up.
  3. Open {other} once more, and see both ring and one win. Have one show itself busy, and call it.
  4. Set a page offline in the middle of a call (developer tools, network) and online again: the
     voices go on, and the page comes back to its call.

At most two calls at once:

  {yaml}

What happens, as the customer's server hears it; Ctrl-C ends the demo:

"
    )
}
