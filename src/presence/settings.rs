//! What the plugin is told: the accounts, their keys, and how presence behaves.
//!
//! Built by `config`, or by a test; the plugin never sees the file it came from. Secrets are never printed.

use std::time::Duration;

use ipnet::IpNet;

use super::name::Name;
use super::status::{Order, Status};

/// Everything about the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The tenants; no two have one sid, and no two keys one id.
    pub accounts: Vec<AccountSettings>,
    /// What those are taken for who were never heard of, or not for too long.
    pub assume: Status,
    /// How often sockets are written to at least.
    pub heartbeat: Duration,
    /// How long a lost socket may take to come back before its device is gone.
    pub grace: Duration,
    /// Which of several devices' statuses counts.
    pub order: Order,
    /// Calls and ringings of one device at once.
    pub calls_per_device: u32,
    /// Registrations of one identity at once.
    pub devices_per_identity: usize,
    /// Whether devices whose user is away are rung.
    pub ring_away: bool,
    /// Open sockets of all accounts.
    pub max_sockets: usize,
    /// Open sockets of one account.
    pub max_sockets_per_account: usize,
    /// New sockets a second, beyond which clients are asked to come later.
    pub connects_per_second: u32,
    /// Origins whose pages may use the API; empty for any.
    pub allowed_origins: Vec<String>,
    /// The resource that a call's permit counts as.
    pub call_resource: String,
    /// What a caller hears when the instructions end with nobody reached.
    pub unavailable: Unavailable,
    /// Networks that customers' URLs may lead to beside public addresses.
    pub egress: Vec<IpNet>,
    /// The name of this process among its peers.
    pub node: String,
    /// Those that are asked for devices registered there.
    pub peers: Option<Peers>,
}

/// What a caller hears when the instructions end with nobody reached (B27).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unavailable {
    /// The line is busy.
    #[default]
    Busy,
    /// The text that the callee left with its status, and else busy.
    Text,
    /// The callee gets a message that it was called.
    Message,
}

/// Other processes of the same deployment (B5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// Signs and verifies what peers say to each other.
    pub secret: SecretText,
    /// Each with a name of its own, none of them this process's.
    pub nodes: Vec<Peer>,
}

/// Another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name, as it calls itself.
    pub name: String,
    /// Scheme, host and port of its gate.
    pub url: String,
}

/// One tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountSettings {
    /// `AC` and 32 hexadecimal digits.
    pub sid: String,
    /// Verify capability tokens and basic authentication; the first signs webhooks. May be empty.
    pub auth_tokens: Vec<SecretText>,
    /// Verify access tokens and basic authentication.
    pub keys: Vec<KeySettings>,
    /// Who is told about presence changes.
    pub webhooks: Vec<String>,
    /// Who may ask.
    pub api: ApiAccess,
    /// What runs when a client calls out, by the application's sid: `AP` and 32 hexadecimal digits.
    pub applications: Vec<(String, Application)>,
    /// What runs when a number is called, by the number.
    pub numbers: Vec<(String, Application)>,
    /// Names that stand for several identities, in the order of the file.
    pub destinations: Vec<(Name, Destination)>,
}

/// The customer's own part of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Application {
    /// Instructions for calls.
    pub voice: Option<Script>,
    /// Instructions for messages.
    pub messaging: Option<Script>,
    /// Whose availability the request for instructions tells (B34).
    pub clients: Vec<Name>,
}

/// Where instructions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// An absolute URL; its fragment may override the limits of the request.
    pub url: String,
    /// Where they are when that fails.
    pub fallback_url: Option<String>,
}

/// A name that stands for several identities (B8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Each once.
    pub members: Vec<Name>,
    /// Which of those that can be rung are.
    pub choose: Choose,
}

/// Which members of a destination are rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choose {
    /// All that can be.
    #[default]
    All,
    /// The first that can be.
    InOrder,
    /// The one with the fewest calls handled (B9).
    LeastLoaded,
}

impl AccountSettings {
    /// Whether credentials count that are of this key, or of the account itself by its sid.
    #[must_use]
    pub fn has_key(&self, key: &str) -> bool {
        let is_account = key == self.sid && !self.auth_tokens.is_empty();
        is_account || self.keys.iter().any(|known| known.id == key)
    }
}

/// A key of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySettings {
    /// `SK` and 32 hexadecimal digits.
    pub id: String,
    /// Any of them verifies, so that one can be replaced by another; never empty.
    pub secrets: Vec<SecretText>,
}

/// Who may read presence (B35).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApiAccess {
    /// Tokens, as far as they allow.
    #[default]
    Tokens,
    /// Account keys only.
    Internal,
}

/// A secret; it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Default for Settings {
    /// What an empty section means.
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            assume: Status::Offline,
            heartbeat: Duration::from_secs(10),
            grace: Duration::from_secs(15),
            order: Order::default(),
            calls_per_device: 1,
            devices_per_identity: 10,
            ring_away: false,
            max_sockets: 100_000,
            max_sockets_per_account: 10_000,
            connects_per_second: 1_000,
            allowed_origins: Vec::new(),
            call_resource: "calls".into(),
            unavailable: Unavailable::default(),
            egress: Vec::new(),
            node: "a".into(),
            peers: None,
        }
    }
}
