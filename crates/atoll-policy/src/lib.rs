//! What agents may do: `policies.yaml` compiled to Cedar, shell commands judged one simple command at a time, effects
//! told apart from tools. Pure: no IO, no clock.
//!
//! Reading a command is the early answer that can be explained; the sandbox is what enforces.

mod action;
mod document;
mod error;
mod policy;
pub mod shell;

pub use action::{ActionRequest, DEFAULT_CWD, Decision, Effect, Verdict};
pub use document::{
    APPROVAL_EXPIRY_DEFAULT, AgentPolicy, Governance, PolicyDocument, ResourceLimits, TRACE_RETENTION_DAYS_DEFAULT,
    UnclearCommands,
};
pub use error::PolicyError;
pub use policy::{DEFAULT_POLICY_YAML, Policy};
pub use shell::pattern::CommandPattern;
