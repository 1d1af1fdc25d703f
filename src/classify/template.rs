//! Path templates: `/accounts/{account}/calls`, `/files/{*rest}`.
//!
//! `{name}` is one segment that is not empty, `{*name}` the rest of the path, which may be empty; text and captures
//! do not mix inside a segment, except for a suffix behind a capture (`{name}.json`). Never a regular expression:
//! matching is one walk over the segments.

use smallvec::SmallVec;

use super::path::NormalPath;

/// A path to match against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
    rest: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Capture { name: String, suffix: String },
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It does not begin with a slash.
    #[error("a path begins with `/`")]
    NoSlash,
    /// A brace opens and does not close, or closes what did not open.
    #[error("the braces of `{0}` do not match")]
    Braces(String),
    /// A capture has no name, or one with other characters than letters, digits and `_`.
    #[error("`{{{0}}}` is no capture: a name has letters, digits and `_`")]
    Name(String),
    /// Two captures share a name.
    #[error("the capture `{{{0}}}` appears twice")]
    Twice(String),
    /// `{*rest}` is not at the end.
    #[error("`{{*{0}}}` takes the rest of the path and stands at its end")]
    RestInside(String),
    /// A literal that no normalised path contains.
    #[error(
        "the segment `{0}` never matches: paths are compared after `.`, `..`, `//` and needless escapes are resolved"
    )]
    NeverMatches(String),
}

/// What the captures of a template stand for, in the order of the template.
#[derive(Debug, Default)]
pub(super) struct Captures<'p>(SmallVec<[&'p [u8]; 4]>);

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let path = text.strip_prefix('/').ok_or(TemplateError::NoSlash)?;
        let mut template = Self {
            segments: Vec::new(),
            rest: None,
        };
        let count = path.split('/').count();
        for (index, segment) in path.split('/').enumerate() {
            if let Some(name) = segment
                .strip_prefix("{*")
                .and_then(|tail| tail.strip_suffix('}'))
            {
                if index + 1 != count {
                    return Err(TemplateError::RestInside(name.into()));
                }
                template.check_name(name)?;
                template.rest = Some(name.into());
            } else {
                let parsed = template.segment(segment, index + 1 == count)?;
                template.segments.push(parsed);
            }
        }
        Ok(template)
    }

    fn segment(&self, text: &str, is_last: bool) -> Result<Segment, TemplateError> {
        let Some(tail) = text.strip_prefix('{') else {
            if text.contains(['{', '}']) {
                return Err(TemplateError::Braces(text.into()));
            }
            let is_dots = text == "." || text == "..";
            if is_dots
                || (text.is_empty() && !is_last)
                || super::path::is_rewritten(text.as_bytes())
            {
                return Err(TemplateError::NeverMatches(text.into()));
            }
            return Ok(Segment::Literal(text.into()));
        };
        let (name, suffix) = tail
            .split_once('}')
            .ok_or_else(|| TemplateError::Braces(text.into()))?;
        if suffix.contains(['{', '}']) {
            return Err(TemplateError::Braces(text.into()));
        }
        self.check_name(name)?;
        Ok(Segment::Capture {
            name: name.into(),
            suffix: suffix.into(),
        })
    }

    fn check_name(&self, name: &str) -> Result<(), TemplateError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(TemplateError::Name(name.into()));
        }
        if self.names().any(|known| known == name) {
            return Err(TemplateError::Twice(name.into()));
        }
        Ok(())
    }

    /// The names of its captures, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let of_segments = self.segments.iter().filter_map(|segment| match segment {
            Segment::Capture { name, .. } => Some(name.as_str()),
            Segment::Literal(_) => None,
        });
        of_segments.chain(self.rest.as_deref())
    }

    /// Whether every path that `other` matches is matched by this one too (it may say no where that is hard to tell).
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let is_long_enough = match &self.rest {
            Some(_) => other.segments.len() >= self.segments.len(),
            None => other.segments.len() == self.segments.len() && other.rest.is_none(),
        };
        is_long_enough
            && self
                .segments
                .iter()
                .zip(&other.segments)
                .all(|pair| match pair {
                    (Segment::Capture { suffix, .. }, Segment::Literal(text)) => {
                        text.len() > suffix.len() && text.ends_with(suffix.as_str())
                    }
                    (
                        Segment::Capture { suffix, .. },
                        Segment::Capture {
                            suffix: narrower, ..
                        },
                    ) => narrower.ends_with(suffix.as_str()),
                    (Segment::Literal(a), Segment::Literal(b)) => a == b,
                    (Segment::Literal(_), Segment::Capture { .. }) => false,
                })
    }

    pub(super) fn captures<'p>(&self, path: &'p NormalPath<'_>, into: &mut Captures<'p>) -> bool {
        let is_possible = match &self.rest {
            Some(_) => path.segment_count() >= self.segments.len(),
            None => path.segment_count() == self.segments.len(),
        };
        if !is_possible {
            return false;
        }
        // Literals first, and from the end: the paths of one API begin alike.
        for (index, segment) in self.segments.iter().enumerate().rev() {
            if let Segment::Literal(wanted) = segment
                && path.segment(index) != wanted.as_bytes()
            {
                return false;
            }
        }
        into.0.clear();
        for (index, segment) in self.segments.iter().enumerate() {
            if let Segment::Capture { suffix, .. } = segment {
                let stem = path.segment(index).strip_suffix(suffix.as_bytes());
                let Some(stem) = stem.filter(|stem| !stem.is_empty()) else {
                    return false;
                };
                into.0.push(stem);
            }
        }
        if self.rest.is_some() {
            into.0.push(path.rest(self.segments.len()));
        }
        true
    }
}

