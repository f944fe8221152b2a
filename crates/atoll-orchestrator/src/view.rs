//! A run as people see it: the engine's state and events in the words of `/v1`.

mod events;

use atoll_api::v1;
use atoll_engine::{
    AgentPhase, AgentState, CallPhase, CallRef, Event, Outcome, OutcomeName, PlanItem, PlanStatus, Resource, RunPhase,
    RunState, ToolStatus, Usage, Verdict, Work, step,
};
use atoll_store::JournalEntry;
use serde::{Deserialize, Serialize};

pub(crate) use events::{Marks, answered, events, marks};

/// The body of a journal entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Logged {
    pub(crate) at_ms: u64,
    pub(crate) data: Event,
}

impl Logged {
    pub(crate) fn entry(&self, seq: u64) -> JournalEntry {
        let body = serde_json::to_value(self).expect("events are JSON");
        JournalEntry { seq, kind: self.data.kind().to_owned(), body }
    }
}

/// A journal can not be made sense of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("entry {seq} of run {run_id} is not readable")]
    Unreadable {
        run_id: String,
        seq: u64,
        #[source]
        source: serde_json::Error,
    },
    #[error("the journal of run {run_id} does not begin with its submission")]
    NoBeginning { run_id: String },
}

/// A run's journal, read.
pub(crate) fn read(run_id: &str, entries: &[JournalEntry]) -> Result<Vec<Logged>, LogError> {
    let unreadable = |seq| move |source| LogError::Unreadable { run_id: run_id.to_owned(), seq, source };
    entries.iter().map(|entry| Logged::deserialize(&entry.body).map_err(unreadable(entry.seq))).collect()
}

/// The state that a journal leads to, and everything there is to tell of the way.
pub(crate) fn retell(run_id: &str, log: &[Logged]) -> Result<(RunState, Vec<v1::RunEvent>), LogError> {
    let mut told = Vec::new();
    let state = walk(log, 0, |before, logged, state, seq| {
        told.extend(events(before, &logged.data, state, seq, logged.at_ms));
    });
    let state = state.ok_or_else(|| LogError::NoBeginning { run_id: run_id.to_owned() })?;
    Ok((state, told))
}

/// Walks a journal from its beginning, looking at each entry after the first `passed` with what was before and what it has
/// made; returns where it ends. `None` when it does not begin with a submission.
pub(crate) fn walk(
    log: &[Logged],
    passed: usize,
    mut look: impl FnMut(&Marks, &Logged, &RunState, u64),
) -> Option<RunState> {
    let first = log.first()?;
    let Event::Submitted { config } = &first.data else { return None };
    config.profile(&config.root_agent)?;
    let mut state = step::start((**config).clone(), first.at_ms).0;
    if passed == 0 {
        look(&Marks::default(), first, &state, 1);
    }
    for (logged, seq) in log.iter().zip(1..).skip(1) {
        if seq <= passed as u64 {
            step::retrace(&mut state, &logged.data, logged.at_ms);
            continue;
        }
        let before = marks(&state);
        step::retrace(&mut state, &logged.data, logged.at_ms);
        look(&before, logged, &state, seq);
    }
    Some(state)
}

/// One line about a run.
pub(crate) fn summary(state: &RunState) -> v1::RunSummary {
    let pending = state.pending_approvals().count() as u64;
    let status = match (&state.phase, pending) {
        (RunPhase::Finished { .. }, _) => v1::RunStatus::Finished,
        (RunPhase::Running, _) if state.paused => v1::RunStatus::Paused,
        (RunPhase::Running, 0) => v1::RunStatus::Running,
        (RunPhase::Running, _) => v1::RunStatus::WaitingForApproval,
    };
    v1::RunSummary {
        run_id: state.config.run_id.clone(),
        task: state.config.task.clone(),
        status,
        outcome: state.outcome().map(outcome),
        root_agent: state.config.root_agent.clone(),
        model: state.config.model.clone(),
        repo_name: state.config.repo.as_ref().and_then(|repo| repo.name.clone()),
        created_at_ms: state.created_at_ms,
        finished_at_ms: state.finished_at_ms,
        steps: state.steps,
        usage: usage(state.usage),
        microusd: state.agents.iter().map(|agent| agent.microusd).sum(),
        pending_approvals: pending,
        result: state.head.as_ref().map(result),
    }
}

