//! The audit chain: each record's hash covers the record before it, so that none can be changed, removed or put in later
//! without every following hash changing.
//!
//! A record's hash is SHA-256 over the previous record's hash (64 lower-case hexadecimal digits, of zeros for the first)
//! followed by the record's canonical JSON, itself written in hexadecimal.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::canonical::canonical_json;

use super::ReadError;

/// The previous hash of the first record.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The action of a record that says that older ones were forgotten.
pub const AUDIT_FORGET: &str = "audit/forget";
/// The most records that one listing gives.
const LIST_RECORDS_MAX: usize = 10_000;

/// Something that somebody did, or was kept from doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Who, for instance `agent/code-writer` or `user/jo`.
    pub actor: String,
    /// What, for instance `tool/terminal_execute`.
    pub action: String,
    /// How it went, for instance `allow` or `deny`.
    pub outcome: String,
    /// The run that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Everything else that explains it. No secrets.
    #[serde(default)]
    pub detail: Value,
}

/// An entry with its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditRecord {
    /// 1 for the first.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// The hash of the record before.
    pub previous_hash: String,
    /// The hash of this record.
    pub hash: String,
}

/// What a sound chain comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditSummary {
    /// How many records were checked.
    pub count: u64,
    /// The hash of the last record: keep it elsewhere to notice a chain that was replaced as a whole.
    pub head: String,
}

/// The chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("audit record {seq}: {reason}")]
pub struct AuditBroken {
    /// The first record that is wrong.
    pub seq: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Which audit records to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Of this run alone.
    pub run_id: Option<String>,
    /// With this outcome alone.
    pub outcome: Option<String>,
    /// By this actor alone.
    pub actor: Option<String>,
    /// Actions that begin like this.
    pub action: Option<String>,
    /// Not before this time, in milliseconds since the Unix epoch.
    pub from_unix_ms: Option<u64>,
    /// Before this time.
    pub until_unix_ms: Option<u64>,
    /// From this record on.
    pub from_seq: u64,
    /// At most so many; `None`: as many as one listing gives.
    pub limit: Option<usize>,
}

/// The end of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) hash: String,
}

impl Head {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let stored = connection
            .query_row("SELECT seq, hash FROM audit_head", [], |row| {
                Ok(Self { seq: row.get::<_, i64>(0)?.cast_unsigned(), hash: row.get(1)? })
            })
            .optional()?;
        Ok(stored.unwrap_or_else(|| Self { seq: 0, hash: GENESIS.to_owned() }))
    }

    pub(super) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute("DELETE FROM audit_head", [])?;
        connection.execute("INSERT INTO audit_head VALUES (?, ?)", params![self.seq.cast_signed(), self.hash])?;
        Ok(())
    }

    /// Adds an entry to the chain.
    pub(super) fn append(&mut self, connection: &Connection, entry: &AuditEntry) -> rusqlite::Result<()> {
        let seq = self.seq + 1;
        let text = canonical(seq, entry);
        let hash = chain_hash(&self.hash, &text);
        let mut statement = connection
            .prepare_cached("INSERT INTO audit (seq, run_id, outcome, record, hash) VALUES (?, ?, ?, ?, ?)")?;
        statement.execute(params![seq.cast_signed(), entry.run_id, entry.outcome, text, hash])?;
        *self = Self { seq, hash };
        Ok(())
    }
}

fn canonical(seq: u64, entry: &AuditEntry) -> String {
    let mut value = serde_json::to_value(entry).expect("an audit entry is JSON");
    value["seq"] = Value::from(seq);
    canonical_json(&value)
}

fn chain_hash(previous: &str, text: &str) -> String {
    hex::encode(Sha256::new().chain_update(previous).chain_update(text).finalize())
}

/// How many records there are, and the hash of the last.
pub(super) fn head(connection: &Connection) -> Result<AuditSummary, ReadError> {
    let head = Head::load(connection)?;
    Ok(AuditSummary { count: head.seq, head: head.hash })
}

/// The hash of one record.
pub(super) fn hash_of(connection: &Connection, seq: u64) -> Result<Option<String>, ReadError> {
    let mut statement = connection.prepare_cached("SELECT hash FROM audit WHERE seq = ?")?;
    Ok(statement.query_row([seq.cast_signed()], |row| row.get(0)).optional()?)
}

/// The last record that was forgotten, and its hash.
pub(super) fn floor(connection: &Connection) -> rusqlite::Result<Option<(u64, String)>> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?));
    connection.query_row("SELECT seq, hash FROM audit_floor", [], read).optional()
}

pub(super) fn older_than(connection: &Connection, unix_ms: u64) -> Result<Option<(u64, String)>, ReadError> {
    let mut statement = connection
        .prepare_cached("SELECT seq FROM audit WHERE json_extract(record, '$.at_unix_ms') >= ? ORDER BY seq LIMIT 1")?;
    let kept: Option<i64> = statement.query_row([unix_ms.cast_signed()], |row| row.get(0)).optional()?;
    let kept = kept.map_or_else(|| Head::load(connection).map(|head| head.seq), |seq| Ok(seq.cast_unsigned()))?;
    let through = kept.saturating_sub(1);
    Ok(hash_of(connection, through)?.map(|hash| (through, hash)))
}

/// Forgets the records up to one.
pub(super) fn forget(connection: &Connection, through: u64) -> rusqlite::Result<()> {
    let hash: String =
        connection.query_row("SELECT hash FROM audit WHERE seq = ?", [through.cast_signed()], |row| row.get(0))?;
    connection.execute("DELETE FROM audit WHERE seq <= ?", [through.cast_signed()])?;
    connection.execute("DELETE FROM audit_floor", [])?;
    connection.execute("INSERT INTO audit_floor VALUES (?, ?)", params![through.cast_signed(), hash])?;
    Ok(())
}

