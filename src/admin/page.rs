//! The live page: files that are a part of the program, and the fields that keep a browser strict with them.
//!
//! The page holds no data and no secret, so it is served to whoever asks; what it shows it asks of the API, with the token that an
//! operator gives it. It has no build step and asks nothing of the network but this address. Its policy lets it run its own files
//! and nothing else, so that an account or a path which looks like markup stays text. Never looks at the gate.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use sha2::{Digest as _, Sha256};

use super::api::Answer;

/// What the browser may do for the page: its own scripts, styles and calls; no frame around it, and no form that leaves it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Where each file is, its type, and itself.
const FILES: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("page/page.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/page.js", JS, include_str!("page/page.js")),
    ("/dom.js", JS, include_str!("page/dom.js")),
    ("/words.js", JS, include_str!("page/words.js")),
    ("/link.js", JS, include_str!("page/link.js")),
    ("/limits.js", JS, include_str!("page/limits.js")),
    ("/work.js", JS, include_str!("page/work.js")),
    ("/facts.js", JS, include_str!("page/facts.js")),
];

/// One tag for all of them, so that a browser never mixes the files of two versions for longer than a reload.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    for (path, _, text) in FILES {
        digest.update(path);
        digest.update(text);
    }
    let tag: String = digest.finalize()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    HeaderValue::try_from(format!("\"{tag}\"")).expect("quotes and hexadecimal digits")
});

/// The file at that path, if there is one.
pub(super) fn file(path: &str, headers: &HeaderMap) -> Option<Answer> {
    let (_, kind, text) = FILES.into_iter().find(|(known, ..)| *known == path)?;
    let is_known = headers.get_all(IF_NONE_MATCH).iter().any(names_the_tag);
    let body = if is_known { "" } else { text };
    let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())).boxed_unsync());
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let fields: [(HeaderName, &'static str); 6] = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Kept, and asked about each time: a page never outlives the program that it belongs to.
        (CACHE_CONTROL, "no-cache"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fields {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer.headers_mut().insert(ETAG, TAG.clone());
    Some(answer)
}

/// Whether a list of tags, weak or not, has ours, or says that any will do.
fn names_the_tag(list: &HeaderValue) -> bool {
    let list = list.to_str().unwrap_or_default();
    list.split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == TAG.as_bytes())
}
