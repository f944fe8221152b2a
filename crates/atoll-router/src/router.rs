//! The router and its service.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use atoll_rt::{CancellationToken, TaskGroup};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use kube::api::Api;
use tokio::sync::Semaphore;

use crate::config::RouterConfig;
use crate::exchange;
use crate::locator::GuestLocator;
use crate::metrics::{Metrics, MetricsSnapshot};
use crate::rights::Rights;
use crate::routes::{Limits, Routes};
use crate::tokens::Tokens;
use crate::watches::{self, SandboxView, SharedRoutes};

/// A body that streams, or the few bytes of an error.
pub type ResponseBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The router could not start.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The first list of sandboxes or Pods did not arrive in time.
    #[error("the router could not read sandboxes and Pods from the API server")]
    Unsynced,
}

impl atoll_stdx::Hint for RouterError {
    fn hint(&self) -> Option<String> {
        Some("see the log for what the API server answered".to_owned())
    }
}

/// Somebody whom the API server has let through to the router, in the extensions of a request that never was on a wire:
/// a forwarded port. Such a request needs no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCaller {
    /// The user.
    pub user: String,
    /// The user's groups.
    pub groups: Vec<String>,
}

/// A running router. Clones share it.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
}

/// What all requests share.
pub(crate) struct Inner {
    pub(crate) client: kube::Client,
    pub(crate) routes: SharedRoutes,
    pub(crate) tokens: Tokens,
    pub(crate) rights: Rights,
    pub(crate) locator: Arc<dyn GuestLocator>,
    pub(crate) config: RouterConfig,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) group: TaskGroup,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) holds: Semaphore,
    /// No new requests.
    pub(crate) draining: CancellationToken,
    /// No requests at all.
    pub(crate) cut_off: CancellationToken,
}

impl Router {
    /// Fills the caches from the API server and returns once they are complete. Its watches run in `group`.
    ///
    /// The client's identity must be allowed to list and watch sandboxes and Pods, and to create TokenReviews and
    /// SubjectAccessReviews.
    ///
    /// # Errors
    /// [`RouterError::Unsynced`] when the API server does not answer within a minute.
    pub async fn start(
        client: kube::Client,
        locator: Arc<dyn GuestLocator>,
        config: RouterConfig,
        group: &TaskGroup,
    ) -> Result<Self, RouterError> {
        let limits = Limits { guest: config.requests_per_guest_max, workload: config.requests_per_workload_max };
        let routes = SharedRoutes::new(Routes::new(limits));
        if !watches::start(&client, &routes, group).await {
            return Err(RouterError::Unsynced);
        }
        let inner = Inner {
            tokens: Tokens::new(client.clone()),
            rights: Rights::new(client.clone()),
            client,
            routes,
            locator,
            metrics: Arc::default(),
            group: group.clone(),
            requests: Arc::new(Semaphore::new(config.requests_max)),
            holds: Semaphore::new(config.held_max),
            draining: CancellationToken::new(),
            cut_off: group.token().child_token(),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The service to put behind `atoll_rt::listen`.
    #[must_use]
    pub fn service(&self) -> RouterService {
        RouterService { inner: Arc::clone(&self.inner) }
    }

    /// The counters now.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        self.inner.metrics.snapshot()
    }

    /// Takes no more requests, waits for those in flight at most `deadline`, then cuts them off. Returns whether all
    /// ended by themselves.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.inner.draining.cancel();
        let all = u32::try_from(self.inner.config.requests_max).unwrap_or(u32::MAX);
        let ended = tokio::time::timeout(deadline, self.inner.requests.acquire_many(all)).await.is_ok();
        self.inner.cut_off.cancel();
        ended
    }
}

impl Inner {
    pub(crate) fn sandboxes(&self, namespace: &str) -> Api<SandboxView> {
        Api::namespaced_with(self.client.clone(), namespace, &watches::sandbox_resource())
    }
}

/// The router as a tower service over any body.
#[derive(Clone)]
pub struct RouterService {
    inner: Arc<Inner>,
}

impl<B> tower::Service<Request<B>> for RouterService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let response = exchange::exchange(&inner, request).await.unwrap_or_else(|refusal| refusal.response());
            inner.metrics.answered(response.status());
            Ok(response)
        })
    }
}
