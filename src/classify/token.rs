//! Bearer tokens: which key verifies them, and the claim that names the account.
//!
//! Signature, expiry, not-before, issuer and audience are checked by `jsonwebtoken`, which reads the wall clock itself;
//! the algorithm is the key's, never the token's. Never logs a token.

use std::collections::HashMap;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

/// Longest token that is looked at, in bytes: signatures are checked before anything is known about the sender.
const TOKEN_MAX: usize = 16 * 1024;

/// How tokens of a key are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256: a shared secret.
    Hs256,
    /// RSA PKCS #1 v1.5 with SHA-256: a public key in PEM.
    Rs256,
    /// ECDSA on P-256 with SHA-256: a public key in PEM.
    Es256,
}

/// What a key is made of.
#[derive(Debug)]
pub struct KeySettings {
    /// How its tokens are signed.
    pub algorithm: TokenAlgorithm,
    /// The secret, or the public key in PEM.
    pub material: Vec<u8>,
    /// The only issuer believed; `None` for any.
    pub issuer: Option<String>,
    /// The only audience believed; `None` for any.
    pub audience: Option<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// A verifier of tokens.
pub struct Key {
    decoding: DecodingKey,
    validation: Validation,
}

/// Why something is no key.
#[derive(Debug, thiserror::Error)]
#[error("this is no key for its algorithm")]
pub struct KeyError(#[from] jsonwebtoken::errors::Error);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Key {
    /// Checks and takes over the key's material.
    pub fn new(settings: &KeySettings) -> Result<Self, KeyError> {
        let material = settings.material.as_slice();
        let (algorithm, decoding) = match settings.algorithm {
            TokenAlgorithm::Hs256 => (Algorithm::HS256, DecodingKey::from_secret(material)),
            TokenAlgorithm::Rs256 => (Algorithm::RS256, DecodingKey::from_rsa_pem(material)?),
            TokenAlgorithm::Es256 => (Algorithm::ES256, DecodingKey::from_ec_pem(material)?),
        };
        let mut validation = Validation::new(algorithm);
        validation.leeway = settings.leeway.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        match &settings.issuer {
            Some(issuer) => {
                validation.set_issuer(&[issuer]);
                required.push("iss");
            }
            None => validation.iss = None,
        }
        match &settings.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        Ok(Self {
            decoding,
            validation,
        })
    }

    /// `None` if the token does not verify; else the claim, if the token has it as a string or a number.
    #[expect(
        clippy::option_option,
        reason = "the outer says whether the token verifies"
    )]
    pub(super) fn claim(&self, token: &str, claim: &str) -> Option<Option<String>> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let token =
            jsonwebtoken::decode::<HashMap<String, Value>>(token, &self.decoding, &self.validation);
        let mut claims = token.ok()?.claims;
        Some(match claims.remove(claim) {
            Some(Value::String(text)) => Some(text),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    fn key(issuer: Option<&str>) -> Key {
        Key::new(&KeySettings {
            algorithm: TokenAlgorithm::Hs256,
            material: b"a secret of some length".to_vec(),
            issuer: issuer.map(Into::into),
            audience: None,
            leeway: Duration::from_secs(5),
        })
        .unwrap()
    }

    fn token(secret: &[u8], claims: &Value) -> String {
        encode(
            &Header::default(),
            claims,
            &EncodingKey::from_secret(secret),
        )
        .unwrap()
    }

    const FUTURE: u64 = 4_000_000_000;

    // A31: the claim of a token that verifies names the account.
    #[test]
    fn a_claim_is_believed_only_from_a_token_that_verifies() {
        let good = token(
            b"a secret of some length",
            &json!({"sub": "AC1", "n": 7, "exp": FUTURE}),
        );
        assert_eq!(key(None).claim(&good, "sub"), Some(Some("AC1".into())));
        assert_eq!(key(None).claim(&good, "n"), Some(Some("7".into())));
        assert_eq!(key(None).claim(&good, "tenant"), Some(None));
        let forged = token(
            b"another secret of some length",
            &json!({"sub": "AC1", "exp": FUTURE}),
        );
        assert_eq!(key(None).claim(&forged, "sub"), None);
        let expired = token(b"a secret of some length", &json!({"sub": "AC1", "exp": 1}));
        assert_eq!(key(None).claim(&expired, "sub"), None);
        let endless = token(b"a secret of some length", &json!({"sub": "AC1"}));
        assert_eq!(key(None).claim(&endless, "sub"), None);
        assert_eq!(
            key(Some("us")).claim(&good, "sub"),
            None,
            "no issuer where one is asked for"
        );
        for garbage in ["", "a", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJBQzEifQ."] {
            assert_eq!(key(None).claim(garbage, "sub"), None, "{garbage}");
        }
    }
}
