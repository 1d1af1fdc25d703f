//! What an operator does while traffic flows: looks at the page, ends a request, overrides a limit for a while.

mod cancel;
mod events;
mod overrides;
mod page;
mod served;

use serde_json::Value;

use crate::support::client::{self, Response};
use crate::support::eventually;
use crate::support::sidecar::Sidecar;

/// A call of the admin API, as an operator's tool makes it.
async fn admin(gate: &Sidecar, method: &str, path: &str, body: &str) -> Response {
    let fields = [("host", "localhost")];
    client::ask(&gate.admin, method, path, &fields, body).await
}

/// Waits until exactly one request is in that state, and returns its row.
async fn only(gate: &Sidecar, state: &str) -> Value {
    let mut row = Value::Null;
    eventually(&format!("one request that is {state}"), async || {
        let rows = gate.get_admin(&format!("/v1/requests?state={state}")).await;
        let rows = rows.as_array().cloned().unwrap_or_default();
        row = rows.first().cloned().unwrap_or_default();
        rows.len() == 1
    })
    .await;
    row
}

/// Ends the request of a row, which must succeed.
async fn end(gate: &Sidecar, row: &Value) {
    let path = format!("/v1/requests/{}", row["id"]);
    let answer = admin(gate, "DELETE", &path, "").await;
    assert_eq!(answer.status, 204, "{row}: {}", answer.text());
}

/// Waits until the access log on the standard output has a line of that path, and returns it.
async fn logged(gate: &Sidecar, path: &str) -> Value {
    let mut found = Value::Null;
    eventually(&format!("a line about {path}"), async || {
        let output = gate.output();
        let mut lines = output
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str(line).ok());
        found = lines
            .find(|line: &Value| line["path"] == path)
            .unwrap_or_default();
        !found.is_null()
    })
    .await;
    found
}
