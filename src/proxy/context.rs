//! One request, from its head to its last byte: what it holds, and what is told when it is over.
//!
//! The context owns the permit and the entry among the live requests; it travels with the request, sits in the
//! response's body or in a tunnel, and records itself exactly once, when dropped. Never copied.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connection::Connection;
use super::gate::{Local, Names, Route, Target};
use super::plugin::{Edit, Plugin};
use super::settings::{Departed, StreamPolicy};
use super::upstream::{Upstream, Visit};
use crate::admission::{LeaseId, LeaseTerms, Outcome, Permit, Reason, Ticket, UpstreamId};
use crate::telemetry::{self, DecisionWord, Entered, Record, Request, State, Trace};

/// Everything about one request.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) local: Arc<Local>,
    pub(super) request: Arc<Request>,
    resource: Option<u16>,
    entered: Option<Entered>,
    hold: Hold,
    pub(super) status: u16,
    pub(super) decision: DecisionWord,
    pub(super) reason: &'static str,
    pub(super) limit: Option<Arc<str>>,
    would_reject: Option<Arc<str>>,
    candidates_would_reject: Box<[Arc<str>]>,
    pub(super) mark: Option<Arc<str>>,
    /// How long it waited for its places, if it did.
    pub(super) queue_wait: Option<Duration>,
    /// Where it goes instead of its resource's upstream.
    rerouted: Option<UpstreamId>,
    /// The work goes on after the response.
    lease: Option<LeaseId>,
    /// Which of several endpoints answered.
    pub(super) endpoint: Option<Arc<str>>,
    outcome: Outcome,
    /// When the request was sent on.
    pub(super) forwarded_at: Option<Instant>,
    /// When the response's head came.
    head_at: Option<Instant>,
    /// Who asked, where a proxy that is believed says so; else that is the connection's peer.
    pub(super) client: Option<IpAddr>,
    /// Bytes of the response's body that were passed on.
    pub(super) sent: u64,
    is_cut: bool,
    /// Its place in a trace, while traces are on.
    pub(super) trace: Option<Trace>,
    connection: Arc<Connection>,
}

/// What an answer's head says beside its status to those who learn how long the work takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taught {
    /// It is a stream, or came before the request was through.
    pub(super) is_stream: bool,
    /// When the request's last byte came, if it had a body.
    pub(super) sent: Option<Instant>,
}

/// Where the permit is.
#[derive(Debug)]
enum Hold {
    None,
    Own(Permit),
    /// With a timer that takes it away early.
    Timed(Arc<Mutex<Option<Permit>>>, tokio::task::AbortHandle),
}

impl Context {
    /// The context of a request that was just classified, or could not be.
    pub(super) fn new(
        local: Arc<Local>,
        request: Arc<Request>,
        resource: Option<u16>,
        connection: Arc<Connection>,
    ) -> Self {
        connection.activity.begin();
        Self {
            local,
            request,
            resource,
            entered: None,
            hold: Hold::None,
            status: 0,
            decision: DecisionWord::Admitted,
            reason: "none",
            limit: None,
            would_reject: None,
            candidates_would_reject: Box::default(),
            mark: None,
            queue_wait: None,
            rerouted: None,
            lease: None,
            endpoint: None,
            outcome: Outcome::Ignore,
            forwarded_at: None,
            head_at: None,
            client: None,
            sent: 0,
            is_cut: true,
            trace: None,
            connection,
        }
    }

    /// The client's connection.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The route of its resource and the names that go with it, if it has one.
    pub(super) fn route(&self) -> Option<(&Route, &Names)> {
        let resource = usize::from(self.resource?);
        Some((
            &self.local.generation.routes[resource],
            &self.local.names[resource],
        ))
    }

    /// What becomes of it when its client leaves.
    pub(super) fn departed(&self) -> Departed {
        self.route()
            .map_or(Departed::Close, |(route, _)| route.departed)
    }

