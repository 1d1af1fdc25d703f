//! How the servers of one account are reached: signed with its token, and nowhere that its URLs must not lead.
//!
//! Where an address may be is decided for each URL by itself: an origin of the configuration is the operator's own word, any other
//! is a customer's. Clones share what they hold.

use std::sync::Arc;

use http::Uri;
use ipnet::IpNet;

use super::Fetcher;
use super::egress::Egress;
use super::reference::origin_of;
use crate::clock::Clock;
use crate::presence::settings::SecretText;
use crate::telemetry::PresenceStats;

/// What all requests to an account's servers share.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Sends them.
    pub fetcher: Fetcher,
    /// Signs them: the account's first auth token. Without one they are unsigned.
    pub secret: Option<SecretText>,
    /// The origins of the configuration's URLs, as [`origin`](super::reference::origin) spells them.
    pub trusted: Arc<[String]>,
    /// Networks that other origins may be in, beside public addresses.
    pub egress: Arc<[IpNet]>,
    /// Counts what became of them.
    pub stats: Arc<PresenceStats>,
    /// Measures how long they took.
    pub clock: Clock,
}

impl Reach {
    /// Where a request to that URL may go.
    pub(super) fn egress(&self, url: &Uri) -> Egress<'_> {
        let is_trusted = origin_of(url).is_some_and(|origin| self.trusted.contains(&origin));
        if is_trusted {
            Egress::Trusted
        } else {
            Egress::Checked(&self.egress)
        }
    }
}
