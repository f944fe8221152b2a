//! Reading what was appended.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::{JournalEntry, ReadError, RecordPage, RunSummary, StoredRecord};

pub(super) fn entries(connection: &Connection, run_id: &str, from_seq: u64) -> Result<Vec<JournalEntry>, ReadError> {
    let mut statement =
        connection.prepare_cached("SELECT seq, kind, body FROM entry WHERE run_id = ? AND seq >= ? ORDER BY seq")?;
    let mut rows = statement.query(params![run_id, from_seq.cast_signed()])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)?.cast_unsigned();
        let body = json(&row.get::<_, String>(2)?, || format!("entry {seq} of run {run_id}"))?;
        entries.push(JournalEntry { seq, kind: row.get(1)?, body });
    }
    Ok(entries)
}

pub(super) fn runs(connection: &Connection) -> Result<Vec<RunSummary>, ReadError> {
    let mut statement =
        connection.prepare_cached("SELECT run_id, max(seq) FROM entry GROUP BY run_id ORDER BY run_id")?;
    let runs = statement
        .query_map([], |row| Ok(RunSummary { run_id: row.get(0)?, last_seq: row.get::<_, i64>(1)?.cast_unsigned() }))?;
    Ok(runs.collect::<Result<_, _>>()?)
}

pub(super) fn blob(connection: &Connection, sha256: &str) -> Result<Option<Vec<u8>>, ReadError> {
    let mut statement = connection.prepare_cached("SELECT body FROM blob WHERE sha256 = ?")?;
    Ok(statement.query_row([sha256], |row| row.get(0)).optional()?)
}

pub(super) fn record(connection: &Connection, kind: &str, key: &str) -> Result<Option<StoredRecord>, ReadError> {
    let mut statement =
        connection.prepare_cached("SELECT key, version, body FROM record WHERE kind = ? AND key = ?")?;
    let mut rows = statement.query([kind, key])?;
    rows.next()?.map(|row| stored_record(row, kind)).transpose()
}

pub(super) fn records(
    connection: &Connection,
    kind: &str,
    prefix: &str,
    after_key: Option<&str>,
    limit: usize,
) -> Result<RecordPage, ReadError> {
    let mut statement = connection
        .prepare_cached("SELECT key, version, body FROM record WHERE kind = ? AND key >= ? AND key > ? ORDER BY key")?;
    // A key that sorts before every other stands for "from the beginning": keys are not empty.
    let mut rows = statement.query([kind, prefix, after_key.unwrap_or("")])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let record = stored_record(row, kind)?;
        if !record.key.starts_with(prefix) {
            break;
        }
        if records.len() == limit {
            return Ok(RecordPage { records, more: true });
        }
        records.push(record);
    }
    Ok(RecordPage { records, more: false })
}

fn stored_record(row: &rusqlite::Row<'_>, kind: &str) -> Result<StoredRecord, ReadError> {
    let key: String = row.get(0)?;
    let body = json(&row.get::<_, String>(2)?, || format!("{kind} {key}"))?;
    Ok(StoredRecord { version: row.get::<_, i64>(1)?.cast_unsigned(), body, key })
}

pub(super) fn json(text: &str, what: impl FnOnce() -> String) -> Result<Value, ReadError> {
    serde_json::from_str(text).map_err(|_| ReadError::Json { what: what() })
}
