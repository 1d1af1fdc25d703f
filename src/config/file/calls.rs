//! What the section `presence` says about calls: whose instructions run, which names stand for several, and who else is asked.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{At, Secret, present};

/// The customer's own part of a call or a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Application {
    /// Instructions for calls.
    ///
    /// Default: none; required without `messaging`. Example: `{ url: "http://127.0.0.1:4000/voice" }`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) voice: Option<Script>,
    /// Instructions for messages, in the form of `voice`.
    ///
    /// Default: none; required without `voice`. Example: `{ url: "http://127.0.0.1:4000/message" }`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(extend("x-form" = "presence.accounts[].applications.NAME.voice"))]
    pub(in crate::config) messaging: Option<Script>,
    /// Identities whose availability the request for instructions tells, beside those that are called.
    ///
    /// Default: `[]`. Range: up to 10, each once. Example: `[alice, bob]`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) clients: Option<At<Vec<At<String>>>>,
}

/// Where instructions are.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Script {
    /// Where they are asked for: `http` or `https`, and the whole address. Behind a `#` may stand what holds for the request: the
    /// milliseconds to connect (`ct`, 100 to 10000), to the answer's first byte (`rt`, 100 to 15000) and in all (`tt`, 100 to 15000), how
    /// often it is tried again (`rc`, 0 to 5), and after what (`rp`: of `4xx`, `5xx`, `ct`, `rt` and `all`).
    ///
    /// Required. Range: up to 2,048 characters. Example: `http://127.0.0.1:4000/voice#ct=2000&rc=2&rp=5xx,ct`.
    pub(in crate::config) url: At<String>,
    /// Where they are asked for when that fails; in the same form.
    ///
    /// Default: none. Range: up to 2,048 characters. Example: `http://127.0.0.1:4001/voice`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) fallback_url: Option<At<String>>,
}

/// A name that stands for several identities.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Destination {
    /// The identities.
    ///
    /// Required. Range: 1 to 100, each once. Example: `[alice, bob]`.
    pub(in crate::config) members: At<Vec<At<String>>>,
    /// Which of those that can be rung are.
    ///
    /// Default: `all`. Example: `least_loaded`.
    pub(in crate::config) choose: Option<ChooseWord>,
}

/// Which members of a destination are rung.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ChooseWord {
    /// All that can be, at once.
    #[default]
    All,
    /// The first that can be, in the order of `members`.
    InOrder,
    /// The one with the fewest calls handled.
    LeastLoaded,
}

/// What a caller hears when nobody was reached.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum UnavailableWord {
    /// That the line is busy.
    #[default]
    Busy,
    /// The text that the callee left with its status, and without one that the line is busy.
    Text,
    /// That the line is busy, and the callee gets a message that it was called.
    Message,
}

/// Where the requests of calls may go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Egress {
    /// Networks that are allowed beside public addresses. What this file names by its URL is allowed anyway.
    ///
    /// Default: `[]`. Range: up to 100. Example: `["10.0.0.0/8"]`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) allow: Option<At<Vec<At<String>>>>,
}

/// Other Tidegates of the same deployment.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Peers {
    /// Signs and verifies what they say to each other; all have the same.
    ///
    /// Required. Range: 32 bytes or more are advised. Example: `{ env: PEER_SECRET }`.
    pub(in crate::config) secret: At<Secret>,
    /// The others.
    ///
    /// Required. Range: up to 16. Example: `[{ name: b, url: "https://127.0.0.1:8443" }]`.
    pub(in crate::config) nodes: At<Vec<PeerNode>>,
}

/// Another Tidegate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PeerNode {
    /// Its `node`; no two have the same, and none has this one's.
    ///
    /// Required. Range: 1 to 32 letters, digits, `-` and `_`. Example: `b`.
    pub(in crate::config) name: At<String>,
    /// Where its gate listens: `http` or `https`, host, and the port if it is not the scheme's own; nothing behind them.
    ///
    /// Required. Example: `https://127.0.0.1:8443`.
    pub(in crate::config) url: At<String>,
}
