//! Messages: the presence rules of calls without a media channel (B32).
//!
//! A message goes to one device after the other, of those that are available: the first that acknowledges has it, and one that says
//! nothing for ten seconds is passed over. Never kept for later: who is not there does not get it, and the sender is told so.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::account::{Account, OnItsWay};
use super::call::book::{Party as Taker, Record, Traced};
use super::call::start::{reach, settings_of};
use super::call::words::CallStatus;
use super::fault::Fault;
use super::fetch::instructions::{Ask, Journey};
use super::instruction::{Instruction, Noun, Verb};
use super::name::Name;
use super::plugin::Presence;
use super::registry::session::SocketId;
use super::routing::{self, Device, Place, Verdict};
use super::settings::Script;
use super::signal::frame::Frame;
use super::signal::talk::{Reply, Talk};

/// Longest text, in characters.
pub(super) const BODY_MAX: usize = 1_600;
/// How long a device may take to acknowledge.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);
/// Messages of this process that wait for a device.
const WAITING_MAX: usize = 10_000;
/// Messages of one account on their way.
pub(super) const SENT_MAX: usize = 1_000;
/// Devices of one message.
const DEVICES_MAX: usize = 20;

/// Messages that wait for the word of the device that has them.
#[derive(Debug, Default)]
pub(super) struct Awaited(
    Mutex<HashMap<String, (SocketId, oneshot::Sender<()>), ahash::RandomState>>,
);

impl Awaited {
    fn add(&self, id: &str, socket: SocketId) -> Option<oneshot::Receiver<()>> {
        let mut waiting = self.0.lock();
        if waiting.len() >= WAITING_MAX {
            return None;
        }
        let (tx, rx) = oneshot::channel();
        waiting.insert(id.to_owned(), (socket, tx));
        Some(rx)
    }

    fn remove(&self, id: &str) {
        self.0.lock().remove(id);
    }

    /// The device on that socket has it.
    fn acknowledge(&self, id: &str, socket: SocketId) {
        let mut waiting = self.0.lock();
        let is_theirs = waiting.get(id).is_some_and(|(of, _)| *of == socket);
        if is_theirs && let Some((_, tx)) = waiting.remove(id) {
            // Its sender may have passed on to the next device a moment ago.
            let _passed_on = tx.send(());
        }
    }
}

impl Talk {
    /// A device has a message.
    pub(super) fn acknowledge(&mut self, frame: &Frame<'_>) -> Result<Reply, Fault> {
        #[derive(Deserialize)]
        struct Ack {
            sid: String,
        }
        let ack: Ack = frame.payload()?;
        self.presence.messages.acknowledge(&ack.sid, self.line.id);
        Ok(None)
    }
}

/// A message that is on its way.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) sid: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) body: String,
    pub(super) record: Option<Arc<Mutex<Record>>>,
}

/// A message's identifier: `SM` and 32 hexadecimal digits.
pub(super) fn message_sid() -> String {
    format!("SM{:032x}", fastrand::u128(..))
}

/// Sends a message of a document; nobody is told what becomes of it.
pub(super) fn send(
    presence: &Arc<Presence>,
    account: &Arc<Account>,
    from: &str,
    to: &str,
    body: &str,
) {
    let message = Message {
        sid: message_sid(),
        from: from.to_owned(),
        to: to.to_owned(),
        body: body.to_owned(),
        record: None,
    };
    let Some(sent) = account.send(SENT_MAX) else {
        tracing::warn!(
            account = account.sid,
            "a message was not sent: too many are on their way"
        );
        return;
    };
    let (presence, account) = (Arc::clone(presence), Arc::clone(account));
    tokio::spawn(async move {
        let _sent = sent;
        deliver(
            &presence,
            &account,
            &message,
            std::slice::from_ref(&message.to),
        )
        .await;
    });
}

/// Leaves word with every device of an identity that is there, whatever it says of itself: it was called.
pub(super) fn leave(presence: &Presence, account: &Account, from: &str, to: &Name, body: &str) {
    let sid = message_sid();
    for socket in account.with(|state| state.registry.sockets_of(to)) {
        if let Some(line) = presence.sockets.find(socket) {
            let to = format!("client:{}", to.as_str());
            let told = json!({ "sid": sid, "from": from, "to": to, "body": body });
            line.tell("message.deliver", told);
        }
    }
}

/// Follows the instructions of a message, or takes it straight to whom it is for.
pub(super) async fn run(
    presence: Arc<Presence>,
    account: Arc<Account>,
    message: Message,
    script: Option<(Script, Vec<(String, String)>)>,
    _sent: OnItsWay,
) {
    let to = match script {
        None => Ok(vec![message.to.clone()]),
        Some((script, fields)) => whom(&presence, &account, &message, &script, fields).await,
    };
    let status = match to {
        Ok(to) if deliver(&presence, &account, &message, &to).await => CallStatus::Delivered,
        Ok(_) => CallStatus::Undelivered,
        Err(()) => CallStatus::Failed,
    };
    if let Some(record) = &message.record {
        let mut record = record.lock();
        record.status = status;
        record.tell("ended");
    }
    let now = presence.clock.now();
    account.book.lock().end(&message.sid, now);
}

