//! Wire types of the platform API, `/v1`.
//!
//! All times are Unix milliseconds, all sizes bytes. Unknown fields are ignored by readers, so that fields can be
//! added. Every request wants `Authorization: Bearer <token>`.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `PUT /v1/blobs` | raw bytes | [`BlobStored`] |
//! | `POST /v1/tasks` | [`SubmitTask`] | 202 [`TaskAccepted`] |
//! | `GET /v1/runs` | | [`RunList`], newest first |
//! | `GET /v1/runs/{id}` | | [`RunDetail`] |
//! | `GET /v1/runs/{id}/events?after=SEQ` | | server-sent events, each `data:` a [`RunEvent`], `id:` its `seq` |
//! | `POST /v1/runs/{id}/cancel` | [`CancelRun`] (may be empty) | [`RunSummary`] |
//! | `POST /v1/runs/{id}/pause`, `…/resume` | | [`RunSummary`] |
//! | `POST /v1/runs/{id}/messages` | [`TellAgent`] | [`RunSummary`] |
//! | `GET /v1/runs/{id}/bundle` | | the result as a git bundle, `application/x-git-bundle` |
//! | `GET /v1/approvals?state=pending&run=ID` | | [`ApprovalList`] |
//! | `POST /v1/approvals` | [`DecideApprovals`] | [`ApprovalList`]: those answered |
//! | `POST /v1/approvals/{id}` | [`DecideApproval`] | [`Approval`] |
//! | `GET /v1/traces` | | [`TraceList`] |
//! | `GET /v1/traces/{trace id or run id}` | | [`TraceDetail`] |
//! | `GET /v1/audit?run=ID&actor=A&action=PREFIX&verdict=V&from_ms=T&until_ms=T&after=SEQ&limit=N` | | [`AuditList`] |
//! | `GET /v1/audit/verify` | | [`AuditVerification`] |
//! | `POST /v1/audit/verify` | [`AuditHeads`] kept elsewhere | [`AuditVerification`] |
//! | `GET /v1/audit/heads` | | [`AuditHeads`], the newest made for the occasion |
//! | `GET /v1/policy` | | [`PolicyStatus`] |
//! | `POST /v1/policy/decide` | [`PolicyQuestion`] | [`PolicyDecision`] |
//! | `POST /v1/policy/simulate` | [`SimulatePolicy`] | [`PolicySimulation`] |
//!
//! Anything else than success is an [`ErrorBody`].

mod audit;
mod policy;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use audit::{AuditBreak, AuditHead, AuditHeads, AuditList, AuditRecord, AuditVerification};
pub use policy::{
    PolicyChange, PolicyDecision, PolicyQuestion, PolicySide, PolicySimulation, PolicyStatus, SimulatePolicy,
};

/// Body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

/// What went wrong, for programs (`code`) and for people (`message`, `hint`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// Stable, in snake_case: `unauthorized`, `forbidden_origin`, `not_found`, `invalid_request`, `too_large`,
    /// `conflict`, `busy`, `unavailable`, `internal`.
    pub code: String,
    pub message: String,
    /// What the caller can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Answer of `PUT /v1/blobs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobStored {
    /// Lower hex SHA-256 of the bytes; the blob's name from now on.
    pub sha256: String,
    pub size_bytes: u64,
}

/// Body of `POST /v1/tasks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitTask {
    /// What is wanted, in words.
    pub task: String,
    /// The repository to work on; without it the agents start with an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<RepoSource>,
    /// Model name passed to the gateway; without it the gateway's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The agent that gets the task; default `planner`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Chosen by the client: submitting twice with one key starts one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submission_key: Option<String>,
}

