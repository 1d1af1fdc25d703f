//! The data plane: one request in one pass.
//!
//! `serve` reads like the request's life: classify, acquire, perhaps wait, reject or forward, observe; recording and giving the place back
//! happen once, when the context is dropped at the last byte or the abort. Never knows the file, the admin API or the plugin.

mod activity;
mod balance;
mod body;
mod connection;
mod context;
mod decode;
mod edit;
mod endpoint;
mod forward;
mod gate;
mod gather;
mod headers;
mod health;
mod http1;
mod incoming;
mod outcome;
mod outgoing;
pub mod plugin;
mod pool;
mod probe;
mod respond;
mod server;
mod settings;
mod socket;
mod stream;
mod tls;
mod upgrade;
mod upload;
mod upstream;
mod wait;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::admission::{AccountName, Class, Decision, LeaseId, Wait};
use crate::head::Head;
use crate::telemetry::{self, Trace};

use body::{Answer, ResponseBody};
use connection::Connection;
use context::{Context, Taught};
use forward::{Answered, Manner};
use gate::{Local, Names};
use headers::{Added, Seen};
use outcome::Refusal;
use outgoing::Outgoing;
use upgrade::OnUpgrade;
use upload::{RequestBody, UploadFault};

pub use gate::{Gate, Generation, PLUGIN, Phase, Route, Target};
pub use server::{Accepted, App, BindError, Bound, Hosted, Listening, Serve, Stopper};
pub use settings::{
    Address, Balance, Certificate, Departed, Ejection, EndpointAddress, HealthCheck, Listener,
    ResourceSettings, Settings, StreamPolicy, Tls, UpstreamSettings,
};
pub use stream::Stream;
pub use tls::{Acceptor, TlsError, server_config};
pub use upstream::{EndpointStatus, Upstream};

/// Longest lease of a resource that does not say.
const HOLD_MAX: Duration = Duration::from_secs(3_600);

/// What comes with a request's head.
#[derive(Debug)]
struct Asking {
    seen: Seen,
    body: RequestBody,
    /// Where the client's connection arrives once it was told that it may switch to another protocol.
    upgrade: Option<OnUpgrade>,
}