    /// Where it goes, unless that is a plugin.
    pub(super) fn upstream(&self) -> Option<&Arc<Upstream>> {
        if let Some(rerouted) = self.rerouted {
            return Some(&self.local.generation.upstreams[usize::from(rerouted.0)]);
        }
        match &self.route()?.0.target {
            Target::Upstream(upstream) => Some(upstream),
            Target::Plugin(_) => None,
        }
    }

    /// The plugin it goes to, if it does.
    pub(super) fn plugin(&self) -> Option<&Arc<dyn Plugin>> {
        match &self.route()?.0.target {
            Target::Plugin(plugin) if self.rerouted.is_none() => Some(plugin),
            _ => None,
        }
    }

    /// What edits the answers of its resource.
    pub(super) fn edit(&self) -> Option<&Arc<dyn Edit>> {
        self.route()?.0.edit.as_ref()
    }

    /// Enters the request among the live ones as one that waits.
    pub(super) fn wait(&mut self, ticket: Ticket) {
        self.request.set_ticket(Some(ticket));
        if self.entered.is_none() {
            let live = &self.local.gate.live;
            self.entered = Some(live.enter(Arc::clone(&self.request), None));
        }
    }

    /// Goes on under another generation, in which its resource has another place.
    pub(super) fn renew(&mut self, local: Arc<Local>, resource: u16) {
        self.local = local;
        self.resource = Some(resource);
    }

    /// The wait is over, one way or another.
    pub(super) fn waited(&mut self, took: Duration) {
        self.request.set_ticket(None);
        self.queue_wait = Some(took);
        if let Some((route, _)) = self.route() {
            route.stats.observe_wait(took);
        }
    }

    /// Takes over the permit and enters the request among the live ones.
    pub(super) fn hold(&mut self, permit: Permit) {
        self.would_reject = permit.would_reject().cloned();
        if let Some(story) = permit.story() {
            self.decision = DecisionWord::of(story);
            self.mark.clone_from(&story.mark);
            self.candidates_would_reject
                .clone_from(&story.candidates_would_reject);
            self.rerouted = story.rerouted;
        }
        if self.rerouted.is_some()
            && let Some(upstream) = self.upstream()
        {
            let request = Arc::new(self.request.rerouted(upstream.name().into()));
            if let Some(entered) = &mut self.entered {
                entered.replace(Arc::clone(&request));
            }
            self.request = request;
        }
        match &mut self.entered {
            Some(entered) => entered.hold(&permit),
            None => {
                let live = &self.local.gate.live;
                self.entered = Some(live.enter(Arc::clone(&self.request), Some(&permit)));
            }
        }
        self.hold = Hold::Own(permit);
    }

    /// Requests of the account in flight when the permit was given.
    pub(super) fn account_in_flight(&self) -> u32 {
        match &self.hold {
            Hold::Own(permit) => permit.account_in_flight(),
            _ => 0,
        }
    }

    /// The work goes on after the response: its permit becomes a lease at the last byte.
    pub(super) fn lease(&mut self, ttl: Duration, ttl_max: Duration, now: Instant) {
        let request = &self.request;
        let id = LeaseId::of(request.id);
        let terms = LeaseTerms {
            account: request.account,
            resource: Arc::clone(&request.resource),
            ttl,
            ttl_max,
        };
        let leases = &self.local.gate.leases;
        if leases.begin(id, terms, now, || request.is_released()) {
            self.lease = Some(id);
        }
    }

    /// Hands the permit over to the request's lease; given back if there is none, or it is over.
    fn hand_over(&mut self, mut permit: Permit) -> Option<Permit> {
        let (Some(id), Some(mut entered)) = (self.lease, self.entered.take()) else {
            return Some(permit);
        };
        permit.keep_for_lease();
        entered.hold(&permit);
        self.request.set_state(State::Lease);
        let (entered, permit) = self.local.gate.leases.hold(id, entered, permit)?;
        drop(entered);
        Some(permit)
    }

