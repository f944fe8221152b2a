//! What the orchestrator is told by the composition root.

use std::path::PathBuf;
use std::sync::Arc;

use atoll_engine::Limits;
use atoll_rt::telemetry::SpanSink;
use atoll_stdx::{Clock, Secret};
use atoll_store::Journal;

use crate::policy::PolicyInForce;
use crate::workbench::Workbench;

/// Agents at work at a time, over all runs, when nothing else is said (`MAX_AGENT_CONCURRENCY`).
pub const AGENT_CONCURRENCY_DEFAULT: usize = 20;

/// Everything an orchestrator needs.
pub struct OrchestratorConfig {
    /// Journal, audit chain, records.
    pub journal: Journal,
    /// Where agents work.
    pub workbench: Arc<dyn Workbench>,
    pub gateway: GatewayEndpoint,
    /// In force for new and running runs alike; each decision records its hash.
    pub policy: PolicyInForce,
    pub spans: SpanSink,
    pub clock: Arc<dyn Clock>,
    /// Directory of the plane's own; `blobs/` and `repos/` are made in it.
    pub data_dir: PathBuf,
    /// Name of this process, for the record of who owns a run.
    pub instance: String,
    /// What `/v1` wants as a bearer token.
    pub api_token: Secret<String>,
    /// Host names besides loopback that `/v1` may be addressed by.
    pub api_hosts: Vec<String>,
    /// Caps of new runs.
    pub limits: Limits,
    /// Agents at work at a time, over all runs.
    pub agent_concurrency_max: usize,
}

/// Where model calls go.
#[derive(Clone, Debug)]
pub struct GatewayEndpoint {
    /// Without `/v1`, for example `http://127.0.0.1:8090`.
    pub base_url: String,
    pub token: Secret<String>,
}
