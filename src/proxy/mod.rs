//! The data plane: one request in one pass.
//!
//! `serve` reads like the request's life: classify, acquire, reject or forward, observe; recording and giving the place back
//! happen once, when the context is dropped at the last byte or the abort. Never knows the file, the admin API or the plugin.

mod activity;
mod body;
mod connection;
mod context;
mod forward;
mod gate;
mod headers;
mod outcome;
mod pool;
mod respond;
mod server;
mod settings;
mod tls;
mod upgrade;
mod upstream;

use std::convert::Infallible;
use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;

use crate::admission::{AccountName, Class, Decision};
use crate::telemetry::{self, DecisionWord};

use body::{Answer, RequestBody, ResponseBody, UploadFault};
use connection::{Connection, InProgress};
use context::Context;
use gate::Local;
use outcome::Refusal;

pub use gate::{Gate, Generation, Phase, Route};
pub use server::{App, BindError, Bound, Hosted, Prebound, Stopper};
pub use settings::{
    Address, Certificate, Departed, Endpoint, Listener, ResourceSettings, Settings, StreamPolicy,
    Tls, UpstreamSettings,
};
pub use tls::{Acceptor, TlsError, server_config};
pub use upstream::Upstream;

/// Answers one request.
async fn serve(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let in_progress = InProgress::begin(Arc::clone(&connection));
    let gate = &connection.gate;
    let started = gate.clock.now();
    let (head, body) = request.into_parts();
    let local = gate.local();
    let is_grpc = respond::is_grpc(&head.headers);
    let found = headers::check(&head)
        .map_err(Refusal::HeadInvalid)
        .and_then(|()| classify(&local, &head, &connection));
    let class = match found {
        Ok(class) => class,
        Err(refusal) => {
            let context = context(local, None, &head, started, in_progress);
            let _drained = RequestBody::new(body, None, expects(&head), &gate.clock);
            return Ok(respond::refuse(context, &refusal, is_grpc));
        }
    };
    let decision = gate
        .registry
        .acquire(&local.generation.policy, &class, started);
    gate.stats
        .observe_decision(gate.clock.now().saturating_duration_since(started));
    let mut context = context(local, Some(&class), &head, started, in_progress);
    match decision {
        Decision::Reject(rejection) => {
            let _drained = RequestBody::new(body, None, expects(&head), &gate.clock);
            Ok(respond::refuse(
                context,
                &Refusal::Limit(rejection),
                is_grpc,
            ))
        }
        Decision::Admit(permit) => {
            context.hold(permit);
            Ok(admitted(context, head, body, is_grpc).await)
        }
    }
}

fn classify(local: &Local, head: &Parts, connection: &Connection) -> Result<Class, Refusal> {
    let found = local.generation.rules.classify(head, &connection.peer);
    let matched = found.map_err(Refusal::Fault)?.ok_or(Refusal::NoResource)?;
    Ok(matched.class)
}

fn expects(head: &Parts) -> bool {
    head.headers.contains_key(http::header::EXPECT)
}

fn context(
    local: Arc<Local>,
    class: Option<&Class>,
    head: &Parts,
    started: std::time::Instant,
    in_progress: InProgress,
) -> Box<Context> {
    let nothing = || (Arc::from("-"), Arc::from("-"));
    let resource = class.map(|class| class.resource.0);
    let (name, upstream) = resource.map_or_else(nothing, |resource| {
        local.names[usize::from(resource)].clone()
    });
    let nobody = || AccountName::new(b"-").expect("a dash is a name");
    let request = telemetry::Request::new(
        class.map_or_else(nobody, |class| class.account),
        name,
        upstream,
        head.method.clone(),
        headers::target(head),
        headers::request_id(&head.headers),
        started,
        local.gate.live.next_id(),
    );
    Box::new(Context::new(
        local,
        Arc::new(request),
        resource,
        in_progress,
    ))
}

