//! The sections `keys` and `accounts`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::resource::Priority;
use super::scalar::{At, Named, Scalar, Secret};

/// A key that verifies bearer tokens. Tokens without an expiry (`exp`) do not verify.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Key {
    /// How its tokens are signed; what the token says about that is not believed.
    ///
    /// Required. Example: `RS256`.
    pub(in crate::config) algorithm: At<Algorithm>,
    /// The public key in PEM, for `RS256` and `ES256`.
    ///
    /// Required there. Example: `{ file: gw.pem }`.
    pub(in crate::config) public: Option<At<Secret>>,
    /// The shared secret, for `HS256`; at least 32 bytes are advised.
    ///
    /// Required there. Example: `{ env: GATEWAY_SECRET }`.
    pub(in crate::config) secret: Option<At<Secret>>,
    /// The only issuer (`iss`) believed.
    ///
    /// Default: any. Example: `https://login.example.com`.
    pub(in crate::config) issuer: Option<String>,
    /// The only audience (`aud`) believed.
    ///
    /// Default: any. Example: `api`.
    pub(in crate::config) audience: Option<String>,
    /// How far clocks may differ.
    ///
    /// Default: `30s`. Range: 0s to 1h. Example: `5s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) leeway: Option<At<Scalar>>,
}

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(in crate::config) enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

/// Who pays for a request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Accounts {
    /// Where the account's name is looked for; the first that yields is the account. A name is 1 to 128 printable ASCII
    /// characters without space, quote or backslash; another is answered 400.
    ///
    /// Default: nowhere. Range: up to 32. Example: `[{ header: x-account }, client_address]`.
    pub(in crate::config) identify: Option<Vec<At<Identify>>>,
    /// The account of requests that nothing identifies.
    ///
    /// Default: `anonymous`. Example: `nobody`.
    pub(in crate::config) unidentified: Option<At<String>>,
    /// Accounts that share numbers, by the group's name; an account is in at most one.
    ///
    /// Default: none. Range: up to 1,000 groups and 100,000 accounts. Example: `{ gold: { accounts: [AC_GOLD] } }`.
    pub(in crate::config) groups: Option<Named<Group>>,
}

/// One place where the account's name is looked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Identify {
    /// A capture of the resource's path, by its name.
    Path(At<String>),
    /// The user name of basic authentication. The password is not looked at.
    BasicAuth(BasicAuth),
    /// The first header of this name.
    Header(At<String>),
    /// The first query parameter of this name.
    Query(At<String>),
    /// A claim of a bearer token. One that does not verify is answered 401; an absent one goes on down the list.
    Jwt(Jwt),
    /// The common name of the client's certificate.
    ClientCertificate(ClientCertificate),
    /// The client's address.
    ClientAddress,
    /// The account (`AC…`) of a verified presence token, or of basic authentication with its sid or a key of it; only where the presence
    /// plugin is mounted.
    Presence,
}

/// What names the account in basic authentication.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum BasicAuth {
    /// The user name.
    Username,
}

/// What names the account in a client's certificate.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ClientCertificate {
    /// The subject's common name.
    CommonName,
}

/// A claim of a bearer token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Jwt {
    /// The claim that names the account.
    ///
    /// Required. Example: `sub`.
    pub(in crate::config) claim: String,
    /// The keys that may verify the token, tried in order.
    ///
    /// Required. Example: `[gateway]`.
    pub(in crate::config) keys: At<Vec<At<String>>>,
}

/// Accounts that share numbers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Group {
    /// Who is in it.
    ///
    /// Required. Example: `[AC_GOLD]`.
    pub(in crate::config) accounts: Vec<At<String>>,
    /// Its accounts' share of places among those that wait.
    ///
    /// Default: `1`. Range: 1 to 1,000. Example: `4`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) weight: Option<At<Scalar>>,
    /// Who goes first when not everybody can; the higher of this and the resource's counts.
    ///
    /// Default: `low`, so that the resource's counts. Example: `high`.
    pub(in crate::config) priority: Option<Priority>,
}
