//! The call about candidates: what each would have done, and to whom.
//!
//! Everything in it is on paper: nobody was refused. Never changes anything.

use http::StatusCode;
use serde_json::{Value, json};

use super::api::{Answer, json_answer};
use super::{Operations, overview};
use crate::admission::{LimitUse, WouldReject};

/// All candidates in the order of the file, each with the `top` accounts that it would have refused most.
pub(super) fn list(operations: &dyn Operations, top: usize) -> Answer {
    let policy = operations.policy();
    let snapshot = operations.registry().snapshot(&policy);
    let rows = policy.candidates().zip(&snapshot.candidates);
    let rows = rows.map(|(candidate, seen)| {
        let accounts = candidate.would_reject(top);
        json!({
            "name": &*seen.name,
            "admitted": seen.would.0,
            "rejected": seen.would.1,
            "limits": seen.limits.iter().map(limit).collect::<Vec<_>>(),
            "would_reject": accounts.iter().map(account).collect::<Vec<_>>(),
        })
    });
    json_answer(StatusCode::OK, &Value::Array(rows.collect()))
}

fn limit(limit: &LimitUse) -> Value {
    json!({
        "name": &*limit.name,
        "per": limit.per,
        "count": overview::counted(limit.counted),
        "max": limit.max,
        "in_flight": limit.in_flight,
        "keys": limit.keys,
        "admitted": limit.would.0,
        "rejected": limit.would.1,
    })
}

fn account(of: &WouldReject) -> Value {
    json!({
        "account": of.account.as_str(),
        "rejected": of.rejected,
        "error": of.error,
    })
}
