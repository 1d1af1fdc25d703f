//! One request with its redirects and its retries, up to the answer that counts.
//!
//! Each hop is checked, signed and given its cookies for its own URL. What leaves the origin that was asked is not signed, nor is
//! anything behind it, so that no server can have another's URL signed. A request is repeated only as long as nothing of an answer
//! came, or where the URL's fragment asks for it. Never goes from https to http, and never tells what a server answered.

mod hop;
#[cfg(test)]
mod tests;

use http::StatusCode;

use hop::Hop;

use super::cookies::Jar;
use super::patience::Patience;
use super::reach::Reach;
use super::{Answer, FetchError, Wanted};
use crate::presence::instruction::Verb;
use crate::telemetry::WebhookOutcome;

/// Redirects of one request.
const REDIRECTS_MAX: usize = 5;

/// A request, as it is made first.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// An absolute URL; its fragment overrides limits, and is never sent.
    pub url: &'a str,
    /// How it is asked for.
    pub method: Verb,
    /// The form: names and values.
    pub fields: &'a [(String, String)],
    /// What the receiver knows a repetition by.
    pub idempotency: &'a str,
}

/// The answer that counts: its status is a success.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) answer: Answer,
    /// What relative links are relative to: without what a form added to it.
    pub(super) url: String,
}

/// Why there is no such answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the answer's status is {}", .0.as_u16())]
    Status(StatusCode),
    #[error("there are more than {REDIRECTS_MAX} redirects")]
    Redirects,
    #[error("a redirect leads from https to http, which is not followed")]
    Downgrade,
}

/// Asks, and follows where that leads.
pub(super) async fn follow(
    reach: &Reach,
    cookies: &mut Jar,
    ask: &Ask<'_>,
    usual: Patience,
    wanted: Wanted,
) -> Result<Arrived, Lost> {
    let patience = usual.overridden(ask.url);
    let all = Box::pin(all_hops(reach, cookies, ask, &patience, wanted));
    let in_time = tokio::time::timeout(patience.limits.total, all).await;
    in_time.unwrap_or(Err(Lost::Fetch(FetchError::Timeout)))
}

async fn all_hops(
    reach: &Reach,
    cookies: &mut Jar,
    ask: &Ask<'_>,
    patience: &Patience,
    wanted: Wanted,
) -> Result<Arrived, Lost> {
    let mut hop = Hop::first(ask)?;
    let (mut redirects, mut retries) = (0, 0);
    loop {
        let outgoing = hop.outgoing(reach, cookies, ask, patience, wanted)?;
        let outcome = reach.fetcher.send(outgoing, reach.egress(&hop.url)).await;
        if let Ok(answer) = &outcome {
            cookies.keep(&hop.url, &answer.headers, reach.clock.unix_time());
        }
        let status = outcome.as_ref().map(|answer| answer.status);
        if retries < patience.retries && patience.retries_after(status.map_err(|error| *error)) {
            retries += 1;
            tokio::time::sleep(patience.pause * retries).await;
            continue;
        }
        let answer = outcome?;
        if let Some(next) = hop.next(&answer)? {
            if redirects == REDIRECTS_MAX {
                return Err(Lost::Redirects);
            }
            redirects += 1;
            hop = next;
        } else if answer.status.is_success() {
            let url = hop.url.to_string();
            return Ok(Arrived { answer, url });
        } else {
            return Err(Lost::Status(answer.status));
        }
    }
}

impl Lost {
    /// The number under which the vendor's documentation knows it.
    pub(super) fn code(self) -> u32 {
        let error = match self {
            Self::Fetch(error) => error,
            Self::Status(_) | Self::Downgrade => return 11_200,
            Self::Redirects => return 11_215,
        };
        match error {
            FetchError::TooLarge => 11_200,
            FetchError::Connect | FetchError::Silent | FetchError::Timeout => 11_205,
            FetchError::Protocol => 11_206,
            FetchError::BadUrl | FetchError::Resolve | FetchError::RefusedAddress => 11_210,
            FetchError::Tls => 11_220,
            FetchError::OtherName => 11_235,
            FetchError::OutOfDate => 11_236,
            FetchError::Certificate => 11_237,
        }
    }

    /// Whether the server is given up, or what it said refused.
    pub(super) fn outcome(self) -> WebhookOutcome {
        match self {
            Self::Status(status) if status.is_server_error() => WebhookOutcome::GaveUp,
            Self::Status(_) | Self::Redirects | Self::Downgrade => WebhookOutcome::Refused,
            Self::Fetch(FetchError::BadUrl | FetchError::RefusedAddress | FetchError::TooLarge) => {
                WebhookOutcome::Refused
            }
            Self::Fetch(_) => WebhookOutcome::GaveUp,
        }
    }
}

/// The URL without its fragment.
pub(super) fn without_fragment(url: &str) -> &str {
    url.split('#').next().unwrap_or_default()
}
