//! One account: who is there, who watches, and the contact lists, behind one lock.
//!
//! Every change goes through [`Account::with`], which hands what was touched to the watchers before the lock is given back: so nobody
//! is told of a change that did not happen, and no change is forgotten. Messages are made by [`Account::flush`], some milliseconds
//! later and all that came between at once, some watchers at a time. Never held across an await.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::api::ask::Answered;
use super::call::Dialling;
use super::call::book::Book;
use super::contacts::Contacts;
use super::registry::Registry;
use super::registry::consolidate::Rules;
use super::registry::session::Moment;
use super::settings::Settings;
use super::subscription::form::Form;
use super::subscription::outbox::Outbox;
use super::subscription::{SubscribeFault, Subscriptions, Wanted};
use super::viewer::Viewer;
use crate::clock::Clock;
use crate::telemetry::PresenceStats;

/// Watchers that are told something while the lock is held once.
const FLUSHED_AT_ONCE: usize = 500;

/// What an account's lock guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) registry: Registry,
    pub(super) contacts: Contacts,
    pub(super) answered: Answered,
    /// The calls that look for somebody, who are told when that may have come.
    pub(super) dialling: Dialling,
    subscriptions: Subscriptions,
}

impl State {
    /// Says whether bearers may subscribe; if not, those who have are ended.
    pub(super) fn admit_bearers(&mut self, are_admitted: bool) {
        self.subscriptions
            .admit_bearers(are_admitted, &self.contacts);
    }

    /// Notes that a viewer is answered, and tells whether it was before.
    pub(super) fn has_answered(&mut self, viewer: &Viewer) -> bool {
        self.answered.note(viewer)
    }
}

/// One tenant at work.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) sid: String,
    /// Its calls. Never locked while the state is.
    pub(super) book: Mutex<Book>,
    state: Mutex<State>,
    /// Sockets and event streams that are open for it.
    open: AtomicUsize,
    /// Messages on their way.
    messages: AtomicUsize,
    stats: Arc<PresenceStats>,
    clock: Clock,
    /// Told when watchers are to hear of something.
    soon: Arc<Notify>,
}

/// One open socket or event stream of an account; not counted any more once dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<Account>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message of an account that is on its way; not counted any more once dropped.
#[derive(Debug)]
pub(super) struct OnItsWay(Arc<Account>);

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.messages.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How devices make one answer, by the settings.
pub(super) fn rules(settings: &Settings) -> Rules {
    Rules {
        order: settings.order,
        assume: settings.assume,
        ring_away: settings.ring_away,
        calls_per_device: settings.calls_per_device,
    }
}

impl Account {
    /// An account in which nobody is there yet.
    pub(super) fn new(
        sid: &str,
        settings: &Settings,
        clock: &Clock,
        stats: Arc<PresenceStats>,
        soon: Arc<Notify>,
    ) -> Self {
        let at = Moment::of(clock);
        // Microseconds of the wall clock: greater than what an earlier process ended with, unless it made a change a microsecond.
        let version = at.unix_ms.saturating_mul(1_000);
        let devices = settings.devices_per_identity;
        let state = State {
            registry: Registry::new(rules(settings), settings.grace, devices, at, version),
            contacts: Contacts::default(),
            answered: Answered::default(),
            dialling: Dialling::default(),
            subscriptions: Subscriptions::new(at.now),
        };
        Self {
            sid: sid.to_owned(),
            book: Mutex::default(),
            state: Mutex::new(state),
            open: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
            stats,
            clock: clock.clone(),
            soon,
        }
    }

    /// Does something with what is there; what it touched is noted for those who watch it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        state.subscriptions.pass_to(self.clock.now());
        let result = act(&mut state);
        let touched = state.registry.take_touched();
        let mut naive = 0;
        for touched in &touched {
            naive += state.subscriptions.touch(touched);
            state.dialling.nudge(&touched.identity);
        }
        for identity in state.registry.take_arrived() {
            state.dialling.nudge(&identity);
        }
        let is_told = state.subscriptions.is_told();
        drop(state);
        if !is_told {
            self.soon.notify_one();
        }
        if !touched.is_empty() {
            self.stats.count_changes(touched.len(), naive);
        }
        result
    }

    /// Counts one more message on its way, if that is not too many.
    pub(super) fn send(self: &Arc<Self>, max: usize) -> Option<OnItsWay> {
        let was = self.messages.fetch_add(1, Ordering::Relaxed);
        let sent = OnItsWay(Arc::clone(self));
        (was < max).then_some(sent)
    }

    /// Counts one more socket or stream, if that is not too many.
    pub(super) fn open(self: &Arc<Self>, max: usize) -> Option<Open> {
        let was = self.open.fetch_add(1, Ordering::Relaxed);
        let open = Open(Arc::clone(self));
        (was < max).then_some(open)
    }

    /// Begins a subscription; the first list is in the outbox when this returns.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        form: Form,
        viewer: Viewer,
        wanted: Wanted,
        with_devices: bool,
        put: impl FnOnce(&Outbox, Utf8Bytes),
    ) -> Result<Subscription, SubscribeFault> {
        // The list is put while the lock is held: no change may come before it.
        let number = self.with(|state| {
            let State {
                registry,
                contacts,
                subscriptions,
                ..
            } = state;
            let (number, list) = subscriptions.subscribe(
                registry,
                contacts,
                outbox,
                form,
                viewer,
                wanted,
                with_devices,
            )?;
            put(outbox, list);
            Ok(number)
        })?;
        self.stats.count_out(1);
        Ok(Subscription {
            account: Arc::clone(self),
            number,
        })
    }

    /// Tells the watchers of a contact list that it changed.
    pub(super) fn list_changed(
        state: &mut State,
        owner: &super::Name,
        list: &super::Name,
        before: &[super::Name],
    ) {
        let (subscriptions, contacts) = (&mut state.subscriptions, &state.contacts);
        subscriptions.list_changed(owner, list, before, contacts);
    }

    /// Tells those who are due what changed since they were told something, each in one message. True if somebody is due later.
    pub(super) fn flush(&self) -> bool {
        let now = self.clock.now();
        loop {
            let mut state = self.state.lock();
            let State {
                registry,
                contacts,
                subscriptions,
                ..
            } = &mut *state;
            subscriptions.pass_to(now);
            let (looked_at, sent) = subscriptions.flush(registry, contacts, FLUSHED_AT_ONCE);
            let is_told = subscriptions.is_told();
            drop(state);
            self.stats.count_out(sent);
            if looked_at == 0 {
                return !is_told;
            }
        }
    }
}

/// A subscription for as long as it is held.
#[derive(Debug)]
pub(super) struct Subscription {
    account: Arc<Account>,
    number: usize,
}

impl Subscription {
    /// A new token: the watcher gets a fresh list of whom it may see now.
    pub(super) fn renew(&self, viewer: Viewer) {
        self.account
            .with(|state| state.subscriptions.renew(self.number, viewer));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.account.with(|state| {
            let (subscriptions, contacts) = (&mut state.subscriptions, &state.contacts);
            subscriptions.end(self.number, contacts);
        });
    }
}
