//! The section `notify`: who is told when an account meets a limit.
//!
//! The URL is the operator's own, so it may lead anywhere. Never looks a name up.

use std::time::Duration;

use super::accounts::SECRET_ADVISED;
use super::context::Context;
use super::presence::{url_fault, weak};
use crate::config::file::{At, Notify};
use crate::presence::SecretText;

const QUIET: Duration = Duration::from_mins(1);
const QUIET_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_hours(24);

/// Where notifications go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifySettings {
    /// Where they are posted.
    pub url: http::Uri,
    /// What they are signed with.
    pub secret: Option<SecretText>,
    /// How long an account must not have met a limit before it is told again.
    pub quiet: Duration,
}

/// Judges the section.
pub(super) fn notify(cx: &mut Context<'_>, section: Option<&At<Notify>>) -> Option<NotifySettings> {
    let form = &section?.value;
    let quiet = cx.duration("quiet", form.quiet.as_ref(), QUIET, QUIET_RANGE);
    let secret = form.secret.as_ref().and_then(|secret| {
        let text = cx.secret(secret)?;
        if text.len() < SECRET_ADVISED {
            weak(cx, "secret", secret.place);
        }
        Some(SecretText(text))
    });
    let url = &form.url;
    if let Some(why) = url_fault(&url.value) {
        // What may hold a password is not said again; the line that is shown is the file's own.
        cx.error("bad_value", url.place, format!("`url` {why}"))
            .hint("`http` or `https`, and the whole address: `http://127.0.0.1:7000/over-limit`");
        return None;
    }
    let url = url.value.parse().ok()?;
    Some(NotifySettings { url, secret, quiet })
}
