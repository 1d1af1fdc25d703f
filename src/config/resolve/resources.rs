//! The section `resources`: what requests act on, and what the data plane does with their responses.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::context::{Context, Names};
use super::presence;
use super::upstreams::UpstreamNames;
use crate::admission::{Cost, LearnedCost, PolicyResource, Priority, ResourceId, UpstreamId};
use crate::classify::{Resource, ResourceMatch, Template};
use crate::config::diagnostic::Place;
use crate::config::file::{self, At, NumberOr, OneOrMany};
use crate::proxy::{Departed, ResourceSettings, StreamPolicy};

const RESOURCES_MAX: usize = 1_000;
/// Methods, hosts and headers of one resource.
const MATCHERS_MAX: usize = 32;
/// Longest lease: a month, in which whoever forgot it is found out.
const LEASE_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
const DAY: Duration = Duration::from_hours(24);

/// The name of what no resource matches.
pub(in crate::config) const OTHER: &str = "other";

const RESERVED: &[&str] = &[OTHER, presence::NAME];

/// All resources in the order of their ids, each part with its own view: those that take requests in the order of the file, `other`,
/// and behind it, where no request comes to, what calls count as if it takes none.
#[derive(Debug)]
pub(super) struct Resources {
    pub(super) rules: Vec<Resource>,
    pub(super) proxy: Vec<ResourceSettings>,
    pub(super) policy: Vec<PolicyResource>,
    pub(super) lines: Vec<usize>,
    /// What calls count as, if there is a plugin.
    pub(super) calls: Option<ResourceId>,
    /// All but `other`.
    names: Names,
    /// How many are in front of `other`.
    matching: usize,
}

/// What resources refer to.
struct Of<'a> {
    upstreams: &'a UpstreamNames,
    default_upstream: UpstreamId,
    /// The name of what calls count as, if there is a plugin.
    calls: Option<&'a At<String>>,
}

/// Judges the section; what `calls` names is added if it is not there.
pub(super) fn resources(
    cx: &mut Context<'_>,
    section: &[file::Resource],
    upstreams: &UpstreamNames,
    default_upstream: UpstreamId,
    calls: Option<&At<String>>,
) -> Resources {
    let of = Of {
        upstreams,
        default_upstream,
        calls,
    };
    if let Some(first) = section.first() {
        cx.bound("resources", section.len(), RESOURCES_MAX, first.name.place);
    }
    let listed = section.iter().take(RESOURCES_MAX);
    let (matching, others): (Vec<_>, Vec<_>) = listed.partition(|one| one.matches.is_some());
    let mut all = Resources {
        rules: Vec::new(),
        proxy: Vec::new(),
        policy: Vec::new(),
        lines: Vec::new(),
        calls: None,
        names: Names::new("resource"),
        matching: matching.len(),
    };
    for resource in matching {
        all.declare(cx, resource, &of);
    }
    all.push_plain(OTHER, default_upstream);
    for resource in others {
        if !of.is_of_calls(resource) {
            missing_match(cx, resource);
        }
        all.declare(cx, resource, &of);
    }
    if let (Some(name), Some(plugin)) = (calls, upstreams.plugin()) {
        if !all.names.has(&name.value) {
            all.names.declare(cx, name, RESERVED);
            all.push_plain(&name.value, plugin);
        }
        let found = all.rules.iter().position(|rule| rule.name == name.value);
        all.calls = found.map(id);
    }
    all
}

impl Of<'_> {
    fn is_of_calls(&self, resource: &file::Resource) -> bool {
        let calls = self.calls.map(|name| &name.value);
        calls == Some(&resource.name.value)
    }
}

impl Resources {
    fn declare(&mut self, cx: &mut Context<'_>, resource: &file::Resource, of: &Of<'_>) {
        self.names.declare(cx, &resource.name, RESERVED);
        let plugin = of.upstreams.plugin();
        // Where calls go is asked by limits of an upstream only; without requests they are all that goes there.
        let usual = plugin.filter(|_| resource.matches.is_none() && of.is_of_calls(resource));
        let upstream = upstream(cx, resource, of.upstreams);
        let upstream = upstream.or(usual).unwrap_or(of.default_upstream);
        if Some(upstream) == plugin {
            judge_mounted(cx, resource, of.is_of_calls(resource));
        }
        let rule = rule(cx, resource, upstream);
        let settings = ResourceSettings {
            name: rule.name.clone(),
            upstream: rule.upstream,
            stream: stream(cx, resource),
            departed: departed(cx, resource),
            completion: completion(cx, resource),
        };
        self.push(rule, settings, resource.name.place.line);
    }

