//! Our own dialect, for pages without the voice SDK: `hello` logs in and registers at once; statuses, questions and subscriptions.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::frame::Frame;
use super::talk::{Reply, Talk};
use crate::presence::api::ask::{self, Answer, Question, Said};
use crate::presence::chance;
use crate::presence::fault::Fault;
use crate::presence::registry::arrival::Arrival;
use crate::presence::registry::session::{Moment, Source};
use crate::presence::subscription::form::{Form, write};
use crate::presence::subscription::outbox::Close;
use crate::presence::viewer::Viewer;

/// The application of devices that name none.
pub(in crate::presence) const APP: &str = "default";

#[derive(Debug, Deserialize)]
struct Hello {
    token: String,
    device: Option<String>,
    app: Option<String>,
    #[serde(default)]
    audio: bool,
    resume: Option<String>,
}

impl Talk {
    /// Logs in and registers; on a socket that is registered, renews the rights of its session.
    pub(in crate::presence) fn hello(&mut self, frame: &Frame<'_>) -> Result<Reply, Fault> {
        if self.late.is_some() {
            self.turn_away();
            return Ok(None);
        }
        let asked: Hello = frame.payload()?;
        let is_renewal = self
            .login
            .as_ref()
            .is_some_and(|login| login.session.is_some());
        let named = asked.device.as_deref();
        let device = match named {
            Some(device) => Some(ask::name(device, "device")?),
            None if is_renewal => None,
            None => return Err(Fault::bad("`device` says which device this is")),
        };
        let app = ask::name(asked.app.as_deref().unwrap_or(APP), "app")?;
        let grant = self.log_in(&asked.token)?;
        self.line.speak_page();
        if !grant.may_receive && !grant.may_give {
            return Err(Fault::forbidden(
                "this token allows neither to be called nor to give presence",
            ));
        }
        let at = Moment::of(&self.presence.clock);
        let heartbeat = self.presence.live().settings.heartbeat;
        let welcome = |epoch: u64, resume: Option<u128>, is_resumed: bool| {
            let resume = resume.map(|resume| format!("{resume:032x}"));
            let heartbeat = u64::try_from(heartbeat.as_millis()).unwrap_or(u64::MAX);
            let session = format!("{epoch:x}");
            json!({
                "session": session, "epoch": epoch, "resume": resume, "resumed": is_resumed,
                "identity": grant.identity, "heartbeat_ms": heartbeat,
            })
        };
        let login = self.known()?;
        if let Some(session) = &login.session {
            let is_other = device.is_some_and(|device| device != session.device);
            if is_other {
                return Err(Fault::bad(
                    "a socket registers one device; open another for another",
                ));
            }
            return Ok(Some(("welcome", welcome(session.epoch, None, false))));
        }
        let Some(device) = device else {
            return Err(Fault::bad("`device` says which device this is"));
        };
        let account = Arc::clone(&login.account);
        let next_resume = chance::bits();
        let arrival = Arrival {
            device: Ok(device),
            app,
            socket: self.line.id,
            may_receive: grant.may_receive,
            has_audio: asked.audio,
            may_give: grant.may_give,
            token: Some(self.token_end(&grant, at)),
            resume: asked
                .resume
                .as_deref()
                .and_then(|text| u128::from_str_radix(text, 16).ok()),
            next_resume,
        };
        let connected = self.connect(&account, &grant, arrival, at)?;
        self.replace(connected.replaced);
        let payload = welcome(connected.session.epoch, next_resume, connected.is_resumed);
        let login = self.known()?;
        login.session = Some(connected.session);
        Ok(Some(("welcome", payload)))
    }

    /// One that came beyond the pace is told when to come back.
    pub(in crate::presence) fn turn_away(&self) {
        let after = self.late.map_or(1, |late| late.as_secs().max(1));
        let message = "too many come at once; come back later";
        self.say("error", json!({ "error": { "code": 31_206, "message": message, "retryAfter": after }, "retry_after": after }));
        self.line.outbox.close(Close::TRY_LATER);
    }

    /// A new status; the socket is its life.
    pub(in crate::presence) fn set(&mut self, frame: &Frame<'_>) -> Result<Reply, Fault> {
        let report = frame.payload::<Said>()?.report()?;
        let at = Moment::of(&self.presence.clock);
        let login = self.known()?;
        if !login.grant.may_give {
            return Err(Fault::forbidden(
                "this token does not allow to give presence (`grants.presence.publish`)",
            ));
        }
        let Some(session) = login.session.clone() else {
            return Err(Fault::bad("say `hello` with a device first, or `register`"));
        };
        let (version, changed) = login.account.with(|state| {
            let before = state.registry.version();
            state.registry.report(&session, report, Source::Socket, at);
            (state.registry.version(), state.registry.version() != before)
        });
        let wants_reply = frame.id().is_some();
        Ok(wants_reply.then(|| {
            (
                "presence.set",
                json!({ "version": version, "changed": changed }),
            )
        }))
    }

    /// The list once, and then changes.
    pub(in crate::presence) fn subscribe(&mut self, frame: &Frame<'_>) -> Result<Reply, Fault> {
        let question: Question = frame.payload()?;
        let (account, viewer) = self.viewer()?;
        let wanted = ask::wanted(
            &viewer,
            question.identities.as_deref(),
            question.list.as_deref(),
            None,
        )?;
        let outbox = Arc::clone(&self.line.outbox);
        let id = frame.id();
        let subscription = account.subscribe(
            &outbox,
            Form::Socket,
            viewer,
            wanted,
            question.devices,
            |outbox, list| outbox.say(with_reply(list, id.as_ref())),
        )?;
        self.keep(subscription)?;
        Ok(None)
    }

    /// Many at once, in one message.
    pub(in crate::presence) fn query(&mut self, frame: &Frame<'_>) -> Result<Reply, Fault> {
        let question: Question = frame.payload()?;
        let (account, viewer) = self.viewer()?;
        Ok(match ask::query(&account, &viewer, &question, None)? {
            Answer::Unchanged(version) => Some((
                "presence.query",
                json!({ "version": version, "unchanged": true }),
            )),
            Answer::Presence(presence) => {
                let text = Form::Socket.answer(&presence);
                self.line.outbox.say(with_reply(text, frame.id().as_ref()));
                None
            }
        })
    }

    fn viewer(&mut self) -> Result<(Arc<crate::presence::account::Account>, Viewer), Fault> {
        let live = self.presence.live();
        let login = self.known()?;
        let viewer = Viewer::Bearer(Arc::clone(&login.grant));
        // By its sid: a reload may have put the accounts in another order.
        let mut accounts = live.settings.accounts.iter();
        let access = accounts.find(|of| of.sid == login.account.sid);
        let access = access.ok_or_else(Fault::anonymous)?.api;
        ask::check_access(&viewer, access)?;
        Ok((Arc::clone(&login.account), viewer))
    }
}

/// Puts the request's id into a message that was made for many.
fn with_reply(text: Utf8Bytes, id: Option<&Value>) -> Utf8Bytes {
    let Some(id) = id else { return text };
    let payload = "\"payload\":{";
    let re = format!("{payload}\"re\":{},", write(id));
    text.replacen(payload, &re, 1).into()
}
