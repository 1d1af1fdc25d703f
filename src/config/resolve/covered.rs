//! Which requests a limit covers, and what makes it the same limit through reloads.

use super::context::Context;
use super::limits::Known;
use crate::admission::{Counted, ResourceId, UpstreamId};
use crate::config::file::{self, At};

/// Which requests a limit covers.
pub(super) struct Covered {
    pub(super) resources: Option<Vec<ResourceId>>,
    pub(super) except: Vec<ResourceId>,
    pub(super) upstreams: Option<Vec<UpstreamId>>,
}

impl Covered {
    pub(super) fn new(
        cx: &mut Context<'_>,
        limit: &file::Limit,
        known: &Known<'_>,
        who: &str,
    ) -> Self {
        let before = cx.found.len();
        let resources = limit
            .resources
            .as_ref()
            .map(|list| resource_ids(cx, &list.value, known, who));
        let except = resource_ids(cx, limit.except.as_deref().unwrap_or_default(), known, who);
        let upstreams = limit
            .upstreams
            .as_ref()
            .map(|list| upstream_ids(cx, &list.value, known, who));
        let covered = Self {
            resources,
            except,
            upstreams,
        };
        for (id, name) in covered
            .except
            .iter()
            .zip(limit.except.as_deref().unwrap_or_default())
        {
            if covered
                .resources
                .as_ref()
                .is_some_and(|only| only.contains(id))
            {
                cx.error(
                    "contradiction",
                    name.place,
                    format!("{who} both covers and leaves out `{}`", name.value),
                )
                .hint("take it out of `resources` or of `except`");
            }
        }
        // Whoever refers to something unknown hears about that first.
        if cx.found.len() == before && !covered.has_any(known) {
            cx.error(
                "contradiction",
                limit.name.place,
                format!("{who} covers no resource"),
            )
            .hint(
                "`resources`, `except` and `upstreams` leave nothing over; leave one of them away",
            );
        }
        covered
    }

    fn has_any(&self, known: &Known<'_>) -> bool {
        known.resources.rules.iter().zip(0..).any(|(resource, id)| {
            self.resources
                .as_ref()
                .is_none_or(|only| only.contains(&ResourceId(id)))
                && !self.except.contains(&ResourceId(id))
                && self
                    .upstreams
                    .as_ref()
                    .is_none_or(|only| only.contains(&resource.upstream))
        })
    }
}

fn resource_ids(
    cx: &mut Context<'_>,
    list: &[At<String>],
    known: &Known<'_>,
    who: &str,
) -> Vec<ResourceId> {
    let find = |name| known.resources.find(cx, name, who);
    list.iter().filter_map(find).collect()
}

fn upstream_ids(
    cx: &mut Context<'_>,
    list: &[At<String>],
    known: &Known<'_>,
    who: &str,
) -> Vec<UpstreamId> {
    let find = |name| known.upstreams.find(cx, name, who);
    list.iter().filter_map(find).collect()
}

/// One text for what makes it the same limit: names, not ids, which change when others come and go.
pub(super) fn identity(
    name: &str,
    per: &[String],
    covered: &Covered,
    known: &Known<'_>,
    counted: Counted,
    sample: u32,
) -> String {
    let resource = |id: &ResourceId| known.resources.rules[usize::from(id.0)].name.clone();
    let upstream = |id: &UpstreamId| known.upstreams.text(*id).to_owned();
    let list = |names: Vec<String>| {
        let sorted: std::collections::BTreeSet<_> = names.into_iter().collect();
        Vec::from_iter(sorted).join(",")
    };
    let all = || "*".to_owned();
    let resources = covered
        .resources
        .as_ref()
        .map_or_else(all, |ids| list(ids.iter().map(resource).collect()));
    let except = list(covered.except.iter().map(resource).collect());
    let upstreams = covered
        .upstreams
        .as_ref()
        .map_or_else(all, |ids| list(ids.iter().map(upstream).collect()));
    let per = per.join(",");
    format!(
        "name={name};per={per};resources={resources};except={except};upstreams={upstreams};count={counted:?};sample={sample}"
    )
}
