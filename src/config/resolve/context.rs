//! What all parts of resolving share: the findings so far, and scalars with their bounds.
//!
//! A value that means nothing is replaced by its default, so that the rest can be judged: the finding alone refuses the
//! file. Never stops at the first.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use crate::config::Secrets;
use crate::config::diagnostic::{Diagnostic, Place, Severity, Source, closest};
use crate::config::file::{At, Scalar, Secret};
use crate::config::{source, units};

/// Longest name of a resource, an upstream, a limit, a group, a key.
const NAME_MAX: usize = 64;

/// The findings so far, and what judging needs.
pub(in crate::config) struct Context<'a> {
    pub(in crate::config) source: &'a Source<'a>,
    pub(in crate::config) found: Vec<Diagnostic>,
    pub(in crate::config) watched: Vec<PathBuf>,
    base: &'a Path,
    secrets: Secrets,
}

/// Names of one kind, in the order in which they are declared.
#[derive(Debug, Clone)]
pub(in crate::config) struct Names {
    kind: &'static str,
    declared: Vec<(String, Place)>,
    index: std::collections::HashMap<String, usize>,
}

impl<'a> Context<'a> {
    pub(in crate::config) fn new(source: &'a Source<'a>, path: &'a Path, secrets: Secrets) -> Self {
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        Self {
            source,
            found: Vec::new(),
            watched: Vec::new(),
            base,
            secrets,
        }
    }

    pub(in crate::config) fn error(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.find(Severity::Error, code, place, message.into())
    }

    pub(in crate::config) fn warning(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.find(Severity::Warning, code, place, message.into())
    }

    fn find(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: Place,
        message: String,
    ) -> &mut Diagnostic {
        let found = self.source.diagnostic(severity, code, place, message);
        self.found.push(found);
        self.found
            .last_mut()
            .expect("it was pushed the line before")
    }

    /// Says that a feature is not built, pointing at the key in front of the value.
    pub(in crate::config) fn not_supported<T>(
        &mut self,
        value: Option<&At<T>>,
        key: &str,
        what: &str,
    ) {
        if let Some(value) = value {
            let place = self.source.key_before(value.place, key);
            self.error("not_supported", place, format!("{what} not built yet"))
                .hint(format!("leave `{key}` away"));
        }
    }

    pub(in crate::config) fn has_errors(&self) -> bool {
        self.found.iter().any(Diagnostic::is_error)
    }

    /// A path; a relative one begins at the configuration's own directory.
    pub(in crate::config) fn path(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }

    /// A file that is read later and watched.
    pub(in crate::config) fn watched_file(&mut self, path: &At<String>) -> PathBuf {
        let full = self.path(&path.value);
        if let Err(why) = source::readable(&full) {
            self.missing(
                "file_missing",
                path.place,
                why,
                "relative paths begin at the configuration's own directory",
            );
        }
        self.watched.push(full.clone());
        full
    }

    /// The bytes of a file that is read now and watched, if it is there and no longer than `max`.
    pub(in crate::config) fn file(&mut self, path: &At<String>, max: u64) -> Option<Vec<u8>> {
        let full = self.path(&path.value);
        let read = source::bytes_of_file(&full, max);
        self.watched.push(full);
        let hint = "relative paths begin at the configuration's own directory";
        read.map_err(|why| self.missing("file_missing", path.place, why, hint))
            .ok()
    }

    /// Whether colours are wanted where people look (<https://no-color.org>).
    #[expect(clippy::unused_self, reason = "what is outside is asked by way of it")]
    pub(in crate::config) fn may_colour(&self) -> bool {
        source::secret_of_env("NO_COLOR").is_err()
    }

    /// A secret, if it is there.
    pub(in crate::config) fn secret(&mut self, secret: &At<Secret>) -> Option<String> {
        let (read, hint) = match &secret.value {
            Secret::Env(name) => (
                source::secret_of_env(name),
                "set it in the environment that starts tidegate",
            ),
            Secret::File(path) => {
                let full = self.path(path);
                let read = source::secret_of_file(&full);
                self.watched.push(full);
                (
                    read,
                    "relative paths begin at the configuration's own directory",
                )
            }
        };
        match read {
            Ok(secret) => Some(secret),
            Err(why) => {
                self.missing("secret_missing", secret.place, why, hint);
                None
            }
        }
    }

    /// What is beside the file and missing is an error only for those who need it.
    fn missing(&mut self, code: &'static str, place: Place, why: String, hint: &str) {
        let severity = match self.secrets {
            Secrets::Required => Severity::Error,
            Secrets::Optional => Severity::Warning,
        };
        self.find(severity, code, place, why).hint(hint);
    }

    pub(in crate::config) fn duration(
        &mut self,
        key: &str,
        value: Option<&At<Scalar>>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let shown = (
            units::readable(*range.start()),
            units::readable(*range.end()),
        );
        self.scalar(key, value, default, &range, (&shown.0, &shown.1), |text| {
            units::duration(text).map_err(|error| (error.to_string(), error.hint))
        })
    }

