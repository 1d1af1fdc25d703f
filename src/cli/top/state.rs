//! What the operator sees and has chosen, apart from how it is drawn.
//!
//! A selection is of a thing, not of a place on the screen: rows move every second, and what was selected must not become
//! another. What is gone is selected no more. Knows no terminal and does no call.

use std::time::{Duration, Instant};

use super::history::History;
use super::question::Question;
use super::seen::{Limit, Overview, Request, Text};

/// How long a message stands, if nothing replaces it.
const SAID_FOR: Duration = Duration::from_secs(12);

/// A part of the screen that has rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Panel {
    Limits,
    Accounts,
    Upstreams,
    Requests,
}

impl Panel {
    pub(super) const ALL: [Self; 4] = [
        Self::Limits,
        Self::Accounts,
        Self::Upstreams,
        Self::Requests,
    ];

    /// What its rows can be sorted by; the first is how they are at the beginning.
    pub(super) fn orders(self) -> &'static [Order] {
        match self {
            Self::Limits => &[Order::Use, Order::Refused, Order::Queued, Order::File],
            Self::Accounts => &[Order::InFlight, Order::Peak, Order::Name],
            Self::Upstreams => &[Order::File],
            Self::Requests => &[Order::Age, Order::State, Order::Account],
        }
    }
}

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Use,
    Refused,
    Queued,
    File,
    InFlight,
    Peak,
    Name,
    Age,
    State,
    Account,
}

impl Order {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Use => "fullest",
            Self::Refused => "most refused",
            Self::Queued => "most queued",
            Self::File => "as in the file",
            Self::InFlight => "most in flight",
            Self::Peak => "largest peak",
            Self::Name => "by name",
            Self::Age => "oldest",
            Self::State => "by state",
            Self::Account => "by account",
        }
    }
}

/// What is selected in a panel, and how it is sorted.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    pub(super) selected: Option<String>,
    order: usize,
}

/// A message to the operator.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) text: Text,
    pub(super) is_bad: bool,
    at: Instant,
}

/// Why there are no numbers of now.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) what: Text,
    pub(super) since: Instant,
}

/// All of it.
#[derive(Debug)]
pub(super) struct State {
    /// The gate's address.
    pub(super) gate: Text,
    /// Between two looks.
    pub(super) every: Duration,
    /// When this began.
    pub(super) started: Instant,
    /// The last that the gate told, and when.
    pub(super) seen: Option<(Instant, Overview)>,
    pub(super) history: History,
    pub(super) trouble: Option<Trouble>,
    pub(super) focus: Panel,
    pub(super) choices: [Choice; 4],
    /// Only accounts that contain this are shown; empty for all.
    pub(super) filter: String,
    pub(super) is_paused: bool,
    pub(super) is_help: bool,
    pub(super) question: Option<Question>,
    /// Why the last answer was none.
    pub(super) wrong: Option<String>,
    pub(super) said: Option<Said>,
}

impl State {
    pub(super) fn new(gate: &str, every: Duration, now: Instant) -> Self {
        Self {
            gate: gate.into(),
            every,
            started: now,
            seen: None,
            history: History::default(),
            trouble: None,
            focus: Panel::Limits,
            choices: Default::default(),
            filter: String::new(),
            is_paused: false,
            is_help: false,
            question: None,
            wrong: None,
            said: None,
        }
    }

    /// Takes in what the gate told.
    pub(super) fn look(&mut self, now: Instant, seen: Overview) {
        if self.is_paused && self.seen.is_some() {
            return;
        }
        self.history.note(now, &seen);
        self.seen = Some((now, seen));
        self.trouble = None;
        self.forget_what_is_gone();
    }

    /// Takes in that it did not tell.
    pub(super) fn miss(&mut self, now: Instant, why: &str) {
        self.history.note_gap();
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        let what = why.into();
        self.trouble = Some(Trouble { what, since });
    }

    /// How old the numbers are, if older than they should be.
    pub(super) fn stale(&self, now: Instant) -> Option<Duration> {
        let at = self.seen.as_ref().map_or(self.started, |(at, _)| *at);
        let age = now.saturating_duration_since(at);
        (self.trouble.is_some() || self.is_paused || age > 3 * self.every).then_some(age)
    }

    pub(super) fn say(&mut self, now: Instant, text: &str, is_bad: bool) {
        self.said = Some(Said {
            text: text.into(),
            is_bad,
            at: now,
        });
    }

    /// The message that stands.
    pub(super) fn said(&self, now: Instant) -> Option<&Said> {
        let said = self.said.as_ref();
        said.filter(|said| now.saturating_duration_since(said.at) < SAID_FOR)
    }

    pub(super) fn choice(&self, panel: Panel) -> &Choice {
        &self.choices[panel as usize]
    }

    fn choice_mut(&mut self, panel: Panel) -> &mut Choice {
        &mut self.choices[panel as usize]
    }

    /// How a panel is sorted.
    pub(super) fn order(&self, panel: Panel) -> Order {
        let orders = panel.orders();
        orders[self.choice(panel).order % orders.len()]
    }

    pub(super) fn sort_otherwise(&mut self) {
        self.choice_mut(self.focus).order += 1;
    }

    /// Moves the selection of the panel in focus; from nothing to its first or last row.
    pub(super) fn step(&mut self, by: isize) {
        let panel = self.focus;
        let mut ids = self.ids(panel);
        let selected = self.choice(panel).selected.as_ref();
        let at = selected.and_then(|id| ids.iter().position(|known| known == id));
        let last = ids.len().saturating_sub(1);
        let next = match at {
            Some(at) => at.saturating_add_signed(by).min(last),
            // The top of a list is asked for by its first row, whence all others are below.
            None if by == isize::MAX || (by < 0 && by != isize::MIN) => last,
            None => 0,
        };
        self.choice_mut(panel).selected = (next < ids.len()).then(|| ids.swap_remove(next));
    }

    /// Moves the focus.
    pub(super) fn turn(&mut self, by: usize) {
        self.focus = Panel::ALL[(self.focus as usize + by) % Panel::ALL.len()];
    }

    /// Selects nothing where what was selected is not there any more, or not shown.
    pub(super) fn forget_what_is_gone(&mut self) {
        for panel in Panel::ALL {
            let ids = self.ids(panel);
            let choice = self.choice_mut(panel);
            choice.selected = choice.selected.take().filter(|id| ids.contains(id));
        }
    }

    /// The selected limit.
    pub(super) fn limit(&self) -> Option<&Limit> {
        let id = self.choice(Panel::Limits).selected.as_ref()?;
        self.limits().into_iter().find(|limit| *limit.name == **id)
    }

    /// The selected request.
    pub(super) fn request(&self) -> Option<&Request> {
        let id = self.choice(Panel::Requests).selected.as_ref()?;
        let mut requests = self.requests().into_iter();
        requests.find(|request| request.id.to_string() == *id)
    }
}
