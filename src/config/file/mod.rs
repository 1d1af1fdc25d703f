//! What the file says, as it says it: the mirror of the YAML that serde fills.
//!
//! Every key has its meaning, default, range and an example in its doc comment; the reference and the JSON Schema are
//! made of these comments. Optional keys are `Option`s, and what is absent is decided in `resolve`. Never any
//! logic here, and never serde's `flatten`, `untagged` or internal tags: they lose the places that diagnostics point at.

mod accounts;
mod calls;
mod candidate;
mod limit;
mod operate;
mod presence;
mod resource;
mod retries;
mod scalar;
mod server;
mod upstream;

pub(super) use accounts::{
    Accounts, Algorithm, BasicAuth, ClientCertificate, Group, Identify, Key,
};
pub(super) use calls::{
    Application, ChooseWord, Destination, Egress, Peers, Script, UnavailableWord,
};
pub(super) use candidate::Candidate;
pub(super) use limit::{
    Adaptive, Admit, Count, Follow, Leases, Limit, Mode, MovingMax, Order, Per, Queue, Slow, Step,
};
pub(super) use operate::{AccessLog, Admin, LogFormat, Metrics, Notify, Store};
pub(super) use presence::{ApiWord, Presence, PresenceAccount, PresenceKey, StatusWord, Webhook};
pub(super) use resource::{
    Departed, DialByPresence, EditOrderWord, Match, Priority, Resource, Stream,
};
pub(super) use retries::Retries;
pub(super) use scalar::{At, Named, NumberOr, OffOr, OneOrMany, Scalar, Secret, SecretList};
pub(super) use server::{HeaderNames, Listener, Server, Tls};
pub(super) use upstream::{Balance, EjectionRules, HealthCheck, Protocol, Upstream};

use schemars::JsonSchema;
use serde::Deserialize;

use scalar::present;

/// The configuration of one Tidegate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Where clients connect, and what holds for all of them.
    ///
    /// Required. Example: `{ listeners: [{ address: "127.0.0.1:8080" }] }`.
    pub(super) server: Server,
    /// The admin API.
    ///
    /// Default: listening on `127.0.0.1:9901`, without a token. Example: `{ address: "127.0.0.1:9901" }`.
    pub(super) admin: Option<Admin>,
    /// One JSON object a request.
    ///
    /// Default: to standard output. Example: `{ path: off }`.
    pub(super) access_log: Option<AccessLog>,
    /// What `/metrics` tells beyond what it always does.
    ///
    /// Default: nothing more. Example: `{ accounts: 20 }`.
    pub(super) metrics: Option<Metrics>,
    /// The APIs behind the gate, by name.
    ///
    /// Required. Range: 1 to 1,000. Example: `{ api: { endpoints: ["127.0.0.1:3000"] } }`.
    pub(super) upstreams: At<Named<Upstream>>,
    /// Where requests go that no resource matches (they are the resource `other`), and those of resources that name no upstream.
    ///
    /// Default: the only upstream; required when there are several. Example: `api`.
    pub(super) default_upstream: Option<At<String>>,
    /// Keys that verify bearer tokens, by name.
    ///
    /// Default: none. Range: up to 100. Example: `{ gateway: { algorithm: RS256, public: { file: gw.pem } } }`.
    pub(super) keys: Option<Named<Key>>,
    /// Who pays for a request.
    ///
    /// Default: everybody is the account `anonymous`. Example: `{ identify: [{ header: x-account }] }`.
    pub(super) accounts: Option<Accounts>,
    /// The kinds of things that requests act on; the first that matches wins.
    ///
    /// Default: none, and every request is the resource `other`. Range: up to 1,000. Example: `[{ name: calls, match: { path: "/calls" } }]`.
    pub(super) resources: Option<Vec<Resource>>,
    /// How much may be in flight; a request must fit all limits that apply to it.
    ///
    /// Default: none. Range: up to 1,000. Example: `[{ name: account, per: [account], max: 100 }]`.
    pub(super) limits: Option<Vec<Limit>>,
    /// What is done with requests that were tried before.
    ///
    /// Default: nobody looks. Example: `{ budget: 20 }`.
    #[serde(default, deserialize_with = "present")]
    pub(super) retries: Option<At<Retries>>,
    /// Sets of limits to try, by name. Each judges on paper what is let in, as if it were in force: all of its limits have a place, or
    /// it would have refused. It refuses nobody; `GET /v1/candidates` and the metrics tell what each would have done, and to whom.
    ///
    /// Default: none. Range: up to 8. Example: `{ tighter: { limits: [{ name: account, per: [account], max: 50 }] } }`.
    pub(super) candidates: Option<At<Named<Candidate>>>,
    /// Who is told when an account meets a limit: once per account, limit and episode. Not built yet.
    ///
    /// Default: nobody. Example: `{ url: "http://127.0.0.1:7000/over-limit" }`.
    pub(super) notify: Option<At<Notify>>,
    /// Redis or Valkey servers that hold the counts of shared limits, by name. Not built yet.
    ///
    /// Default: none. Example: `{ central: { redis: "redis://127.0.0.1:6379" } }`.
    pub(super) stores: Option<At<Named<Store>>>,
    /// The presence plugin: who of an account is there, on which device, and whether they can be called. It is mounted with `upstream:
    /// presence` in a resource.
    ///
    /// Default: none, and nothing can mount it. Example: `{ accounts: [{ sid: AC0123456789abcdef0123456789abcdef, auth_token: { env:
    /// AC_AUTH_TOKEN } }] }`.
    #[serde(default, deserialize_with = "present")]
    pub(super) presence: Option<At<Presence>>,
}
