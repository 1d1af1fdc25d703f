//! What is asked at the bottom of the screen before something changes, and what the answers come to.
//!
//! A question keeps what it is about, so that it is not about another row when the rows move. Nothing changes without `y`, or a
//! number and a time that were typed.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::line::{Line, Typed};
use super::seen::{Limit, Override, Request, Text};
use super::words;
use crate::config::units;

/// The shortest and the longest time that a gate takes for an override.
const LASTS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3_600);
/// Overrides of one limit that can be chosen among, by a digit.
const CHOICES_MAX: usize = 9;

/// Something to be done outside: by calls, or by ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    /// Look at once, for what is looked at is another.
    Look,
    Cancel {
        id: u64,
        what: String,
    },
    Override {
        limit: Text,
        max: u32,
        lasts: String,
        account: Option<String>,
    },
    EndOverride {
        limit: Text,
        whose: Whose,
    },
}

/// Whose maximum an override is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    Everyone,
    Account(Text),
    Group(Text),
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    Filter(Line),
    Cancel { id: u64, what: String },
    Max(Wanted, Line),
    Lasts(Wanted, Line),
    Account(Wanted, Line),
    Which(Text, Vec<(Whose, String)>),
    End(Text, Whose, String),
}

/// An override that is being typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    limit: Text,
    /// Whether it can be for one account.
    is_by_account: bool,
    account: String,
    max: u32,
    lasts: String,
}

/// What came of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This is asked now.
    Ask(Question),
    /// It is answered.
    Do(Effect),
    /// These accounts are to be shown.
    Filter(String),
    /// It is asked again, for the answer was none.
    Again(Question, String),
    /// It was given up.
    Leave,
}

impl Question {
    /// Which accounts are shown.
    pub(super) fn filter(now: &str) -> Self {
        Self::Filter(Line::new(now))
    }

    /// Before a request is ended.
    pub(super) fn cancel(request: &Request) -> Self {
        let Request {
            account,
            path,
            method,
            ..
        } = request;
        let what = format!("{} {} of {}", &**method, &**path, &**account);
        Self::Cancel {
            id: request.id,
            what,
        }
    }

    /// Before a maximum is overridden; the account that is looked at is offered.
    pub(super) fn max(limit: &Limit, account: &str) -> Self {
        let wanted = Wanted {
            limit: limit.name.clone(),
            is_by_account: limit.per.iter().any(|by| &**by == "account"),
            account: account.to_owned(),
            ..Wanted::default()
        };
        Self::Max(wanted, Line::default())
    }

    /// Before an override is ended; none if there is none.
    pub(super) fn end(limit: &Limit) -> Option<Self> {
        let overrides = limit.overrides.iter().take(CHOICES_MAX);
        let mut choices: Vec<_> = overrides.map(|of| (whose(of), of.whose())).collect();
        match choices.len() {
            0 => None,
            1 => choices
                .pop()
                .map(|(whose, shown)| Self::End(limit.name.clone(), whose, shown)),
            _ => Some(Self::Which(limit.name.clone(), choices)),
        }
    }

