//! Who is told about changes, and what was not told yet.
//!
//! A watcher gets the list once, and then, at each flush, one message with the newest state of all that changed since the last one:
//! however often an identity changed between, it is in it once. What waits for a slow watcher is the set of names, not messages, so
//! it is bounded by what the watcher asked for; one that asked for a pattern and falls too far behind is told to begin anew, with a
//! fresh list. No task and no timer a watcher. Never decides who may see whom; asks the [`Viewer`].

pub(in crate::presence) mod due;
pub(in crate::presence) mod form;
pub(in crate::presence) mod outbox;

use std::sync::Arc;
use std::time::Instant;

use hashbrown::{HashMap, HashSet};
use serde_json::value::RawValue;
use slab::Slab;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::presence::contacts::Contacts;
use crate::presence::name::Name;
use crate::presence::registry::Registry;
use crate::presence::registry::arrival::Touched;
use crate::presence::viewer::Viewer;
use due::Due;
use form::{Form, Presence, write};
use outbox::{Close, Outbox};

/// Most identities of one subscription that names them.
pub(in crate::presence) const WANTED_MAX: usize = 1_000;
/// Most identities in the first list of a pattern; the others follow as changes.
const SNAPSHOT_MAX: usize = 1_000;
/// Names that all watchers of an account named together: some 60 MB.
const WATCHED_MAX: usize = 2_000_000;
/// Names that wait for a watcher of a pattern, beyond which it begins anew.
const PENDING_MAX: usize = 10_000;

type Set<T> = HashSet<T, ahash::RandomState>;

/// What a watcher asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::presence) enum Wanted {
    /// These identities.
    Identities(Vec<Name>),
    /// All whose names begin so.
    Prefix(String),
    /// Those of this list of this owner, whatever they are at the time.
    List(Name, Name),
}

/// One subscription.
#[derive(Debug)]
struct Watcher {
    outbox: Arc<Outbox>,
    form: Form,
    viewer: Viewer,
    wanted: Wanted,
    with_devices: bool,
    /// Whose changes it was not told yet.
    pending: Set<Name>,
    /// It stands among those that are due.
    is_dirty: bool,
    /// The step in which it was told something last.
    told: u64,
    /// It fell too far behind, and gets a fresh list.
    is_behind: bool,
}

/// What a new watcher gets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::presence) enum SubscribeFault {
    #[error("a subscription names up to {WANTED_MAX} identities")]
    TooMany,
    #[error("there is no contact list of this name")]
    NoList,
    #[error("more identities are there than a pattern may show; ask for fewer")]
    TooManyPresent,
    #[error("this account watches as many identities as may be; end some subscriptions")]
    AccountFull,
    #[error("presence of this account is read with account keys only")]
    Internal,
}

/// The watchers of one account.
#[derive(Debug)]
pub(in crate::presence) struct Subscriptions {
    watchers: Slab<Watcher>,
    by_identity: HashMap<Name, Set<usize>, ahash::RandomState>,
    by_prefix: HashMap<String, Set<usize>, ahash::RandomState>,
    by_list: HashMap<(Name, Name), Set<usize>, ahash::RandomState>,
    due: Due,
    /// Names in all of `by_identity`.
    watched: usize,
    /// Only account keys may subscribe (B35).
    is_internal: bool,
}

impl Subscriptions {
    pub(in crate::presence) fn new(now: Instant) -> Self {
        Self {
            watchers: Slab::new(),
            by_identity: HashMap::default(),
            by_prefix: HashMap::default(),
            by_list: HashMap::default(),
            due: Due::new(now),
            watched: 0,
            is_internal: false,
        }
    }

    /// It is that time by now: whoever changes something says so first.
    pub(in crate::presence) fn pass_to(&mut self, now: Instant) {
        self.due.pass_to(now);
    }

