//! Properties of our own tokens under hostile input: nothing makes them panic, and nothing but the token itself verifies.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::json;

use super::bridge::{BRIDGE_TOKEN, Bridge};
use super::own::{self, OWN_MAX, OwnFault};
use super::peer::{self, PEER_TOKEN};
use super::tests::{NOW, settings};
use super::{TokenFault, Verifier};
use crate::presence::name::Name;
use crate::presence::settings::{Peer, Peers, SecretText};

const SECRET: &str = "secret";

fn peers() -> Peers {
    Peers {
        secret: SecretText(SECRET.to_owned()),
        nodes: vec![Peer {
            name: "b".to_owned(),
            url: "https://b.example".to_owned(),
        }],
    }
}

fn bridge_token() -> String {
    let bridge = Bridge {
        call: "CA1".to_owned(),
        branch: 1,
        identity: Name::new("alice").unwrap(),
        node: "a".to_owned(),
        exp: NOW.as_secs() + 30,
    };
    bridge.sign(SECRET.as_bytes())
}

/// A token from `b` to `a`.
fn peer_token() -> String {
    let to = Peer {
        name: "a".to_owned(),
        url: String::new(),
    };
    peer::sign(&peers(), "b", &to, NOW)
}

fn as_bridge(token: &str) -> Result<(), OwnFault> {
    Bridge::verify(SECRET.as_bytes(), token, NOW).map(drop)
}

fn as_peer(token: &str) -> Result<(), OwnFault> {
    peer::verify(&peers(), "a", token, NOW).map(drop)
}

type Verify = fn(&str) -> Result<(), OwnFault>;

/// Each kind: a good token, how it is verified, and its name.
fn kinds() -> [(String, Verify, &'static str); 2] {
    [
        (bridge_token(), as_bridge, BRIDGE_TOKEN),
        (peer_token(), as_peer, PEER_TOKEN),
    ]
}

fn part(json: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json)
}

/// Claims of any type under the names that are read.
fn claims() -> impl Strategy<Value = serde_json::Value> {
    let value = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
        Just(json!([[]])),
    ];
    let key = "(iss|aud|exp|call|branch|identity|node)";
    prop::collection::hash_map(key, value, 0..8).prop_map(|map| json!(map))
}

proptest! {
    // B5, B31: no text is too strange to be refused.
    #[test]
    fn no_text_makes_our_own_tokens_panic(text in ".*", dotted in "[a-zA-Z0-9_=-]{0,40}[.][a-zA-Z0-9_-]{0,80}[.][a-zA-Z0-9_-]{0,43}[.]?") {
        for (_, verify, _) in kinds() {
            prop_assert!(verify(&text).is_err());
            prop_assert!(verify(&dotted).is_err());
        }
    }

    // Whatever another version of us may sign.
    #[test]
    fn no_signed_claims_make_our_own_tokens_panic(claims in claims()) {
        for (_, verify, kind) in kinds() {
            let verified = verify(&own::sign(kind, &claims, SECRET.as_bytes()));
            prop_assert_ne!(verified.err(), Some(OwnFault::Signature));
        }
    }
}

// B5, B31: each single bit counts.
#[test]
fn a_flipped_bit_of_our_own_token_never_verifies() {
    for (token, verify, _) in kinds() {
        assert_eq!(verify(&token), Ok(()));
        for at in 0..token.len() {
            for bit in 0..7 {
                let mut bytes = token.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let changed = String::from_utf8(bytes).unwrap();
                assert!(verify(&changed).is_err(), "{changed}");
            }
        }
        let unsigned = token.rsplit_once('.').unwrap().0;
        for around in [
            format!("{token}="),
            format!(" {token}"),
            format!("{token}."),
            unsigned.to_owned(),
        ] {
            assert_eq!(verify(&around), Err(OwnFault::Malformed));
        }
        assert_eq!(verify(&format!("{unsigned}.")), Err(OwnFault::Signature));
    }
}

// B5, B31: no algorithm but one, and no extension that is not understood.
#[test]
fn the_header_of_our_own_token_chooses_nothing() {
    for (token, verify, kind) in kinds() {
        let (_, rest) = token.split_once('.').unwrap();
        let (claims, signature) = rest.split_once('.').unwrap();
        let headers = ["none", "None", "HS384", "HS512", "RS256", "", "hs256"]
            .map(|algorithm| json!({ "alg": algorithm, "typ": "JWT", "cty": kind }));
        let others = [
            json!({ "alg": "HS256", "typ": "JWT", "cty": kind, "crit": ["exp"] }),
            json!({ "alg": "HS256", "typ": "JWT", "cty": kind.to_uppercase() }),
            json!({ "alg": "HS256", "typ": "JWT" }),
            json!({ "alg": "HS256", "cty": kind }),
        ];
        for header in headers.iter().chain(&others) {
            for signature in ["", signature] {
                let forged = format!("{}.{claims}.{signature}", part(header.to_string()));
                assert_eq!(verify(&forged), Err(OwnFault::Kind), "{header}");
            }
        }
    }
}

// B5, B31: one secret signs both kinds, and neither passes for the other nor for a customer's token.
#[test]
fn a_token_of_one_kind_is_none_of_another() {
    assert_eq!(as_bridge(&peer_token()), Err(OwnFault::Kind));
    assert_eq!(as_peer(&bridge_token()), Err(OwnFault::Kind));
    let verifier = Verifier::new(&settings());
    for (token, verify, _) in kinds() {
        let refused = verifier.verify(&token, NOW);
        assert_eq!(refused, Err(TokenFault::Header));
        let access = super::tests::draft().sign(&settings(), NOW).unwrap();
        assert_eq!(verify(&access), Err(OwnFault::Kind));
    }
}

#[test]
fn another_secret_signs_nothing() {
    for secret in ["", "Secret", "secret "] {
        let secret = secret.as_bytes();
        let token = own::sign(BRIDGE_TOKEN, &json!({}), secret);
        assert_eq!(as_bridge(&token), Err(OwnFault::Signature));
        let verified = Bridge::verify(secret, &bridge_token(), NOW);
        assert_eq!(verified, Err(OwnFault::Signature));
    }
    // Not even where it is what was configured.
    let unsecured = own::sign(BRIDGE_TOKEN, &json!({}), b"");
    assert_eq!(
        Bridge::verify(b"", &unsecured, NOW),
        Err(OwnFault::Signature)
    );
}

// What is too long is refused before it is worked on, however well it is signed.
#[test]
fn our_own_tokens_are_bounded() {
    for (_, verify, kind) in kinds() {
        let long = json!({ "exp": NOW.as_secs() + 30, "x": "x".repeat(OWN_MAX) });
        let token = own::sign(kind, &long, SECRET.as_bytes());
        assert_eq!(verify(&token), Err(OwnFault::Malformed));
    }
}
