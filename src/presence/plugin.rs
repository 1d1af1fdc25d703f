//! The plugin at work: its accounts, its sockets, and what moves without being asked.
//!
//! One tick moves everything that time moves: heartbeats, silence, grace, reports that were not repeated, and tokens that end. What changed
//! is told to watchers in smaller steps, while there is something to tell. A configuration is one pointer, swapped whole; accounts that stay keep everybody who is there.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::account::{self, Account};
use super::api;
use super::bridge::Bridges;
use super::call::board::Event;
use super::fetch::webhooks::Webhooks;
use super::fetch::{Fetcher, native_roots};
use super::message::Awaited;
use super::peers::Roads;
use super::registry::session::Moment;
use super::settings::{ApiAccess, Settings};
use super::signal::pace::Pace;
use super::signal::sockets::{Line, Sockets, TICK};
use super::subscription::due::STEP;
use super::subscription::form::message;
use super::token::{TokenFault, Verifier};
use crate::admission::{Permit, Rejection};
use crate::clock::Clock;
use crate::proxy::plugin::{Boxed, Plugin, Request, Response};
use crate::telemetry::{Entered, PresenceStats, PresenceUse};

/// What lets a call begin: a limit may have no place for it.
pub trait Doors: std::fmt::Debug + Send + Sync {
    /// The place of one more call of an account, counted as that resource, after a wait perhaps, or none where
    /// nothing counts them; dropping the future gives the wait up.
    fn admit(&self, account: &str, resource: &str, call: &str) -> Boxed<Admitted>;
}

/// A call's place, or why it has none; `None` where nothing counts calls.
pub type Admitted = Result<Option<CallPermit>, Box<Rejection>>;

/// The place of a call in progress: dropping it gives the permit back.
#[derive(Debug)]
pub struct CallPermit {
    /// What the limits count.
    pub permit: Permit,
    /// The call among all that is in progress: the operator sees it there, and the auditor counts it.
    pub entered: Entered,
    /// How long it may be held, if that is bounded: nobody talks longer.
    pub held_max: Option<Duration>,
}

/// One configuration at work.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) settings: Settings,
    pub(super) verifier: Verifier,
    /// In the order of the settings'.
    pub(super) accounts: Vec<Arc<Account>>,
}

impl Live {
    /// Refuses credentials that were good when they were verified, if a reload has taken their key or their account away since.
    ///
    /// A reload puts its settings in force first and then ends what it finds that they do not allow. So whoever makes something
    /// that a reload would end asks this afterwards, or under the lock under which the reload looks: one of the two sees the other.
    pub(super) fn check_key(&self, account: &Arc<Account>, key: &str) -> Result<(), TokenFault> {
        let mut known = self.accounts.iter().zip(&self.settings.accounts);
        let counts = known.any(|(known, of)| Arc::ptr_eq(known, account) && of.has_key(key));
        counts.then_some(()).ok_or(TokenFault::Issuer)
    }
}

/// The plugin.
#[derive(Debug)]
pub struct Presence {
    pub(super) clock: Clock,
    pub(super) sockets: Arc<Sockets>,
    pub(super) pace: Pace,
    /// What it counts.
    pub stats: Arc<PresenceStats>,
    pub(super) messages: Awaited,
    pub(super) bridges: Bridges,
    /// To other servers.
    pub(super) roads: Roads,
    /// Accounts that are not configured any more, for as long as they have calls.
    orphans: Mutex<Vec<Arc<Account>>>,
    doors: OnceLock<Arc<dyn Doors>>,
    fetcher: OnceLock<Fetcher>,
    live: ArcSwap<Live>,
    webhooks: Webhooks,
    configured: Notify,
    /// Watchers are to be told something.
    soon: Arc<Notify>,
}

