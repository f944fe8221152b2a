//! What is kept of connections: every record in the audit chain, and the latest at hand for whoever watches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_egress::record::{ConnectionRecord, Stage};
use atoll_rt::TaskGroup;
use atoll_store::{AppendBatch, AuditEntry, Journal, JournalError};
use tokio::sync::{broadcast, mpsc};

/// Records that are at hand.
const LATEST_MAX: usize = 2000;
/// Records that a watcher may be behind; one that is slower misses some and is told so.
const BEHIND_MAX: usize = 1024;
const BATCH_RECORDS_MAX: usize = 256;
/// How often a full queue of the journal is tried again, and how long apart.
const TRIES_MAX: u32 = 100;
const TRY_INTERVAL: Duration = Duration::from_millis(100);

/// The latest records. Clones share them.
#[derive(Clone)]
pub(super) struct Ledger {
    latest: Arc<Mutex<VecDeque<ConnectionRecord>>>,
    news: broadcast::Sender<ConnectionRecord>,
}

impl Ledger {
    /// Keeps what comes in until there is no more, or until it cannot be kept: then nobody takes records, and nothing is
    /// carried.
    pub(super) fn start(mut records: mpsc::Receiver<ConnectionRecord>, journal: Journal, group: &TaskGroup) -> Self {
        let ledger = Self { latest: Arc::default(), news: broadcast::Sender::new(BEHIND_MAX) };
        let (keeper, stop) = (ledger.clone(), group.token());
        group.spawn("egress-ledger", async move {
            let keeping = async {
                loop {
                    let mut batch = Vec::new();
                    if records.recv_many(&mut batch, BATCH_RECORDS_MAX).await == 0 {
                        return;
                    }
                    if let Err(error) = append(&journal, &batch).await {
                        let cause = atoll_stdx::chain(&error);
                        tracing::error!(cause, "connections cannot be recorded: nothing leaves sandboxes any more");
                        return;
                    }
                    keeper.keep(batch);
                }
            };
            let _stopped = stop.run_until_cancelled(keeping).await;
        });
        ledger
    }

    /// The latest records, and those to come.
    pub(super) fn watch(&self) -> (Vec<ConnectionRecord>, broadcast::Receiver<ConnectionRecord>) {
        let latest = self.lock();
        // Within the lock: nothing is missed or told twice.
        (latest.iter().cloned().collect(), self.news.subscribe())
    }

    fn keep(&self, batch: Vec<ConnectionRecord>) {
        let mut latest = self.lock();
        for record in batch {
            if latest.len() >= LATEST_MAX {
                latest.pop_front();
            }
            latest.push_back(record.clone());
            // Nobody may be watching.
            let _ = self.news.send(record);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<ConnectionRecord>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn append(journal: &Journal, records: &[ConnectionRecord]) -> Result<(), JournalError> {
    let batch = AppendBatch { audit: records.iter().map(entry).collect(), ..AppendBatch::default() };
    for _ in 0..TRIES_MAX {
        match journal.append(batch.clone()).await {
            Err(JournalError::Overloaded) => tokio::time::sleep(TRY_INTERVAL).await,
            other => return other,
        }
    }
    Err(JournalError::Overloaded)
}

fn entry(record: &ConnectionRecord) -> AuditEntry {
    let (action, outcome) = match record.stage {
        Stage::Opened => ("egress/connect", "allow"),
        Stage::Closed => ("egress/connect", "done"),
        Stage::Refused => ("egress/connect", "deny"),
    };
    AuditEntry {
        at_unix_ms: record.at_unix_ms,
        actor: format!("sandbox/{}/{}", record.namespace, record.sandbox),
        action: action.to_owned(),
        outcome: outcome.to_owned(),
        run_id: record.run.clone(),
        detail: serde_json::to_value(record).expect("records are plain values"),
    }
}
