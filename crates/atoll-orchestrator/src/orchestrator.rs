//! The orchestrator as a whole: what all runs share, taking up what an earlier process left, and finding runs.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_api::v1;
use atoll_engine::{Event, Limits, Outcome, OutcomeName, RunState};
use atoll_policy::Policy;
use atoll_rt::TaskGroup;
use atoll_rt::telemetry::SpanSink;
use atoll_stdx::{Clock, Hint, chain};
use atoll_store::{AUDIT_FORGET, AppendBatch, AuditEntry, Journal, JournalError, RecordExpect, StoredRecord};
use axum::Router;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::blobs::Blobs;
use crate::config::OrchestratorConfig;
use crate::forge::ForgeClient;
use crate::heads::{HeadError, Heads};
use crate::http;
use crate::mcp::http::HttpClient;
use crate::model::ModelClient;
use crate::policy::PolicyInForce;
use crate::records::{self, Acted, RunRecord, put};
use crate::repos::Repos;
use crate::run::{Driver, RunHandle};
use crate::spans;
use crate::view::{self, LogError, Logged};
use crate::workbench::Workbench;

/// Records read at a time.
const PAGE_RECORDS: usize = 1000;
/// Journal entries whose spans are sent once more when a run is taken up.
const SPANS_AGAIN_ENTRIES: usize = 64;

/// How often the end of the audit chain is signed, when it has grown.
const SIGN_EVERY: Duration = Duration::from_secs(60);
/// Audit records past their time are looked for once in so many signings.
const SIGNINGS_PER_LOOK: u64 = 60;
const MS_PER_DAY: u64 = 24 * 60 * 60 * 1000;

/// Runs agents. Cloning shares it.
#[derive(Clone)]
pub struct Orchestrator {
    shared: Arc<Shared>,
}

/// The orchestrator can not start.
#[derive(Debug, thiserror::Error)]
pub enum OrchestratorError {
    #[error("the directory of the orchestrator cannot be used")]
    Directory(#[source] io::Error),
    #[error("the HTTP client for model gateway and MCP servers cannot be made")]
    Client(#[source] reqwest::Error),
    #[error("the journal of runs cannot be read")]
    Journal(#[source] JournalError),
}

impl Hint for OrchestratorError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Directory(_) => Some("see whether the disk is full and who owns the state directory".to_owned()),
            Self::Client(_) => None,
            Self::Journal(error) => error.hint(),
        }
    }
}

/// What all runs share.
pub(crate) struct Shared {
    pub(crate) journal: Journal,
    pub(crate) workbench: Arc<dyn Workbench>,
    pub(crate) model: ModelClient,
    pub(crate) mcp: HttpClient,
    pub(crate) forges: ForgeClient,
    pub(crate) policy: PolicyInForce,
    pub(crate) spans: SpanSink,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) blobs: Blobs,
    pub(crate) heads: Heads,
    pub(crate) repos: Repos,
    pub(crate) limits: Limits,
    /// One permit for each effect on its way.
    pub(crate) concurrency: Semaphore,
    pub(crate) group: TaskGroup,
    pub(crate) instance: String,
    /// SHA-256 of the token, so that comparing takes the same time for every wrong one.
    pub(crate) token_sha256: [u8; 32],
    pub(crate) api_hosts: Vec<String>,
    runs: Mutex<HashMap<String, RunHandle>>,
}

