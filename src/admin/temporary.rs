//! The calls about temporary overrides: a limit's maximum for a while, without touching the configuration.
//!
//! They survive a reload, and end by themselves. Bounded in number and in time, so that what an operator does in a hurry does not
//! become the configuration that nobody can read. Never more than a number: what a limit counts is the file's.

use std::time::Duration;

use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::Operations;
use super::api::{Answer, BODY_MAX, Query, json_answer, problem, text};
use crate::admission::{AccountName, TemporaryFault, Whose};

/// The longest: what is needed for longer belongs into the configuration.
const LASTS_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The body of an override.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    max: u32,
    #[serde(rename = "for")]
    lasts: String,
    account: Option<String>,
    group: Option<String>,
}

/// The overrides of one limit.
pub(super) fn list(operations: &dyn Operations, limit: &str) -> Answer {
    if operations.policy().limit(limit).is_none() {
        return refused(TemporaryFault::UnknownLimit);
    }
    let overrides = operations.overrides().remove(limit);
    json_answer(StatusCode::OK, &Value::Array(overrides.unwrap_or_default()))
}

/// Puts a maximum in force for a while.
pub(super) async fn put(operations: &dyn Operations, limit: &str, body: Incoming) -> Answer {
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        return problem(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is longer than 64 KiB or broke off",
        );
    };
    let wanted: Wanted = match serde_json::from_slice(&body.to_bytes()) {
        Ok(wanted) => wanted,
        Err(error) => {
            let detail = format!(
                "the body is {{\"max\": 50, \"for\": \"30m\"}}, with \"account\" or \"group\" if it is for one: {error}"
            );
            return problem(StatusCode::BAD_REQUEST, &detail);
        }
    };
    let lasts = humantime::parse_duration(&wanted.lasts).ok();
    let lasts = lasts.filter(|lasts| *lasts >= Duration::from_secs(1) && *lasts <= LASTS_MAX);
    let Some(lasts) = lasts else {
        return problem(
            StatusCode::BAD_REQUEST,
            "`for` is a number and a unit from 1s to 7d, such as 30m; what is needed for longer belongs into the configuration",
        );
    };
    let whose = match whose(wanted.account.as_deref(), wanted.group.as_deref()) {
        Ok(whose) => whose,
        Err(detail) => return problem(StatusCode::BAD_REQUEST, detail),
    };
    match operations.override_limit(limit, whose, wanted.max, lasts) {
        Ok(shown) => json_answer(StatusCode::OK, &shown),
        Err(fault) => refused(fault),
    }
}

/// Ends an override.
pub(super) fn end(operations: &dyn Operations, limit: &str, query: &Query<'_>) -> Answer {
    match whose(query.value("account"), query.value("group")) {
        Err(detail) => problem(StatusCode::BAD_REQUEST, detail),
        Ok(whose) if operations.end_override(limit, &whose) => text(StatusCode::NO_CONTENT, ""),
        Ok(_) => problem(
            StatusCode::NOT_FOUND,
            "this limit has no such override in force; `GET` of the same path lists them, and ?account= or ?group= names one",
        ),
    }
}

fn whose(account: Option<&str>, group: Option<&str>) -> Result<Whose, &'static str> {
    match (account, group) {
        (None, None) => Ok(Whose::Everyone),
        (Some(account), None) => AccountName::new(account.as_bytes())
            .map(Whose::Account)
            .map_err(|_| "an account's name is 1 to 128 printable ASCII characters without space, quote or backslash"),
        (None, Some(group)) => Ok(Whose::Group(group.into())),
        (Some(_), Some(_)) => Err("an override is for one account or for one group"),
    }
}

fn refused(fault: TemporaryFault) -> Answer {
    let status = match fault {
        TemporaryFault::UnknownLimit => StatusCode::NOT_FOUND,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    problem(status, &fault.to_string())
}
