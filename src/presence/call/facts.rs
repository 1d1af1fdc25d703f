//! What does not change about a call, and what every request about it tells.

use std::time::Duration;

use super::words::CallStatus;
use crate::presence::name::Name;
use crate::presence::settings::Unavailable;

/// What does not change about a call.
#[derive(Debug, Clone)]
pub(in crate::presence) struct Facts {
    pub(in crate::presence) sid: String,
    pub(in crate::presence) account: String,
    pub(in crate::presence) from: String,
    pub(in crate::presence) to: String,
    /// The application whose instructions are followed.
    pub(in crate::presence) application: Option<String>,
    /// The customer's own parameters.
    pub(in crate::presence) parameters: Vec<(String, String)>,
    /// Whose availability every request tells, beside the called.
    pub(in crate::presence) clients: Vec<Name>,
    pub(in crate::presence) unavailable: Unavailable,
    /// How long a lost device may take to come back.
    pub(in crate::presence) grace: Duration,
    pub(in crate::presence) fallback: Option<String>,
}

impl Facts {
    /// What every request about the call tells, at that status.
    pub(in crate::presence) fn fields(&self, status: CallStatus) -> Vec<(String, String)> {
        let own = [
            ("CallSid", self.sid.as_str()),
            ("AccountSid", &self.account),
            ("ApiVersion", "2010-04-01"),
            ("Direction", "inbound"),
            ("CallStatus", status.as_str()),
            ("From", &self.from),
            ("Caller", &self.from),
            ("To", &self.to),
            ("Called", &self.to),
        ];
        let application = self.application.as_deref();
        let application = application.map(|sid| ("ApplicationSid", sid));
        let own = own.into_iter().chain(application);
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        own.chain(self.parameters.iter().cloned()).collect()
    }

    /// The client that is called, if it is one.
    pub(super) fn called(&self) -> Option<Name> {
        let name = self.to.strip_prefix("client:").unwrap_or(&self.to);
        Name::new(name).ok().filter(|_| !name.starts_with('+'))
    }
}
