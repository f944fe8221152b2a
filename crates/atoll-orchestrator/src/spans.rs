//! Spans in the terms of OpenTelemetry's conventions for generative AI. Each agent is a trace of its own: its root span
//! is the invocation, linked to the tool call that started it. Names derive from the run, so that telling the same thing
//! twice after a crash names the same span.

use atoll_engine::{AgentPhase, AgentState, CallPhase, CallRef, Event, OutcomeName, RunState, ToolStatus};
use atoll_rt::telemetry::{Span, SpanKind, SpanLink};
use serde_json::{Map, Value, json};

use crate::digest::name_of;
use crate::view::Marks;

/// The longest attribute.
const ATTRIBUTE_CHARS_MAX: usize = 2000;
/// The longest description of an error; the result itself is in the journal.
const ERROR_CHARS_MAX: usize = 300;

/// Trace of an agent.
pub(crate) fn trace_id(run_id: &str, agent: u32) -> String {
    name_of(&["trace", run_id, &agent.to_string()], 16)
}

fn span_id(run_id: &str, what: &str) -> String {
    name_of(&["span", run_id, what], 8)
}

fn agent_span_id(run_id: &str, agent: u32) -> String {
    span_id(run_id, &format!("agent {agent}"))
}

/// W3C trace context of a model call.
pub(crate) fn traceparent(run_id: &str, agent: u32, step: u64) -> String {
    format!("00-{}-{}-01", trace_id(run_id, agent), span_id(run_id, &format!("chat {agent} {step}")))
}

/// The spans that ended with an event.
pub(crate) fn ended(before: &Marks, event: &Event, state: &RunState, at_ms: u64) -> Vec<Span> {
    let mut spans = Vec::new();
    if let Event::ModelAnswered { agent, step, answer } = event {
        spans.extend(state.agent(*agent).map(|agent| chat(state, agent, *step, answer, at_ms)));
    }
    for agent in &state.agents {
        for (call, _) in agent.call_refs().filter(|(call, _)| !before.done.contains(call)) {
            spans.extend(tool(before, state, agent, call, at_ms));
        }
        if !before.had_finished(agent.id) {
            spans.extend(invocation(state, agent));
        }
    }
    spans
}

fn span(state: &RunState, agent: &AgentState, what: &str, name: String) -> Span {
    let run_id = &state.config.run_id;
    let mut attributes = Map::new();
    attributes.insert("gen_ai.agent.name".to_owned(), json!(agent.name));
    attributes.insert("gen_ai.agent.id".to_owned(), json!(agent.id.to_string()));
    attributes.insert("gen_ai.conversation.id".to_owned(), json!(run_id));
    attributes.insert("atoll.run.id".to_owned(), json!(run_id));
    Span {
        trace_id: trace_id(run_id, agent.id),
        span_id: span_id(run_id, what),
        parent_span_id: Some(agent_span_id(run_id, agent.id)),
        name,
        kind: SpanKind::Internal,
        start_unix_ms: 0,
        end_unix_ms: 0,
        attributes,
        events: Vec::new(),
        links: Vec::new(),
        error: None,
    }
}

fn chat(state: &RunState, agent: &AgentState, step: u64, answer: &atoll_engine::Answer, at_ms: u64) -> Span {
    let asked = state.profile(agent).model.as_ref().or(state.config.model.as_ref());
    let mut span = span(state, agent, &format!("chat {} {step}", agent.id), format!("chat {}", answer.model));
    span.kind = SpanKind::Client;
    (span.start_unix_ms, span.end_unix_ms) = (at_ms.saturating_sub(answer.duration_ms), at_ms);
    set(&mut span, "gen_ai.operation.name", json!("chat"));
    set(&mut span, "gen_ai.request.model", json!(asked.map_or("default", String::as_str)));
    set(&mut span, "gen_ai.response.model", json!(answer.model));
    set(&mut span, "gen_ai.response.finish_reasons", json!([answer.finish_reason]));
    set(&mut span, "gen_ai.usage.input_tokens", json!(answer.usage.input_tokens));
    set(&mut span, "gen_ai.usage.output_tokens", json!(answer.usage.output_tokens));
    set(&mut span, "atoll.step", json!(step));
    span
}

fn tool(before: &Marks, state: &RunState, agent: &AgentState, reference: CallRef, at_ms: u64) -> Option<Span> {
    let call = state.call(reference)?;
    let CallPhase::Done { result } = &call.phase else { return None };
    let mut span = span(state, agent, &format!("tool {reference}"), format!("execute_tool {}", call.tool));
    let delegated = before.delegated.get(&reference).and_then(|child| state.agent(*child));
    let began_ms = delegated.map_or(at_ms.saturating_sub(result.duration_ms), |child| child.started_at_ms);
    (span.start_unix_ms, span.end_unix_ms) = (began_ms, at_ms);
    set(&mut span, "gen_ai.operation.name", json!("execute_tool"));
    set(&mut span, "gen_ai.tool.name", json!(call.tool));
    set(&mut span, "gen_ai.tool.call.id", json!(reference.to_string()));
    set(&mut span, "atoll.tool.summary", json!(atoll_engine::tools::summary(&call.tool, &call.input)));
    set(&mut span, "atoll.tool.status", json!(result.status));
    if let Some(code) = result.exit_code {
        set(&mut span, "process.exit.code", json!(code));
    }
    if let Some(decision) = &call.decision {
        set(&mut span, "atoll.policy.verdict", json!(decision.verdict));
        set(&mut span, "atoll.policy.rules", json!(decision.rule_ids));
    }
    if result.status != ToolStatus::Ok {
        span.error = Some(first_line(&result.text));
    }
    Some(span)
}

fn invocation(state: &RunState, agent: &AgentState) -> Option<Span> {
    let AgentPhase::Finished { outcome, .. } = &agent.phase else { return None };
    let run_id = &state.config.run_id;
    let mut span = span(state, agent, &format!("agent {}", agent.id), format!("invoke_agent {}", agent.name));
    span.parent_span_id = None;
    span.start_unix_ms = agent.started_at_ms;
    span.end_unix_ms = agent.finished_at_ms.unwrap_or(state.last_at_ms);
    set(&mut span, "gen_ai.operation.name", json!("invoke_agent"));
    set(&mut span, "gen_ai.agent.task", json!(short(&agent.task)));
    set(&mut span, "atoll.outcome", json!(outcome.name));
    if let Some(parent) = agent.parent {
        let linked = span_id(run_id, &format!("tool {parent}"));
        span.links.push(SpanLink { trace_id: trace_id(run_id, parent.agent), span_id: linked });
    }
    if outcome.name != OutcomeName::Completed {
        span.error = Some(short(&outcome.message));
    }
    Some(span)
}

fn set(span: &mut Span, name: &str, value: Value) {
    span.attributes.insert(name.to_owned(), value);
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(ERROR_CHARS_MAX).collect()
}

fn short(text: &str) -> String {
    text.chars().take(ATTRIBUTE_CHARS_MAX).collect()
}