    /// The response's head came: an answer was given, and the resource says how long the place is held from here.
    pub(super) fn answered(
        &mut self,
        status: u16,
        taught: Taught,
        policy: StreamPolicy,
        now: Instant,
    ) {
        self.status = status;
        self.head_at = Some(now);
        self.outcome = Outcome::Success;
        if let Hold::Own(permit) = &mut self.hold {
            let is_stream = taught.is_stream || policy != StreamPolicy::BodyEnd;
            permit.answered(taught_by(status, is_stream), taught.sent, now);
        }
        self.is_cut = false;
        self.request.set_state(if status == 101 {
            State::Tunnel
        } else {
            State::Streaming
        });
        if taught.is_stream {
            self.detach();
        }
        match policy {
            _ if self.lease.is_some() => {}
            StreamPolicy::BodyEnd => {}
            StreamPolicy::Headers => self.release(now),
            StreamPolicy::First(bound) => self.release_after(bound),
        }
    }

    /// Lets go of the buffer that the head was read into: what may stay open for hours should be small.
    fn detach(&mut self) {
        let request = Arc::new(self.request.detached());
        if let Some(entered) = &mut self.entered {
            entered.replace(Arc::clone(&request));
        }
        self.request = request;
    }

    /// Little is left of the answer: those who wait may be served before its last byte. Not where the work outlives it; a place that a
    /// timer gives back falls free without this.
    pub(super) fn nears_completion(&mut self) {
        if let (Hold::Own(permit), None) = (&mut self.hold, self.lease) {
            permit.nears_completion();
        }
    }

    /// The request is sent on to that upstream: spans tell when, and to which endpoint if there is one only.
    pub(super) fn sent_to(&mut self, upstream: &Upstream) {
        if let Some(trace) = &mut self.trace {
            let at = self.forwarded_at.unwrap_or(self.request.started);
            let is_only = upstream.settings.endpoints.len() == 1;
            trace.sent(|| is_only.then(|| upstream.endpoint(0).name.clone()), at);
        }
    }

    /// An endpoint answered.
    pub(super) fn answered_by(&mut self, visit: &Visit) {
        self.endpoint = visit.name_among_several().cloned();
        if let Some(trace) = &mut self.trace {
            trace.answered_by(&visit.endpoint().name);
        }
    }

    /// The gate answered by itself.
    pub(super) fn refused(&mut self, status: u16, reason: &'static str, outcome: Outcome) {
        self.status = status;
        self.reason = reason;
        self.outcome = outcome;
        self.is_cut = false;
    }

    /// Gives the place back before the request is over.
    fn release(&mut self, now: Instant) {
        if let Some(entered) = &self.entered {
            entered.release_places();
        }
        if let Hold::Own(permit) = std::mem::replace(&mut self.hold, Hold::None) {
            permit.finish(self.outcome, now);
        }
    }

    fn release_after(&mut self, bound: Duration) {
        let Hold::Own(permit) = std::mem::replace(&mut self.hold, Hold::None) else {
            return;
        };
        let slot = Arc::new(Mutex::new(Some(permit)));
        let (timed, gate) = (Arc::clone(&slot), Arc::clone(&self.local.gate));
        let places = self.entered.as_ref().map(Entered::places_handle);
        let task = tokio::spawn(async move {
            tokio::time::sleep(bound).await;
            if let Some(places) = places {
                places.release();
            }
            let permit = timed.lock().take();
            if let Some(permit) = permit {
                permit.finish(Outcome::Success, gate.clock.now());
            }
        });
        self.hold = Hold::Timed(slot, task.abort_handle());
    }

    /// The answer broke off on the upstream's side.
    pub(super) fn fail(&mut self) {
        self.outcome = Outcome::Overload;
        self.reason = "upstream_broke";
        self.is_cut = true;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.outcome == Outcome::Overload
    }

    /// The client left before the answer was through.
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
        if self.outcome == Outcome::Success {
            self.outcome = Outcome::Ignore;
        }
    }
}