    pub(in crate::config) fn count(
        &mut self,
        key: &str,
        value: Option<&At<Scalar>>,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> u32 {
        let shown = (range.start().to_string(), range.end().to_string());
        self.scalar(key, value, default, &range, (&shown.0, &shown.1), |text| {
            let number = units::count(text).map_err(|error| (error.to_string(), error.hint))?;
            // What does not fit is out of any range.
            Ok(u32::try_from(number).unwrap_or(u32::MAX))
        })
    }

    pub(in crate::config) fn size(
        &mut self,
        key: &str,
        value: Option<&At<Scalar>>,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let shown = (
            units::readable_size(*range.start()),
            units::readable_size(*range.end()),
        );
        self.scalar(key, value, default, &range, (&shown.0, &shown.1), |text| {
            units::size(text).map_err(|error| (error.to_string(), error.hint))
        })
    }

    fn scalar<T: PartialOrd>(
        &mut self,
        key: &str,
        value: Option<&At<Scalar>>,
        default: T,
        range: &RangeInclusive<T>,
        shown: (&str, &str),
        parse: impl Fn(&str) -> Result<T, (String, &'static str)>,
    ) -> T {
        let Some(At {
            value: Scalar(text),
            place,
        }) = value
        else {
            return default;
        };
        match parse(text) {
            Ok(parsed) if range.contains(&parsed) => parsed,
            Ok(_) => {
                self.error(
                    "out_of_range",
                    *place,
                    format!("`{key}` is `{text}`, which is out of range"),
                )
                .hint(format!("from {} to {}", shown.0, shown.1));
                default
            }
            Err((why, hint)) => {
                self.error("bad_value", *place, format!("`{key}`: `{text}` {why}"))
                    .hint(hint);
                default
            }
        }
    }

    /// A header's name.
    pub(in crate::config) fn header(&mut self, name: &str, place: Place) -> Option<HeaderName> {
        let parsed = HeaderName::try_from(name).ok();
        if parsed.is_none() {
            self.error(
                "bad_value",
                place,
                format!("`{name}` is no name of a header"),
            )
            .hint("letters, digits and `-`, such as `x-account`");
        }
        parsed
    }

    /// A network, or one address as the network of itself.
    pub(in crate::config) fn network(&mut self, text: &At<String>) -> Option<IpNet> {
        let network = text.value.parse::<IpNet>().ok();
        let network = network.or_else(|| text.value.parse::<IpAddr>().ok().map(IpNet::from));
        if network.is_none() {
            let message = format!("`{}` is no network", text.value);
            self.error("bad_address", text.place, message)
                .hint("such as `10.0.0.0/8`, `2001:db8::/32`, or one address");
        }
        network
    }

    /// Refuses lists that are longer than anyone means.
    pub(in crate::config) fn bound(&mut self, what: &str, count: usize, max: usize, place: Place) {
        if count > max {
            self.error("too_many", place, format!("{count} {what} are too many"))
                .hint(format!("at most {max}"));
        }
    }
}

/// Whether a text is a name of ours: 1 to 64 lower-case letters, digits, `-`, `_` and `.`.
pub(super) fn is_name(text: &str) -> bool {
    let is_plain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(is_plain)
}

impl Names {
    pub(in crate::config) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            declared: Vec::new(),
            index: std::collections::HashMap::new(),
        }
    }

    /// Takes a name in; one that is given twice keeps its first meaning.
    pub(in crate::config) fn declare(
        &mut self,
        cx: &mut Context<'_>,
        name: &At<String>,
        reserved: &[&str],
    ) {
        let kind = self.kind;
        let text = name.value.as_str();
        if !is_name(text) {
            let shown: String = text.chars().take(NAME_MAX).collect();
            cx.error(
                "bad_name",
                name.place,
                format!("`{shown}` is no name of a {kind}"),
            )
            .hint("1 to 64 lower-case letters, digits, `-`, `_` and `.`");
        } else if reserved.contains(&text) {
            cx.error(
                "reserved_name",
                name.place,
                format!("no {kind} may be named `{text}`"),
            )
            .hint("the name is Tidegate's own; choose another");
        }
        if let Some(&first) = self.index.get(text) {
            let line = self.declared[first].1.line;
            cx.error(
                "double_name",
                name.place,
                format!("two {kind}s are named `{text}`"),
            )
            .hint(format!("the first is in line {line}; rename one of them"));
        } else {
            self.index.insert(text.to_owned(), self.declared.len());
        }
        self.declared.push((text.to_owned(), name.place));
    }

    /// The place in the list of what `who` refers to.
    pub(in crate::config) fn find(
        &self,
        cx: &mut Context<'_>,
        name: &At<String>,
        code: &'static str,
        who: &str,
    ) -> Option<usize> {
        if let Some(&index) = self.index.get(&name.value) {
            return Some(index);
        }
        let kind = self.kind;
        let shown: String = name.value.chars().take(NAME_MAX).collect();
        let hint = self.hint(&name.value);
        cx.error(
            code,
            name.place,
            format!("{who} names the {kind} `{shown}`, which is not declared"),
        )
        .hint(hint);
        None
    }

    fn hint(&self, wrong: &str) -> String {
        /// Names listed in a hint: more help nobody.
        const LISTED: usize = 12;
        if self.declared.is_empty() {
            return format!("no {} is declared", self.kind);
        }
        let listed = self
            .declared
            .iter()
            .take(LISTED)
            .map(|(name, _)| format!("`{name}`"));
        let mut hint = format!("declared are {}", listed.collect::<Vec<_>>().join(", "));
        if self.declared.len() > LISTED {
            hint.push_str(", …");
        }
        if let Some(name) = closest(wrong, self.declared.iter().map(|(name, _)| name.as_str())) {
            hint = format!("{hint}; did you mean `{name}`?");
        }
        hint
    }

    pub(in crate::config) fn has(&self, text: &str) -> bool {
        self.index.contains_key(text)
    }

    pub(in crate::config) fn len(&self) -> usize {
        self.declared.len()
    }

    pub(in crate::config) fn place(&self, index: usize) -> Place {
        self.declared[index].1
    }

    pub(in crate::config) fn text(&self, index: usize) -> &str {
        &self.declared[index].0
    }
}
