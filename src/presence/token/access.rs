//! Access tokens: rights from `grants`, by the identity that they name.
//!
//! Unknown claims and unknown grants are ignored, since one token may serve several products; what is known has its type.

use serde_json::Value;

use super::fault::TokenFault;
use super::typed::{Object, field};
use super::verify::Bearer;
use super::{CallOut, Grant, presence};
use crate::presence::name::Name;

/// What the bearer of the verified claims may do.
pub(super) fn grant(bearer: Bearer, claims: &Object) -> Result<Grant, TokenFault> {
    let grants = claims.get("grants").and_then(Value::as_object);
    let grants = grants.ok_or(TokenFault::IdentityMissing)?;
    let identity = grants.get("identity").ok_or(TokenFault::IdentityMissing)?;
    let identity = identity.as_str().ok_or(TokenFault::IdentityMalformed)?;
    let identity = Name::new(identity).map_err(|_| TokenFault::IdentityMalformed)?;
    let mut grant = bearer.without_rights(identity);
    if let Some(voice) = field(grants, "voice", "grants.voice", Value::as_object)? {
        read_voice(voice, &mut grant)?;
    }
    match field(grants, "presence", "grants.presence", Value::as_object)? {
        Some(presence) => presence::read(presence, &mut grant)?,
        None => grant.may_give = grant.may_receive,
    }
    Ok(grant)
}

fn read_voice(voice: &Object, grant: &mut Grant) -> Result<(), TokenFault> {
    let incoming = field(voice, "incoming", "grants.voice.incoming", Value::as_object)?;
    if let Some(incoming) = incoming {
        let path = "grants.voice.incoming.allow";
        let allow = field(incoming, "allow", path, Value::as_bool)?;
        grant.may_receive = allow.unwrap_or(false);
    }
    let outgoing = field(voice, "outgoing", "grants.voice.outgoing", Value::as_object)?;
    if let Some(outgoing) = outgoing {
        grant.call_out = call_out(outgoing)?;
    }
    let device = |value: &Value| Name::new(value.as_str()?).ok();
    grant.endpoint_id = field(voice, "endpoint_id", "grants.voice.endpoint_id", device)?;
    Ok(())
}

fn call_out(outgoing: &Object) -> Result<Option<CallOut>, TokenFault> {
    let sid = |value: &Value| value.as_str().filter(|sid| !sid.is_empty()).map(Into::into);
    let path = "grants.voice.outgoing.application_sid";
    let application = field(outgoing, "application_sid", path, sid)?;
    let path = "grants.voice.outgoing.params";
    let parameters = field(outgoing, "params", path, parameters)?;
    Ok(application.map(|application| CallOut {
        application,
        parameters: parameters.unwrap_or_default(),
    }))
}

/// Parameters for a form: of an object of scalars, or already written as a form.
fn parameters(value: &Value) -> Option<Vec<(String, String)>> {
    match value {
        Value::String(form) => Some(
            form_urlencoded::parse(form.as_bytes())
                .into_owned()
                .collect(),
        ),
        Value::Object(object) => {
            let pairs = object
                .iter()
                .map(|(name, value)| Some((name.clone(), scalar(value)?)));
            pairs.collect()
        }
        _ => None,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is_so) => Some(is_so.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
