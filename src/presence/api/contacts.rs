//! `/v1/contacts/{list}`: contact lists, and telling their owners of changes.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask;
use super::{Call, answer, empty};
use crate::presence::account::{Account, State};
use crate::presence::contacts::{Contacts, LIST_MAX, List};
use crate::presence::fault::Fault;
use crate::presence::name::Name;
use crate::presence::subscription::form::message;
use crate::proxy::plugin::Response;

/// Longest body: a list of the longest names.
const BODY_MAX: usize = 512 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    identities: Vec<String>,
}

/// Reads, replaces or deletes a list.
pub(in crate::presence) async fn list(mut call: Call, name: &Name) -> Result<Response, Fault> {
    let owner = ask::owner(&call.viewer, call.parameter("identity").as_deref())?;
    match call.method {
        Method::GET => {
            let list = call
                .account
                .with(|state| state.contacts.get(&owner, name).cloned());
            shown(name, list)
        }
        Method::PUT => {
            let put: Put = call.json(BODY_MAX).await?;
            if put.identities.len() > LIST_MAX {
                return Err(crate::presence::contacts::ContactsFault::ListTooLong.into());
            }
            let names = put
                .identities
                .iter()
                .map(|text| ask::name(text, "identities"));
            let names = names.collect::<Result<Vec<_>, _>>()?;
            // Told under the lock, so that the last that is told is what the list is.
            let list = call.account.with(|state| {
                let State {
                    registry, contacts, ..
                } = state;
                let before = identities_of(contacts, &owner, name);
                if contacts.put(&owner, name, names, || registry.count_change())? {
                    Account::list_changed(state, &owner, name, &before);
                    tell(&call, state, &owner, name);
                }
                Ok::<_, Fault>(state.contacts.get(&owner, name).cloned())
            })?;
            shown(name, list)
        }
        Method::DELETE => {
            let is_gone = call.account.with(|state| {
                let before = identities_of(&state.contacts, &owner, name);
                let is_gone = state.contacts.delete(&owner, name);
                if is_gone {
                    state.registry.count_change();
                    Account::list_changed(state, &owner, name, &before);
                    tell(&call, state, &owner, name);
                }
                is_gone
            });
            if !is_gone {
                return Err(no_list());
            }
            Ok(empty(StatusCode::NO_CONTENT))
        }
        _ => Err(Fault::method("GET, PUT, DELETE")),
    }
}

fn no_list() -> Fault {
    Fault::not_found("there is no contact list of this name")
}

fn identities_of(contacts: &Contacts, owner: &Name, name: &Name) -> Arc<[Name]> {
    let list = contacts.get(owner, name);
    list.map_or_else(|| Arc::from([]), |list| Arc::clone(&list.identities))
}

fn words(name: &Name, list: &List) -> Value {
    json!({ "list": name, "identities": &*list.identities, "version": list.version })
}

fn shown(name: &Name, list: Option<List>) -> Result<Response, Fault> {
    let list = list.ok_or_else(no_list)?;
    Ok(answer(StatusCode::OK, &words(name, &list)))
}

/// Tells the owner's sockets (B24).
fn tell(call: &Call, state: &State, owner: &Name, name: &Name) {
    let delta = message(
        "contacts.delta",
        match state.contacts.get(owner, name) {
            Some(list) => words(name, list),
            None => json!({ "list": name, "deleted": true }),
        },
    );
    let sockets = state.registry.sockets_of(owner).into_iter();
    for line in sockets.filter_map(|id| call.presence.sockets.find(id)) {
        line.outbox.say(delta.clone());
    }
}