    /// Begins a subscription: its number, and the first list for its outbox.
    #[expect(clippy::too_many_arguments, reason = "a subscription is all of these")]
    pub(in crate::presence) fn subscribe(
        &mut self,
        registry: &Registry,
        contacts: &Contacts,
        outbox: &Arc<Outbox>,
        form: Form,
        viewer: Viewer,
        wanted: Wanted,
        with_devices: bool,
    ) -> Result<(usize, Utf8Bytes), SubscribeFault> {
        if self.is_internal && matches!(viewer, Viewer::Bearer(_)) {
            return Err(SubscribeFault::Internal);
        }
        match &wanted {
            Wanted::Identities(names) if names.len() > WANTED_MAX => {
                return Err(SubscribeFault::TooMany);
            }
            Wanted::List(owner, name) if contacts.get(owner, name).is_none() => {
                return Err(SubscribeFault::NoList);
            }
            Wanted::Prefix(prefix) if form != Form::Webhook => {
                let visible = |name: &Name| viewer.may_see(name);
                if registry
                    .present(prefix, visible, SNAPSHOT_MAX + PENDING_MAX)
                    .1
                {
                    return Err(SubscribeFault::TooManyPresent);
                }
            }
            _ if self.watched + WANTED_MAX > WATCHED_MAX => {
                return Err(SubscribeFault::AccountFull);
            }
            _ => {}
        }
        let watcher = Watcher {
            outbox: Arc::clone(outbox),
            form,
            viewer,
            wanted,
            with_devices,
            pending: Set::default(),
            is_dirty: false,
            // It has its list, and may hear of the first change at once.
            told: 0,
            is_behind: false,
        };
        let number = self.watchers.insert(watcher);
        self.enter(number, contacts);
        let list = self.snapshot(number, registry, contacts);
        if form == Form::Webhook {
            // It is told changes only, so neither does the rest of a long list follow.
            self.watchers[number].pending = Set::default();
        }
        Ok((number, list))
    }

    /// Ends a subscription.
    pub(in crate::presence) fn end(&mut self, number: usize, contacts: &Contacts) {
        if self.watchers.contains(number) {
            self.remove(number, contacts);
            // Its number may stand among those that are due: whoever has it by then is passed over, or told a little early.
            self.watchers.remove(number);
        }
    }

    /// Says whether bearers may watch (B35). Where they may not any more, streams end, and sockets are told and stay.
    pub(in crate::presence) fn admit_bearers(&mut self, are_admitted: bool, contacts: &Contacts) {
        self.is_internal = !are_admitted;
        if self.is_internal {
            self.end_bearers(contacts);
        }
    }

    fn end_bearers(&mut self, contacts: &Contacts) {
        let bearers = self.watchers.iter();
        let bearers = bearers.filter(|(_, of)| matches!(of.viewer, Viewer::Bearer(_)));
        let bearers: Vec<_> = bearers.map(|(number, _)| number).collect();
        for number in bearers {
            self.remove(number, contacts);
            let watcher = &mut self.watchers[number];
            watcher.wanted = Wanted::Identities(Vec::new());
            (watcher.is_dirty, watcher.pending) = (false, Set::default());
            if watcher.form == Form::Socket {
                watcher.outbox.say(watcher.form.ended());
            } else {
                watcher.outbox.close(Close::TOKEN_END);
            }
        }
    }

    /// A new token: what the watcher may see is judged anew, and it gets a fresh list.
    pub(in crate::presence) fn renew(&mut self, number: usize, viewer: Viewer) {
        if let Some(watcher) = self.watchers.get_mut(number) {
            watcher.viewer = viewer;
            watcher.is_behind = true;
            self.mark(number);
        }
    }

    /// Notes for all who watch it that an identity changed. Returns how many messages a fan-out without consolidation would send.
    pub(in crate::presence) fn touch(&mut self, touched: &Touched) -> usize {
        let mut told = 0;
        let named = self.by_identity.get(&touched.identity);
        let by_prefix = beginnings(&self.by_prefix, touched.identity.as_str());
        for &number in named.into_iter().chain(by_prefix).flatten() {
            let watcher = &mut self.watchers[number];
            let concerns = touched.is_shown || watcher.with_devices;
            if !concerns || !watcher.viewer.may_see(&touched.identity) {
                continue;
            }
            told += 1;
            if !watcher.is_behind {
                watcher.pending.insert(touched.identity.clone());
            }
            if watcher.pending.len() > PENDING_MAX {
                (watcher.is_behind, watcher.pending) = (true, Set::default());
            }
            self.due.add(number, watcher);
        }
        told
    }

