//! One URL on the way of a request: what is sent there, and where its answer leads on.
//!
//! A form travels in the body or in the query, and not at all where a redirect makes another request of it. Never signs what
//! another origin made up.

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::{Ask, Lost, without_fragment};
use crate::presence::fetch::cookies::Jar;
use crate::presence::fetch::patience::Patience;
use crate::presence::fetch::reach::Reach;
use crate::presence::fetch::reference::{origin_of, resolve};
use crate::presence::fetch::signature::{SIGNATURE_HEADER, sign_form};
use crate::presence::fetch::webhook::IDEMPOTENCY;
use crate::presence::fetch::{Answer, FetchError, Outgoing, Wanted};
use crate::presence::instruction::Verb;

/// One URL on the way.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) url: Uri,
    pub(super) form: Form,
    pub(super) is_signed: bool,
}

/// Where the form is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Body,
    Query,
    /// A redirect's URL stands for itself.
    Nowhere,
}

impl Hop {
    /// The URL that was asked for.
    pub(super) fn first(ask: &Ask<'_>) -> Result<Self, FetchError> {
        Ok(Self {
            url: uri(ask.url)?,
            form: match ask.method {
                Verb::Post => Form::Body,
                Verb::Get => Form::Query,
            },
            is_signed: true,
        })
    }

    /// Where the answer leads on; `None` if it does not.
    pub(super) fn next(&self, answer: &Answer) -> Result<Option<Self>, Lost> {
        let form = match answer.status.as_u16() {
            307 | 308 if self.form == Form::Body => Form::Body,
            301..=303 | 307 | 308 => Form::Nowhere,
            _ => return Ok(None),
        };
        let Some(location) = answer.location() else {
            return Ok(None);
        };
        let url = resolve(&self.url.to_string(), location).ok_or(FetchError::BadUrl)?;
        let url = uri(&url)?;
        if self.url.scheme_str() == Some("https") && url.scheme_str() != Some("https") {
            return Err(Lost::Downgrade);
        }
        let is_signed = self.is_signed && origin_of(&self.url) == origin_of(&url);
        Ok(Some(Self {
            url,
            form,
            is_signed,
        }))
    }

    /// What is sent there.
    pub(super) fn outgoing(
        &self,
        reach: &Reach,
        cookies: &Jar,
        ask: &Ask<'_>,
        patience: &Patience,
        wanted: Wanted,
    ) -> Result<Outgoing, FetchError> {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        // A token that no header can carry is a mistake of ours; nothing is sent, as with a URL that is none.
        let token = HeaderValue::try_from(ask.idempotency).map_err(|_| FetchError::BadUrl)?;
        headers.insert(IDEMPOTENCY, token);
        if let Some(cookie) = cookies.field(&self.url) {
            headers.insert(COOKIE, cookie);
        }
        let (mut url, mut body) = (self.url.clone(), Bytes::new());
        let mut signed: &[(String, String)] = &[];
        match self.form {
            Form::Body => {
                signed = ask.fields;
                body = encoded(ask.fields).into();
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                headers.insert(CONTENT_TYPE, form);
            }
            Form::Query => url = with_query(&url, &encoded(ask.fields))?,
            Form::Nowhere => {}
        }
        if let Some(secret) = reach.secret.as_ref().filter(|_| self.is_signed) {
            let pairs: Vec<_> = signed
                .iter()
                .map(|(a, b)| (a.as_str(), b.as_str()))
                .collect();
            let signature = sign_form(&secret.0, &url.to_string(), &pairs);
            let signature = HeaderValue::try_from(signature).expect("it is base64");
            headers.insert(SIGNATURE_HEADER, signature);
        }
        Ok(Outgoing {
            method: if self.form == Form::Body {
                Method::POST
            } else {
                Method::GET
            },
            url,
            headers,
            body,
            limits: patience.limits,
            wanted,
        })
    }
}

fn uri(url: &str) -> Result<Uri, FetchError> {
    let url = without_fragment(url).parse::<Uri>();
    url.map_err(|_| FetchError::BadUrl)
}

fn encoded(fields: &[(String, String)]) -> String {
    Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// The URL with more pairs behind those that it has.
fn with_query(url: &Uri, pairs: &str) -> Result<Uri, FetchError> {
    let url = url.to_string();
    let joint = match url.split_once('?') {
        _ if pairs.is_empty() => "",
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    uri(&format!("{url}{joint}{pairs}"))
}
