//! Tokens that the vendor's own helper libraries mint, and forgeries of them, before the verifier.
//!
//! `tests/presence/mint.py` and `mint.js` print cases: a token with the codes that refuse it, or with what it grants. The accounts
//! and keys are said here once and handed to both. Times are the machine's, since the libraries read its clock.

use super::packages;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tidegate::clock::Clock;
use tidegate::presence::token::{Grant, Medium, QUERY_MAX, Verifier};
use tidegate::presence::{AccountSettings, KeySettings, Name, SecretText, Settings};

const ACCOUNT: &str = "AC00000000000000000000000000000001";
const KEY: &str = "SK00000000000000000000000000000001";
const SECRETS: [&str; 2] = [
    "the-first-key-signs-with-this-secret",
    "the-first-key-signed-with-that-secret",
];
const AUTH_TOKENS: [&str; 2] = [
    "0123456789abcdef0123456789abcdef",
    "fedcba9876543210fedcba9876543210",
];
const OTHER: &str = "AC00000000000000000000000000000002";
const OTHER_KEY: &str = "SK00000000000000000000000000000002";
const OTHER_SECRET: &str = "the-other-key-signs-with-this-secret";
const APPLICATION: &str = "AP00000000000000000000000000000001";

/// The codes of the table of checks: on the socket, and in the API.
const TABLE: [[u32; 2]; 9] = [
    [31204, 20101],
    [31204, 20102],
    [31204, 20103],
    [31202, 20107],
    [31205, 20104],
    [31207, 20104],
    [31204, 20105],
    [31201, 20106],
    [31105, 20106],
];

/// One token, and what must come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    token: String,
    refused: Option<[u32; 2]>,
    granted: Option<Granted>,
}

/// What a token grants; what is not said is not granted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Granted {
    #[serde(default)]
    account: usize,
    identity: String,
    issuer: Option<String>,
    #[serde(default)]
    receive: bool,
    #[serde(default)]
    give: bool,
    application: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    endpoint_id: Option<String>,
    #[serde(default = "all")]
    query: usize,
    #[serde(default)]
    sees: Vec<String>,
    #[serde(default)]
    sees_not: Vec<String>,
    #[serde(default)]
    calls: Vec<Call>,
}

/// A call that is tried, and the restriction that forbids it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    to: String,
    medium: String,
    now: u32,
    forbidden_by: Option<String>,
}

fn all() -> usize {
    QUERY_MAX
}

fn settings() -> Settings {
    let secrets = |texts: &[&str]| {
        let secrets = texts.iter().map(|text| SecretText((*text).to_owned()));
        secrets.collect::<Vec<_>>()
    };
    let account = |sid: &str, auth_tokens: &[&str], key: &str, of_key: &[&str]| AccountSettings {
        sid: sid.to_owned(),
        auth_tokens: secrets(auth_tokens),
        keys: vec![KeySettings {
            id: key.to_owned(),
            secrets: secrets(of_key),
        }],
        webhooks: Vec::new(),
        api: tidegate::presence::ApiAccess::Tokens,
        ..AccountSettings::default()
    };
    Settings {
        accounts: vec![
            account(ACCOUNT, &AUTH_TOKENS, KEY, &SECRETS),
            account(OTHER, &[], OTHER_KEY, &[OTHER_SECRET]),
        ],
        ..Settings::default()
    }
}

/// The cases of a script.
async fn minted_by(script: &'static str) -> Vec<Case> {
    let known = json!({
        "account": ACCOUNT, "key": KEY, "secret": SECRETS[0], "old_secret": SECRETS[1], "application": APPLICATION,
        "auth_token": AUTH_TOKENS[0], "old_auth_token": AUTH_TOKENS[1],
        "other_account": OTHER, "other_key": OTHER_KEY, "other_secret": OTHER_SECRET,
    });
    let printed = packages::printed_by(script, known.to_string()).await;
    serde_json::from_str(&printed).unwrap()
}

