//! The access log's other forms: a share of the successes, columns for people, and the trace that a line belongs to.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::client::{self, by};
use crate::support::eventually;
use crate::support::origin::{Exchange, Origin};
use crate::support::sidecar::{Sidecar, sidecar};

/// An origin that answers `/missing` with 404, breaks off `/cut`, and else says `ok`.
fn origin() -> Origin {
    Origin::start(async |exchange: &mut Exchange| {
        exchange.body().await?;
        match exchange.target() {
            "/missing" => exchange.reply(404, "no").await,
            "/cut" => {
                exchange
                    .raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart")
                    .await?;
                Err(std::io::ErrorKind::Other.into())
            }
            _ => exchange.reply(200, "ok").await,
        }
    })
}

fn lines(gate: &Sidecar) -> Vec<Value> {
    let output = gate.output();
    // The last line may be half written.
    let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parsed = whole.lines().map(serde_json::from_str::<Value>);
    parsed.map(|line| line.expect("a line of JSON")).collect()
}

/// Waits for the line of that path.
async fn until_logged(gate: &Sidecar, path: &str) -> Value {
    let mut found = None;
    eventually("a line", async || {
        found = lines(gate).into_iter().find(|line| line["path"] == path);
        found.is_some()
    })
    .await;
    found.expect("it was found")
}

async fn get_as(gate: &Sidecar, path: &str, id: &str) {
    let fields = [("x-account", "A"), ("x-request-id", id)];
    client::get(&gate.address, path, &fields).await;
}

// A22: with a share of the successes only, whatever was refused, failed or was cut is still written; lines tell the share.
#[tokio::test]
async fn a_share_of_the_successes_is_written_and_all_else_always() {
    let origin = origin();
    let yaml = "access_log: { path: stdout, sample: 0 }\n\
                limits: [{ name: account, per: [account], max: 1, overrides: [{ account: closed, max: 0 }] }]";
    let gate = sidecar(yaml).before(&origin).start().await;
    get_as(&gate, "/good", "1").await;
    get_as(&gate, "/missing", "2").await;
    let mut client = gate.connect().await;
    client.send_get("/cut", &by("A")).await;
    client.until_closed().await;
    gate.get("/refused", "closed").await;
    let refused = until_logged(&gate, "/refused").await;
    until_logged(&gate, "/cut").await;
    // The writer keeps the order, and `/good` was first.
    let paths: Vec<_> = lines(&gate)
        .iter()
        .map(|line| line["path"].clone())
        .collect();
    assert_eq!(paths, ["/missing", "/cut", "/refused"]);
    assert!(lines(&gate).iter().all(|line| line.get("sample").is_none()));
    // The gate's own words count as bytes too.
    assert!(refused["bytes"].as_u64() > Some(100), "{refused}");
}

// A22: which lines are written depends on the request's id alone, so that two sidecars write the same ones; counted by their share
// they come to what was asked.
#[tokio::test]
async fn sidecars_write_lines_of_the_same_requests() {
    let origin = origin();
    let yaml = "access_log: { path: stdout, sample: 0.25 }\n";
    let (one, two) = tokio::join!(
        sidecar(yaml).before(&origin).start(),
        sidecar(yaml).before(&origin).start()
    );
    let mut seen = Vec::new();
    for gate in [&one, &two] {
        let mut client = gate.connect().await;
        for n in 0..400 {
            let id = format!("request-{n}");
            let fields = [("x-account", "A"), ("x-request-id", &*id)];
            assert_eq!(client.get("/", &fields).await.status, 200);
        }
        get_as(gate, "/missing", "last").await;
        until_logged(gate, "/missing").await;
        let successes = lines(gate).into_iter().filter(|line| line["status"] == 200);
        let ids: BTreeSet<_> = successes
            .map(|line| {
                assert_eq!(line["sample"], 0.25);
                line["request_id"].to_string()
            })
            .collect();
        seen.push(ids);
    }
    assert_eq!(seen[0], seen[1]);
    // The ids are fixed, and so is how many of them the rule takes; seven standard deviations around 100.
    assert!((40..=160).contains(&seen[0].len()), "{}", seen[0].len());
}

