//! What the tests of calls share: a customer's server with its documents, and a gate whose applications and numbers lead there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::presence::desk::{self, Socket, basic};
use crate::support::client::Response;
use crate::support::eventually;
use crate::support::origin::{Exchange, Origin};
use crate::support::sidecar::Sidecar;
use crate::support::wire::Head;

/// The application of the tests.
pub(crate) const APPLICATION: &str = "AP00000000000000000000000000000001";
/// Their number.
pub(crate) const NUMBER: &str = "+14155550100";
/// A session description, as far as anybody looks at it.
pub(crate) const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=offer\r\n";
pub(crate) const ANSWER: &str = "v=0\r\no=- 2 2 IN IP4 127.0.0.1\r\ns=answer\r\n";

/// One request that the customer's server got.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) head: Head,
    pub(crate) fields: Vec<(String, String)>,
}

impl Asked {
    /// The only value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }
}

/// The customer's own server: answers by path, and remembers what it was asked.
pub(crate) struct Customer {
    pub(crate) origin: Origin,
    documents: Arc<Mutex<HashMap<String, Reply>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone)]
struct Reply {
    status: u16,
    kind: &'static str,
    body: String,
    delay: Duration,
    location: Option<String>,
}

impl Customer {
    /// A server that has `/voice` answer with these verbs.
    pub(crate) fn saying(verbs: &str) -> Self {
        let documents: Arc<Mutex<HashMap<String, Reply>>> = Arc::default();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (known, log) = (Arc::clone(&documents), Arc::clone(&asked));
        let origin = Origin::start(async move |exchange: &mut Exchange| {
            let body = exchange.body().await?;
            let (path, query) = {
                let target = exchange.target();
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                (path.to_owned(), query.to_owned())
            };
            let pairs = |text: &[u8]| {
                form_urlencoded::parse(text)
                    .into_owned()
                    .collect::<Vec<_>>()
            };
            let fields = if exchange.method() == "GET" {
                pairs(query.as_bytes())
            } else {
                pairs(&body.bytes)
            };
            log.lock().push(Asked {
                method: exchange.method().to_owned(),
                target: exchange.target().to_owned(),
                head: exchange.head.clone(),
                fields,
            });
            let reply = known.lock().get(&path).cloned();
            let Some(reply) = reply else {
                return exchange.reply(404, "").await;
            };
            tokio::time::sleep(reply.delay).await;
            let Reply {
                status,
                kind,
                body,
                location,
                ..
            } = reply;
            let length = body.len();
            let location = location.map(|to| format!("location: {to}\r\n"));
            let location = location.unwrap_or_default();
            let raw = format!(
                "HTTP/1.1 {status} Said\r\ncontent-type: {kind}\r\n{location}content-length: {length}\r\n\r\n{body}"
            );
            exchange.raw(&raw).await
        });
        let customer = Self {
            origin,
            documents,
            asked,
        };
        customer.say("/voice", verbs);
        customer
    }

    /// Has a path answer with these verbs from now on.
    pub(crate) fn say(&self, path: &str, verbs: &str) {
        let body =
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>{verbs}</Response>");
        self.answer(path, 200, "text/xml", body);
    }

    /// Has a path answer so from now on.
    pub(crate) fn answer(&self, path: &str, status: u16, kind: &'static str, body: String) {
        let reply = Reply {
            status,
            kind,
            body,
            delay: Duration::ZERO,
            location: None,
        };
        let mut documents = self.documents.lock();
        documents.insert(path.to_owned(), reply);
    }

    /// Has a path lead elsewhere, with that status.
    pub(crate) fn lead(&self, path: &str, status: u16, to: &str) {
        self.answer(path, status, "text/plain", String::new());
        let mut documents = self.documents.lock();
        documents.get_mut(path).unwrap().location = Some(to.to_owned());
    }

    /// Has a path take so long.
    pub(crate) fn delay(&self, path: &str, delay: Duration) {
        let mut documents = self.documents.lock();
        documents.get_mut(path).unwrap().delay = delay;
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.origin.address)
    }

    /// What it was asked at a path.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock();
        let at = |asked: &&Asked| asked.target.split('?').next() == Some(path);
        asked.iter().filter(at).cloned().collect()
    }

    /// What it was asked at a path, once it was asked so often.
    pub(crate) async fn until_asked(&self, path: &str, times: usize) -> Vec<Asked> {
        eventually("a request to the customer's server", async || {
            self.asked(path).len() >= times
        })
        .await;
        self.asked(path)
    }

    /// The lines that put its documents into the account's section.
    pub(crate) fn section(&self) -> String {
        let voice = format!(
            "{{ url: \"{}\", fallback_url: \"{}\" }}",
            self.url("/voice"),
            self.url("/fallback")
        );
        let messaging = format!("{{ url: \"{}\" }}", self.url("/messaging"));
        format!(
            "      applications: {{ {APPLICATION}: {{ voice: {voice}, messaging: {messaging} }} }}\n      \
             numbers: {{ \"{NUMBER}\": {{ voice: {voice}, messaging: {messaging}, clients: [bob] }} }}\n"
        )
    }

    /// A configuration that leads to its documents; more lines of the account, and then of the section.
    pub(crate) fn config(&self, account: &str, more: &str) -> String {
        desk::config(&format!("{}{account}{more}", self.section()))
    }

    /// A gate that follows its documents; more lines of the account, and then of the section.
    pub(crate) async fn gate(&self, account: &str, more: &str) -> Sidecar {
        desk::plan_with(&self.config(account, more)).start().await
    }

    /// What it was told at a path about the end of a dial, which must be told once.
    pub(crate) async fn concluded(&self, path: &str) -> Asked {
        let mut asked = self.until_asked(path, 1).await;
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }
}

