//! Whether a request says that it was tried before.
//!
//! Clients and proxies that retry by themselves number their attempts in headers of their own. Nothing else tells a retry from a
//! second request of the same kind, so one that says nothing is a first attempt. Never trusted with more than that: whoever
//! lies gains the rights that it has anyway.

use http::HeaderName;

use crate::head::Fields;

/// Earlier attempts (gRPC, A6: client retries).
const GRPC: &str = "grpc-previous-rpc-attempts";
/// This attempt's number, from 1 (Envoy, `include_attempt_count_in_request`).
const ENVOY: &str = "x-envoy-attempt-count";
/// `attempt=2; max=3` (the AWS SDKs).
const AWS: &str = "amz-sdk-request";

/// How retries are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retries {
    /// A header of the operator's clients, whose value is anything but `0` on a retry.
    pub header: Option<HeaderName>,
}

impl Retries {
    /// Whether the request was tried before.
    #[must_use]
    pub fn is_retry(&self, fields: &Fields) -> bool {
        let text = |name: &str| fields.text(name).map(str::trim);
        let number = |name: &str| text(name)?.parse::<u32>().ok();
        let own = self.header.as_ref();
        let own = own.and_then(|name| fields.get(name.as_str()));
        own.is_some_and(|value| value.trim_ascii() != b"0")
            || number(GRPC).is_some_and(|earlier| earlier > 0)
            || number(ENVOY).is_some_and(|attempt| attempt > 1)
            || text(AWS)
                .and_then(attempt_of_aws)
                .is_some_and(|attempt| attempt > 1)
    }
}

fn attempt_of_aws(value: &str) -> Option<u32> {
    let mut parts = value.split(';');
    parts.find_map(|part| part.trim().strip_prefix("attempt=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_retry(name: &'static str, value: &str) -> bool {
        let retries = Retries {
            header: Some(HeaderName::from_static("x-again")),
        };
        let mut fields = Fields::default();
        fields.push(name.as_bytes(), value.as_bytes());
        retries.is_retry(&fields)
    }

    // G22: attempts are numbered from 0, from 1, or as the operator's clients do; nonsense is a first attempt.
    #[test]
    fn retries_are_told_by_the_headers_that_number_attempts() {
        for (name, first, again) in [
            (GRPC, "0", "1"),
            (ENVOY, "1", " 2"),
            (AWS, "attempt=1; max=3", "max=3;attempt=2"),
            ("x-again", "0", "yes"),
        ] {
            assert!(!is_retry(name, first), "{name}: {first}");
            assert!(is_retry(name, again), "{name}: {again}");
        }
        for (name, nonsense) in [(GRPC, "-1"), (ENVOY, "99999999999"), (AWS, "attempt=x")] {
            assert!(!is_retry(name, nonsense), "{name}: {nonsense}");
        }
        assert!(!is_retry("x-other", "5"));
    }
}
