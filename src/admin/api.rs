//! Every call of the admin API, in one table.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::guard::Access;
use super::{Ask, Operations, candidate, guard, lease, overview, page, temporary};
use crate::admission::{AdaptiveUse, LeaseId, Reason, Registry};
use crate::telemetry::State;

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Longest body of a call, in bytes.
pub(super) const BODY_MAX: usize = 64 * 1024;
/// Most rows of a list.
const ROWS_MAX: usize = 1_000;
/// Rows of a list for whoever does not say.
const TOP_DEFAULT: usize = 20;
const REQUESTS_DEFAULT: usize = 100;
/// The upstream that is a plugin inside the gate; the name is reserved.
const PLUGIN: &str = "presence";

/// Answers one call.
pub(super) async fn answer(shared: &Arc<dyn Operations>, request: Request<Incoming>) -> Answer {
    let operations = &**shared;
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let is_read = matches!(head.method, Method::GET | Method::HEAD);
    match (path, is_read) {
        ("/live", true) => return text(StatusCode::OK, "live\n"),
        ("/ready", true) if operations.is_ready() => return text(StatusCode::OK, "ready\n"),
        ("/ready", true) => return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        (_, true) => {
            if let Some(file) = page::file(path, &head.headers) {
                return file;
            }
        }
        _ => {}
    }
    let access = match path {
        // Explaining changes nothing, although it has a body.
        "/v1/explain" => Access::Read,
        "/v1/overview" | "/v1/events" if is_read => Access::Look,
        _ if is_read => Access::Read,
        _ => Access::Write,
    };
    if let Err((status, detail)) = guard::check(&operations.settings(), &head.headers, access) {
        return problem(status, detail);
    }
    let query = Query::parse(head.uri.query().unwrap_or_default());
    // One slash: a second one makes another path, which the guard below would not know.
    let segments: Vec<_> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    match (segments.as_slice(), head.method.as_str()) {
        (["metrics"], "GET" | "HEAD") => metrics(operations),
        (["v1", "status"], "GET" | "HEAD") => json_answer(StatusCode::OK, &status(operations)),
        (["v1", "overview"], "GET" | "HEAD") => {
            json_answer(StatusCode::OK, &overview::overview(operations))
        }
        (["v1", "events"], "GET") => events(shared),
        (["v1", "limits", name, "keys"], "GET" | "HEAD") => keys(operations, name, &query),
        (["v1", "limits", name, "override"], "GET" | "HEAD") => temporary::list(operations, name),
        (["v1", "limits", name, "override"], "PUT") => temporary::put(operations, name, body).await,
        (["v1", "limits", name, "override"], "DELETE") => temporary::end(operations, name, &query),
        (["v1", "accounts"], "GET" | "HEAD") => accounts(operations, &query),
        (["v1", "candidates"], "GET" | "HEAD") => match query.number("top", TOP_DEFAULT) {
            Ok(top) => candidate::list(operations, top),
            Err(()) => problem(StatusCode::BAD_REQUEST, "`top` is a number from 1 to 1000"),
        },
        (["v1", "requests"], "GET" | "HEAD") => requests(operations, &query),
        (["v1", "leases"], "GET" | "HEAD") => match query.number("limit", REQUESTS_DEFAULT) {
            Ok(rows_max) => lease::list(operations, rows_max),
            Err(()) => problem(
                StatusCode::BAD_REQUEST,
                "`limit` is a number from 1 to 1000",
            ),
        },
        (["v1", "leases", id, "renew"], "POST") => lease::renew(operations, id, body).await,
        (["v1", "leases", id], "DELETE") => lease::release(operations, id),
        (["v1", "requests", id], "DELETE") => cancel(operations, id),
        (["v1", "config"], "GET" | "HEAD") => {
            json_answer(StatusCode::OK, &operations.configuration())
        }
        (["v1", "reload"], "POST") => {
            let reload = operations.reload();
            let refused = StatusCode::UNPROCESSABLE_ENTITY;
            json_answer(
                if reload.is_in_force {
                    StatusCode::OK
                } else {
                    refused
                },
                &reload.answer,
            )
        }
        (["v1", "explain"], "POST") => explain(operations, body).await,
        (
            ["metrics"]
            | [
                "v1",
                "status" | "overview" | "accounts" | "candidates" | "requests" | "leases"
                | "config",
            ]
            | ["v1", "limits", _, "keys"],
            _,
        ) => not_allowed("GET, HEAD"),
        (["v1", "events"], _) => not_allowed("GET"),
        (["v1", "limits", _, "override"], _) => not_allowed("GET, HEAD, PUT, DELETE"),
        (["v1", "reload" | "explain"], _) => not_allowed("POST"),
        (["v1", "requests" | "leases", _], _) => not_allowed("DELETE"),
        (["v1", "leases", _, "renew"], _) => not_allowed("POST"),
        _ => problem(
            StatusCode::NOT_FOUND,
            "there are / for people, and /live /ready /metrics /v1/status /v1/overview /v1/events /v1/limits/{name}/keys \
             /v1/limits/{name}/override /v1/accounts /v1/candidates /v1/requests /v1/leases /v1/config, POST /v1/reload /v1/explain /v1/leases/{id}/renew, \
             and DELETE /v1/requests/{id} /v1/leases/{id}",
        ),
    }
}