/// A repository uploaded as a git bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoSource {
    /// Blob that holds the output of `git bundle create - HEAD <branch>`.
    pub bundle_sha256: String,
    /// The commit to start from, full hex; must be in the bundle.
    pub commit: String,
    /// The branch that was checked out, without `refs/heads/`; none when HEAD was detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Where an approved `git_push` goes; without it a push is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_url: Option<String>,
    /// For display: usually the directory's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Answer of `POST /v1/tasks`. The run is durable when this is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskAccepted {
    pub run_id: String,
    /// False when `submission_key` was seen before and `run_id` is that earlier run.
    pub created: bool,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Accepted, waits for its turn.
    Queued,
    Running,
    /// Nothing new begins until it is resumed.
    Paused,
    /// Nothing moves until a person answers.
    WaitingForApproval,
    /// Over; see `outcome`.
    Finished,
}

/// How a run, or one agent of it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeName {
    Completed,
    Cancelled,
    /// No connection to a model, or it kept failing.
    ModelUnreachable,
    /// The model's answers could not be used (no text, broken calls, nonsense) too often in a row.
    ModelUnusable,
    /// The model or its provider refused.
    ModelRefused,
    StepLimit,
    TokenLimit,
    /// The money is spent.
    CostLimit,
    TimeLimit,
    /// The same call with the same result again and again.
    LoopDetected,
    /// Step after step was refused or told nothing new.
    NoProgress,
    /// More tool calls than are taken, again and again or in all.
    ToolStorm,
    /// Answers that were too long, again and again.
    OversizedOutput,
    /// No sandbox could be had.
    SandboxUnavailable,
    /// The repository or the result was not acceptable (damaged, hostile, commit not in it).
    RepositoryRejected,
    /// A fault of Atoll's own.
    Internal,
}

/// An end and its story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub name: OutcomeName,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Token sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// One line of `GET /v1/runs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    pub run_id: String,
    pub task: String,
    pub status: RunStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    pub root_agent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_name: Option<String>,
    pub created_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at_ms: Option<u64>,
    /// Model calls answered, all agents.
    pub steps: u64,
    pub usage: Usage,
    /// What the model calls cost, in millionths of a US dollar; 0 where the policy has no prices.
    #[serde(default)]
    pub microusd: u64,
    pub pending_approvals: u64,
    /// Set when there is something to fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RunResult>,
}

/// Body of `POST /v1/runs/{id}/pull-request`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenPullRequest {
    /// The branch it is to go into; the one that was checked out when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// A pull request out of a run's work: wanted, approved, open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PullRequest {
    /// The question to a person; its input is all that will be sent.
    pub approval: Approval,
    /// Where it is, once it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Why it could not be opened; asking again tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Body of `POST /v1/runs/{id}/undo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoRun {
    /// The step whose files are wanted, 0 for where the run started; without it the one before the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
}

/// Answer of `GET /v1/runs/{id}/checkpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointList {
    /// Oldest first.
    pub checkpoints: Vec<Checkpoint>,
}

/// A state of a run's work that can be gone back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// 0 is where the run started.
    pub step: u64,
    pub commit: String,
    pub title: String,
    pub author: String,
    pub at_ms: u64,
}

/// Answer of `GET /v1/runs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunList {
    pub runs: Vec<RunSummary>,
}

/// What a run made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunResult {
    /// The branch in the bundle, without `refs/heads/`: `atoll/<run id>`.
    pub branch: String,
    /// Tip of that branch, full hex.
    pub commit: String,
    /// Where it started.
    pub base_commit: String,
    pub commits: u64,
    pub files_changed: u64,
    pub insertions: u64,
    pub deletions: u64,
    /// Files in which the newest work does not go together with other work; it is on `side_branch` then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// Without `refs/heads/`; in the bundle like `branch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side_branch: Option<String>,
}

/// Answer of `GET /v1/runs/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDetail {
    pub summary: RunSummary,
    pub agents: Vec<AgentDetail>,
    pub plan: Vec<PlanItem>,
    /// Every limited resource of every agent; agent 0's are the run's.
    #[serde(default)]
    pub budgets: Vec<BudgetLine>,
    /// What the root agent said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_text: Option<String>,
    pub policy_hash: String,
    /// Trace of the root agent.
    pub trace_id: String,
    /// Sequence number of the newest event.
    pub last_seq: u64,
}

