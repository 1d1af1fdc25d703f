//! The gate under test: a process of its own, its tokens, and what it uses.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tidegate::clock::Clock;
use tidegate::presence::token::Draft;
use tidegate::presence::{AccountSettings, ApiAccess, KeySettings, Name, SecretText, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const KEY: &str = "SK0123456789abcdef0123456789abcdef";
const SECRET: &str = "a secret of thirty-two bytes or more";
const PORT: u16 = 18_080;
/// Ports for sockets. A client gets a port of its own for each connection, and Linux looks for one among half of them first, one
/// after another: beyond 14,116 connections to one port it finds none there, and each takes a millisecond of the client's kernel.
/// Clients elsewhere are on many machines.
const SOCKET_PORTS: u16 = 2;
/// Clock ticks a second, as Linux counts CPU time for programs.
const TICKS: f64 = 100.0;

/// The running gate; ended when dropped.
#[derive(Debug)]
pub(crate) struct Gate {
    child: Child,
    _directory: tempfile::TempDir,
    addresses: Vec<String>,
    /// For questions.
    pub(crate) plain: String,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    settings: Settings,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Gate {
    pub(crate) async fn start(over_tls: bool) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let tls = over_tls.then(|| certify(directory.path())).transpose()?;
        let address = |port: u16| format!("127.0.0.1:{port}");
        let plain = address(PORT);
        let addresses: Vec<_> = (1..=SOCKET_PORTS).map(|of| address(PORT + of)).collect();
        let admin = address(PORT + SOCKET_PORTS + 1);
        let config = directory.path().join("tidegate.yaml");
        let pem = over_tls.then(|| directory.path());
        fs::write(&config, yaml(&plain, &addresses, &admin, pem))?;
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["serve", "-c"])
            .arg(&config)
            .env("BENCH_SECRET", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let gate = Self {
            child,
            _directory: directory,
            addresses,
            plain,
            tls,
            settings: settings(),
        };
        for _ in 0..200 {
            if TcpStream::connect(&gate.plain).await.is_ok() {
                return Ok(gate);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("the gate did not start")
    }

    /// Where the client of that number connects.
    pub(crate) fn address(&self, number: usize) -> &str {
        &self.addresses[number % self.addresses.len()]
    }

    /// A token of that identity, which sees all.
    pub(crate) fn token(&self, identity: &str) -> String {
        let draft = Draft {
            identity: Name::new(identity).expect("a name"),
            account: None,
            may_receive: true,
            application: None,
            presence: Some(serde_json::json!({ "publish": true, "subscribe": ["*"] })),
            ttl: Duration::from_secs(3_600),
            is_capability: false,
        };
        let token = draft.sign(&self.settings, Clock::default().unix_time());
        token.expect("the settings have a key")
    }

    /// Its resident memory.
    pub(crate) fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        kib.unwrap_or(0)
    }

    /// CPU seconds that it used.
    pub(crate) fn cpu(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(path).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<_> = after.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
        (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS
    }

    /// A connection for questions over REST, by the account's key.
    pub(crate) async fn connect(&self) -> anyhow::Result<Rest> {
        Rest::connect(&self.plain).await
    }
}

/// One connection over which questions are asked.
#[derive(Debug)]
pub(crate) struct Rest {
    stream: TcpStream,
}

impl Rest {
    pub(crate) async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Posts, and reads the whole answer.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> anyhow::Result<Vec<u8>> {
        self.ask("POST", path, body).await
    }

    /// Asks, and reads the whole answer.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> anyhow::Result<Vec<u8>> {
        let pair = BASE64_STANDARD.encode(format!("{KEY}:{SECRET}"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: gate\r\nauthorization: Basic {pair}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(body.as_bytes()).await?;
        let mut answer = Vec::with_capacity(512 * 1024);
        loop {
            anyhow::ensure!(self.stream.read_buf(&mut answer).await? > 0, "it closed");
            let Some(end) = answer.windows(4).position(|of| of == b"\r\n\r\n") else {
                continue;
            };
            let head = std::str::from_utf8(&answer[..end])?;
            anyhow::ensure!(head.starts_with("HTTP/1.1 2"), "{head}");
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = match length {
                None if head.starts_with("HTTP/1.1 204") => 0,
                length => length.context("a length")?.parse()?,
            };
            if answer.len() >= end + 4 + length {
                return Ok(answer);
            }
        }
    }
}

fn settings() -> Settings {
    Settings {
        accounts: vec![AccountSettings {
            sid: ACCOUNT.into(),
            auth_tokens: Vec::new(),
            keys: vec![KeySettings {
                id: KEY.into(),
                secrets: vec![SecretText(SECRET.into())],
            }],
            webhooks: Vec::new(),
            api: ApiAccess::Tokens,
            ..AccountSettings::default()
        }],
        ..Settings::default()
    }
}

/// For sockets at these addresses, over TLS if there is a folder with a certificate.
fn yaml(plain: &str, sockets: &[String], admin: &str, pem: Option<&std::path::Path>) -> String {
    let tls = pem.map(|pem| {
        let pem = pem.display();
        format!(", tls: {{ certificate: \"{pem}/crt.pem\", private_key: \"{pem}/key.pem\" }}")
    });
    let tls = tls.unwrap_or_default();
    let listener = |address: &String| format!(", {{ address: \"{address}\"{tls} }}");
    let listeners: String = sockets.iter().map(listener).collect();
    format!(
        "server: {{ threads: 2, max_connections: 60000, listeners: [{{ address: \"{plain}\" }}{listeners}] }}\n\
         admin: {{ address: \"{admin}\" }}\naccess_log: {{ path: off }}\n\
         accounts: {{ identify: [presence] }}\nupstreams: {{ api: {{ endpoints: [\"127.0.0.1:1\"] }} }}\n\
         presence:\n  connects_per_second: 50000\n  max_sockets: 50000\n  max_sockets_per_account: 50000\n  accounts:\n    - sid: {ACCOUNT}\n      \
         keys: [{{ id: {KEY}, secret: {{ env: BENCH_SECRET }} }}]\n\
         resources:\n- {{ name: signal, match: {{ path: /signal }}, upstream: presence, stream: headers }}\n\
         - {{ name: presence-api, match: {{ path: \"/v1/{{*rest}}\" }}, upstream: presence }}\n\
         limits:\n- {{ name: account, per: [account], max: 1000, except: [signal] }}\n"
    )
}

/// A certificate for the gate, and a client that trusts it.
fn certify(directory: &std::path::Path) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let made = rcgen::generate_simple_self_signed(vec!["gate.test".to_owned()])?;
    fs::write(directory.join("crt.pem"), made.cert.pem())?;
    fs::write(directory.join("key.pem"), made.signing_key.serialize_pem())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
