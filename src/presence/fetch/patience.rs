//! How long a server may take, and what is tried again: the usual, and what a URL's fragment says instead.
//!
//! `#ct=&rt=&tt=&rc=&rp=`: milliseconds to connect, until the first byte and in all, how many retries, and after what. A value
//! outside of its range is passed over, since a call is better followed with the usual limits than not at all.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::StatusCode;

use super::{FetchError, Limits};

/// The limits of one request with its redirects and retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patience {
    /// `total` is for all tries together.
    pub(super) limits: Limits,
    /// Tries beside the first.
    pub(super) retries: u32,
    /// Before the first retry; it grows by as much with each.
    pub(super) pause: Duration,
    pub(super) after: After,
}

/// After what a request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct After {
    /// No connection.
    pub(super) unconnected: bool,
    /// Not one byte in time.
    pub(super) silent: bool,
    /// Status 4xx.
    pub(super) client_error: bool,
    /// Status 5xx.
    pub(super) server_error: bool,
}

impl Patience {
    /// As the fragment of that URL says, where it says something.
    pub(super) fn overridden(mut self, url: &str) -> Self {
        let fragment = url.split_once('#').map_or("", |(_, fragment)| fragment);
        for (name, value) in form_urlencoded::parse(fragment.as_bytes()) {
            match &*name {
                "ct" => milliseconds(&mut self.limits.connect, &value, 100..=10_000),
                "rt" => milliseconds(&mut self.limits.silence, &value, 100..=15_000),
                "tt" => milliseconds(&mut self.limits.total, &value, 100..=15_000),
                "rc" => {
                    let retries = value.parse().ok().filter(|retries| *retries <= 5);
                    self.retries = retries.unwrap_or(self.retries);
                }
                "rp" => self.after = After::of(&value).unwrap_or(self.after),
                _ => {}
            }
        }
        self
    }

    /// Whether that is tried again, if there is a retry left.
    pub(super) fn retries_after(&self, outcome: Result<StatusCode, FetchError>) -> bool {
        match outcome {
            Ok(status) if status.is_client_error() => self.after.client_error,
            Ok(status) if status.is_server_error() => self.after.server_error,
            Err(FetchError::Connect | FetchError::Resolve) => self.after.unconnected,
            Err(FetchError::Silent) => self.after.silent,
            _ => false,
        }
    }
}

impl After {
    /// Reads words divided by commas; `None` if not one is known.
    fn of(words: &str) -> Option<Self> {
        let mut after = Self::default();
        for word in words.split(',').map(str::trim) {
            match word {
                "ct" => after.unconnected = true,
                "rt" => after.silent = true,
                "4xx" => after.client_error = true,
                "5xx" => after.server_error = true,
                "all" => {
                    after = Self {
                        unconnected: true,
                        silent: true,
                        client_error: true,
                        server_error: true,
                    }
                }
                _ => {}
            }
        }
        (after != Self::default()).then_some(after)
    }
}

fn milliseconds(limit: &mut Duration, text: &str, range: RangeInclusive<u64>) {
    let given = text.parse().ok().filter(|given| range.contains(given));
    *limit = given.map_or(*limit, Duration::from_millis);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> Patience {
        Patience {
            limits: Limits::within(Duration::from_secs(15)),
            retries: 1,
            pause: Duration::ZERO,
            after: After {
                unconnected: true,
                ..After::default()
            },
        }
    }

    #[test]
    fn a_fragment_overrides_the_limits() {
        let given = usual().overridden("http://a/?ct=1#ct=100&rt=2000&tt=15000&rc=5&rp=rt,5xx");
        let limits = Limits {
            connect: Duration::from_millis(100),
            silence: Duration::from_secs(2),
            total: Duration::from_secs(15),
        };
        assert_eq!((given.limits, given.retries), (limits, 5));
        assert!(given.after.silent && given.after.server_error);
        assert!(!given.after.unconnected && !given.after.client_error);
        let all = usual().overridden("http://a#rp=all").after;
        assert!(all.silent && all.unconnected && all.client_error && all.server_error);
    }

    #[test]
    fn what_is_out_of_range_is_passed_over() {
        for fragment in [
            "",
            "#",
            "#ct=99&rt=15001&tt=0&rc=6&rp=",
            "#ct=10001&rt=-1&tt=1e3&rc=x&rp=sometimes",
            "#sni=y&edge=ashburn",
        ] {
            let url = format!("http://a/{fragment}");
            assert_eq!(usual().overridden(&url), usual(), "{fragment}");
        }
    }

    #[test]
    fn only_what_is_named_is_tried_again() {
        let outcomes = [
            (Err(FetchError::Connect), "ct"),
            (Err(FetchError::Resolve), "ct"),
            (Err(FetchError::Silent), "rt"),
            (Ok(StatusCode::NOT_FOUND), "4xx"),
            (Ok(StatusCode::BAD_GATEWAY), "5xx"),
        ];
        for (outcome, word) in outcomes {
            for named in ["ct", "rt", "4xx", "5xx"] {
                let patience = usual().overridden(&format!("http://a/#rp={named}"));
                assert_eq!(
                    patience.retries_after(outcome),
                    named == word,
                    "{outcome:?}"
                );
            }
        }
        // Whatever was begun is never begun again.
        let all = usual().overridden("http://a/#rp=all");
        for outcome in [
            Ok(StatusCode::OK),
            Ok(StatusCode::FOUND),
            Err(FetchError::Timeout),
            Err(FetchError::Protocol),
            Err(FetchError::RefusedAddress),
        ] {
            assert!(!all.retries_after(outcome), "{outcome:?}");
        }
    }
}
