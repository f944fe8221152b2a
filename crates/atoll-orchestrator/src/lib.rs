//! Runs agents: what the engine wants, this crate does, once. It owns the journal of each run, the one gate that every
//! action passes, the agents' tools and workspaces, and the platform API `/v1`.
//!
//! One task per run drives it: an event is journalled, then applied, then what it makes wanted is started. Model calls,
//! tool calls and the like run beside it and hand their events in; a tool call is claimed in the journal before it
//! runs and completed after. A crash loses what was not journalled, and what was claimed is looked up, not repeated.

mod blobs;
mod config;
mod digest;
mod flight;
mod forge;
mod gate;
mod git;
mod heads;
mod http;
mod mcp;
mod model;
mod orchestrator;
mod policy;
mod pulls;
mod records;
mod repos;
mod run;
mod simulate;
mod spans;
mod submission;
mod tools;
mod view;
pub mod workbench;
mod workspace;

pub use config::{AGENT_CONCURRENCY_DEFAULT, GatewayEndpoint, OrchestratorConfig};
pub use orchestrator::{ForgetError, Orchestrator, OrchestratorError};
pub use policy::PolicyInForce;
pub use workbench::sandbox::{SandboxWorkbench, SandboxWorkbenchConfig};