/// Everything about a run but its events.
pub(crate) fn detail(state: &RunState, last_seq: u64) -> v1::RunDetail {
    v1::RunDetail {
        summary: summary(state),
        agents: state.agents.iter().map(|agent| agent_detail(state, agent)).collect(),
        plan: state.plan.iter().map(plan_item).collect(),
        budgets: state.agents.iter().flat_map(budgets).collect(),
        final_text: final_text(state),
        policy_hash: state.config.policy_hash.clone(),
        trace_id: crate::spans::trace_id(&state.config.run_id, 0),
        last_seq: events::seq_of(last_seq, 0),
    }
}

fn agent_detail(state: &RunState, agent: &AgentState) -> v1::AgentDetail {
    v1::AgentDetail {
        agent: agent_ref(agent),
        parent: parent(state, agent),
        task: agent.task.clone(),
        sandbox: agent.sandbox().map(|sandbox| sandbox.name.clone()),
        steps: agent.steps,
        tool_calls: agent.tool_calls,
        usage: usage(agent.usage),
        microusd: agent.microusd,
        model: state.config.model_of(state.profile(agent)).map(str::to_owned),
        started_at_ms: agent.started_at_ms,
        outcome: match &agent.phase {
            AgentPhase::Finished { outcome: ended, .. } => Some(outcome(ended)),
            _ => None,
        },
    }
}

/// What an agent and those below it may spend, where that is limited; the root's is the run's.
fn budgets(agent: &AgentState) -> Vec<v1::BudgetLine> {
    let ledger = &agent.ledger;
    let line = |resource: Resource| {
        let name = match resource {
            Resource::Steps => v1::Resource::Steps,
            Resource::Tokens => v1::Resource::Tokens,
            Resource::Money => v1::Resource::Microusd,
        };
        ledger.cap.of(resource).map(|cap| v1::BudgetLine {
            agent: agent_ref(agent),
            resource: name,
            spent: ledger.spent.of(resource),
            reserved: ledger.reserved.of(resource),
            cap,
        })
    };
    Resource::ALL.into_iter().filter_map(line).collect()
}

fn parent(state: &RunState, agent: &AgentState) -> Option<v1::AgentRef> {
    agent.parent.and_then(|call| state.agent(call.agent)).map(agent_ref)
}

pub(crate) fn agent_ref(agent: &AgentState) -> v1::AgentRef {
    v1::AgentRef { id: agent.id, name: agent.name.clone() }
}

