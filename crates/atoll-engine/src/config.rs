//! What a run is started with. It is part of the journal, so a run goes on under the limits it began with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::budget::{Budget, ModelPrice};

/// Everything a run needs to know that does not change while it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunConfig {
    pub run_id: String,
    /// What is wanted, in words.
    pub task: String,
    /// Name of the agent that gets the task; one of `agents`.
    pub root_agent: String,
    /// Model for every agent that names none; `None` is the gateway's default.
    pub model: Option<String>,
    pub repo: Option<RepoInfo>,
    /// By name, each once.
    pub agents: Vec<AgentProfile>,
    pub limits: Limits,
    /// What models cost; the first that fits counts. Empty when money is not counted.
    #[serde(default)]
    pub prices: Vec<ModelPrice>,
    /// The MCP servers of the run, by name; which of their tools an agent has is in its profile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ToolServer>,
    /// What the repository's own `AGENTS.md` says to agents, bounded.
    #[serde(default)]
    pub project_notes: Option<String>,
    /// Hash of the policy in force when the run was accepted.
    pub policy_hash: String,
}

impl RunConfig {
    /// The profile of an agent.
    #[must_use]
    pub fn profile(&self, name: &str) -> Option<&AgentProfile> {
        self.agents.iter().find(|profile| profile.name == name)
    }

    /// The model that an agent is asked of: its own, the run's, or the gateway's default.
    #[must_use]
    pub fn model_of<'a>(&'a self, profile: &'a AgentProfile) -> Option<&'a str> {
        profile.model.as_deref().or(self.model.as_deref())
    }
}

/// An MCP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolServer {
    pub name: String,
    pub transport: ServerTransport,
    /// How long one answer is waited for.
    pub timeout_ms: u64,
}

/// How an MCP server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "transport")]
pub enum ServerTransport {
    /// A program in the agent's own sandbox.
    Stdio { argv: Vec<String>, env: BTreeMap<String, String> },
    /// Streamable HTTP, called by the plane. `token_env` names a variable of the plane, never its value.
    Http { url: String, token_env: Option<String>, private_network: bool },
}

/// The repository that a run works on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoInfo {
    /// Lower hex SHA-256 of the uploaded bundle.
    pub bundle_sha256: String,
    /// Commit to start from, full hex.
    pub commit: String,
    /// Branch that was checked out, without `refs/heads/`.
    pub branch: Option<String>,
    /// Where an approved push goes.
    pub remote_url: Option<String>,
    pub name: Option<String>,
}

/// An agent as policy describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentProfile {
    pub name: String,
    pub description: String,
    /// Names of tools; unknown ones are not offered to the model.
    pub tools: Vec<String>,
    /// Whether it works in a sandbox of its own.
    pub sandboxed: bool,
    /// Whether its work is thrown away.
    pub read_only: bool,
    /// Limit of one tool call, where it is below [`Limits::tool_timeout_ms`].
    pub max_execution_ms: Option<u64>,
    /// How many agents it may start.
    pub max_delegations: Option<u32>,
    /// Replaces the built-in instructions of its role.
    pub instructions: Option<String>,
    /// Model of its own.
    pub model: Option<String>,
    /// The agent of the policy whose rules it works under, when that is not its own name: a repository's agents narrow one
    /// of the policy's.
    #[serde(default)]
    pub base: Option<String>,
    /// What it and the agents below it may spend.
    #[serde(default)]
    pub budget: Budget,
    /// Its time from the moment its workspace is there, where it is below [`Limits::agent_wall_ms_max`].
    #[serde(default)]
    pub wall_ms_max: Option<u64>,
}

impl AgentProfile {
    /// Name of the policy's agent that its actions are judged as.
    #[must_use]
    pub fn policy_agent(&self) -> &str {
        self.base.as_deref().unwrap_or(&self.name)
    }
}

/// Caps of a run. Each ends in a named outcome or in an answer to the model, never in silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Model calls of one agent.
    pub agent_steps_max: u64,
    /// Model calls of all agents together.
    pub run_steps_max: u64,
    /// Input and output tokens of all agents together.
    pub run_tokens_max: u64,
    /// Money for all agents together, in millionths of a US dollar; `None` sets no limit.
    pub run_microusd_max: Option<u64>,
    /// From this share of a budget on, the agent is told to come to an end, in percent.
    pub soft_percent: u8,
    /// The longest answer that is reserved for; only near the end of a budget are shorter ones asked for.
    pub output_tokens_max: u64,
    /// One agent, from the moment its workspace is there to its end; approvals and stops of the plane not counted.
    pub agent_wall_ms_max: u64,
    /// The run's time, approvals and stops of the plane not counted.
    pub run_wall_ms_max: u64,
    /// Agents below the root agent: 1 means that children start no children.
    pub depth_max: u32,
    /// Agents of a run, the root included.
    pub agents_max: u32,
    /// Agents of a run at work at the same time; further ones wait. One that waits for others does not count.
    pub agents_at_once_max: u32,
    /// Delegations of an agent whose profile does not say.
    pub delegations_max: u32,
    /// Tool calls taken from one answer of the model.
    pub calls_per_answer_max: u32,
    /// Tool calls of one agent.
    pub agent_calls_max: u64,
    /// One tool call.
    pub tool_timeout_ms: u64,
    /// What the model is told of one tool call.
    pub tool_result_bytes_max: usize,
    /// All messages of one model call together.
    pub context_bytes_max: usize,
}

impl Limits {
    /// How long an agent may be at work.
    #[must_use]
    pub fn agent_wall_ms(&self, profile: &AgentProfile) -> u64 {
        profile.wall_ms_max.map_or(self.agent_wall_ms_max, |own| own.min(self.agent_wall_ms_max))
    }

    /// How long one tool call of an agent may take.
    #[must_use]
    pub fn tool_timeout_ms(&self, profile: &AgentProfile) -> u64 {
        profile.max_execution_ms.map_or(self.tool_timeout_ms, |own| own.min(self.tool_timeout_ms))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            agent_steps_max: 100,
            run_steps_max: 400,
            run_tokens_max: 5_000_000,
            run_microusd_max: None,
            soft_percent: 80,
            output_tokens_max: 32_768,
            agent_wall_ms_max: 30 * 60 * 1000,
            run_wall_ms_max: 60 * 60 * 1000,
            depth_max: 3,
            agents_max: 32,
            agents_at_once_max: 8,
            delegations_max: 10,
            calls_per_answer_max: 16,
            agent_calls_max: 1000,
            tool_timeout_ms: 300 * 1000,
            tool_result_bytes_max: 16 * 1024,
            context_bytes_max: 400 * 1024,
        }
    }
}
