//! Properties under hostile input: nothing makes the verifier panic, and nothing but the token itself verifies.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::tests::{NOW, draft, settings};
use super::{TokenFault, Verifier};

/// JSON of any shape, with the names that the verifier reads among its keys.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
        "(scope:(client|stream):(incoming|outgoing|subscribe)[?]?[a-zA-Z%0-9=&+]{0,20} ?){0,3}"
            .prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        let key = "(alg|typ|cty|iss|sub|exp|nbf|iat|grants|identity|voice|incoming|outgoing|presence|restrict|hours|to|scope)";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map(key, inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    // B1: no text is too strange to be refused.
    #[test]
    fn no_text_makes_the_verifier_panic(text in ".*", dotted in "[a-zA-Z0-9_=-]{0,40}[.][a-zA-Z0-9_-]{0,80}[.][a-zA-Z0-9_-]{0,43}[.]?") {
        let verifier = Verifier::new(&settings());
        prop_assert!(verifier.verify(&text, NOW).is_err());
        prop_assert!(verifier.verify(&dotted, NOW).is_err());
    }

    // The rights of strange claims are read behind a good signature, where a customer's mistake lands too.
    #[test]
    fn no_claims_make_the_verifier_panic(grants in json(), scope in json(), time in json(), is_access: bool) {
        let settings = settings();
        let account = &settings.accounts[0];
        let (issuer, secret, cty) = if is_access {
            (&account.keys[0].id, &account.keys[0].secrets[0], Some("twilio-fpa;v=1".to_owned()))
        } else {
            (&account.sid, &account.auth_tokens[0], None)
        };
        let claims = serde_json::json!({
            "iss": issuer, "sub": account.sid, "exp": NOW.as_secs() + 60, "grants": grants, "scope": scope, "nbf": time, "jti": time,
        });
        let header = jsonwebtoken::Header { cty, ..Default::default() };
        let key = jsonwebtoken::EncodingKey::from_secret(secret.0.as_bytes());
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        let verified = Verifier::new(&settings).verify(&token, NOW);
        prop_assert_ne!(verified.err(), Some(TokenFault::Signature));
    }

    // B1: a token has one spelling.
    #[test]
    fn a_changed_byte_never_verifies(at: prop::sample::Index, with in 0_u8..128) {
        let settings = settings();
        let token = draft().sign(&settings, NOW).unwrap();
        let mut bytes = token.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != with);
        bytes[at] = with;
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert!(Verifier::new(&settings).verify(&changed, NOW).is_err(), "{changed}");
    }
}

// B1: each single bit of a token counts, the unused ones of its last character too.
#[test]
fn a_flipped_bit_never_verifies() {
    let settings = settings();
    let verifier = Verifier::new(&settings);
    let token = draft().sign(&settings, NOW).unwrap();
    for at in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(verifier.verify(&changed, NOW).is_err(), "{changed}");
        }
    }
    for around in [
        format!("{token}="),
        format!(" {token}"),
        format!("{token}."),
        format!("{token}\n"),
    ] {
        assert_eq!(verifier.verify(&around, NOW), Err(TokenFault::NotJwt));
    }
}

// B1: no algorithm but one, whatever the header says, with or without a signature.
#[test]
fn the_header_never_chooses_the_algorithm() {
    let settings = settings();
    let verifier = Verifier::new(&settings);
    let token = draft().sign(&settings, NOW).unwrap();
    let (_, rest) = token.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    for algorithm in [
        "none", "None", "HS384", "HS512", "RS256", "ES256", "", "hs256",
    ] {
        let header = format!(r#"{{"alg":"{algorithm}","typ":"JWT","cty":"twilio-fpa;v=1"}}"#);
        let header = BASE64_URL_SAFE_NO_PAD.encode(header);
        for signature in ["", signature] {
            let forged = format!("{header}.{claims}.{signature}");
            assert_eq!(
                verifier.verify(&forged, NOW),
                Err(TokenFault::Header),
                "{algorithm}"
            );
        }
    }
}

// What is too long or too deep is refused before it is worked on.
#[test]
fn a_token_is_bounded() {
    let verifier = Verifier::new(&settings());
    let part = |json: String| BASE64_URL_SAFE_NO_PAD.encode(json);
    let header = part(r#"{"alg":"HS256","typ":"JWT"}"#.to_owned());
    let deep = part(format!(
        r#"{{"iss":{}1{}}}"#,
        "[".repeat(16),
        "]".repeat(16)
    ));
    let long = part(format!(r#"{{"iss":"{}"}}"#, "x".repeat(16 * 1024)));
    for claims in [deep, long] {
        let token = format!("{header}.{claims}.");
        assert_eq!(verifier.verify(&token, NOW), Err(TokenFault::NotJwt));
    }
}
