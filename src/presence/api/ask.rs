//! What is asked and reported, in the same words over REST and on sockets.
//!
//! Reading is strict: an unknown member is an error, so that a misspelt one does not silently change the question. Who may see whom is
//! decided here for questions, and by the subscriptions for watchers.

use std::hash::{BuildHasher as _, Hash as _};
use std::sync::Arc;

use serde::Deserialize;

use crate::presence::account::Account;
use crate::presence::fault::Fault;
use crate::presence::name::Name;
use crate::presence::registry::consolidate::Item;
use crate::presence::registry::session::{Report, TEXT_MAX};
use crate::presence::settings::ApiAccess;
use crate::presence::status::{Reason, Status};
use crate::presence::subscription::Wanted;
use crate::presence::subscription::form::Presence;
use crate::presence::token::Pattern;
use crate::presence::viewer::Viewer;

/// What somebody wants to know.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::presence) struct Question {
    /// These.
    pub(in crate::presence) identities: Option<Vec<String>>,
    /// Or those of this contact list.
    pub(in crate::presence) list: Option<String>,
    /// With each device.
    #[serde(default)]
    pub(in crate::presence) devices: bool,
    /// Only if something changed since.
    pub(in crate::presence) if_version: Option<u64>,
    /// Of the request, on sockets; its reply carries it.
    #[serde(rename = "id")]
    pub(in crate::presence) _id: Option<serde::de::IgnoredAny>,
}

/// What somebody says about itself.
#[derive(Debug, Deserialize)]
pub(in crate::presence) struct Said {
    pub(in crate::presence) status: Option<String>,
    pub(in crate::presence) reason: Option<Reason>,
    pub(in crate::presence) text: Option<String>,
}

impl Said {
    /// The report, if it is one.
    pub(in crate::presence) fn report(&self) -> Result<Report, Fault> {
        let words = "available, busy, do_not_disturb, away or unavailable";
        let status = self.status.as_deref().and_then(Status::of_word);
        let status = status.filter(|status| *status != Status::Offline);
        let status = status.ok_or_else(|| Fault::bad(format!("`status` is one of {words}")))?;
        if let Some(text) = &self.text
            && text.chars().count() > TEXT_MAX
        {
            return Err(Fault::bad(format!(
                "`text` has up to {TEXT_MAX} characters"
            )));
        }
        let text = self.text.as_deref().filter(|text| !text.is_empty());
        Ok(Report {
            status,
            reason: self.reason,
            text: text.map(Arc::from),
        })
    }
}

/// The answer to a question.
#[derive(Debug)]
pub(in crate::presence) enum Answer {
    /// The whole, in one message.
    Presence(Presence<Item>),
    /// Nothing changed since the version that was named.
    Unchanged(u64),
}

/// Reads are for account keys alone where the account says so (B35).
pub(in crate::presence) fn check_access(viewer: &Viewer, access: ApiAccess) -> Result<(), Fault> {
    match (viewer, access) {
        (Viewer::Bearer(_), ApiAccess::Internal) => Err(Fault::forbidden(
            "presence of this account is read with account keys only",
        )),
        _ => Ok(()),
    }
}

pub(in crate::presence) fn name(text: &str, what: &str) -> Result<Name, Fault> {
    Name::new(text).map_err(|_| Fault::bad_name(what))
}

/// Whose lists are meant: the bearer's own; an account key says whose.
pub(in crate::presence) fn owner(viewer: &Viewer, named: Option<&str>) -> Result<Name, Fault> {
    match (viewer.identity(), named) {
        (Some(own), None) => Ok(own.clone()),
        (Some(own), Some(named)) if own.as_str() == named => Ok(own.clone()),
        (Some(_), Some(_)) => Err(Fault::forbidden("a token acts for its own identity only")),
        (None, Some(named)) => name(named, "identity"),
        (None, None) => Err(Fault::bad("with an account key, `identity` says for whom")),
    }
}

