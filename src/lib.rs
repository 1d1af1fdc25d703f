//! Tidegate: an admission-control sidecar.

pub mod admission;
pub mod classify;
pub mod clock;
pub mod proxy;
pub mod telemetry;
pub mod admin;
