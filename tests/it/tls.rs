//! TLS at the listeners: names, renewals, and clients that show who they are.

use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::client::{Connection, by};
use crate::support::origin::origin;
use crate::support::sidecar::sidecar;
use crate::support::tls::Authority;
use crate::support::wire::Wire;
use crate::support::{eventually, h2};

/// A listener with certificates in the sidecar's directory.
fn listener(tls: &str) -> String {
    format!(
        "server: {{ threads: 2, listeners: [{{ address: \"127.0.0.1:0\", tls: {{ {tls} }} }}] }}\n"
    )
}

const ONE: &str = "certificate: \"$DIR/one.crt\", private_key: \"$DIR/one.key\"";

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let chain = stream
        .get_ref()
        .1
        .peer_certificates()
        .expect("a certificate");
    chain[0].clone().into_owned()
}

fn named(certificate: &CertificateDer<'_>) -> String {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let name = parsed
        .subject()
        .iter_common_name()
        .next()
        .expect("a common name");
    name.as_str().unwrap().to_owned()
}

// TLS: the name that a client asks for chooses the certificate; any other name gets the first.
#[tokio::test]
async fn the_name_chooses_the_certificate() {
    let origin = origin();
    let more = ", more: [{ certificate: \"$DIR/two.crt\", private_key: \"$DIR/two.key\" }]";
    let plan = sidecar(&listener(&format!("{ONE}{more}")));
    let authority = Authority::new(plan.directory());
    authority.sign("one", "one.test");
    authority.sign("two", "two.test");
    let gate = plan.before(&origin).start().await;
    for name in ["one.test", "two.test"] {
        let stream = authority
            .connect(&gate.address, name, &[], None)
            .await
            .unwrap();
        assert_eq!(named(&shown(&stream)), name);
        let mut client = Connection {
            wire: Wire::new(stream),
        };
        assert_eq!(client.get("/", &by("A")).await.text(), "ok");
        assert_eq!(origin.last().get("x-forwarded-proto"), Some("https"));
    }
    // The client refuses the first certificate for a third name: so it was the first that came.
    let refused = authority
        .connect(&gate.address, "three.test", &[], None)
        .await;
    assert!(refused.is_err_and(|error| error.to_string().contains("one.test")));
}

// TLS: both protocols by ALPN.
#[tokio::test]
async fn the_protocol_is_agreed_in_the_handshake() {
    let origin = origin();
    let plan = sidecar(&listener(ONE));
    let authority = Authority::new(plan.directory());
    authority.sign("one", "one.test");
    let gate = plan.before(&origin).start().await;
    let offers = ["h2", "http/1.1"];
    let stream = authority
        .connect(&gate.address, "one.test", &offers, None)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let mut client = h2::Connection::over(stream).await;
    assert_eq!(client.get("/", "A").await.1, "ok");
    let stream = authority
        .connect(&gate.address, "one.test", &offers[1..], None)
        .await
        .unwrap();
    assert_eq!(
        stream.get_ref().1.alpn_protocol(),
        Some(b"http/1.1".as_slice())
    );
    let mut client = Connection {
        wire: Wire::new(stream),
    };
    assert_eq!(client.get("/", &by("A")).await.text(), "ok");
}

// TLS: a renewed certificate is taken up from its file without losing an open connection; a broken one is not.
#[tokio::test]
async fn a_renewed_certificate_is_taken_up() {
    let origin = origin();
    let plan = sidecar(&listener(ONE));
    let authority = Authority::new(plan.directory());
    authority.sign("one", "one.test");
    let gate = plan.before(&origin).start().await;
    let stream = authority
        .connect(&gate.address, "one.test", &[], None)
        .await
        .unwrap();
    let first = shown(&stream);
    let mut open = Connection {
        wire: Wire::new(stream),
    };
    assert_eq!(open.get("/", &by("A")).await.status, 200);
    authority.sign("one", "one.test");
    let latest = async || {
        let stream = authority
            .connect(&gate.address, "one.test", &[], None)
            .await
            .unwrap();
        shown(&stream)
    };
    eventually("the renewed certificate", async || latest().await != first).await;
    let renewed = latest().await;
    assert_eq!(open.get("/", &by("A")).await.status, 200);
    std::fs::write(gate.directory().join("one.crt"), "no certificate").unwrap();
    assert_eq!(gate.post_admin("/v1/reload").await.status, 422);
    assert_eq!(latest().await, renewed);
    assert_eq!(open.get("/", &by("A")).await.status, 200);
}

// TLS, A31: with `client_ca` a client must show a certificate of that authority, and its name is the account.
#[tokio::test]
async fn a_client_certificate_is_an_identity() {
    let origin = origin();
    let plan = sidecar(
        &(listener(&format!("{ONE}, client_ca: \"$DIR/ca.crt\""))
            + "accounts: { identify: [{ client_certificate: common_name }] }\n\
               limits: [{ name: account, per: [account], max: 1 }]"),
    );
    let authority = Authority::new(plan.directory());
    authority.sign("one", "one.test");
    authority.sign("robot", "robot-7");
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::new(elsewhere.path());
    other.sign("forged", "robot-7");
    for file in ["forged.crt", "forged.key"] {
        std::fs::copy(elsewhere.path().join(file), plan.directory().join(file)).unwrap();
    }
    let gate = plan.before(&origin).start().await;
    let stream = authority
        .connect(&gate.address, "one.test", &[], Some("robot"))
        .await
        .unwrap();
    let mut client = Connection {
        wire: Wire::new(stream),
    };
    assert_eq!(client.get("/", &by("ignored")).await.status, 200);
    assert_eq!(origin.last().get("x-admission-account"), Some("robot-7"));
    for identity in [None, Some("forged")] {
        // In TLS 1.3 the client is through before the server has judged it: the refusal comes with the first read.
        if let Ok(stream) = authority
            .connect(&gate.address, "one.test", &[], identity)
            .await
        {
            let mut wire = Wire::new(stream);
            wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.ok();
            assert!(
                !wire.head().await.is_ok_and(|head| head.is_some()),
                "{identity:?}"
            );
        }
    }
    assert_eq!(origin.heads().len(), 1);
}

// TLS: a connection that says nothing, or nonsense, is closed without harm to others.
#[tokio::test]
async fn broken_handshakes_end() {
    let origin = origin();
    let yaml = listener(ONE).replace("threads: 2", "threads: 2, header_timeout: 300ms");
    let plan = sidecar(&yaml);
    let authority = Authority::new(plan.directory());
    authority.sign("one", "one.test");
    let gate = plan.before(&origin).start().await;
    for begun in ["", "GET / HTTP/1.1\r\nhost: a\r\n\r\n", "\x16\x03\x01"] {
        let mut client = gate.connect().await;
        client.send(begun).await;
        client.until_closed().await;
    }
    let stream = authority
        .connect(&gate.address, "one.test", &[], None)
        .await
        .unwrap();
    let mut client = Connection {
        wire: Wire::new(stream),
    };
    assert_eq!(client.get("/", &by("A")).await.status, 200);
    assert_eq!(origin.heads().len(), 1);
}
