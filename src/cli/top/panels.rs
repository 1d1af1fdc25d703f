//! The four parts of the screen as tables: limits, accounts, upstreams, requests.

use std::time::Duration;

use super::history::POINTS;
use super::paint::Tone;
use super::rows::endpoint_id;
use super::seen::{Endpoint, Limit, ratio};
use super::state::{Order, Panel, State};
use super::table::{Cell, Column, Table};
use super::words;

/// A panel as it stands.
pub(super) fn table(state: &State, panel: Panel) -> Table {
    let mut table = match panel {
        Panel::Limits => limits(state),
        Panel::Accounts => accounts(state),
        Panel::Upstreams => upstreams(state),
        Panel::Requests => requests(state),
    };
    let selected = state.choice(panel).selected.as_ref();
    let mut ids = state.ids(panel).into_iter();
    table.selected = selected.and_then(|selected| ids.position(|id| id == *selected));
    table.has_focus = state.focus == panel;
    table
}

fn limits(state: &State) -> Table {
    let span = words::whole_time(state.every * u32::try_from(POINTS).unwrap_or(u32::MAX));
    let columns = vec![
        Column::text(&titled("limits", state, Panel::Limits), 10, 30, 0),
        Column::text("fullest", 6, 16, 4),
        Column::number("in flight", 9, 0),
        Column::text("of", 6, 20, 2),
        Column::number("queued", 6, 1),
        Column::number("refused/s", 9, 1),
        Column::text("", 24, 48, 3),
        Column::text(&format!("last {span}"), 8, 60, 5),
    ];
    let row = |limit: &Limit| {
        let (in_flight, max) = limit
            .fullest()
            .map_or((limit.in_flight, limit.max), |key| (key.in_flight, key.max));
        // Without its keys shown, the sum is over many keys, and only the ratio is of one.
        let is_sum = limit.fullest().is_none() && !limit.per.is_empty() && in_flight > 0;
        let use_of = if is_sum {
            format!("{:.0} %", limit.used() * 100.0)
        } else {
            format!("{in_flight}/{max}")
        };
        let tone = fullness(limit);
        let whose = limit.fullest().map_or_else(String::new, |key| key.whose());
        let refused = state.history.refused_by(&limit.name);
        let is_refusing = refused.is_some_and(|rate| rate > 0.0);
        vec![
            Cell::plain(&*limit.name),
            Cell::Bar(limit.used(), tone),
            Cell::Text(use_of, tone),
            Cell::plain(whose),
            Cell::Text(limit.queued.to_string(), busy(limit.queued > 0, Tone::Warn)),
            Cell::Text(words::rate(refused), busy(is_refusing, Tone::Bad)),
            note(limit),
            Cell::Spark(state.history.used(&limit.name)),
        ]
    };
    Table {
        columns,
        rows: state.limits().into_iter().map(row).collect(),
        empty: "none in the configuration",
        ..Table::default()
    }
}

fn fullness(limit: &Limit) -> Tone {
    match limit.used() {
        _ if !limit.is_enforced() => Tone::Faint,
        used if used >= 1.0 => Tone::Bad,
        used if used >= 0.8 => Tone::Warn,
        _ => Tone::Good,
    }
}

fn busy(is_busy: bool, tone: Tone) -> Tone {
    if is_busy { tone } else { Tone::Plain }
}

/// What is out of the ordinary about a limit.
fn note(limit: &Limit) -> Cell {
    let mode = match &*limit.mode {
        "shadow" => Some(format!("shadow, {} would be refused", limit.would.rejected)),
        "off" => Some("off".to_owned()),
        _ => None,
    };
    let is_full = limit.is_enforced() && limit.used() >= 1.0 && limit.overrides.is_empty();
    let full = is_full.then(|| "FULL".to_owned());
    let notes: Vec<_> = overridden(limit)
        .into_iter()
        .chain(mode)
        .chain(full)
        .collect();
    let tone = if limit.is_enforced() || !limit.overrides.is_empty() {
        Tone::Warn
    } else {
        Tone::Faint
    };
    Cell::Text(notes.join("; "), tone)
}

