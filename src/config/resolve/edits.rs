//! What edits the answers of resources: by whose presence, for which address, and what goes instead when nobody is left.
//!
//! The document that goes instead is read here, so that a reload refuses one that the vendor would. Never looks at who is there.

use http::Uri;

use super::context::Context;
use super::presence;
use crate::config::file::{self, At, DialByPresence, EditOrderWord, PresenceAccount};
use crate::presence::EditSettings;
use crate::presence::instruction::{DOCUMENT_MAX, EditOrder, read};

/// Judges what edits each resource, in the order of their ids; nothing edits the last, which is `other`.
pub(super) fn edits(
    cx: &mut Context<'_>,
    section: &[file::Resource],
    plugin: Option<&At<file::Presence>>,
) -> Vec<Option<EditSettings>> {
    let accounts = plugin.and_then(|plugin| plugin.value.accounts.as_ref());
    let accounts = accounts.map(|accounts| accounts.value.as_slice());
    let accounts = accounts.unwrap_or_default();
    let listed = section.iter().map(|resource| {
        let edit = resource.edit.as_ref()?;
        let name = resource.upstream.as_ref().map(|name| name.value.as_str());
        if name == Some(presence::NAME) {
            let place = cx.source.key_before(edit.place, "edit");
            let message = "the presence plugin answers with no documents to edit";
            cx.error("contradiction", place, message)
                .hint("leave `edit` away, or name one of the upstreams");
        }
        by_presence(cx, &edit.value.dial_by_presence, accounts)
    });
    let mut all: Vec<_> = listed.collect();
    all.push(None);
    all
}

fn by_presence(
    cx: &mut Context<'_>,
    of: &DialByPresence,
    accounts: &[PresenceAccount],
) -> Option<EditSettings> {
    account(cx, &of.account, accounts);
    let public_url = public_url(cx, &of.public_url);
    let fallback = cx.file(&of.fallback, DOCUMENT_MAX as u64);
    if let Some(Err(fault)) = fallback.as_deref().map(read) {
        let message = format!(
            "`{}` is no document to answer with: {fault}",
            of.fallback.value
        );
        cx.error("bad_value", of.fallback.place, message)
            .hint("such as `<Response><Reject reason=\"busy\"/></Response>`");
    }
    Some(EditSettings {
        account: of.account.value.clone(),
        public_url: public_url?,
        order: match of.order {
            None | Some(EditOrderWord::AsWritten) => EditOrder::AsWritten,
            Some(EditOrderWord::Idle) => EditOrder::Idle,
        },
        fallback: fallback?.into(),
    })
}

fn account(cx: &mut Context<'_>, sid: &At<String>, accounts: &[PresenceAccount]) {
    let Some(account) = accounts.iter().find(|of| of.sid.value == sid.value) else {
        let message = format!("`{}` is none of `presence.accounts`", sid.value);
        cx.error("unknown_account", sid.place, message)
            .hint("declare it there, with the `auth_token` that the vendor signs with");
        return;
    };
    let tokens = account.auth_token.as_ref();
    if tokens.is_none_or(|tokens| tokens.value.0.is_empty()) {
        let message = format!(
            "account `{}` has no `auth_token`, so no request is signed",
            sid.value
        );
        cx.error("missing_key", sid.place, message).hint(
            "give it the one that the vendor signs with: `auth_token: { env: AC_AUTH_TOKEN }`",
        );
    }
}

fn public_url(cx: &mut Context<'_>, url: &At<String>) -> Option<String> {
    let parsed = url.value.parse::<Uri>().ok();
    let is_whole = parsed.is_some_and(|parsed| {
        let authority = parsed.authority().map(http::uri::Authority::as_str);
        matches!(parsed.scheme_str(), Some("http" | "https"))
            && authority.is_some_and(|authority| !authority.starts_with(':'))
    });
    if !is_whole || url.value.contains(['?', '#', '@']) {
        let message = "`public_url` is no address that paths can be put behind";
        cx.error("bad_value", url.place, message)
            .hint("`http` or `https`, without user, query and fragment: `https://app.example.com`");
        return None;
    }
    Some(url.value.trim_end_matches('/').to_owned())
}
