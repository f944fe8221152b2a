//! A copy of the whole journal at one moment, in a file of its own.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use crate::database::{Database, DatabaseError};

use super::{AuditSummary, FORMAT, Journal, JournalError, ReadError, audit};

impl Journal {
    /// Writes everything as it is now to a new file, readable by its owner alone. Appends go on meanwhile. Blocks.
    ///
    /// # Errors
    /// [`JournalError::Database`] if the file exists or cannot be written.
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<(), JournalError> {
        let (source, path) = (&self.reader.path, path.as_ref());
        let unreadable = |source| DatabaseError::Unreadable { path: path.to_owned(), source: Arc::new(source) };
        // SQLite fills an empty file, and would make one that others may read.
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).map_err(unreadable)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let copy = || -> rusqlite::Result<()> {
            // A connection of its own, so that readers are not kept waiting.
            let connection = Connection::open_with_flags(source, flags)?;
            let name = path.to_string_lossy();
            connection.execute("VACUUM INTO ?", [&*name]).map(|_| ())
        };
        copy().map_err(|error| DatabaseError::from_sqlite(path, error))?;
        File::open(path).and_then(|file| file.sync_all()).map_err(unreadable)?;
        Ok(())
    }

    /// Reads a copy, or a journal that nobody has open, and checks its audit chain from the first record to the last.
    /// Blocks.
    ///
    /// # Errors
    /// [`JournalError::Database`] if the file is damaged (a broken chain included), of a later release, in use, or
    /// cannot be read.
    pub fn verify(path: impl AsRef<Path>) -> Result<AuditSummary, JournalError> {
        let path = path.as_ref();
        let damaged = |detail: String| DatabaseError::Damaged { path: path.to_owned(), detail };
        let database = Database::open(path, &FORMAT)?;
        let verdict = match audit::verify(&database.connection, 1) {
            Ok(Ok(summary)) => Ok(summary),
            Ok(Err(broken)) => Err(damaged(format!("audit record {}: {}", broken.seq, broken.reason))),
            Err(ReadError::Sqlite(error)) => Err(DatabaseError::from_sqlite(path, error)),
            Err(ReadError::Json { what }) => Err(damaged(format!("{what} is not JSON"))),
        };
        // Leaves everything in one file.
        let folded = database.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        folded
            .and_then(|()| database.connection.pragma_update(None, "journal_mode", "DELETE"))
            .map_err(|error| DatabaseError::from_sqlite(path, error))?;
        Ok(verdict?)
    }
}
