//! Whom the plugin speaks to beside its clients: other Tidegates, and the networks that instructions may lead to.
//!
//! Peers are known by names, since what names an address could be made to point elsewhere. Never asks whether one is there.

use ipnet::IpNet;

use super::accounts::weak;
use super::addresses;
use crate::config::diagnostic::Place;
use crate::config::file::{self, At};
use crate::config::resolve::accounts::SECRET_ADVISED;
use crate::config::resolve::context::Context;
use crate::presence::{Peer, Peers, SecretText};

/// Each is looked at for each address that is connected to.
const NETWORKS_MAX: usize = 100;
/// All are asked at once, for each call.
const NODES_MAX: usize = 16;
/// It stands in every bridge token.
const NODE_NAME_MAX: usize = 32;
const NODE_HINT: &str = "1 to 32 letters, digits, `-` and `_`";

/// Judges the networks that are allowed beside public addresses.
pub(super) fn egress(cx: &mut Context<'_>, egress: Option<&file::Egress>) -> Vec<IpNet> {
    let Some(At { value, place }) = egress.and_then(|egress| egress.allow.as_ref()) else {
        return Vec::new();
    };
    cx.bound("networks", value.len(), NETWORKS_MAX, *place);
    let list = value.iter().take(NETWORKS_MAX);
    list.filter_map(|text| cx.network(text)).collect()
}

/// Judges the name of this process, if it is given.
pub(super) fn node(cx: &mut Context<'_>, node: Option<&At<String>>) -> Option<String> {
    let node = node?;
    judge_name(cx, node);
    Some(node.value.clone())
}

/// Judges the peers of this `node`; there are none without their secret.
pub(super) fn peers(
    cx: &mut Context<'_>,
    section: Option<&At<file::Peers>>,
    node: Option<&At<String>>,
) -> Option<Peers> {
    let At { value, place } = section?;
    if node.is_none() {
        let place = cx.source.key_before(*place, "peers");
        let message = "there are peers, and this Tidegate has no name among them";
        cx.error("missing_node", place, message)
            .hint("add `node`, such as `node: a`; the peers name this one so");
    }
    let list = &value.nodes;
    cx.bound("nodes", list.value.len(), NODES_MAX, list.place);
    let mut seen: Vec<(&str, Place)> = node
        .map(|own| (own.value.as_str(), own.place))
        .into_iter()
        .collect();
    let mut nodes = Vec::new();
    for form in list.value.iter().take(NODES_MAX) {
        judge_name(cx, &form.name);
        let name = form.name.value.as_str();
        if let Some((_, first)) = seen.iter().find(|(known, _)| *known == name) {
            let hint = format!("the first is in line {}; rename one of them", first.line);
            cx.error(
                "double_name",
                form.name.place,
                format!("two nodes are named `{name}`"),
            )
            .hint(hint);
        }
        seen.push((name, form.name.place));
        let url = url(cx, &form.url);
        nodes.extend(url.map(|url| Peer {
            name: name.to_owned(),
            url,
        }));
    }
    let secret = cx.secret(&value.secret)?;
    if secret.len() < SECRET_ADVISED {
        weak(cx, "secret", value.secret.place);
    }
    let secret = SecretText(secret);
    Some(Peers { secret, nodes })
}

fn judge_name(cx: &mut Context<'_>, name: &At<String>) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let text = &name.value;
    if text.is_empty() || text.len() > NODE_NAME_MAX || !text.bytes().all(is_plain) {
        let shown: String = text.chars().take(NODE_NAME_MAX).collect();
        cx.error(
            "bad_name",
            name.place,
            format!("`{shown}` is no name of a node"),
        )
        .hint(NODE_HINT);
    }
}

/// Scheme, host and port of a gate.
fn url(cx: &mut Context<'_>, url: &At<String>) -> Option<String> {
    let origin = addresses::origin(&url.value);
    let origin = origin.filter(|of| of.starts_with("http://") || of.starts_with("https://"));
    if origin.is_none() {
        cx.error("bad_value", url.place, "`url` is no address of a gate")
            .hint(
                "`http` or `https`, host and port, nothing behind them: `https://127.0.0.1:8443`",
            );
    }
    origin
}
