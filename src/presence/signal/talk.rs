//! One socket's conversation: who it is, what it registers, what it asks.
//!
//! Two dialects share it. The voice SDK says `listen` and `register`; pages without it say `hello`, which does both at once. What comes
//! is judged and answered on the socket's own task; what happens elsewhere reaches the client through its outbox. Dropping a
//! conversation that was not ended suspends its session, so that whoever lost its network can come back. Never reads the socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::frame::{Frame, cut};
use super::sockets::Line;
use crate::presence::account::{Account, Open, Subscription};
use crate::presence::call::board::Heard;
use crate::presence::fault::Fault;
use crate::presence::name::Name;
use crate::presence::plugin::Presence;
use crate::presence::registry::arrival::{Arrival, Connected, TokenEnd};
use crate::presence::registry::session::{Moment, SessionRef, Source};
use crate::presence::subscription::form::message;
use crate::presence::subscription::outbox::Close;
use crate::presence::token::Grant;
use crate::presence::viewer::Viewer;

/// Messages that may come in a burst, and a second after it.
const BURST: f64 = 100.0;
const PER_SECOND: f64 = 30.0;
/// Longest first message, in bytes: it is read from anybody.
const FIRST_MAX: usize = 16 * 1024;
/// Subscriptions of one socket.
const SUBSCRIPTIONS_MAX: usize = 16;

/// A conversation.
#[derive(Debug)]
pub(in crate::presence) struct Talk {
    pub(in crate::presence) presence: Arc<Presence>,
    pub(in crate::presence) line: Arc<Line>,
    /// What kind of client it is, for sessions without a name of their own.
    pub(in crate::presence) kind: u64,
    /// It came beyond the pace, and is to come back after so long.
    pub(in crate::presence) late: Option<Duration>,
    pub(in crate::presence) login: Option<Login>,
    /// For how long its calls are kept when its connection is lost, if the client said so.
    pub(in crate::presence) window: Option<Duration>,
    bucket: (f64, Instant),
}

/// Who is at the other end.
#[derive(Debug)]
pub(in crate::presence) struct Login {
    pub(in crate::presence) account: Arc<Account>,
    pub(in crate::presence) grant: Arc<Grant>,
    /// Its registration, if it has one.
    pub(in crate::presence) session: Option<SessionRef>,
    pub(in crate::presence) subscriptions: Vec<Subscription>,
    _open: Open,
}