/// What a subscription is to.
pub(in crate::presence) fn wanted(
    viewer: &Viewer,
    identities: Option<&[String]>,
    list: Option<&str>,
    of: Option<&str>,
) -> Result<Wanted, Fault> {
    match (identities, list) {
        (None, Some(list)) => Ok(Wanted::List(owner(viewer, of)?, name(list, "list")?)),
        (Some([one]), None) if one.ends_with('*') => match Pattern::new(one) {
            Ok(Pattern::Prefix(prefix)) => Ok(Wanted::Prefix(prefix)),
            _ => Err(Fault::bad(
                "`identities`: a pattern is the beginning of names and one `*` at its end",
            )),
        },
        // Else it would be taken for a name that nobody has, and bring nothing.
        (Some(several), None) if several.iter().any(|text| text.ends_with('*')) => Err(Fault::bad(
            "`identities`: a pattern stands alone; ask once for each",
        )),
        (Some(identities), None) => {
            let names = identities.iter().map(|text| name(text, "identities"));
            Ok(Wanted::Identities(names.collect::<Result<_, _>>()?))
        }
        _ => Err(Fault::bad("name either `identities` or a `list`")),
    }
}

/// Answers a question about many at once.
pub(in crate::presence) fn query(
    account: &Account,
    viewer: &Viewer,
    question: &Question,
    of: Option<&str>,
) -> Result<Answer, Fault> {
    let most = viewer.query_max();
    if most == 0 {
        return Err(Fault::forbidden(
            "this token allows no queries (`grants.presence.query` is 0)",
        ));
    }
    let wanted = wanted(
        viewer,
        question.identities.as_deref(),
        question.list.as_deref(),
        of,
    )?;
    account.with(|state| {
        let (names, list_version) = match wanted {
            Wanted::Identities(names) => (names, 0),
            Wanted::List(owner, name) => {
                let list = state.contacts.get(&owner, &name);
                let list =
                    list.ok_or_else(|| Fault::not_found("there is no contact list of this name"))?;
                (list.identities.to_vec(), list.version)
            }
            Wanted::Prefix(prefix) => {
                // Whoever may not be seen is not counted either: that would tell that it is there.
                let visible = |name: &Name| viewer.may_see(name);
                let (names, is_more) = state.registry.present(&prefix, visible, most);
                if is_more {
                    return Err(Fault::bad(format!(
                        "more than {most} identities begin so; ask for fewer"
                    )));
                }
                (names, state.registry.version())
            }
        };
        if names.len() > most {
            return Err(Fault::bad(format!(
                "a query asks for up to {most} identities"
            )));
        }
        let all = names.len();
        let seen: Vec<_> = names
            .into_iter()
            .filter(|name| viewer.may_see(name))
            .collect();
        let version = state.registry.version();
        let is_known = state.has_answered(viewer);
        if let Some(since) = question.if_version.filter(|_| is_known)
            && list_version <= since
            && !seen.iter().any(|name| state.registry.is_newer(name, since))
        {
            return Ok(Answer::Unchanged(version));
        }
        let item = |name: Name| {
            let item = state.registry.item(&name, question.devices);
            (name, item)
        };
        let left_out = Some(all - seen.len());
        Ok(Answer::Presence(Presence {
            version,
            presence: seen.into_iter().map(item).collect(),
            left_out,
            more: None,
        }))
    })
}

/// Tokens that were answered before, by whom they show. What a token may see never changes under one configuration, so that a client which shows one of
/// these has seen all it may; one with a new token gets a whole answer, whatever version it names.
#[derive(Debug, Default)]
pub(in crate::presence) struct Answered {
    tokens: hashbrown::HashSet<u64>,
    hasher: ahash::RandomState,
}

impl Answered {
    /// Forgotten together beyond so many: a whole answer too many does no harm.
    const MAX: usize = 65_536;

    /// Notes an answer to that viewer, and tells whether there was one before.
    pub(in crate::presence) fn note(&mut self, viewer: &Viewer) -> bool {
        let Viewer::Bearer(grant) = viewer else {
            return true;
        };
        let mut hash = self.hasher.build_hasher();
        (&grant.identity, &grant.jti, grant.expires).hash(&mut hash);
        // Helper libraries give all tokens of one key and second the same `jti`.
        (&grant.obtain, &grant.restrict.to).hash(&mut hash);
        let token = std::hash::Hasher::finish(&hash);
        if self.tokens.len() >= Self::MAX {
            self.tokens.clear();
        }
        !self.tokens.insert(token)
    }

    /// The configuration changed, and with it what tokens may see.
    pub(in crate::presence) fn forget(&mut self) {
        self.tokens.clear();
    }
}