/// A token of that identity, which may also call out.
pub(crate) fn calling(identity: &str) -> String {
    calling_with(identity, None)
}

/// The same with a presence grant.
pub(crate) fn calling_with(identity: &str, presence: Option<Value>) -> String {
    let mut draft = desk::draft(identity, presence, Duration::from_hours(1));
    draft.application = Some(APPLICATION.into());
    desk::sign(&draft, Duration::ZERO)
}

/// A page that can be rung, and call.
pub(crate) async fn page(gate: &Sidecar, identity: &str, device: &str) -> Socket {
    Socket::hello(gate, &calling(identity), device).await.0
}

/// Has a page call; its call's identifier comes back.
pub(crate) async fn call(page: &mut Socket, to: &str) -> String {
    let payload = json!({ "to": to, "sdp": OFFER, "id": 1 });
    page.say("call.invite", payload).await;
    let begun = page.hear("call.invite").await;
    assert_eq!(begun["re"], 1);
    begun["callsid"].as_str().unwrap().to_owned()
}

/// Has a page that rings answer.
pub(crate) async fn accept(page: &mut Socket, invitation: &Value) {
    let (callsid, bridge) = (&invitation["callsid"], &invitation["bridge"]);
    let payload = json!({ "callsid": callsid, "bridge": bridge, "sdp": ANSWER });
    page.say("call.accept", payload).await;
}

/// Brings a call from outside.
pub(crate) async fn post(gate: &Sidecar, communication: Value) -> Response {
    let body = communication.to_string();
    desk::ask(gate, &basic(), "POST", "/v1/communications", &body).await
}

/// Brings a call to that number or client, which must be taken; its identifier comes back.
pub(crate) async fn bring(gate: &Sidecar, to: &str) -> String {
    let communication =
        json!({ "to": to, "from": "+14155550199", "medium": "voice", "sdp": OFFER });
    let answer = post(gate, communication).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["sid"].as_str().unwrap().to_owned()
}

/// How a call stands.
pub(crate) async fn read(gate: &Sidecar, sid: &str) -> Value {
    let path = format!("/v1/communications/{sid}");
    let answer = desk::ask(gate, &basic(), "GET", &path, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// How a call stands, once it has that status.
pub(crate) async fn until(gate: &Sidecar, sid: &str, status: &str) -> Value {
    let what = format!("the call is {status}");
    eventually(&what, async || read(gate, sid).await["status"] == status).await;
    read(gate, sid).await
}

/// What became of a device of a call.
pub(crate) fn traced<'r>(record: &'r Value, identity: &str, device: &str) -> &'r str {
    let trace = record["trace"].as_array().unwrap();
    let of = |entry: &&Value| entry["identity"] == identity && entry["device"] == device;
    let entry = trace.iter().find(of);
    let entry = entry.unwrap_or_else(|| panic!("{identity}/{device} is not in {record}"));
    entry["outcome"].as_str().unwrap()
}

/// Hangs a call up, or cancels it, over the API.
pub(crate) async fn hang_up(gate: &Sidecar, sid: &str) {
    let path = format!("/v1/communications/{sid}");
    let answer = desk::ask(gate, &basic(), "DELETE", &path, "").await;
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// Has a page that rings say no.
pub(crate) async fn decline(page: &mut Socket, invitation: &Value) {
    let payload = json!({ "callsid": invitation["callsid"] });
    page.say("call.reject", payload).await;
}

/// Has a page hang up the call that it knows by that name.
pub(crate) async fn leave(page: &mut Socket, callsid: &Value) {
    page.say("call.hangup", json!({ "callsid": callsid })).await;
}

/// Has a page report a status.
pub(crate) async fn report(page: &mut Socket, status: &str, text: Option<&str>) {
    let payload = json!({ "status": status, "text": text, "id": 1 });
    page.say("presence.set", payload).await;
    page.hear("presence.set").await;
}

/// Asserts that nothing was said to a page so far but what was heard.
pub(crate) async fn hears_nothing(page: &mut Socket) {
    page.say("presence.unsub", json!({ "id": "quiet" })).await;
    assert_eq!(page.hear("presence.unsub").await["re"], "quiet");
}

/// A call between two pages, as each side knows it.
pub(crate) struct Pair {
    /// The call's identifier, which the caller knows it by.
    pub(crate) sid: String,
    /// What each was told when it was put through.
    pub(crate) caller: Value,
    pub(crate) callee: Value,
}

/// Has one page call another, which answers.
pub(crate) async fn connect(caller: &mut Socket, callee: &mut Socket, to: &str) -> Pair {
    let sid = call(caller, to).await;
    let invitation = callee.hear("call.invite").await;
    accept(callee, &invitation).await;
    caller.hear("call.ringing").await;
    let told = caller.hear("call.accept").await;
    Pair {
        sid,
        caller: told,
        callee: callee.hear("call.accept").await,
    }
}

/// Waits until that identity shows that status.
pub(crate) async fn until_shown(gate: &Sidecar, identity: &str, status: &str) {
    eventually("a status is shown", async || {
        desk::item(gate, identity).await["status"] == status
    })
    .await;
}

/// Waits until a device of that identity is suspended.
pub(crate) async fn until_suspended(gate: &Sidecar, identity: &str) {
    eventually("a device is suspended", async || {
        let shown = desk::item(gate, identity).await;
        let devices = shown["devices"].as_array().unwrap();
        devices.iter().any(|of| of["suspended"] == true)
    })
    .await;
}
