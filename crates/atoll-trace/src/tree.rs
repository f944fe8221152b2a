//! Spans put together: parents hold children, and the traces that a span links to hang below it. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use atoll_api::v1::{SpanNode, Usage};
use atoll_rt::telemetry::Span;

use crate::summary::{add, agent, usage};

/// Where a node carries the events of its span.
const EVENTS: &str = "atoll.events";
/// Spans nested deeper than this are told beside the roots.
const DEPTH_MAX: usize = 128;

type SpanKey = (String, String);

/// The roots of the traces that these spans belong to, in order of time. A span whose parent was lost is a root; a
/// trace that links to a span among these hangs below that span.
pub(crate) fn build(spans: Vec<Span>) -> Vec<SpanNode> {
    let known: HashSet<SpanKey> = spans.iter().map(key).collect();
    let mut children: HashMap<SpanKey, Vec<Span>> = HashMap::new();
    let mut linked: HashMap<SpanKey, Vec<Span>> = HashMap::new();
    let mut roots = Vec::new();
    for span in spans {
        let parent = span.parent_span_id.clone().map(|parent| (span.trace_id.clone(), parent));
        let link = span
            .links
            .iter()
            .map(|link| (link.trace_id.clone(), link.span_id.clone()))
            .find(|link| known.contains(link) && link.0 != span.trace_id);
        match (parent.filter(|parent| known.contains(parent)), link) {
            (Some(parent), _) => children.entry(parent).or_default().push(span),
            (None, Some(link)) => linked.entry(link).or_default().push(span),
            (None, None) => roots.push(span),
        }
    }
    sort(&mut roots);
    let mut builder = Builder { children, linked };
    let mut nodes: Vec<SpanNode> = roots.into_iter().map(|span| builder.node(span, 0)).collect();
    // Spans too deep, or that only reach each other in a circle, would be lost otherwise; a hostile sender can make some.
    nodes.extend(builder.rest());
    nodes
}

/// Tokens of the model calls below these nodes, by the agent that made them.
pub(crate) fn usage_by_agent(spans: &[Span]) -> (BTreeMap<String, Usage>, Usage) {
    let mut by_agent: BTreeMap<String, Usage> = BTreeMap::new();
    let mut total = Usage::default();
    for span in spans {
        let used = usage(span);
        add(&mut total, used);
        if used != Usage::default() {
            add(by_agent.entry(agent(span).unwrap_or("unknown").to_owned()).or_default(), used);
        }
    }
    (by_agent, total)
}

struct Builder {
    children: HashMap<SpanKey, Vec<Span>>,
    linked: HashMap<SpanKey, Vec<Span>>,
}

impl Builder {
    fn node(&mut self, span: Span, depth: usize) -> SpanNode {
        if depth == DEPTH_MAX {
            return leaf(span);
        }
        let key = key(&span);
        let below = |map: &mut HashMap<SpanKey, Vec<Span>>| {
            let mut spans = map.remove(&key).unwrap_or_default();
            sort(&mut spans);
            spans
        };
        let (children, linked) = (below(&mut self.children), below(&mut self.linked));
        let mut node = leaf(span);
        node.children = children.into_iter().map(|child| self.node(child, depth + 1)).collect();
        node.linked = linked.into_iter().map(|child| self.node(child, depth + 1)).collect();
        for child in node.children.iter().chain(&node.linked) {
            add(&mut node.usage, child.usage);
        }
        node
    }

    fn rest(&mut self) -> Vec<SpanNode> {
        let left =
            std::mem::take(&mut self.children).into_values().chain(std::mem::take(&mut self.linked).into_values());
        left.flatten().map(leaf).collect()
    }
}

fn leaf(mut span: Span) -> SpanNode {
    if !span.events.is_empty() {
        let events = serde_json::to_value(&span.events).expect("events serialize");
        span.attributes.insert(EVENTS.to_owned(), events);
    }
    SpanNode {
        usage: usage(&span),
        duration_ms: span.end_unix_ms.saturating_sub(span.start_unix_ms),
        started_at_ms: span.start_unix_ms,
        attributes: span.attributes.into_iter().collect(),
        trace_id: span.trace_id,
        span_id: span.span_id,
        name: span.name,
        error: span.error,
        children: Vec::new(),
        linked: Vec::new(),
    }
}

fn sort(spans: &mut [Span]) {
    spans.sort_by(|a, b| (a.start_unix_ms, &a.span_id).cmp(&(b.start_unix_ms, &b.span_id)));
}

