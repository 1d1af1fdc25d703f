//! The connection between two servers: what is said of a call on one side is heard on the other.
//!
//! Either server opens it, with a token good for a minute; then both speak alike. A branch is known by its identifier, which whoever
//! holds the call has made. When the connection breaks, every branch on it is lost: who rings is gone, who talks has the usual
//! time to come back, though media does not pass here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hashbrown::HashMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::stand_in;
use crate::presence::call::board::{Event, Heard, Invitation, LegId, Said};
use crate::presence::call::handle::Handle;
use crate::presence::call::start::description;
use crate::presence::call::words::Farewell;
use crate::presence::fault::Fault;
use crate::presence::fetch::FetchError;
use crate::presence::name::Name;
use crate::presence::plugin::Presence;
use crate::presence::registry::session::{SessionRef, SocketId};
use crate::presence::settings::Settings;
use crate::presence::signal;
use crate::presence::subscription::form::write;
use crate::presence::subscription::outbox::{Close, Next, Outbox};
use crate::presence::token::peer;
use crate::proxy::plugin::{Request, Response, Socket};

/// Longest word: several times the longest session description, as JSON may write one byte as six.
const WORD_MAX: usize = 256 * 1024;
/// What may wait for the other server; half of it is kept from invitations, so that what is going on can end.
const WAITING_MAX: usize = 8 * 1024 * 1024;
/// How often the other server is asked whether it is there, and how long it may say nothing.
const BEAT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(15);
/// How long connecting may take.
const OPENING: Duration = Duration::from_secs(2);
/// Branches on one road.
const BRANCHES_MAX: usize = 10_000;

/// What servers say to each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(in crate::presence) enum Word {
    /// Ring that device.
    Invite {
        account: String,
        identity: Name,
        device: Name,
        app: Name,
        epoch: u64,
        invitation: Invitation,
        sdp: String,
    },
    /// A device answered with a bridge token that leads to the other server.
    Accept {
        account: String,
        bridge: String,
        branch: String,
        sdp: String,
    },
    /// What the device of a branch says.
    Heard { branch: String, heard: Heard },
    /// What the device of a branch is told.
    Said { branch: String, said: Said },
}

/// One side of the connection to another server.
#[derive(Debug)]
pub(in crate::presence) struct Road {
    node: Arc<str>,
    outbox: Arc<Outbox>,
    is_over: AtomicBool,
    branches: Mutex<HashMap<String, (Arc<Handle>, LegId), ahash::RandomState>>,
}

impl Road {
    fn new(node: &str) -> Arc<Self> {
        Arc::new(Self {
            node: node.into(),
            outbox: Arc::new(Outbox::holding(WAITING_MAX)),
            is_over: AtomicBool::new(false),
            branches: Mutex::default(),
        })
    }

