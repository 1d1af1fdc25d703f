//! What the tests of presence share: a gate with an account, tokens, and a client on `/signal`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tidegate::presence::token::Draft;
use tidegate::presence::{AccountSettings, KeySettings, Name, SecretText, Settings};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::client::{Connection, Response};
use crate::support::sidecar::{Plan, Sidecar, sidecar};
use crate::support::tls::Authority;
use crate::support::wire::Framing;
use crate::support::within;

/// The account of the tests.
pub(crate) const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
/// Its key.
pub(crate) const KEY: &str = "SK0123456789abcdef0123456789abcdef";
/// Another account, where a test [adds](OTHER_ACCOUNT) it, and its key.
pub(crate) const OTHER: &str = "ACffffffffffffffffffffffffffffffff";
pub(crate) const OTHER_KEY: &str = "SKffffffffffffffffffffffffffffffff";
/// The lines that add it, to be put before those of the section.
pub(crate) const OTHER_ACCOUNT: &str = "    - { sid: ACffffffffffffffffffffffffffffffff, auth_token: { env: OTHER_TOKEN }, \
     keys: [{ id: SKffffffffffffffffffffffffffffffff, secret: { env: OTHER_SECRET } }] }\n";
pub(crate) const OTHER_TOKEN: &str = "another auth token of thirty-two bytes or more";
pub(crate) const OTHER_SECRET: &str = "another secret of a key, thirty-two bytes or more";
/// Secrets of the account and of the key.
pub(crate) const AUTH_TOKEN: &str = "an auth token of thirty-two bytes or more";
pub(crate) const SECRET: &str = "a secret of the key, thirty-two bytes or more";

/// Mounts the plugin and its sockets; a test adds its own lines to the section `presence`.
pub(crate) fn config(more: &str) -> String {
    format!(
        "accounts: {{ identify: [presence] }}\n\
         upstreams: {{ api: {{ endpoints: [\"127.0.0.1:1\"] }} }}\n\
         presence:\n  accounts:\n    - sid: {ACCOUNT}\n      auth_token: {{ env: AC_AUTH_TOKEN }}\n      \
         keys: [{{ id: {KEY}, secret: {{ env: SK_SECRET }} }}]\n{more}\
         resources:\n\
         - {{ name: signal, match: {{ path: /signal }}, upstream: presence, stream: headers }}\n\
         - {{ name: events, match: {{ path: /v1/presence/events }}, upstream: presence, stream: headers }}\n\
         - {{ name: presence-api, match: {{ path: \"/v1/{{*rest}}\" }}, upstream: presence }}\n\
         limits:\n- {{ name: account, per: [account], max: 100, except: [signal, events] }}\n"
    )
}

/// A gate with the plugin, to be started.
pub(crate) fn plan(more: &str) -> Plan {
    plan_with(&config(more))
}

/// The same with a whole configuration.
pub(crate) fn plan_with(config: &str) -> Plan {
    let plan = sidecar(config);
    plan.env("AC_AUTH_TOKEN", AUTH_TOKEN)
        .env("SK_SECRET", SECRET)
        .env("OTHER_TOKEN", OTHER_TOKEN)
        .env("OTHER_SECRET", OTHER_SECRET)
}

/// A gate with the plugin that also listens with TLS, as its second listener, and the authority that signed its certificate.
pub(crate) async fn secure_gate(more: &str) -> (Sidecar, Authority) {
    secure_gate_with(&config(more)).await
}

/// The same with a whole configuration.
pub(crate) async fn secure_gate_with(config: &str) -> (Sidecar, Authority) {
    let tls = "tls: { certificate: \"$DIR/gate.crt\", private_key: \"$DIR/gate.key\" }";
    let server = format!(
        "server: {{ threads: 2, listeners: [{{ address: \"127.0.0.1:0\" }}, {{ address: \"127.0.0.1:0\", {tls} }}] }}\n"
    );
    let plan = plan_with(&format!("{config}{server}"));
    let authority = Authority::new(plan.directory());
    authority.sign("gate", "127.0.0.1");
    (plan.start().await, authority)
}

/// A gate with the plugin.
pub(crate) async fn gate(more: &str) -> Sidecar {
    plan(more).start().await
}

