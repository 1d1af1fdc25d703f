//! A phone: one device of the vendor's SDK, unmodified, in a process of its own (`tests/presence/device.js`).

use serde_json::{Value, json};

use super::packages::Script;
use crate::support::tls::Authority;

/// One device of the SDK.
pub(crate) struct Phone {
    script: Script,
    /// What happened to it so far, but for what was waited for.
    seen: Vec<String>,
}

impl Phone {
    /// A device with that token that does nothing yet; `options` are the SDK's own.
    pub(crate) async fn made(
        address: &str,
        authority: &Authority,
        token: &str,
        options: Value,
    ) -> Self {
        let trust = ("NODE_EXTRA_CA_CERTS", authority.path("ca.crt"));
        let script = Script::start("device.js", &[address, &options.to_string()], &[trust]).await;
        let mut phone = Self {
            script,
            seen: Vec::new(),
        };
        phone.say(&format!("token {token}"));
        let made = phone.until("made").await;
        assert_eq!(made["version"], "2.18.5");
        phone
    }

    /// The same, registered.
    pub(crate) async fn registered(address: &str, authority: &Authority, token: &str) -> Self {
        let mut phone = Self::made(address, authority, token, json!({})).await;
        phone.say("register");
        phone.until("registered").await;
        phone
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.script.say(line);
    }

    /// Says a line, and waits until it was obeyed: what happens to it afterwards finds that done.
    pub(crate) async fn obey(&mut self, line: &str) {
        self.say(line);
        self.say("print obeyed");
        self.until("obeyed").await;
    }

    /// Waits until that happens to it; what happens before is noted.
    pub(crate) async fn until(&mut self, event: &str) -> Value {
        loop {
            let next = self.script.next().await;
            if next["event"] == event {
                return next;
            }
            assert_ne!(next["event"], "failed", "{next}");
            self.note(&next);
        }
    }

    fn note(&mut self, line: &Value) {
        let word = line["event"].as_str().unwrap_or("?");
        self.seen.push(word.to_owned());
    }

    /// All that happened to it and was not waited for.
    pub(crate) fn seen(&mut self) -> &[String] {
        for line in self.script.rest() {
            self.note(&line);
        }
        &self.seen
    }

    /// The same as far as it was read while something was waited for.
    pub(crate) fn noted(&self) -> &[String] {
        &self.seen
    }

    /// Kills it, so that it says goodbye to nobody.
    pub(crate) fn kill(self) {
        self.script.kill();
    }

    /// Has it call; nothing is waited for.
    pub(crate) fn call(&mut self, to: &str) {
        self.say(&format!("call {}", json!({ "To": to })));
    }

    /// Waits until its call ends with an error: the SDK's code, and the gate's that it was made from.
    pub(crate) async fn refused(&mut self) -> (Value, Value) {
        let mut error = self.until("call.error").await;
        self.until("call.disconnect").await;
        (error["code"].take(), error["from"].take())
    }
}
