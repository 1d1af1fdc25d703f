//! The only place that asks for the time.
//!
//! Every part takes a [`Clock`] or an instant as an argument, so that tests can move time by hand.
//! Never reads a clock outside this file (`.clippy.toml` bans it).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the time comes from: the machine, or a test's hand.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    Machine,
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    base: Instant,
    unix_base: Duration,
    elapsed_nanos: AtomicU64,
}

impl Clock {
    /// A clock that stands still until [`advance`](Self::advance) moves it.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the place that asks")]
    pub fn manual() -> Self {
        let base = Instant::now();
        Self(Source::Manual(Arc::new(Manual {
            base,
            unix_base: since_the_epoch(),
            elapsed_nanos: AtomicU64::new(0),
        })))
    }

    /// Moves a manual clock forward; the machine's clock moves by itself, and is left alone.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            manual.elapsed_nanos.fetch_add(nanos, Ordering::SeqCst);
        }
    }

    /// The monotonic instant of now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the place that asks")]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::Machine => Instant::now(),
            Source::Manual(manual) => {
                manual.base + Duration::from_nanos(manual.elapsed_nanos.load(Ordering::SeqCst))
            }
        }
    }

    /// The wall clock, as the time since the Unix epoch: for logs and tokens, never for waiting.
    #[must_use]
    pub fn unix_time(&self) -> Duration {
        match &self.0 {
            Source::Machine => since_the_epoch(),
            Source::Manual(manual) => {
                manual.unix_base + Duration::from_nanos(manual.elapsed_nanos.load(Ordering::SeqCst))
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the place that asks")]
fn since_the_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual();
        let start = clock.now();
        assert_eq!(clock.now(), start);
        clock.advance(Duration::from_secs(3));
        assert_eq!(clock.now() - start, Duration::from_secs(3));
    }
}