/// Judges each case; all that is wrong is told at once.
async fn judge(script: &'static str) {
    let cases = minted_by(script).await;
    let (verifier, now) = (Verifier::new(&settings()), Clock::default().unix_time());
    let mut codes = BTreeSet::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let verdict = verifier.verify(&case.token, now);
        let told = match (verdict, case.refused, &case.granted) {
            (Err(fault), Some(expected), None) => {
                codes.insert(expected);
                let found = [fault.signal_code(), fault.rest_code()];
                let keeps_secret =
                    case.token.is_empty() || !fault.to_string().contains(&case.token);
                let is_right = found == expected && keeps_secret;
                (!is_right).then(|| format!("{fault} {found:?}, not {expected:?}"))
            }
            (Ok(grant), None, Some(granted)) => difference(&grant, granted, now),
            (verdict, ..) => Some(format!("{verdict:?}")),
        };
        wrong.extend(told.map(|told| format!("{}: {told}", case.name)));
    }
    assert!(wrong.is_empty(), "{script}\n{}", wrong.join("\n"));
    assert!(
        codes.is_superset(&TABLE.into()),
        "{script} misses some of the table: {codes:?}"
    );
}

/// What the grant is that it should not be.
fn difference(grant: &Grant, granted: &Granted, now: Duration) -> Option<String> {
    let call_out = grant.call_out.as_ref();
    let parameters: Option<BTreeMap<_, _>> =
        call_out.map(|out| out.parameters.iter().cloned().collect());
    let name = |text: &String| Name::new(text).unwrap();
    let is_right = grant.account == granted.account
        && grant.identity.as_str() == granted.identity
        && granted
            .issuer
            .as_ref()
            .is_none_or(|issuer| grant.issuer == *issuer)
        && grant.may_receive == granted.receive
        && grant.may_give == granted.give
        && call_out.map(|out| &out.application) == granted.application.as_ref()
        && granted.parameters == parameters.unwrap_or_default()
        && grant.endpoint_id.as_ref().map(Name::as_str) == granted.endpoint_id.as_deref()
        && grant.query_max == granted.query
        && granted.sees.iter().all(|who| grant.may_see(&name(who)))
        && !granted.sees_not.iter().any(|who| grant.may_see(&name(who)));
    let call = |call: &&Call| {
        let medium = Medium::of_word(&call.medium).unwrap();
        let verdict = grant.restrict.check(call.now, now, &call.to, medium);
        verdict.err() != call.forbidden_by.as_deref()
    };
    if let Some(call) = granted.calls.iter().find(call) {
        return Some(format!("{call:?} under {:?}", grant.restrict));
    }
    (!is_right).then(|| format!("{grant:?}, not {granted:?}"))
}

// B1, B2, B3: what the Python library mints grants what it says; what it or a forger should not have made is refused by its code.
#[tokio::test]
async fn tokens_of_the_python_library_are_judged_right() {
    judge("mint.py").await;
}

// B1, B2, B3: so for the Node library, whose tokens differ in claims, and in how scopes are written.
#[tokio::test]
async fn tokens_of_the_node_library_are_judged_right() {
    judge("mint.js").await;
}

// B1: no bit of a token that a library made can be changed.
#[tokio::test]
async fn a_changed_token_of_a_library_never_verifies() {
    let (verifier, now) = (Verifier::new(&settings()), Clock::default().unix_time());
    let cases = minted_by("mint.js").await;
    let good = cases.iter().filter(|case| case.granted.is_some());
    for case in good.step_by(5) {
        for at in 0..case.token.len() {
            let mut bytes = case.token.clone().into_bytes();
            bytes[at] ^= 1 << (at % 7);
            let changed = String::from_utf8(bytes).unwrap();
            assert!(
                verifier.verify(&changed, now).is_err(),
                "{}: byte {at}",
                case.name
            );
        }
    }
}
