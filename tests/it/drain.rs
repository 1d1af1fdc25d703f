//! How a gate leaves: what is in flight finishes, nobody new comes in, and the exit status says how it went.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::client::{self, by};
use crate::support::h2;
use crate::support::origin::{Exchange, Next, Origin, held_origin, origin};
use crate::support::sidecar::{Sidecar, sidecar};
use crate::support::{eventually, now};

fn server(rest: &str) -> String {
    format!("server: {{ threads: 2, listeners: [{{ address: \"127.0.0.1:0\" }}], {rest} }}")
}

async fn until_not_ready(gate: &Sidecar) {
    eventually("/ready to say 503", async || {
        gate.ask_admin("/ready").await.status == 503
    })
    .await;
}

// Drain: TERM and INT turn /ready off, finish what is in flight with a close, and exit with 0.
#[tokio::test]
async fn what_is_in_flight_finishes() {
    for signal in [Signal::TERM, Signal::INT] {
        let origin = held_origin();
        let mut gate = sidecar("").before(&origin).start().await;
        assert_eq!(gate.ask_admin("/ready").await.status, 200);
        let mut busy = gate.connect().await;
        busy.send_get("/", &by("A")).await;
        let mut idle = gate.connect().await;
        origin.until_in_flight(1).await;
        gate.signal(signal);
        until_not_ready(&gate).await;
        assert_eq!(gate.ask_admin("/live").await.status, 200);
        eventually("the listener's end", async || {
            tokio::net::TcpStream::connect(&gate.address).await.is_err()
        })
        .await;
        origin.release(1);
        let last = busy.response().await;
        assert_eq!((last.status, last.text().as_str()), (200, "ok"));
        assert!(last.head.says("connection", "close"), "{}", last.head.raw);
        assert!(busy.until_closed().await.is_empty());
        idle.until_closed().await;
        let start = now();
        assert_eq!(gate.until_exit().await.code(), Some(0), "{}", gate.log());
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "no grace is slept away"
        );
    }
}

// Drain: from the ready line on a signal is heard; none kills, and none is lost.
#[tokio::test]
async fn a_signal_right_after_the_start_is_heard() {
    let origin = origin();
    for signal in [Signal::TERM, Signal::INT].into_iter().cycle().take(16) {
        let mut gate = sidecar("").before(&origin).start().await;
        gate.signal(signal);
        let status = gate.until_exit().await;
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

// Drain: an HTTP/2 client gets a GOAWAY, its stream finishes, and then the connection closes.
#[tokio::test]
async fn an_http2_client_is_told_to_go() {
    let origin = held_origin();
    let mut gate = sidecar("").before(&origin).start().await;
    let mut client = h2::Connection::open(&gate.address).await;
    let sent = tokio::spawn(client.sender.send_request(h2::get("/", "A")));
    origin.until_in_flight(1).await;
    gate.signal(Signal::TERM);
    until_not_ready(&gate).await;
    origin.open();
    assert_eq!(sent.await.unwrap().unwrap().status(), 200);
    eventually("the connection's end", async || client.task.is_finished()).await;
    assert_eq!(gate.until_exit().await.code(), Some(0), "{}", gate.log());
}

// Drain: during `drain_delay` the listeners stay open, while /ready already warns.
#[tokio::test]
async fn listeners_stay_open_for_the_delay() {
    let origin = origin();
    let mut gate = sidecar(&server("drain_delay: 2s"))
        .before(&origin)
        .start()
        .await;
    gate.signal(Signal::TERM);
    let start = now();
    until_not_ready(&gate).await;
    let late = gate.get("/", "A").await;
    assert_eq!(late.status, 200);
    assert_eq!(gate.until_exit().await.code(), Some(0));
    assert!(
        start.elapsed() >= Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

// Drain: what outlasts `drain_timeout` is cut, tunnels and half-sent heads too.
#[tokio::test]
async fn the_timeout_cuts_what_is_left() {
    let origin = Origin::start(async |exchange: &mut Exchange| {
        if exchange.head.get("upgrade").is_some() {
            exchange
                .raw("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
                .await?;
        }
        exchange.until_closed().await;
        Ok(Next::Close)
    });
    let mut gate = sidecar(&server("drain_timeout: 500ms"))
        .before(&origin)
        .start()
        .await;
    let mut hanging = gate.connect().await;
    hanging.send_get("/", &by("A")).await;
    let mut tunnel = gate.connect().await;
    tunnel
        .send_get("/", &[("connection", "upgrade"), ("upgrade", "websocket")])
        .await;
    assert_eq!(tunnel.head().await.0, 101);
    let mut half = gate.connect().await;
    half.send("GET / HT").await;
    origin.until_in_flight(2).await;
    let start = now();
    gate.signal(Signal::TERM);
    assert_eq!(gate.until_exit().await.code(), Some(0), "{}", gate.log());
    assert!(
        start.elapsed() >= Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
    for mut client in [hanging, tunnel, half] {
        client.until_closed().await;
    }
    origin.until_in_flight(0).await;
}

// Drain: a second signal does not wait.
#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let origin = held_origin();
    let mut gate = sidecar("").before(&origin).start().await;
    let mut busy = gate.connect().await;
    busy.send_get("/", &by("A")).await;
    origin.until_in_flight(1).await;
    gate.signal(Signal::TERM);
    until_not_ready(&gate).await;
    let start = now();
    gate.signal(Signal::TERM);
    assert_eq!(gate.until_exit().await.code(), Some(1));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

// Binding: an address that cannot be had ends the process with 1 and says which.
#[tokio::test]
async fn an_address_that_is_taken_ends_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a-file");
    std::fs::write(&file, "not a socket").unwrap();
    let live = directory.path().join("live.sock");
    let _live = std::os::unix::net::UnixListener::bind(&live).unwrap();
    let unix = |path: &std::path::Path| format!("unix:{}", path.display());
    let table = [
        (taken.clone(), "127.0.0.1:0".to_owned(), &taken),
        ("127.0.0.1:0".to_owned(), taken.clone(), &taken),
        (unix(&file), "127.0.0.1:0".to_owned(), &unix(&file)),
        (unix(&live), "127.0.0.1:0".to_owned(), &unix(&live)),
    ];
    for (listener, admin, named) in table {
        let config = directory.path().join("tidegate.yaml");
        let yaml = format!(
            "server: {{ listeners: [{{ address: \"{listener}\" }}] }}\nadmin: {{ address: \"{admin}\" }}\n\
             upstreams: {{ api: {{ endpoints: [\"127.0.0.1:9\"] }} }}\n"
        );
        std::fs::write(&config, yaml).unwrap();
        let ended = crate::cli::tidegate(&["serve", "-c", config.to_str().unwrap()]).await;
        assert_eq!(ended.code, 1, "{named}: {}", ended.stderr);
        let path = named.trim_start_matches("unix:");
        assert!(
            ended.stderr.contains("error") && ended.stderr.contains(path),
            "{}",
            ended.stderr
        );
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a socket");
}

// Binding: a socket file that a dead process left is replaced.
#[tokio::test]
async fn a_dead_socket_is_replaced() {
    let origin = origin();
    let plan =
        sidecar("server: { listeners: [{ address: \"unix:$DIR/gate.sock\" }] }").before(&origin);
    drop(std::os::unix::net::UnixListener::bind(plan.directory().join("gate.sock")).unwrap());
    let gate = plan.start().await;
    assert_eq!(client::get(&gate.address, "/", &by("A")).await.status, 200);
}
