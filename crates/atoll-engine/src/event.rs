//! What can happen to a run, and what a run can want.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::RunConfig;
use crate::tools::ServerTools;

/// Something that happened. Events are what the journal holds; each is durable before anything is done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// Always the first, never again.
    Submitted {
        config: Box<RunConfig>,
    },
    /// The agent's workspace is there (for an agent without sandbox: an empty one).
    Prepared {
        agent: u32,
        workspace: Workspace,
    },
    PrepareFailed {
        agent: u32,
        outcome: Outcome,
    },
    /// The agent's sandbox started anew and its workspace was made again; `note` is for the model.
    WorkspaceRenewed {
        agent: u32,
        workspace: Workspace,
        note: String,
    },
    ModelAnswered {
        agent: u32,
        step: u64,
        answer: Answer,
    },
    /// The model could not be asked, retries included.
    ModelFailed {
        agent: u32,
        step: u64,
        outcome: Outcome,
    },
    /// The gate decided on a call.
    Decided {
        call: CallRef,
        decision: Decision,
    },
    /// A person is asked; follows a decision that wants it.
    ApprovalRequested {
        call: CallRef,
        approval_id: String,
        expires_at_ms: u64,
    },
    ApprovalAnswered {
        call: CallRef,
        approval_id: String,
        answer: ApprovalAnswer,
        by: String,
    },
    /// The call is about to run. From here on it may have had its effect.
    Claimed {
        call: CallRef,
        claim: Claim,
    },
    Completed {
        call: CallRef,
        result: ToolResult,
    },
    /// The agent's commits are out of the sandbox; none when it changed nothing.
    Collected {
        agent: u32,
        work: Option<Work>,
    },
    CollectFailed {
        agent: u32,
        outcome: Outcome,
    },
    AgentTimedOut {
        agent: u32,
    },
    RunTimedOut {},
    CancelRequested {
        reason: Option<String>,
        by: String,
    },
    /// Nothing new begins until `Unpaused`; what is under way comes to its end.
    Paused {
        by: String,
    },
    Unpaused {
        by: String,
    },
    /// A person has something to say to an agent that is at work.
    Told {
        agent: u32,
        text: String,
        by: String,
    },
    /// The run can not go on.
    Failed {
        outcome: Outcome,
    },
    /// Another process took the run up. What was in flight is asked for again.
    Resumed {},
    /// Everything the run held is given back. Always the last.
    Closed {},
}

impl Event {
    /// The event's name in the journal.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Submitted { .. } => "submitted",
            Self::Prepared { .. } => "prepared",
            Self::PrepareFailed { .. } => "prepare_failed",
            Self::WorkspaceRenewed { .. } => "workspace_renewed",
            Self::ModelAnswered { .. } => "model_answered",
            Self::ModelFailed { .. } => "model_failed",
            Self::Decided { .. } => "decided",
            Self::ApprovalRequested { .. } => "approval_requested",
            Self::ApprovalAnswered { .. } => "approval_answered",
            Self::Claimed { .. } => "claimed",
            Self::Completed { .. } => "completed",
            Self::Collected { .. } => "collected",
            Self::CollectFailed { .. } => "collect_failed",
            Self::AgentTimedOut { .. } => "agent_timed_out",
            Self::RunTimedOut {} => "run_timed_out",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::Paused { .. } => "paused",
            Self::Unpaused { .. } => "unpaused",
            Self::Told { .. } => "told",
            Self::Failed { .. } => "failed",
            Self::Resumed {} => "resumed",
            Self::Closed {} => "closed",
        }
    }
}

/// Something that has to be done. Doing it ends in the events named; doing it again after a crash is the doer's to get
/// right, by what the state says of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "effect")]
pub enum Effect {
    /// → `Prepared` or `PrepareFailed`.
    Prepare { agent: u32 },
    /// → `ModelAnswered` or `ModelFailed`. The request is [`crate::context::assemble`].
    CallModel { agent: u32, step: u64 },
    /// Take the call through the gate from where it stands (see [`crate::CallPhase`]) → `Decided`,
    /// `ApprovalRequested`, `Claimed`, `Completed`.
    Act { call: CallRef },
    /// → `Collected` or `CollectFailed`.
    Collect { agent: u32 },
    /// Give back everything the run holds → `Closed`.
    Close {},
}

