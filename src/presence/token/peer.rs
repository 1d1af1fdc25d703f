//! Peer tokens: how one node of a deployment shows another who asks (B5).
//!
//! Made anew for each request or connection and good for less than a minute, for one node alone, so that what leaks is of little
//! use. Who made it must be a configured peer. Never opens a customer's routes: the kind is its own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::own::{self, OwnFault};
use crate::presence::settings::{Peer, Peers};

/// The content type by which peer tokens are told from all others.
pub(super) const PEER_TOKEN: &str = "tidegate-peer;v=1";

/// How long a token is good: half of what is believed, because the peers' clocks may differ by the other half.
const LIFETIME: Duration = Duration::from_secs(30);

/// The longest that a token may still be good.
const LIFETIME_MAX: Duration = Duration::from_secs(60);

/// Why a peer token is refused.
pub type PeerFault = OwnFault;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    /// The node that asks.
    iss: String,
    /// The node that is asked.
    aud: String,
    exp: u64,
}

/// A token with which `node` asks its peer `to`.
#[must_use]
pub fn sign(peers: &Peers, node: &str, to: &Peer, unix_time: Duration) -> String {
    let claims = Claims {
        iss: node.to_owned(),
        aud: to.name.clone(),
        exp: (unix_time + LIFETIME).as_secs(),
    };
    own::sign(PEER_TOKEN, &claims, peers.secret.0.as_bytes())
}

/// Which peer asks `node`, at the given wall-clock time since the Unix epoch.
pub fn verify<'a>(
    peers: &'a Peers,
    node: &str,
    token: &str,
    unix_time: Duration,
) -> Result<&'a Peer, PeerFault> {
    let claims: Claims = own::verify(PEER_TOKEN, peers.secret.0.as_bytes(), token)?;
    if own::is_over(claims.exp, unix_time) {
        return Err(PeerFault::Expired);
    }
    if Duration::from_secs(claims.exp) > unix_time + LIFETIME_MAX {
        return Err(PeerFault::Lifetime);
    }
    let mut known = peers.nodes.iter();
    let asks = known.find(|peer| peer.name == claims.iss && claims.aud == node);
    asks.ok_or(PeerFault::Audience)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::settings::SecretText;

    const NOW: u64 = 1_800_000_000;

    fn peers(names: &[&str]) -> Peers {
        let peer = |name: &&str| Peer {
            name: (*name).to_owned(),
            url: format!("https://{name}.example"),
        };
        Peers {
            secret: SecretText("secret".to_owned()),
            nodes: names.iter().map(peer).collect(),
        }
    }

    fn signed(from: &str, to: &str, exp: u64) -> String {
        let claims = Claims {
            iss: from.to_owned(),
            aud: to.to_owned(),
            exp,
        };
        own::sign(PEER_TOKEN, &claims, b"secret")
    }

    // B5: a peer is known by its token, for less than a minute, and however clocks differ by half of one.
    #[test]
    fn a_peer_is_known_for_a_short_while() {
        let (of_a, of_b) = (peers(&["b", "c"]), peers(&["a", "c"]));
        let at = |seconds: u64| Duration::from_secs(NOW + seconds);
        let token = sign(&of_a, "a", &of_a.nodes[0], at(100));
        for now in [70, 100, 129] {
            let asks = verify(&of_b, "b", &token, at(now)).unwrap();
            assert_eq!(asks.name, "a");
        }
        assert_eq!(verify(&of_b, "b", &token, at(130)), Err(PeerFault::Expired));
        assert_eq!(verify(&of_b, "b", &token, at(69)), Err(PeerFault::Lifetime));
        let eternal = signed("a", "b", u64::MAX);
        assert_eq!(
            verify(&of_b, "b", &eternal, at(0)),
            Err(PeerFault::Lifetime)
        );
    }

    // B5: for one node alone, and from a configured one.
    #[test]
    fn a_token_is_from_one_node_to_another() {
        let of_b = peers(&["a", "c"]);
        let now = Duration::from_secs(NOW);
        for (from, to) in [("a", "c"), ("x", "b"), ("b", "b"), ("", "b"), ("a", "")] {
            let token = signed(from, to, NOW + 30);
            let verified = verify(&of_b, "b", &token, now);
            assert_eq!(verified, Err(PeerFault::Audience), "{from} to {to}");
        }
    }
}
