//! A request waits for its places: until it has them, is refused, gives up, or its client leaves.
//!
//! The domain decides whose turn it is; here are the clock, the client's own deadline, and the body, of which a little is read
//! meanwhile so that a client that leaves is noticed. A client that leaves drops the wait with the request's future. Never
//! touches the upstream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderName;

use super::Asking;
use super::context::Context;
use super::outcome::Refusal;
use super::upload::UploadFault;
use crate::admission::{Ask, Decision, Turn, Wait};
use crate::head::Head;
use crate::telemetry::DecisionWord;

/// A request that waits, with everything that it will need.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) context: Box<Context>,
    pub(super) asking: Asking,
}

/// How a wait ended.
enum Ended {
    Turn(Turn),
    Overdue,
    Broken(UploadFault),
}

/// Waits until the request may be sent on; the places are in its context then.
pub(super) async fn wait(waiting: &mut Waiting, mut wait: Wait) -> Result<(), Refusal> {
    let Waiting { context, asking } = waiting;
    let clock = context.local.gate.clock.clone();
    loop {
        let left = wait.deadline().saturating_duration_since(clock.now());
        let ended = tokio::select! {
            biased;
            turn = &mut wait => Ended::Turn(turn),
            fault = asking.body.read_ahead() => Ended::Broken(fault),
            () = tokio::time::sleep(left) => Ended::Overdue,
        };
        let turn = match ended {
            Ended::Turn(turn) => turn,
            Ended::Overdue => wait.give_up(),
            Ended::Broken(fault) => {
                ended_at(context, clock.now());
                context.decision = DecisionWord::Rejected;
                return Err(match fault {
                    UploadFault::Broken => Refusal::BodyInvalid,
                    UploadFault::TooLarge => Refusal::BodyTooLarge,
                });
            }
        };
        let now = clock.now();
        let decision = match turn {
            Turn::Admit(permit) => Decision::Admit(permit),
            Turn::Reject(rejection) => Decision::Reject(rejection),
            Turn::Resume(ask) => context.local.gate.registry.resume(ask, now),
            Turn::Renew(ask) => renew(context, ask, now)?,
        };
        match decision {
            Decision::Wait(again) => {
                wait = again;
                context.wait(wait.ticket());
            }
            Decision::Admit(mut permit) => {
                permit.begin(now);
                ended_at(context, now);
                context.hold(permit);
                context.forwarded_at = Some(now);
                return Ok(());
            }
            Decision::Reject(rejection) => {
                ended_at(context, now);
                return Err(Refusal::Limit(rejection));
            }
        }
    }
}

fn ended_at(context: &mut Context, now: Instant) {
    let took = now.saturating_duration_since(context.request.started);
    context.waited(took);
}

/// The limits have changed: the request is classified by the new rules and asks by the new limits, as old as it is.
fn renew(context: &mut Box<Context>, ask: Box<Ask>, now: Instant) -> Result<Decision, Refusal> {
    let local = context.local.gate.local();
    let class = super::classify(&local, &context.request.head, context.connection());
    let class = class.inspect_err(|_| ended_at(context, now))?;
    let policy = Arc::clone(&local.generation.policy);
    context.renew(Arc::clone(&local), class.resource.0);
    let registry = &local.gate.registry;
    Ok(registry.resume(ask.renewed(&policy, &class), now))
}

/// When the client gives up, if it says so: `grpc-timeout`
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>), or the configured header.
pub(super) fn client_deadline(
    head: &Head,
    is_grpc: bool,
    header: Option<&HeaderName>,
    now: Instant,
) -> Option<Instant> {
    let grpc = is_grpc.then(|| head.fields.text("grpc-timeout")).flatten();
    let grpc = grpc.and_then(grpc_timeout);
    let own = header.and_then(|name| head.fields.text(name.as_str()));
    let own = own.and_then(|text| match text.trim().parse() {
        Ok(millis) => Some(Duration::from_millis(millis)),
        Err(_) => humantime::parse_duration(text.trim()).ok(),
    });
    let patience = grpc.into_iter().chain(own).min()?;
    now.checked_add(patience)
}

/// At most eight digits and a unit.
pub(super) fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(fields: &[(&'static str, &str)], is_grpc: bool, now: Instant) -> Option<Duration> {
        let (method, version) = (http::Method::GET, http::Version::HTTP_11);
        let mut head = Head::new(method, version, "/").unwrap();
        for (name, value) in fields {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        let own = HeaderName::from_static("x-request-timeout");
        client_deadline(&head, is_grpc, Some(&own), now).map(|at| at.saturating_duration_since(now))
    }

    #[test]
    fn a_client_says_how_long_it_waits_in_the_ways_there_are() {
        let now = crate::clock::Clock::manual().now();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(deadline(&[("grpc-timeout", "2S")], true, now), seconds(2));
        assert_eq!(deadline(&[("grpc-timeout", "2S")], false, now), None);
        assert_eq!(
            deadline(&[("x-request-timeout", "1500")], false, now),
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(
            deadline(&[("x-request-timeout", "3s")], false, now),
            seconds(3)
        );
        let both = [("grpc-timeout", "1M"), ("x-request-timeout", "3s")];
        assert_eq!(deadline(&both, true, now), seconds(3));
    }

    #[test]
    fn a_timeout_that_means_nothing_is_none() {
        for bad in ["", "S", "2", "-1S", "123456789S", "1x", "é", "1.5S"] {
            assert_eq!(grpc_timeout(bad), None, "{bad}");
        }
        assert_eq!(
            grpc_timeout("99999999H").map(|of| of.as_secs()),
            Some(359_999_996_400)
        );
    }
}
