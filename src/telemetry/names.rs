//! Every metric's name and help, and every word that a label may hold.
//!
//! Dashboards and alerts of other people hang on these. A test compares the names with what `/metrics` prints.

/// Requests answered, by resource, decision and reason.
pub const REQUESTS: (&str, &str) = (
    "tidegate_requests_total",
    "Requests answered, by resource, decision and reason.",
);
/// What limits in shadow mode would have decided.
pub const SHADOW: (&str, &str) = (
    "tidegate_shadow_total",
    "Decisions that limits in shadow mode would have taken.",
);
/// What candidates would have decided, as whole sets.
pub const CANDIDATE_REQUESTS: (&str, &str) = (
    "tidegate_candidate_requests_total",
    "Decisions that candidates would have taken about requests that were let in.",
);
/// The same by limit.
pub const CANDIDATE: (&str, &str) = (
    "tidegate_candidate_total",
    "Decisions of candidates by limit: what the whole set would have admitted, and what this limit would have refused first.",
);
/// Places taken, summed over the keys of a limit.
pub const IN_FLIGHT: (&str, &str) = (
    "tidegate_in_flight",
    "Places taken under a limit, summed over its keys.",
);
/// The default maximum of a limit's key.
pub const LIMIT: (&str, &str) = (
    "tidegate_limit",
    "Places that each key of a limit has by default.",
);
/// The fullest key of a limit.
pub const USED_RATIO: (&str, &str) = (
    "tidegate_limit_used_ratio",
    "Places taken over places there are, of a limit's fullest key.",
);
/// Requests that wait for a place under a limit.
pub const QUEUED: (&str, &str) = (
    "tidegate_queued",
    "Requests that wait for a place under a limit.",
);
/// Requests that were lent a place.
pub const EARLY_GRANTS: (&str, &str) = (
    "tidegate_early_grants_total",
    "Waiting requests that were served above a limit's maximum, because others were near completion.",
);
/// How far above its maximum a limit went by that.
pub const EARLY_OVERSHOOT: (&str, &str) = (
    "tidegate_early_overshoot_max",
    "The most places above its maximum that a limit ever had in use after serving a request early.",
);
/// Refusals in the name of a limit.
pub const REFUSED: (&str, &str) = (
    "tidegate_refused_total",
    "Requests that a limit refused, at once or after a wait in vain.",
);
/// What an autoscaler scales by.
pub const DEMAND: (&str, &str) = (
    "tidegate_demand",
    "Places that would be in use under a limit if it refused nobody: in flight, and queued, and refusals a second times the mean seconds a place is held.",
);
/// Numbers that an operator put in force for a while.
pub const OVERRIDES: (&str, &str) = (
    "tidegate_limit_overrides",
    "Temporary overrides of a limit's maximum that are in force.",
);
/// The largest accounts.
pub const ACCOUNT_IN_FLIGHT: (&str, &str) = (
    "tidegate_account_in_flight",
    "Requests in flight of the accounts that had most in the last six seconds, and of all `other` ones; only with metrics.accounts.",
);
/// What became of notifications.
pub const NOTIFICATIONS: (&str, &str) = (
    "tidegate_notifications_total",
    "Notifications that an account met a limit: delivered, failed after all tries, or dropped because too many were due at once.",
);
/// Who looks at the live page.
pub const EVENT_STREAMS: (&str, &str) = (
    "tidegate_event_streams",
    "Event streams of the admin API that are open.",
);
/// How long requests waited for their places.
pub const QUEUE_WAIT: (&str, &str) = (
    "tidegate_queue_wait_seconds",
    "Seconds that requests waited for a place, in vain or not, by resource.",
);
/// Keys with something in flight.
pub const KEYS: (&str, &str) = ("tidegate_keys", "Keys of a limit with something in flight.");
/// Seconds from the request sent on to the response's head.
pub const UPSTREAM: (&str, &str) = (
    "tidegate_upstream_seconds",
    "Seconds from the request sent on to the response's head, by resource and outcome.",
);
/// Seconds from a request's head to its decision.
pub const DECISION: (&str, &str) = (
    "tidegate_decision_seconds",
    "Seconds from a request's head to its decision.",
);
/// Age of the oldest request in progress.
pub const OLDEST: (&str, &str) = (
    "tidegate_oldest_request_age_seconds",
    "Age of the oldest request in progress.",
);
/// Leases.
pub const LEASES: (&str, &str) = (
    "tidegate_leases",
    "Permits that outlived their response and were not released yet.",
);
/// Leases that nobody released.
pub const LEASES_EXPIRED: (&str, &str) = (
    "tidegate_leases_expired_total",
    "Leases that ended because nobody released them in time.",
);
/// The configuration in force.
pub const GENERATION: (&str, &str) = (
    "tidegate_config_generation",
    "Number of the configuration in force, from 1.",
);
/// Reloads by result.
pub const RELOADS: (&str, &str) = ("tidegate_config_reloads_total", "Reloads by result.");
/// Endpoints of an upstream that can be counted on.
pub const UPSTREAM_HEALTHY: (&str, &str) = (
    "tidegate_upstream_healthy",
    "Endpoints of an upstream that pass their health check and whose last requests did not all fail.",
);
/// Whether one endpoint can be counted on.
pub const ENDPOINT_HEALTHY: (&str, &str) = (
    "tidegate_endpoint_healthy",
    "1 for an endpoint that can be counted on, else 0.",
);
/// How often an endpoint was left out.
pub const ENDPOINT_EJECTIONS: (&str, &str) = (
    "tidegate_endpoint_ejections_total",
    "How often an endpoint was left out for a while because requests to it failed in a row.",
);
/// A maximum that latency moves.
pub const ADAPTIVE_LIMIT: (&str, &str) = (
    "tidegate_adaptive_limit",
    "Places that latency allows now, by limit and key.",
);
/// What an adaptive limit compares.
pub const ADAPTIVE_LATENCY: (&str, &str) = (
    "tidegate_adaptive_latency_seconds",
    "The p90 of seconds to the response's head that an adaptive limit compares: of late (short), and usually (long).",
);
/// What an adaptive limit makes of the difference.
pub const ADAPTIVE_QUEUE: (&str, &str) = (
    "tidegate_adaptive_queue",
    "Requests of an adaptive limit that are estimated to wait in the upstream.",
);
/// The guard of an adaptive limit.
pub const ADAPTIVE_CORRELATION: (&str, &str) = (
    "tidegate_adaptive_correlation",
    "How what is in flight under an adaptive limit moved together with throughput and with latency, from -1 to 1.",
);
/// What an adaptive limit decided.
pub const ADAPTIVE_WINDOWS: (&str, &str) = (
    "tidegate_adaptive_windows_total",
    "Windows of an adaptive limit, by what it decided at their end.",
);
/// Places that no request in progress accounts for.
pub const LEAKS: (&str, &str) = (
    "tidegate_leaks_detected_total",
    "Counts that stood apart from the live permits in three scans.",
);
/// Client connections open.
pub const CONNECTIONS: (&str, &str) = ("tidegate_connections", "Client connections open.");
/// Client connections turned away.
pub const CONNECTIONS_REFUSED: (&str, &str) = (
    "tidegate_connections_refused_total",
    "Client connections closed at once because max_connections were open.",
);
/// Access log lines that were dropped.
pub const LOG_DROPPED: (&str, &str) = (
    "tidegate_access_log_dropped_total",
    "Access log lines dropped because the writer was behind.",
);
/// Registrations of devices by state.
pub const PRESENCE_SESSIONS: (&str, &str) = (
    "tidegate_presence_sessions",
    "Registered devices: with a live socket, with a lost one that may come back, or kept by the API.",
);
/// Sockets and event streams of the plugin.
pub const PRESENCE_SOCKETS: (&str, &str) = (
    "tidegate_presence_sockets",
    "Sockets and event streams of the presence plugin that are open.",
);
/// Sockets that were asked to come later.
pub const PRESENCE_SOCKETS_REFUSED: (&str, &str) = (
    "tidegate_presence_sockets_refused_total",
    "New sockets of the presence plugin that were asked to come later.",
);
/// Changes of presence.
pub const PRESENCE_CHANGES: (&str, &str) = (
    "tidegate_presence_changes_total",
    "Changes of presence that were accepted; a repeated report is none.",
);
/// Messages of the plugin.
pub const PRESENCE_MESSAGES: (&str, &str) = (
    "tidegate_presence_messages_total",
    "Messages of the presence plugin: in on sockets; out to watchers on sockets, event streams and webhooks.",
);
/// What a fan-out without consolidation would have sent.
pub const PRESENCE_NAIVE: (&str, &str) = (
    "tidegate_presence_naive_messages_total",
    "Messages that telling each watcher each change by itself would have taken.",
);
/// Calls in progress.
pub const CALLS: (&str, &str) = (
    "tidegate_calls",
    "Calls in progress, by what they do: fetching instructions, dialing, in_call.",
);
/// Calls that ended.
pub const CALLS_ENDED: (&str, &str) = (
    "tidegate_calls_total",
    "Calls that ended, by their final status.",
);
/// Parameters that are not a client's to say.
pub const CALL_PARAMETERS_DROPPED: (&str, &str) = (
    "tidegate_call_parameters_dropped_total",
    "Parameters of callers that were dropped: reserved names, or more than may be.",
);
/// Webhooks.
pub const WEBHOOK: (&str, &str) = (
    "tidegate_webhook_seconds",
    "Seconds from a webhook's first try to its end, by kind and outcome.",
);

