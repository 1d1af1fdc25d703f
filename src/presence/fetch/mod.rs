//! One request to somebody else's server: webhooks, and the instructions of a call.
//!
//! Each request has a connection of its own, HTTP/1.1, which lives inside the caller's future: nothing is kept that could be
//! mistaken between accounts, and dropping the future ends everything but a lookup. Time, head and body are bounded. Redirects
//! are told, not followed, because each hop is checked and signed anew by whoever follows it. Never connects to an address that
//! the [`Egress`] did not allow: a name is resolved once, and what was checked is what is connected to. Never puts what was
//! fetched, or an address, into an error.

pub mod egress;
mod resolve;
pub mod signature;
mod target;
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

use egress::Egress;
use resolve::Resolver;
use target::Target;

/// The most that a caller should take of an answer's body: more than any instructions need.
pub const BODY_MAX: usize = 64 * 1024;

/// An answer's head, status line and all. Twice what hyper wants at least.
const HEAD_MAX: usize = 16 * 1024;
/// Header fields of an answer.
const FIELDS_MAX: usize = 100;
/// One try to connect. There are two, so that a lost packet or a family without a route does not end a call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// From the lookup to the last byte of the answer.
    pub timeout: Duration,
    /// What of the answer's body is wanted.
    pub wanted: Wanted,
}

