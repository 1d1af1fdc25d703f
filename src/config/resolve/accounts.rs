//! The sections `keys` and `accounts`.

use std::collections::HashMap;
use std::time::Duration;

use super::context::{Context, Names};
use crate::admission::{AccountName, Priority};
use crate::classify::{AccountSource, Group, Key, KeySettings, TokenAlgorithm};
use crate::config::diagnostic::Place;
use crate::config::file::{self, Algorithm, At, Identify};

const KEYS_MAX: usize = 100;
const SOURCES_MAX: usize = 32;
const GROUPS_MAX: usize = 1_000;
const GROUP_ACCOUNTS_MAX: usize = 100_000;
/// RFC 7518 §3.2: a key of HS256 has at least the size of the hash.
pub(super) const SECRET_ADVISED: usize = 32;

/// The keys that could be made, and where each name's key is among them.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) made: Vec<Key>,
    names: Names,
    /// By the order of the names; `None` for a key whose material is missing.
    places: Vec<Option<usize>>,
}

/// What the section `accounts` says.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) identify: Vec<AccountSource>,
    pub(super) identify_lines: Vec<usize>,
    pub(super) places: Vec<Place>,
    pub(super) unidentified: AccountName,
    pub(super) groups: Vec<Group>,
    pub(super) group_names: Names,
    /// By group.
    pub(super) weights: Vec<u32>,
}

/// Makes the keys.
pub(super) fn keys(cx: &mut Context<'_>, section: Option<&file::Named<file::Key>>) -> Keys {
    let mut all = Keys {
        made: Vec::new(),
        names: Names::new("key"),
        places: Vec::new(),
    };
    let entries = section
        .map(|section| section.0.as_slice())
        .unwrap_or_default();
    if let Some((first, _)) = entries.first() {
        cx.bound("keys", entries.len(), KEYS_MAX, first.place);
    }
    for (name, key) in entries {
        all.names.declare(cx, name, &[]);
        let made = self::key(cx, name, key);
        all.places.push(made.is_some().then_some(all.made.len()));
        all.made.extend(made);
    }
    all
}

fn key(cx: &mut Context<'_>, name: &At<String>, key: &file::Key) -> Option<Key> {
    let (wanted, unwanted, wanted_key, unwanted_key) = match key.algorithm.value {
        Algorithm::Hs256 => (&key.secret, &key.public, "secret", "public"),
        Algorithm::Rs256 | Algorithm::Es256 => (&key.public, &key.secret, "public", "secret"),
    };
    if let Some(unwanted) = unwanted {
        let place = cx.source.key_before(unwanted.place, unwanted_key);
        cx.error(
            "contradiction",
            place,
            format!("a key of this algorithm has no `{unwanted_key}`"),
        )
        .hint(format!("write `{wanted_key}`, or change `algorithm`"));
    }
    let leeway = cx.duration(
        "leeway",
        key.leeway.as_ref(),
        Duration::from_secs(30),
        Duration::ZERO..=Duration::from_hours(1),
    );
    let Some(wanted) = wanted else {
        cx.error(
            "missing_key",
            name.place,
            format!("the key `{}` has no `{wanted_key}`", name.value),
        )
        .hint(format!(
            "such as `{wanted_key}: {{ file: {}.pem }}`",
            name.value
        ));
        return None;
    };
    let material = cx.secret(wanted)?.into_bytes();
    let algorithm = match key.algorithm.value {
        Algorithm::Hs256 => TokenAlgorithm::Hs256,
        Algorithm::Rs256 => TokenAlgorithm::Rs256,
        Algorithm::Es256 => TokenAlgorithm::Es256,
    };
    if algorithm == TokenAlgorithm::Hs256 && material.len() < SECRET_ADVISED {
        cx.warning(
            "weak_key",
            wanted.place,
            format!(
                "the secret of `{}` is short enough to be guessed",
                name.value
            ),
        )
        .hint("use 32 random bytes or more");
    }
    let (issuer, audience) = (key.issuer.clone(), key.audience.clone());
    let made = Key::new(&KeySettings {
        algorithm,
        material,
        issuer,
        audience,
        leeway,
    });
    if let Err(error) = &made {
        cx.error(
            "bad_key",
            wanted.place,
            format!("the key `{}`: {error}", name.value),
        )
        .hint("RS256 and ES256 want a public key in PEM (`-----BEGIN PUBLIC KEY-----`)");
    }
    made.ok()
}

