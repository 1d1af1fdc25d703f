//! The sections for those who run it: `admin`, `access_log`, `metrics`, `notify`, `stores`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{At, Scalar, Secret, present};

/// The admin API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Admin {
    /// Where it listens. Changing it needs a restart.
    ///
    /// Default: `127.0.0.1:9901`. Example: `unix:/run/tidegate-admin.sock`.
    pub(in crate::config) address: Option<At<String>>,
    /// The bearer token that every call but `/live` and `/ready` must show; off loopback, writes are refused without one.
    ///
    /// Default: none. Example: `{ env: TIDEGATE_ADMIN_TOKEN }`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) token: Option<At<Secret>>,
}

/// One line a request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AccessLog {
    /// Where it goes: a file, `stdout`, `stderr` or `off`. A relative path begins at the configuration's own directory.
    ///
    /// Default: `stdout`. Example: `/var/log/tidegate/access.log`.
    #[schemars(extend("x-kind" = "file or word"))]
    pub(in crate::config) path: Option<At<Scalar>>,
    /// How a line looks.
    ///
    /// Default: `json`. Example: `human`.
    pub(in crate::config) format: Option<LogFormat>,
    /// How many of the successes are written: from 0 (none) to 1 (all). What was refused, failed (400 and above) or was cut short is
    /// always written. A line that was chosen tells the share as `sample`, so that whoever counts lines can count it as `1 / sample`. Lines
    /// are chosen by the trace's id while traces are on, else by the request's, so that every sidecar chooses the same.
    /// Either id may be the client's own, in `traceparent` or `x-request-id`: clients can choose whether their successes are written.
    ///
    /// Default: `1`. Range: 0 to 1. Example: `0.01`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) sample: Option<At<Scalar>>,
}

/// What `/metrics` tells beyond what it always does.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Metrics {
    /// How many accounts are told apart, by what they have in flight: those that had most in the last six seconds, and all `other`
    /// ones together. Each account that is ever among them is a series in Prometheus, so few are better.
    ///
    /// Default: none, since a label that clients can choose has no bound. Range: 1 to 100. Example: `20`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) accounts: Option<At<Scalar>>,
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum LogFormat {
    /// One JSON object.
    Json,
    /// Columns for people, in colour if the target is a terminal and `NO_COLOR` is not set.
    Human,
}

/// Who is told when an account meets a limit.
///
/// An episode begins with the first refusal in the name of a limit, or with going over it by `when_full: [{ admit: … }]`, and is over when
/// there was neither for `quiet`. A limit whose `per` holds `account` has an episode for each account; any other has one for all, told
/// with `account: null`. At most 4,096 episodes go on at once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Notify {
    /// Where a JSON object is posted at the beginning of each episode. It is tried up to five times within two minutes; whatever becomes of
    /// it, requests do not wait for it. Any address may be named, loopback and private ones among them.
    ///
    /// Required. Example: `http://127.0.0.1:7000/over-limit`.
    pub(in crate::config) url: At<String>,
    /// What it is signed with: the header `x-twilio-signature` has the base64 of the HMAC-SHA1 of the URL as sent, whose parameter `bodySHA256`
    /// is the hash of the body.
    ///
    /// Default: none, and nothing is signed. Example: `{ env: HOOK_SECRET }`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) secret: Option<At<Secret>>,
    /// How long an account must not have met the limit before an episode is over.
    ///
    /// Default: `1m`. Range: 100ms to 24h. Example: `10m`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) quiet: Option<At<Scalar>>,
}

/// A server that holds the counts of shared limits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the feature is not built; the file may not ask for it"
)]
pub(in crate::config) struct Store {
    /// Its address. Not built yet.
    ///
    /// Required. Example: `redis://127.0.0.1:6379`.
    pub(in crate::config) redis: At<String>,
    /// How long a sidecar's slice is its own. Not built yet.
    ///
    /// Default: `5s`. Example: `10s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) lease: Option<At<Scalar>>,
    /// How many sidecars are assumed until the store was seen. Not built yet.
    ///
    /// Default: `1`. Example: `3`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) replicas: Option<At<Scalar>>,
    /// What holds while the store cannot be reached. Not built yet.
    ///
    /// Default: `share`. Example: `open`.
    pub(in crate::config) when_away: Option<At<WhenAway>>,
}

/// What holds while a store cannot be reached.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum WhenAway {
    /// Each sidecar has its share.
    Share,
    /// Everything passes.
    Open,
    /// Nothing passes.
    Closed,
}