/// Whether the chain itself says that its beginning was forgotten.
fn told_of(connection: &Connection, floor: &(u64, String)) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM audit WHERE json_extract(record, '$.action') = ?1
           AND json_extract(record, '$.detail.through') = ?2 AND json_extract(record, '$.detail.hash') = ?3)",
        params![AUDIT_FORGET, floor.0.cast_signed(), floor.1],
        |row| row.get(0),
    )
}

pub(super) fn verify(connection: &Connection, from_seq: u64) -> Result<Result<AuditSummary, AuditBroken>, ReadError> {
    let floor = floor(connection)?;
    let from_seq = from_seq.max(1).max(floor.as_ref().map_or(0, |(seq, _)| seq + 1));
    if let Some(floor) = &floor
        && !told_of(connection, floor)?
    {
        return Ok(Err(AuditBroken { seq: floor.0, reason: "it is missing, and no record says why".to_owned() }));
    }
    let before = hash_of(connection, from_seq - 1)?;
    let mut hash = match (before, floor) {
        (Some(hash), _) => hash,
        (None, None) if from_seq == 1 => GENESIS.to_owned(),
        (None, Some((seq, hash))) if from_seq == seq + 1 => hash,
        (None, _) => return Ok(Err(AuditBroken { seq: from_seq - 1, reason: "it is missing".to_owned() })),
    };
    let mut statement =
        connection.prepare("SELECT seq, run_id, outcome, record, hash FROM audit WHERE seq >= ? ORDER BY seq")?;
    let mut rows = statement.query([from_seq.cast_signed()])?;
    let mut seq = from_seq - 1;
    while let Some(row) = rows.next()? {
        seq += 1;
        match check(row, seq, &hash)? {
            Ok(next) => hash = next,
            Err(reason) => return Ok(Err(AuditBroken { seq, reason })),
        }
    }
    let head = Head::load(connection)?;
    if (head.seq, &head.hash) != (seq, &hash) {
        return Ok(Err(AuditBroken { seq: seq + 1, reason: "the end of the chain is missing".to_owned() }));
    }
    Ok(Ok(AuditSummary { count: seq + 1 - from_seq, head: hash }))
}

/// The record's hash, or what is wrong with it.
fn check(row: &rusqlite::Row<'_>, seq: u64, previous: &str) -> Result<Result<String, String>, ReadError> {
    if row.get::<_, i64>(0)?.cast_unsigned() != seq {
        return Ok(Err("it is missing".to_owned()));
    }
    let (text, stored): (String, String) = (row.get(3)?, row.get(4)?);
    let hash = chain_hash(previous, &text);
    if hash != stored {
        return Ok(Err("its hash does not fit its content and the record before it".to_owned()));
    }
    let Ok(record) = parse(&text, previous, &hash) else {
        return Ok(Err("its content is not readable".to_owned()));
    };
    let indexed = (record.entry.run_id, record.entry.outcome) == (row.get(1)?, row.get(2)?);
    Ok(if record.seq == seq && indexed {
        Ok(hash)
    } else {
        Err("it is filed under another number, run or outcome".to_owned())
    })
}

pub(super) fn list(connection: &Connection, filter: &AuditFilter) -> Result<Vec<AuditRecord>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT a.seq, a.record, a.hash, coalesce((SELECT hash FROM audit WHERE seq = a.seq - 1),
           (SELECT hash FROM audit_floor), ?1) FROM audit a
         WHERE a.seq >= ?2 AND (?3 IS NULL OR a.run_id = ?3) AND (?4 IS NULL OR a.outcome = ?4)
           AND (?5 IS NULL OR json_extract(a.record, '$.actor') = ?5)
           AND (?6 IS NULL OR substr(json_extract(a.record, '$.action'), 1, length(?6)) = ?6)
           AND (?7 IS NULL OR json_extract(a.record, '$.at_unix_ms') >= ?7)
           AND (?8 IS NULL OR json_extract(a.record, '$.at_unix_ms') < ?8)
         ORDER BY a.seq LIMIT ?9",
    )?;
    let limit = filter.limit.unwrap_or(LIST_RECORDS_MAX).min(LIST_RECORDS_MAX);
    let (run_id, outcome) = (&filter.run_id, &filter.outcome);
    let from_seq = filter.from_seq.cast_signed();
    let limit = i64::try_from(limit).expect("the limit is small");
    let time = |ms: Option<u64>| ms.map(u64::cast_signed);
    let (from_ms, until_ms) = (time(filter.from_unix_ms), time(filter.until_unix_ms));
    let (actor, action) = (&filter.actor, &filter.action);
    let mut rows =
        statement.query(params![GENESIS, from_seq, run_id, outcome, actor, action, from_ms, until_ms, limit])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let (text, hash, previous): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        records.push(parse(&text, &previous, &hash)?);
    }
    Ok(records)
}

fn parse(text: &str, previous_hash: &str, hash: &str) -> Result<AuditRecord, ReadError> {
    #[derive(Deserialize)]
    struct Stored {
        seq: u64,
        #[serde(flatten)]
        entry: AuditEntry,
    }
    let unreadable = |_| ReadError::Json { what: "an audit record".to_owned() };
    let Stored { seq, entry } = serde_json::from_str(text).map_err(unreadable)?;
    Ok(AuditRecord { seq, entry, previous_hash: previous_hash.to_owned(), hash: hash.to_owned() })
}