/// Documents on their way.
pub const TWIML_EDITS: (&str, &str) = (
    "tidegate_twiml_edits_total",
    "Answers of resources whose documents are edited by presence, and requests refused there, by what became of them.",
);

/// Spans that no collector has.
pub const SPANS_DROPPED: (&str, &str) = (
    "tidegate_spans_dropped_total",
    "Spans that no collector has: the queue was full, or the collector was away or did not take them.",
);

/// All names above, for the test and the docs.
pub const ALL: [&str; 49] = [
    REQUESTS.0,
    SHADOW.0,
    CANDIDATE_REQUESTS.0,
    CANDIDATE.0,
    IN_FLIGHT.0,
    LIMIT.0,
    USED_RATIO.0,
    QUEUED.0,
    REFUSED.0,
    DEMAND.0,
    OVERRIDES.0,
    ACCOUNT_IN_FLIGHT.0,
    EVENT_STREAMS.0,
    NOTIFICATIONS.0,
    EARLY_GRANTS.0,
    EARLY_OVERSHOOT.0,
    QUEUE_WAIT.0,
    KEYS.0,
    UPSTREAM.0,
    DECISION.0,
    OLDEST.0,
    LEASES.0,
    LEASES_EXPIRED.0,
    GENERATION.0,
    RELOADS.0,
    UPSTREAM_HEALTHY.0,
    ENDPOINT_HEALTHY.0,
    ENDPOINT_EJECTIONS.0,
    ADAPTIVE_LIMIT.0,
    ADAPTIVE_LATENCY.0,
    ADAPTIVE_QUEUE.0,
    ADAPTIVE_CORRELATION.0,
    ADAPTIVE_WINDOWS.0,
    LEAKS.0,
    CONNECTIONS.0,
    CONNECTIONS_REFUSED.0,
    LOG_DROPPED.0,
    SPANS_DROPPED.0,
    PRESENCE_SESSIONS.0,
    PRESENCE_SOCKETS.0,
    PRESENCE_SOCKETS_REFUSED.0,
    PRESENCE_CHANGES.0,
    PRESENCE_MESSAGES.0,
    PRESENCE_NAIVE.0,
    CALLS.0,
    CALLS_ENDED.0,
    CALL_PARAMETERS_DROPPED.0,
    WEBHOOK.0,
    TWIML_EDITS.0,
];

/// Every word that the label `reason` may hold; the first is for requests that were forwarded and answered.
pub const REASONS: [&str; 20] = [
    "none",
    "limit_reached",
    "queue_full",
    "queue_timeout",
    "draining",
    "cancelled",
    "client_departed",
    "account_invalid",
    "path_invalid",
    "unauthorized",
    "head_invalid",
    "body_invalid",
    "body_too_large",
    "client_timeout",
    "no_resource",
    "upstream_unreachable",
    "upstream_broke",
    "upstream_timeout",
    "plugin_broke",
    "signature_invalid",
];
