//! Rows and columns in whatever width there is.
//!
//! Columns that are worth less go first, then the rest shares the width. A panel's first line names it and its columns at once,
//! since a terminal of 24 lines has none to spare.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::paint::{Paint, Tone};

/// Between two columns.
const GAP: u16 = 1;
/// Before each row: the mark of the selected one.
const MARK: u16 = 2;

/// One column.
#[derive(Debug, Clone, Default)]
pub(super) struct Column {
    pub(super) title: String,
    /// Narrower than that it says nothing.
    pub(super) min: u16,
    pub(super) max: u16,
    /// What it is worth: 0 always stays, the largest goes first.
    pub(super) rank: u8,
    pub(super) is_number: bool,
}

/// What stands in one row and column.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Text(String, Tone),
    /// A part of a whole.
    Bar(f64, Tone),
    /// Parts of wholes over time, oldest first; none where nobody knows.
    Spark(Vec<Option<f64>>),
}

/// A panel with its rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// Which row is selected.
    pub(super) selected: Option<usize>,
    pub(super) has_focus: bool,
    /// What stands there when there are no rows.
    pub(super) empty: &'static str,
}

impl Column {
    pub(super) fn text(title: &str, min: u16, max: u16, rank: u8) -> Self {
        let title = title.to_owned();
        Self {
            title,
            min,
            max,
            rank,
            is_number: false,
        }
    }

    pub(super) fn number(title: &str, min: u16, rank: u8) -> Self {
        let is_number = true;
        Self {
            is_number,
            ..Self::text(title, min, 14, rank)
        }
    }
}

impl Cell {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self::Text(text.into(), Tone::Plain)
    }

    fn width(&self) -> u16 {
        match self {
            Self::Text(text, _) => width(text),
            Self::Bar(..) | Self::Spark(_) => u16::MAX,
        }
    }
}

fn width(text: &str) -> u16 {
    let width = ratatui::text::Span::raw(text).width();
    u16::try_from(width).unwrap_or(u16::MAX)
}

impl Table {
    /// Lines it would fill.
    pub(super) fn height(&self) -> u16 {
        let rows = self.rows.len().max(1);
        u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(1)
    }

    /// Draws what fits, with the selected row in it.
    pub(super) fn draw(&self, area: Rect, buffer: &mut Buffer, paint: Paint) {
        let columns = self.fit(area.width.saturating_sub(MARK));
        self.draw_titles(area, buffer, paint, &columns);
        let height = usize::from(area.height.saturating_sub(1));
        let selected = self.selected.unwrap_or(0);
        let first = (selected + 1).saturating_sub(height);
        for (line, row) in self.rows.iter().enumerate().skip(first).take(height) {
            let down = u16::try_from(line - first + 1).unwrap_or(u16::MAX);
            let strip = Rect {
                y: area.y + down,
                height: 1,
                ..area
            };
            let is_selected = self.selected == Some(line);
            let mut x = area.x + MARK.min(area.width);
            for &(index, width) in &columns {
                let cell = Rect { x, width, ..strip };
                self.draw_cell(index, &row[index], cell, buffer, paint);
                x += width + GAP;
            }
            if is_selected {
                buffer.set_stringn(strip.x, strip.y, ">", usize::from(area.width), Style::new());
                let style = if self.has_focus {
                    Modifier::REVERSED
                } else {
                    Modifier::BOLD
                };
                buffer.set_style(strip, style);
            }
        }
        if self.rows.is_empty() && area.height > 1 && area.width > MARK {
            let (x, width) = (area.x + MARK, usize::from(area.width - MARK));
            buffer.set_stringn(x, area.y + 1, self.empty, width, paint.tone(Tone::Faint));
        }
    }

    fn draw_titles(&self, area: Rect, buffer: &mut Buffer, paint: Paint, columns: &[(usize, u16)]) {
        if area.height == 0 {
            return;
        }
        let strip = Rect { height: 1, ..area };
        buffer.set_style(strip, paint.title(self.has_focus));
        let mark = if self.has_focus { "*" } else { "" };
        buffer.set_stringn(area.x, area.y, mark, usize::from(area.width), Style::new());
        let mut x = area.x + MARK.min(area.width);
        for &(index, width) in columns {
            let column = &self.columns[index];
            put(
                buffer,
                Rect { x, width, ..strip },
                &column.title,
                column.is_number,
                Style::new(),
            );
            x += width + GAP;
        }
    }

    fn draw_cell(&self, index: usize, cell: &Cell, area: Rect, buffer: &mut Buffer, paint: Paint) {
        match cell {
            Cell::Text(text, tone) => {
                put(
                    buffer,
                    area,
                    text,
                    self.columns[index].is_number,
                    paint.tone(*tone),
                );
            }
            Cell::Bar(part, tone) => {
                put(
                    buffer,
                    area,
                    &bar(*part, area.width),
                    false,
                    paint.tone(*tone),
                );
            }
            Cell::Spark(points) => {
                put(
                    buffer,
                    area,
                    &spark(points, area.width),
                    false,
                    paint.tone(Tone::Faint),
                );
            }
        }
    }