/// The overrides in force, and what is left of the first that ends.
fn overridden(limit: &Limit) -> Option<String> {
    let first = limit.overrides.iter().min_by_key(|of| of.seconds_left)?;
    let left = words::whole_time(Duration::from_secs(first.seconds_left));
    let max = first.max;
    Some(match (limit.overrides.len(), first.is_for_everyone()) {
        (1, true) => format!("max {max}, {left} left"),
        (1, false) => format!("max {max} {}, {left} left", first.whose()),
        (many, _) => format!("{many} overrides, {left} left"),
    })
}

fn accounts(state: &State) -> Table {
    let columns = vec![
        Column::text(&titled("accounts", state, Panel::Accounts), 12, 40, 0),
        Column::number("in flight", 9, 0),
        Column::number("peak", 4, 1),
        Column::text("of all", 6, 16, 2),
    ];
    let all = state.seen.as_ref().map_or(0, |(_, seen)| seen.in_flight);
    let row = |of: &super::seen::Account| {
        vec![
            Cell::plain(&*of.account),
            Cell::plain(of.in_flight.to_string()),
            Cell::plain(of.peak.to_string()),
            Cell::Bar(ratio(of.in_flight, all), Tone::Plain),
        ]
    };
    Table {
        columns,
        rows: state.accounts().into_iter().map(row).collect(),
        empty: nobody(state),
        ..Table::default()
    }
}

fn upstreams(state: &State) -> Table {
    let columns = vec![
        Column::text("upstreams", 17, 50, 0),
        Column::number("in flight", 9, 2),
        Column::text("health", 20, 24, 0),
    ];
    let rows = state.endpoints().into_iter().map(|(upstream, endpoint)| {
        let (word, tone) = health(endpoint);
        vec![
            Cell::plain(endpoint_id(upstream, endpoint)),
            Cell::plain(endpoint.in_flight.to_string()),
            Cell::Text(word, tone),
        ]
    });
    Table {
        rows: rows.collect(),
        columns,
        empty: "none",
        ..Table::default()
    }
}

fn health(endpoint: &Endpoint) -> (String, Tone) {
    match (endpoint.healthy, &endpoint.ejected_until) {
        (true, _) => ("healthy".to_owned(), Tone::Good),
        (false, Some(until)) => {
            let time = until.split('T').nth(1).unwrap_or(until);
            let time = time.get(..8).unwrap_or(time);
            (format!("EJECTED to {time}Z"), Tone::Bad)
        }
        (false, None) if endpoint.passes_check == Some(false) => {
            ("FAILS ITS CHECK".to_owned(), Tone::Bad)
        }
        (false, None) => ("UNHEALTHY".to_owned(), Tone::Bad),
    }
}

fn requests(state: &State) -> Table {
    let columns = vec![
        Column::text(&titled("requests", state, Panel::Requests), 8, 24, 0),
        Column::number("age", 6, 0),
        Column::text("state", 9, 9, 1),
        Column::text("method", 6, 8, 3),
        Column::text("path", 12, 100, 2),
        Column::text("upstream", 8, 30, 4),
        Column::number("id", 6, 5),
    ];
    let row = |of: &super::seen::Request| {
        let is_waiting = &*of.state == "queued";
        vec![
            Cell::plain(&*of.account),
            Cell::plain(words::seconds(of.age_seconds)),
            Cell::Text(of.state.to_string(), busy(is_waiting, Tone::Warn)),
            Cell::plain(&*of.method),
            Cell::plain(&*of.path),
            Cell::plain(&*of.upstream),
            Cell::plain(of.id.to_string()),
        ]
    };
    Table {
        columns,
        rows: state.requests().into_iter().map(row).collect(),
        empty: nobody(state),
        ..Table::default()
    }
}

/// A panel's name, and how it is sorted if that is not how it began.
fn titled(name: &str, state: &State, panel: Panel) -> String {
    match state.order(panel) {
        Order::Use | Order::InFlight | Order::Age => name.to_owned(),
        order => format!("{name}: {}", order.as_str()),
    }
}

fn nobody(state: &State) -> &'static str {
    if state.filter.is_empty() {
        "none"
    } else {
        "none that the filter shows; / then Enter shows all"
    }
}
