//! The section `presence`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::calls::{Application, Destination, Egress, Peers, UnavailableWord};
use super::scalar::{At, Named, Scalar, SecretList, present};

/// The presence plugin.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Presence {
    /// The tenants whose tokens are believed. Nothing of one is seen by another.
    ///
    /// Default: none; required where a resource mounts the plugin. Range: up to 1,000. Example: `[{ sid: AC0123456789abcdef0123456789abcdef,
    /// auth_token: { env: AC_AUTH_TOKEN } }]`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) accounts: Option<At<Vec<PresenceAccount>>>,
    /// What identities are taken for that were never heard of, or not for too long.
    ///
    /// Default: `offline`. Example: `unavailable`.
    pub(in crate::config) assume: Option<StatusWord>,
    /// How often each socket is written to at least. Clients give up a connection on which nothing came for 15 seconds.
    ///
    /// Default: `10s`. Range: 1s to 12s. Example: `5s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) heartbeat: Option<At<Scalar>>,
    /// How long a device whose socket was lost may take to come back, still showing its last status, before it is gone.
    ///
    /// Default: `15s`. Range: 0s to 1h. Example: `30s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) grace: Option<At<Scalar>>,
    /// Which of the statuses of one identity's devices is shown: the first of these that any device has. Each status stands here once.
    ///
    /// Default: `[available, busy, do_not_disturb, away, unavailable, offline]`. Example: `[busy, do_not_disturb, available, away,
    /// unavailable, offline]`.
    pub(in crate::config) order: Option<At<Vec<At<StatusWord>>>>,
    /// The resource that a call's permit counts as: one of `resources`, where it may be given a priority, a cost and `completion`, or else
    /// one that is there by itself and that limits name like any other. A limit that covers it cannot `reroute`.
    ///
    /// Default: `calls`. Range: 1 to 64 lower-case letters, digits, `-`, `_` and `.`; not `other` or `presence`. Example: `voice`.
    pub(in crate::config) call_resource: Option<At<String>>,
    /// Calls and ringings of one device at once; one that has as many is not rung.
    ///
    /// Default: `1`. Range: 1 to 100. Example: `2`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) calls_per_device: Option<At<Scalar>>,
    /// Devices of one identity at once; of those, lost ones give way to a new one.
    ///
    /// Default: `10`. Range: 1 to 1,000. Example: `3`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) devices_per_identity: Option<At<Scalar>>,
    /// Whether devices are rung whose status is `away`.
    ///
    /// Default: `false`. Example: `true`.
    pub(in crate::config) ring_away: Option<bool>,
    /// What a caller hears when the instructions end with nobody reached.
    ///
    /// Default: `busy`. Example: `text`.
    pub(in crate::config) unavailable: Option<UnavailableWord>,
    /// Open sockets at once. Each is a client connection too, so `server.max_connections` must leave room for them.
    ///
    /// Default: `100000`. Range: 1 to 1,000,000. Example: `5000`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) max_sockets: Option<At<Scalar>>,
    /// Open sockets of one account at once.
    ///
    /// Default: `10000`, or `max_sockets` if that is less. Range: 1 to `max_sockets`. Example: `500`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) max_sockets_per_account: Option<At<Scalar>>,
    /// New sockets a second; what comes beyond is answered 429 and asked to come again, so that the return of all clients after an
    /// outage is spread.
    ///
    /// Default: `1000`. Range: 1 to 1,000,000. Example: `200`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) connects_per_second: Option<At<Scalar>>,
    /// Where the addresses in instructions may lead to. Those of this file are allowed anyway.
    ///
    /// Default: `{ allow: [] }`, public addresses only. Example: `{ allow: ["10.0.0.0/8"] }`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) egress: Option<Egress>,
    /// Origins of the pages that may use the API and open sockets: scheme, host, and the port if it is not the scheme's own.
    ///
    /// Default: `[]`, any: it is the token that authorizes, never a cookie. Range: up to 1,000. Example: `["https://app.example.com"]`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) allowed_origins: Option<At<Vec<At<String>>>>,
    /// The name of this Tidegate among its peers.
    ///
    /// Default: `a`; required with `peers`. Range: 1 to 32 letters, digits, `-` and `_`. Example: `b`.
    pub(in crate::config) node: Option<At<String>>,
    /// Other Tidegates that are asked for devices registered there.
    ///
    /// Default: none. Example: `{ secret: { env: PEER_SECRET }, nodes: [{ name: b, url: "https://127.0.0.1:8443" }] }`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) peers: Option<At<Peers>>,
}

