//! What there is to tell when an event was applied: what the event says, and what the state made of it.

use std::collections::{BTreeMap, BTreeSet};

use atoll_api::v1::{self, RunEvent, RunEventKind};
use atoll_engine::{
    AgentPhase, Answer, ApprovalAnswer, Call, CallPhase, CallRef, Event, PlanItem, RunPhase, RunState, tools,
};
use serde_json::Value;

use super::{agent_ref, approval, final_text, outcome, parent, plan_item, result, status, usage, verdict};

/// One journal entry has fewer things to tell than this.
const EVENTS_PER_ENTRY: u64 = 1000;

/// The number of the `index`-th event that a journal entry tells.
pub(crate) fn seq_of(journal_seq: u64, index: u64) -> u64 {
    journal_seq * EVENTS_PER_ENTRY + index.min(EVENTS_PER_ENTRY - 1)
}

/// What has been told of a state, to tell what is new after an event.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    agents: usize,
    finished: BTreeSet<u32>,
    pub(crate) done: BTreeSet<CallRef>,
    pub(crate) delegated: BTreeMap<CallRef, u32>,
    waiting: BTreeMap<String, v1::Approval>,
    plan: Vec<PlanItem>,
    over: bool,
    warned: BTreeSet<u32>,
}

impl Marks {
    /// Whether the agent was over before the event.
    pub(crate) fn had_finished(&self, agent: u32) -> bool {
        self.finished.contains(&agent)
    }

    /// Questions that were open before the event.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &v1::Approval> {
        self.waiting.values()
    }
}

pub(crate) fn marks(state: &RunState) -> Marks {
    let calls = || state.agents.iter().flat_map(|agent| agent.call_refs());
    let delegated = |(reference, call): (CallRef, &Call)| match call.phase {
        CallPhase::Delegated { child } => Some((reference, child)),
        _ => None,
    };
    let waiting = state.pending_approvals().filter_map(|(call, id)| Some((id.to_owned(), approval(state, call)?)));
    Marks {
        agents: state.agents.len(),
        finished: state.agents.iter().filter(|agent| agent.is_finished()).map(|agent| agent.id).collect(),
        done: calls().filter(|(_, call)| call.is_done()).map(|(reference, _)| reference).collect(),
        delegated: calls().filter_map(delegated).collect(),
        waiting: waiting.collect(),
        plan: state.plan.clone(),
        over: state.outcome().is_some(),
        warned: state.agents.iter().filter(|agent| agent.ledger.warned).map(|agent| agent.id).collect(),
    }
}

/// The events to tell, in their order.
pub(crate) fn events(before: &Marks, event: &Event, state: &RunState, journal_seq: u64, at_ms: u64) -> Vec<RunEvent> {
    let mut told: Vec<RunEventKind> = said(before, event, state).into_iter().collect();
    told.extend(ended(before, state));
    let warned = |agent: &&atoll_engine::AgentState| agent.ledger.warned && !before.warned.contains(&agent.id);
    told.extend(state.agents.iter().filter(warned).map(|agent| RunEventKind::BudgetLow { agent: agent_ref(agent) }));
    if state.plan != before.plan {
        told.push(RunEventKind::PlanChanged { plan: state.plan.iter().map(plan_item).collect() });
    }
    told.extend(state.agents.iter().skip(before.agents).map(|agent| RunEventKind::AgentStarted {
        agent: agent_ref(agent),
        parent: parent(state, agent),
        task: agent.task.clone(),
        sandboxed: state.profile(agent).sandboxed,
    }));
    if let (RunPhase::Finished { outcome: ended, .. }, false) = (&state.phase, before.over) {
        told.push(RunEventKind::RunFinished {
            outcome: outcome(ended),
            usage: usage(state.usage),
            final_text: final_text(state),
            result: state.head.as_ref().map(result),
        });
    }
    let number = |(event, index)| RunEvent { seq: Some(seq_of(journal_seq, index)), at_ms, event };
    told.into_iter().zip(0..).map(number).collect()
}

