//! What the program tells about itself: metrics, the access log, traces, and what is in progress.
//!
//! The only place that names a metric or formats a log line. Gauges are read from the cells when Prometheus asks, so
//! nothing is counted twice; counters are sharded, so that threads do not meet. Never on the way of a request: a full
//! log queue drops lines and counts them, and that of spans does too.

mod access_log;
mod audit;
mod collector;
mod hangup;
mod line;
mod live;
mod metrics;
pub mod names;
mod notify;
mod presence;
mod record;
mod share;
mod trace;

pub use access_log::{AccessLog, LogFormat, LogSettings, LogTarget};
pub use audit::Auditor;
pub use collector::{Sources, UpstreamHealth, exposition};
pub use hangup::Hangup;
pub use line::is_printable;
pub use live::{Entered, Live, Request, RequestId, State};
pub use metrics::{DecisionWord, GateStats, ReloadResult, ResourceStats, ResourceTable, Totals};
pub use notify::NotifyStats;
pub use presence::{
    CallEnd, CallPhase, EditResult, PresenceStats, PresenceUse, WebhookKind, WebhookOutcome,
};
pub use record::{Record, is_failure, number};
pub use share::Share;
pub use trace::{Batch, Spans, Trace, TraceSettings, rejected_by};