/// What may be spent of one resource by an agent and all agents below it, and what is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetLine {
    pub agent: AgentRef,
    pub resource: Resource,
    pub spent: u64,
    /// Promised to model calls that are being made.
    pub reserved: u64,
    pub cap: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Model calls.
    Steps,
    Tokens,
    /// Millionths of a US dollar.
    Microusd,
}

/// One agent of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentDetail {
    pub agent: AgentRef,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<AgentRef>,
    pub task: String,
    /// Name of its Sandbox object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    pub steps: u64,
    pub tool_calls: u64,
    pub usage: Usage,
    #[serde(default)]
    pub microusd: u64,
    /// The model it asks; none for the gateway's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    pub started_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// An agent within a run: `id` counts from 0 (the root), `name` is the policy's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AgentRef {
    pub id: u32,
    pub name: String,
}

/// One entry of the run's task list, kept by the planner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanItem {
    pub id: u32,
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    pub status: PlanStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanStatus {
    Pending,
    InProgress,
    Done,
    Failed,
}

/// One event of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEvent {
    /// Grows from event to event, with gaps; resume with `after=seq`. None for live events (`text_delta`,
    /// `tool_output`), which are not kept and are not sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    pub at_ms: u64,
    #[serde(flatten)]
    pub event: RunEventKind,
}

/// What happened. `type` names it on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RunEventKind {
    RunStarted {
        run_id: String,
        task: String,
        root_agent: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// An orchestrator took the run up again after a stop.
    RunResumed {},
    AgentStarted {
        agent: AgentRef,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<AgentRef>,
        task: String,
        sandboxed: bool,
    },
    /// The agent's sandbox is up and holds its worktree.
    SandboxReady {
        agent: AgentRef,
        /// Name of the Sandbox object.
        sandbox: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        branch: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
    },
    /// Live.
    TextDelta {
        agent: AgentRef,
        text: String,
    },
    ModelAnswered {
        agent: AgentRef,
        step: u64,
        text: String,
        tool_calls: Vec<ToolCallView>,
        model: String,
        finish_reason: String,
        usage: Usage,
        duration_ms: u64,
    },
    ModelFailed {
        agent: AgentRef,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// The gate's decision on one call.
    ToolDecided {
        agent: AgentRef,
        call_id: String,
        tool: String,
        /// The call in one line.
        summary: String,
        verdict: Verdict,
        rule_ids: Vec<String>,
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// Effects the call was classified as, e.g. `git_push`.
        effects: Vec<String>,
    },
    ApprovalRequested {
        approval: Approval,
    },
    ApprovalAnswered {
        approval: Approval,
    },
    /// The call was claimed and runs.
    ToolStarted {
        agent: AgentRef,
        call_id: String,
        tool: String,
        summary: String,
    },
    /// Live. Output of a running command.
    ToolOutput {
        agent: AgentRef,
        call_id: String,
        stream: OutputStream,
        text: String,
    },
    ToolFinished {
        agent: AgentRef,
        call_id: String,
        tool: String,
        summary: String,
        status: ToolStatus,
        /// What the model is told, bounded.
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        duration_ms: u64,
    },
    PlanChanged {
        plan: Vec<PlanItem>,
    },
    /// The agent's commits were fetched out of its sandbox and checked.
    WorkCollected {
        agent: AgentRef,
        result: RunResult,
    },
    AgentFinished {
        agent: AgentRef,
        outcome: Outcome,
        text: String,
        usage: Usage,
    },
    /// Nothing new begins.
    RunPaused {
        by: String,
    },
    RunUnpaused {
        by: String,
    },
    /// A person said something to an agent.
    MessageReceived {
        agent: AgentRef,
        text: String,
        by: String,
    },
    /// The soft limit of a budget is passed; the agent is told to come to an end.
    BudgetLow {
        agent: AgentRef,
    },
    CancelRequested {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Always the last event; the stream ends after it.
    RunFinished {
        outcome: Outcome,
        usage: Usage,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        final_text: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<RunResult>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    Stdout,
    Stderr,
}

/// A tool call as the model asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCallView {
    pub call_id: String,
    pub tool: String,
    /// The arguments; a string when the model sent broken JSON.
    pub input: Value,
    /// The call in one line, e.g. `terminal_execute: python3 -m unittest`.
    pub summary: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allow,
    Deny,
    RequireApproval,
}

/// How a tool call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    Ok,
    /// It ran and reports a failure (exit code other than 0, no such file, …).
    Failed,
    /// The call itself was wrong: unknown tool, bad arguments.
    Invalid,
    /// Policy said no, or a person did.
    Denied,
    /// Nobody answered the approval in time.
    ApprovalExpired,
    TimedOut,
    /// Stopped because the agent or the run was.
    Cancelled,
    /// It was claimed, the sandbox started anew, and what became of it can not be known. Never repeated silently.
    OutcomeUnknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    Pending,
    Granted,
    Denied,
    Expired,
    /// The run ended before anyone answered.
    Cancelled,
}

/// A question to a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub id: String,
    pub run_id: String,
    pub agent: AgentRef,
    pub call_id: String,
    pub tool: String,
    /// The call in one line.
    pub summary: String,
    /// The exact input that would run.
    pub input: Value,
    /// Lower hex SHA-256 of the canonical input; the answer counts for this input only.
    pub input_digest: String,
    pub effects: Vec<String>,
    pub reason: String,
    pub state: ApprovalState,
    pub created_at_ms: u64,
    pub expires_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_reason: Option<String>,
}

