//! `GET /v1/backup`: everything that this plane keeps, as an archive, while it goes on working.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_rt::TaskGroup;
use atoll_store::{Journal, Store};
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;

use atoll_api::v1::{ErrorBody, ErrorDetail};

use crate::backup::{BackupError, Sources, pack};

const ARCHIVE: &str = "backup.tar";
const FOLDER_PREFIX: &str = "backup-";

#[derive(Clone)]
struct Backups {
    store: Store,
    journal: Journal,
    /// The plane's directory: its files are kept, and copies lie there for a moment.
    folder: PathBuf,
    group: TaskGroup,
    one_at_a_time: Arc<Semaphore>,
}

/// The route. Takes away what an earlier plane left of a backup that it did not finish.
pub(super) fn routes(store: Store, journal: Journal, folder: PathBuf, group: &TaskGroup) -> Router {
    remove_leftovers(&folder);
    let one_at_a_time = Arc::new(Semaphore::new(1));
    let backups = Backups { store, journal, folder, group: group.clone(), one_at_a_time };
    Router::new().route("/v1/backup", get(backup)).with_state(backups)
}

fn remove_leftovers(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(FOLDER_PREFIX)
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "an unfinished backup stays behind");
        }
    }
}

async fn backup(State(backups): State<Backups>) -> Response {
    let Ok(_permit) = backups.one_at_a_time.try_acquire() else {
        return refuse(StatusCode::CONFLICT, "busy", "another backup is being made".to_owned(), None);
    };
    let packing = {
        let backups = backups.clone();
        backups.group.clone().spawn_blocking("backup", move || make(&backups))
    };
    match packing.await {
        Ok(Ok(archive)) => {
            let body = Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(archive)));
            ([(CONTENT_TYPE, "application/x-tar")], body).into_response()
        }
        Ok(Err(error)) => {
            let failure = error.failure("cannot make a backup");
            let hint = failure.hint_text().map(str::to_owned);
            refuse(StatusCode::INSUFFICIENT_STORAGE, "backup_failed", failure.message().to_owned(), hint)
        }
        Err(_stopping) => refuse(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the plane is stopping".to_owned(), None),
    }
}

/// The archive, open, its file already gone: nothing stays behind, whatever happens to its reader.
fn make(backups: &Backups) -> Result<File, BackupError> {
    let folder = tempfile::Builder::new().prefix(FOLDER_PREFIX).tempdir_in(&backups.folder)?;
    let archive = folder.path().join(ARCHIVE);
    let sources = Sources { store: &backups.store, journal: &backups.journal, plane: &backups.folder };
    pack(&sources, folder.path(), &archive)?;
    Ok(File::open(archive)?)
}

fn refuse(status: StatusCode, code: &str, message: String, hint: Option<String>) -> Response {
    let detail = ErrorDetail { code: code.to_owned(), message, hint };
    (status, Json(ErrorBody { error: detail })).into_response()
}