    /// Whether everybody was told everything.
    pub(in crate::presence) fn is_told(&self) -> bool {
        self.due.is_empty()
    }

    /// A contact list changed: its watchers get the list anew.
    pub(in crate::presence) fn list_changed(
        &mut self,
        owner: &Name,
        list: &Name,
        before: &[Name],
        contacts: &Contacts,
    ) {
        let key = (owner.clone(), list.clone());
        let Some(numbers) = self.by_list.get(&key).cloned() else {
            return;
        };
        for number in numbers {
            for identity in before {
                self.forget(identity, number);
            }
            self.enter(number, contacts);
            self.watchers[number].is_behind = true;
            self.mark(number);
        }
    }

    /// Tells up to `most` watchers that are due; those that have not read enough wait on. Returns how many were looked at, and the
    /// messages.
    pub(in crate::presence) fn flush(
        &mut self,
        registry: &Registry,
        contacts: &Contacts,
        most: usize,
    ) -> (usize, usize) {
        let mut items = Items::default();
        let mut sent = 0;
        let numbers = self.due.take(most);
        let taken = numbers.len();
        for number in numbers {
            let Some(watcher) = self.watchers.get_mut(number).filter(|of| of.is_dirty) else {
                continue;
            };
            let is_ready = if watcher.form == Form::Webhook {
                watcher.outbox.is_empty()
            } else {
                watcher.outbox.has_room()
            };
            if !is_ready {
                self.due.put_off(number);
                continue;
            }
            (watcher.is_dirty, watcher.told) = (false, self.due.step());
            let outbox = Arc::clone(&watcher.outbox);
            // Said while the account is locked, so that nothing newer can be said before it.
            if watcher.is_behind {
                outbox.say(watcher.form.resync());
                outbox.say(self.snapshot(number, registry, contacts));
                sent += 2;
            } else {
                let pending = std::mem::take(&mut watcher.pending);
                if !pending.is_empty() {
                    outbox.say(items.delta(watcher, &pending, registry));
                    sent += 1;
                }
            }
        }
        (taken, sent)
    }

    /// The list as it is now; more than one message holds follows as changes.
    fn snapshot(&mut self, number: usize, registry: &Registry, contacts: &Contacts) -> Utf8Bytes {
        let watcher = &mut self.watchers[number];
        (watcher.is_behind, watcher.pending) = (false, Set::default());
        let (names, is_more) = match &watcher.wanted {
            Wanted::Identities(names) => (names.clone(), false),
            Wanted::List(owner, name) => {
                let list = contacts.get(owner, name);
                (
                    list.map_or(Vec::new(), |list| list.identities.to_vec()),
                    false,
                )
            }
            Wanted::Prefix(prefix) => {
                let visible = |name: &Name| watcher.viewer.may_see(name);
                let (mut names, _) = registry.present(prefix, visible, SNAPSHOT_MAX + PENDING_MAX);
                let rest = names.split_off(names.len().min(SNAPSHOT_MAX));
                let is_more = !rest.is_empty();
                watcher.pending.extend(rest);
                (names, is_more)
            }
        };
        let all = names.len();
        let seen: Vec<_> = names
            .into_iter()
            .filter(|name| watcher.viewer.may_see(name))
            .collect();
        let items = seen
            .iter()
            .map(|name| registry.item(name, watcher.with_devices));
        let presence = Presence {
            version: registry.version(),
            presence: items.map(|item| (item.identity.clone(), item)).collect(),
            left_out: Some(all - seen.len()),
            more: is_more.then_some(true),
        };
        let text = watcher.form.snapshot(&presence);
        if is_more {
            self.mark(number);
        }
        text
    }

    fn mark(&mut self, number: usize) {
        self.due.add(number, &mut self.watchers[number]);
    }

