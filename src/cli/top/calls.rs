//! What is asked of the gate: looks, and what the operator decided.

use http::Method;
use serde_json::json;

use super::super::client::{CallError, Gate};
use super::question::{Effect, Whose};
use super::seen::{Overview, Request, Requests};

/// Requests of the account that the filter names.
const REQUESTS_MAX: usize = 100;

/// One look. The oldest requests of all are in every answer; where a filter names an account, its own are asked for too.
pub(super) async fn look(gate: &Gate, filter: &str) -> Result<Overview, CallError> {
    let mut seen: Overview = gate.read("/v1/overview").await?;
    if !filter.is_empty() {
        let account = encoded(filter);
        let path = format!("/v1/requests?limit={REQUESTS_MAX}&account={account}");
        let own: Vec<Request> = gate.read(&path).await?;
        let Requests {
            waiting,
            holding,
            leases,
        } = &mut seen.requests;
        let known = |id| {
            let lists = [&*waiting, &*holding, &*leases];
            lists
                .iter()
                .any(|list| list.iter().any(|request| request.id == id))
        };
        let own: Vec<_> = own
            .into_iter()
            .filter(|request| !known(request.id))
            .collect();
        holding.extend(own);
    }
    Ok(seen)
}

/// Does what the operator decided.
pub(super) async fn carry_out(gate: &Gate, effect: &Effect) -> Result<(), CallError> {
    match effect {
        Effect::Quit | Effect::Look => Ok(()),
        Effect::Cancel { id, .. } => {
            gate.write(Method::DELETE, &format!("/v1/requests/{id}"), None)
                .await
        }
        Effect::Override {
            limit,
            max,
            lasts,
            account,
        } => {
            let mut wanted = json!({ "max": max, "for": lasts });
            if let Some(account) = account {
                wanted["account"] = account.as_str().into();
            }
            gate.write(Method::PUT, &path_of(limit), Some(&wanted))
                .await
        }
        Effect::EndOverride { limit, whose } => {
            let whose = match whose {
                Whose::Everyone => String::new(),
                Whose::Account(account) => format!("?account={}", encoded(account)),
                Whose::Group(group) => format!("?group={}", encoded(group)),
            };
            gate.write(Method::DELETE, &(path_of(limit) + &whose), None)
                .await
        }
    }
}

fn path_of(limit: &str) -> String {
    format!("/v1/limits/{limit}/override")
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
