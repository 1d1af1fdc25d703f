//! An explanation as people read it on a terminal.
//!
//! Never says what the explanation does not hold.

use std::fmt;

use super::{Asked, Explanation, Judged, Line, Refused};
use crate::admission::Mode;

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Judged(judged) => judged.fmt(f),
            Self::Refused(Refused {
                status,
                reason,
                detail,
            }) => {
                writeln!(f, "answered     {status} {reason}\nbecause      {detail}")
            }
        }
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource_line = shown(self.resource_line.as_ref(), "what no resource matches");
        writeln!(f, "resource     {}  ({resource_line})", self.resource)?;
        writeln!(f, "upstream     {}", self.upstream)?;
        if self.exempt {
            return writeln!(
                f,
                "exempt       forwarded without being identified or limited"
            );
        }
        let identified_by = shown(self.identified_by.as_ref(), "nothing identifies it");
        writeln!(f, "account      {}  ({identified_by})", self.account)?;
        writeln!(f, "group        {}", self.group.as_deref().unwrap_or("-"))?;
        writeln!(f, "priority     {}", self.priority)?;
        writeln!(f, "cost         {}", self.cost)?;
        if self.limits.is_empty() {
            writeln!(f, "limits       none applies")?;
        } else {
            writeln!(f, "limits       in the order in which they are asked")?;
        }
        for (number, limit) in (1..).zip(&self.limits) {
            let mode = if limit.mode == Mode::Enforce.as_str() {
                ""
            } else {
                ", in shadow"
            };
            limit.write(f, number, mode)?;
        }
        for candidate in &self.candidates {
            let would = match candidate.fits {
                None => "",
                Some(true) => ", which would admit it now",
                Some(false) => ", which would refuse it now",
            };
            writeln!(f, "on paper     the candidate {}{would}", candidate.name)?;
            for (number, limit) in (1..).zip(&candidate.limits) {
                limit.write(f, number, "")?;
            }
        }
        if let Some(outcome) = &self.outcome {
            writeln!(f, "now          {}", outcome.sentence)?;
        }
        Ok(())
    }
}

impl Asked {
    /// How full it is, where that is known.
    fn now(&self) -> String {
        let Some(in_flight) = self.in_flight else {
            return String::new();
        };
        let queued = self.queued.filter(|queued| *queued > 0);
        let queued = queued.map_or_else(String::new, |queued| format!(", {queued} queued"));
        let fits = if self.fits == Some(true) {
            "fits"
        } else {
            "no place"
        };
        format!(": {in_flight} in flight{queued}, {fits}")
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, number: usize, mode: &str) -> fmt::Result {
        let Self { name, max, .. } = self;
        let key = self.key.iter();
        let key = key.map(|(dimension, value)| format!("{dimension}={value}"));
        let key = key.collect::<Vec<_>>().join(", ");
        let key = if key.is_empty() {
            "one count for all"
        } else {
            &key
        };
        let line = shown(self.line.as_ref(), "");
        let now = self.now();
        writeln!(
            f,
            "  {number}. {name}  max {max}{now}{mode}, [{key}]  ({line})"
        )
    }
}

fn shown(line: Option<&Line>, without: &str) -> String {
    line.map_or_else(|| without.to_owned(), ToString::to_string)
}
