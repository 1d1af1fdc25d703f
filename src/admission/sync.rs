//! The shim between the concurrent parts and the model checker.
//!
//! With the `loom` feature, `cell` and `waiting` run on loom's atomics and lock, which explore every interleaving; otherwise
//! on the standard library's and `parking_lot`'s. Never used outside `admission`.

#[cfg(feature = "loom")]
pub(super) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
#[cfg(not(feature = "loom"))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

#[cfg(not(feature = "loom"))]
pub(super) use parking_lot::Mutex;

/// loom's lock with the face of `parking_lot`'s.
#[cfg(feature = "loom")]
#[derive(Debug, Default)]
pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(feature = "loom")]
impl<T> Mutex<T> {
    pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0
            .lock()
            .expect("a model that panics has failed already")
    }
}