/// A reply to a request, if the client asked for one.
pub(in crate::presence) type Reply = Option<(&'static str, Value)>;

impl Talk {
    pub(in crate::presence) fn new(
        presence: Arc<Presence>,
        line: Arc<Line>,
        kind: u64,
        late: Option<Duration>,
    ) -> Self {
        let bucket = (BURST, presence.clock.now());
        Self {
            presence,
            line,
            kind,
            late,
            login: None,
            window: None,
            bucket,
        }
    }

    /// Takes one message.
    pub(in crate::presence) fn hear(&mut self, text: &str) {
        let now = self.presence.clock.now();
        self.line.hear(now);
        let passed = now.saturating_duration_since(self.bucket.1).as_secs_f64();
        self.bucket = ((self.bucket.0 + passed * PER_SECOND).min(BURST), now);
        if self.bucket.0 < 1.0 {
            self.line.outbox.cut(Close::POLICY);
            return;
        }
        self.bucket.0 -= 1.0;
        if self.login.is_none() && text.len() > FIRST_MAX {
            self.line.outbox.cut(Close::TOO_BIG);
            return;
        }
        // The heartbeat's echo.
        if text.trim().is_empty() {
            return self.echo();
        }
        self.presence.stats.count_in(1);
        let frame = match Frame::read(text) {
            Ok(frame) => frame,
            Err(fault) => return self.fail(&fault, None),
        };
        let id = frame.id();
        match self.answer(&frame) {
            Ok(Some((r#type, mut payload))) => {
                if let (Some(id), Value::Object(members)) = (id, &mut payload) {
                    members.insert("re".into(), id);
                }
                self.say(r#type, payload);
            }
            Ok(None) => {}
            Err(fault) => self.fail(&fault, id),
        }
    }

    fn answer(&mut self, frame: &Frame<'_>) -> Result<Reply, Fault> {
        if let Some(answered) = self.call(frame) {
            return answered;
        }
        match &*frame.r#type {
            "listen" => self.listen(frame),
            "register" => self.register(frame),
            "hello" => self.hello(frame),
            "bye" => {
                self.leave();
                self.line.outbox.close(Close::NORMAL);
                Ok(None)
            }
            "presence.set" => self.set(frame),
            "presence.sub" => self.subscribe(frame),
            "presence.unsub" => {
                self.known()?.subscriptions.clear();
                Ok(Some(("presence.unsub", json!({}))))
            }
            "presence.query" => self.query(frame),
            "message.ack" => self.acknowledge(frame),
            other => Err(Fault::bad(format!(
                "`{}` is no message that is understood here",
                cut(other)
            ))),
        }
    }

    pub(in crate::presence) fn say(&self, r#type: &str, payload: Value) {
        self.line.outbox.say(message(r#type, payload));
    }

    pub(in crate::presence) fn fail(&self, fault: &Fault, id: Option<Value>) {
        let mut payload = json!({ "error": { "code": fault.signal, "message": fault.detail } });
        if let (Some(id), Value::Object(members)) = (id, &mut payload) {
            members.insert("re".into(), id);
        }
        self.say("error", payload);
    }

    /// Who is at the other end, while its token counts.
    pub(in crate::presence) fn known(&mut self) -> Result<&mut Login, Fault> {
        let unix_time = self.presence.clock.unix_time().as_secs();
        let login = self.login.as_mut().ok_or_else(Fault::anonymous)?;
        if login.grant.ends() <= unix_time {
            return Err(Fault::from(crate::presence::token::TokenFault::Expired));
        }
        Ok(login)
    }

    /// Verifies a token: the first says who it is, every later one renews its rights.
    pub(in crate::presence) fn log_in(&mut self, token: &str) -> Result<Arc<Grant>, Fault> {
        let live = self.presence.live();
        let unix_time = self.presence.clock.unix_time();
        let verified = live.verifier.verify(token, unix_time);
        let grant = Arc::new(verified.inspect_err(|_| self.line.refuse())?);
        let account = Arc::clone(&live.accounts[grant.account]);
        let at = Moment::of(&self.presence.clock);
        let end = self.token_end(&grant, at);
        if let Some(login) = &mut self.login {
            let is_same =
                login.grant.identity == grant.identity && Arc::ptr_eq(&login.account, &account);
            if !is_same {
                return Err(Fault::other_identity());
            }
            let has_changed =
                login.grant.obtain != grant.obtain || login.grant.restrict != grant.restrict;
            login.grant = Arc::clone(&grant);
            if has_changed {
                for subscription in &login.subscriptions {
                    subscription.renew(Viewer::Bearer(Arc::clone(&grant)));
                }
            }
            if let Some(session) = &login.session {
                let may_receive = grant.may_receive;
                let may_give = grant.may_give;
                account.with(|state| {
                    state
                        .registry
                        .renew(session, may_receive, may_give, Some(end.clone()), at);
                });
            }
        } else {
            let max = live.settings.max_sockets_per_account;
            let open = account.open(max);
            let open = open.ok_or_else(|| {
                Fault::too_many("this account has as many sockets open as may be")
            })?;
            self.login = Some(Login {
                account: Arc::clone(&account),
                grant: Arc::clone(&grant),
                session: None,
                subscriptions: Vec::new(),
                _open: open,
            });
        }
        let sid = &live.settings.accounts[grant.account].sid;
        self.line.know(Some(end.at), sid, &grant.issuer);
        // A reload that came to its end before this line was known by its key has not ended it.
        let live = self.presence.live();
        if let Err(fault) = live.check_key(&account, &grant.issuer) {
            self.line.end_token();
            return Err(fault.into());
        }
        Ok(grant)
    }

    /// Registers a device.
    pub(in crate::presence) fn connect(
        &self,
        account: &Arc<Account>,
        grant: &Grant,
        arrival: Arrival,
        at: Moment,
    ) -> Result<Connected, Fault> {
        account.with(|state| {
            // What a key has signed is ended under this lock when the key goes.
            let live = self.presence.live();
            live.check_key(account, &grant.issuer)?;
            let connected = state.registry.connect(&grant.identity, arrival, at);
            connected.map_err(Fault::from)
        })
    }

    /// When a token stops counting.
    pub(in crate::presence) fn token_end(&self, grant: &Grant, at: Moment) -> TokenEnd {
        TokenEnd {
            at: at.instant_of(grant.ends()),
            key: grant.issuer.as_str().into(),
        }
    }

    /// Notes a subscription.
    pub(in crate::presence) fn keep(&mut self, subscription: Subscription) -> Result<(), Fault> {
        let login = self.known()?;
        if login.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(Fault::too_many(
                "a socket has up to 16 subscriptions; end some with `presence.unsub`",
            ));
        }
        login.subscriptions.push(subscription);
        Ok(())
    }

    /// The client goes, and is known to have gone: so do its device and its calls.
    pub(in crate::presence) fn leave(&mut self) {
        self.sign_off();
        self.tell_calls(|| Heard::Left);
    }

    /// The device goes, and is known to have gone.
    pub(in crate::presence) fn sign_out(&mut self) {
        self.sign_off();
        self.tell_calls(|| Heard::Unregistered);
    }

    /// Before its calls hear of it: they would find it there, and ring it again.
    fn sign_off(&mut self) {
        self.end(|account, session, at| {
            account.with(|state| state.registry.leave(session, Source::Socket, at));
        });
    }

    /// The socket was lost.
    fn lose(&mut self) {
        self.end(|account, session, at| {
            account.with(|state| state.registry.lose(session, at));
        });
        // Nothing can be said to it any more, though its connection may take a moment to close.
        self.line.outbox.close(Close::SILENT);
        let window = self
            .window
            .unwrap_or_else(|| self.presence.live().settings.grace);
        self.tell_calls(|| Heard::Lost(window));
    }

    fn end(&mut self, how: impl FnOnce(&Account, &SessionRef, Moment)) {
        if let Some(login) = &mut self.login
            && let Some(session) = login.session.take()
        {
            how(&login.account, &session, Moment::of(&self.presence.clock));
        }
    }

    /// Closes the socket of a session that this one took the place of.
    pub(in crate::presence) fn replace(&self, other: Option<crate::presence::SocketId>) {
        if let Some(line) = other.and_then(|id| self.presence.sockets.find(id)) {
            line.outbox.cut(Close::REPLACED);
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.lose();
    }
}

/// A name for a device that has none: short, and not to be met twice.
pub(in crate::presence) fn fresh_device() -> Name {
    let text = format!("sdk-{:08x}", fastrand::u32(..));
    Name::new(&text).expect("letters and digits are a name")
}
