//! What leads nowhere is ended, each kind under a name of its own.

use super::attention;
use crate::event::{Outcome, OutcomeName, ToolStatus};
use crate::state::{AgentState, CallPhase, Guards, Message};

/// The same call with the same result so often among an agent's newest calls ends it.
pub(super) const LOOP_STOP: usize = 8;
/// From this often on, the model is told.
pub(super) const LOOP_WARN: usize = 3;
/// How many of an agent's newest calls are looked at.
const LOOP_WINDOW_CALLS: usize = 32;
/// So many steps in a row that were refused or told nothing new end the agent.
pub(super) const BARREN_STEPS_MAX: u32 = 12;
/// From so many on, the model is told.
const BARREN_STEPS_WARN: u32 = 6;
/// So many answers in a row with more calls than are taken end the agent.
pub(super) const STORMS_MAX: u32 = 5;
/// So many answers in a row that are cut for their length end the agent.
pub(super) const OVERSIZED_MAX: u32 = 5;

impl Guards {
    /// Notes a call and its result; returns how often it is among the newest, this time included.
    fn seen(&mut self, digest: u64) -> usize {
        if self.recent.len() >= LOOP_WINDOW_CALLS {
            self.recent.pop_front();
        }
        self.recent.push_back(digest);
        self.recent.iter().filter(|known| **known == digest).count()
    }

    /// Looks at an answer's measures.
    pub(super) fn judge_answer(&mut self, stormy: bool, oversized: bool) -> Option<Outcome> {
        self.storms = if stormy { self.storms + 1 } else { 0 };
        self.oversized_answers = if oversized { self.oversized_answers + 1 } else { 0 };
        if self.storms >= STORMS_MAX {
            let message = format!("{STORMS_MAX} answers in a row asked for more calls than are taken");
            return Some(Outcome::new(OutcomeName::ToolStorm, message));
        }
        (self.oversized_answers >= OVERSIZED_MAX).then(|| {
            let message = format!("{OVERSIZED_MAX} answers in a row were cut for their length");
            Outcome::new(OutcomeName::OversizedOutput, message)
        })
    }
}

/// Puts the results of an answer's calls into the conversation. Returns why the agent has to end, if it has to.
pub(super) fn take_results(agent: &mut AgentState, calls_max: u64) -> Option<Outcome> {
    let (mut looped, mut barren) = (false, true);
    for index in 0..agent.calls.len() {
        let call = &agent.calls[index];
        let CallPhase::Done { result } = &call.phase else { continue };
        let (mut text, call_id, tool) = (result.text.clone(), call.model_id.clone(), call.tool.clone());
        let digest = fnv64(&[&call.tool, &call.input.to_string(), &result.text]);
        let refused = !matches!(result.status, ToolStatus::Ok | ToolStatus::Failed);
        let seen = agent.guards.seen(digest);
        looped |= seen >= LOOP_STOP;
        barren &= refused || seen > 1;
        if seen >= LOOP_WARN {
            text.push_str("\n[The same call had the same result before. Repeating it leads nowhere.]");
        }
        agent.history.messages.push(Message::Tool { call_id, tool, text });
    }
    agent.guards.barren_steps = if barren { agent.guards.barren_steps + 1 } else { 0 };
    let barren_steps = agent.guards.barren_steps;
    if barren_steps == BARREN_STEPS_WARN {
        let text =
            format!("[Your last {barren_steps} steps led to nothing new. Do it another way, or report and end.]");
        attention::note(agent, text);
    }
    if looped {
        let message = format!("the same call had the same result {LOOP_STOP} times");
        return Some(Outcome::new(OutcomeName::LoopDetected, message));
    }
    if barren_steps >= BARREN_STEPS_MAX {
        let message = format!("{BARREN_STEPS_MAX} steps in a row were refused or told nothing new");
        return Some(Outcome::new(OutcomeName::NoProgress, message));
    }
    (agent.tool_calls >= calls_max).then(|| {
        let message = format!("the agent asked for {} tool calls, {calls_max} are allowed", agent.tool_calls);
        Outcome::new(OutcomeName::ToolStorm, message)
    })
}

/// 64-bit FNV-1a; tells repeated calls apart, nothing else rests on it.
fn fnv64(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
