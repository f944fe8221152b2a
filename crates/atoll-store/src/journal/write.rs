//! Appending: what waits is written in one commit; a batch whose conditions do not hold leaves nothing.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Savepoint, params};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::database::{Database, DatabaseError};

use super::audit::{self, Head};
use super::{AppendBatch, JournalError, RecordExpect, RecordPut};

/// Runs whose next entry's number is remembered.
const RUNS_REMEMBERED_MAX: usize = 4096;

/// An append that waits.
pub(super) struct AppendRequest {
    pub(super) batch: AppendBatch,
    pub(super) reply: oneshot::Sender<Result<(), JournalError>>,
}

/// The writer's side of the database.
pub(super) struct Writer {
    database: Database,
    head: Head,
    next_seq: HashMap<String, u64>,
    broken: bool,
}

/// Why one batch was not written.
enum Failure {
    /// Its own fault; the others of the commit go on.
    Refused(JournalError),
    /// The database's.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self::Refused(error)
    }
}

impl Writer {
    pub(super) fn new(database: Database) -> Result<Self, DatabaseError> {
        let head =
            Head::load(&database.connection).map_err(|error| DatabaseError::from_sqlite(&database.path, error))?;
        Ok(Self { database, head, next_seq: HashMap::new(), broken: false })
    }

    pub(super) fn write(&mut self, requests: Vec<AppendRequest>) {
        let (batches, replies): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|request| (request.batch, request.reply)).unzip();
        let results = match self.commit(&batches) {
            Ok(results) => results,
            Err(error) => {
                tracing::error!(cause = %atoll_stdx::chain(&error), "a commit failed");
                // What was remembered may be ahead of the disk now.
                self.next_seq.clear();
                batches.iter().map(|_| Err(error.clone().into())).collect()
            }
        };
        for (reply, result) in replies.into_iter().zip(results) {
            let _caller_left = reply.send(result);
        }
    }

    fn commit(&mut self, batches: &[AppendBatch]) -> Result<Vec<Result<(), JournalError>>, DatabaseError> {
        let path = self.database.path.clone();
        if self.broken {
            return Err(DatabaseError::Broken { path });
        }
        if self.next_seq.len() > RUNS_REMEMBERED_MAX {
            self.next_seq.clear();
        }
        let mut head = self.head.clone();
        let (connection, next_seq) = (&mut self.database.connection, &mut self.next_seq);
        let mut run = || {
            let mut transaction = connection.transaction()?;
            let mut results = Vec::with_capacity(batches.len());
            for batch in batches {
                let before = head.clone();
                let savepoint = transaction.savepoint()?;
                match append(&savepoint, batch, &mut head, next_seq) {
                    Ok(()) => {
                        savepoint.commit()?;
                        results.push(Ok(()));
                    }
                    Err(Failure::Refused(error)) => {
                        savepoint.finish()?;
                        head = before;
                        next_seq.remove(&batch.run_id);
                        results.push(Err(error));
                    }
                    Err(Failure::Sqlite(error)) => return Err(error),
                }
            }
            if head.seq != self.head.seq {
                head.store(&transaction)?;
            }
            transaction.commit()?;
            Ok(results)
        };
        let results = run().map_err(|error| {
            let error = DatabaseError::from_sqlite(&path, error);
            self.broken = matches!(error, DatabaseError::Broken { .. } | DatabaseError::Damaged { .. });
            error
        })?;
        self.head = head;
        Ok(results)
    }
}

fn append(
    savepoint: &Savepoint<'_>,
    batch: &AppendBatch,
    head: &mut Head,
    next_seq: &mut HashMap<String, u64>,
) -> Result<(), Failure> {
    append_entries(savepoint, batch, next_seq)?;
    for (sha256, body) in &batch.blobs {
        if hex::encode(Sha256::digest(body)) != *sha256 {
            return Err(JournalError::BlobMismatch { sha256: sha256.clone() }.into());
        }
        let mut statement = savepoint.prepare_cached("INSERT OR IGNORE INTO blob (sha256, body) VALUES (?, ?)")?;
        statement.execute(params![sha256, body])?;
    }
    for record in &batch.records {
        put_record(savepoint, record)?;
    }
    for entry in &batch.audit {
        head.append(savepoint, entry)?;
    }
    if let Some(through) = batch.forget_audit_through {
        audit::forget(savepoint, through)?;
    }
    Ok(())
}

fn append_entries(
    connection: &Connection,
    batch: &AppendBatch,
    next_seq: &mut HashMap<String, u64>,
) -> Result<(), Failure> {
    if batch.entries.is_empty() {
        return Ok(());
    }
    let mut expected = match next_seq.get(&batch.run_id) {
        Some(next) => *next,
        None => last_seq(connection, &batch.run_id)? + 1,
    };
    let mut statement = connection.prepare_cached("INSERT INTO entry (run_id, seq, kind, body) VALUES (?, ?, ?, ?)")?;
    for entry in &batch.entries {
        if entry.seq != expected {
            let run_id = batch.run_id.clone();
            return Err(JournalError::SeqConflict { run_id, expected, found: entry.seq }.into());
        }
        statement.execute(params![batch.run_id, entry.seq.cast_signed(), entry.kind, entry.body.to_string()])?;
        expected += 1;
    }
    next_seq.insert(batch.run_id.clone(), expected);
    Ok(())
}

fn last_seq(connection: &Connection, run_id: &str) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached("SELECT coalesce(max(seq), 0) FROM entry WHERE run_id = ?")?;
    statement.query_row([run_id], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

fn put_record(connection: &Connection, record: &RecordPut) -> Result<(), Failure> {
    let RecordPut { kind, key, body, expect } = record;
    let mut statement = connection.prepare_cached("SELECT version FROM record WHERE kind = ? AND key = ?")?;
    let current: Option<i64> = statement.query_row([kind, key], |row| row.get(0)).optional()?;
    let current = current.map(i64::cast_unsigned);
    let holds = match expect {
        RecordExpect::Any => true,
        RecordExpect::Absent => current.is_none(),
        RecordExpect::Version(version) => current == Some(*version),
    };
    if !holds {
        return Err(JournalError::RecordConflict { kind: kind.clone(), key: key.clone(), current }.into());
    }
    let Some(body) = body else {
        connection.prepare_cached("DELETE FROM record WHERE kind = ? AND key = ?")?.execute([kind, key])?;
        return Ok(());
    };
    let version = current.unwrap_or(0) + 1;
    let mut statement =
        connection.prepare_cached("INSERT OR REPLACE INTO record (kind, key, version, body) VALUES (?, ?, ?, ?)")?;
    statement.execute(params![kind, key, version.cast_signed(), body.to_string()])?;
    Ok(())
}

/// About how large a batch is.
pub(super) fn batch_bytes(batch: &AppendBatch) -> usize {
    let entries = batch.entries.iter().map(|entry| entry.kind.len() + weight(&entry.body));
    let audit = batch.audit.iter().map(|entry| weight(&entry.detail));
    let blobs = batch.blobs.iter().map(|(_, body)| body.len());
    let records = batch.records.iter().filter_map(|record| record.body.as_ref()).map(weight);
    entries.chain(audit).chain(blobs).chain(records).sum()
}

fn weight(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len() + 2,
        serde_json::Value::Array(items) => items.iter().map(|item| weight(item) + 1).sum(),
        serde_json::Value::Object(members) => members.iter().map(|(name, item)| name.len() + 4 + weight(item)).sum(),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => 8,
    }
}
