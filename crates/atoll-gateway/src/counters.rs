//! Counting requests and tokens.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Live counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) input_tokens: AtomicU64,
    pub(crate) output_tokens: AtomicU64,
}

/// What was counted since the gateway started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CountersSnapshot {
    /// Chat requests that passed authentication.
    pub requests: u64,
    /// Of these, answered with an error.
    pub failures: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// As reported by upstreams.
    pub input_tokens: u64,
    /// As reported by upstreams.
    pub output_tokens: u64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> CountersSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CountersSnapshot {
            requests: read(&self.requests),
            failures: read(&self.failures),
            retries: read(&self.retries),
            input_tokens: read(&self.input_tokens),
            output_tokens: read(&self.output_tokens),
        }
    }
}
