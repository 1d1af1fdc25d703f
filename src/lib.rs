//! Tidegate: an admission-control sidecar. It stands before an HTTP API, counts the requests in flight per account and
//! resource, and lets through only what fits the limits.
//!
//! # Where is what
//!
//! | room | what it does |
//! | --- | --- |
//! | [`cli`] | what an operator types |
//! | [`app`] | the composition root: a configuration in, running parts out |
//! | [`config`] | one YAML file in, the settings of every part out, or all that is wrong with it |
//! | [`classify`] | a request's head → what it acts on and who pays |
//! | [`admission`] | the domain: limits, counts, waiting, permits, leases |
//! | [`proxy`] | the data plane: one request in one pass |
//! | [`presence`] | the plugin: who is there, for whom, and told once |
//! | [`admin`] | the API for operators |
//! | [`telemetry`] | metrics, the access log, the requests in progress |
//! | [`clock`] | the only place that asks for the time |
//! | [`head`] | the head of a request or an answer, as it came |
//! | [`wheel`] | many deadlines, few of which come to pass |
//!
//! # Who may import whom
//!
//! ```text
//! main → cli → app ─┬→ config ──→ (settings types of every part below)
//!                   ├→ proxy ───→ classify → admission → clock
//!                   │        └──→ telemetry → admission
//!                   ├→ admin ───→ admission, telemetry
//!                   └→ presence → proxy::plugin (the trait), telemetry, clock, wheel
//!
//! classify, proxy, telemetry → head, which knows nobody
//! ```
//!
//! `tests/it/tidy.rs` reads the imports and fails with the sentence that is broken.
//!
//! # Invariants, as absences
//!
//! 1. Nothing in [`admission`] reads a header, a file or the wall clock.
//! 2. No permit without an owner: it is in a request's context, in its response body, in a tunnel, in a drained orphan, in a
//!    lease, on its way to one who waits, or being dropped.
//! 3. No lock across an await. No unbounded channel, map, queue, label or log.
//! 4. A reload applies whole or not at all, and never forgets what is in flight.
//! 5. Tidegate's own trouble (log disk full, a panic in the admin API or in the plugin) never stops traffic.
//! 6. A refusal by a limit is answered before the upstream is touched; of the body at most 64 KiB was read, and none if it did not wait.
//! 7. A metric, a log field, a status field and the docs use one word for one thing.
//!
//! With the `loom` feature only [`admission`] and [`clock`] are built, over the model checker's atomics.

#[cfg(not(feature = "loom"))]
pub mod admin;
pub mod admission;
#[cfg(not(feature = "loom"))]
pub mod app;
#[cfg(not(feature = "loom"))]
pub mod classify;
#[cfg(not(feature = "loom"))]
pub mod cli;
pub mod clock;
#[cfg(not(feature = "loom"))]
pub mod config;
#[cfg(not(feature = "loom"))]
pub mod head;
#[cfg(not(feature = "loom"))]
pub mod presence;
#[cfg(not(feature = "loom"))]
pub mod proxy;
#[cfg(not(feature = "loom"))]
pub mod telemetry;
pub mod wheel;
