//! The SandboxWarmPool controller: keeps as many unclaimed Sandboxes as are wanted, after claims are served.

mod apply;
mod memory;
pub(crate) mod observe;
pub(crate) mod plan;
mod report;

pub(crate) use apply::PoolController;
