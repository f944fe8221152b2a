//! Append-only journals of runs, an audit chain committed with them, blobs by hash, and small records by name.
//!
//! One call to [`Journal::append`] is one transaction: entries, audit records, blobs and records become durable together
//! or not at all.

mod audit;
mod backup;
mod read;
mod write;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use atoll_rt::TaskGroup;
use atoll_stdx::Hint;
use rusqlite::Connection;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::database::{Database, DatabaseError, Format};
use crate::writer::{Queue, Refused};

pub use audit::{AUDIT_FORGET, AuditBroken, AuditEntry, AuditFilter, AuditRecord, AuditSummary};
use write::{AppendRequest, Writer};

/// The largest batch, all its parts together.
pub const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

const FORMAT: Format = Format {
    application_id: 0x4174_6a6c,
    migrations: &[
        "
        CREATE TABLE entry (
            run_id TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL,
            PRIMARY KEY (run_id, seq)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE audit (
            seq INTEGER PRIMARY KEY, run_id TEXT, outcome TEXT NOT NULL, record TEXT NOT NULL, hash TEXT NOT NULL
        ) STRICT;
        CREATE INDEX audit_run ON audit (run_id) WHERE run_id IS NOT NULL;
        CREATE TABLE audit_head (seq INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
        CREATE TABLE blob (sha256 TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;
        CREATE TABLE record (
            kind TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL,
            PRIMARY KEY (kind, key)
        ) STRICT, WITHOUT ROWID;
    ",
        "
        CREATE TABLE audit_floor (seq INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
    ",
    ],
    exclusive: false,
};

/// One step of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    /// Its place in the run: the first is 1, each later one is the next number.
    pub seq: u64,
    /// What kind of step.
    pub kind: String,
    /// What the kind says.
    pub body: Value,
}

/// What must hold for a record to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordExpect {
    /// Nothing.
    #[default]
    Any,
    /// It does not exist.
    Absent,
    /// It exists with this version.
    Version(u64),
}

/// A record to put under a kind and a key; `None` as the body removes it.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordPut {
    /// The kind, for instance `approval`.
    pub kind: String,
    /// The key within the kind.
    pub key: String,
    /// The content.
    pub body: Option<Value>,
    /// The condition.
    pub expect: RecordExpect,
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecord {
    /// The key within the kind.
    pub key: String,
    /// 1 when first put, one more with each change.
    pub version: u64,
    /// The content.
    pub body: Value,
}

/// Some records of one kind, in the order of their keys.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<StoredRecord>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// What becomes durable together.
#[derive(Debug, Clone, Default)]
pub struct AppendBatch {
    /// The run that the entries belong to. May be empty where there are none.
    pub run_id: String,
    /// The run's next entries.
    pub entries: Vec<JournalEntry>,
    /// Records for the audit chain.
    pub audit: Vec<AuditEntry>,
    /// Blobs, each with the lower-case hexadecimal SHA-256 of its bytes.
    pub blobs: Vec<(String, Vec<u8>)>,
    /// Records to put.
    pub records: Vec<RecordPut>,
    /// Audit records up to this one are forgotten. The batch's own `audit` must have the record that says so: one with
    /// the action [`AUDIT_FORGET`], and `through` and `hash` of the last forgotten record in its detail. A chain whose
    /// beginning is missing without it does not hold.
    pub forget_audit_through: Option<u64>,
}

/// A run that has entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// The run.
    pub run_id: String,
    /// The number of its last entry.
    pub last_seq: u64,
}

/// Why a request to the journal failed. Where it was an append, it had no effect.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// An entry is not the run's next: somebody else has written to the run.
    #[error("the next entry of run {run_id} is {expected}, not {found}")]
    SeqConflict {
        /// The run.
        run_id: String,
        /// The number that the next entry must have.
        expected: u64,
        /// The number that it had.
        found: u64,
    },
    /// The condition of a record does not hold.
    #[error("{kind} {key} has changed")]
    RecordConflict {
        /// The record's kind.
        kind: String,
        /// The record's key.
        key: String,
        /// Its version; `None` if it does not exist.
        current: Option<u64>,
    },
    /// A blob's bytes do not have the hash that was given with them.
    #[error("the content of blob {sha256} has another hash")]
    BlobMismatch {
        /// The hash that was given.
        sha256: String,
    },
    /// What is stored is no JSON.
    #[error("{what} is not readable")]
    Unreadable {
        /// What it is.
        what: String,
    },
    /// A batch beyond the limit.
    #[error("a batch may have {BATCH_BYTES_MAX} bytes")]
    TooLarge,
    /// Too many appends wait for the disk.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The journal is shutting down. An append may or may not have happened.
    #[error("the journal is shutting down")]
    Closed,
}

impl Hint for JournalError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Database(error) => error.hint(),
            Self::Overloaded => Some("repeat the request a little later".to_owned()),
            _ => None,
        }
    }
}

impl From<Refused> for JournalError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Overloaded,
            Refused::Closed => Self::Closed,
        }
    }
}

/// The journal. Cloning shares it.
#[derive(Clone)]
pub struct Journal {
    queue: Queue<AppendRequest>,
    reader: Arc<Reader>,
    group: TaskGroup,
}

struct Reader {
    connection: Mutex<Connection>,
    path: std::path::PathBuf,
}

impl Journal {
    /// Opens or creates the file. Blocks; to be called within a tokio runtime.
    ///
    /// # Errors
    /// [`JournalError::Database`] if the file is in use, damaged, of a later release, or cannot be opened.
    pub fn open(path: impl AsRef<Path>, group: &TaskGroup) -> Result<Self, JournalError> {
        let database = Database::open(path.as_ref(), &FORMAT)?;
        let reader = Arc::new(Reader { connection: Mutex::new(database.reader()?), path: database.path.clone() });
        let mut writer = Writer::new(database)?;
        let queue = Queue::start(group, "journal-writer", move |batch| writer.write(batch));
        Ok(Self { queue, reader, group: group.clone() })
    }