fn final_text(state: &RunState) -> Option<String> {
    match &state.agent(0)?.phase {
        AgentPhase::Finished { text, .. } if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

/// The question that a waiting call puts to a person.
pub(crate) fn approval(state: &RunState, call: CallRef) -> Option<v1::Approval> {
    let waiting = state.call(call)?;
    let CallPhase::AwaitingApproval { approval_id, requested_at_ms, expires_at_ms } = &waiting.phase else {
        return None;
    };
    let decision = waiting.decision.as_ref()?;
    Some(v1::Approval {
        id: approval_id.clone(),
        run_id: state.config.run_id.clone(),
        agent: agent_ref(state.agent(call.agent)?),
        call_id: call.to_string(),
        tool: waiting.tool.clone(),
        summary: atoll_engine::tools::summary(&waiting.tool, &waiting.input),
        input: waiting.input.clone(),
        input_digest: decision.input_digest.clone(),
        effects: decision.effects.clone(),
        reason: decision.reason.clone(),
        state: v1::ApprovalState::Pending,
        created_at_ms: *requested_at_ms,
        expires_at_ms: *expires_at_ms,
        decided_at_ms: None,
        decided_by: None,
        decision_reason: None,
    })
}

pub(crate) fn usage(usage: Usage) -> v1::Usage {
    v1::Usage { input_tokens: usage.input_tokens, output_tokens: usage.output_tokens }
}

pub(crate) fn result(work: &Work) -> v1::RunResult {
    v1::RunResult {
        branch: work.branch.clone(),
        commit: work.commit.clone(),
        base_commit: work.base_commit.clone(),
        commits: work.commits,
        files_changed: work.files_changed,
        insertions: work.insertions,
        deletions: work.deletions,
        conflicts: work.conflicts.clone(),
        side_branch: work.side_branch.clone(),
    }
}

fn plan_item(item: &PlanItem) -> v1::PlanItem {
    v1::PlanItem {
        id: item.id,
        title: item.title.clone(),
        detail: item.detail.clone(),
        agent: item.agent.clone(),
        status: match item.status {
            PlanStatus::Pending => v1::PlanStatus::Pending,
            PlanStatus::InProgress => v1::PlanStatus::InProgress,
            PlanStatus::Done => v1::PlanStatus::Done,
            PlanStatus::Failed => v1::PlanStatus::Failed,
        },
        note: item.note.clone(),
    }
}

pub(crate) fn outcome(outcome: &Outcome) -> v1::Outcome {
    let name = match outcome.name {
        OutcomeName::Completed => v1::OutcomeName::Completed,
        OutcomeName::Cancelled => v1::OutcomeName::Cancelled,
        OutcomeName::ModelUnreachable => v1::OutcomeName::ModelUnreachable,
        OutcomeName::ModelUnusable => v1::OutcomeName::ModelUnusable,
        OutcomeName::ModelRefused => v1::OutcomeName::ModelRefused,
        OutcomeName::StepLimit => v1::OutcomeName::StepLimit,
        OutcomeName::TokenLimit => v1::OutcomeName::TokenLimit,
        OutcomeName::CostLimit => v1::OutcomeName::CostLimit,
        OutcomeName::TimeLimit => v1::OutcomeName::TimeLimit,
        OutcomeName::LoopDetected => v1::OutcomeName::LoopDetected,
        OutcomeName::NoProgress => v1::OutcomeName::NoProgress,
        OutcomeName::ToolStorm => v1::OutcomeName::ToolStorm,
        OutcomeName::OversizedOutput => v1::OutcomeName::OversizedOutput,
        OutcomeName::SandboxUnavailable => v1::OutcomeName::SandboxUnavailable,
        OutcomeName::RepositoryRejected => v1::OutcomeName::RepositoryRejected,
        OutcomeName::Internal => v1::OutcomeName::Internal,
    };
    v1::Outcome { name, message: outcome.message.clone(), hint: outcome.hint.clone() }
}

pub(crate) fn verdict(verdict: Verdict) -> v1::Verdict {
    match verdict {
        Verdict::Allow => v1::Verdict::Allow,
        Verdict::Deny => v1::Verdict::Deny,
        Verdict::RequireApproval => v1::Verdict::RequireApproval,
    }
}

pub(crate) fn status(status: ToolStatus) -> v1::ToolStatus {
    match status {
        ToolStatus::Ok => v1::ToolStatus::Ok,
        ToolStatus::Failed => v1::ToolStatus::Failed,
        ToolStatus::Invalid => v1::ToolStatus::Invalid,
        ToolStatus::Denied => v1::ToolStatus::Denied,
        ToolStatus::ApprovalExpired => v1::ToolStatus::ApprovalExpired,
        ToolStatus::TimedOut => v1::ToolStatus::TimedOut,
        ToolStatus::Cancelled => v1::ToolStatus::Cancelled,
        ToolStatus::OutcomeUnknown => v1::ToolStatus::OutcomeUnknown,
    }
}
