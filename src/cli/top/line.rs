//! A line that the operator types into, at the bottom of the screen.
//!
//! Takes printable ASCII, which all names and numbers of a gate are, up to the length of the longest name.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The longest name of an account.
const LENGTH_MAX: usize = 128;

/// What has been typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line(pub(super) String);

/// What a key did to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typed {
    /// It goes on.
    More,
    /// It is whole.
    Done,
    /// It was given up.
    Left,
}

impl Line {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Typed {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => return Typed::Done,
            KeyCode::Esc => return Typed::Left,
            KeyCode::Backspace => drop(self.0.pop()),
            KeyCode::Char('h') if is_control => drop(self.0.pop()),
            KeyCode::Char('u' | 'w') if is_control => self.0.clear(),
            KeyCode::Char(typed)
                if typed.is_ascii_graphic() && !is_control && self.0.len() < LENGTH_MAX =>
            {
                self.0.push(typed);
            }
            _ => {}
        }
        Typed::More
    }
}