/// Answers one request of HTTP/2.
fn serve_http2(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> + Send + use<> {
    let (head, body) = request.into_parts();
    let head = Head::from(&head);
    let seen = headers::look(&head);
    let gate = &connection.gate;
    let max_body = gate.local().generation.settings.max_body;
    let body = RequestBody::new(
        body.into(),
        max_body,
        seen.is_continue_expected,
        &gate.clock,
    );
    let asking = Asking {
        seen,
        body,
        upgrade: None,
    };
    let answered = serve(connection, Arc::new(head), asking);
    async move { Ok(answered.await) }
}

/// Answers one request. What needs no waiting is done at once, so that the future holds only what forwarding needs: it is
/// moved, and should be small.
fn serve(
    connection: &Arc<Connection>,
    head: Arc<Head>,
    asking: Asking,
) -> impl Future<Output = Response<ResponseBody>> + Send + use<> {
    let judged = judge(connection, head, asking);
    async move {
        match judged {
            Judged::Admitted(context, asking) => {
                let departed = context.departed();
                admitted(context, asking, departed).await
            }
            // Boxed, as few requests wait and all are moved.
            Judged::Waiting(waiting, wait) => Box::pin(waited(waiting, wait)).await,
            Judged::Refused(refused) => *refused,
        }
    }
}

/// What became of a request at once.
enum Judged {
    Admitted(Box<Context>, Asking),
    Waiting(Box<wait::Waiting>, Wait),
    Refused(Box<Response<ResponseBody>>),
}

/// Waits for the request's places, and then goes on as if it had had them at once.
async fn waited(mut waiting: Box<wait::Waiting>, wait: Wait) -> Response<ResponseBody> {
    match wait::wait(&mut waiting, wait).await {
        Ok(()) => {
            let wait::Waiting { context, asking } = *waiting;
            let departed = context.departed();
            admitted(context, asking, departed).await
        }
        Err(refusal) => {
            let is_grpc = waiting.asking.seen.is_grpc;
            respond::refuse(waiting.context, &refusal, is_grpc)
        }
    }
}

/// Classifies a request and acquires its place, or makes the answer that refuses it.
fn judge(connection: &Arc<Connection>, head: Arc<Head>, asking: Asking) -> Judged {
    let gate = &connection.gate;
    let started = gate.clock.now();
    let local = gate.local();
    let settings = &local.generation.settings;
    let seen = &asking.seen;
    let is_grpc = seen.is_grpc;
    let share = settings.traces;
    let mut trace = share.map(|share| Trace::join(&head, share, connection.is_tls));
    let found = headers::check(&head, seen)
        .map_err(Refusal::HeadInvalid)
        .and_then(|()| classify(&local, &head, connection));
    let class = match found {
        Ok(class) => class,
        Err(refusal) => {
            let mut context = context(connection, local, None, head, seen, started);
            context.trace = trace;
            return Judged::Refused(Box::new(respond::refuse(context, &refusal, is_grpc)));
        }
    };
    let deadline = || {
        let header = settings.timeout_header.as_ref();
        wait::client_deadline(&head, is_grpc, header, started)
    };
    let policy = &local.generation.policy;
    let decision = gate
        .registry
        .acquire_until(policy, &class, deadline, started);
    let decided = gate.clock.now();
    gate.stats
        .observe_decision(decided.saturating_duration_since(started));
    if let Some(trace) = &mut trace {
        trace.decided(|| connection.peer.client_address(&head.fields), decided);
    }
    let mut context = context(connection, local, Some(&class), head, seen, started);
    context.trace = trace;
    match decision {
        Decision::Reject(rejection) => {
            let refusal = Refusal::Limit(rejection);
            Judged::Refused(Box::new(respond::refuse(context, &refusal, is_grpc)))
        }
        Decision::Admit(permit) => {
            context.hold(permit);
            context.forwarded_at = Some(decided);
            Judged::Admitted(context, asking)
        }
        Decision::Wait(wait) => {
            context.wait(wait.ticket());
            Judged::Waiting(Box::new(wait::Waiting { context, asking }), wait)
        }
    }
}

fn classify(local: &Local, head: &Head, connection: &Connection) -> Result<Class, Refusal> {
    let found = local.generation.rules.classify(head, &connection.peer);
    let matched = found.map_err(Refusal::Fault)?.ok_or(Refusal::NoResource)?;
    Ok(matched.class)
}

fn context(
    connection: &Arc<Connection>,
    local: Arc<Local>,
    class: Option<&Class>,
    head: Arc<Head>,
    seen: &Seen,
    started: Instant,
) -> Box<Context> {
    let resource = class.map(|class| class.resource.0);
    let known = resource.map(|resource| &local.names[usize::from(resource)]);
    let names = known.cloned().unwrap_or_else(Names::none);
    let nobody = || AccountName::new(b"-").expect("a dash is a name");
    let request_id = seen.request_id(&head);
    let client = connection
        .is_trusted
        .then(|| connection.peer.client_address(&head.fields));
    let request = telemetry::Request::new(
        class.map_or_else(nobody, |class| class.account),
        names.resource,
        names.upstream,
        head,
        request_id,
        started,
        local.gate.live.next_id(),
        connection.hangup(),
    );
    let own = Arc::clone(connection);
    let mut context = Box::new(Context::new(local, Arc::new(request), resource, own));
    context.client = client.flatten();
    context
}

/// Forwards a request that has its place, with what edits its answer where there is something. The exchange is awaited where it is made:
/// so large a future is copied whole whenever it is handed on.
async fn admitted(
    context: Box<Context>,
    asking: Asking,
    departed: Departed,
) -> Response<ResponseBody> {
    if let Departed::Finish(bound) = departed {
        return finish(context, asking, bound).await;
    }
    match context.edit().cloned() {
        None => exchange(context, asking).await,
        // Boxed, as every request carries the room for it.
        Some(edit) => Box::pin(edit::exchange(edit, context, asking)).await,
    }
}

/// The same where the upstream is to finish although the client may leave: the exchange runs in a task of its own, which goes on when
/// nobody waits for it any more. Boxed for the same reason.
fn finish(
    context: Box<Context>,
    asking: Asking,
    bound: Duration,
) -> Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>> {
    let (mut answer, waiting) = oneshot::channel();
    tokio::spawn(async move {
        let mut exchange = std::pin::pin!(admitted(context, asking, Departed::Close));
        tokio::select! {
            // Should nobody be there any more, the response's drop drains it, with the place held.
            response = &mut exchange => drop(answer.send(response)),
            () = answer.closed() => {
                let finished = async { exchange.await.into_body().drain().await };
                drop(tokio::time::timeout(bound, finished).await);
            }
        }
    });
    Box::pin(async move {
        // The task ends without an answer only by a panic, which is told by a plain 500.
        waiting.await.unwrap_or_else(|_| {
            let mut response = Response::new(ResponseBody::own(bytes::Bytes::new(), None));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        })
    })
}

async fn exchange(mut context: Box<Context>, asking: Asking) -> Response<ResponseBody> {
    let is_grpc = asking.seen.is_grpc;
    let Some((route, names)) = context.route() else {
        return respond::refuse(context, &Refusal::NoResource, is_grpc);
    };
    let max_body = context.local.generation.settings.max_body;
    let head = &context.request.head;
    if max_body.is_some_and(|max| declared_length(head).is_some_and(|length| length > max)) {
        return respond::refuse(context, &Refusal::BodyTooLarge, is_grpc);
    }
    let Some(upstream) = context.upstream().cloned() else {
        return match context.plugin().cloned() {
            // Boxed, as every forwarded request carries the room for it.
            Some(plugin) => Box::pin(plugin::answer(context, asking, plugin)).await,
            None => respond::refuse(context, &Refusal::NoResource, is_grpc),
        };
    };
    let Asking {
        seen,
        mut body,
        upgrade: on_client,
    } = asking;
    let (policy, departed, completion) = (route.stream, route.departed, route.completion);
    let settings = &upstream.settings;
    context
        .connection()
        .activity
        .bound_stall(settings.idle_timeout);
    let added = added(&context, names, settings, body.is_empty());
    let (bytes, framing) = headers::write_head(head, &seen, &added);
    let (is_idempotent, is_head_request) =
        (head.method.is_idempotent(), head.method == Method::HEAD);
    if seen.comes_in_chunks
        && let Err(fault) = body.peek().await
    {
        let refusal = match fault {
            UploadFault::Broken => Refusal::BodyInvalid,
            UploadFault::TooLarge => Refusal::BodyTooLarge,
        };
        return respond::refuse(context, &refusal, is_grpc);
    }
    context.sent_to(&upstream);
    let manner = Manner {
        account: &context.request.account,
        is_idempotent,
        is_head_request,
    };
    let sent_at = context.forwarded_at.unwrap_or(context.request.started);
    let key = manner.account.as_bytes();
    let Some(visit) = upstream.visit(key, sent_at) else {
        return respond::refuse(context, &Refusal::UpstreamUnreachable, is_grpc);
    };
    let request = Outgoing::new(bytes, framing, body);
    let forwarded = tokio::select! {
        biased;
        // Asked first: what was ended before it was sent is not sent.
        () = context.request.hangup().asked() => Err(Refusal::Cancelled),
        forwarded = forward::forward(visit, request, manner, sent_at) => forwarded,
    };
    match forwarded {
        Err(refusal) => respond::refuse(context, &refusal, is_grpc),
        Ok(answered) if answered.head.status == StatusCode::SWITCHING_PROTOCOLS => {
            switch(context, answered, on_client, policy)
        }
        Ok(answered) => pass_on(context, answered, policy, departed, completion),
    }
}

/// What the gate adds to the head of a request that goes to that upstream.
fn added<'a>(
    context: &'a Context,
    names: &'a Names,
    upstream: &'a UpstreamSettings,
    is_body_empty: bool,
) -> Added<'a> {
    Added {
        connection: context.connection(),
        upstream,
        account: &context.request.account,
        resource: &names.resource,
        request_id: &context.request.request_id,
        lease: LeaseId::of(context.request.id),
        mark: context.mark.as_deref(),
        trace: context.trace.as_ref(),
        waited: context.queue_wait.unwrap_or_default(),
        is_body_empty,
        wants_document: context.edit().is_some(),
    }
}

