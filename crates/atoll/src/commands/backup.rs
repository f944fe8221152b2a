//! `atoll backup FILE` and `atoll restore FILE`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use atoll_rt::TaskGroup;
use atoll_stdx::Hint;
use atoll_store::{Journal, Store};
use futures::StreamExt;

use super::block_on;
use crate::args::{BackupArgs, GlobalArgs, RestoreArgs};
use crate::backup::{self, BackupError, DATABASES, FOLDERS, Manifest, Sources};
use crate::failure::{Exit, Failure, Outcome};
use crate::plane::{Plane, accept, require_root};
use crate::printer::Printer;
use crate::state::StateDir;

/// What a database has beside it while it is used.
const BESIDE: [&str; 2] = ["-wal", "-shm"];
/// What replaced files are called.
const REPLACED: &str = ".before-restore";

/// Makes a backup: of the plane that runs, while it runs, or of a state directory that no plane uses.
pub(crate) fn backup(global: &GlobalArgs, args: &BackupArgs, printer: &Printer) -> Outcome {
    let file = &args.file;
    if !args.force && file.exists() {
        return Err(Failure::new(Exit::Refused, format!("{} exists", file.display()))
            .hint("choose another name, or replace it with --force"));
    }
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let state = StateDir::new(&global.state_dir);
    let made = match state.running()? {
        Some(info) => block_on(fetch(&Plane::connect(state, info)?, &part)),
        None => copy_at_rest(&state, &part),
    };
    let finished = made.and_then(|()| finish(&part, file));
    if finished.is_err() {
        // Half a backup is none.
        let _ = fs::remove_file(&part);
    }
    let manifest = finished?;
    tell(printer, "backup", file, &manifest);
    Ok(ExitCode::SUCCESS)
}

/// Checks what was written, and gives it its name.
fn finish(part: &Path, file: &Path) -> Result<Manifest, Failure> {
    let manifest = backup::unpack(part, None).map_err(|error| error.failure("the backup that was made is no good"))?;
    fs::rename(part, file).map_err(|error| io_failure("name", file, &error))?;
    Ok(manifest)
}

async fn fetch(plane: &Plane, part: &Path) -> Result<(), Failure> {
    let answer = accept(plane.request(reqwest::Method::GET, "/v1/backup").send().await).await?;
    let mut target = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(part)
        .map_err(|error| io_failure("make", part, &error))?;
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Failure::because(Exit::Failure, "the backup broke off", &error))?;
        target.write_all(&piece).map_err(|error| io_failure("write", part, &error))?;
    }
    target.sync_all().map_err(|error| io_failure("write", part, &error))
}

/// A backup of databases that nobody uses.
fn copy_at_rest(state: &StateDir, part: &Path) -> Result<(), Failure> {
    require_root()?;
    if !state.control_database().exists() {
        return Err(Failure::new(Exit::NotFound, format!("{} holds nothing to back up", state.root().display()))
            .hint("choose the state directory with --state-dir"));
    }
    let _lock = state.lock()?;
    let folder = tempfile::Builder::new()
        .prefix("atoll-backup-")
        .tempdir_in(part.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new(".")))
        .map_err(|error| io_failure("make a folder beside", part, &error))?;
    let _ = fs::remove_file(part);
    block_on(async {
        let group = TaskGroup::new("backup");
        let unusable = |error: &(dyn std::error::Error + 'static), hint: Option<String>| {
            Failure::because(Exit::State, "cannot read the databases", error).hint_of(hint)
        };
        let store = Store::open(state.control_database(), &group).map_err(|error| unusable(&error, error.hint()))?;
        let journal = Journal::open(state.runs_database(), &group).map_err(|error| unusable(&error, error.hint()))?;
        let plane = state.plane();
        let sources = Sources { store: &store, journal: &journal, plane: &plane };
        let packed = backup::pack(&sources, folder.path(), part);
        drop((store, journal));
        group.drain(std::time::Duration::from_secs(10)).await;
        packed.map(|_| ()).map_err(|error| error.failure("cannot make a backup"))
    })
}

