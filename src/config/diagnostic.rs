//! What is said about a configuration: where, what, and the way out.
//!
//! A diagnostic shows path, line, column, the line itself, a caret and a hint, and all of them are shown at once.
//! Lines are cropped and control characters replaced, so that a hostile file cannot draw on the terminal. Never
//! shows a secret: secrets are never in the file.

use std::fmt;

use serde::Serialize;
use serde_yaml::Location;

/// Longest line that is shown whole, in characters; of a longer one, the part around the place.
const LINE_SHOWN_MAX: usize = 160;
/// Characters shown before the place in a cropped line.
const CONTEXT: usize = 60;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It works, but hardly as it was meant.
    Warning,
}

/// A place in the file; line 0 is the file as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
    /// Characters pointed at; 0 where the token itself has to tell.
    pub(super) width: usize,
}

impl From<&Location> for Place {
    fn from(location: &Location) -> Self {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            line: number(location.line()),
            column: number(location.column()),
            width: number(location.span().len()),
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for the kind of finding.
    pub code: &'static str,
    /// What is found.
    pub message: String,
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// The column in characters, from 1; 0 for the file as a whole.
    pub column: usize,
    /// The line itself, or what is shown of it.
    pub source_line: String,
    /// How many characters are pointed at.
    pub width: usize,
    /// The way out.
    pub hint: Option<String>,
    /// Where the caret stands in `source_line`, in characters.
    #[serde(skip)]
    caret: usize,
}

/// The text that diagnostics point into, split into lines once.
#[derive(Debug)]
pub(super) struct Source<'a> {
    file: &'a str,
    text: &'a str,
    lines: Vec<&'a str>,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // A line ends with LF, CR LF, or (to the reader of YAML) CR alone.
        let of_line = |line: &'a str| line.strip_suffix('\r').unwrap_or(line).split('\r');
        Self {
            file,
            text,
            lines: text.split('\n').flat_map(of_line).collect(),
        }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The line of that number, from 1, without its end.
    pub(super) fn line(&self, number: usize) -> &'a str {
        number
            .checked_sub(1)
            .and_then(|index| self.lines.get(index))
            .copied()
            .unwrap_or_default()
    }

    /// The place of the key that stands before a value, or that a block of keys begins with.
    pub(super) fn key_before(&self, value: Place, key: &str) -> Place {
        let here: String = self
            .line(value.line)
            .chars()
            .skip(value.column.saturating_sub(1))
            .collect();
        if here.starts_with(key) {
            return Place {
                width: key.chars().count(),
                ..value
            };
        }
        if let Some(inside) = here.strip_prefix('{').and_then(|tail| tail.find(key)) {
            let skipped = here[..=inside].chars().count();
            return Place {
                column: value.column + skipped,
                width: key.chars().count(),
                ..value
            };
        }
        for number in (value.line.saturating_sub(8)..=value.line).rev() {
            let line = self.line(number);
            let shown = if number == value.line {
                value.column.saturating_sub(1)
            } else {
                usize::MAX
            };
            let before: String = line.chars().take(shown).collect();
            let before = if number == value.line {
                before.as_str()
            } else {
                without_comment(&before)
            };
            if let Some(found) = before.rfind(&format!("{key}:")) {
                let column = before[..found].chars().count() + 1;
                return Place {
                    line: number,
                    column,
                    width: key.chars().count(),
                };
            }
        }
        value
    }

    /// A finding at a place, without a hint yet.
    pub(super) fn diagnostic(
        &self,
        severity: Severity,
        code: &'static str,
        place: Place,
        message: String,
    ) -> Diagnostic {
        let shown = Shown::new(self.line(place.line), place);
        Diagnostic {
            severity,
            code,
            message,
            file: self.file.to_owned(),
            line: place.line,
            column: place.column,
            source_line: if place.line == 0 {
                String::new()
            } else {
                shown.text
            },
            width: shown.width,
            hint: None,
            caret: shown.caret,
        }
    }
}

fn without_comment(line: &str) -> &str {
    let is_comment = line.trim_start().starts_with('#');
    if is_comment {
        ""
    } else {
        line.find(" #").map_or(line, |start| &line[..start])
    }
}

/// What is shown of a line.
struct Shown {
    text: String,
    caret: usize,
    width: usize,
}

impl Shown {
    fn new(line: &str, place: Place) -> Self {
        let length = line.chars().count();
        let caret = place.column.saturating_sub(1).min(length);
        let at_place: String = line.chars().skip(caret).collect();
        let wanted = if place.width > 0 {
            place.width
        } else {
            token_width(&at_place)
        };
        let start = if length > LINE_SHOWN_MAX {
            caret.saturating_sub(CONTEXT)
        } else {
            0
        };
        let part = line.chars().skip(start).take(LINE_SHOWN_MAX);
        let visible = |c: char| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        };
        let mut text: String = part.map(visible).collect();
        let mut caret = caret - start;
        if start > 0 {
            text.insert(0, '…');
            caret += 1;
        }
        if length > start + LINE_SHOWN_MAX {
            text.push('…');
        }
        let width = wanted
            .min(text.chars().count().saturating_sub(caret))
            .max(1);
        Self {
            text: text.trim_end().to_owned(),
            caret,
            width,
        }
    }
}

