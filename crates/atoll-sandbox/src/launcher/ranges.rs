//! Ranges of user ids, one for each sandbox of the machine: planes share the ids, so the claims are machine-wide.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use atoll_guest::supervisor::ID_RANGE;

/// First id of the first range: above what systems give to people and containers.
const FIRST_ID: u32 = 0x4000_0000;
/// Ranges below 2^31, which not every program handles.
const RANGES_MAX: u32 = (0x8000_0000 - FIRST_ID) / ID_RANGE;

/// Claims on ranges, as files that name the claiming sandbox's directory.
#[derive(Debug)]
pub(super) struct Ranges {
    directory: PathBuf,
    /// Where to look first; below it everything was taken a moment ago.
    next: u32,
}

impl Ranges {
    pub(super) fn open(run_dir: &Path) -> io::Result<Self> {
        let directory = run_dir.join("id-ranges");
        DirBuilder::new().recursive(true).mode(0o755).create(&directory)?;
        Ok(Self { directory, next: 0 })
    }

    /// First id of a range.
    pub(super) fn base(index: u32) -> u32 {
        FIRST_ID + index * ID_RANGE
    }

    /// Claims a range for the sandbox in `owner`, which must exist. `None` if all are taken.
    pub(super) fn claim(&mut self, owner: &Path) -> io::Result<Option<u32>> {
        for offset in 0..RANGES_MAX {
            let index = (self.next + offset) % RANGES_MAX;
            let mut options = File::options();
            match options.write(true).create_new(true).mode(0o644).open(self.path(index)) {
                Ok(mut file) => {
                    file.write_all(owner.as_os_str().as_encoded_bytes())?;
                    self.next = (index + 1) % RANGES_MAX;
                    return Ok(Some(index));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Gives a range back, if it is this owner's.
    pub(super) fn release(&mut self, index: u32, owner: &Path) {
        let path = self.path(index);
        if fs::read(&path).is_ok_and(|bytes| bytes == owner.as_os_str().as_encoded_bytes()) {
            // Left behind, it is found by `collect`.
            let _ = fs::remove_file(&path);
        }
    }

    /// Gives back what belongs to sandboxes that no longer exist, of whatever plane.
    pub(super) fn collect(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let Ok(owner) = fs::read_to_string(&path) else { continue };
            // An empty claim is one that is just being made.
            if !owner.is_empty() && !Path::new(&owner).exists() {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn path(&self, index: u32) -> PathBuf {
        self.directory.join(index.to_string())
    }
}

/// How many claims name a sandbox below `sandboxes`.
pub(crate) fn claims_below(run_dir: &Path, sandboxes: &Path) -> usize {
    let Ok(entries) = fs::read_dir(run_dir.join("id-ranges")) else { return 0 };
    entries
        .flatten()
        .filter(|entry| fs::read_to_string(entry.path()).is_ok_and(|owner| Path::new(&owner).starts_with(sandboxes)))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let (first_owner, second_owner) = (directory.path().join("a"), directory.path().join("b"));
        fs::create_dir(&first_owner).unwrap();
        let mut ranges = Ranges::open(directory.path()).unwrap();
        let mut other_plane = Ranges::open(directory.path()).unwrap();
        let first = ranges.claim(&first_owner).unwrap().unwrap();
        let second = other_plane.claim(&second_owner).unwrap().unwrap();
        assert_ne!(first, second);
        assert!(Ranges::base(first).abs_diff(Ranges::base(second)) >= ID_RANGE);
        assert_eq!(claims_below(directory.path(), directory.path()), 2);

        ranges.release(second, &first_owner);
        assert_eq!(claims_below(directory.path(), directory.path()), 2, "a stranger's claim stays");
        ranges.collect().unwrap();
        assert_eq!(claims_below(directory.path(), directory.path()), 1, "the second owner does not exist");
        ranges.release(first, &first_owner);
        assert_eq!(claims_below(directory.path(), directory.path()), 0);
    }

    #[test]
    fn the_last_range_stays_below_two_to_the_thirty_first() {
        assert_eq!(u64::from(Ranges::base(RANGES_MAX - 1)) + u64::from(ID_RANGE), 1 << 31);
    }
}
