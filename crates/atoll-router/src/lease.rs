//! A request's place within the router's limits.

use std::sync::Arc;

use atoll_rt::TaskHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::{Gauge, Metrics};
use crate::refusal::Refusal;

/// Held from the request's arrival until the last byte of its answer; gives everything back when dropped.
pub(crate) struct Lease {
    _inflight: Gauge,
    _router: OwnedSemaphorePermit,
    sandbox: Option<OwnedSemaphorePermit>,
    /// The task that drives the connection to the sandbox: it ends with the exchange.
    connection: Option<TaskHandle<()>>,
}

impl Lease {
    /// A place in the router as a whole.
    pub(crate) fn take(metrics: &Arc<Metrics>, router: &Arc<Semaphore>) -> Result<Self, Refusal> {
        let permit = Arc::clone(router).try_acquire_owned().map_err(|_full| Refusal::TooManyRequests)?;
        let inflight = Gauge::raise(metrics, |metrics| &metrics.inflight);
        Ok(Self { _inflight: inflight, _router: permit, sandbox: None, connection: None })
    }

    /// A place at the sandbox as well.
    pub(crate) fn at_sandbox(&mut self, sandbox: &Arc<Semaphore>) -> Result<(), Refusal> {
        self.sandbox = Some(Arc::clone(sandbox).try_acquire_owned().map_err(|_full| Refusal::TooManyRequests)?);
        Ok(())
    }

    pub(crate) fn with_connection(&mut self, connection: TaskHandle<()>) {
        self.connection = Some(connection);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.abort();
        }
    }
}
