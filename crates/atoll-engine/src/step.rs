//! The state machine: one event in, the new state and what it newly wants out.
//!
//! An event that does not fit the state (it comes too late, or twice, or from nowhere) changes nothing.

mod answer;
mod attention;
mod clocks;
mod ending;
mod fan;
mod guards;
mod internal;
mod spending;

use std::collections::BTreeSet;

use crate::budget::{Budget, Ledger};
use crate::config::RunConfig;
use crate::context;
use crate::event::{
    ApprovalAnswer, CallRef, Decision, Effect, Event, OutcomeName, ToolResult, ToolStatus, Verdict, Workspace,
};
use crate::state::{AgentPhase, AgentState, Call, CallPhase, Guards, History, Message, Remembered, RunPhase, RunState};
use crate::{Outcome, bounded::bounded, prompt, tools};

pub use clocks::{due, next_due};

/// How many calls a run remembers that a person allowed for all of it.
const REMEMBERED_MAX: usize = 256;
/// The longest message that is not a tool's result.
const NEW_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// A new run, and what it wants first.
///
/// # Panics
/// If `config.root_agent` is not among `config.agents`; whoever accepts a task checks that.
#[must_use]
pub fn start(config: RunConfig, now_ms: u64) -> (RunState, Vec<Effect>) {
    assert!(config.profile(&config.root_agent).is_some(), "the root agent has a profile");
    let mut root = new_agent(0, config.root_agent.clone(), None, 0, config.task.clone(), now_ms);
    root.ledger = Ledger::new(run_budget(&config));
    let state = RunState {
        phase: RunPhase::Running,
        agents: vec![root],
        plan: Vec::new(),
        head: None,
        steps: 0,
        usage: crate::Usage::default(),
        created_at_ms: now_ms,
        deadline_ms: now_ms.saturating_add(config.limits.run_wall_ms_max),
        stopped_at_ms: None,
        paused: false,
        remembered: Vec::new(),
        finished_at_ms: None,
        last_at_ms: now_ms,
        config,
    };
    let effects = outstanding(&state);
    (state, effects)
}

/// What the whole run may spend: the limits of runs, and those of the root agent.
fn run_budget(config: &RunConfig) -> Budget {
    let limits = &config.limits;
    let of_run = Budget {
        steps: Some(limits.run_steps_max),
        tokens: Some(limits.run_tokens_max),
        microusd: limits.run_microusd_max,
    };
    config.profile(&config.root_agent).map_or(of_run, |profile| of_run.narrowed(profile.budget))
}

/// Applies an event. The effects are those that the event makes wanted; [`outstanding`] has all of them.
#[must_use]
pub fn step(mut state: RunState, event: &Event, now_ms: u64) -> (RunState, Vec<Effect>) {
    let effects = step_in_place(&mut state, event, now_ms);
    (state, effects)
}

/// [`step`] for a state that is kept where it is.
pub fn step_in_place(state: &mut RunState, event: &Event, now_ms: u64) -> Vec<Effect> {
    let before: BTreeSet<Effect> = outstanding(state).into_iter().collect();
    retrace(state, event, now_ms);
    outstanding(state).into_iter().filter(|effect| !before.contains(effect)).collect()
}

/// [`step_in_place`] for an event of the past: what it made wanted then is of no interest any more.
pub fn retrace(state: &mut RunState, event: &Event, now_ms: u64) {
    apply(state, event, now_ms);
    fan::start_queued(state, now_ms);
    clocks::tend(state, now_ms);
    state.last_at_ms = state.last_at_ms.max(now_ms);
}

/// The state that a journal leads to; `None` if it is empty or does not begin with `Submitted`.
pub fn replay<'a>(events: impl IntoIterator<Item = (&'a Event, u64)>) -> Option<RunState> {
    let mut events = events.into_iter();
    let (Event::Submitted { config }, at_ms) = events.next()? else { return None };
    config.profile(&config.root_agent)?;
    let (mut state, _) = start((**config).clone(), at_ms);
    events.for_each(|(event, at_ms)| retrace(&mut state, event, at_ms));
    Some(state)
}

/// Everything that has to be done now, in a fixed order.
#[must_use]
pub fn outstanding(state: &RunState) -> Vec<Effect> {
    match &state.phase {
        RunPhase::Finished { closed: true, .. } => Vec::new(),
        RunPhase::Finished { closed: false, .. } => vec![Effect::Close {}],
        RunPhase::Running => state.agents.iter().flat_map(wanted_by).collect(),
    }
}