/// The width of the token that begins here: a quoted text with its quotes, or all up to a delimiter.
fn token_width(text: &str) -> usize {
    let mut chars = text.chars();
    if let Some(quote @ ('"' | '\'')) = chars.next() {
        let inside = chars.position(|c| c == quote);
        return inside.map_or(1, |inside| inside + 2);
    }
    let mut width = 0;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let ends_key = c == ':' && rest.peek().is_none_or(|next| next.is_whitespace());
        if c.is_whitespace() || matches!(c, ',' | ']' | '}' | '[' | '{') || ends_key {
            break;
        }
        width += 1;
    }
    width.max(1)
}

impl Diagnostic {
    /// A finding about a file as a whole.
    pub(super) fn of_file(file: &str, code: &'static str, message: String, hint: &str) -> Self {
        let mut found =
            Source::new(file, "").diagnostic(Severity::Error, code, Place::default(), message);
        found.hint = Some(hint.to_owned());
        found
    }

    /// Adds the way out.
    pub(super) fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }

    /// Whether it refuses the configuration.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}[{}]: {}", self.code, self.message)?;
        if self.line == 0 {
            writeln!(f, "  --> {}", self.file)?;
        } else {
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            // Tabs are kept, so that the caret stands under its character however wide a tab is.
            let lead = self.source_line.chars().take(self.caret);
            let lead: String = lead.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            writeln!(f, "{margin}--> {}:{}:{}", self.file, self.line, self.column)?;
            writeln!(f, "{margin} |")?;
            writeln!(
                f,
                "{}",
                format!("{number} | {}", self.source_line).trim_end()
            )?;
            writeln!(f, "{margin} | {lead}{}", "^".repeat(self.width))?;
        }
        if let Some(hint) = &self.hint {
            let margin = " ".repeat(if self.line == 0 {
                1
            } else {
                self.line.to_string().len()
            });
            writeln!(f, "{margin} = hint: {hint}")?;
        }
        Ok(())
    }
}

/// All that is wrong with a configuration, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// At least one of them is an error.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{diagnostic}")?;
        }
        f.write_str(&summary(&self.diagnostics))
    }
}

impl std::error::Error for Report {}

impl From<Diagnostic> for Report {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            diagnostics: vec![diagnostic],
        }
    }
}

/// How many there are: `2 errors, 1 warning`.
#[must_use]
pub fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|found| found.is_error()).count();
    let counted = |count: usize, word: &str| {
        let plural = if count == 1 { "" } else { "s" };
        (count > 0).then(|| format!("{count} {word}{plural}"))
    };
    let parts = [
        counted(errors, "error"),
        counted(diagnostics.len() - errors, "warning"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The known name that was probably meant.
pub(super) fn closest<'n>(wrong: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let near = known.map(|name| (strsim::damerau_levenshtein(wrong, name), name));
    // A third of the letters wrong is another word.
    let bound = (wrong.chars().count() / 3).max(1);
    near.filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, line: usize, column: usize) -> String {
        let place = Place {
            line,
            column,
            width: 0,
        };
        Source::new("x.yaml", text)
            .diagnostic(Severity::Error, "code", place, "m".into())
            .to_string()
    }

    #[test]
    fn the_caret_stands_under_its_token() {
        let text = "a: 1\r\n  b: [\"x y\", züri]\n";
        assert_eq!(
            rendered(text, 2, 7),
            "error[code]: m\n --> x.yaml:2:7\n  |\n2 |   b: [\"x y\", züri]\n  |       ^^^^^\n"
        );
        assert!(rendered(text, 2, 14).ends_with("\n  |              ^^^^\n"));
        assert!(rendered("\ta: b\n", 1, 5).ends_with("\n  | \t   ^\n"));
    }

    #[test]
    fn places_outside_the_text_and_long_lines_do_no_harm() {
        for (line, column) in [
            (0, 0),
            (1, 0),
            (1, 900),
            (7, 3),
            (usize::MAX >> 40, usize::MAX),
        ] {
            rendered("a\n", line, column);
        }
        let long = format!("a: {}", "é".repeat(100_000));
        let text = rendered(&long, 1, 50_000);
        assert!(text.chars().count() < 1_000, "{text}");
        assert!(!rendered("a: \u{1b}[31m\n", 1, 1).contains('\u{1b}'));
    }

    #[test]
    fn a_suggestion_is_close_or_absent() {
        let known = || ["api", "bulk", "drain_timeout"].into_iter();
        assert_eq!(closest("apj", known()), Some("api"));
        assert_eq!(closest("drian_timeout", known()), Some("drain_timeout"));
        assert_eq!(closest("calls", known()), None);
    }
}
