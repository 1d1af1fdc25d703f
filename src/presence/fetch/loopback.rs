//! Servers for tests, on this machine: each answers as it is told to, and keeps what it was asked.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use parking_lot::Mutex;
use rustls::RootCertStore;
use tokio::net::TcpListener;

use super::Fetcher;
use super::reach::Reach;
use super::signature::{SIGNATURE_HEADER, verify};
use crate::clock::Clock;
use crate::presence::settings::SecretText;

/// What a server answers; `None` for nothing, ever.
pub(super) type Reply = Option<Response<Full<Bytes>>>;

/// A server.
pub(super) struct Server {
    pub(super) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Server {
    /// Answers each request, of which so many were kept before.
    pub(super) async fn start(
        answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (answer, kept) = (Arc::new(answer), Arc::clone(&asked));
        let serve = move |request: Request<Incoming>| {
            let (answer, kept) = (Arc::clone(&answer), Arc::clone(&kept));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let asked = Asked {
                    method: head.method,
                    path: head.uri.to_string(),
                    headers: head.headers,
                    body: String::from_utf8(body.to_vec()).unwrap(),
                };
                let before = kept.lock().len();
                kept.lock().push(asked.clone());
                match answer(&asked, before) {
                    Some(response) => Ok::<_, Infallible>(response),
                    None => std::future::pending().await,
                }
            }
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(serve.clone()));
                tokio::spawn(connection);
            }
        });
        Self { port, asked }
    }

    pub(super) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }

    /// All that was asked since this was called last.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock())
    }
}

impl Asked {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().unwrap())
    }

    /// Whether it carries a signature, and that one is good for this URL and the form in its body.
    pub(super) fn is_signed(&self, origin: &str) -> Option<bool> {
        let given = self.field(SIGNATURE_HEADER)?;
        let form: Vec<_> = form_urlencoded::parse(self.body.as_bytes()).collect();
        let pairs: Vec<_> = form.iter().map(|(a, b)| (a.as_ref(), b.as_ref())).collect();
        let url = format!("{origin}{}", self.path);
        Some(verify(&[secret()], &url, &pairs, given))
    }
}

/// An account with a secret, that trusts these servers and reaches these networks.
pub(super) fn reach(trusted: &[&Server], egress: &[IpNet]) -> Reach {
    Reach {
        fetcher: Fetcher::new(RootCertStore::empty()).unwrap(),
        secret: Some(secret()),
        trusted: trusted.iter().map(|server| server.origin()).collect(),
        egress: egress.into(),
        stats: Arc::default(),
        clock: Clock::default(),
    }
}

fn secret() -> SecretText {
    SecretText("12345".into())
}

pub(super) fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

pub(super) fn xml(body: impl Into<Bytes>) -> Reply {
    answer(200, "text/xml; charset=utf-8", body)
}

pub(super) fn status(status: u16) -> Reply {
    answer(status, "text/plain", "a secret of the server's")
}

pub(super) fn answer(status: u16, content_type: &str, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::builder().status(status);
    if !content_type.is_empty() {
        response = response.header(CONTENT_TYPE, content_type);
    }
    Some(response.body(Full::new(body.into())).unwrap())
}

pub(super) fn moved(status: u16, to: &str) -> Reply {
    let response = Response::builder().status(status).header(LOCATION, to);
    Some(response.body(Full::default()).unwrap())
}