/// Answer of `GET /v1/approvals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalList {
    pub approvals: Vec<Approval>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalDecision {
    Grant,
    Deny,
}

/// Body of `POST /v1/approvals/{id}`. 409 `conflict` when it is not pending any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecideApproval {
    pub decision: ApprovalDecision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the person saw; 409 when the approval is for another input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_digest: Option<String>,
    /// With a grant: the same call of the same agent needs no further yes in this run.
    #[serde(default)]
    pub remember: bool,
}

/// Body of `POST /v1/approvals`: one answer to several questions. Those that are not open any more are left out of the
/// answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecideApprovals {
    /// Each with the digest that the person saw; at most 256.
    pub approvals: Vec<ApprovalRef>,
    pub decision: ApprovalDecision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default)]
    pub remember: bool,
}

/// A question, and what it was about when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRef {
    pub id: String,
    pub input_digest: String,
}

/// Body of `POST /v1/runs/{id}/messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TellAgent {
    /// At most 32 KiB.
    pub text: String,
    /// Id of the agent within the run; the root when it is not given.
    #[serde(default)]
    pub agent: u32,
}

/// Body of `POST /v1/runs/{id}/cancel`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRun {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answer of `GET /v1/traces`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceList {
    pub traces: Vec<TraceSummary>,
}

/// One agent invocation: a trace of its own, linked to the one that started it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceSummary {
    /// 32 lower hex digits.
    pub trace_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Name of the root span.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    pub started_at_ms: u64,
    pub duration_ms: u64,
    pub spans: u64,
    pub errors: u64,
    pub usage: Usage,
}

/// Answer of `GET /v1/traces/{id}`: a trace with the traces linked below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceDetail {
    pub summary: TraceSummary,
    pub roots: Vec<SpanNode>,
    /// Sums by agent name over this trace and all linked ones.
    pub usage_by_agent: BTreeMap<String, Usage>,
    /// Sum over this trace and all linked ones.
    pub total_usage: Usage,
}

/// A span and what is below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpanNode {
    pub trace_id: String,
    /// 16 lower hex digits.
    pub span_id: String,
    pub name: String,
    pub started_at_ms: u64,
    pub duration_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub attributes: BTreeMap<String, Value>,
    /// Own usage plus that of everything below, linked traces included.
    pub usage: Usage,
    pub children: Vec<SpanNode>,
    /// Roots of the traces that a span link ties to this span.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub linked: Vec<SpanNode>,
}