/// A token of that identity; `presence` is its presence grant.
pub(crate) fn token(identity: &str, presence: Option<Value>) -> String {
    token_for(identity, presence, Duration::from_secs(3_600))
}

/// The same, good for so long.
pub(crate) fn token_for(identity: &str, presence: Option<Value>, ttl: Duration) -> String {
    sign(&draft(identity, presence, ttl), Duration::ZERO)
}

/// The same, made an hour ago, so that it stops counting in so long: a minute after its end.
pub(crate) fn token_ending(identity: &str, presence: Option<Value>, left: Duration) -> String {
    const HOUR: Duration = Duration::from_hours(1);
    let ttl = HOUR + left - Duration::from_mins(1);
    sign(&draft(identity, presence, ttl), HOUR)
}

/// What a token is to say.
pub(crate) fn draft(identity: &str, presence: Option<Value>, ttl: Duration) -> Draft {
    Draft {
        identity: Name::new(identity).unwrap(),
        account: None,
        may_receive: true,
        application: None,
        presence,
        ttl,
        is_capability: false,
    }
}

/// Signs it as of so long ago.
pub(crate) fn sign(draft: &Draft, ago: Duration) -> String {
    let settings = Settings {
        accounts: vec![AccountSettings {
            sid: ACCOUNT.into(),
            auth_tokens: vec![SecretText(AUTH_TOKEN.into())],
            keys: vec![KeySettings {
                id: KEY.into(),
                secrets: vec![SecretText(SECRET.into())],
            }],
            ..AccountSettings::default()
        }],
        ..Settings::default()
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the gate under test reads the machine's clock"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    draft.sign(&settings, now - ago).unwrap()
}

/// A token that may also see all others.
pub(crate) fn seeing(identity: &str) -> String {
    token(
        identity,
        Some(json!({ "publish": true, "subscribe": ["*"] })),
    )
}

/// Seconds since the Unix epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "the gate under test reads the machine's clock"
)]
pub(crate) fn unix_seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// A token of any form, signed by that secret.
pub(crate) fn signed(cty: Option<&str>, claims: &Value, secret: &str) -> String {
    let header = jsonwebtoken::Header {
        cty: cty.map(str::to_owned),
        ..jsonwebtoken::Header::default()
    };
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

/// The claims of a good access token of that key and account, good for an hour.
pub(crate) fn claims(key: &str, account: &str, identity: &str, presence: Value) -> Value {
    let now = unix_seconds();
    let voice = json!({ "incoming": { "allow": true } });
    let grants = json!({ "identity": identity, "voice": voice, "presence": presence });
    let jti = format!("{key}-{now}");
    json!({ "jti": jti, "iss": key, "sub": account, "iat": now, "exp": now + 3_600, "grants": grants })
}

/// What `cty` says of an access token.
pub(crate) const ACCESS: Option<&str> = Some("twilio-fpa;v=1");

/// A token of the other account that may see all of it.
pub(crate) fn other_seeing(identity: &str) -> String {
    let grant = json!({ "publish": true, "subscribe": ["*"] });
    let claims = claims(OTHER_KEY, OTHER, identity, grant);
    signed(ACCESS, &claims, OTHER_SECRET)
}

/// The value of `authorization` for a token.
pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The value of `authorization` for the account's key.
pub(crate) fn basic() -> String {
    let pair = format!("{ACCOUNT}:{AUTH_TOKEN}");
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

/// One request to the plugin, by those credentials.
pub(crate) async fn ask(
    gate: &Sidecar,
    credentials: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Response {
    let fields = [
        ("authorization", credentials),
        ("content-type", "application/json"),
    ];
    gate.connect().await.ask(method, path, &fields, body).await
}

/// The value of `authorization` for the other account's key.
pub(crate) fn other_basic() -> String {
    let pair = format!("{OTHER}:{OTHER_TOKEN}");
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

/// Reports over the API, which must be taken; the item comes back.
pub(crate) async fn put(gate: &Sidecar, credentials: &str, report: Value) -> Value {
    let answer = try_put(gate, credentials, report).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Reports over the API.
pub(crate) async fn try_put(gate: &Sidecar, credentials: &str, report: Value) -> Response {
    let body = report.to_string();
    ask(gate, credentials, "PUT", "/v1/presence", &body).await
}

/// Has that identity's device `desk` report a status, by the account's key.
pub(crate) async fn set(gate: &Sidecar, identity: &str, status: &str) -> Value {
    let report = json!({ "identity": identity, "device": "desk", "status": status });
    put(gate, &basic(), report).await
}

/// Asks about many.
pub(crate) async fn query(gate: &Sidecar, credentials: &str, question: Value) -> Response {
    let body = question.to_string();
    ask(gate, credentials, "POST", "/v1/presence/query", &body).await
}

/// Status and `code` of a refusal.
pub(crate) fn refusal(answer: &Response) -> (u16, u64) {
    let is_problem = answer.head.says("content-type", "application/problem+json");
    assert!(is_problem, "{} {}", answer.head.raw, answer.text());
    let body = answer.json();
    assert_eq!(body["status"], answer.status);
    (answer.status, body["code"].as_u64().unwrap())
}

/// Keeps a contact list of the bearer.
pub(crate) async fn keep_list(gate: &Sidecar, token: &str, list: &str, identities: &[&str]) {
    let body = json!({ "identities": identities }).to_string();
    let path = format!("/v1/contacts/{list}");
    let answer = ask(gate, &bearer(token), "PUT", &path, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Reads one identity by the account's key.
pub(crate) async fn item(gate: &Sidecar, identity: &str) -> Value {
    let path = format!("/v1/presence/{identity}");
    let answer = ask(gate, &basic(), "GET", &path, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Of whom a list or a change tells.
pub(crate) fn names(told: &Value) -> Vec<&str> {
    let presence = told["presence"].as_object().unwrap();
    presence.keys().map(String::as_str).collect()
}

/// A client on `/signal`.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Opens a socket; the status of the refusal if it is refused.
    pub(crate) async fn try_open(gate: &Sidecar) -> Result<Self, u16> {
        let stream = TcpStream::connect(&gate.address).await.unwrap();
        let opened = tokio_tungstenite::client_async("ws://gate.test/signal", stream);
        match within("the handshake", opened).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens a socket.
    pub(crate) async fn open(gate: &Sidecar) -> Self {
        Self::try_open(gate).await.unwrap()
    }

    /// Opens a socket and says `hello` with a microphone; the `welcome` comes with it.
    pub(crate) async fn hello(gate: &Sidecar, token: &str, device: &str) -> (Self, Value) {
        let mut socket = Self::open(gate).await;
        let hello = json!({ "token": token, "device": device, "audio": true });
        socket.say("hello", hello).await;
        let welcome = socket.hear("welcome").await;
        (socket, welcome)
    }

    pub(crate) async fn say(&mut self, r#type: &str, payload: Value) {
        let message = json!({ "type": r#type, "payload": payload, "version": "1.6" });
        self.send(&message.to_string()).await;
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The payload of the next message, which must be of that type; heartbeats are echoed and passed over.
    pub(crate) async fn hear(&mut self, r#type: &str) -> Value {
        let mut message = self.next().await;
        assert_eq!(message["type"], r#type, "{message}");
        message["payload"].take()
    }

    /// The next message; heartbeats are echoed and passed over.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            match within("a message", self.0.next()).await {
                Some(Ok(Message::Text(text))) if text.trim().is_empty() => self.send("\n").await,
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                other => panic!("no message but {other:?}"),
            }
        }
    }

    /// The code with which the server closes, after whatever it still says.
    pub(crate) async fn until_closed(&mut self) -> Option<u16> {
        loop {
            match within("the end", self.0.next()).await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Waits for so many heartbeats, between which nothing may come.
    pub(crate) async fn until_beaten(&mut self, times: usize) {
        for _ in 0..times {
            match within("a heartbeat", self.0.next()).await {
                Some(Ok(Message::Text(text))) if text == "\n" => self.send("\n").await,
                other => panic!("no heartbeat but {other:?}"),
            }
        }
    }

    /// Whether nothing but heartbeats came within that time.
    pub(crate) async fn is_quiet(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.next()).await.is_err()
    }

    /// Closes in order, with that code.
    pub(crate) async fn close(mut self, code: u16) {
        let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        self.0.close(Some(frame)).await.unwrap();
        // Until the other side has heard it.
        while let Some(Ok(_)) = within("the close", self.0.next()).await {}
    }

    /// Cuts the connection without a word.
    pub(crate) fn lose(self) {
        drop(self);
    }
}

/// A stream of server-sent events.
pub(crate) struct Events {
    connection: Connection,
    bytes: Vec<u8>,
    text: String,
    /// Comments that were passed over.
    pub(crate) comments: usize,
}

impl Events {
    /// Begins a stream on that connection; the refusal if it is refused.
    pub(crate) async fn on(
        connection: Connection,
        credentials: &str,
        query: &str,
    ) -> Result<Self, Response> {
        let path = format!("/v1/presence/events?{query}");
        Self::at(connection, credentials, &path).await
    }

    /// The same of any path.
    pub(crate) async fn at(
        mut connection: Connection,
        credentials: &str,
        path: &str,
    ) -> Result<Self, Response> {
        let fields = [("authorization", credentials)];
        connection.send_get(path, &fields).await;
        let (status, head) = connection.head().await;
        if status != 200 {
            let framing = Framing::of_response(&head, status, "GET");
            let body = within("the refusal", connection.wire.body(framing)).await;
            let body = body.unwrap();
            return Err(Response { status, head, body });
        }
        assert_eq!(head.get("content-type"), Some("text/event-stream"));
        Ok(Self {
            connection,
            bytes: Vec::new(),
            text: String::new(),
            comments: 0,
        })
    }

    /// The same on a connection of its own.
    pub(crate) async fn try_open(
        gate: &Sidecar,
        credentials: &str,
        query: &str,
    ) -> Result<Self, Response> {
        Self::on(gate.connect().await, credentials, query).await
    }

    /// Begins a stream, which must not be refused.
    pub(crate) async fn open(gate: &Sidecar, credentials: &str, query: &str) -> Self {
        let opened = Self::try_open(gate, credentials, query).await;
        opened.unwrap_or_else(|refused| panic!("{}", refused.text()))
    }

    /// The data of the next event, which must be of that name.
    pub(crate) async fn hear(&mut self, name: &str) -> Value {
        let (event, data) = self.next().await.expect("an event, not the end");
        assert_eq!(event, name, "{data}");
        data
    }

    /// The next event; comments are passed over. `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if block.starts_with(':') {
                    self.comments += 1;
                    continue;
                }
                let (event, data) = block.split_once('\n').unwrap();
                let event = event.strip_prefix("event: ").unwrap().to_owned();
                let data = data.strip_prefix("data: ").unwrap();
                return Some((event, serde_json::from_str(data).unwrap()));
            }
            if !self.chunk().await {
                return None;
            }
        }
    }

    /// Waits for one more comment than came so far.
    pub(crate) async fn comment(&mut self) {
        while !self.text.starts_with(':') {
            assert!(self.chunk().await, "the stream ended");
        }
    }

    /// Reads the next chunk of the body; false at its end.
    async fn chunk(&mut self) -> bool {
        loop {
            let end = self.bytes.windows(2).position(|two| two == b"\r\n");
            if let Some(end) = end {
                let digits = std::str::from_utf8(&self.bytes[..end]).unwrap();
                let size = usize::from_str_radix(digits, 16).unwrap();
                if self.bytes.len() >= end + size + 4 {
                    let whole: Vec<u8> = self.bytes.drain(..end + size + 4).collect();
                    let data = &whole[end + 2..end + 2 + size];
                    // Texts may be parted within a character only between chunks, and ours never are.
                    self.text.push_str(std::str::from_utf8(data).unwrap());
                    return size > 0;
                }
            }
            let more = within("an event", self.connection.wire.some()).await;
            let more = more.unwrap_or_default();
            if more.is_empty() {
                return false;
            }
            self.bytes.extend(more);
        }
    }

    /// Whether nothing but comments came within that time.
    pub(crate) async fn is_quiet(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.next()).await.is_err()
    }
}
