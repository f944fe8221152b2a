//! What is asked of the policy, and what it answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where relative paths and commands begin when the request does not say.
pub const DEFAULT_CWD: &str = "/workspace";

/// One action that an agent wants to take.
#[derive(Debug, Clone, Copy)]
pub struct ActionRequest<'a> {
    /// Name of the agent as in the policy.
    pub agent: &'a str,
    /// Name of the tool, for example `file_write` or `mcp.jira.search`.
    pub tool: &'a str,
    /// The tool's input as the model gave it.
    pub input: &'a Value,
    /// Absolute directory that the action happens in: relative paths start from it, and a `cwd` in the input has been
    /// applied already. When `None`, the input's `cwd` from [`DEFAULT_CWD`] on.
    pub cwd: Option<&'a str>,
    /// A person approved this exact input. Lifts what waits for approval; never lifts a denial.
    pub approved: bool,
    /// How many delegations this agent has made in this run, for `max_delegations`.
    pub delegations: u32,
}

impl<'a> ActionRequest<'a> {
    /// A request that nobody approved, in the default directory, without earlier delegations.
    #[must_use]
    pub fn new(agent: &'a str, tool: &'a str, input: &'a Value) -> Self {
        Self { agent, tool, input, cwd: None, approved: false, delegations: 0 }
    }

    /// Sets the directory that the action happens in; a `cwd` in the input does not count any more.
    #[must_use]
    pub fn in_directory(mut self, cwd: &'a str) -> Self {
        self.cwd = Some(cwd);
        self
    }

    /// Marks the request as approved by a person.
    #[must_use]
    pub fn with_approval(mut self) -> Self {
        self.approved = true;
        self
    }

    /// Sets how many delegations the agent has made in this run.
    #[must_use]
    pub fn after_delegations(mut self, count: u32) -> Self {
        self.delegations = count;
        self
    }
}

/// The answer to one request. Serialises to the form that journal, audit and traces keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether it may happen.
    pub verdict: Verdict,
    /// The rules that led to the verdict, for example `agents.code-writer.blocked_commands[1]`; sorted.
    pub rule_ids: Vec<String>,
    /// One sentence for people and for the model.
    pub reason: String,
    /// What would make it allowed, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What the action does to the world, as far as can be told; sorted. Where it is not certain that a command has
    /// an effect, it counts as having it.
    pub effects: Vec<Effect>,
    /// SHA-256 of the policy text, lower-case hexadecimal.
    pub policy_hash: String,
    /// SHA-256 of the tool's input in canonical JSON, lower-case hexadecimal; what an approval is bound to.
    pub input_digest: String,
}

impl Decision {
    /// Whether the action may run now.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// The three answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may run.
    Allow,
    /// It may not.
    Deny,
    /// It may run once a person approved this exact input.
    RequireApproval,
}

impl Verdict {
    /// The name used in files and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::RequireApproval => "require_approval",
        }
    }
}

/// What an action does to the world. `governance.require_approval_for` lists these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Reads files of the sandbox.
    FileRead,
    /// Creates, changes or removes files of the sandbox.
    FileWrite,
    /// Runs programs in the sandbox.
    CommandRun,
    /// Sends commits to another repository, by whatever tool.
    GitPush,
    /// Changes what runs or is published elsewhere.
    DeployToProduction,
    /// Changes a database or its schema.
    DatabaseWrite,
    /// Hands work to another agent.
    AgentDelegate,
    /// Changes the run's list of tasks.
    TaskUpdate,
    /// Calls a tool of an MCP server, whose effects are not known.
    ExternalTool,
}

impl Effect {
    /// Every effect.
    pub const ALL: [Self; 9] = [
        Self::FileRead,
        Self::FileWrite,
        Self::CommandRun,
        Self::GitPush,
        Self::DeployToProduction,
        Self::DatabaseWrite,
        Self::AgentDelegate,
        Self::TaskUpdate,
        Self::ExternalTool,
    ];

    /// The name used in files and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FileRead => "file_read",
            Self::FileWrite => "file_write",
            Self::CommandRun => "command_run",
            Self::GitPush => "git_push",
            Self::DeployToProduction => "deploy_to_production",
            Self::DatabaseWrite => "database_write",
            Self::AgentDelegate => "agent_delegate",
            Self::TaskUpdate => "task_update",
            Self::ExternalTool => "external_tool",
        }
    }

    /// The effect of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effect| effect.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_serialised_form() {
        for effect in Effect::ALL {
            assert_eq!(serde_json::to_value(effect).expect("plain"), effect.as_str());
            assert_eq!(Effect::from_name(effect.as_str()), Some(effect));
        }
        for verdict in [Verdict::Allow, Verdict::Deny, Verdict::RequireApproval] {
            assert_eq!(serde_json::to_value(verdict).expect("plain"), verdict.as_str());
        }
    }
}