/// Forwards a request that has its place. Where the upstream is to finish although the client may leave, the exchange
/// runs in a task of its own, which goes on when nobody waits for it any more.
async fn admitted(
    context: Box<Context>,
    head: Parts,
    body: Incoming,
    is_grpc: bool,
) -> Response<ResponseBody> {
    let departed = context
        .route()
        .map_or(Departed::Close, |route| route.departed);
    let Departed::Finish(bound) = departed else {
        return exchange(context, head, body, is_grpc).await;
    };
    let (mut answer, waiting) = oneshot::channel();
    tokio::spawn(async move {
        let mut exchange = std::pin::pin!(exchange(context, head, body, is_grpc));
        let response = tokio::select! {
            response = &mut exchange => Ok(response),
            () = answer.closed() => tokio::time::timeout(bound, exchange).await,
        };
        if let Ok(response) = response {
            // Nobody there: dropping the response drains it, with the place held.
            drop(answer.send(response));
        }
    });
    // The task ends without an answer only by a panic, which is told by a plain 500.
    waiting.await.unwrap_or_else(|_| {
        let mut response = Response::new(ResponseBody::own(bytes::Bytes::new(), None));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

async fn exchange(
    mut context: Box<Context>,
    mut head: Parts,
    body: Incoming,
    is_grpc: bool,
) -> Response<ResponseBody> {
    let connection = Arc::clone(context.connection());
    let local = Arc::clone(&context.local);
    let Some(route) = context.route() else {
        return respond::refuse(context, &Refusal::NoResource, is_grpc);
    };
    let (upstream, policy) = (Arc::clone(&route.upstream), route.stream);
    let departed = route.departed;
    let name = Arc::clone(&context.request.resource);
    let settings = &upstream.settings;
    connection.activity.bound_stall(settings.idle_timeout);
    let is_chunked = head.headers.contains_key(http::header::TRANSFER_ENCODING);
    let wishes = headers::to_upstream(
        &mut head,
        &connection,
        settings,
        &context.request.request_id,
    );
    let max_body = local.generation.settings.max_body;
    let clock = &local.gate.clock;
    let mut body = RequestBody::new(body, max_body, wishes.is_continue_expected, clock);
    if max_body.is_some_and(|max| declared_length(&head).is_some_and(|length| length > max)) {
        return respond::refuse(context, &Refusal::BodyTooLarge, is_grpc);
    }
    if is_chunked && let Err(fault) = body.peek().await {
        let refusal = match fault {
            UploadFault::Broken => Refusal::BodyInvalid,
            UploadFault::TooLarge => Refusal::BodyTooLarge,
        };
        return respond::refuse(context, &refusal, is_grpc);
    }
    headers::frame(&mut head, body.is_empty());
    headers::name_class(&mut head.headers, &context.request.account, &name);
    let on_client = wishes
        .upgrade
        .is_some()
        .then(|| head.extensions.remove::<OnUpgrade>())
        .flatten();
    context.forwarded_at = Some(clock.now());
    match forward::forward(&upstream, head, body).await {
        Err(refusal) => respond::refuse(context, &refusal, is_grpc),
        Ok((response, sender)) => {
            let now = clock.now();
            let (mut head, body) = response.into_parts();
            let in_flight = context.account_in_flight();
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return switch(context, head, on_client, policy, &upstream);
            }
            headers::to_client(&mut head.headers);
            respond::finish(&context, &mut head.headers, in_flight);
            context.answered(head.status.as_u16(), policy, now);
            let answer = Answer::new(body, sender, upstream, departed);
            Response::from_parts(head, ResponseBody::answer(answer, context))
        }
    }
}

fn declared_length(head: &Parts) -> Option<u64> {
    head.headers
        .get(http::header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Both sides switch to another protocol; a task of its own copies between them from now on.
fn switch(
    mut context: Box<Context>,
    mut head: http::response::Parts,
    on_client: Option<OnUpgrade>,
    policy: StreamPolicy,
    upstream: &Upstream,
) -> Response<ResponseBody> {
    let protocol = head.headers.get(http::header::UPGRADE).cloned();
    let on_upstream = head.extensions.remove::<OnUpgrade>();
    let (Some(on_client), Some(on_upstream), Some(protocol)) = (on_client, on_upstream, protocol)
    else {
        // It switches to what nobody asked for.
        return respond::refuse(context, &Refusal::UpstreamBroke, false);
    };
    headers::to_client(&mut head.headers);
    let in_flight = context.account_in_flight();
    respond::finish(&context, &mut head.headers, in_flight);
    head.headers.insert(
        http::header::CONNECTION,
        http::HeaderValue::from_static("upgrade"),
    );
    head.headers.insert(http::header::UPGRADE, protocol);
    context.decision = DecisionWord::Admitted;
    context.answered(101, policy, context.local.gate.clock.now());
    let idle_timeout = upstream.settings.tunnel_idle_timeout;
    tokio::spawn(upgrade::tunnel(
        on_client,
        on_upstream,
        context,
        idle_timeout,
    ));
    Response::from_parts(head, ResponseBody::own(bytes::Bytes::new(), None))
}
