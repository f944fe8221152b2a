//! What is on the disk: one row for each version that is current or within the history.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, Transaction, params};
use tokio::sync::oneshot;

use crate::database::{Database, DatabaseError, Format};

use super::index::Index;
use super::{Change, Event, Expect, Record, Shared, StoreError, StoreOptions, Value};

/// Surplus history is removed when there is so much of it, and so much at a time.
const FORGET_EVENTS: usize = 64;

pub(super) const FORMAT: Format = Format {
    application_id: 0x4174_6b76,
    migrations: &["
        CREATE TABLE version (
            revision INTEGER PRIMARY KEY,
            key TEXT NOT NULL,
            change INTEGER NOT NULL,
            created INTEGER NOT NULL,
            previous INTEGER NOT NULL,
            checksum INTEGER NOT NULL,
            value BLOB NOT NULL
        ) STRICT;
        CREATE TABLE compacted (revision INTEGER NOT NULL) STRICT;
        INSERT INTO compacted VALUES (0);
    "],
    exclusive: true,
};

pub(super) const INSERT: &str =
    "INSERT INTO version (revision, key, change, created, previous, checksum, value) VALUES (?, ?, ?, ?, ?, ?, ?)";
pub(super) const CHANGE_PUT: i64 = 0;
const CHANGE_DELETE: i64 = 1;

/// A write that waits.
pub(super) struct WriteRequest {
    pub(super) key: String,
    pub(super) value: Option<Value>,
    pub(super) change: Change,
    pub(super) expect: Expect,
    pub(super) reply: oneshot::Sender<Result<Arc<Record>, StoreError>>,
}

type Reply = (oneshot::Sender<Result<Arc<Record>, StoreError>>, Result<Arc<Record>, StoreError>);

/// The writer's side of the database.
pub(super) struct Rows {
    database: Database,
    broken: bool,
}

impl Rows {
    /// Opens the file and reads the keyspace and its history.
    pub(super) fn open(path: &Path, options: StoreOptions) -> Result<(Self, Index), DatabaseError> {
        let database = Database::open(path, &FORMAT)?;
        let index = load(&database.connection, &database.path, options)?;
        Ok((Self { database, broken: false }, index))
    }

    /// Decides and writes a batch in one commit, then shows it to readers, watches and those who asked for it.
    pub(super) fn write(&mut self, shared: &Shared, batch: Vec<WriteRequest>) {
        let mut plan = Plan::new(shared);
        for request in batch {
            plan.take(request);
        }
        let surplus = shared.index.read().expect("no panic while the index is locked").surplus(2 * FORGET_EVENTS);
        let surplus = if surplus.len() < FORGET_EVENTS { Vec::new() } else { surplus };
        if let Err(error) = self.commit(&plan.events, &surplus) {
            tracing::error!(cause = %atoll_stdx::chain(&error), "a commit failed");
            for (reply, _) in plan.replies {
                let _caller_left = reply.send(Err(StoreError::Database(error.clone())));
            }
            return;
        }
        {
            let mut index = shared.index.write().expect("no panic while the index is locked");
            index.forget(surplus.len());
            for event in &plan.events {
                index.apply(Arc::clone(event));
            }
        }
        shared.hub.publish(&plan.events);
        for (reply, result) in plan.replies {
            let _caller_left = reply.send(result);
        }
    }

    fn commit(&mut self, events: &[Arc<Event>], surplus: &[Arc<Event>]) -> Result<(), DatabaseError> {
        let path = self.database.path.clone();
        if self.broken {
            return Err(DatabaseError::Broken { path });
        }
        if events.is_empty() && surplus.is_empty() {
            return Ok(());
        }
        let connection = &mut self.database.connection;
        let mut run = || {
            let transaction = connection.transaction()?;
            insert(&transaction, events)?;
            remove(&transaction, surplus)?;
            transaction.commit()
        };
        run().map_err(|error| {
            let error = DatabaseError::from_sqlite(&path, error);
            self.broken = matches!(error, DatabaseError::Broken { .. } | DatabaseError::Damaged { .. });
            error
        })
    }
}

/// What a batch comes to: later requests see what earlier ones will have done.
struct Plan<'a> {
    shared: &'a Shared,
    revision: u64,
    latest: HashMap<Arc<str>, Option<Arc<Record>>>,
    events: Vec<Arc<Event>>,
    replies: Vec<Reply>,
}

impl<'a> Plan<'a> {
    fn new(shared: &'a Shared) -> Self {
        let revision = shared.index.read().expect("no panic while the index is locked").revision();
        Self { shared, revision, latest: HashMap::new(), events: Vec::new(), replies: Vec::new() }
    }