impl Orchestrator {
    /// Starts, and takes up every run that is not over. Runs go on until the group stops; what they were doing then is
    /// taken up at the next start.
    ///
    /// # Errors
    /// When the directory, the journal or the HTTP client can not be used. A single run that can not be taken up is
    /// closed with an outcome that says so, and is no error.
    pub async fn start(config: OrchestratorConfig, group: &TaskGroup) -> Result<Self, OrchestratorError> {
        let model = ModelClient::new(config.gateway).map_err(OrchestratorError::Client)?;
        let mcp = HttpClient::new().map_err(OrchestratorError::Client)?;
        let found = all_records(&config.journal, records::RUN).await.map_err(OrchestratorError::Journal)?;
        let known: BTreeSet<&str> = found.iter().map(|record| record.key.as_str()).collect();
        let directory = OrchestratorError::Directory;
        let repos = Repos::open(config.data_dir.join("repos"), |run| known.contains(run)).await.map_err(directory)?;
        let blobs = Blobs::open(config.data_dir.join("blobs")).await.map_err(directory)?;
        let heads = Heads::open(&config.data_dir.join("audit")).await.map_err(directory)?;
        let shared = Arc::new(Shared {
            journal: config.journal,
            workbench: config.workbench,
            model,
            mcp,
            forges: ForgeClient::new().map_err(OrchestratorError::Client)?,
            policy: config.policy,
            spans: config.spans,
            clock: config.clock,
            blobs,
            heads,
            repos,
            limits: config.limits,
            concurrency: Semaphore::new(config.agent_concurrency_max.max(1)),
            group: group.clone(),
            instance: config.instance,
            token_sha256: Sha256::digest(config.api_token.expose()).into(),
            api_hosts: config.api_hosts,
            runs: Mutex::default(),
        });
        group.spawn("audit-heads", sign_heads(Arc::clone(&shared)));
        for record in &found {
            shared.take_up(record).await.map_err(OrchestratorError::Journal)?;
        }
        Ok(Self { shared })
    }

    /// Puts a policy in force for everything that is decided from now on. What runs were started with, their agents and
    /// limits, stays as it is.
    ///
    /// # Errors
    /// When the change can not be put into the audit trail; the old policy holds then.
    pub async fn replace_policy(&self, policy: Policy) -> Result<(), JournalError> {
        let old = self.shared.policy.current();
        if old.hash() == policy.hash() {
            return Ok(());
        }
        let detail = json!({"policy_hash": policy.hash(), "previous_policy_hash": old.hash()});
        self.shared.audit_plane("policy/replace", "done", detail).await?;
        self.shared.policy.replace(policy, self.shared.clock.now_unix_ms());
        Ok(())
    }

    /// Says that what was offered as a policy is none; the old one holds.
    ///
    /// # Errors
    /// When that can not be put into the audit trail.
    pub async fn reject_policy(&self, why: &str) -> Result<(), JournalError> {
        self.shared.policy.reject(why.to_owned());
        self.shared.audit_plane("policy/replace", "rejected", json!({"reason": why})).await
    }

    /// Forgets audit records that are older, at a time in milliseconds since the Unix epoch, than the policy's
    /// `trace_retention_days`; returns the number of the last one. It happens by itself every hour; what goes is signed
    /// before it goes, and the chain tells of it.
    ///
    /// # Errors
    /// When the end of the chain can not be signed, or the change not be written; nothing is forgotten then.
    pub async fn forget_old_audit(&self, now_unix_ms: u64) -> Result<Option<u64>, ForgetError> {
        self.shared.forget_old_audit(now_unix_ms).await
    }

    /// The policy API alone, for other systems: `/v1/policy` and what is below it.
    pub fn policy_service(&self) -> Router {
        http::policy_service(&self.shared)
    }

    /// The platform API but for traces. `more` is served with it, behind the same token and checks: those, for instance.
    pub fn service(&self, more: Router) -> Router {
        http::service(&self.shared, more)
    }
}

/// Audit records past their time are still there.
#[derive(Debug, thiserror::Error)]
#[error("the audit trail cannot be shortened")]
pub struct ForgetError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Signs the end of the audit chain as it grows, and once more when the plane stops.
async fn sign_heads(shared: Arc<Shared>) {
    let stopping = shared.group.token();
    for signing in 0_u64.. {
        if signing % SIGNINGS_PER_LOOK == 0
            && let Err(error) = shared.forget_old_audit(shared.clock.now_unix_ms()).await
        {
            tracing::error!(cause = chain(&error), "audit records past their time were not forgotten");
        }
        let stops = tokio::select! {
            () = stopping.cancelled() => true,
            () = tokio::time::sleep(SIGN_EVERY) => false,
        };
        match shared.heads.sign(&shared.journal, shared.clock.now_unix_ms()).await {
            Ok(Some(head)) => {
                tracing::info!(records = head.records, head = head.head, signature = head.signature, "audit head");
            }
            Ok(None) => {}
            Err(error) => tracing::error!(cause = chain(&error), "the end of the audit chain was not signed"),
        }
        if stops {
            return;
        }
    }
}

