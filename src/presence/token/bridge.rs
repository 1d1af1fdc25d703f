//! Bridge tokens: what a device that is rung shows to take up the call, at whichever node it is (B31).
//!
//! Names the call, the branch, whose it is, and the node that keeps the call: a name that is looked up among the peers and never an
//! address, so that no token leads anywhere that is not configured. Whether it was used already is the call's to know.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::own::{self, OwnFault};
use crate::presence::name::Name;

/// The content type by which bridge tokens are told from all others.
pub(super) const BRIDGE_TOKEN: &str = "tidegate-bridge;v=1";

/// Why a bridge token is refused.
pub type BridgeFault = OwnFault;

/// A place at one end of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// The sid of the call.
    pub call: String,
    /// Which of its branches.
    pub branch: u16,
    /// Who may take it.
    pub identity: Name,
    /// The node that keeps the call, as the peers call it; up to 64 characters.
    pub node: String,
    /// When it stops being good, in seconds since the Unix epoch.
    pub exp: u64,
}

impl Bridge {
    /// The token.
    #[must_use]
    pub fn sign(&self, secret: &[u8]) -> String {
        own::sign(BRIDGE_TOKEN, self, secret)
    }

    /// What a token stands for at the given wall-clock time since the Unix epoch.
    pub fn verify(secret: &[u8], token: &str, unix_time: Duration) -> Result<Self, BridgeFault> {
        let bridge: Self = own::verify(BRIDGE_TOKEN, secret, token)?;
        if own::is_over(bridge.exp, unix_time) {
            return Err(BridgeFault::Expired);
        }
        Ok(bridge)
    }
}

#[cfg(test)]
mod tests {
    use super::super::own::OWN_MAX;
    use super::*;
    use crate::presence::name::NAME_MAX;

    const SECRET: &[u8] = b"secret";
    const NOW: u64 = 1_800_000_000;

    fn bridge(identity: &str, node: &str) -> Bridge {
        Bridge {
            call: format!("CA{}", "0".repeat(32)),
            branch: u16::MAX,
            identity: Name::new(identity).unwrap(),
            node: node.to_owned(),
            exp: NOW + 60,
        }
    }

    // B31: what was signed comes back, until its time is over.
    #[test]
    fn a_bridge_is_good_until_its_end() {
        let bridge = bridge("alice \"a\"", "a");
        let token = bridge.sign(SECRET);
        let at = |unix_time| Bridge::verify(SECRET, &token, Duration::from_secs(unix_time));
        assert_eq!(at(NOW), Ok(bridge.clone()));
        assert_eq!(at(NOW + 59), Ok(bridge));
        assert_eq!(at(NOW + 60), Err(BridgeFault::Expired));
    }

    #[test]
    fn the_longest_names_have_a_token() {
        let bridge = bridge(&"𝄞".repeat(NAME_MAX), &"n".repeat(64));
        let token = bridge.sign(SECRET);
        assert!(token.len() <= OWN_MAX, "{}", token.len());
        let verified = Bridge::verify(SECRET, &token, Duration::from_secs(NOW));
        assert_eq!(verified, Ok(bridge));
    }

    // B31: signed by the right secret, a token still says what a bridge is.
    #[test]
    fn claims_of_another_form_are_refused() {
        let whole = serde_json::to_value(bridge("alice", "a")).unwrap();
        for (key, value) in [
            ("identity", "a\u{202e}b".into()),
            ("branch", 70_000.into()),
            ("branch", (-1).into()),
            ("exp", "2099".into()),
            ("exp", (-1).into()),
            ("url", "https://a.example".into()),
            ("call", serde_json::Value::Null),
        ] {
            let mut claims = whole.clone();
            claims[key] = value;
            let token = own::sign(BRIDGE_TOKEN, &claims, SECRET);
            let verified = Bridge::verify(SECRET, &token, Duration::from_secs(NOW));
            assert_eq!(verified, Err(BridgeFault::Claims), "{claims}");
        }
    }
}
