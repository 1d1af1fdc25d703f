//! The demo from start to summary, with no gate between the load and the origin, and its small parts.

use std::net::Ipv4Addr;

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(line: &[&str]) -> Result<Args, clap::Error> {
    Line::try_parse_from([&["demo"], line].concat()).map(|line| line.args)
}

/// The origin itself, where the configuration says that it is.
fn no_gate(yaml: &str) -> Gate {
    let (_, rest) = yaml.split_once("endpoints: [\"").unwrap();
    let address = rest.split('"').next().unwrap().parse().unwrap();
    Gate {
        address,
        admin: (Ipv4Addr::LOCALHOST, 9901).into(),
        guard: Box::new(()),
    }
}

#[test]
fn a_time_has_a_number_and_a_unit() {
    assert_eq!(parse_time("20s"), Ok(Duration::from_secs(20)));
    assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(parse_time("1m"), Ok(Duration::from_mins(1)));
    for wrong in ["", "20", "s", "1.5s", "-1s", "0s", "99999999999s", "1d"] {
        assert!(parse_time(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn the_noisy_account_sends_400_a_second_unless_told_otherwise() {
    let plain = args(&[]).unwrap();
    assert_eq!(
        (plain.rate, plain.run_for, plain.without_limits),
        (400, None, false)
    );
    let told = args(&["--for", "20s", "--rate", "50", "--without-limits"]).unwrap();
    assert_eq!((told.rate, told.without_limits), (50, true));
    assert_eq!(told.run_for, Some(Duration::from_secs(20)));
    assert!(args(&["--rate", "0"]).is_err());
    assert!(args(&["--calls", "--for", "20s"]).unwrap().calls);
    assert!(args(&["--calls", "--rate", "50"]).is_err());
}

#[test]
fn a_table_goes_over_the_one_before() {
    assert_eq!(over_the_last("a\nb\n", 0), "\ra\x1b[K\nb\x1b[K\n\x1b[J");
    assert_eq!(
        over_the_last("a\nb\n", 2),
        "\r\x1b[2Aa\x1b[K\nb\x1b[K\n\x1b[J"
    );
}

#[test]
fn the_limits_that_are_shown_are_the_ones_that_the_gate_gets() {
    let origin = SocketAddr::from((Ipv4Addr::LOCALHOST, 3000));
    for on in [true, false] {
        assert!(configuration(origin, on).ends_with(&limits(on)));
        assert_eq!(
            limits(on).matches("mode: off").count(),
            if on { 0 } else { 2 }
        );
    }
}

#[test]
fn the_open_files_of_the_whole_demo_stay_below_what_many_systems_allow() {
    let connections: usize = plans(400).iter().map(|plan| plan.connections).sum();
    assert!(connections * 4 <= 800, "{connections}");
}

#[tokio::test]
async fn a_demo_ends_by_itself_with_a_table_and_a_verdict() {
    let args = Args {
        run_for: Some(Duration::from_millis(700)),
        rate: 40,
        without_limits: false,
        calls: false,
    };
    let mut out = Vec::new();
    run(&args, &mut out, |yaml| Ok(no_gate(yaml)))
        .await
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    let row = |name: &str| {
        let line = text
            .lines()
            .rev()
            .find(|line| line.split_whitespace().next() == Some(name))
            .unwrap();
        line.split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for name in QUIET.iter().chain([&NOISY]) {
        let row = row(name);
        assert_ne!(row[1], "0", "{name} admitted: {text}");
        assert_eq!(row[3], "0", "{name} errors: {text}");
    }
    assert!(
        text.lines()
            .last()
            .unwrap()
            .starts_with("noisy: 0 % refused; the other 4: 0 refused")
    );
}

#[tokio::test]
async fn a_gate_that_does_not_start_is_an_error() {
    let args = args(&[]).unwrap();
    let ended = run(&args, &mut Vec::new(), |_| anyhow::bail!("no such key")).await;
    assert_eq!(
        format!("{:#}", ended.unwrap_err()),
        "the demo's gate did not start: no such key"
    );
}

#[tokio::test]
async fn a_reader_that_has_gone_is_a_good_end() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let args = args(&[]).unwrap();
    run(&args, &mut Gone, |yaml| Ok(no_gate(yaml)))
        .await
        .unwrap();
}
