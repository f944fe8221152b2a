//! Versioned keys with watch. The whole keyspace is in memory; SQLite makes it durable.
//!
//! Revisions are numbers of the whole store, one more for each write, never used twice. Keys are paths such as
//! `/registry/core/pods/default/web`; a *prefix* is either a whole key or a folder that ends in `/`.

mod backup;
mod index;
mod rows;
mod watch;

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use atoll_rt::TaskGroup;
use atoll_stdx::Hint;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::database::DatabaseError;
use crate::writer::{Queue, Refused};

pub use backup::StoreCopy;
use index::Index;
use rows::{Rows, WriteRequest};
use watch::Hub;
pub use watch::{Watch, WatchError};

/// The largest value.
pub const VALUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest key.
pub const KEY_BYTES_MAX: usize = 2048;

/// One version of one key.
pub struct Record {
    /// The key.
    pub key: Arc<str>,
    /// The bytes.
    pub value: Bytes,
    /// The write that made this version.
    pub revision: u64,
    /// The write that made the key (its first version since it was last absent).
    pub created_revision: u64,
    view: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Record {
    pub(crate) fn new(key: Arc<str>, value: Bytes, revision: u64, created_revision: u64) -> Self {
        Self { key, value, revision, created_revision, view: OnceLock::new() }
    }

    /// What the owner of the value reads out of it, computed once per version and shared by everyone who looks.
    ///
    /// # Panics
    /// If two callers ask for different types.
    pub fn view<T: Send + Sync + 'static>(&self, read: impl FnOnce(&Self) -> T) -> Arc<T> {
        let view = self.view.get_or_init(|| Arc::new(read(self)));
        Arc::clone(view).downcast().expect("every caller asks for the same type of view")
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Record")
            .field("key", &self.key)
            .field("bytes", &self.value.len())
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// What a write did to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Made it or replaced its value.
    Put,
    /// Removed it.
    Delete,
}

/// One write.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// The version that the write made; for a removal, the last value to show, under the removal's revision.
    pub record: Arc<Record>,
    /// The version before.
    pub previous: Option<Arc<Record>>,
}

impl Event {
    /// The revision of the write.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.record.revision
    }
}

/// Bytes to store.
#[derive(Debug, Clone, Default)]
pub struct Value {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where the store is to insert the revision of the write, in decimal digits.
    pub revision_at: Option<usize>,
}

impl Value {
    /// Bytes that are stored as they are.
    #[must_use]
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), revision_at: None }
    }

    /// In a piece of memory of exactly its length: there will be many of them for a long time.
    fn stamp(self, revision: u64) -> Bytes {
        let Some(offset) = self.revision_at else { return Bytes::from(self.bytes.into_boxed_slice()) };
        let (before, after) = self.bytes.split_at(offset);
        Bytes::from([before, revision.to_string().as_bytes(), after].concat())
    }
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key exists with this revision.
    Revision(u64),
    /// Nothing.
    Any,
}

/// A key and its new value.
#[derive(Debug, Clone)]
pub struct PutRequest {
    /// The key.
    pub key: String,
    /// The new value.
    pub value: Value,
    /// The condition.
    pub expect: Expect,
}

/// A key to remove.
#[derive(Debug, Clone)]
pub struct DeleteRequest {
    /// The key.
    pub key: String,
    /// The condition. A key that is absent is a conflict in any case.
    pub expect: Expect,
    /// What watchers are to see as the last value; `None`: the value that was stored.
    pub last_value: Option<Value>,
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListRequest<'a> {
    /// A folder ending in `/`, or a whole key.
    pub prefix: &'a str,
    /// Begin after this key.
    pub after_key: Option<&'a str>,
    /// At most so many; `None`: all.
    pub limit: Option<usize>,
    /// As it was after this write; `None`: as it is now.
    pub at_revision: Option<u64>,
}

/// A part of the keyspace at one moment.
#[derive(Debug, Clone)]
pub struct ListPage {
    /// In the order of their keys.
    pub records: Vec<Arc<Record>>,
    /// The moment.
    pub revision: u64,
    /// How many more there are after the limit.
    pub remaining: usize,
}

/// Why a request to the store failed. Where it was a write, it had no effect.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The condition of a write does not hold.
    #[error("the key has changed")]
    Conflict {
        /// The key's revision; `None` if it does not exist.
        current: Option<u64>,
    },
    /// The history does not reach back so far.
    #[error("the history begins after revision {oldest}")]
    Compacted {
        /// The oldest revision from which a watch can begin.
        oldest: u64,
    },
    /// A revision that has not been written yet.
    #[error("revision {asked} is in the future, the store is at {current}")]
    Future {
        /// The revision that was asked for.
        asked: u64,
        /// The revision of the latest write.
        current: u64,
    },
    /// A key or value beyond the limits.
    #[error("a key may have {KEY_BYTES_MAX} bytes and a value {VALUE_BYTES_MAX}")]
    TooLarge,
    /// Too many writes wait for the disk.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The store is shutting down. A write may or may not have happened.
    #[error("the store is shutting down")]
    Closed,
}

