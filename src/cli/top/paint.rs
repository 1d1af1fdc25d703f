//! Colours, and what a terminal without them gets.
//!
//! The eight colours that every terminal has, on whatever ground its owner chose; and each says only what a word, a number or
//! weight says beside it. A terminal without Unicode gets signs of ASCII instead.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

/// What something is to whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tone {
    #[default]
    Plain,
    Faint,
    Good,
    Warn,
    Bad,
}

/// What the terminal can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint {
    pub(super) has_colour: bool,
    pub(super) has_unicode: bool,
}

impl Paint {
    pub(super) fn tone(self, tone: Tone) -> Style {
        let (colour, weight) = match tone {
            Tone::Plain => (None, Modifier::empty()),
            Tone::Faint => (None, Modifier::DIM),
            Tone::Good => (Some(Color::Green), Modifier::empty()),
            Tone::Warn => (Some(Color::Yellow), Modifier::BOLD),
            Tone::Bad => (Some(Color::Red), Modifier::BOLD),
        };
        let style = Style::new().add_modifier(weight);
        match colour.filter(|_| self.has_colour) {
            Some(colour) => style.fg(colour),
            None => style,
        }
    }

    /// A panel's first line.
    pub(super) fn title(self, has_focus: bool) -> Style {
        let style = Style::new().add_modifier(Modifier::UNDERLINED);
        if has_focus {
            style.add_modifier(Modifier::BOLD)
        } else {
            style
        }
    }

    /// The last touch: signs that the terminal has.
    pub(super) fn finish(self, buffer: &mut Buffer) {
        if self.has_unicode {
            return;
        }
        for cell in &mut buffer.content {
            if let Some(sign) = cell.symbol().chars().next()
                && !cell.symbol().is_ascii()
            {
                cell.set_char(ascii(sign));
            }
        }
    }
}

fn ascii(sign: char) -> char {
    match sign {
        '█' => '#',
        '░' | '▂' => '.',
        '▁' => '_',
        '▃' => '-',
        '▄' => '=',
        '▅' => '+',
        '▆' => '*',
        '▇' => '%',
        '…' => '~',
        _ => '?',
    }
}