    /// One of which the file says nothing.
    fn push_plain(&mut self, name: &str, upstream: UpstreamId) {
        let rule = Resource {
            name: name.to_owned(),
            matches: None,
            upstream,
            cost: Cost::Fixed(1),
            priority: Priority::Normal,
            is_exempt: false,
        };
        let settings = ResourceSettings {
            name: rule.name.clone(),
            upstream,
            stream: StreamPolicy::default(),
            departed: Departed::default(),
            completion: None,
        };
        self.push(rule, settings, 0);
    }

    fn push(&mut self, rule: Resource, settings: ResourceSettings, line: usize) {
        self.policy.push(PolicyResource {
            name: rule.name.clone(),
            upstream: rule.upstream,
            is_exempt: rule.is_exempt,
        });
        self.proxy.push(settings);
        self.rules.push(rule);
        self.lines.push(line);
    }

    /// The resource that `who` names.
    pub(super) fn find(
        &self,
        cx: &mut Context<'_>,
        name: &At<String>,
        who: &str,
    ) -> Option<ResourceId> {
        if name.value == OTHER {
            return Some(id(self.matching));
        }
        let index = self.names.find(cx, name, "unknown_resource", who)?;
        // `other` has no name among them, and an id.
        Some(id(index + usize::from(index >= self.matching)))
    }

    /// Those that requests are found to be, but for `other`.
    pub(super) fn matching(&self) -> &[ResourceSettings] {
        &self.proxy[..self.matching]
    }

    /// Where those stand.
    pub(super) fn places(&self) -> Vec<Place> {
        let matching = 0..self.matching;
        matching.map(|index| self.names.place(index)).collect()
    }
}

fn id(index: usize) -> ResourceId {
    ResourceId(u16::try_from(index).expect("there are at most 1,000, `other`, and that of calls"))
}

fn missing_match(cx: &mut Context<'_>, resource: &file::Resource) {
    let message = "the key `match` is required here";
    cx.error("missing_key", resource.name.place, message)
        .hint("such as `match: { path: /calls }`; only what calls count as, `presence.call_resource`, takes no requests");
}

fn upstream(
    cx: &mut Context<'_>,
    resource: &file::Resource,
    upstreams: &UpstreamNames,
) -> Option<UpstreamId> {
    let name = resource.upstream.as_ref()?;
    let who = format!("resource `{}`", resource.name.value);
    upstreams.find(cx, name, &who)
}

/// The plugin begins no lease, and there is no answer of its own to drain for a client that left; but it keeps calls, as long as
/// `completion` says.
fn judge_mounted(cx: &mut Context<'_>, resource: &file::Resource, is_of_calls: bool) {
    let completion = resource.completion.as_ref().filter(|_| !is_of_calls);
    let completion = completion.map(|completion| (completion.place, "completion"));
    let departed = resource.departed.as_ref();
    let departed = departed.filter(|of| matches!(of.value, file::Departed::Finish(_)));
    let departed = departed.map(|departed| (departed.place, "departed"));
    for (place, key) in completion.into_iter().chain(departed) {
        let place = cx.source.key_before(place, key);
        let message = match key {
            "completion" => "what the presence plugin does ends with its answer",
            _ => "the presence plugin has nothing to finish for a client that left",
        };
        cx.error("contradiction", place, message)
            .hint(format!("leave `{key}` away"));
    }
}

fn rule(cx: &mut Context<'_>, resource: &file::Resource, upstream: UpstreamId) -> Resource {
    Resource {
        name: resource.name.value.clone(),
        matches: resource.matches.as_ref().map(|wanted| matches(cx, wanted)),
        upstream,
        cost: cost(cx, resource),
        priority: resource.priority.map_or(Priority::Normal, priority),
        is_exempt: resource.exempt.unwrap_or(false),
    }
}

fn cost(cx: &mut Context<'_>, resource: &file::Resource) -> Cost {
    let Some(At { value, place }) = &resource.cost else {
        return Cost::Fixed(1);
    };
    match value {
        NumberOr::Number(text) => {
            let value = At {
                value: text.clone(),
                place: *place,
            };
            Cost::Fixed(cx.count("cost", Some(&value), 1, 1..=1_000_000))
        }
        NumberOr::Map(learned) => {
            let range = Duration::from_millis(1)..=Duration::from_hours(1);
            let unit = cx.duration("per", Some(&learned.per), Duration::from_secs(1), range);
            let most = cx.count("most", learned.most.as_ref(), 10, 2..=1_000);
            Cost::Learned(Arc::new(LearnedCost::new(unit, most)))
        }
    }
}

