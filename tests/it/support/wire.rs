//! HTTP/1.1 as bytes: just enough reading to write tests that are exact about them.
//!
//! Lenient where a test wants to see what came; never a model for a real parser.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Anything that carries bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The head of a message, with its exact text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    /// As received, up to and with the empty line.
    pub(crate) raw: String,
    /// The first line.
    pub(crate) start: String,
    /// Names in lower case, values as sent.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    fn parse(raw: &[u8]) -> Self {
        let raw = String::from_utf8_lossy(raw).into_owned();
        let mut lines = raw.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        Self {
            start,
            fields: fields(lines),
            raw,
        }
    }

    /// The first value of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of that name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let name = name.to_ascii_lowercase();
        self.fields
            .iter()
            .filter(move |(key, _)| *key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether some value of that name contains the text, without case.
    pub(crate) fn says(&self, name: &str, text: &str) -> bool {
        self.all(name)
            .any(|value| value.to_ascii_lowercase().contains(text))
    }
}

fn fields<'l>(lines: impl Iterator<Item = &'l str>) -> Vec<(String, String)> {
    let split = lines.filter_map(|line| line.split_once(':'));
    split
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}

/// A body that came whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Framing {
    /// The framing of a request with that head.
    pub(crate) fn of_request(head: &Head) -> Self {
        if head.says("transfer-encoding", "chunked") {
            return Self::Chunked;
        }
        let length = head
            .get("content-length")
            .and_then(|text| text.parse().ok());
        Self::Length(length.unwrap_or(0))
    }

    /// The framing of a response with that status to a request of that method.
    pub(crate) fn of_response(head: &Head, status: u16, method: &str) -> Self {
        if method == "HEAD" || status == 204 || status == 304 || status < 200 {
            return Self::Length(0);
        }
        let framed = head.get("content-length").or(head.get("transfer-encoding"));
        if framed.is_some() {
            Self::of_request(head)
        } else {
            Self::UntilClose
        }
    }
}

/// A stream that reads messages.
pub(crate) struct Wire {
    pub(crate) stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("buffered", &self.buffer.len())
            .finish_non_exhaustive()
    }
}

impl Wire {
    /// Over that stream.
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
        }
    }

    /// Writes and flushes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// The next head; `None` when the stream ended before its first byte.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let raw: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Ok(Some(Head::parse(&raw)));
            }
            if !self.fill().await? {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(cut())
                };
            }
        }
    }

    /// The body that follows a head; an error if the stream ends inside it.
    pub(crate) async fn body(&mut self, framing: Framing) -> io::Result<Body> {
        let mut body = Body::default();
        match framing {
            Framing::Length(length) => body.bytes = self.exactly(length).await?,
            Framing::UntilClose => body.bytes = self.rest().await?,
            Framing::Chunked => loop {
                let line = self.line().await?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16)
                    .map_err(|_| io::Error::other(format!("chunk size {line:?}")))?;
                if size == 0 {
                    body.trailers = self.trailers().await?;
                    break;
                }
                body.bytes.extend(self.exactly(size).await?);
                self.line().await?;
            },
        }
        Ok(body)
    }

    /// The next bytes, whatever they are; empty at the end.
    pub(crate) async fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Exactly so many bytes.
    pub(crate) async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill().await? {
                return Err(cut());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// All bytes up to the end.
    pub(crate) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill().await? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    async fn trailers(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields(lines.iter().map(String::as_str)));
            }
            lines.push(line);
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill().await? {
                return Err(cut());
            }
        }
    }

    async fn fill(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the stream ended inside a message",
    )
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
