//! How a call begins: who may call whom, by whose instructions, and with how many parameters.
//!
//! Whatever can be judged is judged before the call takes its place: the right to call out, the token's restrictions, the number or the
//! application. Nothing is fetched here.

use std::sync::Arc;

use parking_lot::Mutex;

use super::board::{Board as _, LegId};
use super::book::Record;
use super::facts::Facts;
use super::handle::Handle;
use super::switch::{Switch, Who};
use super::task::Ready;
use crate::presence::account::Account;
use crate::presence::fault::Fault;
use crate::presence::fetch::fields::client_parameters;
use crate::presence::fetch::reach::Reach;
use crate::presence::fetch::reference::origin;
use crate::presence::instruction::{Client, Dial, Link, Noun, Verb};
use crate::presence::name::Name;
use crate::presence::plugin::{Live, Presence};
use crate::presence::settings::{AccountSettings, Application, Script};
use crate::presence::signal::sockets::Line;
use crate::presence::token::{Grant, Medium};

/// Longest session description, in bytes.
pub(in crate::presence) const SDP_MAX: usize = 32 * 1024;

/// A call as it is asked for.
#[derive(Debug)]
pub(in crate::presence) struct Asked {
    pub(in crate::presence) from: String,
    pub(in crate::presence) to: String,
    pub(in crate::presence) application: Option<String>,
    pub(in crate::presence) parameters: Vec<(String, String)>,
    pub(in crate::presence) clients: Vec<Name>,
    /// Without one, `to` is dialled.
    pub(in crate::presence) script: Option<Script>,
    pub(in crate::presence) offer: Arc<str>,
}

/// Where the caller is.
#[derive(Debug)]
pub(in crate::presence) struct Caller<'a> {
    pub(in crate::presence) line: &'a Arc<Line>,
    /// The name by which it knows its call.
    pub(in crate::presence) name: &'a str,
    pub(in crate::presence) who: Who,
}

/// A session description, if it is one: it is handed over unread.
pub(in crate::presence) fn description(sdp: &str) -> Result<Arc<str>, Fault> {
    if sdp.len() > SDP_MAX || !sdp.starts_with("v=0") {
        return Err(Fault::bad(
            "`sdp` is a session description (RFC 8866) of up to 32 KiB: it begins with `v=0`",
        ));
    }
    Ok(sdp.into())
}

/// The account's settings.
pub(in crate::presence) fn settings_of<'l>(
    live: &'l Live,
    account: &Account,
) -> Result<&'l AccountSettings, Fault> {
    let mut accounts = live.settings.accounts.iter();
    let found = accounts.find(|of| of.sid == account.sid);
    found.ok_or_else(Fault::anonymous)
}

/// A call that a client makes: its token's application decides the instructions.
pub(in crate::presence) fn by_client(
    presence: &Presence,
    account: &Account,
    grant: &Grant,
    sent: &str,
    offer: Arc<str>,
) -> Result<Asked, Fault> {
    let live = presence.live();
    let of = settings_of(&live, account)?;
    let right = grant.call_out.as_ref().ok_or_else(|| {
        Fault::forbidden("this token does not allow to call out (`grants.voice.outgoing`)")
    })?;
    let (parameters, dropped) = client_parameters(sent, &right.parameters);
    presence.stats.count_dropped_parameters(dropped);
    let to = parameters.iter().find(|(name, _)| name == "To");
    let to = to.map(|(_, value)| value.clone()).unwrap_or_default();
    let calls = account.with(|state| state.registry.calls_of(&grant.identity));
    let unix_time = presence.clock.unix_time();
    check_restrictions(grant, calls, unix_time, &to, Medium::Voice)?;
    let application = application(of, &right.application)?;
    let script = application.voice.clone();
    let script = script.ok_or_else(|| Fault::not_found("this application takes no calls"))?;
    Ok(Asked {
        from: format!("client:{}", grant.identity.as_str()),
        parameters: parameters
            .into_iter()
            .filter(|(name, _)| name != "To")
            .collect(),
        to,
        application: Some(right.application.clone()),
        clients: application.clients.clone(),
        script: Some(script),
        offer,
    })
}

