//! Durable state: bytes under versioned keys with watch, and append-only journals with an audit chain. SQLite below.
//!
//! Nothing here knows what a value means. An acknowledged write is on the disk: it survives `kill -9` and loss of power.

mod canonical;
mod database;
pub mod journal;
pub mod keys;
mod writer;

pub use canonical::canonical_json;
pub use database::DatabaseError;
pub use journal::{
    AUDIT_FORGET, AppendBatch, AuditBroken, AuditEntry, AuditFilter, AuditRecord, AuditSummary, Journal, JournalEntry,
    JournalError, RecordExpect, RecordPage, RecordPut, RunSummary, StoredRecord,
};
pub use keys::{
    Change, DeleteRequest, Event, Expect, ListPage, ListRequest, PutRequest, Record, Store, StoreCopy, StoreError,
    StoreOptions, Value, Watch, WatchError,
};