/// Judges the section.
pub(super) fn accounts(
    cx: &mut Context<'_>,
    section: Option<&file::Accounts>,
    keys: &Keys,
    has_plugin: bool,
) -> Accounts {
    let nothing = file::Accounts::default();
    let section = section.unwrap_or(&nothing);
    let list = section.identify.as_deref().unwrap_or_default();
    if let Some(first) = list.first() {
        cx.bound("sources", list.len(), SOURCES_MAX, first.place);
    }
    let mut identify = Vec::new();
    let mut identify_lines = Vec::new();
    let mut places = Vec::new();
    for item in list {
        if let Some(source) = source(cx, item, keys, has_plugin) {
            identify.push(source);
            identify_lines.push(item.place.line);
            places.push(item.place);
        }
    }
    let unidentified = section
        .unidentified
        .as_ref()
        .and_then(|name| account(cx, name));
    let (groups, group_names, weights) = groups(cx, section.groups.as_ref());
    let anonymous = || AccountName::new(b"anonymous").expect("it is a plain word");
    let unidentified = unidentified.unwrap_or_else(anonymous);
    Accounts {
        identify,
        identify_lines,
        places,
        unidentified,
        groups,
        group_names,
        weights,
    }
}

/// The name of an account.
pub(super) fn account(cx: &mut Context<'_>, name: &At<String>) -> Option<AccountName> {
    match AccountName::new(name.value.as_bytes()) {
        Ok(name) => Some(name),
        Err(error) => {
            cx.error("bad_account", name.place, error.to_string())
                .hint("1 to 128 printable ASCII characters without space, quote or backslash");
            None
        }
    }
}

fn source(
    cx: &mut Context<'_>,
    item: &At<Identify>,
    keys: &Keys,
    has_plugin: bool,
) -> Option<AccountSource> {
    Some(match &item.value {
        Identify::Path(capture) => AccountSource::Path(capture.value.clone()),
        Identify::BasicAuth(file::BasicAuth::Username) => AccountSource::BasicAuth,
        Identify::Header(name) => AccountSource::Header(cx.header(&name.value, name.place)?),
        Identify::Query(name) => AccountSource::Query(name.value.clone()),
        Identify::ClientCertificate(file::ClientCertificate::CommonName) => {
            AccountSource::ClientCertificate
        }
        Identify::ClientAddress => AccountSource::ClientAddress,
        Identify::Presence => {
            if !has_plugin {
                super::upstreams::missing_plugin(cx, item.place, "`accounts.identify`");
            }
            AccountSource::Presence
        }
        Identify::Jwt(jwt) => {
            let mut wanted = Vec::new();
            for name in &jwt.keys.value {
                let found = keys.names.find(cx, name, "unknown_key_name", "`jwt`");
                wanted.extend(found.and_then(|index| keys.places[index]));
            }
            if jwt.keys.value.is_empty() {
                cx.error(
                    "contradiction",
                    jwt.keys.place,
                    "no key may verify the token",
                )
                .hint("name at least one of the section `keys`");
            }
            AccountSource::Jwt {
                claim: jwt.claim.clone(),
                keys: wanted,
            }
        }
    })
}

fn groups(
    cx: &mut Context<'_>,
    section: Option<&file::Named<file::Group>>,
) -> (Vec<Group>, Names, Vec<u32>) {
    let mut names = Names::new("group");
    let mut weights = Vec::new();
    let mut groups = Vec::new();
    let mut member_of: HashMap<AccountName, usize> = HashMap::new();
    let entries = section
        .map(|section| section.0.as_slice())
        .unwrap_or_default();
    if let Some((first, _)) = entries.first() {
        cx.bound("groups", entries.len(), GROUPS_MAX, first.place);
        let accounts = entries.iter().map(|(_, group)| group.accounts.len()).sum();
        cx.bound(
            "accounts in groups",
            accounts,
            GROUP_ACCOUNTS_MAX,
            first.place,
        );
    }
    for (index, (name, group)) in entries.iter().enumerate() {
        names.declare(cx, name, &[]);
        weights.push(cx.count("weight", group.weight.as_ref(), 1, 1..=1_000));
        let mut accounts = Vec::new();
        for member in &group.accounts {
            let Some(account) = account(cx, member) else {
                continue;
            };
            if let Some(&first) = member_of.get(&account) {
                let other = &entries[first].0.value;
                let message = if first == index {
                    format!("the account `{account}` is in the group `{other}` twice")
                } else {
                    format!("the account `{account}` is in the group `{other}` already")
                };
                cx.error("double_account", member.place, message)
                    .hint("an account is in at most one group, and once");
                continue;
            }
            member_of.insert(account, index);
            accounts.push(account);
        }
        // The higher of group and resource counts, so that a group that says nothing changes nothing.
        let priority = group
            .priority
            .map_or(Priority::Low, super::resources::priority);
        groups.push(Group {
            name: name.value.clone(),
            accounts,
            priority,
        });
    }
    (groups, names, weights)
}