impl Context {
    /// Hands the record over to those who want it.
    fn tell(&mut self, upstream: Option<Duration>, now: Instant) {
        let gate = &self.local.gate;
        let trace = self.trace.take();
        let is_failure = telemetry::is_failure(self.status, self.reason, self.is_cut);
        let number = || telemetry::number(&self.request, trace.as_ref());
        let is_logged = gate.log.takes(is_failure, number);
        let is_traced = trace.as_ref().is_some_and(Trace::is_sampled);
        if !is_logged && !is_traced {
            return;
        }
        let record = Arc::new(Record {
            request: Arc::clone(&self.request),
            client: self.client.or(self.connection().peer.address),
            protocol: self.connection().protocol(),
            status: self.status,
            decision: self.decision,
            reason: self.reason,
            limit: self.limit.take(),
            would_reject: self.would_reject.take(),
            candidates_would_reject: std::mem::take(&mut self.candidates_would_reject),
            mark: self.mark.take(),
            queue_wait: self.queue_wait,
            endpoint: self.endpoint.take(),
            bytes: self.sent,
            duration: now.saturating_duration_since(self.request.started),
            upstream,
            is_cut: self.is_cut,
            trace,
        });
        if is_traced {
            gate.spans.hand_over(Arc::clone(&record));
        }
        if is_logged {
            gate.log.write(record);
        }
    }
}

/// What adaptive maxima learn from an answer: a stream's place is held for as long as the client listens, and an error may come fast
/// or slow whatever the load is. Only 503 says by itself that there is too much of it (RFC 9110 §15.6.4).
fn taught_by(status: u16, is_stream: bool) -> Outcome {
    match status {
        503 => Outcome::Overload,
        500.. => Outcome::Ignore,
        _ if is_stream => Outcome::Ignore,
        _ => Outcome::Success,
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let now = self.local.gate.clock.now();
        self.connection.activity.end(now);
        if self.request.state() == State::Queued {
            // Dropped while it waits: its client has left. The status is the one that nginx logs for it.
            self.waited(now.saturating_duration_since(self.request.started));
            (self.status, self.reason) = (499, "client_departed");
            self.decision = DecisionWord::Rejected;
        }
        if self.request.hangup().is_asked()
            && let Some(lease) = self.lease.take()
        {
            // Whoever ends a request wants its places back, and not in some hours.
            let _ = self.local.gate.leases.release(lease, now, || false);
        }
        if self.lease.is_some() {
            self.detach();
        }
        if self.lease.is_some()
            && let Hold::Own(permit) = std::mem::replace(&mut self.hold, Hold::None)
        {
            self.hold = self.hand_over(permit).map_or(Hold::None, Hold::Own);
        }
        // First out of the list, then the place: the auditor may see a count too many, never one too few.
        drop(self.entered.take());
        match std::mem::replace(&mut self.hold, Hold::None) {
            Hold::None => {}
            Hold::Own(permit) => permit.finish(self.outcome, now),
            Hold::Timed(slot, timer) => {
                timer.abort();
                let permit = slot.lock().take();
                if let Some(permit) = permit {
                    permit.finish(self.outcome, now);
                }
            }
        }
        let hangup = self.request.hangup();
        if self.is_cut && hangup.is_asked() {
            self.reason = Reason::Cancelled.as_str();
        }
        hangup.end(self.request.id);
        let upstream = self.forwarded_at.and_then(|sent| {
            self.head_at
                .map(|head| head.saturating_duration_since(sent))
        });
        if let Some((route, _)) = self.route() {
            route.stats.count(self.decision, self.reason);
            if let Some(sent) = self.forwarded_at {
                let took = upstream.unwrap_or_else(|| now.saturating_duration_since(sent));
                route.stats.observe_upstream(self.outcome, took);
            }
        }
        self.tell(upstream, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // G17: streams and errors are left out, but for the error that means overload.
    #[test]
    fn only_plain_answers_teach_how_long_the_work_takes() {
        assert_eq!(taught_by(200, false), Outcome::Success);
        assert_eq!(taught_by(404, false), Outcome::Success);
        assert_eq!(taught_by(200, true), Outcome::Ignore);
        assert_eq!(taught_by(101, true), Outcome::Ignore);
        assert_eq!(taught_by(500, false), Outcome::Ignore);
        assert_eq!(taught_by(503, false), Outcome::Overload);
    }
}