/// Why one run can not be taken up.
#[derive(Debug, thiserror::Error)]
enum TakeUpError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Log(#[from] LogError),
}

impl Shared {
    fn runs(&self) -> MutexGuard<'_, HashMap<String, RunHandle>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something that the plane did by itself into the audit trail.
    async fn audit_plane(&self, action: &str, outcome: &str, detail: serde_json::Value) -> Result<(), JournalError> {
        let acted = Acted { at_ms: self.clock.now_unix_ms(), run_id: "", actor: "atoll" };
        let entry = AuditEntry { run_id: None, ..acted.entry(action, outcome, detail) };
        self.journal.append(AppendBatch { audit: vec![entry], ..AppendBatch::default() }).await
    }

    async fn forget_old_audit(&self, now_ms: u64) -> Result<Option<u64>, ForgetError> {
        let days = u64::from(self.policy.current().governance().trace_retention_days);
        let journal = |error: JournalError| ForgetError(error.into());
        let unsigned = |error: HeadError| ForgetError(error.into());
        let horizon_ms = now_ms.saturating_sub(days.saturating_mul(MS_PER_DAY));
        let Some((through, hash)) = self.journal.audit_older_than(horizon_ms).await.map_err(journal)? else {
            return Ok(None);
        };
        self.heads.sign(&self.journal, self.clock.now_unix_ms()).await.map_err(unsigned)?;
        let acted = Acted { at_ms: self.clock.now_unix_ms(), run_id: "", actor: "atoll" };
        let detail = json!({"through": through, "hash": hash, "older_than_days": days});
        let entry = AuditEntry { run_id: None, ..acted.entry(AUDIT_FORGET, "done", detail) };
        let batch = AppendBatch { audit: vec![entry], forget_audit_through: Some(through), ..AppendBatch::default() };
        self.journal.append(batch).await.map_err(journal)?;
        tracing::info!(through, days, "audit records past their time are forgotten");
        Ok(Some(through))
    }

    /// A run that is driven by this process.
    pub(crate) fn run(&self, run_id: &str) -> Option<RunHandle> {
        self.runs().get(run_id).cloned()
    }

    /// All runs that are driven by this process.
    pub(crate) fn live_runs(&self) -> Vec<RunHandle> {
        self.runs().values().cloned().collect()
    }

    /// A run's driver has ended.
    pub(crate) fn forget(&self, run_id: &str) {
        self.runs().remove(run_id);
    }

    /// Drives a run from here on. Its journal ends with entry `seq`.
    pub(crate) fn drive(self: &Arc<Self>, state: RunState, seq: u64) {
        let (driver, handle) = Driver::new(Arc::clone(self), state, seq);
        self.runs().insert(handle.run_id.to_string(), handle);
        self.group.spawn("run", driver.drive());
    }

    /// The journal of a run, read; nothing for a run that does not exist.
    pub(crate) async fn log(&self, run_id: &str) -> Result<Vec<Logged>, HistoryError> {
        let entries = self.journal.read(run_id, 1).await?;
        Ok(view::read(run_id, &entries)?)
    }