fn wanted_by(agent: &AgentState) -> Vec<Effect> {
    if agent.held {
        return Vec::new();
    }
    match agent.phase {
        AgentPhase::Preparing => vec![Effect::Prepare { agent: agent.id }],
        AgentPhase::Thinking => vec![Effect::CallModel { agent: agent.id, step: agent.steps + 1 }],
        AgentPhase::Collecting { .. } => vec![Effect::Collect { agent: agent.id }],
        AgentPhase::Finished { .. } => Vec::new(),
        AgentPhase::Acting => {
            use CallPhase::{Allowed, ApprovalWanted, Claimed, Gating};
            let moves = |call: &Call| matches!(call.phase, Gating | ApprovalWanted | Allowed | Claimed { .. });
            agent.call_refs().filter(|(_, call)| moves(call)).map(|(call, _)| Effect::Act { call }).collect()
        }
    }
}

fn apply(state: &mut RunState, event: &Event, now_ms: u64) {
    if state.phase != RunPhase::Running {
        if let (Event::Closed {}, RunPhase::Finished { closed, .. }) = (event, &mut state.phase) {
            *closed = true;
        }
        return;
    }
    match event {
        // A run is submitted once, and closes only after it finished.
        Event::Submitted { .. } | Event::Closed {} => {}
        Event::Prepared { agent, workspace } => prepared(state, *agent, workspace, now_ms),
        Event::WorkspaceRenewed { agent, workspace, note } => renewed(state, *agent, workspace, note),
        Event::PrepareFailed { agent, outcome } => {
            if in_phase(state, *agent, |phase| *phase == AgentPhase::Preparing) {
                ending::finish_agent(state, *agent, outcome.clone(), String::new(), now_ms);
            }
        }
        Event::ModelAnswered { agent, step, answer } => {
            if thinks(state, *agent, *step) {
                answer::take(state, *agent, answer, now_ms);
            }
        }
        Event::ModelFailed { agent, step, outcome } => {
            if thinks(state, *agent, *step) {
                spending::release(state, *agent);
                ending::end_agent(state, *agent, outcome.clone(), String::new(), now_ms);
            }
        }
        Event::Decided { call, decision } => decided(state, *call, decision, now_ms),
        Event::ApprovalRequested { call, approval_id, expires_at_ms } => {
            if let Some(waiting) = call_mut(state, *call).filter(|waiting| waiting.phase == CallPhase::ApprovalWanted) {
                let (approval_id, expires_at_ms) = (approval_id.clone(), *expires_at_ms);
                waiting.phase = CallPhase::AwaitingApproval { approval_id, requested_at_ms: now_ms, expires_at_ms };
            }
        }
        Event::ApprovalAnswered { call, approval_id, answer, .. } => {
            answered(state, *call, approval_id, answer, now_ms);
        }
        Event::Claimed { call, claim } => {
            if let Some(allowed) = call_mut(state, *call).filter(|allowed| allowed.phase == CallPhase::Allowed) {
                allowed.phase = CallPhase::Claimed { claim: claim.clone(), at_ms: now_ms };
            }
        }
        Event::Completed { call, result } => completed(state, *call, result, now_ms),
        Event::Collected { agent, work } => ending::collected(state, *agent, work.as_ref(), now_ms),
        Event::CollectFailed { agent, outcome } => ending::collect_failed(state, *agent, outcome, now_ms),
        Event::AgentTimedOut { agent } => {
            if in_phase(state, *agent, |phase| matches!(phase, AgentPhase::Thinking | AgentPhase::Acting)) {
                let profile = state.profile(&state.agents[*agent as usize]);
                let seconds = state.config.limits.agent_wall_ms(profile) / 1000;
                let outcome = Outcome::new(OutcomeName::TimeLimit, format!("the agent's {seconds} s were over"));
                ending::end_agent(state, *agent, outcome, String::new(), now_ms);
            }
        }
        Event::RunTimedOut {} => {
            let seconds = state.config.limits.run_wall_ms_max / 1000;
            let outcome = Outcome::new(OutcomeName::TimeLimit, format!("the run's {seconds} s were over"));
            ending::finish_run(state, outcome, now_ms);
        }
        Event::CancelRequested { reason, by } => {
            let message = reason.clone().unwrap_or_else(|| format!("cancelled by {by}"));
            ending::finish_run(state, Outcome::new(OutcomeName::Cancelled, message), now_ms);
        }
        Event::Paused { .. } => state.paused = true,
        Event::Unpaused { .. } => attention::unpause(state),
        Event::Told { agent, text, by } => attention::hear(state, *agent, text, by),
        Event::Failed { outcome } => ending::finish_run(state, outcome.clone(), now_ms),
        Event::Resumed {} => clocks::skip_stop(state, now_ms),
    }
}

