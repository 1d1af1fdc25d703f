//! Idle upstream connections: one stack a thread and upstream, the last one used first.
//!
//! Last in, first out keeps few connections busy and lets the others age; no lock and no other thread is in the
//! way. Never grows beyond `pool.idle`, never hands out a connection that is known to be closed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::upstream::{Sender, Upstream};

/// How often a thread looks for connections that have idled too long.
const REAP_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Pool {
    idle: HashMap<u64, Vec<Idle>, ahash::RandomState>,
    is_reaped: bool,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    until: Instant,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Takes an idle connection of this thread.
pub(super) fn checkout(upstream: &Upstream, now: Instant) -> Option<Sender> {
    let checkout = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        let idle = pool.idle.get_mut(&upstream.id)?;
        while let Some(Idle { sender, until }) = idle.pop() {
            if until > now && sender.is_ready() {
                return Some(sender);
            }
        }
        None
    });
    checkout.ok().flatten()
}

/// Keeps a connection whose answer was read to its end, as soon as it is ready for the next request.
pub(super) fn give(mut sender: Sender, upstream: &Arc<Upstream>, now: Instant) {
    if sender.is_ready() {
        put(sender, upstream, now);
        return;
    }
    if sender.is_closed() || tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    let upstream = Arc::clone(upstream);
    tokio::spawn(async move {
        if sender.ready().await.is_ok() {
            put(sender, &upstream, now);
        }
    });
}

fn put(sender: Sender, upstream: &Upstream, now: Instant) {
    let settings = &upstream.settings;
    let until = now + settings.pool_idle_timeout;
    let needs_reaper = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        let idle = pool.idle.entry(upstream.id).or_default();
        if idle.len() < settings.pool_idle {
            idle.push(Idle { sender, until });
        }
        !std::mem::replace(&mut pool.is_reaped, true)
    });
    if needs_reaper == Ok(true) {
        tokio::spawn(reap(upstream.clock().clone()));
    }
}

/// Closes what has idled too long; ends with the last connection of the thread.
async fn reap(clock: crate::clock::Clock) {
    loop {
        tokio::time::sleep(REAP_EVERY).await;
        let now = clock.now();
        let is_empty = POOL.with_borrow_mut(|pool| {
            pool.idle.retain(|_, idle| {
                idle.retain(|idle| idle.until > now && !idle.sender.is_closed());
                !idle.is_empty()
            });
            pool.is_reaped = !pool.idle.is_empty();
            pool.idle.is_empty()
        });
        if is_empty {
            return;
        }
    }
}
