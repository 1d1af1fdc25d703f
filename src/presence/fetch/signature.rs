//! Signatures of requests between an account's server and us: `X-Twilio-Signature`.
//!
//! The base64 of HMAC-SHA1, keyed by the account's auth token, over the URL and the sorted parameters of a form; of a JSON body
//! the URL carries a hash instead. SHA-1 is what the helper libraries on the other side check, and an HMAC does not need what is
//! broken of it. Behind a proxy the URL is the public one as configured: never rebuilt from a request's `host`. Never compares
//! signatures but in constant time.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use sha2::{Digest as _, Sha256};

use crate::presence::settings::SecretText;

/// The header that carries a signature.
pub const SIGNATURE_HEADER: &str = "x-twilio-signature";

/// The query parameter that ties a JSON body to the signed URL.
const BODY_HASH: &str = "bodySHA256";

/// Signs a request without a body, or one whose URL carries its body's hash.
#[must_use]
pub fn sign(token: &str, url: &str) -> String {
    sign_form(token, url, &[])
}

/// Signs a form; `pairs` are its decoded names and values, in any order.
#[must_use]
pub fn sign_form(token: &str, url: &str, pairs: &[(&str, &str)]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    STANDARD.encode(hmac::sign(&key, signed_text(url, pairs).as_bytes()))
}

/// The URL under which a JSON body is sent and signed by [`sign`].
#[must_use]
pub fn signed_json_url(url: &str, body: &[u8]) -> String {
    // A fragment is never sent, so it cannot be signed either.
    let url = url.split('#').next().unwrap_or_default();
    let joint = match url.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{url}{joint}{BODY_HASH}={}", hash(body))
}

/// Whether one of the tokens signed this form, or this URL where there are no pairs.
///
/// Signers do not agree on whether a URL's port is signed, so it is tried as it is, without its port, and with the scheme's own.
#[must_use]
pub fn verify(tokens: &[SecretText], url: &str, pairs: &[(&str, &str)], given: &str) -> bool {
    // Anything but a canonical base64 is no signature; it tells nothing about the right one.
    let Ok(given) = STANDARD.decode(given) else {
        return false;
    };
    let urls = [Some(url.to_owned()), other_port(url)];
    let texts = urls.map(|url| url.map(|url| signed_text(&url, pairs)));
    tokens.iter().any(|token| {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.0.as_bytes());
        let mut texts = texts.iter().flatten();
        texts.any(|text| hmac::verify(&key, text.as_bytes(), &given).is_ok())
    })
}

/// Whether one of the tokens signed this URL, and the hash in its query is this JSON body's.
#[must_use]
pub fn verify_json(tokens: &[SecretText], url: &str, body: &[u8], given: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    let named = parameters.find(|(name, _)| name == BODY_HASH);
    // The hash is no secret: whoever sent the body can compute it.
    named.is_some_and(|(_, named)| named.eq_ignore_ascii_case(&hash(body)))
        && verify(tokens, url, &[], given)
}

/// The URL, and each name with each of its different values, by name and then by value.
fn signed_text(url: &str, pairs: &[(&str, &str)]) -> String {
    let mut sorted = pairs.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut text = url.to_owned();
    for (name, value) in sorted {
        text.push_str(name);
        text.push_str(value);
    }
    text
}

