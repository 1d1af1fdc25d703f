//! The shim between the lock-free parts and the model checker.
//!
//! With the `loom` feature, `cell` runs on loom's atomics, which explore every interleaving; otherwise on the
//! standard library's. Never used outside `admission`.

#[cfg(feature = "loom")]
pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(feature = "loom"))]
pub(super) use std::sync::atomic::{AtomicU64, Ordering};