    /// Writes a batch; returns when it is durable.
    ///
    /// # Errors
    /// [`JournalError::SeqConflict`], [`JournalError::RecordConflict`], [`JournalError::BlobMismatch`]; otherwise the
    /// disk's or the queue's.
    pub async fn append(&self, batch: AppendBatch) -> Result<(), JournalError> {
        if write::batch_bytes(&batch) > BATCH_BYTES_MAX {
            return Err(JournalError::TooLarge);
        }
        let (reply, answer) = oneshot::channel();
        self.queue.push(AppendRequest { batch, reply })?;
        answer.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Puts one record, whatever was there.
    ///
    /// # Errors
    /// The disk's or the queue's.
    pub async fn put_record(&self, kind: &str, key: &str, body: Value) -> Result<(), JournalError> {
        let record =
            RecordPut { kind: kind.to_owned(), key: key.to_owned(), body: Some(body), expect: RecordExpect::Any };
        self.append(AppendBatch { records: vec![record], ..AppendBatch::default() }).await
    }

    /// The run's entries from a number on, in order.
    ///
    /// # Errors
    /// The disk's.
    pub async fn read(&self, run_id: &str, from_seq: u64) -> Result<Vec<JournalEntry>, JournalError> {
        let run_id = run_id.to_owned();
        self.reading(move |connection| read::entries(connection, &run_id, from_seq)).await
    }

    /// Every run that has entries, in the order of their ids.
    ///
    /// # Errors
    /// The disk's.
    pub async fn runs(&self) -> Result<Vec<RunSummary>, JournalError> {
        self.reading(read::runs).await
    }

    /// A blob by the lower-case hexadecimal SHA-256 of its bytes.
    ///
    /// # Errors
    /// The disk's.
    pub async fn blob(&self, sha256: &str) -> Result<Option<Vec<u8>>, JournalError> {
        let sha256 = sha256.to_owned();
        self.reading(move |connection| read::blob(connection, &sha256)).await
    }

    /// One record.
    ///
    /// # Errors
    /// The disk's.
    pub async fn record(&self, kind: &str, key: &str) -> Result<Option<StoredRecord>, JournalError> {
        let (kind, key) = (kind.to_owned(), key.to_owned());
        self.reading(move |connection| read::record(connection, &kind, &key)).await
    }

    /// At most `limit` records of a kind whose keys begin with `prefix`, after a key, in the order of their keys.
    ///
    /// # Errors
    /// The disk's.
    pub async fn records(
        &self,
        kind: &str,
        prefix: &str,
        after_key: Option<&str>,
        limit: usize,
    ) -> Result<RecordPage, JournalError> {
        let (kind, prefix, after_key) = (kind.to_owned(), prefix.to_owned(), after_key.map(str::to_owned));
        self.reading(move |connection| read::records(connection, &kind, &prefix, after_key.as_deref(), limit)).await
    }

    /// Checks the audit chain from a record on (1 is the first).
    ///
    /// # Errors
    /// The disk's. The inner error names the first record that was changed, removed or put in.
    pub async fn audit_verify(&self, from_seq: u64) -> Result<Result<AuditSummary, AuditBroken>, JournalError> {
        self.reading(move |connection| audit::verify(connection, from_seq)).await
    }

    /// Where the audit chain ends, as it says itself; nothing is checked.
    ///
    /// # Errors
    /// The disk's.
    pub async fn audit_head(&self) -> Result<AuditSummary, JournalError> {
        self.reading(audit::head).await
    }

    /// The hash of one audit record; `None` when there is no such record.
    ///
    /// # Errors
    /// The disk's.
    pub async fn audit_hash(&self, seq: u64) -> Result<Option<String>, JournalError> {
        self.reading(move |connection| audit::hash_of(connection, seq)).await
    }

    /// The last audit record of those at the beginning that are older than a time, and its hash. The newest record is never
    /// among them.
    ///
    /// # Errors
    /// The disk's.
    pub async fn audit_older_than(&self, unix_ms: u64) -> Result<Option<(u64, String)>, JournalError> {
        self.reading(move |connection| audit::older_than(connection, unix_ms)).await
    }

    /// The last audit record that was forgotten, and its hash.
    ///
    /// # Errors
    /// The disk's.
    pub async fn audit_floor(&self) -> Result<Option<(u64, String)>, JournalError> {
        self.reading(|connection| Ok(audit::floor(connection)?)).await
    }

    /// Audit records in order.
    ///
    /// # Errors
    /// The disk's.
    pub async fn audit_list(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, JournalError> {
        self.reading(move |connection| audit::list(connection, &filter)).await
    }

    async fn reading<T, F>(&self, read: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    {
        let reader = Arc::clone(&self.reader);
        let task = self.group.spawn_blocking("journal-read", move || {
            let connection = reader.connection.lock().expect("no panic while the reader is locked");
            read(&connection).map_err(|error| match error {
                ReadError::Sqlite(error) => DatabaseError::from_sqlite(&reader.path, error).into(),
                ReadError::Json { what } => JournalError::Unreadable { what },
            })
        });
        task.await.unwrap_or(Err(JournalError::Closed))
    }
}

/// A read that failed below.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the database cannot be read")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{what} is not JSON")]
    Json { what: String },
}

impl fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Journal").field("path", &self.reader.path).finish_non_exhaustive()
    }
}
