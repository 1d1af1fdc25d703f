//! The task of one call: its queue, its timers, and what takes time.
//!
//! Events go before timers: an answer that is in the queue when the time is up was there in time. The permit is held here, and given
//! back when the task ends, however that comes; so a call that is over is one that counts no more.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::Receiver;

use super::board::{Event, Heard, Hook, LegId, Note, Said};
use super::facts::Facts;
use super::machine::Call;
use super::switch::Switch;
use super::words::{CallStatus, Farewell};
use crate::presence::fetch::callbacks::Callbacks;
use crate::presence::fetch::instructions::{Ask, Failure, Fetched, Journey};
use crate::presence::fetch::reach::Reach;
use crate::presence::instruction::{Dial, Link};
use crate::presence::plugin::{CallPermit, Doors};
use crate::presence::registry::session::Moment;
use crate::presence::routing::Device;

/// What a caller may say before its call has its place: its candidates (RFC 8838).
const EARLY_MAX: usize = 64;

/// A call that can begin.
#[derive(Debug)]
pub(in crate::presence) struct Ready {
    pub(in crate::presence) switch: Switch,
    pub(in crate::presence) events: Receiver<Event>,
    pub(in crate::presence) facts: Facts,
    /// What it counts as.
    pub(in crate::presence) resource: String,
    /// Where its instructions are, or whom it dials without any.
    pub(in crate::presence) first: Result<Link, Dial>,
    /// How its customer's servers are reached.
    pub(in crate::presence) reach: Reach,
}

type Fetching = Pin<Box<dyn Future<Output = (Journey, Result<Fetched, Failure>)> + Send>>;
type Finding = Pin<Box<dyn Future<Output = (Vec<Device>, Vec<Arc<str>>)> + Send>>;

impl Ready {
    /// Waits for the call's place, unless its caller leaves before; then it runs to its end.
    pub(in crate::presence) async fn admitted(mut self, doors: Option<Arc<dyn Doors>>) {
        let (mut seat, mut early) = (None, Vec::new());
        if let Some(doors) = doors {
            let mut admitting = doors.admit(&self.facts.account, &self.resource, &self.facts.sid);
            let admitted = loop {
                tokio::select! {
                    biased;
                    event = self.events.recv() => match event.map(before_its_place) {
                        Some(Err(why)) => return self.turn_away(why, CallStatus::Canceled),
                        Some(Ok(event)) if early.len() < EARLY_MAX => early.push(event),
                        _ => {}
                    },
                    admitted = &mut admitting => break admitted,
                }
            };
            match admitted {
                Ok(admitted) => seat = admitted,
                Err(_) => return self.turn_away(Some(Farewell::NoPlace), CallStatus::Failed),
            }
        }
        self.follow(seat, early).await;
    }

    /// It ends before it began: a caller that is still there is told so.
    fn turn_away(mut self, why: Option<Farewell>, status: CallStatus) {
        use super::board::Board as _;
        let board = &mut self.switch;
        if let Some(why) = why {
            board.say(LegId::CALLER, Said::Over(why));
        }
        board.note(Note::Status(status));
    }

    /// Runs the call to its end.
    pub(in crate::presence) async fn run(self, seat: Option<CallPermit>) {
        self.follow(seat, Vec::new()).await;
    }

    async fn follow(self, seat: Option<CallPermit>, early: Vec<Event>) {
        let Self {
            mut switch,
            mut events,
            facts,
            first,
            reach,
            ..
        } = self;
        let clock = switch.presence.clock.clone();
        switch.talk_max = seat.as_ref().and_then(|seat| seat.held_max);
        switch.callbacks = Some(Callbacks::new(reach.clone()));
        let mut journey = Some(Journey::new(reach));
        let idempotency = facts.sid.clone();
        let mut call = Call::begin(facts, first, &mut switch, Moment::of(&clock));
        for event in early {
            call.on(event, &mut switch, Moment::of(&clock));
        }
        let (mut fetching, mut finding): (Option<Fetching>, Option<Finding>) = (None, None);
        let (mut asked, mut is_action) = (0, false);
        while !call.is_over() {
            if let Some(hook) = switch.wanted.take()
                && let Some(journey) = journey.take()
            {
                (asked, is_action) = (asked + 1, hook.is_action);
                fetching = Some(Box::pin(fetch(
                    journey,
                    hook,
                    format!("{idempotency}-{asked}"),
                )));
            }
            if let Some(parties) = switch.asked.take() {
                finding = Some(switch.presence.ask_peers(&switch.account, &parties));
            }
            let nudge = Arc::clone(&switch.handle.nudge);
            let event = tokio::select! {
                biased;
                Some(event) = events.recv() => event,
                () = nudge.notified() => if switch.handle.is_overrun() {
                    // More was told than fits: what was lost may have been the end of a side.
                    Event::Closed
                } else {
                    Event::Nudged
                },
                (back, fetched) = of(&mut fetching) => {
                    (journey, fetching) = (Some(back), None);
                    Event::Fetched(fetched)
                }
                (devices, silent) = of(&mut finding) => {
                    finding = None;
                    for node in silent {
                        super::board::Board::note(&mut switch, Note::Silent(node));
                    }
                    Event::Found(devices)
                }
                () = until(call.due(), clock.now()) => Event::Due,
            };
            call.on(event, &mut switch, Moment::of(&clock));
        }
        // Who answered a moment too late is told so.
        events.close();
        while let Ok(event) = events.try_recv() {
            call.on(event, &mut switch, Moment::of(&clock));
        }
        // A dial's `action` is asked once, though its caller left at that moment and nobody waits for the answer.
        if let Some(fetching) = fetching.filter(|_| is_action) {
            tokio::spawn(fetching);
        } else if let (Some(hook), Some(journey)) = (switch.wanted.take(), journey)
            && hook.is_action
        {
            asked += 1;
            tokio::spawn(fetch(journey, hook, format!("{idempotency}-{asked}")));
        }
        // How long people talk says nothing about how fast anything works, so no limit learns from it.
        drop(seat);
    }
}

/// What happens to a call that waits for its place: whatever ends it ends it now, and the rest is for when it begins. A caller that
/// left hears nothing any more.
fn before_its_place(event: Event) -> Result<Event, Option<Farewell>> {
    match event {
        Event::Leg(LegId::CALLER, Heard::HungUp | Heard::Left | Heard::Lost(_)) => Err(None),
        Event::Cancelled => Err(Some(Farewell::Over)),
        Event::Draining | Event::Closed => Err(Some(Farewell::Draining)),
        other => Ok(other),
    }
}

async fn fetch(
    mut journey: Journey,
    hook: Hook,
    idempotency: String,
) -> (Journey, Result<Fetched, Failure>) {
    let Some(url) = Journey::resolve(&hook.base, &hook.link.url) else {
        let failure = Failure {
            code: 11_100,
            url: hook.base,
            detail: "the URL of a document is none that can be fetched".into(),
        };
        return (journey, Err(failure));
    };
    let ask = Ask {
        url: &url,
        method: hook.link.method,
        fields: &hook.fields,
        idempotency: &idempotency,
    };
    let fetched = journey.fetch(ask).await;
    (journey, fetched)
}

/// The future, if there is one; else never.
async fn of<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

async fn until(due: Option<Instant>, now: Instant) {
    match due {
        Some(due) => tokio::time::sleep(due.saturating_duration_since(now)).await,
        None => pending().await,
    }
}
