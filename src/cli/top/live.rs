//! The screen as it lives: keys come in, looks go out, and the terminal is given back as it was.
//!
//! Given back on every way out: by `q`, by a signal, by an error, and by a panic, whose message then stands on the ordinary screen.
//! Keys are read on a thread of their own, for a terminal can only be waited for by blocking. One look and a few decisions
//! are under way at most; a gate that does not answer never keeps a key waiting.

use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::super::client::{CallError, Gate};
use super::paint::Paint;
use super::question::Effect;
use super::seen::Overview;
use super::state::State;
use super::{calls, draw};
use crate::clock::Clock;

/// Keys that wait, at most; who types faster than they are drawn waits in the terminal.
const KEYS_MAX: usize = 64;
/// Decisions under way at most.
const CALLS_MAX: usize = 8;
/// How often the thread of the keys looks whether it is still needed.
const KEYS_LOOK: Duration = Duration::from_millis(200);
/// How often ages are drawn anew, whatever the gate does.
const REDRAW: Duration = Duration::from_millis(500);

/// The terminal, taken over until it is dropped.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                // What was done of it is undone, as far as there is a terminal.
                ratatui::try_restore().ok();
                Err(error)
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Without a terminal there is nothing to give back, and nobody to tell.
        self.0.show_cursor().ok();
        // After a panic it was given back before the message; once more would put the cursor into that.
        if !std::thread::panicking() {
            ratatui::try_restore().ok();
        }
    }
}

/// What came back from the gate.
enum Came {
    Look(Result<Box<Overview>, CallError>),
    Done(Effect, Result<(), CallError>),
}

/// What is under way.
struct Calls {
    gate: Arc<Gate>,
    tasks: JoinSet<Came>,
    is_looking: bool,
    deciding: usize,
}

/// Shows the gate until the operator has seen enough.
pub(super) async fn run(
    gate: &Gate,
    mut state: State,
    clock: &Clock,
    paint: Paint,
) -> io::Result<()> {
    let mut signals = Signals::listen()?;
    let mut screen = Screen::take()?;
    let mut keys = keys()?;
    let mut calls = Calls {
        gate: Arc::new(gate.clone()),
        tasks: JoinSet::new(),
        is_looking: false,
        deciding: 0,
    };
    let mut looks = tokio::time::interval(state.every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut redraws = tokio::time::interval(REDRAW);
    redraws.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        screen.draw(&state, clock, paint)?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(Ok(Event::Key(key))) => match state.key(key, clock.now()) {
                    Some(Effect::Quit) => return Ok(()),
                    Some(Effect::Look) => looks.reset_immediately(),
                    Some(effect) => calls.decide(effect, &mut state, clock),
                    None => {}
                },
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
            Some(came) = calls.tasks.join_next() => {
                let came = came.map_err(JoinError::into_panic).unwrap_or_else(|panic| resume_unwind(panic));
                let is_decided = matches!(came, Came::Done(..));
                calls.take_in(came, &mut state, clock);
                if is_decided {
                    looks.reset_immediately();
                }
            }
            _ = looks.tick(), if !state.is_paused => calls.look(&state),
            _ = redraws.tick() => {}
            () = signals.any() => return Ok(()),
        }
    }
}

impl Screen {
    fn draw(&mut self, state: &State, clock: &Clock, paint: Paint) -> io::Result<()> {
        let drawn = self.0.draw(|frame| {
            let cursor = draw::screen(state, clock.now(), frame.buffer_mut(), paint);
            if let Some(cursor) = cursor {
                frame.set_cursor_position(cursor);
            }
        });
        drawn.map(drop)
    }
}

impl Calls {
    /// Looks, unless a look is under way.
    fn look(&mut self, state: &State) {
        if std::mem::replace(&mut self.is_looking, true) {
            return;
        }
        let (gate, filter) = (Arc::clone(&self.gate), state.filter.clone());
        self.tasks
            .spawn(async move { Came::Look(calls::look(&gate, &filter).await.map(Box::new)) });
    }

    fn decide(&mut self, effect: Effect, state: &mut State, clock: &Clock) {
        if self.deciding == CALLS_MAX {
            state.say(
                clock.now(),
                "the gate has not answered the last ones yet; try again",
                true,
            );
            return;
        }
        self.deciding += 1;
        let gate = Arc::clone(&self.gate);
        self.tasks.spawn(async move {
            let done = calls::carry_out(&gate, &effect).await;
            Came::Done(effect, done)
        });
    }

    fn take_in(&mut self, came: Came, state: &mut State, clock: &Clock) {
        let now = clock.now();
        match came {
            Came::Look(look) => {
                self.is_looking = false;
                match look {
                    Ok(seen) => state.look(now, *seen),
                    Err(error) => state.miss(now, &error.to_string()),
                }
            }
            Came::Done(effect, done) => {
                self.deciding -= 1;
                match done {
                    Ok(()) => state.say(now, &effect.done(), false),
                    // Who declines is on the screen already, and the line is short.
                    Err(CallError::Declined(_, _, why)) => {
                        state.say(now, &format!("not done: {why}"), true);
                    }
                    Err(error) => state.say(now, &format!("not done: {error}"), true),
                }
            }
        }
    }
}

/// What the operator types, and the end of the terminal as an error.
fn keys() -> io::Result<mpsc::Receiver<io::Result<Event>>> {
    let (typed, keys) = mpsc::channel(KEYS_MAX);
    let read = move || {
        while !typed.is_closed() {
            let event = match event::poll(KEYS_LOOK) {
                Ok(true) => event::read(),
                Ok(false) => continue,
                Err(error) => Err(error),
            };
            let is_over = event.is_err();
            if typed.blocking_send(event).is_err() || is_over {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(read)?;
    Ok(keys)
}

/// The signals that end it.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> io::Result<Self> {
        let [term, int, hup] = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
        ]
        .map(signal);
        Ok(Self([term?, int?, hup?]))
    }

    async fn any(&mut self) {
        let [term, int, hup] = &mut self.0;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = hup.recv() => {}
        }
    }
}
