//! The whole screen, from the state alone.
//!
//! Draws into any buffer: the terminal's, a test's, or the paper of the plain page. Whatever the size, nothing is drawn outside it.

use std::time::{Duration, Instant};

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};

use super::keys::HELP;
use super::paint::{Paint, Tone};
use super::panels;
use super::state::{Panel, State};
use super::table::{Table, put};
use super::words;

/// From there on two panels have room beside each other.
const SIDE_BY_SIDE: u16 = 76;
/// Lines that a panel gets before another gets more.
const PANEL_MIN: u16 = 4;

/// Draws it; says where the cursor is, if something is typed.
pub(super) fn screen(
    state: &State,
    now: Instant,
    buffer: &mut Buffer,
    paint: Paint,
) -> Option<Position> {
    let area = buffer.area;
    let body = below(area, head(state, now, buffer, paint));
    let status = Rect {
        y: body.bottom().saturating_sub(1),
        height: body.height.min(1),
        ..body
    };
    let body = Rect {
        height: body.height.saturating_sub(1),
        ..body
    };
    if state.is_help {
        help(body, buffer, paint);
    } else if state.seen.is_some() {
        panels(state, body, buffer, paint, area.width >= SIDE_BY_SIDE);
    } else {
        let wait = Rect {
            height: body.height.min(1),
            ..body
        };
        put(
            buffer,
            wait,
            "  waiting for the gate's first answer",
            false,
            paint.tone(Tone::Faint),
        );
    }
    let cursor = status_line(state, now, status, buffer, paint);
    paint.finish(buffer);
    cursor
}

/// The same on paper: all rows, none selected, and as long as it needs.
pub(super) fn page(state: &State, now: Instant, width: u16) -> String {
    let paint = Paint {
        has_colour: false,
        has_unicode: false,
    };
    let tables = Panel::ALL.map(|panel| panels::table(state, panel));
    let rows: u16 = tables.iter().map(|table| table.height() + 1).sum();
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, rows + 8));
    let mut y = head(state, now, &mut buffer, paint);
    for mut table in tables {
        table.has_focus = false;
        let area = Rect::new(0, y + 1, width, table.height());
        table.draw(area.intersection(buffer.area), &mut buffer, paint);
        y = area.bottom();
    }
    paint.finish(&mut buffer);
    let lines = buffer.content.chunks(usize::from(width.max(1)));
    let lines: Vec<_> = lines
        .map(|cells| cells.iter().map(|cell| cell.symbol()).collect::<String>())
        .collect();
    let text: Vec<_> = lines.iter().map(|line| line.trim_end()).collect();
    text.join("\n").trim_end().to_owned() + "\n"
}

fn below(area: Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);
    Rect {
        y: area.y + lines,
        height: area.height - lines,
        ..area
    }
}

/// Who, since when, how much, and what is wrong; says how many lines that took.
fn head(state: &State, now: Instant, buffer: &mut Buffer, paint: Paint) -> u16 {
    let area = buffer.area;
    let mut y = 0;
    let mut line = |text: &str, style: Style, buffer: &mut Buffer| {
        let strip = Rect {
            y,
            height: 1,
            ..area
        };
        put(buffer, strip, text, false, style);
        y += 1;
    };
    let strong = Style::new().add_modifier(Modifier::BOLD);
    match &state.seen {
        None => line(&format!("tidegate at {}", &*state.gate), strong, buffer),
        Some((_, seen)) => {
            let up = words::whole_time(Duration::from_secs(seen.uptime_seconds));
            let first = format!(
                "tidegate {} at {}  {}  up {up}  generation {}",
                &*seen.version, &*state.gate, &*seen.phase, seen.generation
            );
            line(&first, strong, buffer);
            let second = format!(
                "in flight {}  queued {}  refused/s {}  leases {}  connections {}",
                seen.in_flight,
                seen.queued,
                words::rate(state.history.refused()),
                seen.leases,
                seen.connections
            );
            line(&second, Style::new(), buffer);
        }
    }
    for (text, tone) in alerts(state, now) {
        line(&text, paint.tone(tone), buffer);
    }
    y
}

/// What the operator must know, worst first.
fn alerts(state: &State, now: Instant) -> Vec<(String, Tone)> {
    let mut alerts = Vec::new();
    let stale = state.stale(now).map(words::whole_time);
    match (&state.trouble, stale, &state.seen) {
        (Some(trouble), Some(stale), Some(_)) => {
            alerts.push((format!("STALE, {stale} old: {}", &*trouble.what), Tone::Bad));
        }
        (Some(trouble), _, _) => {
            let since = words::whole_time(now.saturating_duration_since(trouble.since));
            alerts.push((
                format!("NO ANSWER for {since}: {}", &*trouble.what),
                Tone::Bad,
            ));
        }
        (None, Some(stale), _) if state.is_paused => {
            alerts.push((format!("PAUSED, {stale} old; p goes on"), Tone::Warn));
        }
        (None, Some(stale), _) => {
            alerts.push((
                format!("STALE, {stale} old: the gate is slow to answer"),
                Tone::Warn,
            ));
        }
        (None, None, _) => {}
    }
    if state.is_paused && state.trouble.is_some() {
        alerts.push(("PAUSED; p goes on".to_owned(), Tone::Warn));
    }
    let Some((_, seen)) = &state.seen else {
        return alerts;
    };
    if let Some(refusal) = seen.outstanding_refusal() {
        let what = refusal.diagnostics.first().map_or_else(String::new, |of| {
            format!(
                ": {} at {}:{}: {}",
                &*of.code, &*of.file, of.line, &*of.message
            )
        });
        alerts.push((format!("RELOAD REFUSED {}{what}", &*refusal.at), Tone::Bad));
    }
    if seen.leaks_detected > 0 {
        let text = format!("{} LEAKS found; see the gate's log", seen.leaks_detected);
        alerts.push((text, Tone::Bad));
    }
    if seen.limits_total > seen.limits.len() {
        let text = format!(
            "{} of {} limits are shown",
            seen.limits.len(),
            seen.limits_total
        );
        alerts.push((text, Tone::Faint));
    }
    if !state.filter.is_empty() {
        alerts.push((
            format!("only accounts that contain {}", state.filter),
            Tone::Warn,
        ));
    }
    alerts
}