fn hash(body: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(body) {
        // Writing into a `String` cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// The URL without its port, or else with the scheme's own.
fn other_port(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // Colons also stand in a user's password before `@` and in IPv6 addresses before `]`.
    let host = authority.rfind(['@', ']']).map_or(0, |at| at + 1);
    if let Some(colon) = authority[host..].find(':') {
        let bare = &authority[..host + colon];
        return Some(format!("{scheme}://{bare}{tail}"));
    }
    let port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    Some(format!("{scheme}://{authority}:{port}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "12345";
    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
    const URL_443: &str = "https://mycompany.com:443/myapp.php?foo=1&bar=2";
    const PAIRS: [(&str, &str); 5] = [
        ("To", "+18005551212"),
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+14158675309"),
        ("From", "+14158675309"),
        ("Digits", "1234"),
    ];
    const SIGNATURE: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";

    fn tokens(of: &[&str]) -> Vec<SecretText> {
        of.iter().map(|token| SecretText((*token).into())).collect()
    }

    // The vectors are what both helper libraries compute.
    #[test]
    fn forms_are_signed_as_the_helper_libraries_do() {
        assert_eq!(sign_form(TOKEN, URL, &PAIRS), SIGNATURE);
        assert_eq!(
            sign_form(TOKEN, URL_443, &PAIRS),
            "kvajT1Ptam85bY51eRf/AJRuM3w="
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, TOKEN.as_bytes());
        assert_eq!(
            STANDARD.encode(hmac::sign(&key, signed_text(URL, &PAIRS).as_bytes())),
            "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s="
        );
    }

    #[test]
    fn each_different_value_of_a_name_is_signed_once_and_in_order() {
        let pairs = [("B", ""), ("A", "2"), ("A", "1"), ("A", "1")];
        assert_eq!(
            sign_form(TOKEN, URL, &pairs),
            "K+Ap97YNImRC3fPo8wJ7SJSj4Y0="
        );
    }

    #[test]
    fn any_token_verifies_and_a_default_port_makes_no_difference() {
        let tokens = tokens(&["next", TOKEN]);
        let with_443 = sign_form(TOKEN, URL_443, &PAIRS);
        for url in [URL, URL_443] {
            assert!(verify(&tokens, url, &PAIRS, SIGNATURE), "{url}");
            assert!(verify(&tokens, url, &PAIRS, &with_443), "{url}");
        }
        let other_port = "https://mycompany.com:8443/myapp.php?foo=1&bar=2";
        assert!(verify(&tokens, other_port, &PAIRS, SIGNATURE));
    }

    #[test]
    fn what_was_changed_does_not_verify() {
        let all = tokens(&[TOKEN]);
        assert!(!verify(&all, URL, &PAIRS[1..], SIGNATURE));
        assert!(!verify(&all, &URL[..URL.len() - 1], &PAIRS, SIGNATURE));
        assert!(!verify(&tokens(&["other"]), URL, &PAIRS, SIGNATURE));
        assert!(!verify(&[], URL, &PAIRS, SIGNATURE));
        let cut = &SIGNATURE[..SIGNATURE.len() - 1];
        for hostile in ["", "=", "é", cut, "RSOY", "RSOYDt4T1cUTdK1PDd93/VVr8B9="] {
            assert!(!verify(&all, URL, &PAIRS, hostile), "{hostile}");
        }
        for hostile in ["", "://", "https://", "https://[::1", "https://@:", "a:b"] {
            assert!(!verify(&all, hostile, &PAIRS, SIGNATURE), "{hostile}");
        }
    }

    // B23: webhooks have JSON bodies, which the URL answers for.
    #[test]
    fn a_json_body_is_signed_through_its_hash_in_the_url() {
        let (body, all) = (br#"{"a":1}"#, tokens(&[TOKEN]));
        let hash = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862";
        let url = signed_json_url("https://a.example/hook", body);
        assert_eq!(url, format!("https://a.example/hook?bodySHA256={hash}"));
        let signature = sign(TOKEN, &url);
        assert!(verify_json(&all, &url, body, &signature));
        assert!(!verify_json(&all, &url, br#"{"a":2}"#, &signature));
        let unhashed = "https://a.example/hook";
        assert!(!verify_json(&all, unhashed, body, &sign(TOKEN, unhashed)));
        for (given, joined) in [
            ("https://a.example/?x=1#part", "https://a.example/?x=1&"),
            ("https://a.example/?", "https://a.example/?"),
            ("https://a.example/?x&", "https://a.example/?x&"),
        ] {
            let expected = format!("{joined}bodySHA256={hash}");
            assert_eq!(signed_json_url(given, body), expected);
        }
    }

    #[test]
    fn only_the_port_is_taken_for_one() {
        for (url, other) in [
            ("http://a", Some("http://a:80")),
            ("http://a:8080?x=:9", Some("http://a?x=:9")),
            ("https://[::1]/p", Some("https://[::1]:443/p")),
            ("https://[::1]:443/p", Some("https://[::1]/p")),
            ("https://u:p@a/p", Some("https://u:p@a:443/p")),
            ("ftp://a", None),
            ("a", None),
        ] {
            assert_eq!(other_port(url).as_deref(), other, "{url}");
        }
    }
}