impl Presence {
    /// A plugin without accounts, which costs nothing until it gets some.
    #[must_use]
    pub fn new(clock: Clock) -> Arc<Self> {
        let now = clock.now();
        let settings = Settings::default();
        let live = Live {
            verifier: Verifier::new(&settings),
            settings,
            accounts: Vec::new(),
        };
        Arc::new(Self {
            sockets: Arc::new(Sockets::new(now)),
            pace: Pace::new(now),
            stats: Arc::default(),
            messages: Awaited::default(),
            bridges: Bridges::new(),
            roads: Roads::default(),
            orphans: Mutex::default(),
            doors: OnceLock::new(),
            fetcher: OnceLock::new(),
            live: ArcSwap::from_pointee(live),
            webhooks: Webhooks::default(),
            configured: Notify::new(),
            soon: Arc::default(),
            clock,
        })
    }

    pub(super) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Has calls take their places there; without, they need none.
    pub fn guard(&self, doors: Arc<dyn Doors>) {
        // The first that is set stays: there is one gate.
        drop(self.doors.set(doors));
    }

    pub(super) fn doors(&self) -> Option<Arc<dyn Doors>> {
        self.doors.get().cloned()
    }

    /// What fetches, made when it is first needed: reading the machine's authorities takes a moment.
    pub(super) fn fetcher(&self) -> Fetcher {
        let make = || Fetcher::new(native_roots()).expect("ring is a provider");
        self.fetcher.get_or_init(make).clone()
    }

    /// Puts other settings in force. Accounts and keys that are not there any more end their sessions.
    pub fn configure(&self, settings: Settings) {
        let before = self.live();
        if before.settings == settings {
            return;
        }
        let at = Moment::of(&self.clock);
        let known = |sid: &str| before.accounts.iter().find(|known| known.sid == sid);
        let accounts: Vec<_> = settings
            .accounts
            .iter()
            .map(|of| match known(&of.sid) {
                Some(account) => Arc::clone(account),
                None => Arc::new(Account::new(
                    &of.sid,
                    &settings,
                    &self.clock,
                    Arc::clone(&self.stats),
                    Arc::clone(&self.soon),
                )),
            })
            .collect();
        let live = Live {
            verifier: Verifier::new(&settings),
            settings,
            accounts,
        };
        let live = Arc::new(live);
        // First of all: see `Live::check_key`.
        self.live.store(Arc::clone(&live));
        let settings = &live.settings;
        for (account, of) in live.accounts.iter().zip(&settings.accounts) {
            let is_there = |key: &str| of.has_key(key);
            let (rules, devices) = (account::rules(settings), settings.devices_per_identity);
            let ended = account.with(|state| {
                state.answered.forget();
                let registry = &mut state.registry;
                registry.configure(rules, settings.grace, devices, at);
                let ended = registry.revoke(is_there, at);
                state.admit_bearers(of.api == ApiAccess::Tokens);
                ended
            });
            self.cut(ended);
        }
        let is_gone =
            |account: &&Arc<Account>| !live.accounts.iter().any(|kept| Arc::ptr_eq(kept, account));
        for account in before.accounts.iter().filter(is_gone) {
            let ended = account.with(|state| state.registry.revoke(|_| false, at));
            self.cut(ended);
            // Who talks goes on; nobody new rings.
            tell_calls(account, || Event::Orphaned);
            self.orphans.lock().push(Arc::clone(account));
        }
        if before.settings.peers != live.settings.peers {
            self.roads.end_all();
        }
        drop(self.all_accounts());
        self.webhooks.follow(&live);
        // Those that have no session: streams, and sockets that only watch.
        let by_sid: HashMap<_, _> = live
            .settings
            .accounts
            .iter()
            .map(|of| (&*of.sid, of))
            .collect();
        let is_there = |account: &str, key: &str| {
            let of = by_sid.get(account);
            of.is_some_and(|of| of.has_key(key))
        };
        for line in self.sockets.without_key(is_there) {
            line.end_token();
        }
        self.configured.notify_one();
    }

    fn cut(&self, sockets: Vec<super::SocketId>) {
        for line in sockets.into_iter().filter_map(|id| self.sockets.find(id)) {
            line.end_token();
        }
    }

