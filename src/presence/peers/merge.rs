//! One answer of several servers: what is shown of an identity that has devices at more than one (B5).
//!
//! Each server consolidates its own devices; of those answers the one that counts most is shown, by the same order, with calls in progress
//! before all. Counts add up. Plain JSON in and out, so that a newer peer's additions pass.

use serde_json::{Map, Value};

use crate::presence::status::{Order, Status};

/// Puts what peers show into an answer of this server.
pub(in crate::presence) fn merge(
    own: &mut Map<String, Value>,
    peers: Vec<Map<String, Value>>,
    order: &Order,
) {
    for mut peer in peers {
        for (identity, own) in own.iter_mut() {
            if let Some(theirs) = peer.remove(identity) {
                one(own, theirs, order);
            }
        }
    }
}

/// Puts what a peer shows of one identity into what is shown here.
pub(in crate::presence) fn one(own: &mut Value, mut theirs: Value, order: &Order) {
    if !theirs.is_object() {
        return;
    }
    let count = |item: &Value| item["device_count"].as_u64().unwrap_or(0);
    let devices = count(own) + count(&theirs);
    let is_ringable = own["ringable"] == true || theirs["ringable"] == true;
    let mut listed = own["devices"].take();
    let wants_devices = listed.is_array();
    let more = theirs.get_mut("devices").and_then(Value::as_array_mut);
    if let (Some(all), Some(more)) = (listed.as_array_mut(), more) {
        all.append(more);
    }
    let is_known = count(&theirs) > 0 || is_in_call(&theirs);
    if is_known && (count(own) == 0 || rank(&theirs, order) < rank(own, order)) && !is_in_call(own)
    {
        let version = own["version"].take();
        *own = theirs;
        own["version"] = version;
    }
    let Some(item) = own.as_object_mut() else {
        return;
    };
    item.insert("device_count".into(), devices.into());
    item.insert("ringable".into(), is_ringable.into());
    if wants_devices {
        item.insert("devices".into(), listed);
    } else {
        item.remove("devices");
    }
}

fn is_in_call(item: &Value) -> bool {
    item["reason"] == "in_call"
}

/// Who counts most comes first.
fn rank(item: &Value, order: &Order) -> (bool, u8) {
    let status = item["status"].as_str().and_then(Status::of_word);
    let rank = status.map_or(u8::MAX, |status| order.rank(status));
    (!is_in_call(item), rank)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(status: &str, reason: Option<&str>, devices: &[&str]) -> Value {
        json!({
            "status": status, "reason": reason, "device_count": devices.len(), "version": devices.len(),
            "ringable": status == "available", "devices": devices,
        })
    }

    // B5, B26: devices at two servers make one answer by the same order, wherever it is asked for.
    #[test]
    fn the_status_that_counts_most_is_shown_wherever_it_is() {
        let order = Order::default();
        let merged = |own: Value, theirs: Value| {
            let mut own = own;
            one(&mut own, theirs, &order);
            own
        };
        let both = merged(
            item("away", None, &["1"]),
            item("available", None, &["2", "3"]),
        );
        assert_eq!(both["status"], "available");
        assert_eq!(
            (&both["device_count"], &both["version"]),
            (&json!(3), &json!(1))
        );
        assert_eq!(both["devices"], json!(["1", "2", "3"]));
        assert_eq!(both["ringable"], true);
        let absent = merged(item("away", None, &["1"]), item("offline", None, &[]));
        assert_eq!(absent["status"], "away");
        let only_there = merged(item("available", None, &[]), item("busy", None, &["2"]));
        assert_eq!(
            only_there["status"], "busy",
            "an assumed status gives way to a reported one"
        );
        let in_call = merged(
            item("available", None, &["1"]),
            item("busy", Some("in_call"), &["2"]),
        );
        assert_eq!(in_call["reason"], "in_call");
        let here = merged(
            item("busy", Some("in_call"), &["1"]),
            item("available", None, &["2"]),
        );
        assert_eq!(here["reason"], "in_call");
    }
}