    fn take(&mut self, request: WriteRequest) {
        let WriteRequest { key, value, change, expect, reply } = request;
        let current = match self.latest.get(&*key) {
            Some(latest) => latest.clone(),
            None => self.shared.index.read().expect("no panic while the index is locked").get(&key).cloned(),
        };
        let revision = current.as_ref().map(|record| record.revision);
        let holds = match expect {
            Expect::Absent => revision.is_none(),
            Expect::Revision(expected) => revision == Some(expected),
            Expect::Any => change == Change::Put || revision.is_some(),
        };
        if !holds || (change == Change::Delete && revision.is_none()) {
            self.replies.push((reply, Err(StoreError::Conflict { current: revision })));
            return;
        }
        let record = self.push(key, value, change, current);
        self.replies.push((reply, Ok(record)));
    }

    fn push(
        &mut self,
        key: String,
        value: Option<Value>,
        change: Change,
        previous: Option<Arc<Record>>,
    ) -> Arc<Record> {
        self.revision += 1;
        let revision = self.revision;
        let created = previous.as_ref().map_or(revision, |previous| previous.created_revision);
        let bytes = match (value, &previous) {
            (Some(value), _) => value.stamp(revision),
            (None, Some(previous)) => previous.value.clone(),
            (None, None) => Bytes::new(),
        };
        let key = previous.as_ref().map_or_else(|| Arc::from(key), |previous| Arc::clone(&previous.key));
        let record = Arc::new(Record::new(Arc::clone(&key), bytes, revision, created));
        self.latest.insert(key, (change == Change::Put).then(|| Arc::clone(&record)));
        self.events.push(Arc::new(Event { change, record: Arc::clone(&record), previous }));
        record
    }
}

fn insert(transaction: &Transaction<'_>, events: &[Arc<Event>]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(INSERT)?;
    for event in events {
        let record = &event.record;
        let change = match event.change {
            Change::Put => CHANGE_PUT,
            Change::Delete => CHANGE_DELETE,
        };
        let previous = event.previous.as_ref().map_or(0, |previous| previous.revision);
        statement.execute(params![
            record.revision.cast_signed(),
            &*record.key,
            change,
            record.created_revision.cast_signed(),
            previous.cast_signed(),
            checksum(record.revision, &record.key, &record.value),
            &*record.value,
        ])?;
    }
    Ok(())
}

/// Forgets writes: the versions they replaced go, and of removals the last value too.
fn remove(transaction: &Transaction<'_>, surplus: &[Arc<Event>]) -> rusqlite::Result<()> {
    let Some(latest) = surplus.last() else { return Ok(()) };
    let mut statement = transaction.prepare_cached("DELETE FROM version WHERE revision = ?")?;
    for event in surplus {
        if let Some(previous) = &event.previous {
            statement.execute([previous.revision.cast_signed()])?;
        }
        if event.change == Change::Delete {
            statement.execute([event.revision().cast_signed()])?;
        }
    }
    transaction.execute("UPDATE compacted SET revision = ?", [latest.revision().cast_signed()])?;
    Ok(())
}

pub(super) fn load(connection: &Connection, path: &Path, options: StoreOptions) -> Result<Index, DatabaseError> {
    let sqlite = |error| DatabaseError::from_sqlite(path, error);
    let damaged = |detail: String| DatabaseError::Damaged { path: PathBuf::from(path), detail };
    let compacted: i64 =
        connection.query_row("SELECT revision FROM compacted", [], |row| row.get(0)).map_err(sqlite)?;
    let mut index = Index::new(compacted.cast_unsigned(), options);
    let mut statement = connection
        .prepare("SELECT revision, key, change, created, previous, checksum, value FROM version ORDER BY revision")
        .map_err(sqlite)?;
    let mut rows = statement.query([]).map_err(sqlite)?;
    while let Some(row) = rows.next().map_err(sqlite)? {
        let stored = StoredVersion::read(row).map_err(sqlite)?;
        let revision = stored.record.revision;
        if checksum(revision, &stored.record.key, &stored.record.value) != stored.checksum {
            return Err(damaged(format!("the checksum of revision {revision} is wrong")));
        }
        let previous = index.get(&stored.record.key).cloned();
        let expected = previous.as_ref().map_or(0, |previous| previous.revision);
        if revision > compacted.cast_unsigned() && expected != stored.previous {
            return Err(damaged(format!("revision {} is missing before {revision}", stored.previous)));
        }
        index.apply(Arc::new(Event { change: stored.change, record: Arc::new(stored.record), previous }));
    }
    Ok(index)
}

struct StoredVersion {
    record: Record,
    change: Change,
    previous: u64,
    checksum: i64,
}

impl StoredVersion {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let key: String = row.get(1)?;
        let value: Vec<u8> = row.get(6)?;
        let change = if number(2)? == CHANGE_PUT.cast_unsigned() { Change::Put } else { Change::Delete };
        let record = Record::new(Arc::from(key), Bytes::from(value), number(0)?, number(3)?);
        Ok(Self { record, change, previous: number(4)?, checksum: row.get(5)? })
    }
}

/// 64-bit FNV-1a: finds damage that leaves SQLite's pages in order. Nobody is kept from forging it.
pub(super) fn checksum(revision: u64, key: &str, value: &[u8]) -> i64 {
    let bytes = revision.to_le_bytes().into_iter().chain(key.bytes()).chain(value.iter().copied());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash.cast_signed()
}
