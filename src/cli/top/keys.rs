//! What each key does.
//!
//! A key that cannot do anything here says why, and what to press instead.

use std::time::Instant;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::question::{Effect, Next, Question};
use super::state::{Panel, State};

/// Rows that a page key moves by.
const PAGE: isize = 10;

/// The keys, for the page that explains them.
pub(super) const HELP: [(&str, &str); 11] = [
    (
        "Tab, Shift-Tab",
        "the next part of the screen, the one before",
    ),
    (
        "arrows, j, k",
        "select a row; Page Up and Page Down, g and G go further",
    ),
    ("Esc", "select nothing; leave a question"),
    ("c", "cancel the selected request, in any state (asks)"),
    (
        "o",
        "another maximum for the selected limit, for a while (asks)",
    ),
    ("x", "end an override of the selected limit (asks)"),
    (
        "/",
        "show only accounts that contain what you type; empty: all",
    ),
    ("s", "sort this part otherwise"),
    (
        "p",
        "pause: keep what is shown, so that it can be read and selected",
    ),
    ("?", "this page"),
    ("q, Ctrl-C", "quit; the gate goes on"),
];

impl State {
    /// Does what the key says; what is outside comes back to be done there.
    pub(super) fn key(&mut self, key: KeyEvent, now: Instant) -> Option<Effect> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && key.code == KeyCode::Char('c') {
            return Some(Effect::Quit);
        }
        if let Some(question) = self.question.take() {
            self.wrong = None;
            return self.answered(question.key(key));
        }
        if std::mem::take(&mut self.is_help) {
            return (key.code == KeyCode::Char('q')).then_some(Effect::Quit);
        }
        self.said = None;
        match key.code {
            KeyCode::Char(_) if is_control => {}
            KeyCode::Char('q') => return Some(Effect::Quit),
            KeyCode::Char('?' | 'h') => self.is_help = true,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Panel::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(PAGE),
            KeyCode::PageUp => self.step(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Esc => self.choices[self.focus as usize].selected = None,
            KeyCode::Char('s') => self.sort_otherwise(),
            KeyCode::Char('p') => {
                self.is_paused = !self.is_paused;
                return (!self.is_paused).then_some(Effect::Look);
            }
            KeyCode::Char('/') => self.question = Some(Question::filter(&self.filter)),
            KeyCode::Char('c') => self.ask_to_cancel(now),
            KeyCode::Char('o') => self.ask_to_override(now),
            KeyCode::Char('x') => self.ask_to_end(now),
            _ => {}
        }
        None
    }

    fn answered(&mut self, next: Next) -> Option<Effect> {
        match next {
            Next::Ask(question) => self.question = Some(question),
            Next::Again(question, why) => {
                self.question = Some(question);
                self.wrong = Some(why);
            }
            Next::Leave => self.said = None,
            Next::Filter(filter) => {
                self.filter = filter;
                self.forget_what_is_gone();
                return Some(Effect::Look);
            }
            Next::Do(effect) => {
                self.said = None;
                return Some(effect);
            }
        }
        None
    }

    fn ask_to_cancel(&mut self, now: Instant) {
        match self.request().filter(|_| self.focus == Panel::Requests) {
            Some(request) => self.question = Some(Question::cancel(request)),
            None => self.say(
                now,
                "select a request first: Tab goes to them, arrows select, p keeps them in place",
                true,
            ),
        }
    }

    fn ask_to_override(&mut self, now: Instant) {
        match self.limit().filter(|_| self.focus == Panel::Limits) {
            Some(limit) => self.question = Some(Question::max(limit, &self.filter)),
            None => self.say(
                now,
                "select a limit first: Tab goes to them, arrows select",
                true,
            ),
        }
    }

    fn ask_to_end(&mut self, now: Instant) {
        let limit = self.limit().filter(|_| self.focus == Panel::Limits);
        match limit.map(Question::end) {
            Some(Some(question)) => self.question = Some(question),
            Some(None) => self.say(now, "this limit has no override in force", true),
            None => self.say(
                now,
                "select a limit first: Tab goes to them, arrows select",
                true,
            ),
        }
    }
}
