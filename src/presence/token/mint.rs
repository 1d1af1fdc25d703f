//! Minting: a token for trying the plugin, as the helper libraries would make it.
//!
//! For the command line and for tests; customers mint with the vendor's libraries. What is minted is verified before it is handed
//! out, so a draft that would be refused fails here, with the reason.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::fault::TokenFault;
use super::parts::ACCESS_TOKEN;
use super::verify::Verifier;
use crate::presence::name::Name;
use crate::presence::settings::{AccountSettings, SecretText, Settings};

/// What a token is to say.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Whose it is.
    pub identity: Name,
    /// The sid of the account; `None` for the first.
    pub account: Option<String>,
    /// Whether its bearer may be rung.
    pub may_receive: bool,
    /// The application by whose instructions its bearer may call out.
    pub application: Option<String>,
    /// `grants.presence`.
    pub presence: Option<Value>,
    /// How long it is good.
    pub ttl: Duration,
    /// A capability token, signed with the account's auth token, instead of an access token.
    pub is_capability: bool,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// There is no account.
    #[error("no account is configured; add one under `presence.accounts`")]
    NoAccount,
    /// Not that one.
    #[error("no account `{0}` is configured; name one of `presence.accounts`")]
    UnknownAccount(String),
    /// Nothing to sign an access token with.
    #[error("account `{0}` has no key; add one under its `keys`, or mint a capability token")]
    NoKey(String),
    /// Nothing to sign a capability token with.
    #[error("account `{0}` has no auth token; add its `auth_token`, or mint an access token")]
    NoAuthToken(String),
    /// Capability tokens know no grants.
    #[error("a capability token carries no presence grant; mint an access token")]
    NoPresence,
    /// A capability token names its bearer only where it allows something.
    #[error(
        "a capability token without rights names nobody; let it receive calls, or call out by an application"
    )]
    NoRight,
    /// It would not be believed.
    #[error("the token would be refused")]
    Refused(#[from] TokenFault),
    /// It cannot be written.
    #[error("the token cannot be signed")]
    Unsigned(#[from] jsonwebtoken::errors::Error),
}

impl Draft {
    /// The token, signed with the first secret of the account's first key, or with its first auth token.
    pub fn sign(&self, settings: &Settings, unix_time: Duration) -> Result<String, MintError> {
        let account = self.account(settings)?;
        let now = unix_time.as_secs();
        let expires = now.saturating_add(self.ttl.as_secs());
        let mut header = Header::default();
        let (mut claims, secret) = if self.is_capability {
            let secret = account.auth_tokens.first();
            let secret = secret.ok_or_else(|| MintError::NoAuthToken(account.sid.clone()))?;
            (
                json!({ "iss": account.sid, "scope": self.scope()? }),
                secret,
            )
        } else {
            header.cty = Some(ACCESS_TOKEN.to_owned());
            self.access(account, now)?
        };
        claims["iat"] = now.into();
        claims["exp"] = expires.into();
        let key = EncodingKey::from_secret(secret.0.as_bytes());
        let token = jsonwebtoken::encode(&header, &claims, &key)?;
        Verifier::new(settings).verify(&token, unix_time)?;
        Ok(token)
    }

    fn account<'a>(&self, settings: &'a Settings) -> Result<&'a AccountSettings, MintError> {
        let mut accounts = settings.accounts.iter();
        match &self.account {
            None => accounts.next().ok_or(MintError::NoAccount),
            Some(sid) => accounts
                .find(|account| account.sid == *sid)
                .ok_or_else(|| MintError::UnknownAccount(sid.clone())),
        }
    }

    fn access<'a>(
        &self,
        account: &'a AccountSettings,
        now: u64,
    ) -> Result<(Value, &'a SecretText), MintError> {
        let key = account.keys.first();
        let signer = key.and_then(|key| Some((&key.id, key.secrets.first()?)));
        let (id, secret) = signer.ok_or_else(|| MintError::NoKey(account.sid.clone()))?;
        let mut voice = json!({});
        if self.may_receive {
            voice["incoming"] = json!({ "allow": true });
        }
        if let Some(application) = &self.application {
            voice["outgoing"] = json!({ "application_sid": application });
        }
        let mut grants = json!({ "identity": self.identity, "voice": voice });
        if let Some(presence) = &self.presence {
            grants["presence"] = presence.clone();
        }
        let jti = format!("{id}-{now}");
        let claims = json!({ "jti": jti, "iss": id, "sub": account.sid, "grants": grants });
        Ok((claims, secret))
    }

    fn scope(&self) -> Result<String, MintError> {
        if self.presence.is_some() {
            return Err(MintError::NoPresence);
        }
        if !self.may_receive && self.application.is_none() {
            return Err(MintError::NoRight);
        }
        let form = |pairs: &[(&str, &str)]| {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(pairs).finish()
        };
        let name = ("clientName", self.identity.as_str());
        let mut scopes = Vec::new();
        if self.may_receive {
            scopes.push(format!("scope:client:incoming?{}", form(&[name])));
        }
        if let Some(application) = &self.application {
            let query = form(&[("appSid", application), name]);
            scopes.push(format!("scope:client:outgoing?{query}"));
        }
        Ok(scopes.join(" "))
    }
}
