//! What a customer's server tells to do with a call: a document of verbs, as this router without media understands it.
//!
//! Plain values. Nothing here fetches, rings or waits; what a verb means for a call in progress is the call's to decide.

mod attribute;
mod dial;
mod edit;
#[cfg(test)]
mod hostile;
mod read;
mod xml;

pub use edit::{EditOrder, Edited, edit};
pub use read::{DocumentFault, read};

use std::time::Duration;

/// Longest document, in bytes.
pub const DOCUMENT_MAX: usize = 64 * 1024;
/// Nouns of one `<Dial>`.
pub const NOUNS_MAX: usize = 10;

/// A document that was understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// In the order written.
    pub verbs: Vec<Instruction>,
    /// What was passed over.
    pub warnings: Vec<Warning>,
}

/// Something of a document that is passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The number under which the vendor's documentation knows it.
    pub code: u32,
    /// What it is about, cut to 128 characters.
    pub about: String,
}

/// One verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// Reach somebody.
    Dial(Dial),
    /// Go on with another document.
    Redirect(Link),
    /// Refuse the call before it is answered.
    Reject(RejectReason),
    /// Wait.
    Pause(Duration),
    /// End the call.
    Hangup,
    /// Handed over to the caller as text.
    Say(String),
    /// Passed over: there is no media.
    Play,
    /// A message to somebody.
    Sms(Sms),
    /// A verb that cannot be followed without media, by its name.
    Media(String),
}

/// Where another document is, as it was written: perhaps relative to the document it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The URL.
    pub url: String,
    /// How it is asked for.
    pub method: Verb,
}

/// How a URL is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verb {
    /// With a form as its body.
    #[default]
    Post,
    /// With the form in its query.
    Get,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RejectReason {
    /// Nobody wants it.
    #[default]
    Rejected,
    /// The line is busy.
    Busy,
}

/// `<Dial>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// Whom to reach; never more than [`NOUNS_MAX`].
    pub nouns: Vec<Noun>,
    /// The document to go on with when it is over.
    pub action: Option<Link>,
    /// How long it may ring: 5 s to 600 s.
    pub timeout: Duration,
    /// How long they may talk: 1 s to 86,400 s.
    pub time_limit: Duration,
    /// Who calls, as the called are shown it.
    pub caller_id: Option<String>,
    /// One noun after the other, each for the whole timeout.
    pub sequential: bool,
}

impl Default for Dial {
    /// What it means when it says nothing.
    fn default() -> Self {
        Self {
            nouns: Vec::new(),
            action: None,
            timeout: Duration::from_secs(30),
            time_limit: Duration::from_hours(4),
            caller_id: None,
            sequential: false,
        }
    }
}

/// Somebody to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noun {
    /// A client.
    Client(Client),
    /// What there is no way to from here, by the name of its element: such a branch fails.
    Other(String),
}

/// `<Client>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Whom it names: an identity, a device of one, or a destination. Trimmed; perhaps no valid name.
    pub identity: String,
    /// Told to whoever is rung.
    pub parameters: Vec<(String, String)>,
    /// Who is told how it goes.
    pub status_callback: Option<StatusCallback>,
}

/// Who is told how a branch goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusCallback {
    /// Where, and how.
    pub link: Link,
    /// Of what.
    pub events: Events,
}

/// The events that a status callback is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events {
    /// The invitation was sent.
    pub initiated: bool,
    /// The device rings.
    pub ringing: bool,
    /// Somebody answered.
    pub answered: bool,
    /// It is over.
    pub completed: bool,
}

/// `<Sms>` or `<Message>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sms {
    /// `client:` and an identity; the caller where it is absent.
    pub to: Option<String>,
    /// Who sends it, if not the called.
    pub from: Option<String>,
    /// The text.
    pub body: String,
}