fn key(span: &Span) -> SpanKey {
    (span.trace_id.clone(), span.span_id.clone())
}

#[cfg(test)]
pub(crate) mod tests {
    use atoll_rt::telemetry::{SpanKind, SpanLink};
    use serde_json::json;

    use super::*;

    pub(crate) fn span(trace: &str, id: &str, parent: Option<&str>, start: u64) -> Span {
        Span {
            trace_id: trace.to_owned(),
            span_id: id.to_owned(),
            parent_span_id: parent.map(str::to_owned),
            name: format!("span {id}"),
            kind: SpanKind::Internal,
            start_unix_ms: start,
            end_unix_ms: start + 10,
            attributes: serde_json::Map::new(),
            events: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    pub(crate) fn chat(trace: &str, id: &str, parent: &str, agent: &str, tokens: (u64, u64)) -> Span {
        let mut span = span(trace, id, Some(parent), 5);
        for (name, value) in [
            ("gen_ai.operation.name", json!("chat")),
            ("gen_ai.agent.name", json!(agent)),
            ("gen_ai.usage.input_tokens", json!(tokens.0)),
            ("gen_ai.usage.output_tokens", json!(tokens.1)),
        ] {
            span.attributes.insert(name.to_owned(), value);
        }
        span
    }

    fn draw(nodes: &[SpanNode], depth: usize, out: &mut String) {
        for node in nodes {
            out.push_str(&format!(
                "{}{} {}+{}\n",
                "  ".repeat(depth),
                node.span_id,
                node.usage.input_tokens,
                node.usage.output_tokens
            ));
            draw(&node.children, depth + 1, out);
            draw(&node.linked, depth + 1, out);
        }
    }

    fn check(spans: Vec<Span>, expected: &str) {
        let mut drawn = String::new();
        draw(&build(spans), 0, &mut drawn);
        assert_eq!(drawn.trim_end(), expected);
    }

    #[test]
    fn children_are_in_order_of_time_and_tokens_add_up() {
        check(
            vec![
                span("t", "late", Some("root"), 9),
                chat("t", "early", "root", "planner", (3, 1)),
                span("t", "root", None, 0),
            ],
            "root 3+1\n  early 3+1\n  late 0+0",
        );
    }

    #[test]
    fn a_linked_trace_hangs_below_the_span_it_links_to() {
        let mut other = span("u", "sub", None, 6);
        other.links.push(SpanLink { trace_id: "t".to_owned(), span_id: "tool".to_owned() });
        check(
            vec![
                other,
                chat("u", "call", "sub", "code-writer", (10, 2)),
                span("t", "root", None, 0),
                span("t", "tool", Some("root"), 5),
            ],
            "root 10+2\n  tool 10+2\n    sub 10+2\n      call 10+2",
        );
    }

    #[test]
    fn spans_without_their_parent_and_circles_are_not_lost() {
        check(vec![span("t", "orphan", Some("gone"), 1)], "orphan 0+0");
        let circle = build(vec![span("t", "a", Some("b"), 1), span("t", "b", Some("a"), 2)]);
        assert_eq!(circle.len(), 2);
    }

    #[test]
    fn a_chain_without_end_is_told_in_parts() {
        let chain: Vec<Span> = (0..10_000_u64)
            .map(|n| span("t", &format!("{n}"), n.checked_sub(1).map(|n| n.to_string()).as_deref(), n))
            .collect();
        fn count(nodes: &[SpanNode]) -> usize {
            nodes.iter().map(|node| 1 + count(&node.children)).sum()
        }
        assert_eq!(count(&build(chain)), 10_000);
    }

    #[test]
    fn events_come_with_their_span() {
        let mut decided = span("t", "tool", None, 0);
        let event = atoll_rt::telemetry::SpanEvent {
            name: "atoll.policy.decision".to_owned(),
            time_unix_ms: 3,
            attributes: serde_json::Map::new(),
        };
        decided.events.push(event);
        assert_eq!(build(vec![decided])[0].attributes[EVENTS][0]["name"], "atoll.policy.decision");
    }

    #[test]
    fn tokens_are_told_by_agent() {
        let spans = vec![chat("t", "1", "r", "planner", (1, 2)), chat("t", "2", "r", "planner", (3, 4))];
        let (by_agent, total) = usage_by_agent(&spans);
        assert_eq!(by_agent["planner"], total);
        assert_eq!(total, Usage { input_tokens: 4, output_tokens: 6 });
    }
}
