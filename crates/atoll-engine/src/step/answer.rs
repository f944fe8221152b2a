//! Taking a model's answer: text, tool calls, nonsense.

use serde_json::Value;

use super::{NEW_MESSAGE_BYTES_MAX, advance, agent_mut, ending, spending, think};
use crate::bounded::bounded;
use crate::event::{Answer, CallRef, Outcome, OutcomeName, RawCall, ToolStatus};
use crate::state::{AgentPhase, Call, Message, RunState};
use crate::tools::{self, ServerTools};

/// So many answers in a row that can not be used end the agent.
const UNUSABLE_ANSWERS_MAX: u32 = 5;

/// Takes the answer of a thinking agent's model.
pub(super) fn take(state: &mut RunState, id: u32, answer: &Answer, now_ms: u64) {
    state.steps += 1;
    state.usage.add(answer.usage);
    spending::settle(state, id, answer);
    let calls_max = state.config.limits.calls_per_answer_max as usize;
    let Some(agent) = agent_mut(state, id) else { return };
    agent.steps += 1;
    agent.usage.add(answer.usage);
    agent.tool_calls += answer.calls.len() as u64;
    let text = bounded(&answer.text, NEW_MESSAGE_BYTES_MAX, "").text;
    let step = agent.steps;
    let (raw, calls) = read_calls(id, step, &answer.calls, calls_max, &agent.workspace.servers);
    let usable = if calls.is_empty() { !text.trim().is_empty() } else { calls.iter().any(|call| !call.is_done()) };
    agent.guards.unusable_answers = if usable { 0 } else { agent.guards.unusable_answers + 1 };
    let unusable = agent.guards.unusable_answers;
    let oversized = answer.text.len() > NEW_MESSAGE_BYTES_MAX || answer.finish_reason == "length";
    let nowhere = agent.guards.judge_answer(answer.calls.len() > calls_max, oversized);
    agent.calls = calls;
    if !(text.is_empty() && raw.is_empty()) {
        agent.history.messages.push(Message::Assistant { text: text.clone(), calls: raw });
    }
    if answer.finish_reason == "content_filter" || answer.finish_reason == "refusal" {
        let outcome = Outcome::new(OutcomeName::ModelRefused, format!("the model refused ({})", answer.finish_reason));
        return ending::end_agent(state, id, outcome, text, now_ms);
    }
    if unusable >= UNUSABLE_ANSWERS_MAX {
        let message = format!("{UNUSABLE_ANSWERS_MAX} answers in a row held no text and no usable call");
        return ending::end_agent(state, id, Outcome::new(OutcomeName::ModelUnusable, message), text, now_ms);
    }
    if let Some(outcome) = nowhere {
        return ending::end_agent(state, id, outcome, text, now_ms);
    }
    let agent = &mut state.agents[id as usize];
    if !agent.calls.is_empty() {
        agent.phase = AgentPhase::Acting;
        return advance(state, id, now_ms);
    }
    if let Some(nudge) = nudge(&text, &answer.finish_reason) {
        agent.history.messages.push(Message::User { text: nudge.to_owned() });
        return think(state, id, now_ms);
    }
    if !agent.inbox.is_empty() {
        // It took itself for done before it heard what a person had to add.
        return think(state, id, now_ms);
    }
    let outcome = Outcome::new(OutcomeName::Completed, "the agent is done");
    ending::end_agent(state, id, outcome, text, now_ms);
}

/// What to say to an answer without calls that is not the end.
fn nudge(text: &str, finish_reason: &str) -> Option<&'static str> {
    if finish_reason == "length" {
        return Some("Your answer was cut off at the output limit. Go on where it ended.");
    }
    text.trim().is_empty().then_some("Your answer was empty. Call a tool, or report what you did as plain text.")
}

/// The calls as they go into the history, and as they will be carried out. Bad ones are done already.
fn read_calls(
    agent: u32,
    step: u64,
    raw: &[RawCall],
    calls_max: usize,
    servers: &[ServerTools],
) -> (Vec<RawCall>, Vec<Call>) {
    let mut kept: Vec<RawCall> = Vec::new();
    let mut calls = Vec::new();
    for (call, index) in raw.iter().zip(0_u32..) {
        let repeated = call.id.is_empty() || kept.iter().any(|other| other.id == call.id);
        let id = if repeated { CallRef { agent, step, index }.to_string() } else { call.id.clone() };
        let (checked, stored) = match tools::check_call(&call.tool, &call.arguments, servers) {
            Ok(input) => (Ok(input), call.arguments.clone()),
            // Providers refuse histories with arguments that do not parse.
            Err(error) => (Err(error), parsed_or_empty(&call.arguments)),
        };
        kept.push(RawCall { id: id.clone(), tool: call.tool.clone(), arguments: stored });
        calls.push(match checked {
            Ok(input) if calls.len() < calls_max => Call::new(id, call.tool.clone(), input),
            Ok(input) => {
                let text = format!("Not done: at most {calls_max} calls are taken from one answer. Call it again.");
                done(Call::new(id, call.tool.clone(), input), &text)
            }
            Err(error) => {
                let written = Value::String(bounded(&call.arguments, NEW_MESSAGE_BYTES_MAX, "").text);
                done(Call::new(id, call.tool.clone(), written), &error.0)
            }
        });
    }
    (kept, calls)
}

fn done(mut call: Call, text: &str) -> Call {
    call.finish(ToolStatus::Invalid, text);
    call
}

fn parsed_or_empty(arguments: &str) -> String {
    let is_object = serde_json::from_str::<Value>(arguments).is_ok_and(|value| value.is_object());
    if is_object && arguments.len() <= tools::ARGUMENT_BYTES_MAX { arguments.to_owned() } else { "{}".to_owned() }
}