/// Puts the databases and files of a backup in place. No plane may run on the state directory.
pub(crate) fn restore(global: &GlobalArgs, args: &RestoreArgs, printer: &Printer) -> Outcome {
    require_root()?;
    let attempted = || format!("cannot use {}", args.file.display());
    // Looked at before anything is touched.
    backup::unpack(&args.file, None).map_err(|error| error.failure(attempted()))?;
    let root = std::path::absolute(&global.state_dir)
        .map_err(|error| Failure::because(Exit::Usage, "the state directory is no path", &error))?;
    let state = StateDir::new(&root);
    state.create()?;
    let _lock = state.lock()?;
    let places = [state.control_database(), state.runs_database()];
    if let Some(taken) = places.iter().find(|place| place.exists())
        && !args.force
    {
        return Err(Failure::new(Exit::Refused, format!("{} exists", taken.display())).hint(
            "put the backup in its place with --force (what is there is kept beside it), or choose another --state-dir",
        ));
    }
    let folder = tempfile::Builder::new()
        .prefix("restore-")
        .tempdir_in(state.plane())
        .map_err(|error| io_failure("make a folder in", &state.plane(), &error))?;
    let manifest = unpack_and_verify(&args.file, folder.path()).map_err(|error| error.failure(attempted()))?;
    for (name, place) in DATABASES.iter().zip(&places) {
        put(&folder.path().join(name), place)?;
    }
    for name in FOLDERS.into_iter().filter(|_| manifest.has_files()) {
        put_folder(&folder.path().join(name), &state.plane().join(name))?;
    }
    fs::File::open(state.plane())
        .and_then(|folder| folder.sync_all())
        .map_err(|error| io_failure("write", &state.plane(), &error))?;
    tell(printer, "restored", state.root(), &manifest);
    Ok(ExitCode::SUCCESS)
}

fn unpack_and_verify(file: &Path, folder: &Path) -> Result<Manifest, BackupError> {
    let manifest = backup::unpack(file, Some(folder))?;
    backup::verify(folder, &manifest)?;
    Ok(manifest)
}

/// Puts a database in its place, and what was there beside it.
fn put(database: &Path, place: &Path) -> Result<(), Failure> {
    let with = |suffix: &str| {
        let mut path = place.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    crate::state::give_to_plane(database)?;
    // The log belongs to its database: under the name of another it would be read into that.
    for beside in ["", BESIDE[0], BESIDE[1]] {
        let (from, to) = (with(beside), with(&format!("{REPLACED}{beside}")));
        let _ = fs::remove_file(&to);
        if from.exists() {
            fs::rename(&from, &to).map_err(|error| io_failure("move away", &from, &error))?;
        }
    }
    fs::rename(database, place).map_err(|error| io_failure("put in place", place, &error))
}

/// Puts a folder in its place, and what was there beside it.
fn put_folder(folder: &Path, place: &Path) -> Result<(), Failure> {
    let mut replaced = place.as_os_str().to_owned();
    replaced.push(REPLACED);
    let replaced = PathBuf::from(replaced);
    if replaced.exists() {
        fs::remove_dir_all(&replaced).map_err(|error| io_failure("remove", &replaced, &error))?;
    }
    if place.exists() {
        fs::rename(place, &replaced).map_err(|error| io_failure("move away", place, &error))?;
    }
    if folder.exists() {
        give_all_to_plane(folder)?;
        fs::rename(folder, place).map_err(|error| io_failure("put in place", place, &error))?;
    }
    Ok(())
}

fn give_all_to_plane(folder: &Path) -> Result<(), Failure> {
    crate::state::give_to_plane(folder)?;
    for entry in fs::read_dir(folder).map_err(|error| io_failure("read", folder, &error))? {
        let entry = entry.map_err(|error| io_failure("read", folder, &error))?;
        let kind = entry.file_type().map_err(|error| io_failure("read", folder, &error))?;
        if kind.is_dir() { give_all_to_plane(&entry.path())? } else { crate::state::give_to_plane(&entry.path())? }
    }
    Ok(())
}

fn tell(printer: &Printer, what: &str, path: &Path, manifest: &Manifest) {
    if printer.is_json() {
        printer.json(&serde_json::json!({
            what: path, "version": manifest.version, "created_at_ms": manifest.created_at_ms,
            "keys": manifest.keys, "revision": manifest.revision,
        }));
        return;
    }
    printer.data(format!(
        "{what:<10}{}  ({} objects, revision {}, made by {})",
        path.display(),
        manifest.keys,
        manifest.revision,
        manifest.version
    ));
}

fn io_failure(attempted: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::because(Exit::State, format!("cannot {attempted} {}", path.display()), error)
}