/// The answer of a handler that panicked.
pub(super) fn panicked() -> Answer {
    problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the call failed inside the gate; see its log",
    )
}

fn status(operations: &dyn Operations) -> Value {
    let policy = operations.policy();
    let snapshot = operations.registry().snapshot(&policy);
    let learned: Vec<_> = policy.adaptive().collect();
    let overrides = operations.overrides();
    let limits: Vec<_> = snapshot
        .limits
        .iter()
        .map(|limit| {
            let mut seen = overview::limit(limit, &overrides);
            let of_limit = learned.iter().filter(|of| of.limit == limit.name);
            let adaptive: Vec<_> = of_limit.map(learned_by_key).collect();
            if !adaptive.is_empty() {
                seen["adaptive"] = adaptive.into();
            }
            seen
        })
        .collect();
    json!({
        "generation": operations.generation(),
        "uptime_seconds": operations.uptime().as_secs(),
        "in_flight": snapshot.in_flight,
        "queued": snapshot.queued,
        "limits": limits,
        "resources": operations.resources(),
        "upstreams": operations.upstreams(),
    })
}

/// What latency has taught one key of an adaptive limit.
fn learned_by_key(of: &AdaptiveUse) -> Value {
    let numbers = &of.numbers;
    json!({
        "key": &*of.key,
        "max": numbers.limit,
        "latency_seconds": numbers.latency_short.as_secs_f64(),
        "usual_latency_seconds": numbers.latency_long.as_secs_f64(),
        "queue": numbers.queue,
        "throughput_correlation": numbers.throughput_correlation,
        "latency_correlation": numbers.latency_correlation,
        "samples": numbers.samples,
        "decision": numbers.decision.as_str(),
    })
}

/// The live page's stream.
fn events(operations: &Arc<dyn Operations>) -> Answer {
    let Some(listener) = operations.views().0.listen(operations) else {
        let mut answer = problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "as many event streams are open as may be; close one, or ask /v1/overview now and then",
        );
        let fields = answer.headers_mut();
        fields.insert(RETRY_AFTER, HeaderValue::from_static("30"));
        return answer;
    };
    let mut answer = Response::new(StreamBody::new(listener).boxed_unsync());
    let fields = answer.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    fields.insert(CONTENT_TYPE, kind);
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn metrics(operations: &dyn Operations) -> Answer {
    let mut answer = text(StatusCode::OK, operations.metrics());
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

fn keys(operations: &dyn Operations, name: &str, query: &Query<'_>) -> Answer {
    let policy = operations.policy();
    let Some(limit) = policy.limit(name) else {
        return problem(
            StatusCode::NOT_FOUND,
            "no limit has that name; /v1/status lists them",
        );
    };
    let Ok(top) = query.number("top", TOP_DEFAULT) else {
        return problem(StatusCode::BAD_REQUEST, "`top` is a number from 1 to 1000");
    };
    let rows = operations.registry().keys(&policy, limit, top);
    let rows: Vec<_> = rows.iter().map(overview::key).collect();
    json_answer(StatusCode::OK, &Value::Array(rows))
}

/// The largest users of the last complete interval.
fn accounts(operations: &dyn Operations, query: &Query<'_>) -> Answer {
    let rows_max = Registry::ACCOUNTS_MAX;
    let Ok(top) = query.number_up_to("top", TOP_DEFAULT, rows_max) else {
        let detail = format!(
            "`top` is a number from 1 to {rows_max}: no more are remembered of accounts that left"
        );
        return problem(StatusCode::BAD_REQUEST, &detail);
    };
    let rows = operations.registry().accounts(top);
    let rows = rows.iter().map(overview::account);
    json_answer(StatusCode::OK, &rows.collect())
}

/// Requests in progress, oldest first.
fn requests(operations: &dyn Operations, query: &Query<'_>) -> Answer {
    let Ok(rows_max) = query.number("limit", REQUESTS_DEFAULT) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "`limit` is a number from 1 to 1000",
        );
    };
    let older_than = query.value("older_than").unwrap_or("0s");
    let Ok(older_than) = humantime::parse_duration(older_than) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "`older_than` is a number and a unit: 250ms, 30s, 5m, 1h or 2h30m",
        );
    };
    let wants = |name: &str, value: &str| query.value(name).is_none_or(|wanted| wanted == value);
    let now = operations.now();
    let mut rows = Vec::new();
    operations.live().each(|request| {
        let age = now.saturating_duration_since(request.started);
        let state = request.state();
        if age >= older_than
            && wants("account", request.account.as_str())
            && wants("resource", &request.resource)
            && wants("state", state.as_str())
        {
            rows.push((request.started, row(request, state, age)));
        }
    });
    rows.sort_by_key(|(started, _)| *started);
    let rows = rows
        .into_iter()
        .take(rows_max)
        .map(|(_, row)| row)
        .collect();
    json_answer(StatusCode::OK, &Value::Array(rows))
}

