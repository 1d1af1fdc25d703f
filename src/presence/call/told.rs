//! The field `Presence` of a request for instructions: who of those that it is about is there (B34).

use serde_json::json;

use crate::presence::account::Account;
use crate::presence::name::Name;
use crate::presence::subscription::form::write;

/// Identities whose availability a request tells, and the longest text of it, in bytes.
const TOLD_MAX: usize = 10;
const TOLD_BYTES_MAX: usize = 4 * 1024;

/// The availability of these, as a request for instructions tells it (B34).
pub(in crate::presence) fn told(account: &Account, who: &[Name]) -> String {
    let mut known = std::collections::BTreeMap::new();
    let mut length = 2;
    for identity in who {
        if known.len() == TOLD_MAX || known.contains_key(identity) {
            continue;
        }
        let item = account.with(|state| state.registry.item(identity, true));
        let devices = item.devices.unwrap_or_default();
        let devices: Vec<_> = devices
            .iter()
            .map(|of| json!({ "device": of.device, "status": of.status }))
            .collect();
        let told = json!({ "status": item.status, "ringable": item.ringable, "devices": devices });
        length += write(&told).len() + write(identity).len() + 2;
        if length > TOLD_BYTES_MAX {
            break;
        }
        known.insert(identity.clone(), told);
    }
    write(&known)
}
