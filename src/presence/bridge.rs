//! Bridge tokens as the plugin makes and reads them: an acceptance that carries one leads to the server that holds the call (B31).
//!
//! Among peers they share the peers' secret; alone, one that nobody but this process knows. A token is used up by being used: the branch
//! that it names can be answered once.

use std::time::Duration;

use super::call::board::LegId;
use super::name::Name;
use super::settings::Settings;
use super::token::Bridge;

/// How long an invitation can be answered: longer than anything rings.
const GOOD: Duration = Duration::from_mins(15);

/// Signs and verifies them.
#[derive(Debug)]
pub(super) struct Bridges {
    own: Option<[u8; 32]>,
}

impl Bridges {
    pub(super) fn new() -> Self {
        let mut own = [0; 32];
        // Without chance there are no bridges, rather than ones that can be guessed.
        let own = getrandom::fill(&mut own).is_ok().then_some(own);
        Self { own }
    }

    fn secret<'s>(&'s self, settings: &'s Settings) -> Option<&'s [u8]> {
        match &settings.peers {
            Some(peers) => Some(peers.secret.0.as_bytes()),
            None => self.own.as_ref().map(<[u8; 32]>::as_slice),
        }
    }

    /// What an identity that is rung shows to answer.
    pub(super) fn sign(
        &self,
        settings: &Settings,
        (call, leg): (&str, LegId),
        identity: &Name,
        now: Duration,
    ) -> Option<String> {
        let bridge = Bridge {
            call: call.to_owned(),
            branch: leg.0,
            identity: identity.clone(),
            node: settings.node.clone(),
            exp: (now + GOOD).as_secs(),
        };
        Some(bridge.sign(self.secret(settings)?))
    }

    /// Where it leads, if it is one.
    pub(super) fn verify(&self, settings: &Settings, token: &str, now: Duration) -> Option<Bridge> {
        Bridge::verify(self.secret(settings)?, token, now).ok()
    }
}