    /// How it is put.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Filter(line) => format!("accounts that contain (empty: all): {}", line.0),
            Self::Cancel { what, .. } => format!("cancel {what}? y/n"),
            Self::Max(of, line) => {
                format!(
                    "max of {} for a while (0 closes it): {}",
                    &*of.limit, line.0
                )
            }
            Self::Lasts(of, line) => {
                format!(
                    "max {} of {} for how long, such as 10m: {}",
                    of.max, &*of.limit, line.0
                )
            }
            Self::Account(of, line) => format!(
                "max {} of {} for {}, for which account (empty: everyone): {}",
                of.max, &*of.limit, of.lasts, line.0
            ),
            Self::Which(limit, choices) => {
                let choices = choices.iter().enumerate();
                let choices = choices.map(|(index, (_, shown))| format!("{}: {shown}", index + 1));
                let choices: Vec<_> = choices.collect();
                format!("end which override of {}? {}", &**limit, choices.join("  "))
            }
            Self::End(limit, _, whose) => {
                format!("end the override of {} for {whose}? y/n", &**limit)
            }
        }
    }

    /// What is typed, if it takes a text.
    pub(super) fn line(&self) -> Option<&str> {
        match self {
            Self::Filter(line)
            | Self::Max(_, line)
            | Self::Lasts(_, line)
            | Self::Account(_, line) => Some(&line.0),
            Self::Cancel { .. } | Self::Which(..) | Self::End(..) => None,
        }
    }

    /// Answers it by a key.
    pub(super) fn key(mut self, key: KeyEvent) -> Next {
        let line = match &mut self {
            Self::Filter(line)
            | Self::Max(_, line)
            | Self::Lasts(_, line)
            | Self::Account(_, line) => line,
            Self::Cancel { .. } | Self::Which(..) | Self::End(..) => return self.choose(key),
        };
        match line.key(key) {
            Typed::More => Next::Ask(self),
            Typed::Left => Next::Leave,
            Typed::Done => self.typed(),
        }
    }

    fn choose(self, key: KeyEvent) -> Next {
        let typed = match key.code {
            KeyCode::Char(typed) => typed.to_ascii_lowercase(),
            KeyCode::Esc | KeyCode::Enter => 'n',
            _ => return Next::Ask(self),
        };
        match (self, typed) {
            (Self::Cancel { id, what }, 'y') => Next::Do(Effect::Cancel { id, what }),
            (Self::End(limit, whose, _), 'y') => Next::Do(Effect::EndOverride { limit, whose }),
            (Self::Which(limit, mut choices), '1'..='9') => {
                let index = typed.to_digit(10).unwrap_or(1) as usize - 1;
                if index >= choices.len() {
                    return Next::Ask(Self::Which(limit, choices));
                }
                let (whose, _) = choices.swap_remove(index);
                Next::Do(Effect::EndOverride { limit, whose })
            }
            (_, 'n' | 'q') => Next::Leave,
            (same, _) => Next::Ask(same),
        }
    }

    fn typed(self) -> Next {
        match self {
            Self::Filter(line) => Next::Filter(line.0),
            Self::Max(of, line) => match line.0.parse() {
                Ok(max) => Next::Ask(Self::Lasts(Wanted { max, ..of }, Line::new("10m"))),
                Err(_) => Next::Again(
                    Self::Max(of, line),
                    "a maximum is a whole number; 0 closes the limit".to_owned(),
                ),
            },
            Self::Lasts(of, line) => match lasts(&line.0) {
                Ok(lasts) if of.is_by_account => {
                    let account = Line::new(&of.account);
                    Next::Ask(Self::Account(Wanted { lasts, ..of }, account))
                }
                Ok(lasts) => Next::Do(Wanted { lasts, ..of }.effect(None)),
                Err(why) => Next::Again(Self::Lasts(of, line), why),
            },
            Self::Account(of, line) => {
                Next::Do(of.effect(Some(line.0).filter(|name| !name.is_empty())))
            }
            other => Next::Ask(other),
        }
    }
}

impl Wanted {
    fn effect(self, account: Option<String>) -> Effect {
        Effect::Override {
            limit: self.limit,
            max: self.max,
            lasts: self.lasts,
            account,
        }
    }
}

fn lasts(text: &str) -> Result<String, String> {
    let time = units::duration(text).map_err(|error| format!("it {error}; {}", error.hint))?;
    if LASTS.contains(&time) {
        Ok(text.to_owned())
    } else {
        Err("an override lasts from 1s to 7d; what is needed for longer belongs into the configuration".to_owned())
    }
}

fn whose(of: &Override) -> Whose {
    match (&of.account, &of.group) {
        (Some(account), _) => Whose::Account(account.clone()),
        (None, Some(group)) => Whose::Group(group.clone()),
        (None, None) => Whose::Everyone,
    }
}

impl Effect {
    /// What there is to say when it is done.
    pub(super) fn done(&self) -> String {
        match self {
            Self::Quit | Self::Look => String::new(),
            Self::Cancel { what, .. } => format!("cancelled {what}"),
            Self::Override {
                limit,
                max,
                lasts,
                account,
            } => {
                let whose = account.as_deref().unwrap_or("everyone");
                format!("max of {} is {max} for {whose} for {lasts}", &**limit)
            }
            Self::EndOverride { limit, whose } => {
                format!(
                    "the override of {} for {} is ended",
                    &**limit,
                    words::whose(whose)
                )
            }
        }
    }
}