/// How long an answer's work goes on after it, and how long at most: what the upstream says, else what the resource says of a
/// success.
fn lease_ttl(
    status: StatusCode,
    hold: Option<&HeaderValue>,
    completion: Option<Duration>,
) -> Option<(Duration, Duration)> {
    let most = completion.unwrap_or(HOLD_MAX);
    let asked = hold.and_then(|value| humantime::parse_duration(value.to_str().ok()?).ok());
    let ttl = asked.or_else(|| completion.filter(|_| status.is_success()))?;
    Some((ttl.min(most), most))
}

/// The upstream's answer, with the request's context in its body.
fn pass_on(
    mut context: Box<Context>,
    answered: Answered,
    policy: StreamPolicy,
    departed: Departed,
    completion: Option<Duration>,
) -> Response<ResponseBody> {
    let Answered {
        head,
        socket,
        visit,
        rest,
        sent,
    } = answered;
    let now = visit.clock().now();
    let mut fields = head.fields;
    let rare = head.rare.map_or_else(Default::default, |rare| *rare);
    let in_flight = context.account_in_flight();
    respond::finish(&context, &mut *fields, in_flight, now);
    if let Some((ttl, ttl_max)) = lease_ttl(head.status, rare.hold.as_ref(), completion) {
        context.lease(ttl, ttl_max, now);
    }
    let kind = fields.get("content-type");
    let is_stream =
        rest.is_some() || kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
    let taught = Taught { is_stream, sent };
    context.answered(head.status.as_u16(), taught, policy, now);
    context.answered_by(&visit);
    let mut answer = Answer::new(head.decoder, socket, rest, visit, departed, now);
    let mut headers = http::HeaderMap::new();
    if context.connection().is_http2() || context.edit().is_some() {
        headers = fields.to_map();
    } else {
        answer.passes(fields);
    }
    let mut response = Response::new(ResponseBody::answer(answer, context));
    *response.status_mut() = head.status;
    if let Some(reason) = rare.reason {
        response.extensions_mut().insert(reason);
    }
    *response.headers_mut() = headers;
    response
}