/// What of an answer's body is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: the connection is dropped behind the head.
    Head,
    /// All of it; what has more bytes is an error.
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
    /// The time is up.
    #[error("no whole answer in time")]
    Timeout,
    /// No TLS with that server.
    #[error("the TLS handshake failed")]
    Tls,
    /// The server's certificate is not for this host, out of date, or signed by nobody who is trusted.
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
        let timeout = outgoing.timeout;
        // Boxed: TLS and HTTP would make every future large that awaits this one.
        let answer = Box::pin(self.fetch(outgoing, egress));
        let in_time = tokio::time::timeout(timeout, answer).await;
        in_time.unwrap_or(Err(FetchError::Timeout))
    }

    async fn fetch(&self, outgoing: Outgoing, egress: Egress<'_>) -> Result<Answer, FetchError> {
        let target = Target::of(&outgoing.url).ok_or(FetchError::BadUrl)?;
        let addresses = self.addresses(&target, egress).await?;
        let wanted = outgoing.wanted;
        let request = request(&target, outgoing);
        let stream = connect(&addresses).await?;
        let Some(name) = target.tls else {
            return exchange(stream, request, wanted).await;
        };
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| FetchError::of_handshake(&error))?;
        exchange(stream, request, wanted).await
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
        !matches!(self, Self::Timeout | Self::Protocol | Self::TooLarge)
    }

    fn of_handshake(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(rustls::Error::InvalidCertificate(_)) => Self::Certificate,
            _ => Self::Tls,
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
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    let first = addresses.first().ok_or(FetchError::Resolve)?;
    let mut others = addresses.iter();
    let second = others
        .find(|other| other.is_ipv4() != first.is_ipv4())
        .or(addresses.get(1))
        .unwrap_or(first);
    for address in [first, second] {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
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
    wanted: Wanted,
) -> Result<Answer, FetchError> {
    let handshake = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .max_header_size(HEAD_MAX)
        .max_headers(FIELDS_MAX)
        .handshake(TokioIo::new(stream));
    let handshake = handshake.await;
    let (mut sender, connection) = handshake.map_err(|error| FetchError::of_exchange(&error))?;
    let mut answer = pin!(async {
        let response = sender.send_request(request).await;
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
        Wanted::Head => Bytes::new(),
        Wanted::Body(max) => match Limited::new(body, max).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(FetchError::TooLarge),
            Err(_) => return Err(FetchError::Protocol),
        },
    };
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::generate_simple_self_signed;
    use rustls::ServerConfig;
    use rustls::pki_types::CertificateDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    fn fetcher(roots: &[CertificateDer<'static>]) -> Fetcher {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        Fetcher::new(store).unwrap()
    }

    fn get(url: &str) -> Outgoing {
        Outgoing {
            method: Method::GET,
            url: url.parse().unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(10),
            wanted: Wanted::Body(BODY_MAX),
        }
    }

    async fn ask(fetcher: &Fetcher, url: String) -> Result<Answer, FetchError> {
        fetcher.send(get(&url), Egress::Trusted).await
    }

    /// Reads one head and answers with these bytes; with none it hangs until the client has gone. Gives the head.
    async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        if answer.is_empty() {
            assert!(stream.read_u8().await.is_err());
        }
        // A client that has enough of it closes; that is not this server's business.
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
        String::from_utf8(head).unwrap()
    }

    /// A server for one connection.
    async fn server(answer: impl Into<Vec<u8>>) -> (u16, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, answer) = (listener.local_addr().unwrap().port(), answer.into());
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            converse(stream, &answer).await
        });
        (port, served)
    }

    /// A server for one TLS connection, with a certificate for `localhost`.
    async fn tls_server() -> (u16, CertificateDer<'static>) {
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let certificate = made.cert.der().clone();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // It fails where the client does not trust it.
            if let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
                converse(stream, OK.as_bytes()).await;
            }
        });
        (port, certificate)
    }

    #[tokio::test]
    async fn a_redirect_is_told_and_not_followed() {
        let moved = "HTTP/1.1 307 Moved\r\nlocation: /next\r\ncontent-length: 3\r\n\r\nabc";
        let (port, served) = server(moved).await;
        let answer = ask(&fetcher(&[]), format!("http://127.0.0.1:{port}?a=1")).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(answer.location(), Some("/next"));
        assert_eq!(answer.body, "abc");
        let head = served.await.unwrap();
        assert!(head.starts_with("GET /?a=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: 127.0.0.1:{port}\r\n")));
        assert!(head.contains("connection: close\r\n"), "{head}");
    }

    #[tokio::test]
    async fn what_is_no_whole_small_answer_is_an_error() {
        let big = "x".repeat(BODY_MAX + 1);
        let too_large = [
            format!("200 OK\r\n\r\n{big}"),
            format!("200 OK\r\ntransfer-encoding: chunked\r\n\r\n10001\r\n{big}\r\n0\r\n\r\n"),
            format!("200 OK\r\na: {}\r\n\r\n", &big[..HEAD_MAX]),
            format!("200 OK\r\na: {big}"),
            format!("200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1)),
        ];
        let broken = [
            "200",
            "200 OK\r\ncontent-length: 9\r\n\r\nab",
            "200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "SSH-2.0\r\n\r\n",
        ];
        let too_large = too_large.map(|answer| (answer, FetchError::TooLarge));
        let broken = broken.map(|answer| (answer.to_owned(), FetchError::Protocol));
        for (answer, expected) in too_large.into_iter().chain(broken) {
            let (port, _served) = server(format!("HTTP/1.1 {answer}")).await;
            let error = ask(&fetcher(&[]), format!("http://127.0.0.1:{port}/")).await;
            assert_eq!(error, Err(expected), "{}", &answer[..answer.len().min(60)]);
        }
    }

    #[tokio::test]
    async fn a_body_that_nobody_wants_is_not_read() {
        let (port, _served) = server("HTTP/1.1 204 No\r\n\r\n").await;
        let (large, _served) = server("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nx").await;
        for port in [port, large] {
            let mut outgoing = get(&format!("http://127.0.0.1:{port}/"));
            outgoing.wanted = Wanted::Head;
            let answer = fetcher(&[]).send(outgoing, Egress::Trusted).await.unwrap();
            assert!(answer.status.is_success() && answer.body.is_empty());
        }
    }

    #[tokio::test]
    async fn the_silent_and_the_closed_are_told_apart() {
        let (port, served) = server("").await;
        let mut outgoing = get(&format!("http://127.0.0.1:{port}/"));
        outgoing.timeout = Duration::from_millis(50);
        let error = fetcher(&[]).send(outgoing, Egress::Trusted).await;
        assert_eq!(error, Err(FetchError::Timeout));
        // The connection ends with the request.
        served.await.unwrap();
        let error = ask(&fetcher(&[]), format!("http://127.0.0.1:{port}/")).await;
        assert_eq!(error, Err(FetchError::Connect));
    }

    #[tokio::test]
    async fn a_checked_request_goes_nowhere_but_where_it_may() {
        let (port, served) = server(OK).await;
        let fetcher = fetcher(&[]);
        // However a resolver reads them: what counts is the address that comes out.
        let hosts = "127.0.0.1 [::1] [::ffff:127.0.0.1] localhost 2130706433 0x7f.1";
        for host in hosts.split(' ') {
            let outgoing = get(&format!("http://{host}:{port}/"));
            let outcome = fetcher.send(outgoing, Egress::Checked(&[])).await;
            let error = outcome.unwrap_err();
            let is_refused = error == FetchError::RefusedAddress || error == FetchError::Resolve;
            assert!(is_refused && error.is_unsent(), "{host}: {error}");
            assert!(!error.to_string().contains("127"), "{error}");
        }
        let allowed = ["127.0.0.0/8".parse().unwrap()];
        let outgoing = get(&format!("http://localhost:{port}/"));
        let answer = fetcher.send(outgoing, Egress::Checked(&allowed)).await;
        assert_eq!(answer.unwrap().body, "ok");
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_certificate_counts_if_it_is_for_the_host_and_by_somebody_trusted() {
        let (port, certificate) = tls_server().await;
        let trusting = fetcher(&[certificate]);
        let answer = ask(&trusting, format!("https://localhost:{port}/")).await;
        assert_eq!(answer.unwrap().body, "ok");

        let (port, _) = tls_server().await;
        let machine = Fetcher::new(native_roots()).unwrap();
        let error = ask(&machine, format!("https://localhost:{port}/")).await;
        assert_eq!(error, Err(FetchError::Certificate), "by nobody");

        let (port, certificate) = tls_server().await;
        let trusting = fetcher(&[certificate]);
        let error = ask(&trusting, format!("https://127.0.0.1:{port}/")).await;
        assert_eq!(error, Err(FetchError::Certificate), "another name");
    }

    #[tokio::test]
    async fn who_speaks_no_tls_is_told_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
        });
        let error = ask(&fetcher(&[]), format!("https://localhost:{port}/")).await;
        assert_eq!(error, Err(FetchError::Tls));
    }
}
