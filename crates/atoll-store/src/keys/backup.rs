//! A copy of everything at one moment, in a file of its own.
//!
//! A copy holds no history: watches that resume on it are told to list again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rusqlite::params;

use crate::database::{Database, DatabaseError};

use super::rows::{CHANGE_PUT, FORMAT, INSERT, checksum, load};
use super::{Record, Store, StoreError, StoreOptions};

/// What a copy of the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreCopy {
    /// Keys.
    pub keys: usize,
    /// The revision of the latest write in it.
    pub revision: u64,
}

impl Store {
    /// Writes everything as it is now to a new file, readable by its owner alone. Writes to the store go on meanwhile.
    /// Blocks.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the file exists or cannot be written.
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<StoreCopy, StoreError> {
        let path = path.as_ref();
        let (records, revision) = self.index().everything();
        new_file(path)?;
        let written = write_copy(path, &records, revision);
        remove_lock(path);
        written?;
        Ok(StoreCopy { keys: records.len(), revision })
    }

    /// Reads a copy, or a store that nobody has open, from its first byte to its last. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the file is damaged, of a later release, in use, or cannot be read.
    pub fn verify(path: impl AsRef<Path>) -> Result<StoreCopy, StoreError> {
        let path = path.as_ref();
        let copy = Database::open(path, &FORMAT).and_then(|database| {
            let index = load(&database.connection, path, StoreOptions::default())?;
            let (records, revision) = index.everything();
            Ok(StoreCopy { keys: records.len(), revision })
        });
        remove_lock(path);
        Ok(copy?)
    }

    /// Makes a copy go on at a higher revision, so that no revision is given out twice that clients of the original may
    /// have seen after the copy was made. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the file cannot be changed.
    pub fn advance(path: impl AsRef<Path>, revisions: u32) -> Result<(), StoreError> {
        let path = path.as_ref();
        let sqlite = |error| DatabaseError::from_sqlite(path, error);
        let advanced = Database::open(path, &FORMAT).and_then(|database| {
            let connection = &database.connection;
            let update = "UPDATE compacted SET revision = \
                          max(revision, (SELECT coalesce(max(revision), 0) FROM version)) + ?";
            connection.execute(update, [revisions]).map_err(sqlite)?;
            fold_in(connection).map_err(sqlite)
        });
        remove_lock(path);
        Ok(advanced?)
    }
}

fn new_file(path: &Path) -> Result<File, DatabaseError> {
    let created = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    created.map_err(|source| DatabaseError::Unreadable { path: path.to_owned(), source: Arc::new(source) })
}

fn write_copy(path: &Path, records: &[Arc<Record>], revision: u64) -> Result<(), DatabaseError> {
    let sqlite = |error| DatabaseError::from_sqlite(path, error);
    let mut database = Database::open(path, &FORMAT)?;
    let transaction = database.connection.transaction().map_err(sqlite)?;
    {
        let mut statement = transaction.prepare(INSERT).map_err(sqlite)?;
        for record in records {
            let row = params![
                record.revision.cast_signed(),
                &*record.key,
                CHANGE_PUT,
                record.created_revision.cast_signed(),
                0,
                checksum(record.revision, &record.key, &record.value),
                &*record.value,
            ];
            statement.execute(row).map_err(sqlite)?;
        }
    }
    transaction.execute("UPDATE compacted SET revision = ?", [revision.cast_signed()]).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)?;
    fold_in(&database.connection).map_err(sqlite)
}

/// Leaves everything in one file.
fn fold_in(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.pragma_update(None, "journal_mode", "DELETE")
}

/// Nobody else looks at a copy: the file by which openers keep away from each other is not needed.
fn remove_lock(path: &Path) {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    match std::fs::remove_file(&name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), %error, "a lock file stays behind");
        }
        Ok(()) | Err(_) => {}
    }
}
