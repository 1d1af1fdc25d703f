//! Clients that say exactly what a test wants: raw HTTP/1.1, or another project's program.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::wire::{Body, Framing, Head, Wire};
use super::{origin::reset_on_close, within};

/// Names and values of header fields.
pub(crate) type Fields<'f> = &'f [(&'f str, &'f str)];

/// A response that came whole.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Body,
}

impl Response {
    /// The first value of that field; a failure if there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.head
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {}", self.head.raw))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body.bytes)
            .unwrap_or_else(|error| panic!("{error} in {} {}", self.head.raw, self.text()))
    }
}

/// A connection that speaks HTTP/1.1 as it is told.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) wire: Wire,
}

impl Connection {
    /// Connects to `host:port` or `unix:/path`.
    pub(crate) async fn open(address: &str) -> Self {
        let wire = match address.strip_prefix("unix:") {
            Some(path) => Wire::new(UnixStream::connect(path).await.unwrap()),
            None => Wire::new(tcp(address).await),
        };
        Self { wire }
    }

    /// Connects so that dropping the connection resets it.
    pub(crate) async fn open_to_reset(address: &str) -> Self {
        let stream = tcp(address).await;
        reset_on_close(&stream);
        Self {
            wire: Wire::new(stream),
        }
    }

    /// Connects from another loopback address.
    pub(crate) async fn open_from(local: &str, address: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::new(local.parse().unwrap(), 0))
            .unwrap();
        let stream = within("a connection", socket.connect(address.parse().unwrap())).await;
        Self {
            wire: Wire::new(stream.unwrap()),
        }
    }

    /// Sends these bytes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes).await.unwrap();
    }

    /// Sends a GET with these fields.
    pub(crate) async fn send_get(&mut self, path: &str, fields: Fields<'_>) {
        self.send(request("GET", path, fields, "")).await;
    }

    /// Sends a request with these fields, and a body with its length.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        fields: Fields<'_>,
        body: &str,
    ) -> Response {
        self.send(request(method, path, fields, body)).await;
        self.response_to(method).await
    }

    /// Sends a GET and reads the response.
    pub(crate) async fn get(&mut self, path: &str, fields: Fields<'_>) -> Response {
        self.ask("GET", path, fields, "").await
    }

    /// The next response's head, without its body.
    pub(crate) async fn head(&mut self) -> (u16, Head) {
        let head = within("a response's head", self.wire.head()).await;
        let head = head
            .expect("a response's head")
            .expect("a response, not a close");
        let status = head
            .start
            .split(' ')
            .nth(1)
            .and_then(|text| text.parse().ok());
        (
            status.unwrap_or_else(|| panic!("no status in {}", head.raw)),
            head,
        )
    }

    /// The next response.
    pub(crate) async fn response(&mut self) -> Response {
        self.response_to("GET").await
    }

    /// The next response, to a request of that method.
    pub(crate) async fn response_to(&mut self, method: &str) -> Response {
        let (status, head) = self.head().await;
        let framing = Framing::of_response(&head, status, method);
        let body = within("a response's body", self.wire.body(framing)).await;
        Response {
            status,
            head,
            body: body.expect("a whole body"),
        }
    }

    /// Reads what is left of a response whose head was read, until its length or its cut.
    pub(crate) async fn until_closed_or_idle(&mut self) {
        within("the rest", self.wire.some()).await.ok();
    }

    /// Waits until the other side closes, and returns what came before.
    pub(crate) async fn until_closed(&mut self) -> Vec<u8> {
        within("the connection's end", self.wire.rest())
            .await
            .unwrap_or_default()
    }
}

async fn tcp(address: &str) -> TcpStream {
    let stream = within("a connection", TcpStream::connect(address)).await;
    let stream = stream.unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_nodelay(true).unwrap();
    stream
}

/// The bytes of a request with a Host (`gate.test` unless the fields name one), these fields, and a length if there is a body.
pub(crate) fn request(method: &str, path: &str, fields: Fields<'_>, body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if fields.iter().all(|(name, _)| *name != "host") {
        text.push_str("host: gate.test\r\n");
    }
    for (name, value) in fields {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    if !body.is_empty() {
        write!(text, "content-length: {}\r\n", body.len()).unwrap();
    }
    text + "\r\n" + body
}

/// The fields of a request by that account.
pub(crate) fn by(account: &str) -> [(&str, &str); 1] {
    [("x-account", account)]
}

/// One request on a connection of its own.
pub(crate) async fn get(address: &str, path: &str, fields: Fields<'_>) -> Response {
    ask(address, "GET", path, fields, "").await
}

/// One request with a body on a connection of its own.
pub(crate) async fn ask(
    address: &str,
    method: &str,
    path: &str,
    fields: Fields<'_>,
    body: &str,
) -> Response {
    let mut fields = fields.to_vec();
    fields.push(("connection", "close"));
    Connection::open(address)
        .await
        .ask(method, path, &fields, body)
        .await
}
