//! A client of the admin API, for commands that look at a running gate.
//!
//! One connection a call, each call within a few seconds and with an answer of bounded length. Never repeats a call, never follows
//! where an answer points to, and says of each failure what was tried, where, and the way out. Never prints the token.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Longest wait for one call: the admin API answers from memory, beside a data plane that may be busy.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer: a thousand limits and resources are some 300 KiB.
const ANSWER_MAX: usize = 4 << 20;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Which gate, and what it wants to see.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Gate {
    /// The gate's admin API, as `admin.address` has it: IP or name and port, or unix:/path
    #[arg(long = "admin", value_name = "ADDRESS", default_value = "127.0.0.1:9901", value_parser = parse_address)]
    address: Address,
    /// Its `admin.token`; better in the environment, since others see command lines
    #[arg(long, value_name = "TOKEN", env = "TIDEGATE_ADMIN_TOKEN", hide_env_values = true, value_parser = parse_token)]
    token: Option<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    /// A name or an IP address, and a port.
    Tcp(String),
    Unix(PathBuf),
}

/// The field that shows the token, marked as one that is not to be printed.
#[derive(Debug, Clone)]
struct Token(HeaderValue);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Takes `http://` too, for that is how people copy an address.
fn parse_address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(Address::Unix(path.into()));
    }
    let bare = text.strip_prefix("http://").unwrap_or(text);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    match bare.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(Address::Tcp(bare.to_owned()))
        }
        _ => Err("write `127.0.0.1:9901`, or `unix:/path` for a socket".to_owned()),
    }
}

fn parse_token(text: &str) -> Result<Token, String> {
    let field = HeaderValue::from_str(&format!("Bearer {text}"));
    let mut field = field.map_err(|_| "a token holds no control characters".to_owned())?;
    field.set_sensitive(true);
    Ok(Token(field))
}

/// Why the gate did not tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nobody listens there, or not for us.
    #[error(
        "no gate can be reached at {0}: {1}; say with --admin where its admin API listens (`admin.address` of its configuration)"
    )]
    Unreachable(String, std::io::Error),
    /// No whole answer came.
    #[error("the gate at {0} gave no answer: {1}; look whether it still runs, then try again")]
    Broke(String, Cause),
    /// It wants a token, or another one.
    #[error("the gate at {0} refuses to tell ({1}): {2}")]
    Refused(String, StatusCode, &'static str),
    /// It does not do what it was asked for, and says why.
    #[error("the gate at {0} declines ({1}): {2}")]
    Declined(String, StatusCode, String),
    /// Whatever listens there is something else.
    #[error(
        "what listens at {0} is no admin API of a Tidegate that this program knows: {1}; say with --admin where that is (`admin.address` of its configuration)"
    )]
    Stranger(String, String),
}

impl Gate {
    /// Where it is, for people.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Asks for something to look at.
    pub(super) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let (status, body) = self.ask(Method::GET, path, None).await?;
        if status != StatusCode::OK {
            return Err(self.stranger(format!("it answers {status} to {path}")));
        }
        serde_json::from_slice(&body)
            .map_err(|error| self.stranger(format!("its {path} says something else ({error})")))
    }

    /// Has it change something. Never repeated: whoever asked looks again, and decides.
    pub(super) async fn write(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(), CallError> {
        let (status, body) = self.ask(method, path, body).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(match serde_json::from_slice(&body) {
            Ok(Problem { detail }) => CallError::Declined(self.address(), status, detail),
            Err(_) => self.stranger(format!("it answers {status} to {path}")),
        })
    }

    fn stranger(&self, what: String) -> CallError {
        CallError::Stranger(self.address(), what)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let is_read = method == Method::GET;
        let call = tokio::time::timeout(CALL_TIMEOUT, self.call(method, path, body)).await;
        let (status, body) = call.map_err(|_| {
            let late = format!("none within {} s", CALL_TIMEOUT.as_secs());
            CallError::Broke(self.address(), late.into())
        })??;
        // Why a write is forbidden, the answer says.
        let is_refused =
            status == StatusCode::UNAUTHORIZED || (is_read && status == StatusCode::FORBIDDEN);
        if is_refused {
            let way_out = match &self.token {
                None => "it wants its `admin.token`; set TIDEGATE_ADMIN_TOKEN to it",
                Some(_) => "the token is not its own; compare it with `admin.token`",
            };
            return Err(CallError::Refused(self.address(), status, way_out));
        }
        Ok((status, body))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let broke = |error: http::Error| CallError::Broke(self.address(), error.into());
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, "localhost");
        if let Some(Token(token)) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::from(body)).map_err(broke)?;
        let unreachable = |error| CallError::Unreachable(self.address(), error);
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                self.exchange(stream, request).await
            }
            Address::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
                self.exchange(stream, request).await
            }
        }
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broke = |cause: Cause| CallError::Broke(self.address(), cause);
        let not_http = |error: hyper::Error| {
            if error.is_parse() {
                self.stranger("it speaks no HTTP".to_owned())
            } else {
                broke(error.into())
            }
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(not_http)?;
        // What breaks the connection, the call hears too.
        let connection = tokio::spawn(async move { drop(connection.await) });
        let answer = sender.send_request(request).await.map_err(not_http)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        connection.abort();
        Ok((status, body.map_err(broke)?.to_bytes()))
    }
}

/// Why something was declined.
#[derive(Debug, Deserialize)]
struct Problem {
    detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_the_configuration_or_a_browser_has() {
        let tcp = |text: &str| Ok(Address::Tcp(text.to_owned()));
        assert_eq!(parse_address("127.0.0.1:9901"), tcp("127.0.0.1:9901"));
        assert_eq!(parse_address("[::1]:9901"), tcp("[::1]:9901"));
        assert_eq!(parse_address("http://localhost:1/"), tcp("localhost:1"));
        let unix = Address::Unix("/run/admin.sock".into());
        assert_eq!(parse_address("unix:/run/admin.sock"), Ok(unix));
        for wrong in ["", "9901", ":9901", "localhost", "unix:", "https://a:b"] {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = parse_token("open-sesame").unwrap();
        assert!(!format!("{token:?}").contains("sesame"));
        assert!(parse_token("two\nlines").is_err());
    }
}
