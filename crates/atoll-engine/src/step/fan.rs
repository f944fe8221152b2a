//! Agents side by side: delegations that follow each other in one answer run at the same time, as many as the run may
//! have at work; the rest waits its turn.

use super::internal;
use crate::event::CallRef;
use crate::state::{AgentState, Call, CallPhase, RunState};
use crate::tools;

/// Starts the next call, and with a delegation the delegations right behind it. Returns whether anything began.
pub(super) fn begin_next(calls: &mut [Call]) -> bool {
    let Some(first) = calls.iter().position(|call| !call.is_done()) else { return false };
    let fans_out = calls[first].tool == tools::AGENT_DELEGATE;
    let together =
        if fans_out { calls[first..].iter().take_while(|call| call.tool == tools::AGENT_DELEGATE).count() } else { 1 };
    let mut began = false;
    for call in calls[first..first + together].iter_mut().filter(|call| call.phase == CallPhase::Waiting) {
        call.phase = CallPhase::Gating;
        began = true;
    }
    began
}

/// Whether one agent more may be at work, beside `asking`, which will wait for it.
pub(super) fn has_room(state: &RunState, asking: u32) -> bool {
    let others = state.agents.iter().filter(|agent| agent.id != asking && agent.is_at_work()).count();
    others < at_once_max(state)
}

fn at_once_max(state: &RunState) -> usize {
    (state.config.limits.agents_at_once_max as usize).max(1)
}

/// Starts waiting delegations, oldest agent first, as long as there is room.
pub(super) fn start_queued(state: &mut RunState, now_ms: u64) {
    while state.outcome().is_none() {
        let at_work = state.agents.iter().filter(|agent| agent.is_at_work()).count();
        let Some(call) = next_queued(state).filter(|_| at_work < at_once_max(state)) else { return };
        internal::start_delegated(state, call, now_ms);
    }
}

fn next_queued(state: &RunState) -> Option<CallRef> {
    let queued = |(reference, call): (CallRef, &Call)| (call.phase == CallPhase::Queued).then_some(reference);
    state.agents.iter().flat_map(AgentState::call_refs).find_map(queued)
}