// A line names its trace while traces are on, recorded or not; the lines of a trace are chosen by it.
#[tokio::test]
async fn a_line_names_its_trace_and_is_chosen_by_it() {
    let origin = origin();
    // Nobody listens there, which is no matter for the log.
    let yaml = "access_log: { path: stdout, sample: 0.5 }\ntraces: { otlp: \"http://127.0.0.1:9\", sample: 0 }\n";
    let gate = sidecar(yaml).before(&origin).start().await;
    // The last 56 bits decide: all ones are in every share, all zeroes in none but the whole.
    for (path, last) in [("/in", "ff"), ("/out", "00")] {
        let id = format!("{}{}", "ab".repeat(9), last.repeat(7));
        let parent = format!("00-{id}-00f067aa0ba902b7-00");
        let fields = [("x-account", "A"), ("traceparent", &*parent)];
        assert_eq!(client::get(&gate.address, path, &fields).await.status, 200);
    }
    get_as(&gate, "/missing", "last").await;
    let last = until_logged(&gate, "/missing").await;
    assert_eq!(last["trace_id"].as_str().map(str::len), Some(32));
    let lines = lines(&gate);
    assert_eq!(
        lines[0]["trace_id"],
        format!("{}{}", "ab".repeat(9), "ff".repeat(7))
    );
    let paths: Vec<_> = lines.iter().map(|line| line["path"].clone()).collect();
    assert_eq!(paths, ["/in", "/missing"]);
    gate.reloaded_with("access_log: { path: stdout }\n").await;
    get_as(&gate, "/off", "1").await;
    assert!(until_logged(&gate, "/off").await.get("trace_id").is_none());
}

// The form for people: one line a request, without colours where no terminal is; a reload changes it.
#[tokio::test]
async fn lines_for_people_are_plain_where_no_terminal_is() {
    let origin = origin();
    let gate = sidecar("access_log: { path: stdout, format: human }\n")
        .before(&origin)
        .start()
        .await;
    get_as(&gate, "/good?secret=1", "1").await;
    get_as(&gate, "/missing", "2").await;
    eventually("two lines", async || gate.output().lines().count() == 2).await;
    let output = gate.output();
    let lines: Vec<_> = output.lines().collect();
    assert!(
        lines[0].contains(" 200 ") && lines[0].contains(" /good "),
        "{output}"
    );
    assert!(
        lines[1].contains(" 404 ") && lines[1].contains(" /missing "),
        "{output}"
    );
    assert_eq!(lines[0].find("/good"), lines[1].find("/missing"));
    assert!(
        !output.contains('\x1b') && !output.contains("secret"),
        "{output}"
    );
    gate.reloaded_with("access_log: { path: stdout }\n").await;
    get_as(&gate, "/json", "3").await;
    eventually("a line of JSON", async || {
        gate.output()
            .lines()
            .last()
            .is_some_and(|line| line.starts_with('{'))
    })
    .await;
}

// A22: behind a proxy that is believed, the line says who asked; a stranger's word for it counts for nothing.
#[tokio::test]
async fn the_client_of_a_line_is_the_one_whom_a_trusted_proxy_names() {
    let origin = origin();
    for (trusted, client) in [
        ("[127.0.0.1/32]", "192.0.2.7"),
        ("[198.51.100.1/32]", "127.0.0.1"),
    ] {
        let server = format!(
            "server: {{ listeners: [{{ address: \"127.0.0.1:0\" }}], trusted_proxies: {trusted} }}\naccess_log: {{ path: stdout }}"
        );
        let gate = sidecar(&server).before(&origin).start().await;
        let fields = [
            ("x-account", "A"),
            ("x-forwarded-for", "203.0.113.9, 192.0.2.7"),
        ];
        client::get(&gate.address, "/good", &fields).await;
        assert_eq!(until_logged(&gate, "/good").await["client"], client);
    }
}
