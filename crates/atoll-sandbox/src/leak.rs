//! Counting what a plane's sandboxes hold on the machine: before and after, the numbers must be the same.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroups, Layout};
use crate::launcher::claims_below;
use crate::launcher::paths::{Paths, RUN_DIR};

/// What there is of a plane's sandboxes. The launcher itself is not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakCount {
    /// Supervisors, guests and workloads.
    pub processes: usize,
    /// Control groups in all trees, the plane's own included.
    pub cgroups: usize,
    /// Mounts below the state directory, as seen by the caller.
    pub mounts: usize,
    /// Network namespaces that those processes are in, besides the caller's.
    pub netns: usize,
    /// Ends of sandbox links in the caller's network namespace, of every plane.
    pub links: usize,
    /// Such links with rules of their own in the packet filter.
    pub rules: usize,
    /// Directories of sandboxes, what waits to be deleted, and claimed ranges of ids.
    pub files: usize,
}

/// Counts. To be called as root; what goes away by itself (a link with its namespace) may take a moment.
///
/// # Errors
/// The state directory does not exist.
pub fn leak_count(state_dir: &Path) -> io::Result<LeakCount> {
    let paths = Paths::new(&fs::canonicalize(state_dir)?);
    let cgroups = Cgroups::new(Layout::detect(), &paths.cgroup());
    let mut groups = 0;
    let mut processes = processes_of(paths.root());
    for parent in cgroups.parents() {
        visit_groups(&parent, &mut groups, &mut processes);
    }
    let own = fs::read_link("/proc/thread-self/ns/net").ok();
    let namespaces: BTreeSet<_> = processes
        .iter()
        .filter_map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok())
        .filter(|namespace| Some(namespace) != own.as_ref())
        .collect();
    Ok(LeakCount {
        processes: processes.len(),
        cgroups: groups,
        mounts: mounts_below(paths.root()),
        netns: namespaces.len(),
        links: crate::network::sandbox_links().len(),
        rules: crate::network::links_with_rules().map_err(io::Error::other)?,
        files: entries(&paths.sandboxes())
            + entries(&paths.trash())
            + claims_below(Path::new(RUN_DIR), &paths.sandboxes()),
    })
}

/// Processes that execute something in the state directory: its guest binary.
fn processes_of(root: &Path) -> BTreeSet<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.starts_with(root)))
        .collect()
}

fn visit_groups(directory: &Path, groups: &mut usize, processes: &mut BTreeSet<u32>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    *groups += 1;
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    processes.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        visit_groups(&entry.path(), groups, processes);
    }
}

fn mounts_below(root: &Path) -> usize {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| Path::new(point).starts_with(root)).count()
}

/// Visible entries.
fn entries(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries.flatten().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b".")).count()
}