    /// Takes up a run that another process left, unless it is closed.
    async fn take_up(self: &Arc<Self>, record: &StoredRecord) -> Result<(), JournalError> {
        let Ok(known) = serde_json::from_value::<RunRecord>(record.body.clone()) else {
            tracing::error!(run = record.key, "the record of a run is not readable");
            return Ok(());
        };
        if known.closed {
            return Ok(());
        }
        let run_id = &record.key;
        match self.replay(run_id, &known, record.version).await {
            Ok((state, seq)) => {
                tracing::info!(run = run_id, from = known.owner, "taking a run up");
                self.drive(state, seq);
                Ok(())
            }
            Err(TakeUpError::Journal(JournalError::RecordConflict { .. } | JournalError::SeqConflict { .. })) => {
                tracing::info!(run = run_id, "another process took the run up");
                Ok(())
            }
            Err(TakeUpError::Journal(error @ JournalError::Unreadable { .. })) => {
                self.give_up(run_id, known, &chain(&error)).await
            }
            Err(TakeUpError::Journal(error)) => Err(error),
            Err(TakeUpError::Log(error)) => self.give_up(run_id, known, &chain(&error)).await,
        }
    }

    /// Replays the journal and makes this process the owner, in one transaction with the entry that says so.
    async fn replay(&self, run_id: &str, known: &RunRecord, version: u64) -> Result<(RunState, u64), TakeUpError> {
        let entries = self.journal.read(run_id, 1).await?;
        let log = view::read(run_id, &entries)?;
        // Spans are kept a little after the journal; those of the newest entries may have been lost with the process. They
        // carry the same ids as before, so none counts twice.
        let mut spans_again = Vec::new();
        let passed = log.len().saturating_sub(SPANS_AGAIN_ENTRIES);
        let walked = view::walk(&log, passed, |before, logged, state, _| {
            spans_again.extend(spans::ended(before, &logged.data, state, logged.at_ms));
        });
        let mut state = walked.ok_or_else(|| LogError::NoBeginning { run_id: run_id.to_owned() })?;
        let seq = log.len() as u64 + 1;
        let resumed = Logged { at_ms: self.clock.now_unix_ms(), data: Event::Resumed {} };
        let owned = RunRecord { owner: self.instance.clone(), ..known.clone() };
        let batch = AppendBatch {
            run_id: run_id.to_owned(),
            entries: vec![resumed.entry(seq)],
            records: vec![put(records::RUN, run_id, &owned, RecordExpect::Version(version))],
            ..AppendBatch::default()
        };
        self.journal.append(batch).await?;
        spans_again.into_iter().for_each(|span| self.spans.send(span));
        atoll_engine::retrace(&mut state, &resumed.data, resumed.at_ms);
        Ok((state, seq))
    }

    /// Closes a run whose journal can not be used any more. Its sandboxes go; its journal stays as it is.
    async fn give_up(&self, run_id: &str, known: RunRecord, why: &str) -> Result<(), JournalError> {
        tracing::error!(run = run_id, cause = why, "a run cannot be taken up");
        let mut summary = known.summary;
        summary.status = v1::RunStatus::Finished;
        let outcome = Outcome::new(OutcomeName::Internal, format!("the run could not be taken up: {why}"))
            .hint("the state directory may be damaged; restore it from a copy, or submit the task again");
        summary.outcome = Some(view::outcome(&outcome));
        summary.finished_at_ms = Some(self.clock.now_unix_ms());
        if let Err(error) = self.workbench.release(run_id).await {
            tracing::warn!(run = run_id, cause = chain(&error), "sandboxes could not be given back");
        }
        let record = RunRecord { owner: self.instance.clone(), closed: true, summary };
        let records = vec![put(records::RUN, run_id, &record, RecordExpect::Any)];
        self.journal.append(AppendBatch { records, ..AppendBatch::default() }).await
    }
}

/// A run's story can not be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Every record of a kind, in the order of the keys.
pub(crate) async fn all_records(journal: &Journal, kind: &str) -> Result<Vec<StoredRecord>, JournalError> {
    let mut all: Vec<StoredRecord> = Vec::new();
    loop {
        let after = all.last().map(|record| record.key.clone());
        let page = journal.records(kind, "", after.as_deref(), PAGE_RECORDS).await?;
        all.extend(page.records);
        if !page.more {
            return Ok(all);
        }
    }
}