/// The restrictions of a token (B3).
pub(in crate::presence) fn check_restrictions(
    grant: &Grant,
    calls: u32,
    unix_time: std::time::Duration,
    to: &str,
    medium: Medium,
) -> Result<(), Fault> {
    let is_written_whole = to.is_empty() || to.starts_with('+') || to.starts_with("client:");
    let whole = if is_written_whole {
        to.to_owned()
    } else {
        format!("client:{to}")
    };
    let checked = grant.restrict.check(calls, unix_time, &whole, medium);
    checked.map_err(|key| {
        Fault::forbidden(format!(
            "this token does not allow it (`grants.presence.restrict.{key}`)"
        ))
    })
}

/// An application of the account.
pub(in crate::presence) fn application<'s>(
    of: &'s AccountSettings,
    sid: &str,
) -> Result<&'s Application, Fault> {
    let mut applications = of.applications.iter();
    let found = applications.find(|(known, _)| known == sid);
    let (_, application) = found.ok_or_else(|| {
        Fault::not_found("there is no such application (`presence.accounts.applications`)")
    })?;
    Ok(application)
}

/// Makes a call ready, up to its place: it can be found from now on.
pub(in crate::presence) fn prepare(
    presence: &Arc<Presence>,
    account: &Arc<Account>,
    sid: &str,
    asked: Asked,
    caller: Option<Caller<'_>>,
) -> Result<Ready, Fault> {
    if presence.sockets.is_draining() {
        return Err(Fault::later(http::StatusCode::SERVICE_UNAVAILABLE));
    }
    let live = presence.live();
    let of = settings_of(&live, account)?;
    let (handle, events) = Handle::new(sid.to_owned());
    let direction = if caller.is_some() {
        "client"
    } else {
        "inbound"
    };
    let record = Record::new(sid, (direction, "voice"), &asked.from, &asked.to);
    let record = Arc::new(Mutex::new(record));
    let now = presence.clock.now();
    let is_begun = {
        let mut book = account.book.lock();
        book.begin(&record, Some(Arc::clone(&handle)), now)
    };
    if !is_begun {
        return Err(Fault::too_many(
            "this account has as many calls in progress as may be",
        ));
    }
    if let Some(caller) = &caller {
        handle.bind(LegId::CALLER, caller.line, caller.name);
    }
    let first = match &asked.script {
        Some(script) => Ok(Link {
            url: script.url.clone(),
            method: Verb::Post,
        }),
        None => Err(dial_of(&asked.to)),
    };
    let facts = Facts {
        sid: sid.to_owned(),
        account: account.sid.clone(),
        from: asked.from,
        to: asked.to,
        application: asked.application,
        parameters: asked.parameters,
        clients: asked.clients,
        unavailable: live.settings.unavailable,
        grace: live.settings.grace,
        fallback: asked.script.and_then(|script| script.fallback_url),
    };
    let who = caller.map(|caller| caller.who);
    let mut switch = Switch::new(presence, account, &handle, &record, asked.offer, who);
    // From its invitation on, whatever it has to wait for (B14); what rang there is told so in a moment, and must not ring again.
    switch.engage(LegId::CALLER);
    Ok(Ready {
        switch,
        events,
        facts,
        resource: live.settings.call_resource.clone(),
        first,
        reach: reach(presence, &live, of),
    })
}

/// What a call without instructions does: it dials whom it is for.
fn dial_of(to: &str) -> Dial {
    let identity = to.strip_prefix("client:").unwrap_or(to);
    let client = Client {
        identity: identity.to_owned(),
        parameters: Vec::new(),
        status_callback: None,
    };
    Dial {
        nouns: vec![Noun::Client(client)],
        ..Dial::default()
    }
}

/// How the account's servers are reached.
pub(in crate::presence) fn reach(presence: &Presence, live: &Live, of: &AccountSettings) -> Reach {
    let scripts = of.applications.iter().chain(&of.numbers);
    let scripts = scripts.flat_map(|(_, application)| {
        let both = application.voice.iter().chain(&application.messaging);
        both.flat_map(|script| [Some(&script.url), script.fallback_url.as_ref()])
    });
    let origins = scripts.flatten().filter_map(|url| origin(url));
    Reach {
        fetcher: presence.fetcher(),
        secret: of.auth_tokens.first().cloned(),
        trusted: origins.collect(),
        egress: live.settings.egress.as_slice().into(),
        stats: Arc::clone(&presence.stats),
        clock: presence.clock.clone(),
    }
}
