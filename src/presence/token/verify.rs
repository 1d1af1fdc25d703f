//! The verifier: which secret signed a token, and so what to believe of it.
//!
//! Built once from the settings, asked for every socket and request. The checks run in the order of the reference, so that a
//! token with several mistakes always meets the same one. The library makes and compares the signature in constant time;
//! its own checks of time are not used, since they read the clock.

use std::collections::HashMap;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use super::basic::{self, Fingerprint};
use super::fault::TokenFault;
use super::parts::{Kind, Parts};
use super::restrict::Restrict;
use super::typed::Object;
use super::{Grant, QUERY_MAX, access, capability, times};
use crate::presence::name::Name;
use crate::presence::settings::{SecretText, Settings};

/// Longest id that is kept for logs, in characters.
const JTI_MAX: usize = 128;

/// Verifies tokens and account keys.
#[derive(Debug)]
pub struct Verifier {
    /// The keys by their ids.
    keys: HashMap<String, Issuer>,
    /// The accounts' auth tokens by the accounts' sids.
    accounts: HashMap<String, Issuer>,
}

/// Who signs tokens.
struct Issuer {
    account: usize,
    /// The sid of that account.
    sid: String,
    secrets: Vec<DecodingKey>,
    fingerprints: Vec<Fingerprint>,
}

/// What is known of a verified token before its rights are read.
#[derive(Debug)]
pub(super) struct Bearer {
    account: usize,
    issuer: String,
    jti: String,
    expires: u64,
}

impl Verifier {
    /// Takes the keys out of the settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let mut verifier = Self {
            keys: HashMap::new(),
            accounts: HashMap::new(),
        };
        for (index, account) in settings.accounts.iter().enumerate() {
            let issuer = |secrets: &[SecretText]| Issuer::new(index, &account.sid, secrets);
            let own = issuer(&account.auth_tokens);
            verifier.accounts.insert(account.sid.clone(), own);
            for key in &account.keys {
                verifier.keys.insert(key.id.clone(), issuer(&key.secrets));
            }
        }
        verifier
    }

    /// What the bearer may do, at the given wall-clock time since the Unix epoch.
    pub fn verify(&self, token: &str, unix_time: Duration) -> Result<Grant, TokenFault> {
        let parts = Parts::of(token)?;
        let kind = parts.kind()?;
        let claims = &parts.claims;
        let id = text(claims, "iss").ok_or(TokenFault::Issuer)?;
        let issuer = self.issuer(kind, id, claims).ok_or(TokenFault::Issuer)?;
        if !issuer.has_signed(&parts) {
            return Err(TokenFault::Signature);
        }
        let expires = times::check(claims, unix_time)?;
        let jti = text(claims, "jti").unwrap_or_default();
        let bearer = Bearer {
            account: issuer.account,
            issuer: id.to_owned(),
            jti: jti.chars().take(JTI_MAX).collect(),
            expires,
        };
        match kind {
            Kind::Access => access::grant(bearer, claims),
            Kind::Capability => capability::grant(bearer, claims),
        }
    }

    /// The index of the account whose key that is, by basic authentication: the account's sid with an auth token, or a key's id with
    /// a secret of it.
    #[must_use]
    pub fn account_of_key(&self, user: &str, password: &str) -> Option<usize> {
        let issuer = self.accounts.get(user).or_else(|| self.keys.get(user))?;
        basic::is_any(&issuer.fingerprints, password).then_some(issuer.account)
    }

    /// The index of the account that this issuer of tokens belongs to now; `None` once a reload has removed it.
    #[must_use]
    pub fn account_of_issuer(&self, issuer: &str) -> Option<usize> {
        let known = self.accounts.get(issuer).or_else(|| self.keys.get(issuer));
        known.map(|issuer| issuer.account)
    }

    fn issuer(&self, kind: Kind, id: &str, claims: &Object) -> Option<&Issuer> {
        match kind {
            Kind::Access => {
                let issuer = self.keys.get(id)?;
                (text(claims, "sub")? == issuer.sid).then_some(issuer)
            }
            Kind::Capability => self.accounts.get(id),
        }
    }
}

impl Issuer {
    fn new(account: usize, sid: &str, secrets: &[SecretText]) -> Self {
        // Anybody can sign with an empty secret.
        let secrets = || secrets.iter().filter(|secret| !secret.0.is_empty());
        let key = |secret: &SecretText| DecodingKey::from_secret(secret.0.as_bytes());
        Self {
            account,
            sid: sid.to_owned(),
            secrets: secrets().map(key).collect(),
            fingerprints: secrets().map(Fingerprint::of).collect(),
        }
    }

    fn has_signed(&self, parts: &Parts<'_>) -> bool {
        let message = parts.signed.as_bytes();
        let verify = |secret: &DecodingKey| {
            jsonwebtoken::crypto::verify(parts.signature, message, secret, Algorithm::HS256)
        };
        self.secrets
            .iter()
            .any(|secret| verify(secret).unwrap_or(false))
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Issuer");
        shown
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

impl Bearer {
    /// A grant that allows nothing yet, but to ask about oneself.
    pub(super) fn without_rights(self, identity: Name) -> Grant {
        Grant {
            account: self.account,
            identity,
            jti: self.jti,
            issuer: self.issuer,
            expires: self.expires,
            may_receive: false,
            may_give: false,
            call_out: None,
            obtain: Vec::new(),
            query_max: QUERY_MAX,
            restrict: Restrict::default(),
            endpoint_id: None,
        }
    }
}

fn text<'a>(claims: &'a Object, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}
