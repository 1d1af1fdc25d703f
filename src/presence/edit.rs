//! Edits what a customer's server answers to the vendor, by the presence of those whom it has dialled.
//!
//! The calls are the vendor's, and so are the devices that ring: all that is known here is what was reported. So that nobody
//! learns from the answers who is there, a request must carry the vendor's signature. An account that a reload took away trusts
//! nobody. Never holds an account's lock for longer than one look at one identity.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;

use super::Presence;
use super::fetch::signature::{SIGNATURE_HEADER, verify, verify_json};
use super::instruction::{EditOrder, Edited, edit};
use super::name::Name;
use super::registry::session::Moment;
use crate::proxy::plugin::Edit;
use crate::telemetry::EditResult;

/// How one resource's documents are edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditSettings {
    /// The sid of the account whose clients they dial, and whose auth tokens sign the requests.
    pub account: String,
    /// The scheme and authority, and perhaps the beginning of the path, under which the vendor knows this gate; without a slash
    /// at its end.
    pub public_url: String,
    /// How those stand who stay.
    pub order: EditOrder,
    /// The document that goes instead of one with nobody left.
    pub fallback: Bytes,
}

/// The editor of one resource.
#[derive(Debug)]
pub struct Editor {
    presence: Arc<Presence>,
    settings: EditSettings,
}

impl Editor {
    /// An editor by what that plugin knows.
    #[must_use]
    pub fn new(presence: Arc<Presence>, settings: EditSettings) -> Self {
        Self { presence, settings }
    }

    fn is_signed(&self, head: &Parts, body: &[u8]) -> bool {
        let live = self.presence.live();
        let mut accounts = live.settings.accounts.iter();
        let account = accounts.find(|account| account.sid == self.settings.account);
        let given = head.headers.get(SIGNATURE_HEADER);
        let given = given.and_then(|given| given.to_str().ok());
        let (Some(account), Some(given)) = (account, given) else {
            return false;
        };
        let tokens = &account.auth_tokens;
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let url = format!("{}{target}", self.settings.public_url);
        if !body.is_empty() && !is_form(head) {
            return verify_json(tokens, &url, body, given);
        }
        let pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = form_urlencoded::parse(body).collect();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        verify(tokens, &url, &pairs, given)
    }
}

