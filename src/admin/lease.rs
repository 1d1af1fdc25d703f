//! The calls about leases: list, renew, release.
//!
//! An upstream that was told `x-admission-lease` makes them; an id that this process did not give out is answered as one that
//! has expired.

use std::time::Duration;

use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::Operations;
use super::api::{Answer, BODY_MAX, json_answer, problem, text};
use crate::admission::{LeaseId, LeaseView};

/// The body of a renewal.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Renewal {
    ttl: String,
}

/// All leases, those that end first in front.
pub(super) fn list(operations: &dyn Operations, rows_max: usize) -> Answer {
    let leases = operations.leases().list(rows_max);
    let rows = leases.iter().map(|lease| row(operations, lease)).collect();
    json_answer(StatusCode::OK, &Value::Array(rows))
}

/// Makes a lease last longer, or end sooner.
pub(super) async fn renew(operations: &dyn Operations, id: &str, body: Incoming) -> Answer {
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        return problem(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is longer than 64 KiB or broke off",
        );
    };
    let renewal = serde_json::from_slice::<Renewal>(&body.to_bytes());
    let ttl = renewal
        .ok()
        .and_then(|renewal| humantime::parse_duration(&renewal.ttl).ok())
        .filter(|ttl| *ttl > Duration::ZERO);
    let Some(ttl) = ttl else {
        return problem(
            StatusCode::BAD_REQUEST,
            "the body is {\"ttl\": \"30m\"}: a number and a unit",
        );
    };
    let now = operations.now();
    let renewed = LeaseId::parse(id).and_then(|id| operations.leases().renew(id, ttl, now));
    renewed.map_or_else(unknown, |lease| {
        json_answer(StatusCode::OK, &row(operations, &lease))
    })
}

/// Ends a lease; or, while its request is not answered yet, has it never begin.
pub(super) fn release(operations: &dyn Operations, id: &str) -> Answer {
    let Some(id) = LeaseId::parse(id) else {
        return unknown();
    };
    let live = operations.live();
    let early = || {
        live.find(id.request())
            .is_some_and(|request| request.release_early())
    };
    if operations.leases().release(id, operations.now(), early) {
        text(StatusCode::NO_CONTENT, "")
    } else {
        unknown()
    }
}

fn row(operations: &dyn Operations, lease: &LeaseView) -> Value {
    let now = operations.now();
    let seconds = |span: Duration| (span.as_secs_f64() * 1e3).round() / 1e3;
    json!({
        "id": lease.id.to_string(),
        "account": lease.account.as_str(),
        "resource": &*lease.resource,
        "age_seconds": seconds(now.saturating_duration_since(lease.since)),
        "expires_in_seconds": seconds(lease.expires.saturating_duration_since(now)),
    })
}

fn unknown() -> Answer {
    problem(
        StatusCode::NOT_FOUND,
        "no lease has this id: it was released, has expired, or never began; nothing was changed",
    )
}