fn panels(state: &State, area: Rect, buffer: &mut Buffer, paint: Paint, is_wide: bool) {
    let [limits, accounts, upstreams, requests] =
        Panel::ALL.map(|panel| panels::table(state, panel));
    if !is_wide {
        let tables = [limits, accounts, upstreams, requests];
        let order = [0, 3, 1, 2];
        let heights = share(
            area.height,
            &tables.each_ref().map(Table::height),
            &order,
            state.focus as usize,
        );
        let mut y = area.y;
        for (table, height) in tables.iter().zip(heights) {
            table.draw(Rect { y, height, ..area }, buffer, paint);
            y += height;
        }
        return;
    }
    let beside = accounts.height().max(upstreams.height());
    let focus = [0, 1, 1, 2][state.focus as usize];
    let wanted = [limits.height(), beside, requests.height()];
    let heights = share(area.height, &wanted, &[0, 2, 1], focus);
    let left = area.width / 2;
    let (mut y, [first, middle, last]) = (area.y, [heights[0], heights[1], heights[2]]);
    limits.draw(
        Rect {
            y,
            height: first,
            ..area
        },
        buffer,
        paint,
    );
    y += first;
    let half = Rect {
        y,
        height: middle,
        width: left.saturating_sub(1),
        ..area
    };
    accounts.draw(half, buffer, paint);
    let half = Rect {
        x: area.x + left,
        width: area.width - left,
        ..half
    };
    upstreams.draw(half, buffer, paint);
    y += middle;
    requests.draw(
        Rect {
            y,
            height: last,
            ..area
        },
        buffer,
        paint,
    );
}

/// Shares lines among panels: a few for each, those in focus and those that matter more first, then one by one to those that want more.
fn share(total: u16, wanted: &[u16], order: &[usize], focus: usize) -> Vec<u16> {
    let mut heights = vec![0; wanted.len()];
    let mut left = total;
    let first = std::iter::once(focus).chain(order.iter().copied());
    for at in first {
        if heights[at] == 0 {
            // A title without a row tells nothing.
            let least = wanted[at].min(PANEL_MIN);
            let given = if left >= least.min(2) {
                least.min(left)
            } else {
                0
            };
            heights[at] = given;
            left -= given;
        }
    }
    while left > 0 {
        let mut is_given = false;
        for at in order {
            if heights[*at] > 0 && heights[*at] < wanted[*at] && left > 0 {
                heights[*at] += 1;
                left -= 1;
                is_given = true;
            }
        }
        if !is_given {
            break;
        }
    }
    heights
}

fn help(area: Rect, buffer: &mut Buffer, paint: Paint) {
    let lines = HELP.iter().map(|(key, does)| format!("  {key:<16}{does}"));
    let more = [
        String::new(),
        "  In a limit's row: its fullest key, and what came in the last minutes.".to_owned(),
        "  An account's peak: most at once in the last interval of six seconds.".to_owned(),
    ];
    for (y, line) in (area.top()..area.bottom()).zip(lines.chain(more)) {
        let strip = Rect {
            y,
            height: 1,
            ..area
        };
        put(buffer, strip, &line, false, paint.tone(Tone::Plain));
    }
}

fn status_line(
    state: &State,
    now: Instant,
    area: Rect,
    buffer: &mut Buffer,
    paint: Paint,
) -> Option<Position> {
    if area.is_empty() {
        return None;
    }
    let Some(question) = &state.question else {
        let hints =
            "q quit  ? help  Tab part  c cancel  o override  x end  / filter  s sort  p pause";
        let (text, tone) = match state.said(now) {
            None => (hints, Tone::Faint),
            Some(said) if said.is_bad => (&*said.text, Tone::Bad),
            Some(said) => (&*said.text, Tone::Good),
        };
        put(buffer, area, text, false, paint.tone(tone));
        return None;
    };
    // What was wrong with an answer stands in the place of the question, until something is typed.
    let text = match (&state.wrong, question.line()) {
        (Some(wrong), Some(line)) => format!("{wrong}: {line}"),
        _ => question.text(),
    };
    let place = usize::from(area.width.saturating_sub(1));
    let length = ratatui::text::Span::raw(&*text).width();
    // The end is where it is typed and answered, so the beginning goes where there is no room.
    let cut = length.saturating_sub(place);
    let shown: String = text.chars().skip(cut).collect();
    put(
        buffer,
        area,
        &shown,
        false,
        Style::new().add_modifier(Modifier::BOLD),
    );
    let at = u16::try_from(length - cut).unwrap_or(0);
    let is_typed = question.line().is_some();
    is_typed.then(|| Position::new(area.x + at, area.y))
}
