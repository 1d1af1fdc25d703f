//! TLS for listeners: certificates by name, client certificates, and files that change.
//!
//! Done inside the connection, not by pingora, so that handshakes have our deadline and every setting is ours. A
//! whole `ServerConfig` is swapped at a time: connections that are open keep theirs. Never logs a key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::settings::{Certificate, Tls};

/// Why a listener's TLS cannot be set up; names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("{}: cannot be read as PEM: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key does not fit its certificate, or is of a kind that is not supported.
    #[error("{}: certificate and key do not go together", path.display())]
    Key {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authorities for client certificates cannot be used.
    #[error("{}: cannot be used to verify client certificates: {reason}", path.display())]
    ClientCa {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The TLS library refuses the combination.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// Accepts TLS connections by the newest certificates.
#[derive(Debug)]
pub struct Acceptor(ArcSwap<ServerConfig>);

impl Acceptor {
    /// Reads the files.
    pub fn new(tls: &Tls) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from_pointee(server_config(tls)?)))
    }

    /// Starts from a configuration made by [`server_config`].
    #[must_use]
    pub fn of(config: ServerConfig) -> Self {
        Self(ArcSwap::from_pointee(config))
    }

    /// Swaps in a configuration made by [`server_config`]; open connections keep theirs.
    pub fn swap(&self, config: ServerConfig) {
        self.0.store(Arc::new(config));
    }

    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.0.load_full()).accept(stream).await
    }
}

/// Reads certificates, keys and authorities, and checks that they go together.
pub fn server_config(tls: &Tls) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(client_verifier(path)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(&tls.certificates)?));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn client_verifier(
    path: &Path,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let refuse = |reason: String| TlsError::ClientCa {
        path: path.into(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots
            .add(certificate)
            .map_err(|error| refuse(error.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|error| refuse(error.to_string()))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason: String| TlsError::File {
        path: path.into(),
        reason,
    };
    let pem = fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| refuse(error.to_string()))?;
    if chain.is_empty() {
        Err(refuse("it holds no certificate".into()))
    } else {
        Ok(chain)
    }
}

/// Certificates by the names they are for.
#[derive(Debug)]
struct ByName {
    names: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl ByName {
    fn new(certificates: &[Certificate]) -> Result<Self, TlsError> {
        let mut names = HashMap::new();
        let mut default = None;
        for files in certificates {
            let key = Arc::new(certified_key(files)?);
            for name in dns_names(&key) {
                names.entry(name).or_insert_with(|| Arc::clone(&key));
            }
            default.get_or_insert(key);
        }
        let none = || rustls::Error::General("a TLS listener without certificates".into());
        Ok(Self {
            names,
            default: default.ok_or_else(none)?,
        })
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wanted = hello.server_name().map(str::to_ascii_lowercase);
        let found = wanted.and_then(|name| {
            let wildcard = || {
                name.split_once('.')
                    .map(|(_, parent)| format!("*.{parent}"))
            };
            self.names
                .get(&name)
                .or_else(|| self.names.get(&wildcard()?))
                .cloned()
        });
        Some(found.unwrap_or_else(|| Arc::clone(&self.default)))
    }
}

fn certified_key(files: &Certificate) -> Result<CertifiedKey, TlsError> {
    let path = &files.private_key;
    let chain = chain(&files.certificate)?;
    let key = fs::read(path)
        .map_err(|error| error.to_string())
        .and_then(|pem| PrivateKeyDer::from_pem_slice(&pem).map_err(|error| error.to_string()));
    let key = key.map_err(|reason| TlsError::File {
        path: path.clone(),
        reason,
    })?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|source| TlsError::Key {
        path: files.certificate.clone(),
        source,
    })
}

/// The names that a certificate is for: its alternative names, or else its common name.
fn dns_names(key: &CertifiedKey) -> Vec<String> {
    let Some(leaf) = key.cert.first() else {
        return Vec::new();
    };
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    if let Ok(Some(alternatives)) = leaf.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase());
            }
        }
    }
    if names.is_empty() {
        names.extend(subject_name(&leaf).map(|name| name.to_ascii_lowercase()));
    }
    names
}

fn subject_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut names = certificate.subject().iter_common_name();
    names.next()?.as_str().ok().map(Into::into)
}

/// The common name of the client's certificate; rustls has verified it.
pub(super) fn common_name(connection: &ServerConnection) -> Option<String> {
    let leaf = connection.peer_certificates()?.first()?;
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    subject_name(&leaf)
}