    /// Runs what moves by itself, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let telling = self.tell();
        tokio::pin!(telling);
        loop {
            let live = self.live();
            if live.accounts.is_empty() && self.sockets.count() == 0 {
                self.configured.notified().await;
                continue;
            }
            self.webhooks.start(&self);
            // On this thread, which nobody waits for, rather than at the first call.
            drop(self.fetcher());
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => self.tick(),
                    never = &mut telling => match never {},
                    () = self.configured.notified() => break,
                }
            }
        }
    }

    /// Tells watchers what changed, step by step while somebody is due. Nothing is done while nothing changes.
    async fn tell(&self) -> Infallible {
        loop {
            self.soon.notified().await;
            let mut is_left = true;
            while is_left {
                tokio::time::sleep(STEP).await;
                is_left = false;
                for account in &self.live().accounts {
                    is_left |= account.flush();
                }
            }
        }
    }

    /// Does what is due now: ten times a second.
    pub fn tick(&self) {
        let live = self.live();
        let at = Moment::of(&self.clock);
        let (heartbeat, max) = (live.settings.heartbeat, live.settings.max_sockets);
        self.sockets.tick(at.now, heartbeat, max, farewell);
        for account in &live.accounts {
            let ended = account.with(|state| state.registry.expire(at));
            self.cut(ended);
        }
    }

    /// The gate goes down: sockets and streams are closed one after another within that time.
    pub fn drain(&self, within: Duration) {
        self.sockets.drain(within);
        for account in self.all_accounts() {
            tell_calls(&account, || Event::Draining);
        }
    }

    /// The gate is down in a moment: whoever still talks is hung up. True if anybody did.
    pub fn hang_up(&self) -> bool {
        let mut has_calls = false;
        for account in self.all_accounts() {
            has_calls |= tell_calls(&account, || Event::Closed);
        }
        self.roads.end_all();
        has_calls
    }

    /// Those that are configured, and those that are not any more and have calls that go on.
    fn all_accounts(&self) -> Vec<Arc<Account>> {
        let mut orphans = self.orphans.lock();
        orphans.retain(|account| !account.book.lock().calls().is_empty());
        let live = self.live();
        live.accounts.iter().chain(&*orphans).cloned().collect()
    }

    /// What is there now; `None` without accounts.
    #[must_use]
    pub fn count(&self) -> Option<PresenceUse> {
        let live = self.live();
        if live.accounts.is_empty() {
            return None;
        }
        let mut all = PresenceUse {
            sockets: self.sockets.count(),
            ..PresenceUse::default()
        };
        for account in &live.accounts {
            let count = account.with(|state| state.registry.count());
            all.live += count.live;
            all.suspended += count.suspended;
            all.api += count.api;
        }
        Some(all)
    }

    /// The sid of the account whose credentials these are, if they are good.
    #[must_use]
    pub fn account_of(&self, headers: &http::HeaderMap) -> Option<String> {
        let live = self.live();
        let (account, ..) = api::credentials(&live, headers, self.clock.unix_time()).ok()?;
        Some(live.settings.accounts.get(account)?.sid.clone())
    }
}

/// Tells every call of an account; true if there are any.
fn tell_calls(account: &Account, event: impl Fn() -> Event) -> bool {
    let calls = account.book.lock().calls();
    for call in &calls {
        call.tell(event());
    }
    !calls.is_empty()
}

/// Pages are told when to come back, so that they do not all come at once; the SDK waits by itself.
fn farewell(line: &Line) {
    if line.is_socket() {
        let after = fastrand::u32(1..=5);
        line.outbox
            .say(message("bye", serde_json::json!({ "retry_after": after })));
    }
}

/// What the gate mounts: the plugin, which hands itself to the tasks of its sockets.
#[derive(Debug)]
pub struct Mounted(pub Arc<Presence>);

impl Plugin for Mounted {
    fn serve(&self, request: Request) -> Boxed<Response> {
        Box::pin(api::serve(Arc::clone(&self.0), request))
    }
}
