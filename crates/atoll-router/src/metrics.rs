//! Counters of the router.

/// The counters at one moment. All but the gauges only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MetricsSnapshot {
    /// Gauge: requests and tunnels in flight.
    pub inflight: u64,
    /// Gauge: requests that wait for a sandbox to start.
    pub held: u64,
}
