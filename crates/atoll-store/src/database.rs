//! Opening one SQLite file for one process: lock, version, settings, and what to say when it cannot be used.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_stdx::Hint;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

/// Databases up to this size are checked page by page when opened; larger ones are checked as they are read.
const QUICK_CHECK_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The write-ahead log is folded into the database when it has this many pages of 4 KiB.
const CHECKPOINT_PAGES: i64 = 2000;
const WAL_BYTES_MAX: i64 = 32 * 1024 * 1024;
/// How often, and at what intervals, a lock that is held is tried again.
const LOCK_RETRIES_MAX: u32 = 50;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// How long a reader waits for the writer's checkpoint.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Why a database cannot be opened, read or written. Names the file.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// Another process has it open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// The content cannot be right.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A later release wrote it.
    #[error("{} has format version {found}, this program knows up to {supported}", path.display())]
    NewerVersion {
        /// The database.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The latest version that this program reads.
        supported: i64,
    },
    /// A SQLite database, of somebody else.
    #[error("{} is not a database of this kind", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The file or its folder cannot be opened.
    #[error("cannot open {}", path.display())]
    Unreadable {
        /// The database.
        path: PathBuf,
        /// The operating system's word on it.
        #[source]
        source: Arc<io::Error>,
    },
    /// The disk, or a quota on it, is full. Nothing of the write was kept.
    #[error("no space left to write {}", path.display())]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// The disk failed to confirm a write. What it holds is unknown, so nothing more is written.
    #[error("the disk did not confirm a write to {}", path.display())]
    Broken {
        /// The database.
        path: PathBuf,
    },
    /// Any other failure.
    #[error("cannot use {}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// SQLite's word on it.
        #[source]
        source: Arc<rusqlite::Error>,
    },
}

impl Hint for DatabaseError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Locked { .. } => "stop the other instance, or choose another state directory".to_owned(),
            Self::Damaged { path, .. } => {
                format!("restore it from a backup, or move {} away to begin anew without its content", path.display())
            }
            Self::NewerVersion { .. } => "use the release that wrote it, or a later one".to_owned(),
            Self::Foreign { path } => format!("move {} away, or choose another state directory", path.display()),
            Self::Unreadable { .. } => "check that the folder exists and is writable by this user".to_owned(),
            Self::Full { .. } => "free some space on that file system, then repeat the request".to_owned(),
            Self::Broken { .. } => "check the disk, then restart".to_owned(),
            Self::Sqlite { .. } => return None,
        })
    }
}

impl DatabaseError {
    /// Sorts a failure of SQLite into what the reader can do about it.
    pub(crate) fn from_sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let Some(sqlite) = error.sqlite_error() else {
            return Self::Sqlite { path, source: Arc::new(error) };
        };
        match (sqlite.code, sqlite.extended_code) {
            (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_WRITE) => Self::Full { path },
            (_, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => Self::Broken { path },
            (ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt, _) => {
                Self::Damaged { path, detail: error.to_string() }
            }
            (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => Self::Locked { path },
            (ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly, _) => {
                Self::Unreadable { path, source: Arc::new(io::Error::other(error)) }
            }
            _ => Self::Sqlite { path, source: Arc::new(error) },
        }
    }
}

/// What a kind of database looks like.
pub(crate) struct Format {
    /// Marks the file as ours (SQLite's `application_id`).
    pub(crate) application_id: i32,
    /// One batch of SQL per version: `migrations[n]` leads from version `n` to `n + 1`.
    pub(crate) migrations: &'static [&'static str],
    /// No other connection, of this process either, will read it. Faster.
    pub(crate) exclusive: bool,
}

/// An open database, locked against other processes.
pub(crate) struct Database {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    _lock: File,
}

impl Database {
    /// Opens or creates the file.
    pub(crate) fn open(path: &Path, format: &Format) -> Result<Self, DatabaseError> {
        let lock = lock(path)?;
        // Created here so that nobody else may read it; the log files get the mode of the database.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| DatabaseError::Unreadable { path: path.to_owned(), source: Arc::new(source) })?;
        let connection = connect(path).and_then(|mut connection| {
            prepare(&mut connection, path, format)?;
            Ok(connection)
        })?;
        Ok(Self { connection, path: path.to_owned(), _lock: lock })
    }

    /// A second connection of this process, for reading beside the writer.
    pub(crate) fn reader(&self) -> Result<Connection, DatabaseError> {
        let connection = connect(&self.path)?;
        connection
            .pragma_update(None, "query_only", true)
            .map_err(|error| DatabaseError::from_sqlite(&self.path, error))?;
        Ok(connection)
    }
}

fn lock(path: &Path) -> Result<File, DatabaseError> {
    let unreadable = |source| DatabaseError::Unreadable { path: path.to_owned(), source: Arc::new(source) };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(name).map_err(unreadable)?;
    // The kernel lets go of a killed process's lock only when it has taken the process apart.
    for attempt in 0.. {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if attempt < LOCK_RETRIES_MAX => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(DatabaseError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(unreadable(source)),
        }
    }
    unreachable!("the last attempt returns")
}

fn connect(path: &Path) -> Result<Connection, DatabaseError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    };
    open().map_err(|error| DatabaseError::from_sqlite(path, error))
}

fn prepare(connection: &mut Connection, path: &Path, format: &Format) -> Result<(), DatabaseError> {
    let sqlite = |error| DatabaseError::from_sqlite(path, error);
    let number = |connection: &Connection, name: &str| connection.pragma_query_value(None, name, |row| row.get(0));
    let application_id: i64 = number(connection, "application_id").map_err(sqlite)?;
    let version: i64 = number(connection, "user_version").map_err(sqlite)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sqlite)?;
    let fresh = tables == 0 && version == 0;
    if !fresh && application_id != i64::from(format.application_id) {
        return Err(DatabaseError::Foreign { path: path.to_owned() });
    }
    let supported = i64::try_from(format.migrations.len()).expect("few migrations");
    if version > supported {
        return Err(DatabaseError::NewerVersion { path: path.to_owned(), found: version, supported });
    }
    quick_check(connection, path)?;
    settings(connection, format).map_err(sqlite)?;
    migrate(connection, format, version).map_err(sqlite)
}

fn settings(connection: &Connection, format: &Format) -> rusqlite::Result<()> {
    if format.exclusive {
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX)?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

fn migrate(connection: &mut Connection, format: &Format, version: i64) -> rusqlite::Result<()> {
    let done = usize::try_from(version).unwrap_or(0);
    for (index, sql) in format.migrations.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", format.application_id)?;
        transaction.pragma_update(None, "user_version", i64::try_from(index + 1).expect("few migrations"))?;
        transaction.commit()?;
    }
    Ok(())
}

fn quick_check(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    let bytes = std::fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0);
    if bytes > QUICK_CHECK_BYTES_MAX {
        return Ok(());
    }
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| DatabaseError::from_sqlite(path, error))?;
    if verdict == "ok" { Ok(()) } else { Err(DatabaseError::Damaged { path: path.to_owned(), detail: verdict }) }
}
