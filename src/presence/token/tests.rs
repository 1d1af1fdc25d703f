//! What tokens of both kinds grant, and which fault each mistake meets; tokens of the real helper libraries are in `tests/it`.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::presence::settings::{AccountSettings, ApiAccess, KeySettings, SecretText, Settings};

pub(super) const NOW: Duration = Duration::from_secs(1_800_000_000);
const ACCOUNT: &str = "AC00000000000000000000000000000001";
const OTHER: &str = "AC00000000000000000000000000000002";
const KEY: &str = "SK00000000000000000000000000000001";
const OTHER_KEY: &str = "SK00000000000000000000000000000002";
const APPLICATION: &str = "AP00000000000000000000000000000001";

/// Two accounts, whose secrets are their ids and a word; the first rotates its secrets.
pub(super) fn settings() -> Settings {
    let secrets = |texts: &[&str]| {
        let secrets = texts.iter().map(|text| SecretText((*text).to_owned()));
        secrets.collect::<Vec<_>>()
    };
    let account = |sid: &str, auth_tokens, key: &str, of_key: &[&str]| AccountSettings {
        sid: sid.to_owned(),
        auth_tokens,
        keys: vec![KeySettings {
            id: key.to_owned(),
            secrets: secrets(of_key),
        }],
        webhooks: Vec::new(),
        api: ApiAccess::default(),
        ..AccountSettings::default()
    };
    Settings {
        accounts: vec![
            account(
                ACCOUNT,
                secrets(&["auth-new", "auth-old", ""]),
                KEY,
                &["new", "old", ""],
            ),
            account(OTHER, Vec::new(), OTHER_KEY, &["other"]),
        ],
        ..Settings::default()
    }
}

fn verifier() -> Verifier {
    Verifier::new(&settings())
}

fn sign(header: &Header, claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(header, claims, &key).unwrap()
}

fn access_header() -> Header {
    Header {
        cty: Some("twilio-fpa;v=1".to_owned()),
        ..Header::default()
    }
}

fn claims(grants: &Value) -> Value {
    let now = NOW.as_secs();
    json!({ "jti": "SK-1", "iss": KEY, "sub": ACCOUNT, "nbf": now, "exp": now + 3_600, "grants": grants })
}

fn access(grants: &Value) -> Result<Grant, TokenFault> {
    let token = sign(&access_header(), &claims(grants), "old");
    verifier().verify(&token, NOW)
}

fn capability(scope: &Value) -> Result<Grant, TokenFault> {
    let claims = json!({ "iss": ACCOUNT, "exp": NOW.as_secs() + 3_600, "scope": scope });
    verifier().verify(&sign(&Header::default(), &claims, "auth-old"), NOW)
}