/// The domain's word for the file's.
pub(super) fn priority(priority: file::Priority) -> Priority {
    match priority {
        file::Priority::Low => Priority::Low,
        file::Priority::Normal => Priority::Normal,
        file::Priority::High => Priority::High,
    }
}

fn matches(cx: &mut Context<'_>, wanted: &file::Match) -> ResourceMatch {
    let methods = bounded(cx, "methods", wanted.methods.as_ref())
        .iter()
        .filter_map(|text| method(cx, text));
    let methods = methods.collect();
    let hosts = bounded(cx, "hosts", wanted.host.as_ref())
        .iter()
        .filter_map(|text| host(cx, text));
    let hosts = hosts.collect();
    let mut headers = Vec::new();
    let entries = wanted
        .headers
        .as_ref()
        .map(|headers| headers.0.as_slice())
        .unwrap_or_default();
    if let Some((first, _)) = entries.first() {
        cx.bound("headers", entries.len(), MATCHERS_MAX, first.place);
    }
    for (name, value) in entries {
        if let Some(name) = cx.header(&name.value, name.place) {
            headers.push((name, value.as_ref().map(|value| value.value.0.clone())));
        }
    }
    ResourceMatch {
        methods,
        hosts,
        path: wanted.path.as_ref().and_then(|path| template(cx, path)),
        headers,
    }
}

fn bounded<'f>(cx: &mut Context<'_>, what: &str, list: Option<&'f OneOrMany>) -> &'f [At<String>] {
    let list = list.map(|list| list.0.as_slice()).unwrap_or_default();
    if let Some(first) = list.first() {
        cx.bound(what, list.len(), MATCHERS_MAX, first.place);
    }
    list
}

fn method(cx: &mut Context<'_>, text: &At<String>) -> Option<Method> {
    let is_method = !text.value.is_empty()
        && text
            .value
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    if !is_method {
        let hint = format!(
            "methods are upper-case words: `{}`",
            text.value.to_ascii_uppercase()
        );
        cx.error(
            "bad_value",
            text.place,
            format!("`{}` is no method", text.value),
        )
        .hint(hint);
        return None;
    }
    Method::from_bytes(text.value.as_bytes()).ok()
}

fn host(cx: &mut Context<'_>, text: &At<String>) -> Option<String> {
    let has_port = text
        .value
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        && !text.value.ends_with(']');
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
    if has_port || text.value.is_empty() || !text.value.chars().all(is_plain) {
        cx.error(
            "bad_value",
            text.place,
            format!("`{}` is no host", text.value),
        )
        .hint("a name or an address without port: `api.example.com`; there are no wildcards");
        return None;
    }
    Some(text.value.clone())
}

fn template(cx: &mut Context<'_>, text: &At<String>) -> Option<Template> {
    match Template::parse(&text.value) {
        Ok(template) => Some(template),
        Err(error) => {
            cx.error("bad_path", text.place, error.to_string())
                .hint("such as `/accounts/{account}/calls` or `/files/{*rest}`");
            None
        }
    }
}

fn stream(cx: &mut Context<'_>, resource: &file::Resource) -> StreamPolicy {
    match resource.stream.as_ref().map(|stream| &stream.value) {
        None | Some(file::Stream::BodyEnd) => StreamPolicy::BodyEnd,
        Some(file::Stream::Headers) => StreamPolicy::Headers,
        Some(file::Stream::First(text)) => StreamPolicy::First(cx.duration(
            "first",
            Some(text),
            Duration::ZERO,
            Duration::ZERO..=DAY,
        )),
    }
}

fn completion(cx: &mut Context<'_>, resource: &file::Resource) -> Option<Duration> {
    let completion = resource.completion.as_ref()?;
    let wanted = Some(&completion.value.hold_up_to);
    Some(cx.duration(
        "hold_up_to",
        wanted,
        DAY,
        Duration::from_secs(1)..=LEASE_MAX,
    ))
}

fn departed(cx: &mut Context<'_>, resource: &file::Resource) -> Departed {
    match resource.departed.as_ref().map(|departed| &departed.value) {
        None | Some(file::Departed::Close) => Departed::Close,
        Some(file::Departed::Finish(text)) => {
            Departed::Finish(cx.duration("finish", Some(text), DAY, Duration::from_millis(1)..=DAY))
        }
    }
}