    /// Which columns there are, and how wide.
    fn fit(&self, width: u16) -> Vec<(usize, u16)> {
        let wanted: Vec<_> = (0..self.columns.len())
            .map(|index| self.wanted(index))
            .collect();
        let mut kept: Vec<usize> = (0..wanted.len())
            .filter(|index| wanted[*index] > 0)
            .collect();
        let least = |index: usize| self.columns[index].min.min(wanted[index]);
        let sum = |kept: &[usize]| {
            let widths = kept.iter().map(|index| u32::from(least(*index) + GAP));
            widths.sum::<u32>().saturating_sub(u32::from(GAP))
        };
        while sum(&kept) > u32::from(width) && kept.len() > 1 {
            let worst = kept.iter().enumerate().rev();
            let worst = worst.max_by_key(|(_, index)| self.columns[**index].rank);
            let Some((at, _)) = worst else { break };
            kept.remove(at);
        }
        let mut left = u32::from(width).saturating_sub(sum(&kept));
        let mut fitted: Vec<_> = kept
            .iter()
            .map(|&index| (index, least(index).min(width)))
            .collect();
        let mut by_rank: Vec<_> = (0..fitted.len()).collect();
        by_rank.sort_by_key(|at| self.columns[fitted[*at].0].rank);
        for at in by_rank {
            let (index, has) = fitted[at];
            let more = u32::from(wanted[index].saturating_sub(has)).min(left);
            left -= more;
            fitted[at].1 = has + u16::try_from(more).unwrap_or(0);
        }
        fitted
    }

    /// How wide a column would like to be; 0 if no row has anything there.
    fn wanted(&self, index: usize) -> u16 {
        let column = &self.columns[index];
        let cells = self.rows.iter().map(|row| row[index].width());
        let widest = cells.max().unwrap_or(0);
        // The first names the panel, even an empty one.
        if widest == 0 && index > 0 {
            return 0;
        }
        widest.max(width(&column.title)).min(column.max)
    }
}

/// Puts a text into its place, cut where it is too long.
pub(super) fn put(buffer: &mut Buffer, area: Rect, text: &str, is_right: bool, style: Style) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    let length = width(text);
    let x = match area.width.checked_sub(length) {
        Some(free) if is_right => area.x + free,
        _ => area.x,
    };
    let place = usize::from(area.right() - x);
    buffer.set_stringn(x, area.y, text, place, style);
    if length > area.width {
        buffer.set_string(area.right() - 1, area.y, "…", style);
    }
}

fn bar(part: f64, width: u16) -> String {
    let full = (part.clamp(0.0, 1.0) * f64::from(width)).round();
    // Something is never shown as nothing.
    let full = if part > 0.0 { full.max(1.0) } else { full };
    let fills = |at: u16| if f64::from(at) < full { '█' } else { '░' };
    (0..width).map(fills).collect()
}

/// The newest at the right; where there is less width than points, the largest of some stands for them.
fn spark(points: &[Option<f64>], width: u16) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let width = usize::from(width).max(1);
    let each = super::history::POINTS.div_ceil(width).max(1);
    let mut levels: Vec<_> = points
        .rchunks(each)
        .take(width)
        .map(|some| {
            let known = some.iter().flatten().copied();
            let Some(most) = known.max_by(f64::total_cmp) else {
                return ' ';
            };
            let level = LEVELS
                .iter()
                .zip(1_u8..)
                .find(|(_, n)| most * 8.0 <= f64::from(*n));
            level.map_or('█', |(level, _)| *level)
        })
        .collect();
    levels.resize(width, ' ');
    levels.reverse();
    levels.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_never_shown_as_nothing() {
        assert_eq!(bar(0.0, 4), "░░░░");
        assert_eq!(bar(0.01, 4), "█░░░");
        assert_eq!(bar(7.0, 4), "████");
    }

    #[test]
    fn a_spark_shows_the_newest_at_the_right_and_gaps_as_gaps() {
        let points = [Some(0.0), None, Some(0.5), Some(1.5)];
        assert_eq!(spark(&points, 120).trim_start(), "▁ ▄█");
        // Sixty points stand for each of two columns.
        assert_eq!(spark(&points, 2), " █");
    }

    #[test]
    fn columns_that_are_worth_less_go_first() {
        let column = |title: &str, rank| Column::text(title, 4, 10, rank);
        let table = Table {
            columns: vec![column("name", 0), column("note", 2), column("who", 1)],
            rows: vec![vec![
                Cell::plain("aaaaaaaa"),
                Cell::plain("bbbb"),
                Cell::plain("cccc"),
            ]],
            ..Table::default()
        };
        assert_eq!(table.fit(40), [(0, 8), (1, 4), (2, 4)]);
        assert_eq!(table.fit(15), [(0, 5), (1, 4), (2, 4)]);
        assert_eq!(table.fit(12), [(0, 7), (2, 4)]);
        assert_eq!(table.fit(3), [(0, 3)]);
    }
}