/// Whom the customer's instructions name, in their order.
async fn whom(
    presence: &Arc<Presence>,
    account: &Arc<Account>,
    message: &Message,
    script: &Script,
    fields: Vec<(String, String)>,
) -> Result<Vec<String>, ()> {
    let live = presence.live();
    let reach = settings_of(&live, account).map(|of| reach(presence, &live, of));
    drop(live);
    let mut journey = Journey::new(reach.map_err(|_| ())?);
    let mut ask = (script.url.clone(), Verb::Post, fields);
    let mut fallback = script.fallback_url.clone();
    loop {
        let (url, method, fields) = &ask;
        let asked = journey.fetch(Ask {
            url,
            method: *method,
            fields,
            idempotency: &message.sid,
        });
        let fetched = match asked.await {
            Ok(fetched) => fetched,
            Err(failure) => {
                if let Some(record) = &message.record {
                    record.lock().warn(failure.code, &failure.detail);
                }
                let url = fallback.take().ok_or(())?;
                let mut fields = ask.2;
                fields.push(("ErrorCode".into(), failure.code.to_string()));
                fields.push(("ErrorUrl".into(), failure.url));
                ask = (url, Verb::Post, fields);
                continue;
            }
        };
        let mut to = Vec::new();
        for verb in fetched.document.verbs {
            match verb {
                Instruction::Dial(dial) => {
                    to.extend(dial.nouns.into_iter().filter_map(|noun| match noun {
                        Noun::Client(client) => Some(client.identity),
                        Noun::Other(_) => None,
                    }))
                }
                Instruction::Sms(sms) => {
                    let from = sms.from.as_deref().unwrap_or(&message.to);
                    let to = sms.to.as_deref().unwrap_or(&message.from);
                    send(presence, account, from, to, &sms.body);
                }
                Instruction::Redirect(link) if to.is_empty() => {
                    let url = Journey::resolve(&fetched.url, &link.url).ok_or(())?;
                    ask = (url, link.method, ask.2.clone());
                    to.push(String::new());
                    break;
                }
                Instruction::Hangup | Instruction::Reject(_) => break,
                _ => {}
            }
        }
        if to.first().is_some_and(String::is_empty) {
            continue;
        }
        return Ok(to);
    }
}

/// Takes it to one device after the other; true once one has it.
async fn deliver(
    presence: &Arc<Presence>,
    account: &Arc<Account>,
    message: &Message,
    to: &[String],
) -> bool {
    let mut tried = 0;
    for to in to {
        let name = to.strip_prefix("client:").unwrap_or(to);
        for device in devices(presence, account, name) {
            let outcome = match device.verdict {
                Verdict::Ring if tried >= DEVICES_MAX => "too_many",
                Verdict::Ring => {
                    tried += 1;
                    hand_over(presence, message, to, &device).await
                }
                other => other.as_str(),
            };
            if let Some(record) = &message.record {
                note(&mut record.lock(), device, outcome);
            }
            if outcome == DELIVERED {
                return true;
            }
        }
    }
    false
}

const DELIVERED: &str = "delivered";

fn note(record: &mut Record, device: Device, outcome: &'static str) {
    let session = device.session;
    if outcome == DELIVERED {
        record.answered_by = Some(Taker {
            identity: session.identity.clone(),
            device: session.device.clone(),
            app: session.app.clone(),
        });
    }
    record.trace(Traced {
        identity: Some(session.identity),
        device: Some(session.device),
        app: Some(session.app),
        node: None,
        noun: None,
        outcome,
    });
}

/// Whom a name means, at this moment; those who may have it first, and where a destination chooses, in its order.
fn devices(presence: &Presence, account: &Account, name: &str) -> Vec<Device> {
    let live = presence.live();
    let Ok(of) = settings_of(&live, account) else {
        return Vec::new();
    };
    account.with(|state| {
        let target = routing::target(&state.registry, &of.destinations, name);
        let parties = target.into_iter().flat_map(|target| target.parties);
        parties
            .flat_map(|party| routing::message_devices(&state.registry, &party))
            .collect()
    })
}

async fn hand_over(
    presence: &Presence,
    message: &Message,
    to: &str,
    device: &Device,
) -> &'static str {
    let Place::Here(Some(socket)) = device.place else {
        return Verdict::NoSocket.as_str();
    };
    let line = presence.sockets.find(socket).filter(|line| line.is_page());
    let Some(line) = line else {
        return "cannot_receive";
    };
    let Some(acknowledged) = presence.messages.add(&message.sid, socket) else {
        return "too_many";
    };
    let Message {
        sid, from, body, ..
    } = message;
    let told = json!({ "sid": sid, "from": from, "to": to, "body": body });
    line.tell("message.deliver", told);
    let in_time = tokio::time::timeout(ACKNOWLEDGED, acknowledged).await;
    presence.messages.remove(sid);
    match in_time {
        Ok(Ok(())) => DELIVERED,
        _ => "timeout",
    }
}
