//! Time: what becomes due, and when clocks stand still.
//!
//! An agent's clock stands still while a person is asked about a call of it or of an agent below it; the run's while
//! anyone is asked; all of them while the run is paused or nobody drives it.

use crate::event::{ApprovalAnswer, Event};
use crate::state::{AgentPhase, AgentState, CallPhase, RunPhase, RunState};

/// The events that time alone has made due, to be journalled like any other.
#[must_use]
pub fn due(state: &RunState, now_ms: u64) -> Vec<Event> {
    deadlines(state).into_iter().filter(|(at_ms, _)| *at_ms <= now_ms).map(|(_, event)| event).collect()
}

/// When [`due`] has to be asked again at the latest.
#[must_use]
pub fn next_due(state: &RunState) -> Option<u64> {
    deadlines(state).into_iter().map(|(at_ms, _)| at_ms).min()
}

fn deadlines(state: &RunState) -> Vec<(u64, Event)> {
    if state.phase != RunPhase::Running {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (call, waiting) in state.agents.iter().flat_map(AgentState::call_refs) {
        if let CallPhase::AwaitingApproval { approval_id, expires_at_ms, .. } = &waiting.phase {
            let (approval_id, by) = (approval_id.clone(), "atoll".to_owned());
            let event = Event::ApprovalAnswered { call, approval_id, answer: ApprovalAnswer::Expired, by };
            found.push((*expires_at_ms, event));
        }
    }
    for agent in state.agents.iter().filter(|agent| agent.stopped_at_ms.is_none()) {
        if let (AgentPhase::Thinking | AgentPhase::Acting, Some(at_ms)) = (&agent.phase, agent.deadline_ms) {
            found.push((at_ms, Event::AgentTimedOut { agent: agent.id }));
        }
    }
    if state.stopped_at_ms.is_none() {
        found.push((state.deadline_ms, Event::RunTimedOut {}));
    }
    found
}

/// Stops the clocks that should stand still, and lets the others go on where they stood.
pub(super) fn tend(state: &mut RunState, now_ms: u64) {
    let mut waits = vec![state.paused; state.agents.len()];
    let asked =
        |agent: &AgentState| agent.calls.iter().any(|call| matches!(call.phase, CallPhase::AwaitingApproval { .. }));
    // Parents come before their children, so one pass from the end tells everyone above.
    for index in (0..state.agents.len()).rev() {
        let agent = &state.agents[index];
        waits[index] |= asked(agent);
        if let (true, Some(parent)) = (waits[index], agent.parent) {
            waits[parent.agent as usize] = true;
        }
    }
    let run_waits = state.paused || waits.contains(&true);
    if let Some(by_ms) = set(&mut state.stopped_at_ms, run_waits, now_ms) {
        state.deadline_ms = state.deadline_ms.saturating_add(by_ms);
    }
    for (agent, waits) in state.agents.iter_mut().zip(waits) {
        if let Some(by_ms) = set(&mut agent.stopped_at_ms, waits, now_ms) {
            agent.deadline_ms = agent.deadline_ms.map(|at_ms| at_ms.saturating_add(by_ms));
        }
    }
}

/// Stops or starts one clock; returns how long it stood still when it goes on.
fn set(stopped_at_ms: &mut Option<u64>, stop: bool, now_ms: u64) -> Option<u64> {
    match (*stopped_at_ms, stop) {
        (None, true) => {
            *stopped_at_ms = Some(now_ms);
            None
        }
        (Some(since_ms), false) => {
            *stopped_at_ms = None;
            Some(now_ms.saturating_sub(since_ms))
        }
        _ => None,
    }
}

/// The time in which nobody drove the run does not count. Clocks that stand still anyway count it themselves.
pub(super) fn skip_stop(state: &mut RunState, now_ms: u64) {
    let by_ms = now_ms.saturating_sub(state.last_at_ms);
    if state.stopped_at_ms.is_none() {
        state.deadline_ms = state.deadline_ms.saturating_add(by_ms);
    }
    for agent in state.agents.iter_mut().filter(|agent| agent.stopped_at_ms.is_none()) {
        agent.deadline_ms = agent.deadline_ms.map(|at_ms| at_ms.saturating_add(by_ms));
    }
}