impl Hint for StoreError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Database(error) => error.hint(),
            Self::Overloaded => Some("repeat the request a little later".to_owned()),
            Self::Compacted { .. } => Some("list again and watch from the revision of that list".to_owned()),
            Self::Conflict { .. } | Self::Future { .. } | Self::TooLarge | Self::Closed => None,
        }
    }
}

impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Overloaded,
            Refused::Closed => Self::Closed,
        }
    }
}

/// How much history is kept for watches to resume from.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// At most so many writes.
    pub history_events_max: usize,
    /// At most so many bytes of their values.
    pub history_bytes_max: usize,
    /// None older than this, looked at with each write.
    pub history_age_max: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            history_events_max: 65_536,
            history_bytes_max: 32 * 1024 * 1024,
            history_age_max: Duration::from_secs(3600),
        }
    }
}

/// The store. Cloning shares it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    queue: Queue<WriteRequest>,
}

struct Shared {
    index: RwLock<Index>,
    hub: Hub,
}

impl Store {
    /// Opens or creates the file, and reads it. Blocks; to be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the file is in use, damaged, of a later release, or cannot be opened.
    pub fn open(path: impl AsRef<Path>, group: &TaskGroup) -> Result<Self, StoreError> {
        Self::open_with(path, group, StoreOptions::default())
    }

    /// As [`Store::open`], with a history of another length.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(path: impl AsRef<Path>, group: &TaskGroup, options: StoreOptions) -> Result<Self, StoreError> {
        let (rows, index) = Rows::open(path.as_ref(), options)?;
        let hub = Hub::new(index.revision());
        let shared = Arc::new(Shared { index: RwLock::new(index), hub });
        let queue = Queue::start(group, "store-writer", {
            let shared = Arc::clone(&shared);
            let mut rows = rows;
            move |batch| rows.write(&shared, batch)
        });
        Ok(Self { shared, queue })
    }

    /// Writes a value; returns when it is durable.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the condition does not hold; otherwise the disk's or the queue's.
    pub async fn put(&self, request: PutRequest) -> Result<Arc<Record>, StoreError> {
        let stamp_fits = request.value.revision_at.is_none_or(|offset| offset <= request.value.bytes.len());
        assert!(stamp_fits, "a stamp lies within its value");
        if request.key.len() > KEY_BYTES_MAX || request.value.bytes.len() > VALUE_BYTES_MAX {
            return Err(StoreError::TooLarge);
        }
        self.write(request.key, Some(request.value), Change::Put, request.expect).await
    }

    /// Removes a key; returns its last value as watchers see it when that is durable.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the condition does not hold or the key does not exist; otherwise the disk's or the
    /// queue's.
    pub async fn delete(&self, request: DeleteRequest) -> Result<Arc<Record>, StoreError> {
        self.write(request.key, request.last_value, Change::Delete, request.expect).await
    }

    async fn write(
        &self,
        key: String,
        value: Option<Value>,
        change: Change,
        expect: Expect,
    ) -> Result<Arc<Record>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(WriteRequest { key, value, change, expect, reply })?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The key's current version.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Arc<Record>> {
        self.index().get(key).cloned()
    }

    /// A part of the keyspace, now or as it was.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] or [`StoreError::Future`] if the asked-for moment is not known.
    pub fn list(&self, request: &ListRequest<'_>) -> Result<ListPage, StoreError> {
        self.index().list(request)
    }

    /// The revision of the latest write.
    #[must_use]
    pub fn current_revision(&self) -> u64 {
        self.index().revision()
    }

    /// The newest revision whose write is forgotten: history begins after it.
    #[must_use]
    pub fn compacted_revision(&self) -> u64 {
        self.index().compacted()
    }

    /// A revision up to which every write has been handed to the watches it concerns. A watch that has read this number
    /// first, and then found itself empty, has seen everything up to it.
    #[must_use]
    pub fn published_revision(&self) -> u64 {
        self.shared.hub.published()
    }

    /// All writes below the prefix after `from_revision`, in order and without gaps.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] if the history does not reach back so far.
    pub fn watch(&self, prefix: &str, from_revision: u64) -> Result<Watch, StoreError> {
        // Registered first: a write between the two steps comes twice, and the watch drops the second.
        let registered = Hub::register(&self.shared, prefix);
        let (backlog, seen) = self.index().history(prefix, from_revision)?;
        Ok(registered.begin(backlog, seen.max(from_revision)))
    }

    /// How many watches are open, and how many were ended because their reader was too slow.
    #[must_use]
    pub fn watch_counts(&self) -> (usize, u64) {
        self.shared.hub.counts()
    }

    fn index(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.shared.index.read().expect("no panic while the index is locked")
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Store").field("revision", &self.current_revision()).finish_non_exhaustive()
    }
}
