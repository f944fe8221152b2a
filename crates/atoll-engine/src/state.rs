//! The state of a run: everything that its events have made of it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::budget::{Ledger, Reservation};
use crate::config::{AgentProfile, RunConfig};
use crate::event::{
    CallRef, Claim, Decision, Outcome, RawCall, SandboxIdentity, ToolResult, ToolStatus, Usage, Work, Workspace,
};

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    pub config: RunConfig,
    pub phase: RunPhase,
    /// Index = id; the root is 0. Agents are never removed.
    pub agents: Vec<AgentState>,
    pub plan: Vec<PlanItem>,
    /// Newest work of the run: where the next agent starts.
    pub head: Option<Work>,
    pub steps: u64,
    pub usage: Usage,
    pub created_at_ms: u64,
    /// When the run's time is up.
    pub deadline_ms: u64,
    /// Since when the run's time stands still.
    pub stopped_at_ms: Option<u64>,
    /// Whether nothing new may begin.
    pub paused: bool,
    /// Calls that a person allowed for the rest of the run.
    pub remembered: Vec<Remembered>,
    pub finished_at_ms: Option<u64>,
    /// Time of the newest event.
    pub last_at_ms: u64,
}

impl RunState {
    /// An agent by its id.
    #[must_use]
    pub fn agent(&self, id: u32) -> Option<&AgentState> {
        self.agents.get(id as usize)
    }

    /// A call of an agent's current answer.
    #[must_use]
    pub fn call(&self, call: CallRef) -> Option<&Call> {
        let agent = self.agent(call.agent)?;
        if agent.steps != call.step {
            return None;
        }
        agent.calls.get(call.index as usize)
    }

    /// The profile of an agent of this run.
    ///
    /// # Panics
    /// Never: agents are only started with a profile of the run.
    #[must_use]
    pub fn profile(&self, agent: &AgentState) -> &AgentProfile {
        self.config.profile(&agent.name).expect("agents are started from profiles of the run")
    }

