//! The router and its service.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use atoll_rt::TaskGroup;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;

use crate::config::RouterConfig;
use crate::locator::GuestLocator;
use crate::metrics::MetricsSnapshot;

/// A body that streams, or the few bytes of an error.
pub type ResponseBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The router could not start.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The first list of sandboxes or Pods did not arrive in time.
    #[error("the router could not read sandboxes and Pods from the API server")]
    Unsynced,
}

/// A running router. Clones share it.
#[derive(Clone)]
pub struct Router {
    service: RouterService,
}

impl Router {
    /// Fills the caches from the API server and returns once they are complete. Its watches run in `group`.
    ///
    /// # Errors
    /// [`RouterError::Unsynced`] when the API server does not answer within a minute.
    pub async fn start(
        _client: kube::Client,
        _locator: Arc<dyn GuestLocator>,
        _config: RouterConfig,
        _group: &TaskGroup,
    ) -> Result<Self, RouterError> {
        Err(RouterError::Unsynced)
    }

    /// The service to put behind `atoll_rt::listen`.
    #[must_use]
    pub fn service(&self) -> RouterService {
        self.service.clone()
    }

    /// The counters now.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        MetricsSnapshot::default()
    }

    /// Takes no more requests, waits for those in flight at most `deadline`, then cuts them off. Returns whether all
    /// ended by themselves.
    pub async fn drain(&self, _deadline: Duration) -> bool {
        true
    }
}

/// The router as a tower service over any body.
#[derive(Clone)]
pub struct RouterService {}

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

    fn call(&mut self, _request: Request<B>) -> Self::Future {
        Box::pin(std::future::pending())
    }
}
