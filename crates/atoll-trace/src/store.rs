//! Keeping spans: each as a record, and each trace's summary beside it, in one transaction.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use atoll_api::v1::{TraceDetail, TraceList, TraceSummary};
use atoll_rt::TaskGroup;
use atoll_rt::telemetry::{Span, SpanReceiver};
use atoll_store::{AppendBatch, Journal, JournalError, RecordExpect, RecordPut};

use crate::summary::{begin, include};
use crate::tree::{build, usage_by_agent};

const SPAN: &str = "span";
const TRACE: &str = "trace";
/// Spans stored in one transaction.
const BATCH_SPANS_MAX: usize = 256;
const PAGE_RECORDS: usize = 1000;
/// Spans of one answer; a run with more is told in part.
const DETAIL_SPANS_MAX: usize = 20_000;
/// Traces of one listing.
const LIST_TRACES_MAX: usize = 500;
const MS_PER_DAY: u64 = 24 * 60 * 60 * 1000;

/// Why traces cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The journal below failed.
    #[error("cannot use the store of traces")]
    Store(#[source] JournalError),
    /// A stored record is not what was stored.
    #[error("a stored span is damaged")]
    Damaged(#[source] serde_json::Error),
}

/// Spans, kept. Cloning shares it.
#[derive(Clone)]
pub struct TraceStore {
    journal: Journal,
    summaries: Arc<Mutex<BTreeMap<String, TraceSummary>>>,
}

impl TraceStore {
    /// Reads what is kept, and forgets what is older than `retention_days`.
    ///
    /// # Errors
    /// The disk's.
    pub async fn open(journal: Journal, retention_days: u32, now_unix_ms: u64) -> Result<Self, TraceError> {
        let store = Self { journal, summaries: Arc::default() };
        let horizon = now_unix_ms.saturating_sub(u64::from(retention_days) * MS_PER_DAY);
        for body in store.all(TRACE, "", usize::MAX).await? {
            let summary: TraceSummary = serde_json::from_value(body).map_err(TraceError::Damaged)?;
            if summary.started_at_ms < horizon {
                store.forget(&summary.trace_id).await?;
            } else {
                store.lock().insert(summary.trace_id.clone(), summary);
            }
        }
        Ok(store)
    }

    /// Takes spans in until every sink is gone or the group stops. What cannot be stored is logged and lost: traces
    /// never stop the work.
    pub fn ingest(&self, mut receiver: SpanReceiver, group: &TaskGroup) {
        let store = self.clone();
        let token = group.token();
        group.spawn("trace-ingest", async move {
            loop {
                let spans = next_spans(&token, receiver.recv_many(BATCH_SPANS_MAX)).await;
                if spans.is_empty() {
                    return;
                }
                let count = spans.len();
                if let Err(error) = store.keep(spans).await {
                    tracing::error!(spans = count, cause = %atoll_stdx::chain(&error), "spans lost");
                }
            }
        });
    }

    /// Stores finished spans.
    ///
    /// # Errors
    /// The disk's.
    pub async fn keep(&self, spans: Vec<Span>) -> Result<(), TraceError> {
        let mut records = Vec::with_capacity(spans.len() * 2);
        {
            let mut summaries = self.lock();
            for span in &spans {
                let summary = summaries.entry(span.trace_id.clone()).or_insert_with(|| begin(span));
                include(summary, span);
                records.push(put(TRACE, &span.trace_id, summary));
            }
        }
        records.extend(spans.iter().map(|span| put(SPAN, &format!("{}/{}", span.trace_id, span.span_id), span)));
        self.journal.append(AppendBatch { records, ..AppendBatch::default() }).await.map_err(TraceError::Store)
    }

    /// Traces, newest first.
    #[must_use]
    pub fn list(&self) -> TraceList {
        let mut traces: Vec<TraceSummary> = self.lock().values().cloned().collect();
        traces.sort_by_key(|trace| std::cmp::Reverse(trace.started_at_ms));
        traces.truncate(LIST_TRACES_MAX);
        TraceList { traces }
    }

    /// A trace by its id, or all traces of a run by the run's id, as one tree. `None` if there is none.
    ///
    /// # Errors
    /// The disk's.
    pub async fn detail(&self, id: &str) -> Result<Option<TraceDetail>, TraceError> {
        let mut summaries: Vec<TraceSummary> = self
            .lock()
            .values()
            .filter(|trace| trace.trace_id == id || trace.run_id.as_deref() == Some(id))
            .cloned()
            .collect();
        summaries.sort_by_key(|trace| trace.started_at_ms);
        let Some(first) = summaries.first().cloned() else {
            return Ok(None);
        };
        let mut spans = Vec::new();
        for trace in &summaries {
            let limit = DETAIL_SPANS_MAX.saturating_sub(spans.len());
            for body in self.all(SPAN, &format!("{}/", trace.trace_id), limit).await? {
                spans.push(serde_json::from_value::<Span>(body).map_err(TraceError::Damaged)?);
            }
        }
        let (usage_by_agent, total_usage) = usage_by_agent(&spans);
        Ok(Some(TraceDetail { summary: first, roots: build(spans), usage_by_agent, total_usage }))
    }

    async fn all(&self, kind: &str, prefix: &str, limit: usize) -> Result<Vec<serde_json::Value>, TraceError> {
        let mut bodies = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page =
                self.journal.records(kind, prefix, after.as_deref(), PAGE_RECORDS).await.map_err(TraceError::Store)?;
            after = page.records.last().map(|record| record.key.clone());
            bodies.extend(page.records.into_iter().map(|record| record.body));
            if bodies.len() >= limit {
                bodies.truncate(limit);
                return Ok(bodies);
            }
            if !page.more {
                return Ok(bodies);
            }
        }
    }

    async fn forget(&self, trace_id: &str) -> Result<(), TraceError> {
        loop {
            let page = self
                .journal
                .records(SPAN, &format!("{trace_id}/"), None, PAGE_RECORDS)
                .await
                .map_err(TraceError::Store)?;
            let mut records: Vec<RecordPut> = page.records.iter().map(|record| removal(SPAN, &record.key)).collect();
            if !page.more {
                // The summary goes last: a crash before leaves it, and with it the way to the rest.
                records.push(removal(TRACE, trace_id));
            }
            self.journal.append(AppendBatch { records, ..AppendBatch::default() }).await.map_err(TraceError::Store)?;
            if !page.more {
                return Ok(());
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, TraceSummary>> {
        self.summaries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The spans that came, or none when it is time to stop.
async fn next_spans(token: &atoll_rt::CancellationToken, spans: impl Future<Output = Vec<Span>>) -> Vec<Span> {
    token.run_until_cancelled(spans).await.unwrap_or_default()
}

fn put(kind: &str, key: &str, body: &impl serde::Serialize) -> RecordPut {
    RecordPut {
        kind: kind.to_owned(),
        key: key.to_owned(),
        body: Some(serde_json::to_value(body).expect("spans serialize")),
        expect: RecordExpect::Any,
    }
}

fn removal(kind: &str, key: &str) -> RecordPut {
    RecordPut { kind: kind.to_owned(), key: key.to_owned(), body: None, expect: RecordExpect::Any }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tree::tests::{chat, span};

    /// Opens the store, does something with it, and closes it again.
    async fn with_store(dir: &tempfile::TempDir, now_unix_ms: u64, act: impl AsyncFnOnce(TraceStore)) {
        let group = TaskGroup::new("test");
        let journal = Journal::open(dir.path().join("runs.db"), &group).expect("it opens");
        act(TraceStore::open(journal, 1, now_unix_ms).await.expect("it reads")).await;
        assert!(group.drain(std::time::Duration::from_secs(10)).await);
    }

    fn of_run(mut span: Span, run: &str) -> Span {
        span.attributes.insert("atoll.run.id".to_owned(), json!(run));
        span
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_is_told_over_all_its_traces_and_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let spans = vec![
            of_run(chat("t", "call", "root", "planner", (7, 3)), "run1"),
            of_run(span("t", "root", None, 0), "run1"),
            of_run(span("u", "other", None, 50), "run1"),
        ];
        with_store(&dir, 0, async |store| {
            store.keep(spans).await.expect("it is stored");
            told(&store).await;
        })
        .await;
        with_store(&dir, 0, async |store| told(&store).await).await;
    }

    async fn told(store: &TraceStore) {
        assert_eq!(store.list().traces.iter().map(|t| t.trace_id.as_str()).collect::<Vec<_>>(), ["u", "t"]);
        let detail = store.detail("run1").await.expect("it reads").expect("it is known");
        assert_eq!(detail.roots.len(), 2);
        assert_eq!(detail.total_usage.input_tokens, 7);
        assert_eq!(detail.usage_by_agent["planner"].output_tokens, 3);
        assert_eq!(store.detail("unknown").await.expect("it reads"), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn old_traces_are_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let old = vec![span("t", "root", None, 0)];
        with_store(&dir, 0, async |store| store.keep(old).await.expect("it is stored")).await;
        with_store(&dir, 2 * MS_PER_DAY, async |store| {
            assert!(store.list().traces.is_empty());
            assert!(store.all(SPAN, "", 10).await.expect("it reads").is_empty());
        })
        .await;
    }
}
