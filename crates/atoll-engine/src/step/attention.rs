//! What an agent is told beside its results, and whether it may go on: notices, messages of people, pauses.

use crate::bounded::bounded;
use crate::state::{AgentPhase, AgentState, Message, RunState};

/// Messages that wait to be heard; the newest are dropped beyond.
const INBOX_MAX: usize = 16;
/// Notices that wait to be told.
const NOTICES_MAX: usize = 16;
/// One message.
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// Tells the model something before it is asked next.
pub(super) fn note(agent: &mut AgentState, text: String) {
    if agent.notices.len() < NOTICES_MAX {
        agent.notices.push(text);
    }
}

/// A person says something to an agent that is at work; to one that is over it is too late.
pub(super) fn hear(state: &mut RunState, id: u32, text: &str, by: &str) {
    let Some(agent) = super::agent_mut(state, id) else { return };
    let listens = matches!(agent.phase, AgentPhase::Preparing | AgentPhase::Thinking | AgentPhase::Acting);
    if listens && agent.inbox.len() < INBOX_MAX {
        let text = bounded(text, MESSAGE_BYTES_MAX, "").text;
        agent.inbox.push(format!("[A message from {by} about your task:]\n{text}"));
    }
}

/// Puts what waits to be told into the conversation.
pub(super) fn deliver(agent: &mut AgentState) {
    let waiting = agent.notices.drain(..).chain(agent.inbox.drain(..));
    agent.history.messages.extend(waiting.map(|text| Message::User { text }));
}

/// An agent that comes to a new beginning stays there while the run is paused.
pub(super) fn hold_if_paused(state: &mut RunState, id: u32) {
    let paused = state.paused;
    if let Some(agent) = super::agent_mut(state, id).filter(|agent| !agent.is_finished()) {
        agent.held = paused;
    }
}

pub(super) fn unpause(state: &mut RunState) {
    state.paused = false;
    state.agents.iter_mut().for_each(|agent| agent.held = false);
}
