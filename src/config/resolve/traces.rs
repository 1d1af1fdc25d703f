//! The section `traces`: where spans go, and which requests make some.

use http::{HeaderMap, HeaderValue, Uri};

use super::context::Context;
use super::presence::url_fault;
use crate::config::file::{self, At, Scalar};
use crate::telemetry::{Share, TraceSettings};

const LIST_MAX: usize = 100;
const NAME_MAX: usize = 256;
const PATH: &str = "/v1/traces";
/// Fields that belong to the post itself.
const OWN: [&str; 5] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
];

/// Judges the section.
pub(super) fn traces(
    cx: &mut Context<'_>,
    section: Option<&At<file::Traces>>,
) -> Option<(TraceSettings, Share)> {
    let form = &section?.value;
    let share = share(cx, "sample", form.sample.as_ref());
    let service_name = form.service_name.as_ref();
    if let Some(name) = service_name.filter(|name| !is_text(&name.value)) {
        let message = "`service_name` is empty or longer than 256 characters";
        cx.error("bad_value", name.place, message)
            .hint("such as `tidegate`, or the name of what is behind this gate");
    }
    let service_name = service_name.map_or("tidegate", |name| &name.value);
    let (attributes, headers) = (attributes(cx, form), headers(cx, form));
    let settings = TraceSettings {
        url: url(cx, &form.otlp)?,
        headers,
        service_name: service_name.to_owned(),
        attributes,
    };
    Some((settings, share))
}

/// A share of requests: all of them, unless said.
pub(super) fn share(cx: &mut Context<'_>, key: &str, value: Option<&At<Scalar>>) -> Share {
    let Some(At { value, place }) = value else {
        return Share::ALL;
    };
    match value.0.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Share::of(ratio),
        parsed => {
            let (code, why) = match parsed {
                Ok(_) => ("out_of_range", "is out of range"),
                Err(_) => ("bad_value", "is no number"),
            };
            let message = format!("`{key}` is `{}`, which {why}", value.0);
            cx.error(code, *place, message)
                .hint("from 0 (none) to 1 (all), such as `0.1`");
            Share::ALL
        }
    }
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= NAME_MAX
}

/// The collector's own address, and where it takes spans; who names that too is not sent twice as deep.
fn url(cx: &mut Context<'_>, of: &At<String>) -> Option<Uri> {
    let query = of.value.contains('?').then_some("has a query");
    if let Some(why) = url_fault(&of.value).or(query) {
        // What may hold a password is not said again; the line that is shown is the file's own.
        cx.error("bad_value", of.place, format!("`otlp` {why}"))
            .hint("the collector's address for OTLP over HTTP, such as `http://127.0.0.1:4318`");
        return None;
    }
    let base = of.value.trim_end_matches('/');
    let base = base.strip_suffix(PATH).unwrap_or(base);
    format!("{base}{PATH}").parse().ok()
}

fn attributes(cx: &mut Context<'_>, form: &file::Traces) -> Vec<(String, String)> {
    let Some(At { value, place }) = &form.attributes else {
        return Vec::new();
    };
    cx.bound("attributes", value.0.len(), LIST_MAX, *place);
    let mut attributes: Vec<(String, String)> = Vec::new();
    for (key, text) in value.0.iter().take(LIST_MAX) {
        let is_ours = ["service.name", "service.version"].contains(&key.value.as_str());
        if is_ours || !is_text(&key.value) || text.chars().count() > NAME_MAX {
            let message = format!("`{}` is no attribute of its own", key.value);
            cx.error("bad_value", key.place, message)
                .hint("name and value have up to 256 characters; `service_name` is a key beside `attributes`");
        }
        attributes.push((key.value.clone(), text.clone()));
    }
    attributes
}

fn headers(cx: &mut Context<'_>, form: &file::Traces) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(At { value, place }) = &form.headers else {
        return headers;
    };
    cx.bound("headers", value.0.len(), LIST_MAX, *place);
    for (key, secret) in value.0.iter().take(LIST_MAX) {
        let name = cx.header(&key.value, key.place);
        if let Some(name) = name.as_ref().filter(|name| OWN.contains(&name.as_str())) {
            let message = format!("`{name}` is written by Tidegate itself");
            cx.error("bad_value", key.place, message)
                .hint("leave it away");
        }
        let Some(text) = cx.secret(secret) else {
            continue;
        };
        match (name, HeaderValue::try_from(text)) {
            (Some(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            (_, Err(_)) => {
                let message = format!("the secret for `{}` is no value of a header", key.value);
                cx.error("bad_value", secret.place, message)
                    .hint("one line of printable characters");
            }
            (None, Ok(_)) => {}
        }
    }
    headers
}
