//! The tower services: one for listeners, one for components of this process.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use tokio::sync::{Semaphore, SemaphorePermit};
use tower::Service;

use crate::admission::Notes;
use crate::authn::{self, Identity};
use crate::authz;
use crate::body::ResponseBody;
use crate::discovery;
use crate::impersonation;
use crate::payload;
use crate::reply::{Form, refusal};
use crate::request::{Query, ResourcePath, Verb};
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::verbs::{Call, admit};

/// Requests from the network that are worked on at a time. Watches do not count.
const READS_IN_FLIGHT_MAX: usize = 400;
const WRITES_IN_FLIGHT_MAX: usize = 200;
/// So many more wait for their turn, not longer than this. Further ones, and those that waited in vain, are answered 429;
/// clients come back a second later, which would be long for a burst that is over in a fraction of that.
const WAITING_MAX: usize = 1_000;
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How long a request may take, watches apart.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

type Answer = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

/// How much the network may ask for at a time.
pub(crate) struct InFlight {
    reads: Semaphore,
    writes: Semaphore,
    waiting: Semaphore,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            reads: Semaphore::new(READS_IN_FLIGHT_MAX),
            writes: Semaphore::new(WRITES_IN_FLIGHT_MAX),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }
}

impl InFlight {
    async fn enter(&self, verb: Verb) -> Result<Option<SemaphorePermit<'_>>, ApiError> {
        let semaphore = match verb {
            Verb::Watch => return Ok(None),
            verb if verb.writes() => &self.writes,
            _ => &self.reads,
        };
        if let Ok(permit) = semaphore.try_acquire() {
            return Ok(Some(permit));
        }
        let _waits = self.waiting.try_acquire().map_err(|_| ApiError::too_many_requests())?;
        match tokio::time::timeout(WAIT_MAX, semaphore.acquire()).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            Ok(Err(_)) | Err(_) => Err(ApiError::too_many_requests()),
        }
    }
}

/// For listeners: authenticates each request by client certificate or bearer token.
#[derive(Debug, Clone)]
pub struct ApiService {
    server: ApiServer,
}

impl ApiService {
    pub(crate) fn new(server: ApiServer) -> Self {
        Self { server }
    }
}

impl<B> Service<Request<B>> for ApiService
where
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let server = self.server.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            // Nobody outside this process says who they are in this way.
            parts.extensions.remove::<Identity>();
            let answer = match authn::authenticate(&parts, &server) {
                // Who says nothing is somebody as well: what they may is a matter of rights.
                Ok(identity) => {
                    let identity = identity.unwrap_or_else(Identity::anonymous);
                    handle(&server, Some(identity), true, parts, body).await
                }
                Err(error) => Err(error),
            };
            Ok(answer.unwrap_or_else(refusal))
        })
    }
}

/// For components of this process.
#[derive(Debug, Clone)]
pub struct InProcessService {
    server: ApiServer,
    identity: Option<Arc<Identity>>,
}

impl InProcessService {
    pub(crate) fn new(server: ApiServer, identity: Option<Identity>) -> Self {
        Self { server, identity: identity.map(Arc::new) }
    }
}

impl<B> Service<Request<B>> for InProcessService
where
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let Self { server, identity } = self.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let said = parts.extensions.remove::<Identity>();
            let identity = identity.map(|identity| (*identity).clone()).or(said);
            Ok(handle(&server, identity, false, parts, body).await.unwrap_or_else(refusal))
        })
    }
}

async fn handle<B>(
    server: &ApiServer,
    identity: Option<Identity>,
    from_network: bool,
    parts: Parts,
    body: B,
) -> Result<Response<ResponseBody>, ApiError>
where
    B: Body<Data = Bytes> + Send + 'static,
{
    let identity = identity.map(|sender| impersonation::resolve(server, sender, &parts.headers)).transpose()?;
    let Some(path) = ResourcePath::parse(parts.uri.path()) else {
        return other_path(server, identity.as_ref(), &parts);
    };
    let identity = identity.ok_or_else(ApiError::unauthorized)?;
    let query = Query::parse(parts.uri.query());
    let verb = Verb::of(&parts.method, path.name.is_some(), query.flag("watch"));
    let counted = verb.map_or("other", Verb::as_str);
    let writes = verb.is_some_and(Verb::writes);
    let resource = resource_label(&path);
    let user = identity.name.clone();
    let uri = parts.uri.clone();
    let work = async {
        let (resource, verb) = admit(server, &identity, &path, verb)?;
        let _permit = if from_network { server.in_flight().enter(verb).await? } else { None };
        let form = Form::negotiate(&parts.headers, &query)?;
        let body = if verb.writes() { payload::read(body).await? } else { Bytes::new() };
        let deprecation = resource.definition.serving.deprecation.clone();
        let Parts { method, headers, extensions, .. } = parts;
        let call = Call {
            server: server.clone(),
            identity,
            resource,
            path,
            query,
            method,
            headers,
            extensions,
            form,
            body,
            notes: Notes::default(),
        };
        match call.answer(verb).await {
            Ok(reply) => Ok(reply.with_warnings(deprecation.into_iter().collect())),
            Err(error) => Err(error.with_warnings(call.notes.take())),
        }
    };
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, work).await.unwrap_or_else(|_| Err(ApiError::timeout()));
    let code = answer.as_ref().map_or_else(|error| error.code, |reply| reply.code);
    server.metrics().count(&user, counted, resource, code.as_u16(), writes);
    tracing::debug!(user, verb = counted, path = uri.path(), code = code.as_u16(), "request");
    answer.map(crate::reply::Reply::into_response)
}

/// `pods`, `sandboxes.agents.x-k8s.io/status`.
fn resource_label(path: &ResourcePath) -> String {
    let mut label = path.plural.clone();
    for (separator, part) in [('.', Some(&path.group)), ('/', path.subresource.as_ref())] {
        if let Some(part) = part.filter(|part| !part.is_empty()) {
            label.push(separator);
            label.push_str(part);
        }
    }
    label
}

fn other_path(
    server: &ApiServer,
    identity: Option<&Identity>,
    parts: &Parts,
) -> Result<Response<ResponseBody>, ApiError> {
    let path = parts.uri.path();
    let verb = parts.method.as_str().to_lowercase();
    let allowed = match identity {
        Some(identity) => authz::allows_path(server, identity, &verb, path),
        None => authz::allows_path(server, &Identity::anonymous(), &verb, path),
    };
    if !allowed {
        return Err(match identity {
            Some(identity) => ApiError::forbidden_path(&identity.name, &verb, path),
            None => ApiError::unauthorized(),
        });
    }
    if !matches!(verb.as_str(), "get" | "head") {
        return Err(ApiError::method_not_allowed());
    }
    discovery::answer(server, path, &Query::parse(parts.uri.query()), &parts.headers)
}
