//! The static guest binary, carried inside this one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use crate::failure::{Exit, Failure};
use crate::state::StateDir;

const GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/atoll-guest"));
const GUEST_DIGEST: &str = include_str!(concat!(env!("OUT_DIR"), "/atoll-guest.digest"));

/// Puts the guest where sandboxes are started from. Its name tells its content, so that sandboxes of an earlier
/// version keep theirs.
pub(crate) fn install(state: &StateDir) -> Result<PathBuf, Failure> {
    let dir = state.root().join("bin");
    let path = dir.join(format!("atoll-guest-{GUEST_DIGEST}"));
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == GUEST.len() as u64) {
        return Ok(path);
    }
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let temporary = dir.join(".atoll-guest");
        let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o755).open(&temporary)?;
        file.write_all(GUEST)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    write().map_err(|error| Failure::because(Exit::State, format!("cannot write {}", path.display()), &error))?;
    Ok(path)
}
