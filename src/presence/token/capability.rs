//! Capability tokens: rights from one string of scopes, in the dialects of both helper libraries.
//!
//! `scope:client:incoming?clientName=a scope:client:outgoing?appSid=AP…&clientName=a&appParams=… scope:stream:subscribe?…`:
//! scopes are split at spaces, each has a form, and a form's `appParams` (Python's stream scope calls it `params`) holds a
//! form once more. Unknown scopes are ignored.

use super::fault::TokenFault;
use super::pattern::Pattern;
use super::typed::Object;
use super::verify::Bearer;
use super::{CallOut, Grant};
use crate::presence::name::Name;

/// Most scopes that are read; the libraries write three.
const SCOPES_MAX: usize = 16;

type Form = Vec<(String, String)>;

/// What the scopes say, before it is known whose they are.
#[derive(Debug, Default)]
struct Scopes {
    names: Vec<String>,
    may_receive: bool,
    call_out: Option<CallOut>,
    obtain: Vec<Pattern>,
}

/// What the bearer of the verified claims may do.
pub(super) fn grant(bearer: Bearer, claims: &Object) -> Result<Grant, TokenFault> {
    let scope = claims.get("scope").ok_or(TokenFault::IdentityMissing)?;
    let scope = scope.as_str().ok_or(TokenFault::Grant("scope"))?;
    if scope.split(' ').count() > SCOPES_MAX {
        return Err(TokenFault::Grant("scope"));
    }
    let mut scopes = Scopes::default();
    for scope in scope.split(' ') {
        scopes.read(scope)?;
    }
    let mut grant = bearer.without_rights(scopes.identity()?);
    grant.may_receive = scopes.may_receive;
    grant.may_give = scopes.may_receive;
    grant.call_out = scopes.call_out;
    grant.obtain = scopes.obtain;
    Ok(grant)
}

impl Scopes {
    fn read(&mut self, scope: &str) -> Result<(), TokenFault> {
        let (name, query) = scope.split_once('?').unwrap_or((scope, ""));
        let query = form(query);
        match name {
            "scope:client:incoming" => {
                self.names.extend(all(&query, "clientName").map(Into::into));
                self.may_receive = true;
            }
            "scope:client:outgoing" => {
                self.names.extend(all(&query, "clientName").map(Into::into));
                self.read_outgoing(&query)?;
            }
            "scope:stream:subscribe" => self.read_stream(&query)?,
            _ => {}
        }
        Ok(())
    }

    fn read_outgoing(&mut self, query: &Form) -> Result<(), TokenFault> {
        let fault = TokenFault::Grant("scope:client:outgoing");
        let application = all(query, "appSid").next().filter(|sid| !sid.is_empty());
        // Two of them would leave open whose instructions are followed.
        if self.call_out.is_some() || all(query, "appSid").count() > 1 {
            return Err(fault);
        }
        self.call_out = Some(CallOut {
            application: application.ok_or(fault)?.to_owned(),
            parameters: all(query, "appParams").flat_map(form).collect(),
        });
        Ok(())
    }

    fn read_stream(&mut self, query: &Form) -> Result<(), TokenFault> {
        let filters = all(query, "params").chain(all(query, "appParams"));
        let filters: Form = filters.flat_map(form).collect();
        let of_identity = all(&filters, "identity").map(Pattern::new);
        let patterns: Result<Vec<_>, _> = of_identity.collect();
        let patterns = patterns.map_err(|_| TokenFault::Grant("scope:stream:subscribe"))?;
        if patterns.is_empty() {
            self.obtain.push(Pattern::Prefix(String::new()));
        }
        self.obtain.extend(patterns);
        Ok(())
    }

    /// The one name that all scopes agree on.
    fn identity(&self) -> Result<Name, TokenFault> {
        let name = self.names.first().ok_or(TokenFault::IdentityMissing)?;
        // Decoding puts U+FFFD in place of what is no UTF-8, which would make one name of several.
        let is_one = self.names.iter().all(|other| other == name);
        if !is_one || name.contains(char::REPLACEMENT_CHARACTER) {
            return Err(TokenFault::IdentityMalformed);
        }
        Name::new(name).map_err(|_| TokenFault::IdentityMalformed)
    }
}

fn form(text: &str) -> Form {
    form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect()
}

fn all<'a>(form: &'a Form, name: &'static str) -> impl Iterator<Item = &'a str> {
    let named = form.iter().filter(move |(key, _)| key == name);
    named.map(|(_, value)| value.as_str())
}
