//! One request against servers on this machine: what is sent, what comes back, and what is an error.

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
        limits: Limits::within(Duration::from_secs(10)),
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
    assert!(
        answer.body.is_empty(),
        "only a success has something to say"
    );
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
    outgoing.limits.total = Duration::from_millis(50);
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
    assert_eq!(error, Err(FetchError::OtherName), "another name");
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