/// What the event itself says.
fn said(before: &Marks, event: &Event, state: &RunState) -> Option<RunEventKind> {
    match event {
        Event::Submitted { config } => Some(RunEventKind::RunStarted {
            run_id: config.run_id.clone(),
            task: config.task.clone(),
            root_agent: config.root_agent.clone(),
            model: config.model.clone(),
        }),
        Event::Resumed {} => Some(RunEventKind::RunResumed {}),
        Event::Prepared { agent, workspace } | Event::WorkspaceRenewed { agent, workspace, .. } => {
            let sandbox = workspace.sandbox.as_ref()?.name.clone();
            let (branch, commit) = (workspace.branch.clone(), workspace.commit.clone());
            Some(RunEventKind::SandboxReady { agent: agent_ref(state.agent(*agent)?), sandbox, branch, commit })
        }
        Event::ModelAnswered { agent, step, answer } => model_answered(state, *agent, *step, answer),
        Event::ModelFailed { agent, outcome, .. } => Some(RunEventKind::ModelFailed {
            agent: agent_ref(state.agent(*agent)?),
            message: outcome.message.clone(),
            hint: outcome.hint.clone(),
        }),
        Event::Decided { call, decision } => {
            let decided = state.call(*call)?;
            Some(RunEventKind::ToolDecided {
                agent: agent_ref(state.agent(call.agent)?),
                call_id: call.to_string(),
                tool: decided.tool.clone(),
                summary: summary(decided),
                verdict: verdict(decision.verdict),
                rule_ids: decision.rule_ids.clone(),
                reason: decision.reason.clone(),
                hint: decision.hint.clone(),
                effects: decision.effects.clone(),
            })
        }
        Event::ApprovalRequested { call, .. } => {
            approval(state, *call).map(|approval| RunEventKind::ApprovalRequested { approval })
        }
        Event::ApprovalAnswered { approval_id, answer, by, .. } => {
            let approval = before.waiting.get(approval_id)?;
            let approval = answered(approval.clone(), answer, by, state.last_at_ms);
            Some(RunEventKind::ApprovalAnswered { approval })
        }
        Event::Claimed { call, .. } => {
            let claimed = state.call(*call)?;
            Some(RunEventKind::ToolStarted {
                agent: agent_ref(state.agent(call.agent)?),
                call_id: call.to_string(),
                tool: claimed.tool.clone(),
                summary: summary(claimed),
            })
        }
        Event::Collected { agent, work: Some(work) } => {
            Some(RunEventKind::WorkCollected { agent: agent_ref(state.agent(*agent)?), result: result(work) })
        }
        Event::CancelRequested { reason, .. } => Some(RunEventKind::CancelRequested { reason: reason.clone() }),
        Event::Paused { by } => Some(RunEventKind::RunPaused { by: by.clone() }),
        Event::Unpaused { by } => Some(RunEventKind::RunUnpaused { by: by.clone() }),
        Event::Told { agent, text, by } => {
            let agent = agent_ref(state.agent(*agent)?);
            Some(RunEventKind::MessageReceived { agent, text: text.clone(), by: by.clone() })
        }
        Event::PrepareFailed { .. }
        | Event::Completed { .. }
        | Event::Collected { work: None, .. }
        | Event::CollectFailed { .. }
        | Event::AgentTimedOut { .. }
        | Event::RunTimedOut {}
        | Event::Failed { .. }
        | Event::Closed {} => None,
    }
}

fn model_answered(state: &RunState, agent: u32, step: u64, answer: &Answer) -> Option<RunEventKind> {
    let call = |(call, index): (&atoll_engine::RawCall, u32)| {
        let input: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| call.arguments.clone().into());
        v1::ToolCallView {
            call_id: CallRef { agent, step, index }.to_string(),
            tool: call.tool.clone(),
            summary: tools::summary(&call.tool, &input),
            input,
        }
    };
    Some(RunEventKind::ModelAnswered {
        agent: agent_ref(state.agent(agent)?),
        step,
        text: answer.text.clone(),
        tool_calls: answer.calls.iter().zip(0..).map(call).collect(),
        model: answer.model.clone(),
        finish_reason: answer.finish_reason.clone(),
        usage: usage(answer.usage),
        duration_ms: answer.duration_ms,
    })
}

/// An approval with its answer.
pub(crate) fn answered(mut approval: v1::Approval, answer: &ApprovalAnswer, by: &str, at_ms: u64) -> v1::Approval {
    (approval.state, approval.decision_reason) = match answer {
        ApprovalAnswer::Granted { .. } => (v1::ApprovalState::Granted, None),
        ApprovalAnswer::Denied { reason } => (v1::ApprovalState::Denied, reason.clone()),
        ApprovalAnswer::Expired => (v1::ApprovalState::Expired, None),
    };
    approval.decided_at_ms = Some(at_ms);
    approval.decided_by = Some(by.to_owned());
    approval
}

/// Calls and agents that are over with this event, each once. Children come before those who waited for them, and an
/// agent's calls before its own end.
fn ended(before: &Marks, state: &RunState) -> Vec<RunEventKind> {
    let mut told = Vec::new();
    for agent in state.agents.iter().rev() {
        for (reference, call) in agent.call_refs().filter(|(reference, _)| !before.done.contains(reference)) {
            let CallPhase::Done { result } = &call.phase else { continue };
            told.push(RunEventKind::ToolFinished {
                agent: agent_ref(agent),
                call_id: reference.to_string(),
                tool: call.tool.clone(),
                summary: summary(call),
                status: status(result.status),
                text: result.text.clone(),
                exit_code: result.exit_code,
                duration_ms: result.duration_ms,
            });
        }
        let AgentPhase::Finished { outcome: ended, text } = &agent.phase else { continue };
        if !before.finished.contains(&agent.id) {
            told.push(RunEventKind::AgentFinished {
                agent: agent_ref(agent),
                outcome: outcome(ended),
                text: text.clone(),
                usage: usage(agent.usage),
            });
        }
    }
    told
}

fn summary(call: &Call) -> String {
    tools::summary(&call.tool, &call.input)
}
