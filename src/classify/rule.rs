//! Resources and the first rule that matches.
//!
//! Rules are tried in the order of the file, as the configuration promises; each is refused by the cheapest test
//! first (segment count, then literals from the last), so that one that does not match costs a few nanoseconds.

use std::sync::Arc;

use hashbrown::HashMap;
use http::header::AUTHORIZATION;
use http::{HeaderName, Method};
use smallvec::SmallVec;

use super::Fault;
use super::account::{AccountSource, Credentials, Peer};
use super::path::{NormalPath, decoded};
use super::retry::Retries;
use super::template::{Captures, Template};
use super::token::Key;
use crate::admission::{
    AccountName, Class, ClientNetwork, Cost, GroupId, Priority, ResourceId, UpstreamId, Value,
};
use crate::head::{Fields, Head};

/// What a resource's requests look like; everything that is set must fit.
#[derive(Debug, Clone, Default)]
pub struct ResourceMatch {
    /// One of these methods; none set means any.
    pub methods: Vec<Method>,
    /// One of these hosts, without port, compared without case; none set means any.
    pub hosts: Vec<String>,
    /// This path; `None` means any.
    pub path: Option<Template>,
    /// Each of these headers, with this value; `None` means that it is there at all.
    pub headers: Vec<(HeaderName, Option<String>)>,
}

/// One resource.
#[derive(Debug, Clone)]
pub struct Resource {
    /// The name that users see.
    pub name: String,
    /// What its requests look like; `None` for the one that takes what no other does.
    pub matches: Option<ResourceMatch>,
    /// Where they go.
    pub upstream: UpstreamId,
    /// Places each takes in every limit.
    pub cost: Cost,
    /// Who goes first.
    pub priority: Priority,
    /// Whether they are forwarded without being limited or identified.
    pub is_exempt: bool,
}

/// A group of accounts.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Who is in it; no account is in two.
    pub accounts: Vec<AccountName>,
    /// The higher of this and the resource's counts.
    pub priority: Priority,
}

/// Where a limit's header or path dimension finds its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueSource {
    /// The first header of this name.
    Header(HeaderName),
    /// A capture of the resource's path.
    Path(String),
}

/// Everything that rules are made of.
#[derive(Debug)]
pub struct Settings {
    /// In the order of their ids; the first that matches wins.
    pub resources: Vec<Resource>,
    /// The first that yields is the account.
    pub identify: Vec<AccountSource>,
    /// The account of requests that nothing identifies.
    pub unidentified: AccountName,
    /// In the order of their ids.
    pub groups: Vec<Group>,
    /// Verifiers of bearer tokens, as [`AccountSource::Jwt`] refers to them.
    pub keys: Vec<Key>,
    /// In the order of [`crate::admission::Dimension::Value`].
    pub values: Vec<ValueSource>,
    /// How retries are told, if anybody wants to know.
    pub retries: Option<Retries>,
    /// The plugin's upstream, and what verifies the credentials that are shown to it.
    pub plugin: Option<(UpstreamId, Arc<dyn Credentials>)>,
}

impl Default for Settings {
    /// Rules by which nothing matches.
    fn default() -> Self {
        Self {
            resources: Vec::new(),
            identify: Vec::new(),
            unidentified: AccountName::new(b"anonymous").expect("it is a name"),
            groups: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            retries: None,
            plugin: None,
        }
    }
}

/// The rules of one generation.
#[derive(Debug)]
pub struct Rules {
    settings: Settings,
    groups: HashMap<AccountName, GroupId, ahash::RandomState>,
}

/// What a request was found to be.
#[derive(Debug)]
pub struct Matched {
    /// For admission.
    pub class: Class,
    /// What named the account: the index into [`Settings::identify`]; `None` for the unidentified one.
    pub identified_by: Option<usize>,
}