    /// Whether the other server can be told something.
    pub(in crate::presence) fn is_open(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed) && !self.outbox.is_closing()
    }

    /// Tells the other server something. What would be too long for it is not said: everything in it is bounded, so that only a
    /// mistake of ours comes here.
    pub(in crate::presence) fn say(&self, word: &Word) {
        let text = write(word);
        if text.len() <= WORD_MAX {
            self.outbox.say(text.into());
        }
    }

    /// Asks the other server to ring a device; false if too much waits for it already.
    pub(in crate::presence) fn invite(&self, word: &Word) -> bool {
        let text = write(word);
        let has_room = self.is_open()
            && text.len() <= WORD_MAX
            && self.outbox.waiting() + text.len() <= WAITING_MAX / 2;
        if has_room {
            self.outbox.say(text.into());
        }
        has_room
    }

    /// What is heard of a branch is for that call.
    pub(in crate::presence) fn attach(&self, branch: &str, call: &Arc<Handle>, leg: LegId) -> bool {
        let mut branches = self.branches.lock();
        let is_taken = branches
            .get(branch)
            .is_some_and(|(known, _)| !Arc::ptr_eq(known, call));
        // Under the lock: what is attached after the end would never hear of it.
        if branches.len() >= BRANCHES_MAX || is_taken || self.is_over.load(Ordering::Relaxed) {
            return false;
        }
        branches.insert(branch.to_owned(), (Arc::clone(call), leg));
        true
    }

    /// Nothing more is for it.
    pub(in crate::presence) fn detach(&self, branch: &str) {
        self.branches.lock().remove(branch);
    }

    fn branch(&self, branch: &str) -> Option<(Arc<Handle>, LegId)> {
        self.branches.lock().get(branch).cloned()
    }

    /// Takes one word. One that is not understood is passed over: the road is everybody's, and no client may end it.
    fn hear(self: &Arc<Self>, presence: &Arc<Presence>, text: &str) -> Result<(), Fault> {
        let word = serde_json::from_str(text);
        match word.map_err(|_| Fault::bad("a word of a peer is not understood"))? {
            Word::Invite {
                account,
                identity,
                device,
                app,
                epoch,
                invitation,
                sdp,
            } => {
                let session = SessionRef {
                    identity,
                    device,
                    app,
                    epoch,
                };
                let branch = invitation.sid.clone();
                let offer = description(&sdp)?;
                if !stand_in::ring(presence, self, &account, session, invitation, offer) {
                    let heard = Heard::Refused;
                    self.say(&Word::Heard { branch, heard });
                }
            }
            Word::Accept {
                account,
                bridge,
                branch,
                sdp,
            } => {
                let answer = description(&sdp)?;
                if !self.cross(presence, &account, &bridge, &branch, answer) {
                    let said = Said::Over(Farewell::NoBridge);
                    self.say(&Word::Said { branch, said });
                }
            }
            Word::Heard { branch, heard } => {
                if let Some((call, leg)) = self.branch(&branch) {
                    call.hear(leg, heard);
                }
            }
            Word::Said { branch, said } => {
                if let Some((call, _)) = self.branch(&branch) {
                    call.tell(Event::Told(said));
                }
            }
        }
        Ok(())
    }

    /// A device at the other server answers a call of this one.
    fn cross(
        self: &Arc<Self>,
        presence: &Presence,
        account: &str,
        bridge: &str,
        branch: &str,
        answer: Arc<str>,
    ) -> bool {
        let live = presence.live();
        let now = presence.clock.unix_time();
        let known = live.accounts.iter().find(|of| of.sid == account);
        let bridge = presence.bridges.verify(&live.settings, bridge, now);
        let (Some(account), Some(bridge)) = (known, bridge) else {
            return false;
        };
        let call = account.book.lock().call(&bridge.call);
        let call = call.filter(|_| bridge.node == live.settings.node);
        let leg = LegId(bridge.branch);
        let elsewhere = SocketId(fastrand::u64(1 << 63..));
        let Some(call) = call.filter(|call| call.take_ringing(leg, elsewhere)) else {
            return false;
        };
        call.dismiss(leg);
        let is_heard =
            call.bind_there(leg, self, branch) && call.hear(leg, Heard::Accepted(answer));
        if !is_heard {
            call.unbind(leg);
        }
        is_heard
    }

    /// The connection is over: so is what rings there, and who talks is lost.
    fn end(&self) {
        {
            let _branches = self.branches.lock();
            self.is_over.store(true, Ordering::Relaxed);
        }
        self.outbox.cut(Close::GOING_AWAY);
        let branches = std::mem::take(&mut *self.branches.lock());
        for (call, leg) in branches.into_values() {
            // The device there is told that it is over.
            call.hear(leg, Heard::Left);
            call.tell(Event::Told(Said::Over(Farewell::Failed)));
        }
    }

    async fn run(
        self: &Arc<Self>,
        presence: &Arc<Presence>,
        mut stream: WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>,
    ) {
        let mut beats = tokio::time::interval(BEAT);
        let mut heard_at = presence.clock.now();
        loop {
            let next = std::future::poll_fn(|cx| self.outbox.poll_next(cx));
            tokio::select! {
                biased;
                _ = beats.tick() => {
                    let silent = presence.clock.now().saturating_duration_since(heard_at);
                    let ping = stream.send(Message::Ping("".into()));
                    if silent >= SILENCE || !is_sent(ping).await {
                        break;
                    }
                }
                next = next => match next {
                    Next::Text(text) => {
                        if !is_sent(stream.send(Message::Text(text))).await {
                            break;
                        }
                    }
                    Next::Close(_) => break,
                },
                heard = stream.next() => match heard {
                    Some(Ok(Message::Text(text))) => {
                        heard_at = presence.clock.now();
                        if let Err(fault) = self.hear(presence, &text) {
                            let (node, why) = (&*self.node, fault.detail);
                            tracing::warn!(node, why, "a word of a peer was passed over");
                        }
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                        heard_at = presence.clock.now();
                    }
                    _ => break,
                },
            }
        }
        drop(tokio::time::timeout(OPENING, stream.close(None)).await);
    }
}