/// Names a tool call: the agent, its step (model call, from 1), the position in that answer (from 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallRef {
    pub agent: u32,
    pub step: u64,
    pub index: u32,
}

impl std::fmt::Display for CallRef {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "a{}s{}c{}", self.agent, self.step, self.index)
    }
}

/// Where an agent works.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Workspace {
    pub sandbox: Option<SandboxIdentity>,
    /// Working directory, absolute.
    pub directory: Option<String>,
    /// Branch of its worktree; none when it works on a detached commit.
    pub branch: Option<String>,
    /// Commit it starts from, full hex.
    pub commit: Option<String>,
    /// What the MCP servers that the agent may use have to offer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerTools>,
}

/// A sandbox, and which life of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxIdentity {
    /// Name of the Sandbox object.
    pub name: String,
    /// UID of what runs, not of the object: it changes with every fresh start.
    pub uid: String,
    pub incarnation: u64,
}

/// What a model answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub text: String,
    pub calls: Vec<RawCall>,
    /// As the provider says it: `stop`, `tool_calls`, `length`, `content_filter`, ….
    pub finish_reason: String,
    pub model: String,
    pub usage: Usage,
    pub duration_ms: u64,
}

/// A tool call as the model wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawCall {
    /// The provider's name for it; may be empty or repeated.
    pub id: String,
    pub tool: String,
    /// JSON text, or what the model took for it.
    pub arguments: String,
}

/// Tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

impl Usage {
    /// Both kinds together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
    }
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub verdict: Verdict,
    pub rule_ids: Vec<String>,
    pub reason: String,
    pub hint: Option<String>,
    /// Effects the call was classified as, e.g. `git_push`.
    pub effects: Vec<String>,
    pub policy_hash: String,
    /// Lower hex SHA-256 of the input decided on.
    pub input_digest: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allow,
    Deny,
    RequireApproval,
}

/// What a person said, or that nobody did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum ApprovalAnswer {
    /// `remember`: the same call of the same agent needs no further yes in this run.
    Granted {
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        remember: bool,
    },
    Denied {
        reason: Option<String>,
    },
    Expired,
}

/// The promise under which a call runs: written before, so that a crash can be cleared up after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Given to whatever carries the call out; never used for another call.
    pub key: String,
    /// Where it runs; none for calls carried out by the plane itself.
    pub sandbox: Option<SandboxIdentity>,
    /// What exactly will be done, in the terms of the tool.
    pub plan: Value,
}

/// How a tool call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    pub status: ToolStatus,
    /// For the model; already bounded.
    pub text: String,
    pub exit_code: Option<i32>,
    /// Blob with all of the output, when `text` is cut.
    pub full_sha256: Option<String>,
    pub duration_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    Ok,
    Failed,
    Invalid,
    Denied,
    ApprovalExpired,
    TimedOut,
    Cancelled,
    OutcomeUnknown,
}

/// What an agent made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Branch in the plane's copy of the repository.
    pub branch: String,
    pub commit: String,
    /// Where the run started, not this agent.
    pub base_commit: String,
    pub commits: u64,
    pub files_changed: u64,
    pub insertions: u64,
    pub deletions: u64,
    /// Files that two agents changed at the same time in ways that do not go together. The later work is not in `branch`
    /// then, but in `side_branch`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side_branch: Option<String>,
}

/// An end and its story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub name: OutcomeName,
    pub message: String,
    pub hint: Option<String>,
}

impl Outcome {
    /// An outcome without a hint.
    #[must_use]
    pub fn new(name: OutcomeName, message: impl Into<String>) -> Self {
        Self { name, message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeName {
    Completed,
    Cancelled,
    ModelUnreachable,
    ModelUnusable,
    ModelRefused,
    StepLimit,
    TokenLimit,
    CostLimit,
    TimeLimit,
    LoopDetected,
    NoProgress,
    ToolStorm,
    OversizedOutput,
    SandboxUnavailable,
    RepositoryRejected,
    Internal,
}
