//! The section `resources`: what requests act on, and what the data plane does with their responses.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::context::{Context, Names};
use super::presence;
use super::upstreams::UpstreamNames;
use crate::admission::{Cost, LearnedCost, PolicyResource, Priority, UpstreamId};
use crate::classify::{Resource, ResourceMatch, Template};
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

/// All resources in the order of their ids, each part with its own view.
#[derive(Debug)]
pub(super) struct Resources {
    pub(super) rules: Vec<Resource>,
    pub(super) proxy: Vec<ResourceSettings>,
    pub(super) policy: Vec<PolicyResource>,
    pub(super) names: Names,
    pub(super) lines: Vec<usize>,
}

/// Judges the section; the last resource is `other`.
pub(super) fn resources(
    cx: &mut Context<'_>,
    section: &[file::Resource],
    upstreams: &UpstreamNames,
    default_upstream: UpstreamId,
) -> Resources {
    let mut all = Resources {
        rules: Vec::new(),
        proxy: Vec::new(),
        policy: Vec::new(),
        names: Names::new("resource"),
        lines: Vec::new(),
    };
    if let Some(first) = section.first() {
        cx.bound("resources", section.len(), RESOURCES_MAX, first.name.place);
    }
    for resource in section.iter().take(RESOURCES_MAX) {
        all.names
            .declare(cx, &resource.name, &[OTHER, presence::NAME]);
        let upstream = upstream(cx, resource, upstreams).unwrap_or(default_upstream);
        if Some(upstream) == upstreams.plugin() {
            judge_mounted(cx, resource);
        }
        let rule = rule(cx, resource, upstream);
        let settings = ResourceSettings {
            name: rule.name.clone(),
            upstream: rule.upstream,
            stream: stream(cx, resource),
            departed: departed(cx, resource),
            completion: completion(cx, resource),
        };
        all.push(rule, settings, resource.name.place.line);
    }
    let rest = Resource {
        name: OTHER.to_owned(),
        matches: None,
        upstream: default_upstream,
        cost: Cost::Fixed(1),
        priority: Priority::Normal,
        is_exempt: false,
    };
    let settings = ResourceSettings {
        name: rest.name.clone(),
        upstream: rest.upstream,
        stream: StreamPolicy::default(),
        departed: Departed::default(),
        completion: None,
    };
    all.push(rest, settings, 0);
    all
}

impl Resources {
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

/// The plugin begins no lease, and there is no answer of its own to drain for a client that left.
fn judge_mounted(cx: &mut Context<'_>, resource: &file::Resource) {
    let completion = resource.completion.as_ref();
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
        matches: Some(matches(cx, &resource.matches)),
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
