//! The way from clients to the API server: a service that loses, delays, doubles, refuses and cuts.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use atoll_apiserver::{ApiServer, Identity, InProcessService};
use bytes::Bytes;
use futures::StreamExt;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tower::{BoxError, Service};

use crate::dice::Dice;

/// The longest that a request or its answer is under way.
const DELAY_MAX: Duration = Duration::from_secs(3);
/// Older answers to one list that may be given again.
const STALE_LISTS_MAX: usize = 4;
/// Pieces after which a watch is cut, at most.
const WATCH_PIECES_MAX: usize = 40;

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered,
    /// Never arrives.
    RequestLost,
    /// Arrives; the answer does not.
    AnswerLost,
    Delayed,
    /// Arrives twice; the client sees the second answer.
    Doubled,
    /// 409, as if somebody had been faster.
    Conflict,
    /// 503.
    Overloaded,
    /// 500, as when a commit fails: nothing is written.
    DiskFault,
    /// A watch that ends early.
    WatchCut,
    /// An old answer to a list.
    StaleList,
}

/// What happens to reads, watches and writes.
const OF_LISTS: [Fate; 4] = [Fate::RequestLost, Fate::Delayed, Fate::Overloaded, Fate::StaleList];
const OF_READS: [Fate; 4] = [Fate::RequestLost, Fate::AnswerLost, Fate::Delayed, Fate::Overloaded];
const OF_WATCHES: [Fate; 4] = [Fate::RequestLost, Fate::Delayed, Fate::WatchCut, Fate::WatchCut];
const OF_WRITES: [Fate; 8] = [
    Fate::RequestLost,
    Fate::AnswerLost,
    Fate::AnswerLost,
    Fate::Delayed,
    Fate::Doubled,
    Fate::Conflict,
    Fate::Overloaded,
    Fate::DiskFault,
];

/// The network, and the server at its end if there is one.
pub(crate) struct Wire {
    server: Mutex<Option<ApiServer>>,
    dice: Dice,
    faults_per_mille: u32,
    stormy: AtomicBool,
    under_way: AtomicUsize,
    lists: Mutex<HashMap<String, Vec<Bytes>>>,
    happened: Mutex<BTreeMap<&'static str, usize>>,
}

impl Wire {
    pub(crate) fn new(dice: Dice, faults_per_mille: u32) -> Arc<Self> {
        Arc::new(Self {
            server: Mutex::default(),
            dice,
            faults_per_mille,
            stormy: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            lists: Mutex::default(),
            happened: Mutex::default(),
        })
    }

    /// Puts a server at the end, or takes it away.
    pub(crate) fn connect(&self, server: Option<ApiServer>) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    /// Whether things happen to requests.
    pub(crate) fn set_stormy(&self, stormy: bool) {
        self.stormy.store(stormy, Ordering::Relaxed);
    }

    /// Whether a request is being answered right now.
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Acquire) > 0
    }

    /// What happened, by name.
    pub(crate) fn happened(&self) -> BTreeMap<&'static str, usize> {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client that has to live with the weather.
    pub(crate) fn client(self: &Arc<Self>, user: &str) -> Client {
        self.client_of(user, true)
    }

    /// A client that nothing happens to, but for a server that is not there.
    pub(crate) fn sheltered_client(self: &Arc<Self>, user: &str) -> Client {
        self.client_of(user, false)
    }

    fn client_of(self: &Arc<Self>, user: &str, exposed: bool) -> Client {
        atoll_client::in_process(Network { wire: Arc::clone(self), user: user.to_owned(), exposed })
    }

    fn fate(&self, parts: &Parts, exposed: bool) -> Fate {
        let stormy = exposed && self.stormy.load(Ordering::Relaxed);
        if !stormy || !self.dice.per_mille(self.faults_per_mille) {
            return Fate::Delivered;
        }
        let query = parts.uri.query().unwrap_or_default();
        let fates: &[Fate] = if parts.method != Method::GET {
            &OF_WRITES
        } else if query.contains("watch=") {
            &OF_WATCHES
        } else if is_list(parts) {
            &OF_LISTS
        } else {
            &OF_READS
        };
        *self.dice.choose(fates).expect("there are some")
    }

    fn note(&self, fate: Fate) {
        let name = match fate {
            Fate::Delivered => return,
            Fate::RequestLost => "request lost",
            Fate::AnswerLost => "answer lost",
            Fate::Delayed => "delayed",
            Fate::Doubled => "doubled",
            Fate::Conflict => "conflict",
            Fate::Overloaded => "overloaded",
            Fate::DiskFault => "disk fault",
            Fate::WatchCut => "watch cut",
            Fate::StaleList => "stale list",
        };
        *self.happened.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    }

    fn service(&self, user: &str) -> Option<InProcessService> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(|server| server.in_process(Identity::administrator(user)))
    }

    /// Remembers a list, and perhaps gives back an older one.
    fn stale(&self, list: &str, newest: Bytes, stale: bool) -> Bytes {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lists.entry(list.to_owned()).or_default();
        known.push(newest.clone());
        if known.len() > STALE_LISTS_MAX {
            known.remove(0);
        }
        if stale { known[self.dice.below(known.len())].clone() } else { newest }
    }
}