fn declared_length(head: &Head) -> Option<u64> {
    head.fields.text("content-length")?.parse().ok()
}

/// Both sides switch to another protocol; a task of its own copies between them from now on.
fn switch(
    mut context: Box<Context>,
    answered: Answered,
    on_client: Option<OnUpgrade>,
    policy: StreamPolicy,
) -> Response<ResponseBody> {
    let Answered {
        head,
        socket,
        visit,
        ..
    } = answered;
    let (Some(on_client), Some(protocol)) = (on_client, head.rare.and_then(|rare| rare.upgrade))
    else {
        // It switches to what nobody asked for.
        return respond::refuse(context, &Refusal::UpstreamBroke, false);
    };
    let mut response = Response::new(ResponseBody::own(bytes::Bytes::new(), None));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.fields.to_map();
    let (in_flight, now) = (context.account_in_flight(), visit.clock().now());
    let fields = response.headers_mut();
    respond::finish(&context, fields, in_flight, now);
    fields.insert(
        http::header::CONNECTION,
        http::HeaderValue::from_static("upgrade"),
    );
    fields.insert(http::header::UPGRADE, protocol);
    context.answered(
        101,
        Taught {
            is_stream: true,
            sent: None,
        },
        policy,
        now,
    );
    context.answered_by(&visit);
    tokio::spawn(upgrade::tunnel(on_client, socket, context, visit));
    response
}
