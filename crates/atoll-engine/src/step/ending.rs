//! How agents and runs end.

use super::{advance, agent_mut, spending};
use crate::bounded::bounded;
use crate::event::{CallRef, Outcome, OutcomeName, ToolStatus, Work};
use crate::state::{AgentPhase, AgentState, CallPhase, RunPhase, RunState};

/// Ends an agent that was at work: stops what it does, then has its commits fetched if it could make any.
pub(super) fn end_agent(state: &mut RunState, id: u32, outcome: Outcome, text: String, now_ms: u64) {
    stop_children(state, id, &outcome, now_ms);
    spending::release(state, id);
    if is_fatal(outcome.name) {
        return finish_agent(state, id, outcome, text, now_ms);
    }
    let Some(agent) = state.agent(id) else { return };
    let collects = agent.sandbox().is_some() && !state.profile(agent).read_only;
    let Some(agent) = agent_mut(state, id) else { return };
    cancel_calls(agent);
    agent.held = false;
    if collects {
        agent.phase = AgentPhase::Collecting { outcome, text };
    } else {
        finish_agent(state, id, outcome, text, now_ms);
    }
}

/// Outcomes that another agent can do nothing about: they end the run.
fn is_fatal(name: OutcomeName) -> bool {
    matches!(
        name,
        OutcomeName::ModelUnreachable
            | OutcomeName::SandboxUnavailable
            | OutcomeName::Internal
            | OutcomeName::Cancelled
    )
}

/// Agents do not outlive the one that waits for them.
fn stop_children(state: &mut RunState, id: u32, outcome: &Outcome, now_ms: u64) {
    let children: Vec<u32> = state
        .agents
        .iter()
        .filter(|agent| agent.parent.is_some_and(|parent| parent.agent == id) && !agent.is_finished())
        .map(|agent| agent.id)
        .collect();
    for child in children {
        stop_children(state, child, outcome, now_ms);
        spending::release(state, child);
        if let Some(child) = agent_mut(state, child) {
            let stopped = Outcome::new(outcome.name, "the agent that waited for it ended");
            stop(child, stopped, now_ms);
        }
    }
}

fn stop(agent: &mut AgentState, outcome: Outcome, now_ms: u64) {
    cancel_calls(agent);
    agent.phase = AgentPhase::Finished { outcome, text: String::new() };
    agent.finished_at_ms = Some(now_ms);
}

fn cancel_calls(agent: &mut AgentState) {
    for call in agent.calls.iter_mut().filter(|call| !call.is_done()) {
        let text = match call.phase {
            CallPhase::Claimed { .. } => "Stopped while it ran; it may have had a part of its effect.",
            _ => "Stopped before it ran.",
        };
        call.finish(ToolStatus::Cancelled, text);
    }
}

/// Closes an agent's story and hands it to whoever waits for it.
pub(super) fn finish_agent(state: &mut RunState, id: u32, outcome: Outcome, text: String, now_ms: u64) {
    spending::release(state, id);
    let Some(agent) = agent_mut(state, id) else { return };
    stop(agent, outcome.clone(), now_ms);
    agent.phase = AgentPhase::Finished { outcome: outcome.clone(), text };
    let parent = agent.parent;
    match parent {
        Some(call) if !is_fatal(outcome.name) => report(state, call, id, now_ms),
        _ => finish_run(state, outcome, now_ms),
    }
}

/// Ends the run: everything that is not over is cancelled.
pub(super) fn finish_run(state: &mut RunState, outcome: Outcome, now_ms: u64) {
    for id in 0..state.agents.len() as u32 {
        spending::release(state, id);
        if let Some(agent) = agent_mut(state, id).filter(|agent| !agent.is_finished()) {
            stop(agent, outcome.clone(), now_ms);
        }
    }
    state.phase = RunPhase::Finished { outcome, closed: false };
    state.finished_at_ms = Some(now_ms);
}

/// The child's last words become the result of the call that started it.
fn report(state: &mut RunState, reference: CallRef, child: u32, now_ms: u64) {
    let limit = state.config.limits.tool_result_bytes_max;
    let Some(agent) = state.agent(child) else { return };
    let AgentPhase::Finished { outcome, text } = &agent.phase else { return };
    let completed = outcome.name == OutcomeName::Completed;
    let took_ms = now_ms.saturating_sub(agent.started_at_ms);
    let mut said =
        if completed { String::new() } else { format!("{} did not finish: {}.\n", agent.name, outcome.message) };
    said.push_str(&bounded(text, limit, "ask the agent for a shorter report").text);
    match &agent.work {
        Some(work) => said.push_str(&work_line(work)),
        None if agent.sandbox().is_some() && !state.profile(agent).read_only => {
            said.push_str("\n\n[It changed nothing in the repository.]");
        }
        None => {}
    }
    let Some(call) = super::call_mut(state, reference) else { return };
    if !matches!(call.phase, CallPhase::Delegated { child: waited_for } if waited_for == child) {
        return;
    }
    call.finish(if completed { ToolStatus::Ok } else { ToolStatus::Failed }, said);
    if let CallPhase::Done { result } = &mut call.phase {
        result.duration_ms = took_ms;
    }
    advance(state, reference.agent, now_ms);
}

fn work_line(work: &Work) -> String {
    let short = work.commit.get(..12).unwrap_or(&work.commit);
    let mut line = format!(
        "\n\n[The run's work so far: branch {} at {short}, {} commits, {} files changed, +{} -{} lines.]",
        work.branch, work.commits, work.files_changed, work.insertions, work.deletions
    );
    if let Some(side) = &work.side_branch {
        line.push_str(&format!(
            "\n[Its work does not go together with that of another agent and is not in there: it is on branch {side}. \
             Conflicts: {}. Have an agent merge refs/heads/{side}.]",
            work.conflicts.join(", ")
        ));
    }
    line
}

/// An agent's commits are out of its sandbox.
pub(super) fn collected(state: &mut RunState, id: u32, work: Option<&Work>, now_ms: u64) {
    let Some(agent) = agent_mut(state, id) else { return };
    let AgentPhase::Collecting { outcome, text } = agent.phase.clone() else { return };
    agent.work = work.cloned();
    if let Some(work) = work {
        state.head = Some(work.clone());
    }
    finish_agent(state, id, outcome, text, now_ms);
}

/// An agent's commits could not be fetched, or were not acceptable.
pub(super) fn collect_failed(state: &mut RunState, id: u32, failure: &Outcome, now_ms: u64) {
    let Some(agent) = state.agent(id) else { return };
    if let AgentPhase::Collecting { text, .. } = agent.phase.clone() {
        finish_agent(state, id, failure.clone(), text, now_ms);
    }
}