/// Ends a request: a wait by a refusal, one without an answer by 503, a lease by its release, and what is under way by breaking it off.
fn cancel(operations: &dyn Operations, id: &str) -> Answer {
    let found = id.parse().ok().and_then(|id| operations.live().find(id));
    let Some(request) = found else {
        return problem(
            StatusCode::NOT_FOUND,
            "no request of that id is in progress; /v1/requests lists them",
        );
    };
    let is_ended = match request.state() {
        State::Queued => {
            let ticket = request.ticket();
            ticket.is_some_and(|of| operations.registry().dismiss(of, Reason::Cancelled))
        }
        State::Lease => {
            let lease = LeaseId::of(request.id);
            let leases = operations.leases();
            leases.release(lease, operations.now(), || false)
        }
        State::Forwarded | State::Streaming | State::Tunnel => request.hang_up(),
    };
    if is_ended {
        let (account, path) = (&request.account, request.path());
        let state = request.state().as_str();
        let request_id = request.request_id.as_str();
        tracing::info!(id = request.id, request_id, %account, path, state, "request cancelled by an operator");
        return text(StatusCode::NO_CONTENT, "");
    }
    if request.state() == State::Lease && &*request.upstream == PLUGIN {
        let detail = format!(
            "this is a call, which the presence plugin leads: it is ended there, by `DELETE {}` at the gate with the account's key",
            request.path()
        );
        return problem(StatusCode::CONFLICT, &detail);
    }
    problem(
        StatusCode::CONFLICT,
        "the request goes on to another state or ends at this moment; look again, then repeat",
    )
}

pub(super) fn row(request: &crate::telemetry::Request, state: State, age: Duration) -> Value {
    json!({
        "id": request.id,
        "account": request.account.as_str(),
        "resource": &*request.resource,
        "method": request.head.method.as_str(),
        "path": request.path(),
        "state": state.as_str(),
        "age_seconds": (age.as_secs_f64() * 1e3).round() / 1e3,
        "upstream": &*request.upstream,
        "request_id": request.request_id.as_str(),
    })
}

async fn explain(operations: &dyn Operations, body: Incoming) -> Answer {
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        return problem(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is longer than 64 KiB or broke off",
        );
    };
    let ask: Ask = match serde_json::from_slice(&body.to_bytes()) {
        Ok(ask) => ask,
        Err(error) => {
            let detail = format!(
                "the body is not {{\"method\", \"path\", \"headers\", \"client\"}}: {error}"
            );
            return problem(StatusCode::BAD_REQUEST, &detail);
        }
    };
    match operations.explain(&ask) {
        Ok(explained) => json_answer(StatusCode::OK, &explained),
        Err(detail) => problem(StatusCode::BAD_REQUEST, &detail),
    }
}

/// The parameters of a call: plain `name=value` pairs, percent-decoded.
#[derive(Debug)]
pub(super) struct Query<'a>(Vec<(std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn parse(query: &'a str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).collect())
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| &**value)
            .filter(|value| !value.is_empty())
    }

    fn number(&self, name: &str, default: usize) -> Result<usize, ()> {
        self.number_up_to(name, default, ROWS_MAX)
    }

    fn number_up_to(&self, name: &str, default: usize, max: usize) -> Result<usize, ()> {
        let Some(text) = self.value(name) else {
            return Ok(default);
        };
        let number = text.parse().map_err(|_| ())?;
        if (1..=max).contains(&number) {
            Ok(number)
        } else {
            Err(())
        }
    }
}

pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()).boxed_unsync());
    *answer.status_mut() = status;
    let fields = answer.headers_mut();
    fields.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

pub(super) fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let mut answer = text(status, value.to_string());
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

pub(super) fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({ "title": title, "status": status.as_u16(), "detail": detail });
    let mut answer = json_answer(status, &body);
    let fields = answer.headers_mut();
    fields.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if status == StatusCode::UNAUTHORIZED {
        fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path has other methods",
    );
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}
