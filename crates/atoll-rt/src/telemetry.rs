//! Logging, and the spans that leave a process part through a bounded channel: telemetry never stops the work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// One span, in the terms of OpenTelemetry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// 32 lower-case hexadecimal digits.
    pub trace_id: String,
    /// 16 lower-case hexadecimal digits.
    pub span_id: String,
    /// The enclosing span of the same trace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent_span_id: Option<String>,
    /// For example `chat gpt-x` or `execute_tool file_read`.
    pub name: String,
    /// Whose side of a call this is.
    pub kind: SpanKind,
    /// Milliseconds since the Unix epoch.
    pub start_unix_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub end_unix_ms: u64,
    /// Attributes, by their names in the semantic conventions.
    #[serde(default)]
    pub attributes: serde_json::Map<String, serde_json::Value>,
    /// Things that happened at a moment within the span.
    #[serde(default)]
    pub events: Vec<SpanEvent>,
    /// Spans of other traces that belong to this one.
    #[serde(default)]
    pub links: Vec<SpanLink>,
    /// `None` means success; else a short description.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// Whose side of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// Work within this process.
    Internal,
    /// The caller's side.
    Client,
    /// The callee's side.
    Server,
}

/// Something that happened within a span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpanEvent {
    /// What happened.
    pub name: String,
    /// Milliseconds since the Unix epoch.
    pub time_unix_ms: u64,
    /// Attributes.
    #[serde(default)]
    pub attributes: serde_json::Map<String, serde_json::Value>,
}

/// A span of another trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanLink {
    /// The other trace.
    pub trace_id: String,
    /// The span in it.
    pub span_id: String,
}

/// Where finished spans go. Never blocks: when the channel is full the span is dropped and counted.
#[derive(Debug, Clone)]
pub struct SpanSink {
    sender: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
}

/// The other end of a [`SpanSink`].
#[derive(Debug)]
pub struct SpanReceiver {
    receiver: mpsc::Receiver<Span>,
    dropped: Arc<AtomicU64>,
}

impl SpanSink {
    /// A channel that holds at most `capacity` spans.
    #[must_use]
    pub fn channel(capacity: usize) -> (Self, SpanReceiver) {
        let (sender, receiver) = mpsc::channel(capacity);
        let dropped = Arc::new(AtomicU64::new(0));
        (Self { sender, dropped: Arc::clone(&dropped) }, SpanReceiver { receiver, dropped })
    }

    /// Hands a finished span over.
    pub fn send(&self, span: Span) {
        if self.sender.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many spans were lost so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl SpanReceiver {
    /// The next span; `None` when every sink is gone. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Span> {
        self.receiver.recv().await
    }

    /// Up to `limit` spans at once; an empty answer means that every sink is gone. Cancel-safe.
    pub async fn recv_many(&mut self, limit: usize) -> Vec<Span> {
        let mut spans = Vec::new();
        self.receiver.recv_many(&mut spans, limit).await;
        spans
    }

    /// How many spans were lost so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. `filter` is a list of directives such as `info,atoll_node=debug`.
///
/// A second call does nothing.
pub fn init_logging(filter: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(BoxMakeWriter::new(std::io::stderr))
        // It would tell on standard error that standard error, on a full disk, cannot be written, and panic.
        .log_internal_errors(false)
        .with_target(true);
    let _already_started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init().is_err(),
        LogFormat::Json => builder.json().try_init().is_err(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &str) -> Span {
        Span {
            trace_id: "0".repeat(32),
            span_id: "0".repeat(16),
            parent_span_id: None,
            name: name.to_owned(),
            kind: SpanKind::Internal,
            start_unix_ms: 0,
            end_unix_ms: 1,
            attributes: serde_json::Map::new(),
            events: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    #[tokio::test]
    async fn a_full_sink_drops_and_counts() {
        let (sink, mut receiver) = SpanSink::channel(1);
        sink.send(span("kept"));
        sink.send(span("lost"));
        assert_eq!(sink.dropped(), 1);
        assert_eq!(receiver.recv().await.expect("one is there").name, "kept");
    }
}