fn new_agent(id: u32, name: String, parent: Option<CallRef>, depth: u32, task: String, now_ms: u64) -> AgentState {
    AgentState {
        id,
        name,
        parent,
        depth,
        task,
        phase: AgentPhase::Preparing,
        workspace: Workspace::default(),
        notices: Vec::new(),
        inbox: Vec::new(),
        held: false,
        history: History::default(),
        calls: Vec::new(),
        steps: 0,
        tool_calls: 0,
        usage: crate::Usage::default(),
        microusd: 0,
        ledger: Ledger::default(),
        reservation: None,
        delegations: 0,
        guards: Guards::default(),
        started_at_ms: now_ms,
        deadline_ms: None,
        stopped_at_ms: None,
        finished_at_ms: None,
        work: None,
    }
}

fn agent_mut(state: &mut RunState, id: u32) -> Option<&mut AgentState> {
    state.agents.get_mut(id as usize)
}

/// A call of an acting agent's current answer.
fn call_mut(state: &mut RunState, call: CallRef) -> Option<&mut Call> {
    let agent = agent_mut(state, call.agent)?;
    if agent.phase != AgentPhase::Acting || agent.steps != call.step {
        return None;
    }
    agent.calls.get_mut(call.index as usize)
}

fn in_phase(state: &RunState, id: u32, wanted: impl Fn(&AgentPhase) -> bool) -> bool {
    state.agent(id).is_some_and(|agent| wanted(&agent.phase))
}

fn thinks(state: &RunState, id: u32, step: u64) -> bool {
    state.agent(id).is_some_and(|agent| agent.phase == AgentPhase::Thinking && agent.steps + 1 == step)
}

fn prepared(state: &mut RunState, id: u32, workspace: &Workspace, now_ms: u64) {
    if !in_phase(state, id, |phase| *phase == AgentPhase::Preparing) {
        return;
    }
    let wall_ms = state.config.limits.agent_wall_ms(state.profile(&state.agents[id as usize]));
    let Some(agent) = agent_mut(state, id) else { return };
    agent.workspace = workspace.clone();
    agent.deadline_ms = Some(now_ms.saturating_add(wall_ms));
    let agent = &state.agents[id as usize];
    let text = prompt::task(&state.config, agent);
    let agent = &mut state.agents[id as usize];
    agent.history.messages.push(Message::User { text: bounded(&text, NEW_MESSAGE_BYTES_MAX, "").text });
    think(state, id, now_ms);
}

/// The agent's sandbox started anew under it: it must know, because files may be gone.
fn renewed(state: &mut RunState, id: u32, workspace: &Workspace, note: &str) {
    if !in_phase(state, id, |phase| matches!(phase, AgentPhase::Thinking | AgentPhase::Acting)) {
        return;
    }
    let Some(agent) = agent_mut(state, id) else { return };
    agent.workspace = workspace.clone();
    attention::note(agent, bounded(note, NEW_MESSAGE_BYTES_MAX, "").text);
}

fn decided(state: &mut RunState, reference: CallRef, decision: &Decision, now_ms: u64) {
    let known = state.call(reference).zip(state.agent(reference.agent)).is_some_and(|(call, agent)| {
        decision.verdict == Verdict::RequireApproval && state.remembers(&agent.name, &call.tool, &decision.input_digest)
    });
    let Some(call) = call_mut(state, reference).filter(|call| call.phase == CallPhase::Gating) else { return };
    call.decision = Some(decision.clone());
    match decision.verdict {
        Verdict::RequireApproval if known => allow(state, reference, now_ms),
        Verdict::RequireApproval => call.phase = CallPhase::ApprovalWanted,
        Verdict::Allow => allow(state, reference, now_ms),
        Verdict::Deny => {
            let hint = decision.hint.as_deref().map(|hint| format!(" {hint}.")).unwrap_or_default();
            let rules = decision.rule_ids.join(", ");
            call.finish(ToolStatus::Denied, format!("Denied by policy: {} [{rules}]{hint}", decision.reason));
            advance(state, reference.agent, now_ms);
        }
    }
}

