//! `tidegate explain`: how a request would be treated, and by which lines of the configuration.
//!
//! Explains a file, or asks a running gate, which also knows how full its limits are and what would become of the request at this
//! moment. Never sends the request itself, and never prints a credential.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use super::client::{Gate, MaybeGate};
use crate::admission::Policy;
use crate::classify::{Peer, Rules};
use crate::config::explain::Explanation;
use crate::config::{self, Secrets};

/// The request that is asked about.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(short, long, env = "TIDEGATE_CONFIG", default_value = "tidegate.yaml")]
    pub config: PathBuf,
    /// The gate that is asked instead.
    #[command(flatten)]
    gate: MaybeGate,
    /// Its method.
    #[arg(short = 'X', long = "request", default_value = "GET")]
    pub method: Method,
    /// Its headers, each as `Name: value`.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The address of its client.
    #[arg(long, default_value = "127.0.0.1")]
    pub from: IpAddr,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Its path, with its query, or its whole URL.
    #[arg(value_parser = target)]
    pub path: Uri,
}

/// Explains the request; fails with the findings if the configuration has errors.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<ExitCode> {
    if let Some(gate) = args.gate.gate() {
        return print(args, &ask(&gate, args)?, out);
    }
    let config = match config::load(&args.config, Secrets::Optional) {
        Ok(config) => config,
        Err(report) => {
            writeln!(err, "{report}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let head = head(args)?;
    let trusted = config.server.trusted_proxies.clone();
    let peer = Peer {
        address: Some(args.from),
        common_name: None,
        trusted,
    };
    let origin = config.origin();
    let policy = Policy::new(config.policy, None);
    let rules = Rules::new(config.rules);
    let explanation = config::explain::explain(&origin, &rules, &policy, &head, &peer);
    print(args, &explanation, out)
}

fn print(args: &Args, explanation: &Explanation, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    if args.json {
        serde_json::to_writer_pretty(&mut *out, explanation)?;
        writeln!(out)?;
    } else {
        write!(out, "{explanation}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks a running gate about the request.
fn ask(gate: &Gate, args: &Args) -> anyhow::Result<Explanation> {
    let mut headers = BTreeMap::<&str, String>::new();
    for (name, value) in &args.headers {
        let value = value.to_str().with_context(|| {
            format!("the value of `{name}` is not plain ASCII, which the admin API cannot be asked about")
        })?;
        // Several fields of one name mean the same as one with all values.
        headers
            .entry(name.as_str())
            .and_modify(|known| *known = format!("{known}, {value}"))
            .or_insert_with(|| value.to_owned());
    }
    let question = serde_json::json!({
        "method": args.method.as_str(),
        "path": args.path.to_string(),
        "headers": headers,
        "client": args.from,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(gate.question("/v1/explain", &question))?)
}

/// Reads a header as curl takes it.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("it is not `Name: value`")?;
    let name = name.trim().parse();
    let name = name.map_err(|_| "before the colon is no header's name")?;
    let value = value.trim().parse();
    let value = value.map_err(|_| "behind the colon is no header's value")?;
    Ok((name, value))
}

/// Reads a path, or a whole URL.
fn target(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|_| "it is no path and no URL")?;
    if uri.path().starts_with('/') || uri.path() == "*" {
        Ok(uri)
    } else {
        Err(format!("a path begins with a slash: `/{text}`"))
    }
}

fn head(args: &Args) -> anyhow::Result<Parts> {
    let request = Request::builder().method(&args.method).uri(&args.path);
    let (mut head, ()) = request.body(())?.into_parts();
    for (name, value) in &args.headers {
        head.headers.append(name, value.clone());
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    // G20: the example of the README, as an operator asks it.
    #[test]
    fn a_request_is_explained_on_the_terminal() {
        let args = Args {
            gate: MaybeGate::default(),
            config: std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.yaml"),
            method: Method::POST,
            headers: vec![header("Authorization: Basic QUNfR09MRDp4").unwrap()],
            from: IpAddr::from([192, 0, 2, 1]),
            json: false,
            path: target("/anything?a=b").unwrap(),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(run(&args, &mut out, &mut err).unwrap(), ExitCode::SUCCESS);
        let text = String::from_utf8(out).unwrap();
        for wanted in [
            "resource     everything",
            "account      AC_GOLD",
            "- basic_auth: username",
            "group        gold",
            "priority     high",
            "max 300",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
        assert!(!text.contains("QUNf"), "{text}");
    }

    // CONTRACT §1: what was typed wrong is told before the configuration is read.
    #[test]
    fn what_no_request_can_be_is_wrong_usage() {
        for wrong in ["no colon", "na me: x", "name: \u{1}"] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
        for (text, is_good) in [
            ("/a?b", true),
            ("http://a/b", true),
            ("*", true),
            ("a/b", false),
            ("", false),
        ] {
            assert_eq!(target(text).is_ok(), is_good, "{text}");
        }
    }
}
