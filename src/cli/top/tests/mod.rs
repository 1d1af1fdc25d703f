//! What an operator reads and types, without a terminal and without a gate.

mod keys;
mod screen;

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::draw;
use super::paint::Paint;
use super::question::Effect;
use super::state::State;
use crate::clock::Clock;

const COLOURS: Paint = Paint {
    has_colour: true,
    has_unicode: true,
};

/// A gate with a noisy account: what `/v1/overview` tells.
fn overview() -> Value {
    json!({
        "version": "0.1.0", "phase": "running", "uptime_seconds": 250, "generation": 3,
        "connections": 22, "leaks_detected": 0, "loaded_at": "2026-01-01T00:00:00.000Z", "last_refusal": null,
        "decisions": [{ "decision": "rejected", "reason": "limit_reached", "count": 700 },
                      { "decision": "admitted", "reason": "none", "count": 9_000 }],
        "in_flight": 16, "queued": 2, "leases": 1,
        "limits": [
            { "name": "whole-api", "per": [], "mode": "enforce", "max": 60, "in_flight": 16, "queued": 0, "keys": 1,
              "used_ratio": 0.267, "refused": 0, "overrides": [],
              "fullest": [{ "key": {}, "in_flight": 16, "max": 60 }] },
            { "name": "account", "per": ["account"], "mode": "enforce", "max": 10, "in_flight": 16, "queued": 2, "keys": 3,
              "used_ratio": 1.0, "refused": 700, "overrides": [],
              "fullest": [{ "key": { "account": "acme" }, "in_flight": 2, "max": 10 },
                          { "key": { "account": "noisy" }, "in_flight": 10, "max": 10 }] },
            { "name": "trial", "per": ["account"], "mode": "shadow", "max": 5, "in_flight": 12, "queued": 0, "keys": 2,
              "used_ratio": 2.0, "refused": 0, "overrides": [], "would": { "admitted": 1, "rejected": 812 },
              "fullest": [{ "key": { "account": "noisy" }, "in_flight": 10, "max": 5 }] },
        ],
        "limits_total": 3,
        "accounts": [{ "account": "acme", "in_flight": 2, "peak": 9 }, { "account": "noisy", "in_flight": 10, "peak": 10 }],
        "requests": {
            "waiting": [{ "id": 31, "account": "noisy", "resource": "calls", "method": "POST", "path": "/calls/31",
                          "state": "queued", "age_seconds": 1.25, "upstream": "" }],
            "holding": [{ "id": 7, "account": "acme", "resource": "calls", "method": "GET", "path": "/calls/7",
                          "state": "streaming", "age_seconds": 75.5, "upstream": "api" }],
            "leases": [{ "id": 2, "account": "birch", "resource": "calls", "method": "POST", "path": "/calls/2",
                         "state": "lease", "age_seconds": 7_500.0, "upstream": "api" }],
        },
        "upstreams": [{ "name": "api", "healthy": 1, "endpoints": [
            { "address": "10.0.0.1:3000", "healthy": true, "passes_check": true, "in_flight": 9, "ejected_until": null },
            { "address": "10.0.0.2:3000", "healthy": false, "passes_check": true, "in_flight": 0,
              "ejected_until": "2026-01-01T00:00:12.500Z" },
        ] }],
    })
}

/// An operator before a screen.
struct Operator {
    clock: Clock,
    state: State,
    /// What is asked to be done outside.
    effects: Vec<Effect>,
}

fn operator() -> Operator {
    let clock = Clock::manual();
    let state = State::new("127.0.0.1:9901", Duration::from_secs(1), clock.now());
    Operator {
        clock,
        state,
        effects: Vec::new(),
    }
}

/// One who looks at that.
fn before(overview: Value) -> Operator {
    let mut operator = operator();
    operator.look(overview);
    operator
}

impl Operator {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn look(&mut self, overview: Value) {
        let seen = serde_json::from_value(overview).unwrap();
        self.state.look(self.now(), seen);
    }

    fn press(&mut self, code: KeyCode) -> &mut Self {
        let now = self.now();
        let effect = self.state.key(KeyEvent::new(code, KeyModifiers::NONE), now);
        self.effects.extend(effect);
        self
    }

    /// Types each of these.
    fn types(&mut self, keys: &str) -> &mut Self {
        for key in keys.chars() {
            self.press(match key {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                other => KeyCode::Char(other),
            });
        }
        self
    }

    /// What stands on a screen of that size.
    fn screen(&self, width: u16, height: u16, paint: Paint) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let draw = terminal.draw(|frame| {
            let cursor = draw::screen(&self.state, self.now(), frame.buffer_mut(), paint);
            cursor
                .into_iter()
                .for_each(|at| frame.set_cursor_position(at));
        });
        draw.unwrap();
        terminal
    }

    fn lines(&self, width: u16, height: u16) -> Vec<String> {
        let terminal = self.screen(width, height, COLOURS);
        let cells = terminal
            .backend()
            .buffer()
            .content
            .chunks(usize::from(width));
        let lines = cells.map(|cells| cells.iter().map(ratatui::buffer::Cell::symbol).collect());
        lines
            .map(|line: String| line.trim_end().to_owned())
            .collect()
    }

    /// The last line of the usual screen.
    fn status(&self) -> String {
        self.lines(80, 24).pop().unwrap_or_default()
    }
}

/// The line that begins so, after the mark of the selected one.
fn line_of<'l>(lines: &'l [String], start: &str) -> &'l str {
    let found = lines.iter().find(|line| {
        let line = line.get(2..).unwrap_or_default();
        line.starts_with(start)
    });
    found.unwrap_or_else(|| panic!("no {start} in\n{}", lines.join("\n")))
}
