//! A resource whose documents are edited on their way: who asks is made sure of first, and what answers is read whole.
//!
//! Only what can be a document is held: 64 KiB of XML, in a 200 and uncompressed, for which nobody is asked to compress. All else
//! goes by as on any other resource, piece by piece. Never sends a byte upstream of a request that is not genuine, and never half
//! of a document to the client.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::Asking;
use super::body::{BodyError, ResponseBody};
use super::context::Context;
use super::outcome::Refusal;
use super::plugin::Edit;
use super::respond;
use super::upload::{RequestBody, UploadFault};
use crate::head::Head;

/// Longest form that is read, and longest document that is edited, in bytes.
const DOCUMENT_MAX: usize = 64 * 1024;

/// What would have an upstream answer with what cannot be edited: bytes of another coding, a part, or that the client knows it.
const NOT_ASKED_FOR: [HeaderName; 5] = [
    ACCEPT_ENCODING,
    RANGE,
    IF_RANGE,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
];
/// What is said of the bytes of a document, and is wrong of others.
const OF_ITS_BYTES: [HeaderName; 5] = [
    ETAG,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// Whether a field of a request is left out, since its answer could not be edited.
pub(super) fn is_not_asked_for(name: &[u8]) -> bool {
    NOT_ASKED_FOR
        .iter()
        .any(|known| known.as_str().as_bytes() == name)
}

/// Sends a request on if it is genuine, and edits what comes back.
pub(super) async fn exchange(
    edit: Arc<dyn Edit>,
    context: Box<Context>,
    mut asking: Asking,
) -> Response<ResponseBody> {
    let is_grpc = asking.seen.is_grpc;
    // A form is small: all of it comes within the time that a larger upload may stand still.
    let patience = context.upstream().map(|of| of.settings.idle_timeout);
    let judged = tokio::select! {
        judged = judge(&*edit, &context.request.head, &mut asking.body, patience.unwrap_or_default()) => judged,
        () = context.request.hangup().asked() => Err(Refusal::Cancelled),
    };
    if let Err(refusal) = judged {
        return respond::refuse(context, &refusal, is_grpc);
    }
    let response = super::exchange(context, asking).await;
    answer(&*edit, response, is_grpc).await
}

async fn judge(
    edit: &dyn Edit,
    head: &Head,
    body: &mut RequestBody,
    patience: Duration,
) -> Result<(), Refusal> {
    if super::declared_length(head).is_some_and(|length| length > DOCUMENT_MAX as u64) {
        return Err(Refusal::BodyTooLarge);
    }
    let form = match tokio::time::timeout(patience, body.hold(DOCUMENT_MAX)).await {
        Err(_) => return Err(Refusal::ClientTimeout),
        Ok(Err(UploadFault::TooLarge)) => return Err(Refusal::BodyTooLarge),
        Ok(Err(UploadFault::Broken)) => return Err(Refusal::BodyInvalid),
        Ok(Ok(form)) => form,
    };
    if edit.is_genuine(&head.to_parts(), &form) {
        Ok(())
    } else {
        Err(Refusal::SignatureInvalid)
    }
}

async fn answer(
    edit: &dyn Edit,
    response: Response<ResponseBody>,
    is_grpc: bool,
) -> Response<ResponseBody> {
    if !may_be_document(&response) {
        edit.pass_by();
        return response;
    }
    let (mut parts, mut body) = response.into_parts();
    let mut document = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => data,
            // Trailers: nothing is said in them about a document.
            Ok(Err(_)) => continue,
            Err(error) => return broke(body, &error, is_grpc),
        };
        document.extend_from_slice(&data);
        if document.len() > DOCUMENT_MAX {
            edit.pass_by();
            return Response::from_parts(parts, body.behind(document.freeze()));
        }
    }
    let document = match edit.edit(&document) {
        None => document.freeze(),
        Some(instead) => {
            correct(&mut parts.headers, &instead);
            instead
        }
    };
    let mut context = body.take_context();
    if let Some(context) = &mut context {
        context.sent = document.len() as u64;
    }
    Response::from_parts(parts, ResponseBody::own(document, context))
}

/// Whether it is worth reading: XML in UTF-8 as far as its head tells, and not too long.
fn may_be_document(response: &Response<ResponseBody>) -> bool {
    let headers = response.headers();
    let is_short = response.body().size_hint().lower() <= DOCUMENT_MAX as u64;
    let is_plain = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    response.status() == StatusCode::OK
        && kind.is_some_and(is_xml)
        && is_plain
        && is_short
        // An answer to HEAD has a document's fields and no document.
        && !response.body().is_end_stream()
}

fn is_xml(kind: &str) -> bool {
    let mut parts = kind.split(';').map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next().unwrap_or_default();
    let is_readable = |parameter: String| {
        parameter.strip_prefix("charset=").is_none_or(|charset| {
            matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii")
        })
    };
    (essence == "text/xml" || essence == "application/xml" || essence.ends_with("+xml"))
        && parts.all(is_readable)
}

/// Says of other bytes what is true of them.
fn correct(headers: &mut HeaderMap, instead: &Bytes) {
    for name in OF_ITS_BYTES {
        headers.remove(name);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(instead.len()));
}

/// The upstream broke off, or stood still: nothing was sent yet, so the client is told.
fn broke(mut body: ResponseBody, error: &BodyError, is_grpc: bool) -> Response<ResponseBody> {
    let refusal = match error {
        BodyError::Idle => Refusal::UpstreamTimeout,
        BodyError::Cancelled => Refusal::Cancelled,
        _ => Refusal::UpstreamBroke,
    };
    let context = body.take_context();
    // First the upstream's connection, then the answer: as everywhere, the place is given back last.
    drop(body);
    match context {
        Some(context) => respond::refuse(context, &refusal, is_grpc),
        None => {
            let mut response = Response::new(ResponseBody::own(Bytes::new(), None));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_xml_that_can_be_utf_8_is_read() {
        for kind in [
            "text/xml",
            "Application/XML; charset=UTF-8",
            "application/twiml+xml;charset=\"utf-8\"",
            "text/xml; version=1",
        ] {
            assert!(is_xml(kind), "{kind}");
        }
        for kind in [
            "",
            "text/html",
            "text/xml; charset=iso-8859-1",
            "application/json",
            "text/xmlx",
        ] {
            assert!(!is_xml(kind), "{kind}");
        }
    }
}
