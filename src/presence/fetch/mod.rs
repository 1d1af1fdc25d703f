//! One request to somebody else's server: webhooks, and the instructions of a call.
//!
//! Each request has a connection of its own, HTTP/1.1, which lives inside the caller's future: nothing is kept that could be
//! mistaken between accounts, and dropping the future ends everything but a lookup. Time, head and body are bounded. Redirects
//! are told, not followed, because each hop is checked and signed anew by whoever follows it. Never connects to an address that
//! the [`Egress`] did not allow: a name is resolved once, and what was checked is what is connected to. Never puts what was
//! fetched, or an address, into an error.

pub mod callbacks;
mod cookies;
mod ear;
pub mod egress;
pub mod fields;
mod follow;
pub mod instructions;
#[cfg(test)]
mod loopback;
mod patience;
pub mod reach;
pub mod reference;
mod resolve;
pub mod signature;
mod target;
#[cfg(test)]
mod tests;
pub mod webhook;
pub(in crate::presence) mod webhooks;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use ear::Ear;
use egress::Egress;
use resolve::Resolver;
use target::Target;

/// The most that a caller should take of an answer's body: more than any instructions need.
pub const BODY_MAX: usize = 64 * 1024;

/// An answer's head, status line and all. Twice what hyper wants at least.
const HEAD_MAX: usize = 16 * 1024;
/// Header fields of an answer.
const FIELDS_MAX: usize = 100;
/// Tries to connect, so that a lost packet or a family without a route does not end a call; each has its part of the time.
const TRIES: u32 = 2;

/// A connection, whatever is under it.
pub(in crate::presence) trait Duplex:
    AsyncRead + AsyncWrite + Send + Unpin
{
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Fetches; one for the process.
#[derive(Debug, Clone)]
pub struct Fetcher {
    tls: Arc<ClientConfig>,
    resolver: Resolver,
}

/// What to send.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// An absolute `http` or `https` URL without user and password.
    pub url: Uri,
    /// Header fields; `host` and `connection` are written over.
    pub headers: HeaderMap,
    /// The body, sent with its length.
    pub body: Bytes,
    /// How long it may take.
    pub limits: Limits,
    /// What of the answer's body is wanted.
    pub wanted: Wanted,
}

/// How long the parts of a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// To connect, and as long again to agree on TLS.
    pub connect: Duration,
    /// From there to the first byte of the answer.
    pub silence: Duration,
    /// From the lookup to the last byte of the answer.
    pub total: Duration,
}

/// What of an answer's body is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: the connection is dropped behind the head.
    Head,
    /// All of it where the answer is a success, and else nothing; what has more bytes is an error.
    Body(usize),
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body; empty if it was not wanted.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL is none that can be fetched.
    #[error("not an absolute http or https URL without user and password")]
    BadUrl,
    /// The host has no address.
    #[error("the host's name cannot be resolved")]
    Resolve,
    /// The host has only addresses that nothing is fetched from.
    #[error("the host's address is not public, and not in `egress.allow`")]
    RefusedAddress,
    /// Neither try to connect succeeded.
    #[error("the host does not accept connections")]
    Connect,
    /// Not one byte came back.
    #[error("the host does not answer")]
    Silent,
    /// The time is up.
    #[error("no whole answer in time")]
    Timeout,
    /// No TLS with that server.
    #[error("the TLS handshake failed")]
    Tls,
    /// The server's certificate is for other hosts.
    #[error("the host's certificate is for another name")]
    OtherName,
    /// The server's certificate is not good yet, or no longer.
    #[error("the host's certificate is out of date")]
    OutOfDate,
    /// The server's certificate is signed by nobody who is trusted, or is none.
    #[error("the host's certificate is not accepted")]
    Certificate,
    /// What came back is no whole HTTP/1.1 answer.
    #[error("the answer is not proper HTTP, or broke off")]
    Protocol,
    /// The answer's head or body has more bytes than allowed.
    #[error("the answer is too large")]
    TooLarge,
}

impl Fetcher {
    /// Trusts servers whose certificates lead to these roots.
    pub fn new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: Arc::new(tls),
            resolver: Resolver::default(),
        })
    }

    /// Sends one request and takes its answer.
    pub async fn send(&self, outgoing: Outgoing, egress: Egress<'_>) -> Result<Answer, FetchError> {
        let timeout = outgoing.limits.total;
        // Boxed: TLS and HTTP would make every future large that awaits this one.
        let answer = Box::pin(self.fetch(outgoing, egress));
        let in_time = tokio::time::timeout(timeout, answer).await;
        in_time.unwrap_or(Err(FetchError::Timeout))
    }

    async fn fetch(&self, outgoing: Outgoing, egress: Egress<'_>) -> Result<Answer, FetchError> {
        let target = Target::of(&outgoing.url).ok_or(FetchError::BadUrl)?;
        let addresses = self.addresses(&target, egress).await?;
        let (wanted, limits) = (outgoing.wanted, outgoing.limits);
        let request = request(&target, outgoing);
        let stream = connect(&addresses, limits.connect).await?;
        let Some(name) = target.tls else {
            return exchange(stream, request, limits.silence, wanted).await;
        };
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let agreed = tokio::time::timeout(limits.connect, connector.connect(name, stream)).await;
        let stream = agreed.map_err(|_| FetchError::Connect)?;
        let stream = stream.map_err(|error| FetchError::of_handshake(&error))?;
        exchange(stream, request, limits.silence, wanted).await
    }

    /// Connects to the server of a URL that the operator wrote, for another protocol than HTTP's requests.
    pub(in crate::presence) async fn open(
        &self,
        url: &Uri,
        timeout: Duration,
    ) -> Result<Box<dyn Duplex>, FetchError> {
        let target = Target::of(url).ok_or(FetchError::BadUrl)?;
        let opening = async {
            let addresses = self.addresses(&target, Egress::Trusted).await?;
            let stream = connect(&addresses, timeout).await?;
            let Some(name) = target.tls.clone() else {
                return Ok(Box::new(stream) as Box<dyn Duplex>);
            };
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            let stream = connector.connect(name, stream).await;
            let stream = stream.map_err(|error| FetchError::of_handshake(&error))?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        };
        let opened = tokio::time::timeout(timeout, Box::pin(opening)).await;
        opened.unwrap_or(Err(FetchError::Timeout))
    }

    /// Where the target may be connected to; never empty.
    async fn addresses(
        &self,
        target: &Target,
        egress: Egress<'_>,
    ) -> Result<Vec<SocketAddr>, FetchError> {
        let found = self.resolver.addresses(&target.host, target.port).await;
        let mut found = found.ok_or(FetchError::Resolve)?;
        found.retain(|address| egress.allows(address.ip()));
        if found.is_empty() {
            return Err(FetchError::RefusedAddress);
        }
        Ok(found)
    }
}

