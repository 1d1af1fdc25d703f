//! The tenants of the plugin, their keys, and what verifies tokens.
//!
//! A secret that is missing is left out: whether that refuses the file depends on who asks, and is said where it is read. What is
//! left over is complete. Never prints a secret.

use std::collections::HashMap;

use super::{addresses, calls};
use crate::config::diagnostic::Place;
use crate::config::file::{self, ApiWord, At, PresenceAccount, PresenceKey, SecretList};
use crate::config::resolve::accounts::SECRET_ADVISED;
use crate::config::resolve::context::Context;
use crate::presence::{AccountSettings, ApiAccess, KeySettings, SecretText};

const ACCOUNTS_MAX: usize = 1_000;
/// Of one account.
const KEYS_MAX: usize = 100;
/// Each is tried with every token of its key: while one is replaced, there are two.
const SECRETS_MAX: usize = 10;
/// Of one account; each is sent every change.
const WEBHOOKS_MAX: usize = 10;
/// Digits behind the two letters of an identifier.
const DIGITS: usize = 32;

/// Identifiers, and the line in which each is first given.
pub(super) type Lines<'f> = HashMap<&'f str, usize>;

/// Judges the tenants.
pub(super) fn accounts(
    cx: &mut Context<'_>,
    list: Option<&At<Vec<PresenceAccount>>>,
) -> Vec<AccountSettings> {
    let Some(list) = list else {
        return Vec::new();
    };
    cx.bound("accounts", list.value.len(), ACCOUNTS_MAX, list.place);
    let (mut sids, mut ids) = (Lines::new(), Lines::new());
    let list = list.value.iter().take(ACCOUNTS_MAX);
    list.map(|account| one(cx, account, &mut sids, &mut ids))
        .collect()
}

fn one<'f>(
    cx: &mut Context<'_>,
    account: &'f PresenceAccount,
    sids: &mut Lines<'f>,
    ids: &mut Lines<'f>,
) -> AccountSettings {
    identifier(cx, "account", "AC", &account.sid, sids);
    let tokens = account.auth_token.as_ref();
    let listed = account.keys.as_ref().map(|keys| keys.value.as_slice());
    let listed = listed.unwrap_or_default();
    if tokens.is_none_or(|tokens| tokens.value.0.is_empty()) && listed.is_empty() {
        let message = format!(
            "nothing verifies the tokens of account `{}`",
            account.sid.value
        );
        cx.error("missing_key", account.sid.place, message).hint(
            "give it an `auth_token` or `keys`, such as `auth_token: { env: AC_AUTH_TOKEN }`",
        );
    }
    if let Some(keys) = &account.keys {
        cx.bound("keys", listed.len(), KEYS_MAX, keys.place);
    }
    AccountSettings {
        sid: account.sid.value.clone(),
        auth_tokens: tokens.map_or_else(Vec::new, |list| secrets(cx, "auth_token", list)),
        keys: listed
            .iter()
            .take(KEYS_MAX)
            .filter_map(|key| self::key(cx, key, ids))
            .collect(),
        webhooks: webhooks(cx, account),
        api: match account.api.unwrap_or_default() {
            ApiWord::Tokens => ApiAccess::Tokens,
            ApiWord::Internal => ApiAccess::Internal,
        },
        applications: calls::applications(cx, account.applications.as_ref()),
        numbers: calls::numbers(cx, account.numbers.as_ref()),
        destinations: calls::destinations(cx, account.destinations.as_ref()),
    }
}

/// A key, unless none of its secrets is there.
fn key<'f>(cx: &mut Context<'_>, key: &'f PresenceKey, ids: &mut Lines<'f>) -> Option<KeySettings> {
    identifier(cx, "key", "SK", &key.id, ids);
    if key.secret.value.0.is_empty() {
        let message = format!("the key `{}` has no secret", key.id.value);
        cx.error("missing_key", key.secret.place, message)
            .hint("such as `secret: { env: SK_SECRET }`");
    }
    let secrets = secrets(cx, "secret", &key.secret);
    (!secrets.is_empty()).then(|| KeySettings {
        id: key.id.value.clone(),
        secrets,
    })
}

/// Judges an identifier of two letters and 32 digits, which no other of its kind has.
pub(super) fn identifier<'f>(
    cx: &mut Context<'_>,
    kind: &str,
    letters: &str,
    id: &'f At<String>,
    seen: &mut Lines<'f>,
) {
    let digits = id.value.strip_prefix(letters);
    let is_identifier = digits.is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    });
    if !is_identifier {
        let shown: String = id.value.chars().take(2 * DIGITS).collect();
        let message = format!("`{shown}` is no identifier of a presence {kind}");
        let hint = format!("`{letters}` and {DIGITS} hexadecimal digits");
        cx.error("bad_name", id.place, message).hint(hint);
    } else if let Some(first) = seen.get(id.value.as_str()) {
        let hint = format!("the first is in line {first}; take one of them away");
        let message = format!("two presence {kind}s are `{}`", id.value);
        cx.error("double_name", id.place, message).hint(hint);
    } else {
        seen.insert(&id.value, id.place.line);
    }
}

/// Those secrets that are there.
fn secrets(cx: &mut Context<'_>, key: &str, list: &At<SecretList>) -> Vec<SecretText> {
    let At { value, place } = list;
    cx.bound("secrets", value.0.len(), SECRETS_MAX, *place);
    let mut found = Vec::new();
    for secret in value.0.iter().take(SECRETS_MAX) {
        let Some(text) = cx.secret(secret) else {
            continue;
        };
        if text.len() < SECRET_ADVISED {
            weak(cx, key, secret.place);
        }
        found.push(SecretText(text));
    }
    found
}

pub(in crate::config::resolve) fn weak(cx: &mut Context<'_>, key: &str, place: Place) {
    let message = format!("this `{key}` is short enough to be guessed");
    cx.warning("weak_key", place, message)
        .hint("use 32 random bytes or more");
}

fn webhooks(cx: &mut Context<'_>, account: &PresenceAccount) -> Vec<String> {
    let Some(At { value, place }) = &account.webhooks else {
        return Vec::new();
    };
    cx.bound("webhooks", value.len(), WEBHOOKS_MAX, *place);
    let mut urls = Vec::new();
    for file::Webhook { url } in value.iter().take(WEBHOOKS_MAX) {
        if !addresses::is_url(cx, url) {
            continue;
        }
        if urls.contains(&url.value) {
            let message = format!("the webhook `{}` is given twice", url.value);
            cx.error("double_endpoint", url.place, message)
                .hint("keep one of them, or changes are told twice");
        } else {
            urls.push(url.value.clone());
        }
    }
    urls
}