/// Whether it was written in time: who does not read for so long is not there.
async fn is_sent<E>(sending: impl Future<Output = Result<(), E>>) -> bool {
    matches!(tokio::time::timeout(SILENCE, sending).await, Ok(Ok(())))
}

/// The roads of this process, by the other server's name.
#[derive(Debug, Default)]
pub(in crate::presence) struct Roads(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Those that this process opened, by the other's name.
    own: HashMap<String, Arc<Road>, ahash::RandomState>,
    /// Those that were opened to it.
    others: Vec<Weak<Road>>,
}

impl Roads {
    /// Ends all of them: what rings or talks over them ends.
    pub(in crate::presence) fn end_all(&self) {
        let mut known = self.0.lock();
        let own = std::mem::take(&mut known.own).into_values();
        let others = std::mem::take(&mut known.others);
        let others = others.iter().filter_map(Weak::upgrade);
        for road in own.chain(others) {
            road.outbox.cut(Close::GOING_AWAY);
        }
    }

    fn know(&self, road: &Arc<Road>) {
        let mut known = self.0.lock();
        known.others.retain(|road| road.strong_count() > 0);
        known.others.push(Arc::downgrade(road));
    }
}

impl Presence {
    /// The road to a peer; it is opened if there is none.
    pub(in crate::presence) fn road(self: &Arc<Self>, node: &str) -> Option<Arc<Road>> {
        let mut roads = self.roads.0.lock();
        if let Some(road) = roads.own.get(node).filter(|road| road.is_open()) {
            return Some(Arc::clone(road));
        }
        let live = self.live();
        let peers = live.settings.peers.as_ref()?;
        peers.nodes.iter().find(|peer| peer.name == node)?;
        let road = Road::new(node);
        roads.own.insert(node.to_owned(), Arc::clone(&road));
        let presence = Arc::clone(self);
        tokio::spawn(async move {
            let (settings, opened) = {
                let live = presence.live();
                (live.settings.clone(), Arc::clone(&road))
            };
            match open(&presence, &settings, &road.node).await {
                Ok(stream) => opened.run(&presence, stream).await,
                Err(error) => {
                    let node = &*road.node;
                    tracing::warn!(node, %error, "a peer cannot be reached");
                }
            }
            road.end();
        });
        roads.own.get(node).map(Arc::clone)
    }
}

async fn open(
    presence: &Presence,
    settings: &Settings,
    node: &str,
) -> Result<WebSocketStream<Box<dyn crate::presence::fetch::Duplex>>, FetchError> {
    let peers = settings.peers.as_ref().ok_or(FetchError::BadUrl)?;
    let to = peers.nodes.iter().find(|peer| peer.name == node);
    let to = to.ok_or(FetchError::BadUrl)?;
    let url = to.url.parse().map_err(|_| FetchError::BadUrl)?;
    let stream = presence.fetcher().open(&url, OPENING).await?;
    let address = to.url.replacen("http", "ws", 1) + "/v1/peer";
    let request = address.into_client_request();
    let mut request = request.map_err(|_| FetchError::BadUrl)?;
    let token = peer::sign(peers, &settings.node, to, presence.clock.unix_time());
    let bearer = format!("Bearer {token}").try_into();
    request
        .headers_mut()
        .insert(AUTHORIZATION, bearer.map_err(|_| FetchError::BadUrl)?);
    let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(bounds()));
    let opened = tokio::time::timeout(OPENING, opening).await;
    let opened = opened.map_err(|_| FetchError::Timeout)?;
    Ok(opened.map_err(|_| FetchError::Protocol)?.0)
}

fn bounds() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(WORD_MAX))
        .max_frame_size(Some(WORD_MAX))
}

/// Answers a peer that opens a road: `GET /v1/peer`.
pub(in crate::presence) fn accept(
    presence: &Arc<Presence>,
    request: &Request,
    node: &str,
) -> Result<Response, Fault> {
    let (key, protocol) = signal::handshake(request)?;
    let road = Road::new(node);
    presence.roads.know(&road);
    let roads = Arc::clone(presence);
    let mut response = Response::new(http::StatusCode::SWITCHING_PROTOCOLS, "");
    response.headers.insert(signal::ACCEPT, key);
    let run = move |socket: Socket| {
        Box::pin(async move {
            let stream = WebSocketStream::from_raw_socket(socket, Role::Server, Some(bounds()));
            road.run(&roads, stream.await).await;
            road.end();
        }) as _
    };
    response.upgrade = Some((protocol, Box::new(run)));
    Ok(response)
}