pub(super) fn draft() -> Draft {
    Draft {
        identity: Name::new("alice").unwrap(),
        account: None,
        may_receive: true,
        application: Some(APPLICATION.to_owned()),
        presence: Some(json!({ "publish": true, "subscribe": ["team:*"] })),
        ttl: Duration::from_secs(3_600),
        is_capability: false,
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

// B2: each right is in the token or not there.
#[test]
fn an_access_token_grants_what_it_says() {
    let grant = access(&json!({
        "identity": "alice",
        "voice": {
            "incoming": { "allow": true },
            "outgoing": { "application_sid": APPLICATION, "params": { "a": "b", "n": 1, "is": true } },
            "endpoint_id": "desk", "push_credential_sid": "CR1",
        },
        "presence": { "publish": true, "subscribe": ["team:*", "bob"], "query": 500, "restrict": { "calls": 2 } },
        "chat": { "service_sid": "IS1" },
    }));
    let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = Grant {
        account: 0,
        identity: name("alice"),
        jti: "SK-1".to_owned(),
        issuer: KEY.to_owned(),
        expires: NOW.as_secs() + 3_600,
        may_receive: true,
        may_give: true,
        call_out: Some(CallOut {
            application: APPLICATION.to_owned(),
            parameters: vec![
                parameter("a", "b"),
                parameter("n", "1"),
                parameter("is", "true"),
            ],
        }),
        obtain: vec![
            Pattern::new("team:*").unwrap(),
            Pattern::new("bob").unwrap(),
        ],
        query_max: 500,
        restrict: Restrict {
            calls: Some(2),
            ..Restrict::default()
        },
        endpoint_id: Some(name("desk")),
    };
    let mut grant = grant.unwrap();
    // The order within a JSON object is not the token's to choose.
    grant.call_out.as_mut().unwrap().parameters.sort();
    let mut expected = expected;
    expected.call_out.as_mut().unwrap().parameters.sort();
    assert_eq!(grant, expected);
}

// B2: without a presence grant, who may be rung may report; with one, only what it says counts.
#[test]
fn giving_presence_follows_the_presence_grant_where_there_is_one() {
    let rights = |grants: &Value| {
        let grant = access(grants).unwrap();
        (grant.may_receive, grant.may_give, grant.query_max)
    };
    let voice = json!({ "incoming": { "allow": true } });
    let table = [
        (json!({ "identity": "a" }), (false, false, 1_000)),
        (
            json!({ "identity": "a", "voice": {} }),
            (false, false, 1_000),
        ),
        (
            json!({ "identity": "a", "voice": voice }),
            (true, true, 1_000),
        ),
        (
            json!({ "identity": "a", "voice": voice, "presence": {} }),
            (true, false, 1_000),
        ),
        (
            json!({ "identity": "a", "presence": { "publish": true, "query": 0 } }),
            (false, true, 0),
        ),
        (
            json!({ "identity": "a", "presence": { "query": 5_000_000 } }),
            (false, false, 1_000),
        ),
    ];
    for (grants, expected) in table {
        assert_eq!(rights(&grants), expected, "{grants}");
    }
}

// B19: one sees oneself, and whom a pattern reaches and `restrict.to` does not exclude.
#[test]
fn who_may_be_seen_depends_on_the_token_only() {
    let grant = access(&json!({
        "identity": "alice",
        "presence": { "subscribe": ["team-*", "bob"], "restrict": { "to": ["client:team-*", "+1*"] } },
    }));
    let grant = grant.unwrap();
    for (who, is_seen) in [
        ("alice", true),
        ("team-a", true),
        ("bob", false),
        ("eve", false),
    ] {
        assert_eq!(grant.may_see(&name(who)), is_seen, "{who}");
    }
    let nobody_else = access(&json!({ "identity": "alice" })).unwrap();
    assert!(nobody_else.may_see(&name("alice")) && !nobody_else.may_see(&name("bob")));
}

// B1, B3: what is there but not of its form makes the token invalid.
#[test]
fn a_grant_of_another_form_is_refused() {
    let many = vec!["a"; 101];
    let bad = [
        json!({ "voice": [] }),
        json!({ "voice": { "incoming": true } }),
        json!({ "voice": { "incoming": { "allow": "true" } } }),
        json!({ "voice": { "outgoing": { "application_sid": "" } } }),
        json!({ "voice": { "outgoing": { "application_sid": "AP1", "params": { "a": [] } } } }),
        json!({ "voice": { "endpoint_id": "a\nb" } }),
        json!({ "presence": true }),
        json!({ "presence": { "publish": 1 } }),
        json!({ "presence": { "publsh": true } }),
        json!({ "presence": { "subscribe": "team:*" } }),
        json!({ "presence": { "subscribe": ["a*b"] } }),
        json!({ "presence": { "subscribe": many } }),
        json!({ "presence": { "query": -1 } }),
        json!({ "presence": { "restrict": [] } }),
        json!({ "presence": { "restrict": { "hours": ["always"] } } }),
    ];
    for mut grants in bad {
        grants["identity"] = "alice".into();
        let fault = access(&grants).unwrap_err();
        assert!(matches!(fault, TokenFault::Grant(_)), "{grants}: {fault:?}");
        assert_eq!((fault.signal_code(), fault.rest_code()), (31204, 20101));
    }
}

// B2: both dialects of capability tokens, with names and parameters encoded as each library does.
#[test]
fn a_capability_token_grants_what_its_scopes_say() {
    let python = "scope:client:incoming?clientName=j+%2F%40 \
                  scope:client:outgoing?appParams=foo%3Dbar%2Bbaz%26x%3Da%2526b%253Dc&appSid=AP1&clientName=j+%2F%40 \
                  scope:stream:subscribe?params=identity%3Dteam%253A%252A&path=%2F2010-04-01%2FEvents";
    let node = "scope:client:incoming?clientName=j%20%2F%40 \
                scope:client:outgoing?appSid=AP1&clientName=j%20%2F%40&appParams=foo%3Dbar%2520baz%26x%3Da%2526b%253Dc \
                scope:stream:subscribe?path=/2010-04-01/Events&appParams=identity%3Dteam%253A*";
    for scope in [python, node] {
        let grant = capability(&scope.into()).unwrap();
        assert_eq!(grant.identity.as_str(), "j /@");
        assert!(grant.may_receive && grant.may_give);
        let call_out = grant.call_out.unwrap();
        let parameters = [("foo", "bar baz"), ("x", "a&b=c")].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(call_out.application, "AP1");
        assert_eq!(call_out.parameters, parameters);
        assert_eq!(grant.obtain, [Pattern::Prefix("team:".to_owned())]);
        assert_eq!(grant.issuer, ACCOUNT);
    }
    let scope = "scope:client:outgoing?appSid=AP1&clientName=a scope:stream:subscribe?path=x&params=b%3Dc scope:x:y";
    let grant = capability(&scope.into()).unwrap();
    assert!(!grant.may_receive && !grant.may_give && grant.call_out.is_some());
    assert_eq!(grant.obtain, [Pattern::Prefix(String::new())]);
}

#[test]
fn scopes_that_contradict_each_other_are_refused() {
    let outgoing = TokenFault::Grant("scope:client:outgoing");
    let table = [
        (json!(""), TokenFault::IdentityMissing),
        (json!("scope:client:incoming"), TokenFault::IdentityMissing),
        (
            json!("scope:client:outgoing?appSid=AP1"),
            TokenFault::IdentityMissing,
        ),
        (
            json!("scope:client:incoming?clientName="),
            TokenFault::IdentityMalformed,
        ),
        (
            json!("scope:client:incoming?clientName=%FF"),
            TokenFault::IdentityMalformed,
        ),
        (
            json!(
                "scope:client:incoming?clientName=a scope:client:outgoing?appSid=AP1&clientName=b"
            ),
            TokenFault::IdentityMalformed,
        ),
        (json!("scope:client:outgoing?clientName=a"), outgoing),
        (
            json!("scope:client:outgoing?appSid=AP1&appSid=AP2&clientName=a"),
            outgoing,
        ),
        (
            json!(
                "scope:client:incoming?clientName=a scope:stream:subscribe?params=identity%3Da*b"
            ),
            TokenFault::Grant("scope:stream:subscribe"),
        ),
        (json!(" ".repeat(16)), TokenFault::Grant("scope")),
        (
            json!(["scope:client:incoming?clientName=a"]),
            TokenFault::Grant("scope"),
        ),
    ];
    for (scope, fault) in table {
        assert_eq!(capability(&scope), Err(fault), "{scope}");
    }
}

// B1: the checks run in one order; each token here has that mistake and all later ones.
#[test]
fn a_token_with_several_mistakes_meets_the_first_check() {
    let (header, now) = (access_header(), NOW.as_secs());
    let mut claims =
        json!({ "iss": "SK9", "sub": ACCOUNT, "nbf": now + 90_000, "exp": now - 60, "grants": {} });
    let fault = |header: &Header, claims: &Value, secret| {
        let fault = verifier()
            .verify(&sign(header, claims, secret), NOW)
            .unwrap_err();
        (fault.signal_code(), fault.rest_code())
    };
    let wrong = Header {
        typ: None,
        ..header.clone()
    };
    assert_eq!(fault(&wrong, &claims, "no"), (31204, 20102));
    assert_eq!(fault(&header, &claims, "no"), (31204, 20103));
    claims["iss"] = KEY.into();
    assert_eq!(fault(&header, &claims, "no"), (31202, 20107));
    assert_eq!(fault(&header, &claims, "new"), (31205, 20104));
    claims["exp"] = (now + 90_000 + 86_401).into();
    assert_eq!(fault(&header, &claims, "new"), (31207, 20104));
    claims["exp"] = (now + 90_001).into();
    assert_eq!(fault(&header, &claims, "new"), (31204, 20105));
    claims["nbf"] = (now + 60).into();
    claims["exp"] = (now + 3_600).into();
    assert_eq!(fault(&header, &claims, "new"), (31201, 20106));
    claims["grants"]["identity"] = 7.into();
    assert_eq!(fault(&header, &claims, "new"), (31105, 20106));
    claims["grants"]["identity"] = "alice/mobile".into();
    let grant = verifier()
        .verify(&sign(&header, &claims, "new"), NOW)
        .unwrap();
    assert_eq!(grant.identity.as_str(), "alice/mobile");
}

// B1: a key signs for its own account and its own kind of token only, and an empty secret signs nothing.
#[test]
fn a_key_is_believed_only_for_what_is_its_own() {
    let at = |header: &Header, changes: &[(&str, &str)], secret| {
        let mut claims = claims(&json!({ "identity": "alice" }));
        for (name, value) in changes {
            claims[*name] = (*value).into();
        }
        verifier()
            .verify(&sign(header, &claims, secret), NOW)
            .map(|grant| grant.account)
    };
    let header = access_header();
    assert_eq!(at(&header, &[], "new"), Ok(0));
    assert_eq!(
        at(&header, &[("iss", OTHER_KEY), ("sub", OTHER)], "other"),
        Ok(1)
    );
    assert_eq!(
        at(&header, &[("sub", OTHER)], "new"),
        Err(TokenFault::Issuer)
    );
    assert_eq!(
        at(&header, &[("iss", OTHER_KEY)], "other"),
        Err(TokenFault::Issuer)
    );
    assert_eq!(
        at(&header, &[("iss", ACCOUNT)], "auth-new"),
        Err(TokenFault::Issuer)
    );
    assert_eq!(at(&header, &[], "auth-new"), Err(TokenFault::Signature));
    assert_eq!(at(&header, &[], ""), Err(TokenFault::Signature));
    let plain = Header::default();
    assert_eq!(at(&plain, &[], "new"), Err(TokenFault::Issuer));
    assert_eq!(
        at(&plain, &[("iss", ACCOUNT)], "new"),
        Err(TokenFault::Signature)
    );
    assert_eq!(
        at(&plain, &[("iss", OTHER)], ""),
        Err(TokenFault::Signature)
    );
}

// PLUGIN §3: account keys, by basic authentication.
#[test]
fn an_account_key_is_known_by_any_of_its_secrets() {
    let verifier = verifier();
    let table = [
        (ACCOUNT, "auth-new", Some(0)),
        (ACCOUNT, "auth-old", Some(0)),
        (KEY, "old", Some(0)),
        (OTHER_KEY, "other", Some(1)),
        (KEY, "auth-new", None),
        (ACCOUNT, "", None),
        (KEY, "", None),
        (OTHER, "other", None),
        ("", "", None),
    ];
    for (user, password, account) in table {
        assert_eq!(
            verifier.account_of_key(user, password),
            account,
            "{user}:{password}"
        );
    }
    assert_eq!(verifier.account_of_issuer(OTHER_KEY), Some(1));
    assert_eq!(verifier.account_of_issuer("SK9"), None);
    assert!(!format!("{verifier:?}").contains("auth"));
}

// PLUGIN §7: what is minted for trying is what the verifier believes.
#[test]
fn what_is_minted_verifies() {
    let (settings, verifier) = (settings(), verifier());
    let access = draft().sign(&settings, NOW).unwrap();
    let grant = verifier.verify(&access, NOW).unwrap();
    assert!(grant.may_receive && grant.may_give && grant.may_see(&name("team:b")));
    assert_eq!(grant.call_out.unwrap().application, APPLICATION);
    assert_eq!(
        (grant.issuer.as_str(), grant.jti.as_str()),
        (KEY, format!("{KEY}-1800000000").as_str())
    );
    let capability = Draft {
        identity: name("a b/@日"),
        presence: None,
        is_capability: true,
        ..draft()
    };
    let grant = verifier
        .verify(&capability.sign(&settings, NOW).unwrap(), NOW)
        .unwrap();
    assert_eq!(grant.identity.as_str(), "a b/@日");
    assert!(grant.may_receive && grant.call_out.is_some());
    let other = Draft {
        account: Some(OTHER.to_owned()),
        ..draft()
    };
    assert_eq!(
        verifier
            .verify(&other.sign(&settings, NOW).unwrap(), NOW)
            .unwrap()
            .account,
        1
    );
}

#[test]
fn what_would_be_refused_is_not_minted() {
    let error = |draft: Draft, settings: &Settings| draft.sign(settings, NOW).unwrap_err();
    let settings = settings();
    let long = Draft {
        ttl: Duration::from_secs(86_401),
        ..draft()
    };
    assert!(matches!(
        error(long, &settings),
        MintError::Refused(TokenFault::Lifetime)
    ));
    let presence = Draft {
        is_capability: true,
        ..draft()
    };
    assert!(matches!(
        error(presence.clone(), &settings),
        MintError::NoPresence
    ));
    let capability = Draft {
        presence: None,
        ..presence
    };
    let rightless = Draft {
        may_receive: false,
        application: None,
        ..capability.clone()
    };
    assert!(matches!(error(rightless, &settings), MintError::NoRight));
    let elsewhere = Draft {
        account: Some(OTHER.to_owned()),
        ..capability
    };
    assert!(matches!(
        error(elsewhere, &settings),
        MintError::NoAuthToken(_)
    ));
    let unknown = Draft {
        account: Some("AC9".to_owned()),
        ..draft()
    };
    assert!(matches!(
        error(unknown, &settings),
        MintError::UnknownAccount(_)
    ));
    assert!(matches!(
        error(draft(), &Settings::default()),
        MintError::NoAccount
    ));
}
