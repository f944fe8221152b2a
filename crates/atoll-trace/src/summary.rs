//! What one trace comes to, kept up to date span by span. Pure.

use atoll_api::v1::{TraceSummary, Usage};
use atoll_rt::telemetry::Span;
use serde_json::Value;

/// The run that a span belongs to.
pub(crate) const RUN_ID: &str = "atoll.run.id";
const AGENT_NAME: &str = "gen_ai.agent.name";
const OPERATION: &str = "gen_ai.operation.name";
const CHAT: &str = "chat";
const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";

/// Tokens of one span. Only model calls count: an agent's span may repeat the sum of its calls.
pub(crate) fn usage(span: &Span) -> Usage {
    if span.attributes.get(OPERATION).and_then(Value::as_str) != Some(CHAT) {
        return Usage::default();
    }
    let count = |name: &str| span.attributes.get(name).and_then(Value::as_u64).unwrap_or(0);
    Usage { input_tokens: count(INPUT_TOKENS), output_tokens: count(OUTPUT_TOKENS) }
}

pub(crate) fn add(sum: &mut Usage, more: Usage) {
    sum.input_tokens = sum.input_tokens.saturating_add(more.input_tokens);
    sum.output_tokens = sum.output_tokens.saturating_add(more.output_tokens);
}

pub(crate) fn agent(span: &Span) -> Option<&str> {
    span.attributes.get(AGENT_NAME).and_then(Value::as_str)
}

/// A trace of which this span is the first to arrive; later ones are given to [`include`].
pub(crate) fn begin(span: &Span) -> TraceSummary {
    TraceSummary {
        trace_id: span.trace_id.clone(),
        run_id: None,
        name: span.name.clone(),
        agent: None,
        started_at_ms: span.start_unix_ms,
        duration_ms: 0,
        spans: 0,
        errors: 0,
        usage: Usage::default(),
    }
}

/// Takes one more span into account. The root span, which names the trace, usually comes last: it ends last.
pub(crate) fn include(summary: &mut TraceSummary, span: &Span) {
    let end = (summary.started_at_ms + summary.duration_ms).max(span.end_unix_ms);
    summary.started_at_ms = summary.started_at_ms.min(span.start_unix_ms);
    summary.duration_ms = end.saturating_sub(summary.started_at_ms);
    summary.spans += 1;
    summary.errors += u64::from(span.error.is_some());
    add(&mut summary.usage, usage(span));
    if let Some(run) = span.attributes.get(RUN_ID).and_then(Value::as_str) {
        summary.run_id = Some(run.to_owned());
    }
    if span.parent_span_id.is_none() {
        summary.name.clone_from(&span.name);
    }
    if span.parent_span_id.is_none() || summary.agent.is_none() {
        summary.agent = agent(span).map(str::to_owned).or_else(|| summary.agent.take());
    }
}