fn is_form(head: &Parts) -> bool {
    let kind = head.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

impl Edit for Editor {
    fn is_genuine(&self, head: &Parts, body: &[u8]) -> bool {
        let is_signed = self.is_signed(head, body);
        if !is_signed {
            self.presence.stats.count_edit(EditResult::BadSignature);
        }
        is_signed
    }

    fn edit(&self, document: &[u8]) -> Option<Bytes> {
        let live = self.presence.live();
        let mut accounts = live.accounts.iter();
        let Some(account) = accounts.find(|account| account.sid == self.settings.account) else {
            self.pass_by();
            return None;
        };
        let at = Moment::of(&self.presence.clock);
        let edited = edit(document, self.settings.order, |identity| {
            let name = Name::new(identity).ok()?;
            account.with(|state| state.registry.idle_since(&name, at))
        });
        let (result, instead) = match edited {
            Edited::Untouched => (EditResult::Untouched, None),
            Edited::Changed(whole) => (EditResult::Edited, Some(whole.into())),
            Edited::NobodyLeft => (EditResult::NobodyLeft, Some(self.settings.fallback.clone())),
            Edited::Unreadable => (EditResult::Unreadable, None),
        };
        self.presence.stats.count_edit(result);
        instead
    }

    fn pass_by(&self) {
        self.presence.stats.count_edit(EditResult::Skipped);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::presence::fetch::signature::{sign, sign_form, signed_json_url};
    use crate::presence::registry::session::{Report, Source};
    use crate::presence::{AccountSettings, SecretText, Settings, Status};

    const SID: &str = "AC00000000000000000000000000000001";
    const FALLBACK: &[u8] = b"<Response><Reject/></Response>";

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn editor(order: EditOrder) -> (Editor, Clock) {
        let clock = Clock::manual();
        let presence = Presence::new(clock.clone());
        presence.configure(Settings {
            accounts: vec![AccountSettings {
                sid: SID.to_owned(),
                auth_tokens: vec![SecretText("new".into()), SecretText("old".into())],
                ..AccountSettings::default()
            }],
            ..Settings::default()
        });
        let settings = EditSettings {
            account: SID.to_owned(),
            public_url: "https://app.example.com".to_owned(),
            order,
            fallback: Bytes::from_static(FALLBACK),
        };
        (Editor::new(presence, settings), clock)
    }

    fn report(editor: &Editor, (identity, device): (&str, &str), status: Status) {
        let at = Moment::of(&editor.presence.clock);
        let of = (&name(identity), &name(device), &name("app"));
        let minute = Duration::from_mins(1);
        editor.presence.live().accounts[0]
            .with(|state| {
                state
                    .registry
                    .put(of, Report::of(status), minute, None, Source::Api, at)
            })
            .unwrap();
    }

    /// Calls on that device begin or end.
    fn call(editor: &Editor, (identity, device): (&str, &str), begins: bool) {
        let at = Moment::of(&editor.presence.clock);
        editor.presence.live().accounts[0].with(|state| {
            let sessions = state
                .registry
                .sessions_of(&name(identity), &name(device), None);
            for (session, _) in sessions {
                if begins {
                    let who = (&session.identity, &session.device, &session.app);
                    state.registry.begin_call(who, true, at);
                } else {
                    let who = (&session.identity, &session.device, &session.app);
                    state.registry.end_call(who, at);
                }
            }
        });
    }

    fn dial(names: &[&str]) -> String {
        let clients: String = names
            .iter()
            .map(|name| format!("<Client>{name}</Client>"))
            .collect();
        format!("<Response><Dial>{clients}</Dial></Response>")
    }

    fn edited(editor: &Editor, names: &[&str]) -> String {
        let document = dial(names);
        let instead = editor.edit(document.as_bytes());
        instead.map_or(document, |instead| {
            String::from_utf8(instead.to_vec()).unwrap()
        })
    }

    // B6, B10: whoever reports available and is in no call stays, as it is when the document passes.
    #[test]
    fn who_is_available_stays_and_who_is_not_goes() {
        let (editor, clock) = editor(EditOrder::AsWritten);
        let all = ["alice", "bob", "carol/desk", "carol/phone", "nobody", ""];
        report(&editor, ("alice", "desk"), Status::Busy);
        report(&editor, ("alice", "phone"), Status::Available);
        report(&editor, ("bob", "desk"), Status::Away);
        report(&editor, ("carol", "desk"), Status::Available);
        report(&editor, ("carol", "phone"), Status::DoNotDisturb);
        assert_eq!(edited(&editor, &all), dial(&["alice", "carol/desk"]));
        call(&editor, ("alice", "desk"), true);
        assert_eq!(edited(&editor, &all), dial(&["carol/desk"]));
        call(&editor, ("alice", "desk"), false);
        assert_eq!(edited(&editor, &all), dial(&["alice", "carol/desk"]));
        clock.advance(Duration::from_mins(1));
        assert_eq!(
            edited(&editor, &all).as_bytes(),
            FALLBACK,
            "reports end by themselves"
        );
    }

    #[test]
    fn the_end_of_a_call_begins_idleness() {
        let (editor, clock) = editor(EditOrder::Idle);
        for name in ["alice", "bob"] {
            report(&editor, (name, "desk"), Status::Available);
            clock.advance(Duration::from_secs(1));
        }
        let both = ["bob", "alice"];
        assert_eq!(edited(&editor, &both), dial(&["alice", "bob"]));
        call(&editor, ("alice", "desk"), true);
        clock.advance(Duration::from_secs(1));
        call(&editor, ("alice", "desk"), false);
        assert_eq!(edited(&editor, &["alice", "bob"]), dial(&both));
    }

    // B34: only what the vendor signed for the public address is let on.
    #[test]
    fn only_signed_requests_are_genuine() {
        let (editor, _) = editor(EditOrder::AsWritten);
        let url = "https://app.example.com/voice?a=1&b=%20";
        let judge = |signature: &str, kind: &str, target: &str, body: &[u8]| {
            let request = http::Request::post(target)
                .header(SIGNATURE_HEADER, signature)
                .header(CONTENT_TYPE, kind);
            editor.is_genuine(&request.body(()).unwrap().into_parts().0, body)
        };
        let (form, body) = (
            "application/x-www-form-urlencoded; charset=utf-8",
            b"To=client%3Aa+b&From=%E6%97%A5",
        );
        let pairs = [("To", "client:a b"), ("From", "日")];
        let target = "/voice?a=1&b=%20";
        for token in ["new", "old"] {
            assert!(judge(&sign_form(token, url, &pairs), form, target, body));
            assert!(judge(&sign(token, url), "", target, b""));
        }
        let good = sign_form("new", url, &pairs);
        for (kind, target, body) in [
            (form, "/voice?a=1&b=+", &body[..]),
            (form, target, &body[1..]),
            (form, target, b""),
            ("application/json", target, body),
        ] {
            assert!(!judge(&good, kind, target, body), "{kind} {target}");
        }
        assert!(!judge(&sign_form("other", url, &pairs), form, target, body));
        assert!(!judge("", form, target, body));
        let hashed = signed_json_url(url, b"{}");
        let target = hashed.strip_prefix("https://app.example.com").unwrap();
        assert!(judge(
            &sign("new", &hashed),
            "application/json",
            target,
            b"{}"
        ));
        assert!(!judge(
            &sign("new", &hashed),
            "application/json",
            target,
            b"{ }"
        ));
        editor.presence.configure(Settings::default());
        assert!(
            !judge(&sign("new", url), "", "/voice?a=1&b=%20", b""),
            "no account, no token"
        );
    }
}
