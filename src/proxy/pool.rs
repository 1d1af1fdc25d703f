//! Idle upstream connections: one stack a thread and endpoint, the last one used first.
//!
//! Last in, first out keeps few connections busy and lets the others age; no lock and no other thread is in the
//! way. Never grows beyond `pool.idle`, never hands out a connection that is known to be closed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::socket::Socket;
use super::upstream::Visit;

/// How often a thread looks for connections that were closed or have idled too long.
const REAP_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Pool {
    idle: HashMap<u64, Vec<Idle>, ahash::RandomState>,
    is_reaped: bool,
}

#[derive(Debug)]
struct Idle {
    socket: Box<Socket>,
    until: Instant,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Takes an idle connection of this thread to the endpoint.
pub(super) fn checkout(visit: &Visit, now: Instant) -> Option<Box<Socket>> {
    let checkout = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        let idle = pool.idle.get_mut(&visit.endpoint().id)?;
        while let Some(Idle { socket, until }) = idle.pop() {
            if until > now && socket.is_quiet() {
                return Some(socket);
            }
        }
        None
    });
    checkout.ok().flatten()
}

/// Keeps a connection whose answer was read to its end.
pub(super) fn give(socket: Box<Socket>, visit: &Visit, now: Instant) {
    let settings = &visit.settings;
    let until = now + settings.pool_idle_timeout;
    let needs_reaper = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        let idle = pool.idle.entry(visit.endpoint().id).or_default();
        if idle.len() < settings.pool_idle {
            idle.push(Idle { socket, until });
        }
        !std::mem::replace(&mut pool.is_reaped, true)
    });
    if needs_reaper == Ok(true) && tokio::runtime::Handle::try_current().is_ok() {
        tokio::spawn(reap(visit.clock().clone()));
    }
}

/// Closes what has idled too long; ends with the last connection of the thread.
async fn reap(clock: crate::clock::Clock) {
    loop {
        tokio::time::sleep(REAP_EVERY).await;
        let now = clock.now();
        let is_empty = POOL.with_borrow_mut(|pool| {
            pool.idle.retain(|_, idle| {
                idle.retain(|idle| idle.until > now && idle.socket.is_quiet());
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