    fn enter(&mut self, number: usize, contacts: &Contacts) {
        let wanted = self.watchers[number].wanted.clone();
        match &wanted {
            Wanted::Prefix(prefix) => {
                self.by_prefix.entry_ref(prefix).or_default().insert(number);
            }
            Wanted::Identities(names) => self.watch(names, number),
            Wanted::List(owner, name) => {
                let key = (owner.clone(), name.clone());
                self.by_list.entry(key).or_default().insert(number);
                if let Some(list) = contacts.get(owner, name) {
                    self.watch(&list.identities, number);
                }
            }
        }
    }

    fn watch(&mut self, names: &[Name], number: usize) {
        for name in names {
            let is_new = self.by_identity.entry_ref(name).or_default().insert(number);
            self.watched += usize::from(is_new);
        }
    }

    fn remove(&mut self, number: usize, contacts: &Contacts) {
        match self.watchers[number].wanted.clone() {
            Wanted::Prefix(prefix) => {
                strike(&mut self.by_prefix, &prefix, number);
            }
            Wanted::Identities(names) => {
                for name in &names {
                    self.forget(name, number);
                }
            }
            Wanted::List(owner, name) => {
                if let Some(list) = contacts.get(&owner, &name) {
                    for name in &*list.identities {
                        self.forget(name, number);
                    }
                }
                strike(&mut self.by_list, &(owner, name), number);
            }
        }
    }

    fn forget(&mut self, identity: &Name, number: usize) {
        let was_there = strike(&mut self.by_identity, identity, number);
        self.watched -= usize::from(was_there);
    }
}

/// The watchers of each beginning of that name. Clients choose what they watch, so that there may be very many beginnings; a
/// name has few.
fn beginnings<'m>(
    by_prefix: &'m HashMap<String, Set<usize>, ahash::RandomState>,
    name: &str,
) -> impl Iterator<Item = &'m Set<usize>> {
    let is_watched = !by_prefix.is_empty();
    let ends = (0..=name.len()).filter(move |&end| is_watched && name.is_char_boundary(end));
    ends.filter_map(move |end| by_prefix.get(&name[..end]))
}

/// Takes a watcher out of a set, and the set out of its map if it was the last; whether it was there.
fn strike<K: std::hash::Hash + Eq>(
    map: &mut HashMap<K, Set<usize>, ahash::RandomState>,
    key: &K,
    number: usize,
) -> bool {
    let Some(numbers) = map.get_mut(key) else {
        return false;
    };
    let was_there = numbers.remove(&number);
    if numbers.is_empty() {
        map.remove(key);
    }
    was_there
}

/// Items and messages of one flush, each written once however many get it.
#[derive(Debug, Default)]
struct Items {
    items: HashMap<(Name, bool), Arc<RawValue>, ahash::RandomState>,
    /// Messages about one identity: most changes reach all its watchers alone.
    single: HashMap<(Name, bool, Form), Utf8Bytes, ahash::RandomState>,
}

impl Items {
    fn delta(&mut self, watcher: &Watcher, pending: &Set<Name>, registry: &Registry) -> Utf8Bytes {
        let with_devices = watcher.with_devices;
        let only = pending.iter().next().filter(|_| pending.len() == 1);
        let key = only.map(|name| (name.clone(), with_devices, watcher.form));
        if let Some(known) = key.as_ref().and_then(|key| self.single.get(key)) {
            return known.clone();
        }
        let items = pending.iter().map(|name| {
            let key = (name.clone(), with_devices);
            let item = self.items.entry(key).or_insert_with(|| {
                let item = write(&registry.item(name, with_devices));
                Arc::from(RawValue::from_string(item).expect("what was written as JSON is JSON"))
            });
            (name.clone(), Arc::clone(item))
        });
        let presence = Presence {
            version: registry.version(),
            presence: items.collect(),
            left_out: None,
            more: None,
        };
        let text = watcher.form.delta(&presence);
        if let Some(key) = key {
            self.single.insert(key, text.clone());
        }
        text
    }
}