/// One tenant. It needs an `auth_token` or a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PresenceAccount {
    /// Its identifier: `AC` and 32 hexadecimal digits. No two accounts have the same.
    ///
    /// Required. Example: `AC0123456789abcdef0123456789abcdef`.
    pub(in crate::config) sid: At<String>,
    /// Verifies capability tokens, and basic authentication with the sid. Of a list each verifies, so that one can be replaced by
    /// another, and the first signs webhooks.
    ///
    /// Default: none; required without `keys`. Range: up to 10; 32 bytes or more are advised. Example: `{ env: AC_AUTH_TOKEN }` or
    /// `[{ file: auth_token }, { file: auth_token_old }]`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(extend("x-kind" = "secret or list of secrets"))]
    pub(in crate::config) auth_token: Option<At<SecretList>>,
    /// Keys that access tokens are signed with. One that is taken away ends the sessions it began.
    ///
    /// Default: none; required without `auth_token`. Range: up to 100. Example: `[{ id: SK0123456789abcdef0123456789abcdef, secret: { env:
    /// SK_SECRET } }]`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) keys: Option<At<Vec<PresenceKey>>>,
    /// What runs when a client calls out through an application, by its identifier: `AP` and 32 hexadecimal digits.
    ///
    /// Default: none. Range: up to 1,000. Example: `{ AP00000000000000000000000000000001: { voice: { url: "http://127.0.0.1:4000/voice" } }
    /// }`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) applications: Option<At<Named<Application>>>,
    /// What runs when a number is called, by the number: `+` and 2 to 15 digits, in quotation marks. In the form of `applications`.
    ///
    /// Default: none. Range: up to 1,000. Example: `{ "+14155550100": { voice: { url: "http://127.0.0.1:4000/voice" } } }`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(extend("x-form" = "presence.accounts[].applications.NAME"))]
    pub(in crate::config) numbers: Option<At<Named<Application>>>,
    /// Names that stand for several identities and are dialled like one: `<Client>sales</Client>`.
    ///
    /// Default: none. Range: up to 1,000. Example: `{ sales: { members: [alice, bob], choose: all } }`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) destinations: Option<At<Named<Destination>>>,
    /// Who is told about changes of presence.
    ///
    /// Default: nobody. Range: up to 10. Example: `[{ url: "http://127.0.0.1:4000/presence" }]`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) webhooks: Option<At<Vec<Webhook>>>,
    /// Who may read presence and subscribe to it.
    ///
    /// Default: `tokens`. Example: `internal`.
    pub(in crate::config) api: Option<ApiWord>,
}

/// A key that access tokens are signed with.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PresenceKey {
    /// Its identifier: `SK` and 32 hexadecimal digits. No two keys have the same, whatever their accounts.
    ///
    /// Required. Example: `SK0123456789abcdef0123456789abcdef`.
    pub(in crate::config) id: At<String>,
    /// What tokens are signed with, in HS256, and basic authentication with the key. Of a list each verifies, so that one can be
    /// replaced by another.
    ///
    /// Required. Range: up to 10; 32 bytes or more are advised. Example: `{ env: SK_SECRET }`.
    #[schemars(extend("x-kind" = "secret or list of secrets"))]
    pub(in crate::config) secret: At<SecretList>,
}

/// Who is told about changes of presence.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Webhook {
    /// Where changes are posted: `http` or `https`, and the whole address.
    ///
    /// Required. Range: up to 2,048 characters. Example: `http://127.0.0.1:4000/presence`.
    pub(in crate::config) url: At<String>,
}

/// Who may read presence.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ApiWord {
    /// Tokens as far as they allow, and the account's own keys.
    #[default]
    Tokens,
    /// The account's own keys only; tokens are answered 403.
    Internal,
}

/// Whether somebody can be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum StatusWord {
    /// Can be called.
    Available,
    /// Is occupied.
    Busy,
    /// Wants no calls.
    DoNotDisturb,
    /// Is not at the device.
    Away,
    /// Cannot be called.
    Unavailable,
    /// Nobody is there.
    Offline,
}
