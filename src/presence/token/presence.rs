//! The grant of our own, `grants.presence`: giving, obtaining, asking, and what is forbidden.
//!
//! Helper libraries pass it through as any custom grant. Keys that do not exist are refused: a restriction under a misspelt
//! key would forbid nothing.

use serde_json::Value;

use super::fault::TokenFault;
use super::pattern::Pattern;
use super::restrict::Restrict;
use super::typed::{Object, field, has_only, list};
use super::{Grant, QUERY_MAX};

/// Most patterns of one token: each is compared with each identity of a batch.
const PATTERNS_MAX: usize = 100;

/// Reads the presence grant into what the bearer may do.
pub(super) fn read(presence: &Object, grant: &mut Grant) -> Result<(), TokenFault> {
    if !has_only(presence, &["publish", "subscribe", "query", "restrict"]) {
        return Err(TokenFault::Grant("grants.presence"));
    }
    let patterns = |value| {
        list(value, PATTERNS_MAX, |item| {
            Pattern::new(item.as_str()?).ok()
        })
    };
    let publish = field(
        presence,
        "publish",
        "grants.presence.publish",
        Value::as_bool,
    )?;
    grant.may_give = publish.unwrap_or(false);
    let obtain = field(presence, "subscribe", "grants.presence.subscribe", patterns)?;
    grant.obtain = obtain.unwrap_or_default();
    if let Some(most) = field(presence, "query", "grants.presence.query", Value::as_u64)? {
        grant.query_max = usize::try_from(most).unwrap_or(QUERY_MAX).min(QUERY_MAX);
    }
    let restrict = field(
        presence,
        "restrict",
        "grants.presence.restrict",
        Value::as_object,
    )?;
    grant.restrict = restrict.map(Restrict::of).transpose()?.unwrap_or_default();
    Ok(())
}