/// The authorities that this machine trusts: read from its disk, so once and before the runtime is busy.
#[must_use]
pub fn native_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, unusable) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let unreadable = found.errors.len();
        tracing::warn!(
            unusable,
            unreadable,
            "no certificate authorities on this machine: nothing is fetched by https"
        );
    }
    roots
}

impl Limits {
    /// No limit but the whole, of which connecting may take two thirds; nobody is given up before for being silent.
    #[must_use]
    pub fn within(total: Duration) -> Self {
        Self {
            connect: total * 2 / 3,
            silence: Duration::MAX,
            total,
        }
    }
}

impl Answer {
    /// Where a redirect leads, as it was written: it may be relative.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.headers.get(LOCATION)?.to_str().ok()
    }
}

impl FetchError {
    /// Whether nothing of the request left this machine, so that another try cannot make anything happen twice.
    #[must_use]
    pub fn is_unsent(self) -> bool {
        !matches!(
            self,
            Self::Silent | Self::Timeout | Self::Protocol | Self::TooLarge
        )
    }

    fn of_handshake(error: &io::Error) -> Self {
        use rustls::CertificateError as Doubt;

        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(rustls::Error::InvalidCertificate(doubt)) = inner else {
            return Self::Tls;
        };
        match doubt {
            Doubt::NotValidForName | Doubt::NotValidForNameContext { .. } => Self::OtherName,
            Doubt::Expired
            | Doubt::ExpiredContext { .. }
            | Doubt::NotValidYet
            | Doubt::NotValidYetContext { .. } => Self::OutOfDate,
            _ => Self::Certificate,
        }
    }

    fn of_exchange(error: &hyper::Error) -> Self {
        if error.is_parse_too_large() {
            Self::TooLarge
        } else {
            Self::Protocol
        }
    }
}

fn request(target: &Target, outgoing: Outgoing) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(outgoing.body));
    *request.method_mut() = outgoing.method;
    *request.uri_mut() = target.path.clone();
    let mut headers = outgoing.headers;
    headers.insert(HOST, target.host_field.clone());
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let agent = headers.entry(USER_AGENT);
    agent.or_insert(HeaderValue::from_static("tidegate"));
    *request.headers_mut() = headers;
    request
}

/// Connects to the first address, and else to the next one: of the other family if there is one, the same if there is no other.
async fn connect(addresses: &[SocketAddr], limit: Duration) -> Result<TcpStream, FetchError> {
    let first = addresses.first().ok_or(FetchError::Resolve)?;
    let mut others = addresses.iter();
    let second = others
        .find(|other| other.is_ipv4() != first.is_ipv4())
        .or(addresses.get(1))
        .unwrap_or(first);
    for address in [first, second] {
        let stream = tokio::time::timeout(limit / TRIES, TcpStream::connect(address)).await;
        if let Ok(Ok(stream)) = stream {
            // Only costs a little time where it fails.
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
    }
    Err(FetchError::Connect)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    request: Request<Full<Bytes>>,
    silence: Duration,
    wanted: Wanted,
) -> Result<Answer, FetchError> {
    let (stream, heard) = Ear::listen(stream);
    let handshake = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .max_header_size(HEAD_MAX)
        .max_headers(FIELDS_MAX)
        .handshake(TokioIo::new(stream));
    let handshake = handshake.await;
    let (mut sender, connection) = handshake.map_err(|error| FetchError::of_exchange(&error))?;
    let mut answer = pin!(async {
        let response = tokio::select! {
            response = sender.send_request(request) => response,
            () = heard.nothing_for(silence) => return Err(FetchError::Silent),
        };
        receive(response.map_err(|e| FetchError::of_exchange(&e))?, wanted).await
    });
    tokio::select! {
        answer = &mut answer => answer,
        // What the connection read, or why it could not, has been handed over before it ended.
        _ = connection => answer.await,
    }
}

async fn receive(response: Response<Incoming>, wanted: Wanted) -> Result<Answer, FetchError> {
    let (head, body) = response.into_parts();
    let body = match wanted {
        Wanted::Body(max) if head.status.is_success() => {
            match Limited::new(body, max).collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) if error.is::<LengthLimitError>() => return Err(FetchError::TooLarge),
                Err(_) => return Err(FetchError::Protocol),
            }
        }
        Wanted::Head | Wanted::Body(_) => Bytes::new(),
    };
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}
