//! The controllers of the sandbox API: Sandbox, SandboxTemplate, SandboxWarmPool, SandboxClaim, and a small scheduler.
//!
//! Each observes (reads caches), plans (a pure function from what was seen to a list of writes) and applies. A write
//! that was answered is in the caches before anything is planned again.

mod config;

use atoll_rt::TaskGroup;

pub use config::ControllersConfig;

/// The running controllers.
#[derive(Debug, Clone)]
pub struct Controllers {}

impl Controllers {
    /// Returns when every controller has seen what there is. Cancel-safe.
    pub async fn synced(&self) {}
}

/// Starts all controllers in `group`; they stop with it.
#[must_use]
pub fn run_all(client: kube::Client, config: ControllersConfig, group: &TaskGroup) -> Controllers {
    let _ = (client, config, group);
    Controllers {}
}
