//! Keeping spans: each as a record, and each trace's summary beside it, in one transaction.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_api::v1::{TraceDetail, TraceList, TraceSummary};
use atoll_rt::TaskGroup;
use atoll_rt::clock::now_unix_ms;
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
/// Traces kept; beyond that the oldest are forgotten before their time.
const TRACES_MAX: usize = 100_000;
/// How long spans on their way are waited for when the plane stops.
const LAST_SPANS_TIMEOUT: Duration = Duration::from_millis(50);
/// How often old traces are looked for.
const RETENTION_PAUSE: Duration = Duration::from_secs(60 * 60);
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
    retention_days: u32,
    summaries: Arc<Mutex<BTreeMap<String, TraceSummary>>>,
    lost: Arc<AtomicU64>,
}

impl TraceStore {
    /// Reads what is kept, and forgets what is older than `retention_days`.
    ///
    /// # Errors
    /// The disk's.
    pub async fn open(journal: Journal, retention_days: u32, now_unix_ms: u64) -> Result<Self, TraceError> {
        let store = Self { journal, retention_days, summaries: Arc::default(), lost: Arc::default() };
        for body in store.all(TRACE, "", usize::MAX).await? {
            let summary: TraceSummary = serde_json::from_value(body).map_err(TraceError::Damaged)?;
            store.lock().insert(summary.trace_id.clone(), summary);
        }
        store.forget_old(now_unix_ms).await?;
        Ok(store)
    }

    /// Takes spans in until every sink is gone or the group stops, and forgets old traces now and then. What cannot be
    /// stored is logged, counted and lost: traces never stop the work.
    pub fn ingest(&self, mut receiver: SpanReceiver, group: &TaskGroup) {
        let store = self.clone();
        let token = group.token();
        group.spawn("trace-ingest", async move {
            let mut unheard = 0;
            loop {
                let spans = next_spans(&token, &mut receiver).await;
                store.lost.fetch_add(receiver.dropped() - unheard, Ordering::Relaxed);
                unheard = receiver.dropped();
                if spans.is_empty() {
                    return;
                }
                let count = spans.len();
                if let Err(error) = store.keep(spans).await {
                    store.lost.fetch_add(count as u64, Ordering::Relaxed);
                    tracing::error!(spans = count, cause = %atoll_stdx::chain(&error), "spans lost");
                }
            }
        });
        let store = self.clone();
        let token = group.token();
        group.spawn("trace-retention", async move {
            while token.run_until_cancelled(tokio::time::sleep(RETENTION_PAUSE)).await.is_some() {
                if let Err(error) = store.forget_old(now_unix_ms()).await {
                    tracing::error!(cause = %atoll_stdx::chain(&error), "old traces could not be removed");
                }
            }
        });
    }

    /// Spans that were lost since this store was opened: for want of room on their way, or of a working disk.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Stores finished spans. A span that is there already is put again but not counted again: after a crash the same
    /// is told twice.
    ///
    /// # Errors
    /// The disk's.
    pub async fn keep(&self, spans: Vec<Span>) -> Result<(), TraceError> {
        let mut known = HashSet::new();
        for span in &spans {
            let key = span_key(span);
            if self.journal.record(SPAN, &key).await.map_err(TraceError::Store)?.is_some() {
                known.insert(key);
            }
        }
        let mut records = Vec::with_capacity(spans.len() * 2);
        {
            let mut summaries = self.lock();
            for span in &spans {
                let summary = summaries.entry(span.trace_id.clone()).or_insert_with(|| begin(span));
                if known.insert(span_key(span)) {
                    include(summary, span);
                }
                records.push(put(TRACE, &span.trace_id, summary));
            }
        }
        records.extend(spans.iter().map(|span| put(SPAN, &span_key(span), span)));
        self.journal.append(AppendBatch { records, ..AppendBatch::default() }).await.map_err(TraceError::Store)
    }

    /// Forgets traces that began more than the retention's days ago, and the oldest where there are too many.
    ///
    /// # Errors
    /// The disk's.
    pub async fn forget_old(&self, now_unix_ms: u64) -> Result<(), TraceError> {
        let horizon = now_unix_ms.saturating_sub(u64::from(self.retention_days) * MS_PER_DAY);
        let mut traces: Vec<(u64, String)> =
            self.lock().values().map(|trace| (trace.started_at_ms, trace.trace_id.clone())).collect();
        traces.sort_unstable();
        let surplus = traces.len().saturating_sub(TRACES_MAX);
        for (position, (started_at_ms, trace_id)) in traces.into_iter().enumerate() {
            if position < surplus || started_at_ms < horizon {
                self.forget(&trace_id).await?;
                self.lock().remove(&trace_id);
            }
        }
        Ok(())
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

/// The spans that came, or none when it is time to stop and no more are waiting.
async fn next_spans(token: &atoll_rt::CancellationToken, receiver: &mut SpanReceiver) -> Vec<Span> {
    if let Some(spans) = token.run_until_cancelled(receiver.recv_many(BATCH_SPANS_MAX)).await {
        return spans;
    }
    tokio::time::timeout(LAST_SPANS_TIMEOUT, receiver.recv_many(BATCH_SPANS_MAX)).await.unwrap_or_default()
}

fn span_key(span: &Span) -> String {
    format!("{}/{}", span.trace_id, span.span_id)
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

    #[tokio::test(flavor = "multi_thread")]
    async fn a_span_that_is_told_twice_counts_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let call = chat("t", "call", "root", "planner", (7, 3));
        let told = async |store: &TraceStore| {
            store.keep(vec![call.clone(), call.clone()]).await.expect("it is stored");
            let summary = store.list().traces.remove(0);
            assert_eq!((summary.spans, summary.usage.input_tokens), (1, 7));
        };
        with_store(&dir, 0, async |store| told(&store).await).await;
        with_store(&dir, 0, async |store| told(&store).await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_lost_on_the_way_is_counted() {
        let dir = tempfile::tempdir().expect("a directory");
        with_store(&dir, 0, async |store| {
            let group = TaskGroup::new("ingest");
            let (sink, receiver) = atoll_rt::telemetry::SpanSink::channel(1);
            for id in ["a", "b", "c"] {
                sink.send(span("t", id, None, 0));
            }
            store.ingest(receiver, &group);
            drop(sink);
            while store.list().traces.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(group.drain(Duration::from_secs(10)).await);
            assert_eq!((store.list().traces[0].spans, store.lost()), (1, 2));
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_waits_when_the_plane_stops_is_still_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        with_store(&dir, 0, async |store| {
            let group = TaskGroup::new("ingest");
            let (sink, receiver) = atoll_rt::telemetry::SpanSink::channel(8);
            group.cancel();
            sink.send(span("t", "a", None, 0));
            store.ingest(receiver, &group);
            assert!(group.drain(Duration::from_secs(10)).await);
            assert_eq!((store.list().traces.len(), store.lost()), (1, 0));
        })
        .await;
    }
}