    /// The outcome, once there is one.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            RunPhase::Running => None,
            RunPhase::Finished { outcome, .. } => Some(outcome),
        }
    }

    /// Whether nothing is left to do, cleaning up included.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, RunPhase::Finished { closed: true, .. })
    }

    /// Whether a person allowed this very call of this agent for the rest of the run.
    #[must_use]
    pub fn remembers(&self, agent: &str, tool: &str, input_digest: &str) -> bool {
        self.remembered
            .iter()
            .any(|known| known.agent == agent && known.tool == tool && known.input_digest == input_digest)
    }

    /// Calls that wait for a person, with the approval's id.
    pub fn pending_approvals(&self) -> impl Iterator<Item = (CallRef, &str)> {
        self.agents.iter().flat_map(AgentState::call_refs).filter_map(|(reference, call)| match &call.phase {
            CallPhase::AwaitingApproval { approval_id, .. } => Some((reference, approval_id.as_str())),
            _ => None,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum RunPhase {
    Running,
    Finished {
        outcome: Outcome,
        /// Whether everything the run held was given back.
        closed: bool,
    },
}

/// An agent of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentState {
    pub id: u32,
    /// Name of its profile.
    pub name: String,
    /// The call that started it; none for the root.
    pub parent: Option<CallRef>,
    /// 0 for the root.
    pub depth: u32,
    pub task: String,
    pub phase: AgentPhase,
    pub workspace: Workspace,
    /// Told to the model before it is asked next.
    pub notices: Vec<String>,
    /// What people had to say and the model has not heard yet.
    pub inbox: Vec<String>,
    /// It would go on, were the run not paused.
    pub held: bool,
    pub history: History,
    /// Calls of the newest answer, in its order.
    pub calls: Vec<Call>,
    /// Model calls answered.
    pub steps: u64,
    pub tool_calls: u64,
    pub usage: Usage,
    /// What its own model calls cost, in millionths of a US dollar.
    pub microusd: u64,
    /// The account of it and all agents below it.
    pub ledger: Ledger,
    /// What its model call that is being made may take.
    pub reservation: Option<Reservation>,
    /// Agents it has started.
    pub delegations: u32,
    pub guards: Guards,
    pub started_at_ms: u64,
    /// When its time is up; none while its workspace is prepared.
    pub deadline_ms: Option<u64>,
    /// Since when its time stands still.
    pub stopped_at_ms: Option<u64>,
    pub finished_at_ms: Option<u64>,
    pub work: Option<Work>,
}

impl AgentState {
    /// The calls of the newest answer with their names.
    pub fn call_refs(&self) -> impl Iterator<Item = (CallRef, &Call)> {
        let (agent, step) = (self.id, self.steps);
        self.calls.iter().zip(0..).map(move |(call, index)| (CallRef { agent, step, index }, call))
    }

    /// Whether it does something itself, rather than wait for agents below it.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        match self.phase {
            AgentPhase::Preparing | AgentPhase::Thinking | AgentPhase::Collecting { .. } => true,
            AgentPhase::Finished { .. } => false,
            AgentPhase::Acting => {
                !self.calls.iter().any(|call| matches!(call.phase, CallPhase::Queued | CallPhase::Delegated { .. }))
            }
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, AgentPhase::Finished { .. })
    }

    /// Its sandbox, if it has one.
    #[must_use]
    pub fn sandbox(&self) -> Option<&SandboxIdentity> {
        self.workspace.sandbox.as_ref()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum AgentPhase {
    /// Its workspace is being made.
    Preparing,
    /// The model is asked.
    Thinking,
    /// Its calls are carried out, one after the other; delegations that follow each other at the same time.
    Acting,
    /// It is over; its commits are fetched.
    Collecting {
        outcome: Outcome,
        text: String,
    },
    Finished {
        outcome: Outcome,
        text: String,
    },
}

/// A tool call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The name that the model's history has for it.
    pub model_id: String,
    pub tool: String,
    /// Checked arguments; what the model wrote, as a string, when they are bad.
    pub input: Value,
    pub decision: Option<Decision>,
    pub phase: CallPhase,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum CallPhase {
    /// An earlier call of the same answer is not done.
    Waiting,
    /// Policy is to be asked.
    Gating,
    /// Policy wants a person to say yes; the question is not yet put.
    ApprovalWanted,
    AwaitingApproval {
        approval_id: String,
        requested_at_ms: u64,
        expires_at_ms: u64,
    },
    /// It may run, and has not been claimed.
    Allowed,
    /// It may be running, or have run.
    Claimed {
        claim: Claim,
        at_ms: u64,
    },
    /// An agent is to work on it once fewer are at work.
    Queued,
    /// An agent works on it.
    Delegated {
        child: u32,
    },
    Done {
        result: ToolResult,
    },
}

impl Call {
    pub(crate) fn new(model_id: String, tool: String, input: Value) -> Self {
        Self { model_id, tool, input, decision: None, phase: CallPhase::Waiting }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.phase, CallPhase::Done { .. })
    }

    pub(crate) fn finish(&mut self, status: ToolStatus, text: impl Into<String>) {
        let result = ToolResult { status, text: text.into(), exit_code: None, full_sha256: None, duration_ms: 0 };
        self.phase = CallPhase::Done { result };
    }
}

/// What an agent and its model have said to each other, as it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub messages: Vec<Message>,
    /// Messages before this index are in short form. Moves rarely, so that a provider's prompt cache holds.
    pub shortened: usize,
    /// Messages after the first that are gone; a mark stands in their place.
    pub left_out: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "role")]
pub enum Message {
    User { text: String },
    Assistant { text: String, calls: Vec<RawCall> },
    Tool { call_id: String, tool: String, text: String },
}

/// Counters that end what leads nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guards {
    /// Digests of the newest calls with their results.
    pub recent: VecDeque<u64>,
    /// Answers in a row without a usable call or a text.
    pub unusable_answers: u32,
    /// Steps in a row that led to nothing new.
    pub barren_steps: u32,
    /// Answers in a row with more calls than are taken.
    pub storms: u32,
    /// Answers in a row that were too long.
    pub oversized_answers: u32,
}

/// A call that a person allowed for the rest of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    pub agent: String,
    pub tool: String,
    pub input_digest: String,
}

/// An entry of the run's task list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanItem {
    /// Counted from 1.
    pub id: u32,
    pub title: String,
    pub detail: Option<String>,
    pub agent: Option<String>,
    pub status: PlanStatus,
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

impl PlanStatus {
    /// The status by its name in a call.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "pending" => Some(Self::Pending),
            "in_progress" => Some(Self::InProgress),
            "done" => Some(Self::Done),
            "failed" => Some(Self::Failed),
            _ => None,
        }
    }

    /// Its name in a call.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}
