//! Counters of the router: plain atomics, read as one snapshot.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters at one moment. All but the gauges only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MetricsSnapshot {
    /// Requests by class of the answer's status: 1xx (upgrades), 2xx, 3xx, 4xx, 5xx.
    pub requests_by_class: [u64; 5],
    /// Gauge: requests and tunnels in flight.
    pub inflight: u64,
    /// Gauge: requests that wait for a sandbox to start.
    pub held: u64,
    /// Gauge: connections that were upgraded.
    pub tunnels: u64,
    /// Tokens accepted.
    pub authorized: u64,
    /// Requests refused for a missing or wrong token.
    pub unauthorized: u64,
    /// Tokens that could not be checked.
    pub authorizer_errors: u64,
    /// The sandbox could not be dialled.
    pub upstream_dial_errors: u64,
    /// The sandbox did not begin its answer in time.
    pub upstream_timeouts: u64,
    /// The sandbox broke off, or spoke no HTTP.
    pub upstream_broken: u64,
    /// Dials tried again.
    pub upstream_retries: u64,
}

/// The live counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    classes: [AtomicU64; 5],
    pub(crate) inflight: AtomicU64,
    pub(crate) held: AtomicU64,
    pub(crate) tunnels: AtomicU64,
    pub(crate) authorized: AtomicU64,
    pub(crate) unauthorized: AtomicU64,
    pub(crate) authorizer_errors: AtomicU64,
    pub(crate) upstream_dial_errors: AtomicU64,
    pub(crate) upstream_timeouts: AtomicU64,
    pub(crate) upstream_broken: AtomicU64,
    pub(crate) upstream_retries: AtomicU64,
}

impl Metrics {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        Self::add(&self.classes[class]);
    }

    pub(crate) fn snapshot(&self) -> MetricsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MetricsSnapshot {
            requests_by_class: std::array::from_fn(|class| read(&self.classes[class])),
            inflight: read(&self.inflight),
            held: read(&self.held),
            tunnels: read(&self.tunnels),
            authorized: read(&self.authorized),
            unauthorized: read(&self.unauthorized),
            authorizer_errors: read(&self.authorizer_errors),
            upstream_dial_errors: read(&self.upstream_dial_errors),
            upstream_timeouts: read(&self.upstream_timeouts),
            upstream_broken: read(&self.upstream_broken),
            upstream_retries: read(&self.upstream_retries),
        }
    }
}

/// One more in a gauge for as long as it lives.
pub(crate) struct Gauge {
    metrics: std::sync::Arc<Metrics>,
    counter: fn(&Metrics) -> &AtomicU64,
}

impl Gauge {
    pub(crate) fn raise(metrics: &std::sync::Arc<Metrics>, counter: fn(&Metrics) -> &AtomicU64) -> Self {
        Metrics::add(counter(metrics));
        Self { metrics: std::sync::Arc::clone(metrics), counter }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        (self.counter)(&self.metrics).fetch_sub(1, Ordering::Relaxed);
    }
}
