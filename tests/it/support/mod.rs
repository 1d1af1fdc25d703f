//! The three nouns of the black-box tests: an [`origin`], a [`sidecar`], and a [`client`].
//!
//! A test holds and releases by hand what it wants to see, and waits for conditions with one deadline;
//! nothing here sleeps for luck. The binary under test is `TIDEGATE_BIN`, or the one that cargo built.

pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod h2;
pub(crate) mod origin;
pub(crate) mod sidecar;
pub(crate) mod tls;
pub(crate) mod tools;
pub(crate) mod wire;

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a test waits for something that must come. Generous, since a busy machine is no failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The only pause: between two looks at a condition.
pub(crate) const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// The moment, for measuring how long something took.
#[expect(
    clippy::disallowed_methods,
    reason = "a test measures real time from outside"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A number from the environment, for longer runs than CI's.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment is how a person asks for a longer run"
)]
pub(crate) fn knob(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// The program under test.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment may name another build"
)]
pub(crate) fn binary() -> PathBuf {
    std::env::var("TIDEGATE_BIN")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_tidegate").to_owned())
        .into()
}

/// The future's value, or a failure that names what never came.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let value = tokio::time::timeout(PATIENCE, future).await;
    value.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// Waits until the condition holds, looking at it again and again.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
