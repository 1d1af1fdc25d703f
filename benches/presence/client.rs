//! Clients of the bench: many sockets in one process, with small buffers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Either kind of connection.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A socket that is being used.
pub(crate) struct Client(WebSocketStream<Box<dyn Stream>>);

/// A socket that idles: it echoes heartbeats, and tells when messages came.
#[derive(Debug)]
pub(crate) struct Line {
    heard: mpsc::Receiver<(String, Instant)>,
    say: mpsc::Sender<String>,
}

impl Client {
    pub(crate) async fn open(
        address: &str,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(config) => {
                let name = rustls::pki_types::ServerName::try_from("gate.test")?;
                Box::new(
                    tokio_rustls::TlsConnector::from(config)
                        .connect(name, stream)
                        .await?,
                )
            }
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(1024)
            .write_buffer_size(0);
        let opened = tokio_tungstenite::client_async_with_config(
            "ws://gate.test/signal",
            stream,
            Some(config),
        );
        Ok(Self(opened.await?.0))
    }

    pub(crate) async fn say(&mut self, r#type: &str, payload: Value) -> anyhow::Result<()> {
        self.0
            .send(Message::text(envelope(r#type, &payload)))
            .await?;
        Ok(())
    }

    /// The next message of that type.
    pub(crate) async fn hear(&mut self, r#type: &str) -> anyhow::Result<String> {
        loop {
            let message = self.0.next().await.context("the socket ended")??;
            if let Message::Text(text) = message {
                anyhow::ensure!(!text.contains("\"type\":\"error\""), "{text}");
                if is_of(&text, r#type) {
                    return Ok(text.to_string());
                }
            }
        }
    }

    /// Hands the socket to a task of its own, which does not read while it is away: what comes waits in the kernel, and costs this
    /// process nothing, as if the client were on another machine.
    pub(crate) fn stay(self, mut is_away: watch::Receiver<bool>) -> Line {
        let mut socket = self.0;
        let (tell, heard) = mpsc::channel(64);
        let (say, mut said) = mpsc::channel::<String>(4);
        tokio::spawn(async move {
            loop {
                if *is_away.borrow_and_update() {
                    if is_away.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
                tokio::select! {
                    changed = is_away.changed() => if changed.is_err() { return },
                    message = socket.next() => match message {
                        Some(Ok(Message::Text(text))) if text.trim().is_empty() => {
                            if socket.send(Message::text("\n")).await.is_err() { return }
                        }
                        Some(Ok(Message::Text(text))) => {
                            if tell.send((text.to_string(), super::now())).await.is_err() { return }
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return,
                    },
                    text = said.recv() => match text {
                        Some(text) => if socket.send(Message::text(text)).await.is_err() { return },
                        None => return,
                    },
                }
            }
        });
        Line { heard, say }
    }
}

impl Line {
    pub(crate) async fn say(&self, r#type: &str, payload: Value) {
        self.say.send(envelope(r#type, &payload)).await.ok();
    }

    /// Lets the gate hear that it is there.
    pub(crate) async fn beat(&self) {
        self.say.send("\n".to_owned()).await.ok();
    }

    /// When the next message of that type came.
    pub(crate) async fn until(&mut self, r#type: &str) -> anyhow::Result<Instant> {
        loop {
            let heard = tokio::time::timeout(Duration::from_secs(30), self.heard.recv()).await?;
            let (text, at) = heard.context("the socket ended")?;
            anyhow::ensure!(!text.contains("\"type\":\"error\""), "{text}");
            if is_of(&text, r#type) {
                return Ok(at);
            }
        }
    }
}

fn envelope(r#type: &str, payload: &Value) -> String {
    json!({ "type": r#type, "payload": payload, "version": "1.6" }).to_string()
}

fn is_of(text: &str, r#type: &str) -> bool {
    text.contains(&format!("\"type\":\"{type}\"", type = r#type))
}

/// The value below which that part of all lies.
pub(crate) fn percentile(all: &mut [Duration], part: f64) -> Duration {
    all.sort_unstable();
    let last = all.len().saturating_sub(1);
    let index = (last as f64 * part).round() as usize;
    all.get(index).copied().unwrap_or_default()
}
