//! Clients that have shown a token which was refused, and may show another: they are waited for, and bounded.
//!
//! The voice SDK waits on an open socket until its page brings a new token; one that is closed comes back 0.1 s later with the token that
//! it has. So they are let stay for a while, where most of the sockets that may be open are left to those who are known.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One in so many of the sockets that may be open may be such.
const SHARE: usize = 10;

/// How many of them are waited for.
#[derive(Debug, Default)]
pub(super) struct Strangers(Arc<AtomicUsize>);

/// One of them; not counted any more once dropped.
#[derive(Debug)]
pub(super) struct Stranger(Arc<AtomicUsize>);

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Strangers {
    /// One more, unless there are as many as may be, where so many sockets may be open.
    pub(super) fn one_more(&self, sockets_max: usize) -> Option<Stranger> {
        let was = self.0.fetch_add(1, Ordering::Relaxed);
        let stranger = Stranger(Arc::clone(&self.0));
        (was < sockets_max / SHARE).then_some(stranger)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::clock::Clock;
    use crate::presence::plugin::Presence;
    use crate::presence::settings::Settings;
    use crate::presence::signal::sockets::TICK;
    use crate::presence::subscription::outbox::Close;
    use crate::presence::testing::{Client, settings, token};

    /// Lets so many seconds pass, in which the clients echo what comes.
    fn pass(seconds: u32, presence: &Presence, clock: &Clock, clients: &mut [Client]) {
        for _ in 0..seconds * 10 {
            clock.advance(TICK);
            presence.tick();
            for client in clients.iter_mut() {
                client.talk.hear("\n");
            }
        }
    }

    // B1: the SDK stays on its socket when its token was refused, and says `listen` again with what its page brings.
    #[test]
    fn who_shows_a_bad_token_may_show_another_on_the_same_socket_for_a_minute() {
        let clock = Clock::manual();
        let presence = Presence::new(clock.clone());
        presence.configure(settings());
        let mut clients: Vec<_> = (0..2)
            .map(|kind| Client::open(&presence, kind, None))
            .collect();
        for client in &mut clients {
            client.say("listen", &json!({ "token": "no.token.at-all" }));
            assert_eq!(client.told().0[0]["payload"]["error"]["code"], 31_204);
        }
        pass(50, &presence, &clock, &mut clients);
        assert!(clients.iter().all(|client| client.told().1.is_none()));
        clients[0].say("listen", &json!({ "token": token("alice", &clock) }));
        assert_eq!(clients[0].told().0[0]["type"], "connected");
        pass(60, &presence, &clock, &mut clients);
        assert_eq!(clients[0].told().1, None);
        assert_eq!(clients[1].told().1, Some(Close::POLICY));
    }

    // Sockets are bounded, and most of them are for those who are known.
    #[test]
    fn a_tenth_of_the_sockets_at_most_wait_for_a_better_token() {
        let clock = Clock::manual();
        let presence = Presence::new(clock.clone());
        presence.configure(Settings {
            max_sockets: 20,
            ..settings()
        });
        let refused = |kind| {
            let mut client = Client::open(&presence, kind, None);
            client.say("listen", &json!({ "token": "no.token.at-all" }));
            client
        };
        let open = |clients: &[Client]| {
            let open = clients.iter().filter(|client| client.told().1.is_none());
            open.count()
        };
        let mut clients: Vec<_> = (0..5).map(refused).collect();
        pass(6, &presence, &clock, &mut clients);
        clients.retain(|client| client.told().1.is_none());
        assert_eq!(clients.len(), 2);
        // One becomes known and the other leaves: their places are free.
        clients[0].say("listen", &json!({ "token": token("alice", &clock) }));
        clients.truncate(1);
        clients.extend((5..10).map(refused));
        pass(6, &presence, &clock, &mut clients);
        assert_eq!(open(&clients), 3);
    }
}