impl Rules {
    /// Compiles the settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let groups = settings.groups.iter().zip(0..);
        let groups = groups
            .flat_map(|(group, id)| group.accounts.iter().map(move |&name| (name, GroupId(id))))
            .collect();
        Self { settings, groups }
    }

    /// What the rules were made of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The class of a request, or `None` when no resource matches and no default is configured.
    pub fn classify(&self, head: &Head, peer: &Peer) -> Result<Option<Matched>, Fault> {
        let path = NormalPath::new(head.path())?;
        let mut captures = Captures::default();
        let found = self
            .settings
            .resources
            .iter()
            .zip(0..)
            .find(|(resource, _)| {
                resource
                    .matches
                    .as_ref()
                    .is_none_or(|wanted| wanted.fits(head, &path, &mut captures))
            });
        let Some((resource, id)) = found else {
            return Ok(None);
        };
        let (account, identified_by) = if resource.is_exempt {
            (self.settings.unidentified, None)
        } else {
            self.identify(head, peer, resource, &captures)?
        };
        let group = if self.groups.is_empty() {
            None
        } else {
            self.groups.get(&account).copied()
        };
        let group_priority = group.map(|id| self.settings.groups[usize::from(id.0)].priority);
        let retries = self.settings.retries.as_ref();
        let is_retry = retries.is_some_and(|retries| retries.is_retry(&head.fields));
        let priority = group_priority.map_or(resource.priority, |of| of.max(resource.priority));
        let class = Class {
            account,
            resource: ResourceId(id),
            upstream: resource.upstream,
            group,
            // Behind first attempts, since whoever retries in overload adds to it.
            priority: if is_retry { Priority::Low } else { priority },
            is_retry,
            cost: resource.cost.now(),
            learner: resource.cost.learner(),
            network: peer.client_address(&head.fields).map(ClientNetwork::of),
            values: self.values(&head.fields, resource, &captures),
        };
        Ok(Some(Matched {
            class,
            identified_by,
        }))
    }

    /// The class of work that begins inside the gate, without a request: of an account, counted as that resource. `None` if there is no
    /// such resource.
    #[must_use]
    pub fn class_of(&self, account: AccountName, resource: &str) -> Option<Class> {
        let mut resources = self.settings.resources.iter().zip(0..);
        let (resource, id) = resources.find(|(of, _)| *of.name == *resource)?;
        let group = self.groups.get(&account).copied();
        let group_priority = group.map(|id| self.settings.groups[usize::from(id.0)].priority);
        Some(Class {
            account,
            resource: ResourceId(id),
            upstream: resource.upstream,
            group,
            priority: group_priority.map_or(resource.priority, |of| of.max(resource.priority)),
            is_retry: false,
            cost: resource.cost.now(),
            learner: resource.cost.learner(),
            network: None,
            values: self.values(&Fields::default(), resource, &Captures::default()),
        })
    }

    fn identify(
        &self,
        head: &Head,
        peer: &Peer,
        resource: &Resource,
        captures: &Captures<'_>,
    ) -> Result<(AccountName, Option<usize>), Fault> {
        let template = resource
            .matches
            .as_ref()
            .and_then(|wanted| wanted.path.as_ref());
        let capture = |name: &str| captures.named(template?, name);
        for (index, source) in self.settings.identify.iter().enumerate() {
            if matches!(source, AccountSource::Presence)
                && let Some(credentials) = self.plugin_of(resource)
                && head.fields.contains(AUTHORIZATION.as_str())
            {
                // Who shows what does not verify is nobody, not whoever a laxer source would take it for; the plugin refuses it.
                let found = credentials.account(&head.fields.to_map());
                return Ok((found.unwrap_or(self.settings.unidentified), Some(index)));
            }
            if let Some(name) = source.find(head, peer, &capture, &self.settings.keys)? {
                return Ok((name, Some(index)));
            }
        }
        Ok((self.settings.unidentified, None))
    }

    /// What verifies the credentials of this resource's requests, if they go to the plugin.
    fn plugin_of(&self, resource: &Resource) -> Option<&dyn Credentials> {
        let (upstream, credentials) = self.settings.plugin.as_ref()?;
        (resource.upstream == *upstream).then_some(&**credentials)
    }

    fn values(
        &self,
        fields: &Fields,
        resource: &Resource,
        captures: &Captures<'_>,
    ) -> SmallVec<[Value; 2]> {
        let template = resource
            .matches
            .as_ref()
            .and_then(|wanted| wanted.path.as_ref());
        let find = |source: &ValueSource| match source {
            ValueSource::Header(name) => Value::new(fields.get(name.as_str())),
            ValueSource::Path(name) => {
                let found = template.and_then(|template| captures.named(template, name));
                Value::new(found.map(decoded).as_deref())
            }
        };
        self.settings.values.iter().map(find).collect()
    }
}

impl ResourceMatch {
    fn fits<'p>(&self, head: &Head, path: &'p NormalPath<'_>, captures: &mut Captures<'p>) -> bool {
        self.path
            .as_ref()
            .is_none_or(|template| template.captures(path, captures))
            && (self.methods.is_empty() || self.methods.contains(&head.method))
            && (self.hosts.is_empty() || self.fits_host(head))
            && self.headers.iter().all(|(name, wanted)| {
                let mut found = head.fields.all(name.as_str());
                match wanted {
                    Some(wanted) => found.any(|value| value == wanted.as_bytes()),
                    None => found.next().is_some(),
                }
            })
    }

    fn fits_host(&self, head: &Head) -> bool {
        let Some(host) = host_of(head) else {
            return false;
        };
        self.hosts
            .iter()
            .any(|wanted| wanted.eq_ignore_ascii_case(host))
    }
}

/// The host a request names, without its port.
fn host_of(head: &Head) -> Option<&str> {
    let host = std::str::from_utf8(head.host()?).ok()?;
    let end = host
        .rfind(':')
        .filter(|&colon| !host[colon..].contains(']'))
        .unwrap_or(host.len());
    Some(&host[..end])
}
