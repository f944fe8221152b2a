//! What agents may do: `policies.yaml` compiled to Cedar, shell commands judged one simple command at a time, effects
//! told apart from tools. Pure: no IO, no clock.
//!
//! Reading a command is the early answer that can be explained; the sandbox is what enforces.

mod action;
mod agent_file;
mod compile;
mod digest;
mod document;
mod effects;
mod error;
mod expectations;
mod facts;
mod mcp_file;
mod path;
mod policy;
mod reader;
pub mod shell;
mod tools;
mod yaml;

pub use action::{ActionRequest, DEFAULT_CWD, Decision, Effect, Verdict};
pub use agent_file::AgentFile;
pub use digest::input_digest;
pub use document::{
    APPROVAL_EXPIRY_DEFAULT, AgentPolicy, BudgetLimits, Budgets, Forge, ForgeKind, Governance, McpPolicy, McpServer,
    McpTransport, Person, PolicyDocument, Price, ResourceLimits, Right, TRACE_RETENTION_DAYS_DEFAULT, UnclearCommands,
};
pub use error::PolicyError;
pub use expectations::{Expectation, Expectations};
pub use mcp_file::McpFile;
pub use policy::{DEFAULT_POLICY_YAML, Policy};
pub use shell::pattern::CommandPattern;
