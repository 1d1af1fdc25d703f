//! The voice SDK's dialect, as the unmodified `@twilio/voice-sdk` speaks it: `listen` shows a token, `register` makes its device ringable.
//!
//! The SDK repeats `register` every 30 s, sends `listen` again with each new token, and says no device's name, so that one which
//! comes back without a word is taken for the one of its kind that was lost first. Read in its source, version 2.18.5.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::frame::Frame;
use super::talk::{Reply, Talk, fresh_device};
use crate::presence::account::Account;
use crate::presence::fault::Fault;
use crate::presence::name::Name;
use crate::presence::registry::arrival::{Arrival, Nameless};
use crate::presence::registry::session::Moment;
use crate::presence::subscription::outbox::Close;

/// The application of SDK devices.
const APP: &str = "voice";
/// Longest time that a client may take to come back to its call, in seconds: as long as the SDK ever takes.
const RECONNECT_MAX: f64 = 30.0;

#[derive(Debug, Deserialize)]
struct Listen {
    token: String,
    /// Seconds for which it tries to come back to a call whose connection it lost.
    #[serde(default, rename = "reconnectTimeout")]
    reconnect_timeout: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Register {
    media: Option<Media>,
}

#[derive(Debug, Deserialize)]
struct Media {
    #[serde(default)]
    audio: bool,
}

impl Talk {
    /// A token; registers nothing by itself.
    pub(in crate::presence) fn listen(&mut self, frame: &Frame<'_>) -> Result<Reply, Fault> {
        if self.late.is_some() {
            self.turn_away();
            return Ok(None);
        }
        let asked: Listen = frame.payload()?;
        let grant = self.log_in(&asked.token)?;
        let seconds = asked.reconnect_timeout.filter(|seconds| *seconds > 0.0);
        self.window = seconds.map(|seconds| Duration::from_secs_f64(seconds.min(RECONNECT_MAX)));
        let now = self.presence.clock.unix_time().as_secs();
        let ttl = grant.expires.saturating_sub(now);
        let token = json!({ "identity": grant.identity, "ttl": ttl });
        let connected = json!({
            "region": "tidegate", "edge": "tidegate", "gateway": "tidegate", "home": "tidegate", "token": token,
        });
        Ok(Some(("connected", connected)))
    }

    /// The device can be rung from now on, or not any more.
    pub(in crate::presence) fn register(&mut self, frame: &Frame<'_>) -> Result<Reply, Fault> {
        let asked: Register = frame.payload()?;
        let (kind, socket) = (self.kind, self.line.id);
        self.known()?;
        if !asked.media.is_some_and(|media| media.audio) {
            self.sign_out();
            return Ok(Some(("offline", json!({}))));
        }
        let at = Moment::of(&self.presence.clock);
        let login = self.known()?;
        let grant = std::sync::Arc::clone(&login.grant);
        if login.session.is_some() {
            return Ok(Some(("ready", json!({}))));
        }
        if !grant.may_receive && !grant.may_give {
            return Err(Fault::forbidden(
                "this token allows neither to be called nor to give presence",
            ));
        }
        let device = match &grant.endpoint_id {
            Some(device) => Ok(device.clone()),
            None => Err(Nameless {
                kind,
                fresh: fresh_device(),
            }),
        };
        let account = std::sync::Arc::clone(&login.account);
        if device.is_err() {
            self.give_up_doubtful(&account, &grant.identity, at);
        }
        let arrival = Arrival {
            device,
            app: Name::new(APP).expect("it is a plain word"),
            socket,
            may_receive: grant.may_receive,
            has_audio: true,
            may_give: grant.may_give,
            token: Some(self.token_end(&grant, at)),
            resume: None,
            next_resume: None,
        };
        let connected = self.connect(&account, &grant, arrival, at)?;
        self.replace(connected.replaced);
        let login = self.known()?;
        login.session = Some(connected.session);
        Ok(Some(("ready", json!({}))))
    }

    /// Takes sessions of this kind for lost whose sockets are about to be: the SDK gives a silent connection up after the same time as
    /// the gate does, and may be back before the gate has looked.
    fn give_up_doubtful(&self, account: &Account, identity: &Name, at: Moment) {
        let own = account.with(|state| {
            let known = state.registry.identities.get(identity);
            let sessions = known.iter().flat_map(|known| &known.sessions);
            let own = sessions.filter(|session| session.nameless == Some(self.kind));
            own.filter_map(|session| Some((session.socket()?, session.reference(identity))))
                .collect::<Vec<_>>()
        });
        for (socket, session) in own {
            let line = self.presence.sockets.find(socket);
            if let Some(line) = line.filter(|line| line.is_doubtful(at.now)) {
                account.with(|state| state.registry.lose(&session, at));
                line.outbox.cut(Close::SILENT);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::presence::plugin::Presence;
    use crate::presence::testing::{Client, settings, token};

    /// A socket of one kind of browser that has registered Alice, who is good for an hour.
    fn registered(presence: &Arc<Presence>, clock: &Clock) -> Client {
        let mut client = Client::open(presence, 7, None);
        client.say("listen", &json!({ "token": token("alice", clock) }));
        client.say("register", &json!({ "media": { "audio": true } }));
        client
    }

    fn devices(presence: &Presence) -> Vec<(Name, bool)> {
        let account = Arc::clone(&presence.live().accounts[0]);
        account.with(|state| {
            let known = &state.registry.identities[&Name::new("alice").unwrap()];
            let sessions = known.sessions.iter();
            sessions
                .map(|session| (session.device.clone(), session.suspended.is_some()))
                .collect()
        })
    }

    #[test]
    fn who_comes_back_before_its_silence_was_noticed_has_its_device_back() {
        let clock = Clock::manual();
        let presence = Presence::new(clock.clone());
        presence.configure(settings());
        let _silent = registered(&presence, &clock);
        let first = devices(&presence);
        clock.advance(Duration::from_secs(13));
        let mut second = registered(&presence, &clock);
        let both = devices(&presence);
        assert_eq!(both.len(), 2, "thirteen seconds of silence may pass");
        clock.advance(Duration::from_millis(1_500));
        second.talk.hear("\n");
        let _third = registered(&presence, &clock);
        assert_eq!(devices(&presence), both);
        assert!(both.contains(&first[0]));
        drop(second);
        let lost = devices(&presence).iter().filter(|(_, lost)| *lost).count();
        assert_eq!(
            lost, 1,
            "the first is the third's now, and the second is lost"
        );
    }
}