impl<'p> Captures<'p> {
    /// The capture of that name in the template that filled this.
    pub(super) fn named(&self, template: &Template, name: &str) -> Option<&'p [u8]> {
        let index = template.names().position(|known| known == name)?;
        self.0.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(template: &str, path: &str) -> Option<Vec<String>> {
        let template = Template::parse(template).unwrap();
        let path = NormalPath::new(path.as_bytes()).unwrap();
        let mut captures = Captures::default();
        let fits = template.captures(&path, &mut captures);
        fits.then(|| {
            captures
                .0
                .iter()
                .map(|c| String::from_utf8_lossy(c).into_owned())
                .collect()
        })
    }

    #[test]
    fn a_capture_is_one_segment_and_the_rest_is_everything() {
        let calls = "/2010-04-01/Accounts/{account}/Calls.json";
        assert_eq!(
            matched(calls, "/2010-04-01/Accounts/AC1/Calls.json"),
            Some(vec!["AC1".into()])
        );
        assert_eq!(
            matched(calls, "/2010-04-01/Accounts/AC1/x/Calls.json"),
            None
        );
        assert_eq!(matched(calls, "/2010-04-01/Accounts//Calls.json"), None);
        assert_eq!(matched("/{*rest}", "/"), Some(vec![String::new()]));
        assert_eq!(matched("/{*rest}", "/a/b"), Some(vec!["a/b".into()]));
        assert_eq!(matched("/a/{*rest}", "/a"), Some(vec![String::new()]));
        assert_eq!(matched("/a/{*rest}", "/ab"), None);
        assert_eq!(matched("/a/{id}.json", "/a/7.json"), Some(vec!["7".into()]));
        assert_eq!(matched("/a/{id}.json", "/a/.json"), None);
        assert_eq!(matched("/a", "/a/"), None);
        assert_eq!(matched("/a/", "/a/"), Some(vec![]));
    }

    #[test]
    fn a_broken_template_says_what_is_broken() {
        let error = |text: &str| Template::parse(text).unwrap_err();
        assert_eq!(error("a"), TemplateError::NoSlash);
        assert_eq!(error("/{a"), TemplateError::Braces("{a".into()));
        assert_eq!(error("/x{a}"), TemplateError::Braces("x{a}".into()));
        assert_eq!(error("/{}"), TemplateError::Name(String::new()));
        assert_eq!(error("/{a}/{a}"), TemplateError::Twice("a".into()));
        assert_eq!(error("/{*a}/b"), TemplateError::RestInside("a".into()));
        assert_eq!(error("/a/../b"), TemplateError::NeverMatches("..".into()));
        assert_eq!(error("/a//b"), TemplateError::NeverMatches(String::new()));
        assert_eq!(error("/%41"), TemplateError::NeverMatches("%41".into()));
    }

    // G20: what a rule shadows can be told.
    #[test]
    fn a_wider_template_covers_a_narrower_one() {
        let covers = |a: &str, b: &str| {
            Template::parse(a)
                .unwrap()
                .covers(&Template::parse(b).unwrap())
        };
        assert!(covers("/{*rest}", "/a/{b}"));
        assert!(covers("/{x}/b", "/a/b"));
        assert!(!covers("/a/b", "/{x}/b"));
        assert!(!covers("/{x}", "/{*rest}"));
        assert!(covers("/{x}", "/{y}.json"));
    }
}