fn answered(state: &mut RunState, reference: CallRef, id: &str, answer: &ApprovalAnswer, now_ms: u64) {
    let Some(call) = call_mut(state, reference) else { return };
    let CallPhase::AwaitingApproval { approval_id, .. } = &call.phase else { return };
    if approval_id != id {
        return;
    }
    let (status, text) = match answer {
        ApprovalAnswer::Granted { remember } => {
            if *remember {
                remember_call(state, reference);
            }
            allow(state, reference, now_ms);
            return attention::hold_if_paused(state, reference.agent);
        }
        ApprovalAnswer::Denied { reason } => {
            let why = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            (ToolStatus::Denied, format!("A person was asked and said no{why}. Do not try it again."))
        }
        ApprovalAnswer::Expired => {
            let text = "A person had to approve this, and nobody answered in time. It was not done.";
            (ToolStatus::ApprovalExpired, text.to_owned())
        }
    };
    call.finish(status, text);
    advance(state, reference.agent, now_ms);
}

/// Notes that this very call needs no further yes. When too much is noted already, people are asked again.
fn remember_call(state: &mut RunState, reference: CallRef) {
    let Some((agent, call)) = state.agent(reference.agent).zip(state.call(reference)) else { return };
    let Some(decision) = &call.decision else { return };
    let known =
        Remembered { agent: agent.name.clone(), tool: call.tool.clone(), input_digest: decision.input_digest.clone() };
    if state.remembered.len() < REMEMBERED_MAX {
        state.remembered.push(known);
    }
}

fn allow(state: &mut RunState, reference: CallRef, now_ms: u64) {
    let Some(call) = call_mut(state, reference) else { return };
    call.phase = CallPhase::Allowed;
    if tools::INTERNAL.contains(&call.tool.as_str()) {
        internal::carry_out(state, reference, now_ms);
    }
}

fn completed(state: &mut RunState, reference: CallRef, result: &ToolResult, now_ms: u64) {
    let limit = state.config.limits.tool_result_bytes_max;
    let Some(call) = call_mut(state, reference) else { return };
    // A call can fail before it is claimed: the file is not there, the passage does not occur.
    if !matches!(call.phase, CallPhase::Claimed { .. } | CallPhase::Allowed) {
        return;
    }
    let mut result = result.clone();
    result.text = bounded_result(&result.text, limit);
    call.phase = CallPhase::Done { result };
    advance(state, reference.agent, now_ms);
}

/// Whoever completes a call cuts its text well and says how to get the rest; this is the backstop.
fn bounded_result(text: &str, limit: usize) -> String {
    let marks_room = limit / 8;
    if text.len() <= limit + marks_room { text.to_owned() } else { bounded(text, limit, "").text }
}

/// Starts the next call of an acting agent; when all are done, tells the model and asks it again.
fn advance(state: &mut RunState, id: u32, now_ms: u64) {
    let Some(agent) = agent_mut(state, id).filter(|agent| agent.phase == AgentPhase::Acting) else { return };
    if agent.calls.iter().any(|call| !call.is_done()) {
        if fan::begin_next(&mut agent.calls) {
            attention::hold_if_paused(state, id);
        }
        return;
    }
    let calls_max = state.config.limits.agent_calls_max;
    let Some(agent) = agent_mut(state, id) else { return };
    match guards::take_results(agent, calls_max) {
        Some(outcome) => ending::end_agent(state, id, outcome, String::new(), now_ms),
        None => think(state, id, now_ms),
    }
}

/// Asks the model, unless a cap says that enough was asked.
fn think(state: &mut RunState, id: u32, now_ms: u64) {
    let steps_max = state.config.limits.agent_steps_max;
    let context_bytes_max = state.config.limits.context_bytes_max;
    let Some(agent) = agent_mut(state, id) else { return };
    if agent.steps >= steps_max {
        let outcome = Outcome::new(OutcomeName::StepLimit, format!("the agent used its {steps_max} model calls"));
        return ending::end_agent(state, id, outcome, String::new(), now_ms);
    }
    attention::deliver(agent);
    context::compact(&mut agent.history, context_bytes_max);
    if let Err(exhausted) = spending::reserve(state, id) {
        return spending::end_exhausted(state, exhausted, now_ms);
    }
    state.agents[id as usize].phase = AgentPhase::Thinking;
    attention::hold_if_paused(state, id);
}

#[cfg(test)]
mod tests;