/// One client's way.
struct Network {
    wire: Arc<Wire>,
    user: String,
    exposed: bool,
}

impl Service<Request<Body>> for Network {
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (wire, user) = (Arc::clone(&self.wire), self.user.clone());
        let (parts, body) = request.into_parts();
        let fate = wire.fate(&parts, self.exposed);
        wire.note(fate);
        Box::pin(async move {
            let body = body.collect().await.map_err(|error| BoxError::from(error.to_string()))?.to_bytes();
            travel(&wire, &user, fate, parts, body).await
        })
    }
}

async fn travel(wire: &Wire, user: &str, fate: Fate, parts: Parts, body: Bytes) -> Result<Answer, BoxError> {
    match fate {
        Fate::RequestLost => Err(lost()),
        Fate::Conflict => Ok(refusal(StatusCode::CONFLICT, "Conflict", "the object has been modified")),
        Fate::Overloaded => Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "try again")),
        Fate::DiskFault => Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "a commit failed")),
        Fate::AnswerLost => {
            let _unseen = deliver(wire, user, &parts, &body).await?;
            Err(lost())
        }
        Fate::Doubled => {
            let _unseen = deliver(wire, user, &parts, &body).await?;
            deliver(wire, user, &parts, &body).await
        }
        Fate::Delayed => {
            tokio::time::sleep(wire.dice.up_to(DELAY_MAX)).await;
            let answer = deliver(wire, user, &parts, &body).await;
            tokio::time::sleep(wire.dice.up_to(DELAY_MAX)).await;
            answer
        }
        Fate::WatchCut => {
            let (head, body) = deliver(wire, user, &parts, &body).await?.into_parts();
            let pieces = wire.dice.below(WATCH_PIECES_MAX);
            let cut = StreamBody::new(body.into_data_stream().take(pieces).map(|piece| piece.map(Frame::data)));
            Ok(Response::from_parts(head, UnsyncBoxBody::new(cut)))
        }
        Fate::Delivered | Fate::StaleList => {
            let answer = deliver(wire, user, &parts, &body).await?;
            if !is_list(&parts) || !answer.status().is_success() {
                return Ok(answer);
            }
            let (head, body) = answer.into_parts();
            let newest = body.collect().await?.to_bytes();
            let list = wire.stale(&format!("{user} {}", parts.uri), newest, fate == Fate::StaleList);
            Ok(Response::from_parts(head, whole(list)))
        }
    }
}

/// Whether a request is for many objects, to be answered at once.
fn is_list(parts: &Parts) -> bool {
    let one = ["/namespaces/", "/nodes/"].iter().any(|folder| {
        let rest = parts.uri.path().split_once(folder).map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.split('/').count() != 2)
    });
    parts.method == Method::GET && !one && !parts.uri.query().unwrap_or_default().contains("watch=")
}

async fn deliver(wire: &Wire, user: &str, parts: &Parts, body: &Bytes) -> Result<Answer, BoxError> {
    let mut service = wire.service(user).ok_or_else(|| BoxError::from("connection refused"))?;
    let _under_way = UnderWay::new(wire);
    let answer = service.call(Request::from_parts(parts.clone(), Full::new(body.clone()))).await?;
    Ok(answer.map(|body| UnsyncBoxBody::new(body.map_err(|never| match never {}))))
}

/// Counts a request that is being answered.
struct UnderWay<'a>(&'a Wire);

impl<'a> UnderWay<'a> {
    fn new(wire: &'a Wire) -> Self {
        wire.under_way.fetch_add(1, Ordering::AcqRel);
        Self(wire)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

fn lost() -> BoxError {
    BoxError::from("connection reset")
}

fn refusal(code: StatusCode, reason: &str, message: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    let mut answer = Response::new(whole(Bytes::from(status.to_string())));
    *answer.status_mut() = code;
    answer
}

fn whole(bytes: Bytes) -> UnsyncBoxBody<Bytes, BoxError> {
    UnsyncBoxBody::new(Full::new(bytes).map_err(|never| match never {}))
}
