//! `tidegate explain`: how a request would be treated, and by which lines of the configuration.
//!
//! Never sends anything, and never says whether there is a place: that depends on what is in flight.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use http::{HeaderName, HeaderValue, Method, Request};

use crate::admission::Policy;
use crate::classify::{Peer, Rules};
use crate::config::{self, Secrets};

/// The request that is asked about.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(short, long, env = "TIDEGATE_CONFIG", default_value = "tidegate.yaml")]
    pub config: PathBuf,
    /// Its method.
    #[arg(short = 'X', long = "request", default_value = "GET")]
    pub method: Method,
    /// Its headers, each as `Name: value`.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// The address of its client.
    #[arg(long, default_value = "127.0.0.1")]
    pub from: IpAddr,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Its path, with its query, or its whole URL.
    pub path: String,
}

/// Explains the request; fails with the findings if the configuration has errors.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<ExitCode> {
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
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &explanation)?;
        writeln!(out)?;
    } else {
        write!(out, "{explanation}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn head(args: &Args) -> anyhow::Result<http::request::Parts> {
    let uri: http::Uri = args
        .path
        .parse()
        .with_context(|| format!("`{}` is no path", args.path))?;
    let mut request = Request::builder().method(&args.method).uri(uri).body(())?;
    for header in &args.headers {
        let (name, value) = header
            .split_once(':')
            .with_context(|| format!("`{header}` is not `Name: value`"))?;
        let name: HeaderName = name
            .trim()
            .parse()
            .with_context(|| format!("`{name}` is no header's name"))?;
        let value: HeaderValue = value
            .trim()
            .parse()
            .with_context(|| format!("`{value}` is no header's value"))?;
        request.headers_mut().append(name, value);
    }
    Ok(request.into_parts().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    // G20: the example of the README, as an operator asks it.
    #[test]
    fn a_request_is_explained_on_the_terminal() {
        let args = Args {
            config: std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.yaml"),
            method: Method::POST,
            headers: vec!["Authorization: Basic QUNfR09MRDp4".to_owned()],
            from: IpAddr::from([192, 0, 2, 1]),
            json: false,
            path: "/anything?a=b".to_owned(),
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
        let broken = Args {
            headers: vec!["no colon".to_owned()],
            ..args
        };
        assert!(run(&broken, &mut Vec::new(), &mut Vec::new()).is_err());
    }
}
